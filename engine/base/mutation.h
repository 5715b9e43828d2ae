// SPDX-License-Identifier: BSD-3-Clause
// Deliberate bugs, for checking that the simulator and the tests find them. In the engine that is
// served BRAID_MUTANT() is the constant false and nothing of this is left; in the one that is tested
// (braid_engine_checked) one may be chosen at run time. Each stands where the correct code is,
// so that a change of that code meets it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace braid {

enum class Mutation : std::uint8_t {
    none,
    intent_not_awaited,       // writes start before the record that announces them is durable
    intent_not_durable,       // the record is written without FUA
    intent_slot_overwritten,  // every generation goes to the same slot
    clean_before_flush,       // a stripe is taken out of the record before the members were flushed
    doubt_forgotten,          // the marks of the last run are not carried into the next record
    degraded_trusts_doubt,    // a lost strip is computed from parity that is in doubt
    bad_rows_not_kept,        // rows that cannot be known are not put on the list
    bad_row_healed_early,     // a row leaves the bad-row list before its new content is durable
    row_lock_dropped_early,   // rows are unlocked before parity is written
    parity_not_written,       // the last parity of a stripe is left out
    stale_member_accepted,    // assembly takes a member from the past
    checkpoint_ahead,         // a rebuild's position is written before its data is flushed
    losses_not_awaited,       // a write is acknowledged before the loss of a member is durable
    flush_skips_member,       // a flush leaves the last member out
    resync_skips_last,        // the resync of marked stripes forgets the last one
    doubt_read_before_true,  // RAID-6: a strip in doubt is read before P and Q are made true for it
    start_from_cache,        // assembly goes by what only a volatile cache holds
    unflushed_overwritten,  // a start writes to a member that cannot flush what an earlier one left
    promise_not_written,    // an epoch is begun without the members' promises
    promise_in_memory,      // a promise is written without FUA
    not_announced,          // requests are taken before (F, 1) is on all members
    no_closing_revision,    // a clean stop ends with the clean mark, which nothing names
    failed_write_not_fitted,  // a write that failed on a kept member leaves parity as it is
    retry_row_trusted,        // a lost strip is computed from the parity of a row to be tried again
    retry_overwritten,        // a walk writes zeros where it could neither read nor compute
    order_not_refused,        // a member is failed by order, whatever that costs
    doubt_left_early,         // a row leaves doubt though its parity was only updated
    computed_read_not_awaited,  // a computed read is answered before the member's loss is durable
    rows_not_locked,            // a node writes shared rows with no lock but its own
    wrong_rows_locked,          // the lock is on the first row only
    read_beside_lock,           // old content is read before the lock has come
    unlocked_early,             // the lock goes before the write is staged
    undecided_not_awaited,      // a read goes by the disk where a write is staged
    memory_not_read,            // a read goes by the disk where a write is decided
    flush_passes_staged,        // a flush does not wait for what is staged
    applied_out_of_order,       // an entry does not wait for the earlier one in its rows
    suspended_member_read,      // a home reads a member that missed writes
    lost_stage_dropped,         // a write is dropped because a participant was lost meanwhile
    grant_without_position,     // who locks rows does not hear how far their rebuild is
    position_of_former_life,    // or hears of one who has lost the role since
    serving_start_taken_for_lost,  // the start of a node that serves counts as over where it comes late
    position_forgotten_early,  // a home forgets how far a rebuild was while a node believes it begins
    newer_stages_awaited,      // a read waits for what is staged after it came
    decided_made_again,     // a write that was decided, and not flushed, is made again part by part
    silent_home_not_asked,  // nobody asks a home that keeps the oldest write from being forgotten
    sent_taken_for_come,    // what was on its way as a connection broke is not sent again
    old_fence_obeyed,       // a home carries out commands under another fence
    reserved_undrained,     // a volume is granted while requests to it are under way
    reserved_without_position,  // who reserves does not hear how far rebuilds are
    walk_passes_holder,         // a walk locks rows of a reserved volume past its holder
    decided_while_frozen,       // who has told which of its writes happen decides further ones
    locks_outlive_fence,        // what was locked under one fence is written under the next
    no_lease_wait,              // a fence begins while the excluded may still serve
    read_without_lease,         // a node that others may have gone on without answers reads
    older_stamp_confirms,       // a strict read goes by what went out before it had its bytes
    strict_reads_by_lease,      // or is answered by the lease after all
    verdict_ignored,            // a home drops whatever the excluded had staged
    record_not_retired,         // what the excluded had marked stays so
    positions_not_told,         // a fence begins without how far rebuilds are
    back_without_reservations,  // who is let in again does not hear what others have reserved
    back_without_homes,         // nor whose members the lost ones were
    disk_of_another_start,    // a disk's number is taken for the same at the next start of its node
    takeover_unasked,         // a node comes to decide without asking who still hears the master
    takeover_from_memory,     // and goes by what it was told last, not by what members hold
    takeover_forgets_losses,  // nor by what other nodes have as lost
    takeover_forgets_rebuilds,  // nor by how far others have heard that rebuilds are
    left_out_obeyed,            // a node does what who is left out asks of its disks
    decider_not_asked_again,    // what the former one has not answered is asked nobody else
    absence_not_noted,       // what is written while a member is away is not noted for its return
    absence_begins_empty,    // nor what was on its way as it left
    absence_unrecorded,      // the records do not say what is missed
    dead_absence_forgotten,  // nor is that of a dead node noted by others
    absence_cleared_early,   // the first of two that comes back takes with it what the other misses
    displaced_for_holder,    // a spare is taken back by what the member misses that it stood in for
    return_unasked,          // other nodes are not asked what a member misses that comes back
    return_unfenced,         // nor do they stop meanwhile
    answered_before_death,   // who is killed by an operator goes on for a moment after the answer
    left_undrained,          // who leaves by order does not wait for what its clients have begun
    left_later,              // or says that it has left, and serves for a moment
    stored_unpromised,       // a member stores a configuration whose epoch it has not promised
    book_forgotten_early,  // a home forgets a write as it is over there, whatever its writer knows
    starts_in_doubt,       // nodes start by themselves without others, whose members are needed
    lease_from_receipt,  // a lease counts from when an echo came, not from when its stamp went out
    unforced_counted,    // a node stands that needs a member whose rebuild's end is not in force
    history_not_looked_at,  // a member that went on by itself, by force, is taken for one that was away
    authority_by_state,     // rows are locked where the first member is that this node has not lost
    applied_before_all,     // what is staged is applied before its writer says that it happens
    credits_after_lock,     // who waits for room in a book has rows locked
    former_start_obeyed,    // what an earlier start of a node has sent is taken for this one's
    unlocked_before_loss,   // rows go on before the home of a member that missed them has heard
    newest_not_adopted,     // a start goes by the configuration that most members hold
    in_force_at_enough,     // a configuration counts when as many members have it as are enough
    enough_of_who_is_left,  // more than half of those in sync last are enough
    resynced_in_another_epoch,  // an old copy of a member that is rebuilt goes on from its checkpoint
    in_force_names_itself,  // a configuration says that it is in force before it is on all members
    epochs_come_again,      // epochs go on from what is seen, whatever the clock says
    witness_not_asked,      // half of the members brings a configuration into force without it
    unforced_breaks_ties,   // half of the members goes on by what may not be in force
    echo_to_excluded,       // who is excluded has its lease extended all the same
    undecided_happen,       // what a living node has not decided happens as the fence changes
    retired_before_flush,   // a dead node's record is emptied before what it names is durable
};

