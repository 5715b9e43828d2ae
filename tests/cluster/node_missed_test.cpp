// SPDX-License-Identifier: BSD-3-Clause
// A node that begins anew brings members back that are made true only where they missed something: what
// all others have written meanwhile, and what was on its way as it went. Its host may have lost what its
// members had not made durable.
#include <string>
#include <vector>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

/// Many small marks, so that most of the array is in none.
class NodeMissedTest : public NodeReturnKit {
  protected:
    explicit NodeMissedTest(std::uint64_t stripes = 96)
        : NodeReturnKit({.stripes = stripes, .region = 64u << 10}) {}

    std::uint32_t member_of(std::uint32_t node) const {
        for (std::uint32_t i = 0; i != GetParam().members; ++i) {
            if (nodes_.home_of(i) == node) return i;
        }
        return 0;
    }
    void begin_anew_without_power(std::uint32_t node) {
        nodes_.release(node);
        nodes_.end(node);
        nodes_.lose_power_of(node);
        nodes_.begin(node);
    }
    /// All that was written lies on all members, and nothing is marked.
    void rest(std::uint32_t but = ~0U) {
        end_load();
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == but) continue;
            EXPECT_TRUE(nodes_.flush(node));
        }
        loop().run_for(seconds(20));
    }
    /// Excluded when nothing is being written; what all have written is durable.
    std::uint32_t lose_one_at_rest() {
        const std::uint32_t victim = start_and_choose();
        begin_load(nodes_.nodes(), 40);
        rest();
        nodes_.isolate(victim);
        wait_until_excluded(victim);
        return victim;
    }
    std::size_t count_in_log(const std::string& text) const {
        const std::string log = nodes_.log(master_);
        std::size_t count = 0;
        for (std::size_t at = 0; (at = log.find(text, at)) != std::string::npos; ++at) ++count;
        return count;
    }
    std::size_t members_at(std::uint32_t node) const {
        std::size_t count = 0;
        for (std::uint32_t i = 0; i != GetParam().members; ++i) count += nodes_.home_of(i) == node;
        return count;
    }
    /// As the one who decides has told it.
    void expect_came_back_by_map(std::uint32_t node) {
        EXPECT_EQ(count_in_log("is back: it missed"), members_at(node)) << nodes_.log(master_);
        EXPECT_EQ(count_in_log("is rebuilt whole"), 0u) << nodes_.log(master_);
    }
};

TEST_P(NodeMissedTest, UnderLoad) {
    const std::uint32_t victim = lose_one();
    begin_load(2 * nodes_.nodes(), 200);
    loop().run_for(millis(below(200)));
    if (below(2) == 0) {
        begin_anew_without_power(victim);
    } else {
        begin_anew(victim);
    }
    wait_until_in(victim);
    end_load();
    clients_.let_nothing_fail_at(victim);
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(below(300)));
    wait_until_whole();
    expect_came_back_by_map(victim);
    end_whole(victim);
}

/// A few rows are all that is written to it.
TEST_P(NodeMissedTest, LittleIsMissed) {
    const std::uint32_t victim = lose_one_at_rest();
    for (int i = 0; i != 3; ++i) {
        const std::uint64_t at = below(clients_.sectors()) * sector_size;
        loop().run_until_done(clients_.write(master_, at, sector_size));
    }
    begin_anew_without_power(victim);
    wait_until_in(victim);
    clients_.let_nothing_fail_at(victim);
    wait_until_whole();
    expect_came_back_by_map(victim);
    loop().run_for(seconds(2));
    // Its home has counted since it began.
    const ArrayStatus status = nodes_.array(master_).status();
    const std::uint64_t whole = nodes_.geometry().stripes * nodes_.geometry().strip_size;
    EXPECT_LT(status.members[member_of(victim)].bytes_written, whole / 2) << nodes_.log(master_);
    end_whole(victim);
}

/// Nobody else knows what was written while two were away.
TEST_P(NodeMissedTest, AnotherOneGoesAndIsBackFirst) {
    if (GetParam().level != Level::raid6 || GetParam().nodes < 5) return;
    const std::uint32_t first = lose_one();
    const std::uint32_t second =
        (first + 1 + static_cast<std::uint32_t>(below(master_ - 1))) % master_;
    clients_.let_fail_at(second);
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(below(300)));
    nodes_.isolate(second);
    nodes_.run_until([&] { return state(master_, second) == MemberState::missing; }, "it is out");
    loop().run_for(millis(below(300)));
    begin_anew_without_power(second);
    wait_until_in(second);
    wait_until_rebuilt(second);
    EXPECT_EQ(count_in_log("is back: it missed"), 1u) << nodes_.log(master_);
    begin_anew_without_power(first);
    wait_until_in(first);
    clients_.let_nothing_fail_at(second);
    wait_until_whole();
    EXPECT_EQ(count_in_log("is back: it missed"), 2u) << nodes_.log(master_);
    end_whole(first);
}

