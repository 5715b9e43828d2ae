// SPDX-License-Identifier: BSD-3-Clause
// A start that nodes do not come to: the others begin without them after a while, where nothing in the
// array depends on what their members hold; else they wait, and say why.
#include <string>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t waits = start_wait_ms_default / 1000;  // s

class NodeStartTest : public NodeReturnKit {
  protected:
    /// All have served, and some clients have written.
    void serve() {
        nodes_.start();
        begin_load(2 * nodes_.nodes(), 30);
        end_load();
    }
    void stop_cleanly() { nodes_.stop(static_cast<std::uint32_t>(below(nodes_.nodes()))); }
    void flush_all() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            EXPECT_TRUE(nodes_.flush(node));
        }
    }
    void lose_power_idle() {
        flush_all();
        loop().run_for(seconds(60));  // no mark is left
        nodes_.lose_power();
    }
    Task<void> write_durably(std::uint32_t node) {
        for (;;) {
            const std::uint64_t sectors = 1 + below(24);
            const std::uint64_t first = below(clients_.sectors() - sectors + 1);
            co_await clients_.write(node, first * sector_size, sectors * sector_size, Fua::yes);
            Timer timer(loop(), Nanos{loop().now().value + 1});
            co_await timer;
        }
    }
    void lose_power_busy() {
        flush_all();
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            clients_.let_fail_at(node);
            loop().tasks().spawn(write_durably(node));
        }
        loop().run_for(millis(20 + below(100)));
        nodes_.lose_power();
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            clients_.let_nothing_fail_at(node);
        }
    }
    /// None that the level needs; the one that decides, too.
    std::uint32_t choose_absent() {
        const std::uint32_t homes = GetParam().homes;  // the level needs those
        return static_cast<std::uint32_t>(homes + below(nodes_.nodes() - homes));
    }
    void begin_all_but(std::uint32_t absent) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node != absent) nodes_.begin(node);
        }
    }
    std::uint32_t highest_but(std::uint32_t absent) {
        const std::uint32_t last = nodes_.nodes() - 1;
        return absent == last ? last - 1 : last;
    }
    /// All begin then, and nothing is lost.
    void comes_after_all(std::uint32_t absent) {
        nodes_.begin(absent);
        nodes_.wait_until_all_serve();
        loop().run_for(seconds(10));
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u);
        }
        clients_.check(nodes_.nodes());
        nodes_.stop(0);
    }
    /// All have begun to start. Who had the others start took them with it as it ended, perhaps: then all
    /// start once more.
    void end_however_it_began() {
        bool all_serve = true;
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            nodes_.run_until([&] { return nodes_.has_begun(node); }, "it serves, or is refused");
            all_serve &= nodes_.refusal(node).empty();
        }
        if (!all_serve) {
            for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.end(node);
            nodes_.start();
        }
        clients_.check(nodes_.nodes());
        nodes_.stop(0);
    }
    std::uint32_t any_but(std::uint32_t absent) {
        const auto other = static_cast<std::uint32_t>(below(nodes_.nodes() - 1));
        return other < absent ? other : other + 1;
    }
    bool any_serves(std::uint32_t absent = ~0U) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node != absent && nodes_.is_up(node) && nodes_.has_begun(node)) return true;
        }
        return false;
    }
    void expect_start_without(std::uint32_t absent) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == absent) continue;
            nodes_.run_until([&] { return nodes_.has_begun(node); }, "it serves");
            ASSERT_EQ(nodes_.refusal(node), "") << nodes_.log(node);
            EXPECT_NE(nodes_.log(node).find(
                          fmt::format("starts without node {}: it has not come", absent + 1)),
                      std::string::npos)
                << nodes_.log(node);
        }
        master_ = highest_but(absent);
        EXPECT_TRUE(nodes_.node(master_).is_master());
    }
};

