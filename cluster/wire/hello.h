// SPDX-License-Identifier: BSD-3-Clause
// The bodies of HELLO, with which each side of a connection begins, the one that connects first, and
// of REFUSED, with which it ends where the other side may not come in. braid-protocol(7) has the
// tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/wire/message_header.h"
#include "engine/base/endian.h"
#include "engine/base/result.h"

namespace braid::cluster {

/// What goes over the connection.
enum class ConnectionKind : std::uint16_t {
    session = 0,    // commands and answers
    heartbeat = 1,  // HEARTBEAT, and nothing else
};

struct HelloBytes {
    Le16 oldest;    //  0  versions that the sender speaks: from this one
    Le16 newest;    //  2  to this one
    Le16 receiver;  //  4  whom it takes the other side for
    Le16 kind;      //  6  ConnectionKind
    Le64 knows;     //  8  the receiver's boot that it last spoke to; zero: none, or a heartbeat's
    // 16  the cluster's name, 1 to name_length_max bytes
};
static_assert(sizeof(HelloBytes) == 16 && is_packed_v<HelloBytes>);

struct Hello {
    std::uint16_t oldest{message_version};
    std::uint16_t newest{message_version};
    std::uint16_t receiver{0};
    ConnectionKind kind{ConnectionKind::session};
    std::uint64_t knows{0};
    std::string cluster;
    bool operator==(const Hello&) const = default;
};

std::vector<std::byte> encode_hello(const Hello& hello);
/// Refuses a size that cannot be, a kind that is not known, a name with other than printable ASCII
/// characters, and versions that go backwards.
Checked<Hello> decode_hello(ByteView body);

/// What the other side is to make of it, beside showing the reason.
enum class RefusedCode : std::uint16_t {
    other = 0,
    gone = 1,  // the sender has taken the receiver for gone, and its array has stopped for that
    excluded =
        2,  // that start of the receiver is over: others go on without it, and let another one in
};

struct RefusedBytes {
    Le16 code;      //  0
    Le16 reserved;  //  2  sent as zero
    // 4  the reason, at most refused_text_max bytes
};
static_assert(sizeof(RefusedBytes) == 4 && is_packed_v<RefusedBytes>);

struct Refused {
    RefusedCode code{RefusedCode::other};
    std::string why;  // for people
    bool operator==(const Refused&) const = default;
};

/// At most refused_text_max bytes of the reason are sent.
std::vector<std::byte> encode_refused(const Refused& refused);
/// Any bytes: what is not printable ASCII comes as a question mark, and a code that is not known is
/// `other`, for the connection is over in any case.
Refused decode_refused(ByteView body);

}  // namespace braid::cluster
