// SPDX-License-Identifier: BSD-3-Clause
// The seam to a member's bytes. A DiskOp lives in the frame of the coroutine that waits for it, and
// is neither submitted again nor destroyed while in flight. DiskGroup waits for several.
#pragma once

#include <array>
#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/base/disk_identity.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/io/task.h"
#include "parity/bytes.h"

namespace braid {

enum class DiskOpKind : std::uint8_t {
    read,
    write,
    flush,  // everything that completed before it is durable after it
    zero,   // `size` bytes read as zero afterwards
};

class Disk;
class DiskGroup;

/// One operation on a member. `offset` and `size` are multiples of 4096 (`row_size`), or, behind
/// the last whole row of the disk, of its sectors; `data` is aligned to the disk's `memory_align`
/// and stays in place until the operation completes.
struct DiskOp {
    DiskOpKind kind{DiskOpKind::read};
    bool fua{false};           // write: durable when it completes
    bool background{false};    // nobody waits for it: another thread may take its time
    bool may_free{false};      // zero: space may be given back; else it stays, or is, taken
    std::uint64_t offset{0};   // bytes from the start of the device
    std::uint64_t size{0};     // bytes
    std::byte* data{nullptr};  // read: filled; write: only read from
    DiskGroup* group{nullptr};
    Disk* disk{nullptr};    // where it was submitted
    int os_error{0};        // after completion: 0, or an errno
    std::uint32_t done{0};  // bytes so far, when the kernel does it in pieces
    std::uint32_t tag{0};   // the submitter's own
    std::uint32_t tick{0};  // of `disk`, when it was submitted
    Disk* worker{nullptr};  // who carries it out: `disk` may stand in front of another one
    /// It has completed, and is in no group: instead of the group's count.
    void (*over)(DiskOp&){nullptr};

    bool ok() const { return os_error == 0; }
};

/// `submit(disk, group, op)` for each; then `co_await group` until all have completed.
class DiskGroup {
  public:
    DiskGroup() = default;
    DiskGroup(const DiskGroup&) = delete;
    DiskGroup& operator=(const DiskGroup&) = delete;

    void add(DiskOp& op) {
        op.group = this;
        ++pending_;
    }
    /// For a Disk: the operation has completed, with 0 or an errno.
    static void complete(DiskOp& op, int os_error);

    bool await_ready() const { return pending_ == 0; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        queue_ = static_cast<PromiseBase&>(self.promise()).queue;
        handle_ = self;
    }
    void await_resume() const {}
    std::uint32_t pending() const { return pending_; }

  private:
    std::uint32_t pending_{0};
    ReadyQueue* queue_{nullptr};
    std::coroutine_handle<> handle_;
};

/// What a disk is like; fixed while it is open. A `zero` of a kind that is not fast may be answered
/// with EOPNOTSUPP: then nothing has changed, and zeros are to be written.
struct DiskInfo {
    std::string path;                 // for messages
    std::uint64_t size{0};            // bytes
    std::uint32_t memory_align{512};  // of DiskOp::data; 1 when any address will do
    bool zero_fast{false};            // `zero` that may free costs next to nothing per byte
    bool zero_kept_fast{false};       // and so does one that may not
    bool allocated{false};            // a file that has space for every byte: it is to keep it
    bool direct{false};               // O_DIRECT: past the page cache
    bool in_memory{false};            // tmpfs: an operation is a copy and never waits
    bool block_device{false};
    bool read_only{false};           // nothing can be written to it
    std::uint32_t sector_size{512};  // smallest unit of I/O
    DiskIdentity identity;           // known, or not
};

/// Whether an operation has the shape that the disk takes.
inline bool fits_disk(const DiskInfo& info, std::uint64_t offset, std::uint64_t size) {
    if (is_row_aligned(offset) && is_row_aligned(size)) return true;
    return offset >= round_down(info.size, row_size) && offset % info.sector_size == 0 &&
           size % info.sector_size == 0;
}
/// Refuses a disk of which a row is not a whole number of sectors.
Checked<Unit> check_sectors(const DiskInfo& info);

class Disk {
  public:
    virtual ~Disk() = default;
    virtual const DiskInfo& info() const = 0;
    /// Starts `op`, which may complete before this returns. Never fails: an error is a completion.
    virtual void submit(DiskOp& op) = 0;
    /// Any thread, while the disk lives: reads at once. Returns 0, an errno, or ENOSYS where the
    /// disk cannot be read past its loop. Alignment as for a DiskOp.
    virtual int read_now(std::uint64_t offset, ByteSpan into) const;
    /// Operations that were submitted and have not completed.
    std::uint32_t in_flight() const { return in_flight_; }

