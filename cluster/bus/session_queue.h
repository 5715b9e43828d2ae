// SPDX-License-Identifier: BSD-3-Clause
// SessionQueue: the messages of one session, from one start of two nodes to the next, however often
// the connection between them breaks. Each arrives once, in the order in which it was sent. Pure: it
// numbers what goes out, keeps it until the other side has it, and tells what has come before.
//
// Invariants: what is kept has the numbers after `acknowledged`, without a gap, up to the last;
// nothing is acknowledged that never went out; what comes has the number after `received`.
//
// Source: sequence numbers and cumulative acknowledgements as in RFC 9293, 3.4, per message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "cluster/wire/message_header.h"
#include "engine/base/buffer.h"

namespace braid::cluster {

/// A message as it is kept: type, flags, fence, answers, finished and applied_upto are the sender's,
/// all else is filled in when it goes out.
struct QueuedMessage {
    MessageHeader header;
    std::vector<std::byte> body;
    Buffer payload;
};

class SessionQueue {
  public:
    /// Gives it the next number, which it returns.
    std::uint64_t add(QueuedMessage message);

    /// The last message, if it never went out: something may be added to it. Null: it has, or there is
    /// none.
    QueuedMessage* last_unsent() {
        const bool is_unsent = !kept_.empty() && last_ > sent_;
        return is_unsent ? &kept_.back() : nullptr;
    }

    /// Whether a new connection may go on where the other side says it is: true if it has nothing
    /// that was never sent, and lacks nothing that it once had.
    bool may_go_on_at(std::uint64_t peer_received) const;
    /// A connection begins: everything that the other side lacks goes out, again if need be.
    void begin(std::uint64_t peer_received);
    /// What goes out next on this connection. It stays where it is until end_sending().
    /// Null: nothing.
    const QueuedMessage* next();
    /// What next() gave is on its way, or the connection is over: nobody looks at it any more.
    void end_sending();
    /// What was not given by next() yet.
    bool has_more() const { return next_ != last_ + 1; }

    /// The one after the last that has come. Nothing else can come on a connection that began with
    /// what both sides have.
    bool is_next(std::uint64_t number) const { return number == received_ + 1; }
    /// The message after the last one is there, whole. @param size  of its payload
    void take(std::uint32_t size);
    /// The other side has everything up to this number. False: it cannot have.
    bool acknowledge(std::uint64_t upto);
    std::uint64_t received() const { return received_; }
    /// So much has come since anything went out that the other side is to be told.
    bool owes_word() const;
    /// `received` has gone out.
    void word_sent() { came_ = 0, came_bytes_ = 0; }

    /// Kept for the case that the connection breaks.
    std::size_t kept() const { return kept_.size(); }
    std::uint64_t kept_bytes() const { return kept_bytes_; }  // of payload
    bool holds_together() const;

  private:
    void forget_acknowledged();

    std::deque<QueuedMessage> kept_;  // the first has the number last_ - kept_.size() + 1
    std::uint64_t last_{0};           // that was given
    std::uint64_t next_{1};           // to go out on this connection
    std::uint64_t sent_{0};           // the last that ever went out
    std::uint64_t acknowledged_{0};
    std::uint64_t kept_bytes_{0};
    bool sending_{false};  // something of kept_ is being looked at
    std::uint64_t received_{0};
    std::uint32_t came_{0};  // messages, and bytes of payload, since anything went out
    std::uint64_t came_bytes_{0};
};

}  // namespace braid::cluster
