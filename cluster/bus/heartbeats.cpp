// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/heartbeats.h"

#include <algorithm>
#include <utility>

#include "cluster/wire/heartbeat.h"
#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {

void Heartbeats::add(ChannelPlace place, std::string address) {
    const auto [at, is_new] = channels_.try_emplace(place);
    BRAID_REQUIRE(is_new);
    at->second.node = place.node;
    at->second.link.set_interval(interval_);
    at->second.address = std::move(address);
}

void Heartbeats::set_interval(Nanos interval) {
    interval_ = interval;
    for (auto& [place, channel] : channels_) channel.link.set_interval(interval);
}

void Heartbeats::beat_at_once(Channel& channel) {
    channel.at_once = true;
    if (channel.pausing != nullptr) channel.pausing->cancel();
}

void Heartbeats::beat_now() {
    for (auto& [place, channel] : channels_) beat_at_once(channel);
}

void Heartbeats::ask_now() {
    for (auto& [place, channel] : channels_) channel.asks = true;
    beat_now();
}

void Heartbeats::shut(ChannelPlace place) {
    Channel& channel = channels_.at(place);
    if (channel.stream != nullptr) break_off(channel);
}

void Heartbeats::shut(std::uint32_t node) {
    for (const auto& [place, channel] : channels_) {
        if (place.node == node) shut(place);
    }
}

void Heartbeats::shut_all() {
    for (const auto& [place, channel] : channels_) shut(place);
}

Task<void> Heartbeats::wait_shut(ChannelPlace place) {
    Channel& channel = channels_.at(place);
    if (channel.stream != nullptr) co_await channel.over.next();
}

void Heartbeats::begin(ChannelPlace place, std::unique_ptr<MessageStream> stream) {
    Channel& channel = channels_.at(place);
    BRAID_REQUIRE(channel.stream == nullptr && stream != nullptr);
    channel.stream = std::move(stream);
    channel.broken = false;
    channel.link.begin(setup_.clock.stamp());
}

Task<bool> Heartbeats::run(ChannelPlace place, std::uint64_t boot,
                           std::vector<QueuedMessage> first) {
    Channel& channel = channels_.at(place);  // its address stays
    TaskGroup beside(setup_.ready);
    beside.spawn(send_all(&channel, std::move(first)));
    const NodeBoot peer{place.node, boot};
    const bool came = co_await receive_all(&channel, peer);
    break_off(channel);
    co_await beside.join();
    channel.link.end();
    channel.stream.reset();
    channel.over.set();
    co_return came;
}

void Heartbeats::break_off(Channel& channel) {
    if (std::exchange(channel.broken, true)) return;
    channel.stream->shut();
    if (channel.pausing != nullptr) channel.pausing->cancel();
}

// ---- what goes out -----------------------------------------------------------------------------

/// A connection by which nothing comes back is given up: over another one it may. But where heartbeats
/// are rare, nothing may come back for as long as four of them take.
Task<void> Heartbeats::send_all(Channel* channel, std::vector<QueuedMessage> first) {
    for (QueuedMessage& message : first) co_await send(channel, std::move(message));
    while (!channel->broken) {
        const Nanos patience = std::max(millis(silent_ms_max), channel->link.fresh_for());
        if (channel->link.unanswered_for(setup_.clock.stamp()) > patience) {
            break_off(*channel);
            break;
        }
        channel->at_once = false;  // what is wanted from here on is not in this one
        QueuedMessage message = next_of(*channel);
        co_await send(channel, std::move(message));
        if (channel->broken) break;
        if (channel->at_once) continue;
        Timer timer(setup_.clock, Nanos{setup_.clock.now().value + interval_.value});
        channel->pausing = &timer;
        co_await timer;
        channel->pausing = nullptr;
    }
}

Task<void> Heartbeats::send(Channel* channel, QueuedMessage message) {
    if (channel->broken) co_return;
    std::vector<const QueuedMessage*> messages{&message};
    const Checked<Unit> sent = co_await channel->stream->send(std::move(messages), 0);
    if (!sent) break_off(*channel);
}

/// Stamps grow from one to the next, whatever the clock does, and by whichever channel they go.
QueuedMessage Heartbeats::next_of(Channel& channel) {
    const Nanos now{std::max(setup_.clock.stamp().value, stamp_.value + 1)};
    Heartbeat heartbeat = channel.link.next(now);
    stamp_ = {heartbeat.stamp};
    if (std::exchange(channel.asks, false)) heartbeat.flags |= heartbeat_flags::asks;
    heartbeat.hears = hears();
    if (setup_.leases != nullptr) {
        setup_.leases->stamp_sent({heartbeat.stamp});
        const Nanos received{now.value - heartbeat.held};
        const std::uint64_t promised = channel.link.peer_promise();
        if (heartbeat.echo != 0 && setup_.leases->extends(channel.node, promised, received)) {
            heartbeat.flags |= heartbeat_flags::extends;
        }
        if (setup_.leases->has_lease()) heartbeat.flags |= heartbeat_flags::leased;
    }
    if (setup_.facts) {
        const Facts facts = setup_.facts();
        heartbeat.epoch = facts.epoch;
        heartbeat.promise = facts.promise;
    }
    QueuedMessage message;
    message.header.type = MessageType::heartbeat;
    message.body = encode_heartbeat(heartbeat);
    return message;
}

