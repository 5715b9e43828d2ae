// SPDX-License-Identifier: BSD-3-Clause
// Whole nodes reserve and release a volume.
#include <string>

#include "tests/cluster/nodes_kit.h"

namespace braid::sim {
namespace {

class NodeReservationsTest : public NodesTest {
  protected:
    explicit NodeReservationsTest(SimNodesOptions how = {})
        : NodesTest(how), last_(nodes_.nodes() - 1) {}

    Checked<Unit> reserve(std::uint32_t node) {
        return loop().run_until_done(nodes_.array(node).reserve("data"));
    }
    Checked<Unit> release(std::uint32_t node) {
        return loop().run_until_done(nodes_.array(node).release("data"));
    }
    Checked<Unit> open(std::uint32_t node) {
        return loop().run_until_done(nodes_.array(node).open_volume("data"));
    }
    void close(std::uint32_t node) { nodes_.array(node).close_volume("data"); }
    ReservationStatus shown(std::uint32_t node) {
        return nodes_.array(node).status().reservations.at(0);
    }
    Result<void> read_row(std::uint32_t node) {
        Buffer row(row_size);
        IoRequest request;
        request.size = row.size();
        request.data = row.data();
        return loop().run_until_done(nodes_.ask(node, request));
    }
    /// Orders on one node, until no client works any more.
    Task<void> operate(std::uint32_t node) {
        ++operating_;
        while (working_ != 0) {
            const Checked<Unit> done = co_await nodes_.array(node).reserve("data");
            reserved_ += done ? 1 : 0;
            Timer timer(loop(), Nanos{loop().now().value + 1 + below(20'000'000)});
            co_await timer;
            if (!done) continue;
            const Checked<Unit> released = co_await nodes_.array(node).release("data");
            EXPECT_TRUE(released || released.error().code == RefusalCode::stopping)
                << released.error().text;
        }
        --operating_;
    }

    std::uint32_t last_;
    std::uint32_t operating_{0};
    std::uint32_t reserved_{0};
};

class ExclusiveTest : public NodeReservationsTest {
  protected:
    ExclusiveTest() : NodeReservationsTest({.exclusive = true}) {}
};

TEST_P(NodeReservationsTest, OthersAreRefusedAndHearByWhom) {
    nodes_.start();
    begin_load(4, 10);
    end_load();
    ASSERT_TRUE(reserve(0));
    EXPECT_TRUE(read_row(0));
    // `begun` is on its way: until it is there the others wait, and are not refused.
    const Result<void> refused = read_row(last_);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::reserved);
    EXPECT_EQ(refused.error().node, 1u);
    EXPECT_TRUE(nodes_.flush(last_)) << "that is of no volume";
    const auto opened = open(last_);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().text.find("reserved by node 1"), std::string::npos)
        << opened.error().text;
    EXPECT_TRUE(open(0));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(shown(node).node, 1u) << "node " << node;
        EXPECT_TRUE(shown(node).holds) << "node " << node;
    }
    const auto second = reserve(last_);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().text.find("node 1"), std::string::npos);
    EXPECT_FALSE(reserve(0)) << "it has it already";
    EXPECT_FALSE(release(last_)) << "only who has it lets go of it";
    ASSERT_TRUE(release(0));
    EXPECT_TRUE(release(0)) << "there is nothing to let go of";
    EXPECT_TRUE(read_row(last_));
    EXPECT_EQ(shown(last_).node, 0u);
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodeReservationsTest, NoVolumeOfThatName) {
    nodes_.start();
    const auto done = loop().run_until_done(nodes_.array(0).reserve("nothing"));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, RefusalCode::not_found);
    nodes_.stop(0);
}

