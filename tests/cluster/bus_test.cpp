// SPDX-License-Identifier: BSD-3-Clause
// Buses of several nodes in the simulator: whatever connections do, each message comes once, in its
// order, and is answered once; who may not come in hears why, and does no harm.
#include "cluster/bus/bus.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cluster/wire/hello.h"
#include "engine/base/limits.h"
#include "tests/cluster/bus_kit.h"
#include "tests/seeds.h"

namespace braid::cluster {
namespace {

TEST(Bus, EachMessageComesOnceWhateverConnectionsDo) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(39, 390); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        std::vector<std::unique_ptr<BusNode>> nodes;
        std::optional<ClusterKey> key;
        if (seed % 3 == 0) key = key_of(1);
        const std::uint32_t count = 2 + static_cast<std::uint32_t>(seed % 2);
        std::vector<std::uint32_t> all;
        for (std::uint32_t id = 1; id <= count; ++id) all.push_back(id);
        for (const std::uint32_t id : all) {
            std::vector<std::uint32_t> others = all;
            std::erase(others, id);
            nodes.push_back(node_of(network, id, 100 + id, others, "lab", key));
        }
        for (const auto& node : nodes) node->start();
        Rng& rng = loop.rng();
        std::size_t asked = 0;
        std::vector<std::uint64_t> sent(count * count);
        for (int turn = 0; turn != 300; ++turn) {
            const std::uint32_t a = static_cast<std::uint32_t>(rng.below(count));
            const std::uint32_t b =
                (a + 1 + static_cast<std::uint32_t>(rng.below(count - 1))) % count;
            switch (rng.below(12)) {
                case 0:
                    network.cut(name_of_node(a + 1), name_of_node(b + 1));
                    break;
                case 1:
                    network.cut_one_side(name_of_node(a + 1), name_of_node(b + 1));
                    break;
                case 2:
                    loop.run_for(millis(rng.below(300)));
                    break;
                case 3:
                case 4:
                    nodes[a]->tell(b + 1);
                    ++sent[a * count + b];
                    break;
                default:
                    nodes[a]->ask(b + 1, rng.below(rng.chance(8) ? 40 : 3));
                    ++asked;
                    ++sent[a * count + b];
            }
            if (rng.chance(3)) loop.run_for(Nanos{rng.below(3'000'000)});
        }
        // Who does not hear that a connection is over learns it when the other side dials again.
        run_until(loop, [&] {
            std::size_t answered = 0;
            for (const auto& node : nodes) answered += node->answered();
            bool all_told = answered == asked;
            for (std::uint32_t a = 0; a != count; ++a) {
                for (std::uint32_t b = 0; b != count; ++b) {
                    if (a != b) all_told &= nodes[b]->came_from(a + 1) == sent[a * count + b];
                }
            }
            if (!all_told && loop.rng().chance(2000)) network.cut("10.0.0.1", "10.0.0.2");
            return all_told;
        });
        ASSERT_FALSE(HasFailure());
        for (const auto& node : nodes) {
            EXPECT_EQ(node->cut(), 0U);
            EXPECT_EQ(node->restarts, 0);
            node->stop();
        }
    }
}

TEST(Bus, WhatWasNotAnsweredIsCutWhenTheOtherSideBeginsAnew) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(19, 190); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        const auto one = node_of(network, 1, 7, {2});
        auto two = node_of(network, 2, 8, {1});
        one->start();
        two->start();
        for (int i = 0; i != 20; ++i) one->ask(2, 1), two->ask(1, 1);
        loop.run_for(Nanos{loop.rng().below(20'000'000)});
        loop.crash([&] {
            two->die();
            one->die();
        });
        // Node 1 lives on: it is made again with the same boot, as far as its peer can tell.
        const auto first = node_of(network, 1, 7, {2});
        auto second = node_of(network, 2, 9, {1});
        first->start();
        second->start();
        first->ask(2, 3);
        run_until(loop, [&] { return first->answered() == 1; });
        first->ask(2, 1);
        second->stop();
        auto third = node_of(network, 2, 10, {1});
        third->start();
        run_until(loop, [&] { return first->cut() == 1 || first->answered() == 2; });
        EXPECT_EQ(first->cut(), 1U) << "nobody could have answered";
        EXPECT_EQ(first->restarts, 1);
        first->stop();
        third->stop();
    }
}

