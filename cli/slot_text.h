// SPDX-License-Identifier: BSD-3-Clause
// What a configuration slot says, all of it, for a member whose superblock does not say it any
// more; and what an array would be made of.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/metadata/config_text.h"

namespace braid::cli {

/// Lines that begin with two blanks: the array, the member's role and place, state, volumes.
std::string slot_lines(const ConfigSlot& slot);
/// Members and volumes of a configuration, one a line that begins with two blanks.
std::string parts_lines(const Configuration& configuration);
/// What a slot says, for programs: what a superblock says in braid examine --json, and what only
/// slots do.
nlohmann::ordered_json slot_json(const ConfigSlot& slot);

}  // namespace braid::cli
