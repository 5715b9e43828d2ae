// SPDX-License-Identifier: BSD-3-Clause
// StripeJobs: carries out writes. A bounded number of workers take jobs (merged parts of requests)
// from the claims, plan them, read, compute, write, and tell the requests. A row is claimed when its
// stripe is marked, before its old content is read, until its new content and parity are on the
// members. A loss that is owed is waited for afterwards.
#pragma once

#include <cstdint>

#include "engine/decider.h"
#include "engine/intent/write_intent.h"
#include "engine/io/task.h"
#include "engine/io_request.h"
#include "engine/layout/geometry.h"
#include "engine/members/bad_rows.h"
#include "engine/members/members.h"
#include "engine/status.h"
#include "engine/stripes/buffer_pool.h"
#include "engine/stripes/row_claims.h"
#include "engine/stripes/stripe_io.h"
#include "engine/stripes/stripe_plan.h"

namespace braid {

/// What the stripe code shares; all of it outlives the workers.
struct StripeContext {
    const Geometry& geometry;
    Members& members;
    RowClaims& claims;
    BufferPool& pool;
    Decider& monitor;
    WriteIntent& intent;
    const BadRows& bad;
    Counters& counters;
    bool readonly;  // members are only read: what could not be read is not rewritten
};

/// Told when a part of a request is over, and its memory free.
class PartSink {
  public:
    virtual ~PartSink() = default;
    virtual void part_done(Part& part, const Result<void>& result) = 0;
};

class StripeJobs final : public JobListener {
  public:
    StripeJobs(StripeContext context, PartSink& sink, TaskGroup& tasks);
    StripeJobs(const StripeJobs&) = delete;
    StripeJobs& operator=(const StripeJobs&) = delete;

    /// A worker will look, after all that is ready now, so that parts that arrive together are
    /// merged.
    void job_ready() override;
    /// The workers end when they are idle.
    void stop();

  private:
    struct Job;
    struct Idle;
    Task<void> work();
    Task<Result<void>> await_losses();
    Task<Result<void>> run(Job* job, Result<void> marked);
    Task<Result<void>> fit_row(Job* job, RoleSet covered, std::uint32_t row, RoleSet* differs);
    Task<Result<void>> fit_rows(Job* job, Error error);

    StripeContext context_;
    PartSink& sink_;
    TaskGroup& tasks_;
    Idle* idle_{nullptr};
    std::uint32_t started_{0};
    bool stopping_{false};
};

}  // namespace braid
