// SPDX-License-Identifier: BSD-3-Clause
// StripeJob: one job of a worker, which is rows of one window and the parts of requests that cover
// them. What is known of it, and computed without waiting: which rows are alike, their plans, where
// the content lies, parity, what the list of bad rows says of them. StripeJobs
// (engine/stripes/stripe_jobs.h) takes it, and carries it out.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/members/row_homes.h"
#include "engine/stripes/row_write.h"
#include "engine/stripes/strip_rows.h"
#include "engine/stripes/stripe_context.h"
#include "engine/stripes/stripe_io.h"
#include "engine/stripes/stripe_plan.h"

namespace braid {

/// Rows that are covered alike, and so have one plan.
struct RowGroup {
    RowMask rows{0};
    RoleSet covered;
    RoleSet partial;
    RoleSet retry;   // listed, to be tried again
    RoleSet voided;  // beside those, or where parity may not be true: listed as void
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

struct StripeJob {
    explicit StripeJob(const StripeContext& the_context)
        : context(the_context),
          io(the_context.geometry, the_context.members),
          write(the_context),
          lock(the_context.homes) {}

    const StripeContext& context;
    JobParts parts;
    StripeIo io;
    RowWrite write;
    RowLock lock;  // in a cluster
    const WriteIntent::Hold* mark{nullptr};
    Lease lease;
    StripeState state;
    std::array<RowGroup, window_rows_max> groups;
    std::uint32_t group_count{0};
    bool happened{false};  // it must not be made again: others may have written since
    RoleSet gathered;      // data strips whose new content is put together in a buffer of ours
    bool fua{false};
    RowsWithLock with_lock;  // of P
    Buffer come;             // what came so

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
    RowsWithLock* want_with_lock();
    void want_reads();
    void take_what_came();
    void want_writes();
    void recover();
    void gather();
    void gather_part(const Part& part);
    void compute_parity();
    void compute_run(const RowGroup& group, std::uint32_t row, std::uint32_t count);
    void count_methods() const;
    bool covers_bad_rows_in_part() const;
    std::vector<BadRange> healed_rows() const;
    /// Gives those rows.
    RowMask note_true_rows() const;
    RowMask rows_with_parity() const;
    RoleSet kept_of(RoleSet failed) const;
    void fit_parity(Role role, std::uint32_t row, const std::byte* now);
};

}  // namespace braid
