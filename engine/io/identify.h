// SPDX-License-Identifier: BSD-3-Clause
// Which bytes lie behind a path or an open file: loop devices and partitions are followed down to
// the file or disk that they lie on.
// Source: loop(4), Documentation/ABI/stable/sysfs-block ("start", "partition").
#pragma once

#include <string>

#include "engine/base/disk_identity.h"
#include "engine/base/result.h"

namespace braid {

/// Not known() for what is neither a regular file nor a block device.
DiskIdentity identify(int fd);
/// Errc::io with its errno: it cannot be opened for reading.
Result<DiskIdentity> identify_path(const std::string& path);

}  // namespace braid