/// What only the second one wrote, it had noted in its records: others go by them when it is gone.
TEST_P(NodeMissedTest, AnotherOneThatHasWrittenGoes) {
    if (GetParam().level != Level::raid6 || GetParam().nodes < 5) return;
    const std::uint32_t first = lose_one_at_rest();
    const std::uint32_t second = first == 0 ? 1 : 0;
    for (int i = 0; i != 6; ++i) {
        const std::uint64_t at = below(clients_.sectors()) * sector_size;
        loop().run_until_done(clients_.write(second, at, sector_size));
        if (below(2) == 0) loop().run_for(seconds(6));
    }
    clients_.let_fail_at(second);
    nodes_.isolate(second);
    nodes_.run_until([&] { return state(master_, second) == MemberState::missing; }, "it is out");
    loop().run_for(millis(below(4000)));
    begin_anew_without_power(first);
    wait_until_in(first);
    begin_anew_without_power(second);
    wait_until_in(second);
    clients_.let_nothing_fail_at(first);
    clients_.let_nothing_fail_at(second);
    wait_until_whole();
    EXPECT_EQ(count_in_log("is back: it missed"), 2u) << nodes_.log(master_);
    EXPECT_EQ(count_in_log("is rebuilt whole"), 0u) << nodes_.log(master_);
    end_whole(second);
}

/// All begin anew while its members are away: the records tell, and the members come back by themselves.
TEST_P(NodeMissedTest, AllBeginAnewMeanwhile) {
    const std::uint32_t victim = lose_one_at_rest();
    begin_load(nodes_.nodes(), 6);
    rest(victim);
    const bool stops = below(2) == 0;
    if (stops) {
        end_all(victim);
    } else {
        clients_.let_fail();
        nodes_.release(victim);
        nodes_.lose_power();
    }
    nodes_.start();
    clients_.let_nothing_fail_at(victim);
    wait_until_whole();
    expect_came_back_by_map(victim);
    clients_.check(nodes_.nodes());
    expect_whole();
    nodes_.stop(0);
}

/// In the middle of its coming back it goes again.
TEST_P(NodeMissedTest, ItGoesAgainInTheMiddle) {
    const std::uint32_t victim = lose_one();
    begin_load(2 * nodes_.nodes(), 100);
    for (std::uint32_t i = 0; i != GetParam().members; ++i) {
        nodes_.platter(i).delay_nanos = millis(1 + below(4)).value;
    }
    begin_anew_without_power(victim);
    wait_until_in(victim);
    loop().run_for(millis(below(250)));
    nodes_.isolate(victim);
    nodes_.run_until([&] { return count_in_log("is excluded") == 2; }, "it is out again");
    loop().run_for(millis(below(500)));
    begin_load(nodes_.nodes(), 20);
    begin_anew_without_power(victim);
    wait_until_in(victim);
    EXPECT_EQ(count_in_log("is rebuilt whole"), 0u) << nodes_.log(master_);
    end_whole(victim);
}

/// So large that what is written just now was not written before.
class NodeMissedLargeTest : public NodeMissedTest {
  protected:
    NodeMissedLargeTest() : NodeMissedTest(640) {}
};

/// All nodes write as it gets its roles back: each with it, or without it and so that it is known.
TEST_P(NodeMissedLargeTest, WritesAreUnderWayAsItComesBack) {
    const std::uint32_t victim = start_and_choose();
    begin_load(nodes_.nodes(), 20);
    rest();
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    begin_anew(victim);
    wait_until_in(victim);
    clients_.let_nothing_fail_at(victim);
    begin_load(6 * nodes_.nodes(), 60);
    wait_until_whole();
    expect_came_back_by_map(victim);
    end_whole(victim);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, NodeMissedLargeTest,
    testing::ValuesIn(with_seeds(seeds_of(4, 200),
                                 {{.level = Level::raid5, .members = 3, .nodes = 3},
                                  {.level = Level::raid6, .members = 5, .nodes = 5}})));

INSTANTIATE_TEST_SUITE_P(
    Shapes, NodeMissedTest,
    testing::ValuesIn(with_seeds(seeds_of(8, 300),
                                 {{.level = Level::raid5, .members = 3, .nodes = 3},
                                  {.level = Level::raid6, .members = 6, .nodes = 4},
                                  {.level = Level::raid6, .members = 5, .nodes = 5}})));

}  // namespace
}  // namespace braid::sim
