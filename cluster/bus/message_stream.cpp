// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/message_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/os_error.h"

namespace braid::cluster {

MessageStream::MessageStream(std::unique_ptr<Connection> connection, NodeBoot self,
                             PayloadCheck check)
    : connection_(std::move(connection)), self_(self), check_(check) {
    BRAID_REQUIRE(connection_ != nullptr);
}

Refusal MessageStream::broken(const Error& error) const {
    if (error.os_error == 0) return {"the other side has closed the connection", RefusalCode::io};
    return {fmt::format("the connection has broken: {}", os_error_text(error.os_error)),
            RefusalCode::io};
}

/// Until so many bytes are in the buffer.
Task<Checked<Unit>> MessageStream::fill(std::size_t size) {
    BRAID_REQUIRE(size <= buffer_.size());
    if (end_ - begin_ >= size) co_return Unit{};
    if (begin_ + size > buffer_.size() || begin_ == end_) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= std::exchange(begin_, 0);
    }
    const std::array<ByteSpan, 1> parts{tail()};
    const auto came = co_await connection_->receive(parts, size - (end_ - begin_));
    if (!came) co_return broken(came.error());
    end_ += *came;
    came_ += *came;
    BRAID_REQUIRE(end_ - begin_ >= size && end_ <= buffer_.size());
    co_return Unit{};
}

Task<Checked<Message>> MessageStream::next() {
    BRAID_CO_CHECK(co_await fill(message_header_size));
    BRAID_CO_TRY(const MessageSizes sizes,
                 message_sizes(buffer_.view().subspan(begin_, end_ - begin_)));
    const std::size_t size = message_header_size + sizes.body;
    BRAID_CO_CHECK(co_await fill(size));
    BRAID_CO_TRY(Message message, decode_message(buffer_.view().subspan(begin_, size)));
    begin_ += size;
    co_return message;
}

Task<Checked<Unit>> MessageStream::read_payload(Message message, ByteSpan into) {
    BRAID_REQUIRE(into.size() == message.payload_size);
    const std::size_t here = std::min(into.size(), end_ - begin_);
    if (here != 0) std::memcpy(into.data(), buffer_.data() + begin_, here);
    begin_ += here;
    // In pieces, so that it is seen that something comes.
    for (ByteSpan rest = into.subspan(here); !rest.empty();) {
        const std::size_t piece = std::min<std::size_t>(rest.size(), receive_piece_size);
        const bool is_last = piece == rest.size();  // and what is behind it, if that has come
        const std::array<ByteSpan, 2> parts{rest, is_last ? tail() : ByteSpan{}};
        const std::size_t used = parts[1].empty() ? 1 : 2;
        const auto came = co_await connection_->receive({parts.data(), used}, piece);
        if (!came) co_return broken(came.error());
        came_ += *came;
        const std::size_t of_it = std::min(*came, rest.size());
        end_ += *came - of_it;
        rest = rest.subspan(of_it);
    }
    co_return check_payload(message, into);
}

Task<Checked<Unit>> MessageStream::send(std::vector<const QueuedMessage*> messages,
                                        std::uint64_t received) {
    std::size_t size = 0;
    for (const QueuedMessage* message : messages)
        size += message_header_size + message->body.size();
    heads_.resize(size);
    parts_.clear();
    std::size_t at = 0;
    for (const QueuedMessage* message : messages) {
        MessageHeader header = message->header;
        header.sender = static_cast<std::uint16_t>(self_.node);
        header.boot = self_.boot;
        header.received = received;
        const ByteView payload = message->payload.view();
        const ByteSpan head =
            ByteSpan(heads_).subspan(at, message_header_size + message->body.size());
        encode_message(header, message->body, payload, check_, head);
        at += head.size();
        parts_.push_back(head);
        if (!payload.empty()) parts_.push_back(payload);
    }
    const Result<void> sent = co_await connection_->send(parts_);
    if (!sent) co_return broken(sent.error());
    co_return Unit{};
}

}  // namespace braid::cluster
