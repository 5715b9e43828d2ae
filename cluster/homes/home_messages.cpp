// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/home_messages.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "cluster/wire/message_body.h"
#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

void append(std::vector<std::byte>& body, const std::vector<Rebuilt>& rebuilt) {
    for (const Rebuilt& at : rebuilt) {
        RebuiltBytes bytes{};
        bytes.member = raw(at.member);
        bytes.upto = raw(at.upto);
        append(body, bytes);
    }
}

/// Takes fields off the front of a body, and knows what is wrong with them.
class Fields {
  public:
    Fields(const Message& message, const Geometry& geometry)
        : type_(message.header.type), rest_(message.body), geometry_(geometry) {}

    template <class Bytes>
    std::optional<Bytes> take() {
        if (rest_.size() < sizeof(Bytes)) return std::nullopt;
        Bytes bytes;
        std::memcpy(&bytes, rest_.data(), sizeof bytes);
        rest_ = rest_.subspan(sizeof bytes);
        return bytes;
    }
    bool empty() const { return rest_.empty(); }
    Refusal wrong(const std::string& why) const { return refused_message(type_, why); }
    Refusal wrong_size() const { return wrong("its body has another size"); }

    Checked<MemberIndex> member(std::uint32_t value) const {
        if (value < geometry_.member_count) return MemberIndex{value};
        return wrong(fmt::format("there is no member {}", value));
    }
    Checked<WindowRows> rows(std::uint64_t window, RowMask rows) const {
        if (window >= raw(geometry_.window_end())) {
            return wrong(fmt::format("there is no window {}", window));
        }
        const RowMask all = row_range(0, geometry_.window_rows);
        if (rows == 0 || (rows & ~all) != 0) {
            return wrong(fmt::format("rows {:#x} of a window of {}", rows, geometry_.window_rows));
        }
        WindowRows at;
        at.window = WindowIndex{window};
        at.rows = rows;
        return at;
    }
    Checked<std::vector<Rebuilt>> rebuilt() {
        std::vector<Rebuilt> list;
        while (!empty()) {
            const auto bytes = take<RebuiltBytes>();
            if (!bytes) return wrong_size();
            if (std::uint32_t{bytes->reserved} != 0) return wrong("reserved bytes are not zero");
            BRAID_TRY(const MemberIndex at, member(bytes->member));
            const std::uint64_t upto = bytes->upto;
            if (upto > raw(geometry_.window_end())) {
                return wrong(fmt::format("window {} is behind the last", upto));
            }
            if (list.size() == members_max) return wrong("more members than there can be");
            list.push_back({at, WindowIndex{upto}});
        }
        return list;
    }

  private:
    MessageType type_;
    ByteView rest_;
    const Geometry& geometry_;
};

Checked<HomeCommand> decode_read(Fields& fields, HomeCommand command, const Geometry& geometry) {
    const auto bytes = fields.take<ReadBytes>();
    if (!bytes || !fields.empty()) return fields.wrong_size();
    BRAID_TRY(command.member, fields.member(bytes->member));
    const std::uint64_t first = bytes->first;
    const std::uint64_t count = std::uint32_t{bytes->count};
    const std::uint64_t rows = geometry.stripes * geometry.rows_per_strip();
    if (count == 0 || count > message_payload_size_max / row_size || first >= rows ||
        count > rows - first) {
        return fields.wrong(fmt::format("rows {} and {} on of a member of {}", first, count, rows));
    }
    command.first = RowIndex{first};
    command.count = count;
    return command;
}

Checked<HomeCommand> decode_lock(Fields& fields, HomeCommand command) {
    const auto bytes = fields.take<LockBytes>();
    if (!bytes || !fields.empty()) return fields.wrong_size();
    if (std::uint32_t{bytes->reserved} != 0) return fields.wrong("reserved bytes are not zero");
    const std::uint32_t mode = bytes->mode;
    if (mode > 1) return fields.wrong(fmt::format("mode {}", mode));
    command.id.sequence = bytes->claim;
    command.mode = mode == 0 ? LockMode::exclusive : LockMode::shared;
    BRAID_TRY(command.at, fields.rows(bytes->window, bytes->rows));
    return command;
}

