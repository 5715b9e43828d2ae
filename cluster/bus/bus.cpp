// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/bus.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "cluster/bus/tls_connection.h"
#include "cluster/wire/hello.h"
#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

Refusal conflict(std::string text) { return {std::move(text), RefusalCode::conflict}; }

/// Without the port, which is another one each time.
std::string host_in(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

std::string named(const std::string& place, std::uint32_t node) {
    return fmt::format("{} (node {})", place, node);
}

// Doubled each time that nobody is there, or nothing comes. Whoever was away, and whom others have
// taken for gone meanwhile, learns it within the longer one.
constexpr std::uint64_t redial_ms_min = 100;
constexpr std::uint64_t redial_ms_max = 1000;
// Of heartbeats: who has none for the time of a lease is excluded.
constexpr std::uint64_t rebeat_ms_max = 300;
// So often it is looked by which channel sessions go.
constexpr std::uint64_t watch_ms = 300;

BusListener::Goes goes(const Refused& refused) {
    return refused.code == RefusedCode::excluded ? BusListener::Goes::on : BusListener::Goes::stops;
}

/// What is said to a node that may not come in.
Refused refused_by(const Session& session, std::uint64_t boot, const Refusal& why) {
    if (session.has_given_up(boot)) return session.why_given_up();
    return {RefusedCode::other, why.text};
}

Task<Checked<std::unique_ptr<Connection>>> as_it_is(std::unique_ptr<Connection> connection) {
    co_return std::move(connection);
}

}  // namespace

Bus::Bus(Setup setup)
    : setup_(std::move(setup)),
      rng_(setup_.seed),
      pauses_(setup_.clock),
      tasks_(setup_.ready),
      heartbeats_({setup_.ready, setup_.clock, setup_.self, setup_.facts, setup_.leases}) {
    for (const Peer& peer : setup_.peers) make_session(peer);
}

void Bus::make_session(const Peer& peer) {
    BRAID_REQUIRE(peer.id != setup_.self.node && peer.id != 0 && peer.id < nodes_max);
    Session::Setup of{setup_.ready, setup_.clock, setup_.self, peer.id, setup_.taker};
    BRAID_REQUIRE(sessions_.emplace(peer.id, std::make_unique<Session>(of)).second);
    // Who has the lower id listens.
    std::uint32_t channel = 0;
    for (const NetAddress& at : peer.id < setup_.self.node ? peer.addresses : setup_.listens) {
        heartbeats_.add({peer.id, channel++}, text_of(at));
    }
}

Bus::~Bus() { BRAID_REQUIRE(tasks_.running() == 0); }

Task<Checked<Unit>> Bus::start() {
    for (const NetAddress& address : setup_.listens) {
        auto listener = co_await setup_.net.listen(address);
        if (!listener) {
            co_await stop();
            co_return listener.error();
        }
        listeners_.push_back(std::move(*listener));
    }
    for (std::uint32_t i = 0; i != listeners_.size(); ++i) tasks_.spawn(accept_all(i));
    for (const Peer& peer : setup_.peers) call_now_and_then(peer);
    co_return Unit{};
}

void Bus::call_now_and_then(const Peer& peer) {
    const bool are_several = setup_.listens.size() > 1 || peer.addresses.size() > 1;
    if (are_several && !std::exchange(watches_channels_, true)) tasks_.spawn(watch_channels());
    if (peer.id > setup_.self.node) return;  // it calls this one
    tasks_.spawn(call(peer));
    std::uint32_t channel = 0;
    for (const NetAddress& at : peer.addresses) tasks_.spawn(beat({peer.id, channel++}, at));
}

void Bus::add(Peer peer) {
    if (stopping_ || dropped_.erase(peer.id) != 0) return;
    make_session(peer);
    call_now_and_then(peer);
}

void Bus::drop(std::uint32_t node) {
    dropped_.insert(node);
    sessions_.at(node)->shut();
    heartbeats_.shut(node);
}

