// SPDX-License-Identifier: BSD-3-Clause
// The states of nodes, with their reasons: two tables, pure, in which every event in every state
// leads to a state or is refused with a sentence that says why.
//
// SlaveView is what the master knows of another node: NEW_SLAVE when it is found, DIAGNOSED_SLAVE
// when every path to it and an echo of a block of memory are in order, NEXUS_SLAVE when it has taken
// the configuration and serves; RESTARTED_SLAVE while it begins again with a configuration that is
// new to it; FAILED_SLAVE when any of that failed, or it is not heard; KILLED_SLAVE when it was
// ordered out. OwnState is what a node knows of itself: ACTIVE_SLAVE, waiting for the master or
// serving; MASTER; KILLED_SLAVE.
//
// Who was excluded because it was not heard is no KILLED_SLAVE: it begins a new life, is found
// again, and is let in by itself, if it was in before ever later (EntryDelay). KILLED_SLAVE is for
// an operator's order, diagnostics that failed and negotiation that failed: it stays until `resume`,
// also when that node begins anew.
//
// The flow in cluster/node does not run these tables. There only an operator kills a node, and the
// others have that in memory: it ends when all of them have been stopped.
//
// Source: seeds 004, figure 6 (SlaveView), figure 7 (OwnState), and the text to figures 4, 5, 8, 13
// and 17. There a heartbeat that fails kills the node until somebody comes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"

namespace braid::cluster {

enum class NodeState : std::uint8_t {
    master,
    new_slave,
    diagnosed_slave,
    restarted_slave,
    failed_slave,
    nexus_slave,
    active_slave,
    killed_slave,
};
inline constexpr std::size_t node_states_count = 8;
/// "MASTER", "NEW_SLAVE", ...
std::string_view name_of(NodeState state);

/// Why it is in that state.
enum class NodeReason : std::uint8_t {
    none,
    starting_up,
    waiting_for_negotiations,
    negotiating,
    failed_diagnostics,
    timed_out_on_negotiations,
    changing_configuration,
    failed_communications_test,  // it is not heard, or a test of a path failed
    completed_startup,
    rebuilding,
    configuration_mismatch,  // what it should take does not fit what it sees
    cannot_store,            // what it should take could not be written
    ordered,                 // by an operator
    stopped,                 // it left in order
};
inline constexpr std::size_t node_reasons_count = 14;
/// "Starting_Up", ...; of none: "".
std::string_view name_of(NodeReason reason);

struct NodeStanding {
    NodeState state{NodeState::new_slave};
    NodeReason reason{NodeReason::waiting_for_negotiations};
    bool operator==(const NodeStanding&) const = default;
    std::string text() const;  // "FAILED_SLAVE (Failed_Diagnostics)"
};

/// What happens to a node, as its master sees it.
enum class SlaveEvent : std::uint8_t {
    found,  // in a life that was not known: a new node, or it began again
    diagnosed,
    diagnosis_failed,
    negotiated,  // it has adopted: answer "same" to what it was to store
    changed,     // it stored, and begins again: answer "changed"
    mismatched,  // answer "mismatch"
    not_stored,  // answer "cannot store"
    timed_out,   // no answer to prepare, store or adopt
    not_heard,   // for L, or a path failed its test
    killed,      // an operator's order
    resumed,     // an operator's order
    left,        // in order
    rebuild_began,
    rebuild_ended,
};
inline constexpr std::size_t slave_events_count = 14;

/// The master's word on another node. At first: NEW_SLAVE, waiting for negotiations.
class SlaveView {
  public:
    const NodeStanding& standing() const { return standing_; }
    /// Refused: it cannot be in this state; nothing changes. The text says why, for people.
    Checked<NodeStanding> take(SlaveEvent event);

  private:
    NodeStanding standing_;
};

/// What happens to a node, as it sees itself.
enum class OwnEvent : std::uint8_t {
    asked_to_prepare,  // by another node
    became_master,     // a configuration that it proposed is in force
    follows,           // a configuration that another one proposed is in force here
    changed,           // it stored what is new to it, and begins again with it
    began_again,       // with what it stored
    mismatched,        // what it should store does not fit what it sees
    not_stored,        // could not be written
    timed_out,         // a master is heard, and has not negotiated for too long
    diagnosis_failed,  // so the master says
    excluded,          // a fence without it: a new life begins
    killed,            // an operator's order
    resumed,           // an operator's order
    rebuild_began,
    rebuild_ended,
};
inline constexpr std::size_t own_events_count = 14;

/// A node's word on itself. At first: ACTIVE_SLAVE, starting up.
class OwnState {
  public:
    /// A node that was killed is that after a restart, too.
    explicit OwnState(NodeStanding standing = {NodeState::active_slave, NodeReason::starting_up});

    const NodeStanding& standing() const { return standing_; }
    /// Refused: as SlaveView::take().
    Checked<NodeStanding> take(OwnEvent event);
    /// Clients' requests are refused until `resume`.
    bool is_killed() const { return standing_.state == NodeState::killed_slave; }

  private:
    NodeStanding standing_;
};

/// When a node that went may be let in again: at once the first time, then after a delay that is
/// doubled each time, up to entry_delay_max. Times are the master's.
inline constexpr Nanos entry_delay_min = seconds(2);
inline constexpr Nanos entry_delay_max = seconds(300);
inline constexpr Nanos entry_steady = seconds(600);  // in nexus for so long: it counts from 0 again

class EntryDelay {
  public:
    void entered(Nanos now);
    /// It went, and had not left in order. Of a node that had not entered since nothing follows.
    void went(Nanos now);
    Nanos lets_in_at() const { return lets_in_at_; }
    bool lets_in(Nanos now) const { return now >= lets_in_at_; }

  private:
    bool is_in_{false};
    Nanos entered_{};
    std::uint32_t times_{0};
    Nanos lets_in_at_{};
};

}  // namespace braid::cluster
