// SPDX-License-Identifier: BSD-3-Clause
// The picture of a node of a cluster that does not serve yet: what it waits for, and who is there.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/text.h"

namespace braid::cli {

/// @param start  as the control socket's status has it
std::string draw_start(const nlohmann::json& start, const Style& style);

}  // namespace braid::cli
