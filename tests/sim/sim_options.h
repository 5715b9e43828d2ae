// SPDX-License-Identifier: BSD-3-Clause
// What one run of the simulator is like: all of it is drawn from the seed.
#pragma once

#include <cstdint>
#include <string>

#include "engine/layout/configuration.h"

namespace braid::sim {

enum class FaultPlan : std::uint8_t {
    within,  // never more at a time than the level promises to survive: nothing may fail but R4's
    beyond,  // anything: then the right bytes or an error, never wrong bytes
};

struct SimOptions {
    std::uint64_t seed{1};
    std::uint64_t steps{1500};
    Level level{Level::raid5};
    Layout layout{Layout::left_symmetric};
    std::uint32_t members{4};
    std::uint32_t spares{0};
    std::uint64_t strip_size{4096};
    std::uint64_t stripes{48};
    std::uint32_t volumes{1};
    bool intent_on{true};
    bool intent_room{true};  // in front of the data
    std::uint64_t intent_region{1u << 20};
    std::uint32_t memory_align{1};
    bool zero_fast{true};
    bool reads_now{false};  // clients read past the loop, as of members in memory
    bool caches{true};      // members lose what was not flushed when the power goes
    bool holes{false};      // members may have no room for what was never written
    bool outages{false};    // a member answers no reads for a moment, also one that is needed
    bool junk{false};       // members hold something else at first
    std::uint64_t latency_nanos{1'000'000};
    FaultPlan plan{FaultPlan::within};
    std::uint32_t flights_max{24};  // requests at a time
    std::uint32_t pace{12};         // steps of the loop between two actions, at most
    std::uint32_t hot_sectors{0};   // most requests go here; 0: nowhere special
    // One action in so many is of the kind; 0: never.
    std::uint32_t faults_one_in{60};
    std::uint32_t operators_one_in{60};
    std::uint32_t crashes_one_in{120};
    std::uint32_t stops_one_in{300};
    std::uint32_t idles_one_in{150};
    std::uint32_t corrupts_one_in{400};
    bool wall_stands{false};  // the wall clock: epochs grow by promises alone
    // Crossings of events that chance seldom brings together; simulation_crossings.cpp.
    bool lone_starts{false};   // starts die when one member alone is written, and go on without it
    bool tense_starts{false};  // clients ask again after a crash, and something else fails
    bool crashes_at_changes{false};  // the node dies as members come and go, or rows are listed
    bool copies_at_rest{false};      // members are copied while the array is stopped
    bool rewrites{false};            // rows that are listed are written anew
    bool aliases{false};             // disks in use are given by a second path
    bool failed_writes{false};       // writes of some rows of a needed member fail
};

SimOptions draw_options(std::uint64_t seed, std::uint64_t steps);
/// One line.
std::string text_of(const SimOptions& options);

}  // namespace braid::sim
