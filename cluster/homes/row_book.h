// SPDX-License-Identifier: BSD-3-Clause
// RowBook: what a home keeps of the rows of its members: who has them locked and who waits, and
// which writes are staged on them. A pure state machine: every command changes it at once, and
// tells what follows of it (Effects). It moves no bytes; of what is staged it holds names only.
//
// Locks. First come, first served, row by row: a claim waits for every earlier one that has a row
// in common with it, unless both are shared. The rows of a claim are of one window.
//
// Staged writes. An entry is what one write is to change on one member. Nothing is applied before
// its writer says that the write is decided, which it is when every participant has it staged. The
// entries of a row are applied in the order in which they were staged. A read never sees what is
// undecided: it waits; what is decided comes from memory until it is on the disk.
//
// Repeats. A command that comes again, after a reconnect, finds its id and is answered as before,
// and changes nothing. An entry is forgotten when its writer says that the write is finished:
// applied at every participant. From then on its id is refused.
//
// Invariants: two claims that hold a row are both shared; an entry is being applied only while it
// is decided, and the first in each of its rows; what is applied was decided.
//
// Source: the lock manager of Mohan et al., "ARIES" (lock queues); seeds 004 has locks that are
// handed over by their holder, from which the authority is one step away.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "cluster/wire/node_boot.h"
#include "engine/base/units.h"
#include "engine/layout/rows.h"
#include "engine/members/row_homes.h"

namespace braid::cluster {

/// Of a claim, or of one attempt at a write: from 1 on, never used again within a boot.
struct CommandId {
    NodeBoot from;
    std::uint64_t sequence{0};
    auto operator<=>(const CommandId&) const = default;
};

struct WindowRows {
    WindowIndex window{};
    RowMask rows{0};
    bool operator==(const WindowRows&) const = default;
};

/// One member's part of a write.
struct Stage {
    CommandId write;
    MemberIndex member{};
    WindowRows at;
    std::uint64_t participants{0};     // a set of members: bit i is member i
    bool has_bytes{true};              // no: the member is lost, and there is nothing to apply
    std::optional<CommandId> unlocks;  // a claim that goes when the write is decided, or dropped
};

enum class StageAnswer : std::uint8_t {
    staged,    // also as a repeat, whatever became of it since
    finished,  // its writer has said so: it is too late
    full,      // the writer has book_entries_max here that it has not called finished
    invalid,   // no rows, or the claim of another node
};

/// An entry of the book, by a number of its own: smaller is older.
enum class EntryNumber : std::uint64_t {};
/// Somebody who waits; the number is the caller's.
enum class WaiterNumber : std::uint64_t {};

/// What follows of a command: to be done, and told, after it.
struct Effects {
    std::vector<CommandId> granted;       // claims
    std::vector<EntryNumber> apply;       // to be written to the member now
    std::vector<EntryNumber> dropped;     // whose bytes nobody needs any more
    std::vector<WaiterNumber> readable;   // reads that may be asked again
    std::vector<WaiterNumber> flushable;  // flushes whose writes are all applied
};

class RowBook {
  public:
    // ---- locks
    /// True: it holds the rows from now on, or did already. False: it waits, and Effects::granted
    /// of another command will name it. `at` has rows, and there is room for the claim.
    bool lock(CommandId claim, WindowRows at, LockMode mode);
    /// Its node has fewer than book_claims_max here, or this one.
    bool has_room_for(CommandId claim) const;
    /// Gives the rows back, or waits no more. Of a claim that is not known nothing follows.
    void unlock(CommandId claim, Effects& effects);
    bool holds(CommandId claim) const;

    // ---- writes
    /// @param entered  set to the number of the entry, if there is one that was not there before
    StageAnswer stage(const Stage& stage, std::optional<EntryNumber>* entered = nullptr);
    /// The write happens. Of one that is not known, or dropped, nothing follows.
    void decide(CommandId write, Effects& effects);
    /// It does not. A write that was decided stays decided.
    void drop(CommandId write, Effects& effects);
    /// What Effects::apply named is on the disk; or there is no disk to put it on any more.
    void applied(EntryNumber entry, Effects& effects);
    /// It could not be written: it stays, reads of it come from memory, until applied().
    void apply_failed(EntryNumber entry);
    /// Entries that could not be written, to be tried again.
    std::vector<EntryNumber> failed() const;
    /// All of the node's writes up to this one are applied wherever they were to be.
    void finished(NodeBoot from, std::uint64_t upto);
    /// Of this node's writes everything up to this one is applied, or dropped, here.
    std::uint64_t applied_upto(NodeBoot from) const;
    /// The member takes nothing any more: what is staged for it has no bytes from now on, and what
    /// was on its way to the disk, or could not be written, is over: nobody waits for that disk.
    /// applied() is not called for these.
    void member_lost(MemberIndex member, Effects& effects);