TEST(Bus, WhoMayNotComeInHearsWhy) {
    SimLoop loop(5);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    one->start();
    const auto refusal_of = [&](BusNode& node) {
        node.start();
        run_until(loop, [&] { return !node.refusals.empty(); });
        node.stop();
        return node.refusals.front();
    };
    const auto other = node_of(network, 2, 8, {1}, "other");
    EXPECT_NE(refusal_of(*other).find("to cluster \"other\", and this node to \"lab\""),
              std::string::npos)
        << other->refusals.front();
    const auto unknown = node_of(network, 3, 8, {1});
    EXPECT_NE(refusal_of(*unknown).find("the file of node 1 has no node 3"), std::string::npos)
        << unknown->refusals.front();
    EXPECT_GE(one->refusals.size(), 2U);
    EXPECT_EQ(one->connections, 0);

    const auto two = node_of(network, 2, 9, {1});
    two->start();
    run_until(loop, [&] { return one->connections == 1; });
    // Another server that runs as node 2, at another address.
    SimNet net(network, "10.0.0.9");
    Bus::Setup setup{loop.ready(),           loop, net,          {2, 10}, "lab", {},
                     {{1, {address_of(1)}}}, 3,    std::nullopt, *two,    *two};
    Bus twin(std::move(setup));
    ASSERT_TRUE(loop.run_until_done(twin.start()));
    run_until(loop, [&] { return !two->refusals.empty(); });
    EXPECT_NE(two->refusals.front().find("if two servers run as node 2"), std::string::npos)
        << two->refusals.front();
    EXPECT_TRUE(one->bus().session(2).is_connected()) << "the first is not disturbed";
    loop.run_until_done(twin.stop());
    one->stop();
    two->stop();
}

// A node that hears nothing for a while finds several connections of the same other node, all of
// which have said HELLO.
TEST(Bus, ManyConnectionsOfOneNodeComeAtOnce) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(59, 590); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        const auto one = node_of(network, 1, 7, {2});
        const auto two = node_of(network, 2, 8, {1});
        one->start();
        two->start();
        if (seed % 2 == 0) run_until(loop, [&] { return one->connections == 1; });
        for (int turn = 0; turn != 3; ++turn) {
            two->ask(1, 1);
            one->ask(2, 1);
            const std::string from = name_of_node(2);
            // Its dials arrive, and what it says does not.
            const int before = two->connections;
            network.cut_one_side(from, name_of_node(1));
            loop.run_for(millis(1 + loop.rng().below(400)));
            network.hold(from, name_of_node(1));
            loop.run_for(millis(loop.rng().below(9000)));
            network.release(from, name_of_node(1));
            run_until(loop, [&] { return two->connections != before; });
        }
        run_until(loop, [&] { return one->answered() == 3 && two->answered() == 3; });
        EXPECT_EQ(one->restarts + two->restarts, 0);
        if (seed % 3 == 0) {  // and it may end in the middle of it
            network.cut(name_of_node(1), name_of_node(2));
            loop.run_for(Nanos{loop.rng().below(500'000'000)});
        }
        one->stop();
        two->stop();
    }
}

// One payload takes longer than a connection may be silent.
TEST(Bus, WhatComesSlowlyComes) {
    SimLoop loop(10);
    sim::SimNetShape shape;
    shape.nanos_min = 50'000'000;
    shape.window_max = shape.piece_max = 64u << 10;
    SimNetwork network(loop, shape);
    const auto one = node_of(network, 1, 7, {2});
    const auto two = node_of(network, 2, 8, {1});
    one->start();
    two->start();
    run_until(loop, [&] { return two->connections == 1; });
    two->ask(1, message_payload_size_max / row_size);
    const std::uint64_t begin = loop.now().value;
    run_until(loop, [&] { return one->came_from(2) == 1; });
    EXPECT_GT(loop.now().value - begin, millis(silent_ms_max).value);
    EXPECT_EQ(one->connections, 1);
    one->stop();
    two->stop();
}

