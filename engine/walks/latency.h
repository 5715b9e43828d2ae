// SPDX-License-Identifier: BSD-3-Clause
// LatencyMeter: how long clients' requests took, which is what walks throttle themselves by.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/io/clock.h"
#include "engine/walks/throttle.h"

namespace braid {

class LatencyMeter {
  public:
    /// Any thread: a request took so long.
    void note(Nanos latency) {
        count_.fetch_add(1, std::memory_order_relaxed);
        squares_.fetch_add(LatencySample::square_of(latency), std::memory_order_relaxed);
    }
    /// Any thread: what was noted elsewhere.
    void add(LatencySample sample) {
        count_.fetch_add(sample.count, std::memory_order_relaxed);
        squares_.fetch_add(sample.squares, std::memory_order_relaxed);
    }
    /// The loop's thread: what was noted since the last call.
    LatencySample take() {
        const LatencySample now{count_.load(std::memory_order_relaxed),
                                squares_.load(std::memory_order_relaxed)};
        const LatencySample since{now.count - taken_.count, now.squares - taken_.squares};
        taken_ = now;
        return since;
    }

  private:
    std::atomic<std::uint64_t> count_{0};
    std::atomic<std::uint64_t> squares_{0};
    LatencySample taken_;
};

}  // namespace braid
