// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/md_superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "engine/base/limits.h"

namespace braid {
namespace {

constexpr std::uint64_t sectors_max = member_size_max / sector_size;
constexpr std::uint64_t superblock_sector = md_superblock_offset / sector_size;

struct Feature {
    std::uint32_t bit;
    std::string_view why;
};
constexpr std::array unsupported_features{
    Feature{4, "is being reshaped: let md finish that first"},
    Feature{16, "is being copied onto a replacement: let md finish that first"},
    Feature{32, "is being reshaped backwards: let md finish that first"},
    Feature{64, "has a second data offset: let md finish its reshape first"},
    Feature{128, "is being recovered by md's bitmap: let md finish that first"},
    Feature{256, "belongs to a clustered md array"},
    Feature{512, "has a write journal: stop using it with md first"},
    Feature{1024,
            "has a partial parity log: switch it off with "
            "mdadm --grow --consistency-policy=resync"},
    Feature{2048,
            "has several partial parity logs: switch them off with "
            "mdadm --grow --consistency-policy=resync"},
    Feature{4096, "has a RAID-0 layout flag"},
};
constexpr std::uint32_t supported_features = md_feature::bitmap | md_feature::recovery_offset |
                                             md_feature::bad_blocks | md_feature::in_use_by_braid;

std::string_view name_of_level(std::int32_t level) {
    switch (level) {
        case -4:
            return "multipath";
        case -1:
            return "linear";
        case 0:
            return "RAID-0";
        case 1:
            return "RAID-1";
        case 10:
            return "RAID-10";
        default:
            return "an unknown level";
    }
}

Result<void, Finding> check_frame(const MdSuperblock& sb) {
    if (plain(sb.magic) != md_magic)
        return Finding{FindingKind::none, "holds no md superblock 1.2"};
    if (plain(sb.major_version) != 1) {
        return unsupported(
            fmt::format("md superblock: major version {}, not 1", plain(sb.major_version)));
    }
    if (sb.max_dev > md_devices_max) {
        return corrupt(fmt::format("corrupt md superblock: max_dev is {}, at most {} can be",
                                   plain(sb.max_dev), md_devices_max));
    }
    if (md_checksum(sb) != plain(sb.sb_csum)) {
        return corrupt(
            fmt::format("corrupt md superblock: its checksum is {:08x}, but it says "
                        "{:08x}",
                        md_checksum(sb), plain(sb.sb_csum)));
    }
    if (plain(sb.super_offset) != superblock_sector) {
        return corrupt(
            fmt::format("corrupt md superblock: it says that it lies in sector {}, but "
                        "was found in sector {}",
                        plain(sb.super_offset), superblock_sector));
    }
    const bool padded =
        plain(sb.pad0) == 0 && std::ranges::all_of(sb.pad3, [](auto b) { return b == 0; });
    if (!padded) return corrupt("corrupt md superblock: bytes that must be zero are not");
    return {};
}

Result<void, Finding> check_features(const MdSuperblock& sb) {
    for (const Feature& feature : unsupported_features) {
        if ((sb.feature_map & feature.bit) != 0) {
            return unsupported(fmt::format("md member that {}", feature.why));
        }
    }
    if (const std::uint32_t rest = sb.feature_map & ~supported_features; rest != 0) {
        return unsupported(
            fmt::format("md superblock with feature bits {:#x}, which braid does "
                        "not know",
                        rest));
    }
    return {};
}

Result<void, Finding> check_geometry(const MdSuperblock& sb) {
    const std::int32_t level = sb.level;
    if (level != 4 && level != 5 && level != 6) {
        return unsupported(
            fmt::format("md array of {} (level {}); braid serves RAID-4, RAID-5 "
                        "and RAID-6",
                        name_of_level(level), level));
    }
    if (level == 5 && sb.layout > 3) {
        return unsupported(fmt::format("RAID-5 layout {}; braid knows 0 to 3", plain(sb.layout)));
    }
    if (level == 6 && plain(sb.layout) != 2) {
        return unsupported(
            fmt::format("RAID-6 layout {}; braid knows 2, left-symmetric", plain(sb.layout)));
    }
    const std::uint64_t strip = plain(sb.chunksize) * sector_size;
    if (!std::has_single_bit(strip) || strip < strip_size_min || strip > strip_size_max) {
        return unsupported(
            fmt::format("strips (md: chunks) of {} bytes; braid serves powers of "
                        "two from 4 KiB to 16 MiB",
                        strip));
    }
    const std::uint32_t parities = level == 6 ? 2 : 1;
    if (sb.raid_disks < parities + 2 || sb.raid_disks > members_max) {
        return unsupported(fmt::format("array of {} members; braid serves RAID-{} of {} to {}",
                                       plain(sb.raid_disks), level, parities + 2, members_max));
    }
    return {};
}

Result<void, Finding> check_extent(const MdSuperblock& sb) {
    const std::uint64_t start = sb.data_offset;
    if (start > sectors_max || sb.data_size > sectors_max || sb.size > sectors_max) {
        return corrupt("corrupt md superblock: sizes beyond any device");
    }
    if (to_bytes({start}).value < md_superblock_offset + row_size) {
        return unsupported(
            fmt::format("md member whose data starts at sector {}, over the "
                        "superblock",
                        start));
    }
    if (!is_row_aligned(to_bytes({start}).value)) {
        return unsupported(
            fmt::format("md member whose data starts at sector {}, not on a "
                        "multiple of 4096 bytes",
                        start));
    }
    if (sb.data_size < 10 || sb.size > sb.data_size || sb.size < sb.chunksize) {
        return corrupt(fmt::format("corrupt md superblock: {} sectors used of {}", plain(sb.size),
                                   plain(sb.data_size)));
    }
    return {};
}

Result<void, Finding> check_logical_block(const MdSuperblock& sb) {
    const std::uint32_t size = sb.logical_block_size;
    if (size == 0) return {};
    if (!std::has_single_bit(size) || size < sector_size || size > md_logical_block_max) {
        return unsupported(
            fmt::format("md array with logical blocks of {} bytes; braid serves powers of two from "
                        "{} to {}",
                        size, sector_size, md_logical_block_max));
    }
    return {};
}

Result<void, Finding> check_device(const MdSuperblock& sb, std::uint64_t device_size) {
    if (sb.dev_number >= sb.max_dev) {
        return corrupt(fmt::format("corrupt md superblock: dev_number {} of {}",
                                   plain(sb.dev_number), plain(sb.max_dev)));
    }
    const std::uint16_t role = role_of(sb);
    if (role == md_role::journal) return unsupported("journal of an md array");
    if (role >= sb.raid_disks && role != md_role::spare && role != md_role::faulty) {
        return corrupt(fmt::format("corrupt md superblock: role {:#x} in an array of {}", role,
                                   plain(sb.raid_disks)));
    }
    if ((sb.feature_map & md_feature::recovery_offset) != 0 && sb.recovery_offset > sb.size) {
        return corrupt("corrupt md superblock: rebuilt further than the member reaches");
    }
    const std::uint64_t end = to_bytes({sb.data_offset + sb.size}).value;
    if (end > device_size) {
        return corrupt(
            fmt::format("is truncated: its data reaches to byte {}, but it has only {} "
                        "bytes; if the device was made smaller, give it its size back",
                        end, device_size));
    }
    return {};
}

std::uint16_t role_to_write(const MemberRecord& record) {
    switch (record.state) {
        case MemberState::in_sync:
        case MemberState::rebuilding:
            return record.role ? static_cast<std::uint16_t>(raw(*record.role)) : md_role::spare;
        case MemberState::spare:
        case MemberState::witness:
            return md_role::spare;
        case MemberState::faulty:
        case MemberState::missing:
            return md_role::faulty;
    }
    return md_role::faulty;
}

std::uint64_t sectors_before(StripeIndex stripe, const Configuration& configuration) {
    return to_sectors({raw(stripe) * configuration.strip_size}).value;
}

}  // namespace

std::uint32_t md_checksum(const MdSuperblock& superblock) {
    BRAID_REQUIRE(superblock.max_dev <= md_devices_max);
    MdSuperblock copy = superblock;
    copy.sb_csum = 0;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&copy);
    const std::size_t size = offsetof(MdSuperblock, dev_roles) + 2 * std::size_t{copy.max_dev};
    std::uint64_t sum = 0;
    std::size_t at = 0;
    for (; at + 4 <= size; at += 4) {
        Le32 word;
        std::memcpy(&word, bytes + at, sizeof word);
        sum += word;
    }
    if (at + 2 <= size) {
        Le16 word;
        std::memcpy(&word, bytes + at, sizeof word);
        sum += word;
    }
    return static_cast<std::uint32_t>((sum & 0xffffffff) + (sum >> 32));
}

