// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/assembly_draft.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/metadata/config_check.h"

namespace braid {
namespace {

std::string why_damaged(const Candidate& candidate) {
    const Finding& finding = candidate.findings.superblock.error();
    const ConfigSlot* slot = candidate.slot();
    const std::string what =
        finding.kind == FindingKind::none ? "its md superblock is gone" : finding.text;
    if (slot == nullptr) return what;
    return fmt::format("{} (it was member {} of {})", what, slot->member.text(),
                       name_of(slot->configuration));
}

/// Whether the device has become smaller than the slot knows it.
bool is_too_small(const Candidate& candidate) {
    const ConfigSlot* slot = candidate.slot();
    if (slot == nullptr) return false;
    const Configuration& c = slot->configuration;
    const MemberRecord* own = c.member(slot->member);
    if (own == nullptr || own->state == MemberState::witness) return false;
    return c.end_on(*own) > candidate.image->device_size;
}

/// The array goes on without who is left out: from then on its slot is from the past.
bool goes_on(Purpose purpose) {
    return purpose == Purpose::serve || purpose == Purpose::serve_unasked;
}

std::string_view when_it_takes_orders(Purpose purpose) {
    switch (purpose) {
        case Purpose::serve:
            return "";
        case Purpose::serve_unasked:
            return "start the server with socket=PATH, then ";
        case Purpose::read:
            return "when the array is served for writing, ";
        case Purpose::look:
            return "when the array is served, ";
    }
    return {};
}

std::string way_back(const MemberPlace& place, std::string_view when) {
    switch (place.way_back) {
        case WayBack::none:
            return {};
        case WayBack::added:
            break;
        case WayBack::forced:
            return fmt::format(
                "{}take it in with: braid member add --force {}, which gives up what it holds",
                when, place.path);
        case WayBack::after_spare:
            return fmt::format(
                "{}take another spare out (braid member remove), then give it back with: braid "
                "member add {}",
                when, place.path);
    }
    return fmt::format("{}give it back with: braid member add {}", when, place.path);
}

/// What can be done about a member that was left out, as long as the array is what comes next.
std::string way_out(const Draft& draft, std::size_t at, const Candidate& candidate,
                    Purpose purpose) {
    const MemberPlace& place = draft.assembly.places[at];
    const std::string_view when = when_it_takes_orders(purpose);
    if (place.place == Place::stale) return way_back(place, when);
    if (!candidate.readable()) {
        return goes_on(purpose)
                   ? fmt::format(
                         "when it can be read again, {}give it back with: braid member add {}",
                         when, place.path)
                   : "see to the device, then try again";
    }
    if (is_too_small(candidate)) {
        return goes_on(purpose)
                   ? fmt::format(
                         "when it has its size back, {}give it back with: braid member add {}",
                         when, place.path)
                   : "give the device its size back, then try again";
    }
    if (!goes_on(purpose) && draft.restorable.contains(at)) {
        return fmt::format(
            "braid restore {}puts its superblock back, while nobody serves the array",
            is_zero(candidate.image->superblock.view()) ? "" : "--force ");
    }
    return fmt::format(
        "{}give it to the array with: braid member add --force {}, which rebuilds it", when,
        place.path);
}

/// For the end of a refusal: who is missing, and why what was given is not used. For one that is
/// behind the refusal itself has the way out.
std::string list_of_absent(const Draft& draft, const Candidates& candidates) {
    std::string list;
    for (const std::string& absent : draft.absent) list += "\n  not here: " + absent;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const MemberPlace& place = draft.assembly.places[at];
        if (place.record) continue;
        list += fmt::format("\n  not used: {}: {}", place.path, place.why);
        if (place.place == Place::stale) continue;
        list += "; " + way_out(draft, at, candidates[at], Purpose::look);
    }
    return list;
}

/// How those that count fall short of what may start an array; empty: they do not.
std::string why_not_enough(const Draft& draft) {
    const Configuration& c = draft.assembly.configuration;
    if (!draft.promises && draft.seen.size() < draft.called) {
        return fmt::format(
            "it takes all of them where its members have no room for promises, which "
            "lie before byte {} of a member, and its data behind",
            promises_end + row_size);
    }
    if (draft.assembly.adopted || BRAID_MUTANT(enough_of_who_is_left)) {  // md knows no tie-breaker
        return 2 * draft.counted.size() > draft.called ? "" : "it takes more than half of them";
    }
    if (c.quorum().is_enough(draft.counted, draft.witness)) return {};
    const std::string tie = c.witness() != nullptr
                                ? std::string("and the witness")
                                : fmt::format("with member {} among them", raw(c.tie_breaker));
    return fmt::format("it takes {}, or {} {}", c.data_count() + 1, c.data_count(), tie);
}

Checked<Unit> check_enough(Draft& draft, const std::string& list, bool force) {
    const Configuration& c = draft.assembly.configuration;
    const std::uint32_t usable = c.in_sync().size();
    if (usable < c.data_count()) {
        return Refusal{fmt::format(
            "{} cannot start: {} of its {} members are usable, and RAID-{} of {} needs {}{}{}",
            name_of(c), usable, c.member_count, static_cast<int>(c.level), c.member_count,
            c.data_count(),
            draft.behind == 0 ? ""
                              : "; bring the others back. If they are gone for good, force it "
                                "(force=true): then the freshest of those that are behind are "
                                "taken in, and what was written since they left comes back old",
            list)};
    }
    const std::string why = why_not_enough(draft);
    if (why.empty()) return Unit{};
    const std::string risk =
        "the absent ones may hold a newer configuration and newer data, which would then be lost";
    if (!force) {
        return Refusal{fmt::format(
            "{} does not start by itself: of the {} members that were in sync last, {} are here, "
            "and {}; bring the others, or force it if you know that they will not come back: {}{}",
            name_of(c), draft.called, draft.counted.size(), why, risk, list)};
    }
    draft.assembly.overruled = true;
    draft.assembly.notices.push_back(
        fmt::format("started by force with {} of the {} members that were in sync last: {}",
                    draft.counted.size(), draft.called, risk));
    return Unit{};
}

// --- the write intent ---

/// What the members that take part know of the stripes that were being written.
struct KnownIntent {
    bool usable{false};                // a record was found, and none that cannot be read
    std::vector<IntentEntry> entries;  // of the newest record of each node
    std::map<std::uint32_t, std::vector<const IntentRecord*>> newest;  // by node
    std::map<std::uint32_t, std::uint64_t> generations;                // of each node's
    std::string trouble;  // for people: why it is not usable
};

bool is_in_array(const IntentRecord& record, const Configuration& c) {
    return std::ranges::all_of(record.entries, [&c](const IntentEntry& entry) {
        return raw(entry.first) <= c.stripes && entry.count <= c.stripes - raw(entry.first);
    });
}

/// In order, and no stripe twice.
std::vector<IntentEntry> merge_entries(std::vector<IntentEntry> all) {
    std::ranges::sort(all, {}, &IntentEntry::first);
    std::vector<IntentEntry> merged;
    StripeIndex free_from{};
    for (IntentEntry entry : all) {
        const StripeIndex end = entry.end();
        if (end <= free_from) continue;
        entry.first = std::max(entry.first, free_from);
        entry.count = static_cast<std::uint32_t>(end - entry.first);
        merged.push_back(entry);
        free_from = end;
    }
    return merged;
}

KnownIntent find_intent(const Draft& draft, const Candidates& candidates) {
    const Configuration& c = draft.assembly.configuration;
    KnownIntent known;
    // By node; several of one generation may differ: one was refused by a member, and put together
    // anew under the same number, when another that had it was gone.
    std::map<std::uint32_t, std::vector<const IntentRecord*>> newest;
    bool unreadable = false;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        if (draft.assembly.places[at].place != Place::member) continue;
        const MemberFindings& findings = candidates[at].findings;
        const auto& path = candidates[at].image->path;
        if (findings.intent_hindrance && known.trouble.empty()) {
            known.trouble = fmt::format("{}: {}", path, findings.intent_hindrance->text);
        }
        for (const FoundIntent& found : findings.intent) {
            if (!found.record) {
                // A record of a newer format may be the newest: then the others say too little.
                unreadable |= found.record.error().kind == FindingKind::unsupported;
                known.trouble = fmt::format("{}: {}", path, found.record.error().text);
            } else if (!is_in_array(*found.record, c)) {
                known.trouble = fmt::format(
                    "{}: write intent slot {} is corrupt: it names stripes beyond the array", path,
                    found.slot);
            } else {
                auto& best = newest[found.record->node];
                const std::uint64_t generation = found.record->generation;
                if (!best.empty() && best.front()->generation < generation) best.clear();
                if (best.empty() || best.front()->generation == generation) {
                    best.push_back(&*found.record);
                }
            }
        }
    }
    for (const auto& [node, records] : newest) {
        known.generations[node] = records.front()->generation;
        for (const IntentRecord* record : records) {
            known.entries.insert(known.entries.end(), record->entries.begin(),
                                 record->entries.end());
        }
    }
    known.entries = merge_entries(std::move(known.entries));
    known.usable = !newest.empty() && !unreadable;
    known.newest = std::move(newest);
    return known;
}

