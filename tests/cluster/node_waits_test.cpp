// SPDX-License-Identifier: BSD-3-Clause
// Too few nodes hear each other: the array waits, however long, and goes on by itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

class NodeWaitsTest : public NodesTest {
  protected:
    NodeWaitsTest() : NodesTest({.no_quorum = cluster::NoQuorum::wait}) {}

    /// Some nodes without which the others, and which without the others, are not enough.
    std::vector<std::uint32_t> choose_needed() {
        for (;;) {
            std::vector<std::uint32_t> chosen;
            std::uint32_t of_chosen = 0;
            for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
                if (below(2) != 0) chosen.push_back(node);
            }
            for (std::uint32_t member = 0; member != GetParam().members; ++member) {
                of_chosen += std::ranges::count(chosen, nodes_.home_of(member)) != 0 ? 1 : 0;
            }
            const std::uint32_t can_lose = GetParam().level == Level::raid6 ? 2 : 1;
            const bool are_alone = chosen.size() > 1;  // they do not hear each other, either
            const std::uint32_t left = GetParam().members - of_chosen;
            if (of_chosen <= can_lose || (!are_alone && left <= can_lose)) continue;
            if (std::ranges::none_of(chosen,
                                     [&](std::uint32_t one) { return goes_on_alone(one); })) {
                return chosen;
            }
        }
    }
    bool says(std::uint32_t node, const char* what) {
        return nodes_.log(node).find(what) != std::string::npos;
    }
    void expect_whole() {
        expect_nothing_missing();
        for (std::uint32_t node = 0; HasFailure() && node != nodes_.nodes(); ++node) {
            ADD_FAILURE() << "node " << node << ":\n" << nodes_.log(node);
        }
    }
    void expect_nothing_missing() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            EXPECT_FALSE(says(node, "the array stops")) << node;
            EXPECT_FALSE(says(node, "is excluded")) << node;
            const ArrayStatus status = nodes_.array(node).status();
            EXPECT_EQ(status.bad_bytes, 0u) << node;
            EXPECT_TRUE(status.walks.empty()) << node;
            for (std::uint32_t member = 0; member != GetParam().members; ++member) {
                EXPECT_EQ(state(node, member), MemberState::in_sync) << member << " at " << node;
            }
        }
    }
};

