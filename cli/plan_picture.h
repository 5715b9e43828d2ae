// SPDX-License-Identifier: BSD-3-Clause
// The plan of a new array, for people: of JSON, as engine/assembly/create_order.h and the control
// socket have it. Fields that are absent or of another type are left out, not trusted.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace braid::cli {

/// @param future  nothing is made yet
std::string plan_lines(const nlohmann::json& plan, bool future);
/// Of the answer of a cluster: what the death of each node would mean.
std::string placement_lines(const nlohmann::json& answer);

}  // namespace braid::cli
