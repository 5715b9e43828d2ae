// SPDX-License-Identifier: BSD-3-Clause
#include "engine/walks/throttle.h"

#include <algorithm>
#include <cmath>

#include "parity/require.h"

namespace braid {
namespace {

void smooth(double& value, LatencySample sample) {
    if (sample.count == 0) return;
    const double now =
        std::sqrt(static_cast<double>(sample.squares) / static_cast<double>(sample.count));
    value = value == 0 ? now : value * 0.8 + now * 0.2;
}

}  // namespace

Nanos Throttle::pause_after(Nanos step, LatencySample during, LatencySample quiet) {
    const auto took = static_cast<double>(step.value);
    step_ = step_ == 0 ? took : step_ * 0.8 + took * 0.2;
    // Other nodes tell of theirs now and then only, and a step may be shorter than that.
    const bool told = during.count != 0 || quiet.count != 0;
    since_clients_ = told ? 0 : since_clients_ + took + pause_;
    if (!told && has_clients()) return {static_cast<std::uint64_t>(pause_)};
    if (!told) {  // nobody is disturbed
        pause_ *= 0.5;
        if (pause_ < step_ * 0.1) pause_ = 0;
        severity_ = pause_ / std::max(pause_ + step_, 1.0);
        return {static_cast<std::uint64_t>(pause_)};
    }
    smooth(busy_latency_, during);
    smooth(quiet_latency_, quiet);
    since_probe_ = quiet.count != 0 ? 0 : since_probe_ + took + pause_;
    if (quiet_latency_ != 0 && busy_latency_ > quiet_latency_ * worse_max) {
        pause_ = std::max(pause_ * 1.3, step_ * 0.1);
    } else {
        pause_ *= 0.8;
    }
    pause_ = std::min(pause_, step_ * (1 / share_min - 1));
    severity_ = pause_ / std::max(pause_ + step_, 1.0);
    BRAID_REQUIRE(severity_ <= 1);
    const bool probe = quiet_latency_ == 0 || since_probe_ > static_cast<double>(probe_every_nanos);
    if (probe && pause_ < static_cast<double>(probe_.value)) {
        since_probe_ = 0;
        return probe_;
    }
    return {static_cast<std::uint64_t>(pause_)};
}

}  // namespace braid
