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
    changed_.reset();
    failed_ = {};
    for (std::uint32_t i = 0; i != context_.geometry.member_count; ++i) {
        strip_rows_[i] = new_rows_[i] = 0;
    }
    pieces_ = 0;
    staged_ = fua = false;
    phase_ = Phase::open;
    again_ = false;
    participants_ = {};
    rows_.clear();
}

DriveOp& RowWrite::add_piece(MemberIndex member, WindowPlace place, std::uint32_t row,
                             std::uint64_t size) {
    BRAID_REQUIRE(pieces_ != pieces_max);
    DriveOp& op = ops_[pieces_++];
    op.kind = DiskOpKind::write;
    op.fua = fua;
    op.background = op.may_free = false;
    op.staged = nullptr;
    op.set_offset(context_.members.device_offset(member, place, row));
    op.size = size;
    op.tag = raw(member);
    return op;
}

void RowWrite::add_windows(const MemberWindows& piece) {
    BRAID_REQUIRE(io_ == nullptr);
    BRAID_REQUIRE(piece.windows.begin < piece.windows.end);
    const WindowPlace first = context_.members.window_place(piece.windows.begin);
    if (context_.homes != nullptr) {
        BRAID_REQUIRE(piece.windows.size() == 1);  // what is decided at once
        StagedRows rows;
        rows.place = first;
        rows.sources[0] = {row_range(0, context_.geometry.window_rows), piece.content};
        rows.may_free = piece.may_free;
        return add_staged(rows, piece.member);
    }
    DriveOp& op =
        add_piece(piece.member, first, 0, piece.windows.size() * context_.geometry.window_size());
    if (piece.content == nullptr) op.kind = DiskOpKind::zero;
    op.may_free = piece.may_free;
    op.background = piece.background;
    op.data = const_cast<std::byte*>(piece.content);  // NOLINT: a write only reads it
    note_changed(piece.windows);
}

/// Members that are away miss it. What is written to make a member whole changes nothing.
void RowWrite::note_changed(WindowRange windows) {
    if (ground_ == WriteGround::rebuilt || BRAID_MUTANT(absence_not_noted)) return;
    context_.members.note_changed(windows);
}

void RowWrite::note_changed(WindowIndex window) {
    if (!changed_) return note_changed({window, window + 1});
    if (ground_ == WriteGround::rebuilt || BRAID_MUTANT(absence_not_noted)) return;
    context_.members.note_changed(window, *changed_);
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
    if (context_.homes != nullptr) return stage_at_homes();
    for (const Role role : wanted_) {
        const std::uint32_t i = raw(role);
        if (!take_rows(role, strip_rows_[i], io_->strips[i])) break;
        if (!take_rows(role, new_rows_[i], io_->new_content[i])) break;
        wanted_ = wanted_ - RoleSet::of(role);
    }
    if (io_ != nullptr) {
        note_changed(context_.members.window_number(io_->place()));
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
        if (op.result.outcome == DriveOutcome::again) {
            again_ = true;
            continue;
        }
        failed_.add(MemberIndex{op.tag});
        results_[op.tag] = op.result;
    }
    pieces_ = 0;
    staged_ = false;
}

// ---- in a cluster ----------------------------------------------------------------------------

/// All of it goes out in one turn. When it has been answered the write is decided, and, where it is
/// to be durable, flushed: a round more.
bool RowWrite::stage_at_homes() {
    if (phase_ == Phase::open) {
        StagedRows rows;
        if (io_ != nullptr) rows.place = io_->place(), rows.first = io_->first_row();
        if (io_ != nullptr) add_staged_roles(rows);
        phase_ = Phase::staged;
        if (pieces_ == 0) return false;
        submit_staged(context_.homes->begin_write(participants_));
        return staged_ = true;
    }
    if (phase_ == Phase::staged && !participants_.empty()) {
        decide_at_homes();
        if (fua && phase_ == Phase::decided) return staged_ = flush_participants();
    }
    return false;
}

