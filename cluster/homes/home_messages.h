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

/// LOCK_READ: as LOCK, and rows that are to come with the answer.
struct LockReadBytes {
    LockBytes lock;  //  0
    Le32 member;     // 32
    Le32 reserved;   // 36  sent as zero, refused otherwise
    Le64 read;       // 40  of these rows, some; the answer's payload has them, or there is none
};
static_assert(sizeof(LockReadBytes) == 48 && is_packed_v<LockReadBytes>);

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

/// ENDED: from 1 to message_ends_max of these, in their order.
struct EndBytes {
    Le32 what;    //  0  see EndKind
    Le32 member;  //  4  of EndKind::rebuilt; zero otherwise
    Le64 value;   //  8
};
static_assert(sizeof(EndBytes) == 16 && is_packed_v<EndBytes>);
enum class EndKind : std::uint32_t {
    decided = 1,   // the write happens
    dropped = 2,   // it does not
    rebuilt = 3,   // of what is unlocked next: windows of the member before this one are rebuilt
    unlocked = 4,  // the claim is over
};

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

/// Every answer; behind it, in that of LOCK and LOCK_READ, RebuiltBytes.
struct HomeAnswerBytes {
    Le32 outcome;   //  0  DriveOutcome: 0 done, 1 failed, 2 lost, 3 fenced
    Le32 os_error;  //  4  Linux's errno; 0 if done
};
static_assert(sizeof(HomeAnswerBytes) == 8 && is_packed_v<HomeAnswerBytes>);

/// For a session: with everything but the fence.
QueuedMessage encode_command(HomeCommand command);
/// What is not answered goes along with what is about to be sent, if that ends something, too.
/// False: it needs a message of its own.
bool add_to(QueuedMessage* message, const HomeCommand& command);
/// What a message asks of a home: of ENDED one command for each write and each claim. The bytes of a
/// read have no place yet.
/// @param from  whoever sent it
Checked<std::vector<HomeCommand>> decode_command(const Message& message, Buffer payload,
                                                 NodeBoot from, const Geometry& geometry);

/// @param number   of the command's message
/// @param payload  of a read that was done: its rows
QueuedMessage encode_answer(HomeCommandKind kind, std::uint64_t number, const HomeAnswer& answer,
                            Buffer payload);
/// @param payload_size  that a read which was done has, or a lock may have; the message has none
///                      otherwise
Checked<HomeAnswer> decode_answer(HomeCommandKind kind, std::uint64_t payload_size,
                                  const Message& message, const Geometry& geometry);

/// Of a lock that brings no bytes.
MessageType type_of(HomeCommandKind kind);
/// Of a command to a home that is answered; nothing: it is none.
std::optional<HomeCommandKind> kind_of(MessageType type);
/// A command to a home, answered or not.
bool is_for_home(MessageType type);

}  // namespace braid::cluster
