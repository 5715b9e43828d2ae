// SPDX-License-Identifier: BSD-3-Clause
// ToldStatus: what only the node that decides knows of an array's state, for the others to show: what
// runs, what ran last, and what waits. As it travels.
#pragma once

#include <optional>
#include <vector>

#include "cluster/bus/talk.h"
#include "engine/base/result.h"
#include "engine/status.h"

namespace braid::cluster {

struct ToldStatus {
    EpochRevision version;  // of the configuration in force
    std::vector<WalkStatus> walks;
    std::optional<WalkStatus> last_scrub;
    std::vector<WaitStatus> waits;
    std::vector<NodeStatus> nodes;
};

/// What a node tells of itself: {"tell": "node", ...}
Words words_of(const NodeStatus& node);
Checked<NodeStatus> node_status_of(const Words& words);

/// {"tell": "status", ...}
Words words_of(const ToldStatus& status);
Checked<ToldStatus> told_status_of(const Words& words, const Geometry& geometry);

}  // namespace braid::cluster
