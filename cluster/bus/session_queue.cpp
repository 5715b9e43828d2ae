// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/session_queue.h"

#include <algorithm>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {

std::uint64_t SessionQueue::add(QueuedMessage message) {
    BRAID_REQUIRE(is_numbered(message.header.type));
    message.header.number = ++last_;
    kept_bytes_ += message.payload.size();
    kept_.push_back(std::move(message));
    return last_;
}

bool SessionQueue::may_go_on_at(std::uint64_t peer_received) const {
    return peer_received >= acknowledged_ && peer_received <= sent_;
}

void SessionQueue::begin(std::uint64_t peer_received) {
    BRAID_REQUIRE(may_go_on_at(peer_received) && !sending_);
    acknowledged_ = peer_received;
    next_ = BRAID_MUTANT(sent_taken_for_come) ? sent_ + 1 : peer_received + 1;
    word_sent();
    forget_acknowledged();
}

const QueuedMessage* SessionQueue::next() {
    if (!has_more()) return nullptr;
    sending_ = true;
    const std::uint64_t first = last_ - kept_.size() + 1;
    sent_ = std::max(sent_, next_);
    return &kept_[next_++ - first];
}

void SessionQueue::end_sending() {
    sending_ = false;
    forget_acknowledged();
}

void SessionQueue::take(std::uint32_t size) {
    ++received_;
    ++came_;
    came_bytes_ += size;
}

bool SessionQueue::acknowledge(std::uint64_t upto) {
    if (upto >= next_) return false;         // not on this connection
    if (upto <= acknowledged_) return true;  // of a repeat, perhaps
    acknowledged_ = upto;
    forget_acknowledged();
    return true;
}

bool SessionQueue::owes_word() const {
    return came_ >= unanswered_messages_max || came_bytes_ >= unanswered_bytes_max;
}

void SessionQueue::forget_acknowledged() {
    if (sending_) return;
    while (last_ - kept_.size() < acknowledged_) {
        kept_bytes_ -= kept_.front().payload.size();
        kept_.pop_front();
    }
}

bool SessionQueue::holds_together() const {
    if (acknowledged_ >= next_ || sent_ > last_ || next_ > sent_ + 1 || kept_.size() > last_)
        return false;
    if (!sending_ && last_ - kept_.size() != acknowledged_) return false;
    std::uint64_t number = last_ - kept_.size();
    std::uint64_t bytes = 0;
    for (const QueuedMessage& message : kept_) {
        if (message.header.number != ++number) return false;
        bytes += message.payload.size();
    }
    return bytes == kept_bytes_;
}

}  // namespace braid::cluster
