// SPDX-License-Identifier: BSD-3-Clause
// StripeJobs: carries out writes. A bounded number of workers take jobs (merged parts of requests)
// from the claims, plan them, read, compute, write, and tell the requests. A row is claimed when its
// stripe is marked, before its old content is read, until its new content and parity are on the
// members. A loss that is owed is waited for afterwards.
#pragma once

#include <cstdint>

#include "engine/io/task.h"
#include "engine/io_request.h"
#include "engine/stripes/stripe_context.h"
#include "engine/stripes/stripe_io.h"
#include "engine/stripes/stripe_plan.h"

namespace braid {

struct StripeJob;

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
    struct Idle;
    Task<void> work();
    Task<Result<void>> await_losses();
    Task<Result<void>> run(StripeJob* job, Result<void> marked, const WriteIntent::Hold* mark);
    Task<Result<void>> fit_row(StripeJob* job, RoleSet covered, std::uint32_t row,
                               RoleSet* differs);
    Task<Result<void>> fit_rows(StripeJob* job, Error error);

    StripeContext context_;
    PartSink& sink_;
    TaskGroup& tasks_;
    Idle* idle_{nullptr};
    std::uint32_t started_{0};
    bool stopping_{false};
};

}  // namespace braid
