// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/new_member.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "engine/base/os_error.h"
#include "engine/metadata/md_superblock.h"

namespace braid {
namespace {

constexpr std::uint64_t end_piece = 1u << 20;
constexpr std::uint64_t front_looked_at = 1u << 20;

/// A stretch of a disk, as it was read.
struct Piece {
    std::uint64_t at{0};
    Buffer bytes;
    ByteView view(std::uint64_t from, std::uint64_t size) const {
        if (from < at || from + size > at + bytes.size()) return {};
        return bytes.view().subspan(from - at, size);
    }
};
/// The sectors behind the last whole row are read and written on their own.
struct BothEnds {
    Piece front;
    Piece back;  // whole rows
    Piece rest;  // less than a row
    std::uint64_t disk_size{0};

    ByteView view(std::uint64_t from, std::uint64_t size) const {
        for (const Piece* piece : {&front, &back, &rest}) {
            if (const ByteView found = piece->view(from, size); !found.empty()) return found;
        }
        return {};
    }
};

std::uint64_t rest_size(const DiskInfo& info) {
    return round_down(info.size % row_size, info.sector_size);
}

Task<Result<BothEnds>> read_ends(Disk& disk) {
    const DiskInfo info = disk.info();
    BothEnds ends;
    ends.disk_size = info.size;
    const std::uint64_t rows = round_down(info.size, row_size);
    ends.front.bytes = Buffer(std::min(front_looked_at, rows));
    ends.back.bytes = Buffer(std::min(disk_end_size, rows));
    ends.back.at = rows - ends.back.bytes.size();
    ends.rest.at = rows;
    ends.rest.bytes = Buffer(rest_size(info));
    for (Piece* piece : {&ends.front, &ends.back, &ends.rest}) {
        if (piece->bytes.size() == 0) continue;
        BRAID_CO_CHECK(co_await read_disk(disk, piece->at, piece->bytes.span()));
    }
    co_return std::move(ends);
}

/// The header of a GUID partition table lies in the second sector and in the last.
/// Source: UEFI 2.10, 5.3.2.
bool is_gpt(ByteView sector) {
    constexpr std::string_view signature = "EFI PART";
    return sector.size() >= signature.size() &&
           std::memcmp(sector.data(), signature.data(), signature.size()) == 0;
}
bool has_front_gpt(const BothEnds& ends) {
    return is_gpt(ends.view(512, 512)) || is_gpt(ends.view(4096, 512));
}
bool has_back_gpt(const BothEnds& ends) {
    return (ends.disk_size >= 512 && is_gpt(ends.view(ends.disk_size - 512, 512))) ||
           (ends.disk_size >= 4096 && is_gpt(ends.view(ends.disk_size - 4096, 512)));
}

/// Four labels of 256 KiB, two at each end; the second half of each is a ring of uberblocks, each
/// of which begins with a number in the byte order of the machine that wrote it.
/// Source: "ZFS On-Disk Specification", 2006, chapter 1.
bool has_zfs_label(const BothEnds& ends) {
    constexpr std::uint64_t label = 256u << 10;
    constexpr std::uint64_t magic = 0x00bab10c;
    const std::uint64_t end = round_down(ends.disk_size, label);
    if (end < 4 * label) return false;
    for (const std::uint64_t at : {std::uint64_t{0}, label, end - 2 * label, end - label}) {
        for (std::uint64_t uber = label / 2; uber != label; uber += 1024) {
            const ByteView bytes = ends.view(at + uber, sizeof(Le64));
            if (bytes.empty()) continue;
            Le64 number;
            std::memcpy(&number, bytes.data(), sizeof number);
            if (plain(number) == magic || plain(number) == __builtin_bswap64(magic)) return true;
        }
    }
    return false;
}

std::vector<std::string> signatures_in(const BothEnds& ends) {
    std::vector<std::string> found;
    if (has_front_gpt(ends)) found.emplace_back("a partition table (gpt)");
    if (has_back_gpt(ends)) found.emplace_back("a backup GPT (a partition table)");
    if (has_zfs_label(ends)) found.emplace_back("ZFS labels");
    return found;
}

Refusal cannot_be_read(const Disk& disk, int os_error) {
    return Refusal{fmt::format("{}: cannot be read: {}", disk.info().path,
                               os_error_text(os_error != 0 ? os_error : EIO))};
}

Task<Result<void>> zero_or_write(Disk& disk, std::uint64_t offset, std::uint64_t size) {
    DiskOp op;
    op.kind = DiskOpKind::zero;
    op.may_free = !disk.info().allocated;
    op.offset = offset;
    op.size = size;
    if (const auto zeroed = co_await run_op(disk, op); zeroed) co_return Result<void>{};
    const Buffer zeros(std::min(size, end_piece));
    for (std::uint64_t done = 0; done < size; done += end_piece) {
        const std::uint64_t piece = std::min(end_piece, size - done);
        BRAID_CO_CHECK(co_await write_disk(disk, offset + done, zeros.view().first(piece)));
    }
    co_return Result<void>{};
}

std::string describe_content(const MemberImage& image, const BothEnds& ends) {
    const auto decoded = decode_md_superblock(image.superblock.view(), image.device_size);
    if (decoded) return fmt::format("a member of md array {}", decoded->set_uuid.text());
    if (decoded.error().kind != FindingKind::none) return decoded.error().text;
    if (!image.elsewhere.empty()) return image.elsewhere;
    if (const auto found = signatures_in(ends); !found.empty()) {
        std::string all;
        for (const std::string& one : found) all += (all.empty() ? "" : " and ") + one;
        return all;
    }
    const bool empty = is_zero(ends.front.bytes.view()) && is_zero(ends.back.bytes.view()) &&
                       is_zero(ends.rest.bytes.view());
    return empty ? "" : "data of something else";
}

Refusal cannot_be_written(const Disk& disk, const Error& error) {
    return Refusal{
        fmt::format("{}: cannot be written: {}", disk.info().path, os_error_text(error.os_error))};
}

std::optional<NewMember::TookPart> took_part_as_of(const MemberImage& image, const Uuid& uuid) {
    const MemberFindings findings = inspect(image);
    if (findings.slot() == nullptr) return std::nullopt;
    Configuration known = findings.slot()->configuration;
    const MemberRecord* own = known.member(uuid);
    if (own == nullptr || !own->role || !takes_part(own->state)) return std::nullopt;
    NewMember::TookPart as_of{
        uuid, known.version, known.in_force, known.lineage, own->state, own->area(), {}};
    for (const FoundIntent& found : findings.intent) {
        if (found.record) as_of.records.push_back(*found.record);
    }
    return as_of;
}

Task<Checked<NewMember>> run_prepare(Disk& disk, NewMember fresh, Uuid array, std::uint64_t front,
                                     Force force) {
    const MemberImage image = co_await read_member_image(disk);
    if (image.os_error != 0) co_return cannot_be_read(disk, image.os_error);
    const auto ends = co_await read_ends(disk);
    if (!ends) co_return cannot_be_read(disk, ends.error().os_error);
    const auto superblock = decode_md_superblock(image.superblock.view(), image.device_size);
    if (superblock && superblock->set_uuid == array) {
        fresh.before = superblock->device_uuid;
        fresh.took_part = took_part_as_of(image, *fresh.before);
    } else if (const std::string content = describe_content(image, *ends);
               !content.empty() && force == Force::no) {
        co_return refuse_content(disk, content);
    }
    BRAID_CO_CHECK(co_await try_write(disk));
    if (fresh.before) co_return std::move(fresh);
    if (const auto wiped = co_await wipe_ends(disk, front); !wiped) {
        co_return cannot_be_written(disk, wiped.error());
    }
    co_return std::move(fresh);
}

}  // namespace

Task<Checked<std::vector<std::string>>> find_signatures(Disk& disk) {
    const auto ends = co_await read_ends(disk);
    if (!ends) co_return cannot_be_read(disk, ends.error().os_error);
    co_return signatures_in(*ends);
}

Task<Checked<Unit>> try_write(Disk& disk) {
    if (const auto fits = check_sectors(disk.info()); !fits) co_return fits.error();
    // The first row: neither md nor braid has anything there.
    Buffer row(row_size);
    if (const auto read = co_await read_disk(disk, 0, row.span()); !read) {
        co_return cannot_be_read(disk, read.error().os_error);
    }
    auto written = co_await write_disk(disk, 0, row.view());
    if (written) written = co_await flush_disk(disk);
    if (written) co_return Unit{};
    co_return cannot_be_written(disk, written.error());
}

Task<Result<void>> wipe_ends(Disk& disk, std::uint64_t front, std::uint64_t keep_before) {
    const DiskInfo info = disk.info();
    const std::uint64_t rows = round_down(info.size, row_size);
    front = std::min(front, rows);
    BRAID_CO_CHECK(co_await zero_or_write(disk, 0, front));
    const std::uint64_t keep = std::max(front, round_up(keep_before, row_size));
    const std::uint64_t back = std::max(keep, rows - std::min(rows, disk_end_size));
    if (back < rows) {
        const Buffer zeros(rows - back);
        BRAID_CO_CHECK(co_await write_disk(disk, back, zeros.view()));
    }
    if (const std::uint64_t rest = rest_size(info); rest != 0 && keep_before <= rows) {
        const Buffer zeros(rest);
        BRAID_CO_CHECK(co_await write_disk(disk, rows, zeros.view()));
    }
    co_return co_await flush_disk(disk);
}

Task<Checked<std::vector<Uuid>>> find_traces(Disk& disk, Uuid array) {
    const MemberImage image = co_await read_member_image(disk);
    if (image.os_error != 0) co_return cannot_be_read(disk, image.os_error);
    const MemberFindings findings = inspect(image);
    std::vector<Uuid> traces;
    if (findings.superblock && findings.superblock->set_uuid == array) {
        traces.push_back(findings.superblock->device_uuid);
    }
    for (const auto& slot : findings.slots) {
        if (slot && slot->configuration.array == array) traces.push_back(slot->member);
    }
    co_return std::move(traces);
}

Task<Checked<NewMember>> prepare_new_member(Disk& disk, Uuid uuid,
                                            const Configuration& configuration,
                                            const MemberMetadata& sibling, Force force) {
    NewMember fresh;
    fresh.metadata = metadata_like(uuid, sibling, front_of(configuration));
    return run_prepare(disk, std::move(fresh), configuration.array, front_of(configuration), force);
}

Refusal refuse_content(const Disk& disk, std::string_view content) {
    return Refusal{fmt::format("{}: holds {}, which would be lost; wipe it first, or force it",
                               disk.info().path, content)};
}

std::uint64_t front_of(const Configuration& configuration) {
    std::uint64_t size = slots_end;
    for (const MemberRecord& record : configuration.members) {
        size = std::max(size, record.data_offset);
    }
    return size;
}

}  // namespace braid
