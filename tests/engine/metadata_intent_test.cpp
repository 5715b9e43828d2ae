// SPDX-License-Identifier: BSD-3-Clause
// The area of the write intent on the members: made ready, left alone, emptied; and what assembly
// makes of it besides the records themselves (assembly_intent_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "engine/assembly/assembly.h"
#include "engine/assembly/new_member.h"
#include "engine/base/crc32c.h"
#include "tests/engine/array_kit.h"

namespace braid {
namespace {

using test::Kit;
using test::kit_configuration;
using test::kit_narrow;
using Numbers = std::vector<std::size_t>;

constexpr std::uint32_t slots = nodes_max * intent_slots;

bool has(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}
bool has_notice(const Assembly& assembly, std::string_view part) {
    return std::ranges::any_of(assembly.notices,
                               [part](const std::string& notice) { return has(notice, part); });
}
std::string refusal(const Checked<Assembly>& result) {
    return result ? "it was assembled" : result.error().text;
}

std::byte* slot_at(test::MemoryDisk& disk, std::uint32_t slot) {
    return disk.content().data() + slots_end + slot * intent_slot_size;
}
void put(test::MemoryDisk& disk, const IntentRecord& record) {
    const Buffer bytes = encode_intent(record);
    std::memcpy(
        disk.content().data() + slots_end + intent_slot_offset(record.node, record.generation),
        bytes.data(), bytes.size());
}
IntentRecord record_of(const Kit& kit, std::uint64_t generation, std::vector<IntentEntry> entries) {
    IntentRecord record;
    record.array = kit.now.array;
    record.generation = generation;
    record.epoch = kit.now.version.epoch;
    record.entries = std::move(entries);
    return record;
}
MemberFindings findings_of(const Kit& kit, std::size_t at) { return inspect(kit.image(at)); }

Kit wide_kit(Level level, std::uint32_t count, std::uint32_t spares = 0) {
    return Kit(kit_configuration(level, count, spares));
}
const std::vector<IntentEntry> some{{0, 1, StripeIndex{1}}};
const std::vector<IntentEntry> other{{0, 2, StripeIndex{2}}};

TEST(IntentArea, IsMadeReadyWithTheFirstConfiguration) {
    Kit kit = wide_kit(Level::raid5, 3, 1);
    for (std::size_t at = 0; at != 4; ++at) {
        const MemberFindings findings = findings_of(kit, at);
        EXPECT_FALSE(findings.intent_hindrance) << findings.intent_hindrance->text;
        EXPECT_TRUE(findings.intent_zero.empty());
        EXPECT_TRUE(findings.intent.empty());
        for (std::uint32_t slot = 0; slot != slots; ++slot) {
            EXPECT_EQ(std::memcmp(slot_at(*kit.disks[at], slot), "BRAIDINT\0\0\0\0", 12), 0);
        }
    }
}

TEST(IntentArea, OfAnOlderArrayIsMadeReadyWithTheNextOne) {
    Kit kit = wide_kit(Level::raid5, 3);
    test::MemoryDisk& disk = *kit.disks[1];
    std::memset(slot_at(disk, 0), 0, write_intent_size);
    put(disk, record_of(kit, 7, some));  // slot 1
    EXPECT_EQ(findings_of(kit, 1).intent_zero.size(), slots - 1);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    kit.adopt(*assembly, kit.all());
    ASSERT_TRUE(kit.start());
    const MemberFindings after = findings_of(kit, 1);
    EXPECT_TRUE(after.intent_zero.empty());
    ASSERT_EQ(after.intent.size(), 1U) << "and the record is still there";
    EXPECT_EQ(after.intent[0].slot, 1U);
    ASSERT_TRUE(after.intent[0].record);
    EXPECT_EQ(after.intent[0].record->entries, some);
    ASSERT_TRUE(kit.step());
    put(disk, record_of(kit, 8, other));
    ASSERT_TRUE(kit.step());
    EXPECT_EQ(findings_of(kit, 1).intent.size(), 2U) << "made ready only once";
}

TEST(IntentArea, ATornFirstRecordIsInNobodysWay) {
    Kit kit = wide_kit(Level::raid5, 3);
    IntentRecord record = record_of(kit, 6, {});
    for (std::uint32_t i = 0; i != 500; ++i) record.entries.push_back({0, 1, StripeIndex{2 * i}});
    const Buffer bytes = encode_intent(record);
    std::memcpy(slot_at(*kit.disks[0], 0) + sector_size, bytes.data() + sector_size,
                bytes.size() - sector_size);
    const MemberFindings findings = findings_of(kit, 0);
    EXPECT_FALSE(findings.intent_hindrance);
    EXPECT_TRUE(findings.intent.empty());
}

TEST(IntentArea, WhatIsInItsWayIsNamedAndNeverWrittenOver) {
    struct Case {
        const char* text;
        std::function<void(test::MemoryDisk&)> make;
    };
    const std::vector<Case> cases{
        {"/m1: has bytes of something else where the write intent would lie (at byte 323584); if "
         "they mean nothing to you, fill 16384 bytes there with zeros",
         [](auto& disk) {
             std::memset(slot_at(disk, 3), 0, intent_slot_size);
             slot_at(disk, 3)[intent_slot_size - 1] = std::byte{1};
         }},
        {"/m1: write intent slot 2 has format 9; this braid knows formats 1 to 2: use a newer one",
         [](auto& disk) {
             IntentRecord record;
             record.array = test::uuid_of(0xaa, 1);
             record.node = 1;
             put(disk, record);
             slot_at(disk, 2)[12] = std::byte{9};
             const Le32 sum = crc32c({slot_at(disk, 2) + 12, sizeof(IntentHeader) - 12});
             std::memcpy(slot_at(disk, 2) + 8, &sum, sizeof sum);
         }},
    };
    for (const Case& bad : cases) {
        Kit kit = wide_kit(Level::raid5, 3);
        bad.make(*kit.disks[1]);
        std::memset(slot_at(*kit.disks[1], 40), 0, intent_slot_size);  // not made ready either
        const auto assembly = kit.assemble();
        ASSERT_TRUE(assembly) << refusal(assembly);
        EXPECT_EQ(assembly->intent_hindrance, bad.text);
        const Buffer before(ByteView{slot_at(*kit.disks[1], 0), write_intent_size});
        kit.adopt(*assembly, kit.all());
        ASSERT_TRUE(kit.start());
        EXPECT_EQ(std::memcmp(before.data(), slot_at(*kit.disks[1], 0), write_intent_size), 0)
            << bad.text;
    }
}

TEST(IntentArea, MdsOwnAreasAndTheDataComeFirst) {
    Kit kit = wide_kit(Level::raid5, 3);
    put(*kit.disks[0], record_of(kit, 2, some));
    const MemberImage good = kit.image(0);
    const auto hindrance = [&good](auto change) -> std::string {
        MemberImage image = good;
        MdSuperblock sb;
        std::memcpy(&sb, image.superblock.data(), sizeof sb);
        change(sb, image);
        sb.sb_csum = md_checksum(sb);
        std::memcpy(image.superblock.data(), &sb, sizeof sb);
        const MemberFindings findings = inspect(image);
        EXPECT_TRUE(findings.superblock);
        EXPECT_TRUE(findings.intent.empty()) << "no record there can be ours";
        EXPECT_TRUE(findings.intent_zero.empty()) << "nothing there is to be made ready";
        return findings.intent_hindrance ? findings.intent_hindrance->text : "";
    };
    const auto behind_superblock = [](std::uint64_t bytes) {
        return static_cast<std::int32_t>((bytes - md_superblock_offset) / sector_size);
    };
    EXPECT_EQ(hindrance([&](MdSuperblock& sb, MemberImage&) {
                  sb.bblog_size = 8;
                  sb.bblog_offset = behind_superblock(slots_end + write_intent_size - row_size);
              }),
              "has md's bad-block log where the write intent would lie; assemble it with mdadm "
              "--update=no-bbl once");
    EXPECT_EQ(hindrance([&](MdSuperblock& sb, MemberImage& image) {
                  sb.feature_map = sb.feature_map | md_feature::bitmap;
                  sb.bitmap_offset = behind_superblock(slots_end);
                  MdBitmapHeader header{};
                  header.magic = md_bitmap_magic;
                  header.version = 4;
                  header.uuid = sb.set_uuid;
                  header.chunksize = 64u << 10;
                  header.sync_size = sb.size;
                  image.bitmap = Buffer(row_size);
                  std::memcpy(image.bitmap.data(), &header, sizeof header);
              }),
              "has md's bitmap where the write intent would lie; take it away with mdadm --grow "
              "--bitmap=none");
    const std::string no_room = hindrance([&](MdSuperblock& sb, MemberImage&) {
        sb.data_offset = (slots_end + write_intent_size) / sector_size;
    });
    EXPECT_PRED2(has, no_room, "has no room for the write intent: its data starts at byte 1323008");
    EXPECT_PRED2(has, no_room, "and 1327104 are needed");
    EXPECT_EQ(hindrance([&](MdSuperblock&, MemberImage& image) { image.intent = Buffer(); }),
              "ends before the place of the write intent");
}

TEST(IntentArea, ASmallGapHasNone) {
    Kit kit(kit_narrow(kit_configuration(Level::raid5, 3)));
    ASSERT_TRUE(kit.start());
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_PRED2(has, assembly->intent_hindrance, "/m0: has no room for the write intent");
    EXPECT_EQ(assembly->configuration.resynced, StripeIndex{0});
    EXPECT_TRUE(has_notice(*assembly,
                           "not stopped cleanly (no usable write intent was found on its "
                           "members: /m0: has no room"));
}

TEST(IntentArea, ARowOfTheDataThatCannotBeReadCostsNobodyHisPlace) {
    for (const std::uint64_t offset : {test::kit_narrow_data_offset, promises_offset}) {
        Kit kit(kit_narrow(kit_configuration(Level::raid5, 3)));
        ASSERT_TRUE(kit.start());
        kit.disks[1]->spoil_row(offset);
        EXPECT_EQ(kit.image(1).os_error, 0) << offset;
        const auto assembly = kit.assemble();
        ASSERT_TRUE(assembly) << refusal(assembly);
        EXPECT_EQ(assembly->configuration.members[1].state, MemberState::in_sync);
    }
    Kit wide = wide_kit(Level::raid5, 3);
    wide.disks[1]->spoil_row(promises_offset);
    EXPECT_EQ(wide.image(1).os_error, EIO) << "this one is not data";
}

TEST(IntentArea, WhatAnotherArrayLeftCountsAsEmpty) {
    Kit kit = wide_kit(Level::raid5, 3);
    IntentRecord record = record_of(kit, 100, some);
    record.array = test::uuid_of(0xdd, 9);
    put(*kit.disks[0], record);
    const MemberFindings findings = findings_of(kit, 0);
    EXPECT_TRUE(findings.intent.empty());
    EXPECT_FALSE(findings.intent_hindrance);
}

/// Promises and stores, as a member that is filled does.
bool join(test::MemoryDisk& disk, const Configuration& next, MemberMetadata& metadata) {
    return test::run(promise_member(disk, &metadata, next.array, next.version.epoch)) &&
           test::run(write_member_metadata(disk, &next, &metadata, 1));
}

/// A device with a record of this array, as member, spare or stranger of it, joins as another one.
void expect_emptied(test::MemoryDisk& disk, Kit& kit, const char* what) {
    put(disk, record_of(kit, 1000, other));
    put(disk, record_of(kit, 1001, some));
    slot_at(disk, 9)[17] = std::byte{1};
    const Uuid uuid = test::uuid_of(0xee, 1);
    auto prepared = test::run(prepare_new_member(disk, uuid, kit.now, kit.held[0], Force::no));
    ASSERT_TRUE(prepared) << what << ": " << prepared.error().text;
    EXPECT_EQ(std::memcmp(slot_at(disk, 0), intent_magic.data(), 8), 0)
        << what << ": it does not belong to the array yet, so it keeps what it has";
    Configuration next = kit.now;
    next.members[2].uuid = uuid;
    next.members[2].state = MemberState::rebuilding;
    next.members[2].rebuilt = StripeIndex{0};
    ASSERT_TRUE(join(disk, next, prepared->metadata)) << what;
    const MemberFindings findings = inspect(test::run(read_member_image(disk)));
    ASSERT_TRUE(findings.superblock) << what;
    EXPECT_TRUE(findings.intent.empty()) << what;
    EXPECT_FALSE(findings.intent_hindrance) << what << findings.intent_hindrance->text;
    EXPECT_TRUE(findings.intent_zero.empty()) << what;
}

TEST(IntentArea, ANewMemberBringsNoRecordsAlong) {
    Kit kit = wide_kit(Level::raid5, 3, 1);
    ASSERT_TRUE(kit.start());
    expect_emptied(*kit.disks[2], kit, "a member that was away");
    expect_emptied(*kit.disks[3], kit, "a spare");
    // Its front is empty up to where nobody looked before.
    test::MemoryDisk blank("/blank", kit.now.members[0].size);
    std::memset(blank.content().data() + slots_end + (800u << 10), 5, 4096);
    const Uuid uuid = test::uuid_of(0xee, 2);
    auto prepared = test::run(prepare_new_member(blank, uuid, kit.now, kit.held[0], Force::no));
    ASSERT_TRUE(prepared) << prepared.error().text;
    Configuration next = kit.now;
    next.members[2].uuid = uuid;
    next.members[2].state = MemberState::rebuilding;
    ASSERT_TRUE(join(blank, next, prepared->metadata));
    EXPECT_FALSE(inspect(test::run(read_member_image(blank))).intent_hindrance);
}

TEST(IntentArea, APowerCutWhileAMemberJoinsNeverShowsAnOldRecord) {
    for (std::uint64_t at = 0; at != 12; ++at) {
        Kit kit = wide_kit(Level::raid5, 3);
        ASSERT_TRUE(kit.start());
        auto power = std::make_shared<test::Power>();
        test::MemoryDisk disk("/new", kit.now.members[0].size, power);
        for (const std::uint64_t generation : {500, 501}) {
            put(disk, record_of(kit, generation, some));
        }
        std::memcpy(disk.content().data() + md_superblock_offset,
                    kit.disks[2]->content().data() + md_superblock_offset, row_size);
        const Uuid uuid = test::uuid_of(0xee, 1);
        auto prepared = test::run(prepare_new_member(disk, uuid, kit.now, kit.held[0], Force::no));
        ASSERT_TRUE(prepared);
        Configuration next = kit.now;
        next.members[2].uuid = uuid;
        next.members[2].state = MemberState::rebuilding;
        power->left = at;
        const bool written = join(disk, next, prepared->metadata);
        Rng rng(at);
        if (!written) disk.lose_unflushed(rng);
        const MemberFindings findings = inspect(test::run(read_member_image(disk)));
        const bool joined = findings.superblock && findings.superblock->device_uuid == uuid;
        EXPECT_EQ(joined && !findings.intent.empty(), false) << at;
        if (written) {
            EXPECT_TRUE(joined);
            return;
        }
    }
    FAIL() << "it never was written";
}

// --- what assembly makes of it ---

/// Runs, with a record of `entries` on one member.
Kit crashed_kit(Level level, std::uint32_t count, const std::vector<IntentEntry>& entries = some) {
    Kit kit = wide_kit(level, count);
    EXPECT_TRUE(kit.start());
    put(*kit.disks[0], record_of(kit, 10, entries));
    return kit;
}

TEST(IntentAssembly, ARecordOfANewerFormatIsNotPassedOver) {
    Kit kit = crashed_kit(Level::raid5, 3);
    IntentRecord newer = record_of(kit, 11, {});
    put(*kit.disks[1], newer);
    std::byte* slot = slot_at(*kit.disks[1], 1);
    slot[12] = std::byte{intent_format + 1};
    const Le32 sum = crc32c({slot + 12, sizeof(IntentHeader) - 12});
    std::memcpy(slot + 8, &sum, sizeof sum);
    const auto whole = kit.assemble();
    ASSERT_TRUE(whole) << refusal(whole);
    EXPECT_TRUE(whole->marked.empty());
    EXPECT_EQ(whole->configuration.resynced, StripeIndex{0});
    EXPECT_TRUE(has_notice(*whole, "write intent slot 1 has format 3"));
    EXPECT_PRED2(has, refusal(kit.assemble({0, 1})), "write intent slot 1 has format 3");
}

TEST(IntentAssembly, NothingMarkedMeansNothingInDoubt) {
    Kit kit = crashed_kit(Level::raid5, 3, {});
    const auto degraded = kit.assemble({0, 1});
    ASSERT_TRUE(degraded) << refusal(degraded);
    EXPECT_TRUE(degraded->unclean);
    EXPECT_TRUE(degraded->marked.empty());
    EXPECT_TRUE(has_notice(*degraded, "nothing was being written"));
    EXPECT_FALSE(degraded->configuration.resynced);
}

TEST(IntentAssembly, SwitchedOffTheOldRecordDoesNotCount) {
    Kit kit = crashed_kit(Level::raid5, 3);
    kit.now.intent.on = false;
    ASSERT_TRUE(kit.step());
    const auto whole = kit.assemble();
    ASSERT_TRUE(whole) << refusal(whole);
    EXPECT_TRUE(whole->marked.empty());
    EXPECT_EQ(whole->configuration.resynced, StripeIndex{0});
    EXPECT_TRUE(has_notice(*whole, "not stopped cleanly (the write intent was off)"));
    EXPECT_EQ(whole->intent_generation(0), 10U) << "new ones go on from it all the same";
    EXPECT_PRED2(has, refusal(kit.assemble({0, 1})), "the write intent was off");
}

TEST(IntentAssembly, AResyncThatWasNotDoneStaysWhereItWas) {
    Kit kit = crashed_kit(Level::raid5, 3);
    kit.now.resynced = StripeIndex{2};
    ASSERT_TRUE(kit.step());
    const auto whole = kit.assemble();
    ASSERT_TRUE(whole) << refusal(whole);
    EXPECT_EQ(whole->marked, some);
    EXPECT_EQ(whole->configuration.resynced, StripeIndex{2});
    EXPECT_TRUE(has_notice(*whole, "parity is true up to stripe 2 of 4: the resync is not done"));
    const auto degraded = kit.assemble({0, 1});
    EXPECT_PRED2(has, refusal(degraded),
                 "has parity that was not yet resynced beyond stripe 2 of 4");
    const auto forced = kit.assemble({0, 1}, Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    EXPECT_FALSE(forced->configuration.resynced);
    EXPECT_EQ(forced->marked, some);
}

TEST(IntentAssembly, ForceIsAboutEnoughWhereThereIsARecord) {
    Kit kit = crashed_kit(Level::raid6, 4, other);
    put(*kit.disks[2], record_of(kit, 10, other));
    EXPECT_PRED2(has, refusal(kit.assemble({2, 3})), "it takes 3");
    const auto forced = kit.assemble({2, 3}, Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    EXPECT_EQ(forced->marked, other);
    EXPECT_FALSE(has_notice(*forced, "parity in doubt and a member lost"));
}

TEST(IntentAssembly, Raid4WithoutItsParityMember) {
    Kit kit = crashed_kit(Level::raid4, 4);
    const auto with = kit.assemble({0, 1, 2});
    ASSERT_TRUE(with) << refusal(with);
    EXPECT_EQ(with->marked, some);
    std::memset(slot_at(*kit.disks[0], 0), 0, write_intent_size);
    const auto without = kit.assemble({0, 1, 2});
    ASSERT_TRUE(without) << refusal(without);
    EXPECT_FALSE(without->configuration.resynced) << "every byte of the data is there";
}

TEST(IntentAssembly, SparesHaveNoSayAndMembersLeftBehindByACrashHave) {
    Kit kit = wide_kit(Level::raid5, 3, 1);
    ASSERT_TRUE(kit.start());
    put(*kit.disks[3], record_of(kit, 90, other));
    // The crash falls into writing the next configuration: member 2 has the one before.
    kit.begin_epoch();
    ASSERT_TRUE(kit.promise_all());
    for (const std::size_t at : {0, 1}) {
        ASSERT_TRUE(test::run(write_member_metadata(*kit.disks[at], &kit.now, &kit.held[at], 1)));
    }
    put(*kit.disks[2], record_of(kit, 10, some));
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->marked, some);
    EXPECT_EQ(assembly->intent_generation(0), 10U);
}

TEST(IntentAssembly, AfterMdRanItTheRecordsDoNotCount) {
    Kit kit = wide_kit(Level::raid5, 3);
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    for (auto& disk : kit.disks) {
        put(*disk, record_of(kit, 10, some));
        test::change_superblock(*disk, [](MdSuperblock& sb) {
            sb.events = sb.events + 5;
            sb.resync_offset = 0;  // md did not stop it cleanly
        });
    }
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->adopted);
    EXPECT_TRUE(assembly->marked.empty());
    EXPECT_EQ(assembly->configuration.resynced, StripeIndex{0});
    EXPECT_EQ(assembly->intent_generation(0), 10U);
    EXPECT_PRED2(has, refusal(kit.assemble({0, 1})), "parity is in doubt");
}

TEST(IntentAssembly, BadRowsKeepMdAwayFromAnArrayThatWasStoppedCleanly) {
    Kit kit = wide_kit(Level::raid6, 4);
    ASSERT_TRUE(kit.start());
    kit.now.bad_rows = {{MemberIndex{1}, RowIndex{3}, 2}, {MemberIndex{2}, RowIndex{16}, 1}};
    ASSERT_TRUE(kit.stop());
    EXPECT_TRUE(is_in_use(*findings_of(kit, 0).superblock));
    EXPECT_EQ(plain(findings_of(kit, 0).superblock->resync_offset), md_never);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_FALSE(assembly->unclean);
    EXPECT_FALSE(assembly->adopted);
    EXPECT_EQ(assembly->configuration.bad_rows, kit.now.bad_rows);
    EXPECT_FALSE(assembly->configuration.resynced);
    EXPECT_TRUE(assembly->notices.empty());
    EXPECT_TRUE(kit.assemble({0, 1, 2})) << "also degraded";
    kit.now.bad_rows.clear();
    ASSERT_TRUE(kit.step());
    EXPECT_FALSE(is_in_use(*findings_of(kit, 0).superblock));
}

TEST(IntentAssembly, TheListOfAnotherHistoryIsNotMds) {
    // Two of four went on by force and have the list; md ran the other two.
    Kit kit = wide_kit(Level::raid6, 4);
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    kit.now.members[2].state = kit.now.members[3].state = MemberState::missing;
    ASSERT_TRUE(kit.start());
    kit.now.bad_rows = {{MemberIndex{2}, RowIndex{3}, 2}};
    ASSERT_TRUE(kit.step());
    for (const std::size_t at : {2, 3}) {
        test::change_superblock(*kit.disks[at], [](MdSuperblock& sb) {
            sb.events = sb.events + 9;
            sb.dev_roles[0] = sb.dev_roles[1] = md_role::faulty;
        });
    }
    const auto mds = kit.assemble({2, 3}, Force::yes);
    ASSERT_TRUE(mds) << refusal(mds);
    EXPECT_TRUE(mds->adopted);
    EXPECT_TRUE(mds->configuration.bad_rows.empty());
    const auto ours = kit.assemble({0, 1}, Force::yes);
    ASSERT_TRUE(ours) << refusal(ours);
    EXPECT_EQ(ours->configuration.bad_rows, kit.now.bad_rows);
}

}  // namespace
}  // namespace braid
