// SPDX-License-Identifier: BSD-3-Clause
// A RAID-6 of four on two nodes, two members each. The one without member 0 goes on by force, when the
// other one is gone for good, or does not see it: then there are two histories.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "tests/cluster/sim_nodes.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

class NodeHistoryTest : public testing::TestWithParam<std::uint64_t> {
  protected:
    static constexpr std::uint64_t size = 256u << 10;

    NodeHistoryTest()
        : nodes_({.seed = GetParam(), .level = Level::raid6, .members = 4, .nodes = 2}) {}

    SimLoop& loop() { return nodes_.loop(); }
    void write(std::uint32_t node, int value) {
        Buffer data(size);
        std::memset(data.data(), value, data.size());
        IoRequest request;
        request.kind = IoKind::write;
        request.size = size;
        request.data = data.data();
        ASSERT_TRUE(loop().run_until_done(nodes_.ask(node, request)));
        ASSERT_TRUE(nodes_.flush(node));
    }
    void expect_content(std::uint32_t node, int value) {
        Buffer data(size);
        IoRequest request;
        request.kind = IoKind::read;
        request.size = size;
        request.data = data.data();
        ASSERT_TRUE(loop().run_until_done(nodes_.ask(node, request)));
        for (const std::byte one : data.span()) ASSERT_EQ(one, std::byte(value));
    }
    /// `node` is there alone, and an operator has it start without the other one.
    void start_alone(std::uint32_t node, Force force) {
        nodes_.set_force(force == Force::yes);
        nodes_.begin(node);
        nodes_.set_force(false);
        loop().run_for(seconds(1));
        ASSERT_TRUE(loop().run_until_done(nodes_.node(node).start_without({2 - node})));
        nodes_.run_until([&] { return nodes_.has_begun(node); }, "its start is over");
    }
    void serve_alone(std::uint32_t node, Force force) {
        start_alone(node, force);
        ASSERT_EQ(nodes_.refusal(node), "") << nodes_.log(node);
        EXPECT_EQ(lineage(node) == Uuid{}, force == Force::no);
    }
    void stop_alone(std::uint32_t node) {
        nodes_.begin_to_end(node);
        nodes_.run_until([&] { return nodes_.has_left(node); }, "its server ends");
        nodes_.forget(node);
    }
    void expect_refused(std::uint32_t node, const std::string& why) {
        EXPECT_NE(nodes_.refusal(node).find(why), std::string::npos) << nodes_.refusal(node);
    }
    Uuid lineage(std::uint32_t node) { return nodes_.array(node).configuration().lineage; }
    bool is_whole() {
        for (const std::uint32_t node : {0U, 1U}) {
            const ArrayStatus status = nodes_.array(node).status();
            if (status.health != Health::clean || !status.walks.empty()) return false;
        }
        return true;
    }
    void end_whole(int value) {
        nodes_.run_until([&] { return is_whole(); }, "all members are back");
        loop().run_for(seconds(3));
        for (const std::uint32_t node : {0U, 1U}) expect_content(node, value);
        nodes_.stop(1);
        nodes_.expect_parity();
    }

    SimNodes nodes_;
};

TEST_P(NodeHistoryTest, TheOtherHalfGoesOnByForce) {
    nodes_.start();
    write(0, 1);
    nodes_.stop(0);
    start_alone(1, Force::no);
    expect_refused(1, "does not start by itself");
    nodes_.end_servers();
    serve_alone(1, Force::yes);
    expect_content(1, 1);
    write(1, 2);
    // The other one was not served meanwhile.
    nodes_.begin(0);
    nodes_.wait_until_all_serve();
    end_whole(2);
}

TEST_P(NodeHistoryTest, NobodyChoosesBetweenTwo) {
    nodes_.start();
    write(0, 1);
    nodes_.stop(0);
    serve_alone(0, Force::no);
    write(0, 2);
    stop_alone(0);
    serve_alone(1, Force::yes);
    write(1, 3);
    stop_alone(1);
    for (const std::uint32_t node : {0U, 1U}) nodes_.begin(node);
    for (const std::uint32_t node : {0U, 1U}) {
        nodes_.run_until([&] { return nodes_.has_begun(node); }, "its start is over");
        expect_refused(node, "two histories");
    }
    nodes_.end_servers();
    serve_alone(0, Force::no);
    expect_content(0, 2);
    nodes_.begin(1);
    nodes_.wait_until_all_serve();
    loop().run_for(seconds(20));
    for (std::uint32_t member = 0; member != 4; ++member) {
        const std::uint32_t home = nodes_.home_of(member);
        const MemberRecord* const record =
            nodes_.array(1).configuration().member(MemberIndex{member});
        EXPECT_EQ(record->state, home == 0 ? MemberState::in_sync : MemberState::missing);
    }
    EXPECT_NE(nodes_.log(0).find("does not come back"), std::string::npos) << nodes_.log(0);
    expect_content(1, 2);
    for (std::uint32_t member = 0; member != 4; ++member) {
        if (nodes_.home_of(member) != 1) continue;
        const auto add = [&](Force force) {
            return loop().run_until_done(nodes_.array(1).add_member(
                nodes_.disk_at(1, nodes_.shared_platter(member), nodes_.path_of(member)), force));
        };
        const Checked<Unit> refused = add(Force::no);
        ASSERT_FALSE(refused);
        EXPECT_NE(refused.error().text.find("started by force"), std::string::npos);
        const Checked<Unit> added = add(Force::yes);
        ASSERT_TRUE(added) << added.error().text;
    }
    end_whole(2);
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodeHistoryTest,
                         testing::Range(std::uint64_t{1}, std::uint64_t{5}));

}  // namespace
}  // namespace braid::sim
