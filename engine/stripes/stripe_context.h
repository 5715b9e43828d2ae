// SPDX-License-Identifier: BSD-3-Clause
// What the stripe code shares; all of it outlives whoever has a copy.
#pragma once

#include "engine/decider.h"
#include "engine/intent/write_intent.h"
#include "engine/layout/geometry.h"
#include "engine/members/bad_rows.h"
#include "engine/members/members.h"
#include "engine/status.h"
#include "engine/stripes/buffer_pool.h"
#include "engine/stripes/row_claims.h"

namespace braid {

struct StripeContext {
    const Geometry& geometry;
    Members& members;
    RowClaims& claims;
    BufferPool& pool;
    Decider& decider;
    WriteIntent& intent;
    const BadRows& bad;
    Counters& counters;
    bool readonly;             // members are only read: what could not be read is not rewritten
    RowHomes* homes{nullptr};  // none: the node is alone
};

}  // namespace braid
