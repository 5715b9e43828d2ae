// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/disk_server.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "engine/base/limits.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/intent_record.h"

namespace braid::cluster {

void DiskServer::put(std::uint32_t number, std::shared_ptr<Disk> disk) {
    BRAID_REQUIRE(disk != nullptr);
    disks_[number] = {std::move(disk), 0, 0};
}

void DiskServer::set_data(std::uint32_t number, DataArea area, std::uint64_t end) {
    Served& at = disks_.at(number);
    at.data_begin = area.begin.value;
    at.data_end = end;
}

/// @return  0, or the errno of a command that is not carried out
int DiskServer::look_at(std::uint32_t from, const DiskCommand& command) const {
    const auto at = disks_.find(command.disk);
    if (at == disks_.end()) return ENODEV;
    const Served& served = at->second;
    const std::uint64_t size = served.disk->info().size;
    if (command.offset > size || command.size > size - command.offset) return EINVAL;
    if (command.kind == DiskOpKind::flush) return 0;
    const std::uint64_t end = command.offset + command.size;
    if (command.offset < served.data_end && served.data_begin < end) return EPERM;
    if (from == master_) return 0;
    const bool moves_bytes =
        command.kind == DiskOpKind::read || command.kind == DiskOpKind::write;
    const std::uint64_t own = slots_end + intent_slot_offset(from, 0);
    const bool is_own = command.offset >= own && end <= own + intent_slots * intent_slot_size;
    return moves_bytes && is_own ? 0 : EPERM;
}

Checked<Unit> DiskServer::take(std::uint32_t from, const Message& message, Buffer payload) {
    Asker& asker = askers_[from];
    const std::size_t kept = bus_->session(from).queue().kept();
    if (asker.commands > home_commands_max || kept > home_commands_max) {
        return Refusal{fmt::format("node {} has asked {} times without an answer, and has {} "
                                   "answers that it does not take; {} may be",
                                   from, asker.commands, kept, home_commands_max),
                       RefusalCode::busy};
    }
    BRAID_TRY(const DiskCommand command, decode_disk_command(message));
    Asked asked{{from, message.header.boot}, message.header.number, command, std::move(payload)};
    ++asker.commands;
    // Before an array is open there is none that a command could be late for.
    const bool is_late = fence_.epoch != 0 && message.header.fence != fence_.epoch;
    const int error = is_late ? ESTALE : look_at(from, command);
    if (error != 0) {
        answer(asked, error, Buffer());
        return Unit{};
    }
    asker.waiting.push_back(std::move(asked));
    start(from);
    return Unit{};
}

/// In their order, so that of two writes to one place the later one is begun later.
void DiskServer::start(std::uint32_t node) {
    Asker& asker = askers_[node];
    const std::uint64_t kept = bus_->session(node).queue().kept_bytes();
    while (!asker.waiting.empty()) {
        const DiskCommand& next = asker.waiting.front().command;
        const std::uint64_t size = next.kind == DiskOpKind::read ? next.size : 0;
        const std::uint64_t taken = asker.bytes + kept;
        if (taken != 0 && taken + size > home_read_bytes_max) return;
        asker.bytes += size;
        Asked asked = std::move(asker.waiting.front());
        asker.waiting.pop_front();
        tasks_.spawn(carry_out(std::move(asked)));
    }
}

Task<void> DiskServer::carry_out(Asked asked) {
    const DiskCommand& command = asked.command;
    const std::shared_ptr<Disk> disk = disks_.at(command.disk).disk;
    const bool reads = command.kind == DiskOpKind::read;
    Buffer bytes(reads ? command.size : 0);
    DiskOp op;
    op.kind = command.kind;
    op.offset = command.offset;
    op.size = command.size;
    op.fua = command.fua;
    op.may_free = command.may_free;
    op.data = reads ? bytes.data() : asked.payload.data();
    DiskGroup group;
    submit(*disk, group, op);
    co_await group;
    if (reads) askers_[asked.from.node].bytes -= command.size;
    answer(asked, op.os_error, reads && op.ok() ? std::move(bytes) : Buffer());
    start(asked.from.node);
}

/// Who has begun anew does not know what he asked.
void DiskServer::answer(const Asked& asked, int os_error, Buffer payload) {
    --askers_[asked.from.node].commands;
    Session& session = bus_->session(asked.from.node);
    if (session.peer_boot() != asked.from.boot) return;
    QueuedMessage message =
        encode_disk_answer(asked.command.kind, asked.number, os_error, std::move(payload));
    message.header.fence = fence_.epoch;
    session.send(std::move(message));
}

}  // namespace braid::cluster