Task<void> Bus::stop() {
    stopping_ = true;
    for (const auto& listener : listeners_) listener->shut();
    for (const auto& [number, stranger] : strangers_) stranger.connection->shut();
    for (const auto& [node, session] : sessions_) session->shut();
    heartbeats_.shut_all();
    pauses_.cut_short();
    co_await tasks_.join();
    listeners_.clear();
}

void Bus::abandon() {
    tasks_.clear();
    sessions_.clear();
    heartbeats_.abandon();
    listeners_.clear();
}

void Bus::give_up(std::uint32_t node, GivenUp why) {
    sessions_.at(node)->give_up(why);
    heartbeats_.shut(node);
}

void Bus::give_up_all(GivenUp why) {
    for (const auto& [node, session] : sessions_) give_up(node, why);
}

std::optional<std::uint32_t> Bus::channel_of(std::uint32_t node) const {
    if (!session(node).is_connected()) return std::nullopt;
    return channels_.at(node);
}

Task<void> Bus::pause(Nanos time) {
    if (stopping_) co_return;
    Pause pause(pauses_, time);
    co_await pause;
}

void Bus::tell_refused(const std::string& whom, const std::string& why) {
    if (stopping_) return;
    if (told_.size() >= refusals_told_max) told_.clear();
    std::string& last = told_[whom];
    if (last == why) return;
    last = why;
    setup_.listener.refused(fmt::format("{}: {}", whom, why));
}

/// Whoever is at the other end of a connection, until he has said who he is; in time, or he has to
/// go. The connection lives as long.
class Bus::Stranger {
  public:
    Stranger(Bus& bus, Connection& connection, Side side)
        : bus_(bus), number_(++bus.last_stranger_) {
        const bool came = side == Side::accepts;
        bus.strangers_.emplace(number_, Waited{&connection, nullptr, came, false});
        bus.strangers_here_ += came ? 1 : 0;
        bus.tasks_.spawn(bus.hurry(number_));
    }
    Stranger(const Stranger&) = delete;
    Stranger& operator=(const Stranger&) = delete;
    ~Stranger() {
        const Waited waited = bus_.strangers_.at(number_);
        bus_.strangers_.erase(number_);
        bus_.strangers_here_ -= waited.came ? 1 : 0;
        if (waited.timer != nullptr) waited.timer->cancel();
    }
    bool has_come() const { return bus_.strangers_.at(number_).came; }
    /// make_room() has said why.
    bool had_to_go() const { return bus_.strangers_.at(number_).is_shut; }
    /// hurry() has ended it.
    bool was_late() const { return bus_.strangers_.at(number_).is_late; }

  private:
    Bus& bus_;
    std::uint64_t number_;
};

/// Nobody cancels the timer of a task that has ended, in whatever way.
struct Bus::Leaving {
    std::map<std::uint64_t, Waited>& strangers;
    std::uint64_t number;
    ~Leaving() {
        const auto found = strangers.find(number);
        if (found != strangers.end()) found->second.timer = nullptr;
    }
};

Task<void> Bus::hurry(std::uint64_t stranger) {
    const auto found = strangers_.find(stranger);
    if (found == strangers_.end() || stopping_) co_return;
    Pause time(pauses_, millis(hello_ms_max));
    found->second.timer = &time;
    const Leaving leaving{strangers_, stranger};
    co_await time;
    const auto still = strangers_.find(stranger);
    if (still == strangers_.end()) co_return;
    still->second.is_late = !stopping_;
    still->second.connection->shut();
}

// ---- what is said first ------------------------------------------------------------------------

QueuedMessage Bus::hello_to(std::uint32_t node, ConnectionKind kind, std::uint64_t knows) const {
    Hello hello;
    hello.receiver = static_cast<std::uint16_t>(node);
    hello.kind = kind;
    hello.knows = knows;
    hello.cluster = setup_.cluster;
    QueuedMessage message;
    message.header.type = MessageType::hello;
    message.body = encode_hello(hello);
    return message;
}

