// SPDX-License-Identifier: BSD-3-Clause
// P and Q of strips, and strips back from P and Q. Pure functions of bytes: no I/O, no allocation,
// no exceptions, safe to call from any thread.
//
//   P = D0 ^ D1 ^ …        Q = 2^0·D0 ^ 2^1·D1 ^ …   in GF(2^8) modulo 0x11d (gf.h)
//
// What holds for every function here:
// - A *target* (P, Q, a recovered strip, the destination of a copy) is aligned to `alignment`. A
//   *source* may have any alignment.
// - Sizes are multiples of `alignment`; every source has the size of the target. 0 is allowed.
// - A nullptr among the sources stands for a strip of zeros and costs no memory traffic.
// - A source may be the very target; apart from that, targets overlap nothing.
// - At most `data_strips_max` data strips. Breaking any of these aborts (BRAID_REQUIRE).
// Source: H. Peter Anvin, "The mathematics of RAID-6", 2004.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "parity/bytes.h"

namespace braid::parity {

inline constexpr std::size_t alignment = 64;
inline constexpr std::size_t data_strips_max = 255;  // the order of 2: then weights repeat

using Sources = std::span<const std::byte* const>;
using Targets = std::span<std::byte* const>;

/// Whether targets go through the cache or around it (non-temporal stores). Streaming saves
/// reading a target before it is overwritten, and costs much when the target was in the cache or
/// is read soon. `automatic` streams when the call alone is too big for the caches.
enum class Store { automatic, cached, streamed };

/// target = XOR of all sources (at least one).
void xor_into(ByteSpan target, Sources sources, Store store = Store::automatic);

/// data[i] has weight 2^i in Q. At least one data strip (they may all be nullptr).
void compute_p(ByteSpan p, Sources data, Store store = Store::automatic);
void compute_q(ByteSpan q, Sources data, Store store = Store::automatic);
void compute_pq(ByteSpan p, ByteSpan q, Sources data, Store store = Store::automatic);

/// The same, and copies each source to its destination on the way. There are as many destinations
/// as sources; a nullptr destination is not written; that of a nullptr source is zeroed.
void compute_p_copy(ByteSpan p, Sources sources, Targets destinations,
                    Store store = Store::automatic);
void compute_pq_copy(ByteSpan p, ByteSpan q, Sources sources, Targets destinations,
                     Store store = Store::automatic);

/// Small write: P ^= d, Q ^= 2^index·d with d = old_data ^ new_data. Either may be nullptr (zeros):
/// so a strip is taken out of P and Q, or put in.
void update_p(ByteSpan p, const std::byte* old_data, const std::byte* new_data);
void update_q(ByteSpan q, std::size_t index, const std::byte* old_data, const std::byte* new_data);
void update_pq(ByteSpan p, ByteSpan q, std::size_t index, const std::byte* old_data,
               const std::byte* new_data);

/// The same rows of all strips of one stripe. A data strip that is not lost is only read.
struct Strips {
    std::span<std::byte* const> data;  // a nullptr that is not lost stands for zeros
    std::byte* p = nullptr;
    std::byte* q = nullptr;  // nullptr where the level has no Q
    std::size_t size = 0;    // bytes of each
};

/// Which strips are lost: one or two of them, `second` only after `first`.
struct Lost {
    std::optional<std::size_t> first = {};   // index of a data strip
    std::optional<std::size_t> second = {};  // index of another one
    bool p = false;
    bool q = false;
};

/// Computes the lost strips from the others: D, P, Q, D+D, D+P, D+Q or P+Q, each in one pass.
/// A lost strip whose pointer is nullptr is not wanted and is not written, so a degraded read needs
/// room only for what it reads. P must be there unless it is lost; Q must be there if it is needed
/// (D+D, D+P).
void recover(const Strips& strips, const Lost& lost, Store store = Store::automatic);

/// Whether P is that of the data.
bool matches_p(ByteView p, Sources data);

/// Whether P and Q are those of the data.
bool matches_pq(ByteView p, ByteView q, Sources data);

/// What a scrub finds in a row.
struct Located {
    enum class What {
        none,     // P and Q are right
        data,     // only data[index] is wrong: recover it as if it were lost
        p,        // only P is wrong
        q,        // only Q is wrong
        several,  // no single strip explains P and Q
    };
    What what = What::none;
    std::size_t index = 0;
    bool operator==(const Located&) const = default;
};

/// Which single strip is wrong. All bytes must agree on it, so give whole rows: one byte alone
/// always accuses some strip, and a longer range may well contain two different faults.
/// P, Q and data may have any alignment.
/// @source Anvin, section 4: Q ^ Q' = 2^index · (P ^ P') where only data[index] is wrong
Located locate(ByteView p, ByteView q, Sources data);

}  // namespace braid::parity
