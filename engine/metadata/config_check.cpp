// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/config_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>
#include <string_view>
#include <utility>

#include "engine/base/limits.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/config_bad_rows.h"

namespace braid {
namespace {

constexpr std::uint64_t seconds_max = std::uint64_t{1} << 40;

Refusal refuse(std::string text) { return Refusal{std::move(text)}; }

bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Checked<Unit> check_shape(const Configuration& c) {
    if (c.array == Uuid{}) return refuse("array: no uuid");
    if (!is_array_name(c.name)) return refuse("name: not up to 63 printable ASCII characters");
    if (c.version.epoch > epoch_max || c.version.revision > epoch_max) {
        return refuse("epoch, revision: beyond any that can come");
    }
    const bool stored = c.version.epoch != 0;  // else it is only being made, of what md left
    if (stored ? c.in_force >= c.version : c.in_force != EpochRevision{}) {
        return refuse("in_force: not before the configuration itself");
    }
    if (raw(c.tie_breaker) >= c.member_count) return refuse("tie_breaker: no such member");
    if (c.created >= seconds_max) return refuse("created: beyond any date");
    if (c.level != Level::raid5 && c.layout != Layout::left_symmetric) {
        return refuse("layout: only RAID-5 has a choice of layouts");
    }
    if (!std::has_single_bit(c.strip_size) || c.strip_size < strip_size_min ||
        c.strip_size > strip_size_max) {
        return refuse(
            fmt::format("strip_size: {} is not a power of two from 4 KiB to 16 MiB", c.strip_size));
    }
    const std::uint32_t members_min = parities_of(c.level) + 2;
    if (c.member_count < members_min || c.member_count > members_max) {
        return refuse(fmt::format("member_count: {}, not {} to {}", c.member_count, members_min,
                                  members_max));
    }
    if (c.stripes == 0 || c.stripes > member_size_max / c.strip_size) {
        return refuse(fmt::format("stripes: {} of {} bytes", c.stripes, c.strip_size));
    }
    if (c.resynced && raw(*c.resynced) > c.stripes) return refuse("resynced: beyond the array");
    if (c.scrub && raw(c.scrub->position) > c.stripes) return refuse("scrub: beyond the array");
    return Unit{};
}

Checked<Unit> check_member(const Configuration& c, const MemberRecord& m) {
    const bool live = takes_part(m.state);
    if (live && !m.role) return refuse("state: in the array, but without a role");
    if (m.role && m.state == MemberState::spare) return refuse("state: a spare with a role");
    if (m.state == MemberState::witness) {
        if (m.role) return refuse("state: a witness with a role");
        if (!c.has_ties()) return refuse("state: a witness where no ties are to be broken");
        if (c.witness() != &m) return refuse("state: a second witness");
    }
    if (m.uuid == Uuid{} && m.state != MemberState::missing) return refuse("uuid: none");
    if (m.home >= nodes_max) return refuse("home: no such node");
    if (m.dev_number >= md_devices_max) return refuse("dev_number: beyond md's table");
    if (m.path != path_to_keep(m.path)) return refuse("path: too long or not printable");
    if (raw(m.rebuilt) > c.stripes) return refuse("rebuilt: beyond the array");
    if (!is_row_aligned(m.data_offset) || m.data_offset > member_size_max ||
        m.size > 2 * member_size_max) {
        return refuse("data_offset, size: beyond any device, or not on a row");
    }
    if (m.state == MemberState::missing || m.state == MemberState::faulty) return Unit{};
    if (m.data_offset < slots_end) return refuse("data_offset: over the configuration");
    const std::uint64_t needed =
        m.state == MemberState::witness ? m.data_offset + c.strip_size : c.end_on(m);
    if (m.size < needed) {
        return refuse("size: less than the array uses of it");
    }
    return Unit{};
}

Checked<Unit> check_members(const Configuration& c) {
    if (c.members.size() < c.member_count || c.members.size() > c.member_count + spares_max) {
        return refuse(fmt::format("members: {} records for {} members and at most {} spares",
                                  c.members.size(), c.member_count, spares_max));
    }
    std::set<Uuid> uuids;
    std::set<std::uint32_t> numbers;
    for (std::size_t at = 0; at != c.members.size(); ++at) {
        const MemberRecord& m = c.members[at];
        const bool in_place = at < c.member_count ? m.role && raw(*m.role) == at : !m.role;
        if (!in_place) {
            return refuse(
                fmt::format("members: record {} has not the role of its place; each role "
                            "comes once, in order, then the spares",
                            at));
        }
        if (auto checked = check_member(c, m); !checked) {
            return refuse(fmt::format("members: record {}: {}", at, checked.error().text));
        }
        if (m.uuid != Uuid{} && !uuids.insert(m.uuid).second) {
            return refuse(fmt::format("members: {} comes twice", m.uuid.text()));
        }
        if (!numbers.insert(m.dev_number).second) {
            return refuse(fmt::format("members: dev_number {} comes twice", m.dev_number));
        }
    }
    return Unit{};
}

Checked<Unit> check_volumes(const Configuration& c) {
    if (c.volumes.size() > volumes_max) {
        return refuse(fmt::format("volumes: {}, more than {}", c.volumes.size(), volumes_max));
    }
    std::set<std::string_view> names;
    StripeIndex free_from{};
    for (const VolumeRecord& v : c.volumes) {
        if (!is_volume_name(v.name)) {
            return refuse(
                "volumes: a name is not 1 to 63 letters, digits, '.', '_', '-', a letter "
                "or digit first");
        }
        if (!names.insert(v.name).second) {
            return refuse(fmt::format("volumes: {} comes twice", v.name));
        }
        if (v.first < free_from) {
            return refuse(fmt::format("volumes: {} overlaps the one before it", v.name));
        }
        if (v.stripes == 0 || raw(v.first) > c.stripes || v.stripes > c.stripes - raw(v.first)) {
            return refuse(fmt::format("volumes: {} is empty or reaches beyond the array", v.name));
        }
        free_from = v.end();
    }
    return Unit{};
}

Checked<Unit> check_intent(const Configuration& c) {
    const std::uint64_t region = c.intent.region;
    if (!check_intent_region(region)) {
        return refuse(
            fmt::format("intent: a region of {} bytes is not a power of two from {} to {}", region,
                        intent_region_min, intent_region_max));
    }
    if (!fit_slot(c.bad_rows)) {
        return refuse(fmt::format("bad_rows: {} ranges, too many for a configuration slot",
                                  c.bad_rows.size()));
    }
    const std::uint64_t rows = c.stripes * (c.strip_size / row_size);
    const BadRange* before = nullptr;
    for (const BadRange& range : c.bad_rows) {
        if (raw(range.member) >= c.member_count) return refuse("bad_rows: no such member");
        if (range.count == 0 || raw(range.first) > rows || range.count > rows - raw(range.first)) {
            return refuse("bad_rows: a range is empty or reaches beyond the member");
        }
        const bool in_order = before == nullptr || before->member < range.member ||
                              (before->member == range.member &&
                               (before->end() < range.first ||
                                (before->end() == range.first && before->kind != range.kind)));
        if (!in_order) return refuse("bad_rows: not in order, or two ranges of a kind touch");
        before = &range;
    }
    return Unit{};
}

}  // namespace

bool is_array_name(std::string_view name) {
    return name.size() <= name_length_max &&
           std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
}

bool is_volume_name(std::string_view name) {
    return !name.empty() && name.size() <= name_length_max && is_alphanumeric(name[0]) &&
           std::ranges::all_of(
               name, [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

std::string path_to_keep(std::string_view path) {
    std::string kept;
    for (const char c :
         path.size() > member_path_max ? path.substr(path.size() - member_path_max) : path) {
        kept += c >= ' ' && c <= '~' ? c : '?';
    }
    return kept;
}

Checked<Unit> check_configuration(const Configuration& configuration) {
    BRAID_CHECK(check_shape(configuration));
    BRAID_CHECK(check_members(configuration));
    BRAID_CHECK(check_intent(configuration));
    BRAID_CHECK(check_volumes(configuration));
    return Unit{};
}

}  // namespace braid
