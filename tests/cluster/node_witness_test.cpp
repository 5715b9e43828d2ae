// SPDX-License-Identifier: BSD-3-Clause
// RAID-6 of four members on two nodes, and a witness on a third: any of the three may die, and the
// others go on; two nodes that do not hear each other never both do.
#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include "tests/cluster/node_takeover_kit.h"

namespace braid::sim {
namespace {

/// Members 0 and 2 are at node 0, members 1 and 3 at node 1.
const Shape on_three_nodes{
    .level = Level::raid6, .members = 4, .nodes = 3, .homes = 2, .witness = 2};
std::vector<Shape> witness_shapes(std::uint64_t seeds) {
    return with_seeds(
        seeds, {on_three_nodes,
                {.level = Level::raid6, .members = 4, .nodes = 4, .homes = 2, .witness = 2}});
}

class NodeWitnessTest : public NodeTakeoverTest {
  protected:
    std::uint32_t with_witness() { return *GetParam().witness; }
    /// It is cut off under load, and another one decides, if it was he.
    void lose_node(std::uint32_t victim) {
        clients_.let_fail_at(victim);
        begin_load(3 * nodes_.nodes(), 60);
        loop().run_for(millis(10 + below(100)));
        for (std::uint32_t node = 0; node != nodes_.nodes() && GetParam().seed % 2 == 0; ++node) {
            if (node != victim) nodes_.cut(victim, node);
        }
        nodes_.isolate(victim);
        if (victim == master_) return wait_until_decides(victim - 1);
        wait_until_out(victim);
    }
    /// All others know, and go on.
    void wait_until_out(std::uint32_t victim) {
        out_.insert(victim);
        nodes_.run_until(
            [&] {
                for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
                    if (out_.contains(node)) continue;
                    const ArrayStatus status = nodes_.array(node).status();
                    if (!status.nodes.at(victim).excluded) return false;
                }
                return true;
            },
            "the others go on");
    }
    void bring_back(std::uint32_t victim) {
        begin_anew(victim);
        wait_until_in(victim);
        out_.erase(victim);
        end_load();
        clients_.let_nothing_fail_at(victim);
        wait_until_whole();
        clients_.check(nodes_.nodes());
    }
    void expect_serves(std::uint32_t node) {
        Buffer data(4096);
        EXPECT_TRUE(nodes_.ask_first(node, IoKind::read, data)) << node << nodes_.logs();
    }