TEST_P(NodeStartTest, AfterACleanStopTheOthersBegin) {
    serve();
    below(2) == 0 ? stop_cleanly() : lose_power_idle();
    const std::uint32_t absent = choose_absent();
    begin_all_but(absent);
    loop().run_for(seconds(waits - 2));
    EXPECT_FALSE(any_serves(absent));
    loop().run_for(seconds(10));  // some met a little later
    EXPECT_TRUE(any_serves(absent)) << nodes_.log(any_but(absent));
    expect_start_without(absent);
    clients_.let_fail_at(absent);
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(below(500)));
    nodes_.begin(absent);
    wait_until_in(absent);
    end_whole(absent);
}

TEST_P(NodeStartTest, WhoComesInTimeIsWaitedFor) {
    serve();
    stop_cleanly();
    const std::uint32_t absent = choose_absent();
    begin_all_but(absent);
    // Any moment before they begin, and just as they do; and not all of them meet it at once.
    loop().run_for(millis(1000 * waits - 100 + below(200)));
    const std::uint32_t apart = any_but(absent);
    if (below(2) == 0) nodes_.part(absent, apart);
    nodes_.begin(absent);
    loop().run_for(millis(below(3000)));
    nodes_.release_way(absent, apart);
    nodes_.release_way(apart, absent);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        nodes_.run_until([&] { return nodes_.has_begun(node); }, "it serves");
        ASSERT_EQ(nodes_.refusal(node), "") << nodes_.log(node);
    }
    loop().run_for(seconds(10));
    clients_.check(nodes_.nodes());
    end_whole(absent);
}

TEST_P(NodeStartTest, WhereStripesAreInDoubtAnOperatorDecides) {
    serve();
    lose_power_busy();
    if (GetParam().homes != 0) return;  // who is absent has no members: the next test
    const std::uint32_t absent = choose_absent();
    begin_all_but(absent);
    loop().run_for(seconds(5 * waits));
    EXPECT_FALSE(any_serves(absent));
    const std::uint32_t first = highest_but(absent);
    EXPECT_NE(nodes_.log(first).find("does not start by itself without node " +
                                     std::to_string(absent + 1)),
              std::string::npos)
        << nodes_.log(first);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == absent) continue;
        const std::string why = nodes_.node(node).start_status().why;
        EXPECT_NE(why.find("it does not start by itself, for "), std::string::npos) << why;
    }
    comes_after_all(absent);
}

TEST_P(NodeStartTest, WhoHasNoMembersIsNotNeeded) {
    if (GetParam().homes == 0) return;
    serve();
    lose_power_busy();
    const std::uint32_t absent = choose_absent();
    begin_all_but(absent);
    loop().run_for(seconds(waits + 3));
    expect_start_without(absent);
    loop().run_for(seconds(10));
    nodes_.begin(absent);
    wait_until_in(absent);
    end_whole(absent);
}

/// The one that has the others start ends before there is an array, and the missing one comes.
TEST_P(NodeStartTest, WhoBeginsItEnds) {
    serve();
    stop_cleanly();
    const std::uint32_t absent = choose_absent();
    begin_all_but(absent);
    const std::uint32_t leader = highest_but(absent);
    const std::uint32_t sees = below(2) == 0 || leader == 0 ? leader : any_but(absent);
    nodes_.run_until(
        [&] { return nodes_.log(sees).find("starts without node") != std::string::npos; },
        "they begin");
    nodes_.end(leader);
    if (below(2) == 0) nodes_.begin(absent);
    loop().run_for(millis(below(2000)));
    nodes_.begin(leader);
    if (!nodes_.is_up(absent)) nodes_.begin(absent);
    end_however_it_began();
}

