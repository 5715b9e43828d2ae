// SPDX-License-Identifier: BSD-3-Clause
// For tests of what messages carry.
#pragma once

#include <cstdint>

#include "cluster/bus/session_queue.h"
#include "cluster/wire/message_header.h"

namespace braid::cluster {

/// As it arrives; it lives as long as what was sent.
inline Message arrived(const QueuedMessage& sent) {
    Message message;
    message.header = sent.header;
    message.body = sent.body;
    message.payload_size = static_cast<std::uint32_t>(sent.payload.size());
    return message;
}

/// A byte of a body that makes it wrong, and what is said of it.
template <class Kind>
struct WrongByte {
    Kind kind;
    std::size_t at;
    std::uint8_t value;
    const char* what;
};

}  // namespace braid::cluster
