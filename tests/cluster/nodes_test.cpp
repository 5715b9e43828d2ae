// SPDX-License-Identifier: BSD-3-Clause
// Whole nodes: they find each other, open one array, serve it together, lose members, nodes and
// power, and stop.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cluster/wire/message_header.h"
#include "tests/cluster/nodes_kit.h"

namespace braid::sim {
namespace {

TEST_P(NodesTest, ServeOneArrayTogether) {
    nodes_.start();
    begin_load(6, 30);
    end_load();
    clients_.check(nodes_.nodes());
    EXPECT_TRUE(nodes_.flush(0));
    nodes_.stop(static_cast<std::uint32_t>(below(nodes_.nodes())));
    nodes_.start();
    clients_.check(nodes_.nodes());
    EXPECT_FALSE(nodes_.array(0).status().in_doubt) << "it was stopped cleanly";
    nodes_.stop(0);
}

TEST_P(NodesTest, ConnectionsMayBreak) {
    nodes_.start();
    begin_load(6, 30);
    while (working_ != 0) {
        loop().run_for(millis(1 + below(40)));
        cut_any();
    }
    end_half_cut();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodesTest, AMemberFailsAndANodeThatDoesNotDecideReplacesIt) {
    nodes_.start();
    begin_load(6, 40);
    loop().run_for(millis(30));
    nodes_.platter(0).dead = true;
    end_load();
    const std::uint32_t last = nodes_.nodes() - 1;
    for (std::uint32_t i = 0; i != 20 && state(last, 0) == MemberState::in_sync; ++i) {
        loop().run_until_done(clients_.write(0, 0, 64u << 10, Fua::yes));
    }
    nodes_.run_until([&] { return is_everywhere(0, MemberState::faulty); },
                     "all nodes know of the loss");
    nodes_.run_until([&] { return !nodes_.is_open(0); }, "its server closes it");
    clients_.check(nodes_.nodes());

    begin_load(4, 20);
    auto fresh = nodes_.make_platter();
    const auto added =
        loop().run_until_done(nodes_.array(0).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    wait_until_rebuilt(0);
    end_load();
    clients_.check(nodes_.nodes());
    // What the new one has counts from now on.
    begin_load(4, 20);
    loop().run_for(millis(10));
    nodes_.platter(1).dead = true;
    end_load();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// Writes of a member fail for a while that the level cannot do without.
TEST_P(NodesTest, AMemberThatIsNeededKeepsItsPlace) {
    nodes_.start();
    begin_load(6, 10);
    end_load();
    const std::uint32_t parities = GetParam().level == Level::raid6 ? 2 : 1;
    for (std::uint32_t role = 0; role != parities; ++role) {
        const auto failed =
            loop().run_until_done(nodes_.array(0).fail_member(std::to_string(role), Force::no));
        ASSERT_TRUE(failed) << failed.error().text;
    }
    const std::uint32_t needed = parities + static_cast<std::uint32_t>(below(2));
    clients_.let_fail();
    begin_load(6, 20);
    loop().run_for(millis(1 + below(30)));
    nodes_.platter(needed).fails_writes = true;
    end_load();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(state(node, needed), MemberState::in_sync);
        EXPECT_EQ(nodes_.array(node).status().health, Health::degraded);
    }
    nodes_.platter(needed).fails_writes = false;
    loop().run_for(seconds(20));  // what needs a new configuration is tried again
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) EXPECT_TRUE(nodes_.flush(node));
    begin_load(6, 20);
    end_load();
    clients_.check(nodes_.nodes());
    EXPECT_TRUE(nodes_.flush(0));
    nodes_.stop(0);
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// A node has a read under way on a disk that does not answer, while the member is lost and its role
/// is given to another disk.
TEST_P(NodesTest, ADiskThatDoesNotAnswerIsReplaced) {
    nodes_.start();
    begin_load(6, 10);
    end_load();
    nodes_.platter(0).delay_nanos = seconds(8).value;
    const std::uint64_t all = clients_.sectors() * sector_size;
    std::uint32_t reading = nodes_.nodes();
    const auto read_all = [](Clients<SimNodes>* clients, std::uint32_t node, std::uint64_t size,
                             std::uint32_t* left) -> Task<void> {
        co_await clients->read(node, 0, size);
        --*left;
    };
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().tasks().spawn(read_all(&clients_, node, all, &reading));
    }
    loop().run_for(seconds(2));
    const std::uint32_t last = nodes_.nodes() - 1;
    const auto failed = loop().run_until_done(nodes_.array(last).fail_member("0", Force::no));
    ASSERT_TRUE(failed) << failed.error().text;
    auto fresh = nodes_.make_platter();
    const auto added = loop().run_until_done(
        nodes_.array(last).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    nodes_.run_until([&] { return reading == 0; }, "the reads end");
    wait_until_rebuilt(0);
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// Its home notices that, whoever decides; and what waits for its disk that need not, as records of the
/// write intent of any node, and configurations of the one who decides, does not.
TEST_P(NodesTest, ADiskThatHangsIsLost) {
    nodes_.set_member_timeout(seconds(10));
    nodes_.start();
    loop().run_for(seconds(1));
    const auto hangs = static_cast<std::uint32_t>(below(GetParam().members));
    const std::uint32_t home = nodes_.home_of(hangs);
    begin_load(6, 10);
    end_load();
    nodes_.platter(hangs).delay_nanos = seconds(60).value;
    // What reads it for these waits, and holds its rows.
    const std::uint64_t stripe = nodes_.geometry().stripe_data_size();
    loop().tasks().spawn(clients_.write(0, 0, stripe));  // all of its members
    for (std::uint32_t node = 1; node != nodes_.nodes(); ++node) {
        loop().tasks().spawn(
            clients_.write(node, below(stripe / sector_size) * sector_size, sector_size));
    }
    loop().run_for(seconds(9));
    EXPECT_EQ(state(home, hangs), MemberState::in_sync);
    loop().run_for(seconds(6));
    EXPECT_TRUE(is_everywhere(hangs, MemberState::faulty));
    const std::uint64_t began = loop().now().value;
    for (std::uint32_t i = 0; i != 20; ++i) {
        const std::uint32_t node = i % nodes_.nodes();
        const std::uint64_t offset =
            stripe + below(clients_.sectors() - stripe / sector_size - 8) * sector_size;
        loop().run_until_done(clients_.write(node, offset, 8 * sector_size, Fua{i % 3 == 0}));
        EXPECT_TRUE(nodes_.flush(node));
    }
    EXPECT_LT(loop().now().value - began, seconds(5).value);
    loop().run_for(seconds(70));
    nodes_.platter(hangs).delay_nanos = 0;
    nodes_.run_until([&] { return !nodes_.is_open(hangs); }, "its server closes it");
    const auto back = loop().run_until_done(nodes_.array(home).add_member(
        nodes_.disk(nodes_.shared_platter(hangs), nodes_.path_of(hangs)), Force::no));
    ASSERT_TRUE(back) << back.error().text;
    wait_until_rebuilt(hangs);
    clients_.check(nodes_.nodes());
    nodes_.stop(static_cast<std::uint32_t>(below(nodes_.nodes())));
    nodes_.expect_parity();
}

// Goal: who works without a member lets nobody have rows that it has written, as long as the member's
// home would still give what the member has of them. Method: who decides is slow to tell that home of
// the loss; another node writes a sector of the member, and then the home's own node its neighbour.
TEST(NodeLosses, TheMembersHomeHearsOfItLast) {
    SimNodesOptions options;
    options.members = 3;
    options.nodes = 4;
    options.homes = 3;  // who decides is home of nothing
    SimNodes nodes(options);
    Clients<SimNodes> clients(nodes);
    nodes.start();
    const Geometry& geometry = nodes.geometry();
    StripeIndex stripe{0};
    while (geometry.member_of(stripe, geometry.p()) != MemberIndex{1}) stripe = stripe + 1;
    const Role role = geometry.role_of(stripe, MemberIndex{0});
    const std::uint64_t at = geometry.array_offset_of({stripe, role, 0}).value;
    nodes.loop().run_until_done(clients.write(2, at, row_size));
    nodes.slow_way(3, 0, millis(600));
    std::optional<Checked<Unit>> failed;
    std::uint32_t written = 0;
    const auto fail = [&]() -> Task<void> {
        failed = co_await nodes.array(3).fail_member("0", Force::no);
    };
    const auto write = [&](std::uint32_t node, std::uint64_t offset) -> Task<void> {
        co_await clients.write(node, offset, sector_size);
        ++written;
    };
    nodes.loop().tasks().spawn(fail());
    const auto state = [&](std::uint32_t node) {
        return nodes.array(node).status().members[0].record.state;
    };
    nodes.run_until([&] { return state(1) == MemberState::faulty; }, "another node hears of it");
    EXPECT_EQ(state(0), MemberState::in_sync);
    nodes.loop().tasks().spawn(write(1, at));
    nodes.loop().run_for(millis(100));
    nodes.loop().tasks().spawn(write(0, at + sector_size));
    nodes.loop().run_for(millis(100));
    EXPECT_EQ(state(0), MemberState::in_sync);
    EXPECT_EQ(written, 0u) << "the loss is not in force";
    nodes.run_until([&] { return written == 2 && failed; }, "all of it is over");
    EXPECT_TRUE(*failed);
    nodes.release_way(3, 0);
    clients.check(4);
    nodes.stop(3);
}

TEST_P(NodesTest, EachNodeShowsWhatRuns) {
    nodes_.start();
    const auto begun = loop().run_until_done(nodes_.array(0).start_scrub(ScrubMode::compare));
    ASSERT_TRUE(begun) << begun.error().text;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        nodes_.run_until([&] { return nodes_.array(node).status().last_scrub.has_value(); },
                         "each node has the result");
        EXPECT_TRUE(nodes_.array(node).status().walks.empty());
        EXPECT_NE(nodes_.log(node).find("scrub is done"), std::string::npos) << node;
    }
    nodes_.stop(0);
}

/// A configuration is on its way to a disk that hangs, and its member is lost for a write that fails:
/// nobody watches it any more, and it is not waited for all the same.
TEST_P(NodesTest, AConfigurationIsOnItsWayToAMemberThatIsLost) {
    if (GetParam().level != Level::raid6) return;  // that can do without two
    nodes_.set_member_timeout(seconds(10));
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t decides = nodes_.nodes() - 1;
    const auto hangs = static_cast<std::uint32_t>(below(GetParam().members));
    const std::uint32_t other = (hangs + 1) % GetParam().members;
    nodes_.platter(hangs).delay_nanos = seconds(60).value;
    std::optional<Checked<Unit>> failed;
    const auto keep = [](Task<Checked<Unit>> task,
                         std::optional<Checked<Unit>>* result) -> Task<void> {
        result->emplace(co_await task);
    };
    loop().tasks().spawn(
        keep(nodes_.array(decides).fail_member(std::to_string(other), Force::no), &failed));
    loop().run_for(seconds(1));
    EXPECT_FALSE(failed);
    nodes_.platter(hangs).delay_nanos = 0;
    nodes_.platter(hangs).fails_writes = true;
    const std::uint64_t began = loop().now().value;
    begin_load(6, 20);
    nodes_.run_until([&] { return failed.has_value(); }, "the order is carried out");
    EXPECT_LT(loop().now().value - began, seconds(25).value);
    EXPECT_TRUE(*failed) << failed->error().text;
    EXPECT_EQ(state(decides, hangs), MemberState::faulty);
    nodes_.platter(hangs).fails_writes = false;
    end_load();
    loop().run_for(seconds(70));
    clients_.check(nodes_.nodes());
    nodes_.stop(static_cast<std::uint32_t>(below(nodes_.nodes())));
}

class LongWalkTest : public NodesTest {
  protected:
    LongWalkTest() : NodesTest({.stripes = 3000}) {}
};

/// It learns from other nodes how long their clients wait.
TEST_P(LongWalkTest, AWalkPausesForClientsOfOtherNodes) {
    nodes_.start();
    const std::uint32_t decides = nodes_.nodes() - 1;
    const auto walk = [&] { return nodes_.array(decides).status().walks; };
    const auto begun = loop().run_until_done(nodes_.array(0).start_scrub(ScrubMode::compare));
    ASSERT_TRUE(begun) << begun.error().text;
    loop().run_for(seconds(1));  // until others have heard of it
    double throttle = 0;
    std::uint64_t position = 0;
    int still = 0;  // milliseconds for which it has paused
    while (!walk().empty() && throttle < 0.12) {
        const WalkStatus now = walk().front();
        throttle = std::max(throttle, now.throttle);
        still = now.position == position ? still + 1 : 0;
        position = now.position;
        // Clients of the others wait ten times as long while it works.
        for (std::uint32_t node = 0; node != decides; ++node) {
            nodes_.array(node).note_latency(millis(still > 2 ? 1 : 10));
        }
        loop().run_for(millis(1));
    }
    EXPECT_GE(throttle, 0.12);
    nodes_.stop(0);
}
INSTANTIATE_TEST_SUITE_P(Shapes, LongWalkTest, testing::ValuesIn(shapes(1)));

/// A node's client writes one sector again and again; what others write of its row is beside it.
Task<void> write_again(Clients<SimNodes>* clients, std::uint32_t node, std::uint32_t times) {
    for (std::uint32_t i = 0; i != times; ++i) {
        co_await clients->write(node, node * sector_size, sector_size);
    }
}

// Goal: what a status says of who writes the same rows grows with that, on whichever node it is asked.
TEST_P(NodesTest, EachNodeShowsThatTheyWriteTheSameRow) {
    constexpr std::uint64_t times = 30;
    nodes_.start();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().run_until_done(write_again(&clients_, node, 1));  // it is marked from now on
    }
    loop().run_for(seconds(3));  // until all know
    const std::vector<NodeStatus> before = nodes_.array(0).status().nodes;
    ASSERT_EQ(before.size(), nodes_.nodes());
    bool has_waited = false;
    TaskGroup tasks(loop().ready());
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        tasks.spawn(write_again(&clients_, node, times));
    }
    while (tasks.running() != 0) {
        ASSERT_TRUE(loop().step());
        for (std::uint32_t node = 0; node != nodes_.nodes() && !has_waited; ++node) {
            has_waited = nodes_.array(node).status().nodes[node].locks_waiting != 0;
        }
    }
    EXPECT_TRUE(has_waited);
    loop().run_for(seconds(3));
    const Geometry& geometry = nodes_.geometry();
    const std::uint32_t authority =
        nodes_.home_of(raw(geometry.member_of(StripeIndex{0}, geometry.p())));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const std::vector<NodeStatus> now = nodes_.array(node).status().nodes;
        ASSERT_EQ(now.size(), before.size());
        for (std::uint32_t of = 0; of != nodes_.nodes(); ++of) {
            SCOPED_TRACE(fmt::format("node {}, as node {} shows it", of + 1, node + 1));
            const NodeStatus& then = before[of];
            EXPECT_EQ(now[of].writes - then.writes, times);
            EXPECT_EQ(now[of].rounds - then.rounds, 3 * times) << "lock, read, stage";
            const std::uint64_t handed_over = now[of].locks_handed_over - then.locks_handed_over;
            if (of == authority) {
                EXPECT_GE(handed_over, times);
            } else {
                EXPECT_EQ(handed_over, 0U);
            }
            // At most half of them are answers, and come.
            const std::uint64_t messages = now[of].messages - then.messages;
            EXPECT_GE(now[of].bytes_sent - then.bytes_sent,
                      messages / 2 * cluster::message_header_size);
            EXPECT_EQ(now[of].locks_held + now[of].locks_waiting + now[of].strips_staged, 0U);
        }
        if (node != authority) {
            EXPECT_GE(now[node].messages - before[node].messages, 2 * times) << "each is locked";
        }
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodesTest, EachNodeShowsItsLinks) {
    nodes_.start();
    loop().run_for(seconds(3));
    const auto links = [&](std::uint32_t node) {
        std::vector<ChannelStatus> all;
        for (const NodeStatus& of : nodes_.array(node).status().nodes) {
            EXPECT_EQ(of.channels.size(), of.is_self ? 0u : 1u);
            all.insert(all.end(), of.channels.begin(), of.channels.end());
        }
        return all;
    };
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const auto all = links(node);
        ASSERT_EQ(all.size(), nodes_.nodes() - 1);
        for (const ChannelStatus& link : all) EXPECT_TRUE(link.up && link.round_trip);
    }
    // Where it can do without all others it would go on alone.
    if (nodes_.nodes() == 2) return nodes_.stop(0);
    nodes_.hold_sent_by(0);
    loop().run_for(seconds(2));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const auto all = links(node);
        const auto is_down = [](const ChannelStatus& link) { return !link.up; };
        EXPECT_EQ(std::ranges::count_if(all, is_down), node == 0 ? nodes_.nodes() - 1 : 1);
    }
    nodes_.release(0);
    nodes_.run_until([&] { return links(0).front().up; }, "it is up again");
    nodes_.stop(0);
}