TEST_P(NodeWaitsTest, AllLinksAreDownAndComeBack) {
    nodes_.start();
    for (const std::uint64_t pause :
         {below(2'000), 2'000 + below(10'000), 10'000 + below(90'000)}) {
        begin_load(2 * nodes_.nodes(), 20);
        loop().run_for(millis(below(200)));
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.isolate(node);
        loop().run_for(millis(pause));
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.release(node);
        end_load();  // without an error
        loop().run_for(seconds(2));
        expect_whole();
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
    nodes_.expect_parity();
}

/// It is back at the node that decides just as another one, which it has yet to reach, has waited for it for
/// long enough to say so.
TEST_P(NodeWaitsTest, OneIsBackAtOneAfterTheOther) {
    if (GetParam().level == Level::raid6 || GetParam().nodes != 3) return;  // it is needed
    nodes_.start();
    loop().run_for(seconds(8));
    for (const std::uint64_t away : {9'000, 10'000, 11'000, 13'000}) {
        begin_load(2 * nodes_.nodes(), 20);
        nodes_.isolate(0);
        loop().run_for(millis(away + below(1000)));
        nodes_.release(0);
        nodes_.part(0, 1);
        loop().run_for(millis(500 + below(3000)));
        nodes_.release(0);
        end_load();  // without an error
        loop().run_for(seconds(8));
        expect_whole();
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
    nodes_.expect_parity();
}

TEST_P(NodeWaitsTest, SomeAreAwayForLong) {
    nodes_.start();
    for (int round = 0; round != 2; ++round) {
        const std::vector<std::uint32_t> away = choose_needed();
        begin_load(2 * nodes_.nodes(), 50);
        loop().run_for(millis(below(20)));
        for (const std::uint32_t node : away) nodes_.isolate(node);
        loop().run_for(seconds(16 + below(100)));  // five of them until a connection breaks
        const std::uint32_t master = nodes_.nodes() - 1;
        EXPECT_TRUE(says(master, "the array waits for it, and goes on by itself"));
        EXPECT_NE(working_, 0u) << "requests wait";
        for (const std::uint32_t node : away) nodes_.release(node);
        end_load();
        loop().run_for(seconds(2));
        EXPECT_TRUE(says(master, "the array goes on"));
        expect_whole();
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(static_cast<std::uint32_t>(below(nodes_.nodes())));
    nodes_.expect_parity();
}

/// The level can do without neither any more: who is lost has used that up.
TEST_P(NodeWaitsTest, TwoThatAreNeededDoNotReachEachOther) {
    if (GetParam().level == Level::raid6 || GetParam().nodes != 3) return;
    nodes_.start();
    ASSERT_TRUE(loop().run_until_done(nodes_.array(2).fail_member("2", Force::no)));
    loop().run_for(seconds(8));
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(below(50)));
    nodes_.part(0, 1);
    loop().run_for(seconds(30 + below(30)));
    EXPECT_TRUE(says(2, "do not reach each other: the array waits for them"));
    nodes_.release(0);
    end_load();  // without an error
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_FALSE(says(node, "the array stops")) << nodes_.log(node);
        EXPECT_FALSE(says(node, "is excluded")) << nodes_.log(node);
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// Who is told to stop does not wait; nor do all others, whose array stops with that.
TEST_P(NodeWaitsTest, ServersStopMeanwhile) {
    nodes_.start();
    const std::vector<std::uint32_t> away = choose_needed();
    clients_.let_fail();
    begin_load(nodes_.nodes(), 1000);
    for (const std::uint32_t node : away) nodes_.isolate(node);
    loop().run_for(millis(below(30'000)));
    load_ends_ = true;
    const std::uint64_t begin = loop().now().value;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.leave(node);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        nodes_.run_until([&] { return nodes_.has_left(node); }, "its server ends");
    }
    EXPECT_LT(loop().now().value - begin, seconds(25).value);
    end_load();
    nodes_.lose_power();
}

/// Heartbeats follow: nobody who is well is without his lease, and who is not is soon excluded.
TEST(NodeLease, TheShortest) {
    for (std::uint64_t seed = 1; seed <= seeds_of(10, 100); ++seed) {
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 5,
                        .nodes = 5,
                        .lease_ms = lease_ms_min});
        nodes.start();
        nodes.loop().run_for(seconds(1));
        Buffer into(4096);
        for (std::uint32_t i = 0; i != 1000; ++i) {
            const std::uint64_t begin = nodes.loop().now().value;
            EXPECT_TRUE(nodes.ask_first(i % 5, IoKind::read, into));
            EXPECT_LT(nodes.loop().now().value - begin, millis(50).value);
            nodes.loop().run_for(millis(10));
        }
        const auto is_excluded = [&] {
            return nodes.log(4).find("node 1 has not answered for 500 ms: it is excluded") !=
                   std::string::npos;
        };
        EXPECT_FALSE(is_excluded());
        nodes.isolate(0);
        nodes.loop().run_for(millis(1000));
        EXPECT_TRUE(is_excluded()) << nodes.log(4);
        nodes.lose_power();
    }
}

struct Beats {
    std::uint32_t lease_ms;
    std::uint32_t heartbeat_ms;
};
constexpr std::array<Beats, 3> all_beats{{{1200, 300}, {8000, 2000}, {30'000, 7500}}};

/// Until the first of the others goes on without the victim: in that step its lease has ended, in true time.
void expect_no_lease_when_others_go_on(SimNodes& nodes, std::uint32_t victim,
                                       const std::function<void()>& cut_off) {
    SimLoop& loop = nodes.loop();
    ASSERT_TRUE(nodes.node(victim).cluster_status().lease);
    const auto newest = [&] {
        std::uint64_t fence = 0;
        for (std::uint32_t node = 0; node != nodes.nodes(); ++node) {
            if (node == victim) continue;
            fence = std::max(fence, nodes.node(node).cluster_status().fence);
        }
        return fence;
    };
    const std::uint64_t before = newest();
    const std::uint64_t began = loop.now().value;
    cut_off();
    while (newest() == before) {
        ASSERT_TRUE(loop.step());
        ASSERT_LT(loop.now().value - began, seconds(100).value) << nodes.logs();
    }
    EXPECT_FALSE(nodes.node(victim).cluster_status().lease);
}

/// Whichever way it was cut off first, however long leases are, and however much clocks differ that may.
TEST(NodeLease, IsOverWhenTheOthersGoOn) {
    for (std::uint64_t seed = 1; seed <= seeds_of(30, 1000); ++seed) {
        SCOPED_TRACE(seed);
        const Beats beats = all_beats[seed % all_beats.size()];
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 5,
                        .nodes = 5,
                        .lease_ms = beats.lease_ms,
                        .heartbeat_ms = beats.heartbeat_ms,
                        .own_loops = true,
                        .drift_ppm = 10'000});
        nodes.start();
        SimLoop& loop = nodes.loop();
        loop.run_for(millis(4 * beats.heartbeat_ms + loop.rng().below(beats.heartbeat_ms)));
        const auto victim = static_cast<std::uint32_t>(loop.rng().below(5));
        expect_no_lease_when_others_go_on(nodes, victim, [&] {
            const std::uint64_t one_way = loop.rng().below(3);
            if (one_way == 1) nodes.hold_sent_by(victim);
            if (one_way == 2) nodes.hold_sent_to(victim);
            loop.run_for(millis(one_way == 0 ? 0 : loop.rng().below(600)));
            nodes.isolate(victim);
        });
        nodes.lose_power();
    }
}

/// Only the one who decides does not hear it: the others extend its lease until they have promised to go on
/// without it, and not any longer.
TEST(NodeLease, EndsThoughMostOthersHearIt) {
    for (std::uint64_t seed = 1; seed <= seeds_of(30, 1000); ++seed) {
        SCOPED_TRACE(seed);
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 5,
                        .nodes = 5,
                        .own_loops = true,
                        .drift_ppm = 10'000});
        nodes.start();
        SimLoop& loop = nodes.loop();
        loop.run_for(millis(1000 + loop.rng().below(300)));
        const auto victim = static_cast<std::uint32_t>(loop.rng().below(4));
        expect_no_lease_when_others_go_on(nodes, victim, [&] {
            const std::uint64_t way = loop.rng().below(3);
            if (way != 1) nodes.hold_way(victim, 4);
            if (way != 2) nodes.hold_way(4, victim);
        });
        nodes.lose_power();
    }
}

/// The file of who decided at the start counts, whoever lets a node in later.
TEST(NodeLease, IsTheSameForWhoIsLetInLater) {
    for (std::uint64_t seed = 1; seed <= seeds_of(10, 200); ++seed) {
        SCOPED_TRACE(seed);
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 5,
                        .nodes = 5,
                        .lease_ms = 8000,
                        .lease_ms_at = {{4, lease_ms_default}},
                        .own_loops = true});
        nodes.start();
        SimLoop& loop = nodes.loop();
        loop.run_for(seconds(1));
        nodes.kill(4, Dies::process);
        nodes.run_until([&] { return nodes.node(3).is_master(); }, "another one decides");
        nodes.begin(4);
        nodes.run_until([&] { return nodes.has_begun(4); }, "it is let in");
        loop.run_for(millis(5000 + loop.rng().below(300)));
        expect_no_lease_when_others_go_on(nodes, 4, [&] { nodes.isolate(4); });
        nodes.lose_power();
    }
}

/// However rare heartbeats are: channels are up, sessions stay, and who comes back is let in.
TEST(NodeLease, RareHeartbeatsShowTheSame) {
    for (std::uint64_t seed = 1; seed <= seeds_of(6, 100); ++seed) {
        SCOPED_TRACE(seed);
        const Beats beats = all_beats[1 + seed % 2];
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 5,
                        .nodes = 5,
                        .lease_ms = beats.lease_ms,
                        .heartbeat_ms = beats.heartbeat_ms,
                        .channels = 2,
                        .own_loops = true});
        nodes.start();
        SimLoop& loop = nodes.loop();
        loop.run_for(millis(2 * beats.heartbeat_ms));
        const auto expect_up = [&](std::uint32_t without = ~0U) {
            for (std::uint32_t node = 0; node != 5; ++node) {
                if (node == without) continue;
                for (const NodeStatus& of : nodes.array(node).status().nodes) {
                    if (of.is_self || of.id == without + 1) continue;
                    ASSERT_EQ(of.channels.size(), 2u);
                    for (const ChannelStatus& channel : of.channels) {
                        ASSERT_TRUE(channel.up) << channel.address << " at node " << node + 1;
                    }
                }
            }
        };
        for (std::uint32_t i = 0; i != 600; ++i) {
            loop.run_for(millis(100));
            ASSERT_NO_FATAL_FAILURE(expect_up());
        }
        for (std::uint32_t node = 0; node != 5; ++node) {
            EXPECT_EQ(nodes.log(node).find("is over"), std::string::npos) << nodes.log(node);
        }
        const auto victim = static_cast<std::uint32_t>(loop.rng().below(5));
        nodes.kill(victim, Dies::process);
        loop.run_for(millis(200));
        nodes.begin(victim);
        const std::uint64_t began = loop.now().value;
        while (!nodes.has_begun(victim)) {
            loop.run_for(millis(100));
            ASSERT_NO_FATAL_FAILURE(expect_up(victim));
            ASSERT_LT(loop.now().value - began, seconds(30).value) << nodes.logs();
        }
        EXPECT_EQ(nodes.refusal(victim), "");
        for (std::uint32_t node = 0; node != 5; ++node) {
            EXPECT_EQ(nodes.log(node).find("has no heartbeats of it"), std::string::npos);
        }
        nodes.lose_power();
    }
}

/// A clock that jumps costs nobody his place: who has slept waits until others have answered. Epochs grow by
/// what was promised, also where the wall clock goes back.
TEST(NodeClock, Jumps) {
    for (std::uint64_t seed = 1; seed <= seeds_of(10, 200); ++seed) {
        SCOPED_TRACE(seed);
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 5,
                        .nodes = 5,
                        .no_quorum = cluster::NoQuorum::wait,
                        .own_loops = true});
        nodes.start();
        nodes.loop().run_for(seconds(1));
        const auto below = [&](std::uint64_t bound) { return nodes.loop().rng().below(bound); };
        Buffer from(4096);
        Buffer into(4096);
        std::memset(from.data(), 0, from.size());
        const auto ask = [&](IoKind kind, Buffer& data) {
            const std::uint64_t begin = nodes.loop().now().value;
            const auto node = static_cast<std::uint32_t>(below(5));
            EXPECT_TRUE(nodes.ask_first(node, kind, data));
            EXPECT_LT(nodes.loop().now().value - begin, seconds(2).value) << node;
        };
        for (std::uint32_t i = 0; i != 200; ++i) {
            if (i % 20 == 10) {
                const Nanos ahead = millis(below(2) == 0 ? below(3000) : below(1'000'000));
                nodes.jump(static_cast<std::uint32_t>(below(5)), ahead, below(4'000'000'000));
            }
            from.data()[i] = std::byte{1};
            ask(IoKind::write, from);
            ask(IoKind::read, into);
            EXPECT_EQ(std::memcmp(from.data(), into.data(), from.size()), 0);
            nodes.loop().run_for(millis(below(100)));
        }
        for (std::uint32_t node = 0; node != 5; ++node) {
            EXPECT_EQ(nodes.log(node).find("is excluded"), std::string::npos) << nodes.log(node);
            EXPECT_EQ(nodes.log(node).find("the array stops"), std::string::npos);
        }
        const auto failed = nodes.loop().run_until_done(
            nodes.array(static_cast<std::uint32_t>(below(5))).fail_member("1", Force::no));
        EXPECT_TRUE(failed) << failed.error().text;
        ask(IoKind::write, from);
        EXPECT_TRUE(nodes.flush(0));
        nodes.lose_power();
        nodes.start();
        ask(IoKind::read, into);
        EXPECT_EQ(std::memcmp(from.data(), into.data(), from.size()), 0);
        nodes.stop(0);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, NodeWaitsTest,
    testing::ValuesIn(with_seeds(seeds_of(8, 200),
                                 {{.level = Level::raid5, .members = 4, .nodes = 3},
                                  {.level = Level::raid5, .members = 4, .nodes = 4},
                                  {.level = Level::raid6, .members = 6, .nodes = 3},
                                  {.level = Level::raid6, .members = 6, .nodes = 4, .homes = 2}})));

}  // namespace
}  // namespace braid::sim
