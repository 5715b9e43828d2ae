// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/assembly.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "engine/assembly/assembly_draft.h"
#include "engine/base/mutation.h"
#include "engine/metadata/config_check.h"
#include "parity/require.h"

namespace braid {
namespace {

// --- what each image is on its own ---

Candidates look_at(std::span<const MemberImage> images) {
    Candidates candidates;
    for (const MemberImage& image : images) candidates.push_back({&image, inspect(image), false});
    return candidates;
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
        const std::uint64_t epoch =
            std::max(candidate.held().epoch, candidate.findings.promise.epoch);
        if (epoch > epoch_start_max) {
            lines.push_back(fmt::format(
                "{}: names epoch {}, which no clock can have led to: its metadata is damaged, or "
                "made up; leave it out",
                candidate.image->path, epoch));
        }
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

std::vector<std::string> why_unusable(const Candidates& candidates) {
    std::vector<std::string> lines{"none of the given members can be used"};
    for (const Candidate& candidate : candidates) {
        if (candidate.usable()) continue;
        const bool has_slot = candidate.damaged() && candidate.slot() != nullptr;
        lines.push_back(fmt::format(
            "  {}: {}{}", candidate.image->path, why_unusable(candidate),
            has_slot ? "; braid restore puts its superblock back, if no more is wrong" : ""));
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

bool is_ours(const Candidate& candidate) {
    return candidate.usable() && candidate.slot() != nullptr && !candidate.touched;
}

struct Newest {
    const ConfigSlot* slot{nullptr};  // none: there is none
    std::size_t members{0};           // that hold it
    bool tie{false};                  // as many hold another one of the same name
};

/// The newest configuration that braid wrote, of members whose superblock is braid's too. A name
/// has one content, but for copies and for what was written before promises were made: of two, the
/// one that more members hold; by force also the first of those that as many do.
Checked<Newest> find_newest(const Candidates& candidates, bool force) {
    Newest newest;
    for (const Candidate& candidate : candidates) {
        if (!is_ours(candidate)) continue;
        const ConfigSlot* slot = candidate.slot();
        const auto count = static_cast<std::size_t>(
            std::ranges::count_if(candidates, [slot](const Candidate& other) {
                return is_ours(other) && other.slot()->configuration == slot->configuration;
            }));
        const EpochRevision version = slot->configuration.version;
        const EpochRevision best =
            newest.slot != nullptr ? newest.slot->configuration.version : EpochRevision{};
        const bool is_newer =
            BRAID_MUTANT(newest_not_adopted) ? count > newest.members : version > best;
        if (newest.slot == nullptr || is_newer || (version == best && count > newest.members)) {
            newest = {slot, count, false};
        } else if (version == best && count == newest.members &&
                   slot->configuration != newest.slot->configuration) {
            newest.tie = true;
        }
    }
    if (newest.tie && !force) {
        return Refusal{fmt::format(
            "{}: two different configurations of {} are held by {} members each, so none of "
            "them counts; give more of the members, or leave out those that were away last "
            "(braid examine shows which hold what), or force it: then the first one counts",
            name_of(newest.slot->configuration), newest.slot->configuration.version.text(),
            newest.members)};
    }
    return newest;
}

// --- the way of braid's own configurations ---

/// The highest that any member knows to have been in force; one with a damaged superblock, too.
EpochRevision highest_in_force(const Candidates& candidates, const ConfigSlot& newest) {
    EpochRevision highest = newest.configuration.in_force;
    for (const Candidate& candidate : candidates) {
        const ConfigSlot* slot = candidate.readable() ? candidate.slot() : nullptr;
        if (slot == nullptr || slot->configuration.array != newest.configuration.array) continue;
        highest = std::max(highest, slot->configuration.in_force);
    }
    return highest;
}

/// Before anything of braid's was on it: md's events tell whether it was there at the adoption.
bool was_adopted_with(const Candidate& candidate, const ConfigSlot& newest) {
    const std::uint64_t events = candidate.sb().events;
    return newest.configuration.in_force == EpochRevision{} && !is_in_use(candidate.sb()) &&
           events + 3 >= newest.configuration.events && events + 2 <= newest.configuration.events;
}

/// What a member that the newest configuration names holds. With a damaged slot md's events tell:
/// the superblock is written after the slot.
EpochRevision held_by(const Candidate& candidate, const ConfigSlot& newest) {
    const bool damaged =
        candidate.slot() == nullptr || candidate.findings.corrupt_slot() != nullptr;
    if (damaged && plain(candidate.sb().events) == newest.configuration.events) {
        return newest.configuration.version;
    }
    return candidate.held();
}

MemberAnswer answer_of(const Candidate& candidate, const ConfigSlot& newest,
                       const MemberRecord& record) {
    const bool fresh = raw(record.rebuilt) == 0;
    const MemberAnswer::Part part =
        record.state == MemberState::in_sync      ? MemberAnswer::Part::in_sync
        : record.state != MemberState::rebuilding ? MemberAnswer::Part::none
        : fresh                                   ? MemberAnswer::Part::fresh
                                                  : MemberAnswer::Part::rebuilding;
    return {part, held_by(candidate, newest)};
}

/// Empty: the member that the newest configuration calls in_sync or rebuilding is current.
std::string why_stale(const Candidate& candidate, const ConfigSlot& newest,
                      const MemberRecord& record, EpochRevision in_force) {
    const Configuration& c = newest.configuration;
    if (!same_shape(candidate.sb(), c)) return "its superblock tells of an array of another shape";
    if (to_bytes({plain(candidate.sb().data_offset)}).value != record.data_offset) {
        return "its superblock and the configuration disagree about where its data starts";
    }
    if (was_adopted_with(candidate, newest)) return {};
    if (candidate.touched) return "md has written it since braid ran the array without it";
    const MemberAnswer answer = answer_of(candidate, newest, record);
    const ConfigSlot* slot = candidate.slot();
    if (answer.part == MemberAnswer::Part::fresh) return {};
    if (slot == nullptr && answer.held == EpochRevision{}) {
        return "it holds no configuration of braid's";
    }
    if (standing_of(answer, in_force) == Standing::stale && !BRAID_MUTANT(stale_member_accepted)) {
        return fmt::format("it is from the past: it holds {}, though {} was on all members once",
                           answer.held.text(), in_force.text());
    }
    if (slot != nullptr && slot->configuration.version == c.version && slot->configuration != c) {
        return fmt::format("it holds another configuration of {} than most members",
                           c.version.text());
    }
    return {};
}

bool went_on_elsewhere(const Candidate& candidate, const Configuration& c) {
    if (!is_ours(candidate)) return false;
    const Configuration& held = candidate.slot()->configuration;
    return has_another_history(c, candidate.sb().device_uuid, held.lineage, held.in_force);
}

/// Leases count on the node that has it, and that node knows alone which it has extended.
std::string why_no_witness(std::size_t at, const Candidate& candidate, const MemberRecord& record,
                           const AssemblyOptions& options) {
    if (candidate.findings.promise_hindrance) return candidate.findings.promise_hindrance->text;
    if (options.homes.empty() || options.homes[at] == record.home) return {};
    return fmt::format(
        "it is the witness, and was at node {}: at another node it breaks ties only when all nodes "
        "start together",
        record.home);
}

void place_by_record(Draft& draft, std::size_t at, const Candidate& candidate,
                     const ConfigSlot& newest, EpochRevision in_force,
                     const AssemblyOptions& options) {
    const Configuration& c = newest.configuration;
    const auto found =
        std::ranges::find(c.members, Uuid{candidate.sb().device_uuid}, &MemberRecord::uuid);
    if (found == c.members.end()) {
        return leave_out(draft, at,
                         fmt::format("the array's configuration ({}) does not name it: it was "
                                     "removed, or never taken in",
                                     c.version.text()));
    }
    const auto record_at = static_cast<std::size_t>(found - c.members.begin());
    if (!found->role) {
        MemberRecord& record = draft.assembly.configuration.members[record_at];
        const bool breaks_ties = record.state == MemberState::witness;
        if (!breaks_ties) {
            record.state = MemberState::spare;
        } else if (const std::string why = why_no_witness(at, candidate, record, options);
                   !why.empty()) {
            return leave_out(draft, at, why, WayBack::none);
        } else {
            draft.witness = Witness::promised;
        }
        return take_in(draft, at, record_at, candidate);
    }
    if (went_on_elsewhere(candidate, c)) {
        return leave_out(draft, at, "it went on by itself, as one of two histories",
                         WayBack::forced);
    }
    if (found->state == MemberState::faulty || found->state == MemberState::missing) {
        return leave_out(
            draft, at,
            fmt::format("the array went on without it: its configuration is of {}, the array's of "
                        "{} calls member {} {}",
                        candidate.held().text(), c.version.text(), raw(*found->role),
                        text_of(found->state)));
    }
    if (found->state == MemberState::in_sync) draft.seen.add(*found->role);
    if (std::string why = why_stale(candidate, newest, *found, in_force); !why.empty()) {
        return leave_out(draft, at, std::move(why));
    }
    if (found->state == MemberState::in_sync) count_member(draft, *found->role, candidate);
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
        if (members[at].state == MemberState::in_sync) {
            members[at].left = draft.assembly.configuration.in_force;  // or a newer one
        }
        // It is one as long as it is named.
        if (members[at].state == MemberState::witness) continue;
        if (members[at].state != MemberState::faulty) members[at].state = MemberState::missing;
        members[at].rebuilt = StripeIndex{0};
    }
}

/// A member that was left out for being behind, but whose role nobody fills: by force it can count.
bool could_be_forced(const Draft& draft, std::size_t at, const Candidate& candidate,
                     const ConfigSlot& newest) {
    if (draft.assembly.places[at].place != Place::stale || candidate.touched) return false;
    const Configuration& c = newest.configuration;
    const MemberRecord* record = c.member(Uuid{candidate.sb().device_uuid});
    if (record == nullptr || !record->role || record->state == MemberState::rebuilding)
        return false;
    if (went_on_elsewhere(candidate, c)) return false;
    return candidate.slot() != nullptr && same_shape(candidate.sb(), c) &&
           to_bytes({plain(candidate.sb().data_offset)}).value == record->data_offset;
}

/// Those that are behind, the freshest first.
std::vector<std::size_t> find_behind(const Draft& draft, const Candidates& candidates,
                                     const ConfigSlot& newest) {
    std::vector<std::size_t> behind;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        if (candidates[at].usable() && could_be_forced(draft, at, candidates[at], newest)) {
            behind.push_back(at);
        }
    }
    std::ranges::stable_sort(behind, std::ranges::greater{},
                             [&](std::size_t at) { return candidates[at].held(); });
    return behind;
}

/// As many of those that are behind as it takes to start at all. What they missed nobody knows.
void take_in_by_force(Draft& draft, const Candidates& candidates, const ConfigSlot& newest,
                      const std::vector<std::size_t>& behind) {
    Configuration& c = draft.assembly.configuration;
    for (const std::size_t at : behind) {
        if (c.in_sync().size() >= c.data_count()) return;
        const Candidate& candidate = candidates[at];
        const auto record =
            std::ranges::find(c.members, Uuid{candidate.sb().device_uuid}, &MemberRecord::uuid);
        const auto record_at = static_cast<std::size_t>(record - c.members.begin());
        record->state = MemberState::in_sync;
        record->rebuilt = StripeIndex{0};
        const EpochRevision held = candidate.held();
        draft.assembly.notices.push_back(fmt::format(
            "member {} ({}) was taken in by force: it holds {}, the array is of {}. What was "
            "written since then comes back old where this member has it, and wrong where it is "
            "computed from this member: check the file systems",
            raw(*record->role), candidate.image->path, held.text(),
            newest.configuration.version.text()));
        draft.assembly.places[at].why.clear();
        count_member(draft, *record->role, candidate);
        take_in(draft, at, record_at, candidate);
        draft.assembly.forced = draft.assembly.overruled = true;
    }
}

/// Whose superblock is damaged, and who is current by its slot: it is only to be put back.
void find_restorable(Draft& draft, const Candidates& candidates, const ConfigSlot& newest,
                     EpochRevision in_force) {
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const ConfigSlot* slot = candidates[at].damaged() ? candidates[at].slot() : nullptr;
        if (slot == nullptr || slot->configuration.array != newest.configuration.array) continue;
        const MemberRecord* record = newest.configuration.member(slot->member);
        const bool counts = record != nullptr && takes_part(record->state);
        if (counts && slot->configuration.version >= in_force) draft.restorable.insert(at);
    }
}

/// Of all that members missed who were taken in by force, the record names what was written last.
void tell_marks(Draft& draft) {
    constexpr std::size_t told_max = 16;
    Assembly& assembly = draft.assembly;
    if (!assembly.forced || assembly.marked.empty()) return;
    std::uint64_t stripes = 0;
    std::string places;
    for (std::size_t at = 0; at != assembly.marked.size(); ++at) {
        const IntentEntry& entry = assembly.marked[at];
        stripes += entry.count;
        if (at > told_max) continue;
        if (at == told_max) {
            places += ", …";
            continue;
        }
        places +=
            fmt::format("{}{} to {}", at == 0 ? "" : ", ", raw(entry.first), raw(entry.end()) - 1);
    }
    assembly.notices.push_back(fmt::format(
        "of what the members that were taken in by force may have missed, the write intent names "
        "what was being written last: {} stripes, {} bytes of data ({}). Nothing tells of older "
        "writes",
        stripes, stripes * assembly.configuration.stripe_data_size(), places));
}

/// Members that the newest configuration calls lost, and that went on by themselves. By force they are
/// left out.
Checked<Unit> check_one_history(Draft& draft, const Candidates& candidates, bool force) {
    const Configuration& c = draft.assembly.configuration;
    std::string ours;
    std::string others;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const std::string& path = candidates[at].image->path;
        if (draft.assembly.places[at].record) ours += (ours.empty() ? "" : ", ") + path;
        if (went_on_elsewhere(candidates[at], c)) others += (others.empty() ? "" : ", ") + path;
    }
    if (others.empty()) return Unit{};
    if (!force) {
        return Refusal{fmt::format(
            "{}: these members hold two histories: {} went on without {}, and the latter without the "
            "former, for one of them was started by force. Nothing tells which is right: give only "
            "the members of the one that is to stay (braid examine shows what each holds). The others "
            "can be added to it then (braid member add --force), which gives up what is on them; or "
            "force this start: then the one that began its last epoch later stays, {}",
            name_of(c), ours, others, ours)};
    }
    draft.assembly.overruled = true;
    draft.assembly.notices.push_back(
        fmt::format("started by force with {} alone, though {} went on by themselves: what was "
                    "written there is not here",
                    ours, others));
    return Unit{};
}

Checked<Assembly> assemble_ours(const Candidates& candidates, const ConfigSlot& newest,
                                AssemblyOptions options) {
    Draft draft = start_draft(candidates);
    Configuration& c = draft.assembly.configuration;
    c = newest.configuration;
    c.in_force = highest_in_force(candidates, newest);
    draft.called = c.in_sync().size();
    const MemberSet called = c.in_sync();
    draft.events = std::max(draft.events, newest.configuration.events);
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        if (!candidates[at].usable()) continue;
        place_by_record(draft, at, candidates[at], newest, c.in_force, options);
    }
    BRAID_CHECK(check_one_history(draft, candidates, options.force));
    mark_absent(draft);
    const EpochRevision version = newest.configuration.version;
    if (c.witness() != nullptr && break_ties(draft.counted, called, version, c.in_force)) {
        draft.witness = Witness::promised;
        draft.assembly.ties_broken = true;
    }
    find_restorable(draft, candidates, newest, c.in_force);
    const std::vector<std::size_t> behind = find_behind(draft, candidates, newest);
    draft.behind = static_cast<std::uint32_t>(behind.size());
    if (options.force) take_in_by_force(draft, candidates, newest, behind);
    draft.assembly.unclean = newest.configuration.in_use;
    decide_intent(draft, candidates);
    tell_marks(draft);
    warn_of_old_intent(draft, candidates, newest.configuration);
    return finish(std::move(draft), candidates, options);
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
               candidate.held() >= newest->configuration.in_force;
    });
    return 2 * static_cast<std::uint32_t>(untouched) <= newest->configuration.in_sync().size();
}

