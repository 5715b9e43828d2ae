// SPDX-License-Identifier: BSD-3-Clause
// Where a node is reached, as the cluster's file says it. Pure: no name is looked up.
#pragma once

#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/io/net.h"

namespace braid::cluster {

/// A socket's relative path begins at `folder`, which is a path from the root. The refusal says what
/// is wrong and what to write, without the text itself.
Checked<NetAddress> parse_address(std::string_view text, std::string_view folder);

/// `path` from the root, relative ones from `folder`; without `//`, `/./` and a final `/`, but
/// with `..`, which only the kernel can resolve. Refused: an empty path, control characters, more
/// than path_length_max bytes.
Checked<std::string> place_path(std::string_view path, std::string_view folder);

}  // namespace braid::cluster
