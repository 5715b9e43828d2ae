// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: a node that is gone, and how the others go on without it. The one who decides excludes
// who is not heard, if the array can do without its members: all others stop under their fence, tell
// what is under way, and go on under the next one (NEGOTIATE). What is decided there is decided by
// cluster/membership/: leases, and which staged writes happen.
//
// prepare: the node leaves the excluded out, and freezes (Home, NodeHomes). Then it tells which of its
// own writes happen, and what its home has of those that are gone. The master judges, waits until no
// lease of the excluded runs any more, and brings the configuration without their members into force.
// adopt: homes carry the verdict out, and take commands of the new fence. go_on: all homes do, and
// so nodes send some again.
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

// ---- who is gone -------------------------------------------------------------------------------

MemberSet ClusterNode::members_of(std::uint32_t node) const {
    MemberSet members;
    for (const MemberIndex member : serving_->members().taking_part()) {
        if (rows_->homes->home_of(member) == index_of(node)) members.add(member);
    }
    return members;
}

/// Those that are left out already have taken their members with them.
bool ClusterNode::can_do_without(const std::set<std::uint32_t>& nodes) const {
    if (!serves_ || ended_) return false;
    MemberSet members;
    for (const std::uint32_t node : nodes) members |= members_of(node);
    const Witness expected = witness_without(nodes);
    if (listener_ != nullptr) return array_ != nullptr && listener_->can_lose(members, expected);
    return served_ != nullptr && enough_are_left(members, expected);
}

bool ClusterNode::has_witness() const {
    return serving_ != nullptr && serving_->members().quorum().witness;
}

void ClusterNode::note_witness(const Configuration& now) {
    witness_node_.reset();
    if (now.witness() != nullptr) witness_node_ = now.witness()->home;
}

/// What it is expected to say when these are gone.
Witness ClusterNode::witness_without(const std::set<std::uint32_t>& nodes) const {
    const bool is_left =
        witness_node_ && !nodes.contains(*witness_node_) && !left_out_.contains(*witness_node_);
    return is_left ? serving_->members().witness() : Witness::silent;
}

/// As far as a node sees it that does not decide: what is in doubt is for him.
bool ClusterNode::enough_are_left(MemberSet lost) const {
    return enough_are_left(lost, serving_->members().witness());
}

bool ClusterNode::enough_are_left(MemberSet lost, Witness expected) const {
    const Members& members = serving_->members();
    std::uint32_t all_lost = members.lost();
    for (const MemberIndex member : lost) {
        if (members.slot(member).state == MemberState::in_sync) ++all_lost;
    }
    return !members.failed() && all_lost <= rows_->geometry.parities() &&
           members.is_enough_without(lost, expected);
}

/// It is away, or has lost what it had in memory. The one who decides finds out what comes of it.
void ClusterNode::lose_node(std::uint32_t node, const std::string& why) {
    if (ended_ || gone_.contains(node) || left_out_.contains(node) || !is_known(node)) return;
    if (ending_) return bus_->give_up(node, GivenUp::ended);  // all is written: nobody waits for it
    if (!is_master() && serves_ && has_ended(master_) && !served_->is_stopping()) {
        if (!master_lost_) master_lost_ = setup_.clock.now();
        std::set<std::uint32_t> ended = has_stopped_;
        ended.insert(began_anew_.begin(), began_anew_.end());
        if (can_do_without(ended)) return;  // look_at_master(), in a moment
        return gone(master_, why);
    }
    if (node == master_ || !rows_) return gone(node, why);
    if (!is_master()) {
        std::string& told = suspicions_[node];
        if (std::exchange(told, why) != why) {
            log(left_.contains(node) ? Severity::info : Severity::warning,
                fmt::format("{} {}", name_of(node), why));
        }
        return;
    }
    if (!can_do_without({node})) return gone(node, why);
    exclude(node, why);
}

