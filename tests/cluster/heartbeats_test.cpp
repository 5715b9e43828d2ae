// SPDX-License-Identifier: BSD-3-Clause
// Heartbeats between the buses of several nodes, on every channel: who has a link, and which start of
// a node it is with.
#include "cluster/bus/heartbeats.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/base/limits.h"
#include "tests/cluster/bus_kit.h"
#include "tests/seeds.h"

namespace braid::cluster {
namespace {

TEST(Heartbeats, EveryPairHasThemOnEveryChannel) {
    for (std::uint64_t seed = 1; seed != 7; ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        std::optional<ClusterKey> key;
        if (seed % 2 == 0) key = key_of(1);
        const std::uint32_t channels = 1 + static_cast<std::uint32_t>(seed % 3);
        std::vector<std::unique_ptr<BusNode>> nodes;
        nodes.push_back(node_of(network, 1, 7, {2, 3}, "lab", key, channels));
        nodes.push_back(node_of(network, 2, 8, {1, 3}, "lab", key, channels));
        nodes.push_back(node_of(network, 3, 9, {1, 2}, "lab", key, channels));
        for (const auto& node : nodes) node->start();
        loop.run_for(seconds(2));
        std::vector<std::uint64_t> sent;
        const auto each = [&](auto&& look) {
            for (std::uint32_t id = 1; id != 4; ++id) {
                for (std::uint32_t peer = 1; peer != 4; ++peer) {
                    if (id == peer) continue;
                    const auto all = nodes[id - 1]->bus().heartbeats().status(peer);
                    ASSERT_EQ(all.size(), channels);
                    for (std::uint32_t i = 0; i != channels; ++i) {
                        EXPECT_EQ(all[i].address,
                                  text_of(addresses_of(std::min(id, peer), channels)[i]));
                        look(all[i]);
                    }
                }
            }
        };
        each([&](const ChannelStatus& channel) {
            EXPECT_TRUE(channel.up);
            EXPECT_LT(channel.round_trip->value, millis(5).value);
            EXPECT_GT(channel.round_trip->value, 0u);
            EXPECT_LT(channel.heard_since->value, millis(350).value);
            sent.push_back(channel.sent);
        });
        loop.run_for(seconds(30));
        std::size_t at = 0;
        each([&](const ChannelStatus& channel) {
            EXPECT_NEAR(static_cast<double>(channel.sent - sent[at++]), 100, 2);
            EXPECT_TRUE(channel.received + 3 > channel.sent && channel.received < channel.sent + 3);
        });
        EXPECT_EQ(nodes[0]->bus().heartbeats().hears(), 0b1100u);
        EXPECT_EQ(nodes[1]->bus().heartbeats().hears(), 0b1010u);
        EXPECT_EQ(nodes[2]->connections, 2) << "they are no sessions";
        for (const auto& node : nodes) {
            node->stop();
            EXPECT_TRUE(node->refusals.empty() ||
                        node->refusals[0].find("nobody listens") != std::string::npos);
        }
    }
}

/// Whatever is heard: who gets nothing of his own back has no link.
TEST(Heartbeats, ALinkThatWorksOneWayIsNotUp) {
    for (const std::uint32_t mute : {1u, 2u}) {
        SCOPED_TRACE(mute);
        SimLoop loop(3);
        SimNetwork network(loop);
        const auto one = node_of(network, 1, 7, {2});
        const auto two = node_of(network, 2, 8, {1});
        one->start();
        two->start();
        loop.run_for(seconds(2));
        ASSERT_TRUE(is_up(*one, 2) && is_up(*two, 1));
        const std::uint32_t other = 3 - mute;
        BusNode& unheard = mute == 1 ? *one : *two;
        BusNode& deaf = mute == 1 ? *two : *one;
        network.hold(name_of_node(mute), name_of_node(other));
        loop.run_for(millis(1550));
        EXPECT_FALSE(is_up(unheard, other));
        EXPECT_LT(channel_of(unheard, other).heard_since->value, millis(350).value);
        EXPECT_EQ(unheard.bus().heartbeats().hears(), 1u << other) << "it hears, and is not heard";
        EXPECT_FALSE(is_up(deaf, mute));
        EXPECT_EQ(deaf.bus().heartbeats().hears(), 0u);
        loop.run_for(seconds(20));
        EXPECT_FALSE(is_up(unheard, other) || is_up(deaf, mute));
        network.release(name_of_node(mute), name_of_node(other));
        run_until(loop, [&] { return is_up(*one, 2) && is_up(*two, 1); });
        one->stop();
        two->stop();
    }
}

TEST(Heartbeats, OneChannelIsDownBesideAnother) {
    SimLoop loop(4);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2}, "lab", std::nullopt, 2);
    const auto two = node_of(network, 2, 8, {1}, "lab", std::nullopt, 2);
    one->start();
    two->start();
    loop.run_for(seconds(2));
    network.refuse(addresses_of(1, 2)[1], true);
    network.cut(name_of_node(1), name_of_node(2));
    loop.run_for(seconds(4));
    for (BusNode* node : {one.get(), two.get()}) {
        const std::uint32_t peer = node == one.get() ? 2 : 1;
        EXPECT_TRUE(is_up(*node, peer, 0));
        EXPECT_FALSE(is_up(*node, peer, 1));
        EXPECT_TRUE(node->bus().session(peer).is_connected());
    }
    loop.run_for(seconds(20));
    const auto tells = [](const std::string& why) { return why.find("10.1.0.1") == 0; };
    EXPECT_EQ(std::ranges::count_if(two->refusals, tells), 1) << "once";
    network.refuse(addresses_of(1, 2)[1], false);
    run_until(loop, [&] { return is_up(*one, 2, 1) && is_up(*two, 1, 1); });
    one->stop();
    two->stop();
}

