// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "engine/assembly_draft.h"
#include "engine/base/mutation.h"

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
    if (holds || fresh || BRAID_MUTANT(stale_member_accepted)) return {};
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
    draft.assembly.unclean = newest.configuration.in_use;
    settle_intent(draft, candidates);
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
