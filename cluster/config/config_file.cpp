// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/config/config_file.h"

#include "cluster/config/small_file.h"
#include "engine/base/limits.h"
#include "engine/base/path.h"

namespace braid::cluster {
namespace {

std::string folder_of(const std::string& path) {
    const std::string rooted = rooted_path(path);
    const std::size_t slash = rooted.rfind('/');
    return slash == 0 ? "/" : rooted.substr(0, slash);
}

}  // namespace

Checked<ClusterConfig> read_cluster_config(const std::string& path) {
    BRAID_TRY(const SmallFile file, open_small_file(path));
    BRAID_TRY(const std::string text, read_small_file(file, path, cluster_file_size_max));
    return parse_cluster_config(text, {.file = path, .folder = folder_of(path)});
}

}  // namespace braid::cluster
