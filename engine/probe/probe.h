// SPDX-License-Identifier: BSD-3-Clause
// What libblkid(3) knows of a device or file: looked at before anything is written to it.
#pragma once

#include <string>
#include <vector>

#include "engine/base/result.h"

namespace braid {

/// Everything that libblkid knows: file systems, swap, LVM, md, encrypted volumes, partition tables,
/// for people: "an ext4 file system (label root)". Empty: nothing. It reads, and waits for that.
Checked<std::vector<std::string>> probe_content(const std::string& path);

}  // namespace braid
