// SPDX-License-Identifier: BSD-3-Clause
// Assembly of arrays of ours that md has run in between.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "engine/assembly/assembly.h"
#include "tests/engine/array_kit.h"
#include "tests/engine/assembly_answers.h"

namespace braid {
namespace {

using test::has;
using test::has_notice;
using test::Kit;
using test::kit_configuration;
using test::refusal;
using Numbers = std::vector<std::size_t>;

void md_runs(Kit& kit, const Numbers& which, std::uint64_t events, const Numbers& lost = {}) {
    for (const std::size_t at : which) {
        test::change_superblock(*kit.disks[at], [&](MdSuperblock& sb) {
            sb.events = events;
            sb.utime = 1'800'000'000;
            for (const std::size_t gone : lost) {
                sb.dev_roles[kit.now.members[gone].dev_number] = md_role::faulty;
            }
        });
    }
}

TEST(AssemblyAfterMd, WhatMdSaysCountsAndVolumesAreKept) {
    Configuration c = kit_configuration(Level::raid5, 4);
    c.volumes = {{"one", StripeIndex{0}, 1}, {"two", StripeIndex{2}, 1}};
    Kit kit(c);
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    md_runs(kit, {0, 1, 2, 3}, kit.now.events + 4);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->adopted);
    EXPECT_TRUE(has_notice(*assembly, "md has run the array"));
    EXPECT_EQ(assembly->configuration.volumes, c.volumes);
    EXPECT_EQ(assembly->configuration.events, kit.now.events + 4);
    EXPECT_EQ(assembly->configuration.version, EpochRevision{}) << "md's, not stored yet";
    EXPECT_EQ(assembly->epoch_seen, kit.now.version.epoch);
    Configuration same = assembly->configuration;
    same.events = kit.now.events;
    same.version = kit.now.version;
    same.in_force = kit.now.in_force;
    EXPECT_EQ(same, kit.now);
}

TEST(AssemblyAfterMd, EvenIfItsEventsAreBackWhereTheyWere) {
    // md lowers events again when it goes from dirty to clean: only the time of the update differs.
    Kit kit(kit_configuration(Level::raid5, 4));
    md_runs(kit, {0, 1, 2, 3}, kit.now.events);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->adopted);
    // A member that md ran the array without has the same events, but the old superblock.
    Kit other(kit_configuration(Level::raid5, 4));
    md_runs(other, {0, 1, 2}, other.now.events, {3});
    const auto without = other.assemble();
    ASSERT_TRUE(without) << refusal(without);
    EXPECT_EQ(without->places[3].place, Place::stale);
    EXPECT_PRED2(has, without->places[3].why, "md ran the array without it");
    EXPECT_EQ(without->configuration.members[3].state, MemberState::missing);
}

TEST(AssemblyAfterMd, AMemberThatFailedThereIsStale) {
    Kit kit(kit_configuration(Level::raid6, 5));
    md_runs(kit, {2}, kit.now.events + 1);
    md_runs(kit, {0, 1, 3, 4}, kit.now.events + 6, {2});
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[2].place, Place::stale);
    EXPECT_PRED2(has, assembly->places[2].why, "it is stale: its events are");
    EXPECT_EQ(assembly->configuration.members[2].state, MemberState::missing);
    // One event behind is current for md, unless the newest superblock says otherwise.
    md_runs(kit, {2}, kit.now.events + 5);
    const auto close = kit.assemble();
    ASSERT_TRUE(close) << refusal(close);
    EXPECT_PRED2(has, close->places[2].why, "does not give it the role");
}

