// SPDX-License-Identifier: BSD-3-Clause
// What tests of whole nodes share: clusters of several shapes and seeds, and clients of all nodes.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "tests/cluster/clients.h"
#include "tests/cluster/sim_nodes.h"
#include "tests/seeds.h"

namespace braid::sim {

extern template class Clients<SimNodes>;  // in nodes_kit.cpp

struct Shape {
    std::uint64_t seed{1};
    Level level{Level::raid5};
    std::uint32_t members{4};
    std::uint32_t nodes{3};
    std::uint32_t homes{0};
    std::optional<std::uint32_t> witness{};  // the node that has it
    friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
        return out << "seed " << shape.seed << ", RAID-" << static_cast<int>(shape.level) << " of "
                   << shape.members << " on " << shape.nodes << " nodes";
    }
};

using test::seeds_of;

/// Each shape with each seed, from 1 on; every fourth seed has its one parity at a fixed member.
inline std::vector<Shape> with_seeds(std::uint64_t seeds, const std::vector<Shape>& shapes) {
    std::vector<Shape> all;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        for (Shape shape : shapes) {
            shape.seed = seed;
            if (shape.level == Level::raid5 && seed % 4 == 2) shape.level = Level::raid4;
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
    /// @param how  what the shape does not say
    explicit NodesTest(SimNodesOptions how = {});

    void TearDown() override;
    SimLoop& loop() { return nodes_.loop(); }
    std::uint64_t below(std::uint64_t bound) { return loop().rng().below(bound); }

    Task<void> client(std::uint32_t node, std::uint32_t requests);
    /// Clients of all nodes, side by side.
    void begin_load(std::uint32_t clients, std::uint32_t requests);
    /// The level can do without its members; whether it decides does not matter.
    bool others_go_on_without(std::uint32_t victim);
    /// It has as many members that it needs none of the others'.
    bool goes_on_alone(std::uint32_t node);
    /// They have stopped, or excluded it, and know it.
    bool is_gone_for(std::uint32_t node, std::uint32_t victim);
    /// Until this node knows that it is gone. Whether the array goes on here.
    bool goes_on_after(std::uint32_t victim, std::uint32_t node);
    /// Connections of any two nodes break: for both, or for one at first, and for the other when it
    /// has sent something. (If it never heard of that it would be excluded.)
    void cut_any();
    void end_half_cut();
    void end_load();
    MemberState state(std::uint32_t node, std::uint32_t member);
    bool is_everywhere(std::uint32_t member, MemberState wanted);
    void wait_until_rebuilt(std::uint32_t member);

    SimNodes nodes_;
    Clients<SimNodes> clients_;
    std::uint32_t working_{0};
    bool load_ends_{false};
    std::optional<std::pair<std::uint32_t, std::uint32_t>> half_cut_;
};

}  // namespace braid::sim
