// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/reservations/reservation_table.h"

#include <algorithm>
#include <utility>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

using Kind = ReservationMessage::Kind;
using Standing = ReservationMessage::Standing;
using Outcome = ReservationEffects::Outcome;

bool is_volume(VolumeIndex volume) { return static_cast<std::uint32_t>(volume) < volumes_max; }

}  // namespace

ReservationTable::ReservationTable(NodeId self, std::set<NodeId> others, Begins how)
    : self_(self), others_(std::move(others)), hears_(how == Begins::among_others) {
    BRAID_REQUIRE(others_.size() < nodes_max);
    BRAID_REQUIRE(!others_.contains(self_));
}

void ReservationTable::send(NodeId to, Kind kind, VolumeIndex volume, std::uint64_t request,
                            Effects& effects, Standing standing) const {
    Message message;
    message.kind = kind;
    message.volume = volume;
    message.request = request;
    message.standing = standing;
    effects.send.push_back({to, message});
}

/// What is to be answered.
void ReservationTable::tell(Owns::iterator at, const std::set<NodeId>& nodes, Kind kind,
                            Effects& effects) {
    Own& own = at->second;
    for (const NodeId node : nodes) send(node, kind, at->first, own.request, effects);
    own.unanswered.insert(nodes.begin(), nodes.end());
}

// ---- what this node's clients and operators order ----------------------------------------------

std::optional<NodeId> ReservationTable::reserve(VolumeIndex volume, Effects& effects) {
    BRAID_REQUIRE(is_volume(volume));
    if (const auto entry = holder(volume)) return entry->node;
    const auto at = own_.emplace(volume, Own{}).first;
    at->second.request = ++last_request_;
    tell(at, others_, Kind::reserve, effects);
    go_on(at, effects);
    return std::nullopt;
}

bool ReservationTable::release(VolumeIndex volume, Effects& effects) {
    BRAID_REQUIRE(is_volume(volume));
    const auto at = own_.find(volume);
    if (at == own_.end()) return true;
    Own& own = at->second;
    if (own.phase == Phase::held) {
        own.phase = Phase::draining;
        effects.drain.push_back(volume);
    } else if (own.phase == Phase::asking) {
        effects.ended.push_back({volume, Outcome::released, std::nullopt});
        own.phase = Phase::leaving;
        own.unanswered.clear();
        own.in_the_way.clear();
        tell(at, others_, Kind::release, effects);
    }
    return false;
}

void ReservationTable::give_up(VolumeIndex volume, Effects& effects) {
    const auto at = own_.find(volume);
    if (at == own_.end() || at->second.phase != Phase::asking) return;
    std::optional<NodeId> node;
    for (const auto& [refuses, named] : at->second.in_the_way) node = std::max(node, {named});
    fail(at, Outcome::gave_up, node, effects);
}

bool ReservationTable::has_to_ask_again() const {
    return std::ranges::any_of(own_, [](const auto& at) { return !at.second.in_the_way.empty(); });
}

void ReservationTable::ask_again(Effects& effects) {
    for (auto at = own_.begin(); at != own_.end(); ++at) {
        std::set<NodeId> nodes;
        for (const auto& [refuses, named] : at->second.in_the_way) nodes.insert(refuses);
        at->second.in_the_way.clear();
        tell(at, nodes, Kind::reserve, effects);
    }
}

/// The entry goes, here and everywhere; also where it was refused, for the question may have been
/// repeated since. Nobody waits for that: what still comes in answer has the request's number.
void ReservationTable::fail(Owns::iterator at, Outcome outcome, std::optional<NodeId> node,
                            Effects& effects) {
    const VolumeIndex volume = at->first;
    for (const NodeId other : others_) {
        send(other, Kind::release, volume, at->second.request, effects);
    }
    own_.erase(at);
    effects.ended.push_back({volume, outcome, node});
}

/// From one phase to the next, when all have answered. `at` may be gone afterwards.
void ReservationTable::go_on(Owns::iterator at, Effects& effects) {
    Own& own = at->second;
    const VolumeIndex volume = at->first;
    if (!own.unanswered.empty()) return;
    switch (own.phase) {
        case Phase::asking:
            if (!own.in_the_way.empty()) return;
            own.phase = Phase::held;
            for (const NodeId node : others_) {
                send(node, Kind::begun, volume, own.request, effects);
            }
            effects.ended.push_back({volume, Outcome::reserved, std::nullopt});
            return;
        case Phase::held:
        case Phase::draining:
            return;
        case Phase::lifting:
            own.phase = Phase::leaving;
            tell(at, others_, Kind::release, effects);
            effects.changed.push_back(volume);
            return go_on(at, effects);
        case Phase::leaving:
            own_.erase(at);
            effects.released.push_back(volume);
            return;
    }
}

// ---- requests ----------------------------------------------------------------------------------

