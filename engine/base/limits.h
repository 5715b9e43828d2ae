// SPDX-License-Identifier: BSD-3-Clause
// The bounds that more than one room goes by: how large an array, a request and their lists may be.
// static_asserts tie them to each other. A bound of one class (how many workers, how many lanes),
// of one format (how long a slot's text is) or of one loop of tries stands where it is used.
#pragma once

#include <cstddef>
#include <cstdint>

namespace braid {

// The array. Sets of members are 64-bit masks (engine/layout/roles.h).
inline constexpr std::uint32_t members_max = 64;  // with a role; spares come on top
inline constexpr std::uint32_t spares_max = 16;
inline constexpr std::uint32_t volumes_max = 64;
inline constexpr std::uint32_t nodes_max = 32;
inline constexpr std::uint64_t strip_size_min = 4096;
inline constexpr std::uint64_t strip_size_max = 16u << 20;
inline constexpr std::uint64_t strip_size_default = 64u << 10;
inline constexpr std::uint64_t member_size_max = std::uint64_t{1} << 60;
inline constexpr std::size_t name_length_max = 63;  // of an array or a volume

// Requests. A window is at most 64 rows of one stripe, so that a set of its rows is 64 bits.
inline constexpr std::uint32_t window_rows_max = 64;
inline constexpr std::uint32_t request_size_max = 32u << 20;
inline constexpr std::uint32_t parts_in_flight_max = 4096;  // pieces of requests, all clients
inline constexpr std::uint64_t job_size_max = 8u << 20;     // buffers of one stripe job
inline constexpr std::uint32_t events_kept_max = 256;

// The write intent and the bad-row list.
inline constexpr std::uint64_t intent_region_default = 16u << 20;  // bytes of data
inline constexpr std::uint64_t intent_region_min = 64u << 10;
inline constexpr std::uint64_t intent_region_max = std::uint64_t{1} << 40;
inline constexpr std::uint32_t bad_ranges_max = 2040;      // and what a configuration slot has room
                                                           // for; past it neighbours are joined
inline constexpr std::uint32_t doubt_windows_max = 65536;  // in doubt in part, known by row
inline constexpr std::uint32_t doubt_ranges_max = 4096;    // of windows in doubt
inline constexpr std::uint32_t bad_bytes_listed_max = 4096;  // byte ranges named in a status
// Blocks of a set of rows (engine/layout/row_set.h): 16 bytes each, and three quarters of them are
// used. So 256 KiB a set, for 12288 places of 64 rows, or 3 GiB of a member in one piece, row by
// row; what is more is known by pairs of rows, and so on.
inline constexpr std::uint32_t row_blocks_max = 16384;

// io_uring.
inline constexpr std::uint32_t ring_entries = 1024;

// Members.
inline constexpr std::uint32_t read_errors_max = 20;  // corrected ones, halved each hour; then the
                                                      // member is faulty

inline constexpr std::uint32_t metadata_read_retries = 5;    // of what cannot be read at once
inline constexpr std::uint64_t metadata_read_pause_ms = 50;  // before the first; then twice as long

static_assert(window_rows_max <= 64);
static_assert((row_blocks_max & (row_blocks_max - 1)) == 0);

}  // namespace braid
