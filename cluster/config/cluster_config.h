// SPDX-License-Identifier: BSD-3-Clause
// The cluster's file, cluster.toml: which nodes there are, how they are reached, which members each
// of them opens, and where their common key lies. braid-cluster(7) describes it. What is on the
// members is the truth about the array; the file may differ between nodes, as long as each finds
// itself and the others in it.
//
// Pure: from a text to a plan or to a refusal. Each refusal names the file, the line and the key, and
// says what to write instead. Whether members are there, or two of them one device, is not asked.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/config/address.h"
#include "engine/base/limits.h"
#include "engine/base/result.h"

namespace braid::cluster {

struct NodePlan {
    std::uint32_t id{0};                // 1 to nodes_max - 1
    std::vector<NetAddress> addresses;  // 1 to node_addresses_max, the first is tried first
    std::vector<std::string> members;   // paths from the root; none: it only serves
};

/// What becomes of requests when too few nodes hear each other for the array to go on.
enum class NoQuorum : bool {
    wait,   // for as long as it takes
    error,  // for ten seconds: then the array stops on all nodes
};

/// By what this node answers its clients' reads.
enum class Reads : bool {
    lease,   // while its lease holds
    strict,  // when the others have said, after it had read, that they have not gone on without it
};

struct ClusterConfig {
    std::string name;                 // 1 to name_length_max printable ASCII characters
    std::string key;                  // path from the root; empty: no key, and all is local
    std::vector<NodePlan> nodes;      // 1 to nodes_max - 1, by id
    std::set<std::string> exclusive;  // volumes that clients of one node have at a time
    std::uint32_t lease_ms{lease_ms_default};  // for which a node serves without being heard
    std::uint32_t heartbeat_ms{heartbeat_ms_default};    // at most a quarter of that
    std::uint32_t start_wait_ms{start_wait_ms_default};  // for nodes that do not come; 0: for ever
    NoQuorum no_quorum{NoQuorum::wait};
    Reads reads{Reads::lease};
    std::vector<std::string> warnings;  // sentences for people
    /// Null: there is none with that id.
    const NodePlan* find(std::uint32_t id) const;
};

/// What the messages call the file, and the folder where relative paths in it begin.
struct ConfigSource {
    std::string file;
    std::string folder;  // from the root
};

Checked<ClusterConfig> parse_cluster_config(std::string_view text, const ConfigSource& source);

/// The plan of node `id`. Refused: the file, which messages call `file`, has no such node.
Checked<NodePlan> plan_of_node(const ClusterConfig& config, std::uint32_t id,
                               const std::string& file);

}  // namespace braid::cluster