/// What members miss that were away as the array stopped. Each node's newest record tells of all that
/// it had as away then; of one that left after that it has marked whatever it wrote since. So it is
/// known where one knows it, and none does not.
void find_absent(Draft& draft, const KnownIntent& known) {
    Assembly& assembly = draft.assembly;
    const Configuration& c = assembly.configuration;
    std::vector<const IntentRecord*> records;
    for (const auto& [node, newest] : known.newest) {
        records.insert(records.end(), newest.begin(), newest.end());
    }
    const bool tell = std::ranges::all_of(records, &IntentRecord::tells_absent);
    if (!c.intent.on || assembly.adopted || !known.usable || !tell) return;
    std::set<MemberIndex> unknown;
    for (const IntentRecord* record : records) {
        for (const AbsentMember& away : record->absent) {
            const MemberRecord* const member = c.member(away.uuid);
            if (member == nullptr || !member->role || takes_part(member->state)) continue;
            if (!away.known) unknown.insert(*member->role);
            std::uint64_t& least = assembly.absent[*member->role][record->node];
            least = std::max(least, away.generation);
        }
    }
    for (const MemberIndex member : unknown) assembly.absent.erase(member);
    if (assembly.absent.empty()) return;
    for (const IntentRecord* record : records) {
        record->missed.for_each([&](StripeIndex first, StripeIndex end) {
            constexpr std::uint64_t count_max = 0xffffffff;
            end = std::min(end, StripeIndex{c.stripes});
            for (; first < end; first = first + std::min(count_max, end - first)) {
                const auto count = static_cast<std::uint32_t>(std::min(count_max, end - first));
                assembly.missed.push_back({intent_no_volume, count, first});
            }
        });
    }
    assembly.missed.insert(assembly.missed.end(), known.entries.begin(), known.entries.end());
    assembly.missed = merge_entries(std::move(assembly.missed));
}

