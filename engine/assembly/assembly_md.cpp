// SPDX-License-Identifier: BSD-3-Clause
// The way of md's superblocks: arrays that mdadm made, or that md has run since braid did.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "engine/assembly/assembly_draft.h"
#include "engine/base/limits.h"

namespace braid {
namespace {

/// The newest configuration of braid's, whoever changed the array after it: for volumes and names.
const ConfigSlot* find_base(const Candidates& candidates) {
    const ConfigSlot* base = nullptr;
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable() || candidate.slot() == nullptr) continue;
        if (base == nullptr || candidate.held() > base->configuration.version) {
            base = candidate.slot();
        }
    }
    return base;
}

/// Whether the member can have been part of what md ran last.
bool is_mds(const Candidate& candidate, bool adopted_before) {
    if (!candidate.usable()) return false;
    return !adopted_before || candidate.slot() == nullptr || candidate.touched;
}

const Candidate* find_freshest(const Candidates& candidates, bool adopted_before) {
    const Candidate* freshest = nullptr;
    for (const Candidate& candidate : candidates) {
        if (!is_mds(candidate, adopted_before) ||
            role_of(candidate.sb()) >= md_role::special_first) {
            continue;
        }
        if (freshest == nullptr || candidate.sb().events > freshest->sb().events) {
            freshest = &candidate;
        }
    }
    return freshest;
}

/// Shape, name and volumes; no members yet.
Checked<Configuration> derive_array(const Candidate& freshest, const ConfigSlot* base, bool force) {
    const MdSuperblock& sb = freshest.sb();
    Configuration c;
    if (base != nullptr) c = base->configuration;
    const bool keep = base != nullptr && same_shape(sb, c);
    const bool whole = base == nullptr || covers_all(c);
    if (!keep && !whole && !force) {
        return Refusal{fmt::format(
            "{}: md has changed its shape since braid ran it, and where its {} volumes lie now is "
            "unknown; change it back with mdadm --grow, or force it: then all of it is one volume",
            name_of(c), c.volumes.size())};
    }
    if (base != nullptr && has_volumes(sb) && covers_all(c) && !force) {
        return Refusal{fmt::format(
            "{}: the array holds several volumes of braid's, or not one of everything, but the "
            "newest configuration that is here, of {}, is from before that; give its other "
            "members too, or force it: then all of the array is one volume",
            name_of(c), c.version.text())};
    }
    // Nothing of it is stored anywhere yet; and none is behind what md left.
    c.version = {};
    c.in_force = {};
    c.array = sb.set_uuid;
    c.level = static_cast<Level>(plain(sb.level));
    c.layout = layout_of(sb);
    c.strip_size = strip_size_of(sb);
    c.member_count = sb.raid_disks;
    c.stripes = stripes_of(sb);
    c.in_use = false;
    c.resynced = resynced_of(sb);
    c.members.clear();
    // md never ran an array with rows on the list. Another history's list is not this one's.
    c.bad_rows.clear();
    if (keep && freshest.slot() != nullptr) c.bad_rows = freshest.slot()->configuration.bad_rows;
    if (base == nullptr) {
        c.name = name_of(sb);
        c.created = sb.ctime & ((std::uint64_t{1} << 40) - 1);
    }
    if (!keep) {
        const std::string name = c.volumes.size() == 1 ? c.volumes[0].name : "data";
        c.scrub = std::nullopt;
        c.volumes.assign(1, {name, StripeIndex{0}, c.stripes});
    }
    return c;
}

bool is_of_shape(const MdSuperblock& sb, const MdSuperblock& freshest) {
    return plain(sb.level) == plain(freshest.level) && plain(sb.layout) == plain(freshest.layout) &&
           plain(sb.chunksize) == plain(freshest.chunksize) &&
           plain(sb.raid_disks) == plain(freshest.raid_disks) &&
           plain(sb.size) == plain(freshest.size);
}

