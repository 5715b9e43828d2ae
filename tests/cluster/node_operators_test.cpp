// SPDX-License-Identifier: BSD-3-Clause
// Operators kill nodes and resume them: the others go on, a killed node stays out however often it is
// started, whoever decides meanwhile, and what cannot be is refused.
#include <string>
#include <vector>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

class NodeOperatorsTest : public NodeReturnKit {
  protected:
    Checked<Unit> kill(std::uint32_t at, std::uint32_t node) {
        return loop().run_until_done(nodes_.array(at).order_node(NodeOrder::kill, node + 1));
    }
    Checked<Unit> resume(std::uint32_t at, std::uint32_t node) {
        return loop().run_until_done(nodes_.array(at).order_node(NodeOrder::resume, node + 1));
    }
    static std::string text_of(const Checked<Unit>& done) {
        return done ? "done" : done.error().text;
    }
    void expect_refused(const Checked<Unit>& done, const std::string& why) {
        EXPECT_NE(text_of(done).find(why), std::string::npos) << text_of(done);
    }
    bool decides(std::uint32_t node) { return nodes_.node(node).is_master(); }
    std::uint32_t any_but(std::uint32_t victim) {
        const auto other = static_cast<std::uint32_t>(below(nodes_.nodes() - 1));
        return other < victim ? other : other + 1;
    }
    void wait_until_stopped(std::uint32_t victim) {
        nodes_.run_until(
            [&] { return nodes_.log(victim).find("the array stops here") != std::string::npos; },
            "it stops");
    }
    void expect_killed_everywhere(std::uint32_t victim) {
        loop().run_for(seconds(3));
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == victim) continue;
            const ArrayStatus status = nodes_.array(node).status();
            ASSERT_GT(status.nodes.size(), victim);
            EXPECT_TRUE(status.nodes[victim].excluded) << "at " << node;
            EXPECT_TRUE(status.nodes[victim].killed) << "at " << node;
        }
    }
    /// Its server ends, is started anew, and waits in vain.
    void start_in_vain(std::uint32_t victim) {
        begin_anew(victim);
        loop().run_for(seconds(20));
        EXPECT_FALSE(nodes_.has_begun(victim));
    }
};

TEST_P(NodeOperatorsTest, AKilledNodeStaysOutUntilItIsResumed) {
    const std::uint32_t victim = start_and_choose();
    begin_load(2 * nodes_.nodes(), 60);
    loop().run_for(millis(below(300)));
    const Checked<Unit> killed = kill(any_but(victim), victim);
    ASSERT_TRUE(killed) << killed.error().text;
    wait_until_stopped(victim);
    expect_killed_everywhere(victim);
    EXPECT_EQ(nodes_.array(master_).status().nodes[victim].why, "was killed by an operator");
    start_in_vain(victim);
    EXPECT_NE(nodes_.log(master_).find("braid node resume " + std::to_string(victim + 1)),
              std::string::npos)
        << nodes_.log(master_);
    expect_refused(kill(any_but(victim), victim), "has been killed already");
    const Checked<Unit> resumed = resume(any_but(victim), victim);
    ASSERT_TRUE(resumed) << resumed.error().text;
    wait_until_in(victim);
    expect_refused(resume(victim, victim), "was not killed");
    end_whole(victim);
}

/// It has said that it serves no more: its lease is not waited for, and none of its reads is old. (Of these
/// networks some let through a KiB at a time, by which 64 KiB of metadata take more than a tenth of a second.)
TEST_P(NodeOperatorsTest, TheOthersGoOnAtOnce) {
    const std::uint32_t victim = start_and_choose();
    for (int i = 0; i != 4; ++i) loop().tasks().spawn(read_at_home(victim));
    begin_load(3 * nodes_.nodes(), 1000);
    loop().run_for(millis(below(300)));
    const std::uint64_t begin = loop().now().value;
    const Checked<Unit> killed = kill(any_but(victim), victim);
    ASSERT_TRUE(killed) << killed.error().text;
    const std::uint64_t pause = loop().now().value - begin;
    EXPECT_LT(pause, millis(200).value);
    loop().run_for(seconds(2));
    EXPECT_NE(nodes_.log(victim).find("the array stops here"), std::string::npos);
    load_ends_ = true;
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    expect_nothing_lost(victim);
    end_all(victim);
}

/// The next one who decides knows of it, too.
TEST_P(NodeOperatorsTest, TheOneWhoDecidesIsKilled) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t victim = master_;
    clients_.let_fail_at(victim);
    begin_load(2 * nodes_.nodes(), 60);
    loop().run_for(millis(below(300)));
    const Checked<Unit> killed = kill(any_but(victim), victim);
    if (GetParam().homes == 0) {
        ASSERT_TRUE(killed) << killed.error().text;
    }
    wait_until_stopped(victim);
    const auto somebody_decides = [&] {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node != victim && decides(node)) return true;
        }
        return false;
    };
    nodes_.run_until(somebody_decides, "somebody decides");
    nodes_.run_until([&] { return nodes_.is_excluded(victim); }, "its server ends");
    loop().run_for(seconds(5));
    expect_killed_everywhere(victim);
    start_in_vain(victim);
    const Checked<Unit> resumed = resume(any_but(victim), victim);
    ASSERT_TRUE(resumed) << resumed.error().text;
    wait_until_in(victim);
    EXPECT_FALSE(decides(victim));
    end_whole(victim);
}

