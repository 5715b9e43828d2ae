// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/restore.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/engine/array_kit.h"

namespace braid {
namespace {

using test::Kit;
using test::kit_configuration;

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}
Checked<RestorePlan> plan_of(const Kit& kit, const std::vector<std::size_t>& which,
                             bool force = false) {
    return plan_restore(kit.images(which), {.force = force});
}
std::string why(const Checked<RestorePlan>& plan) {
    return plan ? "it was planned" : plan.error().text;
}
std::byte* superblock_at(Kit& kit, std::size_t at) {
    return kit.disks[at]->content().data() + md_superblock_offset;
}
void lose_superblock(Kit& kit, std::size_t at) {
    std::memset(superblock_at(kit, at), 0, sizeof(MdSuperblock));
}
std::vector<Buffer> contents(const Kit& kit) {
    std::vector<Buffer> all;
    for (const auto& disk : kit.disks) all.push_back(disk->content());
    return all;
}
Checked<Unit> carry_out(Kit& kit, const std::vector<std::size_t>& which, const RestorePlan& plan) {
    std::vector<Disk*> disks;
    for (const std::size_t at : which) disks.push_back(kit.disks[at].get());
    return test::run(restore_members(std::move(disks), plan));
}
Kit stopped(Configuration c) {
    Kit kit(std::move(c));
    BRAID_REQUIRE(kit.start() && kit.stop());
    return kit;
}

// To the byte as they were, whichever are lost: times, roles, state and checksum.
TEST(Restore, PutsBackWhatWasThere) {
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        Configuration c = kit_configuration(level, 5, 1);
        c.layout = level == Level::raid5 ? Layout::right_asymmetric : c.layout;
        c.name = "a name of more than the thirty-one bytes that md has room for";
        c.volumes = {{"one", StripeIndex{0}, 1}, {"two", StripeIndex{2}, 2}};
        for (const bool clean : {true, false}) {
            Kit kit(c);
            ASSERT_TRUE(kit.start());
            kit.now.resynced = StripeIndex{2};
            ASSERT_TRUE(clean ? kit.stop() : kit.step());
            const auto before = contents(kit);
            for (const std::vector<std::size_t>& lost :
                 {std::vector<std::size_t>{0, 1, 2, 3, 4, 5}, {2}, {0, 5}}) {
                for (const std::size_t at : lost) lose_superblock(kit, at);
                const auto plan = plan_of(kit, kit.all());
                ASSERT_TRUE(plan) << why(plan);
                EXPECT_TRUE(plan->has_work());
                EXPECT_TRUE(plan->members[lost[0]].last_written.has_value());
                ASSERT_TRUE(carry_out(kit, kit.all(), *plan));
                EXPECT_EQ(contents(kit), before);
            }
            const auto assembly = kit.assemble();
            ASSERT_TRUE(assembly) << assembly.error().text;
            EXPECT_EQ(assembly->configuration.volumes, c.volumes);
            EXPECT_EQ(assembly->unclean, !clean);
            EXPECT_EQ(assembly->configuration.lost_count(), 0U);
            EXPECT_FALSE(assembly->adopted);
        }
    }
}

TEST(Restore, WithNothingLostThereIsNothingToDo) {
    Kit kit = stopped(kit_configuration(Level::raid5, 3));
    const auto plan = plan_of(kit, kit.all());
    ASSERT_TRUE(plan) << why(plan);
    EXPECT_FALSE(plan->has_work());
}

TEST(Restore, WhatIsNotZeroIsWrittenOverByForceOnly) {
    Kit kit = stopped(kit_configuration(Level::raid5, 3));
    lose_superblock(kit, 1);
    superblock_at(kit, 1)[300] = std::byte{7};
    const auto before = contents(kit);
    EXPECT_PRED2(has, why(plan_of(kit, kit.all())), "/m1: holds bytes of something else where");
    superblock_at(kit, 1)[300] = std::byte{0};
    superblock_at(kit, 0)[200] = std::byte{0x77};  // events: the checksum is wrong
    EXPECT_PRED2(has, why(plan_of(kit, kit.all())), "/m0: holds a damaged superblock (corrupt");
    const auto forced = plan_of(kit, kit.all(), true);
    ASSERT_TRUE(forced) << why(forced);
    ASSERT_TRUE(carry_out(kit, kit.all(), *forced));
    EXPECT_EQ(kit.assemble()->configuration.lost_count(), 0U);
}

// A whole one that braid does not serve is somebody's: force does not help.
TEST(Restore, ASuperblockThatIsWholeStays) {
    Kit kit = stopped(kit_configuration(Level::raid5, 3));
    lose_superblock(kit, 1);
    test::change_superblock(*kit.disks[0], [](MdSuperblock& sb) { sb.feature_map = 4; });
    EXPECT_PRED2(has, why(plan_of(kit, kit.all(), true)), "is never written over");
    test::change_superblock(*kit.disks[0], [](MdSuperblock& sb) {
        sb.feature_map = 0;
        sb.set_uuid = test::uuid_of(0xcc, 1);
    });
    EXPECT_PRED2(has, why(plan_of(kit, kit.all(), true)), "belong to different arrays");
}

