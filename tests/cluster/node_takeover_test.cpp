// SPDX-License-Identifier: BSD-3-Clause
// The node that decides is cut off, or begins anew, and another one comes to decide: clients of the
// others see a pause and no error, what any client saw is what one register shows, no row is lost or in
// doubt, and whatever the former one had begun comes to one end on all nodes.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/cluster/node_takeover_kit.h"

namespace braid::sim {
namespace {

TEST_P(NodeTakeoverTest, TheOthersGoOnAndNothingIsLost) {
    start_all();
    const std::uint32_t victim = lose_master();
    expect_others_serve(victim);
}

/// Every node shows who decides and why, one fence, and one epoch; and what lease it has itself.
TEST_P(NodeTakeoverTest, WhoDecidesAndWhyIsShownEverywhere) {
    start_all();
    const auto expect_shown = [&](std::uint32_t decides, const std::string& why,
                                  std::uint32_t but) {
        loop().run_for(seconds(3));
        const ArrayStatus deciding = nodes_.array(decides).status();
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == but) continue;
            const ArrayStatus status = nodes_.array(node).status();
            ASSERT_TRUE(status.cluster) << node;
            EXPECT_EQ(status.cluster->decides, decides + 1) << node;
            EXPECT_NE(status.cluster->why_decides.find(why), std::string::npos)
                << node << ": " << status.cluster->why_decides;
            EXPECT_EQ(status.cluster->fence, deciding.cluster->fence) << node;
            EXPECT_EQ(status.configuration.version, deciding.configuration.version) << node;
            EXPECT_EQ(status.cluster->needs_lease, !goes_on_alone(node)) << node;
            if (!status.cluster->needs_lease) continue;
            ASSERT_TRUE(status.cluster->lease) << node;
            EXPECT_LE(status.cluster->lease->value, millis(lease_ms_default).value) << node;
        }
    };
    const std::uint32_t victim = master_;
    expect_shown(victim, "comes first", nodes_.nodes());
    const std::uint64_t fence = nodes_.array(victim).status().cluster->fence;
    ASSERT_EQ(lose_master(), victim);
    const std::string was_lost = fmt::format("since node {} was not heard", victim + 1);
    expect_shown(master_, was_lost, victim);
    EXPECT_GT(nodes_.array(master_).status().cluster->fence, fence);
    if (!goes_on_alone(victim)) {
        EXPECT_FALSE(nodes_.array(victim).status().cluster->lease);
    }
    begin_anew(victim);
    wait_until_in(victim);
    expect_shown(master_, "", nodes_.nodes());
    EXPECT_NE(nodes_.array(victim).status().cluster->why_decides.find("when this node came"),
              std::string::npos);
    end_load();
    nodes_.stop(0);
}

/// Nobody can tell it, and its clients read what it has at home, until its lease has run out.
TEST_P(NodeTakeoverTest, CutOffItAnswersNothingOld) {
    start_all();
    const std::uint32_t victim = master_;
    begin_load(4 * nodes_.nodes(), 1'000'000);
    for (int i = 0; i != 4; ++i) loop().tasks().spawn(read_at_home(victim));
    loop().run_for(millis(10 + below(300)));
    nodes_.isolate(victim);
    wait_until_decides(victim - 1);
    loop().run_for(millis(500));
    load_ends_ = true;
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// What it sends is heard: it would take another one with it, whose stamps were late before.
TEST_P(NodeTakeoverTest, OneThatHearsNobodyExcludesNobody) {
    start_all();
    const std::uint32_t victim = master_;
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(300)));
    const auto late = static_cast<std::uint32_t>(below(victim));
    nodes_.hold_way(late, victim);
    loop().run_for(millis(below(900)));
    nodes_.hold_sent_to(victim);
    wait_until_decides(victim - 1);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        EXPECT_EQ(nodes_.log(victim).find(fmt::format("node {} has not answered", node + 1)),
                  std::string::npos)
            << nodes_.log(victim);
    }
    expect_others_serve(victim);
}

