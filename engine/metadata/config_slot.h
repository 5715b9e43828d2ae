// SPDX-License-Identifier: BSD-3-Clause
// The configuration as bytes: two slots on every member, written in turn, each a binary header and
// text (config_text.h). braid-format(5) has the table. Pure functions.
#pragma once

#include <array>
#include <cstdint>

#include "engine/base/buffer.h"
#include "engine/base/endian.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/config_text.h"
#include "engine/metadata/md_superblock.h"

namespace braid {

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
static_assert(sizeof(SlotHeader) + slot_text_max == slot_size);
inline constexpr std::array<char, 8> slot_magic{'B', 'R', 'A', 'I', 'D', 'C', 'F', 'G'};

/// slot_size bytes, for slot_offset(sequence % 2).
Buffer encode_slot(const ConfigSlot& slot);
/// `slot` is the number of the place that the bytes came from.
Result<ConfigSlot, Finding> decode_slot(ByteView bytes, std::uint32_t slot);

}  // namespace braid
