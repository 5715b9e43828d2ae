// SPDX-License-Identifier: BSD-3-Clause
// Heartbeats: to and from every other node on every channel, over connections of their own: what
// they carry never waits behind data. A channel is an address of the node with the lower id; the
// other one connects to it. Who connects, and what is said first, is the bus's (bus.h).
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/bus/link.h"
#include "cluster/bus/message_stream.h"
#include "engine/base/limits.h"
#include "engine/io/clock.h"
#include "engine/io/task.h"
#include "engine/status.h"

namespace braid::cluster {

struct ChannelPlace {
    std::uint32_t node{0};     // the other one
    std::uint32_t channel{0};  // the number of the address
    auto operator<=>(const ChannelPlace&) const = default;
};

/// Told of stamps, by which leases are counted (cluster/membership/lease.h).
class LeaseKeeper {
  public:
    virtual ~LeaseKeeper() = default;
    /// A stamp of the node, which came then, with the highest fence that it had promised, goes back to it
    /// now. Whether that extends its lease.
    virtual bool extends(std::uint32_t node, std::uint64_t promised, Nanos received) = 0;
    virtual void stamp_sent(Nanos stamp) = 0;
    virtual void stamp_came_back(std::uint32_t node, Nanos stamp, bool extends) = 0;
    /// This node has its own lease just now.
    virtual bool has_lease() const = 0;
};

class Heartbeats {
  public:
    /// What else a heartbeat says of its sender.
    struct Facts {
        std::uint64_t epoch{0};    // in force; 0: there is no array
        std::uint64_t promise{0};  // the highest
    };
    struct Setup {
        ReadyQueue& ready;
        Clock& clock;
        NodeBoot self;
        std::function<Facts()> facts;
        LeaseKeeper* leases{nullptr};  // none: no echo extends anything
    };

    explicit Heartbeats(Setup setup) : setup_(std::move(setup)) {}
    Heartbeats(const Heartbeats&) = delete;
    Heartbeats& operator=(const Heartbeats&) = delete;

    /// How often they go out from now on.
    void set_interval(Nanos interval);

    /// The next ones go out at once.
    void beat_now();
    /// The same, and whoever gets one answers at once. Their stamps are newer than all that
    /// stamp_sent() was told of before.
    void ask_now();

    /// Before any connection.
    void add(ChannelPlace place, std::string address);
    const std::string& address(ChannelPlace place) const { return channels_.at(place).address; }

    /// Breaks the channel's connection off, if there is one; all of a node's; all.
    void shut(ChannelPlace place);
    void shut(std::uint32_t node);
    void shut_all();
    /// A crash in the simulator; after all tasks have gone.
    void abandon() { channels_.clear(); }
    bool is_connected(ChannelPlace place) const { return channels_.at(place).stream != nullptr; }
    /// Until the one that there is has ended; by then there may be another one.
    Task<void> wait_shut(ChannelPlace place);
    /// The channel, which is not connected, has this connection, from now on.
    void begin(ChannelPlace place, std::unique_ptr<MessageStream> stream);
    /// After begin(), until the connection is over.
    /// @param boot   the other side's
    /// @param first  goes out before anything else
    /// @return  true: something came
    Task<bool> run(ChannelPlace place, std::uint64_t boot, std::vector<QueuedMessage> first);

    /// This node's stamps come back by it.
    bool is_up(ChannelPlace place) const;
    /// By another one of that node's.
    bool is_up_beside(ChannelPlace place) const;
    /// In the order of the addresses.
    std::vector<ChannelStatus> status(std::uint32_t node) const;
    /// As Link has it, by whichever channel.
    std::optional<Nanos> answered_since(std::uint32_t node) const;
    /// For how long all that came of this start of the node has said that it has no lease. nullopt: the
    /// last one said that it has.
    std::optional<Nanos> without_lease_for(std::uint32_t node) const;
    /// Bit i: something has come of node i a moment ago.
    std::uint32_t hears() const;
    /// The same, as another node has said last of itself; it means something while it is heard.
    std::uint32_t hears(std::uint32_t node) const;

  private:
    struct Channel {
        std::uint32_t node{0};
        std::string address;
        Link link;
        std::unique_ptr<MessageStream> stream;
        bool broken{false};
        bool at_once{false};  // the next one goes out without a pause
        bool asks{false};     // it is to be answered at once
        Timer* pausing{nullptr};
        Event over;
    };

    static void beat_at_once(Channel& channel);
    void break_off(Channel& channel);
    Task<void> send_all(Channel* channel, std::vector<QueuedMessage> first);
    Task<void> send(Channel* channel, QueuedMessage message);
    Task<bool> receive_all(Channel* channel, NodeBoot peer);
    Checked<Unit> take(Channel& channel, NodeBoot peer, const Message& message);
    QueuedMessage next_of(Channel& channel);
    void note_lease(NodeBoot peer, bool has_lease);

    Setup setup_;
    Nanos interval_{millis(heartbeat_ms_default)};
    Nanos stamp_{};  // the newest that has gone out, by whichever channel
    std::map<ChannelPlace, Channel> channels_;
    struct Unleased {
        std::uint64_t boot{0};
        Nanos since{};
    };
    std::map<std::uint32_t, Unleased> unleased_;  // nodes
    std::map<std::uint32_t, std::uint32_t> said_to_hear_;
};

}  // namespace braid::cluster
