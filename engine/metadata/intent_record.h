// SPDX-License-Identifier: BSD-3-Clause
// The write intent as bytes: which stripes may have parity that is not true, and which were written
// to while members were away. Each node has two slots in the area "write_intent" of every member, for
// even and odd generations; a record is written as a whole. braid-format(5) has the table. Pure
// functions.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
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

/// Heads an intent slot; `entries` IntentEntryBytes follow it, then `absent` AbsentBytes, and where
/// there are any a MissedBytes and its bits.
struct IntentHeader {
    std::array<char, 8> magic;             //  0  "BRAIDINT"
    Le32 crc32c;                           //  8  of bytes 12 … 63 and of what follows
    Le32 format;                           // 12  an unknown format is refused, not guessed
    Uuid array;                            // 16  catches a member of another array
    Le64 generation;                       // 32  +1 per record; even in slot 0, odd in slot 1
    Le64 epoch;                            // 40  of the configuration when it was written
    Le32 node;                             // 48  whose record it is
    Le32 entries;                          // 52  0 … intent_entries_max
    Le32 absent;                           // 56  members that are away; since format 2
    std::array<std::uint8_t, 4> reserved;  // 60  zero
};
static_assert(sizeof(IntentHeader) == 64 && is_packed_v<IntentHeader>);
inline constexpr std::array<char, 8> intent_magic{'B', 'R', 'A', 'I', 'D', 'I', 'N', 'T'};
inline constexpr std::uint32_t intent_format = 2;
inline constexpr std::uint32_t intent_format_oldest = 1;  // says nothing of members that are away

struct IntentEntryBytes {
    Le32 volume;  //  0  index in the configuration's list; or none
    Le32 count;   //  4  stripes; not 0
    Le64 first;   //  8  stripe of the array
};
static_assert(sizeof(IntentEntryBytes) == 16 && is_packed_v<IntentEntryBytes>);
inline constexpr std::uint32_t intent_entries_max =
    (intent_slot_size - sizeof(IntentHeader)) / sizeof(IntentEntryBytes);  // 1020
inline constexpr std::uint32_t intent_no_volume = 0xffffffff;  // stripes outside every volume

struct AbsentBytes {
    Uuid uuid;        //  0  of the member
    Le32 known;       // 16  1: the bits below are all that it misses of this node; 0: nobody knows
    Le32 reserved;    // 20  zero
    Le64 generation;  // 24  of the newest record of this node that it held as it left
};
static_assert(sizeof(AbsentBytes) == 32 && is_packed_v<AbsentBytes>);

struct MissedBytes {
    Le64 stripes_per_bit;  //  0  not 0
    Le64 bits;  //  8  that follow, as many bytes as it takes; bit 0 of byte 0 is the first
};
static_assert(sizeof(MissedBytes) == 16 && is_packed_v<MissedBytes>);
/// Members that a record is made to tell of: in an array that can be written to no more are away. The
/// format has room for members_max of them, and so many are read (braid-format(5)).
inline constexpr std::uint32_t absent_max = 2;
/// Marks leave room for them, and for some bits.
inline constexpr std::uint32_t intent_marks_named_max = intent_entries_max - 8;

/// Stripes [first, first + count), all in one volume.
struct IntentEntry {
    std::uint32_t volume{intent_no_volume};
    std::uint32_t count{0};
    StripeIndex first{};
    StripeIndex end() const { return first + count; }
    bool operator==(const IntentEntry&) const = default;
};

/// A member that is away, as a node has it.
struct AbsentMember {
    Uuid uuid;
    bool known{false};            // what it misses of this node is what the record says
    std::uint64_t generation{0};  // of the node's newest record that it held as it left
    bool operator==(const AbsentMember&) const = default;
};

/// Stripes in equal pieces, each as a bit.
class MissedStripes {
  public:
    MissedStripes() = default;
    /// As fine as `bytes` allow for `stripes` in all.
    MissedStripes(std::uint64_t stripes, std::uint64_t bytes);
    /// As decoded; nothing where that cannot be.
    static std::optional<MissedStripes> from(std::uint64_t stripes_per_bit, std::uint64_t bits,
                                             ByteView bytes);
    /// The pieces that stripes [first, end) touch.
    void add(StripeIndex first, StripeIndex end);
    /// Called with [first, end) of each stretch, in order; the last may reach beyond the array.
    void for_each(const std::function<void(StripeIndex first, StripeIndex end)>& what) const;
    std::uint64_t stripes_per_bit() const { return stripes_per_bit_; }
    std::uint64_t bits() const { return bits_; }
    const std::vector<std::byte>& bytes() const { return bytes_; }
    bool operator==(const MissedStripes&) const = default;

  private:
    bool has(std::uint64_t bit) const {
        return (bytes_[bit / 8] >> (bit % 8) & std::byte{1}) != std::byte{};
    }
    std::uint64_t stripes_per_bit_{1};
    std::uint64_t bits_{0};
    std::vector<std::byte> bytes_;
};

/// Takes out what lies in front of the stripe. The entries are in order, and do not overlap.
void cut_before(std::vector<IntentEntry>* entries, StripeIndex stripe);

struct IntentRecord {
    Uuid array;
    std::uint64_t generation{0};
    std::uint64_t epoch{0};
    std::uint32_t node{0};
    std::vector<IntentEntry> entries;  // in order of `first`; they do not overlap
    /// All that the node has as not in sync. False: of an older format, which does not tell.
    bool tells_absent{true};
    std::vector<AbsentMember> absent;
    /// Where it has written since the first of those left whose `known` is set, but for what the
    /// entries say: a mark goes when the bits have it.
    MissedStripes missed;
    bool operator==(const IntentRecord&) const = default;
};

/// Bytes that a record has room for in MissedStripes.
constexpr std::uint64_t missed_bytes_max(std::uint64_t entries, std::uint64_t absent) {
    return intent_slot_size - sizeof(IntentHeader) - entries * sizeof(IntentEntryBytes) -
           absent * sizeof(AbsentBytes) - sizeof(MissedBytes);
}
static_assert(missed_bytes_max(intent_marks_named_max, absent_max) >= 48);

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