Checked<HomeCommand> decode_stage(Fields& fields, HomeCommand command, Buffer payload) {
    const auto bytes = fields.take<StageBytes>();
    if (!bytes || !fields.empty()) return fields.wrong_size();
    const std::uint32_t flags = bytes->flags;
    if ((flags & ~stage_flags::known) != 0) return fields.wrong(fmt::format("flags {:#x}", flags));
    const bool zeroes = (flags & stage_flags::zeroes) != 0;
    command.id.sequence = bytes->write;
    command.may_free = (flags & stage_flags::may_free) != 0;
    BRAID_TRY(command.member, fields.member(bytes->member));
    BRAID_TRY(command.at, fields.rows(bytes->window, bytes->rows));
    const std::uint64_t participants = bytes->participants;
    for (std::uint32_t i = 0; i != 64; ++i) {
        if ((participants >> i & 1) == 0) continue;
        BRAID_TRY(const MemberIndex member, fields.member(i));
        command.participants.add(member);
    }
    if (!command.participants.has(command.member)) {
        return fields.wrong("the member is not one of the participants");
    }
    if (command.may_free && !zeroes) return fields.wrong("space of bytes cannot be given back");
    const auto rows = static_cast<std::uint64_t>(std::popcount(command.at.rows));
    if (payload.size() != (zeroes ? 0 : rows * row_size)) {
        return fields.wrong(fmt::format("{} bytes for {} rows", payload.size(), rows));
    }
    command.content = std::move(payload);
    return command;
}

Checked<HomeCommand> decode_unlock(Fields& fields, HomeCommand command) {
    const auto bytes = fields.take<UnlockBytes>();
    if (!bytes) return fields.wrong_size();
    command.id.sequence = bytes->claim;
    BRAID_TRY(command.rebuilt, fields.rebuilt());
    return command;
}

Checked<HomeCommand> decode_flush(Fields& fields, HomeCommand command) {
    const auto bytes = fields.take<FlushBytes>();
    if (!bytes || !fields.empty()) return fields.wrong_size();
    if (std::uint32_t{bytes->reserved} != 0) return fields.wrong("reserved bytes are not zero");
    BRAID_TRY(command.member, fields.member(bytes->member));
    return command;
}

Checked<std::vector<HomeCommand>> decode_settled(Fields& fields, const HomeCommand& command) {
    std::vector<HomeCommand> commands;
    while (!fields.empty()) {
        const auto bytes = fields.take<WriteIdBytes>();
        if (!bytes) return fields.wrong_size();
        if (std::uint64_t{*bytes} == 0) return fields.wrong("there is no write 0");
        if (commands.size() == message_writes_max) return fields.wrong("too many writes");
        HomeCommand one;
        one.kind = command.kind;
        one.finished = command.finished;
        one.id.from = command.id.from;
        one.id.sequence = *bytes;
        commands.push_back(std::move(one));
    }
    if (commands.empty()) return fields.wrong_size();
    return commands;
}

bool needs_id(HomeCommandKind kind) {
    return kind == HomeCommandKind::lock || kind == HomeCommandKind::stage ||
           kind == HomeCommandKind::unlock;
}

Checked<HomeCommand> decode_one(Fields& fields, HomeCommand command, Buffer payload,
                                const Geometry& geometry) {
    switch (command.kind) {
        case HomeCommandKind::read:
            return decode_read(fields, std::move(command), geometry);
        case HomeCommandKind::lock:
            return decode_lock(fields, std::move(command));
        case HomeCommandKind::stage:
            return decode_stage(fields, std::move(command), std::move(payload));
        case HomeCommandKind::unlock:
            return decode_unlock(fields, std::move(command));
        case HomeCommandKind::flush:
            return decode_flush(fields, std::move(command));
        case HomeCommandKind::progress:
        case HomeCommandKind::settled:
        case HomeCommandKind::finished:
            if (!fields.empty()) return fields.wrong_size();
            return command;
        case HomeCommandKind::decide:
        case HomeCommandKind::drop:
            break;
    }
    return fields.wrong("it is no such command");
}

}  // namespace

MessageType type_of(HomeCommandKind kind) {
    switch (kind) {
        case HomeCommandKind::read:
            return MessageType::read;
        case HomeCommandKind::lock:
            return MessageType::lock;
        case HomeCommandKind::stage:
            return MessageType::stage;
        case HomeCommandKind::flush:
            return MessageType::flush;
        case HomeCommandKind::progress:
            return MessageType::progress;
        case HomeCommandKind::settled:
            return MessageType::settled;
        case HomeCommandKind::decide:
            return MessageType::decided;
        case HomeCommandKind::drop:
            return MessageType::drop;
        case HomeCommandKind::unlock:
            return MessageType::unlock;
        case HomeCommandKind::finished:
            break;
    }
    return MessageType::finished;
}

std::optional<HomeCommandKind> kind_of(MessageType type) {
    for (const HomeCommandKind kind :
         {HomeCommandKind::read, HomeCommandKind::lock, HomeCommandKind::stage,
          HomeCommandKind::flush, HomeCommandKind::progress, HomeCommandKind::settled,
          HomeCommandKind::decide, HomeCommandKind::drop, HomeCommandKind::unlock,
          HomeCommandKind::finished}) {
        if (type_of(kind) == type) return kind;
    }
    return std::nullopt;
}