std::string why_not_current(const Candidate& candidate, const MdSuperblock& freshest,
                            bool adopted_before) {
    const MdSuperblock& sb = candidate.sb();
    if (!is_mds(candidate, adopted_before)) {
        return fmt::format("md ran the array without it (its events are {}, the array's {})",
                           plain(sb.events), plain(freshest.events));
    }
    if (sb.events + 1 < freshest.events) {
        return fmt::format("it is stale: its events are {}, the array's {}", plain(sb.events),
                           plain(freshest.events));
    }
    if (role_of(sb) == md_role::faulty) return "its superblock calls it faulty";
    if (sb.dev_number >= freshest.max_dev ||
        plain(freshest.dev_roles[sb.dev_number]) != role_of(sb)) {
        return "the superblock of the newest member does not give it the role that it claims";
    }
    if (!is_of_shape(sb, freshest)) return "its superblock tells of an array of another shape";
    return {};
}

MemberRecord derive_member(const Candidate& candidate, std::optional<MemberIndex> role) {
    const MdSuperblock& sb = candidate.sb();
    MemberRecord record;
    record.uuid = sb.device_uuid;
    record.role = role;
    record.data_offset = to_bytes({plain(sb.data_offset)}).value;
    record.dev_number = sb.dev_number;
    if (!role) {
        record.state = MemberState::spare;
    } else if ((sb.feature_map & md_feature::recovery_offset) != 0) {
        record.state = MemberState::rebuilding;
        record.rebuilt = rebuilt_of(sb);
    } else {
        record.state = MemberState::in_sync;
    }
    return record;
}

/// A role that nobody fills: with what is still known of who had it.
MemberRecord derive_missing(MemberIndex role, const MdSuperblock& freshest, const Configuration& c,
                            const ConfigSlot* base) {
    const auto is_free = [&c](std::uint32_t number) {
        return std::ranges::find(c.members, number, &MemberRecord::dev_number) == c.members.end();
    };
    MemberRecord record;
    record.role = role;
    if (base != nullptr) {
        const MemberRecord* before = base->configuration.member(role);
        const bool known =
            before != nullptr &&
            std::ranges::find(c.members, before->uuid, &MemberRecord::uuid) == c.members.end();
        if (known) record = *before;
    }
    record.state = MemberState::missing;
    record.rebuilt = StripeIndex{0};
    if (record.uuid != Uuid{} && is_free(record.dev_number)) return record;
    for (std::uint32_t number = 0; number != plain(freshest.max_dev); ++number) {
        if (plain(freshest.dev_roles[number]) == raw(role) && is_free(number)) {
            record.dev_number = number;
            return record;
        }
    }
    record.dev_number = free_dev_number(c);
    return record;
}

Refusal claim_the_same(const Candidate& one, const Candidate& other, std::uint16_t role) {
    return Refusal{
        fmt::format("{} and {} both claim to be member {} of the array, with the same events; "
                    "leave out the one that is wrong",
                    one.image->path, other.image->path, role)};
}

struct MdPlacing {
    std::map<std::uint32_t, std::size_t> roles;  // role → candidate
    std::vector<std::size_t> spares;
};

Checked<MdPlacing> place_by_superblocks(Draft& draft, const Candidates& candidates,
                                        const Candidate& freshest, bool adopted_before) {
    MdPlacing placing;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const Candidate& candidate = candidates[at];
        if (!candidate.usable()) continue;
        const std::uint16_t role = role_of(candidate.sb());
        if (is_witness(candidate)) {
            leave_out(
                draft, at,
                "it was the array's witness, and md, which knows none, has run the array since: "
                "the array has none any more",
                WayBack::none);
            continue;
        }
        if (role == md_role::spare) {
            placing.spares.push_back(at);
            continue;
        }
        if (std::string why = why_not_current(candidate, freshest.sb(), adopted_before);
            !why.empty()) {
            leave_out(draft, at, std::move(why));
            continue;
        }
        const auto [twin, is_new] = placing.roles.emplace(role, at);
        if (!is_new) return claim_the_same(candidates[twin->second], candidate, role);
    }
    return placing;
}

