// SPDX-License-Identifier: BSD-3-Clause
// What heads each message between two nodes. Behind it come the body, which depends on the type,
// and the payload, which is whole rows: a receiver reads the header, learns both sizes, and has the
// payload land in an aligned buffer of its own. Pure functions. braid-protocol(7) has the tables.
//
// The header's checksum covers the body, too. The payload has one of its own, with a flag: it is
// left out where the connection carries one.
//
// A session (cluster/bus/) numbers its messages, from 1 on, so that each arrives once although
// connections break: `number`, and `received`, which is the last number that has come from the other
// side. What opens a connection, or closes it, has number 0. A command's answer names the command's
// number; answers come in any order.
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
inline constexpr std::uint16_t message_version = 3;

/// A retired number stays retired: 5 to 8 were words of their own, which ENDED has together. 10 is
/// not used: a record of the write intent is a DISK_WRITE, which the home looks into.
enum class MessageType : std::uint16_t {
    read = 1,
    lock = 2,
    lock_read = 3,
    stage = 4,
    flush = 9,
    progress = 11,
    settled = 12,
    finished = 13,
    ended = 14,
    // of connections, without a number
    hello = 16,
    refused = 17,
    received = 18,
    heartbeat = 19,  // over a connection for nothing else
    // to a disk that another node has opened
    disk_read = 32,
    disk_write = 33,
    disk_zero = 34,
    disk_flush = 35,
    // whose bodies are the business of whoever asks
    ask = 40,
    tell = 41,
};
bool is_known(MessageType type);
/// Part of a session, and so numbered.
constexpr bool is_numbered(MessageType type) {
    return type != MessageType::hello && type != MessageType::refused &&
           type != MessageType::received && type != MessageType::heartbeat;
}
std::string_view name_of(MessageType type);

namespace message_flags {
inline constexpr std::uint16_t payload_crc = 1;  // the payload's checksum is there
inline constexpr std::uint16_t fua = 2;          // durable before it is answered
inline constexpr std::uint16_t known = payload_crc | fua;
}  // namespace message_flags

struct MessageHeaderBytes {
    std::array<char, 4> magic;  //  0  "BRDM"
    Le32 crc32c;                //  4  of bytes 8 … 87 and of the body
    Le16 version;               //  8  an unknown one is refused, not guessed
    Le16 type;                  // 10
    Le16 flags;                 // 12  others than those above are refused
    Le16 sender;                // 14  1 … nodes_max - 1
    Le64 boot;                  // 16  of the sender, not zero
    Le64 fence;                 // 24  the epoch of the last barrier, at most epoch_max
    Le64 number;                // 32  in the session; zero of what is not numbered
    Le64 answers;               // 40  the number of the command that it answers; else zero
    Le64 received;              // 48  the last number that has come from the receiver
    Le64 finished;              // 56  RowBook::finished(), of the sender
    Le64 applied_upto;          // 64  RowBook::applied_upto(), in answers; else zero
    Le32 body_size;             // 72  at most message_body_size_max
    Le32 payload_size;          // 76  whole rows, at most message_payload_size_max
    Le32 payload_crc32c;        // 80  zero without its flag
    Le32 reserved;              // 84  sent as zero, refused otherwise
};
inline constexpr std::size_t message_header_size = 88;
static_assert(sizeof(MessageHeaderBytes) == message_header_size && is_packed_v<MessageHeaderBytes>);

struct MessageHeader {
    MessageType type{MessageType::read};
    std::uint16_t flags{0};  // but payload_crc, which follows of how it is encoded
    std::uint16_t sender{0};
    std::uint64_t boot{0};
    std::uint64_t fence{0};
    std::uint64_t number{0};
    std::uint64_t answers{0};
    std::uint64_t received{0};
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
/// @param into     message_header_size bytes, and as many as the body has
void encode_message(const MessageHeader& header, ByteView body, ByteView payload,
                    PayloadCheck check, ByteSpan into);

/// What is to be read behind a header, before anything else of it may be believed: both are in
/// their bounds. Refused: fewer than message_header_size bytes, another magic or version, sizes
/// that cannot be.
Checked<MessageSizes> message_sizes(ByteView header);

struct Message {
    MessageHeader header;
    ByteView body;  // of the bytes that were decoded; lives as long as they do
    std::uint32_t payload_size{0};
    PayloadCheck check{PayloadCheck::none};
    std::uint32_t payload_crc32c{0};
};
/// @param bytes  header and body, and nothing behind them
/// Refuses what message_sizes() does, wrong sizes, a wrong checksum, and fields out of their range.
Checked<Message> decode_message(ByteView bytes);
/// Refuses another size than the header said, and a wrong checksum.
Checked<Unit> check_payload(const Message& message, ByteView payload);

}  // namespace braid::cluster
