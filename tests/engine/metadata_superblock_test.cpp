// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "engine/metadata/md_superblock.h"
#include "tests/engine/array_kit.h"
#include "tests/engine/hex.h"

namespace braid {
namespace {

using test::kit_configuration;

Configuration sample() {
    Configuration c = kit_configuration(Level::raid5, 3, 1);
    c.version = {7, 0};
    c.in_force = {6, 0};
    c.events = 24;
    c.in_use = true;
    c.resynced = StripeIndex{2};
    c.members[2].state = MemberState::rebuilding;
    c.members[2].rebuilt = StripeIndex{1};
    return c;
}
MdSuperblock make(const Configuration& c, std::size_t member) {
    return update_md_superblock(make_md_superblock(c, c.members[member]), c, c.members[member],
                                1'700'000'123);
}
Buffer bytes_of(const MdSuperblock& sb) {
    Buffer bytes(sizeof sb);
    std::memcpy(bytes.data(), &sb, sizeof sb);
    return bytes;
}
Result<MdSuperblock, Finding> decode(const MdSuperblock& sb,
                                     std::uint64_t size = test::kit_member_size) {
    return decode_md_superblock(bytes_of(sb).view(), size);
}

TEST(MdSuperblock, GoldenBytes) {
    const std::string golden =
        "fc4e2ba9010000000200008000000000aa000000000000000000000000000001"
        "6b69740000000000000000000000000000000000000000000000000000000000"
        "00f1536500000000050000000200000000020000000000008000000003000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0010000000000000000200000000000008000000000000008000000000000000"
        "0200000000000000bb0000000000000000000000000000020000080008010000"
        "7bf15365000100001800000000000000000000000000000002b44ff780000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "000001000200" +
        std::string(2 * (512 - 262), 'f');  // roles 0, 1, 2; then spares
    const Buffer bytes = bytes_of(make(sample(), 2));
    EXPECT_EQ(test::hex(bytes.view().first(512)), golden);
    EXPECT_EQ(test::hex(bytes.view().subspan(512)), std::string(2 * (4096 - 512), '0'));
}

TEST(MdSuperblock, SaysWhatTheConfigurationSays) {
    const Configuration c = sample();
    for (const std::size_t member : {0U, 1U, 2U}) {
        const auto sb = decode(make(c, member));
        ASSERT_TRUE(sb) << sb.error().text;
        EXPECT_EQ(sb->set_uuid, c.array);
        EXPECT_EQ(sb->device_uuid, c.members[member].uuid);
        EXPECT_EQ(name_of(*sb), "kit");
        EXPECT_EQ(strip_size_of(*sb), c.strip_size);
        EXPECT_EQ(stripes_of(*sb), c.stripes);
        EXPECT_EQ(role_of(*sb), member);
        EXPECT_TRUE(is_in_use(*sb));
        EXPECT_EQ(plain(sb->resync_offset), 0U);
    }
    EXPECT_EQ(rebuilt_of(make(c, 2)), StripeIndex{1});
    EXPECT_EQ(role_of(make(c, 3)), md_role::spare);
}

TEST(MdSuperblock, ACleanStopIsCleanForMd) {
    Configuration c = sample();
    c.in_use = false;
    c.resynced = std::nullopt;
    MdSuperblock sb = make(c, 0);
    EXPECT_EQ(plain(sb.feature_map), 0U);
    EXPECT_EQ(plain(sb.resync_offset), md_never);
    EXPECT_EQ(resynced_of(sb), std::nullopt);
    c.resynced = StripeIndex{3};
    sb = make(c, 0);
    EXPECT_EQ(plain(sb.resync_offset), 3 * c.strip_size / sector_size);
    EXPECT_EQ(resynced_of(sb), StripeIndex{3});
}

TEST(MdSuperblock, LostMembersAreFaultyForMd) {
    Configuration c = sample();
    c.members[0].state = MemberState::faulty;
    c.members[1].state = MemberState::missing;
    const MdSuperblock sb = make(c, 2);
    EXPECT_EQ(plain(sb.dev_roles[0]), md_role::faulty);
    EXPECT_EQ(plain(sb.dev_roles[1]), md_role::faulty);
    EXPECT_EQ(plain(sb.dev_roles[2]), 2);
    EXPECT_EQ(plain(sb.dev_roles[3]), md_role::spare);
}

TEST(MdSuperblock, GrowsItsTableForHighNumbers) {
    Configuration c = sample();
    c.members[3].dev_number = 300;
    const MdSuperblock sb = make(c, 3);
    EXPECT_EQ(plain(sb.max_dev), 384U);
    EXPECT_TRUE(decode(sb));
}

struct Damage {
    const char* what;
    std::function<void(MdSuperblock&)> change;
    FindingKind kind;
    bool fix_checksum{true};
};
TEST(MdSuperblock, EveryDamageIsNamed) {
    using Sb = MdSuperblock;
    const auto corrupt = FindingKind::corrupt;
    const auto unsupported = FindingKind::unsupported;
    const std::vector<Damage> damages{
        {"holds no md superblock", [](Sb& s) { s.magic = 1; }, FindingKind::none},
        {"major version 2", [](Sb& s) { s.major_version = 2; }, unsupported},
        {"max_dev is 1921", [](Sb& s) { s.max_dev = 1921; }, corrupt, false},
        {"its checksum is", [](Sb& s) { s.events = 3; }, corrupt, false},
        {"found in sector 8", [](Sb& s) { s.super_offset = 0; }, corrupt},
        {"bytes that must be zero", [](Sb& s) { s.pad0 = 1; }, corrupt},
        {"bytes that must be zero", [](Sb& s) { s.pad3[27] = 1; }, corrupt},
        {"logical blocks of 8192", [](Sb& s) { s.logical_block_size = 8192; }, unsupported},
        {"logical blocks of 256", [](Sb& s) { s.logical_block_size = 256; }, unsupported},
        {"logical blocks of 1536", [](Sb& s) { s.logical_block_size = 1536; }, unsupported},
        {"is being reshaped", [](Sb& s) { s.feature_map = 4; }, unsupported},
        {"replacement", [](Sb& s) { s.feature_map = 16; }, unsupported},
        {"backwards", [](Sb& s) { s.feature_map = 32; }, unsupported},
        {"second data offset", [](Sb& s) { s.feature_map = 64; }, unsupported},
        {"md's bitmap", [](Sb& s) { s.feature_map = 128; }, unsupported},
        {"clustered", [](Sb& s) { s.feature_map = 256; }, unsupported},
        {"write journal", [](Sb& s) { s.feature_map = 512; }, unsupported},
        {"partial parity log", [](Sb& s) { s.feature_map = 1024; }, unsupported},
        {"several partial parity logs", [](Sb& s) { s.feature_map = 2048; }, unsupported},
        {"RAID-0", [](Sb& s) { s.feature_map = 4096; }, unsupported},
        {"feature bits 0x40000000", [](Sb& s) { s.feature_map = 1u << 30; }, unsupported},
        {"RAID-1 (level 1)", [](Sb& s) { s.level = 1; }, unsupported},
        {"an unknown level", [](Sb& s) { s.level = 77; }, unsupported},
        {"RAID-5 layout 4", [](Sb& s) { s.layout = 4; }, unsupported},
        {"RAID-6 layout 0", [](Sb& s) { s.level = 6, s.layout = 0; }, unsupported},
        {"strips (md: chunks) of 0", [](Sb& s) { s.chunksize = 0; }, unsupported},
        {"strips (md: chunks) of 1536", [](Sb& s) { s.chunksize = 3; }, unsupported},
        {"array of 2 members", [](Sb& s) { s.raid_disks = 2; }, unsupported},
        {"array of 65 members", [](Sb& s) { s.raid_disks = 65; }, unsupported},
        {"sizes beyond any device", [](Sb& s) { s.data_offset = ~0ULL; }, corrupt},
        {"over the superblock", [](Sb& s) { s.data_offset = 8; }, unsupported},
        {"not on a multiple", [](Sb& s) { s.data_offset = 1025; }, unsupported},
        {"sectors used of", [](Sb& s) { s.size = s.data_size + 1; }, corrupt},
        {"sectors used of", [](Sb& s) { s.size = 8; }, corrupt},
        {"dev_number 128", [](Sb& s) { s.dev_number = 128; }, corrupt},
        {"journal", [](Sb& s) { s.dev_roles[2] = md_role::journal; }, unsupported},
        {"role 0x3 in an array of 3", [](Sb& s) { s.dev_roles[2] = 3; }, corrupt},
        {"rebuilt further", [](Sb& s) { s.recovery_offset = s.size + 1; }, corrupt},
        {"is truncated: its data reaches to byte", [](Sb& s) { s.data_size = s.size = 513; },
         corrupt},
    };
    for (const Damage& damage : damages) {
        MdSuperblock sb = make(sample(), 2);
        damage.change(sb);
        if (damage.fix_checksum) sb.sb_csum = md_checksum(sb);
        const auto result = decode(sb);
        ASSERT_FALSE(result) << damage.what;
        EXPECT_EQ(result.error().kind, damage.kind) << damage.what;
        EXPECT_NE(result.error().text.find(damage.what), std::string::npos)
            << damage.what << " is not in: " << result.error().text;
    }
}

// Linux 6.19 and later, with disks of 4096-byte sectors, or when told to.
TEST(MdSuperblock, LogicalBlocksAreKept) {
    for (const std::uint32_t size : {512U, 1024U, 2048U, 4096U}) {
        const Configuration c = sample();
        MdSuperblock sb = make(c, 0);
        sb.logical_block_size = size;
        sb.sb_csum = md_checksum(sb);
        const auto decoded = decode(sb);
        ASSERT_TRUE(decoded) << decoded.error().text;
        const MdSuperblock after = update_md_superblock(*decoded, c, c.members[0], 1'700'000'456);
        EXPECT_EQ(plain(after.logical_block_size), size);
        EXPECT_EQ(test::hex(bytes_of(after).view().subspan(224, 2)), size == 4096   ? "0010"
                                                                     : size == 2048 ? "0008"
                                                                     : size == 1024 ? "0004"
                                                                                    : "0002");
        EXPECT_TRUE(decode(after));
    }
}

TEST(MdSuperblock, NamesEndWithAZero) {
    Configuration c = sample();
    c.name = std::string(31, 'n');
    EXPECT_EQ(name_of(make(c, 0)), c.name);
    for (const std::size_t length : {32U, 63U}) {
        c.name = std::string(length, 'n');
        const MdSuperblock sb = make(c, 0);
        EXPECT_EQ(name_of(sb), std::string(31, 'n'));
        EXPECT_EQ(sb.set_name.back(), '\0');
    }
    // As older versions of braid, and of mdadm, wrote it: read to its end, and mended.
    MdSuperblock sb = make(c, 0);
    sb.set_name.fill('n');
    sb.ctime = 0x6e6e6e6e6e6e6e6e;
    EXPECT_EQ(name_of(sb), std::string(32, 'n'));
    EXPECT_EQ(name_of(update_md_superblock(sb, c, c.members[0], 1)), std::string(31, 'n'));
}

TEST(MdSuperblock, SaysThatThereAreVolumes) {
    Configuration c = sample();
    EXPECT_FALSE(has_volumes(make(c, 0)));
    c.volumes = {{"one", StripeIndex{0}, 1}, {"two", StripeIndex{1}, c.stripes - 1}};
    MdSuperblock sb = make(c, 0);
    EXPECT_TRUE(has_volumes(sb));
    EXPECT_EQ(int{sb.devflags}, 0x80);
    c.volumes.pop_back();
    EXPECT_TRUE(has_volumes(make(c, 0)));  // a part of the array
    c.volumes.clear();
    EXPECT_TRUE(has_volumes(make(c, 0)));
    // md's own flags stay, and the mark goes with its reason.
    sb.devflags = 0x83;
    sb = update_md_superblock(sb, sample(), c.members[0], 1);
    EXPECT_EQ(int{sb.devflags}, 3);
}

// What mdadm takes for a bitmap or a partial parity log ends before the log.
TEST(MdSuperblock, TheLogGuardsOurAreas) {
    const Configuration c = sample();
    const auto log_of = [](const MdSuperblock& sb) {
        return std::pair(plain(sb.bblog_offset), unsigned{plain(sb.bblog_size)});
    };
    const auto place = std::pair(264, 8U);
    MdSuperblock sb = make(c, 0);
    EXPECT_EQ(log_of(sb), place);
    EXPECT_EQ(md_superblock_offset + 264 * sector_size + 8 * sector_size, 143360U);
    sb.bblog_offset = 1008;  // just before the data, as older versions had it
    EXPECT_EQ(log_of(place_log(sb, std::nullopt)), place);
    sb.bblog_offset = sb.bblog_size = 0;  // mdadm --assemble --update=no-bbl
    EXPECT_EQ(log_of(place_log(sb, std::nullopt)), place);
    sb.bblog_offset = 16, sb.bblog_size = 8;  // mdadm's choice
    EXPECT_EQ(log_of(place_log(sb, std::nullopt)), std::pair(16, 8U));
    sb.bblog_offset = 265;  // reaches into ours
    EXPECT_EQ(log_of(place_log(sb, std::nullopt)), place);
    MdBitmapHeader bitmap{};
    sb.bblog_offset = 1008;
    sb.bitmap_offset = 8;
    bitmap.chunksize = 4096;
    bitmap.sync_size = 8 * (8 * 128 * 1024 - 2048);  // 128 KiB of bitmap: ends where the log begins
    EXPECT_EQ(size_of(bitmap), 128U << 10);
    EXPECT_EQ(log_of(place_log(sb, bitmap)), place);
    bitmap.sync_size = bitmap.sync_size + 1;
    EXPECT_EQ(log_of(place_log(sb, bitmap)), std::pair(1008, 8U));
}

TEST(MdSuperblock, AnyChecksumCanBeHad) {
    const MdSuperblock sb = make(sample(), 1);
    const std::uint32_t own = sb.sb_csum;
    MdSuperblock timeless = sb;
    timeless.utime = 0;
    EXPECT_EQ(bytes_of(with_checksum(timeless, own)), bytes_of(sb));  // with its time
    for (const std::uint32_t sum : {0U, 1U, 2U, 8U, 100U, own + 1, own - 1, 0x7fffffffU, ~0U}) {
        const MdSuperblock forged = with_checksum(timeless, sum);
        EXPECT_EQ(plain(forged.sb_csum), sum);
        const auto decoded = decode(forged);
        EXPECT_TRUE(decoded) << decoded.error().text;
    }
}

TEST(MdSuperblock, AnOddTableIsSummedToItsEnd) {
    MdSuperblock sb = make(sample(), 2);
    sb.max_dev = 127;
    const auto before = md_checksum(sb);
    sb.dev_roles[126] = 5;
    EXPECT_NE(before, md_checksum(sb));
}

TEST(MdBitmap, HeaderIsCheckedAndRaised) {
    MdBitmapHeader header{};
    const Uuid array = test::uuid_of(1, 2);
    header.magic = md_bitmap_magic;
    header.version = 4;
    header.uuid = array;
    header.events = 10;
    header.sync_size = 1024 * 2048;
    header.chunksize = 64u << 20;
    const auto decode_it = [&] {
        return decode_md_bitmap(std::as_bytes(std::span(&header, 1)), array);
    };
    ASSERT_TRUE(decode_it());
    EXPECT_EQ(size_of(header), 256U + 2U);
    header = update_md_bitmap(header, 12);
    EXPECT_EQ(plain(header.events), 12U);
    EXPECT_EQ(plain(header.events_cleared), 12U);
    header.version = 5;
    EXPECT_EQ(decode_it().error().text, "md's bitmap is a clustered one");
    header.version = 6;
    EXPECT_EQ(decode_it().error().kind, FindingKind::unsupported);
    header.version = 4;
    header.uuid = test::uuid_of(9, 9);
    EXPECT_EQ(decode_it().error().kind, FindingKind::corrupt);
    header.uuid = array;
    header.chunksize = 0;
    EXPECT_EQ(decode_it().error().kind, FindingKind::corrupt);
    header.chunksize = 512;
    header.magic = 0;
    EXPECT_EQ(decode_it().error().kind, FindingKind::corrupt);
}

}  // namespace
}  // namespace braid
