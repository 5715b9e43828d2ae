// SPDX-License-Identifier: BSD-3-Clause
// The configuration as bytes: two slots on every member, written in turn, each a binary header and
// JSON text that strings(1) can read. braid-format(5) has the table. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/endian.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/md_superblock.h"

namespace braid {

// Where ours lies on a member: behind the most that md uses, in front of the data.
inline constexpr std::uint64_t slot_size = 64u << 10;
inline constexpr std::uint32_t slot_count = 2;
inline constexpr std::uint64_t slots_offset = md_superblock_offset + (136u << 10);  // 143360
inline constexpr std::uint64_t slots_end = slots_offset + slot_count * slot_size;
inline constexpr std::uint64_t write_intent_size = 1u << 20;
inline constexpr std::uint64_t promises_offset = slots_end + write_intent_size;  // 1323008
inline constexpr std::uint64_t promise_slot_size = 4096;
inline constexpr std::uint32_t promise_slot_count = 2;
inline constexpr std::uint64_t promises_end =
    promises_offset + promise_slot_count * promise_slot_size;
constexpr std::uint64_t promise_slot_offset(std::uint32_t slot) {
    return promises_offset + slot * promise_slot_size;
}
constexpr std::uint64_t slot_offset(std::uint32_t slot) { return slots_offset + slot * slot_size; }

/// Heads a slot. The valid slot with the highest `sequence` counts.
struct SlotHeader {
    std::array<char, 8> magic;                //  0  "BRAIDCFG"
    Le32 crc32c;                              //  8  of bytes 12 … 4095 and of the text
    Le32 format;                              // 12  an unknown format is refused, not guessed
    Uuid array;                               // 16  catches a member of another array
    Le64 sequence;                            // 32  +1 per update; even in slot 0, odd in slot 1
    Le64 epoch;                               // 40  of the configuration in the text
    Le32 text_size;                           // 48  bytes of JSON that follow this header
    Le64 revision;                            // 52  with the epoch; zero in formats 1 and 2
    std::array<std::uint8_t, 4036> reserved;  // 60  zero
};
static_assert(sizeof(SlotHeader) == row_size && is_packed_v<SlotHeader>);
inline constexpr std::array<char, 8> slot_magic{'B', 'R', 'A', 'I', 'D', 'C', 'F', 'G'};
inline constexpr std::uint32_t slot_format = 3;  // written: has "revision" and "in_force", and bad
                                                 // rows of a kind
inline constexpr std::uint32_t slot_format_oldest = 1;  // still read
inline constexpr std::uint64_t slot_text_max = slot_size - sizeof(SlotHeader);
// Of the text: the list of bad rows has a part of its own, so that no other change of the
// configuration can find that it took the room. Without the members' paths the rest always fits.
inline constexpr std::uint64_t bad_rows_text_max = 31744;
inline constexpr std::uint64_t rest_text_max = slot_text_max - bad_rows_text_max;
inline constexpr std::size_t member_path_max = 255;  // bytes that are kept; the end counts

/// A slot belongs to the superblock that lies beside it when it names its checksum, as the one
/// that was there before it was written or the one that was written after it. If it names neither,
/// somebody else (md) has changed the superblock since.
struct SuperblockTie {
    std::uint32_t checksum{0};  // of the one written after this slot
    std::uint32_t checksum_before{0};
    bool operator==(const SuperblockTie&) const = default;
};

struct ConfigSlot {
    std::uint64_t sequence{0};
    Uuid member;  // on which it lies
    SuperblockTie tie;
    Configuration configuration;
    bool operator==(const ConfigSlot&) const = default;
};

/// Names of arrays: up to 63 printable ASCII characters, or none.
bool is_array_name(std::string_view name);
/// Names of volumes: 1 to 63 of letters, digits and "._-", a letter or digit first.
bool is_volume_name(std::string_view name);
/// What a path looks like in a configuration: printable, valid UTF-8, at most member_path_max
/// bytes.
std::string path_to_keep(std::string_view path);

/// A stretch of every member between md's metadata and the data, by what it is for.
struct Area {
    std::string_view name;    // "configuration", "write_intent", "promises", "reserved"
    std::uint64_t offset{0};  // bytes from the start of the member
    std::uint64_t size{0};
};
/// What fits in front of the lowest data_offset, less md's bad-block log at its end. Only
/// "configuration" where the gap is small.
/// @param format  of the slot that names them: "promises" are there since format 3
std::vector<Area> areas_of(const Configuration& configuration, std::uint32_t format = slot_format);

/// Every range, order and relation that a configuration must keep; the text names the field.
Checked<Unit> check_configuration(const Configuration& configuration);

/// Whether a list of bad rows fits in its part of a slot, whatever else the configuration holds.
/// Part of the checks. 600 ranges always do.
bool fit_slot(std::span<const BadRange> ranges);
/// Makes it fit by listing along what lies between neighbours, as little as may be. False: there is
/// nothing left to join.
/// @param written_since  members that are away, and whose strips may have been written since: what
///                       lies between two of theirs that are to be tried again is not theirs to give
bool merge_to_fit(std::vector<BadRange>& ranges, MemberSet written_since = {});
/// The text alone. The configuration must be a checked one.
std::string to_json_text(const ConfigSlot& slot);
/// Strict: unknown, missing and doubled keys, wrong types and ranges are refused.
Checked<ConfigSlot> from_json_text(std::string_view text, std::uint32_t format = slot_format);

/// slot_size bytes, for slot_offset(sequence % 2).
Buffer encode_slot(const ConfigSlot& slot);
/// `slot` is the number of the place that the bytes came from.
Result<ConfigSlot, Finding> decode_slot(ByteView bytes, std::uint32_t slot);

}  // namespace braid