/// A record of the write intent of this very array: braid has served it, whatever became of the
/// slots, and whichever version it was.
bool has_record(const MemberFindings& findings) {
    return std::ranges::any_of(findings.intent,
                               [](const FoundIntent& found) { return found.record.has_value(); });
}

/// braid's marks on a member, but no configuration on any member.
Checked<Unit> check_configuration_is_there(const Candidates& candidates, bool force) {
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable()) continue;
        if (candidate.slot() != nullptr) return Unit{};
    }
    for (const Candidate& candidate : candidates) {
        if (!candidate.usable() || force) continue;
        if (is_in_use(candidate.sb())) {
            return Refusal{fmt::format(
                "{}: braid served this array and did not stop cleanly, or has rows in it that "
                "cannot be known, and no member that is here has a valid configuration; give its "
                "other members too, or force it: then it is taken over as md left it, as one "
                "volume",
                candidate.image->path)};
        }
        if (has_volumes(candidate.sb()) || has_record(candidate.findings)) {
            return Refusal{fmt::format(
                "{}: braid has served this array, and no member that is here has a valid "
                "configuration, which alone says what volumes it holds; give its other members "
                "too: one that has it is enough; or force it: then all of the array is one volume",
                candidate.image->path)};
        }
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
        case Place::witness:
            return "witness";
        case Place::stale:
            return "stale";
        case Place::foreign:
            return "foreign";
    }
    return "unknown";
}