/// A cable is out, and says nothing: what is asked is answered by the other one, long before the silence of
/// the connection alone would have shown it.
TEST(Heartbeats, TheSessionGoesOnByAChannelThatIsUp) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(20, 400); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        const auto one = node_of(network, 1, 7, {2}, "lab", std::nullopt, 2);
        const auto two = node_of(network, 2, 8, {1}, "lab", std::nullopt, 2);
        one->start();
        two->start();
        const auto is_by = [&](std::uint32_t channel) {
            return one->bus().channel_of(2) == channel && two->bus().channel_of(1) == channel;
        };
        run_until(loop, [&] { return is_by(0) && is_up(*one, 2, 1) && is_up(*two, 1, 1); });
        for (const std::uint32_t out : {0U, 1U, 0U}) {
            loop.run_for(millis(500 + loop.rng().below(3000)));
            EXPECT_TRUE(is_by(out)) << "nothing changes without a reason";
            const std::uint64_t began = loop.now().value;
            network.unplug(addresses_of(1, 2)[out]);
            run_until(loop, [&] { return is_by(1 - out); });
            EXPECT_LT(loop.now().value - began, millis(3000).value);
            EXPECT_TRUE(is_up(*one, 2, 1 - out) && is_up(*two, 1, 1 - out));
            loop.run_for(millis(loop.rng().below(8000)));
            network.plug(addresses_of(1, 2)[out]);
            run_until(loop, [&] { return is_up(*one, 2, out) && is_up(*two, 1, out); });
        }
        one->stop();
        two->stop();
    }
}

/// A clock of stamps that does not go at all.
class StandingClock final : public Clock {
  public:
    explicit StandingClock(Clock& clock) : clock_(clock) {}
    Nanos now() const override { return clock_.now(); }
    Nanos stamp() const override { return seconds(7); }
    std::uint64_t wall_seconds() const override { return clock_.wall_seconds(); }
    void arm(Timer& timer) override { clock_.arm(timer); }
    void disarm(Timer& timer) override { clock_.disarm(timer); }

  private:
    Clock& clock_;
};

/// Notes what went out and came back.
class StampLog final : public LeaseKeeper {
  public:
    bool extends(std::uint32_t, std::uint64_t, Nanos) override { return true; }
    void stamp_sent(Nanos stamp) override {
        grow_ = grow_ && stamp > sent_;
        sent_ = stamp;
    }
    void stamp_came_back(std::uint32_t, Nanos stamp, bool) override {
        back_ = std::max(back_, stamp);
    }
    bool has_lease() const override { return has_lease_; }
    void set_lease(bool has_lease) { has_lease_ = has_lease; }
    Nanos sent() const { return sent_; }
    Nanos back() const { return back_; }
    bool grow() const { return grow_; }

