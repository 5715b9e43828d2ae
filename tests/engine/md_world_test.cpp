// SPDX-License-Identifier: BSD-3-Clause
// What md, mdadm and newer kernels do to an array of braid's, and what is left of it then.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/assembly/new_member.h"
#include "tests/engine/array_kit.h"

namespace braid {
namespace {

using test::Kit;
using test::kit_configuration;

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}
std::string refusal(const Checked<Assembly>& result) {
    return result ? "it was assembled" : result.error().text;
}
void zero_slots(Kit& kit, std::size_t at) {
    std::memset(kit.disks[at]->content().data() + slots_offset, 0, slots_end - slots_offset);
}
Configuration two_volumes() {
    Configuration c = kit_configuration(Level::raid5, 4);
    c.volumes = {{"one", StripeIndex{0}, 1}, {"two", StripeIndex{1}, 3}};
    return c;
}
/// The kernel keeps devflags' upper bits, and raises events.
void md_runs(Kit& kit) {
    for (const auto& disk : kit.disks) {
        test::change_superblock(*disk, [&kit](MdSuperblock& sb) {
            sb.events = kit.now.events + 4;
            sb.feature_map = 0;
            sb.utime = 1'700'009'999;
            for (std::uint32_t role = 0; role != kit.now.member_count; ++role) {
                sb.dev_roles[role] = static_cast<std::uint16_t>(role);
            }
        });
    }
}
MdSuperblock superblock_of(const Kit& kit, std::size_t at) {
    return *inspect(kit.image(at)).superblock;
}

TEST(MdWorld, VolumesWhoseSlotsAreGoneOnAllMembersAreNotMadeOne) {
    Kit kit(two_volumes());
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    for (const bool md_ran : {false, true}) {
        if (md_ran) md_runs(kit);
        for (const std::size_t at : kit.all()) zero_slots(kit, at);
        const auto refused = kit.assemble();
        EXPECT_PRED2(has, refusal(refused), "which alone says what volumes it holds");
        const auto forced = kit.assemble(kit.all(), Force::yes);
        ASSERT_TRUE(forced) << refusal(forced);
        EXPECT_EQ(forced->configuration.volumes.size(), 1U);
    }
}

TEST(MdWorld, OneMemberThatHasItsSlotIsEnough) {
    for (const bool md_ran : {false, true}) {
        Kit kit(two_volumes());
        ASSERT_TRUE(kit.start());
        ASSERT_TRUE(kit.stop());
        if (md_ran) md_runs(kit);
        for (const std::size_t at : {0U, 1U, 3U}) zero_slots(kit, at);
        const auto assembly = kit.assemble();
        ASSERT_TRUE(assembly) << refusal(assembly);
        EXPECT_EQ(assembly->configuration.volumes, two_volumes().volumes);
        EXPECT_EQ(assembly->configuration.lost_count(), 0U);
    }
}

// The only configuration left is older than the volumes.
TEST(MdWorld, AConfigurationFromBeforeTheVolumesDoesNotCount) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    kit.now.members[2].state = MemberState::faulty;
    ASSERT_TRUE(kit.step());
    kit.now.volumes = two_volumes().volumes;
    ASSERT_TRUE(kit.step());
    ASSERT_TRUE(kit.stop());
    for (const std::size_t at : {0U, 1U, 3U}) zero_slots(kit, at);
    // Nobody is taken for a member by the word of the one that was away,
    EXPECT_PRED2(has, refusal(kit.assemble()), "1 of its 4 members are usable");
    // nor its volumes for the array's, when md has taken it back.
    md_runs(kit);
    EXPECT_PRED2(has, refusal(kit.assemble()), "is from before that");
    EXPECT_TRUE(kit.assemble(kit.all(), Force::yes));
}

// Arrays that a braid without the mark on the superblock made, or served: the record tells.
TEST(MdWorld, ARecordOfTheWriteIntentTellsThatBraidServedIt) {
    Kit kit(kit_configuration(Level::raid5, 3));
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    for (const std::size_t at : kit.all()) zero_slots(kit, at);
    EXPECT_TRUE(kit.assemble());
    IntentRecord record;
    record.array = kit.now.array;
    record.generation = 2;
    const Buffer bytes = encode_intent(record);
    std::memcpy(kit.disks[1]->content().data() + slots_end, bytes.data(), bytes.size());
    EXPECT_PRED2(has, refusal(kit.assemble()), "/m1: braid has served this array");
    EXPECT_TRUE(kit.assemble(kit.all(), Force::yes));
}

TEST(MdWorld, TheLogOfOlderArraysMovesInFrontOfOurAreas) {
    Kit kit(kit_configuration(Level::raid5, 3));
    for (std::size_t at = 0; at != kit.disks.size(); ++at) {
        kit.held[at].superblock.bblog_offset = 1008;  // before the data
        ASSERT_TRUE(test::run(write_disk(
            *kit.disks[at], md_superblock_offset,
            {reinterpret_cast<const std::byte*>(&kit.held[at].superblock), sizeof(MdSuperblock)})));
        test::change_superblock(*kit.disks[at], [](MdSuperblock& sb) { sb.bblog_offset = 1008; });
    }
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    for (const std::size_t at : kit.all()) {
        EXPECT_EQ(plain(superblock_of(kit, at).bblog_offset), 264);
        EXPECT_EQ(plain(superblock_of(kit, at).bblog_size), 8);
    }
    EXPECT_EQ(kit.assemble()->configuration, kit.now);
}

TEST(MdWorld, LogicalBlocksStayAndNewMembersGetThem) {
    Kit kit(kit_configuration(Level::raid5, 3, 1));
    for (std::size_t at = 0; at != 3; ++at) {
        test::change_superblock(*kit.disks[at],
                                [](MdSuperblock& sb) { sb.logical_block_size = 4096; });
    }
    const auto assembly = kit.assemble({0, 1, 2});
    ASSERT_TRUE(assembly) << refusal(assembly);
    for (std::size_t at = 0; at != 3; ++at) kit.held[at] = assembly->places[at].metadata;
    const Uuid uuid = kit.now.members[3].uuid;
    std::memset(kit.disks[3]->content().data(), 0, kit.disks[3]->content().size());
    auto prepared = test::run(
        prepare_new_member(*kit.disks[3], uuid, kit.now, assembly->places[0].metadata, Force::no));
    ASSERT_TRUE(prepared) << prepared.error().text;
    kit.held[3] = std::move(prepared->metadata);
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    for (const std::size_t at : kit.all()) {
        EXPECT_EQ(plain(superblock_of(kit, at).logical_block_size), 4096U);
    }
}

// "host:name" of md's may fill the field to its end; braid's may be longer than it.
TEST(MdWorld, LongNamesAreCutForMdOnly) {
    Configuration c = kit_configuration(Level::raid5, 3);
    c.name = std::string(63, 'n');
    Kit kit(c);
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    EXPECT_EQ(name_of(superblock_of(kit, 0)), std::string(31, 'n'));
    EXPECT_EQ(kit.assemble()->configuration.name, c.name);
    md_runs(kit);
    EXPECT_EQ(kit.assemble()->configuration.name, c.name);
}

}  // namespace
}  // namespace braid
