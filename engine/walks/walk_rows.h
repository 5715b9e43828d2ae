// SPDX-License-Identifier: BSD-3-Clause
// WalkRows: what a walk decides of the windows that it has read: which strips are wrong, what is
// computed from the others, what cannot be known. It changes bytes in memory and notes what is to
// be written and listed; Walker reads, lists and writes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/limits.h"
#include "engine/layout/configuration.h"
#include "engine/layout/roles.h"
#include "engine/layout/rows.h"
#include "engine/stripes/stripe_jobs.h"
#include "engine/walks/walk_progress.h"

namespace braid {

class StripRows;

/// What a batch brought to light: told when it is sure that it will not be looked at again.
struct WalkFound {
    struct Mismatch {
        WindowPlace place;
        RowMask rows{0};
        RoleSet strips;
        std::string what;
    };
    std::vector<Mismatch> mismatches;
    std::uint64_t rows_mismatched{0};
    std::uint64_t rows_repaired{0};
    std::uint64_t rows_wrong{0};
    std::uint64_t rows_unknown{0};
    std::uint64_t bytes_unknown{0};  // of data, that a scrub could not read, nor compute
};

/// Windows [first, first + count) of all members in memory, and what was decided of them.
struct WalkBatch {
    /// @param size  bytes of each member's piece of the buffer
    WalkBatch(const StripeContext& context, std::uint64_t size);

    StripeIo io;                // of the window that is looked at
    std::uint64_t member_size;  // bytes of each member in `buffer`
    Buffer buffer;
    WindowIndex first{};
    std::uint32_t count{0};
    MemberSet read;                                     // those that the batch was read from
    bool has_bad{false};                                // a read of the batch failed
    std::vector<std::array<RowMask, members_max>> bad;  // by window and member: rows that did

    std::vector<std::array<RowMask, members_max>> wrong;  // by window and role: to be rewritten
    std::vector<BadRange> unknown;  // to be listed before anything is rewritten
    std::vector<BadRange> known;    // to leave the list when that has been
    std::vector<BadRange> voided;   // to be listed as void when parity is true for that
    // Rows are taken for zeros because they are listed as void: the list has to be durable first. Else
    // a crash would leave parity that makes zeros of what nothing says is unknown.
    bool leans_on_list{false};
    std::array<bool, windows_claimed_max> marks{};  // by window: it is marked before it is mended
    WalkFound found;

    std::byte* content(MemberIndex member, std::uint64_t offset) {
        return buffer.data() + raw(member) * member_size + offset;
    }
    bool was_read(MemberIndex member) const { return read.has(member); }
    bool is_wrong(std::uint32_t index) const;
    bool has_bad_rows(std::uint32_t index) const;
    /// Rows of the window, of all strips, that could not be read and are wrong.
    std::uint64_t bad_rows_to_mend(const Geometry& geometry, std::uint32_t index) const;
    RoleSet bad_roles(const Geometry& geometry, std::uint32_t index, std::uint32_t row) const;
};

class WalkRows {
  public:
    /// @param order  of the walk under way: its counts grow here
    WalkRows(StripeContext context, WalkOrder& order);
    WalkRows(const WalkRows&) = delete;
    WalkRows& operator=(const WalkRows&) = delete;

    /// A walk begins.
    void begin() { rows_wrong_ = rows_unknown_ = 0; }
    /// Computes what each window of the batch should hold. Errc::doubt: rows are in doubt, so that
    /// what parity says there decides nothing.
    Result<void> decide(WalkBatch& batch);
    /// What decide() found counts from now on, and is told.
    void tell_found(WalkBatch& batch);
    /// Points the batch's `io` at one of its windows.
    void begin_window(WalkBatch& batch, std::uint32_t index);

    std::uint64_t rows_wrong() const { return rows_wrong_; }      // whose parity a resync rewrote
    std::uint64_t rows_unknown() const { return rows_unknown_; }  // that it had to list

  private:
    struct RowRun;
    struct Verdict {
        RoleSet wrong;
        bool known{false};  // so that it can be repaired
        std::string text;   // for people
    };
    void inspect_window(WalkBatch& batch, std::uint32_t index);
    void inspect_row(WalkBatch& batch, std::uint32_t index, std::uint32_t row);
    Verdict judge(const StripRows& strips, StripeIndex stripe) const;
    RowRun run_at(WalkBatch& batch, std::uint32_t index, std::uint32_t row) const;
    void recover_window(WalkBatch& batch, std::uint32_t index);
    void recover_rows_of(WalkBatch& batch, const RowRun& run);
    void pass_over(WalkBatch& batch, const RowRun& run);
    void decide_listed(WalkBatch& batch, const RowRun& run);
    void decide_rows(WalkBatch& batch, const RowRun& run);
    void give_up(WalkBatch& batch, const RowRun& run, RoleSet unknown);
    void list(WalkBatch& batch, const RowRun& run, Role role, BadKind kind);
    void set_zero(WalkBatch& batch, const RowRun& run, RoleSet roles);
    RoleSet target_of(const RowRun& run) const;
    BadKind kind_of(const RowRun& run, Role role) const;
    void renew_parity(WalkBatch& batch, const RowRun& run);
    void renew_with_zeros(WalkBatch& batch, const RowRun& run);

    StripeContext context_;
    WalkOrder& order_;
    std::uint64_t rows_wrong_{0};
    std::uint64_t rows_unknown_{0};
    std::array<std::array<std::byte, row_size>, 2> before_{};  // P and Q of a row, as read
};

}  // namespace braid
