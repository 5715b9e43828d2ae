// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: operators take a node out of service, and let it in again. (One that is to come back by
// itself leaves in order: cluster_node_leave.cpp.) The one who decides carries it out, and all others
// know of it, for the one who comes to decide after him. A node that was killed is not let in, however often its server is started, until it is resumed.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"

namespace braid::cluster {
namespace {

constexpr const char* by_an_operator = "was killed by an operator";

}  // namespace

Checked<Unit> ClusterNode::check_node(std::uint32_t node) const {
    if (setup_.config.find(node) != nullptr) return Unit{};
    std::string all;
    for (const NodePlan& one : setup_.config.nodes) {
        all += fmt::format("{}{}", all.empty() ? "" : ", ", one.id);
    }
    return Refusal{fmt::format("there is no node {}; the cluster has {}", node, all),
                   RefusalCode::not_found};
}

Checked<Unit> ClusterNode::check_not_needed(std::uint32_t node) const {
    if (can_do_without({node})) return Unit{};
    return Refusal{
        fmt::format("the array cannot go on without node {}: its members are needed, with "
                    "those that are lost already. Rebuild those first, or stop the array",
                    node),
        RefusalCode::conflict};
}

Checked<Unit> ClusterNode::check_not_alone(std::uint32_t node) const {
    if (!fellows().empty()) return Unit{};
    return Refusal{fmt::format("node {} is the only one that serves; stop its server", node),
                   RefusalCode::conflict};
}

/// At any node.
Task<Checked<Unit>> ClusterNode::order_node(NodeOrder what, std::uint32_t node) {
    switch (what) {
        case NodeOrder::kill:
            return kill_node(node);
        case NodeOrder::resume:
            return resume_node(node);
        case NodeOrder::stop:
            return stop_node(node);
        case NodeOrder::add:
            return add_node(node);
        case NodeOrder::remove:
            return remove_node(node);
    }
    BRAID_REQUIRE(false && "an order");
    return resume_node(node);
}

Task<Checked<Unit>> ClusterNode::kill_node(std::uint32_t node) {
    BRAID_CO_CHECK(check_node(node));
    if (node == setup_.self) {
        co_return Refusal{
            fmt::format(
                "node {} is the one that was asked: kill it from another one, have it leave "
                "(braid node stop), or stop the array by stopping its server",
                node),
            RefusalCode::conflict};
    }
    if (is_master()) co_return co_await carry_out_kill(node);
    co_return co_await pass_on_order("kill", node);
}

Task<Checked<Unit>> ClusterNode::resume_node(std::uint32_t node) {
    BRAID_CO_CHECK(check_node(node));
    if (is_master()) co_return carry_out_resume(node);
    co_return co_await pass_on_order("resume", node);
}

Task<Checked<Unit>> ClusterNode::pass_on_order(const char* what, std::uint32_t node) {
    Words words = asking("order");
    words["order"] = what;
    words["node"] = node;
    BRAID_CO_TRY(const Words answer, co_await talk_.ask(master_, words));
    co_return Unit{};
}

/// On the one who decides; of himself, too.
Task<Checked<Unit>> ClusterNode::carry_out_kill(std::uint32_t node) {
    BRAID_CO_CHECK(may_begin_order());
    if (killed_.contains(node)) {
        co_return Refusal{
            fmt::format("node {} has been killed already; braid node resume {} lets it "
                        "in again",
                        node, node),
            RefusalCode::conflict};
    }
    const bool is_out = left_out_.contains(node);
    if (node == setup_.self) BRAID_CO_CHECK(check_not_alone(node));
    if (!is_out) BRAID_CO_CHECK(check_not_needed(node));
    killed_.insert(node);
    tell_killed();
    log(Severity::warning, fmt::format("{} {}", name_of(node), by_an_operator));
    if (is_out) co_return Unit{};
    if (node == setup_.self) {
        tasks_.spawn(die_by_order());
        co_return Unit{};
    }
    // Who has answered serves nobody any more: there is no lease to wait for.
    const auto answered = std::make_shared<Quiet>();
    tasks_.spawn(tell_to_die({node, boots_.at(node)}, answered));
    co_await wait_for(answered, lease_length_);
    BRAID_CO_CHECK(may_order_nodes());
    lose_node(node, by_an_operator);
    while (excluded_.contains(node) && goes_on()) co_await fence_changed_.next();
    if (goes_on()) co_return Unit{};
    co_return Refusal{"the array has stopped meanwhile", RefusalCode::stopping};
}

/// Who decides leaves when all others know that he was killed. One of them comes to decide.
Task<void> ClusterNode::die_by_order() {
    (void)co_await told_nodes_->adopted();  // or who does not answer is gone
    if (!goes_on()) co_return;
    gone(setup_.self, by_an_operator, Cut::later, Stops::here);
    tasks_.spawn(end_soon(NodeEnds::excluded));
}

/// It need not wait until it hears that the others went on.
Task<void> ClusterNode::tell_to_die(NodeBoot node, std::shared_ptr<Quiet> answered) {
    Kill kill;
    kill.boot = node.boot;
    kill.why = "an operator has killed it";
    const Words words = words_of(kill);
    const Checked<Words> answer = co_await talk_.ask(node.node, words);
    // Else it hears it otherwise.
    if (answer && boots_.at(node.node) == node.boot) has_stopped_.insert(node.node);
    answered->end();
}

/// Not beside a change of which nodes there are.
Checked<Unit> ClusterNode::may_begin_order() const {
    if (!changes_nodes_) return may_order_nodes();
    return Refusal{"nodes are just being added or removed; try again in a moment",
                   RefusalCode::busy};
}

Checked<Unit> ClusterNode::may_order_nodes() const {
    if (goes_on() && serves_ && array_ != nullptr && told_nodes_) return Unit{};
    return Refusal{"the array is just starting, or ending, or another node comes to decide",
                   RefusalCode::busy};
}

Checked<Unit> ClusterNode::carry_out_resume(std::uint32_t node) {
    BRAID_CHECK(may_begin_order());
    if (killed_.erase(node) == 0) {
        return Refusal{fmt::format("node {} was not killed{}", node,
                                   left_out_.contains(node)
                                       ? ": it is let in as soon as its server is started anew"
                                       : ""),
                       RefusalCode::conflict};
    }
    tell_killed();
    log(Severity::info, fmt::format("{} may be let in again, says an operator", name_of(node)));
    return Unit{};
}

Words ClusterNode::words_of_killed() const {
    Words words = telling("killed");
    words["nodes"] = killed_;
    return words;
}

void ClusterNode::tell_killed() { told_nodes_->tell_all(words_of_killed()); }

Checked<Unit> ClusterNode::told_killed(const Words& words) {
    WordFields fields(words);
    BRAID_TRY(killed_, nodes_in(fields, "nodes"));
    std::erase_if(killed_, [this](std::uint32_t node) { return !is_known(node); });
    return Unit{};
}

}  // namespace braid::cluster