// Goal: all that one turn of the loop sends goes out in one piece, as far as that may be.
TEST(Bus, WhatIsSentInOneTurnGoesOutTogether) {
    SimLoop loop(13);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    const auto two = node_of(network, 2, 8, {1});
    one->start();
    two->start();
    run_until(loop, [&] { return one->connections == 1 && two->connections == 1; });
    const auto& counts = one->bus().session(2).counts();
    std::uint64_t told = 0;
    for (const std::uint64_t messages :
         {std::uint64_t{1}, std::uint64_t{10}, std::uint64_t{messages_per_send},
          std::uint64_t{3 * messages_per_send - 1}}) {
        SCOPED_TRACE(messages);
        const std::uint64_t signs = counts.sends;
        run_until(loop,
                  [&] { return counts.sends != signs; });  // the next one is half a second off
        const std::uint64_t sends = counts.sends;
        const std::uint64_t before = counts.messages_sent;
        for (std::uint64_t i = 0; i != messages; ++i) one->tell(2);
        told += messages;
        run_until(loop, [&] { return two->came_from(1) == told; });
        EXPECT_EQ(counts.messages_sent - before, messages);
        EXPECT_EQ(counts.sends - sends, (messages + messages_per_send - 1) / messages_per_send);
    }
    one->stop();
    two->stop();
}

TEST(Bus, MayStopAtAnyMoment) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(199, 1990); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        std::optional<ClusterKey> key;
        if (seed % 2 == 0) key = key_of(3);
        const auto one = node_of(network, 1, 7, {2}, "lab", key);
        const auto two = node_of(network, 2, 8, {1}, "lab", key);
        one->start();
        two->start();
        two->ask(1, 2);
        for (std::uint64_t steps = loop.rng().below(120); steps != 0; --steps) {
            ASSERT_TRUE(loop.step());
        }
        (seed % 3 == 0 ? one : two)->stop();
        (seed % 3 == 0 ? two : one)->stop();
    }
}

/// What the bus has sent back.
std::string reason_in(const Buffer& heard) {
    const auto sizes = message_sizes(heard.view());
    if (!sizes) return "nothing";
    const auto message = decode_message(heard.view().first(message_header_size + sizes->body));
    if (!message || message->header.type != MessageType::refused) return "no refusal";
    return decode_refused(message->body).why;
}

/// Whichever of the two calls the other one, and whether he is away at that time or not.
TEST(Bus, WhoIsTakenForGoneIsToldSo) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(39, 390); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        SimNetwork network(loop);
        std::optional<ClusterKey> key;
        if (seed % 3 == 0) key = key_of(1);
        const auto one = node_of(network, 1, 7, {2}, "lab", key);
        const auto two = node_of(network, 2, 8, {1}, "lab", key);
        one->start();
        two->start();
        run_until(loop, [&] { return one->connections == 1 && two->connections == 1; });
        BusNode& giver = seed % 2 == 0 ? *one : *two;
        BusNode& gone = seed % 2 == 0 ? *two : *one;
        gone.ask(seed % 2 == 0 ? 1 : 2, 1);
        if (seed % 4 < 2) {
            network.hold(name_of_node(1), name_of_node(2));
            network.hold(name_of_node(2), name_of_node(1));
            loop.run_for(seconds(9 + loop.rng().below(9)));
        }
        giver.bus().give_up(seed % 2 == 0 ? 2 : 1, GivenUp::gone);
        if (seed % 4 < 2) {
            loop.run_for(millis(loop.rng().below(4000)));
            EXPECT_EQ(gone.taken_for_gone_times, 0);
            network.release(name_of_node(1), name_of_node(2));
            network.release(name_of_node(2), name_of_node(1));
        }
        const int connections = gone.connections;
        const std::uint64_t begin = loop.now().value;
        run_until(loop, [&] { return gone.taken_for_gone_times != 0; });
        EXPECT_LT(loop.now().value - begin, millis(1100).value);
        loop.run_for(seconds(30));
        EXPECT_LE(gone.connections, connections + (seed % 4 < 2 ? 1 : 0)) << "it is not let in";
        EXPECT_LE(gone.refusals.size(), 3U) << "nor is it told of again and again";
        EXPECT_LE(giver.refusals.size(), 3U);
        EXPECT_NE(gone.refusals.back().find("was taken for gone by node"), std::string::npos)
            << gone.refusals.back();
        one->stop();
        two->stop();
    }
}