/// Who does not come to it because time ran out may be stopped; it says nothing of keys.
Refusal Bus::silent(const Stranger& stranger, const Refusal& otherwise) const {
    if (!stranger.was_late()) return otherwise;
    return conflict(
        fmt::format("it is silent: it has not said who it is for {} s", hello_ms_max / 1000));
}

/// @param whom  for people; more is known when it has said who it is
Task<Checked<Bus::Met>> Bus::read_hello(MessageStream* stream, const Stranger* stranger,
                                        std::string* whom) {
    const Checked<Message> message = co_await stream->next();
    if (!message) {
        const Refusal closed = conflict(message.error().text + ", before it said HELLO" +
                                        (setup_.key ? "" : "; does its cluster have a key?"));
        co_return silent(*stranger, closed);
    }
    const bool is_refused = message->header.type == MessageType::refused;
    const std::uint32_t node = message->header.sender;
    const Checked<Met> who = met(*message);
    const bool says_who_it_is = (who || is_refused) && sessions_.contains(node);
    if (stranger->has_come() && says_who_it_is) *whom = named(*whom, node);
    if (is_refused) co_return heard(*message, *whom);
    co_return who;
}

/// REFUSED, in the place of HELLO.
Refusal Bus::heard(const Message& message, const std::string& whom) {
    const Refused refused = decode_refused(message.body);
    const std::uint32_t node = message.header.sender;
    const Refusal refusal = conflict("it says: " + refused.why);
    const auto found = sessions_.find(node);
    if (found != sessions_.end()) {
        // Another start of it has not had anything to do with this one.
        const bool is_that_start = message.header.boot == found->second->peer_boot();
        if (refused.code != RefusedCode::other && is_that_start && !stopping_ &&
            !is_dropped(node)) {
            tell_refused(whom, refusal.text);  // before what follows of it
            setup_.listener.taken_for_gone(node, goes(refused));
        }
    }
    return refusal;
}

Checked<Bus::Met> Bus::met(const Message& message) const {
    if (message.header.type != MessageType::hello || message.payload_size != 0) {
        return conflict(
            fmt::format("it begins with {}, and not with HELLO", name_of(message.header.type)));
    }
    BRAID_TRY(const Hello hello, decode_hello(message.body));
    if (hello.oldest > message_version || hello.newest < message_version) {
        return conflict(
            fmt::format("it speaks versions {} to {} of the protocol; this braid "
                        "speaks version {}: install the same release on all nodes",
                        hello.oldest, hello.newest, message_version));
    }
    if (hello.cluster != setup_.cluster) {
        return conflict(
            fmt::format("it belongs to cluster \"{}\", and this node to \"{}\": see "
                        "to the name and the addresses in the cluster's file",
                        hello.cluster, setup_.cluster));
    }
    if (hello.receiver != setup_.self.node) {
        return conflict(
            fmt::format("it looks for node {}, and this is node {}: see to the "
                        "addresses in the cluster's file",
                        hello.receiver, setup_.self.node));
    }
    Met met;
    met.node = message.header.sender;
    met.kind = hello.kind;
    met.where.boot = message.header.boot;
    met.where.knows = hello.knows;
    met.where.received = message.header.received;
    return met;
}

Task<void> Bus::refuse(MessageStream* stream, Refused refused) {
    QueuedMessage message;
    message.header.type = MessageType::refused;
    message.body = encode_refused(refused);
    std::vector<const QueuedMessage*> messages{&message};
    // Whether he hears it, or has gone already, is all the same.
    (void)co_await stream->send(std::move(messages), 0);
    stream->shut();
}

