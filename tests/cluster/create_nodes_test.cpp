// SPDX-License-Identifier: BSD-3-Clause
// A cluster that has no array yet: its nodes wait, and say for what; an order given to any of them
// makes the array of all their members, or changes nothing; and then all serve it.
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cluster/clients.h"
#include "tests/cluster/sim_nodes.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

using cluster::StartPhase;
using cluster::StartStatus;

Task<MemberImage> read_image(std::unique_ptr<Disk> disk) {
    co_return co_await read_member_image(*disk);
}

class CreateNodesTest : public testing::TestWithParam<std::uint64_t> {
  protected:
    static constexpr std::uint32_t members = 6;

    explicit CreateNodesTest(std::uint32_t homes = 0, std::uint32_t nodes = 3)
        : nodes_({.seed = GetParam(),
                  .members = members,
                  .nodes = nodes,
                  .homes = homes,
                  .made = false}) {}

    SimLoop& loop() { return nodes_.loop(); }
    std::uint32_t any_node() {
        return static_cast<std::uint32_t>(loop().rng().below(nodes_.nodes()));
    }
    StartStatus status(std::uint32_t node) { return nodes_.node(node).start_status(); }
    void wait_for_phase(std::uint32_t node, StartPhase phase) {
        nodes_.run_until([&] { return status(node).phase == phase; }, "it waits for that");
    }
    void wait_until_all_wait_for_an_array() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            wait_for_phase(node, StartPhase::array);
        }
    }
    void begin() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.begin(node);
        wait_until_all_wait_for_an_array();
    }
    static CreateOrder order(Level level = Level::raid6) {
        CreateOrder order;
        order.options.level = level;
        order.options.strip_size = 16u << 10;
        order.options.name = "new";
        return order;
    }
    Checked<cluster::Words> create(std::uint32_t node, CreateOrder order) {
        return loop().run_until_done(nodes_.node(node).create(std::move(order)));
    }
    std::vector<Buffer> contents() {
        std::vector<Buffer> all;
        for (std::uint32_t i = 0; i != members; ++i) {
            all.emplace_back(nodes_.platter(i).content.view());
        }
        return all;
    }
    bool is_as_before(const std::vector<Buffer>& before) {
        for (std::uint32_t i = 0; i != members; ++i) {
            const Buffer& now = nodes_.platter(i).content;
            if (std::memcmp(now.data(), before[i].data(), now.size()) != 0) return false;
        }
        return true;
    }
    /// What is written at one is read at the others.
    void serve_and_stop() {
        nodes_.wait_until_all_serve();
        Clients<SimNodes> clients(nodes_);
        for (std::uint32_t i = 0; i != 12; ++i) {
            const std::uint64_t offset = loop().rng().below(clients.sectors() - 64) * sector_size;
            loop().run_until_done(clients.write(i % nodes_.nodes(), offset, 32 * sector_size));
        }
        clients.check(nodes_.nodes());
        nodes_.stop(any_node());
        nodes_.start();
        clients.check(nodes_.nodes());
        nodes_.stop(any_node());
    }

    SimNodes nodes_;
};

