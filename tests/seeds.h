// SPDX-License-Identifier: BSD-3-Clause
// How much a test tries that goes through seeds. BRAID_LONG=1: for hours. BRAID_TEST_SHORT=1: half of what
// it does by default, as in `./dev test`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace braid::test {

inline const bool is_long = std::getenv("BRAID_LONG") != nullptr;
inline const bool is_short = std::getenv("BRAID_TEST_SHORT") != nullptr;

/// @param few  of an ordinary run. A sanitizer, for which one takes as long as several do without,
///             tries a quarter of them.
inline std::uint64_t seeds_of(std::uint64_t few, std::uint64_t many) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    few = std::max<std::uint64_t>(2, few / 4);
#endif
    if (is_short) few = (few + 1) / 2;
    return is_long ? many : few;
}

}  // namespace braid::test