/// And the next one goes as well, when the first is back: now that decides again.
TEST_P(NodeTakeoverTest, ItComesBackAndTheNextOneGoes) {
    start_all();
    const std::uint32_t first = lose_master();
    loop().run_for(millis(below(3000)));
    begin_load(2 * nodes_.nodes(), 40);
    begin_anew(first);
    wait_until_in(first);
    end_load();
    clients_.let_nothing_fail_at(first);
    wait_until_whole();
    clients_.check(nodes_.nodes());
    if (!others_go_on_without(master_)) return nodes_.stop(0);
    const std::uint32_t second = master_;
    clients_.let_fail_at(second);
    begin_load(2 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(100)));
    nodes_.isolate(second);
    wait_until_decides(first);
    loop().run_for(millis(below(2000)));
    begin_anew(second);
    wait_until_in(second);
    end_load();
    clients_.let_nothing_fail_at(second);
    wait_until_whole();
    clients_.check(nodes_.nodes());
    nodes_.stop(second);
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodeTakeoverTest, AfterwardsThePowerGoes) {
    start_all();
    const std::uint32_t victim = lose_master();
    end_load();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        EXPECT_TRUE(nodes_.flush(node));
    }
    loop().run_for(millis(below(90'000)));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        EXPECT_TRUE(nodes_.flush(node));
    }
    clients_.let_fail();
    nodes_.lose_power();
    nodes_.release(victim);
    nodes_.start();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodeTakeoverTest, WhatItHadForItselfIsSharedAgain) {
    start_all();
    const std::uint32_t victim = master_;
    ASSERT_TRUE(loop().run_until_done(nodes_.array(victim).reserve("data")));
    begin_load(2 * nodes_.nodes(), 30);  // of the others nothing is let in
    loop().run_for(millis(10 + below(60)));
    nodes_.isolate(victim);
    wait_until_decides(victim - 1);
    loop().run_for(seconds(3));
    const std::uint64_t refused = clients_.refused();
    begin_load(nodes_.nodes(), 20);
    loop().run_for(seconds(3));
    EXPECT_EQ(clients_.refused(), refused);
    clients_.check(nodes_.nodes(), victim);
    ASSERT_TRUE(loop().run_until_done(nodes_.array(0).reserve("data")));
    ASSERT_TRUE(loop().run_until_done(nodes_.array(0).release("data")));
    end_all(victim);
}

/// It is away for a moment, and so may others be: nobody decides in its place.
TEST_P(NodeTakeoverTest, ItWasAwayForAMomentOnly) {
    nodes_.start();
    loop().run_for(seconds(1));
    for (int round = 0; round != 4; ++round) {
        begin_load(2 * nodes_.nodes(), 20);
        loop().run_for(millis(10 + below(50)));
        nodes_.isolate(master_);
        loop().run_for(millis(below(600)));
        nodes_.release(master_);
        end_load();
        loop().run_for(seconds(2));
    }
    EXPECT_TRUE(decides(master_));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(nodes_.log(node).find("from now on"), std::string::npos) << node;
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// The next one alone does not hear it: others do, and so it stays, and he leaves.
TEST_P(NodeTakeoverTest, OnlyOneDoesNotHearIt) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t next = master_ - 1;
    if (!others_go_on_without(next)) GTEST_SKIP() << "it is needed";
    clients_.let_fail_at(next);
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(10 + below(60)));
    nodes_.part(master_, next);
    nodes_.run_until([&] { return goes_on_without(next, 0); }, "it is excluded");
    loop().run_for(seconds(3));
    EXPECT_TRUE(decides(master_));
    EXPECT_EQ(nodes_.log(next).find("from now on"), std::string::npos) << nodes_.log(next);
    clients_.check(nodes_.nodes(), next);
    end_all(next);
}

