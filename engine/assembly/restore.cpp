// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/restore.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/os_error.h"
#include "engine/metadata/config_text.h"

namespace braid {
namespace {

struct Found {
    const MemberImage* image{nullptr};
    MemberFindings findings;
    bool has_superblock() const { return findings.superblock.has_value(); }
};

/// Whether the place of the superblock may be written to.
Checked<Unit> check_place(const Found& found, bool force) {
    const MemberImage& image = *found.image;
    const Finding& finding = found.findings.superblock.error();
    if (finding.kind == FindingKind::unsupported) {
        return Refusal{fmt::format("{}: {}; a superblock that is whole is never written over",
                                   image.path, finding.text)};
    }
    if (force || (image.elsewhere.empty() && is_zero(image.superblock.view()))) return Unit{};
    std::string what = "bytes of something else";
    if (finding.kind == FindingKind::corrupt) what = "a damaged superblock (" + finding.text + ")";
    if (!image.elsewhere.empty()) what = image.elsewhere;
    return Refusal{fmt::format(
        "{}: holds {} where its md superblock would lie, not zeros; if that may be lost, say "
        "--force",
        image.path, what)};
}

Checked<Unit> check_one(const Found& found, bool force) {
    const MemberImage& image = *found.image;
    if (image.os_error != 0) {
        return Refusal{
            fmt::format("{}: cannot be read: {}", image.path, os_error_text(image.os_error))};
    }
    if (found.has_superblock()) return Unit{};
    if (image.superblock.size() == 0 || found.findings.slot() == nullptr) {
        const Finding* damage = found.findings.corrupt_slot();
        return Refusal{fmt::format(
            "{}: has neither an md superblock nor a valid configuration of braid's{}{}, so nothing "
            "tells what it was; leave it out, and give it to the running array with braid member "
            "add",
            image.path, damage == nullptr ? "" : ": ", damage == nullptr ? "" : damage->text)};
    }
    return check_place(found, force);
}

/// What members that still have their superblocks know better than a slot.
void follow_sibling(MdSuperblock& sb, const MdSuperblock* sibling) {
    if (sibling == nullptr || sibling->set_uuid != sb.set_uuid) return;
    sb.set_name = sibling->set_name;
    sb.ctime = sibling->ctime;
    sb.logical_block_size = sibling->logical_block_size;
    if (plain(sb.level) == 4) sb.layout = sibling->layout;
}

Checked<RestoredMember> restore_one(const Found& found, const MdSuperblock* sibling) {
    const MemberImage& image = *found.image;
    RestoredMember restored;
    restored.path = image.path;
    if (found.has_superblock()) {
        restored.superblock = *found.findings.superblock;
        return restored;
    }
    restored.missing = true;
    const ConfigSlot& slot = *found.findings.slot();
    const Configuration& c = slot.configuration;
    const auto own = std::ranges::find(c.members, slot.member, &MemberRecord::uuid);
    if (own == c.members.end()) {
        return Refusal{fmt::format("{}: its configuration does not name it", image.path)};
    }
    MemberRecord record = *own;
    record.size = std::min(record.size, image.device_size);
    if (record.size < c.end_on(record)) {
        return Refusal{fmt::format(
            "{}: is truncated: its data reaches to byte {}, but it has only {} bytes; if the "
            "device was made smaller, give it its size back",
            image.path, c.end_on(record), image.device_size)};
    }
    MdSuperblock sb = make_md_superblock(c, record);
    follow_sibling(sb, sibling);
    sb = with_checksum(update_md_superblock(sb, c, record, 0), slot.tie.checksum);
    const std::uint64_t seconds = plain(sb.utime) & ((std::uint64_t{1} << 40) - 1);
    // Any other time means that the one that is gone differed in something that no slot tells.
    if (seconds >= c.created) restored.last_written = seconds;
    restored.superblock = sb;
    return restored;
}

MemberImage with_superblock(const MemberImage& image, const RestoredMember& restored) {
    MemberImage changed = image;
    if (!restored.missing) return changed;
    std::memcpy(changed.superblock.data(), &restored.superblock, sizeof(MdSuperblock));
    changed.elsewhere.clear();
    return changed;
}

/// Whether what is written takes part, and by braid's word: not left out, and md was not there.
Checked<Unit> check_outcome(const RestorePlan& plan) {
    if (plan.assembly.adopted) {
        return Refusal{
            "md has run this array since braid stopped it, so what the slots say is older than "
            "what "
            "md wrote; give only the members that have their superblocks, and the others to the "
            "running array with braid member add"};
    }
    std::string left_out;
    for (std::size_t at = 0; at != plan.members.size(); ++at) {
        const MemberPlace& place = plan.assembly.places[at];
        if (!plan.members[at].missing || place.record) continue;
        // Its superblock is still gone: to a running array its content is foreign.
        const bool unforced =
            place.place == Place::stale &&
            (place.way_back == WayBack::added || place.way_back == WayBack::after_spare);
        left_out += fmt::format("{}{}: {}{}. Leave it out here", left_out.empty() ? "" : "\n",
                                place.path, place.why, unforced ? " --force" : "");
    }
    if (!left_out.empty()) return Refusal{std::move(left_out)};
    return Unit{};
}

Task<Checked<Unit>> restore_one_disk(Disk& disk, Buffer bytes) {
    const std::string path = disk.info().path;
    const auto failed = [&path](std::string_view what, const Error& error) {
        return Refusal{fmt::format("{}: {} its superblock failed: {}; run the command again", path,
                                   what, os_error_text(error.os_error))};
    };
    auto written = co_await write_disk(disk, md_superblock_offset, bytes.view());
    if (written) written = co_await flush_disk(disk);
    if (!written) co_return failed("writing", written.error());
    Buffer back(bytes.size());
    const auto read = co_await read_disk(disk, md_superblock_offset, back.span());
    if (!read) co_return failed("reading back", read.error());
    if (!std::ranges::equal(back.view(), bytes.view())) {
        co_return Refusal{
            fmt::format("{}: its superblock reads back as something else than was written", path)};
    }
    co_return Unit{};
}

struct RestoreWork {
    Disk* disk{nullptr};
    Buffer bytes;
};
Task<Checked<Unit>> run_restore(std::vector<RestoreWork> all) {
    for (RestoreWork& work : all) {
        BRAID_CO_CHECK(co_await restore_one_disk(*work.disk, std::move(work.bytes)));
    }
    co_return Unit{};
}

}  // namespace

bool RestorePlan::has_work() const {
    return std::ranges::any_of(members, &RestoredMember::missing);
}

Checked<RestorePlan> plan_restore(std::span<const MemberImage> images, RestoreOptions options) {
    std::vector<Found> all;
    std::string refusals;
    const MdSuperblock* sibling = nullptr;
    for (const MemberImage& image : images) all.push_back({&image, inspect(image)});
    for (const Found& found : all) {
        if (found.has_superblock()) sibling = &*found.findings.superblock;
        if (const auto checked = check_one(found, options.force); !checked) {
            refusals += (refusals.empty() ? "" : "\n") + checked.error().text;
        }
    }
    if (!refusals.empty()) return Refusal{std::move(refusals)};
    RestorePlan plan;
    std::vector<MemberImage> then;
    for (const Found& found : all) {
        BRAID_TRY(RestoredMember restored, restore_one(found, sibling));
        then.push_back(with_superblock(*found.image, restored));
        plan.members.push_back(std::move(restored));
    }
    BRAID_TRY(plan.assembly, assemble(then, {.force = options.force, .purpose = Purpose::look}));
    BRAID_REQUIRE(plan.members.size() == images.size());
    BRAID_REQUIRE(plan.assembly.places.size() == images.size());
    BRAID_CHECK(check_outcome(plan));
    return plan;
}

Task<Checked<Unit>> restore_members(std::vector<Disk*> disks, const RestorePlan& plan) {
    BRAID_REQUIRE(disks.size() == plan.members.size());
    std::vector<RestoreWork> all;
    for (std::size_t at = 0; at != disks.size(); ++at) {
        if (!plan.members[at].missing) continue;
        BRAID_REQUIRE(disks[at] != nullptr);
        RestoreWork work{disks[at], Buffer(sizeof(MdSuperblock))};
        std::memcpy(work.bytes.data(), &plan.members[at].superblock, sizeof(MdSuperblock));
        all.push_back(std::move(work));
    }
    return run_restore(std::move(all));
}

}  // namespace braid
