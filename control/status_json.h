// SPDX-License-Identifier: BSD-3-Clause
// The control socket's answers as JSON. The names are an interface: nbdkit-braid-plugin(1),
// "CONTROL SOCKET", lists them, and they only ever grow.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cluster/node/start_status.h"
#include "engine/status.h"

namespace braid::control {

nlohmann::json json_of(const ArrayStatus& status);
/// Of a node of a cluster that does not serve yet: the same fields, as far as there are any without
/// an array.
nlohmann::json json_of(const cluster::StartStatus& status);
nlohmann::json json_of(const WalkStatus& walk);
nlohmann::json json_of(const WaitStatus& wait);
nlohmann::json json_of(const ArrayEvent& event);
nlohmann::json json_of(const std::vector<ArrayEvent>& events);
nlohmann::json volumes_json(const ArrayStatus& status);
/// What GET /v1/scrub says: what runs, and how the last one ended.
nlohmann::json scrub_json(const ArrayStatus& status);
/// What GET /v1/intent says: the settings with the figures, and the recovery after the last start.
nlohmann::json intent_json(const ArrayStatus& status);
/// What GET /v1/bad says: at most `count` ranges from number `first` on, how many bytes are bad in
/// all, and the number that the next page begins with. Takes the longer the more there are: not for
/// the loop's thread.
nlohmann::json bad_json(const Configuration& configuration, std::uint64_t first,
                        std::uint64_t count);
std::string_view text_of(Severity severity);

/// As readable(), and a newline: the body of an answer.
std::string dump(const nlohmann::json& value);

}  // namespace braid::control
