// SPDX-License-Identifier: BSD-3-Clause
// A node leaves by order: its clients see nothing worse than that their server is shut down, the
// others go on at once, whoever decides, and it is let in when its server is started again. Where it
// cannot leave nothing has happened; and whoever dies in between, the cluster is as it would be without
// the order, or with it.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

class NodeLeaveTest : public NodeReturnKit {
  protected:
    Task<Checked<Unit>> stop_at(std::uint32_t at, std::uint32_t node) {
        return nodes_.array(at).order_node(NodeOrder::stop, node + 1);
    }
    Checked<Unit> stop(std::uint32_t at, std::uint32_t node) {
        return loop().run_until_done(stop_at(at, node));
    }
    void expect_refused(const Checked<Unit>& done, const std::string& why) {
        const std::string text = done ? "done" : done.error().text;
        EXPECT_NE(text.find(why), std::string::npos) << text;
    }
    std::uint32_t any() { return static_cast<std::uint32_t>(below(nodes_.nodes())); }

    /// Asks one thing after another. Of who leaves nothing fails but because it is shut down; of all
    /// others nothing does, and none takes longer than what is noted.
    Task<void> steady_client(std::uint32_t node, std::uint32_t leaves) {
        ++working_;
        Buffer data(row_size);  // zeroes, as everything is yet
        while (!load_ends_) {
            const std::uint64_t begin = loop().now().value;
            IoRequest request;
            request.kind = below(2) == 0 ? IoKind::write : IoKind::read;
            // Of its own: nobody else writes there.
            request.offset = {node * row_size};
            request.size = row_size;
            request.data = data.data();
            const Result<void> done = co_await nodes_.ask(node, request);
            if (!done) {
                EXPECT_EQ(node, leaves) << done.error().text();
                EXPECT_EQ(done.error().code, Errc::fenced) << done.error().text();
                if (done.error().code == Errc::fenced) ++refused_;
                break;
            }
            if (node != leaves) longest_ = std::max(longest_, loop().now().value - begin);
            Timer timer(loop(), Nanos{loop().now().value + 1 + below(2'000'000)});
            co_await timer;
        }
        --working_;
    }
    void begin_steady(std::uint32_t leaves) {
        for (std::uint32_t i = 0; i != 3 * nodes_.nodes(); ++i) {
            loop().tasks().spawn(steady_client(i % nodes_.nodes(), leaves));
        }
    }
    /// By order, while clients work at all nodes.
    void leaves_under_load(std::uint32_t victim) {
        begin_steady(victim);
        // What is usual shows in as much time as is looked at afterwards.
        loop().run_for(Nanos{seconds(4).value + millis(200 + below(300)).value});
        const std::uint64_t usual = longest_;
        // Who comes to decide reads all members' metadata first, each on disks of a millisecond, and begins
        // once more where two have the same in mind.
        const std::uint64_t pause = nodes_.node(victim).is_master() ? 500 : 200;
        const Checked<Unit> done = stop(any(), victim);
        ASSERT_TRUE(done) << done.error().text;
        loop().run_for(seconds(4));
        load_ends_ = true;
        end_load();
        load_ends_ = false;
        EXPECT_GT(refused_, 0u);
        EXPECT_LT(longest_, usual + millis(pause).value);
        EXPECT_TRUE(nodes_.is_left(victim));
        EXPECT_NE(nodes_.log(victim).find("left by order: the array stops here"),
                  std::string::npos);
    }
    std::uint32_t who_decides() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (!nodes_.is_left(node) && nodes_.node(node).is_master()) return node;
        }
        return ~0U;
    }
    void expect_left(std::uint32_t victim) {
        expect_nothing_lost(victim);
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == victim) continue;
            const NodeStatus about = nodes_.array(node).status().nodes[victim];
            EXPECT_TRUE(about.excluded && !about.killed) << node;
            EXPECT_EQ(about.why, "left by order") << node;
            EXPECT_EQ(nodes_.log(node).find("excluded"), std::string::npos) << nodes_.log(node);
            EXPECT_EQ(nodes_.log(node).find("failed"), std::string::npos) << nodes_.log(node);
        }
    }
    void comes_back(std::uint32_t victim) {
        clients_.let_fail_at(victim);
        begin_load(2 * nodes_.nodes(), 40);
        nodes_.restart(victim);
        wait_until_in(victim);
        end_whole(victim);
    }
    bool is_out(std::uint32_t node) {
        return nodes_.is_left(node) || nodes_.is_excluded(node) ||
               nodes_.log(node).find("the array stops") != std::string::npos;
    }
    bool is_whole() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (!nodes_.has_begun(node) || !nodes_.refusal(node).empty() || is_out(node)) {
                return false;
            }
            const ArrayStatus status = nodes_.array(node).status();
            if (status.health != Health::clean || !status.walks.empty()) return false;
            for (const NodeStatus& of : status.nodes) {
                if (of.excluded) return false;
            }
        }
        return true;
    }
    /// As whoever starts servers anew that have ended, until all serve.
    void start_who_ended() {
        for (int i = 0; i != 200 && !is_whole(); ++i) {
            loop().run_for(millis(500));
            for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
                if (nodes_.has_begun(node) && is_out(node)) nodes_.restart(node);
            }
        }
        ASSERT_TRUE(is_whole()) << nodes_.logs();
    }
    void end_settled() {
        end_load();
        loop().run_for(seconds(3));
        ASSERT_TRUE(is_whole()) << nodes_.logs();
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
        }
        clients_.check(nodes_.nodes());
        nodes_.stop(0);
        nodes_.expect_parity();
    }
    Task<void> order(std::uint32_t at, std::uint32_t node) {
        const Checked<Unit> done = co_await stop_at(at, node);
        told_ = done ? "done" : done.error().text;
    }

    std::uint64_t longest_{0};  // nanoseconds
    std::uint64_t refused_{0};
    std::string told_;
};

