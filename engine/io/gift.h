// SPDX-License-Identifier: BSD-3-Clause
// Gift: something that one thread gives and another one takes, one at a time. A binary semaphore
// that never spins: std::binary_semaphore of GCC 12 yields the CPU four times before it says that
// there is nothing.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace braid {

class Gift {
  public:
    /// Any thread; what was given before was taken.
    void give() {
        if (state_.exchange(given, std::memory_order_acq_rel) == awaited) {
            syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
        }
    }
    /// One thread.
    bool try_take() {
        std::uint32_t seen = given;
        return state_.compare_exchange_strong(seen, none, std::memory_order_acquire);
    }
    void take() {
        while (!try_take()) {
            std::uint32_t seen = none;
            if (!state_.compare_exchange_strong(seen, awaited, std::memory_order_acq_rel)) {
                if (seen == given) continue;
            }
            syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, awaited, nullptr, nullptr, 0);
        }
    }

  private:
    enum : std::uint32_t { none, given, awaited };
    std::atomic<std::uint32_t> state_{none};
};

}  // namespace braid