/// What is on a member that was only just being rebuilt may be needed as well.
TEST_P(NodeStartTest, WhatWasRebuiltSoFarCounts) {
    if (GetParam().homes != 0) return;
    serve();
    const std::uint32_t absent = choose_absent();
    const auto failed =
        loop().run_until_done(nodes_.array(absent).fail_member(std::to_string(absent), Force::no));
    ASSERT_TRUE(failed) << failed.error().text;
    nodes_.set_platter(absent, nodes_.make_platter(), "fresh");
    const auto replaced = loop().run_until_done(nodes_.array(absent).replace_member(
        std::to_string(absent),
        nodes_.disk_at(absent, nodes_.shared_platter(absent), nodes_.path_of(absent)), Force::no));
    ASSERT_TRUE(replaced) << replaced.error().text;
    loop().run_for(millis(below(300)));
    lose_power_busy();
    begin_all_but(absent);
    loop().run_for(seconds(3 * waits));
    EXPECT_FALSE(any_serves(absent));
    comes_after_all(absent);
}

TEST_P(NodeStartTest, TooFewWait) {
    serve();
    stop_cleanly();
    nodes_.begin(0);
    if (goes_on_alone(0)) return;
    loop().run_for(seconds(5 * waits));
    EXPECT_FALSE(any_serves());
    for (std::uint32_t node = 1; node != nodes_.nodes(); ++node) nodes_.begin(node);
    nodes_.wait_until_all_serve();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// All are there, and the first does not reach the last: whoever began would be without one that another
/// one is connected to.
TEST_P(NodeStartTest, WhoIsConnectedToSomeIsNotLeftOut) {
    serve();
    stop_cleanly();
    if (nodes_.nodes() < 3) return;
    const std::uint32_t last = nodes_.nodes() - 1;
    nodes_.part(0, last);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.begin(node);
    loop().run_for(seconds(3 * waits));
    EXPECT_FALSE(any_serves());
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.release(node);
    nodes_.wait_until_all_serve();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// An operator says without whom, and one that is heard of after that is connected to him still. So it comes
/// to nothing, perhaps when it has begun at another one already, who hears of that.
TEST_P(NodeStartTest, AnOrderComesToNothingAsItBegins) {
    if (nodes_.nodes() < 4) return;
    serve();
    stop_cleanly();
    const std::uint32_t last = nodes_.nodes() - 1;
    nodes_.begin(0);
    nodes_.begin(last);
    const auto knows = [&](std::uint32_t node, std::uint32_t other) {
        const std::string says = fmt::format("node {} is connected", other + 1);
        return nodes_.log(node).find(says) != std::string::npos;
    };
    nodes_.run_until([&] { return knows(0, last); }, "they meet");
    nodes_.part(0, last);  // it does not hear for a while that this one goes
    nodes_.part(0, 1);
    nodes_.cancel(last);
    const std::uint32_t leader = last - 1;
    for (std::uint32_t node = 0; node != leader; ++node) {  // it waits for answers most of its time
        nodes_.slow_way(leader, node, millis(below(200)));
        nodes_.slow_way(node, leader, millis(below(200)));
    }
    for (std::uint32_t node = 1; node != last; ++node) nodes_.begin(node);
    nodes_.run_until([&] { return knows(1, leader) && knows(leader, 0) && knows(leader, 1); },
                     "all know the next one, and not all each other");
    const Checked<Unit> ordered = loop().run_until_done(nodes_.node(1).start_without({last + 1}));
    ASSERT_TRUE(ordered) << ordered.error().text;
    loop().run_for(millis(below(400)));
    nodes_.release_way(0, 1);
    nodes_.release_way(1, 0);
    loop().run_for(seconds(1 + below(8)));
    nodes_.release(last);
    nodes_.begin(last);
    end_however_it_began();
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeStartTest, testing::ValuesIn(death_shapes(seeds_of(4, 100))));

/// As an operator wants it.
TEST(NodeStart, ByItselfOrNever) {
    SimNodesOptions options;
    options.start_wait_ms = 0;
    SimNodes nodes(options);
    nodes.start();
    nodes.stop(0);
    nodes.begin(0);
    nodes.begin(2);
    nodes.loop().run_for(seconds(600));
    EXPECT_FALSE(nodes.has_begun(0));
    nodes.begin(1);
    nodes.wait_until_all_serve();
    nodes.stop(0);
}

}  // namespace
}  // namespace braid::sim
