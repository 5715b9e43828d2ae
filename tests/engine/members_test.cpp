// SPDX-License-Identifier: BSD-3-Clause
// Members: what counts where, which states are losses, and operations that come too late.
#include "engine/members/members.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/engine/memory_disk.h"

namespace braid {
namespace {

Geometry small() {
    Geometry geometry;
    geometry.level = Level::raid6;
    geometry.member_count = 5;
    geometry.strip_size = 16384;
    geometry.stripes = 10;
    geometry.window_rows = 2;
    return geometry;
}

TEST(Members, AnOperationOnAClosedMemberIsAnError) {
    const Geometry geometry = small();
    Members members(geometry);
    auto& slot = members.slot(MemberIndex{2});
    slot.drive = std::make_unique<LocalDrive>(
        std::make_unique<test::MemoryDisk>("m2", std::uint64_t{row_size}));
    slot.drive->close();
    DiskGroup group;
    DriveOp op;
    op.size = row_size;
    members.submit(MemberIndex{2}, group, op);
    EXPECT_EQ(group.pending(), 0U);
    EXPECT_EQ(slot.in_flight(), 1U);
    members.finish(MemberIndex{2}, op);
    EXPECT_EQ(op.result.outcome, DriveOutcome::lost);
    EXPECT_EQ(slot.in_flight(), 0U);
    EXPECT_TRUE(members.quiet().is_set());
}

TEST(Members, ARebuiltMemberCountsUpToItsPosition) {
    const Geometry geometry = small();
    Members members(geometry);
    for (std::uint32_t i = 0; i != 5; ++i) members.set_state(MemberIndex{i}, MemberState::in_sync);
    members.set_state(MemberIndex{3}, MemberState::faulty);
    members.set_state(MemberIndex{3}, MemberState::rebuilding);
    members.slot(MemberIndex{3}).rebuilt = WindowIndex{7};  // windows, two of them a stripe
    EXPECT_TRUE(members.is_live(MemberIndex{3}, {StripeIndex{3}, 0}));
    EXPECT_FALSE(members.is_live(MemberIndex{3}, {StripeIndex{3}, 1}));
    EXPECT_TRUE(members.state_of({StripeIndex{3}, 0}).lost.empty());
    const StripeState state = members.state_of({StripeIndex{3}, 1});
    EXPECT_EQ(state.lost, RoleSet::of(geometry.role_of(StripeIndex{3}, MemberIndex{3})));
    EXPECT_EQ(members.window_place(members.window_number({StripeIndex{3}, 1})),
              (WindowPlace{StripeIndex{3}, 1}));
    EXPECT_EQ(members.window_end(), WindowIndex{20});
}

TEST(Members, WhatStaysInDoubtThoughItWasWrittenIsNotAsItWas) {
    Geometry geometry = small();
    geometry.stripes = doubt_windows_max;  // two windows each
    for (const bool adds : {false, true}) {
        Members members(geometry);
        for (std::uint32_t i = 0; i != 5; ++i) {
            members.set_state(MemberIndex{i}, MemberState::in_sync);
        }
        if (!adds) members.doubt().add({WindowIndex{0}, members.window_end()});
        members.set_state(MemberIndex{1}, MemberState::faulty);
        const WindowIndex room{doubt_windows_max};
        for (WindowIndex window{0}; window != room; ++window) {
            if (adds) members.doubt().add({window, window + 1});
            members.rows_true(members.window_place(window), 1);
        }
        EXPECT_EQ(members.slot(MemberIndex{1}).kept, members.window_end());
        const WindowPlace next = members.window_place(room);
        if (adds) {
            members.rows_doubtful(next, 1);
        } else {
            members.rows_true(next, 1);
        }
        EXPECT_EQ(members.rows_in_doubt(next, 3), 3U);
        EXPECT_EQ(members.slot(MemberIndex{1}).kept, room);
    }
}

TEST(Members, LossesAreCountedWhenALiveMemberGoes) {
    const Geometry geometry = small();
    Members members(geometry);
    const MemberIndex member{1};
    for (std::uint32_t i = 0; i != 5; ++i) members.set_state(MemberIndex{i}, MemberState::in_sync);
    EXPECT_EQ(members.loss_version(), 0U);
    members.set_state(member, MemberState::faulty);
    EXPECT_EQ(members.loss_version(), 1U);
    members.set_state(member, MemberState::missing);
    EXPECT_EQ(members.loss_version(), 1U);
    members.set_state(member, MemberState::rebuilding);
    members.set_state(member, MemberState::faulty);
    EXPECT_EQ(members.loss_version(), 2U);
    members.set_state(MemberIndex{2}, MemberState::faulty);
    EXPECT_FALSE(members.failed());
    members.set_state(MemberIndex{4}, MemberState::faulty);
    EXPECT_TRUE(members.failed());
}

TEST(Members, ParityIsTrueBeforeThePositionOfTheResync) {
    const Geometry geometry = small();
    Members members(geometry);
    members.doubt().add({WindowIndex{5}, members.window_end()});
    EXPECT_TRUE(members.state_of({StripeIndex{2}, 0}).parity_true);
    EXPECT_FALSE(members.state_of({StripeIndex{2}, 1}).parity_true);
}

TEST(DirectGate, AReadCountsOnlyIfTheGateWasOpenAllTheTime) {
    DirectGate gate;
    std::uint64_t ticket = 0;
    EXPECT_FALSE(gate.enter(ticket));
    gate.open();
    ASSERT_TRUE(gate.enter(ticket));
    EXPECT_TRUE(gate.has_readers());
    EXPECT_TRUE(gate.leave(ticket));
    ASSERT_TRUE(gate.enter(ticket));
    gate.close();
    EXPECT_FALSE(gate.leave(ticket));
    EXPECT_FALSE(gate.has_readers());
    gate.open();
    ASSERT_TRUE(gate.enter(ticket));
    gate.close();
    gate.open();  // closed and opened again: another disk may be behind it
    EXPECT_FALSE(gate.leave(ticket));
}

// A loop that finds a reader after it closed the gate waits for what that reader asks of it: so the
// reader must be told that his read does not count.
TEST(DirectGate, WhoIsSeenAfterTheGateWasClosedIsToldSo) {
    constexpr int rounds = 20'000;
    DirectGate gate;
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
    std::atomic<bool> told{false};
    std::thread reader([&] {
        for (int round = 1; round <= rounds; ++round) {
            while (begun.load() != round) std::this_thread::yield();
            std::uint64_t ticket = 0;
            told = !gate.enter(ticket) || !gate.leave(ticket);
            ended = round;
        }
    });
    int seen = 0;
    for (int round = 1; round <= rounds; ++round) {
        gate.open();
        begun = round;
        if (round % 2 == 0) std::this_thread::yield();
        gate.close();
        const bool saw = gate.has_readers();
        while (ended.load() != round) std::this_thread::yield();
        EXPECT_TRUE(!saw || told.load());
        seen += saw ? 1 : 0;
        EXPECT_FALSE(gate.has_readers());
    }
    reader.join();
    RecordProperty("seen", seen);
}

}  // namespace
}  // namespace braid
