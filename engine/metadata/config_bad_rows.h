// SPDX-License-Identifier: BSD-3-Clause
// The list of bad rows in the text of a configuration: it has a part of the text of its own, so
// that no other change of the configuration can find that it took the room. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/layout/configuration.h"
#include "engine/layout/roles.h"

namespace braid {

/// [[member, first, count, "retry" or "void"], …] without a blank.
std::string json_text_of(std::span<const BadRange> ranges);

/// Whether a list of bad rows fits in its part of a slot, whatever else the configuration holds.
/// Part of the checks. 600 ranges always do.
bool fit_slot(std::span<const BadRange> ranges);
/// Makes it fit by listing along what lies between neighbours, as little as may be. False: there is
/// nothing left to join.
/// @param written_since  members that are away, and whose strips may have been written since: what
///                       lies between two of theirs that are to be tried again is not theirs to give
bool merge_to_fit(std::vector<BadRange>& ranges, MemberSet written_since = {});

}  // namespace braid