void ClusterNode::exclude(std::uint32_t node, const std::string& why) {
    BRAID_REQUIRE(is_master());
    BRAID_REQUIRE(node != setup_.self);
    const std::string text = fmt::format("{} {}", name_of(node), why);
    const bool has_left = left_.contains(node);
    log(has_left ? Severity::info : Severity::error,
        fmt::format("{}: {}the array goes on without it; it is let in again when {}", text,
                    has_left ? "" : "it is excluded, and ",
                    killed_.contains(node)
                        ? fmt::format("an operator says braid node resume {}", node)
                        : std::string("its server is started anew")));
    excluded_.emplace(node, text);
    why_out_[node] = why;
    retiring_.insert(node);
    if (!has_left) note_flap(node);
    if (joining_ && joining_->node.node == node) joining_.reset();
    std::erase_if(hindrances_, [node](const auto& one) { return one.first.node == node; });
    freeze();
    leave_out({node, boots_.at(node)});
    fence_changed_.set();
    if (next_fence_) next_fence_->end();
    if (!std::exchange(forms_fence_, true)) tasks_.spawn(form_fence());
}

/// Before anybody is left out: what is asked of him then ends, and is to be asked again.
void ClusterNode::freeze() {
    rows_->homes->freeze();
    rows_->home.freeze();
}

/// Nothing of it is taken any more, and what is asked of it is answered: its members are lost before
/// that, so that no error is theirs.
void ClusterNode::leave_out(const NodeBoot& node) {
    BRAID_REQUIRE(node.node != setup_.self);
    if (!is_known(node.node)) return;
    if (const auto left = left_out_.find(node.node); left != left_out_.end()) {
        left->second = node.boot;  // it was about to be let in, and has gone again
        disks_.leave_out(node);
        return give_up_start(node);
    }
    const MemberSet members = members_of(node.node);
    left_out_.emplace(node.node, node.boot);
    left_members_ |= members;
    for (const MemberIndex member : members) {
        serving_->member_lost(member, MemberState::missing);
        rows_->homes->refuse_held(member);
    }
    disks_.leave_out(node);
    if (witness_node_ == node.node) serving_->expect_of_witness(Witness::silent);
    if (told_nodes_) told_nodes_->leave_out(node.node);
    told_of_.erase(node.node);
    if (!BRAID_MUTANT(echo_to_excluded)) give_up_start(node);
}

/// If it has begun anew that start is over already.
void ClusterNode::give_up_start(const NodeBoot& node) {
    if (bus_->session(node.node).peer_boot() != node.boot) return;
    bus_->give_up(node.node, GivenUp::excluded);
}

/// It is in the fence that is about to begin.
void ClusterNode::take_back(const NodeBoot& node) {
    if (node.node == setup_.self) return;
    left_out_.erase(node.node);
    why_out_.erase(node.node);
    suspicions_.erase(node.node);
    left_.erase(node.node);
    boots_[node.node] = node.boot;
    began_anew_.erase(node.node);
    has_stopped_.erase(node.node);
    watch_if_away(node.node);
}

/// Members that who comes to decide reads have answered something, since it was looked last.
bool ClusterNode::reads_on() {
    std::uint64_t answers = 0;
    for (const std::uint32_t node : fellows()) answers += bus_->session(node).counts().answers;
    return std::exchange(forming_->answered, answers) != answers;
}

