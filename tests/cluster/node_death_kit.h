// SPDX-License-Identifier: BSD-3-Clause
// What tests of nodes that die and come back share.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/cluster/nodes_kit.h"

namespace braid::sim {

inline std::vector<Shape> death_shapes(std::uint64_t seeds) {
    return with_seeds(seeds, {{.level = Level::raid5, .members = 3, .nodes = 3},
                              {.level = Level::raid6, .members = 6, .nodes = 4},
                              {.level = Level::raid6, .members = 5, .nodes = 5},
                              {.level = Level::raid6, .members = 6, .nodes = 4, .homes = 2}});
}

/// A level that can do without two nodes.
inline std::vector<Shape> one_member_each(std::uint64_t few = 16) {
    return with_seeds(seeds_of(few, 400), {{.level = Level::raid6, .members = 5, .nodes = 5}});
}

class NodeDeathTest : public NodesTest {
  protected:
    explicit NodeDeathTest(SimNodesOptions how = {})
        : NodesTest(how), master_(nodes_.nodes() - 1) {}

    /// A client that only reads, and what its node has at home: it is held up by nobody.
    Task<void> read_at_home(std::uint32_t node) {
        ++working_;
        while (!load_ends_) {
            const ArrayOffset at{below(clients_.sectors()) * sector_size};
            const Geometry& geometry = nodes_.geometry();
            const StripPlace place = geometry.place_of(at);
            if (nodes_.home_of(raw(geometry.member_of(place.stripe, place.role))) == node) {
                co_await clients_.read(node, at.value, sector_size);
            }
            Timer timer(loop(), Nanos{loop().now().value + 1 + below(5'000'000)});
            co_await timer;
        }
        --working_;
    }
    /// Whose members the level can do without; never the one who decides.
    std::uint32_t choose_victim() {
        const std::uint32_t homes = GetParam().homes;
        if (homes != 0) return homes;  // it has none
        return static_cast<std::uint32_t>(below(master_));
    }
    /// All serve, and hear each other; the clients of the victim may fail.
    std::uint32_t start_and_choose() {
        nodes_.start();
        loop().run_for(seconds(1));
        const std::uint32_t victim = choose_victim();
        clients_.let_fail_at(victim);
        return victim;
    }
    bool goes_on_without(std::uint32_t victim, std::uint32_t node) {
        return nodes_.log(node).find(fmt::format("node {} is excluded", victim + 1)) !=
               std::string::npos;
    }
    void wait_until_excluded(std::uint32_t victim) {
        nodes_.run_until(
            [&] { return nodes_.log(master_).find("has begun with") != std::string::npos; },
            "the others go on");
        for (std::uint32_t node = 0; node != master_; ++node) {
            if (node == victim) continue;
            EXPECT_TRUE(goes_on_without(victim, node)) << node << ": " << nodes_.log(node);
        }
    }
    /// Nothing but its members is missing.
    void expect_nothing_lost(std::uint32_t victim) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == victim) continue;
            const ArrayStatus status = nodes_.array(node).status();
            EXPECT_EQ(status.bad_bytes, 0u) << node;
            EXPECT_FALSE(status.in_doubt) << node;
            EXPECT_TRUE(status.walks.empty()) << node;
            ASSERT_EQ(status.nodes.size(), nodes_.nodes());
            for (std::uint32_t of = 0; of != nodes_.nodes(); ++of) {
                EXPECT_EQ(status.nodes[of].excluded, of == victim) << of << " at " << node;
            }
            for (std::uint32_t member = 0; member != GetParam().members; ++member) {
                const auto wanted =
                    nodes_.home_of(member) == victim ? MemberState::missing : MemberState::in_sync;
                EXPECT_EQ(state(node, member), wanted) << "member " << member << " at " << node;
            }
        }
    }
    /// It hears that the others went on, and all servers are stopped.
    void end_all(std::uint32_t victim, std::uint32_t before = ~0U) {
        nodes_.release(victim);
        nodes_.run_until(
            [&] { return nodes_.log(victim).find("the array stops") != std::string::npos; },
            "it is told, or has waited for too long");
        end_load();
        (void)loop().run_until_done(nodes_.array(victim).stop());
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == victim) continue;
            const bool clean = loop().run_until_done(nodes_.array(node).stop()).has_value();
            EXPECT_EQ(clean, node != before) << nodes_.log(node);
        }
        nodes_.end_servers();
    }

    /// Its server hears of it, or has waited for too long, and is started anew.
    void begin_anew(std::uint32_t node) {
        nodes_.release(node);
        nodes_.restart(node);
    }
    void wait_until_in(std::uint32_t node) {
        nodes_.run_until([&] { return nodes_.has_begun(node); }, "it is let in");
        ASSERT_EQ(nodes_.refusal(node), "");
    }
    /// Through this node, stripe by stripe.
    void read_all(std::uint32_t node) {
        const std::uint64_t stripe = nodes_.geometry().stripe_data_size();
        for (std::uint64_t at = 0; at != nodes_.geometry().data_size(); at += stripe) {
            loop().run_until_done(clients_.read(node, at, stripe));
        }
    }
    /// The others serve, and nothing is lost; also when all begin anew.
    void expect_others_serve(std::uint32_t victim) {
        loop().run_for(seconds(5));
        begin_load(2 * nodes_.nodes(), 20);
        loop().run_for(seconds(5));
        expect_nothing_lost(victim);
        clients_.check(nodes_.nodes(), victim);
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node == victim) continue;
            EXPECT_TRUE(nodes_.flush(node));
        }
        end_all(victim);
        nodes_.start();
        clients_.check(nodes_.nodes());
        nodes_.stop(0);
    }

    std::uint32_t master_;
};

/// A node goes, and comes back.
class NodeReturnKit : public NodeDeathTest {
  protected:
    explicit NodeReturnKit(SimNodesOptions how = {}) : NodeDeathTest(how) {}

    /// Excluded while there is load; the others go on.
    std::uint32_t lose_one() {
        const std::uint32_t victim = start_and_choose();
        begin_load(3 * nodes_.nodes(), 40);
        loop().run_for(millis(10 + below(100)));
        nodes_.isolate(victim);
        wait_until_excluded(victim);
        loop().run_for(millis(below(3000)));
        return victim;
    }
    /// All members are back, everywhere.
    void wait_until_whole() {
        for (std::uint32_t member = 0; member != GetParam().members; ++member) {
            wait_until_rebuilt(member);
        }
        if (HasFailure()) ADD_FAILURE() << nodes_.log(master_);
    }
    /// The load ends, and nothing is missing.
    void end_whole(std::uint32_t was_away) {
        end_load();
        clients_.let_nothing_fail_at(was_away);
        wait_until_whole();
        expect_whole();
        clients_.check(nodes_.nodes());
        nodes_.stop(0);
        nodes_.expect_parity();
    }
    void expect_whole() {
        loop().run_for(seconds(3));  // what nodes tell of themselves has come
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            const ArrayStatus status = nodes_.array(node).status();
            EXPECT_EQ(status.bad_bytes, 0u) << node;
            EXPECT_FALSE(status.in_doubt) << node;
            EXPECT_EQ(status.health, Health::clean) << node;
            ASSERT_EQ(status.nodes.size(), nodes_.nodes()) << node;
            for (const NodeStatus& of : status.nodes) EXPECT_FALSE(of.excluded) << of.id;
        }
    }
};

}  // namespace braid::sim
