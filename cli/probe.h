// SPDX-License-Identifier: BSD-3-Clause
// What is on a device or file: looked at before anything is written to it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/metadata/member_metadata.h"

namespace braid::cli {

/// Everything that libblkid(3) knows: file systems, swap, LVM, md, encrypted volumes, partition
/// tables, for people: "an ext4 file system (label root)". Empty: nothing.
Checked<std::vector<std::string>> probe_content(const std::string& path);

/// "a member of RAID-5 array kit 12345678-…" if the image is one; none otherwise.
std::optional<std::string> describe_member(const MemberImage& image);

}  // namespace braid::cli