Result<MdSuperblock, Finding> decode_md_superblock(ByteView bytes, std::uint64_t device_size) {
    if (bytes.size() < sizeof(MdSuperblock)) {
        return Finding{FindingKind::none,
                       fmt::format("is too small to be a member: {} bytes", device_size)};
    }
    MdSuperblock sb;
    std::memcpy(&sb, bytes.data(), sizeof sb);
    BRAID_CHECK(check_frame(sb));
    BRAID_CHECK(check_features(sb));
    BRAID_CHECK(check_logical_block(sb));
    BRAID_CHECK(check_geometry(sb));
    BRAID_CHECK(check_extent(sb));
    BRAID_CHECK(check_device(sb, device_size));
    return sb;
}

std::uint64_t strip_size_of(const MdSuperblock& sb) {
    return to_bytes({plain(sb.chunksize)}).value;
}
std::uint64_t stripes_of(const MdSuperblock& sb) { return sb.size / sb.chunksize; }
std::uint16_t role_of(const MdSuperblock& sb) { return sb.dev_roles[sb.dev_number]; }

std::string name_of(const MdSuperblock& sb) {
    std::string name;
    for (const char c : sb.set_name) {
        if (c == '\0') break;
        name += c >= ' ' && c <= '~' ? c : '?';
    }
    return name;
}