TEST_P(NodesTest, AnyNodeAnswersCommandsOfAnyOther) {
    using namespace cluster;
    nodes_.start();
    const auto ask = [&](std::uint32_t from, std::uint32_t to, const Words& words) {
        return loop().run_until_done(nodes_.node(from).talk().ask(to + 1, words));
    };
    const auto refusal = [&](std::uint32_t from, std::uint32_t to, const Words& words) {
        const Checked<Words> answer = ask(from, to, words);
        return answer ? answer->dump() : answer.error().text;
    };
    const std::uint32_t last = nodes_.nodes() - 1;
    std::uint64_t epoch = 0;
    for (std::uint32_t from = 0; from != nodes_.nodes(); ++from) {
        for (std::uint32_t to = 0; to != nodes_.nodes(); ++to) {
            if (from == to) continue;
            const auto about = inquiry_answer_of(*ask(from, to, asking(node_words::inquiry)));
            ASSERT_TRUE(about) << about.error().text;
            EXPECT_EQ(about->node, to + 1);
            EXPECT_NE(about->boot, 0u);
            if (epoch == 0) epoch = about->epoch;
            EXPECT_EQ(about->epoch, epoch) << "it is the same everywhere";
            EXPECT_GE(epoch, nodes_.array(to).configuration().version.epoch);
            EXPECT_TRUE(!about->booting && !about->stopped && about->decides == (to == last));
            const auto way = cable_check_answer_of(*ask(from, to, asking(node_words::cable_check)));
            ASSERT_TRUE(way) << way.error().text;
            EXPECT_EQ(way->channel, 0u);
            EXPECT_EQ(way->address, fmt::format("10.0.0.{}:10810", std::min(from, to) + 1));

            BlockWrite write;
            write.offset = 4000;
            for (int i = 0; i != 96; ++i) write.data.push_back(static_cast<std::byte>(below(256)));
            EXPECT_EQ(*block_of(*ask(from, to, words_of(BlockRead{4000, 96}))),
                      std::vector<std::byte>(96))
                << "nobody else's bytes";
            ASSERT_TRUE(ask(from, to, words_of(write)));
            EXPECT_EQ(*block_of(*ask(from, to, words_of(BlockRead{4000, 96}))), write.data);

            EXPECT_NE(refusal(from, to, words_of(BlockRead{4000, 97})).find("beyond a block"),
                      std::string::npos);
            EXPECT_NE(refusal(from, to, words_of(Negotiate{NegotiateStep::prepare, 77}))
                          .find(from == last ? "fence 77 is not above" : "fence 77 cannot begin"),
                      std::string::npos);
            EXPECT_NE(refusal(from, to, words_of(Negotiate{NegotiateStep::adopt, 77}))
                          .find(from == last ? "not prepared for fence 77" : "cannot begin"),
                      std::string::npos);
            EXPECT_NE(refusal(from, to, words_of(Kill{about->boot + 1, "test"}))
                          .find("another start of this node"),
                      std::string::npos);
            const std::string unknown = refusal(from, to, asking("nonsense"));
            EXPECT_NE(unknown.find(from == last || to == last ? "by the name of nonsense"
                                                              : "does not decide"),
                      std::string::npos)
                << unknown;
        }
    }
    begin_load(6, 10);
    end_load();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodesTest, WhoIsKilledAnswersAndStops) {
    using namespace cluster;
    nodes_.start();
    clients_.let_fail();
    begin_load(8, 60);
    loop().run_for(millis(20));
    const auto victim = static_cast<std::uint32_t>(below(nodes_.nodes()));
    const std::uint32_t killer = (victim + 1) % nodes_.nodes();
    Talk& talk = nodes_.node(killer).talk();
    const auto about = loop().run_until_done(talk.ask(victim + 1, asking(node_words::inquiry)));
    const auto kill = words_of(Kill{inquiry_answer_of(*about)->boot, "as a test"});
    const auto answer = loop().run_until_done(talk.ask(victim + 1, kill));
    // All may have excluded it before its answer has come here.
    const bool is_told = answer || answer.error().code == RefusalCode::busy;
    EXPECT_TRUE(is_told) << answer.error().text;
    nodes_.run_until([&] { return nodes_.log(victim).find("as a test") != std::string::npos; },
                     "it has heard");
    const std::string says = fmt::format(
        "node {} has taken this node for gone (as a test): the array stops here", killer + 1);
    EXPECT_NE(nodes_.log(victim).find(says), std::string::npos) << nodes_.log(victim);
    end_load();
    const auto again = loop().run_until_done(talk.ask(victim + 1, kill));
    EXPECT_FALSE(again) << "it is dead already, or is not asked any more";
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        nodes_.run_until([&] { return is_gone_for(node, victim); }, "it is gone for all");
    }
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const bool clean = loop().run_until_done(nodes_.array(node).stop()).has_value();
        EXPECT_EQ(clean, node != victim && others_go_on_without(victim)) << node;
    }
    nodes_.end_servers();
}

