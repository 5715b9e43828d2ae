// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/stripe_io.h"

#include <bit>

namespace braid {
namespace {

alignas(row_size) constinit const std::array<std::byte, window_rows_max * row_size> zeros{};

}  // namespace

ByteView zero_window() { return zeros; }

void StripeIo::begin(WindowPlace place, RowMask rows) {
    BRAID_REQUIRE(rows != 0);
    place_ = place;
    first_row_ = static_cast<std::uint32_t>(std::countr_zero(rows));
    span_ = static_cast<std::uint32_t>(std::bit_width(rows)) - first_row_;
    for (std::uint32_t i = 0; i != geometry_.member_count; ++i) {
        strips[i] = nullptr;
        new_content[i] = nullptr;
        rows_[i] = 0;
    }
    wanted_ = failed_ = RoleSet{};
    ops_used_ = 0;
}

bool StripeIo::submit() {
    ops_used_ = 0;
    for (const Role role : wanted_) {
        if (!submit_rows(role, rows_[raw(role)])) break;
        wanted_ = wanted_ - RoleSet::of(role);
    }
    return ops_used_ != 0;
}

/// False if there was no room for all of `rows`.
bool StripeIo::submit_rows(Role role, RowMask& rows) {
    const MemberIndex member = member_of(role);
    while (rows != 0) {
        if (ops_used_ == job_ops_max) return false;
        const auto row = static_cast<std::uint32_t>(std::countr_zero(rows));
        const auto count = static_cast<std::uint32_t>(std::countr_one(rows >> row));
        rows &= ~row_range(row, count);
        BRAID_REQUIRE(strips[raw(role)] != nullptr);
        DriveOp& op = ops_[ops_used_++];
        op.set_offset(members_.device_offset(member, place_, row));
        op.size = count * row_size;
        op.data = strips[raw(role)] + offset_of(row);
        op.tag = raw(role);
        members_.submit(member, group, op);
    }
    return true;
}

void StripeIo::collect() {
    for (std::uint32_t i = 0; i != ops_used_; ++i) {
        DriveOp& op = ops_[i];
        const Role role{op.tag};
        members_.finish(member_of(role), op);
        if (op.ok()) continue;
        failed_ |= RoleSet::of(role);
        results_[op.tag] = op.result;
    }
    ops_used_ = 0;
}

bool ReadRounds::is_last(StripeIo& io, Decider& decider) {
    const RoleSet failed = take_failed_reads(io, decider);
    unreadable_ |= failed;
    return failed.empty() && loss_version_ == members_.loss_version();
}

RoleSet take_failed_reads(StripeIo& io, Decider& decider) {
    const RoleSet failed = io.take_failed();
    for (const Role role : failed) {
        const DriveResult& result = io.result_of(role);
        if (result.is_members()) decider.read_failed(io.member_of(role), result.os_error);
    }
    return failed;
}

}  // namespace braid
