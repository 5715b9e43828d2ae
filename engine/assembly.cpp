// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/os_error.h"

namespace braid {
namespace {

constexpr std::string_view way_back = "give it back with: braid member add";

/// One image, what it says, and whether md wrote its superblock after braid did.
struct Candidate {
    const MemberImage* image{nullptr};
    MemberFindings findings;
    bool touched{false};

    bool readable() const { return image->os_error == 0; }
    bool usable() const { return readable() && findings.superblock.has_value(); }
    /// Was a member once, and is damaged: as good as lost. Not so something else altogether.
    bool damaged() const {
        return readable() && !findings.superblock &&
               (findings.superblock.error().kind == FindingKind::corrupt || slot() != nullptr);
    }
    const MdSuperblock& sb() const { return *findings.superblock; }
    const ConfigSlot* slot() const { return findings.slot(); }
    std::uint64_t held() const { return slot() ? slot()->configuration.epoch : 0; }
};
using Candidates = std::vector<Candidate>;

std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& line : lines) text += (text.empty() ? "" : "\n") + line;
    return text;
}

std::string name_of(const Configuration& c) {
    return fmt::format("array {}{}{}", c.name, c.name.empty() ? "" : " ", c.array.text());
}

std::string describe(const MemberRecord& record) {
    const std::string what = record.role ? fmt::format("member {}", raw(*record.role)) : "spare";
    if (record.uuid == Uuid{}) return what + " (never seen by braid)";
    return fmt::format("{} (last seen at {}, {}, uuid {})", what,
                       record.path.empty() ? "an unknown place" : record.path,
                       text_of(record.state), record.uuid.text());
}

// --- what each image is on its own ---

Candidates look_at(std::span<const MemberImage> images) {
    Candidates candidates;
    for (const MemberImage& image : images) candidates.push_back({&image, inspect(image), false});
    return candidates;
}

std::string why_damaged(const Candidate& candidate) {
    const Finding& finding = candidate.findings.superblock.error();
    const ConfigSlot* slot = candidate.slot();
    const std::string what =
        finding.kind == FindingKind::none ? "its md superblock is gone" : finding.text;
    if (slot == nullptr) return what;
    return fmt::format("{} (it was member {} of {})", what, slot->member.text(),
                       name_of(slot->configuration));
}

std::string why_not_a_member(const Candidate& candidate) {
    const MemberImage& image = *candidate.image;
    const Finding& finding = candidate.findings.superblock.error();
    if (finding.kind == FindingKind::unsupported) {
        return fmt::format("{}: {}", image.path, finding.text);
    }
    if (!image.elsewhere.empty()) {
        return fmt::format("{}: holds {}; braid reads version 1.2 only, 4096 bytes from the start",
                           image.path, image.elsewhere);
    }
    return fmt::format(
        "{}: {}: it is not a member of any array that braid knows; leave it out, "
        "make an array of it with braid create, or add it to a running one with "
        "braid member add",
        image.path, finding.text);
}

Checked<Unit> check_each(const Candidates& candidates) {
    std::vector<std::string> lines;
    for (const Candidate& candidate : candidates) {
        if (!candidate.readable()) continue;
        if (candidate.damaged()) continue;
        if (!candidate.findings.superblock) {
            lines.push_back(why_not_a_member(candidate));
        } else if (candidate.findings.hindrance) {
            lines.push_back(
                fmt::format("{}: {}", candidate.image->path, candidate.findings.hindrance->text));
        }
    }
    if (!lines.empty()) return Refusal{joined(lines)};
    return Unit{};
}

std::string why_unusable(const Candidate& candidate) {
    return candidate.damaged()
               ? why_damaged(candidate)
               : fmt::format("cannot be read: {}", os_error_text(candidate.image->os_error));
}
std::vector<std::string> why_unusable(const Candidates& candidates) {
    std::vector<std::string> lines{"none of the given members can be used"};
    for (const Candidate& candidate : candidates) {
        if (candidate.usable()) continue;
        lines.push_back(fmt::format("  {}: {}", candidate.image->path, why_unusable(candidate)));
    }
    return lines;
}

