// SPDX-License-Identifier: BSD-3-Clause
// What a walk asks of the node that it runs on, as it goes on.
#pragma once

#include "engine/base/result.h"
#include "engine/decider.h"
#include "engine/io/task.h"
#include "engine/layout/rows.h"
#include "engine/walks/latency.h"

namespace braid {

/// What becomes of its order, and what it finds, it tells the decider itself.
class WalkProgress {
  public:
    virtual ~WalkProgress() = default;
    /// These windows are done, and all of the order before them; their rows are still claimed.
    virtual void walk_passed(const WalkOrder& order, WindowRange passed) = 0;
    /// Makes the position durable: never ahead of the data.
    virtual Task<Result<void>> walk_checkpoint() = 0;
    virtual LatencySample take_latency() = 0;
};

}  // namespace braid