    // ---- reads
    struct Source {
        EntryNumber entry{};  // whose bytes these rows are
        RowMask rows{0};
    };
    /// What is staged from now on has this number, or a higher one.
    EntryNumber next_entry() const { return EntryNumber{next_entry_}; }
    /// Where rows of a member come from: what no entry of the list has lies on the disk. nullopt:
    /// something is undecided there, or is on its way without bytes in memory; Effects::readable
    /// will name the waiter.
    /// @param before  next_entry() when the read came: it does not wait for what was staged since,
    ///        or, of many rows, it might wait for ever. What of that is undecided it does not see.
    std::optional<std::vector<Source>> read(MemberIndex member, WindowRows at, EntryNumber before,
                                            WaiterNumber waiter);

    // ---- flushes
    /// True: everything that was staged for the member, or for any, is applied. Else
    /// Effects::flushable will name the waiter when all of that which is staged now is.
    bool flush(std::optional<MemberIndex> member, WaiterNumber waiter);

    /// The reader, or who flushes, waits no more.
    void cancel(WaiterNumber waiter);

    // ---- a barrier
    struct Known {  // of a write
        CommandId write;
        std::uint64_t members{0};  // a set: those here that have it staged
        std::uint64_t participants{0};
        bool decided{false};
        bool operator==(const Known&) const = default;
    };
    /// What is here of writes of this node that are not finished.
    std::vector<Known> known_of(NodeBoot from) const;
    /// All claims are gone, held or waiting: the next fence begins without any.
    void clear_locks();
    /// The node is gone, and what of its writes happens was decided before: the rest is dropped,
    /// and nothing of it is remembered once it is applied.
    void forget(NodeBoot from, Effects& effects);

    const Stage& stage_of(EntryNumber entry) const;
    /// It is on its way to the disk.
    bool is_applying(EntryNumber entry) const;
    bool empty() const { return windows_.empty() && entries_.empty() && flushes_.empty(); }
    /// Checks every invariant; for tests and audits.
    bool holds_together() const;
    /// All that it holds, as numbers: equal for equal books, so that a model can tell states apart.
    std::vector<std::uint64_t> image() const;

  private:
    struct Claim {
        CommandId id;
        RowMask rows{0};
        LockMode mode{LockMode::exclusive};
        bool held{false};
    };
    enum class State : std::uint8_t { staged, decided, applying, failed, applied, dropped };
    struct Entry {
        Stage stage;
        State state{State::staged};
    };
    struct Reader {
        WaiterNumber number{};
        MemberIndex member{};
        RowMask rows{0};
        std::uint64_t before{0};  // it waits for older entries
    };
    struct Flush {
        WaiterNumber number{};
        std::optional<MemberIndex> member;  // none: all
        std::uint64_t upto{0};              // entries before this number
    };

    struct Window {
        std::vector<Claim> claims;           // in the order in which they came
        std::vector<std::uint64_t> entries;  // numbers of those that are not over, oldest first
        std::vector<Reader> readers;
        bool empty() const { return claims.empty() && entries.empty() && readers.empty(); }
    };
    using Windows = std::map<WindowIndex, Window>;

    static bool is_open(State state) { return state < State::applied; }
    static bool may_hold(const Window& window, std::size_t claim);
    static void grant(Window& window, Effects& effects);
    Entry& entry(EntryNumber number);
    bool is_first(const Window& window, std::uint64_t number) const;
    void close(std::uint64_t number, State state);
    void go_on(Windows::iterator at, Effects& effects);
    void end_with(CommandId write, State state, Effects& effects);
    void tell_flushes(Effects& effects);
    std::size_t counted_open() const;
    bool is_readable(const Window& window, const Reader& reader) const;
    bool is_flushed(const Flush& flush) const;
    std::uint64_t finished_upto(NodeBoot from) const;
    void remove(std::uint64_t number);
    void drop_if_empty(Windows::iterator at);

    Windows windows_;
    std::map<CommandId, WindowIndex> claims_;                 // the window of each
    std::map<NodeBoot, std::uint32_t> claim_counts_;          // of claims
    std::map<std::uint64_t, Entry> entries_;                  // by number
    std::map<CommandId, std::vector<std::uint64_t>> writes_;  // their entries
    std::map<NodeBoot, std::map<std::uint64_t, std::uint32_t>>
        open_of_;                                          // by write: entries not over
    std::map<NodeBoot, std::uint32_t> counts_;             // of entries
    std::map<MemberIndex, std::set<std::uint64_t>> open_;  // entries that are not over
    std::map<NodeBoot, std::uint64_t> finished_;
    std::vector<Flush> flushes_;
    std::uint64_t next_entry_{1};
};

}  // namespace braid::cluster