Checked<Unit> check_one_array(const Candidates& candidates) {
    std::map<Uuid, std::string> arrays;
    std::map<Uuid, const Candidate*> members;
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable()) continue;
        const MdSuperblock& sb = candidate.sb();
        std::string& paths = arrays[sb.set_uuid];
        paths += (paths.empty() ? "" : ", ") + candidate.image->path;
        const auto [twin, is_new] = members.emplace(sb.device_uuid, &candidate);
        if (!is_new) {
            return Refusal{fmt::format(
                "{} and {} are the same member (uuid {}): one path given twice, two names of one "
                "device, or a copy; leave one of them out",
                twin->second->image->path, candidate.image->path, sb.device_uuid.text())};
        }
    }
    if (arrays.empty()) return Refusal{joined(why_unusable(candidates))};
    if (arrays.size() == 1) return Unit{};
    std::vector<std::string> lines{
        "the given members belong to different arrays; give those of "
        "one array only"};
    for (const auto& [uuid, paths] : arrays) {
        lines.push_back(fmt::format("  array {}: {}", uuid.text(), paths));
    }
    return Refusal{joined(lines)};
}

// --- who knows best ---

void find_touched(Candidates& candidates) {
    std::set<std::uint64_t> our_events;
    for (const Candidate& candidate : candidates) {
        if (candidate.usable() && candidate.findings.is_tied()) {
            our_events.insert(candidate.slot()->configuration.events);
        }
    }
    for (Candidate& candidate : candidates) {
        if (!candidate.usable() || candidate.slot() == nullptr) continue;
        if (candidate.findings.is_tied() || is_in_use(candidate.sb())) continue;
        // With a damaged slot the other one cannot be the superblock's: the number of events tells.
        const bool ours = candidate.findings.corrupt_slot() != nullptr &&
                          our_events.contains(candidate.sb().events);
        candidate.touched = !ours;
    }
}

/// The newest configuration that braid wrote, of members whose superblock is braid's too; of two
/// of the same epoch, the one that more members hold. Null: there is none.
Checked<const ConfigSlot*> find_newest(const Candidates& candidates, bool force) {
    const ConfigSlot* newest = nullptr;
    std::size_t newest_count = 0;
    bool tie = false;
    for (const Candidate& candidate : candidates) {
        const ConfigSlot* slot = candidate.slot();
        if (!candidate.usable() || slot == nullptr || candidate.touched) continue;
        const auto count = static_cast<std::size_t>(
            std::ranges::count_if(candidates, [slot](const Candidate& other) {
                return other.usable() && other.slot() != nullptr && !other.touched &&
                       other.slot()->configuration == slot->configuration;
            }));
        const std::uint64_t epoch = slot->configuration.epoch;
        const std::uint64_t best = newest ? newest->configuration.epoch : 0;
        if (newest == nullptr || epoch > best || (epoch == best && count > newest_count)) {
            newest = slot;
            newest_count = count;
            tie = false;
        } else if (epoch == best && count == newest_count &&
                   slot->configuration != newest->configuration) {
            tie = true;
        }
    }
    if (tie && !force) {
        return Refusal{fmt::format(
            "{}: two different configurations of epoch {} are held by {} members each, so none of "
            "them counts; give more of the members, or leave out those that were away last "
            "(braid examine shows which hold what), or force it: then the first one counts",
            name_of(newest->configuration), newest->configuration.epoch, newest_count)};
    }
    return newest;
}

bool same_shape(const MdSuperblock& sb, const Configuration& c) {
    return plain(sb.level) == static_cast<std::int32_t>(c.level) && layout_of(sb) == c.layout &&
           strip_size_of(sb) == c.strip_size && plain(sb.raid_disks) == c.member_count &&
           stripes_of(sb) == c.stripes;
}

std::uint32_t votes_of(const Configuration& c) {
    return static_cast<std::uint32_t>(
        std::ranges::count(c.members, MemberState::in_sync, &MemberRecord::state));
}

