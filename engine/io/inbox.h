// SPDX-License-Identifier: BSD-3-Clause
// Inbox: how other threads reach the loop. Any thread posts a Message; the loop takes all that are
// there, in the order of posting, once a turn. A message lives in the sender's memory until it was
// run; nothing is allocated.
#pragma once

#include <atomic>

namespace braid {

struct Message {
    Message* next{nullptr};
    void (*run)(Message&){nullptr};  // on the loop's thread; the message may be gone afterwards
};

class Inbox {
  public:
    /// Any thread. True if the inbox was empty before, so that the loop may need to be woken.
    bool post(Message& message) {
        Message* head = head_.load(std::memory_order_relaxed);
        do {
            message.next = head;
        } while (!head_.compare_exchange_weak(head, &message, std::memory_order_seq_cst,
                                              std::memory_order_relaxed));
        return head == nullptr;
    }
    /// The loop's thread: runs all messages; true if there were any.
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
    bool empty() const { return head_.load(std::memory_order_seq_cst) == nullptr; }

  private:
    std::atomic<Message*> head_{nullptr};
};

}  // namespace braid
