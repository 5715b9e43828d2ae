// SPDX-License-Identifier: BSD-3-Clause
// Goal: one fence ends at a home, and the next one begins: no lock outlives it, what is staged happens
// as the verdict says, and what waits is of its own fence. Method: commands by hand.
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "tests/cluster/home_kit.h"
#include "tests/cluster/sim_cluster.h"

namespace braid::sim {
namespace {

using cluster::HomeCommandKind;
using cluster::Judged;
using cluster::NodeBoot;
using cluster::WriteVerdict;

constexpr NodeBoot one{1, 1};
constexpr NodeBoot two{2, 5};
constexpr MemberIndex member{1};  // at home at node 1

bool is_refused_for_fence(const Told& told) {
    return told.answer && told.answer->result.outcome == DriveOutcome::fenced &&
           told.answer->result.os_error == ESTALE;
}
void say(cluster::Home& home, HomeCommandKind kind, NodeBoot from, std::uint64_t id) {
    cluster::HomeCommand command;
    command.kind = kind;
    command.id = {from, id};
    home.take(std::move(command), nullptr);
}

TEST(HomeFence, NoLockOutlivesIt) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(1);
    Told held;
    Told waits;
    home.take(lock_of(1, one), &held);
    home.take(lock_of(1, two), &waits);
    EXPECT_TRUE(held.answer && held.answer->result.ok());
    EXPECT_FALSE(waits.answer);
    home.freeze();
    EXPECT_TRUE(is_refused_for_fence(waits));
    Told late;
    home.take(lock_of(2, two), &late);
    EXPECT_TRUE(is_refused_for_fence(late)) << "none is given meanwhile";
    Told stage;
    home.take(stage_of(member, 1), &stage);
    EXPECT_TRUE(is_refused_for_fence(stage));
    home.enter({}, {}, {});
    say(home, HomeCommandKind::unlock, one, 1);  // of the fence before: nothing follows
    Told now;
    home.take(lock_of(3, two), &now);
    EXPECT_TRUE(now.answer && now.answer->result.ok());
    say(home, HomeCommandKind::unlock, two, 3);
    EXPECT_TRUE(home.book().empty());
}

/// Nobody has decided that: who heard so would wait for a configuration that says it, for ever.
TEST(HomeFence, AHomeThatHasStoppedCallsNoMemberLost) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(1);
    Told staged;
    home.take(stage_of(member, 1, two), &staged);
    ASSERT_TRUE(staged.answer && staged.answer->result.ok());
    Told flushed;  // it waits for what becomes of that
    cluster::HomeCommand flush;
    flush.kind = HomeCommandKind::flush;
    flush.id.from = two;
    flush.member = member;
    home.take(std::move(flush), &flushed);
    cluster.loop().run_for(seconds(1));
    ASSERT_FALSE(flushed.is_told());
    home.stop();
    cluster.loop().run_for(seconds(1));
    ASSERT_TRUE(flushed.is_told());
    EXPECT_EQ(flushed.answer->result.outcome, DriveOutcome::fenced);
    EXPECT_EQ(flushed.answer->result.os_error, ESHUTDOWN);
}

TEST(HomeFence, WhatIsStagedHappensAsTheVerdictSays) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(1);
    std::vector<Told> told(4);
    home.take(stage_of(member, 1, two), &told[0]);  // 2 is gone: its 1 happens, its 2 does not
    home.take(stage_of(member, 2, two), &told[1]);
    home.take(stage_of(member, 7, one), &told[2]);  // 1 is there: it had decided 8
    home.take(stage_of(member, 8, one), &told[3]);
    for (const Told& each : told) ASSERT_TRUE(each.answer && each.answer->result.ok());
    home.freeze();
    say(home, HomeCommandKind::decide, one, 7);
    say(home, HomeCommandKind::drop, one, 8);
    EXPECT_EQ(home.staged(), 4u) << "nobody decides about anything meanwhile";
    Told read;
    Buffer row(row_size);
    cluster::HomeCommand command;
    command.member = member;
    command.count = 1;
    command.into = row.data();
    home.take(std::move(command), &read);
    cluster.loop().run_for(millis(50));
    EXPECT_FALSE(read.answer) << "it waits for what becomes of the writes";
    WriteVerdict verdict;
    verdict.epoch = 512;
    verdict.writers[two] = Judged{Judged::all, {1}};
    verdict.writers[one] = Judged{8, {8}};
    home.enter(verdict, {two}, {});
    cluster.loop().run_for(millis(50));
    EXPECT_TRUE(read.answer && read.answer->result.ok());
    EXPECT_EQ(home.staged(), 0u);
    EXPECT_TRUE(home.book().known_of(two).empty()) << "it is forgotten";
    const auto known = home.book().known_of(one);
    ASSERT_EQ(known.size(), 1u) << "until its writer says that it is over";
    EXPECT_EQ(known[0].write.sequence, 8u);
    EXPECT_TRUE(known[0].decided);
    Told again;
    home.take(stage_of(member, 3, two), &again);
    EXPECT_FALSE(again.answer && again.answer->result.ok()) << "it comes no more";
}

// A stage that waits to hear whether a member is kept is not entered under a fence that its writer
// has never asked under.
TEST(HomeFence, WhatWaitedForAMembersVerdictIsOfItsFence) {
    SimClusterOptions options;
    options.verdict_nanos = seconds(5).value;
    SimCluster cluster(options);
    cluster::Home& home = cluster.home(1);
    cluster.platter(raw(member)).fails_writes = true;
    Told first;
    home.take(stage_of(member, 1), &first);
    say(home, HomeCommandKind::decide, one, 1);
    cluster.loop().run_for(millis(50));
    Told waits;
    home.take(stage_of(member, 2), &waits);
    ASSERT_FALSE(waits.answer) << "nobody has said yet what becomes of the member";
    home.freeze();
    home.enter({}, {}, {});
    cluster.loop().run_for(seconds(6));
    EXPECT_TRUE(is_refused_for_fence(waits));
    for (const auto& known : home.book().known_of(one)) EXPECT_TRUE(known.decided);
}

// Who had the rows of a rebuild told its authority how far that was, which may be gone.
TEST(HomeFence, BeginsWithHowFarRebuildsAre) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(2);
    home.freeze();
    home.enter({}, {}, {{member, WindowIndex{9}}});
    Told told;
    home.take(lock_of(1, one), &told);
    ASSERT_TRUE(told.answer && told.answer->result.ok());
    ASSERT_EQ(told.answer->rebuilt.size(), 1u);
    EXPECT_EQ(told.answer->rebuilt[0].member, member);
    EXPECT_EQ(told.answer->rebuilt[0].upto, WindowIndex{9});
}

}  // namespace
}  // namespace braid::sim