TEST(AssemblyAfterMd, AMemberThatWasReplacedThereIsTaken) {
    Kit kit(kit_configuration(Level::raid5, 4));
    // md failed member 2 and rebuilt onto a new device, number 7, which has no slots.
    const auto fresh = std::make_shared<test::MemoryDisk>("/fresh", test::kit_member_size);
    std::memcpy(fresh->content().data() + md_superblock_offset,
                kit.disks[2]->content().data() + md_superblock_offset, row_size);
    md_runs(kit, {0, 1, 3}, kit.now.events + 8, {2});
    for (auto* disk : {kit.disks[0].get(), kit.disks[1].get(), kit.disks[3].get(), fresh.get()}) {
        test::change_superblock(*disk, [&](MdSuperblock& sb) { sb.dev_roles[7] = 2; });
    }
    test::change_superblock(*fresh, [&](MdSuperblock& sb) {
        sb.events = kit.now.events + 8;
        sb.device_uuid = test::uuid_of(0xdd, 7);
        sb.dev_number = 7;
        sb.dev_roles[2] = md_role::faulty;
    });
    kit.disks.push_back(fresh);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[2].place, Place::stale);
    EXPECT_EQ(assembly->places[4].place, Place::member);
    EXPECT_EQ(assembly->configuration.members[2].uuid, test::uuid_of(0xdd, 7));
    EXPECT_EQ(assembly->configuration.members[2].dev_number, 7U);
    EXPECT_EQ(assembly->configuration.lost_count(), 0U);
    // braid takes over: from now on its own configuration counts again.
    kit.adopt(*assembly, kit.all());
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    const auto ours = kit.assemble();
    ASSERT_TRUE(ours) << refusal(ours);
    EXPECT_FALSE(ours->adopted);
    EXPECT_TRUE(ours->notices.empty());
    EXPECT_EQ(ours->configuration, kit.now);
}

TEST(AssemblyAfterMd, UncleanThereMeansResyncHere) {
    Kit kit(kit_configuration(Level::raid5, 4));
    md_runs(kit, {0, 1, 2, 3}, kit.now.events + 1);
    for (const auto& disk : kit.disks) {
        test::change_superblock(*disk, [](MdSuperblock& sb) { sb.resync_offset = 0; });
    }
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->unclean);
    EXPECT_EQ(assembly->configuration.resynced, StripeIndex{0});
    EXPECT_REFUSED(kit.assemble({0, 1, 2}), "parity is in doubt");
}

TEST(AssemblyAfterMd, AnotherShapeKeepsOneVolumeAndRefusesSeveral) {
    Configuration c = kit_configuration(Level::raid5, 4);
    Kit one(c);
    c.volumes = {{"one", StripeIndex{0}, 1}, {"two", StripeIndex{2}, 1}};
    Kit two(c);
    for (Kit* kit : {&one, &two}) {
        md_runs(*kit, {0, 1, 2, 3}, kit->now.events + 9);
        for (const auto& disk : kit->disks) {
            test::change_superblock(*disk, [](MdSuperblock& sb) {
                sb.size = (test::kit_stripes - 1) * test::kit_strip / sector_size;
            });
        }
    }
    const auto whole = one.assemble();
    ASSERT_TRUE(whole) << refusal(whole);
    EXPECT_EQ(whole->configuration.volumes[0].stripes, test::kit_stripes - 1);
    EXPECT_REFUSED(two.assemble(), "changed its shape");
    EXPECT_TRUE(two.assemble(two.all(), Force::yes));
}

TEST(AssemblyAfterMd, ButNotIfBraidRanTheArrayWithoutThatMemberSince) {
    Kit kit(kit_configuration(Level::raid5, 4));
    const auto left_behind = kit.disks[3];
    auto three = kit.assemble({0, 1, 2});
    ASSERT_TRUE(three) << refusal(three);
    kit.adopt(*three, {0, 1, 2});
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    kit.disks[3] = left_behind;
    test::change_superblock(*left_behind, [](MdSuperblock& sb) { sb.events = 99; });
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_FALSE(assembly->adopted);
    EXPECT_EQ(assembly->places[3].place, Place::stale);
    EXPECT_EQ(assembly->configuration.events, 99U);  // the next is beyond all of them
}

TEST(AssemblyAfterMd, CreatedAnewOverOurSlotsIsAnotherArray) {
    Kit kit(kit_configuration(Level::raid5, 3));
    for (const auto& disk : kit.disks) {
        test::change_superblock(*disk, [](MdSuperblock& sb) {
            sb.set_uuid = test::uuid_of(0xee, 3);
            sb.events = 17;
        });
    }
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->adopted);
    EXPECT_EQ(assembly->configuration.array, test::uuid_of(0xee, 3));
    EXPECT_EQ(assembly->configuration.version, EpochRevision{});
    kit.adopt(*assembly, kit.all());
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    const auto ours = kit.assemble();
    ASSERT_TRUE(ours) << refusal(ours);
    EXPECT_FALSE(ours->adopted);
    EXPECT_EQ(ours->configuration, kit.now);
}

}  // namespace
}  // namespace braid
