// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: who is heard, and who is not any more.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/served_array.h"
#include "engine/base/limits.h"

namespace braid::cluster {

/// Nobody has watched a connection to it that broke before.
void ClusterNode::watch_if_away(std::uint32_t node) {
    if (here_.contains(node)) return;
    away_since_[node] = setup_.clock.now();
    tasks_.spawn(watch(node));
}

/// While it serves: who was heard and is not any more; that is all others' for the one who decides, and
/// he for them. A turn that comes late says nothing: this node itself has slept, and what others sent
/// lies there.
Task<void> ClusterNode::watch_links() {
    serves_since_ = setup_.clock.stamp();
    Nanos trusted = setup_.clock.stamp();  // what is not heard before that says nothing
    std::optional<Nanos> stands;           // the array, since then: too few are heard
    std::optional<Nanos> asked;            // then, whether others are heard beside
    std::set<std::uint32_t> asked_about;   // those that are silent
    while (!stopping_ && !ended_ && gone_.empty()) {
        const Nanos interval{heartbeat_interval().value / (asked ? 6 : 1)};
        const Nanos due{setup_.clock.stamp().value + interval.value};
        Pause pause(pauses_, interval);
        co_await pause;
        if (stopping_ || ended_) break;
        end_those_who_are_late();
        if (is_master()) look_who_waits();
        if (!is_master() && end_if_nobody_decides()) break;
        // All of them, or none: else it is this node that is cut off, perhaps, and network trouble
        // that passes is nobody's fault. Each beats in its own time: who is about to be silent counts,
        // and when it is over not all are heard at once.
        const Nanos now = setup_.clock.stamp();
        const bool is_late = now.value > due.value + heartbeat_interval().value;
        const auto suspects = silent_nodes(about_to_be_silent());
        const bool counts = is_master() || suspects.contains(master_);
        const bool waits = counts && !suspects.empty() && !ending_ && !can_do_without(suspects);
        if (!waits) stands.reset();
        if (waits && !stands) stands = now;
        if (is_late || waits) trusted = Nanos{now.value + lease_length_.value};
        if (waits && now.value - stands->value > lease_length_.value) {
            trusted = Nanos{now.value + std::max(lease_length_, all_come_back).value};
        }
        const std::set<std::uint32_t> silent = silent_nodes(lease_length_);
        if (now < trusted || !is_master()) {
            asked.reset();
            if (now >= trusted) look_at_master(silent);
            continue;
        }
        // How old echoes are differs by more than two intervals where a node was late: those that are cut
        // off from this one at one time are not silent for equally long. So others have to answer
        // now: if they do not either, it is this node that hears nobody.
        if (silent.empty()) asked.reset();
        if (!silent.empty() && !(asked && silent == asked_about)) {
            asked = now;
            asked_about = silent;
            bus_->beat_now();
        }
        if (!asked || !is_heard_beside(silent, *asked)) continue;
        asked.reset();
        for (const std::uint32_t node : silent) {
            lose_node(node,
                      fmt::format("has not answered for {} ms", lease_length_.value / 1'000'000));
        }
    }
}

/// All that are cut off at one time are silent for so long when the first of them is so for the length
/// of a lease; and nobody is who is well: a stamp comes back within two intervals, and a little.
Nanos ClusterNode::about_to_be_silent() const {
    const std::uint64_t interval = heartbeat_interval().value;
    const std::uint64_t length = lease_length_.value;
    return {std::min(
        length, std::max(2 * interval + interval / 2, length - std::min(length, 2 * interval)))};
}

/// A stamp that went out since `then` has come back from somebody else, or there is nobody else.
bool ClusterNode::is_heard_beside(const std::set<std::uint32_t>& silent, Nanos then) const {
    bool is_alone = true;
    for (const std::uint32_t node : fellows()) {
        if (silent.contains(node)) continue;
        is_alone = false;
        const std::optional<Nanos> since = bus_->heartbeats().answered_since(node);
        if (since && since->value + then.value <= setup_.clock.stamp().value) return true;
    }
    return is_alone;
}

/// This node's stamps have not come back from them for so long, or since it serves.
std::set<std::uint32_t> ClusterNode::silent_nodes(Nanos time) const {
    std::set<std::uint32_t> silent;
    for (const std::uint32_t node : fellows()) {
        const Nanos served{setup_.clock.stamp().value - serves_since_.value};
        const Nanos since = bus_->heartbeats().answered_since(node).value_or(served);
        if (since >= time) silent.insert(node);
    }
    return silent;
}

/// A slave cannot reach another one, which the master may hear.
Checked<Unit> ClusterNode::told_unreachable(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::uint32_t node = fields.number32("node", nodes_max - 1);
    if (node == setup_.self || node == from) fields.is_wrong("node", "another one's");
    BRAID_CHECK(fields.check());
    if (!is_known(node) || left_out_.contains(from) || left_out_.contains(node) || !serves_)
        return Unit{};
    // It is away for all: that is seen here, too.
    if (!here_.contains(node) || silent_nodes(lease_length_).contains(node)) return Unit{};
    // It was, and others have yet to connect to it as well: who cannot says so again.
    const Nanos now = setup_.clock.now();
    const auto is_just_back = [&](std::uint32_t one) {
        const auto since = here_since_.find(one);
        return since != here_since_.end() && now.value - since->second.value < all_come_back.value;
    };
    if (is_just_back(node) || is_just_back(from)) return Unit{};
    std::uint32_t leaves = raw(who_leaves(group_view(), NodeId{from}, NodeId{node}));
    std::uint32_t stays = from + node - leaves;
    if (!can_do_without({leaves}) && can_do_without({stays})) std::swap(leaves, stays);
    const std::string why = fmt::format("and {} do not reach each other", name_of(stays));
    if (!waits_for({leaves})) {
        lose_node(leaves, why);
    } else if (std::string& told = suspicions_[leaves]; std::exchange(told, why) != why) {
        log(Severity::error,
            fmt::format("{} {}: the array waits for them, and goes on by itself when they do",
                        name_of(leaves), why));
    }
    return Unit{};
}

/// Of those that serve, by what each says last of whom it hears.
GroupView ClusterNode::group_view() const {
    MemberSet in_sync;
    for (const MemberIndex member : serving_->members().taking_part()) {
        if (serving_->members().slot(member).state == MemberState::in_sync) in_sync.add(member);
    }
    const auto view_of = [&](std::uint32_t node, std::uint32_t hears) {
        return GroupNode{.hears = NodeSet{hears},
                         .in_sync = members_of(node) & in_sync,
                         .witness = witness_node_ == node};
    };
    GroupView view;
    view.self = NodeId{setup_.self};
    view.master = NodeId{master_};
    view.quorum = serving_->members().quorum();
    view.nodes[view.self] = view_of(setup_.self, bus_->heartbeats().hears());
    for (const std::uint32_t node : fellows()) {
        view.nodes[NodeId{node}] = view_of(node, bus_->heartbeats().hears(node));
    }
    return view;
}

}  // namespace braid::cluster
