// SPDX-License-Identifier: BSD-3-Clause
// The flush of all members: what was written is durable on every member that takes part, and a
// member that is lost is known to be, before anybody is told so.
#pragma once

#include "engine/base/result.h"
#include "engine/decider.h"
#include "engine/io/task.h"
#include "engine/members/members.h"

namespace braid {

/// Makes every completed write durable on the members that take part; those that nothing was
/// written on since their last flush have nothing to do. Both outlive the task.
/// @return Errc::full or Errc::failed where a flush of a member that is kept failed, also before;
///         Errc::full or Errc::io where its home did not carry it out; else an error of
///         losses_durable()
Task<Result<void>> flush_drives(Members* members, Decider* decider);

}  // namespace braid
