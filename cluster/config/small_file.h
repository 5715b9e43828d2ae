// SPDX-License-Identifier: BSD-3-Clause
// Files that people write or copy, and that are small: read whole, with a bound.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <string>

#include "engine/base/result.h"
#include "engine/base/unique_fd.h"

namespace braid::cluster {

struct SmallFile {
    UniqueFd fd;
    struct stat status {};
};

/// Opened for reading. Refused: what cannot be opened, and what is no regular file; a FIFO is not
/// waited for. Refusals begin with `path`.
Checked<SmallFile> open_small_file(const std::string& path);
/// All of it, or its first `size_max + 1` bytes: then it has too many.
Checked<std::string> read_small_file(const SmallFile& file, const std::string& path,
                                     std::size_t size_max);

/// "PATH: cannot be opened: No such file or directory".
Refusal cannot(const std::string& path, const char* what, int os_error);

}  // namespace braid::cluster
