// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/node/placement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "engine/layout/register.h"

namespace braid::cluster {
namespace {

/// @param said  by the witness, if there is one
NodeDeath death_of(Level level, const MemberSet& lost, std::uint32_t count,
                   std::optional<Witness> said) {
    const std::uint32_t parities = parities_of(level);
    if (lost.size() == 0) return NodeDeath::nothing;
    if (lost.size() > parities) return NodeDeath::stops;
    MemberSet left;
    for (std::uint32_t role = 0; role != count; ++role) {
        if (!lost.has(MemberIndex{role})) left.add(MemberIndex{role});
    }
    const Quorum quorum{count, parities, said.has_value()};
    if (!quorum.is_enough(left, said.value_or(Witness::silent))) return NodeDeath::tied;
    return lost.size() == parities ? NodeDeath::bare : NodeDeath::degraded;
}

std::string words_of(const NodePlace& place) {
    std::vector<std::uint32_t> roles;
    for (const MemberIndex role : place.roles) roles.push_back(raw(role));
    std::string text = roles.empty()       ? "no member"
                       : roles.size() == 1 ? fmt::format("member {}", roles[0])
                                           : fmt::format("members {}", fmt::join(roles, ", "));
    if (place.spares != 0) {
        text += fmt::format(" and {} spare{}", place.spares, place.spares == 1 ? "" : "s");
    }
    if (place.witness && roles.empty() && place.spares == 0) return "the witness";
    if (place.witness) text += " and the witness";
    return text;
}

std::string_view meaning_of(NodeDeath death) {
    switch (death) {
        case NodeDeath::nothing:
            return "without it nothing is missing";
        case NodeDeath::degraded:
            return "without it the array is degraded, and can lose a member more";
        case NodeDeath::bare:
            return "without it there is no redundancy until the node is back: no other member may "
                   "be lost";
        case NodeDeath::tied:
            return "without it there are as many members as it takes, but nothing that breaks ties "
                   "(member 0, or a witness): the array stops until the node is back";
        case NodeDeath::stops:
            return "without it more members are missing than the level allows: the array stops "
                   "until the node is back, and if its disks are lost all data is";
    }
    return "";
}

}  // namespace

std::string_view text_of(NodeDeath death) {
    switch (death) {
        case NodeDeath::nothing:
            return "nothing";
        case NodeDeath::degraded:
            return "degraded";
        case NodeDeath::bare:
            return "bare";
        case NodeDeath::tied:
            return "tied";
        case NodeDeath::stops:
            return "stops";
    }
    return "unknown";
}

std::vector<NodePlace> deaths_of(Level level, const Placement& placement,
                                 std::span<const std::uint32_t> nodes) {
    std::vector<NodePlace> places;
    const auto count = static_cast<std::uint32_t>(placement.roles.size());
    for (const std::uint32_t node : nodes) {
        NodePlace& place = places.emplace_back();
        place.node = node;
        for (std::uint32_t role = 0; role != count; ++role) {
            if (placement.roles[role] == node) place.roles.add(MemberIndex{role});
        }
        place.spares = static_cast<std::uint32_t>(std::ranges::count(placement.spares, node));
        place.witness = placement.witness == node;
        std::optional<Witness> said;
        if (placement.witness) said = place.witness ? Witness::silent : Witness::promised;
        place.death = death_of(level, place.roles, count, said);
    }
    return places;
}

std::string describe(const NodePlace& place) {
    const bool breaks_ties = place.witness && place.death == NodeDeath::nothing;
    return fmt::format(
        "{}: {}{}", words_of(place), meaning_of(place.death),
        breaks_ties ? ", but half of the members stop then if the other half is lost" : "");
}

Checked<Unit> check_placement(Level level, std::span<const NodePlace> places) {
    std::string refusals;
    for (const NodePlace& place : places) {
        if (place.death != NodeDeath::stops) continue;
        refusals +=
            fmt::format("node {} has {} of the members, and RAID-{} may lose {}; ", place.node,
                        place.roles.size(), static_cast<int>(level), parities_of(level));
    }
    if (refusals.empty()) return Unit{};
    return Refusal{refusals +
                   "without that node the array stops, and if its disks are lost all data is. Give "
                   "each node fewer members, or say --force-placement"};
}

std::vector<std::size_t> in_turn(std::span<const std::uint32_t> nodes) {
    std::map<std::uint32_t, std::vector<std::size_t>> of_node;
    std::size_t longest = 0;
    for (std::size_t at = 0; at != nodes.size(); ++at) {
        std::vector<std::size_t>& own = of_node[nodes[at]];
        own.push_back(at);
        longest = std::max(longest, own.size());
    }
    std::vector<std::size_t> order;
    for (std::size_t turn = 0; turn != longest; ++turn) {
        for (const auto& [node, own] : of_node) {
            if (turn < own.size()) order.push_back(own[turn]);
        }
    }
    return order;
}

}  // namespace braid::cluster
