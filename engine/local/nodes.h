// SPDX-License-Identifier: BSD-3-Clause
// Nodes: what the array on the node that decides needs of the others that serve it. A node that is
// alone has none. Whoever puts an array together asks in the order in which it stands here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/decider.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"
#include "engine/members/row_homes.h"
#include "engine/metadata/intent_record.h"
#include "engine/serving_node.h"

namespace braid {

class Serving;

/// What the one who decides hears from other nodes beside what a Decider does.
class NodesListener {
  public:
    virtual ~NodesListener() = default;
    /// A member's home waits to hear what becomes of it. True: it keeps its place; else it is lost.
    virtual bool member_failing(MemberIndex member, HomeFault what, int os_error) = 0;
    /// A node is gone, and with it what it had in memory: `why` names it. Nothing is written any more.
    virtual void node_gone(const std::string& why) = 0;
    /// This node has left by order, and others go on: here nothing is written any more.
    virtual void node_left(const std::string& why) = 0;
    /// Whether the array goes on where these are lost with a node, and the witness says that then.
    virtual bool can_lose(MemberSet members, Witness expected) const = 0;
    /// They are lost; on all nodes they are so in memory already. Until that is in force. An error:
    /// the array has stopped, or a member that it needs does not take that.
    virtual Task<Result<void>> lose(MemberSet members, std::string why, Fault fault) = 0;
    /// What is decided of a node's writes that is gone happens; the rest does not. When it is durable
    /// nothing is in doubt for what the node had marked. Gives the generation of its newest record,
    /// which is empty; 0: there is none. An error: that could not be written.
    virtual Task<Result<std::uint64_t>> forget_node(std::uint32_t node) = 0;
    /// Whether the configuration is in force as it is wanted, and says of every member what is so.
    virtual bool is_in_force_as_wanted() const = 0;
};

class Nodes {
  public:
    virtual ~Nodes() = default;

    /// The array that is being put together; once, before anything else.
    virtual RowHomes& homes(const Geometry& geometry) = 0;
    /// Begins to serve it, on all nodes. What is returned tells `own` and all others.
    virtual ServingNode& join(Serving& own, Decider& decider, NodesListener& listener,
                              const Configuration& configuration) = 0;
    /// Marks of this node's are durable, and name all that was marked: the others may begin theirs.
    /// @param generations  by node, of the newest record that was found
    /// @param marked       left from the last run, on any node
    virtual Task<Result<void>> begin_marks(IntentSettings settings,
                                           std::map<std::uint32_t, std::uint64_t> generations,
                                           std::vector<IntentEntry> marked) = 0;
    /// Clients of all nodes are served from now on.
    virtual Task<Result<void>> begin_serving() = 0;

    /// The array ends: no node takes a request any more; waits until none is under way anywhere.
    virtual Task<void> drain() = 0;
    /// It has ended, cleanly or not.
    virtual Task<void> end(bool clean) = 0;
};

}  // namespace braid
