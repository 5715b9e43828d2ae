// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/intent_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/base/crc32c.h"
#include "engine/base/limits.h"

namespace braid {
namespace {

constexpr std::size_t crc_start = offsetof(IntentHeader, format);

std::uint64_t used_size(std::uint32_t entries) {
    return sizeof(IntentHeader) + entries * sizeof(IntentEntryBytes);
}

Finding corrupt_slot(std::uint32_t index, std::string what) {
    return {FindingKind::corrupt,
            fmt::format("write intent slot {} is corrupt: {}", index, std::move(what))};
}

Result<void, Finding> check_header(const IntentHeader& header, std::uint32_t index) {
    if (plain(header.format) != intent_format) {
        return Finding{FindingKind::unsupported,
                       fmt::format("write intent slot {} has format {}; this braid knows format "
                                   "{}: use a newer one",
                                   index, plain(header.format), intent_format)};
    }
    if (!std::ranges::all_of(header.reserved, [](auto byte) { return byte == 0; })) {
        return corrupt_slot(index, "reserved bytes are not zero");
    }
    if (plain(header.node) != index / intent_slots) {
        return corrupt_slot(index, fmt::format("it says that it is node {}'s", plain(header.node)));
    }
    if (plain(header.generation) % intent_slots != index % intent_slots) {
        return corrupt_slot(index, fmt::format("generation {} belongs into the other slot",
                                               plain(header.generation)));
    }
    return {};
}

bool is_valid(const IntentEntry& entry, StripeIndex free_from) {
    const bool in_volume = entry.volume < volumes_max || entry.volume == intent_no_volume;
    return in_volume && entry.count != 0 && entry.first >= free_from &&
           raw(entry.first) <= ~std::uint64_t{0} - entry.count;
}

}  // namespace

Buffer empty_intent_slots(std::uint32_t count) {
    Buffer bytes(count * intent_slot_size);
    for (std::uint64_t at = 0; at != bytes.size(); at += intent_slot_size) {
        std::memcpy(bytes.data() + at, intent_magic.data(), intent_magic.size());
    }
    return bytes;
}

Buffer encode_intent(const IntentRecord& record) {
    BRAID_REQUIRE(record.entries.size() <= intent_entries_max);
    IntentHeader header{};
    header.magic = intent_magic;
    header.format = intent_format;
    header.array = record.array;
    header.generation = record.generation;
    header.epoch = record.epoch;
    header.node = record.node;
    header.entries = static_cast<std::uint32_t>(record.entries.size());
    const std::uint64_t used = used_size(header.entries);
    Buffer bytes(round_up(used, row_size));
    std::memcpy(bytes.data(), &header, sizeof header);
    std::byte* at = bytes.data() + sizeof header;
    for (const IntentEntry& entry : record.entries) {
        IntentEntryBytes packed{};
        packed.volume = entry.volume;
        packed.count = entry.count;
        packed.first = raw(entry.first);
        std::memcpy(at, &packed, sizeof packed);
        at += sizeof packed;
    }
    header.crc32c = crc32c(bytes.view().subspan(crc_start, used - crc_start));
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
}

Result<IntentRecord, Finding> decode_intent(ByteView slot, std::uint32_t index) {
    IntentHeader header;
    if (slot.size() < intent_slot_size) {
        return Finding{FindingKind::none, "beyond the member's end"};
    }
    std::memcpy(&header, slot.data(), sizeof header);
    if (header.magic != intent_magic) return Finding{FindingKind::none, "holds no write intent"};
    const ByteView behind_magic =
        slot.subspan(sizeof header.magic, sizeof header - sizeof header.magic);
    if (std::ranges::all_of(behind_magic, [](std::byte b) { return b == std::byte{0}; })) {
        return Finding{FindingKind::none, "holds no write intent yet"};
    }
    const std::uint32_t count = header.entries;
    if (count > intent_entries_max) return corrupt_slot(index, fmt::format("{} entries", count));
    const std::uint32_t sum = crc32c(slot.subspan(crc_start, used_size(count) - crc_start));
    if (plain(header.crc32c) != sum) {
        return corrupt_slot(index, fmt::format("its CRC-32C is {:08x}, but it says {:08x}", sum,
                                               plain(header.crc32c)));
    }
    BRAID_CHECK(check_header(header, index));
    IntentRecord record;
    record.array = header.array;
    record.generation = header.generation;
    record.epoch = header.epoch;
    record.node = header.node;
    StripeIndex free_from{};
    for (std::uint32_t i = 0; i != count; ++i) {
        IntentEntryBytes packed;
        std::memcpy(&packed, slot.data() + sizeof header + i * sizeof packed, sizeof packed);
        IntentEntry entry;
        entry.volume = packed.volume;
        entry.count = packed.count;
        entry.first = StripeIndex{plain(packed.first)};
        if (!is_valid(entry, free_from)) {
            return corrupt_slot(index,
                                fmt::format("entry {} is empty, or not behind the one before, or "
                                            "in no volume that can be",
                                            i));
        }
        free_from = entry.end();
        record.entries.push_back(entry);
    }
    return record;
}

void cut_before(std::vector<IntentEntry>* entries, StripeIndex stripe) {
    std::erase_if(*entries, [stripe](const IntentEntry& entry) { return entry.end() <= stripe; });
    if (entries->empty() || entries->front().first >= stripe) return;
    IntentEntry& entry = entries->front();
    entry.count -= static_cast<std::uint32_t>(stripe - entry.first);
    entry.first = stripe;
}

bool has_intent_area(const Configuration& configuration) {
    return std::ranges::any_of(areas_of(configuration),
                               [](const Area& area) { return area.name == "write_intent"; });
}

}  // namespace braid
