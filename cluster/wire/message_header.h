// SPDX-License-Identifier: BSD-3-Clause
// What heads each message between two nodes. Behind it come the body, which depends on the type,
// and the payload, which is whole rows: a receiver reads the header, learns both sizes, and has the
// payload land in an aligned buffer of its own. Pure functions; nothing sends these messages yet.
// braid-protocol(7) has the tables.
//
// The header's checksum covers the body, too. The payload has one of its own, with a flag: it is
// left out where the connection carries one. Answers come in any order; `request` says to what.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "engine/base/buffer.h"
#include "engine/base/endian.h"
#include "engine/base/limits.h"
#include "engine/base/result.h"

namespace braid::cluster {

inline constexpr std::array<char, 4> message_magic{'B', 'R', 'D', 'M'};
inline constexpr std::uint16_t message_version = 1;

/// A retired number stays retired. 3, 5 and 10 are kept for LOCK_READ, WRITE_UNLOCK and RECORD:
/// until they have a form they are refused like any other that is not known.
enum class MessageType : std::uint16_t {
    read = 1,
    lock = 2,
    stage = 4,
    decided = 6,
    drop = 7,
    unlock = 8,
    flush = 9,
    progress = 11,
    settled = 12,
    finished = 13,
};
bool is_known(MessageType type);

namespace message_flags {
inline constexpr std::uint16_t reply = 1;        // an answer
inline constexpr std::uint16_t payload_crc = 2;  // the payload's checksum is there
inline constexpr std::uint16_t fua = 4;          // durable before it is answered
inline constexpr std::uint16_t known = reply | payload_crc | fua;
}  // namespace message_flags

struct MessageHeaderBytes {
    std::array<char, 4> magic;  //  0  "BRDM"
    Le32 crc32c;                //  4  of bytes 8 … 71 and of the body
    Le16 version;               //  8  an unknown one is refused, not guessed
    Le16 type;                  // 10
    Le16 flags;                 // 12  others than those above are refused
    Le16 sender;                // 14  1 … nodes_max - 1
    Le64 boot;                  // 16  of the sender
    Le64 fence;                 // 24  the epoch of the last barrier, at most epoch_max
    Le64 request;               // 32  an answer has that of its command
    Le64 finished;              // 40  RowBook::finished(), of the sender
    Le64 applied_upto;          // 48  RowBook::applied_upto(), in answers; else zero
    Le32 body_size;             // 56  at most message_body_size_max
    Le32 payload_size;          // 60  whole rows, at most message_payload_size_max
    Le32 payload_crc32c;        // 64  zero without its flag
    Le32 reserved;              // 68  sent as zero, refused otherwise
};
inline constexpr std::size_t message_header_size = 72;
static_assert(sizeof(MessageHeaderBytes) == message_header_size && is_packed_v<MessageHeaderBytes>);

struct MessageHeader {
    MessageType type{MessageType::read};
    std::uint16_t flags{0};  // but payload_crc, which follows of how it is encoded
    std::uint16_t sender{0};
    std::uint64_t boot{0};
    std::uint64_t fence{0};
    std::uint64_t request{0};
    std::uint64_t finished{0};
    std::uint64_t applied_upto{0};
    bool operator==(const MessageHeader&) const = default;
};

struct MessageSizes {
    std::uint32_t body{0};
    std::uint32_t payload{0};
    bool operator==(const MessageSizes&) const = default;
};

enum class PayloadCheck : std::uint8_t { none, crc };

/// Header and body, in this order. What decode_message() would refuse must not be passed.
/// @param payload  whole rows, or nothing; it is sent behind what is returned
/// @param check    crc: with the payload's checksum, if there is a payload
Buffer encode_message(const MessageHeader& header, ByteView body, ByteView payload,
                      PayloadCheck check);

/// What is to be read behind a header, before anything else of it may be believed: both are in
/// their bounds. Refused: fewer than message_header_size bytes, another magic or version, sizes
/// that cannot be.
Checked<MessageSizes> message_sizes(ByteView header);

struct Message {
    MessageHeader header;
    ByteView body;  // of the bytes that were decoded; lives as long as they do
};
/// @param bytes    header and body, and nothing behind them
/// @param payload  as many bytes as the header says
/// Refuses what message_sizes() does, wrong sizes and checksums, and fields out of their range.
Checked<Message> decode_message(ByteView bytes, ByteView payload);

}  // namespace braid::cluster
