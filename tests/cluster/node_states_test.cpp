// SPDX-License-Identifier: BSD-3-Clause
// Goal: every event in every state of a node leads where figures 6 and 7 of seeds 004 and the rules
// of node_states.h say, or is refused with a reason. Method: the whole of both tables, in letters;
// everything that can be reached, by breadth-first search; the stories of the figures one by one.
#include "cluster/membership/node_states.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid::cluster {
namespace {

using State = NodeState;
using Reason = NodeReason;

/// A state by its letter: M, N, D, R, F, X (NEXUS), A, K; '-': refused.
char letter(State state) { return "MNDRFXAK"[static_cast<std::size_t>(state)]; }

using SlaveWay = std::vector<SlaveEvent>;
using OwnWay = std::vector<OwnEvent>;

template <class Machine, class Way>
Machine after(const Way& way) {
    Machine machine;
    for (const auto event : way) EXPECT_TRUE(machine.take(event)) << static_cast<int>(event);
    return machine;
}

// Events in the order of their declaration.
TEST(NodeStates, TheMastersTable) {
    const SlaveWay none;
    const std::map<char, SlaveWay> ways{{'N', none},
                                        {'D', {SlaveEvent::diagnosed}},
                                        {'R', {SlaveEvent::diagnosed, SlaveEvent::changed}},
                                        {'F', {SlaveEvent::not_heard}},
                                        {'X', {SlaveEvent::diagnosed, SlaveEvent::negotiated}},
                                        {'K', {SlaveEvent::killed}}};
    const std::map<char, std::string_view> table{
        // found, diagnosed, diagnosis_failed, negotiated, changed, mismatched, not_stored,
        // timed_out, not_heard, killed, resumed, left, rebuild_began, rebuild_ended
        {'N', "NDF-----FK-F--"}, {'D', "N--XRFFFFK-F--"}, {'R', "NDF----FFK-F--"},
        {'F', "N--------K-F--"}, {'X', "N--XRFFFFK-FXX"}, {'K', "----------N---"}};
    for (const auto& [state, row] : table) {
        ASSERT_EQ(row.size(), slave_events_count);
        for (std::size_t event = 0; event != slave_events_count; ++event) {
            auto view = after<SlaveView>(ways.at(state));
            ASSERT_EQ(letter(view.standing().state), state);
            const NodeStanding before = view.standing();
            const auto result = view.take(static_cast<SlaveEvent>(event));
            EXPECT_EQ(result ? letter(result->state) : '-', row[event]) << state << event;
            if (result) {
                EXPECT_EQ(*result, view.standing());
                continue;
            }
            EXPECT_EQ(view.standing(), before);
            EXPECT_NE(result.error().text.find(before.text()), std::string::npos);
        }
    }
}

TEST(NodeStates, ANodesOwnTable) {
    const OwnWay none;
    const std::map<char, OwnWay> ways{
        {'A', none}, {'M', {OwnEvent::became_master}}, {'K', {OwnEvent::killed}}};
    const std::map<char, std::string_view> table{
        // asked_to_prepare, became_master, follows, changed, began_again, mismatched, not_stored,
        // timed_out, diagnosis_failed, excluded, killed, resumed, rebuild_began, rebuild_ended
        {'A', "AMAAAKKKKAK-AA"},
        {'M', "MMAA-KK-KAK-MM"},
        {'K', "-----------A--"}};
    for (const auto& [state, row] : table) {
        ASSERT_EQ(row.size(), own_events_count);
        for (std::size_t event = 0; event != own_events_count; ++event) {
            auto own = after<OwnState>(ways.at(state));
            ASSERT_EQ(letter(own.standing().state), state);
            const NodeStanding before = own.standing();
            const auto result = own.take(static_cast<OwnEvent>(event));
            EXPECT_EQ(result ? letter(result->state) : '-', row[event]) << state << event;
            EXPECT_TRUE(result || own.standing() == before);
        }
    }
}

/// All standings that can be reached.
template <class Machine, class Event>
std::set<std::string> reachable(std::size_t events) {
    std::set<std::string> seen{Machine().standing().text()};
    std::deque<Machine> left{Machine()};
    while (!left.empty()) {
        for (std::size_t event = 0; event != events; ++event) {
            Machine next = left.front();
            if (!next.take(static_cast<Event>(event))) continue;
            if (seen.insert(next.standing().text()).second) left.push_back(next);
        }
        left.pop_front();
    }
    return seen;
}

TEST(NodeStates, WhatCanBeReached) {
    EXPECT_EQ((reachable<SlaveView, SlaveEvent>(slave_events_count)),
              (std::set<std::string>{
                  "NEW_SLAVE (Waiting_For_Negotiations)", "DIAGNOSED_SLAVE (Negotiating)",
                  "RESTARTED_SLAVE (Changing_Configuration)", "FAILED_SLAVE (Failed_Diagnostics)",
                  "FAILED_SLAVE (Configuration_Mismatch)", "FAILED_SLAVE (Cannot_Store)",
                  "FAILED_SLAVE (Timed_Out_On_Negotiations)",
                  "FAILED_SLAVE (Failed_Communications_Test)", "FAILED_SLAVE (Stopped)",
                  "NEXUS_SLAVE", "NEXUS_SLAVE (Rebuilding)", "KILLED_SLAVE (Ordered)"}));
    EXPECT_EQ((reachable<OwnState, OwnEvent>(own_events_count)),
              (std::set<std::string>{
                  "ACTIVE_SLAVE (Starting_Up)", "ACTIVE_SLAVE (Waiting_For_Negotiations)",
                  "ACTIVE_SLAVE (Negotiating)", "ACTIVE_SLAVE (Changing_Configuration)",
                  "ACTIVE_SLAVE (Completed_Startup)", "ACTIVE_SLAVE (Rebuilding)",
                  "MASTER (Negotiating)", "MASTER (Completed_Startup)", "MASTER (Rebuilding)",
                  "KILLED_SLAVE (Configuration_Mismatch)", "KILLED_SLAVE (Cannot_Store)",
                  "KILLED_SLAVE (Timed_Out_On_Negotiations)", "KILLED_SLAVE (Failed_Diagnostics)",
                  "KILLED_SLAVE (Ordered)"}));
}

// Figure 8: found, diagnosed, told a configuration that is new to it, diagnosed again, in nexus.
TEST(NodeStates, ASlaveWhoseConfigurationChangedBeginsAgain) {
    const auto view = after<SlaveView>(SlaveWay{SlaveEvent::diagnosed, SlaveEvent::changed,
                                                SlaveEvent::diagnosed, SlaveEvent::negotiated});
    EXPECT_EQ(view.standing(), (NodeStanding{State::nexus_slave, Reason::none}));
    const auto own =
        after<OwnState>(OwnWay{OwnEvent::asked_to_prepare, OwnEvent::changed, OwnEvent::began_again,
                               OwnEvent::asked_to_prepare, OwnEvent::follows});
    EXPECT_EQ(own.standing(), (NodeStanding{State::active_slave, Reason::completed_startup}));
}

// A node that was cut off is back by itself; one that was killed is not, whatever it does.
TEST(NodeStates, KilledStaysUntilResume) {
    auto view = after<SlaveView>(SlaveWay{
        SlaveEvent::diagnosed, SlaveEvent::negotiated, SlaveEvent::not_heard, SlaveEvent::found,
        SlaveEvent::diagnosed, SlaveEvent::negotiated, SlaveEvent::killed});
    const auto refused = view.take(SlaveEvent::found);
    ASSERT_FALSE(refused);
    EXPECT_EQ(
        refused.error().text,
        "a node is found only while it is NEW_SLAVE, DIAGNOSED_SLAVE, RESTARTED_SLAVE, "
        "FAILED_SLAVE or NEXUS_SLAVE; this one is KILLED_SLAVE (Ordered) until it is resumed");
    EXPECT_TRUE(view.take(SlaveEvent::resumed));
    EXPECT_TRUE(view.take(SlaveEvent::diagnosed));

    OwnState own({State::killed_slave, Reason::cannot_store});  // it started again
    EXPECT_TRUE(own.is_killed());
    EXPECT_FALSE(own.take(OwnEvent::asked_to_prepare));
    EXPECT_FALSE(own.take(OwnEvent::became_master));
    EXPECT_TRUE(own.take(OwnEvent::resumed));
    EXPECT_FALSE(own.is_killed());
    EXPECT_FALSE(own.take(OwnEvent::resumed)) << "it runs";
}

TEST(NodeStates, EveryStateAndReasonHasAName) {
    std::set<std::string_view> names;
    for (std::size_t i = 0; i != node_states_count; ++i)
        names.insert(name_of(static_cast<State>(i)));
    for (std::size_t i = 0; i != node_reasons_count; ++i)
        names.insert(name_of(static_cast<Reason>(i)));
    EXPECT_EQ(names.size(), node_states_count + node_reasons_count);
}

TEST(EntryDelay, GrowsWhileANodeFlaps) {
    EntryDelay delay;
    EXPECT_TRUE(delay.lets_in(Nanos{0}));
    delay.went(seconds(1));
    EXPECT_TRUE(delay.lets_in(seconds(1))) << "it had not entered";
    Nanos now = seconds(10);
    for (const std::uint64_t wanted : {0U, 2U, 4U, 8U, 16U, 32U, 64U, 128U, 256U, 300U, 300U}) {
        delay.entered(now);
        now.value += seconds(5).value;
        delay.went(now);
        delay.went(now);  // said twice
        EXPECT_EQ(delay.lets_in_at(), (Nanos{now.value + seconds(wanted).value}));
        EXPECT_EQ(delay.lets_in(now), wanted == 0);
        now = delay.lets_in_at();
        EXPECT_TRUE(delay.lets_in(now));
    }
    delay.entered(now);
    now.value += entry_steady.value;
    delay.went(now);
    EXPECT_TRUE(delay.lets_in(now)) << "it was in for long";
    for (int i = 0; i != 100; ++i) {  // however often
        delay.entered(now);
        delay.went(now);
    }
    EXPECT_EQ(delay.lets_in_at(), (Nanos{now.value + entry_delay_max.value}));
}

}  // namespace
}  // namespace braid::cluster