/// Whether the member can be taken in by force, as mdadm --assemble --force does it: it was in
/// sync once, in a role of its own that nobody current fills, of an array of the same shape.
bool could_be_forced(const MdPlacing& placing, const Candidates& candidates,
                     const Candidate& candidate, const MdSuperblock& freshest,
                     bool adopted_before) {
    const MdSuperblock& sb = candidate.sb();
    if (!is_mds(candidate, adopted_before) || is_in_use(sb)) return false;
    if (role_of(sb) >= freshest.raid_disks || placing.roles.contains(role_of(sb))) return false;
    if ((sb.feature_map & md_feature::recovery_offset) != 0) return false;
    const auto has_number = [&](const auto& entry) {
        return plain(candidates[entry.second].sb().dev_number) == plain(sb.dev_number);
    };
    return is_of_shape(sb, freshest) && !std::ranges::any_of(placing.roles, has_number);
}

/// Members that are behind, the freshest first.
std::vector<std::size_t> find_behind(const Draft& draft, const MdPlacing& placing,
                                     const Candidates& candidates, const MdSuperblock& freshest,
                                     bool adopted_before) {
    std::vector<std::size_t> behind;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        if (draft.assembly.places[at].place != Place::stale) continue;
        if (could_be_forced(placing, candidates, candidates[at], freshest, adopted_before)) {
            behind.push_back(at);
        }
    }
    std::ranges::stable_sort(behind, std::ranges::greater{},
                             [&](std::size_t at) { return plain(candidates[at].sb().events); });
    return behind;
}

/// As many of those that are behind as it takes to start at all. What they missed nobody knows.
Checked<Unit> take_in_by_force(Draft& draft, MdPlacing& placing, const Candidates& candidates,
                               const MdSuperblock& freshest,
                               const std::vector<std::size_t>& behind) {
    const auto is_in_sync = [&](const auto& entry) {
        return (candidates[entry.second].sb().feature_map & md_feature::recovery_offset) == 0;
    };
    auto in_sync = static_cast<std::uint32_t>(std::ranges::count_if(placing.roles, is_in_sync));
    const std::uint32_t needed = draft.assembly.configuration.data_count();
    for (const std::size_t at : behind) {
        const Candidate& candidate = candidates[at];
        const std::uint64_t events = candidate.sb().events;
        const std::uint16_t role = role_of(candidate.sb());
        const auto twin = placing.roles.find(role);
        if (twin != placing.roles.end()) {  // a fresher one; or is it?
            if (plain(candidates[twin->second].sb().events) != events) continue;
            return claim_the_same(candidates[twin->second], candidate, role);
        }
        if (in_sync >= needed) return Unit{};
        placing.roles.emplace(role, at);
        ++in_sync;
        draft.assembly.forced = true;
        draft.assembly.places[at].why.clear();
        draft.assembly.notices.push_back(fmt::format(
            "member {} ({}) was taken in by force: its events are {}, the array's {}. What was "
            "written since then comes back old where this member has it, and wrong where it is "
            "computed from this member: check the file systems",
            role, candidate.image->path, events, plain(freshest.events)));
    }
    return Unit{};
}

void add_records(Draft& draft, const Candidates& candidates, const MdPlacing& placing,
                 const MdSuperblock& freshest, const ConfigSlot* base) {
    Configuration& c = draft.assembly.configuration;
    for (const auto& [role, at] : placing.roles) {
        c.members.push_back(derive_member(candidates[at], MemberIndex{role}));
    }
    for (const std::size_t at : placing.spares) {
        const bool fits = c.members.size() < placing.roles.size() + spares_max;
        if (fits) c.members.push_back(derive_member(candidates[at], std::nullopt));
    }
    for (std::uint32_t role = 0; role != c.member_count; ++role) {
        if (c.member(MemberIndex{role}) != nullptr) continue;
        MemberRecord missing = derive_missing(MemberIndex{role}, freshest, c, base);
        draft.absent.push_back(describe(missing));
        c.members.push_back(std::move(missing));
    }
    std::ranges::stable_sort(c.members, {}, [](const MemberRecord& record) {
        return record.role ? raw(*record.role) : members_max;
    });
}

