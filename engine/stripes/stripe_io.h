// SPDX-License-Identifier: BSD-3-Clause
// StripeIo: the rows of one window in memory, and on their way there. It knows for each role where
// its old content lies (and, for a data strip, its new content), reads sets of rows, and keeps
// which roles failed; a RowWrite writes them. It lives in the frame of the coroutine that uses it.
#pragma once

#include <array>
#include <bit>
#include <coroutine>
#include <cstdint>
#include <utility>

#include "engine/decider.h"
#include "engine/layout/geometry.h"
#include "engine/members/members.h"
#include "engine/stripes/buffer_pool.h"
#include "engine/stripes/stripe_plan.h"

namespace braid {

class StripeIo {
  public:
    StripeIo(const Geometry& geometry, Members& members) : geometry_(geometry), members_(members) {}
    StripeIo(const StripeIo&) = delete;
    StripeIo& operator=(const StripeIo&) = delete;

    /// Rows of `place` that will be touched; forgets everything else.
    void begin(WindowPlace place, RowMask rows);

    std::uint32_t first_row() const { return first_row_; }
    std::uint32_t span() const { return span_; }                  // rows, gaps included
    std::uint64_t span_size() const { return span_ * row_size; }  // bytes of one strip's buffer
    std::uint64_t offset_of(std::uint32_t row) const { return (row - first_row_) * row_size; }

    // Where content lies: pointers to the bytes of row first_row(), span_size() long.
    std::array<std::byte*, members_max> strips{};  // by role; P and Q: also the new parity
    std::array<const std::byte*, members_max> new_content{};  // by data strip

    /// What to read next into strips, cleared as it is submitted.
    void want_read(Role role, RowMask rows) {
        rows_[raw(role)] |= rows, wanted_ |= RoleSet::of(role);
    }
    /// Rows that are wanted of a strip; and they are there already.
    RowMask wanted(Role role) const { return wanted_.has(role) ? rows_[raw(role)] : 0; }
    void have(Role role) { rows_[raw(role)] = 0, wanted_.remove(role); }

    // `while (co_await io) {}` reads what is wanted, at most job_ops_max pieces a round. By its
    // name, as a RowWrite is.
    bool await_ready() { return !submit() || group.await_ready(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        group.await_suspend(self);
    }
    /// True: another round.
    bool await_resume() {
        if (ops_used_ == 0) return false;
        collect();
        return true;
    }

    // The steps of it. False: nothing is left to be read.
    bool submit();
    void collect();
    DiskGroup group;

    /// Roles that answered with an error since begin() or take_failed().
    RoleSet failed() const { return failed_; }
    RoleSet take_failed() { return std::exchange(failed_, RoleSet{}); }
    const DriveResult& result_of(Role role) const { return results_[raw(role)]; }

    WindowPlace place() const { return place_; }
    MemberIndex member_of(Role role) const { return geometry_.member_of(place_.stripe, role); }

  private:
    bool submit_rows(Role role, RowMask& rows);

    const Geometry& geometry_;
    Members& members_;
    WindowPlace place_;
    std::uint32_t first_row_{0};
    std::uint32_t span_{0};
    RoleSet wanted_;
    RoleSet failed_;
    std::array<RowMask, members_max> rows_{};
    std::array<DriveResult, members_max> results_{};  // of roles that failed: the last one
    std::array<DriveOp, job_ops_max> ops_;            // at a time
    std::uint32_t ops_used_{0};
};

/// Rounds of reading rows of one stripe, until all that was planned is known and no member was lost
/// meanwhile. They end: each further one has a role more that is lost or unreadable.
class ReadRounds {
  public:
    explicit ReadRounds(const Members& members) : members_(members) {}

    /// What the next round is planned by.
    StripeState begin(WindowPlace place, RowMask rows) {
        loss_version_ = members_.loss_version();
        StripeState state = members_.state_of(place, rows);
        state.unreadable = unreadable_ - state.lost;
        return state;
    }
    /// What was planned was read, or not. False: another round, for roles that could not be, or
    /// because a member was lost.
    bool is_last(StripeIo& io, Decider& decider);

  private:
    const Members& members_;
    RoleSet unreadable_;
    std::uint64_t loss_version_{0};
};

/// The roles whose read failed since begin(), each told to the decider.
RoleSet take_failed_reads(StripeIo& io, Decider& decider);

/// A strip's rows of the largest window, all zero: what zeros are written from.
ByteView zero_window();

}  // namespace braid