TEST_P(CreateNodesTest, TheyWaitAreOrderedAndServe) {
    nodes_.begin(0);
    loop().run_for(seconds(1));
    const StartStatus alone = status(0);
    EXPECT_EQ(alone.phase, StartPhase::nodes);
    EXPECT_EQ(alone.why,
              "waits for node 2 (10.0.0.2:10810), node 3 (10.0.0.3:10810); braid start "
              "--without ID goes on without one");
    ASSERT_EQ(alone.nodes.size(), 3u);
    EXPECT_TRUE(alone.nodes[0].connected);
    EXPECT_FALSE(alone.nodes[1].connected);
    EXPECT_NE(alone.nodes[1].since, 0u);
    const auto early = create(0, order());
    ASSERT_FALSE(early);
    EXPECT_NE(early.error().text.find("waits for node 2"), std::string::npos) << early.error().text;
    EXPECT_EQ(early.error().code, RefusalCode::busy);

    nodes_.begin(1);
    nodes_.begin(2);
    wait_until_all_wait_for_an_array();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_NE(status(node).why.find("braid create"), std::string::npos) << status(node).why;
        EXPECT_NE(nodes_.log(node).find("braid create"), std::string::npos);
        EXPECT_FALSE(nodes_.has_begun(node));
    }
    const auto made = create(any_node(), order());
    ASSERT_TRUE(made) << made.error().text;
    EXPECT_EQ((*made)["made"], true);
    EXPECT_EQ((*made)["plan"]["members"].size(), members);
    // Six members of three nodes, by turns.
    const char* const paths[] = {"node1:m0", "node2:m1", "node3:m2",
                                 "node1:m3", "node2:m4", "node3:m5"};
    for (std::uint32_t role = 0; role != members; ++role) {
        EXPECT_EQ((*made)["plan"]["members"][role]["path"], paths[role]);
    }
    EXPECT_EQ((*made)["nodes"][1]["death"], "bare");
    EXPECT_EQ((*made)["nodes"][1]["roles"], (nlohmann::json{1, 4}));
    serve_and_stop();
}

TEST_P(CreateNodesTest, ADryRunChangesNothing) {
    begin();
    const std::vector<Buffer> before = contents();
    CreateOrder dry = order();
    dry.dry_run = true;
    const auto planned = create(any_node(), dry);
    ASSERT_TRUE(planned) << planned.error().text;
    EXPECT_EQ((*planned)["made"], false);
    EXPECT_EQ((*planned)["nodes"].size(), 3u);
    wait_until_all_wait_for_an_array();
    EXPECT_TRUE(is_as_before(before));
    ASSERT_TRUE(create(any_node(), order()));
    serve_and_stop();
}

TEST_P(CreateNodesTest, WhatAMemberHoldsIsNotLostUnasked) {
    const auto victim = static_cast<std::uint32_t>(loop().rng().below(members));
    std::memcpy(nodes_.platter(victim).content.data() + 512, "EFI PART", 8);
    begin();
    const std::vector<Buffer> before = contents();
    const auto refused = create(any_node(), order());
    ASSERT_FALSE(refused);
    const std::string name = "node" + std::to_string(nodes_.home_of(victim) + 1) + ":m" +
                             std::to_string(victim) + ": holds a partition table";
    EXPECT_NE(refused.error().text.find(name), std::string::npos) << refused.error().text;
    EXPECT_TRUE(is_as_before(before));
    wait_until_all_wait_for_an_array();
    CreateOrder forced = order();
    forced.force = true;
    ASSERT_TRUE(create(any_node(), forced));
    serve_and_stop();
}

TEST_P(CreateNodesTest, SparesAreNamed) {
    begin();
    CreateOrder with_spare = order(Level::raid5);
    with_spare.spares = {"m9"};
    const auto unknown = create(any_node(), with_spare);
    ASSERT_FALSE(unknown);
    EXPECT_NE(unknown.error().text.find("node1:m0, "), std::string::npos) << unknown.error().text;
    with_spare.spares = {"node2:m1", "m5", "m3"};
    const auto made = create(any_node(), with_spare);
    ASSERT_TRUE(made) << made.error().text;
    const auto& list = (*made)["plan"]["members"];
    ASSERT_EQ(list.size(), members);
    EXPECT_EQ(list[2]["path"], "node3:m2");
    EXPECT_TRUE(list[3]["role"].is_null());
    EXPECT_EQ(list[3]["path"], "node2:m1");
    serve_and_stop();
}