void take_in_all(Draft& draft, const Candidates& candidates, const MdPlacing& placing) {
    const auto& members = draft.assembly.configuration.members;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        if (!candidates[at].usable()) continue;
        const bool spare = std::ranges::find(placing.spares, at) != placing.spares.end();
        const bool chosen = spare || std::ranges::any_of(placing.roles, [at](const auto& entry) {
                                return entry.second == at;
                            });
        if (!chosen) continue;
        const auto record =
            std::ranges::find(members, Uuid{candidates[at].sb().device_uuid}, &MemberRecord::uuid);
        if (record == members.end()) {
            leave_out(draft, at,
                      fmt::format("more spares than the {} that an array can have", spares_max),
                      WayBack::after_spare);
            continue;
        }
        take_in(draft, at, static_cast<std::size_t>(record - members.begin()), candidates[at]);
    }
}

/// Roles that md's newest superblock gives to anybody.
std::uint32_t md_votes(const MdSuperblock& freshest) {
    std::set<std::uint16_t> roles;
    for (std::uint32_t number = 0; number != plain(freshest.max_dev); ++number) {
        const std::uint16_t role = freshest.dev_roles[number];
        if (role < freshest.raid_disks) roles.insert(role);
    }
    return static_cast<std::uint32_t>(roles.size());
}

void count_members(Draft& draft, const Candidates& candidates, const MdSuperblock& freshest) {
    const Configuration& c = draft.assembly.configuration;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const MemberPlace& place = draft.assembly.places[at];
        if (place.place != Place::member) continue;
        const MemberRecord& record = c.members[*place.record];
        if (record.state == MemberState::in_sync) count_member(draft, *record.role, candidates[at]);
    }
    const std::uint32_t rebuilding = c.taking_part().size() - c.in_sync().size();
    const std::uint32_t active = md_votes(freshest);
    draft.called = std::max(active - std::min(active, rebuilding), draft.counted.size());
}

}  // namespace

Checked<Assembly> assemble_mds(const Candidates& candidates, AssemblyOptions options) {
    const ConfigSlot* base = find_base(candidates);
    const bool adopted_before = base != nullptr;
    const Candidate* freshest = find_freshest(candidates, adopted_before);
    if (freshest == nullptr) {
        return Refusal{
            "the array cannot start: only spares and members that failed are here; give "
            "its other members too"};
    }
    Draft draft = start_draft(candidates);
    draft.assembly.adopted = true;
    BRAID_TRY(draft.assembly.configuration, derive_array(*freshest, base, options.force));
    Configuration& c = draft.assembly.configuration;
    BRAID_TRY(MdPlacing placing,
              place_by_superblocks(draft, candidates, *freshest, adopted_before));
    const std::vector<std::size_t> behind =
        find_behind(draft, placing, candidates, freshest->sb(), adopted_before);
    draft.behind = static_cast<std::uint32_t>(behind.size());
    if (options.force) {
        BRAID_CHECK(take_in_by_force(draft, placing, candidates, freshest->sb(), behind));
    }
    add_records(draft, candidates, placing, freshest->sb(), base);
    take_in_all(draft, candidates, placing);
    if (is_in_use(freshest->sb())) c.resynced = StripeIndex{0};
    draft.assembly.unclean = c.resynced && raw(*c.resynced) == 0;
    decide_intent(draft, candidates);
    count_members(draft, candidates, freshest->sb());
    draft.assembly.notices.push_back(
        adopted_before
            ? "md has run the array since braid stopped it: what md's superblocks say "
              "of the members counts"
            : "the array was made by md: braid takes it over as it is, as volume \"data\"");
    return finish(std::move(draft), candidates, options);
}

}  // namespace braid
