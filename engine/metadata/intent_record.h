// SPDX-License-Identifier: BSD-3-Clause
// The write intent as bytes: which stripes may have parity that is not true. Each node has two
// slots in the area "write_intent" of every member, for even and odd generations; a record is
// written as a whole. braid-format(5) has the table. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/endian.h"
#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/md_superblock.h"

namespace braid {

inline constexpr std::uint64_t intent_slot_size = 16u << 10;
inline constexpr std::uint32_t intent_slots = 2;  // of a node
static_assert(nodes_max * intent_slots * intent_slot_size == write_intent_size);

/// Heads an intent slot; `entries` IntentEntryBytes follow it.
struct IntentHeader {
    std::array<char, 8> magic;             //  0  "BRAIDINT"
    Le32 crc32c;                           //  8  of bytes 12 … 63 and of the entries
    Le32 format;                           // 12  an unknown format is refused, not guessed
    Uuid array;                            // 16  catches a member of another array
    Le64 generation;                       // 32  +1 per record; even in slot 0, odd in slot 1
    Le64 epoch;                            // 40  of the configuration when it was written
    Le32 node;                             // 48  whose record it is
    Le32 entries;                          // 52  0 … intent_entries_max
    std::array<std::uint8_t, 8> reserved;  // 56  zero
};
static_assert(sizeof(IntentHeader) == 64 && is_packed_v<IntentHeader>);
inline constexpr std::array<char, 8> intent_magic{'B', 'R', 'A', 'I', 'D', 'I', 'N', 'T'};
inline constexpr std::uint32_t intent_format = 1;

struct IntentEntryBytes {
    Le32 volume;  //  0  index in the configuration's list; or none
    Le32 count;   //  4  stripes; not 0
    Le64 first;   //  8  stripe of the array
};
static_assert(sizeof(IntentEntryBytes) == 16 && is_packed_v<IntentEntryBytes>);
inline constexpr std::uint32_t intent_entries_max =
    (intent_slot_size - sizeof(IntentHeader)) / sizeof(IntentEntryBytes);  // 1020
inline constexpr std::uint32_t intent_no_volume = 0xffffffff;  // stripes outside every volume

/// Stripes [first, first + count), all in one volume.
struct IntentEntry {
    std::uint32_t volume{intent_no_volume};
    std::uint32_t count{0};
    StripeIndex first{};
    StripeIndex end() const { return first + count; }
    bool operator==(const IntentEntry&) const = default;
};

/// Takes out what lies in front of the stripe. The entries are in order, and do not overlap.
void cut_before(std::vector<IntentEntry>* entries, StripeIndex stripe);

struct IntentRecord {
    Uuid array;
    std::uint64_t generation{0};
    std::uint64_t epoch{0};
    std::uint32_t node{0};
    std::vector<IntentEntry> entries;  // in order of `first`; they do not overlap
    bool operator==(const IntentRecord&) const = default;
};

/// Where a node's slot for `generation` lies in the area "write_intent".
constexpr std::uint64_t intent_slot_offset(std::uint32_t node, std::uint64_t generation) {
    return (node * intent_slots + generation % intent_slots) * intent_slot_size;
}

/// The bytes of `count` slots that hold no record: the magic, and zeros. A slot gets its magic
/// once, long before its first record, because a torn write of that one may leave its later sectors
/// only: they would be bytes of nobody, in the way of everything.
Buffer empty_intent_slots(std::uint32_t count);
/// The bytes of a record, padded with zeros to whole rows: as much of the slot as is written. What
/// lies behind them in the slot does not count.
Buffer encode_intent(const IntentRecord& record);
/// @param slot   bytes of one slot (intent_slot_size)
/// @param index  its number in the area: node × 2 + slot
/// @return  Finding::none: empty, or nothing of ours; corrupt; unsupported format
Result<IntentRecord, Finding> decode_intent(ByteView slot, std::uint32_t index);

/// Whether the array's members have room for the area.
bool has_intent_area(const Configuration& configuration);

}  // namespace braid
