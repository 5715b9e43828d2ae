// SPDX-License-Identifier: BSD-3-Clause
// Throttle: how long a background walk pauses after each step, so that clients hardly notice it.
// It compares the clients' latency while the walk works with their latency while it pauses, and
// pauses longer when the former is worse; without clients it does not pause. No fixed rate. Latency is
// the root of the mean square: a few requests that wait for long count for more than many that wait for
// a little.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/base/units.h"

namespace braid {

/// Client requests that ended in some stretch of time.
struct LatencySample {
    std::uint64_t count{0};
    std::uint64_t squares{0};  // the sum of their latencies' squares, in square microseconds
    /// Of one; it counts for ten seconds at most.
    static std::uint64_t square_of(Nanos latency) {
        const std::uint64_t micros = std::min<std::uint64_t>(latency.value / 1000, 10'000'000);
        return micros * micros;
    }
};

class Throttle {
  public:
    static constexpr double worse_max = 1.5;  // of the latency without the walk
    static constexpr double share_min = 0.2;  // of the time that the walk always gets
    static constexpr std::uint64_t probe_nanos = 2'000'000;  // a pause, to learn the quiet latency
    // Where other nodes tell of their clients, too: what comes so long after a pause began is still of
    // before; so a pause that is to show anything is longer.
    static constexpr std::uint64_t told_of_before_nanos = 7'000'000;
    static constexpr std::uint64_t probe_of_nodes_nanos = 14'000'000;
    static constexpr double clients_gone_nanos =
        50'000'000;  // of whom nothing was heard for so long
    static constexpr std::uint64_t probe_every_nanos = 500'000'000;

    /// @param probe  how long a pause is at least that is to show the quiet latency
    explicit Throttle(Nanos probe = {probe_nanos}) : probe_(probe) {}

    /// A step took `step`; clients ended `during` it, and `quiet` in the pause before it.
    /// @return the pause to make now
    Nanos pause_after(Nanos step, LatencySample during, LatencySample quiet);

    /// 0: full speed; towards 1: mostly paused.
    double severity() const { return severity_; }
    /// Clients asked for something a moment ago.
    bool has_clients() const { return since_clients_ < clients_gone_nanos; }

  private:
    Nanos probe_;
    double busy_latency_{0};  // microseconds, smoothed; 0: not known
    double quiet_latency_{0};
    double pause_{0};
    double step_{0};  // smoothed
    double since_probe_{0};
    double severity_{0};
    double since_clients_{clients_gone_nanos};
};

}  // namespace braid
