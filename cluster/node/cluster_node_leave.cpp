// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: one node leaves in order, as before its host is started anew, and the others go on.
//
// The one who decides asks it (ASK "stop"). It begins nothing more that its clients ask: that waits.
// When all is over that had begun it looks once more whether the array can do without it, and from
// that turn on it serves nothing: what waits is refused, its home takes nothing, and it says so to all
// (TELL "left"). The one who decides excludes it as any other that is gone, but there is no lease to wait
// for. Until that turn nothing has happened: where requests do not end, or others agree anew on who
// serves, it goes on as before, and who waits is let go on. Nobody's death in between changes that.
//
// Where it is the one who decides he asks himself. Who stands then says that he has left, so that nobody
// gives no voice who has not heard it yet; and he stands at once.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/served_array.h"
#include "engine/base/mutation.h"

namespace braid::cluster {

/// At any node; of itself, too.
Task<Checked<Unit>> ClusterNode::stop_node(std::uint32_t node) {
    BRAID_CO_CHECK(check_node(node));
    if (is_master()) co_return co_await carry_out_stop(node);
    if (node != setup_.self) {
        Checked<Unit> done = co_await pass_on_order("stop", node);
        // Who was to answer has left: it was he.
        const bool is_cut = !done && done.error().code == RefusalCode::busy;
        if (is_cut && left_.contains(node)) done = Unit{};
        co_return done;
    }
    // The one who decides answers when the others go on, and by then nothing comes here any more.
    const auto ordered = std::make_shared<std::optional<Checked<Unit>>>();
    tasks_.spawn(order_own_stop(ordered));
    while (!left_here_ && !*ordered) co_await leave_changed_.next();
    if (left_here_) co_return Unit{};
    co_return **ordered;
}

Task<void> ClusterNode::order_own_stop(std::shared_ptr<std::optional<Checked<Unit>>> ordered) {
    Checked<Unit> done = co_await pass_on_order("stop", setup_.self);
    ordered->emplace(std::move(done));
    leave_changed_.set();
}

Checked<Unit> ClusterNode::may_stop(std::uint32_t node) const {
    BRAID_CHECK(may_begin_order());
    if (left_out_.contains(node)) {
        return Refusal{fmt::format("node {} is out already: stop its server", node),
                       RefusalCode::conflict};
    }
    BRAID_CHECK(check_not_alone(node));
    if (leaving_node_) {
        return Refusal{
            fmt::format("node {} is just leaving; try again in a moment", *leaving_node_),
            RefusalCode::busy};
    }
    return may_do_without(node);
}

/// As the one who decides sees it, or the node itself.
Checked<Unit> ClusterNode::may_do_without(std::uint32_t node) const {
    if (forms_fence_ || joining_ || !excluded_.empty()) {
        return Refusal{"nodes are just agreeing on who serves; try again in a moment",
                       RefusalCode::busy};
    }
    return check_not_needed(node);
}

/// On the one who decides; of himself, too.
Task<Checked<Unit>> ClusterNode::carry_out_stop(std::uint32_t node) {
    BRAID_CO_CHECK(may_stop(node));
    leaving_node_ = node;
    Checked<Unit> done = Unit{};
    if (node == setup_.self) {
        done = co_await leave(node);
    } else {
        done = co_await have_it_leave({node, boots_.at(node)});
    }
    leaving_node_.reset();
    co_return done;
}

Task<Checked<Unit>> ClusterNode::have_it_leave(NodeBoot node) {
    Words words = asking(fence_words::stop);
    words["boot"] = node.boot;
    const Checked<Words> answer = co_await talk_.ask(node.node, words);
    // It has said so itself before, and its answer is lost as it is excluded. Where it is gone that is
    // found out otherwise.
    const bool is_it = boots_.at(node.node) == node.boot;
    if (!answer && !(is_it && left_.contains(node.node))) co_return answer.error();
    if (is_it) told_left(node.node);
    while (excluded_.contains(node.node) && goes_on()) co_await fence_changed_.next();
    if (goes_on()) co_return Unit{};
    co_return Refusal{"the array has stopped meanwhile", RefusalCode::stopping};
}

// ---- at the node that leaves -------------------------------------------------------------------

/// Nothing happens to the array just now, and the one who has said that it may go still decides.
Checked<Unit> ClusterNode::may_leave(std::uint32_t by) const {
    const bool ends = leaving_ || leave_asked_ || is_told_to_end();
    if (!serves_ || !goes_on() || ends) {
        return Refusal{"the array is just starting, or ending", RefusalCode::busy};
    }
    const bool is_agreed =
        !passing_ && !standing_ && !(voice_ && has_voice(voice_->to.node)) && !has_ended(master_);
    if (by != master_ || !is_agreed) {
        return Refusal{"nodes are just agreeing on who serves; try again in a moment",
                       RefusalCode::busy};
    }
    return may_do_without(setup_.self);
}

/// ASK "stop", of the one who decides. Refused: this node goes on as before.
Task<Checked<Words>> ClusterNode::asked_to_stop(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::uint64_t boot = fields.number("boot");
    BRAID_CO_CHECK(fields.check());
    if (boot != setup_.boot) {
        co_return Refusal{"another start of the node is meant", RefusalCode::conflict};
    }
    if (BRAID_MUTANT(left_later)) {
        tasks_.spawn(leave_later(from));
        co_return Words::object();
    }
    BRAID_CO_CHECK(co_await leave(from));
    co_return Words::object();
}

/// What who has asked is told has not happened yet: a mutant's.
Task<void> ClusterNode::leave_later(std::uint32_t by) {
    Pause pause(pauses_, lease_length_);
    co_await pause;
    (void)co_await leave(by);
}

Task<void> ClusterNode::note_quiet(Serving* serving, std::shared_ptr<Quiet> quiet) {
    co_await serving->wait_until_quiet();
    quiet->end();
}

/// Who waits for longer takes it for worse than a node that goes without a word.
Nanos ClusterNode::quiet_by() const { return std::min(lease_length_, patience); }

/// What clients have begun ends, but it is not waited for for ever.
Task<bool> ClusterNode::wait_until_quiet() {
    if (BRAID_MUTANT(left_undrained)) co_return true;
    const Nanos until{setup_.clock.now().value + quiet_by().value};
    while (serving_->is_held() && !serving_->is_quiet() && setup_.clock.now() < until) {
        const auto quiet = std::make_shared<Quiet>();
        tasks_.spawn(note_quiet(serving_, quiet));
        co_await wait_for(quiet, Nanos{until.value - setup_.clock.now().value});
    }
    co_return serving_->is_held() && serving_->is_quiet();  // else the array is about to end
}

/// From the turn on in which it is quiet, and may leave, nothing is served here any more.
Task<Checked<Unit>> ClusterNode::leave(std::uint32_t by) {
    BRAID_CO_CHECK(may_leave(by));
    if (std::exchange(leaves_, true)) {
        co_return Refusal{"it is just leaving", RefusalCode::busy};
    }
    serving_->hold();
    const bool is_quiet = co_await wait_until_quiet();
    Checked<Unit> may = may_leave(by);
    if (may && !is_quiet) {
        may =
            Refusal{fmt::format("what clients of {} have asked is not over after {} ms, as where a "
                                "disk does not answer: it goes on serving them",
                                name_of(setup_.self), quiet_by().value / 1'000'000),
                    RefusalCode::busy};
    }
    leaves_ = false;
    if (!may) {
        if (!is_told_to_end()) serving_->let_go();
        co_return may;
    }
    left_here_ = true;
    serving_->refuse_all();
    gone(setup_.self, left_by_order, Cut::later, Stops::here);
    leave_changed_.set();
    tasks_.spawn(end_soon(NodeEnds::left));
    co_return Unit{};
}

/// Who ordered it has his answer, and the others have heard what it said last.
Task<void> ClusterNode::end_soon(NodeEnds why) {
    Pause until_they_have_heard(pauses_, seconds(1));
    co_await until_they_have_heard;
    for (const std::uint32_t other : others()) bus_->give_up(other, GivenUp::gone);
    end_server(why);
}

void ClusterNode::end_server(NodeEnds why) {
    const bool ends_anyway = stopping_ || leaving_;
    if (!serves_ || (why == NodeEnds::stopped && ends_anyway)) return;
    if (!std::exchange(end_told_, true) && setup_.ends) setup_.ends(why);
}

// ---- at the others -----------------------------------------------------------------------------

/// It serves nothing any more, and says so itself: no lease of it is waited for.
void ClusterNode::note_left(std::uint32_t node) {
    has_stopped_.insert(node);
    left_.insert(node);
}

void ClusterNode::told_left(std::uint32_t node) {
    if (!rows_ || left_out_.contains(node)) return;
    note_left(node);
    lose_node(node, left_by_order);
    // Not in the next turn: all wait for the one who decides next.
    if (node == master_ && !is_master() && serves_) look_at_master(silent_nodes(lease_length_));
}

}  // namespace braid::cluster
