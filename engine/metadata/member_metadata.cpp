// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/member_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/metadata/config_check.h"

namespace braid {
namespace {

constexpr std::uint64_t tail_of_090 = 64u << 10;  // md 0.90: the last whole 64 KiB but one

struct Extent {
    std::uint64_t begin{0};
    std::uint64_t end{0};
    bool overlaps(Extent other) const { return begin < other.end && other.begin < end; }
};
static_assert(md_log_place + md_log_size == slots_offset);
constexpr Extent slots_extent{slots_offset, slots_end};
constexpr Extent intent_extent{slots_end, slots_end + write_intent_size};
constexpr Extent promises_extent{promises_offset, promises_end};
// How far the data has to be: md's bad-block log may end the gap.
constexpr std::uint64_t intent_needs = intent_extent.end + row_size;
constexpr std::uint64_t promises_need = promises_extent.end + row_size;

/// Where `sectors` from the superblock lies; none if that is in front of the member.
std::optional<std::uint64_t> place_of(std::int32_t sectors) {
    const std::int64_t at = static_cast<std::int64_t>(md_superblock_offset) +
                            std::int64_t{sectors} * static_cast<std::int64_t>(sector_size);
    if (at < 0) return std::nullopt;
    return static_cast<std::uint64_t>(at);
}

bool has_bitmap(const MdSuperblock& sb) { return (sb.feature_map & md_feature::bitmap) != 0; }

bool has_magic(ByteView bytes, const std::array<char, 8>& magic) {
    return bytes.size() >= magic.size() &&
           std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

/// Whence metadata is read.
struct Source {
    Disk* disk;
    Clock* clock;  // null: what cannot be read at once is not read again
};

/// Each read has its own tries: a disk that fails one in some may fail one of each image.
Task<Result<void>> read_patiently(Source from, std::uint64_t offset, ByteSpan into) {
    constexpr std::uint32_t retries = 5;
    Nanos pause = millis(50);  // before the first; then twice as long
    Disk& disk = *from.disk;
    Result<void> read = co_await read_disk(disk, offset, into);
    for (std::uint32_t again = 0; !read && from.clock != nullptr && again != retries; ++again) {
        Timer timer(*from.clock, Nanos{from.clock->now().value + pause.value});
        co_await timer;
        pause.value *= 2;
        read = co_await read_disk(disk, offset, into);
    }
    co_return read;
}

/// Empty where the member ends before it.
Task<Result<Buffer>> read_piece(Source from, std::uint64_t offset, std::uint64_t size) {
    Buffer bytes;
    const std::uint64_t end = round_down(from.disk->info().size, row_size);
    if (offset > end || size > end - offset || !is_row_aligned(offset)) co_return std::move(bytes);
    bytes = Buffer(size);
    BRAID_CO_CHECK(co_await read_patiently(from, offset, bytes.span()));
    co_return std::move(bytes);
}

bool has_md_magic(const Buffer& bytes, std::size_t at) {
    Le32 word;
    if (at + sizeof word > bytes.size()) return false;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    return plain(word) == md_magic;
}

/// Other places in which md may have a superblock: named for people, not used.
Task<Result<std::string>> look_elsewhere(Source from) {
    const std::uint64_t size = from.disk->info().size;
    BRAID_CO_TRY(Buffer front, co_await read_piece(from, 0, row_size));
    if (has_md_magic(front, 0)) co_return std::string("an md superblock of version 1.1");
    if (size < 2 * tail_of_090) co_return std::string{};
    const std::uint64_t at_1_0 = to_bytes({round_down(size / sector_size - 16, 8)}).value;
    BRAID_CO_TRY(Buffer end, co_await read_piece(from, round_down(at_1_0, row_size), row_size));
    if (has_md_magic(end, at_1_0 % row_size)) {
        co_return std::string("an md superblock of version 1.0");
    }
    const std::uint64_t at_0_90 = round_down(size, tail_of_090) - tail_of_090;
    BRAID_CO_TRY(Buffer old, co_await read_piece(from, at_0_90, row_size));
    if (has_md_magic(old, 0)) co_return std::string("an md superblock of version 0.90");
    co_return std::string{};
}

/// md's bitmap and bad-block log.
Task<Result<void>> read_md_areas(Source from, MemberImage* image, MdSuperblock sb) {
    const auto bitmap = place_of(sb.bitmap_offset);
    if (has_bitmap(sb) && bitmap) {
        BRAID_CO_TRY(image->bitmap, co_await read_piece(from, *bitmap, row_size));
    }
    const auto log = place_of(sb.bblog_offset);
    if ((sb.feature_map & md_feature::bad_blocks) != 0 && log) {
        BRAID_CO_TRY(image->bad_blocks, co_await read_piece(from, *log, row_size));
    }
    co_return Result<void>{};
}

Task<Result<void>> read_into(Source from, MemberImage* image) {
    BRAID_CO_TRY(image->superblock, co_await read_piece(from, md_superblock_offset, row_size));
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        BRAID_CO_TRY(image->slots[slot], co_await read_piece(from, slot_offset(slot), slot_size));
    }
    const auto sb = decode_md_superblock(image->superblock.view(), image->device_size);
    if (sb) BRAID_CO_CHECK(co_await read_md_areas(from, image, *sb));
    // Where data lies, nothing is read: a row of it that is unreadable costs nobody his place.
    const std::uint64_t data_offset = sb ? to_bytes({plain(sb->data_offset)}).value : ~0ULL;
    if (data_offset >= intent_needs) {
        BRAID_CO_TRY(image->intent, co_await read_piece(from, slots_end, write_intent_size));
    }
    for (std::uint32_t slot = 0; slot != promise_slot_count && data_offset >= promises_need;
         ++slot) {
        BRAID_CO_TRY(image->promises[slot],
                     co_await read_piece(from, promise_slot_offset(slot), promise_slot_size));
    }
    if (!has_md_magic(image->superblock, 0)) {
        BRAID_CO_TRY(image->elsewhere, co_await look_elsewhere(from));
    }
    co_return Result<void>{};
}

/// Which of md's own areas lies in `extent`: "md's bitmap", "md's bad-block log"; empty: none.
std::string_view find_overlap(const MdSuperblock& sb, const std::optional<MdBitmapHeader>& bitmap,
                              Extent extent) {
    const auto at_bitmap = place_of(sb.bitmap_offset);
    if (bitmap && at_bitmap && Extent{*at_bitmap, *at_bitmap + size_of(*bitmap)}.overlaps(extent)) {
        return "md's bitmap";
    }
    const auto at_log = place_of(sb.bblog_offset);
    if (plain(sb.bblog_offset) != 0 && at_log &&
        Extent{*at_log, *at_log + to_bytes({plain(sb.bblog_size)}).value}.overlaps(extent)) {
        return "md's bad-block log";
    }
    return {};
}
std::string_view way_out_of(std::string_view overlap) {
    return overlap == "md's bitmap" ? "take it away with mdadm --grow --bitmap=none"
                                    : "assemble it with mdadm --update=no-bbl once";
}

/// Whether md's own areas leave the slots alone, and the slots' place is ours or empty.
std::optional<Finding> find_hindrance(const MemberImage& image, const MdSuperblock& sb,
                                      const std::optional<MdBitmapHeader>& bitmap) {
    const std::uint64_t data_offset = to_bytes({plain(sb.data_offset)}).value;
    if (data_offset < slots_end) {
        return unsupported(fmt::format(
            "has no room for braid's configuration: its data starts at byte {}, and {} are "
            "needed; make the array anew with mdadm --data-offset=4M or more, or with braid create",
            data_offset, slots_end));
    }
    if (const auto overlap = find_overlap(sb, bitmap, slots_extent); !overlap.empty()) {
        return unsupported(fmt::format("has {} where braid's configuration would lie; {}", overlap,
                                       way_out_of(overlap)));
    }
    if (const auto count = bad_block_entries(image.bad_blocks.view()); count != 0) {
        return unsupported(fmt::format(
            "has {} entries in md's bad-block log, which braid does not follow; let md repair it, "
            "then assemble it with mdadm --update=no-bbl once",
            count));
    }
    return std::nullopt;
}

std::optional<Finding> find_strange_slot(const MemberImage& image, const MemberFindings& findings) {
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        const auto& found = findings.slots[slot];
        if (!found && found.error().kind == FindingKind::unsupported) return found.error();
        if (!found && found.error().kind == FindingKind::none &&
            !has_magic(image.slots[slot].view(), slot_magic) &&
            !is_zero(image.slots[slot].view())) {
            return unsupported(fmt::format(
                "has bytes of something else where braid's configuration would lie (at byte {}); "
                "perhaps a bitmap of mdadm's; if they mean nothing to you, fill {} bytes there with "
                "zeros: then the configuration of the other members counts",
                slot_offset(slot), slot_size));
        }
    }
    return std::nullopt;
}

/// Whether the area of the write intent lies in front of the data, and md leaves it alone.
std::optional<Finding> find_intent_obstacle(const MdSuperblock& sb,
                                            const std::optional<MdBitmapHeader>& bitmap) {
    const std::uint64_t data_offset = to_bytes({plain(sb.data_offset)}).value;
    if (data_offset < intent_needs) {
        return unsupported(fmt::format(
            "has no room for the write intent: its data starts at byte {}, and {} are needed; "
            "only an array that is made anew has it, with braid create or mdadm --data-offset=4M",
            data_offset, intent_needs));
    }
    if (const auto overlap = find_overlap(sb, bitmap, intent_extent); !overlap.empty()) {
        return unsupported(fmt::format("has {} where the write intent would lie; {}", overlap,
                                       way_out_of(overlap)));
    }
    return std::nullopt;
}

/// Only what is ours, or zero, may be written over.
void inspect_intent_slot(MemberFindings& findings, ByteView bytes, std::uint32_t slot) {
    if (is_zero(bytes)) {
        findings.intent_zero.push_back(slot);
        return;
    }
    auto record = decode_intent(bytes, slot);
    std::optional<Finding> hindrance;
    if (!record && record.error().kind == FindingKind::unsupported) hindrance = record.error();
    if (!has_magic(bytes, intent_magic)) {
        hindrance = unsupported(fmt::format(
            "has bytes of something else where the write intent would lie (at byte {}); if they "
            "mean nothing to you, fill {} bytes there with zeros",
            slots_end + slot * intent_slot_size, intent_slot_size));
    }
    if (hindrance && !findings.intent_hindrance) findings.intent_hindrance = std::move(hindrance);
    // What is left of another array is written over, and does not count.
    if (record && record->array != findings.superblock->set_uuid) return;
    if (!record && record.error().kind == FindingKind::none) return;
    findings.intent.push_back({slot, std::move(record)});
}

void inspect_intent(MemberFindings& findings, const MemberImage& image) {
    findings.intent_hindrance = find_intent_obstacle(*findings.superblock, findings.bitmap);
    if (findings.intent_hindrance) return;  // data or md's, whatever it looks like
    if (image.intent.size() != write_intent_size) {
        findings.intent_hindrance = unsupported("ends before the place of the write intent");
        return;
    }
    for (std::uint32_t slot = 0; slot != nodes_max * intent_slots; ++slot) {
        inspect_intent_slot(
            findings, image.intent.view().subspan(slot * intent_slot_size, intent_slot_size), slot);
    }
}

std::optional<Finding> find_promise_obstacle(const MdSuperblock& sb,
                                             const std::optional<MdBitmapHeader>& bitmap) {
    const std::uint64_t data_offset = to_bytes({plain(sb.data_offset)}).value;
    if (data_offset < promises_need) {
        return unsupported(
            fmt::format("has no room for promises: its data starts at byte {}, and {} are needed",
                        data_offset, promises_need));
    }
    if (const auto overlap = find_overlap(sb, bitmap, promises_extent); !overlap.empty()) {
        return unsupported(
            fmt::format("has {} where promises would lie; {}", overlap, way_out_of(overlap)));
    }
    return std::nullopt;
}

/// Only what is ours, or zero, may be written over. Of another array nothing counts.
void inspect_promises(MemberFindings& findings, const MemberImage& image) {
    findings.promise_hindrance = find_promise_obstacle(*findings.superblock, findings.bitmap);
    if (findings.promise_hindrance) return;
    for (std::uint32_t slot = 0; slot != promise_slot_count; ++slot) {
        const ByteView bytes = image.promises[slot].view();
        const auto found = decode_promise(bytes, slot);
        if (found && found->array == Uuid{findings.superblock->set_uuid} &&
            found->member == Uuid{findings.superblock->device_uuid}) {
            if (found->epoch > findings.promise.epoch) findings.promise = *found;
        }
        if (found || has_magic(bytes, promise_magic) || is_zero(bytes)) {
            if (!found && found.error().kind == FindingKind::unsupported && !findings.hindrance) {
                findings.hindrance = found.error();
            }
            continue;
        }
        findings.promise_hindrance = unsupported(fmt::format(
            "has bytes of something else where promises would lie (at byte {}); if they mean "
            "nothing to you, fill {} bytes there with zeros",
            promise_slot_offset(slot), promise_slot_size));
        findings.promise = {};
        return;
    }
}

struct EncodedMetadata {
    Buffer slot;
    std::uint64_t slot_at{0};
    Buffer bitmap;
    std::uint64_t bitmap_at{0};
    std::vector<std::uint32_t> intent;  // slots that get their magic
    Buffer superblock;
    MdSuperblock after;
    std::uint64_t sequence{0};
    EpochRevision version;
};

/// The superblock of a new member: what `pattern`, another member's, says of the array, and what
/// the record says of this one.
MdSuperblock fill_pattern(const MdSuperblock& pattern, const Configuration& configuration,
                          const MemberRecord& record) {
    MdSuperblock sb = make_md_superblock(configuration, record);
    sb.set_name = pattern.set_name;
    sb.ctime = pattern.ctime;
    sb.layout = pattern.layout;
    sb.size = pattern.size;
    sb.feature_map = pattern.feature_map & md_feature::bitmap;
    sb.bitmap_offset = pattern.bitmap_offset;
    const std::uint64_t log = place_of(pattern.bblog_offset).value_or(record.data_offset);
    const bool fits = log + to_bytes({plain(pattern.bblog_size)}).value <= record.data_offset;
    sb.bblog_offset = fits ? plain(pattern.bblog_offset) : 0;
    sb.bblog_size = static_cast<std::uint16_t>(fits ? plain(pattern.bblog_size) : 0);
    sb.logical_block_size = pattern.logical_block_size;
    sb.sb_csum = md_checksum(sb);
    return sb;
}

std::optional<MdBitmapHeader> bitmap_of(const MdSuperblock& sb, const Buffer& bitmap_header) {
    if (!has_bitmap(sb)) return std::nullopt;
    const auto decoded = decode_md_bitmap(bitmap_header.view(), sb.set_uuid);
    return decoded ? std::optional(*decoded) : std::nullopt;
}

/// All of the area, where a new member has it.
std::vector<std::uint32_t> all_intent_slots(const MdSuperblock& sb,
                                            const std::optional<MdBitmapHeader>& bitmap) {
    std::vector<std::uint32_t> slots;
    if (find_intent_obstacle(sb, bitmap)) return slots;
    for (std::uint32_t slot = 0; slot != nodes_max * intent_slots; ++slot) slots.push_back(slot);
    return slots;
}

EncodedMetadata encode(const MemberMetadata& metadata, Configuration configuration,
                       std::uint64_t wall_seconds) {
    for (MemberRecord& any : configuration.members) any.path = path_to_keep(any.path);
    const auto record =
        std::ranges::find(configuration.members, metadata.uuid, &MemberRecord::uuid);
    BRAID_REQUIRE(record != configuration.members.end());
    BRAID_REQUIRE(check_configuration(configuration).has_value());
    EncodedMetadata encoded;
    encoded.sequence = metadata.sequence + 1;
    encoded.version = configuration.version;
    const MdSuperblock before = metadata.blank
                                    ? fill_pattern(metadata.superblock, configuration, *record)
                                    : metadata.superblock;
    const std::optional<MdBitmapHeader> bitmap = bitmap_of(before, metadata.bitmap);
    encoded.after =
        update_md_superblock(place_log(before, bitmap), configuration, *record, wall_seconds);
    ConfigSlot slot;
    slot.sequence = encoded.sequence;
    slot.member = metadata.uuid;
    slot.tie = {encoded.after.sb_csum, before.sb_csum};
    slot.configuration = configuration;
    encoded.slot = encode_slot(slot);
    encoded.slot_at = slot_offset(static_cast<std::uint32_t>(encoded.sequence % slot_count));
    encoded.superblock = Buffer(sizeof(MdSuperblock));
    std::memcpy(encoded.superblock.data(), &encoded.after, sizeof(MdSuperblock));
    encoded.intent = metadata.blank ? all_intent_slots(before, bitmap) : metadata.intent_zero;
    const auto bitmap_at = place_of(before.bitmap_offset);
    if (has_bitmap(before) && metadata.bitmap.size() != 0 && bitmap_at) {
        encoded.bitmap = metadata.bitmap;
        encoded.bitmap_at = *bitmap_at;
        MdBitmapHeader header;
        std::memcpy(&header, encoded.bitmap.data(), sizeof header);
        header = update_md_bitmap(header, configuration.events);
        std::memcpy(encoded.bitmap.data(), &header, sizeof header);
    }
    return encoded;
}

/// Neighbours in one write.
Task<Result<void>> prepare_intent(Disk& disk, const std::vector<std::uint32_t>& slots) {
    for (std::size_t at = 0; at != slots.size();) {
        std::size_t end = at + 1;
        while (end != slots.size() && slots[end] == slots[end - 1] + 1) ++end;
        const Buffer empty = empty_intent_slots(static_cast<std::uint32_t>(end - at));
        BRAID_CO_CHECK(
            co_await write_disk(disk, slots_end + slots[at] * intent_slot_size, empty.view()));
        at = end;
    }
    co_return Result<void>{};
}

Task<Result<void>> flush_what_was_read(Disk& disk, MemberMetadata* metadata) {
    if (!metadata->unflushed || BRAID_MUTANT(unflushed_overwritten)) co_return Result<void>{};
    BRAID_CO_CHECK(co_await flush_disk(disk));
    metadata->unflushed = false;
    co_return Result<void>{};
}

Task<Result<void>> write_encoded(Disk& disk, MemberMetadata& metadata, EncodedMetadata encoded) {
    BRAID_CO_CHECK(co_await flush_what_was_read(disk, &metadata));
    BRAID_CO_CHECK(co_await prepare_intent(disk, encoded.intent));
    if (encoded.sequence <= slot_count) {
        // The first time in this slot: the magic goes first, so that a torn write leaves a corrupt
        // slot and not bytes of nobody, in the way of everything.
        BRAID_CO_CHECK(
            co_await write_disk(disk, encoded.slot_at, encoded.slot.view().first(row_size)));
        BRAID_CO_CHECK(co_await flush_disk(disk));
    }
    BRAID_CO_CHECK(co_await write_disk(disk, encoded.slot_at, encoded.slot.view()));
    BRAID_CO_CHECK(co_await flush_disk(disk));
    if (encoded.bitmap.size() != 0) {
        BRAID_CO_CHECK(co_await write_disk(disk, encoded.bitmap_at, encoded.bitmap.view()));
    }
    BRAID_CO_CHECK(co_await write_disk(disk, md_superblock_offset, encoded.superblock.view()));
    BRAID_CO_CHECK(co_await flush_disk(disk));
    metadata.superblock = encoded.after;
    if (encoded.bitmap.size() != 0) metadata.bitmap = std::move(encoded.bitmap);
    metadata.sequence = encoded.sequence;
    metadata.reg.held = encoded.version;
    metadata.intent_zero.clear();
    metadata.blank = false;
    co_return Result<void>{};
}

Task<MemberImage> read_image(Source from) {
    MemberImage image;
    image.path = from.disk->info().path;
    image.device_size = from.disk->info().size;
    const auto read = co_await read_into(from, &image);
    if (!read) image.os_error = read.error().os_error != 0 ? read.error().os_error : 5;
    co_return std::move(image);
}

Task<void> read_image_into(Source from, MemberImage* into) { *into = co_await read_image(from); }

Task<Result<void>> refuse_store() { co_return Error{Errc::fenced, "store"}; }

/// Whether a member with this superblock and data_offset has room for promises.
bool holds_promises(MdSuperblock sb, const Buffer& bitmap_header, std::uint64_t data_offset) {
    sb.data_offset = to_sectors({data_offset}).value;
    return !find_promise_obstacle(sb, bitmap_of(sb, bitmap_header));
}

}  // namespace

