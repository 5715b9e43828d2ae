// SPDX-License-Identifier: BSD-3-Clause
// What a node asks of a disk that another one has opened, as messages between nodes, to the byte:
// for what lies in front of the data. braid-protocol(7) has the tables. Pure.
#pragma once

#include <cstdint>

#include "cluster/bus/session_queue.h"
#include "cluster/wire/message_header.h"
#include "engine/base/endian.h"
#include "engine/io/disk.h"

namespace braid::cluster {

/// DISK_READ, DISK_WRITE, DISK_ZERO, DISK_FLUSH: which disk of the receiver, and where. The payload
/// of a write, and of the answer to a read that was done, has `size` bytes.
struct DiskCommandBytes {
    Le32 disk;    //  0  as the receiver numbers them
    Le32 flags;   //  4  zero: 1, space may be given back; all else is refused
    Le64 offset;  //  8  bytes from the start of the device, of a whole row; 0 of a flush
    Le64 size;    // 16  bytes, whole rows; 0 of a flush
};
static_assert(sizeof(DiskCommandBytes) == 24 && is_packed_v<DiskCommandBytes>);
inline constexpr std::uint32_t disk_flag_may_free = 1;

struct DiskAnswerBytes {
    Le32 os_error;  //  0  Linux's errno; 0 if done
    Le32 reserved;  //  4  sent as zero, refused otherwise
};
static_assert(sizeof(DiskAnswerBytes) == 8 && is_packed_v<DiskAnswerBytes>);

/// More is asked for piece by piece; but for zeroes, which have no payload.
inline constexpr std::uint32_t disk_piece_max = 1u << 20;
static_assert(disk_piece_max <= message_payload_size_max);

struct DiskCommand {
    std::uint32_t disk{0};
    DiskOpKind kind{DiskOpKind::read};
    std::uint64_t offset{0};
    std::uint64_t size{0};
    bool fua{false};
    bool may_free{false};
    bool operator==(const DiskCommand&) const = default;
};

/// For a session: with everything but the fence.
/// @param payload  of a write
QueuedMessage encode_disk_command(const DiskCommand& command, Buffer payload);
Checked<DiskCommand> decode_disk_command(const Message& message);

/// @param number   of the command's message
/// @param payload  of a read that was done
QueuedMessage encode_disk_answer(DiskOpKind kind, std::uint64_t number, int os_error,
                                 Buffer payload);
/// The errno, or 0.
/// @param size  that the command asked for
Checked<int> decode_disk_answer(DiskOpKind kind, std::uint64_t size, const Message& message);

}  // namespace braid::cluster