// Goal: R1 while a volume changes hands, connections break, and a member is rebuilt. Method: all
// nodes reserve and release it all the time; what is refused has not happened.
TEST_P(NodeReservationsTest, AVolumeChangesHandsUnderLoad) {
    nodes_.start();
    begin_load(6, 60);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().tasks().spawn(operate(node));
    }
    loop().run_for(millis(30));
    nodes_.platter(0).dead = true;
    while (working_ != 0) {
        loop().run_for(millis(1 + below(40)));
        if (GetParam().seed % 2 == 0) cut_any();
    }
    end_half_cut();
    nodes_.run_until([&] { return operating_ == 0; }, "nobody reserves any more");
    for (std::uint32_t i = 0; i != 20 && state(last_, 0) == MemberState::in_sync; ++i) {
        loop().run_until_done(clients_.write(0, 0, 64u << 10, Fua::yes));
    }
    begin_load(6, 60);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().tasks().spawn(operate(node));
    }
    auto fresh = nodes_.make_platter();
    const auto added =
        loop().run_until_done(nodes_.array(0).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    end_load();
    nodes_.run_until([&] { return operating_ == 0; }, "nobody reserves any more");
    wait_until_rebuilt(0);
    EXPECT_GT(reserved_, 0u);
    clients_.check(nodes_.nodes());
    nodes_.platter(1).dead = true;  // what the new one has counts
    clients_.check(nodes_.nodes());
    nodes_.stop(last_);
}

TEST_P(NodeReservationsTest, WhenANodeIsGoneNobodyWaits) {
    nodes_.start();
    clients_.let_fail();
    begin_load(6, 60);
    loop().tasks().spawn(operate(0));
    loop().tasks().spawn(operate(last_));
    loop().run_for(millis(20 + below(40)));
    const auto victim = static_cast<std::uint32_t>(below(nodes_.nodes()));
    nodes_.isolate(victim);
    end_load();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const bool goes_on = goes_on_after(victim, node);
        if (goes_on) {  // whatever the one that is gone had for itself
            nodes_.run_until([&] { return shown(node).node != victim + 1; }, "it lets go");
            nodes_.run_until([&] { return operating_ == 0; }, "nobody else reserves it");
            const auto reserved = reserve(node);
            EXPECT_TRUE(reserved) << reserved.error().text;
            EXPECT_TRUE(!reserved || read_row(node));
            EXPECT_TRUE(!reserved || release(node));
            continue;
        }
        (void)loop().run_until_done(nodes_.array(node).stop());
        EXPECT_FALSE(reserve(node)) << "it has stopped";
        EXPECT_TRUE(open(node)) << "requests are answered that it has stopped";
        EXPECT_FALSE(read_row(node));
    }
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        (void)loop().run_until_done(nodes_.array(node).stop());
    }
    nodes_.end_servers();
}

TEST_P(ExclusiveTest, TheFirstConnectionReservesAndTheLastReleases) {
    nodes_.start();
    ASSERT_TRUE(open(0));
    EXPECT_EQ(shown(0).node, 1u);
    ASSERT_TRUE(open(0));
    const auto refused = open(last_);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("node 1"), std::string::npos) << refused.error().text;
    const auto early = release(0);
    ASSERT_FALSE(early);
    EXPECT_NE(early.error().text.find("2 client connections have it"), std::string::npos)
        << early.error().text;
    close(0);
    EXPECT_FALSE(open(last_)) << "one is left";
    close(0);
    // What comes now waits for the end of the release, here and there.
    ASSERT_TRUE(open(0));
    close(0);
    nodes_.run_until([&] { return shown(last_).node == 0; }, "it is released");
    ASSERT_TRUE(open(last_));
    EXPECT_FALSE(open(0));
    close(last_);
    nodes_.run_until([&] { return shown(last_).node == 0; }, "it is released");
    EXPECT_TRUE(read_row(0));
    nodes_.stop(0);
}

/// Two nodes' clients connect at the same time: one of them gets it.
TEST_P(ExclusiveTest, OneOfTwo) {
    nodes_.start();
    const auto connect = [](Array* array, int* got, int* left) -> Task<void> {
        const Checked<Unit> done = co_await array->open_volume("data");
        *got += done ? 1 : 0;
        --*left;
    };
    int got = 0;
    int left = 2;
    loop().tasks().spawn(connect(&nodes_.array(0), &got, &left));
    loop().tasks().spawn(connect(&nodes_.array(last_), &got, &left));
    nodes_.run_until([&] { return left == 0; }, "both are answered");
    EXPECT_EQ(got, 1);
    EXPECT_EQ(shown(last_).node, last_ + 1) << "the higher id goes first";
    nodes_.stop(0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeReservationsTest, testing::ValuesIn(shapes(seeds_of(6, 300))));
INSTANTIATE_TEST_SUITE_P(Shapes, ExclusiveTest, testing::ValuesIn(shapes(seeds_of(3, 100))));

}  // namespace
}  // namespace braid::sim