TEST_P(NodeOperatorsTest, WhatCannotBeIsRefused) {
    const std::uint32_t victim = start_and_choose();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        expect_refused(kill(node, nodes_.nodes()), "there is no node");
        expect_refused(kill(node, node), "is the one that was asked");
        expect_refused(resume(node, victim), "was not killed");
        expect_refused(resume(node, 29), "there is no node 30");
    }
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    const std::uint32_t other = any_but(victim);
    expect_refused(resume(other, victim), "let in as soon as its server is started anew");
    // One that is out already is kept out.
    ASSERT_TRUE(kill(other, victim));
    start_in_vain(victim);
    if (GetParam().level != Level::raid6) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == victim || node == other) continue;
            expect_refused(kill(other, node), "cannot go on without node");
        }
    }
    ASSERT_TRUE(resume(other, victim));
    wait_until_in(victim);
    end_whole(victim);
}

/// What each node shows of who may go just now is what an order would be told.
TEST_P(NodeOperatorsTest, WhoIsNeededIsShownEverywhere) {
    nodes_.start();
    const auto needed = [&] {
        loop().run_for(seconds(3));
        std::vector<bool> of_first;
        for (std::uint32_t at = 0; at != nodes_.nodes(); ++at) {
            std::vector<bool> seen;
            for (const NodeStatus& node : nodes_.array(at).status().nodes) {
                seen.push_back(node.needed);
            }
            EXPECT_EQ(seen.size(), nodes_.nodes()) << at;
            if (at == 0) of_first = seen;
            EXPECT_EQ(seen, of_first) << at;
        }
        return of_first;
    };
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(needed()[node], !others_go_on_without(node)) << node;
    }
    // As many as the level can lose: now whoever has one that is left is needed.
    const std::uint32_t lost = GetParam().level == Level::raid6 ? 2 : 1;
    for (std::uint32_t member = 0; member != lost; ++member) {
        const auto failed =
            loop().run_until_done(nodes_.array(0).fail_member(std::to_string(member), Force::no));
        if (!failed) return nodes_.stop(0);  // of four, the one that breaks ties
    }
    const std::vector<bool> now = needed();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        bool has_any = false;
        for (std::uint32_t member = lost; member != GetParam().members; ++member) {
            has_any |= nodes_.home_of(member) == node;
        }
        EXPECT_EQ(now[node], has_any) << node;
        if (now[node]) expect_refused(kill(any_but(node), node), "cannot go on without node");
    }
    nodes_.stop(0);
}

/// All were stopped, or had no power, and one is not there any more. The others go on without it, and it
/// is let in when it comes.
TEST_P(NodeOperatorsTest, AStartWithoutOne) {
    nodes_.start();
    begin_load(2 * nodes_.nodes(), 30);
    end_load();
    const std::uint32_t homes = GetParam().homes;  // the level needs those
    const auto victim = static_cast<std::uint32_t>(homes + below(nodes_.nodes() - homes));
    const bool has_power = below(2) == 0;
    if (has_power) {
        nodes_.stop(0);
    } else {  // and nothing is in doubt
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            EXPECT_TRUE(nodes_.flush(node));
        }
        loop().run_for(seconds(60));
        nodes_.lose_power();
    }
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node != victim) nodes_.begin(node);
    }
    loop().run_for(seconds(5));
    const std::uint32_t at = any_but(victim);
    EXPECT_FALSE(nodes_.has_begun(at));
    const auto without = [&](std::uint32_t node) {
        return loop().run_until_done(nodes_.node(at).start_without({node + 1}));
    };
    expect_refused(without(at), "is this one");
    expect_refused(without(any_but(at) == victim ? at : any_but(victim)), "is ");
    expect_refused(without(29), "there is no node 30");
    const Checked<Unit> done = without(victim);
    ASSERT_TRUE(done) << done.error().text;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        nodes_.run_until([&] { return nodes_.has_begun(node); }, "it serves");
        ASSERT_EQ(nodes_.refusal(node), "") << nodes_.log(node);
    }
    expect_refused(without(victim), "does not wait");
    const std::uint32_t decider = victim == master_ ? master_ - 1 : master_;
    EXPECT_TRUE(decides(decider));
    clients_.let_fail_at(victim);
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(below(500)));
    nodes_.begin(victim);
    wait_until_in(victim);
    master_ = decider;
    end_whole(victim);
}

/// Not enough are there.
TEST_P(NodeOperatorsTest, AStartWithoutTooManyIsRefused) {
    if (GetParam().nodes != 3) return;
    nodes_.start();
    nodes_.stop(0);
    nodes_.begin(0);
    loop().run_for(seconds(1));
    ASSERT_TRUE(loop().run_until_done(nodes_.node(0).start_without({2, 3})));
    nodes_.run_until([&] { return nodes_.has_begun(0); }, "its start is over");
    EXPECT_NE(nodes_.refusal(0).find("1 of its 3 members are usable"), std::string::npos)
        << nodes_.refusal(0);
    nodes_.end_servers();
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeOperatorsTest,
                         testing::ValuesIn(death_shapes(seeds_of(4, 100))));

}  // namespace
}  // namespace braid::sim
