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
        nanos_.fetch_add(latency.value, std::memory_order_relaxed);
    }
    /// Any thread: what was noted elsewhere.
    void add(LatencySample sample) {
        count_.fetch_add(sample.count, std::memory_order_relaxed);
        nanos_.fetch_add(sample.nanos, std::memory_order_relaxed);
    }
    /// The loop's thread: what was noted since the last call.
    LatencySample take() {
        const LatencySample now{count_.load(std::memory_order_relaxed),
                                nanos_.load(std::memory_order_relaxed)};
        const LatencySample since{now.count - taken_.count, now.nanos - taken_.nanos};
        taken_ = now;
        return since;
    }

  private:
    std::atomic<std::uint64_t> count_{0};
    std::atomic<std::uint64_t> nanos_{0};
    LatencySample taken_;
};

}  // namespace braid