/// Something that the former one has begun is under way: it comes to one end, everywhere.
TEST_P(NodeTakeoverTest, AnOrderIsUnderWay) {
    if (GetParam().level != Level::raid6) GTEST_SKIP() << "one more may be lost";
    start_all();
    const std::uint32_t victim = master_;
    std::uint32_t member = 0;
    while (nodes_.home_of(member) == victim) ++member;
    const std::uint64_t which = below(5);
    auto fresh = nodes_.make_platter();
    Array& array = nodes_.array(victim);
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(10 + below(30)));
    const auto spawn = [&](Task<Checked<Unit>> order) {
        loop().tasks().spawn(carry_out(std::move(order)));
    };
    switch (which) {
        case 0:
            spawn(array.fail_member(std::to_string(member), Force::no));
            break;
        case 1: {  // a spare, on another node, takes the role
            const std::uint32_t other = nodes_.home_of(member);
            const auto added = loop().run_until_done(
                nodes_.array(other).add_member(nodes_.disk(fresh, "fresh"), Force::no));
            ASSERT_TRUE(added) << added.error().text;
            spawn(array.fail_member(std::to_string(member), Force::no));
            break;
        }
        case 2: {
            IntentChange change;
            change.on = false;
            spawn(array.change_intent(change));
            break;
        }
        case 3:  // the home's own disk
            nodes_.platter(member).dead = true;
            break;
        default:
            spawn(array.start_scrub(ScrubMode::repair));
            break;
    }
    loop().run_for(Nanos{below(millis(40).value)});
    nodes_.isolate(victim);
    wait_until_decides(victim - 1);
    loop().run_for(seconds(4));
    clients_.check(nodes_.nodes(), victim);
    expect_no_bad_rows(victim);
    // All have one configuration, and go by it.
    nodes_.run_until(
        [&] {
            const Configuration& own = nodes_.array(master_).configuration();
            for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
                if (node == victim) continue;
                const ArrayStatus status = nodes_.array(node).status();
                if (!status.walks.empty()) return false;
                for (std::uint32_t i = 0; i != GetParam().members; ++i) {
                    if (state(node, i) != own.members[i].state) return false;
                }
                if (status.intent.on != own.intent.on) return false;
            }
            return true;
        },
        "all go by one configuration");
    // A loss comes again by itself when the disk is dead; an order need not have been heard of.
    if (which == 3) {
        begin_load(nodes_.nodes(), 60);
        loop().run_for(seconds(3));
        EXPECT_NE(state(0, member), MemberState::in_sync);
    }
    begin_load(nodes_.nodes(), 20);
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// It is the one who decides already, and has no array yet that does: orders are refused, or carried out,
/// and it may be told to stop.
TEST_P(NodeTakeoverTest, OrdersComeBeforeTheNextOneCan) {
    start_all();
    const std::uint32_t victim = master_;
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(10 + below(30)));
    nodes_.isolate(victim);
    const std::uint32_t next = victim - 1;
    nodes_.run_until([&] { return nodes_.node(next).is_master(); }, "it is about to decide");
    Array& array = nodes_.array(next);
    for (std::uint64_t i = 0; i != 4; ++i) {
        loop().tasks().spawn(carry_out(array.start_scrub(ScrubMode::repair)));
        loop().tasks().spawn(carry_out(array.add_member(
            nodes_.disk(nodes_.make_platter(), fmt::format("fresh{}", i)), Force::no)));
        loop().run_for(Nanos{below(millis(3).value)});
    }
    const bool stops = below(3) == 0;
    if (stops) {
        clients_.let_fail();
        nodes_.leave(next);
        nodes_.run_until([&] { return nodes_.has_left(next); }, "it stops");
        nodes_.release(victim);
        load_ends_ = true;
        loop().run_for(seconds(15));
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node != next) (void)loop().run_until_done(nodes_.array(node).stop());
        }
        return nodes_.end_servers();
    }
    wait_until_decides(next);
    loop().run_for(seconds(4));
    clients_.check(nodes_.nodes(), victim);
    expect_no_bad_rows(victim);
    end_all(victim);
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeTakeoverTest,
                         testing::ValuesIn(death_shapes(seeds_of(8, 200))));

/// A level that can do without two: the next one goes at any moment of it, or both at once.
class NodeTakeoversTest : public NodeTakeoverTest {};

TEST_P(NodeTakeoversTest, TheNextOneGoesInTheMiddle) {
    start_all();
    const std::uint32_t first = master_;
    const std::uint32_t second = master_ - 1;
    clients_.let_fail_at(second);
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(100)));
    nodes_.isolate(first);
    if (GetParam().seed % 4 != 0) loop().run_for(millis(1000 + below(1200)));
    nodes_.isolate(second);
    wait_until_decides(second - 1);
    nodes_.run_until(
        [&] {
            return state(master_, first) == MemberState::missing &&
                   state(master_, second) == MemberState::missing;
        },
        "both are out");
    loop().run_for(seconds(5));
    begin_load(2 * nodes_.nodes(), 20);
    loop().run_for(seconds(5));
    for (std::uint32_t node = 0; node != second; ++node) {
        EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
        EXPECT_FALSE(nodes_.array(node).status().in_doubt) << node;
        ASSERT_TRUE(nodes_.flush(node)) << node;
        read_all(node);
    }
    begin_anew(first);
    begin_anew(second);
    wait_until_in(first);
    wait_until_in(second);
    end_load();
    clients_.let_nothing_fail_at(first);
    clients_.let_nothing_fail_at(second);
    begin_load(nodes_.nodes(), 20);
    end_whole();
}

