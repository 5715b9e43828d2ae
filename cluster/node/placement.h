// SPDX-License-Identifier: BSD-3-Clause
// What the death of each single node would mean for an array, by where its members are; and the
// order in which members get their roles. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/index_set.h"
#include "engine/base/result.h"
#include "engine/layout/configuration.h"

namespace braid::cluster {

/// Without the node,
enum class NodeDeath : std::uint8_t {
    nothing,   // no member is missing: it only serves
    degraded,  // the array goes on, and can still lose a member
    bare,      // it goes on without any redundancy
    tied,      // as many members are left as it takes, but not the one that breaks ties
    stops,     // fewer are left than it takes
};
std::string_view text_of(NodeDeath death);

struct NodePlace {
    std::uint32_t node{0};
    MemberSet roles;          // of members at home there
    std::uint32_t spares{0};  // that are
    bool witness{false};      // it has the witness
    NodeDeath death{NodeDeath::nothing};
};

/// Where the members are: one for each with a role, in the order of roles, and the spares.
struct Placement {
    std::vector<std::uint32_t> roles;        // node of each
    std::vector<std::uint32_t> spares;       // node of each
    std::optional<std::uint32_t> witness{};  // its node, where there is one
};
/// Of each of `nodes`, in their order.
std::vector<NodePlace> deaths_of(Level level, const Placement& placement,
                                 std::span<const std::uint32_t> nodes);

/// "without it the array goes on, …", for people, to follow the node's name and its members.
std::string describe(const NodePlace& place);
/// Refused: a node has more members than the level may lose.
Checked<Unit> check_placement(Level level, std::span<const NodePlace> places);

/// One of each node in turn: neighbours in the order of roles are at different nodes, and so are P
/// and Q of a stripe wherever that can be.
/// @param nodes  of members, by number; those of one node stand in the order that they are to keep
/// @return       the numbers, in the order of roles
std::vector<std::size_t> in_turn(std::span<const std::uint32_t> nodes);

}  // namespace braid::cluster