TEST_P(NodeLeaveTest, TheOthersGoOnAtOnceAndItIsLetInAgain) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t victim = choose_victim();
    leaves_under_load(victim);
    EXPECT_EQ(who_decides(), master_);
    expect_left(victim);
    comes_back(victim);
}

TEST_P(NodeLeaveTest, TheOneWhoDecides) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t victim = master_;
    leaves_under_load(victim);
    EXPECT_EQ(who_decides(), master_ - 1);
    expect_left(victim);
    comes_back(victim);
}

/// One after the other, as whoever has all hosts begin anew does it; and none is taken for one that
/// goes again and again.
TEST_P(NodeLeaveTest, AllInTurn) {
    nodes_.start();
    loop().run_for(seconds(1));
    for (int round = 0; round != 3; ++round) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (!others_go_on_without(node)) continue;
            clients_.let_fail_at(node);
            begin_load(2 * nodes_.nodes(), 10);
            loop().run_for(millis(below(50)));
            const Checked<Unit> done = stop(node, node);
            ASSERT_TRUE(done) << done.error().text;
            end_load();
            nodes_.restart(node);
            wait_until_in(node);
            nodes_.run_until([&] { return is_whole(); }, "it is whole");
            clients_.let_nothing_fail_at(node);
        }
    }
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(nodes_.log(node).find("again and again"), std::string::npos) << node;
    }
    end_settled();
}

/// What clients of the others read is never older than what clients of the one that leaves have been
/// told, and the other way.
TEST_P(NodeLeaveTest, NothingOldIsRead) {
    const std::uint32_t victim = start_and_choose();
    for (int i = 0; i != 4; ++i) loop().tasks().spawn(read_at_home(victim));
    begin_load(3 * nodes_.nodes(), 1000);
    loop().run_for(millis(below(300)));
    const Checked<Unit> done = stop(any(), victim);
    ASSERT_TRUE(done) << done.error().text;
    loop().run_for(seconds(3));
    load_ends_ = true;
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    expect_nothing_lost(victim);
    end_all(victim);
}

TEST_P(NodeLeaveTest, WhatCannotBeIsRefused) {
    const std::uint32_t victim = start_and_choose();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        expect_refused(stop(node, nodes_.nodes()), "there is no node");
    }
    ASSERT_TRUE(stop(any(), victim));
    loop().run_for(seconds(2));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        expect_refused(stop(node, victim), "is out already");
        // Of three members one is lost, and none can go.
        if (GetParam().level == Level::raid6) continue;
        expect_refused(stop(node, node), "cannot go on without node");
        expect_refused(stop(master_, node), "cannot go on without node");
    }
    nodes_.restart(victim);
    wait_until_in(victim);
    end_whole(victim);
}

