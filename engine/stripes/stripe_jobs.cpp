// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/stripe_jobs.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/base/mutation.h"
#include "engine/stripes/doubt_rows.h"
#include "engine/stripes/row_write.h"
#include "engine/stripes/strip_rows.h"
#include "engine/stripes/stripe_io.h"

namespace braid {
namespace {

/// Rows that are covered alike, and so have one plan.
struct RowGroup {
    RowMask rows{0};
    RoleSet covered;
    RoleSet partial;
    RoleSet retry;   // listed, to be tried again
    RoleSet voided;  // beside those: listed as void
    bool parity_true{true};
    StripePlan plan;

    /// Parity is computed from all data strips.
    bool renews_parity() const {
        return plan.method == PlanMethod::full_stripe || plan.method == PlanMethod::rcw;
    }
    bool is_like(const RowGroup& other) const {
        return covered.bits() == other.covered.bits() && partial.bits() == other.partial.bits() &&
               retry.bits() == other.retry.bits() && voided.bits() == other.voided.bits() &&
               parity_true == other.parity_true;
    }
};

}  // namespace

struct StripeJobs::Job {
    explicit Job(const StripeContext& the_context)
        : context(the_context), io(the_context.geometry, the_context.members), write(the_context) {}

    const StripeContext& context;
    JobParts parts;
    StripeIo io;
    RowWrite write;
    const WriteIntent::Hold* mark{nullptr};
    Lease lease;
    StripeState state;
    std::array<RowGroup, window_rows_max> groups;
    std::uint32_t group_count{0};
    bool happened{false};  // it must not be made again: others may have written since
    RoleSet gathered;      // data strips whose new content is put together in a buffer of ours
    bool fua{false};

    WindowPlace place() const { return parts.entry->place; }
    std::uint32_t members_of_stripe() const { return context.geometry.member_count; }
    RoleSet live_parity() const { return context.geometry.parity_roles() - state.lost; }
    ParitySpans live_parity_at(std::uint32_t row, std::uint32_t count) const;

    void find_groups();
    RoleSet listed_roles(std::uint32_t row, BadKind kind) const;
    RoleSet half_rebuilt() const;
    Result<StripePlan> plan_of(const RowGroup& group) const;
    Result<void> plan();
    bool takes_zeros() const;
    void choose_sources();
    std::uint64_t lay_out(std::byte* base);
    void want_reads();
    void want_writes();
    void recover();
    void gather();
    void gather_part(const Part& part);
    void compute_parity();
    void compute_run(const RowGroup& group, std::uint32_t row, std::uint32_t count);
    void count_methods() const;
    bool covers_bad_rows_in_part() const;
    std::vector<BadRange> healed_rows() const;
    void note_true_rows() const;
    RowMask rows_with_parity() const;
    RoleSet kept_of(RoleSet failed) const;
    void fit_parity(Role role, std::uint32_t row, const std::byte* now);
};

/// Groups the rows by which strips they cover, and by what their parity is worth. Mostly there is
/// one group.
void StripeJobs::Job::find_groups() {
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
            if (((listed >> row) & 1) != 0) {
                wanted.retry = listed_roles(row, BadKind::retry);
                wanted.voided = listed_roles(row, BadKind::voided);
            }
            RowGroup* group =
                std::find_if(&groups[0], &groups[0] + group_count,
                             [&](const RowGroup& other) { return other.is_like(wanted); });
            if (group == &groups[0] + group_count) groups[group_count++] = wanted;
            group->rows |= row_range(row, 1);
        }
    });
}

RoleSet StripeJobs::Job::listed_roles(std::uint32_t row, BadKind kind) const {
    RoleSet roles;
    for (const Role role : context.geometry.data_roles()) {
        if (context.bad.rows_of(place(), role, row_range(row, 1), kind) != 0) {
            roles |= RoleSet::of(role);
        }
    }
    return roles;
}

