// SPDX-License-Identifier: BSD-3-Clause
// Breadth-first search through all states of a register_model: the shortest way to what is broken.
#pragma once

#include <cstdint>
#include <string>

#include "tests/engine/register_model.h"

namespace braid::register_model {

struct Found {
    std::uint64_t states{0};
    std::uint64_t transitions{0};
    std::uint32_t depth{0};
    bool complete{false};  // false: states_max came first, or something is broken
    std::string broken;    // empty: all holds
    std::string trace;     // one step a line
};

/// States are told apart by 64 bits of a hash: among 10⁷ of them two are taken for one with a
/// probability of some 10⁻⁶.
Found search(const Bounds& bounds, std::uint64_t states_max);

}  // namespace braid::register_model
