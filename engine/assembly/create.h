// SPDX-License-Identifier: BSD-3-Clause
// Making an array: a plan, which is a pure function of the wishes, of the devices' sizes and of
// what their metadata says now, and its execution. Whether what is on the devices may be lost is
// asked by who calls (cli/create.cpp).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/base/rng.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/member_metadata.h"

namespace braid {

inline constexpr std::uint64_t data_offset_default = 4u << 20;
inline constexpr std::uint64_t data_offset_large = 16u << 20;
inline constexpr std::uint64_t member_size_large = std::uint64_t{64} << 30;  // has the large one

struct VolumeWish {
    std::string name;
    std::uint64_t size{0};  // bytes; rounded up to whole stripes
};
struct CreateOptions {
    Level level{Level::raid5};
    Layout layout{Layout::left_symmetric};
    std::uint64_t strip_size{strip_size_default};
    std::string name{};
    std::vector<VolumeWish> volumes{};  // none: one, "data", of everything
    bool assume_clean{false};           // parity is true already, or the user does not care
    std::optional<std::uint64_t> data_offset{};  // bytes; none: what the members say, or by size
    std::uint64_t wall_seconds{0};
};
/// What a piece of a member's metadata says of the array that it is, or was, of.
struct OldLayout {
    std::string source;            // "its md superblock", "its configuration slot 1"
    std::uint64_t data_offset{0};  // bytes; first data byte on it
    Level level{Level::raid5};
    Layout layout{Layout::left_symmetric};
    std::uint64_t strip_size{0};  // bytes
    std::uint64_t stripes{0};
    std::uint32_t member_count{0};
    std::optional<MemberIndex> role;  // none: a spare, or faulty
};
/// Of the superblock, and of the slots of the same array, or of all where there is no superblock.
std::vector<OldLayout> old_layouts(const MemberImage& image);

struct CreateMember {
    std::string path;
    std::uint64_t size{0};  // bytes of the device
    bool spare{false};
    bool zero_fast{false};            // see zeroes_fast()
    std::uint32_t sector_size{512};   // bytes
    std::vector<OldLayout> before{};  // counts with assume_clean
    bool witness{false};              // of RAID-6 of four: metadata only, to break ties
};

/// Whether a disk is zeroed cheaply as it is to be: one that has space for all of it keeps it.
inline bool zeroes_fast(const DiskInfo& info) {
    return info.allocated ? info.zero_kept_fast : info.zero_fast;
}

/// How parity becomes true.
enum class InitialParity : std::uint8_t {
    zeroed,    // all members are zeroed, which is cheap here
    resynced,  // by a resync that runs when the array is first served
    assumed,   // the user says so
};

struct CreatePlan {
    Configuration configuration;  // a checked one, cleanly stopped
    InitialParity parity{InitialParity::resynced};
    std::uint64_t wall_seconds{0};
    std::vector<std::string> notices;
};
/// `members` in the order of their roles; spares, and one witness, in any place. With `assume_clean`
/// the data stays where it is, so the members' old metadata must not say anything else than the
/// options.
Checked<CreatePlan> plan_create(const CreateOptions& options, std::span<const CreateMember> members,
                                Rng& rng);

/// Tries whether all disks take writes; then wipes their ends (with assumed parity: nothing but
/// where metadata lies), zeroes the data where the plan says so, writes the metadata and reads it
/// again. What fails before the first wipe changed nothing; after that the refusal says what is
/// where, and no disk is left with metadata of the new array. `disks` in the order of
/// plan_create()'s members, as the configuration has them: roles first, then spares, then the
/// witness; they must outlive the task. `plan` is used before the task is returned only.
/// @param progress  called with bytes zeroed and bytes in all; may be empty
Task<Checked<Unit>> create_array(std::vector<Disk*> disks, const CreatePlan& plan,
                                 std::function<void(std::uint64_t, std::uint64_t)> progress);

}  // namespace braid
