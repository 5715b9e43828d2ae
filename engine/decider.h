// SPDX-License-Identifier: BSD-3-Clause
// Decider: what a node that serves clients tells whoever decides about the array, and waits for.
// On one node a call; in a cluster a message to the master. The other way goes serving_node.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"
#include "engine/layout/roles.h"
#include "engine/layout/rows.h"
#include "engine/status.h"

namespace braid {

/// A walk over the array: what a rebuild, a resync or a scrub is to do.
struct WalkOrder {
    WalkKind kind{WalkKind::resyncing};
    MemberIndex member{};             // rebuilding
    std::vector<WindowRange> ranges;  // in order, not touching
    bool repair{false};               // scrubbing
    std::uint64_t mismatches{0};      // found before it was interrupted
    std::uint64_t repaired{0};
    std::uint64_t bytes_unknown{0};
    std::uint64_t loss_version{0};  // of the members when it was given: one more ends the walk

    WindowIndex begin() const { return ranges.empty() ? WindowIndex{} : ranges.front().begin; }
};

/// Where a walk is.
struct WalkPosition {
    WalkOrder order;              // with the counts so far
    WindowIndex window{};         // every window of the order before it is done
    std::uint64_t bytes_read{0};  // of the walk, from members
    std::uint64_t rows_wrong{0};  // whose parity a resync rewrote
    MemberIndex unreadable{};     // whose reads failed wherever they were tried, if that ended it
    WalkStatus status;            // for people
};

/// What a member could not do at its home.
enum class HomeFault : std::uint8_t { write, flush };

/// Whether a member is lost by somebody's fault, or goes with its node as was ordered.
enum class Fault : std::uint8_t { some, none };

class Decider {
  public:
    virtual ~Decider() = default;

    // ---- members that misbehave
    /// A read failed; its bytes are computed from the others and rewritten.
    virtual void read_failed(MemberIndex member, int os_error) = 0;
    /// A flush failed: the member is lost from now on. Where the level needs it it is kept, and
    /// nothing is written any more.
    virtual void flush_failed(MemberIndex member, int os_error) = 0;
    /// A write or zero of a strip failed, or a record of the write intent. The member is lost from
    /// now on; or it is kept, because there was no room on it, or the level needs it: then parity
    /// is to be made to fit what the members hold, or the rows go to rows_doubtful(); and who waits
    /// for the record is told.
    virtual void strip_write_failed(MemberIndex member, int os_error) = 0;
    /// Its disk has left something unanswered for too long. The member is lost from now on, if the
    /// level can do without it and it alone knows nothing; else it is waited for, and that is told.
    virtual void not_answering(MemberIndex member) = 0;
    /// Waits until the configuration that names every lost member is durable. Until then nothing
    /// may be acknowledged that such a member missed: it would come back as if it were in sync. An
    /// error: the array has failed, or a member that is kept does not take the configuration.
    virtual Task<Result<void>> losses_durable() = 0;

    // ---- rows that cannot be known
    /// Rows came to be in doubt: a resync is wanted. `lost` is what lost members had of them: lists
    /// that, durably. An error: a member that is kept takes no configuration, so that only the mark
    /// tells of it.
    virtual Task<Result<void>> rows_doubtful(std::vector<BadRange> lost) = 0;
    /// Data that cannot be known was met: lists it, durably; as void also what was to be tried
    /// again. Only then may parity be made true for zeros in void rows, also in those that were
    /// listed before: without any rows it waits until the list is durable as it is. Errc::full: the
    /// list has no room.
    virtual Task<Result<void>> rows_unknown(std::vector<BadRange> rows) = 0;
    /// Every byte of these rows was read after all, or written anew: flushes, and takes them off
    /// the list, durably. Errc::full: the list has no room for the pieces that would be left.
    virtual Task<Result<void>> rows_known(std::vector<BadRange> rows) = 0;
    /// Parity of these rows was made true on this node: before that is answered whoever decides
    /// knows it, so that no loss lists them. At once where he sees what is in doubt here himself.
    virtual Task<Result<void>> rows_true(WindowPlace, RowMask) { co_return Result<void>{}; }
    /// A write of rows was refused: they, or others of the same rows, lay on lost members, and
    /// parity cannot hold the one without the other. `together`: strips of which these rows can be
    /// written in one request.
    virtual void write_refused(WindowPlace place, RowMask rows, RoleSet together) = 0;

    // ---- walks
    /// It runs: ServingNode::walk() was asked for it.
    virtual void walk_begun(const WalkOrder& order) = 0;
    /// A walk has done more; in memory only, of this node.
    virtual void walk_passed() = 0;
    /// Makes the position durable: never ahead of the data.
    virtual Task<Result<void>> walk_at(WalkPosition at) = 0;
    /// It does not run any more: all of it is done, or an error says why not.
    virtual void walk_ended(WalkPosition at, Result<void> result) = 0;
    /// Rows of a window were found wrong: `what` for people. `strips`: which of them, as far as
    /// that can be told, else none.
    virtual void rows_wrong(WindowPlace place, RowMask rows, RoleSet strips, std::string what) = 0;
};

}  // namespace braid