/// A member that fails half way: nothing that looks like an array is left, and the next order makes
/// one.
TEST_P(CreateNodesTest, OneThatFailsHalfWayIsUndone) {
    begin();
    const auto victim = static_cast<std::uint32_t>(loop().rng().below(members));
    SimPlatter& platter = nodes_.platter(victim);
    bool over = false;
    const auto fail = [](SimNodes* nodes, std::uint32_t node, bool* ended) -> Task<void> {
        const auto failed = co_await nodes->node(node).create(order());
        EXPECT_FALSE(failed);
        if (!failed) {
            EXPECT_NE(failed.error().text.find("no array was made"), std::string::npos)
                << failed.error().text;
        }
        *ended = true;
    };
    loop().tasks().spawn(fail(&nodes_, any_node(), &over));
    // Behind the trial: at any of the writes, be it the wiping, or the metadata.
    const std::uint64_t writes = platter.writes + 2 + loop().rng().below(4);
    nodes_.run_until([&] { return over || platter.writes >= writes; }, "it is written to");
    ASSERT_FALSE(over);
    platter.fails_writes = true;
    nodes_.run_until([&] { return over; }, "the order is answered");
    platter.fails_writes = false;
    for (std::uint32_t i = 0; i != members; ++i) {
        const MemberImage image =
            loop().run_until_done(read_image(nodes_.disk(nodes_.shared_platter(i), "look")));
        if (i != victim) {
            EXPECT_FALSE(inspect(image).superblock.has_value()) << "member " << i;
        }
    }
    wait_until_all_wait_for_an_array();
    CreateOrder again = order();
    again.force = true;  // what could not be undone is the victim's
    const auto made = create(any_node(), again);
    ASSERT_TRUE(made) << made.error().text;
    serve_and_stop();
}

TEST_P(CreateNodesTest, OneThatBeginsAnewWhileTheyWaitIsWaitedFor) {
    begin();
    const std::uint32_t node = any_node();
    nodes_.cancel(node);
    for (std::uint32_t other = 0; other != nodes_.nodes(); ++other) {
        if (other == node) continue;
        wait_for_phase(other, StartPhase::nodes);
        const auto refused = create(other, order());
        ASSERT_FALSE(refused);
    }
    nodes_.begin(node);
    wait_until_all_wait_for_an_array();
    ASSERT_TRUE(create(any_node(), order()));
    serve_and_stop();
}

/// Where one breaks while members are only looked at, the order is to be given again.
TEST_P(CreateNodesTest, ConnectionsMayBreakMeanwhile) {
    begin();
    bool over = false;
    const auto make = [](SimNodes* nodes, std::uint32_t node, bool* ended) -> Task<void> {
        auto made = co_await nodes->node(node).create(order());
        while (!made && made.error().code == RefusalCode::busy) {
            Timer timer(nodes->loop(), Nanos{nodes->loop().now().value + millis(500).value});
            co_await timer;
            made = co_await nodes->node(node).create(order());
        }
        EXPECT_TRUE(made) << made.error().text;
        *ended = true;
    };
    loop().tasks().spawn(make(&nodes_, any_node(), &over));
    while (!over) {
        loop().run_for(millis(1 + loop().rng().below(400)));
        const std::uint32_t a = any_node();
        const std::uint32_t b = any_node();
        if (a != b) nodes_.cut(a, b, loop().rng().below(2) == 0 ? CutSides::one : CutSides::both);
    }
    // Where one side has never heard of it the other one would be excluded, in a moment.
    for (std::uint32_t a = 0; a != nodes_.nodes(); ++a) {
        for (std::uint32_t b = 0; b != a; ++b) nodes_.cut(a, b);
    }
    serve_and_stop();
}

/// Who is told to stop while an order is under way, or before, answers it first.
TEST_P(CreateNodesTest, NoOrderIsLeftWithoutAnAnswer) {
    begin();
    bool over = false;
    const auto make = [](SimNodes* nodes, std::uint32_t node, bool* ended) -> Task<void> {
        (void)co_await nodes->node(node).create(order());
        *ended = true;
    };
    loop().tasks().spawn(make(&nodes_, any_node(), &over));
    loop().run_for(millis(loop().rng().below(60)));
    const std::uint32_t last = nodes_.nodes() - 1;
    if (nodes_.node(last).cancel_start()) {
        nodes_.run_until([&] { return over; }, "it is answered");
    }
    nodes_.lose_power();
}

