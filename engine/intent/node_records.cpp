// SPDX-License-Identifier: BSD-3-Clause
#include "engine/intent/node_records.h"

#include <algorithm>
#include <array>
#include <vector>

#include "engine/metadata/intent_record.h"

namespace braid {
namespace {

std::uint64_t newest_generation(const Buffer& slots, std::uint32_t node) {
    std::uint64_t newest = 0;
    for (std::uint32_t slot = 0; slot != intent_slots; ++slot) {
        const ByteView bytes = slots.view().subspan(slot * intent_slot_size, intent_slot_size);
        const auto record = decode_intent(bytes, node * intent_slots + slot);
        if (record) newest = std::max(newest, record->generation);
    }
    return newest;
}

std::vector<Disk*> disks_that_take_part(Members& members) {
    std::vector<Disk*> disks;
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const auto& slot = members.slot(MemberIndex{i});
        if (takes_part(slot.state) && slot.disk() != nullptr) disks.push_back(slot.disk());
    }
    return disks;
}

/// The same of each disk.
Task<Result<void>> on_all(std::vector<Disk*> disks, std::vector<DiskOp>* ops) {
    DiskGroup group;
    for (std::size_t i = 0; i != disks.size(); ++i) submit(*disks[i], group, (*ops)[i]);
    co_await group;
    for (const DiskOp& op : *ops) {
        if (!op.ok()) co_return Error{Errc::io, "write intent", op.os_error};
    }
    co_return Result<void>{};
}

}  // namespace

Task<Result<void>> retire_records(std::uint32_t node, const Configuration& configuration,
                                  Members& members) {
    if (!has_intent_area(configuration)) co_return Result<void>{};
    IntentRecord record;
    record.array = configuration.array;
    record.epoch = configuration.version.epoch;
    record.node = node;
    const std::vector<Disk*> disks = disks_that_take_part(members);
    std::vector<Buffer> slots;
    std::vector<DiskOp> ops(disks.size());
    for (DiskOp& op : ops) {
        slots.emplace_back(intent_slots * intent_slot_size);
        op.kind = DiskOpKind::read;
        op.offset = slots_end + intent_slot_offset(node, 0);
        op.size = slots.back().size();
        op.data = slots.back().data();
    }
    BRAID_CO_CHECK(co_await on_all(disks, &ops));
    for (const Buffer& one : slots) {
        record.generation = std::max(record.generation, newest_generation(one, node));
    }
    if (record.generation == 0) co_return Result<void>{};  // it has never marked anything
    ++record.generation;
    const Buffer bytes = encode_intent(record);
    for (DiskOp& op : ops) {
        op = DiskOp{};
        op.kind = DiskOpKind::write;
        op.fua = true;
        op.offset = slots_end + intent_slot_offset(node, record.generation);
        op.size = bytes.size();
        op.data = const_cast<std::byte*>(bytes.data());  // NOLINT: a write only reads it
    }
    co_return co_await on_all(disks, &ops);
}

}  // namespace braid
