// SPDX-License-Identifier: BSD-3-Clause
// Link: one channel between this node and another one, as the heartbeats over it show it. Pure: what
// the next heartbeat says, and what one that has come tells.
//
// Invariants: stamps grow, over all connections; what comes back went out on this connection. The
// link is up only if this node's own stamps come back, the newest of them a moment ago: what is heard
// of the other side alone shows one direction.
#pragma once

#include <cstdint>
#include <optional>

#include "cluster/wire/heartbeat.h"
#include "engine/base/units.h"

namespace braid::cluster {

class Link {
  public:
    /// A stamp that is older than four heartbeats take shows nothing, and this is the least.
    static constexpr Nanos fresh_min = millis(1200);

    /// How often heartbeats go out here. How often they do there, the stamps tell that come.
    void set_interval(Nanos interval) { interval_ = interval.value; }
    Nanos fresh_for() const;

    /// A connection begins, or is over.
    void begin(Nanos now);
    void end();

    /// Stamp, echo and held of what goes out now; the rest is the caller's.
    Heartbeat next(Nanos now);
    /// Refused: it echoes what never went out, or the other side's clock goes back.
    Checked<Unit> heard(const Heartbeat& heartbeat, Nanos now);

    /// This node's stamps come back.
    bool is_up(Nanos now) const { return connected_ && is_fresh(echoed_, now); }
    /// The other node's come.
    bool is_heard(Nanos now) const { return connected_ && is_fresh(came_at_, now); }
    /// Nothing has come back for so long, or since the connection began.
    Nanos unanswered_for(Nanos now) const;
    /// How long ago the newest of this node's stamps went out that came back, over whichever
    /// connection. nullopt: none ever did.
    std::optional<Nanos> answered_since(Nanos now) const;
    std::optional<Nanos> round_trip() const { return round_trip_; }
    std::optional<Nanos> heard_since(Nanos now) const;
    /// As the heartbeat had it that is echoed now.
    std::uint64_t peer_promise() const { return peer_promise_; }
    std::uint64_t sent() const { return sent_; }
    std::uint64_t received() const { return received_; }

  private:
    bool is_fresh(std::uint64_t stamp, Nanos now) const {
        return stamp != 0 && now.value < stamp + fresh_for().value;
    }
    void note_pace(std::uint64_t gap);

    std::uint64_t interval_{0};
    std::uint64_t pace_{0};  // of the other side: between two of its stamps, lately

    bool connected_{false};
    std::uint64_t began_{0};       // the connection
    std::uint64_t first_{0};       // stamp on it
    std::uint64_t last_{0};        // that went out
    std::uint64_t echoed_{0};      // the newest that came back
    std::uint64_t peer_stamp_{0};  // the last that came on this connection
    std::uint64_t came_at_{0};     // when
    std::uint64_t peer_promise_{0};
    std::optional<Nanos> round_trip_;
    std::uint64_t sent_{0};
    std::uint64_t received_{0};
};

}  // namespace braid::cluster
