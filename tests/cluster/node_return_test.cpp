// SPDX-License-Identifier: BSD-3-Clause
// A node that was excluded begins anew, and is let in while the others serve: its clients and theirs
// see one register, its members come back, and no row is lost or in doubt.
#include <string>
#include <vector>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

class NodeReturnTest : public NodeReturnKit {
  protected:
    explicit NodeReturnTest(SimNodesOptions how = {}) : NodeReturnKit(how) {}

    Task<void> release(std::uint32_t node) {
        EXPECT_TRUE(co_await nodes_.array(node).release("data"));
    }
};

TEST_P(NodeReturnTest, UnderLoad) {
    const std::uint32_t victim = lose_one();
    begin_load(2 * nodes_.nodes(), 200);
    loop().run_for(millis(below(50)));
    begin_anew(victim);
    wait_until_in(victim);
    end_load();
    clients_.let_nothing_fail_at(victim);
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(below(300)));
    wait_until_whole();
    end_load();
    expect_whole();
    clients_.check(nodes_.nodes());
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) EXPECT_TRUE(nodes_.flush(node));
    nodes_.stop(victim);
    nodes_.start();
    clients_.check(nodes_.nodes());
    expect_whole();
    nodes_.stop(0);
}

/// Again and again, at any moment of its coming back.
TEST_P(NodeReturnTest, ItGoesAgainInTheMiddle) {
    const std::uint32_t victim = lose_one();
    for (int round = 0; round != 3; ++round) {
        begin_load(2 * nodes_.nodes(), 30);
        begin_anew(victim);
        loop().run_for(millis(below(round == 0 ? 3000 : 700)));
        nodes_.isolate(victim);
        if (below(2) == 0) loop().run_for(seconds(2));
        if (!nodes_.has_begun(victim)) {
            nodes_.end(victim);
        } else {
            loop().run_for(seconds(15));  // it has waited for too long, and says so
        }
    }
    begin_anew(victim);
    wait_until_in(victim);
    end_whole(victim);
}

TEST_P(NodeReturnTest, ThenThePowerGoes) {
    const std::uint32_t victim = lose_one();
    end_load();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const bool durable = node == victim || nodes_.flush(node);
        EXPECT_TRUE(durable) << node;
    }
    loop().run_for(seconds(60));  // nothing is marked any more
    begin_anew(victim);
    loop().run_for(millis(below(2500)));
    clients_.let_fail();
    nodes_.lose_power();
    nodes_.start();
    clients_.check(nodes_.nodes());
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
    }
    nodes_.stop(0);
}

TEST_P(NodeReturnTest, WhatOthersHaveForThemselvesItIsTold) {
    const std::uint32_t victim = lose_one();
    end_load();
    const std::uint32_t holder = victim == 0 ? 1 : 0;
    ASSERT_TRUE(loop().run_until_done(nodes_.array(holder).reserve("data")));
    begin_anew(victim);
    loop().run_for(millis(below(1200)));
    const bool lets_go = below(2) == 0;
    if (lets_go) {
        loop().tasks().spawn(release(holder));
        loop().run_for(millis(below(400)));
    }
    wait_until_in(victim);
    clients_.let_nothing_fail_at(victim);
    if (!lets_go) {
        const std::uint64_t refused = clients_.refused();
        loop().run_until_done(clients_.read(victim, 0, sector_size));
        EXPECT_EQ(clients_.refused(), refused + 1);
        loop().run_until_done(clients_.write(holder, 0, sector_size));
        ASSERT_TRUE(loop().run_until_done(nodes_.array(holder).release("data")));
    }
    begin_load(2 * nodes_.nodes(), 20);
    end_load();
    ASSERT_TRUE(loop().run_until_done(nodes_.array(victim).reserve("data")));
    ASSERT_TRUE(loop().run_until_done(nodes_.array(victim).release("data")));
    wait_until_whole();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// A node that flaps: each time it is let in later; and at once again when it has stayed for a while.
TEST_P(NodeReturnTest, WhoGoesAgainAndAgainIsLetInLater) {
    const std::uint32_t victim = lose_one();
    end_load();
    const auto goes_and_comes = [&] {
        nodes_.isolate(victim);
        nodes_.run_until([&] { return nodes_.array(master_).status().nodes[victim].excluded; },
                         "it is excluded");
        const std::uint64_t excluded = loop().now().value;
        begin_anew(victim);
        wait_until_in(victim);
        return (loop().now().value - excluded) / millis(1).value;
    };
    begin_anew(victim);
    wait_until_in(victim);
    std::vector<std::uint64_t> waited;
    for (int round = 0; round != 5; ++round) {
        wait_until_whole();
        waited.push_back(goes_and_comes());
    }
    EXPECT_LT(waited[0], 3000u);  // once is no habit
    EXPECT_GE(waited[1], 1000u);
    EXPECT_GE(waited[2], 2000u);
    EXPECT_GE(waited[3], 4000u);
    EXPECT_GE(waited[4], 8000u);
    EXPECT_LT(waited[4], 12000u);
    EXPECT_NE(
        nodes_.log(master_).find(fmt::format(
            "node {} goes again and again: it is let in after 8 s at the earliest", victim + 1)),
        std::string::npos);
    wait_until_whole();
    loop().run_for(seconds(61));
    EXPECT_LT(goes_and_comes(), 3000u);
    end_whole(victim);
}

TEST_P(NodeReturnTest, TheArrayStopsMeanwhile) {
    const std::uint32_t victim = lose_one();
    end_load();
    begin_anew(victim);
    loop().run_for(millis(below(1500)));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        EXPECT_TRUE(loop().run_until_done(nodes_.array(node).stop())) << nodes_.log(node);
    }
    if (nodes_.has_begun(victim)) {
        if (nodes_.refusal(victim).empty()) {
            EXPECT_TRUE(loop().run_until_done(nodes_.array(victim).stop()));
        }
    } else {
        nodes_.end(victim);
    }
    nodes_.end_servers();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeReturnTest, testing::ValuesIn(death_shapes(seeds_of(8, 200))));