/// What its clients have asked does not end: it goes on as before, and they wait, and no more.
TEST_P(NodeLeaveTest, WhereRequestsDoNotEndItStays) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t victim = below(2) == 0 ? master_ : choose_victim();
    begin_load(4 * nodes_.nodes(), 20);
    for (std::uint32_t i = 0; i != GetParam().members; ++i) {
        nodes_.platter(i).delay_nanos = seconds(2).value;
    }
    loop().run_for(millis(50));
    const std::uint64_t begin = loop().now().value;
    expect_refused(stop(any(), victim), "is not over after 1200 ms");
    EXPECT_LT(loop().now().value - begin, millis(1300).value);
    for (std::uint32_t i = 0; i != GetParam().members; ++i) nodes_.platter(i).delay_nanos = 0;
    end_settled();
}

TEST_P(NodeLeaveTest, TwoAtOnce) {
    nodes_.start();
    loop().run_for(seconds(1));
    clients_.let_fail();
    begin_load(2 * nodes_.nodes(), 30);
    const std::uint32_t first = any();
    const std::uint32_t second = any();
    loop().tasks().spawn(order(any(), first));
    loop().run_for(millis(below(4)));
    if (!nodes_.is_left(second)) (void)stop(any(), second);
    loop().run_for(seconds(2));
    std::uint32_t left = 0;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) left += nodes_.is_left(node);
    EXPECT_LE(left, 2u);
    if (GetParam().level != Level::raid6) {
        EXPECT_LE(left, 1u);
    }
    start_who_ended();
    end_settled();
}

/// The server of any node is told to stop meanwhile: the array ends on all.
TEST_P(NodeLeaveTest, TheArrayIsStoppedMeanwhile) {
    nodes_.start();
    loop().run_for(seconds(1));
    clients_.let_fail();
    begin_load(2 * nodes_.nodes(), 30);
    const std::uint32_t victim =
        others_go_on_without(master_) && below(2) == 0 ? master_ : choose_victim();
    loop().tasks().spawn(order(any(), victim));
    loop().run_for(Nanos{below(3'000'000)});
    const std::uint32_t ends = any();
    nodes_.begin_to_end(ends);
    nodes_.run_until([&] { return nodes_.has_left(ends); }, "it ends");
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.begin_to_end(node);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        nodes_.run_until([&] { return nodes_.has_left(node); }, "it ends");
    }
    end_load();
    nodes_.end_servers();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeLeaveTest, testing::ValuesIn(death_shapes(seeds_of(4, 100))));

/// Whoever has a part in it falls silent at any moment: the one that leaves, the one that decides, or
/// the one that was asked.
class NodeLeaveDeathTest : public NodeLeaveTest {
  protected:
    void goes_meanwhile(std::uint32_t victim, std::uint32_t at, std::uint32_t who) {
        clients_.let_fail_at(victim);
        clients_.let_fail_at(who);
        begin_load(3 * nodes_.nodes(), 60);
        for (std::uint32_t i = 0; i != GetParam().members; ++i) {
            nodes_.platter(i).delay_nanos = below(10'000'000);
        }
        loop().run_for(millis(20 + below(50)));
        loop().tasks().spawn(order(at, victim));
        loop().run_for(Nanos{below(below(2) == 0 ? 4'000'000 : 80'000'000)});
        if (below(2) == 0) {
            for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
                if (node != who) nodes_.cut(who, node);
            }
        }
        nodes_.isolate(who);
        loop().run_for(seconds(3) /* they have gone on */);
        nodes_.release(who);
        start_who_ended();
        end_settled();
        EXPECT_NE(told_, "") << "who ordered it has no answer";
    }
};

TEST_P(NodeLeaveDeathTest, TheOneThatLeaves) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t victim = any();
    goes_meanwhile(victim, any(), victim);
}
TEST_P(NodeLeaveDeathTest, TheOneThatDecides) {
    nodes_.start();
    loop().run_for(seconds(1));
    goes_meanwhile(any(), any(), master_);
}
TEST_P(NodeLeaveDeathTest, AnyOther) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t at = any();
    goes_meanwhile(any(), at, below(2) == 0 ? at : any());
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeLeaveDeathTest, testing::ValuesIn(one_member_each()));

}  // namespace
}  // namespace braid::sim