/// Live strips of members whose rebuild is in the middle of this stripe: its checkpoint counts
/// whole stripes, so that a crash makes all of the strip lost again.
RoleSet StripeJobs::Job::half_rebuilt() const {
    const Members& members = context.members;
    RoleSet roles;
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const auto& slot = members.slot(MemberIndex{i});
        if (slot.state != MemberState::rebuilding || !members.is_live(MemberIndex{i}, place()))
            continue;
        if (members.window_place(slot.rebuilt).stripe != place().stripe) continue;
        roles |= RoleSet::of(context.geometry.role_of(place().stripe, MemberIndex{i}));
    }
    return roles;
}

/// What is written beside a row that stays to be tried again lies on its own member, and nowhere
/// else: that has to have it after a crash, too.
Result<StripePlan> StripeJobs::Job::plan_of(const RowGroup& group) const {
    if (!group.covered.has_all(group.retry) && !(group.covered & half_rebuilt()).empty()) {
        return Error{Errc::unknown, "row"};
    }
    StripeState of_group = state;
    of_group.parity_true = group.parity_true;
    of_group.retry = group.retry;
    of_group.voided = group.voided & state.lost;
    return plan_write(of_group, group.covered, group.partial);
}

Result<void> StripeJobs::Job::plan() {
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

bool StripeJobs::Job::takes_zeros() const {
    return std::any_of(groups.begin(), groups.begin() + group_count,
                       [](const RowGroup& group) { return !group.plan.zero.empty(); });
}

/// New content is taken straight from the client's memory where one part covers a strip's rows
/// entirely at an address that the members take; else it is gathered.
void StripeJobs::Job::choose_sources() {
    const Geometry& geometry = context.geometry;
    const std::uint32_t align = context.members.memory_align();
    const std::uint64_t stripe_begin = geometry.stripe_begin(place().stripe);
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
            const auto base = reinterpret_cast<std::uintptr_t>(data) + stripe_begin + window_begin +
                              io.first_row() * row_size - part->request->offset;
            io.new_content[i] = reinterpret_cast<const std::byte*>(base);
            if (!whole || base % align != 0) gathered |= RoleSet::of(role);
        }
    }
}