/// In one breath with the last look at the session: whoever comes next finds it connected, and a
/// stop finds something to shut.
void Bus::begin(Met met, std::unique_ptr<MessageStream> stream) {
    channels_[met.node] = met.channel;
    if (sessions_.at(met.node)->begin(met.where, std::move(stream))) {
        heartbeats_.shut(met.node);  // of the start before, which may live on: its lease is over
        setup_.listener.restarted(met.node);
    }
}

/// After begin(), until the connection is over. True: a command or an answer came. Refused: nothing
/// came at all.
Task<Checked<bool>> Bus::serve(std::uint32_t node, std::vector<QueuedMessage> first) {
    Session& session = *sessions_.at(node);
    const std::uint64_t received = session.queue().received();
    bool is_heard = false;
    std::function<void()> heard = [this, node, &is_heard] {
        is_heard = true;
        told_.erase(fmt::format("node {}", node));
        setup_.listener.connected(node);
    };
    const Refused end = co_await session.run(std::move(first), std::move(heard));
    const bool took = session.queue().received() != received;
    if (is_heard) setup_.listener.disconnected(node, end.why);
    session.end();
    if (end.code != RefusedCode::other && !stopping_) {
        setup_.listener.taken_for_gone(node, goes(end));
    }
    if (!is_heard) co_return conflict(end.why);
    co_return took;
}

// ---- who comes ---------------------------------------------------------------------------------

Task<void> Bus::accept_all(std::uint32_t channel) {
    Listener* const listener = listeners_[channel].get();
    while (!stopping_) {
        auto connection = co_await listener->accept();
        if (stopping_) {
            if (connection) (*connection)->shut();
            break;
        }
        if (!connection) {
            tell_refused("a connection that has come", os_error_text(connection.error().os_error));
            co_await pause(millis(redial_ms_min));
            continue;
        }
        if (strangers_here_ >= strangers_max) make_room();
        tasks_.spawn(greet(std::move(*connection), channel));
    }
}

/// A node says at once who it is: who has been silent for longest has to go. Else silent ones could
/// keep a node out.
void Bus::make_room() {
    for (auto& [number, stranger] : strangers_) {
        if (!stranger.came || stranger.is_shut) continue;
        tell_refused(host_in(stranger.connection->peer()),
                     "has not said who it is, and others have come");
        stranger.is_shut = true;
        return stranger.connection->shut();
    }
}

/// With the key, if there is one. The connection lives as long as the task, if not longer.
Task<Checked<std::unique_ptr<Connection>>> Bus::secure(std::unique_ptr<Connection> connection,
                                                       Side side) const {
    if (!setup_.key) return as_it_is(std::move(connection));
    return side == Side::accepts ? tls_accept(std::move(connection), *setup_.key)
                                 : tls_connect(std::move(connection), *setup_.key);
}

std::unique_ptr<MessageStream> Bus::stream_of(std::unique_ptr<Connection> connection) const {
    return std::make_unique<MessageStream>(std::move(connection), setup_.self,
                                           setup_.key ? PayloadCheck::none : PayloadCheck::crc);
}

Task<void> Bus::greet(std::unique_ptr<Connection> connection, std::uint32_t channel) {
    std::string whom = host_in(connection->peer());
    std::optional<Stranger> stranger;
    stranger.emplace(*this, *connection, Side::accepts);
    auto handshake = secure(std::move(connection), Side::accepts);
    auto secured = co_await handshake;
    if (!secured) {
        if (!stranger->had_to_go()) tell_refused(whom, silent(*stranger, secured.error()).text);
        co_return;
    }
    std::unique_ptr<MessageStream> stream = stream_of(std::move(*secured));
    Checked<Met> met = co_await read_hello(stream.get(), &*stranger, &whom);
    if (met) met->channel = channel;
    if (!met && stranger->had_to_go()) co_return;
    stranger.reset();
    Checked<Unit> result = Unit{};
    if (!met) {
        result = met.error();
    } else if (met->kind == ConnectionKind::heartbeat) {
        result = co_await let_beat(&stream, *met);
    } else {
        result = co_await let_in(&stream, *met);
    }
    if (result) co_return;
    tell_refused(whom, result.error().text);
    if (stream == nullptr) co_return;
    Refused refused{RefusedCode::other, result.error().text};
    if (met && sessions_.contains(met->node)) {
        refused = refused_by(*sessions_.at(met->node), met->where.boot, result.error());
    } else if (met && !stopping_ && met->node != setup_.self.node) {
        setup_.listener.unknown_came(met->node);
    }
    co_await refuse(stream.get(), std::move(refused));
}

