// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <compare>
#include <cstdint>

namespace braid::cluster {

/// A node from one start to the next one: what it had in memory is gone with it.
struct NodeBoot {
    std::uint32_t node{0};
    std::uint64_t boot{0};
    auto operator<=>(const NodeBoot&) const = default;
};

}  // namespace braid::cluster
