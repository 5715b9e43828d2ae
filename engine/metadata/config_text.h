// SPDX-License-Identifier: BSD-3-Clause
// The configuration as text: JSON that strings(1) can read, as it stands in a slot behind the
// slot's header. braid-format(5) has its keys. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/areas.h"

namespace braid {

// What follows the slot's header of one row. Less what bad rows may take of it, the rest always
// fits without the members' paths.
inline constexpr std::uint64_t slot_text_max = slot_size - row_size;
inline constexpr std::uint64_t rest_text_max = slot_text_max - bad_rows_text_max;

/// A slot belongs to the superblock that lies beside it when it names its checksum, as the one
/// that was there before it was written or the one that was written after it. If it names neither,
/// somebody else (md) has changed the superblock since.
struct SuperblockTie {
    std::uint32_t checksum{0};  // of the one written after this slot
    std::uint32_t checksum_before{0};
    bool operator==(const SuperblockTie&) const = default;
};

/// What a slot says. All but `sequence`, which is in its header, is text.
struct ConfigSlot {
    std::uint64_t sequence{0};
    Uuid member;  // on which it lies
    SuperblockTie tie;
    Configuration configuration;
    bool operator==(const ConfigSlot&) const = default;
};

/// The text alone. The configuration must be a checked one.
std::string to_json_text(const ConfigSlot& slot);
/// Strict: unknown, missing and doubled keys, wrong types and ranges are refused.
Checked<ConfigSlot> from_json_text(std::string_view text, std::uint32_t format = slot_format);

}  // namespace braid