    std::set<std::uint32_t> out_;  // nodes that are excluded
};

TEST_P(NodeWitnessTest, AnyNodeMayDie) {
    start_all();
    clients_.let_nothing_fail_at(master_);
    for (std::uint32_t victim = 0; victim != nodes_.nodes(); ++victim) {
        lose_node(victim);
        expect_no_bad_rows(victim);
        bring_back(victim);
        if (HasFatalFailure()) return;
    }
    nodes_.stop(0);
    nodes_.expect_parity();
}

/// With one half and the witness the array goes on. When the witness goes as well nobody else can,
/// so that the half that is left needs nobody.
TEST_P(NodeWitnessTest, FirstAHalfAndThenTheWitness) {
    start_all();
    clients_.let_nothing_fail_at(master_);
    const auto half = static_cast<std::uint32_t>(below(2));
    lose_node(half);
    end_load();
    const std::uint32_t left = 1 - half;
    clients_.let_fail_at(with_witness());
    nodes_.isolate(with_witness());
    if (with_witness() == master_) {
        wait_until_decides(left);
    } else {
        wait_until_out(with_witness());
    }
    loop().run_for(seconds(5));
    begin_load(2 * nodes_.nodes(), 20);
    end_load();
    expect_serves(left);
    EXPECT_TRUE(nodes_.flush(left));
    clients_.let_fail();
    nodes_.lose_power();
    for (const std::uint32_t node : {half, with_witness()}) nodes_.release(node);
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// Neither half hears the other, and both hear the witness: one of them goes on, and only one.
TEST_P(NodeWitnessTest, TheHalvesDoNotHearEachOther) {
    start_all();
    clients_.let_nothing_fail_at(master_);
    begin_load(2 * nodes_.nodes(), 1'000'000);
    for (std::uint32_t node = 0; node != 2; ++node) {
        clients_.let_fail_at(node);
        for (int i = 0; i != 2; ++i) loop().tasks().spawn(read_at_home(node));
    }
    loop().run_for(millis(10 + below(300)));
    nodes_.part(0, 1);
    const auto is_out = [&](std::uint32_t node) {
        return nodes_.array(with_witness()).status().nodes.at(node).excluded;
    };
    nodes_.run_until([&] { return is_out(0) || is_out(1); }, "one of them is excluded");
    loop().run_for(millis(500));
    load_ends_ = true;
    loop().run_for(seconds(20));
    const std::uint32_t out = is_out(0) ? 0 : 1;
    EXPECT_NE(is_out(0), is_out(1));
    EXPECT_NE(nodes_.array(1 - out).status().health, Health::failed);
    expect_serves(1 - out);
    clients_.check(nodes_.nodes(), out);
}

/// The witness alone decides nothing, and half of the members without it begins nothing.
TEST_P(NodeWitnessTest, AfterAPowerLossHalfStartsWithTheWitnessOnly) {
    start_all();
    begin_load(2 * nodes_.nodes(), 20);
    end_load();
    EXPECT_TRUE(nodes_.flush(0));
    loop().run_for(seconds(60));
    EXPECT_TRUE(nodes_.flush(0));
    nodes_.lose_power();
    clients_.let_fail();
    const auto half = static_cast<std::uint32_t>(below(2));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node != 1 - half && node != with_witness()) nodes_.begin(node);
    }
    loop().run_for(seconds(120));
    EXPECT_FALSE(nodes_.has_begun(half)) << "it takes the witness";
    const std::string why = nodes_.node(half).start_status().why;
    EXPECT_NE(why.find("witness"), std::string::npos) << why;
    nodes_.begin(with_witness());
    nodes_.run_until([&] { return nodes_.has_begun(half); }, "they start without the other half");
    EXPECT_EQ(nodes_.refusal(half), "");
    loop().run_for(seconds(2));
    expect_serves(half);
    nodes_.begin(1 - half);
    wait_until_in(1 - half);
    nodes_.run_until([&] { return is_whole(); }, "all members are back, everywhere");
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// Its disk fails: nothing depends on it while three members are there, and everybody knows.
TEST_P(NodeWitnessTest, ItsDiskFails) {
    start_all();
    clients_.let_nothing_fail_at(master_);
    nodes_.witness().dead = true;
    loop().run_for(seconds(20));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        for (const NodeStatus& of : nodes_.array(node).status().nodes) {
            EXPECT_EQ(of.needed, of.id <= 2) << of.id << " at " << node;
        }
    }
    nodes_.witness().dead = false;
    loop().run_for(seconds(20));
    for (const NodeStatus& of : nodes_.array(0).status().nodes) EXPECT_FALSE(of.needed) << of.id;
    lose_node(0);
    bring_back(0);
    nodes_.stop(0);
}

/// Without a node that would decide in its place.
class NodeWitnessOfThreeTest : public NodeWitnessTest {};

/// Its node has been away, and is back: all count on it again, also those that do not decide.
TEST_P(NodeWitnessOfThreeTest, TheHalfThatDecidesDiesAfterTheWitnessWasAway) {
    start_all();
    lose_node(with_witness());  // it decided
    bring_back(with_witness());
    if (HasFatalFailure()) return;
    const std::uint32_t victim = master_;
    ASSERT_EQ(victim, 1u);
    for (int round = 0; round != 2; ++round) {  // now it is away for one who goes on deciding
        lose_node(with_witness());
        bring_back(with_witness());
        if (HasFatalFailure()) return;
        loop().run_for(seconds(7));
    }
    clients_.let_fail_at(victim);
    nodes_.isolate(victim);
    wait_until_decides(with_witness());
    expect_serves(0);
    expect_no_bad_rows(victim);
    bring_back(victim);
    nodes_.stop(0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeWitnessTest,
                         testing::ValuesIn(witness_shapes(seeds_of(8, 300))));

INSTANTIATE_TEST_SUITE_P(Shapes, NodeWitnessOfThreeTest,
                         testing::ValuesIn(with_seeds(seeds_of(8, 300), {on_three_nodes})));

}  // namespace
}  // namespace braid::sim