/// The order is given at any node, and each knows what becomes of it.
TEST_P(NodesTest, EachNodeIsToldOfARebuild) {
    nodes_.start();
    const auto at = static_cast<std::uint32_t>(below(nodes_.nodes()));
    begin_load(4, 20);
    end_load();
    ASSERT_TRUE(loop().run_until_done(nodes_.array(at).fail_member("0", Force::no)));
    auto fresh = nodes_.make_platter();
    const auto added =
        loop().run_until_done(nodes_.array(at).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    wait_until_rebuilt(0);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const auto kinds = [&] {
            std::string all;
            for (const ArrayEvent& event : nodes_.array(node).status().events) {
                const bool is_of_it = event.kind.starts_with("rebuild") || event.kind == "clean";
                if (is_of_it) all += event.kind + " ";
            }
            return all;
        };
        nodes_.run_until([&] { return kinds().find("clean") != std::string::npos; }, "it is told");
        EXPECT_EQ(kinds(), "rebuild_received rebuild_started rebuild_done clean ") << node;
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// What tells of a rebuild where there is no array is nobody's fault.
TEST(Notices, WhatIsToldTooEarlyIsPassedOver) {
    SimNodesOptions options;
    options.made = false;
    SimNodes nodes(options);
    for (std::uint32_t node = 0; node != nodes.nodes(); ++node) nodes.begin(node);
    nodes.loop().run_for(seconds(3));
    for (const char* word :
         {"inform_rebuild_received", "inform_rebuild_started", "inform_rebuild_status",
          "inform_rebuild_completed", "inform_rebuilt_all"}) {
        nodes.node(2).talk().tell(1, cluster::telling(word));
    }
    nodes.loop().run_for(seconds(1));
    EXPECT_EQ(nodes.log(0).find("cannot be"), std::string::npos) << nodes.log(0);
    EXPECT_TRUE(
        nodes.loop().run_until_done(nodes.node(2).talk().ask(1, cluster::asking("inquiry"))));
    for (std::uint32_t node = 0; node != nodes.nodes(); ++node) nodes.cancel(node);
}

TEST_P(NodesTest, WhenOneIsGoneNobodyWaitsForEver) {
    nodes_.start();
    loop().run_for(seconds(1));
    clients_.let_fail();
    begin_load(8, 60);
    loop().run_for(millis(20));
    const auto victim = static_cast<std::uint32_t>(below(nodes_.nodes()));
    nodes_.isolate(victim);
    end_load();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const bool goes_on = goes_on_after(victim, node);
        EXPECT_EQ(loop().run_until_done(nodes_.array(node).stop()).has_value(), goes_on) << node;
    }
    nodes_.end_servers();
}

/// The one that was away for too long, and does not know it.
TEST_P(NodesTest, WhoIsTakenForGoneStopsWhenItHearsOfIt) {
    for (std::uint32_t gone = 0; gone != nodes_.nodes(); ++gone) {
        SCOPED_TRACE(gone);
        if (goes_on_alone(gone)) continue;  // then it excludes the others
        nodes_.start();
        clients_.let_fail();
        begin_load(8, 60);
        loop().run_for(millis(20));
        // It hears the others for longer than they hear it, and so is patient for longer.
        nodes_.hold_sent_by(gone);
        loop().run_for(millis(4500));
        nodes_.hold_sent_to(gone);
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == gone) continue;
            // They stop, too, where it would take with it what nobody else knows.
            nodes_.run_until(
                [&] {
                    return is_gone_for(node, gone) ||
                           nodes_.log(node).find("stops on all") != std::string::npos;
                },
                "the others take it for gone");
        }
        ASSERT_EQ(nodes_.log(gone).find("stops on all"), std::string::npos);
        const std::size_t said = nodes_.log(gone).size();
        const std::uint64_t begin = loop().now().value;
        nodes_.release(gone);
        nodes_.run_until(
            [&] { return nodes_.log(gone).find("the array stops") != std::string::npos; },
            "it is told");
        EXPECT_TRUE(nodes_.log(gone).find("has taken this node for gone") != std::string::npos ||
                    nodes_.log(gone).find("has excluded this start") != std::string::npos);
        EXPECT_LT(loop().now().value - begin, millis(1100).value);
        end_load();
        loop().run_for(seconds(20));
        const std::string log = nodes_.log(gone).substr(said);
        std::istringstream lines(log);
        std::uint32_t of_connections = 0;  // others are about what fails beside it
        for (std::string line; std::getline(lines, line);) {
            for (const char* about :
                 {"is connected", "connection to", "it says", "this node for"}) {
                if (line.find(about) == std::string::npos) continue;
                ++of_connections;
                break;
            }
        }
        EXPECT_LE(of_connections, 1 + 3 * (nodes_.nodes() - 1)) << log;
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            const bool stops = nodes_.log(node).find("the array stops") != std::string::npos;
            EXPECT_EQ(nodes_.ends(node).has_value(), stops) << node << " is told to end";
        }
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.leave(node);
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            nodes_.run_until([&] { return nodes_.has_left(node); }, "its server ends");
        }
        nodes_.end_servers();
    }
}

