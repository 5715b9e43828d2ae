// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripe_jobs.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/base/mutation.h"
#include "parity/parity.h"

namespace braid {
namespace {

/// Rows that are covered alike, and so have one plan.
struct Band {
    RowMask rows{0};
    RoleSet covered;
    RoleSet partial;
    StripePlan plan;
};

}  // namespace

struct StripeJobs::Job {
    explicit Job(const StripeContext& the_context)
        : context(the_context), io(the_context.geometry, the_context.members) {}

    const StripeContext& context;
    JobParts parts;
    StripeIo io;
    Lease lease;
    StripeState state;
    std::array<Band, window_rows_max> bands;
    std::uint32_t band_count{0};
    RoleSet gathered;  // data strips whose new content is put together in a buffer of ours
    bool fua{false};

    WindowPlace place() const { return parts.entry->place; }
    std::uint32_t members_of_stripe() const { return context.geometry.member_count; }
    RoleSet live_parity() const { return context.geometry.parity_roles() - state.lost; }

    void find_bands();
    Result<void> plan();
    void choose_sources();
    std::uint64_t lay_out(std::byte* base);
    void want_reads();
    void want_writes();
    void recover();
    void gather();
    void gather_part(const Part& part);
    void compute_parity();
    void compute_run(const Band& band, std::uint32_t row, std::uint32_t count);
    void count_methods() const;
    bool covers_bad_rows_in_part() const;
    std::vector<BadRange> healed_rows() const;
};

/// Groups the rows by which strips they cover. Mostly there is one group.
void StripeJobs::Job::find_bands() {
    band_count = 0;
    for_each_run(parts.rows, [&](std::uint32_t first, std::uint32_t count) {
        for (std::uint32_t row = first; row != first + count; ++row) {
            std::uint64_t covered = 0;
            std::uint64_t partial = 0;
            for (const Role role : parts.covered) {
                const Coverage& strip = parts.strips[raw(role)];
                covered |= ((strip.any >> row) & 1) << raw(role);
                partial |= (((strip.any & ~strip.full) >> row) & 1) << raw(role);
            }
            Band* band = std::find_if(&bands[0], &bands[0] + band_count, [&](const Band& other) {
                return other.covered.bits() == covered && other.partial.bits() == partial;
            });
            if (band == &bands[0] + band_count) {
                bands[band_count++] = Band{0, RoleSet{covered}, RoleSet{partial}, {}};
            }
            band->rows |= row_range(row, 1);
        }
    });
}

Result<void> StripeJobs::Job::plan() {
    for (std::uint32_t i = 0; i != band_count; ++i) {
        BRAID_TRY(bands[i].plan, plan_write(state, bands[i].covered, bands[i].partial));
    }
    return {};
}

/// New content is taken straight from the client's memory where one part covers a strip's rows
/// entirely at an address that the members take; else it is gathered.
void StripeJobs::Job::choose_sources() {
    const Geometry& geometry = context.geometry;
    const std::uint32_t align = context.members.memory_align();
    const std::uint64_t stripe_begin = raw(place().stripe) * geometry.stripe_data_size();
    gathered = {};
    RoleSet seen;
    fua = false;
    for (const Part* part = parts.first; part != nullptr; part = part->next) {
        fua |= part->request->fua;
        for (const Role role : parts.covered) {
            const std::uint32_t i = raw(role);
            const auto coverage = coverage_of(geometry, place().window, *part, i);
            if (coverage.any == 0) continue;
            const bool whole = coverage.any == coverage.full && !seen.has(role);
            seen |= RoleSet::of(role);
            const std::byte* data = part->request->data;
            if (data == nullptr) {
                io.new_content[i] = zero_window().data();
                if (!whole) gathered |= RoleSet::of(role);
                continue;
            }
            const std::uint64_t window_begin =
                i * geometry.strip_size + place().window * geometry.window_size();
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
    for (std::uint32_t i = 0; i != band_count; ++i) {
        old |= bands[i].plan.read | bands[i].plan.recover;
    }
    std::uint64_t used = 0;
    for (const Role role : old) {
        io.old_content[raw(role)] = base + used;
        used += io.span_size();
    }
    for (const Role role : gathered) {
        io.new_content[raw(role)] = base + used;
        used += io.span_size();
    }
    return used;
}

void StripeJobs::Job::want_reads() {
    for (std::uint32_t i = 0; i != band_count; ++i) {
        for (const Role role : bands[i].plan.read) io.want_read(role, bands[i].rows);
    }
}

void StripeJobs::Job::want_writes() {
    for (std::uint32_t i = 0; i != band_count; ++i) {
        const Band& band = bands[i];
        for (const Role role : band.plan.write) {
            if (band.covered.has(role)) {
                io.want_write_new(role, band.rows);
            } else {
                if (BRAID_MUTANT(parity_not_written) && raw(role) + 1 == members_of_stripe()) {
                    continue;
                }
                io.want_write_old(role, band.rows);
            }
        }
    }
}

/// The old content of lost and unreadable data strips.
void StripeJobs::Job::recover() {
    const Geometry& geometry = context.geometry;
    for (std::uint32_t i = 0; i != band_count; ++i) {
        const StripePlan& plan = bands[i].plan;
        if (plan.recover.empty()) continue;
        for_each_run(bands[i].rows, [&](std::uint32_t row, std::uint32_t count) {
            recover_rows(geometry, plan, io, row, count);
        });
    }
}

void StripeJobs::Job::gather() {
    for (const Role role : gathered) {
        const std::uint32_t i = raw(role);
        auto* to = const_cast<std::byte*>(io.new_content[i]);  // NOLINT: a buffer of ours
        for_each_run(parts.strips[i].any & ~parts.strips[i].full,
                     [&](std::uint32_t row, std::uint32_t count) {
                         std::memcpy(to + io.offset_of(row), io.old_content[i] + io.offset_of(row),
                                     count * row_size);
                     });
    }
    if (gathered.empty()) return;
    for (const Part* part = parts.first; part != nullptr; part = part->next) gather_part(*part);
}

void StripeJobs::Job::gather_part(const Part& part) {
    const Geometry& geometry = context.geometry;
    const std::uint64_t stripe_begin = raw(place().stripe) * geometry.stripe_data_size();
    for (const Role role : gathered) {
        const std::uint32_t i = raw(role);
        const std::uint64_t window_begin =
            i * geometry.strip_size + place().window * geometry.window_size();
        const std::uint64_t begin = std::max(part.begin, window_begin);
        const std::uint64_t end = std::min(part.end, window_begin + geometry.window_size());
        if (begin >= end) continue;
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

void StripeJobs::Job::compute_parity() {
    if (live_parity().empty()) return;
    for (std::uint32_t i = 0; i != band_count; ++i) {
        for_each_run(bands[i].rows, [&](std::uint32_t row, std::uint32_t count) {
            compute_run(bands[i], row, count);
        });
    }
}

void StripeJobs::Job::compute_run(const Band& band, std::uint32_t row, std::uint32_t count) {
    const Geometry& geometry = context.geometry;
    const std::uint64_t at = io.offset_of(row);
    const std::uint64_t size = count * row_size;
    const RoleSet live = live_parity();
    const bool with_p = live.has(geometry.p());
    const bool with_q = geometry.parities() == 2 && live.has(geometry.q());
    const ByteSpan p = with_p ? ByteSpan{io.old_content[raw(geometry.p())] + at, size} : ByteSpan{};
    const ByteSpan q = with_q ? ByteSpan{io.old_content[raw(geometry.q())] + at, size} : ByteSpan{};
    if (band.plan.method == PlanMethod::rmw) {
        for (const Role role : band.covered) {
            const std::uint32_t i = raw(role);
            const std::byte* before = io.old_content[i] + at;
            const std::byte* after = io.new_content[i] + at;
            if (with_p && with_q) {
                parity::update_pq(p, q, i, before, after);
            } else if (with_p) {
                parity::update_p(p, before, after);
            } else {
                parity::update_q(q, i, before, after);
            }
        }
        return;
    }
    std::array<const std::byte*, members_max> strips{};
    for (const Role role : geometry.data_roles()) {
        const std::uint32_t i = raw(role);
        strips[i] = (band.covered.has(role) ? io.new_content[i] : io.old_content[i]) + at;
    }
    const parity::Sources sources{strips.data(), geometry.data_count()};
    if (with_p && with_q) {
        parity::compute_pq(p, q, sources, parity::Store::cached);
    } else if (with_p) {
        parity::compute_p(p, sources, parity::Store::cached);
    } else {
        parity::compute_q(q, sources, parity::Store::cached);
    }
}

void StripeJobs::Job::count_methods() const {
    Counters& counters = context.counters;
    ++counters.jobs;
    if (parts.count > 1) counters.parts_merged += parts.count;
    switch (bands[0].plan.method) {
        case PlanMethod::full_stripe: ++counters.jobs_full_stripe; break;
        case PlanMethod::rmw: ++counters.jobs_rmw; break;
        default: ++counters.jobs_rcw; break;
    }
}

/// What cannot be known cannot be kept beside what is new in the same row either.
bool StripeJobs::Job::covers_bad_rows_in_part() const {
    if (context.bad.empty()) return false;
    for (const Role role : parts.covered) {
        const Coverage& strip = parts.strips[raw(role)];
        if (context.bad.rows_of(place(), role, strip.any & ~strip.full) != 0) return true;
    }
    return false;
}

/// Listed rows whose every byte this job writes.
std::vector<BadRange> StripeJobs::Job::healed_rows() const {
    std::vector<BadRange> healed;
    if (context.bad.empty()) return healed;
    for (const Role role : parts.covered) {
        const RowMask rows = context.bad.rows_of(place(), role, parts.strips[raw(role)].full);
        for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
            healed.push_back(context.bad.range_of(place(), role, row, count));
        });
    }
    return healed;
}

// ---- the workers ---------------------------------------------------------------------------

/// A worker that waits for a job.
struct StripeJobs::Idle {
    StripeJobs& jobs;
    ReadyQueue* queue{nullptr};
    std::coroutine_handle<> handle{};
    Idle* next{nullptr};
    bool await_ready() const { return jobs.stopping_ || jobs.context_.locks.has_jobs(); }
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
    context_.locks.set_listener(this);
}

void StripeJobs::job_ready() {
    if (Idle* idle = idle_; idle != nullptr) {
        idle_ = idle->next;
        idle->queue->push(idle->handle);
    } else if (started_ != workers_max) {
        ++started_;
        tasks_.spawn(work(this));
    }
}

void StripeJobs::stop() {
    stopping_ = true;
    for (Idle* idle = std::exchange(idle_, nullptr); idle != nullptr; idle = idle->next) {
        idle->queue->push(idle->handle);
    }
}

Task<void> StripeJobs::work(StripeJobs* self) {
    Job job(self->context_);
    WindowLocks& locks = self->context_.locks;
    while (!self->stopping_) {
        Idle idle{*self};
        co_await idle;
        while (locks.take_job(job.parts)) {
            const Result<void> result = co_await run(self, &job);
            job.lease = Lease();
            if (!result && job.parts.count > 1) {
                // One part's rows spoilt it for all: let each have its own answer.
                locks.split_job(job.parts);
                continue;
            }
            locks.end_job(job.parts);
            for (Part* part = job.parts.first; part != nullptr;) {
                Part* next = part->next;  // part_done() may use the part again
                self->sink_.part_done(*part, result);
                part = next;
            }
        }
    }
}

Task<Result<void>> StripeJobs::run(StripeJobs* self, Job* job) {
    const StripeContext& context = self->context_;
    StripeIo& io = job->io;
    job->find_bands();
    if (job->covers_bad_rows_in_part()) co_return Error{Errc::unknown, "row"};
    WriteIntent::Hold hold(context.intent, job->place().stripe);  // on its way while we read
    RoleSet unreadable;
    for (;;) {  // ends: each further round has a role more that is lost or unreadable
        if (context.members.failed()) co_return Error{Errc::failed, "array"};
        const std::uint64_t losses = context.members.losses();
        job->state = context.members.state_of(job->place());
        job->state.unreadable = unreadable - job->state.lost;
        BRAID_CO_CHECK(job->plan());
        io.begin(job->place(), job->parts.rows);
        job->choose_sources();
        job->lease = Lease();
        if (const std::uint64_t size = job->lay_out(nullptr); size != 0) {
            job->lease = co_await context.pool.acquire(size);
            job->lay_out(job->lease.data());
        }
        job->want_reads();
        while (io.submit(DiskOpKind::read, false)) {
            co_await io.group;
            io.collect();
        }
        if (const RoleSet failed = take_failed_reads(io, context.monitor); !failed.empty()) {
            unreadable |= failed;
            continue;
        }
        BRAID_CO_CHECK(co_await hold);
        if (losses == context.members.losses()) break;  // nothing was written so far
    }
    job->recover();
    job->gather();
    job->compute_parity();
    job->want_writes();
    while (io.submit(DiskOpKind::write, job->fua)) {
        co_await io.group;
        io.collect();
    }
    job->count_methods();
    context.counters.reads_corrected += job->state.unreadable.size();
    tell_failed_writes(io, context.monitor);
    if (context.members.losses() != context.members.losses_durable() &&
        !BRAID_MUTANT(losses_not_awaited)) {
        BRAID_CO_CHECK(co_await context.monitor.losses_durable());
    }
    // Looked up now: the list may have grown since, by what this job has just made good.
    if (std::vector<BadRange> healed = job->healed_rows(); !healed.empty()) {
        BRAID_CO_CHECK(co_await context.monitor.rows_known(std::move(healed)));
    }
    co_return Result<void>{};
}

}  // namespace braid
