// SPDX-License-Identifier: BSD-3-Clause
// What a configuration must keep, wherever it comes from: a slot, an order, a new array. Pure
// functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/layout/configuration.h"

namespace braid {

/// Names of arrays: up to 63 printable ASCII characters, or none.
bool is_array_name(std::string_view name);
/// Names of volumes: 1 to 63 of letters, digits and "._-", a letter or digit first.
bool is_volume_name(std::string_view name);
/// What a path looks like in a configuration: printable, valid UTF-8, at most member_path_max
/// bytes.
std::string path_to_keep(std::string_view path);

/// Every range, order and relation that a configuration must keep; the text names the field.
Checked<Unit> check_configuration(const Configuration& configuration);

}  // namespace braid
