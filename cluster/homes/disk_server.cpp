// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/disk_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/intent_record.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

bool changes(const DiskCommand& command) {
    return command.kind == DiskOpKind::write || command.kind == DiskOpKind::zero;
}
/// A flush has no bytes.
bool overlaps(const DiskCommand& command, std::uint64_t begin, std::uint64_t end) {
    return command.kind != DiskOpKind::flush && begin != end && command.offset < end &&
           begin < command.offset + command.size;
}
/// Of its sender, in the slot where it belongs.
bool is_record_of(std::uint32_t node, const DiskCommand& command) {
    const std::uint64_t slots = slots_end + intent_slot_offset(node, 0);
    const std::uint64_t in_slots = command.offset - slots;
    if (in_slots % intent_slot_size != 0 || command.size > intent_slot_size) return false;
    const std::uint64_t index = node * intent_slots + in_slots / intent_slot_size;
    Buffer slot(intent_slot_size);
    std::memcpy(slot.data(), command.content.data(), command.size);
    return decode_intent(slot.view(), static_cast<std::uint32_t>(index)).has_value();
}
bool is_in_intent_slots_of(std::uint32_t node, const DiskCommand& command) {
    const std::uint64_t begin = slots_end + intent_slot_offset(node, 0);
    const std::uint64_t end = begin + intent_slots * intent_slot_size;
    return command.offset >= begin && command.offset + command.size <= end;
}
static_assert(slots_end % row_size == 0 && intent_slot_size % row_size == 0);

}  // namespace

DiskServer::DiskServer(ReadyQueue& ready, const Fence& fence) : fence_(fence), tasks_(ready) {}
DiskServer::~DiskServer() = default;

void DiskServer::put(std::uint32_t number, std::shared_ptr<Disk> disk) {
    BRAID_REQUIRE(disk != nullptr);
    if (const auto at = served_.find(number); at != served_.end() && at->second->disk == disk) {
        at->second->data_begin = at->second->data_end = 0;
        return;
    }
    auto served = std::make_shared<Served>();
    served->disk = std::move(disk);
    served_.insert_or_assign(number, std::move(served));
}

void DiskServer::remove(std::uint32_t number) { served_.erase(number); }

void DiskServer::set_data(std::uint32_t number, DataArea area, std::uint64_t end) {
    BRAID_REQUIRE(area.begin.value <= end);
    BRAID_REQUIRE(served_.contains(number));
    Served& at = *served_.at(number);
    at.data_begin = area.begin.value;
    at.data_end = end;
}

Task<void> DiskServer::wait_quiet(std::uint32_t number) {
    const auto found = served_.find(number);
    if (found == served_.end()) co_return;
    const std::shared_ptr<Served> at = found->second;
    const std::uint64_t last = at->turns;
    while (!at->under_way.empty() && at->under_way.begin()->first <= last) {
        co_await at->one_ended.next();
    }
}

bool DiskServer::is_busy_with(const Served& at, const std::vector<NodeBoot>& nodes) {
    return std::ranges::any_of(at.under_way, [&](const auto& one) {
        return std::ranges::find(nodes, one.second->from) != nodes.end();
    });
}

std::vector<std::uint32_t> DiskServer::busy_with(const std::vector<NodeBoot>& nodes) const {
    std::vector<std::uint32_t> numbers;
    for (const auto& [number, at] : served_) {
        if (is_busy_with(*at, nodes)) numbers.push_back(number);
    }
    return numbers;
}

Task<void> DiskServer::wait_over(std::vector<NodeBoot> nodes) {
    std::vector<std::shared_ptr<Served>> all;
    for (const auto& [number, served] : served_) all.push_back(served);
    for (const std::shared_ptr<Served>& at : all) {
        while (is_busy_with(*at, nodes)) co_await at->one_ended.next();
    }
}

Task<void> DiskServer::stop() {
    served_.clear();
    co_await tasks_.join();
}

// ---- what comes --------------------------------------------------------------------------------

Checked<Unit> DiskServer::take(std::uint32_t from, const Message& message, Buffer payload) {
    BRAID_REQUIRE(bus_ != nullptr);
    BRAID_CHECK(check_bounds(from, payload.size()));
    Request request;
    request.from = {from, message.header.boot};
    request.number = message.header.number;
    request.fence = message.header.fence;
    BRAID_TRY(request.command, decode_disk_command(message, std::move(payload)));
    Asker& asker = askers_[from];
    ++asker.commands;
    if (request.command.kind == DiskOpKind::read) {
        asker.waiting.push_back(std::move(request));
        start_reads(from);
        return Unit{};
    }
    asker.write_bytes += request.command.content.size();
    tasks_.spawn(carry_out(std::move(request)));
    return Unit{};
}

/// One write alone may be larger than what all have.
Checked<Unit> DiskServer::check_bounds(std::uint32_t node, std::uint64_t written) const {
    const auto asker = askers_.find(node);
    const std::size_t open = asker == askers_.end() ? 0 : asker->second.commands;
    const std::uint64_t bytes = asker == askers_.end() ? 0 : asker->second.write_bytes;
    const std::size_t kept = bus_->session(node).queue().kept();
    if (open > home_commands_max || kept > home_commands_max) {
        return Refusal{fmt::format("node {} has asked disks {} times without an answer, and has {} "
                                   "answers that it does not take; {} may be",
                                   node, open, kept, home_commands_max),
                       RefusalCode::busy};
    }
    if (written != 0 && bytes != 0 && bytes + written > home_read_bytes_max) {
        return Refusal{fmt::format("node {} writes {} bytes more to disks, which have not taken {} "
                                   "of it; {} may be",
                                   node, written, bytes, home_read_bytes_max),
                       RefusalCode::busy};
    }
    return Unit{};
}

