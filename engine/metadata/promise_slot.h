// SPDX-License-Identifier: BSD-3-Clause
// A member's promise (engine/layout/register.h) as bytes: two slots of 4096 bytes behind the write
// intent, written in turn with FUA, so that a torn write takes back nothing that was promised
// before. braid-format(5) has the table. Pure functions.
#pragma once

#include <array>
#include <cstdint>

#include "engine/base/buffer.h"
#include "engine/base/endian.h"
#include "engine/base/result.h"
#include "engine/base/uuid.h"
#include "engine/layout/register.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/md_superblock.h"

namespace braid {

/// Of the valid slots the one with the highest epoch counts.
struct PromiseSlot {
    std::array<char, 8> magic;                //  0  "BRAIDPRM"
    Le32 crc32c;                              //  8  of bytes 12 … 4095
    Le32 format;                              // 12  1
    Uuid array;                               // 16
    Uuid member;                              // 32
    Le64 sequence;                            // 48  +1 per promise; even in slot 0, odd in slot 1
    Le64 epoch;                               // 56  the highest that the member was asked about
    std::array<std::uint8_t, 4032> reserved;  // 64  zero
};
static_assert(sizeof(PromiseSlot) == promise_slot_size && is_packed_v<PromiseSlot>);
inline constexpr std::array<char, 8> promise_magic{'B', 'R', 'A', 'I', 'D', 'P', 'R', 'M'};
inline constexpr std::uint32_t promise_format = 1;

struct Promise {
    Uuid array;
    Uuid member;
    std::uint64_t sequence{0};  // 0: none was made yet
    std::uint64_t epoch{0};
    bool operator==(const Promise&) const = default;
};

/// promise_slot_size bytes, for promise_slot_offset(sequence % 2).
Buffer encode_promise(const Promise& promise);
/// `slot` is the number of the place that the bytes came from. FindingKind::none: nothing was ever
/// promised there (zeros), or it is something else's.
Result<Promise, Finding> decode_promise(ByteView bytes, std::uint32_t slot);

}  // namespace braid
