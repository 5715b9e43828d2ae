// SPDX-License-Identifier: BSD-3-Clause
// What a walk asks of the node that it runs on, as it goes on.
#pragma once

#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/decider.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/roles.h"
#include "engine/layout/rows.h"
#include "engine/walks/latency.h"

namespace braid {

/// What the array has to do as a walk goes on.
class WalkHost {
  public:
    virtual ~WalkHost() = default;
    /// The walk runs.
    virtual void walk_begun(const WalkOrder& order) = 0;
    /// These windows are done, and all of the order before them; their rows are still locked.
    virtual void walk_passed(const WalkOrder& order, WindowRange passed) = 0;
    /// Makes the position durable: never ahead of the data.
    virtual Task<Result<void>> walk_checkpoint() = 0;
    /// The data in these rows cannot be known: lists them, durably; as void also those that were to
    /// be tried again. Only then may the walk make the parity of void ones true for zeros.
    virtual Task<Result<void>> walk_unknown(std::vector<BadRange> rows) = 0;
    /// Rows of a window were found wrong: `what` for people. `strips`: which of them, as far as
    /// that can be told, else none.
    virtual void walk_mismatch(WindowPlace place, RowMask rows, RoleSet strips,
                               std::string what) = 0;
    virtual LatencySample take_latency() = 0;
};

}  // namespace braid