/// Whether the record is kept on this member, by the configuration: WriteIntent::targets().
bool holds_intent(const Configuration& c, MemberIndex role) {
    const MemberSet in_sync = c.in_sync();
    const MemberSet before{in_sync.bits() & MemberSet::first(raw(role)).bits()};
    return in_sync.has(role) && before.size() < parities_of(c.level) + 1;
}

std::string find_intent_hindrance(const Draft& draft, const Candidates& candidates) {
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        if (draft.assembly.places[at].place != Place::member) continue;
        const auto& hindrance = candidates[at].findings.intent_hindrance;
        if (hindrance) return fmt::format("{}: {}", candidates[at].image->path, hindrance->text);
    }
    return {};
}

std::string describe_unclean(const Draft& draft) {
    return draft.why_no_record.empty()
               ? std::string("was not stopped cleanly")
               : fmt::format("was not stopped cleanly ({})", draft.why_no_record);
}

/// Parity in doubt: repaired by a resync while all members are there; with as many lost as there
/// are parities, the strips that must be computed are in doubt too.
Checked<Unit> decide_parity(Draft& draft, const std::string& list, bool force) {
    Configuration& c = draft.assembly.configuration;
    const std::uint32_t lost = c.member_count - c.in_sync().size();
    if (!c.resynced) return Unit{};
    MemberRecord& last = c.members[c.member_count - 1];
    if (c.level == Level::raid4 && lost == 1 && last.state != MemberState::in_sync) {
        // Only parity is lost: every byte of the data is there, and parity is made anew.
        last.rebuilt = StripeIndex{0};
        c.resynced = std::nullopt;
        return Unit{};
    }
    // With fewer lost than there are parities two of them may still agree: the resync asks them,
    // and lists what they do not decide, as it does where a member is lost while it runs.
    if (lost < parities_of(c.level)) {
        const bool whole = draft.assembly.unclean && !draft.has_record;
        draft.assembly.notices.push_back(
            whole ? fmt::format("the array {}: parity has to be made true by a resync of all of it",
                                describe_unclean(draft))
                  : fmt::format("parity is true up to stripe {} of {}: the resync is not done",
                                raw(*c.resynced), c.stripes));
        return Unit{};
    }
    const std::string risk =
        "what a lost member held in stripes that were being written may come back wrong";
    if (!force) {
        const std::string why =
            draft.assembly.unclean && !draft.has_record
                ? describe_unclean(draft)
                : fmt::format("has parity that was not yet resynced beyond stripe {} of {}",
                              raw(*c.resynced), c.stripes);
        return Refusal{fmt::format(
            "{} {}, and {} of its {} members are missing: parity is in doubt, and the missing "
            "strips must be computed from it; bring the missing members back, or force it: {}{}",
            name_of(c), why, lost, c.member_count, risk, list)};
    }
    c.resynced = std::nullopt;
    draft.assembly.overruled = true;
    draft.assembly.notices.push_back(fmt::format(
        "started by force with parity in doubt and a member lost: {}; check the file systems, and "
        "scrub with repair when the array is whole again",
        risk));
    return Unit{};
}

}  // namespace

