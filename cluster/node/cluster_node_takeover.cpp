// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: the node that decides is gone, and another one comes to decide.
//
// Of the nodes that hear each other and not him the one with the highest id stands, if the array can do
// without all those that are not heard: it asks the others for their voices, and nothing has changed
// until all have given them. Whoever hears him gives none. Then it excludes him, as he would have
// excluded another: the others prepare for its fence, and follow it for good. When all have, it decides
// (cluster_node_decide.cpp).
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/forming.h"
#include "cluster/node/served_array.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"

namespace braid::cluster {
namespace {

/// Voices come within this time, or they are asked for again.
constexpr Nanos voices_come = millis(2 * heartbeat_ms_default);

/// Who has stood for so many leases lets others stand, for twice as many: it lacks what it takes.
constexpr std::uint64_t in_vain_leases_max = 2;

/// Where the one who decided has ended, and nobody comes to decide for so many, the array stops.
constexpr std::uint64_t leases_to_decide = 8;

}  // namespace

/// The node decides, as far as this one is concerned.
void ClusterNode::follow(std::uint32_t node) {
    if (node != master_ && rows_) {
        why_master_ = fmt::format("since node {} {}", master_, why_without(master_));
    } else if (node != master_) {
        why_master_ = "as it did when this node came";
    }
    master_ = node;
    disks_.set_master(node);
    if (rows_) rows_->home.set_walker(node);
    if (reservations_) reservations_->set_walker(node);
    // What a member missed that was just coming back the former one has told some nodes only, perhaps.
    // All prepare by this for a fence, and nobody writes.
    if (serving_ != nullptr) serving_->forget_behind();
    go_on_after_all();
    standing_.reset();
    in_vain_since_.reset();
    held_found_.reset();
    voice_.reset();
    master_lost_.reset();
    has_stopped_.clear();
    here_changed_.set();
}

// ---- who stands --------------------------------------------------------------------------------

/// It has begun anew, or says that it has stopped.
bool ClusterNode::has_ended(std::uint32_t node) const {
    return began_anew_.contains(node) || has_stopped_.contains(node);
}

/// As this node knows it, for people.
const char* ClusterNode::why_without(std::uint32_t node) const {
    if (began_anew_.contains(node)) return "began anew";
    if (left_.contains(node)) return "left, by order";
    if (has_stopped_.contains(node)) return "stopped";
    return "was not heard, or did not hear enough others";
}

/// Or it is not heard.
bool ClusterNode::is_master_lost() const {
    return has_ended(master_) || silent_nodes(about_to_be_silent()).contains(master_);
}

/// Or it does not hear the others itself.
bool ClusterNode::is_without_master() const { return is_master_lost() || is_cut_off(master_); }

/// This node hears it, and by what it says those that it hears are too few for a lease. That has lasted
/// for longer than connections need to come back one after the other.
bool ClusterNode::is_cut_off(std::uint32_t node) const {
    const std::optional<Nanos> since = bus_->heartbeats().without_lease_for(node);
    return since && since->value >= all_come_back.value + lease_length_.value;
}

/// On a node that does not decide, again and again.
void ClusterNode::look_at_master(const std::set<std::uint32_t>& silent) {
    const Nanos now = setup_.clock.now();
    if (standing_ && now.value - standing_->began.value >= voices_come.value) standing_.reset();
    if (!goes_on() || served_->is_stopping()) return;
    if (!silent.contains(master_) && !has_ended(master_)) {
        in_vain_since_.reset();
        return master_lost_.reset();
    }
    if (!master_lost_) master_lost_ = now;
    std::set<std::uint32_t> without = silent;
    without.insert(master_);
    without.insert(left_.begin(), left_.end());
    for (const std::uint32_t node : fellows()) {
        if (has_ended(node)) without.insert(node);
    }
    std::string why = fmt::format("has not answered for {} ms", lease_length_.value / 1'000'000);
    if (has_stopped_.contains(master_)) why = "has stopped";
    if (left_.contains(master_)) why = left_by_order;
    if (began_anew_.contains(master_)) why = "has begun anew, and lost what it had in memory";
    const std::uint64_t lost_for = now.value - master_lost_->value;
    if (standing_) return;
    if (!may_stand_without(without)) {
        if (can_do_without(without)) look_what_is_held(without);
        return;
    }
    // Who comes first may lack what it takes: then it is the next one's turn.
    std::uint64_t turn = 0;
    for (const std::uint32_t node : fellows()) {
        if (node > setup_.self && !without.contains(node)) ++turn;
    }
    if (lost_for < turn * 2 * lease_length_.value) return;
    // Two that stand at a time would take each other's voices.
    const bool follows = voice_ && has_voice(voice_->to.node);
    if (follows && !without.contains(voice_->to.node) && !has_ended(voice_->to.node)) return;
    if (!in_vain_since_) in_vain_since_ = now;
    const std::uint64_t in_vain = now.value - in_vain_since_->value;
    if (in_vain >= in_vain_leases_max * lease_length_.value) {
        if (in_vain >= 3 * in_vain_leases_max * lease_length_.value) in_vain_since_.reset();
        return;
    }
    stand(std::move(without), why);
}

/// The one who decided comes no more, and no other one has come to decide.
bool ClusterNode::end_if_nobody_decides() {
    if (!goes_on() || !master_lost_ || !has_ended(master_)) return false;
    // Turns to stand, and pauses between them, are so many leases.
    const std::uint64_t waits_for =
        std::max(patience.value, leases_to_decide * lease_length_.value);
    if (setup_.clock.now().value - master_lost_->value < waits_for) return false;
    gone(master_, "has ended, and no other node has come to decide");
    return true;
}

/// Where the node that decides may be heard again there is nothing to lose by waiting for it: then
/// those that are left are enough by what is in force. That a member was rebuilt may not be, yet: its
/// word of that may be lost with him, and then the members tell it.
bool ClusterNode::may_stand_without(const std::set<std::uint32_t>& nodes) const {
    if (serves_ && !ended_ && holds_enough_without(nodes)) return true;
    if (!can_do_without(nodes)) return false;
    if (has_ended(master_) || BRAID_MUTANT(unforced_counted)) return true;
    MemberSet left;
    for (const MemberIndex member : served_->in_sync_in_force()) {
        if (serving_->members().slot(member).state == MemberState::in_sync) left.add(member);
    }
    for (const std::uint32_t node : nodes) left = left - members_of(node);
    const bool all_are_left = left.has_all(served_->in_sync_in_force());  // break_ties()
    return served_->configuration().quorum().is_enough(
        left, all_are_left ? Witness::promised : witness_without(nodes));
}

void ClusterNode::stand(std::set<std::uint32_t> without, std::string why) {
    BRAID_REQUIRE(!is_master());
    BRAID_REQUIRE(standing_ == nullptr);
    BRAID_REQUIRE(without.contains(master_));
    auto standing = std::make_shared<Standing>();
    standing->master = {master_, boots_.at(master_)};
    standing->why = std::move(why);
    standing->began = setup_.clock.now();
    for (const std::uint32_t node : fellows()) {
        if (!without.contains(node)) standing->pending.insert(node);
    }
    standing->without = std::move(without);
    for (const auto& [node, boot] : left_out_) standing->without.insert(node);
    standing_ = standing;
    if (standing->pending.empty() || BRAID_MUTANT(takeover_unasked)) return take_over(*standing);
    const std::set<std::uint32_t> nodes = standing->pending;
    for (const std::uint32_t node : nodes) tasks_.spawn(ask_for_voice(standing, node));
}

Task<void> ClusterNode::ask_for_voice(std::shared_ptr<Standing> standing, std::uint32_t node) {
    Words words = asking(fence_words::voice);
    std::vector<NodeBoot> without;
    for (const std::uint32_t one : standing->without) without.push_back({one, boots_.at(one)});
    put_nodes(&words, "without", without);
    words["left"] = left_.contains(standing->master.node);
    const Checked<Words> answer = co_await talk_.ask(node, words);
    const bool is_late = setup_.clock.now().value - standing->began.value >= voices_come.value;
    if (standing_ == standing && is_late) standing_.reset();
    if (standing_ == standing) take_voice(standing, node, answer);
}

void ClusterNode::take_voice(const std::shared_ptr<Standing>& standing, std::uint32_t node,
                             const Checked<Words>& answer) {
    BRAID_REQUIRE(standing_ == standing);
    BRAID_REQUIRE(standing->pending.contains(node));
    if (answer && answer->contains("hears")) {
        in_vain_since_.reset();  // nobody else would have his voice either
        return standing_.reset();
    }
    if (answer) {
        WordFields fields(*answer);
        const std::uint64_t fence = fields.number("fence", epoch_max);
        if (!fields.check()) return standing_.reset();
        standing->fence = std::max(standing->fence, fence);
    } else {
        // Who does not serve yet, or not any more, has no part in anything: he begins anew.
        std::set<std::uint32_t> without = standing->without;
        without.insert(node);
        if (answer.error().code != RefusalCode::busy || !may_stand_without(without)) {
            return standing_.reset();
        }
        standing->without = std::move(without);
    }
    standing->pending.erase(node);
    if (standing->pending.empty()) take_over(*standing);
}

/// ASK "voice": the highest fence that this node has heard of, if it does without the one that it
/// follows as well.
Checked<Words> ClusterNode::asked_for_voice(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::vector<NodeBoot> without = nodes_of(fields, "without");
    const bool has_left = fields.flag("left");
    BRAID_CHECK(fields.check());
    const auto no = [&](const char* why) {
        return Refusal{fmt::format("{} {}", name_of(setup_.self), why), RefusalCode::conflict};
    };
    if (!served_ || !serves_) {
        return Refusal{fmt::format("{} does not serve yet", name_of(setup_.self)),
                       RefusalCode::busy};
    }
    if (is_master() || !goes_on() || served_->is_stopping()) {
        return no("serves nothing that could go on");
    }
    // Of several that are gone one may have come to decide where not all have heard of it.
    const NodeBoot now{master_, boots_.at(master_)};
    if (std::ranges::find(without, now) == without.end()) return no("follows another node");
    if (has_left) note_left(master_);  // it is on its way here, too
    if (!is_without_master()) return Words{{"hears", master_}};
    const Nanos time = setup_.clock.now();
    // Who hears the one that decides, which is cut off from others, does not stand.
    const bool stands = is_master_lost();
    const bool is_first =
        !master_lost_ || time.value - master_lost_->value < 2 * lease_length_.value;
    // Two that each gave the other one their voice would both wait for them to be returned.
    if (from < setup_.self && stands && (is_first || standing_)) {
        return no("is the first one to decide itself");
    }
    if (voice_ && voice_->to.node != from && has_voice(voice_->to.node)) {
        return no("has given its voice to another node");
    }
    voice_ = Voice{{from, boots_.at(from)}, now, time};
    standing_.reset();
    return Words{{"fence", promised_fence()}};
}

/// It is given for a time: then whoever has it is perhaps of no use himself.
bool ClusterNode::has_voice(std::uint32_t node) const {
    if (!voice_) return false;
    const NodeBoot now{master_, boots_.at(master_)};
    return voice_->to == NodeBoot{node, boots_.at(node)} && voice_->master == now &&
           setup_.clock.now().value - voice_->given.value < 2 * lease_length_.value;
}

}  // namespace braid::cluster
