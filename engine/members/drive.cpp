// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/drive.h"

#include <algorithm>

namespace braid {

void Drive::submit(DiskGroup& group, DriveOp& op) {
    BRAID_REQUIRE(op.kind == DiskOpKind::flush || op.size != 0);
    ++in_flight_;
    op.result = {};
    op.DiskOp::disk = nullptr;
    op.changes = changes_;
    group.add(op);
    // What is staged a home enters all the same, without its bytes: others go by its book.
    if (suspended_ && op.staged == nullptr) return complete(op, {DriveOutcome::lost, ENODEV});
    start(op);
}

void Drive::finish(DriveOp& op) {
    BRAID_REQUIRE(in_flight_ != 0);
    --in_flight_;
    // Of a disk there is an errno and no more.
    if (op.result.ok() && op.os_error != 0) {
        // Metadata at another node: the connection was cut, which is no fault of the member's.
        const bool cut = op.os_error == ECONNRESET;
        op.result = {cut ? DriveOutcome::cut : DriveOutcome::failed, op.os_error};
    }
    const bool is_staged = op.staged != nullptr;
    if (!op.ok() && suspended_ && !is_staged) op.result.outcome = DriveOutcome::lost;
    count(op);
}

void Drive::count(const DriveOp& op) {
    const bool failed = op.result.is_members();
    switch (op.kind) {
        case DiskOpKind::flush:
            if (op.ok()) flushed_ = std::max(flushed_, op.changes);
            return;
        case DiskOpKind::read:
            ++io_.reads;
            io_.bytes_read += op.size;
            io_.errors_read += failed ? 1 : 0;
            return;
        case DiskOpKind::write:
        case DiskOpKind::zero:
            ++io_.writes;
            io_.bytes_written += op.size;
            io_.errors_write += failed ? 1 : 0;
            // One that failed may have been carried out in part, and that is in the cache.
            if (!op.fua || !op.ok()) ++changes_;
    }
}

/// What reads or writes strips has memory of a client's, or of the pool: that goes on when the disk
/// has answered, and not before.
void LocalDrive::start(DriveOp& op) {
    if (op.kind == DiskOpKind::flush || op.is_record) return flights_.start(*owned_, disk_op(op));
    start_counted(*owned_, disk_op(op));
}

}  // namespace braid
