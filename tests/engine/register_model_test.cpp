// SPDX-License-Identifier: BSD-3-Clause
// The register's rules against every order of steps, within bounds (tests/engine/register_model.h,
// docs/testing.md), and rules that are wrong in one point, which the model has to catch.
// BRAID_LONG=1 takes larger bounds: some hours and 16 GiB.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/engine/register_search.h"

namespace braid::register_model {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool slow = true;
#else
constexpr bool slow = false;
#endif

constexpr std::uint64_t states_max = 200'000'000;

std::string describe(const Bounds& bounds) {
    return fmt::format(
        "{} members, {} parities{}, {} proposals{}{}{}{}", bounds.members, bounds.parities,
        bounds.witness ? ", witness" : "", bounds.proposals, bounds.rebuilds ? ", rebuilds" : "",
        bounds.checkpoints ? ", checkpoints" : "", bounds.clean_stops ? ", clean stops" : "",
        bounds.put_back ? (bounds.late ? ", a copy, the late" : ", a copy") : "");
}

void expect_safe(Bounds bounds) {
    if (slow && bounds.proposals > 2) --bounds.proposals;
    const Found found = search(bounds, states_max);
    fmt::print("{}: {} states, {} transitions, {} steps deep\n", describe(bounds), found.states,
               found.transitions, found.depth);
    EXPECT_EQ(found.broken, "") << describe(bounds) << "\n" << found.trace;
    EXPECT_TRUE(found.complete);
    EXPECT_GT(found.states, 1000u);
}

void expect_caught(Bounds bounds) {
    const Found found = search(bounds, states_max);
    EXPECT_NE(found.broken, "") << "not caught within " << describe(bounds);
    fmt::print("{}, {} states: {}\n{}", describe(bounds), found.states, found.broken, found.trace);
}

// ---- the rules as they are ----------------------------------------------------------------------

TEST(RegisterModel, ThreeMembersFourProposals) {
    expect_safe({.members = 3, .parities = 1, .proposals = 4, .rebuilds = true});
}

TEST(RegisterModel, ThreeMembersWithCheckpointsAndCleanStops) {
    expect_safe(
        {.members = 3, .parities = 1, .proposals = 3, .checkpoints = true, .clean_stops = true});
}

TEST(RegisterModel, ThreeMembersWithACopyPutBack) {
    for (const bool late : {false, true}) {
        expect_safe({.members = 3,
                     .parities = 1,
                     .proposals = 2,
                     .checkpoints = true,
                     .clean_stops = true,
                     .put_back = true,
                     .late = late});
        expect_safe({.members = 3,
                     .parities = 1,
                     .proposals = 3,
                     .rebuilds = false,
                     .put_back = true,
                     .late = late});
    }
}

TEST(RegisterModel, FourMembersOneParity) {
    expect_safe({.members = 4, .parities = 1, .proposals = 3});
}

TEST(RegisterModel, FourMembersTwoParitiesRoleZeroBreaksTies) {
    expect_safe({.members = 4, .parities = 2, .proposals = 3, .rebuilds = false});
    expect_safe({.members = 4, .parities = 2, .proposals = 2, .clean_stops = true});
}

TEST(RegisterModel, FourMembersTwoParitiesWitnessBreaksTies) {
    expect_safe(
        {.members = 4, .parities = 2, .witness = true, .proposals = 2, .clean_stops = true});
}

// ---- rules that are wrong -----------------------------------------------------------------------

TEST(RegisterModelCatches, NoPromise) {
    expect_caught({.proposals = 2, .wrong = Wrong::no_promise});
}
TEST(RegisterModelCatches, PromiseInMemoryOnly) {
    expect_caught({.proposals = 2, .wrong = Wrong::promise_in_memory});
}
TEST(RegisterModelCatches, EnoughCountedFromWhoIsLeft) {
    expect_caught({.proposals = 2, .wrong = Wrong::enough_of_who_is_left});
}
TEST(RegisterModelCatches, MoreThanHalfOfTheNewestsInSync) {
    expect_caught({.members = 4, .proposals = 3, .wrong = Wrong::more_than_half});
}
TEST(RegisterModelCatches, NewestNotAdopted) {
    expect_caught({.proposals = 2, .wrong = Wrong::newest_not_adopted});
}
TEST(RegisterModelCatches, InForceAtEnough) {
    expect_caught({.proposals = 2, .wrong = Wrong::in_force_at_enough});
    expect_caught(
        {.members = 4, .parities = 2, .proposals = 2, .wrong = Wrong::in_force_at_enough});
}
TEST(RegisterModelCatches, AnsweredBeforeItIsAnnounced) {
    expect_caught({.proposals = 2, .put_back = true, .wrong = Wrong::answered_before_announced});
}
TEST(RegisterModelCatches, StaleMembersCounted) {
    expect_caught({.proposals = 2, .put_back = true, .wrong = Wrong::stale_counted});
}
TEST(RegisterModelCatches, InForceNamingItself) {
    expect_caught({.proposals = 2, .wrong = Wrong::in_force_names_itself});
}
TEST(RegisterModelCatches, ResyncedUnderAnotherEpoch) {
    expect_caught({.proposals = 3, .wrong = Wrong::resynced_in_another_epoch});
}
TEST(RegisterModelCatches, NoClosingRevision) {
    expect_caught({.proposals = 2,
                   .clean_stops = true,
                   .put_back = true,
                   .wrong = Wrong::no_closing_revision});
}
TEST(RegisterModelCatches, EpochsThatComeAgainAfterAPromiseWasPutBack) {
    expect_caught(
        {.proposals = 3, .rebuilds = false, .put_back = true, .wrong = Wrong::epochs_come_again});
}

/// The bounds are real: what the rules cannot see is no invention of the model.
TEST(RegisterModelCatches, ACopyOfTheNewestPutBackAfterACrash) {
    expect_caught({.proposals = 1, .put_back = true, .blind = true});
}

}  // namespace
}  // namespace braid::register_model
