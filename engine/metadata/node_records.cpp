// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/node_records.h"

#include <algorithm>

#include "engine/base/buffer.h"
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

}  // namespace

Task<Result<std::uint64_t>> retire_records(std::uint32_t node, const Configuration& configuration,
                                           std::vector<Disk*> members) {
    if (!has_intent_area(configuration)) co_return std::uint64_t{0};
    IntentRecord record;
    record.array = configuration.array;
    record.epoch = configuration.version.epoch;
    record.node = node;
    Buffer slots(intent_slots * intent_slot_size);
    for (Disk* const disk : members) {
        const std::uint64_t at = slots_end + intent_slot_offset(node, 0);
        BRAID_CO_CHECK(co_await read_disk(*disk, at, slots.span()));
        record.generation = std::max(record.generation, newest_generation(slots, node));
    }
    if (record.generation == 0) co_return record.generation;
    ++record.generation;
    const Buffer bytes = encode_intent(record);
    for (Disk* const disk : members) {
        const std::uint64_t at = slots_end + intent_slot_offset(node, record.generation);
        BRAID_CO_CHECK(co_await write_disk(*disk, at, bytes.view()));
        BRAID_CO_CHECK(co_await flush_disk(*disk));
    }
    co_return record.generation;
}

}  // namespace braid
