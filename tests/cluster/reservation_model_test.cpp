// SPDX-License-Identifier: BSD-3-Clause
// Nodes reserve and release a volume through their tables, all at once.
// Goal: in every order of events that there is, never do two nodes hold the volume, nobody serves a
// request to it beside its holder, and no home refuses a command of a request that was served; from
// every state everybody can come to an end; of nodes that ask at once the highest gets it; and at
// the end all tables agree. Method: messages of one node to another arrive in order, everything
// else (requests, their ends, deadlines, a node's death, who hears of it) in any. All states are
// visited breadth-first, each once, so that what goes wrong is shown on the shortest way. Wrong
// protocols must be found wrong.
#include "tests/cluster/reservation_model.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace braid::cluster {
namespace {

using namespace reservation_model;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool slow = true;
#else
constexpr bool slow = false;
#endif

std::string run(const Scenario& scenario) {
    Model model(scenario);
    const auto wrong = model.run();
    std::printf("%zu states\n", model.states());
    return wrong.value_or("");
}

void expect_right(const Scenario& scenario) { EXPECT_EQ(run(scenario), ""); }

constexpr std::uint32_t all = 15;  // of `deadlines`

TEST(ReservationModel, TwoNodesReserve) {
    expect_right({.attempts = {1, 1}, .under_way = 1, .to_come = 1});
    expect_right({.attempts = {2, 2}, .under_way = 1, .releases = true});
    expect_right({.attempts = {1, 1},
                  .under_way = 1,
                  .to_come = 1,
                  .releases = true,
                  .releases_early = true,
                  .deadlines = all});
    expect_right({.attempts = {2, 2}, .releases = true, .releases_early = true, .deadlines = all});
}

TEST(ReservationModel, ThreeNodesReserve) {
    expect_right({.attempts = {1, 1, 1}, .under_way = slow ? 0U : 1U});
    expect_right({.attempts = {1, 1, 0}, .under_way = 1, .to_come = slow ? 0U : 1U});
    expect_right({.attempts = {1, 0, 1}, .under_way = slow ? 0U : 1U, .to_come = 1});
}

TEST(ReservationModel, ThreeNodesReserveAndRelease) {
    expect_right({.attempts = {1, 1, slow ? 0U : 1U}, .releases = true});
    expect_right({.attempts = {2, slow ? 1U : 2U, 0}, .releases = true});
    expect_right({.attempts = {1, 1, 0}, .to_come = 1, .releases = true});
}

TEST(ReservationModel, ThreeNodesAndDeadlines) {
    expect_right({.attempts = {1, 1, 0}, .releases = true, .deadlines = all});
    expect_right({.attempts = {1, 1, 0}, .releases = true, .releases_early = true});
    if (slow) return;
    for (const std::uint32_t node : {1U, 2U, 4U}) {
        expect_right({.attempts = {1, 1, 1}, .deadlines = node});
    }
    expect_right({.attempts = {2, 1, 0}, .deadlines = all});
    expect_right({.attempts = {1, 1, 0}, .under_way = 1, .releases = true, .deadlines = all});
}

TEST(ReservationModel, ANodeDies) {
    for (const std::uint32_t dies : {1U, 2U}) {
        expect_right({.attempts = {2, 2}, .under_way = 1, .releases = true, .dies = dies});
    }
    for (const std::uint32_t dies : {1U, 2U, 3U}) {
        expect_right({.attempts = {1, slow ? 0U : 1U, 1}, .dies = dies});
        if (slow) continue;
        expect_right({.attempts = {1, 0, 1}, .to_come = 1, .releases = true, .dies = dies});
    }
}

TEST(ReservationModel, MessagesThatComeTwice) {
    expect_right({.attempts = {2, 2}, .under_way = 1, .releases = true, .repeats = 2});
    expect_right({.attempts = {1, 1, 0}, .releases = true, .repeats = 1});
    if (slow) return;
    expect_right({.attempts = {1, 1, 0}, .deadlines = 2, .repeats = 1});
}

TEST(ReservationModel, TwoVolumes) {
    expect_right({.attempts = {1, 1}, .volumes = 2, .releases = !slow});
}

TEST(ReservationModel, MoreByHand) {
    if (std::getenv("BRAID_LONG") == nullptr) GTEST_SKIP() << "set BRAID_LONG=1";
    expect_right({.attempts = {1, 1, 0}, .under_way = 1, .to_come = 1, .releases = true});
    expect_right({.attempts = {1, 2, 0}, .under_way = 1, .deadlines = all});
    expect_right({.attempts = {2, 2},
                  .under_way = 1,
                  .to_come = 1,
                  .releases = true,
                  .releases_early = true,
                  .deadlines = all});
    expect_right({.attempts = {1, 1, 0}, .releases = true, .dies = 2, .repeats = 1});
    expect_right({.attempts = {1, 1, 0, 0}});
}

TEST(ReservationModel, WrongProtocolsAreFound) {
    const auto expect_found = [](Fault fault, Scenario scenario) {
        expect_right(scenario);
        scenario.fault = fault;
        const std::string found = run(scenario);
        std::printf("%s\n", found.c_str());
        EXPECT_NE(found, "") << static_cast<int>(fault);
    };
    expect_found(Fault::granted_undrained, {.attempts = {1, 0}, .under_way = 1});
    expect_found(Fault::released_undrained, {.attempts = {1, 0}, .to_come = 1, .releases = true});
    expect_found(Fault::taken_back_here, {.attempts = {1, 1, 0}});
    expect_found(Fault::both_give_way, {.attempts = {1, 1}});
    expect_found(Fault::asks_once, {.attempts = {1, 1}});
    expect_found(Fault::begins_early, {.attempts = {1, 0, 0}});
    expect_found(Fault::old_grant_counts, {.attempts = {2, 0}, .under_way = 1, .deadlines = 1});
    expect_found(Fault::answerer_compared, {.attempts = {1, 1, 0}});
    expect_found(Fault::third_word_counts, {.attempts = {1, 1, 0}, .deadlines = 2});
    expect_found(Fault::released_in_one_step,
                 {.attempts = {1, 0, 0}, .to_come = 1, .releases = true});
}

}  // namespace
}  // namespace braid::cluster
