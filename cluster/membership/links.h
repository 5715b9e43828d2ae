// SPDX-License-Identifier: BSD-3-Clause
// Links: which other nodes this one can speak with, over which channel, as heartbeats tell. Pure:
// times come in, as this node's clock has them.
//
// A link is up while this node's own stamps come back over it: what it sends arrives there, and what
// is sent there arrives here. It is down L after the newest stamp that came back, was sent. So a
// cable that carries one way only is no link for either side, and heartbeats that lay in a buffer
// while this node slept make nothing look fresh.
//
// From outside: a heartbeat of a node that is not known, or of this node, over a channel that there
// is not, or with an echo of a stamp that was not sent, is refused and changes nothing. What
// overtook an older heartbeat stays.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "cluster/membership/lease.h"
#include "cluster/wire/node_boot.h"
#include "cluster/wire/node_id.h"
#include "engine/base/units.h"

namespace braid::cluster {

/// A heartbeat (cluster/wire/heartbeat.h), with whose it is.
struct NodeHeartbeat {
    NodeBoot from;
    Nanos stamp;               // of the sender's clock
    std::optional<Echo> echo;  // the receiver's newest stamp that has come over this channel
    NodeSet hears;             // whose links are up, as the sender sees them
    std::uint64_t epoch{0};    // of the newest configuration that it has adopted; 0: none
    std::uint64_t promise{0};  // the newest epoch that it has promised
    bool has_lease{false};     // it serves
};

class Links {
  public:
    /// @param others    the nodes that may be heard; without this one
    /// @param channels  numbered from 0, the same for all nodes
    /// @param lease     L: for how long a stamp that came back keeps a link up
    Links(NodeBoot self, NodeSet others, std::uint32_t channels, Nanos lease);

    /// Heartbeats go out with this stamp; never earlier than the one before.
    void sent(Nanos stamp);

    enum class Heard : std::uint8_t {
        taken,
        new_life,  // of its sender, which was heard in another one: all that was known of it is gone
        refused,   // it makes no sense
    };
    /// @param now  when it came
    Heard heard(std::uint32_t channel, const NodeHeartbeat& heartbeat, Nanos now);

    /// What the next heartbeat to a node over a channel sends back.
    struct Received {
        Stamp stamp;
        std::uint64_t epoch{0};  // that came with it
        Nanos received;
    };
    std::optional<Received> newest(NodeId node, std::uint32_t channel) const;

    bool is_up(NodeId node, std::uint32_t channel, Nanos now) const;
    /// Over some channel.
    bool is_up(NodeId node, Nanos now) const;
    /// For NodeHeartbeat::hears.
    NodeSet up(Nanos now) const;

    /// What a node said of itself in its newest heartbeat. It means something while its link is up.
    struct Said {
        std::uint64_t boot{0};
        Nanos stamp;
        Nanos received;
        NodeSet hears;
        std::uint64_t epoch{0};
        std::uint64_t promise{0};
        bool has_lease{false};
    };
    /// nullptr: it was never heard. Until the next heartbeat comes.
    const Said* said(NodeId node) const;
    /// The link is up, and the other node says so, too.
    bool is_up_both_ways(NodeId node, Nanos now) const;

  private:
    struct Channel {
        std::optional<Received> newest;
        std::optional<Nanos> came_back;  // the newest own stamp
    };
    struct Peer {
        Said said;
        std::vector<Channel> channels;
    };
    bool makes_sense(std::uint32_t channel, const NodeHeartbeat& heartbeat) const;

    NodeBoot self_;
    NodeSet others_;
    std::uint32_t channels_;
    Nanos lease_;
    std::optional<Nanos> sent_;
    std::map<NodeId, Peer> peers_;
};

}  // namespace braid::cluster
