// SPDX-License-Identifier: BSD-3-Clause
// Forming: a fence that is about to begin, on the node that proposes it. For ClusterNode only.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"

namespace braid::cluster {

struct ClusterNode::Forming {
    std::uint64_t fence{0};
    std::vector<NodeBoot> gone{};
    std::vector<NodeBoot> joined{};
    std::map<std::uint32_t, Prepared> answers{};  // by node
    std::map<std::uint32_t, Nanos> heard{};       // when each had prepared
    std::set<std::uint32_t> pending{};            // who is asked, and has not done it
    Nanos began{};
    Nanos deadline{};           // for them
    std::uint64_t answered{0};  // by all nodes, when it was looked last: members are being read
};

}  // namespace braid::cluster
