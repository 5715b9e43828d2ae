// SPDX-License-Identifier: BSD-3-Clause
// How often a request goes to other nodes and back until the client is answered, and with how many
// messages, from a node that is home of nothing. The network is so slow that nothing else takes any
// time: what has passed says how many round trips there were. docs/architecture.md has the table.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <utility>

#include "tests/cluster/clients.h"
#include "tests/cluster/sim_nodes.h"

namespace braid::sim {
namespace {

using cluster::HomeCommandKind;

constexpr std::uint64_t one_way = 50'000'000;  // ns
constexpr std::uint64_t strip_size = 16u << 10;
constexpr std::uint32_t client_node = 3;   // home of nothing, and it does not decide
constexpr std::uint32_t walking_node = 4;  // home of nothing, and decides
constexpr std::uint64_t windows = 64;      // one in each stripe

/// What goes over the net for one request.
struct Cost {
    std::uint64_t trips{0};
    std::uint64_t lock{0};
    std::uint64_t read{0};
    std::uint64_t stage{0};
    std::uint64_t flush{0};
    std::uint64_t decide{0};
    std::uint64_t unlock{0};
    std::uint64_t messages{0};  // answers included
    bool operator==(const Cost&) const = default;
    friend std::ostream& operator<<(std::ostream& out, const Cost& cost) {
        return out << cost.trips << " round trips: " << cost.lock << " LOCK, " << cost.read
                   << " READ, " << cost.stage << " STAGE, " << cost.flush << " FLUSH, "
                   << cost.decide << " DECIDED, " << cost.unlock << " UNLOCK; " << cost.messages
                   << " messages";
    }
};

SimNodesOptions options(Level level, std::uint32_t members) {
    SimNodesOptions options;
    options.level = level;
    options.members = members;
    options.nodes = 5;
    options.homes = 3;
    options.strip_size = strip_size;
    options.stripes = windows;
    options.net = {one_way, 0, 16u << 20, 16u << 20, 1u << 20};
    return options;
}

class RoundTripsTest : public testing::TestWithParam<Level> {
  protected:
    RoundTripsTest() : nodes_(options(GetParam(), members())), clients_(nodes_) {
        for (std::uint32_t i = 0; i != members(); ++i) nodes_.platter(i).latency_nanos = 1000;
        nodes_.start();
        // What it writes is marked from now on.
        nodes_.loop().run_until_done(clients_.write(client_node, 0, 64u << 10));
        nodes_.loop().run_for(seconds(1));
    }
    ~RoundTripsTest() override { nodes_.stop(0); }

    bool has_q() const { return GetParam() == Level::raid6; }
    std::uint32_t members() const { return has_q() ? 6 : 3; }
    std::uint32_t parities() const { return has_q() ? 2 : 1; }
    /// Beside old parity, which comes with the lock. Of three members the other strip is all that a
    /// whole row's parity needs.
    std::uint64_t read_for_row() const { return has_q() ? 2 : 1; }
    /// Of the first stripe's role.
    std::uint32_t home_of(Role role) const {
        return nodes_.home_of(raw(nodes_.geometry().member_of(StripeIndex{0}, role)));
    }
    /// The homes of the first stripe's first strip and of its parity.
    std::uint64_t homes_of_small_write() const {
        std::set<std::uint32_t> homes;
        for (const Role role : {Role{0}, Role{members() - parities()}, Role{members() - 1}}) {
            homes.insert(home_of(role));
        }
        return homes.size();
    }
    /// Each command and its answer; what ends something goes in one message to each home, and there
    /// is one to the authority alone, where it has no part in the write.
    static std::uint64_t messages(std::uint64_t answered, std::uint64_t ended) {
        return 2 * answered + ended;
    }
    std::uint64_t stripe_size() const { return nodes_.geometry().stripe_data_size(); }

