// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/link.h"

#include <algorithm>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

Refusal bad_heartbeat(const char* what) { return {what, RefusalCode::invalid}; }

/// Nobody's heartbeats are rarer; a node that has stood still sends one later.
constexpr std::uint64_t pace_max = millis(lease_ms_max / heartbeats_per_lease).value;

}  // namespace

Nanos Link::fresh_for() const {
    return {std::max(fresh_min.value, heartbeats_per_lease * std::max(interval_, pace_))};
}

/// Some go out between two that are due: the longest pause counts, and less from one to the next.
void Link::note_pace(std::uint64_t gap) {
    pace_ = std::max(std::min(gap, pace_max), pace_ - pace_ / 16);
}

void Link::begin(Nanos now) {
    BRAID_REQUIRE(!connected_);
    connected_ = true;
    began_ = now.value;
    first_ = std::max(now.value, last_ + 1);
    peer_stamp_ = 0;
}

void Link::end() { connected_ = false; }

Heartbeat Link::next(Nanos now) {
    BRAID_REQUIRE(connected_);
    Heartbeat heartbeat;
    last_ = std::max(now.value, last_ + 1);
    heartbeat.stamp = last_;
    heartbeat.echo = peer_stamp_;
    if (peer_stamp_ != 0) heartbeat.held = now.value - std::min(now.value, came_at_);
    ++sent_;
    return heartbeat;
}

Checked<Unit> Link::heard(const Heartbeat& heartbeat, Nanos now) {
    BRAID_REQUIRE(connected_);
    if (heartbeat.stamp <= peer_stamp_) return bad_heartbeat("the clock of a node has gone back");
    if (heartbeat.echo != 0 && (heartbeat.echo < first_ || heartbeat.echo > last_)) {
        return bad_heartbeat("a heartbeat comes back that did not go out");
    }
    ++received_;
    if (peer_stamp_ != 0) note_pace(heartbeat.stamp - peer_stamp_);
    peer_stamp_ = heartbeat.stamp;
    peer_promise_ = heartbeat.promise;
    came_at_ = now.value;
    if (heartbeat.echo <= echoed_) return Unit{};
    echoed_ = heartbeat.echo;
    // Clocks do not run at quite the same rate.
    const std::uint64_t passed = now.value - std::min(now.value, heartbeat.echo);
    round_trip_ = Nanos{passed - std::min(passed, heartbeat.held)};
    return Unit{};
}

Nanos Link::unanswered_for(Nanos now) const {
    const std::uint64_t since = std::max(began_, echoed_);
    return {now.value - std::min(now.value, since)};
}

std::optional<Nanos> Link::answered_since(Nanos now) const {
    if (echoed_ == 0) return std::nullopt;
    return Nanos{now.value - std::min(now.value, echoed_)};
}

std::optional<Nanos> Link::heard_since(Nanos now) const {
    if (received_ == 0) return std::nullopt;
    return Nanos{now.value - std::min(now.value, came_at_)};
}

}  // namespace braid::cluster
