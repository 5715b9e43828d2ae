// SPDX-License-Identifier: BSD-3-Clause
// Sizes as people give them: "65536", "64K", "1G"; powers of 1024.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/base/result.h"

namespace braid::control {

/// A whole number with one of K, M, G, T, P, or none, for bytes; "iB" may follow.
Checked<std::uint64_t> parse_size(std::string_view text);

}  // namespace braid::control
