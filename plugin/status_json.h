// SPDX-License-Identifier: BSD-3-Clause
// The control socket's answers as JSON. The names are an interface: nbdkit-braid-plugin(1),
// "CONTROL SOCKET", lists them, and they only ever grow.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/status.h"

namespace braid::plugin {

nlohmann::json json_of(const ArrayStatus& status);
nlohmann::json json_of(const WalkStatus& walk);
nlohmann::json json_of(const ArrayEvent& event);
nlohmann::json json_of(const std::vector<ArrayEvent>& events);
nlohmann::json volumes_json(const Configuration& configuration);
/// What GET /v1/scrub says: what runs, and how the last one ended.
nlohmann::json scrub_json(const ArrayStatus& status);
std::string_view text_of(Severity severity);

/// As text, whatever bytes the strings hold: what is no UTF-8 is replaced.
std::string dump(const nlohmann::json& value);

}  // namespace braid::plugin
