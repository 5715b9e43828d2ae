// SPDX-License-Identifier: BSD-3-Clause
// Which nodes are to make the next fence together, who proposes it, and whose proposal a node
// refuses. Pure functions of who hears whom.
//
// A group is a clique: each of its nodes has a link with each other one, for any of them may be the
// home of what another one writes. It has enough members, or it could not serve. Of several the best
// one is, in this order, that with the most members in sync, the most nodes, the present master, the
// highest ids. A node sees the links of those only that it hears, which are all that matter for
// groups that it is in itself.
//
// The master proposes, as long as it is heard. Else the highest id of a group proposes: whoever is
// in somebody's best group, and higher, is or sees a higher one in its own, so that at least one
// node proposes. Two groups may do so at once; their epochs decide.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "cluster/wire/node_id.h"
#include "engine/base/units.h"
#include "engine/layout/register.h"

namespace braid::cluster {

/// What a node says of itself.
struct GroupNode {
    NodeSet hears;        // a link is up if both of its nodes say so
    MemberSet in_sync;    // roles whose home it is, and whose member counts; others are left out
    bool witness{false};  // it has the array's witness
};

struct GroupView {
    NodeId self{};
    std::map<NodeId, GroupNode> nodes;  // this one, and all others that are heard
    Quorum quorum;
    std::optional<NodeId> master;  // of the newest epoch that is known to be in force
};

struct Group {
    NodeSet nodes;
    NodeId proposer{};
    bool operator==(const Group&) const = default;
};

/// The best group with `self`. nullopt: no group that it is in has enough members.
std::optional<Group> choose_group(const GroupView& view);
/// Of two that do not reach each other the one without which the best group with `self` is better: who
/// reaches few others, rather than one of those others after the other. The lower one, where neither is.
NodeId who_leaves(const GroupView& view, NodeId one, NodeId other);

/// Of the master of the newest epoch that a node has adopted, as the node knows it.
struct MasterSeen {
    NodeId master{};
    bool link_up{false};        // both ways; of the node itself: yes
    bool has_lease{false};      // as it said in its newest heartbeat
    bool in_same_epoch{false};  // and that it is still in this epoch
};
/// Whether a prepare of this node is refused because there is a master.
bool is_refused_for_master(NodeId proposer, const std::optional<MasterSeen>& seen);

}  // namespace braid::cluster
