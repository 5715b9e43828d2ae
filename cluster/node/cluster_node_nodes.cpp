// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: which nodes there are, while the array is served. An operator changes the cluster's file on
// every node, and then orders what has changed there. Nothing but the files keeps it: the array knows of
// members and their homes only.
//
// The one who decides asks all that serve to know these nodes (ASK "nodes", all of them): whether their own
// files, read anew, agree, and when all do, to go by it. Both may be repeated, and whoever lets a node in
// asks it first, of that one, too: so what was ordered of one who has gone since is the same everywhere
// before it matters, and who comes with a file that has one node more takes that for none.
//
// A node that was added is left out, as one that the array was started without, and is let in like that.
// Only one that is left out is removed. Its number as a home stays its own, and so does its id, as long as
// a server runs that knew it. What is told of an unknown node that is out is passed over; an unknown node
// never serves.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/node_array.h"

namespace braid::cluster {
namespace {

std::string listed(const std::set<std::uint32_t>& nodes) {
    std::string all;
    for (const std::uint32_t node : nodes)
        all += fmt::format("{}{}", all.empty() ? "" : ", ", node);
    return all;
}

Refusal conflict(std::string text) { return {std::move(text), RefusalCode::conflict}; }

/// What a file that was read anew has to say for a cluster of `nodes`, of which `before` were known.
Checked<Unit> check_file(const ClusterConfig& file, const std::string& name,
                         const std::set<std::uint32_t>& nodes,
                         const std::set<std::uint32_t>& before) {
    if (file.name != name) {
        return conflict(
            fmt::format("its cluster's file is that of cluster \"{}\" now, and it is in "
                        "cluster \"{}\"",
                        file.name, name));
    }
    for (const std::uint32_t node : nodes) {
        if (file.find(node) != nullptr) continue;
        return conflict(fmt::format("its cluster's file has no node {}: add it there first", node));
    }
    for (const std::uint32_t node : before) {
        if (nodes.contains(node) || file.find(node) == nullptr) continue;
        return conflict(
            fmt::format("its cluster's file still has node {}: take it out there first", node));
    }
    return Unit{};
}

}  // namespace

std::set<std::uint32_t> ClusterNode::known_nodes() const {
    std::set<std::uint32_t> nodes;
    for (const NodePlan& node : setup_.config.nodes) nodes.insert(node.id);
    return nodes;
}

bool ClusterNode::is_known(std::uint32_t node) const { return setup_.config.find(node) != nullptr; }

// ---- orders ------------------------------------------------------------------------------------

/// At any node.
Task<Checked<Unit>> ClusterNode::add_node(std::uint32_t node) {
    if (is_master()) co_return co_await carry_out_add(node);
    co_return co_await pass_on_order("add_node", node);
}

Task<Checked<Unit>> ClusterNode::remove_node(std::uint32_t node) {
    if (node == setup_.self) {
        co_return conflict(fmt::format(
            "node {} is the one that was asked: order it at another one, which stays", node));
    }
    if (is_master()) co_return co_await carry_out_remove(node);
    co_return co_await pass_on_order("remove_node", node);
}

/// Who is just let in would be told of other nodes than there are then.
Checked<Unit> ClusterNode::may_change_nodes() const {
    BRAID_CHECK(may_begin_order());
    const bool is_quiet = !forms_fence_ && !joining_ && !lets_in_ && !return_ && !leaving_node_;
    if (is_quiet && excluded_.empty()) return Unit{};
    return Refusal{"nodes are just agreeing on who serves; try again in a moment",
                   RefusalCode::busy};
}

Checked<Unit> ClusterNode::may_add(std::uint32_t node) const {
    BRAID_CHECK(may_change_nodes());
    if (!is_known(node) || left_out_.contains(node)) return Unit{};
    return conflict(fmt::format("node {} is one of the cluster's, and serves", node));
}

/// On the one who decides. A second time, until it serves: for those who do not know it yet.
Task<Checked<Unit>> ClusterNode::carry_out_add(std::uint32_t node) {
    const auto may = [this, node] { return may_add(node); };
    BRAID_CO_CHECK(co_await wait_until_quiet_for(may));
    BRAID_CO_CHECK(may());  // in one turn with what follows
    changes_nodes_ = true;
    std::set<std::uint32_t> nodes = known_nodes();
    const bool is_new = nodes.insert(node).second;
    Checked<Unit> done = co_await have_known(nodes, Know::if_asked, {});
    if (done) done = co_await have_known(nodes, Know::from_now_on, {});
    changes_nodes_ = false;
    if (done && is_new) {
        log(Severity::info,
            fmt::format("{} was added by an operator: it is let in when it comes", name_of(node)));
    }
    co_return done;
}

Checked<Unit> ClusterNode::may_remove(std::uint32_t node) const {
    BRAID_CHECK(may_change_nodes());
    return is_known(node) ? may_take_out(node) : Checked<Unit>{Unit{}};
}

/// Of one that is not known here some others may know still, and do not any more then.
Task<Checked<Unit>> ClusterNode::carry_out_remove(std::uint32_t node) {
    const auto may = [this, node] { return may_remove(node); };
    BRAID_CO_CHECK(co_await wait_until_quiet_for(may));
    BRAID_CO_CHECK(may());  // in one turn with what follows
    changes_nodes_ = true;
    const Checked<Unit> is_one = check_node(node);
    std::set<std::uint32_t> nodes = known_nodes();
    nodes.erase(node);
    Checked<Unit> done = co_await have_known(nodes, Know::if_asked, {});
    // From now on it is not let in, whatever comes.
    if (done && is_known(node) && killed_.insert(node).second) tell_killed();
    if (done) done = co_await have_known(nodes, Know::from_now_on, {});
    changes_nodes_ = false;
    BRAID_CO_CHECK(done);
    if (is_one) log(Severity::warning, fmt::format("{} was removed by an operator", name_of(node)));
    co_return is_one;
}

/// What passes by itself in a moment, as who serves is agreed on, is waited for.
Task<Checked<Unit>> ClusterNode::wait_until_quiet_for(std::function<Checked<Unit>()> order) {
    const Nanos until{setup_.clock.now().value + patience.value};
    for (;;) {
        const Checked<Unit> may = order();
        const bool passes = !may && may.error().code == RefusalCode::busy;
        if (!passes || setup_.clock.now() >= until || !goes_on()) co_return may;
        Pause until_it_is_tried_again(pauses_, walk_pause);
        co_await until_it_is_tried_again;
    }
}

/// What is at the node would be left behind.
Checked<Unit> ClusterNode::may_take_out(std::uint32_t node) const {
    std::set<std::uint32_t> roles;
    for (const MemberRecord& at : array_->inner().configuration().members) {
        if (at.home != node) continue;
        if (at.state == MemberState::witness) {
            return conflict(fmt::format("the witness is at node {}, and cannot be moved", node));
        }
        if (!at.role) {
            return conflict(
                fmt::format("spare {} is at node {}: braid member remove takes it out of "
                            "the array, and --drain all of them",
                            at.path, node));
        }
        if (takes_part(at.state)) roles.insert(raw(*at.role));
    }
    if (!roles.empty()) {
        return conflict(
            fmt::format("node {} has members that take part ({}): braid node remove --drain {} has "
                        "spares at other nodes take their places first",
                        node, listed(roles), node));
    }
    if (!left_out_.contains(node)) {
        return conflict(
            fmt::format("node {} serves: have it leave first (braid node stop {})", node, node));
    }
    if (!retiring_.contains(node)) return Unit{};
    return Refusal{fmt::format("node {} has only just gone; try again in a moment", node),
                   RefusalCode::busy};
}

/// Who is asked to know which nodes there are, and what came of it. It stays until all have answered.
struct ClusterNode::Knowing {
    std::set<std::uint32_t> nodes;
    Know when{};
    std::vector<std::uint32_t> asked;
    std::optional<Checked<Unit>> done{};
    std::shared_ptr<Quiet> quiet{std::make_shared<Quiet>()};
};

/// All that serve, and one who is about to. Nobody waits for ever for one that does not answer, or for
/// its file.
Task<Checked<Unit>> ClusterNode::have_known(std::set<std::uint32_t> nodes, Know when,
                                            std::optional<std::uint32_t> joins) {
    const auto round = std::make_shared<Knowing>();
    round->nodes = std::move(nodes);
    round->when = when;
    round->asked = fellows();
    if (joins) round->asked.push_back(*joins);
    for (const std::uint32_t node : round->asked) {
        if (here_.contains(node)) continue;
        co_return Refusal{fmt::format("node {} is not connected just now", node),
                          RefusalCode::busy};
    }
    tasks_.spawn(ask_to_know(round));
    co_await wait_for(round->quiet, patience);
    if (round->done) co_return *round->done;
    co_return Refusal{fmt::format("not all nodes have answered in {} s; the same order again sees "
                                  "to the rest",
                                  patience.value / 1'000'000'000),
                      RefusalCode::busy};
}

Task<void> ClusterNode::ask_to_know(std::shared_ptr<Knowing> round) {
    Words words = asking(fence_words::nodes);
    words["nodes"] = round->nodes;
    words["look"] = round->when == Know::if_asked;
    auto asked = talk_.ask_all(round->asked, words);
    const Checked<Unit> here = co_await know_nodes(setup_.self, round->nodes, round->when);
    const std::vector<Checked<Words>> told = co_await asked;
    const auto refused = [](std::string who, const Refusal& why) {
        return Refusal{std::move(who) + ": " + why.text, why.code};
    };
    round->done = Unit{};
    for (std::size_t i = 0; i != told.size(); ++i) {
        if (!told[i]) round->done = refused(name_of(round->asked[i]), told[i].error());
    }
    if (!here) round->done = refused(name_of(setup_.self), here.error());
    round->quiet->end();
}

// ---- at each node ------------------------------------------------------------------------------

/// ASK "nodes".
Task<Checked<Words>> ClusterNode::asked_to_know(std::uint32_t by, const Words& words) {
    WordFields fields(words);
    BRAID_CO_TRY(const std::set<std::uint32_t> nodes, nodes_in(fields, "nodes"));
    const Know when = fields.flag("look") ? Know::if_asked : Know::from_now_on;
    if (!nodes.contains(setup_.self)) fields.is_wrong("nodes", "with this one");
    BRAID_CO_CHECK(fields.check());
    BRAID_CO_CHECK(co_await know_nodes(by, nodes, when));
    co_return Words::object();
}

/// @param by  who decides
Task<Checked<Unit>> ClusterNode::know_nodes(std::uint32_t by, std::set<std::uint32_t> nodes,
                                            Know when) {
    if (nodes == known_nodes()) co_return Unit{};
    if (!setup_.read_config) co_return conflict("it has no file to read that from");
    if (std::exchange(reads_file_, true)) {
        co_return Refusal{"its cluster's file is just being read", RefusalCode::busy};
    }
    const Checked<ClusterConfig> file = co_await setup_.read_config();
    reads_file_ = false;
    BRAID_CO_CHECK(file);
    if (!rows_) co_return know_before_array(nodes, *file);
    BRAID_CO_CHECK(may_know(by, nodes, *file));
    if (when == Know::if_asked) co_return Unit{};
    const std::set<std::uint32_t> known = known_nodes();
    for (const std::uint32_t node : known) {
        if (!nodes.contains(node)) drop_node(node);
    }
    for (const std::uint32_t node : nodes) {
        if (!known.contains(node)) take_node(*file->find(node));
    }
    co_return Unit{};
}

Checked<Unit> ClusterNode::may_know(std::uint32_t by, const std::set<std::uint32_t>& nodes,
                                    const ClusterConfig& file) const {
    if (by != master_) return Refusal{"another node decides by now", RefusalCode::busy};
    if (!serves_ || !goes_on()) {
        return Refusal{"the array is just starting, or ending", RefusalCode::busy};
    }
    for (const std::uint32_t node : nodes) {
        if (is_known(node) || !removed_.contains(node)) continue;
        return conflict(fmt::format(
            "node {} was removed while this server ran: give the new one another id, or "
            "start all servers anew before, one after the other",
            node));
    }
    BRAID_CHECK(check_file(file, setup_.config.name, nodes, known_nodes()));
    for (const std::uint32_t node : known_nodes()) {
        if (nodes.contains(node) || left_out_.contains(node)) continue;
        return conflict(fmt::format("node {} still serves, as far as it knows", node));
    }
    return Unit{};
}

/// This one waits to be let in among these. Its file may be a newer one than it has begun with.
Checked<Unit> ClusterNode::know_before_array(const std::set<std::uint32_t>& nodes,
                                             const ClusterConfig& file) {
    BRAID_CHECK(check_file(file, setup_.config.name, nodes, {}));
    for (const std::uint32_t node : known_nodes()) {
        if (nodes.contains(node)) continue;
        log(Severity::warning,
            fmt::format(
                "{} is in this node's file of the cluster, and none of the cluster's: braid "
                "node add {} makes it one, or take it out of the file",
                name_of(node), node));
        forget_plan(node);
    }
    for (const std::uint32_t node : nodes) {
        if (!is_known(node)) add_plan(*file.find(node));
    }
    return Unit{};
}

/// While it waits for the start: its file may have that one by now, as those of the others that have been
/// started since.
void ClusterNode::unknown_came(std::uint32_t) {
    if (!rows_ && !opening_ && !cancelled_ && setup_.read_config) {
        tasks_.spawn(look_at_file_again());
    }
}

Task<void> ClusterNode::look_at_file_again() {
    if (std::exchange(reads_file_, true)) co_return;
    const Checked<ClusterConfig> file = co_await setup_.read_config();
    reads_file_ = false;
    const bool is_over = rows_ || opening_ || cancelled_ || stopping_;
    if (!file || is_over || file->name != setup_.config.name || !file->find(setup_.self)) co_return;
    bool is_new = false;
    for (const NodePlan& plan : file->nodes) {
        if (is_known(plan.id) || bus_->is_dropped(plan.id)) continue;
        is_new = true;
        add_plan(plan);
        log(Severity::info, fmt::format("{} is in the cluster's file by now: it is waited for, too",
                                        name_of(plan.id)));
    }
    if (is_new && left_out_.empty()) lead_by_id();
}

void ClusterNode::add_plan(const NodePlan& plan) {
    std::vector<NodePlan>& nodes = setup_.config.nodes;
    nodes.insert(std::ranges::upper_bound(nodes, plan.id, {}, &NodePlan::id), plan);
    changed_at_[plan.id] = setup_.clock.wall_seconds();
    bus_->add({plan.id, plan.addresses});
}

/// At a start.
Refusal ClusterNode::unlike_nodes(std::uint32_t node, const std::set<std::uint32_t>& theirs) const {
    return conflict(
        fmt::format("the cluster's file of {} has nodes {}, and that of {} has {}: make "
                    "them alike, and start their servers anew",
                    name_of(node), listed(theirs), name_of(setup_.self), listed(known_nodes())));
}

/// It may come from now on. Until it does the array goes on without it, as where it was started so.
void ClusterNode::take_node(const NodePlan& plan) {
    const std::uint32_t node = plan.id;
    BRAID_REQUIRE(rows_ != nullptr && !is_known(node));
    BRAID_REQUIRE(std::ranges::find(home_ids_, node) == home_ids_.end());
    left_out_.emplace(node, never_here);
    boots_[node] = never_here;
    why_out_[node] = "was added, and has not come yet";
    add_plan(plan);
    home_ids_.push_back(node);
    rows_->homes->add_home(
        rows_->remotes.emplace_back(bus_->session(node), rows_->geometry, fence_));
    reservations_->add_node(node);
    told_status_.clear();
    log(Severity::info, fmt::format("{} is one of the cluster's from now on", name_of(node)));
}

/// It is left out: nothing of it is waited for. Its last start stays known, for what comes late.
void ClusterNode::drop_node(std::uint32_t node) {
    BRAID_REQUIRE(left_out_.contains(node) && node != setup_.self);
    forget_plan(node);
    removed_.insert(node);
    const auto home = static_cast<std::uint32_t>(index_of(node));
    for (std::uint32_t i = 0; i != rows_->geometry.member_count; ++i) {
        const MemberIndex member{i};
        if (rows_->homes->home_of(member) == home) rows_->homes->forget_home(member);
    }
    left_out_.erase(node);
    why_out_.erase(node);
    killed_.erase(node);
    began_anew_.erase(node);
    has_stopped_.erase(node);
    left_.erase(node);
    flaps_.erase(node);
    suspicions_.erase(node);
    told_of_.erase(node);
    away_since_.erase(node);
    changed_at_.erase(node);
    std::erase_if(hindrances_, [node](const auto& one) { return one.first.node == node; });
    told_status_.clear();
    log(Severity::info, fmt::format("{} is none of the cluster's any more", name_of(node)));
}

void ClusterNode::forget_plan(std::uint32_t node) {
    std::erase_if(setup_.config.nodes, [node](const NodePlan& plan) { return plan.id == node; });
    if (const auto at = watching_.find(node); at != watching_.end()) at->second->cancel();
    bus_->drop(node);
    here_.erase(node);
    here_changed_.set();
}

}  // namespace braid::cluster
