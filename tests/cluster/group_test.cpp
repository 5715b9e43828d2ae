// SPDX-License-Identifier: BSD-3-Clause
// Goal: the group that a node chooses is the best one by the order of group.h, for every graph of
// links; somebody proposes wherever some group has enough; no two groups that have enough are
// disjoint. Method: all graphs of up to six nodes, compared with the plain search over all sets.
#include "cluster/membership/group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

namespace braid::cluster {
namespace {

NodeId id(std::uint32_t node) { return NodeId{node}; }

/// Nodes 1 … count; bit by bit, which of the pairs (1,2), (1,3), (2,3), (1,4) … have a link.
GroupView view_of(std::uint32_t count, std::uint32_t links, Quorum quorum,
                  const std::vector<std::uint32_t>& homes) {
    GroupView view;
    view.quorum = quorum;
    for (std::uint32_t node = 1; node <= count; ++node) view.nodes[id(node)] = {};
    for (std::uint32_t high = 2; high <= count; ++high) {
        for (std::uint32_t low = 1; low != high; ++low, links >>= 1) {
            if ((links & 1) == 0) continue;
            view.nodes[id(high)].hears.add(id(low));
            view.nodes[id(low)].hears.add(id(high));
        }
    }
    for (std::uint32_t role = 0; role != homes.size(); ++role) {
        if (homes[role] != 0) view.nodes[id(homes[role])].in_sync.add(MemberIndex{role});
    }
    return view;
}

bool is_clique(const GroupView& view, NodeSet nodes) {
    return std::ranges::all_of(view.nodes, [&](const auto& one) {
        return !nodes.has(one.first) || (one.second.hears | NodeSet::of(one.first)).has_all(nodes);
    });
}

MemberSet members_of(const GroupView& view, NodeSet nodes) {
    MemberSet members;
    for (const NodeId node : nodes) members |= view.nodes.at(node).in_sync;
    return members;
}

/// All sets of nodes one after the other. `found`: all that have enough.
std::optional<NodeSet> plain_best(const GroupView& view, std::vector<NodeSet>* found = nullptr) {
    std::optional<NodeSet> best;
    std::tuple<std::uint32_t, std::uint32_t, bool, std::uint64_t> best_order;
    for (std::uint64_t bits = 2; bits != 2ULL << view.nodes.size(); bits += 2) {
        const NodeSet nodes{bits};
        if (!is_clique(view, nodes)) continue;
        const MemberSet members = members_of(view, nodes);
        const bool witness = std::ranges::any_of(view.nodes, [&](const auto& one) {
            return one.second.witness && nodes.has(one.first);
        });
        if (!view.quorum.is_enough(members, witness ? Witness::promised : Witness::silent))
            continue;
        if (found != nullptr) found->push_back(nodes);
        if (!nodes.has(view.self)) continue;
        const std::tuple order{members.size(), nodes.size(), view.master && nodes.has(*view.master),
                               bits};
        if (!best || best_order < order) {
            best = nodes;
            best_order = order;
        }
    }
    return best;
}

/// As the node sees it: itself, whom it hears, and what these say.
GroupView seen_by(NodeId self, GroupView view) {
    view.self = self;
    const NodeSet hears = view.nodes.at(self).hears;
    std::erase_if(view.nodes,
                  [&](const auto& one) { return one.first != self && !hears.has(one.first); });
    return view;
}

struct Array {
    Quorum quorum;
    std::vector<std::uint32_t> homes;  // of each role; 0: it is lost
};

void check_all_graphs(std::uint32_t count, const std::vector<Array>& arrays) {
    std::size_t cases = 0;
    const std::uint32_t graphs = 1U << (count * (count - 1) / 2);
    for (const Array& array : arrays) {
        for (std::uint32_t graph = 0; graph != graphs; ++graph) {
            GroupView view = view_of(count, graph, array.quorum, array.homes);
            if (array.quorum.witness) view.nodes[id(count)].witness = true;
            for (std::uint32_t master = 0; master <= count; master += count - 1) {
                view.master.reset();
                if (master != 0) view.master = id(master);
                view.self = id(1);
                std::vector<NodeSet> enough;
                plain_best(view, &enough);
                for (const NodeSet a : enough) {
                    for (const NodeSet b : enough) ASSERT_FALSE((a & b).empty()) << graph;
                }
                bool proposes = false;
                bool hears_master = false;
                for (std::uint32_t self = 1; self <= count; ++self) {
                    const GroupView seen = seen_by(id(self), view);
                    view.self = id(self);
                    const auto group = choose_group(seen);
                    const auto best = plain_best(view);
                    ASSERT_EQ(group.has_value(), best.has_value()) << graph;
                    ++cases;
                    if (!group) continue;
                    ASSERT_EQ(group->nodes, *best) << graph << " from " << self;
                    proposes |= group->proposer == id(self);
                    const NodeSet reaches = view.nodes[id(self)].hears | NodeSet::of(id(self));
                    if (!view.master || !reaches.has(*view.master)) continue;
                    ASSERT_EQ(group->proposer, *view.master);
                    hears_master = true;
                }
                ASSERT_TRUE(proposes || hears_master || enough.empty()) << graph;
            }
        }
    }
    std::printf("%zu cases\n", cases);
}

TEST(Group, IsTheBestOfAllGraphsOfUpToFiveNodes) {
    const std::vector<Array> three{{{3, 1}, {1, 2, 3}},    {{3, 1}, {1, 1, 2}},
                                   {{3, 1}, {3, 2, 0}},    {{4, 2}, {1, 2, 3, 3}},
                                   {{4, 2}, {1, 1, 2, 2}}, {{4, 2, true}, {1, 1, 2, 2}}};
    check_all_graphs(2, {{{3, 1}, {1, 2, 2}}, {{3, 1}, {1, 1, 2}}, {{4, 2}, {1, 1, 2, 2}}});
    check_all_graphs(3, three);
    check_all_graphs(4, three);
    check_all_graphs(4,
                     {{{4, 1}, {1, 2, 3, 4}}, {{4, 2}, {4, 3, 2, 1}}, {{5, 2}, {1, 2, 3, 4, 4}}});
    check_all_graphs(5, {{{5, 1}, {1, 2, 3, 4, 5}},
                         {{5, 2}, {5, 4, 3, 2, 1}},
                         {{5, 2}, {1, 1, 2, 3, 0}},
                         {{4, 2, true}, {1, 2, 3, 4}},
                         {{4, 1}, {1, 2, 2, 3}}});
}

TEST(Group, IsTheBestOfAllGraphsOfSixNodes) { check_all_graphs(6, {{{6, 2}, {1, 2, 3, 4, 5, 6}}}); }

// ---- by hand -----------------------------------------------------------------------------------

constexpr std::uint32_t all_of_three = 7;

TEST(Group, ALinkThatOneSideDoesNotSeeIsNone) {
    GroupView view = view_of(3, all_of_three, {3, 1}, {1, 2, 3});
    view.self = id(1);
    EXPECT_EQ(choose_group(view)->nodes, NodeSet{14});
    view.nodes[id(2)].hears.remove(id(3));
    EXPECT_EQ(choose_group(view)->nodes, NodeSet::of(id(1)) | NodeSet::of(id(3)));
}

TEST(Group, RolesThatThereAreNotDoNotCount) {
    GroupView view = view_of(2, 1, {3, 1}, {1, 0, 0});
    view.self = id(1);
    view.nodes[id(2)].in_sync = MemberSet{~std::uint64_t{7}};
    EXPECT_EQ(choose_group(view), std::nullopt);
    view.nodes[id(2)].in_sync.add(MemberIndex{2});
    EXPECT_EQ(choose_group(view)->nodes, NodeSet{6});
}

// 2 and 3 both reach the master, 1, and not each other: the higher one stays.
TEST(Group, ACutBetweenTwoSlavesCostsOneItsPlace) {
    GroupView view = view_of(3, 3, {3, 1}, {1, 2, 3});
    view.master = id(1);
    view.self = id(1);
    EXPECT_EQ(choose_group(view), (Group{NodeSet::of(id(1)) | NodeSet::of(id(3)), id(1)}));
    view.self = id(2);
    EXPECT_EQ(choose_group(seen_by(id(2), view))->proposer, id(1)) << "which is heard";
}

/// The one that nobody reaches but the master leaves, not those that do not reach it, one after the other;
/// what becomes of others that are not heard for a moment is not asked.
TEST(Group, WhoReachesFewerLeaves) {
    const auto links = [](std::uint32_t count, std::vector<std::pair<int, int>> cut) {
        std::uint32_t bits = 0;
        std::uint32_t bit = 0;
        for (std::uint32_t high = 2; high <= count; ++high) {
            for (std::uint32_t low = 1; low != high; ++low, ++bit) {
                const std::pair<int, int> pair(low, high);
                if (std::ranges::find(cut, pair) == cut.end()) bits |= 1U << bit;
            }
        }
        return bits;
    };
    const auto leaves = [&](std::vector<std::pair<int, int>> cut, std::uint32_t one,
                            std::uint32_t other, std::vector<std::uint32_t> homes) {
        GroupView view = view_of(5, links(5, std::move(cut)), {5, 2}, homes);
        view.self = id(5);
        view.master = id(5);
        EXPECT_EQ(who_leaves(view, id(one), id(other)), who_leaves(view, id(other), id(one)));
        return raw(who_leaves(view, id(one), id(other)));
    };
    const std::vector<std::uint32_t> each{1, 2, 3, 4, 5};
    EXPECT_EQ(leaves({{2, 3}}, 2, 3, each), 2U) << "the lower one, where nothing else decides";
    EXPECT_EQ(leaves({{2, 3}, {1, 3}, {3, 4}}, 2, 3, each), 3U) << "the others stay";
    EXPECT_EQ(leaves({{2, 3}, {1, 3}, {3, 4}}, 1, 3, each), 3U);
    EXPECT_EQ(leaves({{2, 3}, {1, 3}, {3, 4}}, 3, 4, each), 3U);
    EXPECT_EQ(leaves({{2, 3}, {1, 2}, {1, 3}, {1, 4}}, 2, 3, each), 2U) << "1 is paused";
    EXPECT_EQ(leaves({{2, 3}}, 2, 3, {1, 2, 4, 4, 5}), 3U) << "it has no member";
    EXPECT_EQ(leaves({{2, 3}, {2, 4}}, 2, 3, {3, 3, 3, 4, 5}), 2U);
    EXPECT_EQ(leaves({{2, 3}, {1, 3}, {3, 4}}, 2, 3, {3, 3, 3, 4, 5}), 2U) << "3 is needed";
}

TEST(Group, ThePresentMasterStaysWhereAllElseIsEqual) {
    GroupView view = view_of(3, 6, {3, 1}, {1, 2, 3});  // 3 reaches both
    view.self = id(3);
    EXPECT_EQ(choose_group(view)->nodes, NodeSet::of(id(2)) | NodeSet::of(id(3)));
    view.master = id(1);
    EXPECT_EQ(choose_group(view)->nodes, NodeSet::of(id(1)) | NodeSet::of(id(3)));
}

TEST(Group, APrepareIsRefusedWhileTheMasterIsThere) {
    EXPECT_FALSE(is_refused_for_master(id(3), std::nullopt));
    for (std::uint32_t bits = 0; bits != 8; ++bits) {
        const MasterSeen seen{.master = id(1),
                              .link_up = (bits & 1) != 0,
                              .has_lease = (bits & 2) != 0,
                              .in_same_epoch = (bits & 4) != 0};
        EXPECT_EQ(is_refused_for_master(id(3), seen), bits == 7);
        EXPECT_FALSE(is_refused_for_master(id(1), seen));
    }
}

// Ten times three nodes without a link between them, and one that reaches all: 3^10 cliques.
TEST(Group, OfThirtyOneNodesIsFoundSoonEnough) {
    GroupView view;
    view.quorum = {.members = 31, .parities = 2};
    for (std::uint32_t node = 1; node <= 31; ++node) {
        GroupNode one;
        one.in_sync = MemberSet::of(MemberIndex{node - 1});
        for (std::uint32_t other = 1; other <= 31; ++other) {
            const bool apart = node != 31 && other != 31 && (node - 1) / 3 == (other - 1) / 3;
            if (node != other && !apart) one.hears.add(id(other));
        }
        view.nodes[id(node)] = one;
    }
    view.self = id(31);
    EXPECT_EQ(choose_group(view), std::nullopt);
    view.quorum = {.members = 16, .parities = 5};  // on paper
    for (std::uint32_t node = 17; node <= 31; ++node) view.nodes[id(node)].in_sync = {};
    view.nodes[id(31)].in_sync = MemberSet{0xffff};
    const auto begin = std::chrono::steady_clock::now();
    const auto group = choose_group(view);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    ASSERT_TRUE(group);
    NodeSet highest_of_each = NodeSet::of(id(31));
    for (std::uint32_t node = 3; node <= 30; node += 3) highest_of_each.add(id(node));
    EXPECT_EQ(group->nodes, highest_of_each);
    std::printf("%.1f ms\n", took.count() * 1000);
}

}  // namespace
}  // namespace braid::cluster
