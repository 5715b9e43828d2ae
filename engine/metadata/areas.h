// SPDX-License-Identifier: BSD-3-Clause
// Where ours lies on a member: behind the most that md uses, in front of the data.
// braid-format(5) has the table. Pure functions.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/layout/configuration.h"
#include "engine/metadata/md_superblock.h"

namespace braid {

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

// Of the configuration in a slot, its text and the areas that it names.
inline constexpr std::uint32_t slot_format = 3;  // written: has "revision" and "in_force", and bad
                                                 // rows of a kind
inline constexpr std::uint32_t slot_format_oldest = 1;  // still read

/// A stretch of every member between md's metadata and the data, by what it is for.
struct Area {
    std::string_view name;    // "configuration", "write_intent", "promises", "reserved"
    std::uint64_t offset{0};  // bytes from the start of the member
    std::uint64_t size{0};    // bytes
};
/// What fits in front of the lowest data_offset, less md's bad-block log at its end. Only
/// "configuration" where the gap is small.
/// @param format  of the slot that names them: "promises" are there since format 3
std::vector<Area> areas_of(const Configuration& configuration, std::uint32_t format = slot_format);

}  // namespace braid