Task<MemberImage> read_member_image(Disk& disk) { return read_image({&disk, nullptr}); }

Task<std::vector<MemberImage>> read_member_images(ReadyQueue& ready, Clock& clock,
                                                  std::vector<Disk*> disks) {
    std::vector<MemberImage> images(disks.size());
    TaskGroup readers(ready);  // beside each other: who waits for one disk waits for all
    for (std::size_t at = 0; at != disks.size(); ++at) {
        readers.spawn(read_image_into({disks[at], &clock}, &images[at]));
    }
    co_await readers.join();
    co_return std::move(images);
}

const Finding* MemberFindings::corrupt_slot() const {
    for (const auto& found : slots) {
        if (!found && found.error().kind == FindingKind::corrupt) return &found.error();
    }
    return nullptr;
}

bool MemberFindings::is_tied() const {
    if (!superblock || slot() == nullptr) return false;
    const SuperblockTie& tie = slot()->tie;
    return plain(superblock->sb_csum) == tie.checksum ||
           plain(superblock->sb_csum) == tie.checksum_before;
}

MemberFindings inspect(const MemberImage& image) {
    MemberFindings findings;
    findings.superblock = decode_md_superblock(image.superblock.view(), image.device_size);
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        findings.slots[slot] = decode_slot(image.slots[slot].view(), slot);
        auto& found = findings.slots[slot];
        if (findings.superblock && found &&
            (found->configuration.array != findings.superblock->set_uuid ||
             found->member != findings.superblock->device_uuid)) {
            found = Finding{FindingKind::none, "holds what is left of another array"};
        }
        const ConfigSlot* newest = findings.slot();
        if (found && (newest == nullptr || found->sequence > newest->sequence)) {
            findings.newest = slot;
        }
    }
    if (!findings.superblock) return findings;
    const MdSuperblock& sb = *findings.superblock;
    if (has_bitmap(sb)) {
        const auto bitmap = decode_md_bitmap(image.bitmap.view(), sb.set_uuid);
        if (!bitmap) {
            findings.hindrance = bitmap.error();
            return findings;
        }
        findings.bitmap = *bitmap;
    }
    findings.hindrance = find_hindrance(image, sb, findings.bitmap);
    if (!findings.hindrance) findings.hindrance = find_strange_slot(image, findings);
    inspect_intent(findings, image);
    inspect_promises(findings, image);
    return findings;
}

