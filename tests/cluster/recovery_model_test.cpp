// SPDX-License-Identifier: BSD-3-Clause
// Nodes write to one array; some die, are cut off, come back, in the middle of anything; the others
// go from fence to fence through the project's own barrier, books and verdicts.
// Goal: in every order of events that there is, a write is never applied in part, never applied
// twice, never lost when it was acknowledged, or read, and never judged in two ways; and no two
// fences are served at once. Method: messages of one node to another arrive in order, everything
// else in any; all states are visited, each once. Wrong protocols must be found wrong.
#include "tests/cluster/recovery_model.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace braid::cluster {
namespace {

using namespace recovery_model;

std::string run(const Scenario& scenario) {
    Model model(scenario);
    const auto wrong = model.run();
    std::printf("%zu states; of their ends in %zu a write happens, in %zu it does not\n",
                model.states(), model.happened(), model.dropped());
    return wrong.value_or("");
}

void expect_right(const Scenario& scenario) { EXPECT_EQ(run(scenario), ""); }

// Sets of nodes and of roles: bit 0 is node 1, and role 0.
constexpr std::uint32_t first = 1;
constexpr std::uint32_t second = 2;
constexpr std::uint32_t third = 4;

/// RAID-5 of two data strips and parity, a member at each of three nodes; node 1 writes.
Scenario raid5() { return {.homes = {0, 1, 2}, .requests = {{0, 7}}}; }
/// The same behind a fourth node, the first, which is home of nothing.
Scenario raid5_from_afar() { return {.nodes = 4, .homes = {1, 2, 3}, .requests = {{0, 3}}}; }
/// RAID-6 of four, a member at each of four nodes.
Scenario raid6() {
    return {.nodes = 4, .homes = {0, 1, 2, 3}, .parities = 2, .requests = {{0, 15}}};
}

TEST(RecoveryModel, AWriterDies) {
    for (const std::uint64_t participants : {7U, 6U, 5U}) {
        Scenario scenario = raid5();
        scenario.requests = {{0, participants}};
        scenario.may_die = first;
        expect_right(scenario);
        scenario.requests = {{0, participants}, {0, participants}};
        expect_right(scenario);
    }
}

TEST(RecoveryModel, AnyNodeDiesWhileTwoWrite) {
    Scenario scenario = raid5();
    scenario.requests = {{0, 7}, {1, 6}};
    scenario.may_die = first | second | third;
    expect_right(scenario);
}

TEST(RecoveryModel, AWriterIsCutOff) {
    Scenario scenario = raid5();
    scenario.may_be_cut = first;
    expect_right(scenario);
    scenario.requests = {{0, 7}, {1, 7}};
    expect_right(scenario);
}

TEST(RecoveryModel, TheMasterDiesInTheMiddle) {
    Scenario scenario = raid5_from_afar();
    scenario.may_die = first | 8;
    scenario.gone_most = 2;
    expect_right(scenario);
    scenario.requests = {{0, 6}};
    scenario.proposals = 3;
    expect_right(scenario);
}

TEST(RecoveryModel, ANodeThatHasAdoptedDies) {
    Scenario scenario = raid5_from_afar();
    scenario.may_die = first | second;
    scenario.gone_most = 2;
    scenario.proposals = 3;
    expect_right(scenario);
    scenario.may_die = first | third;
    expect_right(scenario);
}

TEST(RecoveryModel, ACutHeals) {
    Scenario scenario = raid5();
    scenario.may_be_cut = first;
    scenario.heals = true;
    scenario.proposals = 3;
    expect_right(scenario);
    scenario.may_be_cut = second;
    expect_right(scenario);
    scenario = raid5_from_afar();
    scenario.may_die = first;
    scenario.may_be_cut = second;
    scenario.gone_most = 2;
    scenario.heals = true;
    expect_right(scenario);
}

TEST(RecoveryModel, ANodeBeginsANewLife) {
    Scenario scenario = raid5();
    scenario.may_die = first;
    scenario.restarts = true;
    scenario.proposals = 3;
    expect_right(scenario);
    scenario.may_die = second;
    expect_right(scenario);
}

TEST(RecoveryModel, TwoPropose) {
    Scenario scenario = raid5();
    scenario.rivals = true;
    scenario.may_die = first;
    expect_right(scenario);
    scenario.may_die = 0;
    scenario.may_be_cut = first;
    expect_right(scenario);
    scenario.heals = true;
    expect_right(scenario);
}

TEST(RecoveryModel, Raid6LosesTwo) {
    Scenario scenario = raid6();
    scenario.may_die = first | second;
    scenario.gone_most = 2;
    expect_right(scenario);
    scenario.requests = {{0, 13}};
    scenario.may_die = first | 8;
    expect_right(scenario);
}

TEST(RecoveryModel, MoreByHand) {
    if (std::getenv("BRAID_LONG") == nullptr) GTEST_SKIP() << "set BRAID_LONG=1";
    Scenario scenario = raid5_from_afar();
    scenario.may_die = first;
    scenario.may_be_cut = second;
    scenario.gone_most = 2;
    scenario.heals = true;
    scenario.proposals = 3;
    expect_right(scenario);
    scenario = raid6();
    scenario.may_die = first | second | third | 8;
    scenario.gone_most = 2;
    expect_right(scenario);
}

TEST(RecoveryModel, WrongProtocolsAreFound) {
    const auto expect_found = [](Fault fault, Scenario scenario) {
        expect_right(scenario);
        scenario.fault = fault;
        const std::string found = run(scenario);
        std::printf("%s\n", found.c_str());
        EXPECT_NE(found, "") << static_cast<int>(fault);
    };
    Scenario dies = raid5();
    dies.may_die = first;
    expect_found(Fault::applied_when_staged, dies);
    expect_found(Fault::any_staged_happens, dies);
    expect_found(Fault::absent_count, dies);
    Scenario cut = raid5();
    cut.may_be_cut = first;
    expect_found(Fault::takes_of_excluded, cut);
    expect_found(Fault::no_wait, cut);
    Scenario other_dies = raid5_from_afar();
    other_dies.requests = {{0, 7}};
    other_dies.may_die = 8;
    expect_found(Fault::decides_frozen, other_dies);
    expect_found(Fault::living_judged_by_books, other_dies);
    Scenario master_dies = raid5_from_afar();
    master_dies.requests = {{0, 6}};
    master_dies.may_die = first | 8;
    master_dies.gone_most = 2;
    expect_found(Fault::judged_again, master_dies);
    expect_found(Fault::verdict_with_adopt, master_dies);
    expect_found(Fault::adopts_one_by_one, master_dies);
    Scenario returns = raid5();
    returns.may_be_cut = first;
    returns.heals = true;
    returns.proposals = 3;
    expect_found(Fault::returned_counts, returns);
}

}  // namespace
}  // namespace braid::cluster
