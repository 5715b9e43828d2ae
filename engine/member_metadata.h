// SPDX-License-Identifier: BSD-3-Clause
// The metadata of one member: read as an image for assembly, and written for each configuration.
// Reading changes nothing. Writing goes in an order in which a crash at any point leaves either
// the older or the newer state: slot, flush, bitmap header and superblock, flush.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/buffer.h"
#include "engine/base/result.h"
#include "engine/base/rng.h"
#include "engine/base/uuid.h"
#include "engine/config_slot.h"
#include "engine/configuration.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/md_superblock.h"

namespace braid {

/// Everything on a member that assembly looks at, as it was read; buffers that lie beyond the
/// member's end are empty. A plain value, so that tests and fuzzers make their own.
struct MemberImage {
    std::string path;
    std::uint64_t device_size{0};     // bytes
    int os_error{0};                  // of a read that failed: nothing else counts then
    Buffer superblock;                // 4096 bytes at md_superblock_offset
    std::array<Buffer, slot_count> slots;
    Buffer bitmap;                    // first 4096 bytes of md's bitmap, if there is one
    Buffer bad_blocks;                // 4096 bytes of md's log, if the superblock says it is used
    std::string elsewhere;            // another version of md's superblock that was found, for people
};
Task<MemberImage> read_member_image(Disk& disk);

/// What an image says, piece by piece.
struct MemberFindings {
    Result<MdSuperblock, Finding> superblock{Finding{}};
    std::optional<MdBitmapHeader> bitmap;
    std::array<Result<ConfigSlot, Finding>, slot_count> slots{Finding{}, Finding{}};
    std::optional<std::uint32_t> newest;  // the valid slot with the highest sequence
    /// Something stands in the way of the slots, or in md's bitmap or log, that braid cannot live
    /// with; to follow "PATH: ".
    std::optional<Finding> hindrance;

    const ConfigSlot* slot() const { return newest ? &*slots[*newest] : nullptr; }
    /// A slot that once was one, and is damaged.
    const Finding* corrupt_slot() const;
    /// The newest slot and the superblock belong together: nobody else wrote the superblock since.
    bool is_tied() const;
};
MemberFindings inspect(const MemberImage& image);

/// What braid must remember of a member between two writes of its metadata.
struct MemberMetadata {
    Uuid uuid;                            // of the member
    MdSuperblock superblock{};            // as it lies on the member
    Buffer bitmap;                        // 4096 bytes with md's bitmap header, or empty
    std::uint64_t sequence{0};            // of the newest slot
    std::uint64_t epoch{0};               // of the configuration in it
};
MemberMetadata metadata_of(const MemberImage& image, const MemberFindings& findings);

/// The metadata, not yet written, of a member that comes new into the array: like its `sibling`'s.
MemberMetadata metadata_for_new(const MemberMetadata& sibling, const Configuration& configuration,
                                const MemberRecord& record);
/// A record for a device of `size` bytes that is to join as a spare: uuid, dev_number, data_offset
/// like the others'. Refuses a device that is too small.
Checked<MemberRecord> plan_new_member(const Configuration& configuration, std::string_view path,
                                      std::uint64_t size, Rng& rng);
/// A number for md's dev_roles that no record has.
std::uint32_t free_dev_number(const Configuration& configuration);

/// Makes `configuration` the next one: raises the epoch and sets `settled` from what the members
/// that take part in it hold. `held`: the metadata of all members that are open.
void advance(Configuration& configuration, std::span<const MemberMetadata* const> held);

/// Writes `configuration` to one member: call it for every member that the configuration calls
/// in_sync, rebuilding or spare, with the same stamp. `configuration.in_use` false means a clean
/// stop: everything written to any member must have been flushed before.
/// @param disk, metadata  must outlive the task; metadata is brought up to date on success
/// @param configuration   a checked one, which has a record of metadata.uuid; used before the
///                        first suspension only
/// @return  Errc::io if the member failed; the configuration may be there or not
Task<Result<void>> write_member_metadata(Disk& disk, MemberMetadata& metadata,
                                         const Configuration& configuration, MdStamp stamp);
/// Takes what is left of another array, file system or partition table away from the front of the
/// member, so that nobody takes the new member for the old thing.
Task<Result<void>> wipe_member_front(Disk& disk, std::uint64_t data_offset);

}  // namespace braid