std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& line : lines) text += (text.empty() ? "" : "\n") + line;
    return text;
}

std::string name_of(const Configuration& c) {
    return fmt::format("array {}{}{}", c.name, c.name.empty() ? "" : " ", c.array.text());
}

std::string describe(const MemberRecord& record) {
    const std::string what = text_of_part(record);
    if (record.uuid == Uuid{}) return what + " (never seen by braid)";
    return fmt::format("{} (last seen at {}, {}, uuid {})", what,
                       record.path.empty() ? "an unknown place" : record.path,
                       text_of(record.state), record.uuid.text());
}

std::string why_unusable(const Candidate& candidate) {
    return candidate.damaged()
               ? why_damaged(candidate)
               : fmt::format("cannot be read: {}", os_error_text(candidate.image->os_error));
}

bool same_shape(const MdSuperblock& sb, const Configuration& c) {
    return plain(sb.level) == static_cast<std::int32_t>(c.level) && layout_of(sb) == c.layout &&
           strip_size_of(sb) == c.strip_size && plain(sb.raid_disks) == c.member_count &&
           stripes_of(sb) == c.stripes;
}

bool is_witness(const Candidate& candidate) {
    const ConfigSlot* slot = candidate.slot();
    if (slot == nullptr) return false;
    const MemberRecord* own = slot->configuration.member(slot->member);
    return own != nullptr && own->state == MemberState::witness;
}

Draft start_draft(const Candidates& candidates) {
    Draft draft;
    for (const Candidate& candidate : candidates) {
        MemberPlace place;
        place.path = candidate.image->path;
        if (!candidate.usable()) {
            place.why = why_unusable(candidate);
        } else {
            draft.events = std::max<std::uint64_t>(draft.events, candidate.sb().events);
        }
        if (candidate.readable()) {
            draft.assembly.epoch_seen = std::max({draft.assembly.epoch_seen, candidate.held().epoch,
                                                  candidate.findings.promise.epoch});
        }
        draft.assembly.places.push_back(std::move(place));
    }
    return draft;
}

void leave_out(Draft& draft, std::size_t at, std::string why, WayBack way_back) {
    BRAID_REQUIRE(at < draft.assembly.places.size());
    MemberPlace& place = draft.assembly.places[at];
    BRAID_REQUIRE(!place.record);
    place.place = Place::stale;
    place.why = std::move(why);
    place.way_back = way_back;
}

void count_member(Draft& draft, MemberIndex role, const Candidate& candidate) {
    draft.counted.add(role);
    draft.seen.add(role);
    draft.promises &= !candidate.findings.promise_hindrance;
}

