// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/stripe_jobs.h"

#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/base/mutation.h"
#include "engine/stripes/doubt_rows.h"
#include "engine/stripes/stripe_job.h"

namespace braid {

// ---- writes that failed on a member that is kept --------------------------------------------

namespace {

/// One row of a strip, as it is on its member now. Failure is an error of the member's.
Task<Result<void>> read_row(StripeContext context, WindowPlace place, Role role, std::uint32_t row,
                            ByteSpan into) {
    const MemberIndex member = context.geometry.member_of(place.stripe, role);
    DiskGroup group;
    DriveOp op;
    op.set_offset(context.members.device_offset(member, place, row));
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
Task<Result<void>> StripeJobs::fit_row(StripeJob* job, const RoleSet covered, std::uint32_t row,
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
Task<Result<void>> StripeJobs::fit_rows(StripeJob* job, Error error) {
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
    if (BRAID_MUTANT(losses_not_awaited)) co_return Result<void>{};
    co_return co_await context_.decider.losses_durable();
}

Task<void> StripeJobs::work() {
    StripeJob job(context_);
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
                bool again = true;
                while (again) {
                    result = co_await run(&job, marked, &hold);
                    job.lease = Lease();
                    again = !result && !job.happened && !job.lock.counts();
                    job.lock.release();
                }
            }
            if (!result && job.parts.count > 1 && !job.happened) {
                // One part's rows spoilt it for all: let each have its own answer.
                claims.split_job(job.parts);
                continue;
            }
            claims.end_job(job.parts);
            if (result && context_.members.owes()) result = co_await await_losses();
            for (Part* part = job.parts.first; part != nullptr;) {
                Part* next = part->next;  // part_done() may use the part again
                sink_.part_done(*part, result);
                part = next;
            }
        }
    }
}

/// @param marked  whether the stripe is; an error is what the parts are told, if nothing else is
Task<Result<void>> StripeJobs::run(StripeJob* job, Result<void> marked,
                                   const WriteIntent::Hold* mark) {
    BRAID_REQUIRE(job->parts.count != 0);
    const StripeContext& context = context_;
    job->mark = mark;
    job->happened = false;
    RowLock& lock = job->lock;
    if (lock.is_needed() && !BRAID_MUTANT(rows_not_locked) && !BRAID_MUTANT(read_beside_lock)) {
        BRAID_CO_CHECK(marked);
        RowsWithLock* const with = job->want_with_lock();
        ++context.counters.rounds;
        BRAID_CO_CHECK(
            co_await lock.take(job->place(), job->parts.rows, LockMode::exclusive, with));
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
        if (lock.is_needed()) job->take_what_came();
        while (co_await io) {
            if (lock.is_needed()) ++context.counters.rounds;
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
        if (lock.is_needed()) ++context.counters.rounds;
    }
    if (write.is_again()) co_return Error{Errc::again, "write"};
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
    const RowMask now_true = job->note_true_rows();
    if (now_true != 0 && context.homes != nullptr) {
        BRAID_CO_CHECK(co_await context.decider.rows_true(job->place(), now_true));
    }
    // Looked up now: the list may have grown since, by what this job has just made good. It changes
    // under the rows' lock; the losses that are owed are durable before it does.
    if (std::vector<BadRange> healed = job->healed_rows(); !healed.empty()) {
        BRAID_CO_CHECK(co_await context.decider.rows_known(std::move(healed)));
    }
    co_return Result<void>{};
}

}  // namespace braid
