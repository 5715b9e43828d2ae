// SPDX-License-Identifier: BSD-3-Clause
// RowHomes: what a node of a cluster asks and tells the homes of the members about rows that it
// works on. A home is the node that opened a member and does all its I/O. A node that is alone has
// no RowHomes: what it has claimed is nobody else's, and what it writes is decided at once.
//
// A row is locked at its authority, which is one node, the same for all. What is to be written is
// staged: every participant's home has it in memory, and applies it when the writer says that the
// write is decided. So none of it happens, or all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/index_set.h"
#include "engine/base/result.h"
#include "engine/io/task.h"
#include "engine/layout/rows.h"

namespace braid {

/// One attempt at a write of this node: from 1 on, in the order in which they are staged.
enum class WriteId : std::uint64_t {};
/// Rows that are locked. 0: none.
enum class LockId : std::uint64_t {};

enum class LockMode : std::uint8_t { exclusive, shared };

/// Whose work it is that rows are locked for: a client's request, or the array's own (a walk, a
/// member taken back), which goes on in volumes that are somebody else's.
enum class LockFor : std::uint8_t { client, array };

/// What a write stages on one of its participants: rows of one window, from up to two places in
/// memory, where they stay until the operation is over.
struct StagedRows {
    struct Source {
        RowMask rows{0};
        const std::byte* content{nullptr};  // where the row `first` is, or would be; none: zeroes
    };
    WriteId write{};
    MemberSet participants;
    WindowPlace place;
    std::uint32_t first{0};
    std::array<Source, 2> sources;  // no row in both
    bool may_free{false};           // zeroes: space may be given back

    RowMask rows() const { return sources[0].rows | sources[1].rows; }
};

/// Rows of a strip that come with the lock on them, where that costs nothing: as the last decided
/// write has them.
struct RowsWithLock {
    MemberIndex member{};
    RowMask rows{0};           // of those that are locked; none: nothing is wanted
    std::byte* into{nullptr};  // they come one after the other
    bool have_come{false};     // or they have to be read
};

class RowHomes {
  public:
    virtual ~RowHomes() = default;

    /// Waits until no other node has these rows, which are claimed here. An error: their authority
    /// cannot be reached.
    /// @param with  what is to come along; stays where it is until then, or is none
    virtual Task<Result<LockId>> lock(WindowPlace place, RowMask rows, LockMode mode, LockFor whom,
                                      RowsWithLock* with) = 0;
    /// A client's lock there could bring rows of this member.
    virtual bool lock_brings(WindowPlace place, MemberIndex member) const = 0;
    virtual void unlock(LockId lock) = 0;
    /// It counts: the fence is the one under which it was taken. Else others may have the rows.
    virtual bool holds(LockId lock) const = 0;

    /// A new write; it is staged through the participants' drives, all in the same turn.
    virtual WriteId begin_write(MemberSet participants) = 0;
    /// Every participant has it: it happens, whatever comes. False: the fence changes, or has
    /// changed since it was begun; it happens nowhere.
    virtual bool decide(WriteId write) = 0;
    /// It does not happen anywhere.
    virtual void drop(WriteId write) = 0;

    /// What was read may be told to a client: no other nodes can have gone on without this one.
    virtual bool may_answer() const = 0;
    /// Until that may be so again; or the array has ended: then reads fail.
    virtual Task<void> wait_to_answer() = 0;
    /// No clock is trusted for that: they are asked, after each read.
    virtual bool asks_to_answer() const = 0;
    /// What has been read may be told to a client: they have said so since. False: the array has ended.
    virtual Task<bool> ask_to_answer() = 0;
};

/// Rows, locked until it ends. Nothing on a node that is alone.
class RowLock {
  public:
    explicit RowLock(RowHomes* homes, LockFor whom = LockFor::client)
        : homes_(homes), whom_(whom) {}
    RowLock(const RowLock&) = delete;
    RowLock& operator=(const RowLock&) = delete;
    ~RowLock() { release(); }

    bool is_needed() const { return homes_ != nullptr; }
    /// Once, where it is needed; the rows are claimed by this node.
    Task<Result<void>> take(WindowPlace place, RowMask rows, LockMode mode,
                            RowsWithLock* with = nullptr) {
        BRAID_CO_TRY(lock_, co_await homes_->lock(place, rows, mode, whom_, with));
        co_return Result<void>{};
    }
    /// What was read since take() fits together, and may be built on. Where it is not needed: always.
    bool counts() const { return lock_ == LockId{} || homes_->holds(lock_); }

    void release() {
        if (lock_ != LockId{}) homes_->unlock(lock_);
        lock_ = LockId{};
    }

  private:
    RowHomes* homes_;
    LockFor whom_;
    LockId lock_{};
};

}  // namespace braid