    /// A new tick begins, of those that time is counted by here: whoever watches the disk counts
    /// them. Whether an operation is under way that was submitted `ticks_late` of them ago.
    static constexpr std::uint32_t ticks_late = 8;
    bool tick() {
        ++tick_;
        late_ += by_age_.back();
        for (std::size_t age = by_age_.size() - 1; age != 0; --age) by_age_[age] = by_age_[age - 1];
        by_age_.front() = 0;
        return late_ != 0;
    }

  private:
    friend class DiskGroup;
    friend void start_counted(Disk& disk, DiskOp& op);
    void begun(DiskOp& op) {
        op.tick = tick_;
        ++in_flight_;
        ++by_age_.front();
    }
    void ended(const DiskOp& op) {
        --in_flight_;
        const std::uint32_t age = tick_ - op.tick;
        --(age < by_age_.size() ? by_age_[age] : late_);
    }

    std::uint32_t in_flight_{0};
    std::uint32_t tick_{0};
    std::array<std::uint32_t, ticks_late> by_age_{};  // of those in flight, in ticks
    std::uint32_t late_{0};                           // and those that are older
};

inline int Disk::read_now(std::uint64_t, ByteSpan) const { return ENOSYS; }

inline void DiskGroup::complete(DiskOp& op, int os_error) {
    op.os_error = os_error;
    if (op.disk != nullptr) op.disk->ended(op);
    if (op.over != nullptr) return op.over(op);
    DiskGroup& group = *op.group;
    if (--group.pending_ == 0 && group.handle_) {
        const auto handle = group.handle_;
        group.handle_ = nullptr;
        group.queue_->push(handle);
    }
}

/// For an operation that a group counts already.
inline void start_counted(Disk& disk, DiskOp& op) {
    op.disk = &disk;
    disk.begun(op);
    disk.submit(op);
}
inline void submit(Disk& disk, DiskGroup& group, DiskOp& op) {
    group.add(op);
    start_counted(disk, op);
}

/// One operation on its own, for set-up and metadata: co_await's result is its Result<void>.
/// Errc::full: there was no room for a write, which may be tried again. Not so a flush: what it did
/// not make durable may be gone.
inline Task<Result<void>> run_op(Disk& disk, DiskOp op) {
    DiskGroup group;
    submit(disk, group, op);
    co_await group;
    if (op.ok()) co_return Result<void>{};
    const bool full = op.os_error == ENOSPC && op.kind != DiskOpKind::flush;
    co_return Error{full ? Errc::full : Errc::io, "member", op.os_error};
}
inline Task<Result<void>> read_disk(Disk& disk, std::uint64_t offset, ByteSpan into) {
    DiskOp op;
    op.kind = DiskOpKind::read;
    op.offset = offset;
    op.size = into.size();
    op.data = into.data();
    return run_op(disk, op);
}
inline Task<Result<void>> write_disk(Disk& disk, std::uint64_t offset, ByteView from) {
    DiskOp op;
    op.kind = DiskOpKind::write;
    op.offset = offset;
    op.size = from.size();
    op.data = const_cast<std::byte*>(from.data());  // NOLINT: a write only reads it
    return run_op(disk, op);
}
inline Task<Result<void>> flush_disk(Disk& disk) {
    DiskOp op;
    op.kind = DiskOpKind::flush;
    return run_op(disk, op);
}

}  // namespace braid