QueuedMessage encode_command(HomeCommand command) {
    QueuedMessage message;
    message.header.type = type_of(command.kind);
    message.header.finished = command.finished;
    switch (command.kind) {
        case HomeCommandKind::read: {
            ReadBytes body{};
            body.member = raw(command.member);
            body.count = static_cast<std::uint32_t>(command.count);
            body.first = raw(command.first);
            append(message.body, body);
            break;
        }
        case HomeCommandKind::lock: {
            LockBytes body{};
            body.claim = command.id.sequence;
            body.window = raw(command.at.window);
            body.rows = command.at.rows;
            body.mode = command.mode == LockMode::shared ? 1 : 0;
            append(message.body, body);
            break;
        }
        case HomeCommandKind::stage: {
            StageBytes body{};
            body.write = command.id.sequence;
            body.window = raw(command.at.window);
            body.rows = command.at.rows;
            body.participants = command.participants.bits();
            body.member = raw(command.member);
            const bool zeroes = command.content.size() == 0;
            body.flags = (zeroes ? stage_flags::zeroes : 0) |
                         (zeroes && command.may_free ? stage_flags::may_free : 0);
            append(message.body, body);
            message.payload = std::move(command.content);
            break;
        }
        case HomeCommandKind::unlock: {
            UnlockBytes body{};
            body.claim = command.id.sequence;
            append(message.body, body);
            append(message.body, command.rebuilt);
            break;
        }
        case HomeCommandKind::flush: {
            FlushBytes body{};
            body.member = raw(command.member);
            append(message.body, body);
            break;
        }
        case HomeCommandKind::decide:
        case HomeCommandKind::drop:
            append(message.body, WriteIdBytes{command.id.sequence});
            break;
        case HomeCommandKind::progress:
        case HomeCommandKind::settled:
        case HomeCommandKind::finished:
            break;
    }
    return message;
}

Checked<std::vector<HomeCommand>> decode_command(const Message& message, Buffer payload,
                                                 NodeBoot from, const Geometry& geometry) {
    const auto kind = kind_of(message.header.type);
    if (!kind) return refused_message(message.header.type, "it is no command to a home");
    if (*kind != HomeCommandKind::stage && payload.size() != 0) {
        return refused_message(message.header.type, "it has a payload");
    }
    HomeCommand command;
    command.kind = *kind;
    command.id.from = from;
    command.finished = message.header.finished;
    Fields fields(message, geometry);
    if (*kind == HomeCommandKind::decide || *kind == HomeCommandKind::drop) {
        return decode_settled(fields, command);
    }
    BRAID_TRY(HomeCommand one,
              decode_one(fields, std::move(command), std::move(payload), geometry));
    if (needs_id(*kind) && one.id.sequence == 0) return fields.wrong("its id is 0");
    std::vector<HomeCommand> commands;
    commands.push_back(std::move(one));
    return commands;
}

QueuedMessage encode_answer(HomeCommandKind kind, std::uint64_t number, const HomeAnswer& answer,
                            Buffer payload) {
    BRAID_REQUIRE(answer.result.outcome != DriveOutcome::cut);
    QueuedMessage message;
    message.header.type = type_of(kind);
    message.header.answers = number;
    message.header.applied_upto = answer.applied_upto;
    HomeAnswerBytes body{};
    body.outcome = static_cast<std::uint32_t>(answer.result.outcome);
    body.os_error = answer.result.ok() ? 0 : static_cast<std::uint32_t>(answer.result.os_error);
    append(message.body, body);
    append(message.body, answer.rebuilt);
    if (answer.result.ok()) message.payload = std::move(payload);
    return message;
}

Checked<HomeAnswer> decode_answer(HomeCommandKind kind, std::uint64_t payload_size,
                                  const Message& message, const Geometry& geometry) {
    Fields fields(message, geometry);
    if (message.header.type != type_of(kind)) {
        return fields.wrong(fmt::format("it answers {}", name_of(type_of(kind))));
    }
    const auto bytes = fields.take<HomeAnswerBytes>();
    if (!bytes) return fields.wrong_size();
    const std::uint32_t outcome = bytes->outcome;
    const std::uint32_t os_error = bytes->os_error;
    if (outcome > static_cast<std::uint32_t>(DriveOutcome::fenced)) {
        return fields.wrong(fmt::format("outcome {}", outcome));
    }
    if (os_error > os_error_max || (outcome == 0) != (os_error == 0)) {
        return fields.wrong(fmt::format("outcome {} with error {}", outcome, os_error));
    }
    HomeAnswer answer;
    answer.result.outcome = DriveOutcome{static_cast<std::uint8_t>(outcome)};
    answer.result.os_error = static_cast<int>(os_error);
    answer.applied_upto = message.header.applied_upto;
    if (kind == HomeCommandKind::lock) {
        BRAID_TRY(answer.rebuilt, fields.rebuilt());
    }
    if (!fields.empty()) return fields.wrong_size();
    if (message.payload_size != (answer.result.ok() ? payload_size : 0)) {
        return fields.wrong(fmt::format("a payload of {} bytes", message.payload_size));
    }
    return answer;
}

}  // namespace braid::cluster
