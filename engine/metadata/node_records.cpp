// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/node_records.h"

#include <algorithm>
#include <utility>

#include "engine/base/buffer.h"

namespace braid {

Task<Result<std::vector<IntentRecord>>> newest_records(std::uint32_t node,
                                                       const Configuration& configuration,
                                                       std::vector<Disk*> members) {
    std::vector<IntentRecord> newest;
    if (!has_intent_area(configuration)) co_return newest;
    Buffer slots(intent_slots * intent_slot_size);
    for (Disk* const disk : members) {
        BRAID_CO_CHECK(
            co_await read_disk(*disk, slots_end + intent_slot_offset(node, 0), slots.span()));
        for (std::uint32_t slot = 0; slot != intent_slots; ++slot) {
            const ByteView bytes = slots.view().subspan(slot * intent_slot_size, intent_slot_size);
            auto record = decode_intent(bytes, node * intent_slots + slot);
            if (!record || record->array != configuration.array) continue;
            if (!newest.empty() && record->generation < newest.front().generation) continue;
            if (!newest.empty() && record->generation > newest.front().generation) newest.clear();
            if (std::ranges::find(newest, *record) == newest.end()) {
                newest.push_back(std::move(*record));
            }
        }
    }
    co_return std::move(newest);
}

Task<Result<std::uint64_t>> retire_records(IntentRecord newest, std::vector<Disk*> members) {
    ++newest.generation;
    newest.entries.clear();
    newest.tells_absent = true;
    newest.absent.clear();
    newest.missed = {};
    const Buffer bytes = encode_intent(newest);
    for (Disk* const disk : members) {
        const std::uint64_t at = slots_end + intent_slot_offset(newest.node, newest.generation);
        BRAID_CO_CHECK(co_await write_disk(*disk, at, bytes.view()));
        BRAID_CO_CHECK(co_await flush_disk(*disk));
    }
    co_return newest.generation;
}

}  // namespace braid
