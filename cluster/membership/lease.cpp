// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/membership/lease.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "parity/require.h"

namespace braid::cluster {

bool FenceHomes::are_enough(NodeSet nodes) const {
    MemberSet of_all;
    for (const auto& [node, roles] : members) {
        if (nodes.has(node)) of_all |= roles;
    }
    const bool said = witness && nodes.has(*witness);
    const bool all = !in_force.empty() && of_all.has_all(in_force);
    return quorum.is_enough(of_all, said || all ? Witness::promised : Witness::silent);
}

// ---- Lease -------------------------------------------------------------------------------------

Lease::Lease(NodeBoot self, Nanos length) : self_(self), length_(length) {
    BRAID_REQUIRE(length >= lease_min);
    BRAID_REQUIRE(length <= lease_max);
}

void Lease::enter(FenceHomes homes) { homes_ = std::move(homes); }

void Lease::sent(Nanos stamp) {
    BRAID_REQUIRE(!sent_ || stamp >= *sent_);
    sent_ = stamp;
}

bool Lease::echoed(NodeId from, const Echo& echo) {
    if (echo.stamp.boot != self_.boot || !sent_ || echo.stamp.at > *sent_) return false;
    if (raw(from) == self_.node) return false;
    if (!echo.extends) return true;
    const auto [at, is_new] = echoed_.emplace(from, echo.stamp.at);
    at->second = std::max(at->second, echo.stamp.at);
    return true;
}

std::optional<Nanos> Lease::newest_from_enough() const {
    if (!homes_) return std::nullopt;
    NodeSet nodes = NodeSet::of(NodeId{self_.node});
    std::vector<std::pair<Nanos, NodeId>> newest;
    for (const auto& [node, stamp] : echoed_) newest.push_back({stamp, node});
    std::ranges::sort(newest, std::ranges::greater{}, [](const auto& one) { return one.first; });
    for (const auto& [stamp, node] : newest) {
        nodes.add(node);
        if (homes_->are_enough(nodes)) return stamp;
    }
    return std::nullopt;
}

std::optional<Nanos> Lease::until(Nanos now) const {
    if (!homes_) return std::nullopt;
    if (homes_->are_enough(NodeSet::of(NodeId{self_.node}))) {
        return Nanos{now.value + length_.value};
    }
    const std::optional<Nanos> newest = newest_from_enough();
    if (!newest) return std::nullopt;
    return Nanos{newest->value + length_.value};
}

bool Lease::holds(Nanos now) const {
    const auto end = until(now);
    return end && now < *end;
}

// ---- EchoLog -----------------------------------------------------------------------------------

void EchoLog::member_opened(Nanos now) { since_ = std::max(since_, now); }

bool EchoLog::send(NodeId to, std::uint64_t epoch, Nanos received, std::uint64_t promise) {
    if (epoch == 0 || epoch != promise) return false;
    const auto [at, is_new] = extended_.emplace(to, received);
    at->second = std::max(at->second, received);
    return true;
}

Nanos EchoLog::age(NodeId of, Nanos now) const {
    const auto at = extended_.find(of);
    const Nanos last = at == extended_.end() ? since_ : std::max(since_, at->second);
    return {now > last ? now.value - last.value : 0};
}

// ---- FenceWait ---------------------------------------------------------------------------------

void FenceWait::told(NodeId excluded, Nanos age, Nanos heard) {
    if (!excluded_.has(excluded) || age >= wait_) return;
    const Nanos end{heard.value + (wait_.value - age.value)};
    const auto [at, is_new] = ends_.emplace(excluded, end);
    at->second = std::max(at->second, end);
}

void FenceWait::needs_no_wait(NodeId excluded) {
    excluded_.remove(excluded);
    ends_.erase(excluded);
}

Nanos FenceWait::opens_at() const {
    Nanos last{};
    for (const auto& [node, end] : ends_) last = std::max(last, end);
    return last;
}

NodeSet FenceWait::waits_for(Nanos now) const {
    NodeSet nodes;
    for (const auto& [node, end] : ends_) {
        if (now < end) nodes.add(node);
    }
    return nodes;
}

}  // namespace braid::cluster