/// What is over is over at once: one is waited for, and not those who end because it is gone.
TEST_P(NodesTest, WhoEndsBesideOneThatIsGoneIsNotWaitedFor) {
    if (goes_on_alone(0)) GTEST_SKIP() << "it excludes the others";
    nodes_.start();
    nodes_.isolate(0);
    const std::uint64_t begin = loop().now().value;
    loop().run_for(seconds(2));
    for (std::uint32_t node = 1; node != nodes_.nodes(); ++node) nodes_.leave(node);
    for (std::uint32_t node = 1; node != nodes_.nodes(); ++node) {
        nodes_.run_until([&] { return nodes_.has_left(node); }, "its server ends");
    }
    const std::uint64_t patience = cluster::ClusterNode::patience.value;
    EXPECT_LT(loop().now().value - begin, patience + seconds(10).value);
    nodes_.run_until([&] { return nodes_.log(0).find("stops on all") != std::string::npos; },
                     "the one that is gone knows it, too");
    (void)loop().run_until_done(nodes_.array(0).stop());
    nodes_.end_servers();
}

TEST_P(NodesTest, ThePowerGoesAndWhatWasFlushedIsThere) {
    for (int round = 0; round != 3; ++round) {
        nodes_.start();
        begin_load(4, 10);
        end_load();
        EXPECT_TRUE(nodes_.flush(static_cast<std::uint32_t>(below(nodes_.nodes()))));
        clients_.let_fail();
        nodes_.lose_power();
        clients_.let_fail(false);
    }
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.run_until([&] { return nodes_.array(nodes_.nodes() - 1).status().walks.empty(); },
                     "the resync ends");
    nodes_.stop(0);
}

