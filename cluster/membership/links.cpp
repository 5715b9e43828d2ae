// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/membership/links.h"

#include <algorithm>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {

Links::Links(NodeBoot self, NodeSet others, std::uint32_t channels, Nanos lease)
    : self_(self), others_(others), channels_(channels), lease_(lease) {
    BRAID_REQUIRE(!others.has(NodeId{self.node}));
    BRAID_REQUIRE(channels != 0);
    BRAID_REQUIRE(channels <= node_addresses_max);
}

void Links::sent(Nanos stamp) {
    BRAID_REQUIRE(!sent_ || stamp >= *sent_);
    sent_ = stamp;
}

/// An echo of an earlier life of this node is nothing wrong: it is of no use.
bool Links::makes_sense(std::uint32_t channel, const NodeHeartbeat& heartbeat) const {
    if (channel >= channels_ || heartbeat.from.node >= nodes_max) return false;
    if (!others_.has(NodeId{heartbeat.from.node}) || heartbeat.from.boot == 0) return false;
    if (heartbeat.epoch > epoch_max || heartbeat.promise > epoch_max) return false;
    if (!heartbeat.echo || heartbeat.echo->stamp.boot != self_.boot) return true;
    return sent_ && heartbeat.echo->stamp.at <= *sent_;
}

Links::Heard Links::heard(std::uint32_t channel, const NodeHeartbeat& heartbeat, Nanos now) {
    if (!makes_sense(channel, heartbeat)) return Heard::refused;
    const NodeId node{heartbeat.from.node};
    const auto known = peers_.find(node);
    const bool is_new_life =
        known != peers_.end() && known->second.said.boot != heartbeat.from.boot;
    if (is_new_life) peers_.erase(known);
    const auto [at, is_new] = peers_.try_emplace(node);
    Peer& peer = at->second;
    peer.channels.resize(channels_);
    if (is_new || heartbeat.stamp >= peer.said.stamp) {
        peer.said = {.boot = heartbeat.from.boot,
                     .stamp = heartbeat.stamp,
                     .received = now,
                     .hears = heartbeat.hears,
                     .epoch = heartbeat.epoch,
                     .promise = heartbeat.promise,
                     .has_lease = heartbeat.has_lease};
    }
    Channel& over = peer.channels[channel];
    if (!over.newest || heartbeat.stamp >= over.newest->stamp.at) {
        over.newest = Received{{heartbeat.from.boot, heartbeat.stamp}, heartbeat.epoch, now};
    }
    if (heartbeat.echo && heartbeat.echo->stamp.boot == self_.boot) {
        over.came_back = std::max(over.came_back, std::optional{heartbeat.echo->stamp.at});
    }
    return is_new_life ? Heard::new_life : Heard::taken;
}

std::optional<Links::Received> Links::newest(NodeId node, std::uint32_t channel) const {
    BRAID_REQUIRE(channel < channels_);
    const auto at = peers_.find(node);
    return at == peers_.end() ? std::nullopt : at->second.channels[channel].newest;
}

bool Links::is_up(NodeId node, std::uint32_t channel, Nanos now) const {
    BRAID_REQUIRE(channel < channels_);
    const auto at = peers_.find(node);
    if (at == peers_.end()) return false;
    const auto& came_back = at->second.channels[channel].came_back;
    return came_back && now.value < came_back->value + lease_.value;
}

bool Links::is_up(NodeId node, Nanos now) const {
    for (std::uint32_t channel = 0; channel != channels_; ++channel) {
        if (is_up(node, channel, now)) return true;
    }
    return false;
}

NodeSet Links::up(Nanos now) const {
    NodeSet nodes;
    for (const NodeId node : others_) {
        if (is_up(node, now)) nodes.add(node);
    }
    return nodes;
}

const Links::Said* Links::said(NodeId node) const {
    const auto at = peers_.find(node);
    return at == peers_.end() ? nullptr : &at->second.said;
}

bool Links::is_up_both_ways(NodeId node, Nanos now) const {
    const Said* word = said(node);
    return word != nullptr && is_up(node, now) && word->hears.has(NodeId{self_.node});
}

}  // namespace braid::cluster
