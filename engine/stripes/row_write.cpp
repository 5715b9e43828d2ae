// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/row_write.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "engine/base/mutation.h"

namespace braid {

void RowWrite::begin(WriteGround ground, const WriteIntent::Hold* mark) {
    BRAID_REQUIRE(group.pending() == 0);
    ground_ = ground;
    mark_ = mark;
    io_ = nullptr;
    wanted_ = {};
    failed_ = {};
    for (std::uint32_t i = 0; i != context_.geometry.member_count; ++i) {
        strip_rows_[i] = new_rows_[i] = 0;
    }
    pieces_ = 0;
    staged_ = fua = false;
}

DriveOp& RowWrite::add_piece(MemberIndex member, WindowPlace place, std::uint32_t row,
                             std::uint64_t size) {
    BRAID_REQUIRE(pieces_ != pieces_max);
    DriveOp& op = ops_[pieces_++];
    op.kind = DiskOpKind::write;
    op.fua = fua;
    op.background = op.may_free = false;
    op.offset = context_.members.device_offset(member, place, row);
    op.size = size;
    op.tag = raw(member);
    return op;
}

void RowWrite::add_windows(const MemberWindows& piece) {
    BRAID_REQUIRE(io_ == nullptr);
    BRAID_REQUIRE(piece.windows.begin < piece.windows.end);
    const WindowPlace first = context_.members.window_place(piece.windows.begin);
    DriveOp& op =
        add_piece(piece.member, first, 0, piece.windows.size() * context_.geometry.window_size());
    if (piece.content == nullptr) op.kind = DiskOpKind::zero;
    op.may_free = piece.may_free;
    op.background = piece.background;
    op.data = const_cast<std::byte*>(piece.content);  // NOLINT: a write only reads it
}

/// False if there was no room for all of `rows`.
bool RowWrite::take_rows(Role role, RowMask& rows, const std::byte* content) {
    while (rows != 0) {
        if (pieces_ == pieces_max) return false;
        const auto row = static_cast<std::uint32_t>(std::countr_zero(rows));
        const auto count = static_cast<std::uint32_t>(std::countr_one(rows >> row));
        rows &= ~row_range(row, count);
        BRAID_REQUIRE(content != nullptr);
        DriveOp& op = add_piece(io_->member_of(role), io_->place(), row, count * row_size);
        op.data = const_cast<std::byte*>(content) + io_->offset_of(row);  // NOLINT: as above
    }
    return true;
}

bool RowWrite::stage() {
    BRAID_REQUIRE(!staged_);
    for (const Role role : wanted_) {
        const std::uint32_t i = raw(role);
        if (!take_rows(role, strip_rows_[i], io_->strips[i])) break;
        if (!take_rows(role, new_rows_[i], io_->new_content[i])) break;
        wanted_ = wanted_ - RoleSet::of(role);
    }
    for (std::uint32_t i = 0; i != pieces_; ++i) {
        audit(ops_[i]);
        context_.members.write(StripAccess{}, MemberIndex{ops_[i].tag}, group, ops_[i]);
    }
    staged_ = pieces_ != 0;
    return staged_;
}

void RowWrite::collect() {
    for (std::uint32_t i = 0; i != pieces_; ++i) {
        DriveOp& op = ops_[i];
        context_.members.finish(MemberIndex{op.tag}, op);
        if (op.ok()) continue;
        failed_.add(MemberIndex{op.tag});
        results_[op.tag] = op.result;
    }
    pieces_ = 0;
    staged_ = false;
}

RoleSet RowWrite::failed() const {
    RoleSet roles;
    for (const MemberIndex member : failed_) {
        roles.add(context_.geometry.role_of(io_->place().stripe, member));
    }
    return roles;
}

bool RowWrite::tell_failed() const {
    bool full = false;
    for (const MemberIndex member : failed_) {
        const DriveResult& result = results_[raw(member)];
        if (!result.is_members()) continue;
        full |= result.os_error == ENOSPC;
        context_.decider.strip_write_failed(member, result.os_error);
    }
    return full;
}

// ---- audits --------------------------------------------------------------------------------

void RowWrite::audit([[maybe_unused]] const DriveOp& op) const {
#ifdef BRAID_AUDITS
    const MemberIndex member{op.tag};
    const Members& members = context_.members;
    const std::uint64_t begin = op.offset - members.device_offset(member, {}, 0);
    const std::uint64_t window_size = context_.geometry.window_size();
    for (std::uint64_t at = begin; at != begin + op.size;) {
        const auto row = static_cast<std::uint32_t>(at % window_size / row_size);
        const std::uint64_t size = std::min(begin + op.size - at, window_size - row * row_size);
        audit_rows(member, members.window_place(WindowIndex{at / window_size}),
                   row_range(row, static_cast<std::uint32_t>(size / row_size)));
        at += size;
    }
#endif
}

/// Whoever writes strips has their rows, and a ground that is true.
void RowWrite::audit_rows([[maybe_unused]] MemberIndex member, [[maybe_unused]] WindowPlace place,
                          [[maybe_unused]] RowMask rows) const {
    BRAID_AUDIT(context_.claims.are_claimed(place, rows) || BRAID_MUTANT(row_lock_dropped_early));
    switch (ground_) {
        case WriteGround::marked:
            BRAID_AUDIT(mark_ != nullptr && mark_->is_durable_for(place.stripe));
            break;
        case WriteGround::untrusted: {
            [[maybe_unused]] const RowMask doubtful =
                context_.members.rows_in_doubt(place, rows) | context_.bad.retry_rows(place, rows);
            BRAID_AUDIT(doubtful == rows ||
                        context_.geometry.data_roles().has(
                            context_.geometry.role_of(place.stripe, member)) ||
                        context_.intent.is_carried(place.stripe));
            break;
        }
        case WriteGround::mended:
            break;
        case WriteGround::rebuilt:
            BRAID_AUDIT(!context_.members.is_live(member, place));
            break;
    }
}

}  // namespace braid
