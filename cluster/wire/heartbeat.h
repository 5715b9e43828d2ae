// SPDX-License-Identifier: BSD-3-Clause
// The body of HEARTBEAT, which two nodes send each other over a connection of its own, again and
// again. braid-protocol(7) has the table.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/wire/message_header.h"
#include "engine/base/endian.h"
#include "engine/base/result.h"

namespace braid::cluster {

namespace heartbeat_flags {
inline constexpr std::uint32_t extends = 1;  // the echo extends the receiver's lease
inline constexpr std::uint32_t asks = 2;     // the receiver answers at once
inline constexpr std::uint32_t leased = 4;   // the sender has its own lease just now
inline constexpr std::uint32_t known = extends | asks | leased;
}  // namespace heartbeat_flags

struct HeartbeatBytes {
    Le64 stamp;    //  0  the sender's clock: nanoseconds, not zero, and more each time
    Le64 echo;     //  8  the last stamp of the receiver that has come; zero: none
    Le64 held;     // 16  nanoseconds for which the sender has had that; zero without it
    Le32 hears;    // 24  bit i: it hears node i; bit 0 is zero
    Le32 flags;    // 28  others than those above are refused
    Le64 epoch;    // 32  in force at the sender; zero: it has no array
    Le64 promise;  // 40  the highest that it has promised to follow
};
static_assert(sizeof(HeartbeatBytes) == 48 && is_packed_v<HeartbeatBytes>);
static_assert(nodes_max <= 32);  // bits of `hears`

struct Heartbeat {
    std::uint64_t stamp{0};
    std::uint64_t echo{0};
    std::uint64_t held{0};
    std::uint32_t hears{0};
    std::uint32_t flags{0};
    std::uint64_t epoch{0};
    std::uint64_t promise{0};
    bool operator==(const Heartbeat&) const = default;
};

/// What decode_heartbeat() would refuse must not be passed.
std::vector<std::byte> encode_heartbeat(const Heartbeat& heartbeat);
/// Refuses another size, and fields that are not as above.
Checked<Heartbeat> decode_heartbeat(ByteView body);

}  // namespace braid::cluster
