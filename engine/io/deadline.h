// SPDX-License-Identifier: BSD-3-Clause
// An operation on the ring that may take so long and no longer.
#pragma once

#include "engine/base/units.h"
#include "engine/io/task.h"
#include "engine/io/uring_loop.h"

namespace braid {

/// What `*op` gives, or -ETIMEDOUT: it was taken back at `until`. It stays in its place meanwhile.
Task<int> run_until(RingOp* op, Nanos until);

}  // namespace braid