inline constexpr std::array<std::string_view, 102> mutation_names{
    "none",
    "intent-not-awaited",
    "intent-not-durable",
    "intent-slot-overwritten",
    "clean-before-flush",
    "doubt-forgotten",
    "degraded-trusts-doubt",
    "bad-rows-not-kept",
    "bad-row-healed-early",
    "row-lock-dropped-early",
    "parity-not-written",
    "stale-member-accepted",
    "checkpoint-ahead",
    "losses-not-awaited",
    "flush-skips-member",
    "resync-skips-last",
    "doubt-read-before-true",
    "start-from-cache",
    "unflushed-overwritten",
    "promise-not-written",
    "promise-in-memory",
    "not-announced",
    "no-closing-revision",
    "failed-write-not-fitted",
    "retry-row-trusted",
    "retry-overwritten",
    "order-not-refused",
    "doubt-left-early",
    "computed-read-not-awaited",
    "rows-not-locked",
    "wrong-rows-locked",
    "read-beside-lock",
    "unlocked-early",
    "undecided-not-awaited",
    "memory-not-read",
    "flush-passes-staged",
    "applied-out-of-order",
    "suspended-member-read",
    "lost-stage-dropped",
    "grant-without-position",
    "position-of-former-life",
    "serving-start-taken-for-lost",
    "position-forgotten-early",
    "newer-stages-awaited",
    "decided-made-again",
    "silent-home-not-asked",
    "sent-taken-for-come",
    "old-fence-obeyed",
    "reserved-undrained",
    "reserved-without-position",
    "walk-passes-holder",
    "decided-while-frozen",
    "locks-outlive-fence",
    "no-lease-wait",
    "read-without-lease",
    "older-stamp-confirms",
    "strict-reads-by-lease",
    "verdict-ignored",
    "record-not-retired",
    "positions-not-told",
    "back-without-reservations",
    "back-without-homes",
    "disk-of-another-start",
    "takeover-unasked",
    "takeover-from-memory",
    "takeover-forgets-losses",
    "takeover-forgets-rebuilds",
    "left-out-obeyed",
    "decider-not-asked-again",
    "absence-not-noted",
    "absence-begins-empty",
    "absence-unrecorded",
    "dead-absence-forgotten",
    "absence-cleared-early",
    "displaced-for-holder",
    "return-unasked",
    "return-unfenced",
    "answered-before-death",
    "left-undrained",
    "left-later",
    "stored-unpromised",
    "book-forgotten-early",
    "starts-in-doubt",
    "lease-from-receipt",
    "unforced-counted",
    "history-not-looked-at",
    "authority-by-state",
    "applied-before-all",
    "credits-after-lock",
    "former-start-obeyed",
    "unlocked-before-loss",
    "newest-not-adopted",
    "in-force-at-enough",
    "enough-of-who-is-left",
    "resynced-in-another-epoch",
    "in-force-names-itself",
    "epochs-come-again",
    "witness-not-asked",
    "unforced-breaks-ties",
    "echo-to-excluded",
    "undecided-happen",
    "retired-before-flush",
};

static_assert(mutation_names.size() ==
              static_cast<std::size_t>(Mutation::retired_before_flush) + 1);

/// By its name; none if there is no such one.
constexpr std::optional<Mutation> mutation_of(std::string_view name) {
    for (std::size_t i = 0; i != mutation_names.size(); ++i) {
        if (mutation_names[i] == name) return static_cast<Mutation>(i);
    }
    return std::nullopt;
}

#ifdef BRAID_MUTATIONS
inline Mutation chosen_mutation = Mutation::none;
#define BRAID_MUTANT(which) (::braid::chosen_mutation == ::braid::Mutation::which)
#else
#define BRAID_MUTANT(which) false
#endif

}  // namespace braid
