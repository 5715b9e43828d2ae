// SPDX-License-Identifier: BSD-3-Clause
// Drive: one member as the stripe code sees it, wherever it is attached. It carries out operations,
// counts them, and knows what a flush has still to cover; what became of an operation says whose
// fault it was. LocalDrive is the form for a disk of this node; a member of another node gets one
// that sends drive commands, behind the same interface.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

#include "engine/io/disk.h"
#include "engine/members/flights.h"
#include "engine/members/row_homes.h"

namespace braid {

enum class DriveOutcome : std::uint8_t {
    done,
    failed,  // the member's own error
    lost,    // the member was suspended or closed: it was not carried out, or nobody knows
    fenced,  // its home works by another fence: it was not carried out
    cut,     // the connection to its home was cut: nobody knows. No error of the member's
    again,   // a stage: its rows were locked under a fence that is over
};

/// What became of an operation.
struct DriveResult {
    DriveOutcome outcome{DriveOutcome::done};
    int os_error{0};  // of one that failed

    bool ok() const { return outcome == DriveOutcome::done; }
    /// The member is to blame, and whoever decides about it is to be told.
    bool is_members() const { return outcome == DriveOutcome::failed; }
};

/// One operation on a member: what a DiskOp says, and under the same rules. It lives in the frame
/// of the coroutine that waits for it.
class DriveOp : private DiskOp {
  public:
    using DiskOp::background;
    using DiskOp::data;
    using DiskOp::fua;
    using DiskOp::kind;
    using DiskOp::may_free;
    using DiskOp::size;
    using DiskOp::tag;

    DeviceOffset offset() const { return {DiskOp::offset}; }
    void set_offset(DeviceOffset at) { DiskOp::offset = at.value; }

    const StagedRows* staged{nullptr};  // a write in a cluster: what of which write it is
    bool is_record{false};              // a write of the write intent's: not of strips

    DriveResult result;  // after Drive::finish()
    bool ok() const { return result.ok(); }

  private:
    friend class Drive;
    std::uint64_t changes{0};  // a flush: of the drive, as it was submitted
};

struct MemberIo {  // counted since the member was opened
    std::uint64_t reads{0};
    std::uint64_t writes{0};
    std::uint64_t bytes_read{0};
    std::uint64_t bytes_written{0};
    std::uint64_t errors_read{0};
    std::uint64_t errors_write{0};
};

class Drive {
  public:
    Drive() = default;
    Drive(const Drive&) = delete;
    Drive& operator=(const Drive&) = delete;
    virtual ~Drive() = default;

    /// What the member's device is like, and can do; while it is open.
    virtual const DiskInfo& info() const = 0;
    virtual bool is_open() const = 0;
    /// The device, where it is open and attached to this node. Metadata, and clients' threads that
    /// read past the loop, go straight to it.
    Disk* disk() const { return disk_; }

    /// Starts `op`, which may be over before this returns. `co_await group`, and then finish().
    void submit(DiskGroup& group, DriveOp& op);
    /// For each operation once, when its group was waited for: counts it, and says in op.result
    /// what became of it.
    void finish(DriveOp& op);
    /// Operations that were submitted, and not finished: the drive is not to be closed.
    std::uint32_t in_flight() const { return in_flight_; }

    /// The member is lost: from now on every operation is refused. What is under way may end well,
    /// and if it does not, that is no error of the member's any more.
    void suspend() { suspended_ = true; }
    /// A new tick of the disk begins, where it is this node's (Disk::tick()): whether it is late.
    virtual bool tick() { return false; }
    /// Of a member that is lost, and whose disk does not answer: what would wait for it for ever,
    /// though nobody needs it, goes on. Flushes, and records of the write intent.
    virtual void abandon() {}
    /// Gives the device back: whoever does not keep it closes it. What was counted stays.
    std::unique_ptr<Disk> close() {
        BRAID_REQUIRE(in_flight_ == 0);
        suspended_ = true;
        disk_ = nullptr;
        return shut();
    }

    const MemberIo& io() const { return io_; }

    /// Something was written that no flush has covered.
    virtual bool needs_flush() const { return flushed_ != changes_; }
    /// As if it had been written: it lies in the device's cache, perhaps, and is to be durable.
    void note_change() { ++changes_; }
    /// The errno of a flush that failed although the member was kept, else 0. What that flush did
    /// not make durable no later one does.
    int unflushed() const { return unflushed_; }
    void set_unflushed(int os_error) { unflushed_ = os_error; }

  protected:
    /// Carries out `op`, which its group counts already; for whoever does, complete().
    virtual void start(DriveOp& op) = 0;
    /// Null: it is shut already, or has none.
    virtual std::unique_ptr<Disk> shut() = 0;

    bool is_suspended() const { return suspended_; }
    static DiskOp& disk_op(DriveOp& op) { return op; }
    static void complete(DriveOp& op, DriveResult result) {
        op.result = result;
        DiskGroup::complete(op, result.os_error);
    }
    void set_disk(Disk* disk) { disk_ = disk; }

  private:
    void count(const DriveOp& op);

    Disk* disk_{nullptr};
    bool suspended_{false};
    std::uint32_t in_flight_{0};
    MemberIo io_;
    std::uint64_t changes_{0};  // writes and zeroes that are over, but for those with FUA
    std::uint64_t flushed_{0};  // of them, how many a flush has covered
    int unflushed_{0};
};

/// On a disk of this node.
class LocalDrive final : public Drive {
  public:
    explicit LocalDrive(std::unique_ptr<Disk> disk) : owned_(std::move(disk)) {
        BRAID_REQUIRE(owned_ != nullptr);
        set_disk(owned_.get());
    }

    const DiskInfo& info() const override { return owned_->info(); }
    bool is_open() const override { return owned_ != nullptr; }
    bool tick() override {
        is_late_ = owned_ && owned_->tick();
        return is_late_;
    }
    void abandon() override {
        if (is_late_) flights_.abandon();
    }

  private:
    void start(DriveOp& op) override;
    std::unique_ptr<Disk> shut() override { return std::move(owned_); }

    std::unique_ptr<Disk> owned_;
    Flights flights_;
    bool is_late_{false};
};

}  // namespace braid
