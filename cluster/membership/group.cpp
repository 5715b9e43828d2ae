// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/membership/group.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

/// Visits the maximal cliques: whoever could be added to a group makes it better.
/// Source: Bron and Kerbosch, algorithm 457, 1973, with the pivot of Tomita et al., 2006: at most
/// 3^(n/3) cliques, some 60 000 of 30 nodes.
class Search {
  public:
    explicit Search(const GroupView& view) : view_(view) {
        for (const auto& [node, one] : view.nodes) {
            BRAID_REQUIRE(raw(node) < nodes_max);
            for (const auto& [other, other_one] : view.nodes) {
                if (node != other && one.hears.has(other) && other_one.hears.has(node))
                    links_[raw(node)].add(other);
            }
        }
    }

    std::optional<NodeSet> best() {
        visit(NodeSet::of(view_.self), links_[raw(view_.self)], {});
        return best_;
    }
    using Order = std::tuple<std::uint32_t, std::uint32_t, bool, std::uint64_t>;
    /// Of the best one; of none: less than any.
    Order order() const { return order_; }

  private:
    /// @param more  who may be added to the group
    /// @param done  who could be, but all groups with it have been visited
    void visit(NodeSet group, NodeSet more, NodeSet done) {
        if (more.empty()) {
            if (done.empty()) consider(group);
            return;
        }
        for (const NodeId node : more - links_[raw(pivot(more, done))]) {
            const NodeSet links = links_[raw(node)];
            visit(group | NodeSet::of(node), more & links, done & links);
            more.remove(node);
            done.add(node);
        }
    }
    NodeId pivot(NodeSet more, NodeSet done) const {
        NodeId most{};
        std::uint32_t count = 0;
        for (const NodeId node : more | done) {
            const std::uint32_t links = (links_[raw(node)] & more).size() + 1;
            if (links > count) {
                count = links;
                most = node;
            }
        }
        return most;
    }

    void consider(NodeSet group) {
        MemberSet in_sync;
        Witness said = Witness::silent;
        for (const NodeId node : group) {
            const GroupNode& one = view_.nodes.at(node);
            in_sync |= one.in_sync;
            if (one.witness) said = Witness::promised;
        }
        in_sync = in_sync & MemberSet::first(view_.quorum.members);
        if (!view_.quorum.is_enough(in_sync, said)) return;
        const bool has_master = view_.master && group.has(*view_.master);
        const Order order{in_sync.size(), group.size(), has_master, group.bits()};
        if (best_ && order < order_) return;
        best_ = group;
        order_ = order;
    }

    const GroupView& view_;
    std::array<NodeSet, nodes_max> links_{};
    std::optional<NodeSet> best_;
    Order order_{};
};

NodeId highest(NodeSet nodes) {
    NodeId last{};
    for (const NodeId node : nodes) last = node;
    return last;
}

bool hears_master(const GroupView& view) {
    if (!view.master) return false;
    if (*view.master == view.self) return true;
    const auto master = view.nodes.find(*view.master);
    return master != view.nodes.end() && master->second.hears.has(view.self) &&
           view.nodes.at(view.self).hears.has(*view.master);
}

}  // namespace

std::optional<Group> choose_group(const GroupView& view) {
    BRAID_REQUIRE(view.nodes.contains(view.self));
    const auto nodes = Search(view).best();
    if (!nodes) return std::nullopt;
    return Group{*nodes, hears_master(view) ? *view.master : highest(*nodes)};
}

NodeId who_leaves(const GroupView& view, NodeId one, NodeId other) {
    BRAID_REQUIRE(one != other);
    const auto order_without = [&](NodeId node) {
        GroupView left = view;
        left.nodes.erase(node);
        Search search(left);
        search.best();
        return search.order();
    };
    const NodeId low = std::min(one, other);
    const NodeId high = std::max(one, other);
    return order_without(high) > order_without(low) ? high : low;
}

bool is_refused_for_master(NodeId proposer, const std::optional<MasterSeen>& seen) {
    if (!seen || proposer == seen->master) return false;
    return seen->link_up && seen->has_lease && seen->in_same_epoch;
}

}  // namespace braid::cluster