/// The one that calls hears the other one's HELLO, and does not like it.
TEST(Bus, WhoIsCalledIsToldWhyItIsRefused) {
    SimLoop loop(11);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    const auto two = node_of(network, 2, 8, {1});
    one->start();
    two->start();
    for (int i = 0; i != 3; ++i) two->tell(1);
    run_until(loop, [&] { return one->came_from(2) == 3; });
    two->stop();
    // It has lost its memory, but says that it is the same start.
    const auto again = node_of(network, 2, 8, {1});
    again->start();
    loop.run_for(seconds(30));
    const auto tells = [](const std::string& why) {
        return why ==
               "10.0.0.2 (node 2): it says: node 1 goes on at message 3, which cannot be: the "
               "connection is an old one, or one of both has lost its memory; if this comes "
               "again and again, start that node anew";
    };
    EXPECT_EQ(std::ranges::count_if(one->refusals, tells), 1) << one->refusals.front();
    EXPECT_EQ(one->connections, 1) << "the first";
    EXPECT_EQ(again->connections, 0);
    again->stop();
    one->stop();
}

/// It is not for that start of the node, or not what it says.
TEST(Bus, NobodyElseCanSayThatANodeIsTakenForGone) {
    SimLoop loop(7);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    const auto two = node_of(network, 2, 8, {1});
    one->start();
    two->start();
    run_until(loop, [&] { return one->connections == 1; });
    SimNet net(network, "10.0.0.66");
    const auto refuse = [&](std::uint16_t sender, std::uint64_t boot, RefusedCode code) {
        MessageHeader header;
        header.type = MessageType::refused;
        header.sender = sender;
        header.boot = boot;
        const std::vector<std::byte> body = encode_refused({code, "for no reason"});
        Buffer bytes(message_header_size + body.size());
        encode_message(header, body, {}, PayloadCheck::crc, bytes.span());
        loop.run_until_done(say(&net, address_of(1), bytes));
    };
    refuse(2, 9, RefusedCode::gone);
    refuse(3, 8, RefusedCode::gone);
    refuse(2, 8, RefusedCode::other);
    EXPECT_EQ(one->taken_for_gone_times, 0);
    ASSERT_FALSE(one->refusals.empty());
    EXPECT_NE(one->refusals.front().find("it says: for no reason"), std::string::npos);
    refuse(2, 8, RefusedCode::gone);
    EXPECT_EQ(one->taken_for_gone_times, 1);
    one->stop();
    two->stop();
}

/// Lets everybody in, and says nothing; or closes at once.
Task<void> let_in(Listener* listener, const bool* closes,
                  std::vector<std::unique_ptr<Connection>>* all) {
    for (;;) {
        auto connection = co_await listener->accept();
        if (!connection) co_return;
        if (*closes) (*connection)->shut();
        all->push_back(std::move(*connection));
    }
}

/// Somebody is there, and does not answer; and somebody who closes at once.
TEST(Bus, WhoIsSilentIsNotSaidToHaveAKey) {
    SimLoop loop(3);
    SimNetwork network(loop);
    SimNet net(network, name_of_node(1));
    auto listener = loop.run_until_done(net.listen(address_of(1)));
    ASSERT_TRUE(listener);
    bool closes = false;
    std::vector<std::unique_ptr<Connection>> all;
    loop.tasks().spawn(let_in(listener->get(), &closes, &all));
    const auto two = node_of(network, 2, 8, {1});
    two->start();
    run_until(loop, [&] { return !two->refusals.empty(); });
    EXPECT_NE(two->refusals[0].find("it is silent: it has not said who it is for 3 s"),
              std::string::npos)
        << two->refusals[0];
    EXPECT_EQ(two->refusals[0].find("key"), std::string::npos) << two->refusals[0];
    closes = true;
    run_until(loop, [&] { return two->refusals.size() == 2; });
    EXPECT_NE(two->refusals[1].find("before it said HELLO; does its cluster have a key?"),
              std::string::npos)
        << two->refusals[1];
    two->stop();
    (*listener)->shut();
    run_until(loop, [&] { return loop.tasks().running() == 0; });
}

/// A connection that does nothing.
class Nowhere final : public Connection {
  public:
    const std::string& peer() const override { return peer_; }
    Task<Result<void>> send(std::span<const ByteView>) override {
        co_return Error{Errc::io, "nowhere", ECANCELED};
    }
    Task<Result<std::size_t>> receive(std::span<const ByteSpan>, std::size_t) override {
        co_return Error{Errc::io, "nowhere", ECANCELED};
    }
    void shut() override {}

