// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: what nodes tell each other to be shown by any of them.
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/served_array.h"
#include "cluster/node/told_status.h"
#include "engine/base/json_text.h"

namespace braid::cluster {

/// Of an array that this node decides about.
ArrayOptions ClusterNode::options_of_deciding() {
    ArrayOptions options = setup_.array;
    options.nodes = this;
    if (!left_out_.empty()) options.home_of = [this](const Disk& disk) { return home_of(disk); };
    options.on_event = [this](const ArrayEvent& event) {
        if (setup_.array.on_event) setup_.array.on_event(event);
        tell_event(event);
    };
    return options;
}

/// Others show it as well, once they have an array.
void ClusterNode::tell_event(const ArrayEvent& event) {
    if (!told_nodes_ || ended_) return;
    const char* const word = word_of_event(event.kind, rebuilt_);
    if (word == node_words::rebuild_completed) rebuilt_ = true;
    if (word == node_words::rebuilt_all) rebuilt_ = false;
    told_nodes_->tell_all({{"tell", word},
                           {"severity", static_cast<int>(event.severity)},
                           {"kind", event.kind},
                           {"text", event.text}});
}

NodeStatus ClusterNode::own_status(const Counters& counters) const {
    NodeStatus status;
    status.id = setup_.self;
    status.decides = is_master();
    status.is_self = true;
    status.needed = is_needed(setup_.self);
    status.locks_held = rows_->homes->locks_held();
    status.locks_waiting = rows_->homes->counts().locks_waiting;
    status.locks_handed_over = rows_->home.handed_over();
    status.writes = counters.jobs;
    status.strips_staged = rows_->home.staged();
    status.rounds = counters.rounds;
    status.messages = rows_->homes->messages();
    for (const std::uint32_t node : others()) {
        status.bytes_sent += bus_->session(node).counts().bytes_sent;
    }
    return status;
}

std::vector<NodeStatus> ClusterNode::node_statuses(const Counters& counters) const {
    std::vector<NodeStatus> all;
    for (const NodePlan& node : setup_.config.nodes) {
        const auto told = told_of_.find(node.id);
        if (node.id == setup_.self) {
            all.push_back(own_status(counters));
        } else if (left_out_.contains(node.id)) {
            all.emplace_back().id = node.id;
            all.back().excluded = true;
            all.back().killed = killed_.contains(node.id);
            const auto why = why_out_.find(node.id);
            if (why != why_out_.end()) all.back().why = why->second;
            if (why == why_out_.end() && told != told_of_.end()) all.back().why = told->second.why;
        } else if (told != told_of_.end()) {
            all.push_back(told->second);
            all.back().decides = node.id == master_;
            all.back().needed = is_needed(node.id);
            all.back().channels = bus_->heartbeats().status(node.id);
            all.back().why = here_.contains(node.id) ? "" : "cannot be reached: it is waited for";
        }
    }
    return all;
}

ClusterStatus ClusterNode::cluster_status() const {
    ClusterStatus status;
    status.name = setup_.config.name;
    status.decides = master_;
    status.why_decides = why_master_;
    status.fence = fence_.epoch;
    status.needs_lease = !needs_no_lease_;
    const Nanos now = setup_.clock.stamp();
    if (now < lease_until_) status.lease = Nanos{lease_until_.value - now.value};
    return status;
}

/// The one who decides tells all: what is in doubt counts, too.
bool ClusterNode::is_needed(std::uint32_t node) const {
    if (is_master()) return goes_on() && array_ != nullptr && !can_do_without({node});
    const auto told = told_of_.find(node);
    return told != told_of_.end() && told->second.needed;
}

/// To the one who decides, who tells all.
void ClusterNode::tell_node() {
    if (!here_.contains(master_))
        return told_status_.clear();  // what waits to be sent takes memory
    const NodeStatus now = own_status(serving_->counters());
    const Words words = cluster::words_of(now);
    if (std::string text = words.dump(); text != told_status_) {
        told_status_ = std::move(text);
        talk_.tell(master_, words);
    }
}

/// If it has changed.
void ClusterNode::tell_status() {
    const ArrayStatus now = array_->status();
    const Words words = cluster::words_of(
        ToldStatus{now.configuration.version, now.walks, now.last_scrub, now.waits, now.nodes});
    if (std::string text = one_line(words); text != told_status_) {
        told_status_ = std::move(text);
        told_nodes_->tell_all(words);
    }
}

/// A walk pauses for the clients of all nodes: the one that decides is told how long theirs wait.
Task<void> ClusterNode::tell_latency_now_and_then() {
    while (!stopping_ && !ended_) {
        const bool tells = !is_master() && served_->is_walked() && here_.contains(master_);
        if (!is_master()) {
            const LatencySample sample = serving_->latency().take();
            if (tells && sample.count != 0) {
                talk_.tell(master_, {{"tell", "latency"},
                                     {"count", sample.count},
                                     {"squares", std::min(sample.squares, latency_told_max)}});
            }
        }
        Pause pause(pauses_, tells ? latency_pause : walk_pause);
        co_await pause;
    }
}

/// Of a walk at once that has begun: it hears from nobody else how long clients wait.
Task<void> ClusterNode::tell_status_now_and_then() {
    bool walked = false;
    Nanos due{};
    while (!stopping_ && !ended_) {
        const bool walks = is_master() && serving_->walking().has_value();
        const bool begins = walks && !walked;
        walked = walks;
        const Nanos now = setup_.clock.now();
        const bool is_due = now >= due;
        if (is_due) due = {now.value + status_pause.value};
        if (!is_master() && is_due) tell_node();
        // Else it is just coming to decide.
        if (is_master() && array_ != nullptr && (is_due || begins)) tell_status();
        Pause pause(pauses_, is_master() ? walk_pause : status_pause);
        co_await pause;
    }
}

}  // namespace braid::cluster
