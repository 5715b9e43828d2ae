// SPDX-License-Identifier: BSD-3-Clause
// Rows whose parity may not be true any more, and what of the members may be read past the loop
// meanwhile.
#pragma once

#include "engine/stripes/stripe_jobs.h"

namespace braid {

/// Parity of these rows of a window may not be true from now on, until somebody computes it from
/// all data strips; their mark stays. What lost members held of them is listed, durably; an error:
/// a member that is kept takes no configuration, so that only the mark tells of it.
Task<Result<void>> doubt_rows(StripeContext context, WindowPlace place, RowMask rows);

/// Not past the loop: what is on the bad-row list, and what must be made true before it is read.
void set_direct_gates(const StripeContext& context);

}  // namespace braid
