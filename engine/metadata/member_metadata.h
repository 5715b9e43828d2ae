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
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/result.h"
#include "engine/base/uuid.h"
#include "engine/io/clock.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/register.h"
#include "engine/metadata/config_slot.h"
#include "engine/metadata/intent_record.h"
#include "engine/metadata/md_superblock.h"
#include "engine/metadata/promise_slot.h"

namespace braid {

/// Everything on a member that assembly looks at, as it was read; buffers that lie beyond the
/// member's end are empty. A plain value, so that tests and fuzzers make their own.
struct MemberImage {
    std::string path;
    std::uint64_t device_size{0};  // bytes
    int os_error{0};               // of a read that failed: nothing else counts then
    Buffer superblock;             // 4096 bytes at md_superblock_offset
    std::array<Buffer, slot_count> slots;
    Buffer bitmap;      // first 4096 bytes of md's bitmap, if there is one
    Buffer bad_blocks;  // 4096 bytes of md's log, if the superblock says it is used
    Buffer intent;      // write_intent_size bytes at slots_end
    std::array<Buffer, promise_slot_count> promises;
    std::string elsewhere;  // another version of md's superblock that was found, for people
};
Task<MemberImage> read_member_image(Disk& disk);
/// Of each disk, in their order, all at once; the disks must outlive the task. What cannot be read
/// is read again some times, with growing pauses, one and a half seconds in all: one moment's
/// trouble must not make a member an absent one.
Task<std::vector<MemberImage>> read_member_images(ReadyQueue& ready, Clock& clock,
                                                  std::vector<Disk*> disks);

/// A slot of the write intent that holds a record of this array, or what once was a record.
struct FoundIntent {
    std::uint32_t slot{0};  // node × 2 + generation mod 2
    Result<IntentRecord, Finding> record;
};

/// What an image says, piece by piece.
struct MemberFindings {
    Result<MdSuperblock, Finding> superblock{Finding{}};
    std::optional<MdBitmapHeader> bitmap;
    std::array<Result<ConfigSlot, Finding>, slot_count> slots{Finding{}, Finding{}};
    std::optional<std::uint32_t> newest;  // the valid slot with the highest sequence
    /// Something stands in the way of the slots, or in md's bitmap or log, that braid cannot live
    /// with; to follow "PATH: ".
    std::optional<Finding> hindrance;
    /// Why the area "write_intent" cannot be written, to follow "PATH: ".
    std::optional<Finding> intent_hindrance;
    std::vector<FoundIntent> intent;         // in order of slots
    std::vector<std::uint32_t> intent_zero;  // slots that nothing has ever been written to

    Promise promise;  // the highest of the valid ones; epoch 0: none
    /// Why there can be no promise on this member, to follow "PATH: ".
    std::optional<Finding> promise_hindrance;

    const ConfigSlot* slot() const { return newest ? &*slots[*newest] : nullptr; }
    /// A slot that once was one, and is damaged.
    const Finding* corrupt_slot() const;
    /// The newest slot and the superblock belong together: nobody else wrote the superblock since.
    bool is_tied() const;
};
MemberFindings inspect(const MemberImage& image);

/// What braid must remember of a member between two writes of its metadata.
struct MemberMetadata {
    Uuid uuid;                  // of the member
    MdSuperblock superblock{};  // as it lies on the member
    Buffer bitmap;              // 4096 bytes with md's bitmap header, or empty
    std::uint64_t sequence{0};  // of the newest slot
    MemberRegister reg;         // what was promised, and which configuration is held
    std::uint64_t promise_sequence{0};
    bool promises{false};                    // there is room for promises
    std::vector<std::uint32_t> intent_zero;  // slots of the write intent to be prepared
    bool blank{false};                       // nothing is written yet; superblock: only a pattern
    /// What was read of it may lie in a volatile cache alone, where an earlier start had failed: it
    /// is flushed before anything is written, lest that start's slot and this one's be all there is.
    bool unflushed{false};
};
MemberMetadata metadata_of(const MemberImage& image, const MemberFindings& findings);

/// Of a member of a new array, on which nothing is written yet.
MemberMetadata metadata_of_new(const Configuration& configuration, const MemberRecord& record);

/// Of a member that is to join the array of `sibling`, on which nothing is written yet.
MemberMetadata metadata_like(const Uuid& uuid, const MemberMetadata& sibling,
                             std::uint64_t data_offset);

/// A number for md's dev_roles that no record has.
std::uint32_t free_dev_number(const Configuration& configuration);

/// Promises `epoch` at one member, durably: from then on it stores nothing of an older one. Where
/// there is no room for promises nothing is written (assembly.h tells what is asked for instead).
/// @param array  the array that the member belongs to, or is to join
/// @return  Errc::io if the member failed, Errc::full if it had no room; Errc::fenced if it has
///          promised as much already. Where it cannot flush what lay there before nothing is written
Task<Result<void>> promise_member(Disk& disk, MemberMetadata* metadata, Uuid array,
                                  std::uint64_t epoch);

/// Writes `configuration` to one member: call it for every member that the configuration calls
/// in_sync, rebuilding or spare. `configuration.in_use` false means a clean stop: everything
/// written to any member must have been flushed before. Before its first time on a member the area
/// of the write intent is made ready (intent_record.h), and a blank one's is emptied: no record of
/// another life of the device may count in this one.
/// What takes part promised the configuration's epoch before, and so did the witness; a spare need
/// not have.
/// @param disk, metadata  must outlive the task; metadata is brought up to date on success
/// @param configuration   a checked one, which has a record of metadata->uuid; used before the
///                        task is returned only
/// @return  Errc::io if the member failed, Errc::full if it had no room: the configuration may be
///          there or not; Errc::fenced if it promised another epoch
Task<Result<void>> write_member_metadata(Disk& disk, const Configuration* configuration,
                                         MemberMetadata* metadata, std::uint64_t wall_seconds);

}  // namespace braid