    Cost cost_of(Task<void> request) {
        const auto& counts = nodes_.node(client_node).asked_homes();
        const auto before = counts.sent;
        const std::uint64_t messages_before = nodes_.node(client_node).home_messages();
        const std::uint64_t begin = nodes_.loop().now().value;
        nodes_.loop().run_until_done(std::move(request));
        const std::uint64_t passed = nodes_.loop().now().value - begin;
        nodes_.loop().run_for(seconds(1));  // what need not be waited for
        const auto sent = [&](HomeCommandKind kind) {
            const auto at = static_cast<std::size_t>(kind);
            return counts.sent[at] - before[at];
        };
        EXPECT_LT(passed % (2 * one_way), one_way / 10) << "time passes in the net only";
        const std::uint64_t messages = nodes_.node(client_node).home_messages() - messages_before;
        return {passed / (2 * one_way),        sent(HomeCommandKind::lock),
                sent(HomeCommandKind::read),   sent(HomeCommandKind::stage),
                sent(HomeCommandKind::flush),  sent(HomeCommandKind::decide),
                sent(HomeCommandKind::unlock), messages};
    }
    /// Of all members, which nothing else writes just now.
    std::uint64_t device_writes() {
        std::uint64_t writes = 0;
        for (std::uint32_t i = 0; i != members(); ++i) writes += nodes_.platter(i).writes;
        return writes;
    }
    /// Of the first stripe's role; every node knows that it is lost.
    void lose(Role role) {
        const MemberIndex member = nodes_.geometry().member_of(StripeIndex{0}, role);
        const auto failed = nodes_.loop().run_until_done(
            nodes_.array(client_node).fail_member(std::to_string(raw(member)), Force::no));
        ASSERT_TRUE(failed) << failed.error().text;
        // The record that tells of it lets marks go that nobody uses.
        nodes_.loop().run_for(seconds(6));
        nodes_.loop().run_until_done(clients_.write(client_node, 0, 64u << 10));
        nodes_.loop().run_for(seconds(1));
    }
    Task<void> write(std::uint64_t size, Fua fua = Fua::no) {
        return clients_.write(client_node, 0, size, fua);
    }
    Task<void> read(std::uint64_t size) { return clients_.read(client_node, 0, size); }
    Task<void> zero(std::uint64_t size) {
        IoRequest request;
        request.kind = IoKind::zero;
        request.size = size;
        EXPECT_TRUE(co_await nodes_.ask(client_node, request));
    }
    /// A walk's commands to homes, from the node that decides; without its trips and messages, for it
    /// is several windows at a time.
    Cost cost_of_walk(const std::function<bool()>& is_over) {
        const auto& counts = nodes_.node(walking_node).asked_homes();
        const auto before = counts.sent;
        nodes_.run_until(is_over, "the walk ends");
        nodes_.loop().run_for(seconds(1));
        const auto sent = [&](HomeCommandKind kind) {
            const auto at = static_cast<std::size_t>(kind);
            return counts.sent[at] - before[at];
        };
        return {0,
                sent(HomeCommandKind::lock),
                sent(HomeCommandKind::read),
                sent(HomeCommandKind::stage),
                0,
                sent(HomeCommandKind::decide),
                sent(HomeCommandKind::unlock),
                0};
    }
    /// Whose member is that of the first stripe's role.
    SimPlatter& platter_of(Role role) {
        return nodes_.platter(raw(nodes_.geometry().member_of(StripeIndex{0}, role)));
    }

