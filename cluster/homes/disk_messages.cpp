// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/disk_messages.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

constexpr std::uint32_t errno_max = 4095;  // of Linux

MessageType type_of(DiskOpKind kind) {
    switch (kind) {
        case DiskOpKind::read:
            return MessageType::disk_read;
        case DiskOpKind::write:
            return MessageType::disk_write;
        case DiskOpKind::zero:
            return MessageType::disk_zero;
        case DiskOpKind::flush:
            break;
    }
    return MessageType::disk_flush;
}

DiskOpKind kind_of_disk(MessageType type) {
    switch (type) {
        case MessageType::disk_read:
            return DiskOpKind::read;
        case MessageType::disk_write:
            return DiskOpKind::write;
        case MessageType::disk_zero:
            return DiskOpKind::zero;
        default:
            break;
    }
    BRAID_REQUIRE(type == MessageType::disk_flush);
    return DiskOpKind::flush;
}

Refusal refused_disk(MessageType type, const std::string& why) {
    return {fmt::format("{} is refused: {}", name_of(type), why), RefusalCode::invalid};
}

template <class Bytes>
QueuedMessage message_of(MessageType type, const Bytes& bytes, Buffer payload) {
    QueuedMessage message;
    message.header.type = type;
    const auto* from = reinterpret_cast<const std::byte*>(&bytes);
    message.body.assign(from, from + sizeof bytes);
    message.payload = std::move(payload);
    return message;
}

}  // namespace

QueuedMessage encode_disk_command(const DiskCommand& command, Buffer payload) {
    BRAID_REQUIRE(payload.size() == (command.kind == DiskOpKind::write ? command.size : 0));
    DiskCommandBytes bytes{};
    bytes.disk = command.disk;
    bytes.flags = command.may_free ? disk_flag_may_free : 0;
    bytes.offset = command.offset;
    bytes.size = command.size;
    QueuedMessage message = message_of(type_of(command.kind), bytes, std::move(payload));
    message.header.flags = command.fua ? message_flags::fua : std::uint16_t{0};
    return message;
}

Checked<DiskCommand> decode_disk_command(const Message& message) {
    const MessageType type = message.header.type;
    DiskCommandBytes bytes;
    if (message.body.size() != sizeof bytes) {
        return refused_disk(type, "its body has another size");
    }
    std::memcpy(&bytes, message.body.data(), sizeof bytes);
    DiskCommand command;
    command.kind = kind_of_disk(type);
    command.disk = bytes.disk;
    command.offset = bytes.offset;
    command.size = bytes.size;
    const std::uint32_t flags = bytes.flags;
    command.may_free = flags == disk_flag_may_free;
    command.fua = (message.header.flags & message_flags::fua) != 0;
    const bool is_flush = command.kind == DiskOpKind::flush;
    if (flags != 0 && (command.kind != DiskOpKind::zero || flags != disk_flag_may_free)) {
        return refused_disk(type, fmt::format("unknown flags {:#x}", flags));
    }
    if (command.fua && command.kind != DiskOpKind::write) {
        return refused_disk(type, "only a write is durable at once");
    }
    if (is_flush && (command.offset != 0 || command.size != 0)) {
        return refused_disk(type, "a flush is of a whole disk");
    }
    if (!is_flush && (command.size == 0 || !is_row_aligned(command.size) ||
                      !is_row_aligned(command.offset) ||
                      command.size > ~std::uint64_t{0} - command.offset)) {
        return refused_disk(type, fmt::format("{} bytes at {} are not whole rows", command.size,
                                              command.offset));
    }
    const bool has_bytes =
        command.kind == DiskOpKind::read || command.kind == DiskOpKind::write;
    if (has_bytes && command.size > disk_piece_max) {
        return refused_disk(type, fmt::format("{} bytes are more than {}", command.size,
                                              disk_piece_max));
    }
    const std::uint64_t payload = command.kind == DiskOpKind::write ? command.size : 0;
    if (message.payload_size != payload) {
        return refused_disk(type, fmt::format("its payload has {} bytes, and not {}",
                                              message.payload_size, payload));
    }
    return command;
}

QueuedMessage encode_disk_answer(DiskOpKind kind, std::uint64_t number, int os_error,
                                 Buffer payload) {
    DiskAnswerBytes bytes{};
    bytes.os_error = static_cast<std::uint32_t>(os_error);
    QueuedMessage message = message_of(type_of(kind), bytes, std::move(payload));
    message.header.answers = number;
    return message;
}

Checked<int> decode_disk_answer(DiskOpKind kind, std::uint64_t size, const Message& message) {
    const MessageType type = message.header.type;
    if (type != type_of(kind)) return refused_disk(type, "it answers another command");
    DiskAnswerBytes bytes;
    if (message.body.size() != sizeof bytes) {
        return refused_disk(type, "its body has another size");
    }
    std::memcpy(&bytes, message.body.data(), sizeof bytes);
    if (std::uint32_t{bytes.reserved} != 0) {
        return refused_disk(type, "reserved bytes are not zero");
    }
    const std::uint32_t os_error = bytes.os_error;
    if (os_error > errno_max) return refused_disk(type, fmt::format("errno {}", os_error));
    const std::uint64_t payload = kind == DiskOpKind::read && os_error == 0 ? size : 0;
    if (message.payload_size != payload) {
        return refused_disk(type, fmt::format("its payload has {} bytes, and not {}",
                                              message.payload_size, payload));
    }
    return static_cast<int>(os_error);
}

}  // namespace braid::cluster