TEST_P(NodesTest, AMemberThatMissedWritesIsNotBelievedAfterThePowerWent) {
    const auto victim = static_cast<std::uint32_t>(below(GetParam().members));
    nodes_.start();
    begin_load(4, 10);
    end_load();
    begin_load(6, 20);
    loop().run_for(millis(1 + below(30)));
    nodes_.platter(victim).dead = true;
    end_load();
    // What was acknowledged and flushed without the member, at whatever moment of its loss.
    EXPECT_TRUE(nodes_.flush(static_cast<std::uint32_t>(below(nodes_.nodes()))));
    nodes_.lose_power();
    nodes_.platter(victim).dead = false;
    // Of what was marked RAID-5 has nothing to tell it by: an error, but no older bytes.
    if (GetParam().level != Level::raid6) clients_.let_fail();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodesTest, TwoLeaveAtOnce) {
    nodes_.start();
    begin_load(4, 10);
    end_load();
    const auto stop_all = [](SimNodes& nodes, std::uint32_t node, int* left) -> Task<void> {
        EXPECT_TRUE(co_await nodes.array(node).stop());
        --*left;
    };
    int left = static_cast<int>(nodes_.nodes());
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().tasks().spawn(stop_all(nodes_, node, &left));
    }
    nodes_.run_until([&] { return left == 0; }, "all have stopped");
    nodes_.end_servers();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(nodes_.nodes() - 1);
}

