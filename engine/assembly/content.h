// SPDX-License-Identifier: BSD-3-Clause
// What a disk holds that somebody might miss, in words: of what was read of it. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/metadata/member_metadata.h"

namespace braid {

/// "a member of RAID-5 array kit 12345678-…" if the image is one; none otherwise.
std::optional<std::string> describe_member(const MemberImage& image);
/// Nothing on it looks like metadata of braid's or md's, be it damaged.
bool is_blank(const MemberImage& image);
/// Everything that somebody might miss; empty: nothing.
/// @param probed      what libblkid(3) knows of it (engine/probe/probe.h)
/// @param signatures  what find_signatures() (new_member.h) found
std::vector<std::string> content_of(const MemberImage& image, std::vector<std::string> probed,
                                    const std::vector<std::string>& signatures);
/// "a file system (ext4); and a backup GPT (a partition table)".
std::string text_of_content(const std::vector<std::string>& content);

}  // namespace braid
