// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/disk_messages.h"

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <utility>

#include "cluster/wire/message_body.h"
#include "engine/base/limits.h"
#include "engine/base/units.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

template <class Bytes>
Checked<Bytes> whole_body(const Message& message) {
    static_assert(is_packed_v<Bytes>);
    if (message.body.size() != sizeof(Bytes)) {
        return refused_message(message.header.type,
                               fmt::format("its body has {} bytes, and should have {}",
                                           message.body.size(), sizeof(Bytes)));
    }
    Bytes bytes;
    std::memcpy(&bytes, message.body.data(), sizeof bytes);
    return bytes;
}

Checked<DiskCommand> decode_range(const Message& message, DiskCommand command) {
    const MessageType type = message.header.type;
    BRAID_TRY(const DiskRangeBytes bytes, whole_body<DiskRangeBytes>(message));
    command.disk = bytes.disk;
    command.offset = bytes.offset;
    command.size = bytes.size;
    const std::uint32_t flags = bytes.flags;
    const std::uint32_t known = command.kind == DiskOpKind::zero ? disk_flags::may_free : 0;
    if ((flags & ~known) != 0) return refused_message(type, fmt::format("flags {:#x}", flags));
    command.may_free = (flags & disk_flags::may_free) != 0;
    if (command.size == 0 || command.size > message_payload_size_max ||
        !is_row_aligned(command.size)) {
        return refused_message(type, fmt::format("size {} is not whole rows, from one to {} bytes",
                                                 command.size, message_payload_size_max));
    }
    if (!can_be_asked(command.offset, command.size)) {
        return refused_message(type,
                               fmt::format("offset {} is not at a row, or its {} bytes end behind "
                                           "the largest member",
                                           command.offset, command.size));
    }
    return command;
}

Checked<DiskCommand> decode_disk_flush(const Message& message, DiskCommand command) {
    BRAID_TRY(const DiskFlushBytes bytes, whole_body<DiskFlushBytes>(message));
    if (std::uint32_t{bytes.reserved} != 0) {
        return refused_message(message.header.type, "reserved bytes are not zero");
    }
    command.disk = bytes.disk;
    return command;
}

}  // namespace

bool can_be_asked(std::uint64_t offset, std::uint64_t size) {
    return is_row_aligned(offset) && is_row_aligned(size) && size != 0 && size <= member_size_max &&
           offset <= member_size_max - size;
}

MessageType type_of_disk_op(DiskOpKind kind) {
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

std::optional<DiskOpKind> disk_op_of(MessageType type) {
    for (const DiskOpKind kind :
         {DiskOpKind::read, DiskOpKind::write, DiskOpKind::zero, DiskOpKind::flush}) {
        if (type_of_disk_op(kind) == type) return kind;
    }
    return std::nullopt;
}

QueuedMessage encode_disk_command(DiskCommand command) {
    QueuedMessage message;
    message.header.type = type_of_disk_op(command.kind);
    if (command.kind == DiskOpKind::flush) {
        DiskFlushBytes body{};
        body.disk = command.disk;
        append(message.body, body);
        return message;
    }
    const bool is_write = command.kind == DiskOpKind::write;
    BRAID_REQUIRE(can_be_asked(command.offset, command.size));
    BRAID_REQUIRE(command.size <= message_payload_size_max);
    BRAID_REQUIRE(command.content.size() == (is_write ? command.size : 0));
    DiskRangeBytes body{};
    body.disk = command.disk;
    body.flags = command.kind == DiskOpKind::zero && command.may_free ? disk_flags::may_free : 0;
    body.offset = command.offset;
    body.size = command.size;
    append(message.body, body);
    if (is_write && command.fua) message.header.flags = message_flags::fua;
    message.payload = std::move(command.content);
    return message;
}

Checked<DiskCommand> decode_disk_command(const Message& message, Buffer payload) {
    const MessageType type = message.header.type;
    const auto kind = disk_op_of(type);
    if (!kind) return refused_message(type, "it is no command to a disk");
    const bool is_write = *kind == DiskOpKind::write;
    DiskCommand command;
    command.kind = *kind;
    command.fua = (message.header.flags & message_flags::fua) != 0;
    if (command.fua && !is_write)
        return refused_message(type, "the flag of FUA, which only writes have");
    if (*kind == DiskOpKind::flush) {
        BRAID_TRY(command, decode_disk_flush(message, std::move(command)));
    } else {
        BRAID_TRY(command, decode_range(message, std::move(command)));
    }
    const std::uint64_t size = is_write ? command.size : 0;
    if (payload.size() != size) {
        return refused_message(
            type, fmt::format("a payload of {} bytes, which should be {}", payload.size(), size));
    }
    command.content = std::move(payload);
    return command;
}

QueuedMessage encode_disk_answer(DiskOpKind kind, std::uint64_t number, int os_error,
                                 Buffer payload) {
    BRAID_REQUIRE(os_error >= 0 && static_cast<std::uint32_t>(os_error) <= os_error_max);
    QueuedMessage message;
    message.header.type = type_of_disk_op(kind);
    message.header.answers = number;
    DiskAnswerBytes body{};
    body.os_error = static_cast<std::uint32_t>(os_error);
    append(message.body, body);
    if (kind == DiskOpKind::read && os_error == 0) message.payload = std::move(payload);
    return message;
}

Checked<int> decode_disk_answer(DiskOpKind kind, std::uint64_t payload_size,
                                const Message& message) {
    const MessageType type = message.header.type;
    if (type != type_of_disk_op(kind)) {
        return refused_message(type, fmt::format("it answers {}", name_of(type_of_disk_op(kind))));
    }
    if ((message.header.flags & message_flags::fua) != 0) {
        return refused_message(type, "an answer with the flag of FUA");
    }
    BRAID_TRY(const DiskAnswerBytes bytes, whole_body<DiskAnswerBytes>(message));
    const std::uint32_t os_error = bytes.os_error;
    if (os_error > os_error_max) return refused_message(type, fmt::format("error {}", os_error));
    if (std::uint32_t{bytes.reserved} != 0)
        return refused_message(type, "reserved bytes are not zero");
    const std::uint64_t size = kind == DiskOpKind::read && os_error == 0 ? payload_size : 0;
    if (message.payload_size != size) {
        return refused_message(type, fmt::format("a payload of {} bytes, which should be {}",
                                                 message.payload_size, size));
    }
    return static_cast<int>(os_error);
}

}  // namespace braid::cluster