TEST_P(NodesTest, AStartThatIsRefusedEndsOnAllNodes) {
    for (std::uint32_t member = 1; member != GetParam().members; ++member) {
        Buffer& content = nodes_.platter(member).content;
        std::memset(content.data(), 0, content.size());
    }
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.begin(node);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        nodes_.run_until([&] { return nodes_.has_begun(node); }, "the start is over");
        EXPECT_NE(nodes_.refusal(node), "") << "one member is left of the array";
    }
    nodes_.end_servers();
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodesTest, testing::ValuesIn(shapes(seeds_of(6, 300))));

/// A new array on slow members has a resync to do, on all nodes' behalf.
class DoubtfulNodesTest : public NodesTest {
  protected:
    DoubtfulNodesTest() : NodesTest({.zero_fast = false}) {}
};

TEST_P(DoubtfulNodesTest, AResyncRunsBesideClientsOfAllNodes) {
    nodes_.start();
    begin_load(6, 40);
    end_load();
    nodes_.run_until(
        [&] {
            for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
                if (nodes_.array(node).status().in_doubt) return false;
            }
            return true;
        },
        "all nodes know that parity is true");
    begin_load(6, 10);
    end_load();
    nodes_.platter(0).dead = true;
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// What a node that does not decide wrote and flushed before the resync passed it is known, whatever
/// is lost then.
TEST_P(DoubtfulNodesTest, WhatWasWrittenInDoubtIsNotListed) {
    nodes_.start();
    constexpr std::uint64_t size = 64u << 10;
    loop().run_until_done(clients_.write(0, 0, size, Fua::yes));
    nodes_.platter(0).dead = true;
    clients_.let_fail();
    for (int i = 0; i != 20; ++i) {
        loop().run_until_done(clients_.write(1, size, size, Fua::yes));
    }
    clients_.let_fail(false);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().run_until_done(clients_.read(node, 0, size));
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, DoubtfulNodesTest, testing::ValuesIn(shapes(seeds_of(4, 100))));