/// One alone may be larger than what all have.
void DiskServer::start_reads(std::uint32_t node) {
    Asker& asker = askers_[node];
    const std::uint64_t kept = bus_->session(node).queue().kept_bytes();
    while (!asker.waiting.empty()) {
        const std::uint64_t size = asker.waiting.front().command.size;
        const std::uint64_t taken = asker.read_bytes + kept;
        if (taken != 0 && taken + size > home_read_bytes_max) return;
        asker.read_bytes += size;
        Request request = std::move(asker.waiting.front());
        asker.waiting.pop_front();
        tasks_.spawn(carry_out(std::move(request)));
    }
}

// ---- operations --------------------------------------------------------------------------------

Task<void> DiskServer::carry_out(Request request) {
    int os_error = why_not(request);
    if (os_error == 0) {
        const std::shared_ptr<Served> at = served_.at(request.command.disk);
        os_error = co_await operate(at, &request);
    }
    answer(std::move(request), os_error);
}

/// Returns 0, or an errno.
Task<int> DiskServer::operate(std::shared_ptr<Served> at, Request* request) {
    const std::uint64_t turn = ++at->turns;
    at->under_way.emplace(turn, request);
    while (must_wait(*at, turn)) co_await at->one_ended.next();
    DiskCommand& command = request->command;
    int os_error = is_served(command.disk, *at) ? why_not(*request) : ENODEV;
    if (os_error == 0) {
        if (command.kind == DiskOpKind::read) command.content = Buffer(command.size);
        DiskOp op;
        op.kind = command.kind;
        op.fua = command.fua;
        op.may_free = command.may_free;
        op.offset = command.offset;
        op.size = command.size;
        op.data = command.content.data();
        DiskGroup group;
        submit(*at->disk, group, op);
        co_await group;
        os_error = op.os_error;
    }
    at->under_way.erase(turn);
    at->one_ended.set();
    co_return os_error;
}

/// For what came before it, is of somebody else, and is in its way.
bool DiskServer::must_wait(const Served& at, std::uint64_t turn) {
    const Request& own = *at.under_way.at(turn);
    const DiskCommand& command = own.command;
    if (command.kind == DiskOpKind::flush) return false;
    for (const auto& [before, other] : at.under_way) {
        if (before == turn) return false;
        if (other->from == own.from || !(changes(command) || changes(other->command))) continue;
        if (overlaps(other->command, command.offset, command.offset + command.size)) return true;
    }
    return false;
}

bool DiskServer::is_served(std::uint32_t number, const Served& at) const {
    const auto found = served_.find(number);
    return found != served_.end() && found->second.get() == &at;
}

/// Why it is not carried out now: 0, or an errno.
int DiskServer::why_not(const Request& request) const {
    const DiskCommand& command = request.command;
    if (fence_.epoch != 0 && !fence_.is_known(request.fence)) return ESTALE;
    if (left_out_.contains(request.from) && !BRAID_MUTANT(left_out_obeyed)) return ESTALE;
    const auto found = served_.find(command.disk);
    if (found == served_.end()) return ENODEV;
    if (command.kind == DiskOpKind::flush) return 0;
    const Served& at = *found->second;
    if (command.offset + command.size > at.disk->info().size) return EINVAL;
    if (overlaps(command, at.data_begin, at.data_end)) return EPERM;
    if (!may(request)) return EPERM;
    const bool is_record = request.from.node != master_ && command.kind == DiskOpKind::write;
    return is_record && !is_record_of(request.from.node, command) ? EINVAL : 0;
}

bool DiskServer::may(const Request& request) const {
    const DiskCommand& command = request.command;
    if (request.from.node == master_) return true;
    // Before there is an array: who waits with this node looks whether it can start.
    if (command.kind == DiskOpKind::read && fence_.epoch == 0) return true;
    if (command.kind != DiskOpKind::read && command.kind != DiskOpKind::write) return false;
    return is_in_intent_slots_of(request.from.node, command);
}

// ---- answers -----------------------------------------------------------------------------------

void DiskServer::answer(Request request, int os_error) {
    const std::uint32_t node = request.from.node;
    DiskCommand& command = request.command;
    Asker& asker = askers_[node];
    BRAID_REQUIRE(asker.commands != 0);
    --asker.commands;
    if (command.kind == DiskOpKind::write) {
        BRAID_REQUIRE(asker.write_bytes >= command.size);
        asker.write_bytes -= command.size;
    }
    send(request.from,
         encode_disk_answer(command.kind, request.number, os_error, std::move(command.content)));
    if (command.kind != DiskOpKind::read) return;
    BRAID_REQUIRE(asker.read_bytes >= command.size);
    asker.read_bytes -= command.size;
    start_reads(node);
}

void DiskServer::send(NodeBoot to, QueuedMessage message) {
    message.header.fence = fence_.epoch;
    bus_->session(to.node).answer(to.boot, std::move(message));
}

}  // namespace braid::cluster