std::vector<Uuid> members_away(std::span<const MemberImage> images, const Uuid& array) {
    std::vector<Uuid> given;
    std::optional<Configuration> newest;
    for (const MemberImage& image : images) {
        const MemberFindings findings = inspect(image);
        const ConfigSlot* slot = findings.slot();
        if (slot == nullptr || slot->configuration.array != array) continue;
        given.push_back(slot->member);
        if (!newest || newest->version < slot->configuration.version) newest = slot->configuration;
    }
    std::vector<Uuid> away;
    if (!newest) return away;
    for (const MemberRecord& at : newest->members) {
        if (!at.role || at.state != MemberState::in_sync) continue;
        if (std::ranges::find(given, at.uuid) == given.end()) away.push_back(at.uuid);
    }
    return away;
}

Checked<Assembly> assemble(std::span<const MemberImage> images, AssemblyOptions options) {
    if (images.empty()) return Refusal{"no members were given"};
    Candidates candidates = look_at(images);
    BRAID_CHECK(check_each(candidates));
    BRAID_CHECK(check_one_array(candidates));
    BRAID_CHECK(check_configuration_is_there(candidates, options.force));
    find_touched(candidates);
    BRAID_TRY(const Newest newest, find_newest(candidates, options.force));
    const bool by_md = md_knows_better(candidates, newest.slot);
    BRAID_REQUIRE(by_md || newest.slot != nullptr);
    if (by_md) return assemble_mds(candidates, options);
    BRAID_TRY(Assembly assembly, assemble_ours(candidates, *newest.slot, options));
    assembly.overruled |= newest.tie;
    return assembly;
}

}  // namespace braid