// ---- what comes --------------------------------------------------------------------------------

Task<bool> Heartbeats::receive_all(Channel* channel, NodeBoot peer) {
    for (bool came = false;; came = true) {
        const Checked<Message> message = co_await channel->stream->next();
        if (!message || !take(*channel, peer, *message)) co_return came;
    }
}

Checked<Unit> Heartbeats::take(Channel& channel, NodeBoot peer, const Message& message) {
    const MessageHeader& header = message.header;
    if (header.sender != peer.node || header.boot != peer.boot ||
        header.type != MessageType::heartbeat || message.payload_size != 0) {
        return Refusal{"it is no heartbeat of that node", RefusalCode::invalid};
    }
    BRAID_TRY(const Heartbeat heartbeat, decode_heartbeat(message.body));
    BRAID_CHECK(channel.link.heard(heartbeat, setup_.clock.stamp()));
    // The other side has only just begun: it is not left to wait for its first echo.
    if (heartbeat.echo == 0 && channel.pausing != nullptr) channel.pausing->cancel();
    if (setup_.leases != nullptr && heartbeat.echo != 0) {
        const bool extends = (heartbeat.flags & heartbeat_flags::extends) != 0;
        setup_.leases->stamp_came_back(peer.node, {heartbeat.echo}, extends);
    }
    if ((heartbeat.flags & heartbeat_flags::asks) != 0) beat_at_once(channel);
    note_lease(peer, (heartbeat.flags & heartbeat_flags::leased) != 0);
    said_to_hear_[peer.node] = heartbeat.hears;
    return Unit{};
}

void Heartbeats::note_lease(NodeBoot peer, bool has_lease) {
    if (has_lease) {
        unleased_.erase(peer.node);
        return;
    }
    Unleased& at = unleased_[peer.node];
    if (at.boot != peer.boot) at = {peer.boot, setup_.clock.stamp()};
}

std::optional<Nanos> Heartbeats::without_lease_for(std::uint32_t node) const {
    const auto at = unleased_.find(node);
    if (at == unleased_.end()) return std::nullopt;
    return Nanos{setup_.clock.stamp().value - at->second.since.value};
}

// ---- what is shown -----------------------------------------------------------------------------

bool Heartbeats::is_up(ChannelPlace place) const {
    return channels_.at(place).link.is_up(setup_.clock.stamp());
}

bool Heartbeats::is_up_beside(ChannelPlace place) const {
    return std::ranges::any_of(channels_, [&](const auto& one) {
        return one.first.node == place.node && one.first != place && is_up(one.first);
    });
}

std::vector<ChannelStatus> Heartbeats::status(std::uint32_t node) const {
    const Nanos now = setup_.clock.stamp();
    std::vector<ChannelStatus> all;
    for (auto at = channels_.lower_bound({node, 0}); at != channels_.end(); ++at) {
        if (at->first.node != node) break;
        const Link& link = at->second.link;
        ChannelStatus status;
        status.address = at->second.address;
        status.up = link.is_up(now);
        status.round_trip = link.round_trip();
        status.heard_since = link.heard_since(now);
        status.sent = link.sent();
        status.received = link.received();
        all.push_back(std::move(status));
    }
    return all;
}

std::optional<Nanos> Heartbeats::answered_since(std::uint32_t node) const {
    const Nanos now = setup_.clock.stamp();
    std::optional<Nanos> least;
    for (auto at = channels_.lower_bound({node, 0}); at != channels_.end(); ++at) {
        if (at->first.node != node) break;
        const std::optional<Nanos> since = at->second.link.answered_since(now);
        if (since && (!least || *since < *least)) least = since;
    }
    return least;
}

std::uint32_t Heartbeats::hears() const {
    const Nanos now = setup_.clock.stamp();
    std::uint32_t nodes = 0;
    for (const auto& [place, channel] : channels_) {
        if (channel.link.is_heard(now)) nodes |= std::uint32_t{1} << place.node;
    }
    return nodes;
}

std::uint32_t Heartbeats::hears(std::uint32_t node) const {
    const auto at = said_to_hear_.find(node);
    return at == said_to_hear_.end() ? 0 : at->second;
}

}  // namespace braid::cluster
