// SPDX-License-Identifier: BSD-3-Clause
// Goal: a node goes from one fence to the next in the steps of the barrier and in no other order,
// whatever comes; who proposes goes on when all have answered and not before; the verdict is what
// its sentence says. Method: every sequence of steps, by hand and exhausted; what is judged of one
// write, for all that three homes can answer. recovery_model_test.cpp joins them.
#include "cluster/membership/barrier.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <vector>

namespace braid::cluster {
namespace {

using Phase = NodeBarrier::Phase;
using Prepared = NodeBarrier::Prepared;
using Step = MasterBarrier::Step;

constexpr NodeBoot one{1, 71};
constexpr NodeBoot two{2, 72};
constexpr NodeBoot three{3, 73};
constexpr NodeBoot three_again{3, 74};
const std::set<NodeBoot> all{one, two, three};

NodeId id(NodeBoot node) { return NodeId{node.node}; }

Prepare proposal(std::uint64_t epoch, std::set<NodeBoot> kept = all) {
    return {epoch, id(two), std::move(kept)};
}

/// Node 1 in a fence of all three.
NodeBarrier serving(std::uint64_t epoch = 8) {
    NodeBarrier node(one, 0);
    EXPECT_EQ(node.prepare(proposal(epoch), false), Prepared::freezes);
    EXPECT_TRUE(node.promised(epoch) && node.store(epoch) && node.announce({epoch, {}}));
    EXPECT_TRUE(node.adopt(epoch));
    return node;
}

// ---- one node ----------------------------------------------------------------------------------

TEST(NodeBarrier, GoesFromFenceToFence) {
    NodeBarrier node = serving();
    EXPECT_TRUE(node.serves());
    EXPECT_EQ(node.fence(), 8U);
    EXPECT_TRUE(node.takes(three, 8));
    EXPECT_FALSE(node.takes(three, 7));
    EXPECT_FALSE(node.takes(three_again, 8));
    EXPECT_TRUE(node.gone().empty());
    EXPECT_EQ(node.prepare(proposal(9, {one, two, three_again}), false), Prepared::freezes);
    EXPECT_FALSE(node.serves());
    EXPECT_FALSE(node.takes(two, 8)) << "from when it froze, not from its answer";
    EXPECT_EQ(node.gone(), std::set<NodeBoot>{three});
    EXPECT_TRUE(node.promised(9));
    EXPECT_TRUE(node.store(9));
    EXPECT_EQ(node.newest().epoch, 8U);
    const WriteVerdict verdict{9, {{three, {Judged::all, {5}}}}};
    EXPECT_TRUE(node.announce(verdict));
    EXPECT_EQ(node.newest().epoch, 9U);
    EXPECT_FALSE(node.serves());
    EXPECT_TRUE(node.adopt(9));
    EXPECT_TRUE(node.takes(three_again, 9));
    EXPECT_FALSE(node.takes(three, 9));
    EXPECT_EQ(node.gone(), std::set<NodeBoot>{three}) << "until all have settled";
    EXPECT_EQ(node.verdict(), verdict);
    node.all_settled(8);
    EXPECT_EQ(node.gone(), std::set<NodeBoot>{three});
    node.all_settled(9);
    EXPECT_TRUE(node.gone().empty());
    EXPECT_EQ(node.verdict(), WriteVerdict{});
}

TEST(NodeBarrier, RefusesAPrepare) {
    NodeBarrier node = serving();
    const auto before = node.image();
    EXPECT_EQ(node.prepare(proposal(8), false), Prepared::not_above);
    EXPECT_EQ(node.prepare(proposal(9, {two, three}), false), Prepared::not_kept);
    EXPECT_EQ(node.prepare(proposal(9, {{1, 70}, two, three}), false), Prepared::not_kept);
    EXPECT_EQ(node.prepare(proposal(9), true), Prepared::has_master);
    EXPECT_EQ(node.image(), before);
    EXPECT_TRUE(node.serves());
    EXPECT_EQ(node.prepare(proposal(9), false), Prepared::freezes);
    EXPECT_EQ(node.prepare(proposal(9), false), Prepared::not_above) << "said twice";
    EXPECT_EQ(node.prepare(proposal(10), false), Prepared::freezes);
    EXPECT_FALSE(node.promised(9)) << "a higher one came while its members promised";
    EXPECT_TRUE(node.promised(10));
}

TEST(NodeBarrier, IsOutWhenAFenceBeginsWithoutIt) {
    NodeBarrier node = serving();
    EXPECT_FALSE(node.heard_of({8, all}));
    EXPECT_FALSE(node.heard_of({9, all})) << "it is in it";
    EXPECT_FALSE(node.killed(8)) << "its own";
    EXPECT_EQ(node.prepare(proposal(20), false), Prepared::freezes);
    EXPECT_FALSE(node.killed(9)) << "it has promised a higher one: that will not come to be";
    EXPECT_FALSE(node.killed(20)) << "it is in that";
    NodeBarrier other = node;
    EXPECT_TRUE(node.heard_of({9, {two, three}})) << "in force: its promise is nothing any more";
    EXPECT_EQ(node.phase(), Phase::expelled);
    EXPECT_EQ(node.prepare(proposal(30), false), Prepared::not_kept);
    EXPECT_TRUE(other.killed(21));
    EXPECT_FALSE(other.serves());
    NodeBarrier fresh(one, 20, {9, {two, three}});
    EXPECT_FALSE(fresh.heard_of({10, {two, three}})) << "a new life was in no fence";
    EXPECT_EQ(fresh.prepare(proposal(21), false), Prepared::freezes);
    EXPECT_TRUE(fresh.gone().empty()) << "it knows nobody's writes";
}

TEST(NodeBarrier, ALossLeavesTheFence) {
    NodeBarrier node = serving();
    EXPECT_FALSE(node.promise_loss(8));
    EXPECT_TRUE(node.promise_loss(9));
    EXPECT_TRUE(node.serves());
    EXPECT_EQ(node.fence(), 8U);
    EXPECT_EQ(node.prepare(proposal(9), false), Prepared::not_above);
    EXPECT_EQ(node.prepare(proposal(10), false), Prepared::freezes);
    EXPECT_FALSE(node.promise_loss(11));
}

// Every sequence of steps of two proposals, 9 and 10: the promise never falls, a fence is adopted
// only after all of its steps in their order, with no higher promise between them.
TEST(NodeBarrier, KeepsTheOrderWhateverComes) {
    constexpr std::size_t length = 7;
    std::size_t adopted = 0;
    for (std::uint32_t number = 0; number != 1U << (3 * length); ++number) {
        NodeBarrier node = serving();
        std::array<std::size_t, 2> done{0, 0};  // steps of 9, and of 10
        std::uint32_t rest = number;
        for (std::size_t i = 0; i != length; ++i, rest >>= 3) {
            const std::uint32_t step = rest & 7;
            // 0 … 4: prepare … adopt, of the proposal that was prepared last; 5: prepare 10;
            // 6: what is of 9, though 10 was prepared; 7: nothing
            const std::size_t which = done[1] != 0 ? 1 : 0;
            const std::uint64_t epoch = 9 + which;
            const std::uint64_t before = node.promise();
            bool taken = false;
            if (step == 0) taken = node.prepare(proposal(epoch), false) == Prepared::freezes;
            if (step == 1) taken = node.promised(epoch);
            if (step == 2) taken = node.store(epoch);
            if (step == 3) taken = node.announce({epoch, {}});
            if (step == 4) taken = node.adopt(epoch);
            if (step == 5 && node.prepare(proposal(10), false) == Prepared::freezes) {
                ASSERT_EQ(done[1], 0U);
                done[1] = 1;
            }
            if (step == 6 && which == 1) {
                ASSERT_FALSE(node.promised(9) || node.store(9) || node.adopt(9));
                ASSERT_FALSE(node.announce({9, {}}));
            }
            ASSERT_GE(node.promise(), before);
            if (step > 4) continue;
            ASSERT_EQ(taken, done[which] == step) << number;
            if (!taken) continue;
            ++done[which];
            ASSERT_EQ(node.serves(), step == 4);
            if (step == 4) {
                ++adopted;
                ASSERT_EQ(node.fence(), epoch);
            }
        }
    }
    EXPECT_GT(adopted, 0U);
}

// ---- who proposes ------------------------------------------------------------------------------

MasterBarrier begin() {
    return MasterBarrier({.prepare = proposal(9, {one, two}),
                          .excluded = NodeSet::of(id(three)),
                          .lease = lease_default});
}
PrepareAnswer answer(NodeBoot from, std::uint64_t age_ms = 5000) {
    PrepareAnswer answer;
    answer.from = from;
    answer.fence = 8;
    answer.newest = {8, all};
    answer.ages = {{id(three), millis(age_ms)}};
    return answer;
}
const NodeSet both = NodeSet::of(id(one)) | NodeSet::of(id(two));

MasterBarrier waiting(std::uint64_t age_ms) {
    MasterBarrier master = begin();
    master.prepared(answer(one), seconds(100));
    master.prepared(answer(two, age_ms), seconds(100));
    master.judged({9, {}});
    master.stored(id(one));
    master.stored(id(two));
    return master;
}

TEST(MasterBarrier, GoesOnWhenAllHaveAnswered) {
    MasterBarrier master = begin();
    EXPECT_EQ(master.pending(), both);
    master.prepared(answer(one), seconds(100));
    master.prepared(answer(one), seconds(100));  // said twice
    master.prepared(answer(three), seconds(100));
    EXPECT_EQ(master.pending(), NodeSet::of(id(two)));
    EXPECT_EQ(master.answers().size(), 1U);
    master.stored(id(two));                          // of a step that has not begun
    master.prepared(answer({2, 99}), seconds(100));  // another life
    EXPECT_EQ(master.step(), Step::prepare);
    master.prepared(answer(two, 1000), seconds(100));
    EXPECT_EQ(master.step(), Step::judge);
    master.judged({9, {}});
    EXPECT_EQ(master.pending(), both);
    master.stored(id(two));
    EXPECT_EQ(master.step(), Step::store);
    master.stored(id(one));
    EXPECT_EQ(master.step(), Step::wait);
    EXPECT_EQ(master.opens_at(), millis(100'236));
    EXPECT_EQ(master.waits_for(seconds(100)), NodeSet::of(id(three)));
    master.time_is(millis(100'235));
    EXPECT_EQ(master.step(), Step::wait);
    master.time_is(millis(100'236));
    EXPECT_EQ(master.step(), Step::announce);
    master.announced(id(one));
    EXPECT_FALSE(master.is_in_force());
    master.announced(id(two));
    EXPECT_TRUE(master.is_in_force());
    EXPECT_EQ(master.step(), Step::adopt);
    master.adopted(id(two));
    master.settled(id(two));  // before the other one has adopted
    master.adopted(id(one));
    EXPECT_EQ(master.step(), Step::settle);
    EXPECT_EQ(master.pending(), NodeSet::of(id(one)));
    master.settled(id(one));
    EXPECT_EQ(master.step(), Step::over);
    EXPECT_TRUE(master.without().empty());
}

TEST(MasterBarrier, DoesNotWaitForWhoIsOut) {
    MasterBarrier master = waiting(0);
    master.time_is(seconds(101));
    EXPECT_EQ(master.step(), Step::wait);
    master.excluded_is_out(id(three));
    master.time_is(seconds(101));
    EXPECT_EQ(master.step(), Step::announce);
}

TEST(MasterBarrier, AnAgeThatIsNotToldIsNone) {
    MasterBarrier master = begin();
    PrepareAnswer silent = answer(one);
    silent.ages.clear();
    master.prepared(silent, seconds(100));
    EXPECT_EQ(master.opens_at(), millis(101'236));
}

TEST(MasterBarrier, FailsAndSaysWithoutWhom) {
    MasterBarrier master = begin();
    master.refused(id(one), 500);
    EXPECT_EQ(master.step(), Step::failed);
    EXPECT_TRUE(master.without().empty());
    EXPECT_EQ(master.highest_promise(), 500U);

    master = begin();
    PrepareAnswer behind = answer(one);
    PrepareAnswer ahead = answer(two);
    ahead.newest = {8, {two, three}};
    behind.fence = 7;
    behind.newest.epoch = 7;
    master.prepared(behind, seconds(1));
    master.prepared(ahead, seconds(1));
    EXPECT_EQ(master.step(), Step::failed) << "1 was excluded, and does not know";
    EXPECT_EQ(master.without(), NodeSet::of(id(one)));

    for (int field = 0; field != 3; ++field) {  // what cannot be
        master = begin();
        PrepareAnswer wrong = answer(two);
        (field == 0 ? wrong.newest.epoch : field == 1 ? wrong.verdict.epoch : wrong.fence) = 9;
        master.prepared(wrong, seconds(1));
        EXPECT_EQ(master.step(), Step::failed);
        EXPECT_EQ(master.without(), NodeSet::of(id(two)));
    }

    master = begin();
    master.prepared(answer(one), seconds(1));
    master.prepared(answer(two), seconds(1));
    MasterBarrier other = master;
    other.abandon();
    EXPECT_EQ(other.step(), Step::failed);
    master.judged({9, {}});
    master.store_failed(id(two));
    EXPECT_EQ(master.without(), NodeSet::of(id(two)));
    EXPECT_EQ(master.step(), Step::failed);
    master.stored(id(one));
    EXPECT_EQ(master.step(), Step::failed);
}

// Whoever goes in whichever step: before all know it the fence has failed, afterwards it is in force.
TEST(MasterBarrier, SomebodyGoesInTheMiddle) {
    for (int steps = 0; steps != 11; ++steps) {
        MasterBarrier master = begin();
        for (int i = 0; i != steps; ++i) {
            switch (master.step()) {
                case Step::prepare:
                    master.prepared(answer(i == 0 ? one : two), seconds(1));
                    break;
                case Step::judge:
                    master.judged({9, {}});
                    break;
                case Step::store:
                    master.stored(*master.pending().begin());
                    break;
                case Step::wait:
                    master.time_is(seconds(9));
                    break;
                case Step::announce:
                    master.announced(*master.pending().begin());
                    break;
                case Step::adopt:
                    master.adopted(*master.pending().begin());
                    break;
                default:
                    master.settled(*master.pending().begin());
            }
        }
        const bool in_force = master.is_in_force();
        EXPECT_EQ(in_force, steps >= 8);
        const Step before = master.step();
        master.gone(id(three));  // not of it
        EXPECT_EQ(master.step(), before);
        master.gone(id(one));
        EXPECT_EQ(master.step(), in_force ? before : Step::failed);
        EXPECT_EQ(master.is_in_force(), in_force);
        EXPECT_EQ(master.without(), NodeSet::of(id(one)));
    }
}

// ---- what is judged ----------------------------------------------------------------------------

// A write of node 3, that is gone, to roles 0, 1, 2; homes 1 and 2 have 0 and 1 each; the home of 2
// was node 3, or is a node that began later. All that they can know of it.
TEST(Verdict, IsWhatTheSentenceSays) {
    for (std::uint32_t bits = 0; bits != 64; ++bits) {
        const std::array<bool, 2> staged{(bits & 1) != 0, (bits & 2) != 0};
        const std::array<bool, 2> decided{(bits & 4) != 0, (bits & 8) != 0};
        const bool in_use = (bits & 16) != 0;  // role 1
        const bool later = (bits & 32) != 0;   // a home of role 2 that has no book
        std::vector<PrepareAnswer> answers{answer(one), answer(two)};
        for (std::size_t home = 0; home != 2; ++home) {
            answers[home].members = MemberSet{1U << home};
            auto& book = answers[home].books[three];
            if (!staged[home]) continue;
            book.push_back({{three, 5}, 1U << home, 7, decided[home]});
        }
        if (later) {
            answers.push_back(answer(three_again));
            answers.back().fence = 0;
            answers.back().members = MemberSet{4};
        }
        const WriteVerdict verdict = judge(9, answers, MemberSet{in_use ? 7U : 5U});
        const bool known = staged[0] || staged[1];
        const bool knows_decided = (staged[0] && decided[0]) || (staged[1] && decided[1]);
        const bool all_there = staged[0] && (staged[1] || !in_use);
        EXPECT_EQ(verdict.fate({three, 5}) == WriteVerdict::Fate::happens,
                  known && (knows_decided || all_there))
            << bits;
        EXPECT_EQ(verdict.fate({three, 6}), WriteVerdict::Fate::dropped);
        const WriteVerdict after_restart = judge(9, answers, MemberSet{7}, Judging::restart);
        EXPECT_EQ(after_restart.fate({three, 5}) == WriteVerdict::Fate::happens, knows_decided);
    }
}

TEST(Verdict, ALivingNodeDecidesAlone) {
    std::vector<PrepareAnswer> answers{answer(one), answer(two)};
    answers[0].sequence = 7;
    answers[0].decided = {4, 6};
    const WriteVerdict verdict = judge(9, answers, MemberSet{7});
    EXPECT_EQ(verdict.fate({one, 4}), WriteVerdict::Fate::happens);
    EXPECT_EQ(verdict.fate({one, 5}), WriteVerdict::Fate::dropped);
    EXPECT_EQ(verdict.fate({one, 7}), WriteVerdict::Fate::dropped);
    EXPECT_EQ(verdict.fate({one, 8}), WriteVerdict::Fate::open) << "made later";
    EXPECT_EQ(verdict.fate({three, 1}), WriteVerdict::Fate::open) << "of whom nobody knows";
}

// 1 adopted 9, in which a write of 3 was dropped, served, and is gone; 2 has only heard of it.
TEST(Verdict, IsPassedOnce) {
    std::vector<PrepareAnswer> answers{answer(two)};
    answers[0].members = MemberSet{2};
    answers[0].newest = {9, {one, two}};
    answers[0].books[three] = {{{three, 5}, 2, 3, false}};
    answers[0].books[one] = {{{one, 4}, 2, 3, false}, {{one, 8}, 2, 3, false}};
    EXPECT_EQ(judge(10, answers, MemberSet{6}).fate({three, 5}), WriteVerdict::Fate::happens);
    answers[0].verdict = {9, {{three, {Judged::all, {}}}, {one, {7, {}}}}};
    const WriteVerdict verdict = judge(10, answers, MemberSet{6});
    EXPECT_EQ(verdict.fate({three, 5}), WriteVerdict::Fate::dropped);
    EXPECT_EQ(verdict.fate({one, 4}), WriteVerdict::Fate::dropped);
    EXPECT_EQ(verdict.fate({one, 8}), WriteVerdict::Fate::happens) << "begun since";
    EXPECT_EQ(verdict.writers.at(one).upto, Judged::all);
}

TEST(Verdict, BooksThatAreKept) {
    std::vector<PrepareAnswer> answers{answer(one), answer(two), answer(three_again)};
    answers[0].members = MemberSet{1};
    answers[1].members = MemberSet{2};
    answers[2].members = MemberSet{4};
    const Quorum quorum{.members = 3, .parities = 1};
    answers[2].fence = 0;
    EXPECT_TRUE(books_are_enough(answers, MemberSet{7}, quorum, Witness::silent));
    EXPECT_FALSE(books_are_enough(answers, MemberSet{6}, quorum, Witness::silent));
    answers[1].fence = 0;
    EXPECT_FALSE(books_are_enough(answers, MemberSet{7}, quorum, Witness::silent));
    EXPECT_EQ(newest_fence(answers).epoch, 8U);
    EXPECT_TRUE(expelled(answers).empty()) << "a new life is not";
}

}  // namespace
}  // namespace braid::cluster