/// What was said to be made is served after a power cut. What was not may be anything that a start
/// refuses, waits at, or serves.
TEST_P(CreateNodesTest, ThePowerGoesMeanwhile) {
    begin();
    bool made = false;
    const auto make = [](SimNodes* nodes, std::uint32_t node, bool* was_made) -> Task<void> {
        const auto answer = co_await nodes->node(node).create(order());
        EXPECT_TRUE(answer) << answer.error().text;
        *was_made = true;
    };
    loop().tasks().spawn(make(&nodes_, any_node(), &made));
    loop().run_for(Nanos{loop().rng().below(millis(320).value)});  // most take 240 to 290 ms
    nodes_.lose_power();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.begin(node);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        nodes_.run_until(
            [&] { return nodes_.has_begun(node) || status(node).phase == StartPhase::array; },
            "the start is over, or waits for an array");
    }
    if (made || (nodes_.has_begun(0) && nodes_.refusal(0).empty())) return serve_and_stop();
    if (nodes_.has_begun(0)) return nodes_.end_servers();
    ASSERT_TRUE(create(any_node(), order()));
    serve_and_stop();
}

INSTANTIATE_TEST_SUITE_P(Seeds, CreateNodesTest,
                         testing::Range<std::uint64_t>(1, 1 + test::seeds_of(8, 400)));

/// All members at two of the three nodes.
class CrowdedNodesTest : public CreateNodesTest {
  protected:
    CrowdedNodesTest() : CreateNodesTest(2) {}
};

TEST_P(CrowdedNodesTest, TooManyAtOneNodeAreRefused) {
    begin();
    const std::vector<Buffer> before = contents();
    const auto refused = create(any_node(), order());
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("node 1 has 3 of the members, and RAID-6 may lose 2"),
              std::string::npos)
        << refused.error().text;
    EXPECT_TRUE(is_as_before(before));
    CreateOrder forced = order();
    forced.force = true;  // that is for what they hold
    EXPECT_FALSE(create(any_node(), forced));
    forced.force_placement = true;
    const auto made = create(any_node(), forced);
    ASSERT_TRUE(made) << made.error().text;
    EXPECT_EQ((*made)["nodes"][0]["death"], "stops");
    EXPECT_EQ((*made)["nodes"][2]["death"], "nothing");
    serve_and_stop();
}

INSTANTIATE_TEST_SUITE_P(Seeds, CrowdedNodesTest, testing::Range<std::uint64_t>(1, 3));

/// The last one would decide, and does not come at first.
class LateNodeTest : public CreateNodesTest {
  protected:
    LateNodeTest() : CreateNodesTest(0, 4) {}
};

/// An operator has them start without it, and they find no array. Then it comes, and two that do not decide
/// meet anew: both see that it is there, and so all are waited for again, also by the one who has decided
/// so far, whose own connections are as they were.
TEST_P(LateNodeTest, AnOrderComesToNothingWhileThereIsNoArray) {
    const std::uint32_t late = nodes_.nodes() - 1;
    for (std::uint32_t node = 0; node != late; ++node) nodes_.begin(node);
    loop().run_for(seconds(2));
    const Checked<Unit> ordered =
        loop().run_until_done(nodes_.node(any_node() % late).start_without({late + 1}));
    ASSERT_TRUE(ordered) << ordered.error().text;
    for (std::uint32_t node = 0; node != late; ++node) wait_for_phase(node, StartPhase::array);
    nodes_.begin(late);
    loop().run_for(seconds(2));
    nodes_.cut(0, 1);
    wait_for_phase(late, StartPhase::array);
    const auto made = create(any_node(), order());
    ASSERT_TRUE(made) << made.error().text;
    serve_and_stop();
}

INSTANTIATE_TEST_SUITE_P(Seeds, LateNodeTest,
                         testing::Range<std::uint64_t>(1, 1 + test::seeds_of(8, 400)));

}  // namespace
}  // namespace braid::sim
