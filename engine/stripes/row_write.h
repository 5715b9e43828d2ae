// SPDX-License-Identifier: BSD-3-Clause
// RowWrite: one write of rows on its way to its participants, which are the members that it
// changes. It is the only way to the bytes of a strip: Members takes writes from nobody else.
//
// First it is staged: every participant gets its rows. When all that still count have them it is
// decided, and happens. On a node that is alone members are written as they are staged, and deciding
// is nothing more. In a cluster their homes keep what is staged in memory until they are told: a
// write that one of them did not take is dropped, and nothing of it has happened.
//
// Who writes has claimed the rows, and has a reason why a crash in the middle of it is found: its
// ground. Audits look at both. It lives in the frame of the coroutine that uses it.
#pragma once

#include <array>
#include <coroutine>
#include <cstdint>
#include <vector>

#include "engine/stripes/stripe_context.h"
#include "engine/stripes/stripe_io.h"

namespace braid {

/// Why the parity of rows, which a crash may leave half written, is not trusted after it.
enum class WriteGround : std::uint8_t {
    marked,     // a mark that is held names the stripe; or the write intent was off
    untrusted,  // nobody trusts it now: the rows are in doubt, marked since before, or listed
    mended,     // it is true, and stays so: strips that could not be read get what it says of them
    rebuilt,    // the strips do not count yet: they are of a member that is being rebuilt
};

/// Windows of one member, in one piece.
struct MemberWindows {
    MemberIndex member{};
    WindowRange windows;
    const std::byte* content{nullptr};  // none: zeroes
    bool may_free{false};               // zeroes: space may be given back
    bool background{false};             // beside the loop
};

class RowWrite {
  public:
    explicit RowWrite(const StripeContext& context) : context_(context) {}
    RowWrite(const RowWrite&) = delete;
    RowWrite& operator=(const RowWrite&) = delete;

    /// A new write; forgets all of the one before. `mark`: what is held for it, where it is marked.
    void begin(WriteGround ground, const WriteIntent::Hold* mark = nullptr);
    /// What of the window becomes another one, also where nobody is that has it; else all may.
    void set_changed(RoleSet roles) { changed_ = roles; }

    // Who gets what. Content stays in place until the write was staged.
    /// Rows of the window that `io` has, from its old or its new content of the role.
    void add_strip(const StripeIo& io, Role role, RowMask rows) {
        add(io, role, rows, strip_rows_);
    }
    void add_new(const StripeIo& io, Role role, RowMask rows) { add(io, role, rows, new_rows_); }
    /// At most pieces_max of them, and none beside rows of a window.
    void add_windows(const MemberWindows& piece);

    // `while (co_await write) {}` stages all of it, at most pieces_max pieces a round, and decides.
    // It is awaited itself, which saves every write a coroutine's frame and a turn of the loop. By
    // its name: GCC 12 makes an illegal instruction of `while (co_await *pointer)`.
    bool await_ready() { return !stage() || group.await_ready(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        group.await_suspend(self);
    }
    /// True: another round.
    bool await_resume() {
        if (!staged_) {
            decide();
            return false;
        }
        collect();
        return true;
    }

    // The steps of it.
    bool stage();
    void collect();
    DiskGroup group;
    /// Every participant that counts has it: it happens.
    void decide() { BRAID_REQUIRE(pieces_ == 0 && wanted_.empty()); }
    /// In a cluster: a participant did not take it, and nothing of it has happened.
    bool is_dropped() const { return phase_ == Phase::dropped; }
    /// It was dropped because its rows were locked under a fence that is over: to be made again, from
    /// the start.
    bool is_again() const { return is_dropped() && again_; }
    /// In a cluster: it happens, and whoever has locked the rows since may have seen it. It must not
    /// be made again.
    bool is_decided() const { return phase_ == Phase::decided || phase_ == Phase::durable; }

    /// Participants that did not take all of it; and their roles in the window.
    MemberSet failed_members() const { return failed_; }
    RoleSet failed() const;
    const DriveResult& result_of(MemberIndex member) const { return results_[raw(member)]; }
    /// Tells the decider of each of them: the member is lost, or kept. True: one of them failed for
    /// want of room.
    bool tell_failed() const;

    bool fua{false};  // durable when it is over

    static constexpr std::uint32_t pieces_max =
        job_ops_max;  // at a time; a fragmented one takes turns

  private:
    enum class Phase : std::uint8_t { open, staged, decided, dropped, durable };  // in a cluster

    bool stage_at_homes();
    void add_staged(StagedRows rows, MemberIndex member);
    void add_staged_roles(StagedRows rows);
    void submit_staged(WriteId write);
    void decide_at_homes();
    bool flush_participants();
    void add(const StripeIo& io, Role role, RowMask rows, std::array<RowMask, members_max>& to) {
        io_ = &io;
        to[raw(role)] |= rows, wanted_ |= RoleSet::of(role);
    }
    bool take_rows(Role role, RowMask& rows, const std::byte* content);
    DriveOp& add_piece(MemberIndex member, WindowPlace place, std::uint32_t row,
                       std::uint64_t size);
    void note_changed(WindowRange windows);
    void note_changed(WindowIndex window);
    void audit(const DriveOp& op) const;
    void audit_rows(MemberIndex member, WindowPlace place, RowMask rows) const;

    const StripeContext& context_;
    WriteGround ground_{WriteGround::marked};
    const WriteIntent::Hold* mark_{nullptr};
    const StripeIo* io_{nullptr};
    RoleSet wanted_;
    std::optional<RoleSet> changed_;
    MemberSet failed_;
    std::array<RowMask, members_max> strip_rows_{};
    std::array<RowMask, members_max> new_rows_{};
    std::array<DriveResult, members_max> results_{};  // of members that failed: the last one
    std::array<DriveOp, pieces_max> ops_;
    std::uint32_t pieces_{0};
    bool staged_{false};  // the pieces are under way
    // In a cluster.
    Phase phase_{Phase::open};
    WriteId write_{};
    bool again_{false};
    MemberSet participants_;
    std::vector<StagedRows> rows_;  // of the pieces
};

}  // namespace braid
