// SPDX-License-Identifier: BSD-3-Clause
// The register: which configuration holds. Pure: what one member may promise and store, what the
// answers of the members make of each of them, and the way of one configuration into force. One
// node uses it for each start and each loss; so will the homes of a cluster.
//
// A configuration is named by (epoch, revision). Whoever proposes an epoch first has the members
// promise it, durably, then takes over the newest configuration that they hold, then stores. It
// holds when every member that takes part has it, and the revision after it, which says so, is on
// all of them before anything is answered. Being able to serve is the quorum: any two sets of
// members that are enough share one.
// Source: the promises and ballots of Lamport, "Paxos made simple", 2001, with members for
// acceptors, and all of those that take part for a majority.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "engine/base/index_set.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid {

/// Epoch: number × 256 + node id of its proposer; 0: there is none. The revision counts from 0.
struct EpochRevision {
    std::uint64_t epoch{0};
    std::uint64_t revision{0};
    auto operator<=>(const EpochRevision&) const = default;
    std::string text() const;  // "epoch 17, revision 3"
};
inline constexpr std::uint64_t epochs_per_number = 256;
static_assert(nodes_max <= epochs_per_number);
/// The highest epoch, and revision, that is taken for one: far beyond any clock's seconds.
inline constexpr std::uint64_t epoch_max = std::uint64_t{1} << 62;
/// The highest that an array is started with: epochs go on from it.
inline constexpr std::uint64_t epoch_start_max = epoch_max / 2;

/// The epoch to propose: greater than `highest`, the highest of all promises and configurations
/// that were seen, and than any that was begun while the wall clock ran forward, also where a
/// member's promise was put back together with an old copy of it.
std::uint64_t next_epoch(std::uint64_t highest, std::uint64_t wall_seconds, std::uint32_t node);

/// What breaks ties where there is a witness.
enum class Witness : bool {
    silent,
    promised,  // it has, or nobody goes on without those that count: break_ties()
};
/// Whether members break ties by themselves: they are all that the newest configuration calls in
/// sync, and its epoch is known to be in force. Whoever else went on would need them all.
/// @param counted   those that promised
/// @param in_sync   as the newest configuration has them
/// @param in_force  the highest that any answer names as in force
bool break_ties(MemberSet counted, MemberSet in_sync, EpochRevision newest, EpochRevision in_force);

/// Which members are enough. Follows from the geometry, never from who is left.
struct Quorum {
    std::uint32_t members{0};  // roles of the array, parities included
    std::uint32_t parities{0};
    bool witness{false};  // a witness breaks ties; else the member with this role does
    MemberIndex tie_breaker{};

    /// Whether the members `in_sync`, which promised, are enough: n−p; where two sets of n−p need
    /// not meet (RAID-6 of four), one more, or the tie-breaker with them.
    /// @param said  looked at only where there is a witness
    bool is_enough(MemberSet in_sync, Witness said = Witness::silent) const;
};

/// What a member keeps, and what it may take.
struct MemberRegister {
    std::uint64_t promise{0};  // the highest epoch that it was asked about
    EpochRevision held;        // of the configuration on it

    /// Whoever proposes must be above this.
    std::uint64_t bound() const { return promise > held.epoch ? promise : held.epoch; }
    bool may_promise(std::uint64_t epoch) const { return epoch > bound(); }
    bool may_store(EpochRevision version) const {
        return (promise == version.epoch || BRAID_MUTANT(stored_unpromised)) && held < version;
    }
};

/// What the newest configuration says of a member, and what the member itself holds.
struct MemberAnswer {
    enum class Part : std::uint8_t {
        in_sync,
        rebuilding,
        fresh,  // rebuilding, but nothing of it counts yet
        none,   // a spare, faulty, missing, or not named
    };
    Part part{Part::none};
    EpochRevision held;
};
enum class Standing : std::uint8_t {
    counts,      // in_sync: its data is current, and it counts for enough
    rebuilding,  // goes on being rebuilt from where the newest configuration says
    stale,       // it is from the past: missing, until it is resynced
    none,        // takes no part
};
/// @param in_force  the highest that any answer names as in force
Standing standing_of(const MemberAnswer& answer, EpochRevision in_force);

/// A rebuilding member may be called in_sync by a configuration of another epoch only if it was
/// fully resynced under the newest configuration's own epoch, which is known to be in force.
/// @param newest     the newest configuration's name
/// @param in_force   the highest that any answer names as in force
/// @param complete_in  epoch in which its resync was complete; 0: it is not
bool may_become_in_sync(EpochRevision newest, EpochRevision in_force, std::uint64_t complete_in);

/// The way of one configuration into force: the caller does step() at each member of pending()
/// and tells how it went. A failure at a member ends the proposal: the member is lost, and the
/// next proposal, of a higher epoch, is made without it.
class Proposal {
  public:
    enum class Step : std::uint8_t {
        promise,   // each member promises epoch(), durably
        store,     // each stores version()
        announce,  // each stores version(), which says that the one before is in force
        in_force,  // it holds: answer, write
        failed,
    };
    /// A new epoch, for `members`: those that the configuration calls in_sync or rebuilding.
    /// @param known  the newest that is known to be in force
    static Proposal of_epoch(std::uint64_t epoch, MemberSet members, EpochRevision known);
    /// The revision after `known`, which is in force, proposed by who proposed its epoch.
    static Proposal of_revision(EpochRevision known, MemberSet members);

    Step step() const { return step_; }
    std::uint64_t epoch() const { return version_.epoch; }
    /// To be stored in this step, and what it is to say of what is in force.
    EpochRevision version() const { return version_; }
    EpochRevision in_force() const { return known_; }
    MemberSet pending() const { return pending_; }
    void done(MemberIndex member);
    void failed(MemberIndex member);

  private:
    void next_step();

    Step step_{Step::promise};
    bool new_epoch_{true};
    EpochRevision version_;
    EpochRevision known_;
    MemberSet members_;
    MemberSet pending_;
};

}  // namespace braid
