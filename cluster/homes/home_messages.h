// SPDX-License-Identifier: BSD-3-Clause
// Commands to a home, and its answers, as messages between nodes, to the byte. Pure.
// braid-protocol(7) has the tables. What is decoded keeps what these say of their values, and is
// within the geometry.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cluster/bus/session_queue.h"
#include "cluster/homes/home_link.h"
#include "cluster/wire/message_header.h"
#include "engine/base/endian.h"
#include "engine/layout/geometry.h"

namespace braid::cluster {

struct ReadBytes {
    Le32 member;  //  0
    Le32 count;   //  4  rows, from 1 on; the answer's payload has as many
    Le64 first;   //  8  row of the member
};
static_assert(sizeof(ReadBytes) == 16 && is_packed_v<ReadBytes>);

struct LockBytes {
    Le64 claim;     //  0  from 1 on, never used again within a boot
    Le64 window;    //  8
    Le64 rows;      // 16  bit i is row i of the window; not zero
    Le32 mode;      // 24  0 exclusive, 1 shared
    Le32 reserved;  // 28  sent as zero, refused otherwise
};
static_assert(sizeof(LockBytes) == 32 && is_packed_v<LockBytes>);

namespace stage_flags {
inline constexpr std::uint32_t zeroes = 1;    // there is no payload: the rows become zeroes
inline constexpr std::uint32_t may_free = 2;  // and space may be given back
inline constexpr std::uint32_t known = zeroes | may_free;
}  // namespace stage_flags

struct StageBytes {
    Le64 write;         //  0  from 1 on, never used again within a boot
    Le64 window;        //  8
    Le64 rows;          // 16  the payload has these, one after the other
    Le64 participants;  // 24  bit i is member i; `member` is one of them
    Le32 member;        // 32
    Le32 flags;         // 36  others than those above are refused
};
static_assert(sizeof(StageBytes) == 40 && is_packed_v<StageBytes>);

/// UNLOCK: the claim, and behind it how far rebuilds are, of at most members_max members.
struct UnlockBytes {
    Le64 claim;  //  0
};
static_assert(sizeof(UnlockBytes) == 8 && is_packed_v<UnlockBytes>);
struct RebuiltBytes {
    Le32 member;    //  0
    Le32 reserved;  //  4  sent as zero, refused otherwise
    Le64 upto;      //  8  windows before this one are rebuilt
};
static_assert(sizeof(RebuiltBytes) == 16 && is_packed_v<RebuiltBytes>);

struct FlushBytes {
    Le32 member;    //  0
    Le32 reserved;  //  4  sent as zero, refused otherwise
};
static_assert(sizeof(FlushBytes) == 8 && is_packed_v<FlushBytes>);

/// DECIDED and DROP: ids of writes, from 1 to message_writes_max of them.
using WriteIdBytes = Le64;

/// Every answer; behind it, in that of LOCK, RebuiltBytes.
struct HomeAnswerBytes {
    Le32 outcome;   //  0  DriveOutcome: 0 done, 1 failed, 2 lost, 3 fenced
    Le32 os_error;  //  4  Linux's errno; 0 if done
};
static_assert(sizeof(HomeAnswerBytes) == 8 && is_packed_v<HomeAnswerBytes>);

/// For a session: with everything but the fence.
QueuedMessage encode_command(HomeCommand command);
/// What a message asks of a home: of DECIDED and DROP one command for each write. The bytes of a
/// read have no place yet.
/// @param from  whoever sent it
Checked<std::vector<HomeCommand>> decode_command(const Message& message, Buffer payload,
                                                 NodeBoot from, const Geometry& geometry);

/// @param number   of the command's message
/// @param payload  of a read that was done: its rows
QueuedMessage encode_answer(HomeCommandKind kind, std::uint64_t number, const HomeAnswer& answer,
                            Buffer payload);
/// @param payload_size  that a read which was done has; the message has none otherwise
Checked<HomeAnswer> decode_answer(HomeCommandKind kind, std::uint64_t payload_size,
                                  const Message& message, const Geometry& geometry);

MessageType type_of(HomeCommandKind kind);
/// Nothing: it is no command to a home.
std::optional<HomeCommandKind> kind_of(MessageType type);

}  // namespace braid::cluster