Checked<Unit> Bus::check_node(std::uint32_t node) const {
    if (node == setup_.self.node) {
        return conflict(
            fmt::format("it says that it is node {}, too: each node of the cluster's "
                        "file runs once",
                        node));
    }
    if (!sessions_.contains(node)) {
        return conflict(fmt::format("the file of node {} has no node {}", setup_.self.node, node));
    }
    if (is_dropped(node)) {
        return conflict(
            fmt::format("node {} is none of the cluster's, says node {}", node, setup_.self.node));
    }
    if (node < setup_.self.node) {
        return conflict(fmt::format("node {} does not connect to node {}, which has a higher id",
                                    node, setup_.self.node));
    }
    return Unit{};
}

/// Takes the stream when it comes to that; else it is still there to be refused.
Task<Checked<Unit>> Bus::let_in(std::unique_ptr<MessageStream>* stream, Met met) {
    BRAID_CO_CHECK(check_node(met.node));
    Session& session = *sessions_.at(met.node);
    BRAID_CO_CHECK(session.look_at(met.where));
    while (session.is_connected()) {
        session.shut();
        co_await session.wait_shut();
    }
    BRAID_CO_CHECK(session.look_at(met.where));  // another one may have been faster
    BRAID_CO_CHECK(check_node(met.node));
    if (stopping_) co_return conflict("this node stops");
    std::vector<QueuedMessage> first;
    first.push_back(hello_to(met.node, met.kind, met.where.boot));
    begin(met, std::move(*stream));
    BRAID_CO_CHECK(co_await serve(met.node, std::move(first)));
    co_return Unit{};
}

/// As let_in(). A start of the node that this one has not met yet beats when it has.
Task<Checked<Unit>> Bus::let_beat(std::unique_ptr<MessageStream>* stream, Met met) {
    BRAID_CO_CHECK(check_node(met.node));
    const ChannelPlace place{met.node, met.channel};
    const Session& session = *sessions_.at(met.node);
    for (;;) {
        if (session.has_given_up(met.where.boot)) co_return conflict(session.why_given_up().why);
        if (session.is_another(met.where.boot)) {
            (*stream)->shut();
            co_return Unit{};
        }
        if (stopping_) co_return conflict("this node stops");
        BRAID_CO_CHECK(check_node(met.node));
        if (!heartbeats_.is_connected(place)) break;
        heartbeats_.shut(place);
        co_await heartbeats_.wait_shut(place);
    }
    std::vector<QueuedMessage> first;
    first.push_back(hello_to(met.node, met.kind, 0));
    heartbeats_.begin(place, std::move(*stream));
    (void)co_await heartbeats_.run(place, met.where.boot, std::move(first));
    co_return Unit{};
}

// ---- whom this node calls ----------------------------------------------------------------------

Task<void> Bus::call(Peer peer) {
    std::uint64_t wait = redial_ms_min;
    const Session& session = *sessions_.at(peer.id);
    while (!stopping_) {
        const Checked<bool> result = co_await call_any(peer);
        const bool is_given_up = session.given_up() != GivenUp::no;
        if (!result && !is_given_up && !is_dropped(peer.id)) {
            tell_refused(fmt::format("node {}", peer.id), result.error().text);
        }
        const bool took = result && *result;  // else the same may break it off again
        wait = took ? redial_ms_min : std::min(2 * wait, redial_ms_max);
        co_await pause(millis(wait / 2 + rng_.below(wait / 2)));
    }
}

