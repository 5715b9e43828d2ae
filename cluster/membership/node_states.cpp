// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/membership/node_states.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>

#include "parity/require.h"

namespace braid::cluster {
namespace {

using State = NodeState;
using Reason = NodeReason;

/// From any of these states to that one; from others the event is refused.
template <class Event>
struct Transition {
    Event event;
    std::uint32_t from;  // a set of states
    NodeStanding to;
    bool keeps_state{false};  // only the reason changes
};

constexpr std::uint32_t in(std::initializer_list<State> states) {
    std::uint32_t set = 0;
    for (const State state : states) set |= 1U << static_cast<std::uint32_t>(state);
    return set;
}

constexpr std::uint32_t not_killed =
    in({State::new_slave, State::diagnosed_slave, State::restarted_slave, State::failed_slave,
        State::nexus_slave});
constexpr NodeStanding found{State::new_slave, Reason::waiting_for_negotiations};

// Figure 6.
constexpr std::array slave_table{
    Transition<SlaveEvent>{SlaveEvent::found, not_killed, found},
    Transition<SlaveEvent>{SlaveEvent::diagnosed,
                           in({State::new_slave, State::restarted_slave}),
                           {State::diagnosed_slave, Reason::negotiating}},
    Transition<SlaveEvent>{SlaveEvent::diagnosis_failed,
                           in({State::new_slave, State::restarted_slave}),
                           {State::failed_slave, Reason::failed_diagnostics}},
    Transition<SlaveEvent>{SlaveEvent::negotiated,
                           in({State::diagnosed_slave, State::nexus_slave}),
                           {State::nexus_slave, Reason::none}},
    Transition<SlaveEvent>{SlaveEvent::changed,
                           in({State::diagnosed_slave, State::nexus_slave}),
                           {State::restarted_slave, Reason::changing_configuration}},
    Transition<SlaveEvent>{SlaveEvent::mismatched,
                           in({State::diagnosed_slave, State::nexus_slave}),
                           {State::failed_slave, Reason::configuration_mismatch}},
    Transition<SlaveEvent>{SlaveEvent::not_stored,
                           in({State::diagnosed_slave, State::nexus_slave}),
                           {State::failed_slave, Reason::cannot_store}},
    Transition<SlaveEvent>{SlaveEvent::timed_out,
                           in({State::diagnosed_slave, State::restarted_slave, State::nexus_slave}),
                           {State::failed_slave, Reason::timed_out_on_negotiations}},
    Transition<SlaveEvent>{
        SlaveEvent::not_heard,
        in({State::new_slave, State::diagnosed_slave, State::restarted_slave, State::nexus_slave}),
        {State::failed_slave, Reason::failed_communications_test}},
    Transition<SlaveEvent>{SlaveEvent::killed, not_killed, {State::killed_slave, Reason::ordered}},
    Transition<SlaveEvent>{SlaveEvent::resumed, in({State::killed_slave}), found},
    Transition<SlaveEvent>{SlaveEvent::left, not_killed, {State::failed_slave, Reason::stopped}},
    Transition<SlaveEvent>{SlaveEvent::rebuild_began,
                           in({State::nexus_slave}),
                           {State::nexus_slave, Reason::rebuilding}},
    Transition<SlaveEvent>{
        SlaveEvent::rebuild_ended, in({State::nexus_slave}), {State::nexus_slave, Reason::none}},
};

constexpr std::uint32_t alive = in({State::active_slave, State::master});

// Figure 7.
constexpr std::array own_table{
    Transition<OwnEvent>{
        OwnEvent::asked_to_prepare, alive, {State::active_slave, Reason::negotiating}, true},
    Transition<OwnEvent>{
        OwnEvent::became_master, alive, {State::master, Reason::completed_startup}},
    Transition<OwnEvent>{
        OwnEvent::follows, alive, {State::active_slave, Reason::completed_startup}},
    Transition<OwnEvent>{
        OwnEvent::changed, alive, {State::active_slave, Reason::changing_configuration}},
    Transition<OwnEvent>{OwnEvent::began_again,
                         in({State::active_slave}),
                         {State::active_slave, Reason::waiting_for_negotiations}},
    Transition<OwnEvent>{
        OwnEvent::mismatched, alive, {State::killed_slave, Reason::configuration_mismatch}},
    Transition<OwnEvent>{OwnEvent::not_stored, alive, {State::killed_slave, Reason::cannot_store}},
    Transition<OwnEvent>{OwnEvent::timed_out,
                         in({State::active_slave}),
                         {State::killed_slave, Reason::timed_out_on_negotiations}},
    Transition<OwnEvent>{
        OwnEvent::diagnosis_failed, alive, {State::killed_slave, Reason::failed_diagnostics}},
    Transition<OwnEvent>{
        OwnEvent::excluded, alive, {State::active_slave, Reason::waiting_for_negotiations}},
    Transition<OwnEvent>{OwnEvent::killed, alive, {State::killed_slave, Reason::ordered}},
    Transition<OwnEvent>{OwnEvent::resumed,
                         in({State::killed_slave}),
                         {State::active_slave, Reason::waiting_for_negotiations}},
    Transition<OwnEvent>{
        OwnEvent::rebuild_began, alive, {State::active_slave, Reason::rebuilding}, true},
    Transition<OwnEvent>{
        OwnEvent::rebuild_ended, alive, {State::active_slave, Reason::completed_startup}, true},
};

constexpr std::array slave_words{"is found",
                                 "passes its diagnostics",
                                 "fails its diagnostics",
                                 "takes part",
                                 "changes its configuration",
                                 "does not accept the configuration",
                                 "cannot store the configuration",
                                 "does not answer to negotiations",
                                 "is not heard",
                                 "is killed",
                                 "is resumed",
                                 "leaves",
                                 "begins a rebuild",
                                 "ends a rebuild"};
static_assert(slave_words.size() == slave_events_count && slave_table.size() == slave_words.size());

constexpr std::array own_words{"negotiates",
                               "becomes master",
                               "follows a master",
                               "changes its configuration",
                               "begins again with what it stored",
                               "does not accept the configuration",
                               "cannot store the configuration",
                               "waits for negotiations in vain",
                               "fails its diagnostics",
                               "is excluded",
                               "is killed",
                               "is resumed",
                               "begins a rebuild",
                               "ends a rebuild"};
static_assert(own_words.size() == own_events_count && own_table.size() == own_words.size());

std::string listed(std::uint32_t states) {
    std::string text;
    for (std::uint32_t at = 0; at != node_states_count; ++at) {
        if (((states >> at) & 1) == 0) continue;
        if (!text.empty()) text += (states >> (at + 1)) == 0 ? " or " : ", ";
        text += name_of(static_cast<State>(at));
    }
    return text;
}

/// Each event has one row, at its own place.
template <class Table, class Event, class Words>
Checked<NodeStanding> taken(const Table& table, const Words& words, Event event,
                            const NodeStanding& now) {
    const auto number = static_cast<std::size_t>(event);
    BRAID_REQUIRE(number < table.size());
    const auto& row = table[number];
    BRAID_REQUIRE(row.event == event);
    if ((row.from & in({now.state})) == 0) {
        std::string why = now.state == State::killed_slave
                              ? fmt::format("this one is {} until it is resumed", now.text())
                              : fmt::format("this one is {}", now.text());
        return Refusal{
            fmt::format("a node {} only while it is {}; {}", words[number], listed(row.from), why),
            RefusalCode::conflict};
    }
    NodeStanding to = row.to;
    if (row.keeps_state) to.state = now.state;
    return to;
}

}  // namespace

std::string_view name_of(NodeState state) {
    static constexpr std::array<std::string_view, node_states_count> names{
        "MASTER",       "NEW_SLAVE",   "DIAGNOSED_SLAVE", "RESTARTED_SLAVE",
        "FAILED_SLAVE", "NEXUS_SLAVE", "ACTIVE_SLAVE",    "KILLED_SLAVE"};
    return names.at(static_cast<std::size_t>(state));
}

std::string_view name_of(NodeReason reason) {
    static constexpr std::array<std::string_view, node_reasons_count> names{
        "",
        "Starting_Up",
        "Waiting_For_Negotiations",
        "Negotiating",
        "Failed_Diagnostics",
        "Timed_Out_On_Negotiations",
        "Changing_Configuration",
        "Failed_Communications_Test",
        "Completed_Startup",
        "Rebuilding",
        "Configuration_Mismatch",
        "Cannot_Store",
        "Ordered",
        "Stopped"};
    return names.at(static_cast<std::size_t>(reason));
}

std::string NodeStanding::text() const {
    if (reason == NodeReason::none) return std::string(name_of(state));
    return fmt::format("{} ({})", name_of(state), name_of(reason));
}

// ---- the two tables ----------------------------------------------------------------------------

Checked<NodeStanding> SlaveView::take(SlaveEvent event) {
    BRAID_TRY(standing_, taken(slave_table, slave_words, event, standing_));
    return standing_;
}

OwnState::OwnState(NodeStanding standing) : standing_(standing) {
    BRAID_REQUIRE(standing.state == State::active_slave || is_killed());
}

Checked<NodeStanding> OwnState::take(OwnEvent event) {
    BRAID_TRY(standing_, taken(own_table, own_words, event, standing_));
    return standing_;
}

// ---- EntryDelay --------------------------------------------------------------------------------

void EntryDelay::entered(Nanos now) {
    is_in_ = true;
    entered_ = now;
}

void EntryDelay::went(Nanos now) {
    if (!is_in_) return;
    is_in_ = false;
    if (now.value >= entered_.value + entry_steady.value) times_ = 0;
    Nanos delay{};
    if (times_ != 0) {
        const std::uint32_t doubled = std::min(times_ - 1, 16U);
        delay = std::min(Nanos{entry_delay_min.value << doubled}, entry_delay_max);
    }
    ++times_;
    lets_in_at_ = {now.value + delay.value};
}

}  // namespace braid::cluster
