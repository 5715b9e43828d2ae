// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: its lease, by which it answers clients, those of others that its echoes extend, and reads
// that ask the others each time. What is decided is decided by cluster/membership/lease.h.
#include <algorithm>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/served_array.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"

namespace braid::cluster {

// ---- leases ------------------------------------------------------------------------------------

/// The newest that it has prepared for, or adopted.
std::uint64_t ClusterNode::promised_fence() const {
    return fence_.known.empty() ? fence_.epoch : std::max(fence_.epoch, *fence_.known.rbegin());
}

/// A node that cannot be reached for so long is gone, and where it is needed the array stops. By then its
/// lease is over, also where heartbeats came a moment longer; and if it was the one that decides, another
/// one has had the time to come to decide, or the next one after that.
Nanos ClusterNode::away_for_long() const {
    constexpr std::uint64_t leases = 4;
    return {std::max(patience.value, leases * lease_length_.value)};
}

Lease ClusterNode::own_lease() const { return {{setup_.self, setup_.boot}, lease_length_}; }

/// The lease is the one of who decides, and the file is this node's.
Nanos ClusterNode::heartbeat_interval() const {
    return {std::min(millis(setup_.config.heartbeat_ms).value,
                     lease_length_.value / heartbeats_per_lease)};
}

/// Who is the home of which member has changed.
void ClusterNode::enter_lease() {
    const Geometry& geometry = rows_->geometry;
    FenceHomes homes;
    homes.quorum = {.members = geometry.member_count, .parities = geometry.parities()};
    if (serving_ != nullptr) homes.quorum = serving_->members().quorum();
    if (has_witness()) {
        const bool is_here = witness_node_ && !left_out_.contains(*witness_node_);
        if (is_here) homes.witness = NodeId{*witness_node_};
        homes.in_force = serving_->members().in_force();
    }
    for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
        const std::uint32_t home = rows_->homes->home_of(MemberIndex{i});
        if (home == NodeHomes::no_home) continue;
        homes.members[NodeId{home_ids_[home]}].add(MemberIndex{i});
    }
    needs_no_lease_ = homes.are_enough(NodeSet::of(NodeId{setup_.self}));
    lease_.enter(std::move(homes));
    look_at_lease();
}

void ClusterNode::look_at_lease() {
    lease_until_ = lease_.until(setup_.clock.stamp()).value_or(Nanos{});
    rows_->homes->look_at_lease();
}

bool ClusterNode::has_lease() const {
    return needs_no_lease_ || setup_.clock.stamp() < lease_until_;
}

/// Who is left out has promised less, or another fence than this node; and whom this node has left out by
/// itself, as the one who decides, it has promised none yet.
bool ClusterNode::extends(std::uint32_t node, std::uint64_t promised, Nanos received) {
    if (BRAID_MUTANT(echo_to_excluded)) return rows_ && !ended_;
    if (!rows_ || ended_ || !gone_.empty() || left_out_.contains(node)) return false;
    return echoes_.send(NodeId{node}, promised, received, promised_fence());
}

void ClusterNode::stamp_sent(Nanos stamp) {
    stamp_sent_ = std::max(stamp_sent_, stamp);
    lease_.sent(stamp_sent_);
}

void ClusterNode::stamp_came_back(std::uint32_t node, Nanos stamp, bool extends) {
    (void)lease_.echoed(NodeId{node}, {{setup_.boot, stamp}, extends});
    if (!rows_) return;
    look_at_lease();
    if (BRAID_MUTANT(lease_from_receipt)) {
        lease_until_ = {setup_.clock.stamp().value + lease_length_.value};
        rows_->homes->look_at_lease();
    }
    const auto newest = lease_.newest_from_enough();
    if (newest && strict_reads_.came_back(*newest, stamp_sent_)) bus_->ask_now();
}

// ---- reads = "strict" --------------------------------------------------------------------------

bool ClusterNode::asks_after_reads() const {
    return setup_.config.reads == Reads::strict && !needs_no_lease_;
}

Nanos ClusterNode::ask_fellows_now() {
    const Nanos asked = stamp_sent_;
    if (strict_reads_.begin(asked)) bus_->ask_now();
    if (!BRAID_MUTANT(older_stamp_confirms)) return asked;
    return {asked.value - std::min(asked.value, lease_length_.value)};
}

bool ClusterNode::have_answered(Nanos asked) const {
    const auto newest = lease_.newest_from_enough();
    return needs_no_lease_ || (newest && *newest > asked);
}

}  // namespace braid::cluster