/// Those first by which its heartbeats come.
std::vector<std::uint32_t> Bus::channels_in_turn(const Peer& peer) const {
    std::vector<std::uint32_t> channels(peer.addresses.size());
    std::iota(channels.begin(), channels.end(), 0U);
    std::ranges::stable_partition(channels, [&](std::uint32_t channel) {
        return heartbeats_.is_up({peer.id, channel});
    });
    return channels;
}

/// At its addresses, one after the other. Ok: there was a connection, and it is over. True: something
/// came by it.
Task<Checked<bool>> Bus::call_any(Peer peer) {
    std::string why;
    const std::vector<std::uint32_t> channels = channels_in_turn(peer);
    for (const std::uint32_t channel : channels) {
        if (stopping_) break;
        const ChannelPlace at{peer.id, channel};
        const NetAddress& address = peer.addresses[channel];
        const Checked<bool> result = co_await call_at(at, address);
        if (result) co_return *result;
        if (!why.empty()) why += "; ";
        const std::string place = text_of(address);
        const std::string& text = result.error().text;  // says where, if there was no connection
        why += text.starts_with(place) ? text : fmt::format("{}: {}", place, text);
    }
    co_return conflict(std::move(why));
}

// ---- by which channel --------------------------------------------------------------------------

/// A session's connection, as it was when it was last looked at.
struct Bus::Watched {
    std::uint64_t connections{0};  // of the session, with it
    std::uint64_t came{0};
    bool was_up{false};             // its channel, since it began
    std::uint64_t silent_looks{0};  // one after the other
};

/// A session that hears nothing where heartbeats come by another channel, and no longer by its own, need
/// not wait until its silence alone has shown that: it goes on by the other one.
void Bus::watch_channel(std::uint32_t node, Watched* watched) {
    Session& session = *sessions_.at(node);
    if (!session.is_connected()) return;
    const std::uint64_t connections = session.counts().connections;
    if (watched->connections != connections) *watched = {connections, session.came(), false, 0};
    const std::uint64_t came = session.came();
    const bool is_new = std::exchange(watched->came, came) != came;
    watched->silent_looks = is_new ? 0 : watched->silent_looks + 1;
    const bool is_silent = watched->silent_looks * watch_ms > sign_ms + watch_ms;
    const ChannelPlace place{node, channels_.at(node)};
    const bool is_up = heartbeats_.is_up(place);
    const bool is_down = watched->was_up && !is_up;
    watched->was_up = watched->was_up || is_up;
    if (!is_down || !is_silent || !heartbeats_.is_up_beside(place)) return;
    session.leave(fmt::format("nothing comes by {} any more, and by another address it does",
                              heartbeats_.address(place)));
}

Task<void> Bus::watch_channels() {
    std::map<std::uint32_t, Watched> watched;
    while (!stopping_) {
        for (const auto& [node, session] : sessions_) watch_channel(node, &watched[node]);
        co_await pause(millis(watch_ms));
    }
}

