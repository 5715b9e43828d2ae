// SPDX-License-Identifier: BSD-3-Clause
// A disk that is to join an array, by create, add or replace: what lies on it at both of its ends,
// whether it takes writes, and how it is made empty. Whoever gives up another disk for it, or wipes
// it, does the first two before.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/uuid.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/member_metadata.h"

namespace braid {

/// Of a disk's end: a backup GPT, md's superblocks 1.0 and 0.90, ZFS's last two labels lie in it.
inline constexpr std::uint64_t disk_end_size = 1u << 20;

/// Where other formats that lie at the ends of a disk show themselves, for people: "a backup GPT (a
/// partition table)". Of file systems and the like libblkid(3) knows more.
Task<Checked<std::vector<std::string>>> find_signatures(Disk& disk);

/// Writes one row back as it was, durably: refuses a disk that takes no writes. Not for a disk that
/// somebody writes to.
Task<Checked<Unit>> try_write(Disk& disk);

/// [0, front) and the end of the disk read as zero afterwards, and durably so: nobody takes it for
/// what it was.
/// @param keep_before  nothing in front of this place, but for the front, is touched: where data is
///                     to stay
Task<Result<void>> wipe_ends(Disk& disk, std::uint64_t front, std::uint64_t keep_before = 0);

/// As which members of `array` a disk was written, by its superblock and by its slots: if one of
/// them is in use, it is that one by another name, or a copy of it. Reads only.
Task<Checked<std::vector<Uuid>>> find_traces(Disk& disk, Uuid array);

/// A device that is to join an array that runs.
struct NewMember {
    MemberMetadata metadata;     // blank; for the record that gets its uuid
    std::optional<Uuid> before;  // which member of this array it once was
    /// It took part, by the newest configuration on it.
    struct TookPart {
        Uuid member;  // which it was
        EpochRevision version;
        EpochRevision in_force;
        Uuid lineage;
        MemberState state{MemberState::missing};  // in_sync or rebuilding
        DataArea area;                            // on it
        std::vector<IntentRecord> records;        // of the write intent
    };
    std::optional<TookPart> took_part;
};
/// Looks at what is on the device, which is refused if it holds another array or other data, unless
/// that is forced; tries whether it takes writes; then wipes both ends, but not of a member of this array
/// that was away. What is refused is as it was.
/// @param uuid         of the new member
/// @param configuration, sibling  of the array and of one of its members: copied before the first
///                     suspension
Task<Checked<NewMember>> prepare_new_member(Disk& disk, Uuid uuid,
                                            const Configuration& configuration,
                                            const MemberMetadata& sibling, Force force);
/// So much of a member's front is metadata, or will be.
std::uint64_t front_of(const Configuration& configuration);
/// "PATH: holds CONTENT, which would be lost; …".
Refusal refuse_content(const Disk& disk, std::string_view content);

}  // namespace braid