/// What others work at goes on: a rebuild, or a new array's first resync, where the node has no members.
class NodeReturnWalkTest : public NodeReturnTest {
  protected:
    NodeReturnWalkTest() : NodeReturnTest({.stripes = 64, .zero_fast = GetParam().homes == 0}) {}
};

TEST_P(NodeReturnWalkTest, AWalkIsUnderWay) {
    for (std::uint32_t i = 0; i != GetParam().members; ++i) {
        nodes_.platter(i).delay_nanos = millis(1 + below(4)).value;
    }
    nodes_.start();
    std::uint32_t victim = choose_victim();
    const bool is_resync = GetParam().homes != 0;
    if (is_resync) {
        loop().run_for(millis(below(200)));
    } else {
        constexpr std::uint32_t role = 3;  // of the one who decides
        const auto failed = loop().run_until_done(
            nodes_.array(master_).fail_member(std::to_string(role), Force::no));
        ASSERT_TRUE(failed) << failed.error().text;
        const auto fresh = nodes_.make_platter();
        const auto added = loop().run_until_done(
            nodes_.array(master_).add_member(nodes_.disk(fresh, "fresh"), Force::no));
        ASSERT_TRUE(added) << added.error().text;
        nodes_.set_platter(role, fresh);
        victim = 2;  // with one member
    }
    clients_.let_fail_at(victim);
    begin_load(2 * nodes_.nodes(), 60);
    loop().run_for(millis(20 + below(200)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    begin_anew(victim);
    wait_until_in(victim);
    clients_.let_nothing_fail_at(victim);
    end_load();
    begin_load(2 * nodes_.nodes(), 20);
    end_load();
    nodes_.run_until([&] { return !nodes_.array(master_).status().in_doubt; }, "all is true");
    end_whole(victim);
}

INSTANTIATE_TEST_SUITE_P(
    Seeds, NodeReturnWalkTest,
    testing::ValuesIn(with_seeds(seeds_of(8, 200),
                                 {{.level = Level::raid6, .members = 6, .nodes = 4},
                                  {.level = Level::raid6, .members = 6, .nodes = 4, .homes = 2}})));

class NodesReturnTest : public NodeReturnTest {};

/// A level that can do without two: the other one goes while the first is let in, or both at once.
TEST_P(NodesReturnTest, AnotherOneGoesMeanwhile) {
    const std::uint32_t first = lose_one();
    const std::uint32_t second =
        (first + 1 + static_cast<std::uint32_t>(below(master_ - 1))) % master_;
    clients_.let_fail_at(second);
    begin_load(2 * nodes_.nodes(), 40);
    begin_anew(first);
    loop().run_for(millis(below(800)));
    nodes_.isolate(second);
    wait_until_in(first);
    nodes_.run_until([&] { return state(master_, second) == MemberState::missing; }, "it is out");
    loop().run_for(millis(below(2000)));
    begin_anew(second);
    wait_until_in(second);
    end_load();
    clients_.let_nothing_fail_at(first);
    clients_.let_nothing_fail_at(second);
    begin_load(2 * nodes_.nodes(), 20);
    end_whole(second);
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodesReturnTest, testing::ValuesIn(one_member_each(32)));

}  // namespace
}  // namespace braid::sim
