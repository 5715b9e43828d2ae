// SPDX-License-Identifier: BSD-3-Clause
// For codecs of messages' bodies: how packed bytes get in, and how what came is refused. Pure.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <vector>

#include "cluster/wire/message_header.h"

namespace braid::cluster {

inline Refusal refused_message(MessageType type, const std::string& why) {
    return {fmt::format("{} is refused: {}", name_of(type), why), RefusalCode::invalid};
}

template <class Bytes>
void append(std::vector<std::byte>& body, const Bytes& bytes) {
    static_assert(is_packed_v<Bytes>);
    const auto* from = reinterpret_cast<const std::byte*>(&bytes);
    body.insert(body.end(), from, from + sizeof bytes);
}

}  // namespace braid::cluster
