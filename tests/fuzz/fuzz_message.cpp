// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a message between nodes, as they are and with the checksum made right: refused with
// a reason, or decoded to a header that keeps every rule and that re-encodes to the same bytes.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "cluster/wire/message_header.h"
#include "engine/base/crc32c.h"
#include "engine/layout/register.h"

using namespace braid;
using namespace braid::cluster;

namespace {

void check_message(ByteView bytes, ByteView payload) {
    const auto sizes = message_sizes(bytes);
    const auto message = decode_message(bytes);
    if (!message) {
        BRAID_REQUIRE(!message.error().text.empty());
        return;
    }
    if (const auto fits = check_payload(*message, payload); !fits) {
        BRAID_REQUIRE(!fits.error().text.empty());
        return;
    }
    BRAID_REQUIRE(sizes.has_value());
    BRAID_REQUIRE(sizes->body == message->body.size());
    BRAID_REQUIRE(sizes->payload == payload.size());
    const MessageHeader& header = message->header;
    BRAID_REQUIRE(is_known(header.type));
    BRAID_REQUIRE(header.sender != 0 && header.sender < nodes_max);
    BRAID_REQUIRE(header.fence <= epoch_max);
    Buffer again(bytes.size());
    encode_message(header, message->body, payload, message->check, again.span());
    BRAID_REQUIRE(std::ranges::equal(again.view(), bytes));
}

}  // namespace

/// A message, and a payload of zeroes of as many rows as it asks for, up to three.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView input{reinterpret_cast<const std::byte*>(data), size};
    const auto sizes = message_sizes(input);
    const Buffer payload(sizes && sizes->payload <= 3 * 4096 ? sizes->payload : 0);
    check_message(input, payload.view());
    if (size < message_header_size) return 0;
    Buffer sealed(size);
    std::memcpy(sealed.data(), data, size);
    MessageHeaderBytes raw;
    std::memcpy(&raw, sealed.data(), sizeof raw);
    raw.magic = message_magic;
    raw.version = message_version;
    raw.body_size = static_cast<std::uint32_t>(size - sizeof raw);
    std::memcpy(sealed.data(), &raw, sizeof raw);
    raw.crc32c = crc32c(sealed.view().subspan(offsetof(MessageHeaderBytes, version)));
    std::memcpy(sealed.data(), &raw, sizeof raw);
    check_message(sealed.view(), payload.view());
    return 0;
}

std::vector<std::string> fuzz_samples() {
    std::vector<std::string> samples;
    for (const std::size_t rows : {0U, 1U, 3U}) {
        for (const PayloadCheck check : {PayloadCheck::none, PayloadCheck::crc}) {
            MessageHeader header;
            header.type = MessageType::stage;
            header.sender = 31;
            header.boot = 77;
            header.fence = 435200000007;
            header.number = 9;
            header.received = 8;
            const Buffer body(16 * rows);
            const Buffer payload(4096 * rows);
            Buffer bytes(message_header_size + body.size());
            encode_message(header, body.view(), payload.view(), check, bytes.span());
            samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        }
    }
    return samples;
}