MemberMetadata metadata_of(const MemberImage& image, const MemberFindings& findings) {
    MemberMetadata metadata;
    BRAID_REQUIRE(findings.superblock.has_value());
    metadata.superblock = *findings.superblock;
    metadata.uuid = metadata.superblock.device_uuid;
    if (findings.bitmap) metadata.bitmap = image.bitmap;
    if (!findings.intent_hindrance) metadata.intent_zero = findings.intent_zero;
    if (const ConfigSlot* slot = findings.slot()) {
        metadata.sequence = slot->sequence;
        metadata.reg.held = slot->configuration.version;
    }
    metadata.reg.promise = findings.promise.epoch;
    metadata.promise_sequence = findings.promise.sequence;
    metadata.promises = !findings.promise_hindrance;
    return metadata;
}

std::uint32_t free_dev_number(const Configuration& configuration) {
    std::set<std::uint32_t> used;
    for (const MemberRecord& record : configuration.members) used.insert(record.dev_number);
    std::uint32_t number = 0;
    while (used.contains(number)) ++number;
    return number;
}

MemberMetadata metadata_of_new(const Configuration& configuration, const MemberRecord& record) {
    MemberMetadata metadata;
    metadata.uuid = record.uuid;
    metadata.superblock = make_md_superblock(configuration, record);
    metadata.blank = true;
    metadata.promises = holds_promises(metadata.superblock, {}, record.data_offset);
    return metadata;
}

