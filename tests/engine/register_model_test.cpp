// SPDX-License-Identifier: BSD-3-Clause
// The register's rules against every order of steps, within bounds (tests/engine/register_model.h,
// docs/testing.md), and rules that are wrong in one point, which the model has to catch.
// BRAID_LONG=1 takes larger bounds, too.
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

constexpr std::uint64_t states_max = 400'000'000;

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
    expect_safe({.members = 3, .parities = 1, .proposals = 4});
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
    expect_safe(
        {.members = 4, .parities = 1, .proposals = 2, .clean_stops = true, .put_back = true});
}

TEST(RegisterModel, FourMembersTwoParitiesRoleZeroBreaksTies) {
    expect_safe({.members = 4, .parities = 2, .proposals = 3});
    expect_safe({.members = 4, .parities = 2, .proposals = 2, .rebuilds = false, .put_back = true});
}

TEST(RegisterModel, FourMembersTwoParitiesWitnessBreaksTies) {
    expect_safe({.members = 4, .parities = 2, .witness = true, .proposals = 3, .rebuilds = false});
    expect_safe(
        {.members = 4, .parities = 2, .witness = true, .proposals = 2, .clean_stops = true});
    expect_safe({.members = 4,
                 .parities = 2,
                 .witness = true,
                 .proposals = 2,
                 .rebuilds = false,
                 .put_back = true});
}

/// Everything at once, for as long as it takes.
TEST(RegisterModel, LargerByHand) {
    if (std::getenv("BRAID_LONG") == nullptr) GTEST_SKIP() << "set BRAID_LONG=1";
    for (const bool late : {false, true}) {
        const Bounds with_copy{.clean_stops = true, .put_back = true, .late = late};
        Bounds three = with_copy, four = with_copy, six = with_copy, witness = with_copy;
        three.proposals = 3;
        four.members = six.members = witness.members = 4;
        six.parities = witness.parities = 2;
        witness.witness = true;
        four.proposals = six.proposals = witness.proposals = 2;
        for (const Bounds& bounds : {three, four, six, witness}) expect_safe(bounds);
    }
    const Bounds running{.proposals = 4, .checkpoints = true, .clean_stops = true};
    expect_safe(running);
    for (const std::uint32_t parities : {1u, 2u}) {
        Bounds four = running;
        four.members = 4;
        four.parities = parities;
        four.proposals = 3;
        expect_safe(four);
    }
    expect_safe({.members = 4, .parities = 2, .witness = true, .proposals = 3});
}

TEST(RegisterModel, FiveMembersTwoParitiesByHand) {
    if (std::getenv("BRAID_LONG") == nullptr) GTEST_SKIP() << "set BRAID_LONG=1";
    expect_safe({.members = 5, .parities = 2, .proposals = 3});
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

/// What the model leaves out has to be left out: no rule on members can see it.
TEST(RegisterModelUnseen, ACopyOfTheNewestPutBackAfterACrash) {
    expect_caught({.proposals = 1, .put_back = true, .unseen = Unseen::newest_after_a_crash});
}
TEST(RegisterModelUnseen, ACopyWhileThoseThatKnowBetterAreAway) {
    expect_caught({.proposals = 1, .put_back = true, .unseen = Unseen::who_knows_is_away});
}
TEST(RegisterModelUnseen, AnOlderProposerGoesOnWithTheCopy) {
    expect_caught({.proposals = 3,
                   .rebuilds = false,
                   .put_back = true,
                   .late = true,
                   .unseen = Unseen::older_comes_late});
}

}  // namespace
TEST(RegisterModelCatches, TiesBrokenByWhatMayNotBeInForce) {
    expect_caught({.members = 4,
                   .parities = 2,
                   .witness = true,
                   .proposals = 2,
                   .rebuilds = false,
                   .wrong = Wrong::unforced_breaks_ties});
}

}  // namespace braid::register_model
