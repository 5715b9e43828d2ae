// SPDX-License-Identifier: BSD-3-Clause
// What tests share of a node that comes to decide.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {

class NodeTakeoverTest : public NodeDeathTest {
  protected:
    explicit NodeTakeoverTest(SimNodesOptions how = {}) : NodeDeathTest(how) {}

    void start_all() {
        nodes_.start();
        loop().run_for(seconds(1));
        clients_.let_fail_at(master_);
    }
    bool decides(std::uint32_t node) {
        return nodes_.is_up(node) && nodes_.has_begun(node) && nodes_.node(node).is_master();
    }
    /// `node` decides, and a fence has begun that it has formed.
    void wait_until_decides(std::uint32_t node) {
        const std::string says =
            fmt::format("node {} decides about the array from now on", node + 1);
        nodes_.run_until(
            [&] {
                const std::string log = nodes_.log(node);
                const std::size_t at = log.rfind(says);
                return at != std::string::npos &&
                       log.find("has begun with", at) != std::string::npos;
            },
            "another one decides");
        EXPECT_TRUE(decides(node));
        master_ = node;
    }
    /// While there is load the one who decides is cut off; the next one comes to.
    std::uint32_t lose_master() {
        const std::uint32_t victim = master_;
        begin_load(3 * nodes_.nodes(), 60);
        loop().run_for(millis(10 + below(100)));
        for (std::uint32_t node = 0; node != nodes_.nodes() && GetParam().seed % 2 == 0; ++node) {
            if (node != victim) nodes_.cut(victim, node);
        }
        nodes_.isolate(victim);
        wait_until_decides(victim - 1);
        return victim;
    }
    bool is_whole() {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            const ArrayStatus status = nodes_.array(node).status();
            if (status.health != Health::clean || !status.walks.empty()) return false;
            for (std::uint32_t member = 0; member != GetParam().members; ++member) {
                if (state(node, member) != MemberState::in_sync) return false;
            }
        }
        return true;
    }
    void wait_until_whole() {
        nodes_.run_until([&] { return is_whole(); }, "all members are back, everywhere");
        loop().run_for(seconds(3));
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            const ArrayStatus status = nodes_.array(node).status();
            EXPECT_EQ(status.bad_bytes, 0u) << node;
            EXPECT_FALSE(status.in_doubt) << node;
            for (const NodeStatus& of : status.nodes) {
                EXPECT_FALSE(of.excluded) << of.id;
                EXPECT_EQ(of.decides, of.id == master_ + 1) << of.id << " at " << node;
            }
        }
    }
    /// The load ends, nothing is missing, and all stops.
    void end_whole() {
        end_load();
        wait_until_whole();
        clients_.check(nodes_.nodes());
        nodes_.stop(0);
    }
    void expect_no_bad_rows(std::uint32_t without) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == without) continue;
            EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
            EXPECT_FALSE(nodes_.array(node).status().in_doubt) << node;
        }
    }
    /// An order of somebody who does not wait for its end.
    Task<void> carry_out(Task<Checked<Unit>> order) { (void)co_await order; }
};

}  // namespace braid::sim