// --- the common end: from records and places to an Assembly ---

/// What both ways of assembling fill in.
struct Draft {
    Assembly assembly;
    std::uint32_t votes{0};  // members that the newest word calls in_sync
    std::uint32_t votes_here{0};
    std::uint64_t events{0};  // the highest that was seen
    std::vector<std::string> absent;
};

void leave_out(Draft& draft, std::size_t at, std::string why, bool can_return = true) {
    MemberPlace& place = draft.assembly.places[at];
    place.place = Place::stale;
    place.why = std::move(why);
    if (can_return) place.why += fmt::format("; {} {}", way_back, place.path);
    draft.assembly.notices.push_back(fmt::format("{}: left out: {}", place.path, place.why));
}

void take_in(Draft& draft, std::size_t at, std::size_t record_at, const Candidate& candidate) {
    MemberPlace& place = draft.assembly.places[at];
    MemberRecord& record = draft.assembly.configuration.members[record_at];
    place.place = record.role ? Place::member : Place::spare;
    place.record = record_at;
    place.metadata = metadata_of(*candidate.image, candidate.findings);
    record.path = path_to_keep(candidate.image->path);
    record.size = candidate.image->device_size;
    if (const Finding* slot = candidate.findings.corrupt_slot()) {
        draft.assembly.notices.push_back(fmt::format(
            "{}: {}; the other one, or another member's, is used, and it is written anew",
            candidate.image->path, slot->text));
    }
}

Draft start_draft(const Candidates& candidates) {
    Draft draft;
    for (const Candidate& candidate : candidates) {
        MemberPlace place;
        place.path = candidate.image->path;
        if (!candidate.usable()) {
            place.why = why_unusable(candidate);
            draft.assembly.notices.push_back(
                fmt::format("{}: left out: {}", place.path, place.why));
        } else {
            draft.events = std::max<std::uint64_t>(draft.events, candidate.sb().events);
        }
        draft.assembly.places.push_back(std::move(place));
    }
    return draft;
}

/// For the end of a refusal: who is missing, and why what was given is not used.
std::string list_of_absent(const Draft& draft) {
    std::string list;
    for (const std::string& absent : draft.absent) list += "\n  not here: " + absent;
    for (const MemberPlace& place : draft.assembly.places) {
        if (!place.record) list += fmt::format("\n  not used: {}: {}", place.path, place.why);
    }
    return list;
}

Checked<Unit> check_votes(Draft& draft, bool force) {
    const Configuration& c = draft.assembly.configuration;
    const std::string list = list_of_absent(draft);
    const auto in_sync = votes_of(c);
    if (in_sync < c.data_count()) {
        return Refusal{fmt::format(
            "{} cannot start: {} of its {} members are usable, and RAID-{} of {} needs {}{}",
            name_of(c), in_sync, c.member_count, static_cast<int>(c.level), c.member_count,
            c.data_count(), list)};
    }
    if (2 * draft.votes_here > draft.votes) return Unit{};
    const std::string risk =
        "the absent ones may hold a newer configuration and newer data, which would then be lost";
    if (!force) {
        return Refusal{fmt::format(
            "{} does not start by itself: of the {} members that were in sync last, {} are here, "
            "and it takes more than half; bring the others, or force it if you know that they will "
            "not come back: {}{}",
            name_of(c), draft.votes, draft.votes_here, risk, list)};
    }
    draft.assembly.notices.push_back(
        fmt::format("started by force with {} of the {} members that were in sync last: {}",
                    draft.votes_here, draft.votes, risk));
    return Unit{};
}

