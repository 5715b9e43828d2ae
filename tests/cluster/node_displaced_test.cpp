// SPDX-License-Identifier: BSD-3-Clause
// A node was away for so long that a spare of another node is being rebuilt in the place of its member. It is
// back: its member has its role again, and lacks what all nodes have written since it left, or is a spare.
#include <string>
#include <vector>

#include "tests/cluster/node_takeover_kit.h"

namespace braid::sim {
namespace {

/// Many small marks, so that most of the array is in none.
class NodeDisplacedTest : public NodeTakeoverTest {
  protected:
    NodeDisplacedTest() : NodeTakeoverTest({.stripes = 1280, .region = 64u << 10}) {
        nodes_.set_rebuild_delay(seconds(1));
    }

    /// A node with one member is excluded, and a spare is slowly rebuilt in its place.
    /// @return  the node
    std::uint32_t displace(std::uint32_t spare_at) {
        nodes_.start();
        loop().run_for(seconds(1));
        role_ = static_cast<std::uint32_t>(below(master_));
        if (role_ == spare_at) role_ = (role_ + 1) % master_;
        const std::uint32_t victim = nodes_.home_of(role_);
        fresh_ = nodes_.make_platter();
        const auto added = loop().run_until_done(nodes_.array(spare_at).add_member(
            nodes_.disk_at(spare_at, fresh_, "fresh"), Force::no));
        EXPECT_TRUE(added) << added.error().text;
        clients_.let_fail_at(victim);
        begin_load(nodes_.nodes(), 40);
        end_load();
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            EXPECT_TRUE(nodes_.flush(node));
        }
        loop().run_for(seconds(20));
        nodes_.isolate(victim);
        wait_until_excluded(victim);
        fresh_->delay_nanos = millis(300).value;
        nodes_.run_until([&] { return state(master_, role_) == MemberState::rebuilding; },
                         "the spare takes its place");
        return victim;
    }
    std::string said(const std::string& text) const {
        std::string all;
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (!nodes_.is_up(node)) continue;
            const std::string log = nodes_.log(node);
            for (std::size_t at = 0; (at = log.find(text, at)) != std::string::npos; ++at) {
                all += log.substr(at, log.find('\n', at) - at) + "\n";
            }
        }
        return all;
    }
    std::string path_in_role() {
        return nodes_.array(master_).configuration().member(MemberIndex{role_})->path;
    }
    std::size_t spares() {
        return static_cast<std::size_t>(
            std::ranges::count(nodes_.array(master_).configuration().members, MemberState::spare,
                               &MemberRecord::state));
    }
    /// All is in sync, whoever has the role.
    void end_displaced() {
        end_load();
        fresh_->delay_nanos = 0;
        wait_until_whole();
        if (path_in_role().ends_with("fresh")) nodes_.set_platter(role_, fresh_);
        clients_.check(nodes_.nodes());
        if (HasFailure()) ADD_FAILURE() << nodes_.logs();
        nodes_.stop(0);
        nodes_.expect_parity();
    }

    std::uint32_t role_{0};
    std::shared_ptr<SimPlatter> fresh_;
};

TEST_P(NodeDisplacedTest, IsBackInTime) {
    const std::uint32_t victim = displace(master_);
    begin_load(nodes_.nodes(), 3);
    loop().run_for(millis(below(500)));
    begin_anew(victim);
    wait_until_in(victim);
    clients_.let_nothing_fail_at(victim);
    begin_load(nodes_.nodes(), 3);
    nodes_.run_until(
        [&] { return !said("takes the role of member").empty() && !said("is back: ").empty(); },
        "its member is back");
    EXPECT_NE(said("is back, and lacks less than"), "") << nodes_.log(master_);
    EXPECT_NE(said("is back: it missed"), "") << nodes_.log(master_);
    EXPECT_EQ(said("is rebuilt whole"), "");
    end_load();
    fresh_->delay_nanos = 0;
    wait_until_whole();
    EXPECT_FALSE(path_in_role().ends_with("fresh"));
    EXPECT_EQ(spares(), 1u);
    end_displaced();
}

/// It goes again as it comes back, at any moment, and is back once more.
TEST_P(NodeDisplacedTest, ItGoesAgainInTheMiddle) {
    const std::uint32_t victim = displace(master_);
    begin_load(nodes_.nodes(), 6);
    begin_anew(victim);
    wait_until_in(victim);
    loop().run_for(millis(below(600)));
    nodes_.isolate(victim);
    loop().run_for(seconds(2 + below(4)));
    end_load();
    begin_load(nodes_.nodes(), 20);
    begin_anew(victim);
    wait_until_in(victim);
    end_displaced();
}

/// The one who decides goes at any moment of that; who comes after it knows as much, or rebuilds whole.
TEST_P(NodeDisplacedTest, WhoDecidesGoesInTheMiddle) {
    if (GetParam().level != Level::raid6) return;
    const std::uint32_t former = master_;
    const std::uint32_t victim = displace(master_ - 1);
    clients_.let_fail_at(former);
    begin_load(nodes_.nodes(), 6);
    begin_anew(victim);
    if (below(4) != 0) wait_until_in(victim);
    loop().run_for(millis(below(600)));
    nodes_.isolate(former);
    nodes_.run_until(
        [&] {
            for (std::uint32_t node = 0; node != former; ++node) {
                if (decides(node)) master_ = node;
            }
            return master_ != former &&
                   nodes_.log(master_).find("has begun with") != std::string::npos;
        },
        "another one decides");
    nodes_.run_until([&] { return nodes_.has_begun(victim); }, "it is in");
    begin_anew(former);
    wait_until_in(former);
    end_displaced();
}

/// What only another one has written, it takes with it: its records say nothing of who was displaced.
TEST_P(NodeDisplacedTest, WhoHasWrittenGoesMeanwhile) {
    if (GetParam().level != Level::raid6) return;
    const std::uint32_t victim = displace(master_);
    std::uint32_t writer = 0;
    while (writer == victim) ++writer;
    for (int i = 0; i != 6; ++i) {
        const std::uint64_t at = below(clients_.sectors()) * sector_size;
        loop().run_until_done(clients_.write(writer, at, sector_size));
    }
    clients_.let_fail_at(writer);
    nodes_.isolate(writer);
    nodes_.run_until([&] { return state(master_, writer) == MemberState::missing; }, "it is out");
    if (below(2) == 0) loop().run_for(seconds(2));
    begin_anew(victim);
    wait_until_in(victim);
    if (below(2) == 0)
        nodes_.run_until([&] { return !said("m" + std::to_string(role_) + " ").empty(); },
                         "it is looked at");
    begin_anew(writer);
    wait_until_in(writer);
    end_displaced();
}

/// With the write intent off nothing says what a node has written that is gone.
TEST_P(NodeDisplacedTest, TheWriteIntentIsSwitchedOffMeanwhile) {
    const std::uint32_t victim = displace(master_);
    IntentChange off;
    off.on = false;
    const auto done = loop().run_until_done(nodes_.array(master_).change_intent(off));
    ASSERT_TRUE(done) << done.error().text;
    begin_load(nodes_.nodes(), 20);
    begin_anew(victim);
    wait_until_in(victim);
    EXPECT_EQ(said("is back: it missed"), "") << nodes_.log(master_);
    end_displaced();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, NodeDisplacedTest,
    testing::ValuesIn(with_seeds(seeds_of(4, 300),
                                 {{.level = Level::raid5, .members = 3, .nodes = 3},
                                  {.level = Level::raid6, .members = 5, .nodes = 5}})));

}  // namespace
}  // namespace braid::sim
