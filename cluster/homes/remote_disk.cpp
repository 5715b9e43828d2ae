// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/remote_disk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cluster/homes/disk_messages.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

std::uint64_t piece_size_max(DiskOpKind kind) {
    return kind == DiskOpKind::write ? remote_disk_write_bytes_max : message_payload_size_max;
}

}  // namespace

RemoteDisk::RemoteDisk(Session& session, const Fence& fence, std::uint32_t number, DiskInfo info)
    : session_(session), fence_(fence), number_(number), info_(std::move(info)) {
    info_.memory_align = 1;
    info_.in_memory = false;  // there, but not from here
}

void RemoteDisk::submit(DiskOp& op) {
    const bool is_flush = op.kind == DiskOpKind::flush;
    if (!is_flush && (!can_be_asked(op.offset, op.size) || op.offset + op.size > info_.size)) {
        return DiskGroup::complete(op, EINVAL);
    }
    if (is_over()) return DiskGroup::complete(op, ECONNRESET);
    if (free_.empty()) free_.push_back(&sinks_.emplace_back());
    Sink& sink = *free_.back();
    free_.pop_back();
    sink.disk = this;
    sink.op = &op;
    sink.done = 0;
    send_next(sink);
}

/// Its next piece, or lets it wait for its turn.
void RemoteDisk::send_next(Sink& sink) {
    BRAID_REQUIRE(sink.op != nullptr);
    const DiskOp& op = *sink.op;
    const bool is_flush = op.kind == DiskOpKind::flush;
    sink.piece = is_flush ? 0 : std::min(piece_size_max(op.kind), op.size - sink.done);
    if (op.kind != DiskOpKind::write) return send(sink);
    waiting_.push_back(&sink);
    send_waiting();
}

/// One that nothing is before always has room.
void RemoteDisk::send_waiting() {
    while (!waiting_.empty()) {
        Sink& sink = *waiting_.front();
        if (write_bytes_ + sink.piece > remote_disk_write_bytes_max) return;
        waiting_.pop_front();
        write_bytes_ += sink.piece;
        send(sink);
    }
}

void RemoteDisk::send(Sink& sink) {
    const DiskOp& op = *sink.op;
    DiskCommand command;
    command.kind = op.kind;
    command.disk = number_;
    command.fua = op.fua;
    command.may_free = op.may_free;
    command.offset = op.offset + sink.done;
    command.size = sink.piece;
    if (op.kind == DiskOpKind::write) {
        command.content = Buffer(ByteView{op.data + sink.done, sink.piece});
    }
    QueuedMessage message = encode_disk_command(std::move(command));
    message.header.fence = fence_.epoch;
    session_.send(std::move(message), &sink);
}

ByteSpan RemoteDisk::Sink::place(std::uint32_t size) {
    if (op->kind != DiskOpKind::read || size != piece) return {};
    return {op->data + done, piece};
}

Checked<Unit> RemoteDisk::Sink::answered(const Message& answer) {
    BRAID_TRY(const int os_error, decode_disk_answer(op->kind, piece, answer));
    RemoteDisk& owner = *disk;
    if (op->kind == DiskOpKind::write) owner.give_back(piece);
    done += piece;
    if (os_error != 0 || op->kind == DiskOpKind::flush || done == op->size) {
        owner.finish(*this, os_error);
    } else {
        owner.send_next(*this);
    }
    owner.send_waiting();
    return Unit{};
}

/// With it everything is that was on its way. What waits for its turn goes the same way: some of it
/// may have been written at the start that is over.
void RemoteDisk::Sink::cut() {
    RemoteDisk& owner = *disk;
    if (op->kind == DiskOpKind::write) owner.give_back(piece);
    owner.finish(*this, ECONNRESET);
    for (Sink* sink : std::exchange(owner.waiting_, {})) owner.finish(*sink, ECONNRESET);
}

/// The start of the other node whose disk it is. One that was not met yet has not begun anew.
bool RemoteDisk::is_over() {
    const std::uint64_t peer = session_.peer_boot();
    if (boot_ == 0) boot_ = peer;
    was_met_ = was_met_ || peer == boot_;
    return was_met_ && peer != boot_ && !BRAID_MUTANT(disk_of_another_start);
}

void RemoteDisk::give_back(std::uint64_t bytes) {
    BRAID_REQUIRE(bytes <= write_bytes_);
    write_bytes_ -= bytes;
}

/// From now on another operation may have the sink.
void RemoteDisk::finish(Sink& sink, int os_error) {
    BRAID_REQUIRE(sink.op != nullptr);
    free_.push_back(&sink);
    DiskGroup::complete(*std::exchange(sink.op, nullptr), os_error);
}

}  // namespace braid::cluster