std::optional<StripeIndex> resynced_of(const MdSuperblock& sb) {
    if (sb.resync_offset >= sb.size) return std::nullopt;
    return StripeIndex{sb.resync_offset / sb.chunksize};
}
StripeIndex rebuilt_of(const MdSuperblock& sb) {
    return StripeIndex{std::min<std::uint64_t>(sb.recovery_offset, sb.size) / sb.chunksize};
}
Layout layout_of(const MdSuperblock& sb) {
    return plain(sb.level) == 5 ? static_cast<Layout>(plain(sb.layout)) : Layout::left_symmetric;
}
bool is_in_use(const MdSuperblock& sb) {
    return (sb.feature_map & md_feature::in_use_by_braid) != 0;
}

bool has_volumes(const MdSuperblock& sb) { return (sb.devflags & md_device_flag::volumes) != 0; }

MdSuperblock make_md_superblock(const Configuration& configuration, const MemberRecord& record) {
    MdSuperblock sb{};
    sb.magic = md_magic;
    sb.major_version = 1;
    sb.set_uuid = configuration.array;
    // md's tools want a zero at the end. The slots have the whole name.
    const std::size_t length = std::min(configuration.name.size(), sb.set_name.size() - 1);
    std::copy_n(configuration.name.begin(), length, sb.set_name.begin());
    sb.ctime = configuration.created;
    sb.level = static_cast<std::int32_t>(configuration.level);
    sb.layout =
        configuration.level == Level::raid4 ? 0 : static_cast<std::uint32_t>(configuration.layout);
    sb.size = to_sectors({configuration.member_data_size()}).value;
    sb.chunksize = static_cast<std::uint32_t>(to_sectors({configuration.strip_size}).value);
    sb.raid_disks = configuration.member_count;
    sb.data_offset = to_sectors({record.data_offset}).value;
    sb.data_size = to_sectors({record.size - record.data_offset}).value;
    sb.super_offset = superblock_sector;
    sb.device_uuid = record.uuid;
    sb.max_dev = md_devices_default;
    return place_log(sb, std::nullopt);
}

MdSuperblock update_md_superblock(MdSuperblock sb, const Configuration& configuration,
                                  const MemberRecord& record, std::uint64_t wall_seconds) {
    const bool rebuilding = record.state == MemberState::rebuilding;
    std::uint32_t features = sb.feature_map & md_feature::bitmap;
    if (rebuilding) features |= md_feature::recovery_offset;
    // md would return zeros for rows that cannot be known: it is kept away until they are healed.
    // And it has no use for a witness, which has no room for data, at any time.
    const bool is_witness = record.state == MemberState::witness;
    const bool hidden = configuration.in_use || !configuration.bad_rows.empty() || is_witness;
    if (hidden) features |= md_feature::in_use_by_braid;
    sb.feature_map = features;
    sb.set_name.back() = '\0';
    const bool one = covers_all(configuration);
    sb.devflags = static_cast<std::uint8_t>((sb.devflags & ~md_device_flag::volumes) |
                                            (one ? 0 : md_device_flag::volumes));
    sb.device_uuid = record.uuid;
    if (is_witness) sb.size = round_down(sb.data_size, plain(sb.chunksize));
    sb.dev_number = record.dev_number;
    sb.recovery_offset = rebuilding ? sectors_before(record.rebuilt, configuration) : 0;
    sb.cnt_corrected_read =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(record.read_errors, 0xffffffff));
    sb.events = configuration.events;
    // The kernel writes whole seconds; a microsecond tells our superblocks from its own.
    sb.utime = (wall_seconds & ((std::uint64_t{1} << 40) - 1)) | (std::uint64_t{1} << 40);
    if (configuration.in_use) {
        sb.resync_offset = 0;
    } else {
        sb.resync_offset = configuration.resynced
                               ? sectors_before(*configuration.resynced, configuration)
                               : md_never;
    }
    for (const MemberRecord& other : configuration.members) {
        if (other.dev_number >= sb.max_dev) {
            BRAID_REQUIRE(other.dev_number < md_devices_max);
            sb.max_dev = static_cast<std::uint32_t>(
                std::min<std::uint64_t>(round_up(other.dev_number + 1, 128), md_devices_max));
        }
    }
    sb.dev_roles.fill(Le16{});
    std::fill_n(sb.dev_roles.begin(), plain(sb.max_dev), Le16{md_role::spare});
    for (const MemberRecord& other : configuration.members) {
        sb.dev_roles[other.dev_number] = role_to_write(other);
    }
    sb.sb_csum = md_checksum(sb);
    return sb;
}

