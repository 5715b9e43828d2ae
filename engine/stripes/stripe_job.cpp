// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/stripe_job.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid {

/// Groups the rows by which strips they cover, and by what their parity is worth. Mostly there is
/// one group.
void StripeJob::find_groups() {
    BRAID_REQUIRE(parts.rows != 0);
    BRAID_REQUIRE((parts.rows & ~row_range(0, context.geometry.window_rows)) == 0);
    group_count = 0;
    const RowMask doubtful = context.members.rows_in_doubt(place(), parts.rows);
    const RowMask listed = context.bad.retry_rows(place(), parts.rows);
    for_each_run(parts.rows, [&](std::uint32_t first, std::uint32_t count) {
        for (std::uint32_t row = first; row != first + count; ++row) {
            std::uint64_t covered = 0;
            std::uint64_t partial = 0;
            for (const Role role : parts.covered) {
                const Coverage& strip = parts.strips[raw(role)];
                covered |= ((strip.any >> row) & 1) << raw(role);
                partial |= (((strip.any & ~strip.full) >> row) & 1) << raw(role);
            }
            RowGroup wanted{
                0, RoleSet{covered}, RoleSet{partial}, {}, {}, ((doubtful >> row) & 1) == 0, {}};
            const bool retries = ((listed >> row) & 1) != 0;
            if (retries) wanted.retry = listed_roles(row, BadKind::retry);
            if (retries || (!wanted.parity_true && !context.bad.empty()))
                wanted.voided = listed_roles(row, BadKind::voided);
            RowGroup* group =
                std::find_if(&groups[0], &groups[0] + group_count,
                             [&](const RowGroup& other) { return other.is_like(wanted); });
            if (group == &groups[0] + group_count) {
                BRAID_REQUIRE(group_count < groups.size());
                groups[group_count++] = wanted;
            }
            group->rows |= row_range(row, 1);
        }
    });
}

RoleSet StripeJob::listed_roles(std::uint32_t row, BadKind kind) const {
    RoleSet roles;
    for (const Role role : context.geometry.data_roles()) {
        if (context.bad.rows_of(place(), role, row_range(row, 1), kind) != 0) {
            roles |= RoleSet::of(role);
        }
    }
    return roles;
}

/// Live strips of members that are being rebuilt and have not passed this stripe: where the rebuild
/// is in the middle of it, and where the member missed nothing while it was away. The checkpoint counts
/// whole stripes, so that a crash makes all of the strip lost again.
RoleSet StripeJob::half_rebuilt() const {
    const Members& members = context.members;
    RoleSet roles;
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const auto& slot = members.slot(MemberIndex{i});
        if (slot.state != MemberState::rebuilding || !members.is_live(MemberIndex{i}, place()))
            continue;
        if (place().stripe < context.geometry.stripe_of(slot.rebuilt)) continue;
        roles |= RoleSet::of(context.geometry.role_of(place().stripe, MemberIndex{i}));
    }
    return roles;
}

/// What is written beside a row that stays to be tried again lies on its own member, and nowhere
/// else: that has to have it after a crash, too.
Result<StripePlan> StripeJob::plan_of(const RowGroup& group) const {
    if (!group.covered.has_all(group.retry) && !(group.covered & half_rebuilt()).empty()) {
        return Error{Errc::unknown, "row"};
    }
    StripeState of_group = state;
    of_group.parity_true = group.parity_true;
    of_group.retry = group.retry;
    of_group.voided = group.voided & state.lost;
    return plan_write(of_group, group.covered, group.partial);
}

Result<void> StripeJob::plan() {
    BRAID_REQUIRE(group_count != 0);
    for (std::uint32_t i = 0; i != group_count; ++i) {
        RowGroup& group = groups[i];
        const auto planned = plan_of(group);
        if (!planned && planned.error().code == Errc::unknown) {
            const RoleSet gone = (state.lost | state.unreadable) & context.geometry.data_roles();
            const RoleSet voided = group.voided & state.lost;
            const RoleSet together = group.covered | group.retry | (gone - voided);
            context.decider.write_refused(place(), group.rows, together);
        }
        BRAID_TRY(group.plan, planned);
    }
    return {};
}