  private:
    Nanos sent_{};
    Nanos back_{};
    bool grow_{true};
    bool has_lease_{true};
};

enum class ItsClock : bool { goes, stands };

struct AskedNode {
    AskedNode(SimNetwork& network, std::uint32_t id, std::uint32_t peer, std::uint32_t channels,
              ItsClock its_clock = ItsClock::goes) {
        SimLoop& loop = network.loop();
        clock = std::make_unique<StandingClock>(loop);
        Clock& chosen = its_clock == ItsClock::stands ? static_cast<Clock&>(*clock) : loop;
        node = std::make_unique<BusNode>(
            BusNode::World{
                loop.ready(), chosen, std::make_unique<SimNet>(network, name_of_node(id)),
                [&loop](Task<void> task) { loop.run_until_done(std::move(task)); }, &log},
            NodeBoot{id, 6 + id}, addresses_of(id, channels),
            std::vector<Bus::Peer>{{peer, addresses_of(peer, channels)}}, "lab", std::nullopt);
        node->start();
    }
    StampLog log;
    std::unique_ptr<StandingClock> clock;
    std::unique_ptr<BusNode> node;
};

// Goal: who asks has an answer after a round trip, whatever the channels are just doing; what comes
// back was sent after he asked, also by a clock that stands still. And two that ask each other do not
// go on with that for ever.
TEST(Heartbeats, WhoIsAskedAnswersAtOnce) {
    for (std::uint64_t seed = 1; seed != 25; ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        const std::uint32_t channels = 1 + static_cast<std::uint32_t>(seed % 2);
        AskedNode one(network, 1, 2, channels, seed % 3 == 0 ? ItsClock::stands : ItsClock::goes);
        AskedNode two(network, 2, 1, channels);
        loop.run_for(seconds(1));
        ASSERT_TRUE(one.log.back() != Nanos{} && two.log.back() != Nanos{});
        std::uint64_t before = channel_of(*one.node, 2).sent;
        for (int i = 0; i != 50; ++i) {
            if (loop.rng().chance(2)) loop.run_for(Nanos{1 + loop.rng().below(300'000'000)});
            if (loop.rng().chance(2)) one.node->bus().beat_now();  // one is just going out
            if (loop.rng().chance(2)) loop.run_for(Nanos{1 + loop.rng().below(100'000)});
            const std::uint64_t begin = loop.now().value;
            const Nanos asked = one.log.sent();
            const Nanos asked_by_two = two.log.sent();
            one.node->bus().ask_now();
            two.node->bus().ask_now();
            run_until(loop,
                      [&] { return one.log.back() > asked && two.log.back() > asked_by_two; });
            EXPECT_LT(loop.now().value - begin, millis(20).value);
        }
        EXPECT_TRUE(one.log.grow() && two.log.grow());
        loop.run_for(millis(50));
        before = channel_of(*one.node, 2).sent;
        loop.run_for(seconds(30));
        EXPECT_NEAR(static_cast<double>(channel_of(*one.node, 2).sent - before), 100, 2);
        one.node->stop();
        two.node->stop();
    }
}

/// For how long it says so, of one start; and that is over as soon as it has a lease.
TEST(Heartbeats, WhoHasNoLeaseSaysSo) {
    SimLoop loop(3);
    SimNetwork network(loop);
    AskedNode one(network, 1, 2, 2);
    AskedNode two(network, 2, 1, 2);
    const auto lacks = [&] { return one.node->bus().heartbeats().without_lease_for(2); };
    loop.run_for(seconds(5));
    EXPECT_FALSE(lacks());
    two.log.set_lease(false);
    run_until(loop, [&] { return lacks().has_value(); });
    EXPECT_LT(lacks()->value, millis(10).value);
    loop.run_for(seconds(7));
    network.cut(name_of_node(1), name_of_node(2));  // what is not heard counts along
    loop.run_for(seconds(2));
    EXPECT_NEAR(static_cast<double>(lacks()->value), 9e9, 2e8);
    two.log.set_lease(true);
    loop.run_for(millis(400));
    EXPECT_FALSE(lacks());
    EXPECT_FALSE(two.node->bus().heartbeats().without_lease_for(1));
    EXPECT_EQ(one.node->bus().heartbeats().hears(2), 1U << 1) << "it says whom it hears";
    EXPECT_EQ(one.node->bus().heartbeats().hears(3), 0U) << "nobody";
    one.node->stop();
    two.node->stop();
}

/// A question that is on its way as its connection breaks: the next connection begins with both
/// sides' stamps.
TEST(Heartbeats, AQuestionOutlivesItsConnection) {
    SimLoop loop(9);
    SimNetwork network(loop);
    AskedNode one(network, 1, 2, 1);
    AskedNode two(network, 2, 1, 1);
    loop.run_for(seconds(1));
    const Nanos asked = one.log.sent();
    one.node->bus().ask_now();
    network.cut(name_of_node(1), name_of_node(2));
    run_until(loop, [&] { return one.log.back() > asked; });
    one.node->stop();
    two.node->stop();
}

/// They are not kept up by whoever talks about something else, or does not make sense.
TEST(Heartbeats, WhatIsNoneEndsTheirConnection) {
    SimLoop loop(5);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    one->start();
    SimNet net(network, "10.0.0.66");
    Hello hello;
    hello.receiver = 1;
    hello.kind = ConnectionKind::heartbeat;
    hello.cluster = "lab";
    const auto append = [](std::vector<std::byte>& to, MessageType type, ByteView body) {
        MessageHeader header;
        header.type = type;
        header.sender = 2;
        header.boot = 8;
        header.number = is_numbered(type) ? 1 : 0;
        Buffer bytes(message_header_size + body.size());
        encode_message(header, body, {}, PayloadCheck::crc, bytes.span());
        to.insert(to.end(), bytes.view().begin(), bytes.view().end());
    };
    Heartbeat good;
    good.stamp = 5;
    Heartbeat echo = good;
    echo.stamp = 6;
    echo.echo = 1;
    const auto heard_of = [&](auto&& then) {
        std::vector<std::byte> bytes;
        append(bytes, MessageType::hello, encode_hello(hello));
        append(bytes, MessageType::heartbeat, encode_heartbeat(good));
        then(bytes);
        const std::uint64_t before = channel_of(*one, 2).received;
        const std::uint64_t begin = loop.now().value;
        loop.run_until_done(say(&net, address_of(1), Buffer(ByteView(bytes))));
        EXPECT_LT(loop.now().value - begin, millis(200).value) << "it ends at once";
        EXPECT_FALSE(is_up(*one, 2));
        return channel_of(*one, 2).received - before;
    };
    EXPECT_EQ(heard_of([&](auto& bytes) {
                  append(bytes, MessageType::heartbeat, encode_heartbeat(echo));
              }),
              1u)
        << "an echo of what did not go out";
    EXPECT_EQ(heard_of([&](auto& bytes) {
                  append(bytes, MessageType::heartbeat, encode_heartbeat(good));
              }),
              1u)
        << "a clock that stands still";
    EXPECT_EQ(heard_of([&](auto& bytes) { append(bytes, MessageType::flush, {}); }), 1u);
    EXPECT_EQ(heard_of([&](auto& bytes) { append(bytes, MessageType::received, {}); }), 1u);
    EXPECT_EQ(one->connections, 0);
    const auto two = node_of(network, 2, 8, {1});
    two->start();
    run_until(loop, [&] { return is_up(*one, 2) && is_up(*two, 1); });
    two->ask(1, 1);
    run_until(loop, [&] { return two->answered() == 1; });
    one->stop();
    two->stop();
}

// Goal: exclusion is of one start of a node. That one is told, whoever calls; the next one is let in.
TEST(Bus, TheNextStartOfWhoIsExcludedIsLetIn) {
    for (std::uint64_t seed = 0; seed != 8; ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        std::unique_ptr<BusNode> nodes[] = {node_of(network, 1, 7, {2}),
                                            node_of(network, 2, 8, {1})};
        for (const auto& node : nodes) node->start();
        run_until(loop, [&] { return nodes[0]->connections == 1 && nodes[1]->connections == 1; });
        const std::uint32_t at = seed % 2;
        BusNode& giver = *nodes[1 - at];
        std::unique_ptr<BusNode>& gone = nodes[at];
        giver.ask(at + 1, 1);
        giver.bus().give_up(at + 1, GivenUp::excluded);
        run_until(loop, [&] { return gone->taken_for_gone_times != 0; });
        loop.run_for(seconds(5));
        EXPECT_FALSE(giver.bus().session(at + 1).is_connected());
        EXPECT_EQ(giver.restarts, 0);
        gone->stop();
        gone = at == 0 ? node_of(network, 1, 9, {2}) : node_of(network, 2, 9, {1});
        if (seed % 4 < 2) loop.run_for(seconds(3));
        gone->start();
        run_until(loop, [&] { return gone->connections == 1 && giver.restarts == 1; });
        EXPECT_EQ(gone->taken_for_gone_times, 0);
        giver.ask(at + 1, 2);
        gone->ask(2 - at, 3);
        run_until(loop, [&] { return is_up(giver, at + 1) && is_up(*gone, 2 - at); });
        for (const auto& node : nodes) node->stop();
    }
}

// Goal: a start of a node in whose place another one is has no lease any more, even if it lives on. Method:
// its machine is cut off, and the node is started on another one.
TEST(Bus, AStartThatWasReplacedIsToldAndHasNoHeartbeats) {
    for (std::uint64_t seed = 0; seed != 8; ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        const auto one = node_of(network, 1, 7, {2});
        const auto former = node_of(network, 2, 8, {1});
        one->start();
        former->start();
        run_until(loop, [&] { return is_up(*one, 2) && is_up(*former, 1); });
        network.hold(name_of_node(1), name_of_node(2));
        network.hold(name_of_node(2), name_of_node(1));
        loop.run_for(seconds(8));
        std::vector<Bus::Peer> peers{{1, addresses_of(1, 1)}};
        BusNode next({loop.ready(), loop, std::make_unique<SimNet>(network, "10.0.0.99"),
                      [&loop](Task<void> task) { loop.run_until_done(std::move(task)); }},
                     NodeBoot{2, 9}, {{AddressKind::ip4, "10.0.0.99", 10810}}, peers, "lab",
                     std::nullopt);
        next.start();
        run_until(loop, [&] { return one->restarts == 1 && is_up(*one, 2) && is_up(next, 1); });
        loop.run_for(millis(loop.rng().below(3000)));
        network.release(name_of_node(1), name_of_node(2));
        network.release(name_of_node(2), name_of_node(1));
        run_until(loop, [&] { return former->taken_for_gone_times != 0; });
        for (int i = 0; i != 100; ++i) {
            loop.run_for(millis(100));
            EXPECT_TRUE(is_up(*one, 2) && is_up(next, 1)) << i;
        }
        EXPECT_FALSE(is_up(*former, 1));
        EXPECT_EQ(one->restarts, 1);
        next.ask(1, 3);
        run_until(loop, [&] { return next.answered() == 1; });
        for (BusNode* node : {one.get(), former.get(), &next}) node->stop();
    }
}

TEST(Heartbeats, WhoIsGivenUpHasNone) {
    for (const std::uint32_t giver : {1u, 2u}) {
        SCOPED_TRACE(giver);
        SimLoop loop(6);
        SimNetwork network(loop);
        const auto one = node_of(network, 1, 7, {2});
        const auto two = node_of(network, 2, 8, {1});
        one->start();
        two->start();
        loop.run_for(seconds(2));
        (giver == 1 ? *one : *two).bus().give_up(3 - giver, GivenUp::gone);
        loop.run_for(seconds(3));
        EXPECT_FALSE(is_up(*one, 2) || is_up(*two, 1));
        const std::uint64_t sent = channel_of(*one, 2).sent;
        loop.run_for(seconds(10));
        EXPECT_EQ(channel_of(*one, 2).sent, sent);
        one->stop();
        two->stop();
    }
}

}  // namespace
}  // namespace braid::cluster
