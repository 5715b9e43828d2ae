// SPDX-License-Identifier: BSD-3-Clause
// DirectGate: lets other threads read an in-sync member by themselves, past the loop. The loop
// closes a member's gate before anything is acknowledged that this member did not take, so a read
// that found the gate open before and after it returned bytes that were true in between.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace braid {

class DirectGate {
  public:
    /// The loop's thread.
    void open() { state_.store(state_.load() | 1); }
    void close() { state_.store((state_.load() & ~std::uint64_t{1}) + 2); }
    bool has_readers() const { return readers_[0].load() + readers_[1].load() != 0; }
    /// The loop's thread: whether one who entered before the turn before this one is still there.
    bool turn() {
        const std::uint64_t other = 1 - side_.load();
        if (readers_[other].load() != 0) return true;
        side_.store(other);
        return false;
    }

    /// Any thread: `if (gate.enter(ticket)) { read...; if (gate.leave(ticket)) it counts; }`. Whoever
    /// is told false by one of them asks the loop instead. So whom the loop finds among the readers
    /// of a closed gate, it hears of when he is none any more, and needs not look again and again.
    bool enter(std::uint64_t& ticket) {
        const std::uint64_t side = side_.load();
        readers_[side].fetch_add(1);
        const std::uint64_t state = state_.load();
        ticket = (state << 1) | side;
        if ((state & 1) != 0) return true;
        readers_[side].fetch_sub(1);
        return false;
    }
    bool leave(std::uint64_t ticket) {
        // First: if close() still saw us, we see that it was closed.
        readers_[ticket & 1].fetch_sub(1);
        return state_.load() == ticket >> 1;
    }

  private:
    std::atomic<std::uint64_t> state_{0};  // bit 0: open; above it: how often it was closed
    std::array<std::atomic<std::uint32_t>, 2> readers_{};  // by the side on which they entered
    std::atomic<std::uint64_t> side_{0};                   // on which the next one does
};

}  // namespace braid
