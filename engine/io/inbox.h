// SPDX-License-Identifier: BSD-3-Clause
// Inbox: how other threads reach the loop, and who leads it. Any thread posts a Message; the leader
// takes all that are there, in the order of posting, once a turn. A message lives in the sender's
// memory until it was run; nothing is allocated.
//
// One word says both: that nobody leads, or what is posted to the leader. So nobody is lost and
// there is one leader at a time: who posts while nobody leads becomes the leader by the very step
// that posts, and a leader can leave only by a step that finds nothing posted. What one leader did
// happens before what the next one does: the one releases the word, the other acquires it.
#pragma once

#include <atomic>
#include <cstdint>

namespace braid {

struct Message {
    Message* next{nullptr};
    void (*run)(Message&){nullptr};  // by the leader; the message may be gone afterwards
};

enum class Posted : std::uint8_t {
    behind,  // others: somebody will run it
    first,   // and the leader may need to be woken
    leads,   // nobody led: the caller does now, and has to run it
};

/// Led from the beginning by whoever owns it.
class Inbox {
  public:
    /// Any thread.
    Posted post(Message& message) {
        Message* head = head_.load(std::memory_order_relaxed);
        do {
            message.next = head == &nobody_ ? nullptr : head;
        } while (!head_.compare_exchange_weak(head, &message, std::memory_order_seq_cst,
                                              std::memory_order_relaxed));
        if (head == &nobody_) return Posted::leads;
        return head == nullptr ? Posted::first : Posted::behind;
    }
    /// The leader: nobody leads any more. False, and nothing has changed, if there are messages.
    bool leave() {
        Message* none = nullptr;
        return head_.compare_exchange_strong(none, &nobody_, std::memory_order_seq_cst);
    }
    /// The leader: runs all messages; true if there were any.
    bool run_all() {
        if (empty()) return false;
        Message* list = head_.exchange(nullptr, std::memory_order_acquire);
        Message* ordered = nullptr;
        while (list != nullptr) {
            Message* next = list->next;
            list->next = ordered;
            ordered = list;
            list = next;
        }
        while (ordered != nullptr) {
            Message* next = ordered->next;  // run() may end the message's life
            ordered->run(*ordered);
            ordered = next;
        }
        return true;
    }
    /// The leader.
    bool empty() const { return head_.load(std::memory_order_seq_cst) == nullptr; }

  private:
    Message nobody_;  // stands for it, and is never run
    std::atomic<Message*> head_{nullptr};
};

}  // namespace braid
