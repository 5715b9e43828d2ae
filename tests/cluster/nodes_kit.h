// SPDX-License-Identifier: BSD-3-Clause
// What tests of whole nodes share: clusters of several shapes and seeds, and clients of all nodes.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "tests/cluster/clients.h"
#include "tests/cluster/sim_nodes.h"

namespace braid::sim {

struct Shape {
    std::uint64_t seed{1};
    Level level{Level::raid5};
    std::uint32_t members{4};
    std::uint32_t nodes{3};
    std::uint32_t homes{0};
    friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
        return out << "seed " << shape.seed << ", RAID-" << static_cast<int>(shape.level) << " of "
                   << shape.members << " on " << shape.nodes << " nodes";
    }
};

inline const bool is_long = std::getenv("BRAID_LONG") != nullptr;

/// Each shape with each seed, from 1 on.
inline std::vector<Shape> with_seeds(std::uint64_t seeds, const std::vector<Shape>& shapes) {
    std::vector<Shape> all;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        for (Shape shape : shapes) {
            shape.seed = seed;
            all.push_back(shape);
        }
    }
    return all;
}

inline std::vector<Shape> shapes(std::uint64_t seeds) {
    return with_seeds(seeds, {{.level = Level::raid5, .members = 4, .nodes = 3},
                              {.level = Level::raid6, .members = 5, .nodes = 2},
                              {.level = Level::raid6, .members = 6, .nodes = 4, .homes = 2}});
}

class NodesTest : public testing::TestWithParam<Shape> {
  protected:
    explicit NodesTest(bool zero_fast = true, std::uint64_t stripes = 8, bool exclusive = false,
                       std::uint64_t region = 0,
                       cluster::NoQuorum no_quorum = cluster::NoQuorum::error)
        : nodes_({GetParam().seed,
                  GetParam().level,
                  GetParam().members,
                  GetParam().nodes,
                  GetParam().homes,
                  16u << 10,
                  stripes,
                  zero_fast,
                  true,
                  {},
                  exclusive,
                  region,
                  no_quorum}),
          clients_(nodes_) {}

    void TearDown() override {
        for (std::uint32_t node = 0; HasFailure() && node != nodes_.nodes(); ++node) {
            if (nodes_.is_up(node)) ADD_FAILURE() << "node " << node << ":\n" << nodes_.log(node);
        }
    }
    SimLoop& loop() { return nodes_.loop(); }
    std::uint64_t below(std::uint64_t bound) { return loop().rng().below(bound); }

    Task<void> client(std::uint32_t node, std::uint32_t requests) {
        for (std::uint32_t i = 0; i != requests && !load_ends_; ++i) {
            const std::uint64_t begin = loop().now().value;
            const std::uint64_t sectors = 1 + below(below(8) == 0 ? 200 : 24);
            const std::uint64_t first = below(clients_.sectors() - sectors + 1);
            const std::uint64_t offset = first * sector_size;
            if (below(2) == 0) {
                co_await clients_.write(node, offset, sectors * sector_size,
                                        below(8) == 0 ? Fua::yes : Fua::no);
            } else {
                co_await clients_.read(node, offset, sectors * sector_size);
            }
            if (loop().now().value != begin) continue;
            Timer timer(loop(), Nanos{begin + millis(1).value});  // it was answered in no time
            co_await timer;
        }
        --working_;
    }
    /// Clients of all nodes, side by side.
    void begin_load(std::uint32_t clients, std::uint32_t requests) {
        for (std::uint32_t i = 0; i != clients; ++i) {
            ++working_;
            loop().tasks().spawn(client(i % nodes_.nodes(), requests));
        }
    }
    /// The level can do without its members; whether it decides does not matter.
    bool others_go_on_without(std::uint32_t victim) {
        std::uint32_t members = 0;
        for (std::uint32_t i = 0; i != GetParam().members; ++i) {
            members += nodes_.home_of(i) == victim ? 1 : 0;
        }
        return members <= (GetParam().level == Level::raid6 ? 2 : 1);
    }
    /// It has as many members that it needs none of the others'.
    bool goes_on_alone(std::uint32_t node) {
        std::uint32_t members = 0;
        for (std::uint32_t i = 0; i != GetParam().members; ++i) {
            members += nodes_.home_of(i) == node ? 1 : 0;
        }
        return members + (GetParam().level == Level::raid6 ? 2 : 1) >= GetParam().members;
    }
    /// They have stopped, or excluded it, and know it.
    bool is_gone_for(std::uint32_t node, std::uint32_t victim) {
        if (!others_go_on_without(victim)) {
            return nodes_.log(node).find("stops on all") != std::string::npos;
        }
        return nodes_.log(node).find("node " + std::to_string(victim + 1) + " is excluded") !=
                   std::string::npos ||
               nodes_.log(node).find("has begun with") != std::string::npos;
    }
    /// Until this node knows that it is gone. Whether the array goes on here.
    bool goes_on_after(std::uint32_t victim, std::uint32_t node) {
        const bool goes_on = node == victim ? goes_on_alone(victim) : others_go_on_without(victim);
        nodes_.run_until(
            [&] {
                if (goes_on && node == victim) {
                    return nodes_.log(node).find("has begun with") != std::string::npos;
                }
                return goes_on ? is_gone_for(node, victim)
                               : nodes_.log(node).find("the array stops") != std::string::npos;
            },
            "each node says so");
        return goes_on;
    }
    /// Connections of any two nodes break: for both, or for one at first, and for the other when it
    /// has sent something. (If it never heard of that it would be excluded.)
    void cut_any() {
        if (below(4) == 0) end_half_cut();
        const auto a = static_cast<std::uint32_t>(below(nodes_.nodes()));
        const auto b = static_cast<std::uint32_t>(below(nodes_.nodes()));
        if (a == b) return;
        const bool one_side = below(2) == 0 && !half_cut_;
        nodes_.cut(a, b, one_side ? CutSides::one : CutSides::both);
        if (one_side) half_cut_ = {a, b};
    }
    void end_half_cut() {
        if (half_cut_) nodes_.cut(half_cut_->first, half_cut_->second);
        half_cut_.reset();
    }
    void end_load() {
        nodes_.run_until([this] { return working_ == 0; }, "the clients end");
    }
    MemberState state(std::uint32_t node, std::uint32_t member) {
        return nodes_.array(node).status().members[member].record.state;
    }
    bool is_everywhere(std::uint32_t member, MemberState wanted) {
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (state(node, member) != wanted) return false;
        }
        return true;
    }
    void wait_until_rebuilt(std::uint32_t member) {
        Array& deciding = nodes_.array(nodes_.nodes() - 1);
        nodes_.run_until(
            [&] {
                return is_everywhere(member, MemberState::in_sync) &&
                       deciding.status().walks.empty();
            },
            "it is rebuilt");
    }

    SimNodes nodes_;
    Clients<SimNodes> clients_;
    std::uint32_t working_{0};
    bool load_ends_{false};
    std::optional<std::pair<std::uint32_t, std::uint32_t>> half_cut_;
};

}  // namespace braid::sim
