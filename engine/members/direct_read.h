// SPDX-License-Identifier: BSD-3-Clause
// DirectGate: lets other threads read an in-sync member by themselves, past the loop. The loop
// closes a member's gate before anything is acknowledged that this member did not take, so a read
// that found the gate open before and after it returned bytes that were true in between.
#pragma once

#include <atomic>
#include <cstdint>

namespace braid {

class DirectGate {
  public:
    /// The loop's thread.
    void open() { state_.store(state_.load() | 1); }
    void close() { state_.store((state_.load() & ~std::uint64_t{1}) + 2); }
    bool has_readers() const { return readers_.load() != 0; }

    /// Any thread: `if (gate.enter(ticket)) { read...; if (gate.leave(ticket)) it counts; }`. Whoever
    /// is told false by one of them asks the loop instead. So whom the loop finds among the readers
    /// of a closed gate, it hears of when he is none any more, and needs not look again and again.
    bool enter(std::uint64_t& ticket) {
        readers_.fetch_add(1);
        ticket = state_.load();
        if ((ticket & 1) != 0) return true;
        readers_.fetch_sub(1);
        return false;
    }
    bool leave(std::uint64_t ticket) {
        readers_.fetch_sub(1);  // first: if close() still saw us, we see that it was closed
        return state_.load() == ticket;
    }

  private:
    std::atomic<std::uint64_t> state_{0};  // bit 0: open; above it: how often it was closed
    std::atomic<std::uint32_t> readers_{0};
};

}  // namespace braid
