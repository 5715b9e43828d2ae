// SPDX-License-Identifier: BSD-3-Clause
// Assembly: from what lies on the members to the configuration to run with, or to a refusal that
// names what was found and the way out. A pure function of the members' images.
//
// The rules. A configuration is written to every member that it calls in_sync or rebuilding; it is
// in force, and something may be acknowledged on its strength, once all of them hold it; a member
// that fails the write is faulty in a further configuration. So a member that the newest
// configuration calls in_sync, but that does not hold it, shows that it never was in force: the
// crash fell into its writing, and the member is as current as the others, unless it holds an
// epoch older than the one that the newest knows all of them to have held (`settled`): then it is
// a copy from the past. More than half of the members that the newest configuration calls in_sync
// must be there: otherwise the absent ones may have a newer one.
// Whether md ran the array since our last clean stop shows in the superblocks: each slot names the
// checksums of those that it belongs to. If md did, its superblocks count.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/configuration.h"
#include "engine/intent_record.h"
#include "engine/member_metadata.h"

namespace braid {

struct AssemblyOptions {
    /// Start even if the absent members may be newer, or if parity is in doubt and a strip lost.
    bool force{false};
};

enum class Place : std::uint8_t {
    member,  // takes part: in_sync or rebuilding
    spare,
    stale,    // of this array, but left out; `why` says why and what to do
    foreign,  // unreadable
};
std::string_view text_of(Place place);

/// What became of one of the given members.
struct MemberPlace {
    std::string path;
    Place place{Place::foreign};
    std::optional<std::size_t> record;  // into configuration.members, of a member or spare
    std::string why;                    // of one that is left out; for people
    MemberMetadata metadata;            // of a member or spare
};

struct Assembly {
    /// A checked one. `in_use` is false; `epoch` and `events` are the highest that were seen
    /// anywhere, so that advance() gives new ones. Roles that nobody fills are faulty or missing.
    Configuration configuration;
    std::vector<MemberPlace> places;   // one per image, in their order
    bool unclean{false};               // was not stopped cleanly: `resynced` says what is true
    /// The stripes that were marked when it stopped uncleanly, of all nodes: the only ones before
    /// `resynced` whose parity may not be true. Empty after a clean stop.
    std::vector<IntentEntry> marked;
    /// The highest of a valid record of this array on any member that takes part, marked or not:
    /// new records go on from it.
    std::uint64_t intent_generation{0};
    /// Why there can be no write intent, for people; empty: there can.
    std::string intent_hindrance;
    bool adopted{false};               // made or changed by md: what braid knew came second
    std::vector<std::string> notices;  // for people: what was left out, repaired or found odd
};

Checked<Assembly> assemble(std::span<const MemberImage> images, AssemblyOptions options);

}  // namespace braid