/// Until it has said who it is.
Task<Checked<Bus::Meeting>> Bus::meet(ChannelPlace place, NetAddress address, ConnectionKind kind) {
    const std::uint32_t id = place.node;
    std::string whom = fmt::format("node {}: {}", id, text_of(address));
    BRAID_CO_TRY(std::unique_ptr<Connection> connection,
                 co_await setup_.net.connect(std::move(address)));
    if (stopping_) {
        connection->shut();
        co_return conflict("this node stops");
    }
    std::optional<Stranger> stranger;
    stranger.emplace(*this, *connection, Side::connects);
    auto handshake = secure(std::move(connection), Side::connects);
    auto secured = co_await handshake;
    if (!secured) co_return silent(*stranger, secured.error());
    Meeting meeting;
    meeting.stream = stream_of(std::move(*secured));
    const Session& session = *sessions_.at(id);
    if (session.given_up() > GivenUp::excluded) {  // else it depends on which start that is
        co_await refuse(meeting.stream.get(), session.why_given_up());
        co_return conflict("it was given up");
    }
    Session::Where here;
    if (kind == ConnectionKind::session) here = session.where();
    const QueuedMessage hello = hello_to(id, kind, here.knows);
    std::vector<const QueuedMessage*> messages{&hello};
    BRAID_CO_CHECK(co_await meeting.stream->send(std::move(messages), here.received));
    const Checked<Met> met = co_await read_hello(meeting.stream.get(), &*stranger, &whom);
    stranger.reset();
    if (!met) co_return met.error();
    if (met->node != id) {
        co_return conflict(fmt::format("node {} is there, and not node {}", met->node, id));
    }
    if (met->kind != kind) co_return conflict("it answers for another kind of connection");
    meeting.met = *met;
    meeting.met.channel = place.channel;
    co_return std::move(meeting);
}

Task<Checked<bool>> Bus::call_at(ChannelPlace place, NetAddress address) {
    BRAID_CO_TRY(Meeting meeting,
                 co_await meet(place, std::move(address), ConnectionKind::session));
    Session& session = *sessions_.at(place.node);
    if (const Checked<Unit> looked = session.look_at(meeting.met.where); !looked) {
        const std::uint64_t boot = meeting.met.where.boot;
        co_await refuse(meeting.stream.get(), refused_by(session, boot, looked.error()));
        co_return looked.error();
    }
    if (stopping_) co_return conflict("this node stops");
    if (is_dropped(place.node)) {
        Refused refused{RefusedCode::other,
                        fmt::format("node {} is none of the cluster's", place.node)};
        co_await refuse(meeting.stream.get(), std::move(refused));
        co_return conflict("it was removed");
    }
    std::vector<QueuedMessage> first;
    begin(meeting.met, std::move(meeting.stream));
    co_return co_await serve(place.node, std::move(first));
}

/// A channel that does not work beside a session that does is told of once; else call() tells.
Task<void> Bus::beat(ChannelPlace place, NetAddress address) {
    std::uint64_t wait = redial_ms_min;
    const Session& session = *sessions_.at(place.node);
    while (!stopping_) {
        if (session.given_up() == GivenUp::no && !is_dropped(place.node)) {  // else call() says so
            const Checked<bool> result = co_await beat_at(place, address);
            if (!result && session.is_connected()) {
                tell_refused(named(text_of(address), place.node), result.error().text);
            }
            const bool came = result && *result;
            wait = came ? redial_ms_min : std::min(2 * wait, rebeat_ms_max);
        }
        co_await pause(millis(wait / 2 + rng_.below(wait / 2)));
    }
}

Task<Checked<bool>> Bus::beat_at(ChannelPlace place, NetAddress address) {
    BRAID_CO_TRY(Meeting meeting,
                 co_await meet(place, std::move(address), ConnectionKind::heartbeat));
    const Session& session = *sessions_.at(place.node);
    const std::uint64_t boot = meeting.met.where.boot;
    if (session.has_given_up(boot)) {
        Refused why = session.why_given_up();
        co_await refuse(meeting.stream.get(), std::move(why));
        co_return conflict("that start of it is over");
    }
    if (session.is_another(boot)) {  // until the session is with that one
        meeting.stream->shut();
        co_return false;
    }
    if (stopping_) co_return conflict("this node stops");
    if (is_dropped(place.node)) {
        meeting.stream->shut();
        co_return false;
    }
    std::vector<QueuedMessage> first;
    heartbeats_.begin(place, std::move(meeting.stream));
    co_return co_await heartbeats_.run(place, boot, std::move(first));
}

}  // namespace braid::cluster
