// SPDX-License-Identifier: BSD-3-Clause
// MessageStream: a connection as a stream of messages. What comes is checked before anybody sees it;
// what goes out goes in as few pieces as there may be. A payload is read to where its receiver wants
// it. Any error, and any byte that is not as it should be, ends the stream: each call after it fails.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/bus/session_queue.h"
#include "cluster/wire/message_header.h"
#include "cluster/wire/node_boot.h"
#include "engine/base/buffer.h"
#include "engine/io/net.h"

namespace braid::cluster {

class MessageStream {
  public:
    /// @param self   whose messages go out
    /// @param check  what its payloads are sent with: none where the connection protects them
    MessageStream(std::unique_ptr<Connection> connection, NodeBoot self, PayloadCheck check);

    const std::string& peer() const { return connection_->peer(); }
    void shut() { connection_->shut(); }

    /// Header and body of the next message; the body lives until the next call. Its payload, if
    /// there is any, is to be read first. One at a time.
    Task<Checked<Message>> next();
    /// Reads the payload of the message that next() gave last: all of it, and checks it.
    Task<Checked<Unit>> read_payload(Message message, ByteSpan into);

    /// Bytes that have come.
    std::uint64_t came() const { return came_; }

    /// All of them, one after the other; they stay until then. One at a time.
    /// @param received  what goes with each: the last number that has come from the other side
    Task<Checked<Unit>> send(std::vector<const QueuedMessage*> messages, std::uint64_t received);

  private:
    Task<Checked<Unit>> fill(std::size_t size);
    Refusal broken(const Error& error) const;
    ByteSpan tail() { return buffer_.span().subspan(end_); }

    std::unique_ptr<Connection> connection_;
    NodeBoot self_;
    PayloadCheck check_;
    Buffer buffer_{receive_buffer_size};  // [begin_, end_) has come, and nobody has had it
    std::size_t begin_{0};
    std::size_t end_{0};
    std::uint64_t came_{0};
    std::vector<std::byte> heads_;  // of what is being sent
    std::vector<ByteView> parts_;
};

}  // namespace braid::cluster