/// Parity in doubt: repaired by a resync while all members are there; with a member lost, the
/// strips that must be computed are in doubt too.
Checked<Unit> settle_parity(Draft& draft, bool force) {
    Configuration& c = draft.assembly.configuration;
    const bool degraded = votes_of(c) < c.member_count;
    if (!c.resynced) return Unit{};
    MemberRecord& last = c.members[c.member_count - 1];
    if (c.level == Level::raid4 && degraded && last.state != MemberState::in_sync &&
        votes_of(c) + 1 == c.member_count) {
        // Only parity is lost: every byte of the data is there, and parity is made anew.
        last.rebuilt = StripeIndex{0};
        c.resynced = std::nullopt;
        return Unit{};
    }
    if (!degraded) {
        draft.assembly.notices.push_back(
            draft.assembly.unclean
                ? "the array was not stopped cleanly: parity is made true again by a resync"
                : fmt::format("parity is true up to stripe {} of {}: the resync goes on",
                              raw(*c.resynced), c.stripes));
        return Unit{};
    }
    const std::string risk =
        "what a lost member held in stripes that were being written may come back wrong";
    if (!force) {
        const std::string list = list_of_absent(draft);
        return Refusal{fmt::format(
            "{} {}, and {} of its {} members are missing: parity is in doubt, and the missing "
            "strips "
            "must be computed from it; bring the missing members back, or force it: {}{}",
            name_of(c),
            draft.assembly.unclean ? "was not stopped cleanly"
                                   : "has parity that was "
                                     "not yet resynced",
            c.member_count - votes_of(c), c.member_count, risk, list)};
    }
    c.resynced = std::nullopt;
    draft.assembly.notices.push_back(fmt::format(
        "started by force with parity in doubt and a member lost: {}; check the file systems, and "
        "scrub with repair when the array is whole again",
        risk));
    return Unit{};
}

Checked<Assembly> finish(Draft draft, bool force) {
    BRAID_CHECK(check_votes(draft, force));
    BRAID_CHECK(settle_parity(draft, force));
    Configuration& c = draft.assembly.configuration;
    c.in_use = false;
    c.events = draft.events;
    if (const auto lost = c.member_count - votes_of(c); lost != 0) {
        draft.assembly.notices.push_back(fmt::format(
            "the array is degraded: {} of {} members are not in sync", lost, c.member_count));
    }
    if (auto checked = check_configuration(c); !checked) {
        return Refusal{fmt::format("{} cannot be used: {}", name_of(c), checked.error().text)};
    }
    return std::move(draft.assembly);
}

// --- the way of braid's own configurations ---

/// Before anything of braid's was on it: md's events tell whether it was there at the adoption.
bool was_adopted_with(const Candidate& candidate, const ConfigSlot& newest) {
    const std::uint64_t events = candidate.sb().events;
    return newest.configuration.settled == 0 && !is_in_use(candidate.sb()) &&
           events + 3 >= newest.configuration.events && events + 2 <= newest.configuration.events;
}

/// Empty: the member that the newest configuration calls in_sync or rebuilding is current.
std::string why_stale(const Candidate& candidate, const ConfigSlot& newest,
                      const MemberRecord& record) {
    const Configuration& c = newest.configuration;
    if (candidate.touched) return "md has written it since braid ran the array without it";
    if (!same_shape(candidate.sb(), c)) return "its superblock tells of an array of another shape";
    if (to_bytes({plain(candidate.sb().data_offset)}).value != record.data_offset) {
        return "its superblock and the configuration disagree about where its data starts";
    }
    const ConfigSlot* slot = candidate.slot();
    const bool holds = slot != nullptr && slot->configuration == c;
    const bool fresh = record.state == MemberState::rebuilding && raw(record.rebuilt) == 0;
    if (holds || fresh) return {};
    if (slot == nullptr || candidate.findings.corrupt_slot() != nullptr) {
        if (plain(candidate.sb().events) == newest.configuration.events) return {};
    }
    if (slot == nullptr) {
        if (was_adopted_with(candidate, newest)) return {};
        return "it holds no configuration of braid's";
    }
    if (slot->configuration.epoch == c.epoch) {
        return fmt::format("it holds another configuration of epoch {} than most members", c.epoch);
    }
    if (slot->configuration.epoch >= c.settled) return {};
    return fmt::format("it is from the past: it holds epoch {}, though it had held {} once",
                       slot->configuration.epoch, c.settled);
}

