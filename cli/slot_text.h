// SPDX-License-Identifier: BSD-3-Clause
// What a configuration slot says, all of it, for a member whose superblock does not say it any
// more.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/metadata/config_slot.h"

namespace braid::cli {

/// Lines that begin with two blanks: the array, the member's role and place, state, volumes.
std::string slot_lines(const ConfigSlot& slot);
/// The same for programs: what a superblock says in braid examine --json, and what only slots do.
nlohmann::ordered_json slot_json(const ConfigSlot& slot);

}  // namespace braid::cli
