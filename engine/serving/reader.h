// SPDX-License-Identifier: BSD-3-Clause
// Reading for a client. Strips of live members are read without a lock, straight into the client's
// memory where that is aligned; what is lost, unreadable or was overtaken by a loss is computed
// under the rows' claim.
#pragma once

#include "engine/stripes/stripe_jobs.h"

namespace braid {

/// Reads [request->offset, + size) into request->data.
Task<Result<void>> read_request(StripeContext context, IoRequest* request);

}  // namespace braid