/// They answer heartbeats, and not what they are asked.
void ClusterNode::end_those_who_are_late() {
    if (forming_ == nullptr) return;
    // Nothing is lost without who is let in: all others do not wait for long.
    const Nanos now = setup_.clock.now();
    for (const NodeBoot& node : forming_->joined) {
        const bool is_late = now.value >= forming_->began.value + lease_length_.value;
        if (!is_late || !forming_->pending.contains(node.node)) continue;
        return lose_node(node.node, "does not go on as it is let in");
    }
    const bool looks = took_over_from_ && array_ == nullptr && forming_->pending.empty();
    if (looks && reads_on()) forming_->deadline = Nanos{now.value + patience.value};
    if (now < forming_->deadline) return;
    // Who is not even heard will go on when the network does.
    const bool waits = waits_for(silent_nodes(lease_length_));
    // Members that it reads do not answer, perhaps; and nobody else decides while it does.
    if (looks) {
        if (waits) return;
        const std::string what = looks_at_.empty() ? "what it had begun on them" : looks_at_;
        return gone(
            *took_over_from_,
            fmt::format("is gone, and the members cannot be looked at: {} is waited for in vain",
                        what));
    }
    if (waits) {
        forming_->deadline = Nanos{now.value + patience.value};
        return;
    }
    const std::set<std::uint32_t> late = forming_->pending;
    for (const std::uint32_t node : late) {
        lose_node(node, fmt::format("has not gone on for {} s", patience.value / 1'000'000'000));
    }
}

// ---- the barrier, at each node -----------------------------------------------------------------

PrepareAnswer ClusterNode::prepare(const PrepareWords& wanted) {
    freeze();
    for (const NodeBoot& node : wanted.gone) leave_out(node);
    for (const NodeBoot& node : wanted.joined) take_back(node);
    fence_.known.insert(wanted.fence);
    bus_->beat_now();  // leases are extended among those that have promised the same
    passing_ = std::make_unique<Passing>(Passing{wanted.fence, wanted.gone, wanted.joined, {}});
    PrepareAnswer answer;
    answer.from = {setup_.self, setup_.boot};
    answer.fence = fence_.epoch;
    answer.sequence = rows_->homes->writes().newest();
    answer.decided = rows_->homes->writes().decided();
    answer.verdict = verdict_;
    const Nanos now = setup_.clock.stamp();
    for (const NodeBoot& node : wanted.gone) {
        answer.books[node] = rows_->home.book().known_of(node);
        answer.ages[NodeId{node.node}] = echoes_.age(NodeId{node.node}, now);
    }
    return answer;
}

/// @param rebuilt  how far rebuilds are: locks that told so are gone, and others tell it from now on
/// @param locks_at  by member: where the one who decides has the homes as he adopts it
void ClusterNode::adopt_fence(const std::vector<Rebuilt>& rebuilt,
                              std::vector<std::uint32_t> locks_at) {
    BRAID_REQUIRE(passing_ != nullptr);
    BRAID_REQUIRE(passing_->fence > fence_.epoch);
    const std::unique_ptr<Passing> passing = std::move(passing_);
    fence_.pass(passing->fence);
    verdict_ = passing->verdict;  // until all have adopted it
    if (!is_master()) left_members_ = {};
    rows_->homes->note(rebuilt);
    rows_->home.enter(passing->verdict, passing->gone, rebuilt);
    rows_->homes->enter(homes_at(passing->gone), homes_at(passing->joined), std::move(locks_at));
    for (const NodeBoot& node : passing->gone) reservations_->node_gone(node.node);
    for (const NodeBoot& node : passing->joined) {
        if (node.node == setup_.self || BRAID_MUTANT(back_without_reservations)) continue;
        reservations_->node_back(node.node);
    }
    const bool is_new = std::ranges::any_of(passing->gone, [&](const NodeBoot& node) {
        return served_ != nullptr && served_->decider().master() == node.node;
    });
    if (!is_new) return;
    // Whom this node had told and asked is gone.
    if (!is_master()) served_->decider().follow(master_);
    rows_->home.ask_verdicts_again();
    if (!is_master() && leaving_) talk_.tell(master_, telling("leave"));
    told_status_.clear();
}

/// NEGOTIATE, at a node that does not decide; of the one who does, or to whom it has given its voice.
Task<Checked<Words>> ClusterNode::asked_to_negotiate(std::uint32_t from, const Words& words) {
    BRAID_CO_TRY(const Negotiate command, negotiate_of(words));
    if (!served_ || ended_ || !gone_.empty()) {
        co_return Refusal{fmt::format("{} serves no array", name_of(setup_.self)),
                          RefusalCode::conflict};
    }
    if (command.step == NegotiateStep::adopt) {
        if (!passing_ || passing_->fence != command.fence || from != master_) {
            co_return Refusal{fmt::format("{} has not prepared for fence {}", name_of(setup_.self),
                                          command.fence),
                              RefusalCode::conflict};
        }
        BRAID_CO_TRY(const std::vector<Rebuilt> rebuilt, rebuilt_of(words, rows_->geometry));
        BRAID_CO_TRY(const std::vector<std::uint32_t> homes, homes_of(words));
        const bool are_taken = !BRAID_MUTANT(back_without_homes);
        if (are_taken) take_homes(homes);
        enter_lease();
        adopt_fence(rebuilt, are_taken ? indices_of(homes) : rows_->homes->homes());
        co_return Words::object();
    }
    if (command.step != NegotiateStep::prepare) {
        co_return Refusal{
            "members are written by the one who decides: there is nothing to store here",
            RefusalCode::invalid};
    }
    if (command.fence <= fence_.epoch || fence_.known.contains(command.fence)) {
        co_return Refusal{fmt::format("fence {} is not above that of {}, {}", command.fence,
                                      name_of(setup_.self), fence_.epoch),
                          RefusalCode::conflict};
    }
    BRAID_CO_TRY(const PrepareWords wanted, prepare_of(words));
    BRAID_CO_CHECK(check_prepare(from, wanted));
    for (const NodeBoot& node : wanted.gone) {
        if (left_out_.contains(node.node) || !is_known(node.node)) continue;
        const bool has_left = wanted.left.contains(node.node);
        if (has_left) note_left(node.node);
        log(has_left ? Severity::info : Severity::warning,
            fmt::format("{} is {}, says {}", name_of(node.node), has_left ? "out" : "excluded",
                        name_of(from)));
    }
    if (from != master_) {
        log(Severity::warning,
            fmt::format("{} decides about the array from now on", name_of(from)));
        follow(from);
    }
    Prepared prepared{prepare(wanted)};
    // What those that are gone have begun on this node's disks is over when it is answered.
    co_await wait_until_over(wanted.gone);
    if (!passing_ || passing_->fence != wanted.fence) co_return Words::object();  // it has failed
    prepared.roles = roles_seen();
    for (const Words& piece : words_of(wanted.fence, prepared)) talk_.tell(from, piece);
    co_return Words::object();
}

Checked<Unit> ClusterNode::check_prepare(std::uint32_t from, const PrepareWords& wanted) const {
    if (from == master_ && voice_ && has_voice(voice_->to.node)) {
        return Refusal{fmt::format("{} is just asked to follow another node", name_of(setup_.self)),
                       RefusalCode::busy};
    }
    if (from != master_ && !has_voice(from)) {
        return Refusal{fmt::format("{} does not decide about the array", name_of(from)),
                       RefusalCode::conflict};
    }
    for (const NodeBoot& node : wanted.gone) {
        // One that was added, or removed, by one who has gone since is not known here, perhaps.
        const bool may = node.node != setup_.self && node.node != from;
        if (!may) return Refusal{"\"gone\" names who cannot be", RefusalCode::invalid};
    }
    for (const NodeBoot& node : wanted.joined) {
        const bool is_gone =
            std::ranges::find(wanted.gone, node.node, &NodeBoot::node) != wanted.gone.end();
        const bool may = node.node != from && is_known(node.node) && !is_gone;
        if (!may) return Refusal{"\"joined\" names who cannot be", RefusalCode::invalid};
    }
    return Unit{};
}

// ---- the barrier, at the one who decides -------------------------------------------------------

/// What a node tells when it has prepared.
Checked<Unit> ClusterNode::told_prepared(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::uint64_t fence = fields.number("fence", epoch_max);
    BRAID_CHECK(fields.check());
    if (forming_ == nullptr || forming_->fence != fence || left_out_.contains(from)) return Unit{};
    BRAID_TRY(const bool is_last, take_prepared(words, &forming_->answers[from]));
    if (is_last) {
        forming_->heard[from] = setup_.clock.now();
        forming_->pending.erase(from);
    }
    fence_changed_.set();
    return Unit{};
}

/// Nobody has told the array to end, here or elsewhere, and it has not stopped.
bool ClusterNode::goes_on() const { return !ended_ && !ending_ && !stopping_ && gone_.empty(); }

/// Somebody else is to be excluded, or there is no array any more.
bool ClusterNode::is_over(const Forming& forming) const {
    return !goes_on() || forming.gone.size() != excluded_.size();
}

Task<void> ClusterNode::form_fence() {
    const auto is_wanted = [this] {
        return !excluded_.empty() || joining_.has_value() || (return_ && !return_->answer);
    };
    while (is_wanted() && goes_on()) {
        Forming forming;
        // Above what it has promised itself to who decided before, too: leases go by promises.
        newest_fence_ = next_epoch(std::max({newest_fence_, promised_fence(), epoch_in_force_}),
                                   setup_.clock.wall_seconds(), setup_.self);
        forming.fence = newest_fence_;
        for (const auto& [node, why] : excluded_) forming.gone.push_back({node, boots_.at(node)});
        if (joining_) forming.joined.push_back(joining_->node);
        forming_ = &forming;
        const bool begun = co_await begin_fence(&forming);
        forming_ = nullptr;
        if (!begun) {
            co_await wait_for_next_try(forming);
            continue;
        }
        if (std::exchange(took_over_from_, std::nullopt)) {
            go_on_deciding();
        } else {
            tasks_.spawn(forget(std::move(forming.gone)));
        }
        if (joining_) tasks_.spawn(begin_at(*joining_));
        joining_.reset();
    }
    if (return_ && !return_->answer) end_return();  // the array ends
    forms_fence_ = false;
}

/// Somebody has refused who has given his voice away for a while, perhaps: nothing tells when that is over.
/// Who is not heard any more will be excluded, too, and ends the wait.
Task<void> ClusterNode::wait_for_next_try(const Forming& forming) {
    if (is_over(forming)) co_return;
    next_fence_ = std::make_shared<Quiet>();
    co_await wait_for(next_fence_, heartbeat_interval());
}

/// Nothing that the nodes had marked is in doubt any more: no later start is to take it for that.
Task<void> ClusterNode::forget(std::vector<NodeBoot> gone) {
    for (const NodeBoot& node : gone) {
        while (goes_on()) {
            if (BRAID_MUTANT(record_not_retired)) break;
            const Result<std::uint64_t> done = co_await listener_->forget_node(node.node);
            if (done) break;
            Pause until_it_is_tried_again(pauses_, patience);
            co_await until_it_is_tried_again;
        }
        retiring_.erase(node.node);
        fence_changed_.set();
    }
}

/// False: it has failed; with others excluded, too, the next one may do.
Task<bool> ClusterNode::begin_fence(Forming* forming) {
    BRAID_REQUIRE(is_master());
    BRAID_REQUIRE(forming->fence > promised_fence());
    const Nanos began = setup_.clock.now();
    PrepareWords wanted{forming->fence, forming->gone, forming->joined};
    for (const NodeBoot& node : wanted.gone) {
        if (left_.contains(node.node)) wanted.left.insert(node.node);
    }
    const std::vector<std::uint32_t> others = fellows();
    forming->answers[setup_.self].answer = prepare(wanted);
    forming->heard[setup_.self] = began;
    forming->pending.insert(others.begin(), others.end());
    forming->began = began;
    forming->deadline = Nanos{began.value + patience.value};
    if (!co_await ask_fellows(forming, others, words_of(wanted))) co_return false;
    while (!is_over(*forming) && forming->heard.size() != others.size() + 1) {
        co_await fence_changed_.next();
    }
    if (is_over(*forming)) co_return false;
    looks_at_.clear();
    co_await wait_until_over(forming->gone);
    if (is_over(*forming)) co_return false;
    forming->answers[setup_.self].roles = roles_seen();
    if (listener_ == nullptr && !co_await begin_deciding(forming)) co_return false;
    if (is_over(*forming)) co_return false;
    verdict_ = judge_writes(*forming);
    co_await wait_for_leases(*forming);
    if (is_over(*forming)) co_return false;
    if (!forming->gone.empty() && !co_await lose_with_nodes(forming)) co_return false;
    if (!co_await let_return(forming)) co_return false;
    for (const std::uint32_t node : others) {
        for (const Words& piece : words_of(verdict_)) talk_.tell(node, piece);
    }
    BRAID_REQUIRE(passing_ != nullptr);
    passing_->verdict = verdict_;
    const std::vector<Rebuilt> rebuilt = rows_->homes->rebuilds();
    adopt_fence(rebuilt, rows_->homes->homes());
    Words adopt = words_of(Negotiate{NegotiateStep::adopt, forming->fence});
    put_rebuilt(&adopt, rebuilt);
    put_homes(&adopt);
    forming->pending.insert(others.begin(), others.end());
    forming->began = setup_.clock.now();
    forming->deadline = Nanos{forming->began.value + patience.value};
    if (!co_await ask_fellows(forming, others, std::move(adopt))) co_return false;
    if (is_over(*forming)) co_return false;
    for (const std::uint32_t node : others) {
        talk_.tell(node, {{"tell", fence_words::go_on}, {"fence", forming->fence}});
    }
    excluded_.clear();
    fence_changed_.set();
    left_members_ = {};
    verdict_ = {};
    rows_->homes->thaw();
    const std::uint64_t took = (setup_.clock.now().value - began.value) / 1'000'000;
    log(Severity::info, fmt::format("fence {} has begun with {} nodes, after {} ms", forming->fence,
                                    others.size() + 1, took));
    co_return true;
}

/// False: it has failed, or is over.
Task<bool> ClusterNode::lose_with_nodes(Forming* forming) {
    BRAID_REQUIRE(!forming->gone.empty());
    BRAID_REQUIRE(listener_ != nullptr);
    const auto lost = std::make_shared<std::optional<Result<void>>>();
    tasks_.spawn(lose_members(lost));
    while (!*lost && !is_over(*forming)) co_await fence_changed_.next();
    if (is_over(*forming)) co_return false;
    const bool is_in_force = (*lost)->has_value();
    if (!is_in_force) {
        gone(forming->gone.front().node, "is gone, and the array cannot go on without it");
    }
    co_return is_in_force;
}

/// Those of all who are left out, until that is in force. When somebody else is left out meanwhile it
/// comes into force with his, and who waits for it here is another.
Task<void> ClusterNode::lose_members(std::shared_ptr<std::optional<Result<void>>> lost) {
    std::vector<std::string> reasons;
    for (const auto& [node, why] : excluded_) reasons.push_back(why);
    std::string why = fmt::format("{}", fmt::join(reasons, "; "));
    // A role that was filled since the node went is nobody's loss.
    const MemberSet members = left_members_ - serving_->members().taking_part();
    const bool all_left = std::ranges::all_of(
        excluded_, [this](const auto& one) { return left_.contains(one.first); });
    *lost = co_await listener_->lose(members, std::move(why), all_left ? Fault::none : Fault::some);
    fence_changed_.set();
}

/// False: one has refused, or is gone.
Task<bool> ClusterNode::ask_fellows(Forming* forming, std::vector<std::uint32_t> nodes,
                                    Words words) {
    words["ask"] = node_words::negotiate;
    const bool adopts = is_adopt(words);
    std::vector<Task<Checked<Words>>> asked;
    for (const std::uint32_t node : nodes) asked.push_back(talk_.ask(node, words));
    bool all = true;
    for (std::size_t i = 0; i != nodes.size(); ++i) {
        Task<Checked<Words>>& task = asked[i];
        const Checked<Words> answer = co_await task;
        if (adopts) forming->pending.erase(nodes[i]);
        if (answer) continue;
        all = false;
        // Busy: it began anew, or was left out; that is known otherwise.
        if (answer.error().code == RefusalCode::busy) continue;
        lose_node(nodes[i], "does not go on: " + answer.error().text);
    }
    co_return all;
}

WriteVerdict ClusterNode::judge_writes(const Forming& forming) const {
    BRAID_REQUIRE(forming.answers.contains(setup_.self));
    KnownFence now;
    now.epoch = fence_.epoch;
    std::vector<PrepareAnswer> answers;
    for (const auto& [node, prepared] : forming.answers) {
        const PrepareAnswer& answer = prepared.answer;
        const NodeBoot from{node, boot_of(node)};
        const bool joins = std::ranges::find(forming.joined, from) != forming.joined.end();
        if (!joins) now.nodes.insert(from);
        answers.push_back(answer);
        answers.back().from = from;
        answers.back().fence = joins ? 0 : fence_.epoch;
        answers.back().members = members_of(node);
        if (joins) answers.back().books.clear();  // it has none
    }
    for (PrepareAnswer& answer : answers) answer.newest = now;
    return judge(forming.fence, answers, serving_->members().taking_part());
}

std::uint64_t ClusterNode::boot_of(std::uint32_t node) const {
    return node == setup_.self ? setup_.boot : boots_.at(node);
}

/// Who has begun anew has none, nor who has said that it serves no more.
Task<void> ClusterNode::wait_for_leases(const Forming& forming) {
    NodeSet excluded;
    for (const NodeBoot& node : forming.gone) {
        if (!has_ended(node.node)) excluded.add(NodeId{node.node});
    }
    FenceWait wait(lease_length_, excluded);
    for (const auto& [node, answer] : forming.answers) {
        for (const auto& [of, age] : answer.answer.ages) {
            wait.told(of, age, forming.heard.at(node));
        }
    }
    while (!is_over(forming) && setup_.clock.now() < wait.opens_at()) {
        if (BRAID_MUTANT(no_lease_wait)) break;
        Pause pause(pauses_, Nanos{wait.opens_at().value - setup_.clock.now().value});
        co_await pause;
    }
}

}  // namespace braid::cluster
