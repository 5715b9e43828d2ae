// SPDX-License-Identifier: BSD-3-Clause
// Linux md's superblock, version 1.2, and the header of its write-intent bitmap: bytes, checks,
// and what braid changes in them. Pure functions; nothing here does I/O.
// Source: Linux include/uapi/linux/raid/md_p.h, drivers/md/md.c (super_1_load, super_1_sync),
// drivers/md/md-bitmap.h; mdadm super1.c.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/base/endian.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/layout/configuration.h"
#include "parity/bytes.h"

namespace braid {

inline constexpr std::uint64_t md_superblock_offset = 4096;  // of version 1.2
inline constexpr std::uint32_t md_magic = 0xa92b4efc;
inline constexpr std::uint32_t md_devices_max = 1920;         // dev_roles that fit in 4096 bytes
inline constexpr std::uint32_t md_devices_default = 128;      // as mdadm: 512 bytes in all
inline constexpr std::uint64_t md_never = ~std::uint64_t{0};  // resync_offset: nothing to resync

namespace md_feature {
inline constexpr std::uint32_t bitmap = 1;
inline constexpr std::uint32_t recovery_offset = 2;
inline constexpr std::uint32_t bad_blocks = 8;
/// Ours: braid serves the array, or did not stop cleanly. No kernel knows it, so md refuses.
inline constexpr std::uint32_t in_use_by_braid = 1u << 31;
}  // namespace md_feature

/// Bits of `devflags` of which md keeps those that it does not know.
namespace md_device_flag {
/// Ours: the array is not one volume from its first to its last stripe. Only the configuration
/// slots know its volumes, so without them it must not be taken for one.
inline constexpr std::uint8_t volumes = 0x80;
}  // namespace md_device_flag

namespace md_role {
inline constexpr std::uint16_t spare = 0xffff;
inline constexpr std::uint16_t faulty = 0xfffe;
inline constexpr std::uint16_t journal = 0xfffd;
inline constexpr std::uint16_t special_first = 0xff00;  // below: a role
}  // namespace md_role

/// Where braid declares md's bad-block log: right in front of its own areas. mdadm takes the room
/// behind the superblock up to the log for a bitmap of any size that it is asked for, and for a
/// partial parity log, without a look at what is there; and the kernel follows it.
/// Source: mdadm super1.c, add_internal_bitmap1(), write_bitmap1(), getinfo_super1().
inline constexpr std::uint64_t md_log_place = md_superblock_offset + (132u << 10);  // 139264
inline constexpr std::uint64_t md_log_size = row_size;
/// Linux 6.19 and later: 0, not said, or a power of two from 512 to the size of a page.
inline constexpr std::uint32_t md_logical_block_max = 4096;

/// The value of a field where a comparison or an argument of a template wants a plain integer.
template <class T>
constexpr T plain(LittleEndian<T> field) {
    return field;
}

/// Offsets and units as md has them: sectors of 512 bytes unless said otherwise.
struct MdSuperblock {
    Le32 magic;                                  //   0
    Le32 major_version;                          //   4  1
    Le32 feature_map;                            //   8
    Le32 pad0;                                   //  12  zero
    Uuid set_uuid;                               //  16  the array
    std::array<char, 32> set_name;               //  32
    Le64 ctime;                                  //  64  low 40 bits seconds, high 24 microseconds
    LeS32 level;                                 //  72
    Le32 layout;                                 //  76
    Le64 size;                                   //  80  used of each member
    Le32 chunksize;                              //  88  our strip size
    Le32 raid_disks;                             //  92
    LeS32 bitmap_offset;                         //  96  from the superblock
    Le32 new_level;                              // 100
    Le64 reshape_position;                       // 104
    LeS32 delta_disks;                           // 112
    Le32 new_layout;                             // 116
    Le32 new_chunk;                              // 120
    LeS32 new_offset;                            // 124
    Le64 data_offset;                            // 128
    Le64 data_size;                              // 136
    Le64 super_offset;                           // 144  8
    Le64 recovery_offset;                        // 152
    Le32 dev_number;                             // 160  index into dev_roles
    Le32 cnt_corrected_read;                     // 164
    Uuid device_uuid;                            // 168
    std::uint8_t devflags;                       // 184
    std::uint8_t bblog_shift;                    // 185
    Le16 bblog_size;                             // 186
    LeS32 bblog_offset;                          // 188  from the superblock
    Le64 utime;                                  // 192  as ctime
    Le64 events;                                 // 200
    Le64 resync_offset;                          // 208  md_never: clean
    Le32 sb_csum;                                // 216
    Le32 max_dev;                                // 220
    Le32 logical_block_size;                     // 224  Linux 6.19 and later
    std::array<std::uint8_t, 28> pad3;           // 228  zero
    std::array<Le16, md_devices_max> dev_roles;  // 256  max_dev of them count
};
static_assert(sizeof(MdSuperblock) == row_size && is_packed_v<MdSuperblock>);
static_assert(offsetof(MdSuperblock, level) == 72 && offsetof(MdSuperblock, bitmap_offset) == 96);
static_assert(offsetof(MdSuperblock, data_offset) == 128 &&
              offsetof(MdSuperblock, device_uuid) == 168);
static_assert(offsetof(MdSuperblock, bblog_offset) == 188 &&
              offsetof(MdSuperblock, sb_csum) == 216 && offsetof(MdSuperblock, dev_roles) == 256);

/// Why bytes are not a superblock (a slot, a bitmap header) that braid can use.
enum class FindingKind : std::uint8_t {
    none,         // nothing of the kind is there
    corrupt,      // it is, but damaged
    unsupported,  // it is whole, but asks for what braid cannot do
};
struct Finding {
    FindingKind kind{FindingKind::none};
    std::string text;  // what was found and why it will not do, to follow "PATH: "
};
inline Finding corrupt(std::string text) { return {FindingKind::corrupt, std::move(text)}; }
inline Finding unsupported(std::string text) { return {FindingKind::unsupported, std::move(text)}; }

/// Checks everything that does not depend on other members. `device_size` in bytes.
Result<MdSuperblock, Finding> decode_md_superblock(ByteView bytes, std::uint64_t device_size);
/// md's sum over the bytes that count, with sb_csum taken as zero. max_dev must be in range.
std::uint32_t md_checksum(const MdSuperblock& superblock);

// What the fields say, in our words. Only of a superblock that was decoded or made here.
std::uint64_t strip_size_of(const MdSuperblock& superblock);  // bytes
std::uint64_t stripes_of(const MdSuperblock& superblock);
std::uint16_t role_of(const MdSuperblock& superblock);  // dev_roles[dev_number]
std::string name_of(const MdSuperblock& superblock);    // printable ASCII; may have been cut
std::optional<StripeIndex> resynced_of(const MdSuperblock& superblock);
StripeIndex rebuilt_of(const MdSuperblock& superblock);  // of a member that is rebuilding
Layout layout_of(const MdSuperblock& superblock);
bool is_in_use(const MdSuperblock& superblock);
/// The array's volumes were more, or less, than one of everything when braid wrote this.
bool has_volumes(const MdSuperblock& superblock);

/// The superblock of a member that never had one. The configuration must be a checked one.
MdSuperblock make_md_superblock(const Configuration& configuration, const MemberRecord& record);
/// `before` with what `configuration` says of the array and of `record`, and its checksum. What
/// braid does not own (name, times of creation, places of bitmap and log) stays.
MdSuperblock update_md_superblock(MdSuperblock before, const Configuration& configuration,
                                  const MemberRecord& record, std::uint64_t wall_seconds);

/// What `wanted` would be, with the `utime` that gives it the checksum `sum`: the superblock that
/// went with a configuration slot is known but for its time, and the slot names its checksum.
/// `wanted` as it is where no time does.
MdSuperblock with_checksum(MdSuperblock wanted, std::uint32_t sum);

/// Heads md's internal bitmap; the bits follow.
struct MdBitmapHeader {
    Le32 magic;                         //  0  0x6d746962
    Le32 version;                       //  4  4; 5 clustered, 6 lockless: refused
    Uuid uuid;                          //  8  the array
    Le64 events;                        // 24  older than the superblock's: md resyncs everything
    Le64 events_cleared;                // 32  md re-adds no member that is older than this
    Le64 sync_size;                     // 40  sectors
    Le32 state;                         // 48
    Le32 chunksize;                     // 52  bytes
    Le32 daemon_sleep;                  // 56
    Le32 write_behind;                  // 60
    Le32 sectors_reserved;              // 64
    Le32 nodes;                         // 68
    std::array<char, 64> cluster_name;  // 72
    std::array<std::uint8_t, 120> pad;  // 136
};
static_assert(sizeof(MdBitmapHeader) == 256 && is_packed_v<MdBitmapHeader>);
inline constexpr std::uint32_t md_bitmap_magic = 0x6d746962;

Result<MdBitmapHeader, Finding> decode_md_bitmap(ByteView bytes, const Uuid& array);
/// Bytes of header and bits.
std::uint64_t size_of(const MdBitmapHeader& header);
/// Both counters at `events`: braid sets no bits, so a member that was away must not be taken back
/// by the bits alone.
MdBitmapHeader update_md_bitmap(MdBitmapHeader before, std::uint64_t events);

/// `sb` with the bad-block log, which must be empty, at md_log_place, unless it lies in front of it
/// already, or md's bitmap is in the way.
MdSuperblock place_log(MdSuperblock sb, const std::optional<MdBitmapHeader>& bitmap);

/// Entries of md's bad-block log, one page of 64-bit words; an all-ones word ends it.
std::uint64_t bad_block_entries(ByteView log);

}  // namespace braid