/// Its own requests go on while it asks, and as soon as homes let others' commands pass again: then
/// the volume is shared.
ReservationTable::Admission ReservationTable::admission(VolumeIndex volume) const {
    if (const auto at = own_.find(volume); at != own_.end()) {
        const Phase phase = at->second.phase;
        const bool waits = phase == Phase::draining || phase == Phase::lifting;
        return {waits ? Verdict::wait : Verdict::serve, {}};
    }
    const auto at = entered_.find(volume);
    if (at == entered_.end()) return {Verdict::serve, {}};
    if (at->second.seen != Seen::held) return {Verdict::wait, {}};
    return {Verdict::refuse, at->second.holder};
}

void ReservationTable::drained(VolumeIndex volume, Effects& effects) {
    if (const auto at = own_.find(volume);
        at != own_.end() && at->second.phase == Phase::draining) {
        at->second.phase = Phase::lifting;
        tell(at, others_, Kind::lift, effects);
        return go_on(at, effects);
    }
    const auto at = entered_.find(volume);
    if (at == entered_.end() || at->second.seen != Seen::draining) return;
    at->second.seen = Seen::granted;
    send(at->second.holder, Kind::granted, volume, at->second.request, effects);
}

bool ReservationTable::refuses_commands(VolumeIndex volume, NodeId from) const {
    if (holds(volume)) return from != self_;
    const auto at = entered_.find(volume);
    return at != entered_.end() && at->second.seen == Seen::held && from != at->second.holder;
}

bool ReservationTable::holds(VolumeIndex volume) const {
    const auto at = own_.find(volume);
    if (at == own_.end()) return false;
    return at->second.phase == Phase::held || at->second.phase == Phase::draining;
}

std::optional<ReservationTable::Holder> ReservationTable::holder(VolumeIndex volume) const {
    if (own_.contains(volume)) return Holder{self_, holds(volume)};
    const auto at = entered_.find(volume);
    if (at == entered_.end()) return std::nullopt;
    return Holder{at->second.holder, at->second.seen == Seen::held};
}

// ---- other nodes -------------------------------------------------------------------------------

bool ReservationTable::receive(NodeId from, const Message& message, Effects& effects) {
    if (!others_.contains(from) || !is_volume(message.volume) || message.request == 0) return false;
    switch (message.kind) {
        case Kind::reserve:
            return enter(from, message, effects);
        case Kind::granted:
        case Kind::refused:
        case Kind::lifted:
        case Kind::released:
            return take_answer(from, message, effects);
        case Kind::begun:
        case Kind::lift:
        case Kind::release:
            return take_word(from, message, effects);
    }
    return false;
}

Standing ReservationTable::standing_of(const Own& own) const {
    if (own.phase == Phase::asking) return Standing::asks;
    return own.phase == Phase::held ? Standing::holds : Standing::leaves;
}

bool ReservationTable::enter(NodeId from, const Message& message, Effects& effects) {
    const VolumeIndex volume = message.volume;
    if (const auto known = entered_.find(volume);
        known != entered_.end() && known->second.holder == from) {
        if (known->second.request != message.request) return false;  // the last one is still there
        if (known->second.seen != Seen::draining) {
            send(from, Kind::granted, volume, message.request, effects);
        }
        return true;
    }
    if (hears_ && message.standing == Standing::asks) {
        effects.send.push_back({from, refusal(message, self_, Standing::leaves)});
        return true;
    }
    if (const auto entry = holder(volume)) {
        const bool is_own = entry->node == self_;
        const Standing standing = is_own ? standing_of(own_.at(volume)) : Standing::asks;
        effects.send.push_back({from, refusal(message, entry->node, standing)});
        return true;
    }
    entered_.emplace(volume, Entered{from, message.request, Seen::draining});
    effects.drain.push_back(volume);
    return true;
}

ReservationMessage ReservationTable::refusal(const Message& message, NodeId holder,
                                             Standing standing) {
    Message answer = message;
    answer.kind = Kind::refused;
    answer.holder = holder;
    answer.standing = standing;
    return answer;
}

/// What a holder says that is entered here. Of an entry that is not there only `release` is told:
/// the request may have been refused here when it was taken back.
bool ReservationTable::take_word(NodeId from, const Message& message, Effects& effects) {
    const VolumeIndex volume = message.volume;
    const auto at = entered_.find(volume);
    const bool is_entered =
        at != entered_.end() && at->second.holder == from && at->second.request == message.request;
    if (message.kind == Kind::release) {
        if (is_entered) {
            entered_.erase(at);
            effects.changed.push_back(volume);
        }
        send(from, Kind::released, volume, message.request, effects);
        return true;
    }
    if (!is_entered) return false;
    Seen& seen = at->second.seen;
    if (seen == Seen::draining) return false;
    if (message.kind == Kind::begun) {
        if (seen == Seen::granted) effects.changed.push_back(volume);
        seen = Seen::held;
        return true;
    }
    seen = Seen::granted;
    send(from, Kind::lifted, volume, message.request, effects);
    return true;
}

