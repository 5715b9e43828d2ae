// SPDX-License-Identifier: BSD-3-Clause
// EventHub: the array's events on their way from the loop to those who wait for them, the log and
// the control socket's long polls. Keeps the newest ones; a reader that is too slow misses old
// ones and sees that from the sequence numbers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "engine/status.h"

namespace braid::plugin {

class EventHub {
  public:
    void publish(const ArrayEvent& event);
    /// Events whose sequence is greater than `after`, as soon as there is one; none when `wait` is
    /// over or the hub was closed.
    std::vector<ArrayEvent> wait_after(std::uint64_t after, std::chrono::milliseconds wait);
    /// Nobody waits any longer.
    void close();
    bool closed() const;

  private:
    mutable std::mutex mutex_;
    std::condition_variable came_;
    std::deque<ArrayEvent> events_;
    bool closed_{false};
};

}  // namespace braid::plugin
