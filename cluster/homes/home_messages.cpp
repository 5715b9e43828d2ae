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
    Checked<Rebuilt> rebuilt(std::uint32_t value, std::uint64_t upto) const {
        BRAID_TRY(const MemberIndex at, member(value));
        if (upto > raw(geometry_.window_end())) {
            return wrong(fmt::format("window {} is behind the last", upto));
        }
        return Rebuilt{at, WindowIndex{upto}};
    }
    Checked<std::vector<Rebuilt>> rebuilt() {
        std::vector<Rebuilt> list;
        while (!empty()) {
            const auto bytes = take<RebuiltBytes>();
            if (!bytes) return wrong_size();
            if (std::uint32_t{bytes->reserved} != 0) return wrong("reserved bytes are not zero");
            BRAID_TRY(const Rebuilt at, rebuilt(bytes->member, bytes->upto));
            if (list.size() == members_max) return wrong("more members than there can be");
            list.push_back(at);
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
    if (!bytes) return fields.wrong_size();
    if (std::uint32_t{bytes->reserved} != 0) return fields.wrong("reserved bytes are not zero");
    const std::uint32_t mode = bytes->mode;
    if (mode > 1) return fields.wrong(fmt::format("mode {}", mode));
    command.id.sequence = bytes->claim;
    command.mode = mode == 0 ? LockMode::exclusive : LockMode::shared;
    BRAID_TRY(command.at, fields.rows(bytes->window, bytes->rows));
    return command;
}

/// Behind the lock of LOCK_READ.
Checked<HomeCommand> decode_with_lock(Fields& fields, HomeCommand command) {
    struct Rest {
        Le32 member;
        Le32 reserved;
        Le64 read;
    };
    static_assert(sizeof(LockBytes) + sizeof(Rest) == sizeof(LockReadBytes));
    const auto bytes = fields.take<Rest>();
    if (!bytes) return fields.wrong_size();
    if (std::uint32_t{bytes->reserved} != 0) return fields.wrong("reserved bytes are not zero");
    BRAID_TRY(command.member, fields.member(bytes->member));
    command.with_lock = bytes->read;
    if (command.with_lock == 0 || (command.with_lock & ~command.at.rows) != 0) {
        return fields.wrong(
            fmt::format("rows {:#x} with a lock of {:#x}", command.with_lock, command.at.rows));
    }
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

Checked<HomeCommand> decode_flush(Fields& fields, HomeCommand command) {
    const auto bytes = fields.take<FlushBytes>();
    if (!bytes || !fields.empty()) return fields.wrong_size();
    if (std::uint32_t{bytes->reserved} != 0) return fields.wrong("reserved bytes are not zero");
    BRAID_TRY(command.member, fields.member(bytes->member));
    return command;
}

Checked<std::vector<HomeCommand>> decode_ended(Fields& fields, const HomeCommand& common) {
    std::vector<HomeCommand> commands;
    std::vector<Rebuilt> rebuilt;  // of the next claim
    for (std::size_t ends = 0; !fields.empty(); ++ends) {
        const auto bytes = fields.take<EndBytes>();
        if (!bytes) return fields.wrong_size();
        if (ends == message_ends_max) return fields.wrong("it ends too much");
        const auto what = EndKind{std::uint32_t{bytes->what}};
        const std::uint32_t member = bytes->member;
        const std::uint64_t value = bytes->value;
        if (what == EndKind::rebuilt) {
            BRAID_TRY(const Rebuilt at, fields.rebuilt(member, value));
            if (rebuilt.size() == members_max) return fields.wrong("too many rebuilds");
            rebuilt.push_back(at);
            continue;
        }
        if (member != 0) return fields.wrong("reserved bytes are not zero");
        if (value == 0) return fields.wrong("its id is 0");
        HomeCommand one;
        one.finished = common.finished;
        one.id = {common.id.from, value};
        switch (what) {
            case EndKind::decided:
                one.kind = HomeCommandKind::decide;
                break;
            case EndKind::dropped:
                one.kind = HomeCommandKind::drop;
                break;
            case EndKind::unlocked:
                one.kind = HomeCommandKind::unlock;
                one.rebuilt = std::exchange(rebuilt, {});
                break;
            default:
                return fields.wrong(fmt::format("an end of kind {}", std::uint32_t{bytes->what}));
        }
        commands.push_back(std::move(one));
    }
    if (!rebuilt.empty()) return fields.wrong("how far a rebuild is, and nothing is unlocked");
    if (commands.empty()) return fields.wrong_size();
    return commands;
}

/// Of a command of that kind, which is there.
Checked<HomeCommand> decode_one(Fields& fields, MessageType type, HomeCommand command,
                                Buffer payload, const Geometry& geometry) {
    const HomeCommandKind kind = command.kind;
    if (kind == HomeCommandKind::read) return decode_read(fields, std::move(command), geometry);
    if (kind == HomeCommandKind::flush) return decode_flush(fields, std::move(command));
    if (kind == HomeCommandKind::lock) {
        BRAID_TRY(command, decode_lock(fields, std::move(command)));
        if (type == MessageType::lock_read) {
            BRAID_TRY(command, decode_with_lock(fields, std::move(command)));
        }
    } else if (kind == HomeCommandKind::stage) {
        BRAID_TRY(command, decode_stage(fields, std::move(command), std::move(payload)));
    }
    if (!fields.empty()) return fields.wrong_size();
    const bool needs_id = kind == HomeCommandKind::lock || kind == HomeCommandKind::stage;
    if (needs_id && command.id.sequence == 0) return fields.wrong("its id is 0");
    return command;
}

void append_end(std::vector<std::byte>& body, EndKind what, std::uint64_t value,
                std::uint32_t member = 0) {
    EndBytes end{};
    end.what = static_cast<std::uint32_t>(what);
    end.member = member;
    end.value = value;
    append(body, end);
}

void append_ends(std::vector<std::byte>& body, const HomeCommand& command) {
    if (command.kind == HomeCommandKind::decide) {
        append_end(body, EndKind::decided, command.id.sequence);
    } else if (command.kind == HomeCommandKind::drop) {
        append_end(body, EndKind::dropped, command.id.sequence);
    } else {
        for (const Rebuilt& at : command.rebuilt) {
            append_end(body, EndKind::rebuilt, raw(at.upto), raw(at.member));
        }
        append_end(body, EndKind::unlocked, command.id.sequence);
    }
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
        case HomeCommandKind::drop:
        case HomeCommandKind::unlock:
            return MessageType::ended;
        case HomeCommandKind::finished:
            break;
    }
    return MessageType::finished;
}

std::optional<HomeCommandKind> kind_of(MessageType type) {
    if (type == MessageType::lock_read) return HomeCommandKind::lock;
    for (const HomeCommandKind kind :
         {HomeCommandKind::read, HomeCommandKind::lock, HomeCommandKind::stage,
          HomeCommandKind::flush, HomeCommandKind::progress, HomeCommandKind::settled}) {
        if (type_of(kind) == type) return kind;
    }
    return std::nullopt;
}

bool is_for_home(MessageType type) {
    return kind_of(type) || type == MessageType::ended || type == MessageType::finished;
}

bool add_to(QueuedMessage* message, const HomeCommand& command) {
    if (message == nullptr || message->header.type != MessageType::ended) return false;
    const std::size_t ends = message->body.size() / sizeof(EndBytes);
    switch (command.kind) {
        case HomeCommandKind::decide:
        case HomeCommandKind::drop:
        case HomeCommandKind::unlock:
            if (ends + command.rebuilt.size() >= message_ends_max) return false;
            append_ends(message->body, command);
            break;
        case HomeCommandKind::finished:
            break;
        default:
            return false;
    }
    message->header.finished = std::max(message->header.finished, command.finished);
    return true;
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
            if (command.with_lock == 0) {
                append(message.body, body);
                break;
            }
            message.header.type = MessageType::lock_read;
            LockReadBytes more{};
            more.lock = body;
            more.member = raw(command.member);
            more.read = command.with_lock;
            append(message.body, more);
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
        case HomeCommandKind::flush: {
            FlushBytes body{};
            body.member = raw(command.member);
            append(message.body, body);
            break;
        }
        case HomeCommandKind::decide:
        case HomeCommandKind::drop:
        case HomeCommandKind::unlock:
            append_ends(message.body, command);
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
    const MessageType type = message.header.type;
    if (!is_for_home(type)) return refused_message(type, "it is no command to a home");
    if (type != MessageType::stage && payload.size() != 0) {
        return refused_message(type, "it has a payload");
    }
    HomeCommand command;
    command.kind = kind_of(type).value_or(HomeCommandKind::finished);
    command.id.from = from;
    command.finished = message.header.finished;
    Fields fields(message, geometry);
    if (type == MessageType::ended) return decode_ended(fields, command);
    BRAID_TRY(HomeCommand one,
              decode_one(fields, type, std::move(command), std::move(payload), geometry));
    std::vector<HomeCommand> commands;
    commands.push_back(std::move(one));
    return commands;
}

QueuedMessage encode_answer(HomeCommandKind kind, std::uint64_t number, const HomeAnswer& answer,
                            Buffer payload) {
    BRAID_REQUIRE(answer.result.outcome != DriveOutcome::cut);
    QueuedMessage message;
    message.header.type =
        kind == HomeCommandKind::lock && answer.has_bytes ? MessageType::lock_read : type_of(kind);
    message.header.answers = number;
    message.header.applied_upto = answer.applied_upto;
    HomeAnswerBytes body{};
    body.outcome = static_cast<std::uint32_t>(answer.result.outcome);
    body.os_error = answer.result.ok() ? 0 : static_cast<std::uint32_t>(answer.result.os_error);
    append(message.body, body);
    append(message.body, answer.rebuilt);
    if (kind == HomeCommandKind::lock ? answer.has_bytes : answer.result.ok()) {
        message.payload = std::move(payload);
    }
    return message;
}

Checked<HomeAnswer> decode_answer(HomeCommandKind kind, std::uint64_t payload_size,
                                  const Message& message, const Geometry& geometry) {
    Fields fields(message, geometry);
    const bool brings = kind == HomeCommandKind::lock && payload_size != 0 &&
                        message.header.type == MessageType::lock_read;
    if (message.header.type != type_of(kind) && !brings) {
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
    if (brings && !answer.result.ok()) return fields.wrong("rows with a lock that is refused");
    answer.has_bytes = brings;
    const bool has_payload = kind == HomeCommandKind::lock ? answer.has_bytes : answer.result.ok();
    if (message.payload_size != (has_payload ? payload_size : 0)) {
        return fields.wrong(fmt::format("a payload of {} bytes", message.payload_size));
    }
    return answer;
}

}  // namespace braid::cluster