    SimNodes nodes_;
    Clients<SimNodes> clients_;
};

TEST_P(RoundTripsTest, ASmallWriteTakesThree) {
    const std::uint64_t strips = 1 + parities();
    const std::uint64_t homes = homes_of_small_write();
    // LOCK and UNLOCK have no message of their own: old parity comes with the one, and the other
    // goes along with what is decided.
    EXPECT_EQ(cost_of(write(row_size)), (Cost{3, 1, read_for_row(), strips, 0, homes, 1,
                                              messages(1 + read_for_row() + strips, homes)}));
    EXPECT_EQ(cost_of(write(sector_size)),
              (Cost{3, 1, strips - 1, strips, 0, homes, 1, messages(2 * strips, homes)}));
}

TEST_P(RoundTripsTest, ASmallWriteWritesEachOfItsStripsOnce) {
    const std::uint64_t before = device_writes();
    constexpr std::uint64_t writes = 10;
    for (std::uint64_t i = 0; i != writes; ++i) (void)cost_of(write(row_size));
    EXPECT_EQ(device_writes() - before, writes * (1 + parities()));
}

TEST_P(RoundTripsTest, AFullStripeTakesTwo) {
    EXPECT_EQ(cost_of(write(stripe_size())),
              (Cost{2, 1, 0, members(), 0, 3, 1, messages(1 + members(), 3)}));
}

TEST_P(RoundTripsTest, ADurableOneTakesOneMore) {
    const std::uint64_t strips = 1 + parities();
    const std::uint64_t homes = homes_of_small_write();
    const std::uint64_t unlock = 1;  // the rows are locked until it is durable
    EXPECT_EQ(cost_of(write(row_size, Fua::yes)),
              (Cost{4, 1, read_for_row(), strips, strips, homes, 1,
                    messages(1 + read_for_row() + 2 * strips, homes + unlock)}));
    EXPECT_EQ(cost_of(write(stripe_size(), Fua::yes)),
              (Cost{3, 1, 0, members(), members(), 3, 1, messages(1 + 2 * members(), 3 + unlock)}));
}

TEST_P(RoundTripsTest, AReadTakesOneAndNoLock) {
    nodes_.loop().run_for(seconds(30));  // marks become clean by a flush of their own
    EXPECT_EQ(cost_of(read(row_size)), (Cost{1, 0, 1, 0, 0, 0, 0, messages(1, 0)}));
    const std::uint64_t strips = members() - parities();
    EXPECT_EQ(cost_of(read(stripe_size())), (Cost{1, 0, strips, 0, 0, 0, 0, messages(strips, 0)}));
}

TEST_P(RoundTripsTest, WhatIsComputedForAReadTakesTwo) {
    lose(Role{0});
    nodes_.loop().run_for(seconds(30));  // marks become clean by a flush of their own
    const std::uint64_t strips = members() - parities();
    EXPECT_EQ(cost_of(read(row_size)), (Cost{2, 1, strips, 0, 0, 0, 1, messages(1 + strips, 1)}));
}

TEST_P(RoundTripsTest, WhoComputesTheSameRowsWaitsForNobody) {
    lose(Role{0});
    TaskGroup both(nodes_.loop().ready());
    const std::uint64_t begin = nodes_.loop().now().value;
    for (const std::uint32_t node : {client_node, client_node + 1}) {
        both.spawn(clients_.read(node, 0, row_size));
    }
    while (both.running() != 0) ASSERT_TRUE(nodes_.loop().step());
    EXPECT_EQ((nodes_.loop().now().value - begin) / (2 * one_way), 2U);
}

TEST_P(RoundTripsTest, ASmallWriteOfALostStripTakesThree) {
    lose(Role{0});
    // The other data, and what was lost need not be computed: all of its row is new.
    const std::uint64_t others = members() - parities() - 1;
    EXPECT_EQ(cost_of(write(row_size)), (Cost{3, 1, others, parities(), 0, parities(), 1,
                                              messages(1 + others + parities(), parities())}));
}

TEST_P(RoundTripsTest, ASmallWriteWithoutItsParityTakesWhatIsLeft) {
    lose(Role{members() - parities()});  // P
    const std::uint64_t strips = parities();
    // RAID-5: nothing is there to be kept true.
    const std::uint64_t reads = has_q() ? strips : 0;
    const std::uint64_t trips = has_q() ? 3 : 2;
    // P's home still has the lock. If it has no part in the write it hears of the unlock alone.
    std::set<std::uint32_t> homes{home_of(Role{0})};
    if (has_q()) homes.insert(home_of(Role{members() - 1}));
    const std::uint64_t unlock = homes.contains(home_of(Role{members() - parities()})) ? 0 : 1;
    EXPECT_EQ(cost_of(write(row_size)),
              (Cost{trips, 1, reads, strips, 0, homes.size(), 1,
                    messages(1 + reads + strips, homes.size() + unlock)}));
}

TEST_P(RoundTripsTest, AWriteOfAllStripsButOneReadsThatOne) {
    if (!has_q()) GTEST_SKIP() << "of three members that is a small write";
    const std::uint64_t strips = members() - 1;
    EXPECT_EQ(cost_of(write(3 * strip_size)),
              (Cost{3, 1, 1, strips, 0, 3, 1, messages(1 + 1 + strips, 3)}));
}

TEST_P(RoundTripsTest, ZeroesTakeWhatAWriteTakes) {
    const std::uint64_t strips = 1 + parities();
    const std::uint64_t homes = homes_of_small_write();
    EXPECT_EQ(cost_of(zero(stripe_size())),
              (Cost{2, 1, 0, members(), 0, 3, 1, messages(1 + members(), 3)}));
    EXPECT_EQ(cost_of(zero(row_size)), (Cost{3, 1, read_for_row(), strips, 0, homes, 1,
                                             messages(1 + read_for_row() + strips, homes)}));
}

TEST_P(RoundTripsTest, AReadOfABadRowMendsIt) {
    nodes_.loop().run_for(seconds(30));  // marks become clean by a flush of their own
    SimPlatter& platter = platter_of(Role{0});
    const std::uint64_t row = SimNodes::data_offset / row_size;
    platter.bad_rows.insert(row);
    // It is read, and once more when the rows are locked; then the others are.
    const std::uint64_t others = members() - parities();
    EXPECT_EQ(cost_of(read(row_size)),
              (Cost{5, 1, 2 + others, 1, 0, 1, 1, messages(1 + 2 + others + 1, 2)}));
    EXPECT_TRUE(platter.bad_rows.empty());
    EXPECT_EQ(cost_of(read(row_size)), (Cost{1, 0, 1, 0, 0, 0, 0, messages(1, 0)}));
}

TEST_P(RoundTripsTest, AScrubLocksAndReadsEachWindow) {
    const auto begun =
        nodes_.loop().run_until_done(nodes_.array(walking_node).start_scrub(ScrubMode::compare));
    ASSERT_TRUE(begun) << begun.error().text;
    const auto is_over = [&] { return nodes_.array(walking_node).status().last_scrub.has_value(); };
    EXPECT_EQ(cost_of_walk(is_over), (Cost{0, windows, windows * members(), 0, 0, 0, windows, 0}));
}

// What is zeros it reads at the new member, too, and writes only where that has something else.
TEST_P(RoundTripsTest, ARebuildStagesOneStripOfEachWindow) {
    for (std::uint64_t i = 0; i != windows; ++i) {
        // All strips alike, and so P zeros; and then one row of the first.
        for (const std::uint64_t size : {stripe_size(), row_size}) {
            nodes_.loop().run_until_done(clients_.write(client_node, i * stripe_size(), size));
        }
    }
    lose(Role{0});
    const std::uint32_t member = raw(nodes_.geometry().member_of(StripeIndex{0}, Role{0}));
    auto fresh = nodes_.make_platter();
    const auto added = nodes_.loop().run_until_done(
        nodes_.array(0).add_member(nodes_.disk(fresh, "fresh"), Force::no));  // its home
    ASSERT_TRUE(added) << added.error().text;
    const auto is_over = [&] {
        return nodes_.array(walking_node).status().members[member].record.state ==
               MemberState::in_sync;
    };
    EXPECT_EQ(cost_of_walk(is_over),
              (Cost{0, windows, windows * (members() - 1), windows, 0, windows, windows, 0}));
}

// A new array on disks that do not read as zeros is in doubt all over. Its parity is true here, and so
// nothing is staged.
TEST_P(RoundTripsTest, AResyncLocksAndReadsEachWindow) {
    SimNodesOptions shape = options(GetParam(), members());
    shape.zero_fast = false;
    SimNodes nodes(shape);
    nodes.start();
    nodes.run_until([&] { return !nodes.array(walking_node).status().in_doubt; },
                    "the resync ends");
    nodes.loop().run_for(seconds(1));
    const auto& sent = nodes.node(walking_node).asked_homes().sent;
    EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::lock)], windows);
    EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::read)], windows * members());
    EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::stage)], 0U);
    EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::unlock)], windows);
    nodes.stop(0);
}

// The seed's claim: what a small write costs does not grow with the nodes.
TEST(RoundTripsOfMany, NothingGrowsWithTheNodes) {
    std::set<std::uint64_t> seen;
    for (const std::uint32_t nodes : {4u, 5u, 8u}) {
        SimNodesOptions shape = options(Level::raid6, 6);
        shape.nodes = nodes;
        SimNodes cluster(shape);
        Clients<SimNodes> clients(cluster);
        cluster.start();
        cluster.loop().run_until_done(clients.write(client_node, 0, 64u << 10));
        cluster.loop().run_for(seconds(1));
        const std::uint64_t before = cluster.node(client_node).home_messages();
        cluster.loop().run_until_done(clients.write(client_node, 0, row_size));
        cluster.loop().run_for(seconds(1));
        seen.insert(cluster.node(client_node).home_messages() - before);
        cluster.stop(0);
    }
    EXPECT_EQ(seen.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Levels, RoundTripsTest, testing::Values(Level::raid5, Level::raid6),
                         [](const auto& level) {
                             return level.param == Level::raid5 ? "raid5" : "raid6";
                         });

}  // namespace
}  // namespace braid::sim
