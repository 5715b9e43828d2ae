// SPDX-License-Identifier: BSD-3-Clause
// What the death of each node means for an array, by where its members are.
#include "cluster/node/placement.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace braid::cluster {
namespace {

using Deaths = std::vector<NodeDeath>;

Deaths deaths(Level level, std::vector<std::uint32_t> roles, std::vector<std::uint32_t> nodes) {
    Deaths found;
    for (const NodePlace& place : deaths_of(level, {std::move(roles), {}}, nodes)) {
        found.push_back(place.death);
    }
    return found;
}

TEST(Placement, TwoParitiesBearTwoMembersOfANode) {
    EXPECT_EQ(deaths(Level::raid6, {1, 2, 3, 1, 2, 3}, {1, 2, 3}),
              (Deaths{NodeDeath::bare, NodeDeath::bare, NodeDeath::bare}));
    EXPECT_EQ(
        deaths(Level::raid6, {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6, 7}),
        (Deaths{NodeDeath::degraded, NodeDeath::degraded, NodeDeath::degraded, NodeDeath::degraded,
                NodeDeath::degraded, NodeDeath::degraded, NodeDeath::nothing}));
    EXPECT_EQ(deaths(Level::raid6, {1, 2, 1, 2, 1}, {1, 2}),
              (Deaths{NodeDeath::stops, NodeDeath::bare}));
}

TEST(Placement, OneParityBearsOne) {
    for (const Level level : {Level::raid4, Level::raid5}) {
        EXPECT_EQ(deaths(level, {1, 2, 3, 1}, {1, 2, 3}),
                  (Deaths{NodeDeath::stops, NodeDeath::bare, NodeDeath::bare}));
    }
}

/// RAID-6 of four goes on with two members if one of them is member 0.
TEST(Placement, MemberZeroBreaksTies) {
    EXPECT_EQ(deaths(Level::raid6, {1, 2, 1, 2}, {1, 2}),
              (Deaths{NodeDeath::tied, NodeDeath::bare}));
    EXPECT_EQ(deaths(Level::raid6, {1, 2, 3, 2}, {1, 2, 3}),
              (Deaths{NodeDeath::degraded, NodeDeath::bare, NodeDeath::degraded}));
}

/// With a witness elsewhere either half may go; with one beside a half, only the other.
TEST(Placement, AWitnessBreaksTies) {
    const auto with_witness = [](std::uint32_t at) {
        Placement placement{{1, 2, 1, 2}, {}, at};
        return deaths_of(Level::raid6, placement, std::vector{1u, 2u, 3u});
    };
    const auto elsewhere = with_witness(3);
    EXPECT_EQ(elsewhere[0].death, NodeDeath::bare);
    EXPECT_EQ(elsewhere[1].death, NodeDeath::bare);
    EXPECT_EQ(elsewhere[2].death, NodeDeath::nothing);
    EXPECT_EQ(describe(elsewhere[2]).find("the witness: without it nothing is missing"), 0u)
        << describe(elsewhere[2]);
    const auto beside = with_witness(2);
    EXPECT_EQ(beside[0].death, NodeDeath::bare);
    EXPECT_EQ(beside[1].death, NodeDeath::tied);
    EXPECT_NE(describe(beside[1]).find("members 1, 3 and the witness: "), std::string::npos);
}

TEST(Placement, SaysWhoHasWhatAndWhatThatMeans) {
    const auto places = deaths_of(Level::raid6, {{7, 9, 7, 9, 8}, {8, 8}}, std::vector{7u, 8u, 9u});
    ASSERT_EQ(places.size(), 3u);
    EXPECT_NE(describe(places[0]).find("members 0, 2: "), std::string::npos) << describe(places[0]);
    EXPECT_NE(describe(places[0]).find("no redundancy until the node is back"), std::string::npos);
    EXPECT_NE(describe(places[1]).find("member 4 and 2 spares: "), std::string::npos);
    EXPECT_TRUE(check_placement(Level::raid6, places));
}

TEST(Placement, MoreThanTheLevelBearsIsRefused) {
    const auto places = deaths_of(Level::raid5, {{1, 2, 1, 2, 3}, {}}, std::vector{1u, 2u, 3u});
    const auto checked = check_placement(Level::raid5, places);
    ASSERT_FALSE(checked);
    const std::string& text = checked.error().text;
    EXPECT_NE(text.find("node 1 has 2 of the members, and RAID-5 may lose 1"), std::string::npos);
    EXPECT_NE(text.find("node 2 has 2"), std::string::npos) << text;
    EXPECT_EQ(text.find("node 3"), std::string::npos) << text;
    EXPECT_NE(text.find("--force-placement"), std::string::npos) << text;
}

/// Whatever the members' nodes: each member once, those of one node in their order, and neighbours
/// at different nodes for as long as there are members of more than one node.
TEST(Placement, RolesGoByTurns) {
    EXPECT_EQ(in_turn(std::vector{1u, 1u, 2u, 2u, 3u, 3u}),
              (std::vector<std::size_t>{0, 2, 4, 1, 3, 5}));
    EXPECT_EQ(in_turn(std::vector{2u, 1u, 1u, 1u}), (std::vector<std::size_t>{1, 0, 2, 3}));
    EXPECT_EQ(in_turn({}), std::vector<std::size_t>{});
    for (std::uint32_t code = 0; code != 4 * 4 * 4 * 4 * 4 * 4; ++code) {
        std::vector<std::uint32_t> nodes;
        for (std::uint32_t rest = code, i = 0; i != 6; ++i, rest /= 4) nodes.push_back(rest % 4);
        const std::vector<std::size_t> order = in_turn(nodes);
        std::vector<std::size_t> sorted = order;
        std::ranges::sort(sorted);
        ASSERT_EQ(sorted, (std::vector<std::size_t>{0, 1, 2, 3, 4, 5}));
        std::vector<std::size_t> turns(4);  // of each node, so far
        for (std::size_t i = 0; i != order.size(); ++i) {
            const std::uint32_t node = nodes[order[i]];
            for (std::size_t before = 0; before != i; ++before) {
                if (nodes[order[before]] == node) {
                    ASSERT_LT(order[before], order[i]);
                }
            }
            ++turns[node];
            for (std::uint32_t other = 0; other != 4; ++other) {
                const auto has = static_cast<std::size_t>(std::ranges::count(nodes, other));
                ASSERT_GE(turns[other] + 1, std::min(turns[node], has)) << "it was passed over";
            }
        }
    }
}

}  // namespace
}  // namespace braid::cluster
