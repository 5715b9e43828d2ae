// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/create.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "engine/layout/register.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/config_check.h"
#include "engine/metadata/config_text.h"
#include "engine/metadata/member_metadata.h"

namespace braid {
namespace {

// md refuses a member with less room for data.
constexpr std::uint64_t data_size_min = 10 * sector_size;

Checked<Unit> check_wishes(const CreateOptions& options, std::size_t count) {
    const int level = static_cast<int>(options.level);
    const std::uint32_t members_min = parities_of(options.level) + 2;
    if (count < members_min) {
        return Refusal{fmt::format("RAID-{} needs at least {} members, and {} {} given", level,
                                   members_min, count, count == 1 ? "is" : "are")};
    }
    if (count > members_max) {
        return Refusal{
            fmt::format("{} members are given, and an array has at most {}", count, members_max)};
    }
    if (!std::has_single_bit(options.strip_size) || options.strip_size < strip_size_min ||
        options.strip_size > strip_size_max) {
        return Refusal{
            fmt::format("a strip size of {} bytes is impossible: it is a power of two "
                        "from 4K to 16M",
                        options.strip_size)};
    }
    if (options.level != Level::raid5 && options.layout != Layout::left_symmetric) {
        return Refusal{fmt::format("RAID-{} has no choice of layouts: leave --layout out", level)};
    }
    if (!is_array_name(options.name)) {
        return Refusal{fmt::format("the name of an array is at most {} printable ASCII characters",
                                   name_length_max)};
    }
    return Unit{};
}

struct Split {
    std::vector<const CreateMember*> roles;
    std::vector<const CreateMember*> spares;
    std::vector<const CreateMember*> witnesses;  // one at most
};

Checked<Unit> check_witness(const CreateOptions& options, const Split& split) {
    if (split.witnesses.empty()) return Unit{};
    if (split.witnesses.size() > 1) {
        return Refusal{"two witnesses are given, and an array has one"};
    }
    if (split.roles.size() == 2 * parities_of(options.level)) return Unit{};
    return Refusal{fmt::format(
        "{}: a witness breaks the ties of RAID-6 of four members, and RAID-{} of {} has none: leave "
        "it out",
        split.witnesses[0]->path, static_cast<int>(options.level), split.roles.size())};
}

// --- what the members say, where data is to stay ---

std::string words_of(const OldLayout& old) {
    return fmt::format("RAID-{}{}{} of {} members, strips of {} bytes", static_cast<int>(old.level),
                       old.level == Level::raid5 ? " " : "",
                       old.level == Level::raid5 ? text_of(old.layout) : "", old.member_count,
                       old.strip_size);
}

constexpr std::string_view stays =
    "--assume-clean keeps the data as it lies, so it must be the same; if that metadata is wrong, "
    "wipe it first (dd if=/dev/zero of=PATH bs=4096 count=67)";

Checked<Unit> check_old_shape(const CreateOptions& options, std::size_t count,
                              const CreateMember& member, const OldLayout& old) {
    const bool same = old.level == options.level && old.strip_size == options.strip_size &&
                      old.member_count == count &&
                      (old.level != Level::raid5 || old.layout == options.layout);
    if (same) return Unit{};
    OldLayout asked;
    asked.level = options.level;
    asked.layout = options.layout;
    asked.strip_size = options.strip_size;
    asked.member_count = static_cast<std::uint32_t>(count);
    return Refusal{fmt::format("{}: {} says {}, and what is to be made is {}; {}", member.path,
                               old.source, words_of(old), words_of(asked), stays)};
}

struct OldData {
    std::optional<std::uint64_t> offset;
    std::optional<std::uint64_t> stripes;
    std::string said_by;  // of the offset: "PATH: its md superblock"
};

Checked<Unit> add_old(OldData& known, const CreateMember& member, std::size_t role,
                      const OldLayout& old) {
    const std::string said_by = fmt::format("{}: {}", member.path, old.source);
    if (old.role && raw(*old.role) != role) {
        return Refusal{fmt::format("{} says that it is member {}, and it is given as member {}; {}",
                                   said_by, raw(*old.role), role, stays)};
    }
    if (known.offset && *known.offset != old.data_offset) {
        return Refusal{fmt::format("{} says that the data begins at byte {}, but {} says {}; {}",
                                   said_by, old.data_offset, known.said_by, *known.offset, stays)};
    }
    if (known.stripes && *known.stripes != old.stripes) {
        return Refusal{fmt::format("{} says {} stripes, but another member says {}; {}", said_by,
                                   old.stripes, *known.stripes, stays)};
    }
    known.offset = old.data_offset;
    known.stripes = old.stripes;
    if (known.said_by.empty()) known.said_by = said_by;
    return Unit{};
}

Checked<OldData> find_old_data(const CreateOptions& options, const Split& split) {
    OldData known;
    if (!options.assume_clean) return known;
    if (options.data_offset) {
        known.offset = options.data_offset;
        known.said_by = "--data-offset";
    }
    for (std::size_t role = 0; role != split.roles.size(); ++role) {
        for (const OldLayout& old : split.roles[role]->before) {
            BRAID_CHECK(check_old_shape(options, split.roles.size(), *split.roles[role], old));
            BRAID_CHECK(add_old(known, *split.roles[role], role, old));
        }
    }
    return known;
}

Checked<Unit> check_data_offset(const CreateOptions& options) {
    if (!options.data_offset) return Unit{};
    // A row more than ours: md's log of bad blocks may lie right in front of the data.
    constexpr std::uint64_t least = slots_end + row_size;
    if (is_row_aligned(*options.data_offset) && *options.data_offset >= least &&
        *options.data_offset <= member_size_max / 2) {
        return Unit{};
    }
    return Refusal{fmt::format(
        "--data-offset: {} bytes are impossible: it is a multiple of 4096, and at least {}, where "
        "md's superblock and the configuration end. With less than {} there is no room for the "
        "write intent, and after a crash all parity is computed anew; with less than {} none for "
        "promises either, and the array starts only when all members are there",
        *options.data_offset, least, slots_end + write_intent_size + row_size,
        promises_end + row_size)};
}

std::uint64_t choose_data_offset(const CreateOptions& options, const OldData& old,
                                 const Split& split) {
    if (old.offset) return *old.offset;
    if (options.data_offset) return *options.data_offset;
    const bool large = std::ranges::all_of(
        split.roles, [](const CreateMember* member) { return member->size >= member_size_large; });
    return large ? data_offset_large : data_offset_default;
}

/// Whole strips that the smallest member holds.
Checked<std::uint64_t> choose_stripes(const CreateOptions& options, const Split& split,
                                      std::uint64_t data_offset,
                                      std::optional<std::uint64_t> old_stripes) {
    std::uint64_t stripes = member_size_max / options.strip_size;
    for (const CreateMember* member : split.roles) {
        if (member->size < data_offset + std::max(options.strip_size, data_size_min)) {
            return Refusal{fmt::format(
                "{}: is too small: it has {} bytes, and a member needs {} for metadata and at "
                "least one strip of {}{}",
                member->path, member->size, data_offset, options.strip_size,
                options.strip_size < data_size_min
                    ? fmt::format(", and {} in all behind the metadata", data_size_min)
                    : "")};
        }
        stripes = std::min(stripes, (member->size - data_offset) / options.strip_size);
    }
    if (old_stripes && *old_stripes > stripes) {
        return Refusal{fmt::format(
            "the members' metadata says {} stripes, and there is room for {}: a member became "
            "smaller, or another one is meant",
            *old_stripes, stripes)};
    }
    if (old_stripes) stripes = *old_stripes;  // nobody made parity behind them
    for (const CreateMember* spare : split.spares) {
        if (spare->size < data_offset + std::max(stripes * options.strip_size, data_size_min)) {
            return Refusal{fmt::format(
                "{}: is too small to be a spare: it has {} bytes, and the array uses {} of each "
                "member",
                spare->path, spare->size, data_offset + stripes * options.strip_size)};
        }
    }
    for (const CreateMember* witness : split.witnesses) {
        const std::uint64_t least =
            data_offset + std::max<std::uint64_t>(options.strip_size, data_size_min);
        if (data_offset < promises_end + row_size) {
            return Refusal{fmt::format(
                "{}: there is no room for a witness's promises, which lie before byte {}: the data has "
                "to begin behind that",
                witness->path, promises_end + row_size)};
        }
        if (witness->size < least) {
            return Refusal{fmt::format(
                "{}: is too small to be the witness: it has {} bytes, and {} are needed",
                witness->path, witness->size, least)};
        }
    }
    return stripes;
}

void note_waste(CreatePlan& plan, const Split& split, std::uint64_t data_offset) {
    const std::uint64_t used = data_offset + plan.configuration.member_data_size();
    for (const CreateMember* member : split.roles) {
        const std::uint64_t unused = member->size - used;
        if (unused < member->size / 100 || unused < plan.configuration.strip_size) continue;
        plan.notices.push_back(
            fmt::format("{}: {} of its {} bytes stay unused, because another "
                        "member is smaller",
                        member->path, unused, member->size));
    }
}

void add_members(Configuration& c, const Split& split, std::uint64_t data_offset, Rng& rng) {
    const auto add = [&](const CreateMember& from, std::optional<MemberIndex> role) {
        MemberRecord record;
        record.uuid = Uuid::random(rng);
        record.role = role;
        record.state = role           ? MemberState::in_sync
                       : from.witness ? MemberState::witness
                                      : MemberState::spare;
        record.data_offset = data_offset;
        record.size = from.size;
        record.dev_number = static_cast<std::uint32_t>(c.members.size());
        record.path = path_to_keep(from.path);
        c.members.push_back(std::move(record));
    };
    for (std::uint32_t role = 0; role != split.roles.size(); ++role) {
        add(*split.roles[role], MemberIndex{role});
    }
    for (const CreateMember* spare : split.spares) add(*spare, std::nullopt);
    for (const CreateMember* witness : split.witnesses) add(*witness, std::nullopt);
}

Checked<Unit> add_volumes(Configuration& c, const std::vector<VolumeWish>& wishes) {
    if (wishes.empty()) {
        c.volumes.push_back({"data", StripeIndex{0}, c.stripes});
        return Unit{};
    }
    std::set<std::string_view> names;
    StripeIndex first{};
    for (const VolumeWish& wish : wishes) {
        if (!is_volume_name(wish.name)) {
            return Refusal{fmt::format(
                "\"{}\" cannot be the name of a volume: that is 1 to {} letters, digits, '.', '_' "
                "and '-', a letter or digit first",
                wish.name, name_length_max)};
        }
        if (!names.insert(wish.name).second) {
            return Refusal{fmt::format("volume {} is given twice", wish.name)};
        }
        if (wish.size == 0) return Refusal{fmt::format("volume {} has no size", wish.name)};
        const std::uint64_t whole = wish.size / c.stripe_data_size();
        const std::uint64_t stripes = whole + (wish.size % c.stripe_data_size() != 0 ? 1 : 0);
        const std::uint64_t left = StripeIndex{c.stripes} - first;
        if (stripes > left) {
            return Refusal{fmt::format(
                "volume {} of {} bytes does not fit: {} of the array's {} bytes are left",
                wish.name, wish.size, left * c.stripe_data_size(), c.data_size())};
        }
        c.volumes.push_back({wish.name, first, stripes});
        first += stripes;
    }
    return Unit{};
}

/// What assembly would refuse is not made.
Checked<Unit> check_superblocks(const Configuration& c) {
    for (const MemberRecord& record : c.members) {
        const MdSuperblock sb = update_md_superblock(make_md_superblock(c, record), c, record, 0);
        const ByteView bytes{reinterpret_cast<const std::byte*>(&sb), sizeof sb};
        if (const auto decoded = decode_md_superblock(bytes, record.size); !decoded) {
            return Refusal{
                fmt::format("{}: cannot be made a member: {}", record.path, decoded.error().text)};
        }
    }
    return Unit{};
}

}  // namespace

Checked<CreatePlan> plan_create(const CreateOptions& options, std::span<const CreateMember> members,
                                Rng& rng) {
    Split split;
    for (const CreateMember& member : members) {
        auto& among = member.witness ? split.witnesses : member.spare ? split.spares : split.roles;
        among.push_back(&member);
    }
    BRAID_CHECK(check_wishes(options, split.roles.size()));
    BRAID_CHECK(check_witness(options, split));
    if (split.spares.size() + split.witnesses.size() > spares_max) {
        return Refusal{
            fmt::format("{} spares are given, and an array has at most {}, a witness "
                        "among them",
                        split.spares.size(), spares_max)};
    }
    BRAID_CHECK(check_data_offset(options));
    for (const CreateMember& member : members) {
        DiskInfo info;
        info.path = member.path;
        info.sector_size = member.sector_size;
        BRAID_CHECK(check_sectors(info));
    }
    BRAID_TRY(const OldData old, find_old_data(options, split));
    CreatePlan plan;
    plan.wall_seconds = options.wall_seconds;
    const std::uint64_t data_offset = choose_data_offset(options, old, split);
    Configuration& c = plan.configuration;
    BRAID_TRY(c.stripes, choose_stripes(options, split, data_offset, old.stripes));
    if (old.offset && !options.data_offset) {
        plan.notices.push_back(
            fmt::format("the data begins at byte {}, as {} says", data_offset, old.said_by));
    }
    c.array = Uuid::random(rng);
    c.name = options.name;
    c.version.epoch = next_epoch(0, options.wall_seconds, 0);
    c.events = 2;
    c.created = options.wall_seconds;
    c.level = options.level;
    c.layout = options.layout;
    c.strip_size = options.strip_size;
    c.member_count = static_cast<std::uint32_t>(split.roles.size());
    add_members(c, split, data_offset, rng);
    BRAID_CHECK(add_volumes(c, options.volumes));
    const bool cheap = std::ranges::all_of(split.roles, &CreateMember::zero_fast);
    plan.parity = options.assume_clean ? InitialParity::assumed
                  : cheap              ? InitialParity::zeroed
                                       : InitialParity::resynced;
    if (plan.parity == InitialParity::resynced) c.resynced = StripeIndex{0};
    note_waste(plan, split, data_offset);
    BRAID_CHECK(check_configuration(c));
    BRAID_CHECK(check_superblocks(c));
    BRAID_REQUIRE(c.members.size() == members.size());
    BRAID_REQUIRE(!c.in_use && c.taking_part().size() == c.member_count);
    return plan;
}

std::vector<OldLayout> old_layouts(const MemberImage& image) {
    const MemberFindings findings = inspect(image);
    std::vector<OldLayout> found;
    if (findings.superblock) {
        const MdSuperblock& sb = *findings.superblock;
        OldLayout old;
        old.source = "its md superblock";
        old.data_offset = to_bytes({plain(sb.data_offset)}).value;
        old.level = static_cast<Level>(plain(sb.level));
        old.layout = layout_of(sb);
        old.strip_size = strip_size_of(sb);
        old.stripes = stripes_of(sb);
        old.member_count = plain(sb.raid_disks);
        if (role_of(sb) < old.member_count) old.role = MemberIndex{role_of(sb)};
        found.push_back(std::move(old));
    }
    if (const ConfigSlot* slot = findings.slot()) {
        const Configuration& c = slot->configuration;
        const auto record = std::ranges::find(c.members, slot->member, &MemberRecord::uuid);
        if (record == c.members.end()) return found;
        found.push_back({fmt::format("its configuration slot {}", *findings.newest),
                         record->data_offset, c.level, c.layout, c.strip_size, c.stripes,
                         c.member_count, record->role});
    }
    return found;
}

}  // namespace braid