void take_in(Draft& draft, std::size_t at, std::size_t record_at, const Candidate& candidate) {
    BRAID_REQUIRE(at < draft.assembly.places.size());
    BRAID_REQUIRE(record_at < draft.assembly.configuration.members.size());
    MemberPlace& place = draft.assembly.places[at];
    BRAID_REQUIRE(!place.record);
    MemberRecord& record = draft.assembly.configuration.members[record_at];
    place.place = record.role                            ? Place::member
                  : record.state == MemberState::witness ? Place::witness
                                                         : Place::spare;
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

void decide_intent(Draft& draft, const Candidates& candidates) {
    Assembly& assembly = draft.assembly;
    Configuration& c = assembly.configuration;
    KnownIntent known = find_intent(draft, candidates);
    assembly.intent_generations = known.generations;
    assembly.intent_hindrance = find_intent_hindrance(draft, candidates);
    find_absent(draft, known);
    if (!assembly.unclean || assembly.adopted) return;
    draft.has_record = c.intent.on && known.usable;
    if (!draft.has_record) {
        c.resynced = StripeIndex{0};
        draft.why_no_record =
            !c.intent.on ? "the write intent was off"
            : known.trouble.empty()
                ? "no write intent was found on its members"
                : fmt::format("no usable write intent was found on its members: {}", known.trouble);
        return;
    }
    std::uint64_t stripes = 0;
    for (const IntentEntry& entry : known.entries) stripes += entry.count;
    assembly.marked = std::move(known.entries);
    assembly.notices.push_back(
        stripes == 0
            ? std::string("the array was not stopped cleanly, but nothing was being written: no "
                          "stripe was marked by the write intent")
            : fmt::format("the array was not stopped cleanly: {} of its {} stripes were marked by "
                          "the write intent, and have to be made true",
                          stripes, c.stripes));
}

/// Records go to all of their members before the next is written, so that the newest of a member
/// is at most one behind the newest of all. A member may also have been lost right before the
/// crash, so it is no proof.
void warn_of_old_intent(Draft& draft, const Candidates& candidates, const Configuration& newest) {
    Assembly& assembly = draft.assembly;
    BRAID_REQUIRE(assembly.places.size() == candidates.size());
    if (!assembly.unclean || assembly.adopted || !draft.has_record) return;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        const MemberPlace& place = assembly.places[at];
        if (place.place != Place::member) continue;
        const MemberRecord& record = assembly.configuration.members[*place.record];
        if (!holds_intent(newest, *record.role)) continue;
        std::map<std::uint32_t, std::uint64_t> generations;  // by node
        for (const FoundIntent& found : candidates[at].findings.intent) {
            if (!found.record) continue;
            std::uint64_t& generation = generations[found.record->node];
            generation = std::max(generation, found.record->generation);
        }
        for (const auto& [node, generation] : generations) {
            const std::uint64_t others = assembly.intent_generation(node);
            if (generation == 0 || generation + 1 >= others) continue;
            assembly.notices.push_back(fmt::format(
                "{}: its write intent is of generation {}, the others' of {}: if it is an older "
                "copy that was put back, what it holds is old, and a crash hides that from braid. "
                "Then stop, and start without it",
                place.path, generation, others));
            break;
        }
    }
}

Checked<Assembly> finish(Draft draft, const Candidates& candidates, AssemblyOptions options) {
    BRAID_REQUIRE(draft.assembly.places.size() == candidates.size());
    const std::string list = list_of_absent(draft, candidates);
    BRAID_CHECK(check_enough(draft, list, options.force));
    BRAID_CHECK(decide_parity(draft, list, options.force));
    Configuration& c = draft.assembly.configuration;
    c.in_use = false;
    c.events = draft.events;
    for (std::size_t at = 0; at != candidates.size(); ++at) {
        MemberPlace& place = draft.assembly.places[at];
        if (place.record) continue;
        // Only now it is certain that the array starts, and what comes after that.
        const std::string way = way_out(draft, at, candidates[at], options.purpose);
        if (!way.empty()) place.why += "; " + way;
        draft.assembly.notices.push_back(fmt::format("{}: left out: {}", place.path, place.why));
    }
    if (const auto lost = c.member_count - c.in_sync().size(); lost != 0) {
        draft.assembly.notices.push_back(fmt::format(
            "the array is degraded: {} of {} members are not in sync", lost, c.member_count));
    }
    if (auto checked = check_configuration(c); !checked) {
        return Refusal{fmt::format("{} cannot be used: {}", name_of(c), checked.error().text)};
    }
    return std::move(draft.assembly);
}

}  // namespace braid