void place_by_record(Draft& draft, std::size_t at, const Candidate& candidate,
                     const ConfigSlot& newest) {
    const Configuration& c = newest.configuration;
    const auto found =
        std::ranges::find(c.members, Uuid{candidate.sb().device_uuid}, &MemberRecord::uuid);
    if (found == c.members.end()) {
        return leave_out(draft, at,
                         fmt::format("the array's configuration (epoch {}) does not name "
                                     "it: it was removed, or never taken in",
                                     c.epoch));
    }
    const auto record_at = static_cast<std::size_t>(found - c.members.begin());
    if (!found->role) {
        draft.assembly.configuration.members[record_at].state = MemberState::spare;
        return take_in(draft, at, record_at, candidate);
    }
    if (found->state == MemberState::faulty || found->state == MemberState::missing) {
        return leave_out(
            draft, at,
            fmt::format("the array went on without it: its configuration is of epoch {}, the "
                        "array's of epoch "
                        "{} calls member {} {}",
                        candidate.held(), c.epoch, raw(*found->role), text_of(found->state)));
    }
    if (std::string why = why_stale(candidate, newest, *found); !why.empty()) {
        return leave_out(draft, at, std::move(why));
    }
    if (found->state == MemberState::in_sync) ++draft.votes_here;
    take_in(draft, at, record_at, candidate);
}

void mark_absent(Draft& draft) {
    std::set<std::size_t> here;
    for (const MemberPlace& place : draft.assembly.places) {
        if (place.record) here.insert(*place.record);
    }
    auto& members = draft.assembly.configuration.members;
    for (std::size_t at = 0; at != members.size(); ++at) {
        if (here.contains(at)) continue;
        draft.absent.push_back(describe(members[at]));
        if (members[at].state != MemberState::faulty) members[at].state = MemberState::missing;
        members[at].rebuilt = StripeIndex{0};
    }
}

Checked<Assembly> assemble_ours(const Candidates& candidates, const ConfigSlot& newest,
                                bool force) {
    Draft draft = start_draft(candidates);
    Configuration& c = draft.assembly.configuration;
    c = newest.configuration;
    draft.votes = votes_of(c);
    draft.events = std::max(draft.events, newest.configuration.events);
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const Candidate& candidate = candidates[at];
        if (!candidate.usable()) continue;
        place_by_record(draft, at, candidate, newest);
        c.epoch = std::max(c.epoch, candidate.held());
    }
    mark_absent(draft);
    if (newest.configuration.in_use) {
        draft.assembly.unclean = true;
        c.resynced = StripeIndex{0};
    }
    return finish(std::move(draft), force);
}

// --- the way of md's superblocks ---

/// The newest configuration of braid's, whoever changed the array after it: for volumes and names.
const ConfigSlot* find_base(const Candidates& candidates) {
    const ConfigSlot* base = nullptr;
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable() || candidate.slot() == nullptr) continue;
        if (base == nullptr || candidate.held() > base->configuration.epoch) {
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

bool covers_all(const Configuration& c) {
    return c.volumes.size() == 1 && raw(c.volumes[0].first) == 0 &&
           c.volumes[0].stripes == c.stripes;
}

/// Shape, name and volumes; no members yet.
Checked<Configuration> derive_array(const MdSuperblock& sb, const ConfigSlot* base, bool force) {
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
    c.array = sb.set_uuid;
    c.level = static_cast<Level>(plain(sb.level));
    c.layout = layout_of(sb);
    c.strip_size = strip_size_of(sb);
    c.member_count = sb.raid_disks;
    c.stripes = stripes_of(sb);
    c.in_use = false;
    c.resynced = resynced_of(sb);
    c.members.clear();
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
    if (plain(sb.level) != plain(freshest.level) || plain(sb.layout) != plain(freshest.layout) ||
        plain(sb.chunksize) != plain(freshest.chunksize) ||
        plain(sb.raid_disks) != plain(freshest.raid_disks) ||
        plain(sb.size) != plain(freshest.size)) {
        return "its superblock tells of an array of another shape";
    }
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
        if (!is_new) {
            return Refusal{
                fmt::format("{} and {} both claim to be member {} of the array, with the "
                            "same events; leave out the one that is wrong",
                            candidates[twin->second].image->path, candidate.image->path, role)};
        }
    }
    return placing;
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
                      false);
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

