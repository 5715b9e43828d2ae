// SPDX-License-Identifier: BSD-3-Clause
// Paths as the kernel resolves them. "dir/link/../file" is beside what the link leads to, and not
// in "dir": so a path is never made shorter by looking at its text.
#pragma once

#include <string>

#include "engine/base/result.h"

namespace braid {

/// The absolute path, without links, of what is there: realpath(3). Error::os_error says why not.
Result<std::string> real_path(const std::string& path);
/// The same, of something that need not be there: its folder's real path and the last name.
Result<std::string> real_path_of_new(const std::string& path);
/// From the root, otherwise as it was given: what is left where nothing can be resolved.
std::string rooted_path(const std::string& path);

}  // namespace braid
