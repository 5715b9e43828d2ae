// SPDX-License-Identifier: BSD-3-Clause
// Assembly: from what lies on the members to the configuration to run with, or to a refusal that
// names what was found and the way out. A pure function of the members' images.
//
// The rules are the register's (engine/layout/register.h):
//
// 1. Whether md ran the array since our last clean stop shows in the superblocks: each slot names
//    the checksums of those that it belongs to. If md did, its superblocks count, by the rules of
//    assembly_md.cpp; else the following hold.
// 2. The newest configuration that is found on the members is taken over whole, whether or not it
//    was ever in force.
// 3. A member that holds less than the highest one that any member knows to have been in force is
//    from the past: it is missing.
// 4. Of the others, those that the newest calls in_sync count.
// 5. Enough of these must be here: as many as a stripe has data strips; of RAID-6 of four three, or
//    two with the tie-breaker: the witness, or where there is none a member (0, until a start by
//    force was without it). Then any two sets that could start the array share one of these. With a
//    witness also two that are all that count, by a configuration that was in force.
// 6. On members without room for promises nothing hinders two starts that died from leaving two
//    histories. There every member that the newest calls in_sync must be here, so that the newest
//    is always seen.
// 7. `force` passes over 5 and 6. If fewer than a stripe has data strips are in sync, it takes in
//    the freshest of those that are behind, as many as are missing to that; by md's superblocks,
//    too, which tell it by their events, as mdadm --assemble --force does it.
// 8. A start that needed `force` draws a lineage, for others may go on without it. A member that the
//    newest calls lost, of another lineage, and that took part in an epoch in force after it left, has
//    another history: none is chosen, but by force.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/intent_record.h"
#include "engine/metadata/member_metadata.h"

namespace braid {

/// What comes after the look: what can be done about a member that is left out depends on it.
enum class Purpose : std::uint8_t {
    serve,          // a server, which goes on without it, and takes orders
    serve_unasked,  // one that goes on without it, and takes none: it has no control socket
    read,           // a server for reading only: it takes none, and changes nothing
    look,           // nobody serves the array yet
};

struct AssemblyOptions {
    /// Start even if the absent members may be newer, if members must be taken in that are behind,
    /// or if parity is in doubt and a strip lost.
    bool force{false};
    Purpose purpose{Purpose::serve};
    /// The node of each image, where not all nodes of a cluster start together; else none.
    std::vector<std::uint32_t> homes{};
};

enum class Place : std::uint8_t {
    member,  // takes part: in_sync or rebuilding
    spare,
    witness,
    stale,    // of this array, but left out; `why` says why and what to do
    foreign,  // unreadable
};
std::string_view text_of(Place place);

/// How a running array takes a member that was left out, though its superblock is whole.
enum class WayBack : std::uint8_t {
    none,         // not at all, or `why` says it
    added,        // braid member add
    forced,       // likewise, with --force: what it holds is given up
    after_spare,  // likewise, when another spare has made room
};

/// What became of one of the given members.
struct MemberPlace {
    std::string path;
    Place place{Place::foreign};
    std::optional<std::size_t> record;  // into configuration.members, of all but those left out
    std::string why;                    // of one that is left out; for people
    WayBack way_back{WayBack::added};   // of a stale one
    MemberMetadata metadata;            // as `record`
};

struct Assembly {
    /// A checked one, and the newest that was found: `version` is its name (epoch 0: md's, not
    /// stored yet), `in_force` the highest that any member knows of. `in_use` is false, `events`
    /// the highest that were seen. Roles that nobody fills are faulty or missing.
    Configuration configuration;
    /// The highest of all promises and configurations that were seen, on any of the images.
    std::uint64_t epoch_seen{0};
    std::vector<MemberPlace> places;  // one per image, in their order
    bool unclean{false};              // was not stopped cleanly: `resynced` says what is true
    /// The stripes that were marked when it stopped uncleanly, of all nodes: the only ones before
    /// `resynced` whose parity may not be true. Empty after a clean stop.
    std::vector<IntentEntry> marked;
    /// By node, the highest of a valid record of this array on any member that takes part, marked
    /// or not: new records go on from it.
    std::map<std::uint32_t, std::uint64_t> intent_generations;
    std::uint64_t intent_generation(std::uint32_t node) const {
        const auto at = intent_generations.find(node);
        return at == intent_generations.end() ? 0 : at->second;
    }
    /// Members that are away since before this start, of which the records say what they miss: the
    /// generation of each node's record that they held at least. And what that is, of all together.
    std::map<MemberIndex, std::map<std::uint32_t, std::uint64_t>> absent;
    std::vector<IntentEntry> missed;
    /// Why there can be no write intent, for people; empty: there can.
    std::string intent_hindrance;
    bool ties_broken{false};           // break_ties(): the witness need not be asked
    bool forced{false};                // members were taken in that are behind
    bool overruled{false};             // `force` was needed: a new lineage begins
    bool adopted{false};               // made or changed by md: what braid knew came second
    std::vector<std::string> notices;  // for people: what was left out, repaired or found odd
};

Checked<Assembly> assemble(std::span<const MemberImage> images, AssemblyOptions options);

/// Members that the newest configuration calls in sync, and that are not among `images`: what they
/// hold is as it was.
std::vector<Uuid> members_away(std::span<const MemberImage> images, const Uuid& array);

}  // namespace braid