  private:
    std::string peer_{"nowhere"};
};

TEST(Bus, AStartThatAnotherOneFollowedIsOver) {
    SimLoop loop(9);
    SimNetwork network(loop);
    const auto node = node_of(network, 1, 7, {2});
    Session& session = node->bus().session(2);
    const auto meet = [&](std::uint64_t boot) {
        Session::Where there;
        there.boot = boot;
        const auto seen = session.look_at(there);
        if (!seen) return seen.error().text;
        session.begin(there, std::make_unique<MessageStream>(std::make_unique<Nowhere>(),
                                                             NodeBoot{1, 7}, PayloadCheck::crc));
        session.shut();
        session.end();
        return std::string();
    };
    EXPECT_EQ(meet(20), "");
    EXPECT_EQ(meet(20), "");
    EXPECT_EQ(meet(21), "");
    EXPECT_NE(meet(20).find("has taken the place of this one"), std::string::npos);
    EXPECT_EQ(meet(21), "");
}

// Goal: of what an earlier start of a node had sent nothing is carried out on the connection of the one
// that is there. Method: two commands follow HELLO, the second under another boot.
TEST(Bus, WhatAnEarlierStartSentIsNotCarriedOut) {
    SimLoop loop(12);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    one->start();
    Hello hello;
    hello.receiver = 1;
    hello.cluster = "lab";
    std::vector<std::byte> bytes;
    const auto add = [&](MessageType type, std::uint64_t boot, std::uint64_t number,
                         const std::vector<std::byte>& body) {
        MessageHeader header;
        header.type = type;
        header.sender = 2;
        header.boot = boot;
        header.number = number;
        Buffer message(message_header_size + body.size());
        encode_message(header, body, {}, PayloadCheck::crc, message.span());
        bytes.insert(bytes.end(), message.view().begin(), message.view().end());
    };
    add(MessageType::hello, 9, 0, encode_hello(hello));
    add(MessageType::ended, 9, 1, body_of(1));
    add(MessageType::ended, 8, 2, body_of(2));
    SimNet net(network, "10.0.0.66");
    loop.run_until_done(say(&net, address_of(1), Buffer(ByteView(bytes))));
    EXPECT_EQ(one->came_from(2), 1U);
    ASSERT_EQ(one->ends.size(), 1U);
    EXPECT_NE(one->ends[0].find("a message of another start of node 2"), std::string::npos)
        << one->ends[0];
    one->stop();
}

TEST(Bus, WhoDoesNotHaveTheKeyGetsNothing) {
    SimLoop loop(8);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2}, "lab", key_of(1));
    one->start();
    for (const std::optional<ClusterKey>& key :
         {std::optional<ClusterKey>(), std::optional<ClusterKey>(key_of(2))}) {
        const auto two = node_of(network, 2, 8, {1}, "lab", key);
        two->start();
        two->ask(1, 1);
        run_until(loop, [&] { return !two->refusals.empty() && !one->refusals.empty(); });
        loop.run_for(seconds(5));
        EXPECT_EQ(two->answered() + one->came_from(2), 0U);
        EXPECT_EQ(one->connections + two->connections, 0);
        one->refusals.clear();
        two->stop();
    }
    const auto two = node_of(network, 2, 9, {1}, "lab", key_of(1));
    two->start();
    two->ask(1, 1);
    run_until(loop, [&] { return two->answered() == 1; });
    one->stop();
    two->stop();
}

