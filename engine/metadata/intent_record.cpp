// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/intent_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/base/crc32c.h"
#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid {
namespace {

constexpr std::size_t crc_start = offsetof(IntentHeader, format);

std::uint64_t used_size(std::uint32_t entries, std::uint32_t absent) {
    return sizeof(IntentHeader) + entries * sizeof(IntentEntryBytes) +
           absent * sizeof(AbsentBytes) + (absent == 0 ? 0 : sizeof(MissedBytes));
}

template <class Packed>
std::byte* put(std::byte* at, const Packed& packed) {
    std::memcpy(at, &packed, sizeof packed);
    return at + sizeof packed;
}
template <class Packed>
Packed take(ByteView slot, std::size_t at) {
    Packed packed;
    std::memcpy(&packed, slot.data() + at, sizeof packed);
    return packed;
}

Finding corrupt_slot(std::uint32_t index, std::string what) {
    return {FindingKind::corrupt,
            fmt::format("write intent slot {} is corrupt: {}", index, std::move(what))};
}

Result<void, Finding> check_header(const IntentHeader& header, std::uint32_t index) {
    const bool is_old = plain(header.format) == intent_format_oldest;
    if (plain(header.format) != intent_format && !is_old) {
        return Finding{
            FindingKind::unsupported,
            fmt::format("write intent slot {} has format {}; this braid knows formats "
                        "{} to {}: use a newer one",
                        index, plain(header.format), intent_format_oldest, intent_format)};
    }
    if (is_old && plain(header.absent) != 0) {
        return corrupt_slot(index, "it is of a format that tells of no members that are away");
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

/// Behind the entries.
Result<void, Finding> read_absent(ByteView slot, std::uint32_t index, std::size_t at,
                                  IntentRecord* record) {
    for (AbsentMember& absent : record->absent) {
        const auto packed = take<AbsentBytes>(slot, at);
        at += sizeof packed;
        absent = {packed.uuid, plain(packed.known) == 1, plain(packed.generation)};
        if (plain(packed.known) > 1 || plain(packed.reserved) != 0) {
            return corrupt_slot(index, "what it says of a member that is away cannot be");
        }
    }
    const auto head = take<MissedBytes>(slot, at);
    const ByteView rest = slot.first(intent_slot_size).subspan(at + sizeof head);
    std::optional<MissedStripes> missed =
        MissedStripes::from(plain(head.stripes_per_bit), plain(head.bits), rest);
    if (!missed) {
        return corrupt_slot(index,
                            "the stripes that members miss are more than fit, or none at all");
    }
    record->missed = std::move(*missed);
    return {};
}

}  // namespace

MissedStripes::MissedStripes(std::uint64_t stripes, std::uint64_t bytes) {
    const std::uint64_t bits_max = 8 * bytes;
    BRAID_REQUIRE(bits_max != 0);
    stripes_per_bit_ = std::max<std::uint64_t>(1, (stripes + bits_max - 1) / bits_max);
    bits_ = (stripes + stripes_per_bit_ - 1) / stripes_per_bit_;
    bytes_.resize((bits_ + 7) / 8);
}

std::optional<MissedStripes> MissedStripes::from(std::uint64_t stripes_per_bit, std::uint64_t bits,
                                                 ByteView bytes) {
    if (stripes_per_bit == 0 || bits > 8 * bytes.size()) return std::nullopt;
    if (bits != 0 && stripes_per_bit > ~std::uint64_t{0} / bits) return std::nullopt;
    MissedStripes missed;
    missed.stripes_per_bit_ = stripes_per_bit;
    missed.bits_ = bits;
    const ByteView used = bytes.first((bits + 7) / 8);
    missed.bytes_.assign(used.begin(), used.end());
    const bool stray = bits % 8 != 0 && (missed.bytes_.back() >> (bits % 8)) != std::byte{};
    if (stray) return std::nullopt;
    return missed;
}

void MissedStripes::add(StripeIndex first, StripeIndex end) {
    if (first >= end) return;
    const std::uint64_t last = raw(end - 1) / stripes_per_bit_;
    BRAID_REQUIRE(last < bits_);
    for (std::uint64_t bit = raw(first) / stripes_per_bit_; bit <= last; ++bit) {
        bytes_[bit / 8] |= std::byte{1} << (bit % 8);
    }
}

void MissedStripes::for_each(
    const std::function<void(StripeIndex first, StripeIndex end)>& what) const {
    for (std::uint64_t bit = 0; bit != bits_; ++bit) {
        if (!has(bit)) continue;
        const std::uint64_t first = bit;
        while (bit + 1 != bits_ && has(bit + 1)) ++bit;
        what(StripeIndex{first * stripes_per_bit_}, StripeIndex{(bit + 1) * stripes_per_bit_});
    }
}

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
    header.format = record.tells_absent ? intent_format : intent_format_oldest;
    header.array = record.array;
    header.generation = record.generation;
    header.epoch = record.epoch;
    header.node = record.node;
    header.entries = static_cast<std::uint32_t>(record.entries.size());
    header.absent = static_cast<std::uint32_t>(record.absent.size());
    BRAID_REQUIRE(record.tells_absent || record.absent.empty());
    const std::vector<std::byte>& missed = record.missed.bytes();
    BRAID_REQUIRE(!record.absent.empty() || missed.empty());
    const std::uint64_t used = used_size(header.entries, header.absent) + missed.size();
    BRAID_REQUIRE(used <= intent_slot_size);
    Buffer bytes(round_up(used, row_size));
    std::byte* at = put(bytes.data(), header);
    for (const IntentEntry& entry : record.entries) {
        IntentEntryBytes packed{};
        packed.volume = entry.volume;
        packed.count = entry.count;
        packed.first = raw(entry.first);
        at = put(at, packed);
    }
    for (const AbsentMember& absent : record.absent) {
        AbsentBytes packed{};
        packed.uuid = absent.uuid;
        packed.known = absent.known ? 1 : 0;
        packed.generation = absent.generation;
        at = put(at, packed);
    }
    if (!record.absent.empty()) {
        MissedBytes packed{};
        packed.stripes_per_bit = record.missed.stripes_per_bit();
        packed.bits = record.missed.bits();
        at = put(at, packed);
        std::ranges::copy(missed, at);
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
    const std::uint32_t absent = header.absent;
    if (count > intent_entries_max) return corrupt_slot(index, fmt::format("{} entries", count));
    if (absent > members_max) {
        return corrupt_slot(index, fmt::format("{} members that are away", absent));
    }
    std::uint64_t used = used_size(count, absent);
    if (used > intent_slot_size)
        return corrupt_slot(index, "it says more than a slot has room for");
    if (absent != 0) {
        const std::uint64_t bits = take<MissedBytes>(slot, used - sizeof(MissedBytes)).bits;
        const std::uint64_t room = intent_slot_size - used;
        if (bits > 8 * room) return corrupt_slot(index, fmt::format("{} bits", bits));
        used += (bits + 7) / 8;
    }
    const std::uint32_t sum = crc32c(slot.subspan(crc_start, used - crc_start));
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
        const auto packed =
            take<IntentEntryBytes>(slot, sizeof header + i * sizeof(IntentEntryBytes));
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
    record.tells_absent = plain(header.format) != intent_format_oldest;
    record.absent.resize(absent);
    if (absent != 0) BRAID_CHECK(read_absent(slot, index, used_size(count, 0), &record));
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
