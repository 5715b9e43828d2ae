// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/remote_disk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cluster/homes/disk_messages.h"
#include "parity/require.h"

namespace braid::cluster {

RemoteDisk::RemoteDisk(Session& session, const Fence& fence, std::uint32_t number, DiskInfo info)
    : session_(session), fence_(fence), number_(number), info_(std::move(info)) {}

void RemoteDisk::submit(DiskOp& op) {
    const bool is_flush = op.kind == DiskOpKind::flush;
    if (!is_flush && (op.size == 0 || !is_row_aligned(op.offset) || !is_row_aligned(op.size))) {
        return DiskGroup::complete(op, EINVAL);
    }
    const bool has_bytes = op.kind == DiskOpKind::read || op.kind == DiskOpKind::write;
    const std::uint64_t most = has_bytes ? disk_piece_max : op.size;
    // Where a piece is over at once, the operation is not yet.
    ++pieces_[&op].pending;
    if (is_flush) send(op, 0, 0);
    for (std::uint64_t at = 0; at < op.size && !is_flush; at += most) {
        send(op, at, std::min(most, op.size - at));
    }
    over_piece(&op, 0);
}

void RemoteDisk::send(DiskOp& op, std::uint64_t at, std::uint64_t size) {
    if (free_.empty()) free_.push_back(&sinks_.emplace_back());
    Sink* const sink = free_.back();
    free_.pop_back();
    sink->disk = this;
    sink->op = &op;
    sink->size = size;
    sink->into = {};
    if (op.kind == DiskOpKind::read) sink->into = {op.data + at, static_cast<std::size_t>(size)};
    ++pieces_[&op].pending;
    DiskCommand command;
    command.disk = number_;
    command.kind = op.kind;
    command.offset = op.kind == DiskOpKind::flush ? 0 : op.offset + at;
    command.size = size;
    command.fua = op.kind == DiskOpKind::write && op.fua;
    command.may_free = op.kind == DiskOpKind::zero && op.may_free;
    Buffer payload;
    if (op.kind == DiskOpKind::write) {
        payload = Buffer(ByteView{op.data + at, static_cast<std::size_t>(size)});
    }
    QueuedMessage message = encode_disk_command(command, std::move(payload));
    message.header.fence = fence_.epoch;
    session_.send(std::move(message), sink);
}

Checked<Unit> RemoteDisk::Sink::answered(const Message& answer) {
    BRAID_TRY(const int os_error, decode_disk_answer(op->kind, size, answer));
    disk->over(this, os_error);
    return Unit{};
}

/// From now on another piece may have it.
void RemoteDisk::over(Sink* sink, int os_error) {
    DiskOp* const op = sink->op;
    free_.push_back(sink);
    over_piece(op, os_error);
}

void RemoteDisk::over_piece(DiskOp* op, int os_error) {
    const auto at = pieces_.find(op);
    BRAID_REQUIRE(at != pieces_.end() && at->second.pending != 0);
    if (at->second.os_error == 0) at->second.os_error = os_error;
    if (--at->second.pending != 0) return;
    const int first = at->second.os_error;
    pieces_.erase(at);
    DiskGroup::complete(*op, first);
}

}  // namespace braid::cluster
