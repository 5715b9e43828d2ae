// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/wire/hello.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

Refusal refused_hello(const std::string& why) {
    return {fmt::format("a HELLO is refused: {}", why), RefusalCode::invalid};
}

bool is_printable(char c) { return c >= 0x20 && c < 0x7f; }

std::string text_in(ByteView bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::vector<std::byte> encode_hello(const Hello& hello) {
    BRAID_REQUIRE(!hello.cluster.empty() && hello.cluster.size() <= name_length_max);
    HelloBytes raw{};
    raw.oldest = hello.oldest;
    raw.newest = hello.newest;
    raw.receiver = hello.receiver;
    raw.kind = static_cast<std::uint16_t>(hello.kind);
    raw.knows = hello.knows;
    std::vector<std::byte> bytes(sizeof raw + hello.cluster.size());
    std::memcpy(bytes.data(), &raw, sizeof raw);
    std::memcpy(bytes.data() + sizeof raw, hello.cluster.data(), hello.cluster.size());
    return bytes;
}

Checked<Hello> decode_hello(ByteView body) {
    if (body.size() <= sizeof(HelloBytes) || body.size() > sizeof(HelloBytes) + name_length_max) {
        return refused_hello(fmt::format("its body has {} bytes", body.size()));
    }
    HelloBytes raw;
    std::memcpy(&raw, body.data(), sizeof raw);
    Hello hello;
    hello.oldest = raw.oldest;
    hello.newest = raw.newest;
    hello.receiver = raw.receiver;
    hello.knows = raw.knows;
    hello.cluster = text_in(body.subspan(sizeof raw));
    const std::uint16_t kind = raw.kind;
    if (kind > static_cast<std::uint16_t>(ConnectionKind::heartbeat)) {
        return refused_hello(fmt::format("connections of kind {} are not known", kind));
    }
    hello.kind = ConnectionKind{kind};
    if (hello.kind == ConnectionKind::heartbeat && hello.knows != 0) {
        return refused_hello("a heartbeat's, and it says what it knows of the session");
    }
    if (hello.oldest > hello.newest) {
        return refused_hello(
            fmt::format("it speaks versions {} to {}", hello.oldest, hello.newest));
    }
    if (!std::ranges::all_of(hello.cluster, is_printable)) {
        return refused_hello("the cluster's name has characters that cannot be printed");
    }
    return hello;
}

std::vector<std::byte> encode_refused(const Refused& refused) {
    RefusedBytes raw{};
    raw.code = static_cast<std::uint16_t>(refused.code);
    const std::size_t size = std::min(refused.why.size(), refused_text_max);
    std::vector<std::byte> bytes(sizeof raw + size);
    std::memcpy(bytes.data(), &raw, sizeof raw);
    if (size != 0) std::memcpy(bytes.data() + sizeof raw, refused.why.data(), size);
    return bytes;
}

Refused decode_refused(ByteView body) {
    Refused refused;
    if (body.size() < sizeof(RefusedBytes)) return refused;
    RefusedBytes raw;
    std::memcpy(&raw, body.data(), sizeof raw);
    const RefusedCode code{std::uint16_t{raw.code}};
    const bool is_known = code == RefusedCode::gone || code == RefusedCode::excluded;
    if (is_known && std::uint16_t{raw.reserved} == 0) refused.code = code;
    const ByteView text = body.subspan(sizeof raw);
    refused.why = text_in(text.first(std::min(text.size(), refused_text_max)));
    std::ranges::replace_if(
        refused.why, [](char c) { return !is_printable(c); }, '?');
    return refused;
}

}  // namespace braid::cluster
