// SPDX-License-Identifier: BSD-3-Clause
// Operations on a disk that another node has opened, and what became of them, as messages between
// nodes, to the byte. Pure. braid-protocol(7) has the tables. What is decoded is whole rows within
// the largest member that can be; whether the disk has them is to be seen where the disk is.
#pragma once

#include <cstdint>
#include <optional>

#include "cluster/bus/session_queue.h"
#include "cluster/wire/message_header.h"
#include "engine/base/buffer.h"
#include "engine/base/endian.h"
#include "engine/io/disk.h"

namespace braid::cluster {

namespace disk_flags {
inline constexpr std::uint32_t may_free = 1;  // DISK_ZERO: space may be given back
}  // namespace disk_flags

/// DISK_READ, DISK_WRITE and DISK_ZERO.
struct DiskRangeBytes {
    Le32 disk;    //  0  a number that the node with the disk has given it
    Le32 flags;   //  4  DISK_ZERO: one of the above; else sent as zero, refused otherwise
    Le64 offset;  //  8  bytes from the start of the device, whole rows
    Le64 size;    // 16  bytes, whole rows, from one on; as many as a payload may have
};
static_assert(sizeof(DiskRangeBytes) == 24 && is_packed_v<DiskRangeBytes>);

struct DiskFlushBytes {
    Le32 disk;      //  0
    Le32 reserved;  //  4  sent as zero, refused otherwise
};
static_assert(sizeof(DiskFlushBytes) == 8 && is_packed_v<DiskFlushBytes>);

/// Every answer; the payload of one to DISK_READ is what was read, if it was.
struct DiskAnswerBytes {
    Le32 os_error;  //  0  Linux's errno; 0 if done
    Le32 reserved;  //  4  sent as zero, refused otherwise
};
static_assert(sizeof(DiskAnswerBytes) == 8 && is_packed_v<DiskAnswerBytes>);

struct DiskCommand {
    DiskOpKind kind{DiskOpKind::read};
    bool fua{false};          // write: durable before it is answered
    bool may_free{false};     // zero
    std::uint32_t disk{0};    // its number
    std::uint64_t offset{0};  // all but flush
    std::uint64_t size{0};    // all but flush
    Buffer content;           // write: `size` bytes
};

/// Whether these bytes of a disk can be asked for, in one message or in several: whole rows that
/// end within the largest member.
bool can_be_asked(std::uint64_t offset, std::uint64_t size);

MessageType type_of_disk_op(DiskOpKind kind);
/// Nothing: it is no command to a disk.
std::optional<DiskOpKind> disk_op_of(MessageType type);

/// For a session: with everything but the fence. What would be refused must not be passed.
QueuedMessage encode_disk_command(DiskCommand command);
/// Refused, with the field: a wrong size, bytes that cannot be asked for, more or less payload than
/// it has to have, flags or reserved bytes that are not known, FUA of what is no write.
Checked<DiskCommand> decode_disk_command(const Message& message, Buffer payload);

/// @param number   of the command's message
/// @param payload  of a read that was done: its bytes
QueuedMessage encode_disk_answer(DiskOpKind kind, std::uint64_t number, int os_error,
                                 Buffer payload);
/// @param payload_size  that a read which was done has; the message has none otherwise
/// @return              0, or an errno
Checked<int> decode_disk_answer(DiskOpKind kind, std::uint64_t payload_size,
                                const Message& message);

}  // namespace braid::cluster
