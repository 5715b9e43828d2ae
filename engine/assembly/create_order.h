// SPDX-License-Identifier: BSD-3-Clause
// An order to make an array, and the plan that comes of it, as JSON: as they come to a server and
// go from it (nbdkit-braid-plugin(1), "CONTROL SOCKET"), and between the nodes of a cluster. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/assembly/create.h"
#include "engine/base/result.h"

namespace braid {

struct CreateOrder {
    CreateOptions options;  // wall_seconds is not the orderer's
    std::vector<std::string> spares;
    std::string witness;          // empty: none
    bool force{false};            // although members hold something
    bool force_placement{false};  // although the array would not outlive each of its nodes
    bool dry_run{false};
};
nlohmann::json json_of(const CreateOrder& order);
/// Refused: a field that is unknown, missing, or not what it has to be; RefusalCode::invalid.
Checked<CreateOrder> create_order_of(const nlohmann::json& object);

/// "4", "5" or "6".
Checked<Level> level_of(const std::string& text);
/// "left-symmetric", …, or "ls", …; empty: the default.
Checked<Layout> layout_named(const std::string& text);

/// Of the array to be made: sizes in bytes.
nlohmann::json json_of(const CreatePlan& plan);

}  // namespace braid
