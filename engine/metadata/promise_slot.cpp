// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/promise_slot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/base/crc32c.h"

namespace braid {
namespace {

std::uint32_t crc_of_promise(const PromiseSlot& slot) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&slot);
    constexpr std::size_t start = offsetof(PromiseSlot, format);
    return crc32c({bytes + start, sizeof slot - start});
}

Finding corrupt_promise(std::uint32_t slot, std::string_view why) {
    return {FindingKind::corrupt, fmt::format("promise slot {} is corrupt: {}", slot, why)};
}

}  // namespace

Buffer encode_promise(const Promise& promise) {
    PromiseSlot slot{};
    slot.magic = promise_magic;
    slot.format = promise_format;
    slot.array = promise.array;
    slot.member = promise.member;
    slot.sequence = promise.sequence;
    slot.epoch = promise.epoch;
    slot.crc32c = crc_of_promise(slot);
    Buffer bytes(sizeof slot);
    std::memcpy(bytes.data(), &slot, sizeof slot);
    return bytes;
}

Result<Promise, Finding> decode_promise(ByteView bytes, std::uint32_t slot) {
    PromiseSlot raw_slot;
    if (bytes.size() < sizeof raw_slot)
        return Finding{FindingKind::none, "beyond the member's end"};
    std::memcpy(&raw_slot, bytes.data(), sizeof raw_slot);
    if (raw_slot.magic != promise_magic) return Finding{FindingKind::none, "holds no promise"};
    if (plain(raw_slot.crc32c) != crc_of_promise(raw_slot)) {
        return corrupt_promise(slot, "its CRC-32C is wrong");
    }
    if (plain(raw_slot.format) != promise_format) {
        return Finding{FindingKind::unsupported,
                       fmt::format("promise slot {} has format {}; this braid knows format {}: use "
                                   "a newer one",
                                   slot, plain(raw_slot.format), promise_format)};
    }
    if (!std::ranges::all_of(raw_slot.reserved, [](auto byte) { return byte == 0; })) {
        return corrupt_promise(slot, "reserved bytes are not zero");
    }
    if (plain(raw_slot.sequence) == 0 || plain(raw_slot.sequence) % promise_slot_count != slot) {
        return corrupt_promise(slot, "its number belongs into the other");
    }
    if (plain(raw_slot.epoch) > epoch_max) {
        return corrupt_promise(slot, "its epoch is beyond any that can come");
    }
    return Promise{raw_slot.array, raw_slot.member, raw_slot.sequence, raw_slot.epoch};
}

}  // namespace braid
