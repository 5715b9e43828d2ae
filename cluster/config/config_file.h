// SPDX-License-Identifier: BSD-3-Clause
// cluster.toml as a file: read into memory, bounded, and handed to parse_cluster_config().
#pragma once

#include <string>

#include "cluster/config/cluster_config.h"
#include "engine/base/result.h"

namespace braid::cluster {

/// Relative paths in the file begin at the folder of `path` as it is given; where that is a link,
/// at the link's folder. Refused: what is no regular file, has more than cluster_file_size_max
/// bytes or cannot be read, and what parse_cluster_config() refuses.
Checked<ClusterConfig> read_cluster_config(const std::string& path);

}  // namespace braid::cluster
