// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/wire/message_header.h"

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <utility>

#include "engine/base/crc32c.h"
#include "engine/base/units.h"
#include "engine/layout/register.h"

namespace braid::cluster {
namespace {

constexpr std::size_t crc_start = offsetof(MessageHeaderBytes, version);

Refusal refused(std::string why) {
    return {fmt::format("a message between nodes is refused: {}", std::move(why)),
            RefusalCode::invalid};
}

MessageHeaderBytes header_of(ByteView bytes) {
    MessageHeaderBytes raw;
    std::memcpy(&raw, bytes.data(), sizeof raw);
    return raw;
}

Checked<Unit> check_numbers(const MessageHeaderBytes& raw) {
    const bool numbered = is_numbered(MessageType{static_cast<std::uint16_t>(raw.type)});
    const std::uint64_t number = raw.number;
    const std::uint64_t answers = raw.answers;
    const std::uint64_t applied_upto = raw.applied_upto;
    if (numbered && number == 0) return refused("it has no number");
    if (!numbered && number != 0) return refused(fmt::format("number {} of what has none", number));
    if (!numbered && answers != 0)
        return refused("it cannot be an answer, and says that it is one");
    if (answers == 0 && applied_upto != 0) {
        return refused("it is no answer, but says what is applied");
    }
    return Unit{};
}

Checked<Unit> check_fields(const MessageHeaderBytes& raw) {
    const std::uint16_t type = raw.type;
    const std::uint16_t flags = raw.flags;
    const std::uint16_t sender = raw.sender;
    const std::uint64_t boot = raw.boot;
    const std::uint64_t fence = raw.fence;
    const std::uint32_t payload_size = raw.payload_size;
    const std::uint32_t payload_crc = raw.payload_crc32c;
    const std::uint32_t reserved = raw.reserved;
    const bool has_crc = (flags & message_flags::payload_crc) != 0;
    if (!is_known(MessageType{type})) return refused(fmt::format("type {} is not known", type));
    if ((flags & ~message_flags::known) != 0) {
        return refused(fmt::format("flags {:#x} are not known", flags & ~message_flags::known));
    }
    if (sender == 0 || sender >= nodes_max) {
        return refused(
            fmt::format("its sender is node {}; nodes are 1 to {}", sender, nodes_max - 1));
    }
    if (boot == 0) return refused("its sender has no boot");
    if (fence > epoch_max) return refused(fmt::format("its fence {} is beyond any", fence));
    if (has_crc && payload_size == 0) return refused("a payload's CRC-32C without a payload");
    if (!has_crc && payload_crc != 0) return refused("a payload's CRC-32C without its flag");
    if (reserved != 0) return refused("reserved bytes are not zero");
    return check_numbers(raw);
}

}  // namespace

bool is_known(MessageType type) { return !name_of(type).empty(); }

std::string_view name_of(MessageType type) {
    switch (type) {
        case MessageType::read:
            return "READ";
        case MessageType::lock:
            return "LOCK";
        case MessageType::lock_read:
            return "LOCK_READ";
        case MessageType::stage:
            return "STAGE";
        case MessageType::flush:
            return "FLUSH";
        case MessageType::progress:
            return "PROGRESS";
        case MessageType::settled:
            return "SETTLED";
        case MessageType::finished:
            return "FINISHED";
        case MessageType::ended:
            return "ENDED";
        case MessageType::hello:
            return "HELLO";
        case MessageType::refused:
            return "REFUSED";
        case MessageType::received:
            return "RECEIVED";
        case MessageType::heartbeat:
            return "HEARTBEAT";
        case MessageType::disk_read:
            return "DISK_READ";
        case MessageType::disk_write:
            return "DISK_WRITE";
        case MessageType::disk_zero:
            return "DISK_ZERO";
        case MessageType::disk_flush:
            return "DISK_FLUSH";
        case MessageType::ask:
            return "ASK";
        case MessageType::tell:
            return "TELL";
    }
    return {};
}

void encode_message(const MessageHeader& header, ByteView body, ByteView payload,
                    PayloadCheck check, ByteSpan into) {
    BRAID_REQUIRE(body.size() <= message_body_size_max);
    BRAID_REQUIRE(payload.size() <= message_payload_size_max);
    BRAID_REQUIRE(payload.size() % row_size == 0);
    BRAID_REQUIRE((header.flags & message_flags::payload_crc) == 0);
    BRAID_REQUIRE(into.size() == message_header_size + body.size());
    MessageHeaderBytes raw{};
    raw.magic = message_magic;
    raw.version = message_version;
    raw.type = static_cast<std::uint16_t>(header.type);
    raw.flags = header.flags;
    raw.sender = header.sender;
    raw.boot = header.boot;
    raw.fence = header.fence;
    raw.number = header.number;
    raw.answers = header.answers;
    raw.received = header.received;
    raw.finished = header.finished;
    raw.applied_upto = header.applied_upto;
    raw.body_size = static_cast<std::uint32_t>(body.size());
    raw.payload_size = static_cast<std::uint32_t>(payload.size());
    if (check == PayloadCheck::crc && !payload.empty()) {
        raw.flags = static_cast<std::uint16_t>(header.flags | message_flags::payload_crc);
        raw.payload_crc32c = crc32c(payload);
    }
    BRAID_REQUIRE(check_fields(raw).has_value());
    std::memcpy(into.data(), &raw, sizeof raw);
    if (!body.empty()) std::memcpy(into.data() + sizeof raw, body.data(), body.size());
    raw.crc32c = crc32c(ByteView(into).subspan(crc_start));
    std::memcpy(into.data(), &raw, sizeof raw);
}

Checked<MessageSizes> message_sizes(ByteView header) {
    if (header.size() < sizeof(MessageHeaderBytes)) {
        return refused(
            fmt::format("{} bytes are no header of {}", header.size(), sizeof(MessageHeaderBytes)));
    }
    const MessageHeaderBytes raw = header_of(header);
    if (raw.magic != message_magic) return refused("it does not begin with BRDM");
    const std::uint16_t version = raw.version;
    if (version != message_version) {
        return refused(fmt::format("it has version {}; this braid knows version {}", version,
                                   message_version));
    }
    const MessageSizes sizes{raw.body_size, raw.payload_size};
    if (sizes.body > message_body_size_max) {
        return refused(fmt::format("a body of {} bytes; at most {} may be", sizes.body,
                                   message_body_size_max));
    }
    if (sizes.payload > message_payload_size_max || sizes.payload % row_size != 0) {
        return refused(fmt::format("a payload of {} bytes; whole rows up to {} may be",
                                   sizes.payload, message_payload_size_max));
    }
    return sizes;
}

Checked<Message> decode_message(ByteView bytes) {
    BRAID_TRY(const MessageSizes sizes, message_sizes(bytes));
    if (bytes.size() != sizeof(MessageHeaderBytes) + sizes.body) {
        return refused(fmt::format("header and body have {} bytes, and should have {}",
                                   bytes.size(), sizeof(MessageHeaderBytes) + sizes.body));
    }
    const MessageHeaderBytes raw = header_of(bytes);
    if (std::uint32_t{raw.crc32c} != crc32c(bytes.subspan(crc_start))) {
        return refused("its CRC-32C is wrong");
    }
    BRAID_CHECK(check_fields(raw));
    const std::uint16_t flags = raw.flags;
    Message message;
    MessageHeader& header = message.header;
    header.type = MessageType{static_cast<std::uint16_t>(raw.type)};
    header.flags = static_cast<std::uint16_t>(flags & ~message_flags::payload_crc);
    header.sender = raw.sender;
    header.boot = raw.boot;
    header.fence = raw.fence;
    header.number = raw.number;
    header.answers = raw.answers;
    header.received = raw.received;
    header.finished = raw.finished;
    header.applied_upto = raw.applied_upto;
    message.body = bytes.subspan(sizeof raw);
    message.payload_size = sizes.payload;
    if ((flags & message_flags::payload_crc) != 0) message.check = PayloadCheck::crc;
    message.payload_crc32c = raw.payload_crc32c;
    return message;
}

Checked<Unit> check_payload(const Message& message, ByteView payload) {
    if (payload.size() != message.payload_size) {
        return refused(fmt::format("its payload has {} bytes, and should have {}", payload.size(),
                                   message.payload_size));
    }
    if (message.check == PayloadCheck::crc && message.payload_crc32c != crc32c(payload)) {
        return refused("its payload's CRC-32C is wrong");
    }
    return Unit{};
}

}  // namespace braid::cluster
