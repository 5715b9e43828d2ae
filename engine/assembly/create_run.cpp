// SPDX-License-Identifier: BSD-3-Clause
// The execution of a plan. Until every disk was seen to take a write nothing is changed. What fails
// later is undone: where data was to stay, the members get back the metadata that they had;
// elsewhere what was wiped is gone, and no disk keeps metadata of an array that was not made.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "engine/assembly/create.h"
#include "engine/assembly/new_member.h"
#include "engine/base/os_error.h"
#include "engine/layout/register.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/member_metadata.h"

namespace braid {
namespace {

constexpr std::uint64_t zero_piece = std::uint64_t{1} << 30;
constexpr std::uint64_t write_piece = std::uint64_t{1} << 20;
// Where data is to stay, no more than this is taken for metadata: all areas of ours lie in it.
constexpr std::uint64_t metadata_size_max = 2u << 20;

/// What the task keeps of the plan.
struct Work {
    std::vector<Disk*> disks;
    CreatePlan plan;
    std::function<void(std::uint64_t, std::uint64_t)> progress;
    std::vector<Buffer> fronts;  // as they were; where data is to stay
    std::size_t touched{0};      // so many of the disks, from the first on, may be changed

    bool keeps_data() const { return plan.parity == InitialParity::assumed; }
    std::uint64_t front_of(std::size_t at) const {
        const std::uint64_t offset = plan.configuration.members[at].data_offset;
        return keeps_data() ? std::min(offset, metadata_size_max) : offset;
    }
};

Refusal disk_failed(const Disk& disk, const Error& error, std::string_view doing) {
    return Refusal{
        fmt::format("{}: {} failed: {}", disk.info().path, doing, os_error_text(error.os_error))};
}

Task<Checked<Unit>> try_all(Work* work) {
    for (Disk* disk : work->disks) {
        if (const auto tried = co_await try_write(*disk); !tried) {
            co_return Refusal{fmt::format("{}; no array was made, and no member was changed",
                                          tried.error().text)};
        }
    }
    co_return Unit{};
}

Task<Checked<Unit>> save_fronts(Work* work) {
    for (std::size_t at = 0; work->keeps_data() && at != work->disks.size(); ++at) {
        Disk& disk = *work->disks[at];
        Buffer front(work->front_of(at));
        const auto read = co_await read_disk(disk, 0, front.span());
        if (!read) co_return disk_failed(disk, read.error(), "reading its metadata");
        work->fronts.push_back(std::move(front));
    }
    co_return Unit{};
}

Task<Checked<Unit>> wipe_all(Work* work) {
    BRAID_REQUIRE(work->fronts.size() == (work->keeps_data() ? work->disks.size() : 0));
    for (std::size_t at = 0; at != work->disks.size(); ++at) {
        Disk& disk = *work->disks[at];
        work->touched = at + 1;
        const std::uint64_t keep_before = work->keeps_data() ? disk.info().size : 0;
        const auto wiped = co_await wipe_ends(disk, work->front_of(at), keep_before);
        if (!wiped) co_return disk_failed(disk, wiped.error(), "wiping it");
    }
    co_return Unit{};
}

/// Where the disk had said that it could, and cannot.
Task<Result<void>> write_zeros(Disk& disk, std::uint64_t offset, std::uint64_t size) {
    const Buffer zeros(static_cast<std::size_t>(std::min(size, write_piece)));
    for (std::uint64_t done = 0; done < size; done += write_piece) {
        const std::uint64_t piece = std::min(write_piece, size - done);
        BRAID_CO_CHECK(co_await write_disk(disk, offset + done, zeros.view().first(piece)));
    }
    co_return Result<void>{};
}

Task<Checked<Unit>> zero_data(Work* work) {
    BRAID_REQUIRE(!work->keeps_data());
    const Configuration& c = work->plan.configuration;
    const std::uint64_t each = c.member_data_size();
    std::uint64_t done_before = 0;
    for (std::uint32_t role = 0; role != c.member_count; ++role) {
        Disk& disk = *work->disks[role];
        for (std::uint64_t done = 0; done < each; done += zero_piece) {
            DiskOp op;
            op.kind = DiskOpKind::zero;
            op.may_free = !disk.info().allocated;
            op.offset = c.members[role].area().on_device({done}).value;
            op.size = std::min(zero_piece, each - done);
            auto zeroed = co_await run_op(disk, op);
            if (!zeroed && zeroed.error().os_error == EOPNOTSUPP) {
                zeroed = co_await write_zeros(disk, op.offset, op.size);
            }
            if (!zeroed) co_return disk_failed(disk, zeroed.error(), "zeroing it");
            if (work->progress) work->progress(done_before + done + op.size, each * c.member_count);
        }
        const auto flushed = co_await flush_disk(disk);
        if (!flushed) co_return disk_failed(disk, flushed.error(), "flushing it");
        done_before += each;
    }
    co_return Unit{};
}

/// As every epoch: promised by all, stored by all, and said to be in force.
Task<Checked<Unit>> write_first_configuration(Work* work) {
    Configuration& c = work->plan.configuration;
    std::vector<MemberMetadata> metadata;
    for (const MemberRecord& record : c.members) metadata.push_back(metadata_of_new(c, record));
    MemberSet all = c.taking_part();
    if (c.witness() != nullptr) all.add(c.witness_index());
    Proposal proposal = Proposal::of_epoch(c.version.epoch, all, {});
    while (proposal.step() != Proposal::Step::in_force) {
        const auto step = proposal.step();
        if (step == Proposal::Step::announce) c.events += 2;
        c.version = proposal.version();
        c.in_force = proposal.in_force();
        for (std::size_t at = 0; at != c.members.size(); ++at) {
            const bool is_witness = &c.members[at] == c.witness();
            const bool takes_part = c.members[at].role.has_value() || is_witness;
            if (step != Proposal::Step::announce && !takes_part) continue;  // spares come last
            Disk& disk = *work->disks[at];
            auto write =
                step == Proposal::Step::promise
                    ? promise_member(disk, &metadata[at], c.array, c.version.epoch)
                    : write_member_metadata(disk, &c, &metadata[at], work->plan.wall_seconds);
            const Result<void> written = co_await write;
            if (!written) co_return disk_failed(disk, written.error(), "writing its metadata");
            if (takes_part) proposal.done(c.members[at].role.value_or(c.witness_index()));
        }
    }
    co_return Unit{};
}

/// Two cables to one disk, say: the second member's metadata lies over the first one's.
Task<Checked<Unit>> check_all_metadata(Work* work) {
    const Configuration& c = work->plan.configuration;
    for (std::size_t at = 0; at != c.members.size(); ++at) {
        Disk& disk = *work->disks[at];
        Buffer bytes(sizeof(MdSuperblock));
        const auto read = co_await read_disk(disk, md_superblock_offset, bytes.span());
        if (!read) co_return disk_failed(disk, read.error(), "reading its metadata again");
        MdSuperblock sb;
        std::memcpy(&sb, bytes.data(), sizeof sb);
        if (sb.set_uuid == c.array && sb.device_uuid == c.members[at].uuid) continue;
        for (std::size_t other = 0; other != c.members.size(); ++other) {
            if (sb.set_uuid != c.array || sb.device_uuid != c.members[other].uuid) continue;
            co_return Refusal{fmt::format("{} and {} are one and the same disk", disk.info().path,
                                          work->disks[other]->info().path)};
        }
        co_return Refusal{fmt::format("{}: does not keep what is written to it", disk.info().path)};
    }
    co_return Unit{};
}

Task<Checked<Unit>> make_all(Work* work) {
    BRAID_CO_CHECK(co_await wipe_all(work));
    if (work->plan.parity == InitialParity::zeroed) BRAID_CO_CHECK(co_await zero_data(work));
    BRAID_CO_CHECK(co_await write_first_configuration(work));
    co_return co_await check_all_metadata(work);
}

/// The front as it was, or without metadata.
Task<Result<void>> undo_one(Work* work, std::size_t at) {
    BRAID_REQUIRE(at < work->touched);
    BRAID_REQUIRE(!work->keeps_data() || at < work->fronts.size());
    Disk& disk = *work->disks[at];
    const Buffer blank(work->keeps_data() ? 0 : slots_end);
    const ByteView front = work->keeps_data() ? work->fronts[at].view() : blank.view();
    BRAID_CO_CHECK(co_await write_disk(disk, 0, front));
    co_return co_await flush_disk(disk);
}

Task<Refusal> undo_all(Work* work, std::string why) {
    std::vector<std::string> undone;
    std::vector<std::string> left;
    std::vector<std::string> untouched;
    for (std::size_t at = 0; at != work->disks.size(); ++at) {
        const std::string path = work->disks[at]->info().path;
        if (at >= work->touched) {
            untouched.push_back(path);
            continue;
        }
        const auto done = co_await undo_one(work, at);
        (done ? undone : left).push_back(path);
    }
    std::string text = why + "; no array was made";
    const auto add = [&text](std::string_view what, const std::vector<std::string>& paths) {
        if (!paths.empty()) text += fmt::format(". {}: {}", what, fmt::join(paths, ", "));
    };
    add("Not touched", untouched);
    add(work->keeps_data() ? "With their old metadata again" : "Wiped, and without metadata now",
        undone);
    add("It could not be undone, so wipe before use", left);
    co_return Refusal{std::move(text)};
}

Task<Checked<Unit>> run_create(std::unique_ptr<Work> work) {
    BRAID_CO_CHECK(co_await try_all(work.get()));
    BRAID_CO_CHECK(co_await save_fronts(work.get()));
    const auto made = co_await make_all(work.get());
    if (made) co_return Unit{};
    co_return co_await undo_all(work.get(), made.error().text);
}

}  // namespace

Task<Checked<Unit>> create_array(std::vector<Disk*> disks, const CreatePlan& plan,
                                 std::function<void(std::uint64_t, std::uint64_t)> progress) {
    BRAID_REQUIRE(disks.size() == plan.configuration.members.size());
    BRAID_REQUIRE(std::ranges::count(disks, nullptr) == 0);
    BRAID_REQUIRE(!plan.configuration.in_use);
    auto work = std::make_unique<Work>();
    work->disks = std::move(disks);
    work->plan = plan;
    work->progress = std::move(progress);
    return run_create(std::move(work));
}

}  // namespace braid
