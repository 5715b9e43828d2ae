// SPDX-License-Identifier: BSD-3-Clause
// probe_content() for tasks of the loop: it waits for a disk, and so it has a thread of its own.
#pragma once

#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/io/task.h"
#include "engine/io/uring_loop.h"

namespace braid::plugin {

/// The loop runs until it has ended.
Task<Checked<std::vector<std::string>>> probe_beside(UringLoop* loop, std::string path);

}  // namespace braid::plugin