TEST(Bus, ManyHellosOfOneNodeAtOnce) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(29, 290); ++seed) {
        SCOPED_TRACE(seed);
        SimLoop loop(seed);
        loop.let_events_interrupt();
        sim::SimNetShape shape;
        shape.nanos_by_chance = 0;  // so that they come in one instant
        SimNetwork network(loop, shape);
        const auto one = node_of(network, 1, 7, {2});
        const auto two = node_of(network, 2, 8, {1});
        one->start();
        two->start();
        run_until(loop, [&] { return one->connections == 1; });
        Hello hello;
        hello.receiver = 1;
        hello.knows = 7;
        hello.cluster = "lab";
        MessageHeader header;
        header.type = MessageType::hello;
        header.sender = 2;
        header.boot = 8;
        const std::vector<std::byte> body = encode_hello(hello);
        Buffer bytes(message_header_size + body.size());
        encode_message(header, body, {}, PayloadCheck::crc, bytes.span());
        SimNet net(network, "10.0.0.66");
        for (int i = 0; i != 8; ++i) loop.tasks().spawn(say(&net, address_of(1), bytes));
        run_until(loop, [&] { return one->bus().session(2).counts().connections > 4; });
        two->ask(1, 1);
        run_until(loop, [&] { return two->answered() == 1 && loop.tasks().running() == 0; });
        EXPECT_LE(one->connections, two->connections) << "nothing came by those";
        EXPECT_EQ(one->restarts, 0);
        one->stop();
        two->stop();
    }
}

/// However many there are who come and say nothing, and come again.
TEST(Bus, SilentOnesKeepNoNodeOut) {
    SimLoop loop(9);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    one->start();
    SimNet net(network, "10.0.0.66");
    std::vector<std::unique_ptr<Connection>> silent;
    const auto come = [&](std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            auto connection = loop.run_until_done(net.connect(address_of(1)));
            ASSERT_TRUE(connection) << connection.error().text;
            silent.push_back(std::move(*connection));
        }
    };
    come(strangers_max + 40);
    const auto two = node_of(network, 2, 8, {1});
    two->start();
    // Sooner than the silent ones have to go by themselves.
    const std::uint64_t end = loop.now().value + millis(hello_ms_max / 2).value;
    while (!one->bus().session(2).is_connected() && loop.now().value < end) {
        come(1);
    }
    EXPECT_TRUE(one->bus().session(2).is_connected());
    for (const auto& connection : silent) connection->shut();
    one->stop();
    two->stop();
}

TEST(Bus, GarbageIsRefusedAndDoesNoHarm) {
    SimLoop loop(6);
    SimNetwork network(loop);
    const auto one = node_of(network, 1, 7, {2});
    const auto two = node_of(network, 2, 8, {1});
    one->start();
    two->start();
    SimNet net(network, "10.0.0.66");
    const auto answer_to = [&](Buffer bytes) {
        return reason_in(loop.run_until_done(talk(&net, address_of(1), std::move(bytes))));
    };
    Buffer garbage(message_header_size);  // all of it is read, or the answer would be lost
    for (std::size_t i = 0; i != garbage.size(); ++i) {
        garbage.data()[i] = static_cast<std::byte>(i * 7);
    }
    EXPECT_NE(answer_to(garbage).find("does not begin with BRDM"), std::string::npos);
    EXPECT_EQ(answer_to(Buffer(10)), "nothing") << "it is waited for, and then it is over";
    EXPECT_EQ(answer_to(Buffer()), "nothing");

    Hello hello;
    hello.receiver = 1;
    hello.cluster = "lab";
    const auto message = [](MessageHeader header, std::vector<std::byte> body) {
        Buffer bytes(message_header_size + body.size());
        encode_message(header, body, {}, PayloadCheck::crc, bytes.span());
        return bytes;
    };
    MessageHeader header;
    header.type = MessageType::hello;
    header.sender = 2;
    header.boot = 99;
    EXPECT_NE(answer_to(message(header, encode_hello(hello))).find("connected already"),
              std::string::npos)
        << "another boot of a node that is here";
    header.boot = 8;
    header.received = 1000;
    hello.knows = 7;
    EXPECT_NE(answer_to(message(header, encode_hello(hello))).find("cannot be"), std::string::npos);
    header.received = 0;
    header.sender = 1;
    EXPECT_NE(answer_to(message(header, encode_hello(hello))).find("it is node 1, too"),
              std::string::npos);
    hello.receiver = 4;
    EXPECT_NE(answer_to(message(header, encode_hello(hello))).find("looks for node 4"),
              std::string::npos);
    header.type = MessageType::flush;
    header.number = 1;
    EXPECT_NE(answer_to(message(header, {})).find("begins with FLUSH"), std::string::npos);

    EXPECT_TRUE(one->bus().session(2).is_connected());
    two->ask(1, 2);
    run_until(loop, [&] { return two->answered() == 1; });
    one->stop();
    two->stop();
}

}  // namespace
}  // namespace braid::cluster