/// One that takes longer than the members' failing.
class LongDoubtNodesTest : public NodesTest {
  protected:
    LongDoubtNodesTest() : NodesTest({.stripes = 200, .zero_fast = false}) {}
};

/// Rows that were in doubt when a member left are its alone, until it is back: they are taken from
/// it beside what the clients of all nodes write into the same windows.
TEST_P(LongDoubtNodesTest, AMemberBringsBackWhatOnlyItKnowsBesideClientsOfAllNodes) {
    const std::uint32_t last = nodes_.nodes() - 1;
    nodes_.lose_alone(0);
    clients_.let_fail();
    nodes_.start();
    ASSERT_EQ(state(last, 0), MemberState::missing);
    ASSERT_NE(nodes_.array(last).status().bad_bytes, 0u) << "the resync was not done";
    nodes_.platter(0).dead = false;
    begin_load(6, 30);
    const auto added = loop().run_until_done(
        nodes_.array(0).add_member(nodes_.disk(nodes_.shared_platter(0), "m0 again"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    nodes_.run_until([&] { return state(last, 0) == MemberState::in_sync; }, "it is rebuilt");
    end_load();
    EXPECT_EQ(nodes_.array(last).status().bad_bytes, 0u);
    clients_.let_fail(false);
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

std::vector<Shape> one_parity() {
    std::vector<Shape> all = shapes(seeds_of(6, 100));
    std::erase_if(all, [](const Shape& shape) { return shape.level == Level::raid6; });
    return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, LongDoubtNodesTest, testing::ValuesIn(one_parity()));

}  // namespace
}  // namespace braid::sim
