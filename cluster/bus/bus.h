// SPDX-License-Identifier: BSD-3-Clause
// Bus: this node's connections to all others. It listens, and connects to each node with a lower id,
// again and again; who comes says who he is, and is refused with the reason if he may not. There is
// one session for each pair of nodes, and its connection: a new one takes the place of the old one.
// Heartbeats have connections of their own, one for each address. With the cluster's key all of it is
// TLS, and whoever does not have the key gets nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/bus/heartbeats.h"
#include "cluster/bus/session.h"
#include "cluster/config/key_file.h"
#include "cluster/wire/hello.h"
#include "engine/base/rng.h"
#include "engine/io/clock.h"
#include "engine/io/net.h"
#include "engine/io/pauses.h"

namespace braid::cluster {

/// Told of what becomes of connections.
class BusListener {
  public:
    virtual ~BusListener() = default;
    /// Something came by it.
    virtual void connected(std::uint32_t node) = 0;
    virtual void disconnected(std::uint32_t node, const std::string& why) = 0;
    /// What the node had in memory is gone: what it has not answered it never will.
    virtual void restarted(std::uint32_t node) = 0;
    /// The node says that it has taken this one for gone, and its array has stopped for that; or that it
    /// goes on without this start of it. It may say so again and again.
    enum class Goes : bool { stops, on };
    virtual void taken_for_gone(std::uint32_t by, Goes its_array) = 0;
    /// Somebody was not let in, or a node does not let this one in, or cannot be reached.
    virtual void refused(const std::string& why) = 0;
    /// A node of this cluster has come that this one does not know, and was not let in.
    virtual void unknown_came(std::uint32_t) {}
};

class Bus final {
  public:
    struct Peer {
        std::uint32_t id{0};
        std::vector<NetAddress> addresses;  // the first is tried first
    };
    struct Setup {
        ReadyQueue& ready;
        Clock& clock;
        Net& net;
        NodeBoot self;
        std::string cluster;              // its name
        std::vector<NetAddress> listens;  // of this node
        std::vector<Peer> peers;
        std::uint64_t seed{0};
        std::optional<ClusterKey> key;  // without it nothing is hidden, and anybody may come
        CommandTaker& taker;
        BusListener& listener;
        std::function<Heartbeats::Facts()> facts{};  // for heartbeats; none: there are none to tell
        LeaseKeeper* leases{nullptr};                // none: nobody has one
    };

    explicit Bus(Setup setup);
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;
    ~Bus();

    /// Listens, and begins to connect. Refused: an address that nobody can listen at here.
    Task<Checked<Unit>> start();
    /// Ends all connections, and waits until nothing is under way.
    Task<void> stop();
    /// A crash in the simulator: everything ends where it stands.
    void abandon();

    /// One more node, after start(): it may come, and is called where that is this node's part.
    void add(Peer peer);
    /// The node is none of the cluster's any more: no start of it is let in, and one that was given up
    /// before hears that where it is met. add() of the same node takes it back.
    void drop(std::uint32_t node);
    bool is_dropped(std::uint32_t node) const { return dropped_.contains(node); }
    /// The node is not let in any more, neither to a session nor with heartbeats: Session::give_up().
    void give_up(std::uint32_t node, GivenUp why);
    void give_up_all(GivenUp why);

    Session& session(std::uint32_t node) { return *sessions_.at(node); }
    const Session& session(std::uint32_t node) const { return *sessions_.at(node); }
    const Heartbeats& heartbeats() const { return heartbeats_; }
    void beat_now() { heartbeats_.beat_now(); }
    void ask_now() { heartbeats_.ask_now(); }
    void set_heartbeat_interval(Nanos interval) { heartbeats_.set_interval(interval); }
    /// By which the node's session goes just now. None: it does not.
    std::optional<std::uint32_t> channel_of(std::uint32_t node) const;

  private:
    struct Met {
        std::uint32_t node{0};
        ConnectionKind kind{ConnectionKind::session};
        std::uint32_t channel{0};  // the connection goes by
        Session::Where where;
    };
    struct Meeting {  // of a node that was called
        std::unique_ptr<MessageStream> stream;
        Met met;
    };
    class Stranger;
    struct Leaving;

    Task<void> accept_all(std::uint32_t channel);
    Task<void> greet(std::unique_ptr<Connection> connection, std::uint32_t channel);
    enum class Side : std::uint8_t { accepts, connects };
    Task<Checked<std::unique_ptr<Connection>>> secure(std::unique_ptr<Connection> connection,
                                                      Side side) const;
    std::unique_ptr<MessageStream> stream_of(std::unique_ptr<Connection> connection) const;
    Task<Checked<Unit>> let_in(std::unique_ptr<MessageStream>* stream, Met met);
    Task<Checked<Unit>> let_beat(std::unique_ptr<MessageStream>* stream, Met met);
    Checked<Unit> check_node(std::uint32_t node) const;
    void make_session(const Peer& peer);
    void call_now_and_then(const Peer& peer);
    Task<void> call(Peer peer);
    Task<Checked<bool>> call_any(Peer peer);
    std::vector<std::uint32_t> channels_in_turn(const Peer& peer) const;
    struct Watched;
    void watch_channel(std::uint32_t node, Watched* watched);
    Task<void> watch_channels();
    Task<Checked<bool>> call_at(ChannelPlace place, NetAddress address);
    Task<void> beat(ChannelPlace place, NetAddress address);
    Task<Checked<bool>> beat_at(ChannelPlace place, NetAddress address);
    Task<Checked<Meeting>> meet(ChannelPlace place, NetAddress address, ConnectionKind kind);
    Task<Checked<Met>> read_hello(MessageStream* stream, const Stranger* stranger,
                                  std::string* whom);
    Refusal heard(const Message& message, const std::string& whom);
    Checked<Met> met(const Message& message) const;
    QueuedMessage hello_to(std::uint32_t node, ConnectionKind kind, std::uint64_t knows) const;
    Refusal silent(const Stranger& stranger, const Refusal& otherwise) const;
    Task<void> refuse(MessageStream* stream, Refused refused);
    void begin(Met met, std::unique_ptr<MessageStream> stream);
    Task<Checked<bool>> serve(std::uint32_t node, std::vector<QueuedMessage> first);
    Task<void> hurry(std::uint64_t stranger);
    void make_room();
    Task<void> pause(Nanos time);
    void tell_refused(const std::string& whom, const std::string& why);

    Setup setup_;
    std::set<std::uint32_t> dropped_;
    bool watches_channels_{false};
    Rng rng_;
    Pauses pauses_;
    TaskGroup tasks_;
    bool stopping_{false};
    std::map<std::uint32_t, std::unique_ptr<Session>> sessions_;
    std::map<std::uint32_t, std::uint32_t> channels_;  // of sessions, as they were last
    Heartbeats heartbeats_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    struct Waited {
        Connection* connection{nullptr};
        Timer* timer{nullptr};  // when it is to end
        bool came{false};       // by itself
        bool is_shut{false};    // to make room
        bool is_late{false};
    };
    std::map<std::uint64_t, Waited> strangers_;  // who have not said who they are
    std::size_t strangers_here_{0};              // of them, who came by themselves
    std::uint64_t last_stranger_{0};
    std::map<std::string, std::string> told_;  // of whom, what: not the same again and again
};

}  // namespace braid::cluster