bool StripeJob::takes_zeros() const {
    return std::any_of(groups.begin(), groups.begin() + group_count,
                       [](const RowGroup& group) { return !group.plan.zero.empty(); });
}

/// New content is taken straight from the client's memory where one part covers a strip's rows
/// entirely at an address that the members take; else it is gathered.
void StripeJob::choose_sources() {
    BRAID_REQUIRE(parts.first != nullptr);
    const Geometry& geometry = context.geometry;
    const std::uint32_t align = context.members.memory_align();
    const ArrayOffset stripe_begin = geometry.stripe_begin(place().stripe);
    gathered = {};
    RoleSet seen;
    fua = false;
    for (const Part* part = parts.first; part != nullptr; part = part->next) {
        fua |= part->request->fua;
        for (const Role role : part->strips) {
            const std::uint32_t i = raw(role);
            const Coverage coverage = part->coverage(role);
            const bool whole = coverage.any == coverage.full && !seen.has(role);
            seen |= RoleSet::of(role);
            const std::byte* data = part->request->data;
            if (data == nullptr) {
                io.new_content[i] = zero_window().data();
                if (!whole) gathered |= RoleSet::of(role);
                continue;
            }
            const std::uint64_t window_begin = geometry.window_begin(role, place().window);
            // May lie before the client's memory; only covered rows are ever looked at.
            const auto base = reinterpret_cast<std::uintptr_t>(data) + stripe_begin.value +
                              window_begin + io.first_row() * row_size -
                              part->request->offset.value;
            io.new_content[i] = reinterpret_cast<const std::byte*>(base);
            if (!whole || base % align != 0) gathered |= RoleSet::of(role);
        }
    }
}

/// Gives every strip that needs one a buffer from `base` on; returns the bytes in all. With a null
/// `base` only the size counts.
std::uint64_t StripeJob::lay_out(std::byte* base) {
    RoleSet old = live_parity();
    for (std::uint32_t i = 0; i != group_count; ++i) {
        old |= groups[i].plan.read | groups[i].plan.recover | groups[i].plan.zero;
    }
    std::uint64_t used = 0;
    for (const Role role : old) {
        io.strips[raw(role)] = base + used;
        used += io.span_size();
    }
    for (const Role role : gathered) {
        io.new_content[raw(role)] = base + used;
        used += io.span_size();
    }
    return used;
}

/// Old parity comes with the lock if both are the business of one home: as far as can be told before
/// the rows are locked.
RowsWithLock* StripeJob::want_with_lock() {
    BRAID_REQUIRE(context.homes != nullptr);
    const Role p{context.geometry.data_count()};
    with_lock = {};
    with_lock.member = context.geometry.member_of(place().stripe, p);
    if (!context.homes->lock_brings(place(), with_lock.member)) return nullptr;
    find_groups();
    state = context.members.state_of(place(), row_range(0, context.geometry.window_rows));
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const auto planned = plan_of(groups[i]);
        if (!planned) return nullptr;  // why, is told when they are locked
        if (planned->read.has(p)) with_lock.rows |= groups[i].rows;
    }
    if (with_lock.rows == 0) return nullptr;
    const std::size_t size = static_cast<std::size_t>(std::popcount(with_lock.rows)) * row_size;
    if (come.size() < size) come = Buffer::unset(size);
    with_lock.into = come.data();
    return &with_lock;
}

/// If it is what is wanted now.
void StripeJob::take_what_came() {
    const Role p{context.geometry.data_count()};
    const RowMask wanted = io.wanted(p);
    if (!with_lock.have_come || wanted == 0 || (wanted & ~with_lock.rows) != 0) return;
    BRAID_REQUIRE(come.size() >=
                  static_cast<std::size_t>(std::popcount(with_lock.rows)) * row_size);
    for_each_run(wanted, [&](std::uint32_t first, std::uint32_t count) {
        const auto before =
            static_cast<std::uint32_t>(std::popcount(with_lock.rows & row_range(0, first)));
        std::memcpy(io.strips[raw(p)] + io.offset_of(first), come.data() + before * row_size,
                    count * row_size);
    });
    io.have(p);
}

void StripeJob::want_reads() {
    for (std::uint32_t i = 0; i != group_count; ++i) {
        for (const Role role : groups[i].plan.read) io.want_read(role, groups[i].rows);
    }
}

