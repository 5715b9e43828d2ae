// SPDX-License-Identifier: BSD-3-Clause
// How much a test tries that goes through seeds. BRAID_LONG=1: for hours.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace braid::test {

inline const bool is_long = std::getenv("BRAID_LONG") != nullptr;

/// @param few  of an ordinary run. A sanitizer, for which one takes as long as several do without,
///             tries a quarter of them.
inline std::uint64_t seeds_of(std::uint64_t few, std::uint64_t many) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    few = std::max<std::uint64_t>(2, few / 4);
#endif
    return is_long ? many : few;
}

}  // namespace braid::test