MdSuperblock with_checksum(MdSuperblock wanted, std::uint32_t sum) {
    MdSuperblock sb = wanted;
    // The sum is linear in the low half of the seconds but for one value in 2^32; then the
    // microseconds help.
    for (std::uint64_t microseconds = 1; microseconds != 4; ++microseconds) {
        sb.utime = microseconds << 40;
        const std::uint32_t missing = sum - md_checksum(sb);
        for (const std::uint32_t seconds : {missing, missing - 1}) {
            sb.utime = (microseconds << 40) | seconds;
            if (md_checksum(sb) != sum) continue;
            sb.sb_csum = sum;
            return sb;
        }
    }
    return wanted;
}

Result<MdBitmapHeader, Finding> decode_md_bitmap(ByteView bytes, const Uuid& array) {
    MdBitmapHeader header;
    if (bytes.size() < sizeof header) return corrupt("md's bitmap lies beyond the member's end");
    std::memcpy(&header, bytes.data(), sizeof header);
    constexpr std::string_view way_out = "; take it away with mdadm --grow --bitmap=none";
    if (plain(header.magic) != md_bitmap_magic) {
        return corrupt(fmt::format("the header of md's bitmap is corrupt{}", way_out));
    }
    if (plain(header.version) == 5) return unsupported("md's bitmap is a clustered one");
    if (plain(header.version) != 3 && plain(header.version) != 4) {
        return unsupported(fmt::format("md's bitmap has version {}, which braid does not know{}",
                                       plain(header.version), way_out));
    }
    if (header.uuid != array) {
        return corrupt(fmt::format("md's bitmap is that of another array ({}){}",
                                   header.uuid.text(), way_out));
    }
    if (header.chunksize < sector_size || !std::has_single_bit(plain(header.chunksize)) ||
        header.sync_size > sectors_max) {
        return corrupt(fmt::format("the header of md's bitmap is corrupt{}", way_out));
    }
    return header;
}

std::uint64_t size_of(const MdBitmapHeader& header) {
    const std::uint64_t sectors_per_bit = header.chunksize / sector_size;
    const std::uint64_t bits = (header.sync_size + sectors_per_bit - 1) / sectors_per_bit;
    return sizeof header + (bits + 7) / 8;
}

MdBitmapHeader update_md_bitmap(MdBitmapHeader header, std::uint64_t events) {
    header.events = events;
    header.events_cleared = events;
    return header;
}

MdSuperblock place_log(MdSuperblock sb, const std::optional<MdBitmapHeader>& bitmap) {
    constexpr auto place =
        static_cast<std::int32_t>((md_log_place - md_superblock_offset) / sector_size);
    constexpr auto size = static_cast<std::uint16_t>(md_log_size / sector_size);
    const std::int64_t before = sb.bblog_offset;
    if (plain(sb.bblog_size) != 0 && before != 0 && before + sb.bblog_size <= place + size)
        return sb;
    if (bitmap) {
        const auto end = static_cast<std::int64_t>(size_of(*bitmap)) +
                         std::int64_t{sb.bitmap_offset} * static_cast<std::int64_t>(sector_size);
        if (end > place * static_cast<std::int64_t>(sector_size)) return sb;
    }
    sb.bblog_offset = place;
    sb.bblog_size = size;
    return sb;
}

std::uint64_t bad_block_entries(ByteView log) {
    std::uint64_t count = 0;
    for (std::size_t at = 0; at + sizeof(Le64) <= log.size(); at += sizeof(Le64), ++count) {
        Le64 entry;
        std::memcpy(&entry, log.data() + at, sizeof entry);
        if (plain(entry) == ~std::uint64_t{0}) break;
    }
    return count;
}

}  // namespace braid