/// It is just excluding another, or letting one in.
TEST_P(NodeTakeoversTest, ItGoesInTheMiddleOfAFence) {
    start_all();
    const std::uint32_t first = static_cast<std::uint32_t>(below(master_ - 1));
    const std::uint32_t victim = master_;
    clients_.let_fail_at(first);
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(100)));
    nodes_.isolate(first);
    if (below(2) == 0) {
        loop().run_for(millis(900 + below(700)));
    } else {
        wait_until_excluded(first);
        loop().run_for(millis(below(1000)));
        begin_anew(first);
        loop().run_for(millis(below(1500)));
    }
    nodes_.isolate(victim);
    wait_until_decides(victim - 1);
    loop().run_for(seconds(3));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node != victim && node != first) read_all(node);
    }
    if (!nodes_.has_begun(first) || !nodes_.refusal(first).empty() ||
        state(master_, first) == MemberState::missing) {
        begin_anew(first);
    }
    begin_anew(victim);
    wait_until_in(first);
    wait_until_in(victim);
    end_load();
    clients_.let_nothing_fail_at(first);
    clients_.let_nothing_fail_at(victim);
    begin_load(nodes_.nodes(), 20);
    end_whole();
}

/// How long a member has been away only the one who decided knew: for a spare it is waited anew.
TEST_P(NodeTakeoversTest, ASpareWaitsAsLongAgain) {
    nodes_.set_rebuild_delay(seconds(60));
    start_all();
    const auto added = loop().run_until_done(
        nodes_.array(1).add_member(nodes_.disk(nodes_.make_platter(), "spare"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    clients_.let_fail_at(0);
    nodes_.isolate(0);
    wait_until_excluded(0);
    loop().run_for(seconds(30 + below(20)));
    const std::uint32_t former = master_;
    nodes_.isolate(former);
    wait_until_decides(former - 1);
    const auto is_away = [&](std::uint32_t member) {
        return state(master_, member) == MemberState::missing;
    };
    const std::uint64_t began = loop().now().value;
    loop().run_for(seconds(55));
    EXPECT_TRUE(is_away(0) && is_away(former)) << nodes_.log(master_);
    nodes_.run_until([&] { return !is_away(0) || !is_away(former); }, "a spare takes the place");
    EXPECT_LT(loop().now().value - began, seconds(65).value);
    nodes_.lose_power();
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodeTakeoversTest, testing::ValuesIn(one_member_each()));

/// What it was walking over goes on.
class NodeTakeoverWalkTest : public NodeTakeoverTest {
  protected:
    NodeTakeoverWalkTest()
        : NodeTakeoverTest({.stripes = 64, .zero_fast = GetParam().homes == 0}) {}
};

TEST_P(NodeTakeoverWalkTest, AWalkGoesOn) {
    for (std::uint32_t i = 0; i != GetParam().members; ++i) {
        nodes_.platter(i).delay_nanos = millis(1 + below(4)).value;
    }
    start_all();
    const std::uint32_t victim = master_;
    const bool is_resync = GetParam().homes != 0;
    constexpr std::uint32_t role = 2;  // with a node that stays
    if (!is_resync) {
        const auto failed = loop().run_until_done(
            nodes_.array(master_).fail_member(std::to_string(role), Force::no));
        ASSERT_TRUE(failed) << failed.error().text;
        const auto added = loop().run_until_done(
            nodes_.array(role).add_member(nodes_.disk(nodes_.make_platter(), "fresh"), Force::no));
        ASSERT_TRUE(added) << added.error().text;
    }
    begin_load(2 * nodes_.nodes(), 60);
    loop().run_for(millis(20 + below(300)));
    nodes_.isolate(victim);
    wait_until_decides(victim - 1);
    nodes_.run_until(
        [&] {
            const ArrayStatus status = nodes_.array(master_).status();
            return !status.in_doubt && state(master_, role) == MemberState::in_sync &&
                   status.walks.empty();
        },
        "all is true");
    EXPECT_EQ(nodes_.array(master_).status().bad_bytes, 0u);
    clients_.check(nodes_.nodes(), victim);
    begin_anew(victim);
    wait_until_in(victim);
    end_load();
    clients_.let_nothing_fail_at(victim);
    begin_load(nodes_.nodes(), 20);
    end_whole();
}

INSTANTIATE_TEST_SUITE_P(
    Seeds, NodeTakeoverWalkTest,
    testing::ValuesIn(with_seeds(seeds_of(8, 200),
                                 {{.level = Level::raid6, .members = 6, .nodes = 4},
                                  {.level = Level::raid6, .members = 6, .nodes = 4, .homes = 2}})));

}  // namespace
}  // namespace braid::sim