void StripeJob::want_writes() {
    BRAID_REQUIRE(group_count != 0);
    write.begin(WriteGround::marked, mark);
    write.fua = fua;
    RoleSet changed = context.geometry.parity_roles();
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const RowGroup& group = groups[i];
        changed |= group.covered | group.plan.write;
        for (const Role role : group.plan.write) {
            if (group.covered.has(role)) {
                write.add_new(io, role, group.rows);
            } else {
                if (BRAID_MUTANT(parity_not_written) && raw(role) + 1 == members_of_stripe()) {
                    continue;
                }
                write.add_strip(io, role, group.rows);
            }
        }
    }
    write.set_changed(changed);
}

/// The old content of lost and unreadable data strips, and of those where nothing is.
void StripeJob::recover() {
    const Geometry& geometry = context.geometry;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const StripePlan& plan = groups[i].plan;
        for (const Role role : plan.zero) {
            for_each_run(groups[i].rows, [&](std::uint32_t row, std::uint32_t count) {
                std::memset(io.strips[raw(role)] + io.offset_of(row), 0, count * row_size);
            });
        }
        if (plan.recover.empty()) continue;
        for_each_run(groups[i].rows, [&](std::uint32_t row, std::uint32_t count) {
            recover_rows(geometry, plan, io, row, count);
        });
    }
}

void StripeJob::gather() {
    for (const Role role : gathered) {
        const std::uint32_t i = raw(role);
        auto* to = const_cast<std::byte*>(io.new_content[i]);  // NOLINT: a buffer of ours
        for_each_run(parts.strips[i].any & ~parts.strips[i].full, [&](std::uint32_t row,
                                                                      std::uint32_t count) {
            std::memcpy(to + io.offset_of(row), io.strips[i] + io.offset_of(row), count * row_size);
        });
    }
    if (gathered.empty()) return;
    for (const Part* part = parts.first; part != nullptr; part = part->next) gather_part(*part);
}

void StripeJob::gather_part(const Part& part) {
    const Geometry& geometry = context.geometry;
    const ArrayOffset stripe_begin = geometry.stripe_begin(place().stripe);
    for (const Role role : gathered& part.strips) {
        const std::uint32_t i = raw(role);
        const std::uint64_t window_begin = geometry.window_begin(role, place().window);
        const std::uint64_t begin = std::max(part.begin, window_begin);
        const std::uint64_t end = std::min(part.end, window_begin + geometry.window_size());
        BRAID_REQUIRE(begin <= end);
        auto* to = const_cast<std::byte*>(io.new_content[i]) +  // NOLINT: a buffer of ours
                   (begin - window_begin - io.first_row() * row_size);
        const std::byte* data = part.request->data;
        if (data == nullptr) {
            std::memset(to, 0, end - begin);
        } else {
            std::memcpy(to, data + ((stripe_begin + begin) - part.request->offset), end - begin);
        }
    }
}

ParitySpans StripeJob::live_parity_at(std::uint32_t row, std::uint32_t count) const {
    const Geometry& geometry = context.geometry;
    const RoleSet live = live_parity();
    const auto span_of = [&](Role role) {
        std::byte* const content = io.strips[raw(role)];
        return live.has(role) ? ByteSpan{content + io.offset_of(row), count * row_size}
                              : ByteSpan{};
    };
    return {span_of(geometry.p()), geometry.parities() == 2 ? span_of(geometry.q()) : ByteSpan{}};
}

void StripeJob::compute_parity() {
    if (live_parity().empty()) return;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        for_each_run(groups[i].rows, [&](std::uint32_t row, std::uint32_t count) {
            compute_run(groups[i], row, count);
        });
    }
}

void StripeJob::compute_run(const RowGroup& group, std::uint32_t row, std::uint32_t count) {
    BRAID_REQUIRE(count != 0);
    const Geometry& geometry = context.geometry;
    if ((group.plan.write & geometry.parity_roles()).empty()) return;  // nobody trusts it
    const std::uint64_t at = io.offset_of(row);
    const ParitySpans parity = live_parity_at(row, count);
    if (group.plan.method == PlanMethod::rmw) {
        for (const Role role : group.covered) {
            const std::uint32_t i = raw(role);
            parity.update(i, io.strips[i] + at, io.new_content[i] + at);
        }
        return;
    }
    std::array<const std::byte*, members_max> strips{};
    for (const Role role : geometry.data_roles()) {
        const std::uint32_t i = raw(role);
        strips[i] = (group.covered.has(role) ? io.new_content[i] : io.strips[i]) + at;
    }
    parity.compute({strips.data(), geometry.data_count()});
}