/// An answer to a request that has been taken back, or that is further on, is none.
bool ReservationTable::take_answer(NodeId from, const Message& message, Effects& effects) {
    const auto at = own_.find(message.volume);
    if (at == own_.end() || at->second.request != message.request) return true;
    Own& own = at->second;
    const bool fits = (own.phase == Phase::asking &&
                       (message.kind == Kind::granted || message.kind == Kind::refused)) ||
                      (own.phase == Phase::lifting && message.kind == Kind::lifted) ||
                      (own.phase == Phase::leaving && message.kind == Kind::released);
    if (!fits || own.unanswered.erase(from) == 0) return true;
    if (message.kind == Kind::refused) return take_refusal(from, message, at, effects);
    go_on(at, effects);
    return true;
}

bool ReservationTable::take_refusal(NodeId from, const Message& message, Owns::iterator at,
                                    Effects& effects) {
    at->second.in_the_way.emplace(from, message.holder);
    if (message.holder != from || message.standing == Standing::leaves) return true;
    if (message.standing == Standing::holds || from > self_) {
        fail(at, Outcome::conflict, from, effects);
    }
    return true;
}

void ReservationTable::node_gone(NodeId node, Effects& effects) {
    if (others_.erase(node) == 0) return;
    for (auto at = entered_.begin(); at != entered_.end();) {
        const auto next = std::next(at);
        if (at->second.holder == node) {
            effects.changed.push_back(at->first);
            entered_.erase(at);
        }
        at = next;
    }
    for (auto at = own_.begin(); at != own_.end();) {
        const auto next = std::next(at);
        const bool answers = at->second.unanswered.erase(node) != 0;
        const bool refuses = at->second.in_the_way.erase(node) != 0;
        if (answers || refuses) go_on(at, effects);
        at = next;
    }
}

void ReservationTable::node_back(NodeId node, Effects& effects) {
    BRAID_REQUIRE(node != self_ && others_.size() + 1 < nodes_max);
    if (!others_.insert(node).second) return;
    for (auto at = own_.begin(); at != own_.end(); ++at) {
        const auto& [volume, own] = *at;
        switch (own.phase) {
            case Phase::asking:
                tell(at, {node}, Kind::reserve, effects);
                break;
            case Phase::held:
            case Phase::draining:
            case Phase::lifting:
                // Its grant is not waited for: it has no request under way.
                send(node, Kind::reserve, volume, own.request, effects, standing_of(own));
                send(node, Kind::begun, volume, own.request, effects);
                if (own.phase == Phase::lifting) tell(at, {node}, Kind::lift, effects);
                break;
            case Phase::leaving:
                break;  // no home refuses anything for it
        }
    }
}

// ---- checks ------------------------------------------------------------------------------------

bool ReservationTable::holds_together() const {
    for (const auto& [volume, own] : own_) {
        if (!is_volume(volume) || entered_.contains(volume)) return false;
        if (own.request == 0 || own.request > last_request_) return false;
        for (const NodeId node : own.unanswered) {
            if (!others_.contains(node) || own.in_the_way.contains(node)) return false;
        }
        for (const auto& [refuses, named] : own.in_the_way) {
            if (!others_.contains(refuses)) return false;
        }
        const bool waits = !own.unanswered.empty() || !own.in_the_way.empty();
        const bool is_over = own.phase == Phase::held || own.phase == Phase::draining;
        if (waits == is_over) return false;
        if (!own.in_the_way.empty() && own.phase != Phase::asking) return false;
    }
    for (const auto& [volume, entered] : entered_) {
        if (!is_volume(volume) || !others_.contains(entered.holder)) return false;
        if (entered.request == 0) return false;
    }
    return others_.size() < nodes_max;
}

std::vector<std::uint64_t> ReservationTable::image() const {
    const auto number = [](auto id) { return static_cast<std::uint64_t>(id); };
    std::vector<std::uint64_t> all{last_request_, others_.size(), own_.size(), entered_.size()};
    for (const NodeId node : others_) all.push_back(number(node));
    for (const auto& [volume, own] : own_) {
        all.insert(all.end(), {number(volume), own.request, number(own.phase),
                               own.unanswered.size(), own.in_the_way.size()});
        for (const NodeId node : own.unanswered) all.push_back(number(node));
        for (const auto& [refuses, named] : own.in_the_way) {
            all.insert(all.end(), {number(refuses), number(named)});
        }
    }
    for (const auto& [volume, entered] : entered_) {
        all.insert(all.end(),
                   {number(volume), number(entered.holder), entered.request, number(entered.seen)});
    }
    return all;
}

}  // namespace braid::cluster
