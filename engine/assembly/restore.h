// SPDX-License-Identifier: BSD-3-Clause
// Putting md superblocks back on members that lost theirs (firmware zeroes them, a tool wiped
// them), but whose configuration slots are whole. A slot says everything that the superblock beside
// it said, and names its checksum; so the superblock is made again as it was, with the time of its
// writing found from the checksum, and nothing else is written. What counts then is decided by the
// rules of assembly alone: the plan is what they make of the members as they would be.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/assembly/assembly.h"
#include "engine/base/result.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/metadata/md_superblock.h"
#include "engine/metadata/member_metadata.h"

namespace braid {

struct RestoreOptions {
    /// Write over what lies in the place of a superblock and is none; and assemble by force.
    bool force{false};
};

struct RestoredMember {
    std::string path;
    bool missing{false};                        // no superblock: it is to be written
    MdSuperblock superblock{};                  // as it is, or will be
    std::optional<std::uint64_t> last_written;  // seconds: when braid wrote the one that is gone
};

struct RestorePlan {
    std::vector<RestoredMember> members;  // one per image, in their order
    Assembly assembly;                    // what they make with all superblocks in place
    bool has_work() const;
};

/// Refuses a member that nothing is known of, that holds something else where its superblock would
/// lie, or whose slot is older than the array; and members that would not make an array.
Checked<RestorePlan> plan_restore(std::span<const MemberImage> images, RestoreOptions options);

/// Writes the superblocks that are missing, and reads them back. `disks` in the order of the plan's
/// members; they must outlive the task. `plan` is used before the task is returned only.
Task<Checked<Unit>> restore_members(std::vector<Disk*> disks, const RestorePlan& plan);

}  // namespace braid
