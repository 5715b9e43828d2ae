// SPDX-License-Identifier: BSD-3-Clause
// Zeroing of whole stripes: zero data has zero parity, so every live member is zeroed alike, by the
// command that its disk has for that, or by writing zeros where it has none.
#pragma once

#include <cstdint>

#include "engine/base/result.h"
#include "engine/io/task.h"
#include "engine/stripes/stripe_context.h"

namespace braid {

struct StripeSpan {
    StripeIndex first{};
    std::uint64_t count{0};
    bool may_free{false};  // members may give the space back
};

/// Claims windows, marks them, and zeroes them, some at a time. Waits in the end for losses that
/// are owed.
/// @return Errc::full, Errc::io: a member that is kept did not take it; what was done is in doubt
Task<Result<void>> zero_stripes(StripeContext context, StripeSpan span);

}  // namespace braid