TEST(Restore, AStaleMemberIsLeftAlone) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    kit.now.members[2].state = MemberState::faulty;
    ASSERT_TRUE(kit.step());
    ASSERT_TRUE(kit.stop());
    for (const std::size_t at : kit.all()) lose_superblock(kit, at);
    for (const bool force : {false, true}) {
        EXPECT_PRED2(has, why(plan_of(kit, kit.all(), force)), "/m2: the array went on without it");
    }
    const auto plan = plan_of(kit, {0, 1, 3});
    ASSERT_TRUE(plan) << why(plan);
    EXPECT_EQ(plan->assembly.configuration.lost_count(), 1U);
}

TEST(Restore, SlotsThatDisagreeAreRefused) {
    Kit kit = stopped(kit_configuration(Level::raid5, 4));
    // Two of the four were served elsewhere: the same epoch with other contents.
    for (const std::size_t at : {2U, 3U}) {
        Configuration other = kit.now;
        other.volumes[0].name = "other";
        MemberMetadata held = kit.held[at];
        held.reg.held = {};
        ASSERT_TRUE(test::run(write_member_metadata(*kit.disks[at], &other, &held, 99)));
    }
    for (const std::size_t at : kit.all()) lose_superblock(kit, at);
    EXPECT_PRED2(has, why(plan_of(kit, kit.all())), "two different configurations of epoch");
}

TEST(Restore, TooFewMembersAreRefused) {
    Kit kit = stopped(kit_configuration(Level::raid6, 5));
    for (const std::size_t at : kit.all()) lose_superblock(kit, at);
    EXPECT_PRED2(has, why(plan_of(kit, {0, 1})), "cannot start");
    EXPECT_PRED2(has, why(plan_of(kit, {0, 0, 1, 2})), "are the same member");
}

TEST(Restore, WhatNothingTellsIsRefused) {
    Kit kit = stopped(kit_configuration(Level::raid5, 3));
    lose_superblock(kit, 1);
    std::memset(kit.disks[1]->content().data() + slots_offset, 0, slots_end - slots_offset);
    EXPECT_PRED2(has, why(plan_of(kit, kit.all())), "/m1: has neither an md superblock nor");
    kit.disks[1]->die();
    EXPECT_PRED2(has, why(plan_of(kit, kit.all())), "/m1: cannot be read");
    Kit small = stopped(kit_configuration(Level::raid5, 3));
    lose_superblock(small, 1);
    small.disks[1]->info().size -= row_size;
    EXPECT_PRED2(has, why(plan_of(small, small.all())), "/m1: is truncated");
}

// md wrote the superblocks that are left: the slots are older than the array.
TEST(Restore, AfterMdTheSlotsDoNotCount) {
    Kit kit = stopped(kit_configuration(Level::raid5, 4));
    for (const std::size_t at : {1U, 2U, 3U}) {
        test::change_superblock(*kit.disks[at], [](MdSuperblock& sb) {
            sb.events = sb.events + 8;
            sb.utime = 1'700'009'999;
        });
    }
    lose_superblock(kit, 0);
    EXPECT_PRED2(has, why(plan_of(kit, kit.all())), "md has run this array since");
}

// What the slots do not tell comes from a member that still has its superblock.
TEST(Restore, FollowsAMemberThatHasItsSuperblock) {
    Kit kit = stopped(kit_configuration(Level::raid5, 3));
    const auto change = [](MdSuperblock& sb) {
        sb.logical_block_size = 4096;
        std::memcpy(sb.set_name.data(), "host:kit", 8);
    };
    for (std::size_t at = 0; at != 3; ++at) change(kit.held[at].superblock);
    ASSERT_TRUE(kit.step());
    const auto before = contents(kit);
    lose_superblock(kit, 0);
    lose_superblock(kit, 2);
    const auto plan = plan_of(kit, kit.all());
    ASSERT_TRUE(plan) << why(plan);
    ASSERT_TRUE(carry_out(kit, kit.all(), *plan));
    EXPECT_EQ(contents(kit), before);
    // And if none has it, the array starts all the same.
    for (const std::size_t at : kit.all()) lose_superblock(kit, at);
    const auto without = plan_of(kit, kit.all());
    ASSERT_TRUE(without) << why(without);
    EXPECT_EQ(without->assembly.configuration, kit.now);
    EXPECT_FALSE(without->assembly.adopted);
}

TEST(Restore, ACutBetweenMembersIsGoneOnWith) {
    Kit kit = stopped(kit_configuration(Level::raid5, 4));
    const auto before = contents(kit);
    for (std::uint64_t left = 0; left != 8; ++left) {
        for (const std::size_t at : kit.all()) lose_superblock(kit, at);
        const auto plan = plan_of(kit, kit.all());
        ASSERT_TRUE(plan) << why(plan);
        kit.power->left = left;
        EXPECT_FALSE(carry_out(kit, kit.all(), *plan));
        kit.power->left = ~std::uint64_t{0};
        kit.power->cut = false;
        const auto again = plan_of(kit, kit.all());
        ASSERT_TRUE(again) << why(again);
        ASSERT_TRUE(carry_out(kit, kit.all(), *again));
        EXPECT_EQ(contents(kit), before);
    }
}

}  // namespace
}  // namespace braid
