// SPDX-License-Identifier: BSD-3-Clause
// NodeArray: what the array of any node of a cluster does alike, whoever decides about it.
#pragma once

#include <string>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "engine/array.h"

namespace braid::cluster {

class NodeArray : public Array {
  public:
    explicit NodeArray(ClusterNode& node) : node_(node) {}

    /// Of a node that decides: the array as other nodes order things of it, whose disks are known.
    virtual Array& inner() = 0;

    Task<Checked<Unit>> reserve(std::string volume) final {
        return node_.reservations().reserve(std::move(volume));
    }
    Task<Checked<Unit>> release(std::string volume) final {
        return node_.reservations().release(std::move(volume));
    }
    Task<Checked<Unit>> open_volume(std::string volume) final {
        return node_.reservations().open_volume(std::move(volume));
    }
    Task<Checked<Unit>> order_node(NodeOrder what, std::uint32_t node) final {
        return node_.order_node(what, node);
    }
    void close_volume(const std::string& volume) final {
        node_.reservations().close_volume(volume);
    }

  protected:
    /// What the cluster adds to what an array tells of itself.
    void fill(ArrayStatus& status) const {
        status.reservations = node_.reservations().status();
        status.cluster = node_.cluster_status();
        status.nodes = node_.node_statuses(status.counters);
    }

    ClusterNode& node_;
};

}  // namespace braid::cluster