/// Gives every strip that needs one a buffer from `base` on; returns the bytes in all. With a null
/// `base` only the size counts.
std::uint64_t StripeJobs::Job::lay_out(std::byte* base) {
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

void StripeJobs::Job::want_reads() {
    for (std::uint32_t i = 0; i != group_count; ++i) {
        for (const Role role : groups[i].plan.read) io.want_read(role, groups[i].rows);
    }
}

void StripeJobs::Job::want_writes() {
    write.begin(WriteGround::marked, mark);
    write.fua = fua;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const RowGroup& group = groups[i];
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
}

/// The old content of lost and unreadable data strips, and of those where nothing is.
void StripeJobs::Job::recover() {
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

void StripeJobs::Job::gather() {
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

void StripeJobs::Job::gather_part(const Part& part) {
    const Geometry& geometry = context.geometry;
    const std::uint64_t stripe_begin = geometry.stripe_begin(place().stripe);
    for (const Role role : gathered& part.strips) {
        const std::uint32_t i = raw(role);
        const std::uint64_t window_begin = geometry.window_begin(role, place().window);
        const std::uint64_t begin = std::max(part.begin, window_begin);
        const std::uint64_t end = std::min(part.end, window_begin + geometry.window_size());
        auto* to = const_cast<std::byte*>(io.new_content[i]) +  // NOLINT: a buffer of ours
                   (begin - window_begin - io.first_row() * row_size);
        const std::byte* data = part.request->data;
        if (data == nullptr) {
            std::memset(to, 0, end - begin);
        } else {
            std::memcpy(to, data + (stripe_begin + begin - part.request->offset), end - begin);
        }
    }
}

ParitySpans StripeJobs::Job::live_parity_at(std::uint32_t row, std::uint32_t count) const {
    const Geometry& geometry = context.geometry;
    const RoleSet live = live_parity();
    const auto span_of = [&](Role role) {
        std::byte* const content = io.strips[raw(role)];
        return live.has(role) ? ByteSpan{content + io.offset_of(row), count * row_size}
                              : ByteSpan{};
    };
    return {span_of(geometry.p()), geometry.parities() == 2 ? span_of(geometry.q()) : ByteSpan{}};
}

void StripeJobs::Job::compute_parity() {
    if (live_parity().empty()) return;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        for_each_run(groups[i].rows, [&](std::uint32_t row, std::uint32_t count) {
            compute_run(groups[i], row, count);
        });
    }
}

void StripeJobs::Job::compute_run(const RowGroup& group, std::uint32_t row, std::uint32_t count) {
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

void StripeJobs::Job::count_methods() const {
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
bool StripeJobs::Job::covers_bad_rows_in_part() const {
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
std::vector<BadRange> StripeJobs::Job::healed_rows() const {
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
void StripeJobs::Job::note_true_rows() const {
    for (std::uint32_t i = 0; i != group_count; ++i) {
        const RowGroup& group = groups[i];
        const bool early = BRAID_MUTANT(doubt_left_early);
        if (early) context.members.rows_true(place(), row_range(0, context.geometry.window_rows));
        if (!group.parity_true && group.renews_parity())
            context.members.rows_true(place(), group.rows);
    }
}

// ---- writes that failed on a member that is kept --------------------------------------------

/// Rows whose parity this job wrote.
RowMask StripeJobs::Job::rows_with_parity() const {
    RowMask rows = 0;
    for (std::uint32_t i = 0; i != group_count; ++i) {
        if (!(groups[i].plan.write & context.geometry.parity_roles()).empty())
            rows |= groups[i].rows;
    }
    return rows;
}

/// Of the roles that failed, those whose members still take part.
RoleSet StripeJobs::Job::kept_of(RoleSet failed) const {
    RoleSet kept;
    for (const Role role : failed) {
        if (context.members.is_live(io.member_of(role), place())) kept |= RoleSet::of(role);
    }
    return kept;
}

/// The parity in the job's buffers is true for the new content of the strip; makes it true for
/// `now`, which is what lies on the member.
void StripeJobs::Job::fit_parity(Role role, std::uint32_t row, const std::byte* now) {
    live_parity_at(row, 1).update(raw(role), io.new_content[raw(role)] + io.offset_of(row), now);
}

namespace {

/// One row of a strip, as it is on its member now. Failure is an error of the member's.
Task<Result<void>> read_row(StripeContext context, WindowPlace place, Role role, std::uint32_t row,
                            ByteSpan into) {
    const MemberIndex member = context.geometry.member_of(place.stripe, role);
    DiskGroup group;
    DriveOp op;
    op.offset = context.members.device_offset(member, place, row);
    op.size = row_size;
    op.data = into.data();
    context.members.submit(member, group, op);
    co_await group;
    context.members.finish(member, op);
    if (!op.ok()) co_return Error{Errc::io, "row", op.result.os_error};
    co_return Result<void>{};
}

}  // namespace

/// Makes one row's parity, in the job's buffers, true for what the members hold, and notes in
/// `differs` where it is not so on a member yet. An error: it cannot be told what they hold.
Task<Result<void>> StripeJobs::fit_row(Job* job, const RoleSet covered, std::uint32_t row,
                                       RoleSet* differs) {
    const StripeContext& context = context_;
    const WindowPlace place = job->place();
    Buffer now(row_size);  // rare: not from the pool, which this job has a part of already
    for (const Role role : covered) {
        if (!context.members.is_live(job->io.member_of(role), place)) continue;
        BRAID_CO_CHECK(co_await read_row(context, place, role, row, now.span()));
        job->fit_parity(role, row, now.data());
    }
    *differs = {};
    for (const Role role : job->live_parity()) {
        if (!context.members.is_live(job->io.member_of(role), place)) continue;
        BRAID_CO_CHECK(co_await read_row(context, place, role, row, now.span()));
        const std::byte* fit = job->io.strips[raw(role)] + job->io.offset_of(row);
        if (std::memcmp(fit, now.data(), row_size) != 0) *differs |= RoleSet::of(role);
    }
    co_return Result<void>{};
}

/// A write failed on a member that is kept. Its rows are still claimed and marked: what the members
/// hold of them now gets the parity that fits, or the rows are in doubt.
Task<Result<void>> StripeJobs::fit_rows(Job* job, Error error) {
    const StripeContext& context = context_;
    RowWrite& write = job->write;
    RowMask doubtful = 0;
    for (std::uint32_t i = 0; i != job->group_count && !BRAID_MUTANT(failed_write_not_fitted);
         ++i) {
        const RowGroup& group = job->groups[i];
        RowMask rows = group.rows & job->rows_with_parity();
        for (; rows != 0; rows &= rows - 1) {
            const auto row = static_cast<std::uint32_t>(std::countr_zero(rows));
            RoleSet differs;
            if (!co_await fit_row(job, group.covered, row, &differs)) {
                doubtful |= row_range(row, 1);
                continue;
            }
            write.begin(WriteGround::marked, job->mark);
            for (const Role role : differs) write.add_strip(job->io, role, row_range(row, 1));
            while (co_await write) {
            }
            write.tell_failed();
            if (!job->kept_of(write.failed()).empty()) doubtful |= row_range(row, 1);
        }
    }
    if (doubtful != 0) {  // also where the array has stopped: what can be read still is
        BRAID_CO_CHECK(co_await doubt_rows(context, job->place(), doubtful));
    }
    if (context.members.failed()) co_return Error{Errc::failed, "array"};
    co_return error;
}

// ---- the workers ---------------------------------------------------------------------------

/// A worker that waits for a job.
struct StripeJobs::Idle {
    StripeJobs& jobs;
    ReadyQueue* queue{nullptr};
    std::coroutine_handle<> handle{};
    Idle* next{nullptr};
    bool await_ready() const { return jobs.stopping_ || jobs.context_.claims.has_jobs(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        queue = static_cast<PromiseBase&>(self.promise()).queue;
        handle = self;
        next = jobs.idle_;
        jobs.idle_ = this;
    }
    void await_resume() const {}
};

StripeJobs::StripeJobs(StripeContext context, PartSink& sink, TaskGroup& tasks)
    : context_(context), sink_(sink), tasks_(tasks) {
    context_.claims.set_listener(this);
}

void StripeJobs::job_ready() {
    if (Idle* idle = idle_; idle != nullptr) {
        idle_ = idle->next;
        idle->queue->push(idle->handle);
    } else if (started_ != stripe_jobs_max) {
        ++started_;
        tasks_.spawn(work());
    }
}

void StripeJobs::stop() {
    stopping_ = true;
    for (Idle* idle = std::exchange(idle_, nullptr); idle != nullptr; idle = idle->next) {
        idle->queue->push(idle->handle);
    }
}

/// A write that missed a lost member owes its loss: it is not acknowledged before a configuration
/// says so durably, for a start that took the member for one in sync would answer with what it has.
/// Nothing is claimed for that, and the mark is not held:
/// - The mark stays in the record all the same. It leaves when a flush has succeeded that began
///   after this write, and none does while a loss is owed (flush_drives()). A crash finds the rows
///   in doubt, by a record without this write's end: they become old or new, strip by strip.
/// - Who writes the rows meanwhile finds the member lost, does without it, and owes the same.
/// - Who reads what lies on a live member reads what a crash leaves there; what it computes in the
///   lost member's place waits as this does (Members::has_missed()).
/// - Rows that another loss puts on the list, or a failed write in doubt, come there after this
///   write, as if it had been acknowledged.
/// - Rows that this write takes off the list are the exception: the list has to follow the rows'
///   order, and so it changes, durably, under their lock.
/// - A member that is kept is no loss: its write fails, with its rows claimed until their parity
///   fits. One that is lost stays so in memory, until it comes back as another and is rebuilt.
/// - Where the configuration cannot be made durable the write is an error. Its parts are not tried
///   one by one: what they wrote is there, and each of them owes the same.
Task<Result<void>> StripeJobs::await_losses() {
    if (!context_.members.owes() || BRAID_MUTANT(losses_not_awaited)) co_return Result<void>{};
    co_return co_await context_.decider.losses_durable();
}

Task<void> StripeJobs::work() {
    Job job(context_);
    RowClaims& claims = context_.claims;
    while (!stopping_) {
        Idle idle{*this};
        co_await idle;
        while (WindowEntry* window = claims.next_window()) {
            Result<void> result;
            {
                WriteIntent::Hold hold(context_.intent, window->place.stripe);
                const Result<void> marked = co_await hold;
                if (!claims.take_job(*window, job.parts)) continue;
                result = co_await run(&job, marked, &hold);
                job.lease = Lease();
            }
            if (!result && job.parts.count > 1 && !job.happened) {
                // One part's rows spoilt it for all: let each have its own answer.
                claims.split_job(job.parts);
                continue;
            }
            claims.end_job(job.parts);
            if (result) result = co_await await_losses();
            for (Part* part = job.parts.first; part != nullptr;) {
                Part* next = part->next;  // part_done() may use the part again
                sink_.part_done(*part, result);
                part = next;
            }
        }
    }
}

/// @param marked  whether the stripe is; an error is what the parts are told, if nothing else is
Task<Result<void>> StripeJobs::run(Job* job, Result<void> marked, const WriteIntent::Hold* mark) {
    BRAID_REQUIRE(job->parts.count != 0);
    const StripeContext& context = context_;
    job->mark = mark;
    job->happened = false;
    RowLock lock(context.homes);
    if (lock.is_needed() && !BRAID_MUTANT(rows_not_locked) && !BRAID_MUTANT(read_beside_lock)) {
        BRAID_CO_CHECK(marked);
        BRAID_CO_CHECK(co_await lock.take(job->place(), job->parts.rows, LockMode::exclusive));
    }
    StripeIo& io = job->io;
    ReadRounds rounds(context.members);
    do {  // nothing is written so far
        if (context.members.failed()) co_return Error{Errc::failed, "array"};
        if (job->covers_bad_rows_in_part()) co_return Error{Errc::unknown, "row"};
        job->find_groups();  // a loss may have listed rows
        job->state = rounds.begin(job->place(), row_range(0, context.geometry.window_rows));
        BRAID_CO_CHECK(job->plan());
        BRAID_CO_CHECK(marked);
        // What is taken for zeros was listed, and has to be so after a crash.
        if (job->takes_zeros()) BRAID_CO_CHECK(co_await context.decider.rows_unknown({}));
        io.begin(job->place(), job->parts.rows);
        job->choose_sources();
        job->lease = Lease();
        if (const std::uint64_t size = job->lay_out(nullptr); size != 0) {
            job->lease = co_await context.pool.acquire(size);
            job->lay_out(job->lease.data());
        }
        job->want_reads();
        while (co_await io) {
        }
    } while (!rounds.is_last(io, context.decider));
    if (BRAID_MUTANT(read_beside_lock) && lock.is_needed()) {
        BRAID_CO_CHECK(co_await lock.take(job->place(), job->parts.rows, LockMode::exclusive));
    }
    if (BRAID_MUTANT(unlocked_early)) lock.release();
    job->recover();
    job->gather();
    job->compute_parity();
    job->want_writes();
    context.members.note_written(job->place(), job->parts.rows, job->parts.covered);
    RowWrite& write = job->write;
    while (co_await write) {
    }
    job->happened = write.is_decided() && !BRAID_MUTANT(decided_made_again);
    job->count_methods();
    const RoleSet failed = write.failed();
    if (failed.empty()) context.counters.reads_corrected += job->state.unreadable.size();
    const bool full = write.tell_failed();
    // Once more, for those that were lost meanwhile, or by this.
    context.members.note_written(job->place(), job->parts.rows, job->parts.covered);
    if (write.is_dropped() || !job->kept_of(failed).empty()) {
        const Error error{full ? Errc::full : Errc::io, "member"};
        if (context.homes != nullptr) co_return error;  // parity is true as it is
        co_return co_await fit_rows(job, error);
    }
    job->note_true_rows();
    // Looked up now: the list may have grown since, by what this job has just made good. It changes
    // under the rows' lock; the losses that are owed are durable before it does.
    if (std::vector<BadRange> healed = job->healed_rows(); !healed.empty()) {
        BRAID_CO_CHECK(co_await context.decider.rows_known(std::move(healed)));
    }
    co_return Result<void>{};
}

}  // namespace braid