void RowWrite::add_staged_roles(StagedRows rows) {
    for (const Role role : wanted_) {
        const std::uint32_t i = raw(role);
        rows.sources = {StagedRows::Source{strip_rows_[i], io_->strips[i]},
                        StagedRows::Source{new_rows_[i], io_->new_content[i]}};
        for (const StagedRows::Source& source : rows.sources) {
            BRAID_REQUIRE(source.rows == 0 || source.content != nullptr);
        }
        add_staged(rows, io_->member_of(role));
    }
    wanted_ = {};
}

void RowWrite::add_staged(StagedRows rows, MemberIndex member) {
    BRAID_REQUIRE((rows.sources[0].rows & rows.sources[1].rows) == 0 && rows.rows() != 0);
    BRAID_REQUIRE(!participants_.has(member));
    participants_.add(member);
    const auto first = static_cast<std::uint32_t>(std::countr_zero(rows.rows()));
    const auto count = static_cast<std::uint64_t>(std::popcount(rows.rows()));
    add_piece(member, rows.place, first, count * row_size);
    rows_.push_back(rows);
}

void RowWrite::submit_staged(WriteId write) {
    write_ = write;
    for (std::uint32_t i = 0; i != pieces_; ++i) {
        const MemberIndex member{ops_[i].tag};
        rows_[i].write = write;
        rows_[i].participants = participants_;
        note_changed(context_.members.window_number(rows_[i].place));
        audit_rows(member, rows_[i].place, rows_[i].rows());
        ops_[i].fua = false;
        ops_[i].data = nullptr;
        ops_[i].staged = &rows_[i];
        context_.members.write(StripAccess{}, member, group, ops_[i]);
    }
}

/// A participant that was lost meanwhile does without: its home has the write in its book, and the
/// loss is owed. Not if that is more than the level can lose.
void RowWrite::decide_at_homes() {
    bool taken = !context_.members.failed() && !again_;
    for (const MemberIndex member : failed_) {
        taken &= results_[raw(member)].outcome == DriveOutcome::lost;
        if (BRAID_MUTANT(lost_stage_dropped)) taken = false;
    }
    if (!taken) context_.homes->drop(write_);
    const bool happens = taken && context_.homes->decide(write_);
    again_ |= taken && !happens;
    phase_ = happens ? Phase::decided : Phase::dropped;
}

/// A flush lets every write before it be applied, so what was decided is durable after it.
bool RowWrite::flush_participants() {
    phase_ = Phase::durable;
    for (const MemberIndex member : participants_) {
        DriveOp& op = ops_[pieces_++];
        op.kind = DiskOpKind::flush;
        op.staged = nullptr;
        op.set_offset({});
        op.size = 0;
        op.tag = raw(member);
        context_.members.submit(member, group, op);
    }
    return pieces_ != 0;
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
        full |= result.os_error == ENOSPC;  // also of a flush that its home refused for that
        if (!result.is_members()) continue;
        if (context_.homes != nullptr) continue;  // a member's home tells of it
        context_.decider.strip_write_failed(member, result.os_error);
    }
    return full;
}

// ---- audits --------------------------------------------------------------------------------

void RowWrite::audit([[maybe_unused]] const DriveOp& op) const {
#ifdef BRAID_AUDITS
    const MemberIndex member{op.tag};
    const Members& members = context_.members;
    const Geometry& geometry = context_.geometry;
    RowIndex at = geometry.row_of(members.slot(member).area.in_data(op.offset()));
    const RowIndex end = at + op.size / row_size;
    while (at != end) {
        const WindowIndex window = geometry.window_of(at);
        const RowIndex past = std::min(end, geometry.first_row(window + 1));
        audit_rows(member, members.window_place(window),
                   row_range(static_cast<std::uint32_t>(at - geometry.first_row(window)),
                             static_cast<std::uint32_t>(past - at)));
        at = past;
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
