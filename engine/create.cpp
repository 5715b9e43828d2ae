// SPDX-License-Identifier: BSD-3-Clause
#include "engine/create.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "engine/base/os_error.h"
#include "engine/config_slot.h"
#include "engine/member_metadata.h"

namespace braid {
namespace {

constexpr std::uint64_t zero_piece = std::uint64_t{1} << 30;
constexpr std::uint64_t write_piece = std::uint64_t{1} << 20;
constexpr std::uint64_t tail_size = 128u << 10;  // of a device: other formats' last superblocks

Checked<Unit> check_wishes(const CreateOptions& options, std::size_t count) {
    const int level = static_cast<int>(options.level);
    const std::uint32_t members_min = parities_of(options.level) + 2;
    if (count < members_min) {
        return Refusal{fmt::format("RAID-{} needs at least {} members, and {} {} given", level,
                                   members_min, count, count == 1 ? "is" : "are")};
    }
    if (count > members_max) {
        return Refusal{
            fmt::format("{} members are given, and an array has at most {}", count, members_max)};
    }
    if (!std::has_single_bit(options.strip_size) || options.strip_size < strip_size_min ||
        options.strip_size > strip_size_max) {
        return Refusal{
            fmt::format("a strip size of {} bytes is impossible: it is a power of two "
                        "from 4K to 16M",
                        options.strip_size)};
    }
    if (options.level != Level::raid5 && options.layout != Layout::left_symmetric) {
        return Refusal{fmt::format("RAID-{} has no choice of layouts: leave --layout out", level)};
    }
    if (!is_array_name(options.name)) {
        return Refusal{fmt::format("the name of an array is at most {} printable ASCII characters",
                                   name_length_max)};
    }
    return Unit{};
}

struct Split {
    std::vector<const CreateMember*> roles;
    std::vector<const CreateMember*> spares;
};

std::uint64_t choose_data_offset(const Split& split) {
    const bool large = std::ranges::all_of(
        split.roles, [](const CreateMember* member) { return member->size >= member_size_large; });
    return large ? data_offset_large : data_offset_default;
}

/// Whole strips that the smallest member holds.
Checked<std::uint64_t> choose_stripes(const CreateOptions& options, const Split& split,
                                      std::uint64_t data_offset) {
    std::uint64_t stripes = member_size_max / options.strip_size;
    for (const CreateMember* member : split.roles) {
        if (member->size < data_offset + options.strip_size) {
            return Refusal{fmt::format(
                "{}: is too small: it has {} bytes, and a member needs {} for metadata and at "
                "least one strip of {}",
                member->path, member->size, data_offset, options.strip_size)};
        }
        stripes = std::min(stripes, (member->size - data_offset) / options.strip_size);
    }
    for (const CreateMember* spare : split.spares) {
        if (spare->size < data_offset + stripes * options.strip_size) {
            return Refusal{fmt::format(
                "{}: is too small to be a spare: it has {} bytes, and the array uses {} of each "
                "member",
                spare->path, spare->size, data_offset + stripes * options.strip_size)};
        }
    }
    return stripes;
}

void note_waste(CreatePlan& plan, const Split& split, std::uint64_t data_offset) {
    const std::uint64_t used =
        data_offset + plan.configuration.stripes * plan.configuration.strip_size;
    for (const CreateMember* member : split.roles) {
        const std::uint64_t unused = member->size - used;
        if (unused < member->size / 100 || unused < plan.configuration.strip_size) continue;
        plan.notices.push_back(
            fmt::format("{}: {} of its {} bytes stay unused, because another "
                        "member is smaller",
                        member->path, unused, member->size));
    }
}

void add_members(Configuration& c, const Split& split, std::uint64_t data_offset, Rng& rng) {
    const auto add = [&](const CreateMember& from, std::optional<MemberIndex> role) {
        MemberRecord record;
        record.uuid = Uuid::random(rng);
        record.role = role;
        record.state = role ? MemberState::in_sync : MemberState::spare;
        record.data_offset = data_offset;
        record.size = from.size;
        record.dev_number = static_cast<std::uint32_t>(c.members.size());
        record.path = path_to_keep(from.path);
        c.members.push_back(std::move(record));
    };
    for (std::uint32_t role = 0; role != split.roles.size(); ++role) {
        add(*split.roles[role], MemberIndex{role});
    }
    for (const CreateMember* spare : split.spares) add(*spare, std::nullopt);
}

Checked<Unit> add_volumes(Configuration& c, const std::vector<VolumeWish>& wishes) {
    if (wishes.empty()) {
        c.volumes.push_back({"data", StripeIndex{0}, c.stripes});
        return Unit{};
    }
    std::set<std::string_view> names;
    std::uint64_t first = 0;
    for (const VolumeWish& wish : wishes) {
        if (!is_volume_name(wish.name)) {
            return Refusal{fmt::format(
                "\"{}\" cannot be the name of a volume: that is 1 to {} letters, digits, '.', '_' "
                "and '-', a letter or digit first",
                wish.name, name_length_max)};
        }
        if (!names.insert(wish.name).second) {
            return Refusal{fmt::format("volume {} is given twice", wish.name)};
        }
        if (wish.size == 0) return Refusal{fmt::format("volume {} has no size", wish.name)};
        const std::uint64_t whole = wish.size / c.stripe_data_size();
        const std::uint64_t stripes = whole + (wish.size % c.stripe_data_size() != 0 ? 1 : 0);
        if (stripes > c.stripes - first) {
            return Refusal{fmt::format(
                "volume {} of {} bytes does not fit: {} of the array's {} bytes are left",
                wish.name, wish.size, (c.stripes - first) * c.stripe_data_size(), c.data_size())};
        }
        c.volumes.push_back({wish.name, StripeIndex{first}, stripes});
        first += stripes;
    }
    return Unit{};
}

Refusal member_failed(const Disk& disk, const Error& error, std::string_view doing) {
    return Refusal{fmt::format("{}: {} failed: {}; no array was made", disk.info().path, doing,
                               os_error_text(error.os_error))};
}

/// What the task keeps of the plan.
struct Work {
    std::vector<Disk*> disks;
    CreatePlan plan;
    std::function<void(std::uint64_t, std::uint64_t)> progress;
};

Task<Result<void>> wipe_tail(Disk& disk) {
    const std::uint64_t end = round_down(disk.info().size, row_size);
    const Buffer zeros(static_cast<std::size_t>(std::min(tail_size, end)));
    co_return co_await write_disk(disk, end - zeros.size(), zeros.view());
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
    const Configuration& c = work->plan.configuration;
    const std::uint64_t each = c.stripes * c.strip_size;
    std::uint64_t done_before = 0;
    for (std::uint32_t role = 0; role != c.member_count; ++role) {
        Disk& disk = *work->disks[role];
        for (std::uint64_t done = 0; done < each; done += zero_piece) {
            DiskOp op;
            op.kind = DiskOpKind::zero;
            op.may_free = !disk.info().allocated;
            op.offset = c.members[role].data_offset + done;
            op.size = std::min(zero_piece, each - done);
            auto zeroed = co_await run_op(disk, op);
            if (!zeroed && zeroed.error().os_error == EOPNOTSUPP) {
                zeroed = co_await write_zeros(disk, op.offset, op.size);
            }
            if (!zeroed) co_return member_failed(disk, zeroed.error(), "zeroing it");
            if (work->progress) work->progress(done_before + done + op.size, each * c.member_count);
        }
        done_before += each;
    }
    co_return Unit{};
}

/// As every epoch: promised by all, stored by all, and said to be in force.
Task<Checked<Unit>> write_first_configuration(Work* work) {
    Configuration& c = work->plan.configuration;
    std::vector<MemberMetadata> metadata;
    for (const MemberRecord& record : c.members) metadata.push_back(metadata_of_new(c, record));
    Proposal proposal = Proposal::of_epoch(c.version.epoch, c.taking_part(), {});
    while (proposal.step() != Proposal::Step::in_force) {
        const auto step = proposal.step();
        if (step == Proposal::Step::announce) c.events += 2;
        c.version = proposal.version();
        c.in_force = proposal.in_force();
        for (std::size_t at = 0; at != c.members.size(); ++at) {
            const bool takes_part = c.members[at].role.has_value();
            if (step != Proposal::Step::announce && !takes_part) continue;  // spares come last
            Disk& disk = *work->disks[at];
            auto write = step == Proposal::Step::promise
                             ? promise_member(disk, &metadata[at], c.array, c.version.epoch)
                             : write_member_metadata(disk, &c, &metadata[at],
                                                     work->plan.wall_seconds);
            const Result<void> written = co_await write;
            if (!written) co_return member_failed(disk, written.error(), "writing its metadata");
            if (takes_part) proposal.done(raw(*c.members[at].role));
        }
    }
    co_return Unit{};
}

Task<Checked<Unit>> run_create(std::unique_ptr<Work> work) {
    const Configuration& c = work->plan.configuration;
    for (std::size_t at = 0; at != c.members.size(); ++at) {
        Disk& disk = *work->disks[at];
        auto wiped = co_await wipe_member_front(disk, c.members[at].data_offset);
        const bool tail = work->plan.parity != InitialParity::assumed;
        if (wiped && tail) wiped = co_await wipe_tail(disk);
        if (wiped) wiped = co_await flush_disk(disk);
        if (!wiped) co_return member_failed(disk, wiped.error(), "wiping it");
    }
    if (work->plan.parity == InitialParity::zeroed) {
        BRAID_CO_CHECK(co_await zero_data(work.get()));
    }
    for (std::size_t at = 0; at != c.members.size(); ++at) {
        Disk& disk = *work->disks[at];
        const auto flushed = co_await flush_disk(disk);
        if (!flushed) co_return member_failed(disk, flushed.error(), "flushing it");
    }
    co_return co_await write_first_configuration(work.get());
}

}  // namespace

Checked<CreatePlan> plan_create(const CreateOptions& options, std::span<const CreateMember> members,
                                Rng& rng) {
    Split split;
    for (const CreateMember& member : members) {
        (member.spare ? split.spares : split.roles).push_back(&member);
    }
    BRAID_CHECK(check_wishes(options, split.roles.size()));
    if (split.spares.size() > spares_max) {
        return Refusal{fmt::format("{} spares are given, and an array has at most {}",
                                   split.spares.size(), spares_max)};
    }
    CreatePlan plan;
    plan.wall_seconds = options.wall_seconds;
    const std::uint64_t data_offset = choose_data_offset(split);
    Configuration& c = plan.configuration;
    BRAID_TRY(c.stripes, choose_stripes(options, split, data_offset));
    c.array = Uuid::random(rng);
    c.name = options.name;
    c.version.epoch = next_epoch(0, options.wall_seconds, 0);
    c.events = 2;
    c.created = options.wall_seconds;
    c.level = options.level;
    c.layout = options.layout;
    c.strip_size = options.strip_size;
    c.member_count = static_cast<std::uint32_t>(split.roles.size());
    add_members(c, split, data_offset, rng);
    BRAID_CHECK(add_volumes(c, options.volumes));
    const bool cheap = std::ranges::all_of(split.roles, &CreateMember::zero_fast);
    plan.parity = options.assume_clean ? InitialParity::assumed
                  : cheap              ? InitialParity::zeroed
                                       : InitialParity::resynced;
    if (plan.parity == InitialParity::resynced) c.resynced = StripeIndex{0};
    note_waste(plan, split, data_offset);
    BRAID_CHECK(check_configuration(c));
    return plan;
}

Task<Checked<Unit>> create_array(std::vector<Disk*> disks, const CreatePlan& plan,
                                 std::function<void(std::uint64_t, std::uint64_t)> progress) {
    BRAID_REQUIRE(disks.size() == plan.configuration.members.size());
    auto work = std::make_unique<Work>();
    work->disks = std::move(disks);
    work->plan = plan;
    work->progress = std::move(progress);
    return run_create(std::move(work));
}

}  // namespace braid