Checked<Assembly> assemble_mds(const Candidates& candidates, bool force) {
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
    BRAID_TRY(draft.assembly.configuration, derive_array(freshest->sb(), base, force));
    Configuration& c = draft.assembly.configuration;
    BRAID_TRY(const MdPlacing placing,
              place_by_superblocks(draft, candidates, *freshest, adopted_before));
    add_records(draft, candidates, placing, freshest->sb(), base);
    take_in_all(draft, candidates, placing);
    if (is_in_use(freshest->sb())) c.resynced = StripeIndex{0};
    draft.assembly.unclean = c.resynced && raw(*c.resynced) == 0;
    const auto rebuilding = static_cast<std::uint32_t>(
        std::ranges::count(c.members, MemberState::rebuilding, &MemberRecord::state));
    draft.votes_here = votes_of(c);
    draft.votes =
        std::max(md_votes(freshest->sb()) - std::min(md_votes(freshest->sb()), rebuilding),
                 draft.votes_here);
    draft.assembly.notices.push_back(
        adopted_before
            ? "md has run the array since braid stopped it: what md's superblocks say "
              "of the members counts"
            : "the array was made by md: braid takes it over as it is, as volume \"data\"");
    return finish(std::move(draft), force);
}

/// Whether md's superblocks count more than the newest configuration of braid's. md runs no array
/// with less than half of its members; so if more than half of them were not touched, it did not.
bool md_knows_better(const Candidates& candidates, const ConfigSlot* newest) {
    if (newest == nullptr) return true;
    if (!std::ranges::any_of(candidates, &Candidate::touched)) return false;
    const auto untouched = std::ranges::count_if(candidates, [newest](const Candidate& candidate) {
        if (!candidate.usable() || candidate.touched || candidate.slot() == nullptr) return false;
        const auto& members = newest->configuration.members;
        const auto record =
            std::ranges::find(members, Uuid{candidate.sb().device_uuid}, &MemberRecord::uuid);
        return record != members.end() && record->state == MemberState::in_sync &&
               candidate.held() >= newest->configuration.settled;
    });
    return 2 * static_cast<std::uint32_t>(untouched) <= votes_of(newest->configuration);
}

/// braid's mark on a superblock, but no configuration on any member.
Checked<Unit> check_configuration_is_there(const Candidates& candidates, bool force) {
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable()) continue;
        if (candidate.slot() != nullptr) return Unit{};
    }
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable() || !is_in_use(candidate.sb()) || force) continue;
        return Refusal{fmt::format(
            "{}: braid served this array and did not stop cleanly, and no member that is here has "
            "a "
            "valid configuration; give its other members too, or force it: then it is taken over "
            "as md left it, as one volume",
            candidate.image->path)};
    }
    return Unit{};
}

}  // namespace

std::string_view text_of(Place place) {
    switch (place) {
        case Place::member:
            return "member";
        case Place::spare:
            return "spare";
        case Place::stale:
            return "stale";
        case Place::foreign:
            return "foreign";
    }
    return "unknown";
}

Checked<Assembly> assemble(std::span<const MemberImage> images, AssemblyOptions options) {
    if (images.empty()) return Refusal{"no members were given"};
    Candidates candidates = look_at(images);
    BRAID_CHECK(check_each(candidates));
    BRAID_CHECK(check_one_array(candidates));
    BRAID_CHECK(check_configuration_is_there(candidates, options.force));
    find_touched(candidates);
    BRAID_TRY(const ConfigSlot* newest, find_newest(candidates, options.force));
    if (md_knows_better(candidates, newest)) return assemble_mds(candidates, options.force);
    return assemble_ours(candidates, *newest, options.force);
}

}  // namespace braid