Task<Result<void>> promise_member(Disk& disk, MemberMetadata* metadata, Uuid array,
                                  std::uint64_t epoch) {
    if (!metadata->reg.may_promise(epoch)) co_return Error{Errc::fenced, "promise"};
    BRAID_CO_CHECK(co_await flush_what_was_read(disk, metadata));
    if (metadata->promises && !BRAID_MUTANT(promise_not_written)) {
        const Promise next{array, metadata->uuid, metadata->promise_sequence + 1, epoch};
        const Buffer bytes = encode_promise(next);
        DiskOp op;
        op.kind = DiskOpKind::write;
        op.fua = !BRAID_MUTANT(promise_in_memory);
        const auto slot = static_cast<std::uint32_t>(next.sequence % promise_slot_count);
        op.offset = promise_slot_offset(slot);
        op.size = bytes.size();
        op.data = const_cast<std::byte*>(bytes.data());  // NOLINT: a write only reads it
        BRAID_CO_CHECK(co_await run_op(disk, op));
        metadata->promise_sequence = next.sequence;
    }
    metadata->reg.promise = epoch;
    co_return Result<void>{};
}

Task<Result<void>> write_member_metadata(Disk& disk, const Configuration* configuration,
                                         MemberMetadata* metadata, std::uint64_t wall_seconds) {
    const MemberRecord* record = configuration->member(metadata->uuid);
    BRAID_REQUIRE(record != nullptr);
    const bool is_register = record->role || record->state == MemberState::witness;
    if (is_register && !metadata->reg.may_store(configuration->version)) return refuse_store();
    return write_encoded(disk, *metadata, encode(*metadata, *configuration, wall_seconds));
}

MemberMetadata metadata_like(const Uuid& uuid, const MemberMetadata& sibling,
                             std::uint64_t data_offset) {
    MemberMetadata metadata;
    metadata.uuid = uuid;
    metadata.superblock = sibling.superblock;
    metadata.bitmap = sibling.bitmap;
    metadata.blank = true;
    metadata.promises = holds_promises(sibling.superblock, sibling.bitmap, data_offset);
    return metadata;
}

}  // namespace braid