void StripeJob::count_methods() const {
    BRAID_REQUIRE(group_count != 0);
    Counters& counters = context.counters;
    ++counters.jobs;
    if (parts.count > 1) counters.parts_merged += parts.count;
    switch (groups[0].plan.method) {
        case PlanMethod::full_stripe:
            ++counters.jobs_full_stripe;
            break;
        case PlanMethod::rmw:
            ++counters.jobs_rmw;
            break;
        default:
            ++counters.jobs_rcw;
            break;
    }
}

/// What cannot be known cannot be kept beside what is new in the same row either. A row that is to
/// be tried again is: its old content is read.
bool StripeJob::covers_bad_rows_in_part() const {
    if (context.bad.empty()) return false;
    for (const Role role : parts.covered) {
        const Coverage& strip = parts.strips[raw(role)];
        const RowMask partial = strip.any & ~strip.full;
        if (context.bad.rows_of(place(), role, partial, BadKind::voided) != 0) return true;
        const bool live =
            context.members.is_live(context.geometry.member_of(place().stripe, role), place());
        if (!live && context.bad.rows_of(place(), role, partial) != 0) return true;
    }
    return false;
}

/// Listed rows of which this job writes every byte, or has read what it does not write. Also rows
/// that were in doubt as it was planned, and were listed as a member was lost since: their parity
/// was computed from what all strips held.
std::vector<BadRange> StripeJob::healed_rows() const {
    std::vector<BadRange> healed;
    if (context.bad.empty()) return healed;
    RowMask renewed = 0;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const RowGroup& group = groups[i];
        if (!group.parity_true && group.retry.empty() && group.renews_parity())
            renewed |= group.rows;
    }
    for (const Role role : context.geometry.data_roles()) {
        const Coverage& strip = parts.strips[raw(role)];
        RowMask rows = context.bad.rows_of(place(), role, renewed, BadKind::retry);
        if (parts.covered.has(role)) {
            rows |= context.bad.rows_of(place(), role, strip.full) |
                    context.bad.rows_of(place(), role, strip.any, BadKind::retry);
        }
        for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
            healed.push_back(context.bad.range_of(place(), role, row, count));
        });
    }
    return healed;
}

/// Parity of these rows was computed from all data strips, and is on the members.
RowMask StripeJob::note_true_rows() const {
    RowMask noted = 0;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const RowGroup& group = groups[i];
        const bool early = BRAID_MUTANT(doubt_left_early);
        if (early) context.members.rows_true(place(), row_range(0, context.geometry.window_rows));
        if (!group.parity_true && group.renews_parity()) {
            context.members.rows_true(place(), group.rows);
            noted |= group.rows;
        }
    }
    return noted;
}

// ---- writes that failed on a member that is kept --------------------------------------------

/// Rows whose parity this job wrote.
RowMask StripeJob::rows_with_parity() const {
    RowMask rows = 0;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        if (!(groups[i].plan.write & context.geometry.parity_roles()).empty())
            rows |= groups[i].rows;
    }
    return rows;
}

/// Of the roles that failed, those whose members still take part.
RoleSet StripeJob::kept_of(RoleSet failed) const {
    RoleSet kept;
    for (const Role role : failed) {
        if (context.members.is_live(io.member_of(role), place())) kept |= RoleSet::of(role);
    }
    return kept;
}

/// The parity in the job's buffers is true for the new content of the strip; makes it true for
/// `now`, which is what lies on the member.
void StripeJob::fit_parity(Role role, std::uint32_t row, const std::byte* now) {
    BRAID_REQUIRE(raw(role) < context.geometry.data_count());
    BRAID_REQUIRE(now != nullptr);
    live_parity_at(row, 1).update(raw(role), io.new_content[raw(role)] + io.offset_of(row), now);
}

}  // namespace braid
