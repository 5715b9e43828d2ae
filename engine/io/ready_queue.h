// SPDX-License-Identifier: BSD-3-Clause
// ReadyQueue: the coroutines that may go on. Whatever completes is pushed here, and only the loop
// resumes what it takes out: in order in production, in an order drawn from the seed in simulation.
// What was pushed last() goes on when nothing else can. One queue belongs to one thread.
#pragma once

#include <coroutine>
#include <cstddef>
#include <utility>
#include <vector>

#include "parity/require.h"

namespace braid {

class ReadyQueue {
  public:
    ReadyQueue() : ring_(64) {}
    ReadyQueue(const ReadyQueue&) = delete;
    ReadyQueue& operator=(const ReadyQueue&) = delete;

    void push(std::coroutine_handle<> handle) {
        if (size_ == ring_.size()) grow();
        ring_[(head_ + size_) & (ring_.size() - 1)] = handle;
        ++size_;
    }
    void push_last(std::coroutine_handle<> handle) { last_.push_back(handle); }
    /// Takes the `at`th waiting handle; 0 is the one that came first.
    std::coroutine_handle<> take(std::size_t at = 0) {
        if (size_ == 0) let_last_go();
        BRAID_REQUIRE(at < size_);
        std::swap(slot(at), slot(0));  // a drawn order need not be kept
        const auto handle = slot(0);
        head_ = (head_ + 1) & (ring_.size() - 1);
        --size_;
        return handle;
    }
    /// They have waited long enough.
    void let_last_go() {
        for (const auto handle : last_) push(handle);
        last_.clear();
    }
    /// How many may be taken next.
    std::size_t size() const { return size_ != 0 ? size_ : last_.size(); }
    bool empty() const { return size() == 0; }
    /// Forgets what waits, without resuming it (a crash in the simulator).
    void clear() {
        size_ = 0;
        last_.clear();
    }

  private:
    std::coroutine_handle<>& slot(std::size_t at) {
        return ring_[(head_ + at) & (ring_.size() - 1)];
    }
    void grow() {
        std::vector<std::coroutine_handle<>> wider(ring_.size() * 2);
        for (std::size_t i = 0; i != size_; ++i) wider[i] = slot(i);
        ring_ = std::move(wider);
        head_ = 0;
    }

    std::vector<std::coroutine_handle<>> ring_;  // its size is a power of two
    std::size_t head_{0};
    std::size_t size_{0};
    std::vector<std::coroutine_handle<>> last_;
};

}  // namespace braid
