// SPDX-License-Identifier: BSD-3-Clause
#include "engine/walks/walk_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/stripes/strip_rows.h"

namespace braid {

WalkBatch::WalkBatch(const StripeContext& context, std::uint64_t size)
    : io(context.geometry, context.members),
      member_size(size),
      buffer(size * context.geometry.member_count) {
    BRAID_REQUIRE(size != 0 && size % context.geometry.window_size() == 0);
}

bool WalkBatch::is_wrong(std::uint32_t index) const {
    BRAID_REQUIRE(index < wrong.size());
    return std::ranges::any_of(wrong[index], [](RowMask rows) { return rows != 0; });
}

bool WalkBatch::has_bad_rows(std::uint32_t index) const {
    return has_bad && std::ranges::any_of(bad[index], [](RowMask rows) { return rows != 0; });
}

RoleSet WalkBatch::bad_roles(const Geometry& geometry, std::uint32_t index,
                             std::uint32_t row) const {
    RoleSet roles;
    for (std::uint32_t m = 0; has_bad && m != geometry.member_count; ++m) {
        if (((bad[index][m] >> row) & 1) == 0) continue;
        const StripeIndex stripe = geometry.stripe_of(first + index);
        roles |= RoleSet::of(geometry.role_of(stripe, MemberIndex{m}));
    }
    return roles;
}

std::uint64_t WalkBatch::bad_rows_to_mend(const Geometry& geometry, std::uint32_t index) const {
    std::uint64_t rows = 0;
    const StripeIndex stripe = geometry.stripe_of(first + index);
    for (std::uint32_t m = 0; has_bad && m != geometry.member_count; ++m) {
        const Role role = geometry.role_of(stripe, MemberIndex{m});
        rows += static_cast<std::uint64_t>(std::popcount(bad[index][m] & wrong[index][raw(role)]));
    }
    return rows;
}

WalkRows::WalkRows(StripeContext context, WalkOrder& order) : context_(context), order_(order) {}

Result<void> WalkRows::decide(WalkBatch& batch) {
    BRAID_REQUIRE(batch.count != 0 && batch.count <= windows_claimed_max);
    BRAID_REQUIRE(batch.first + batch.count <= context_.members.window_end());
    BRAID_REQUIRE(!batch.has_bad || batch.bad.size() == batch.count);
    batch.wrong.assign(batch.count, {});
    batch.unknown.clear();
    batch.known.clear();
    batch.voided.clear();
    batch.leans_on_list = false;
    batch.marks.fill(false);
    batch.found = {};
    const Geometry& geometry = context_.geometry;
    const RowMask rows = row_range(0, geometry.window_rows);
    const bool all_read = batch.read.size() == geometry.member_count;
    const bool resync = order_.kind == WalkKind::resyncing;
    for (std::uint32_t i = 0; i != batch.count; ++i) {
        begin_window(batch, i);
        const WindowPlace place = context_.members.window_place(batch.first + i);
        const bool listed = context_.bad.retry_rows(place, rows) != 0;
        if (!resync && context_.members.rows_in_doubt(place, rows) != 0) {
            return Error{Errc::doubt, "walk"};
        }
        if (all_read && !listed && !batch.has_bad_rows(i)) {
            inspect_window(batch, i);
        } else {
            recover_window(batch, i);
        }
    }
    return {};
}

void WalkRows::tell_found(WalkBatch& batch) {
    WalkFound found = std::exchange(batch.found, {});
    order_.mismatches += found.rows_mismatched;
    order_.repaired += found.rows_repaired;
    order_.bytes_unknown += found.bytes_unknown;
    rows_wrong_ += found.rows_wrong;
    rows_unknown_ += found.rows_unknown;
    for (WalkFound::Mismatch& one : found.mismatches) {
        context_.decider.rows_wrong(one.place, one.rows, one.strips, std::move(one.what));
    }
}

void WalkRows::begin_window(WalkBatch& batch, std::uint32_t index) {
    BRAID_REQUIRE(index < batch.count);
    const Geometry& geometry = context_.geometry;
    const WindowPlace place = context_.members.window_place(batch.first + index);
    batch.io.begin(place, row_range(0, geometry.window_rows));
    for (std::uint32_t m = 0; m != geometry.member_count; ++m) {
        const Role role = geometry.role_of(place.stripe, MemberIndex{m});
        batch.io.strips[raw(role)] = batch.content(MemberIndex{m}, index * geometry.window_size());
    }
}

/// Everything was read: finds the rows whose P and Q do not match.
void WalkRows::inspect_window(WalkBatch& batch, std::uint32_t index) {
    const Geometry& geometry = context_.geometry;
    if (StripRows(geometry, batch.io, 0, geometry.window_rows).match()) return;
    for (std::uint32_t row = 0; row != geometry.window_rows; ++row) inspect_row(batch, index, row);
}

/// What a scrub makes of a row whose P and Q do not match.
WalkRows::Verdict WalkRows::judge(const StripRows& strips, StripeIndex stripe) const {
    const Geometry& geometry = context_.geometry;
    Verdict verdict{.wrong = geometry.parity_roles(),
                    .known = true,
                    .text = "parity and data differ; which strip is wrong cannot be told"};
    if (geometry.parities() == 1) return verdict;
    using What = parity::Located::What;
    const parity::Located located = strips.locate();
    if (located.what == What::several) {
        verdict.known = false;
        verdict.text = "more than one strip is wrong, which ones cannot be told; nothing changed";
        return verdict;
    }
    if (located.what == What::data) {
        verdict.wrong = RoleSet::of(Role{static_cast<std::uint32_t>(located.index)});
    } else if (located.what == What::p) {
        verdict.wrong = RoleSet::of(geometry.p());
    } else if (located.what == What::q) {
        verdict.wrong = RoleSet::of(geometry.q());
    }
    verdict.text = fmt::format("the strip on member {} is wrong",
                               raw(geometry.member_of(stripe, *verdict.wrong.begin())));
    return verdict;
}

/// If the row is to be rewritten, the right content is in the batch's buffer afterwards, and the
/// strips that have it are marked in `wrong`.
void WalkRows::inspect_row(WalkBatch& batch, std::uint32_t index, std::uint32_t row) {
    const Geometry& geometry = context_.geometry;
    const StripRows strips(geometry, batch.io, row, 1);
    if (strips.match()) return;
    if (order_.kind == WalkKind::resyncing) ++batch.found.rows_wrong;
    RoleSet wrong = geometry.parity_roles();  // what a resync, or a repair of RAID-5, rewrites
    if (order_.kind == WalkKind::scrubbing) {
        ++batch.found.rows_mismatched;
        const WindowPlace place = context_.members.window_place(batch.first + index);
        Verdict verdict = judge(strips, place.stripe);
        const bool repairs = order_.repair && verdict.known;
        if (repairs) {
            ++batch.found.rows_repaired;
            verdict.text +=
                geometry.parities() == 2 ? "; repaired" : "; parity rewritten from the data";
        }
        const bool located = verdict.known && geometry.parities() == 2;
        batch.found.mismatches.push_back({place, row_range(row, 1),
                                          located ? verdict.wrong : RoleSet{},
                                          std::move(verdict.text)});
        if (!repairs) return;
        wrong = verdict.wrong;
    }
    for (const Role role : wrong) batch.wrong[index][raw(role)] |= row_range(row, 1);
    batch.marks[index] = batch.marks[index] || order_.kind != WalkKind::resyncing;
    strips.recover(wrong);
}

/// Neighbouring rows of a window that are alike.
struct WalkRows::RowRun {
    WindowPlace place;
    std::uint32_t index{0};  // of the window in its batch
    std::uint32_t row{0};
    std::uint32_t count{0};
    RoleSet lost;    // of no member that was read
    RoleSet bad;     // could not be read
    RoleSet retry;   // listed, to be tried again
    RoleSet voided;  // listed as void
    bool doubtful{false};

    RoleSet gone() const { return lost | bad; }
    RowMask rows() const { return row_range(row, count); }
    bool is_like(const RowRun& other) const {
        return bad.bits() == other.bad.bits() && retry.bits() == other.retry.bits() &&
               voided.bits() == other.voided.bits() && doubtful == other.doubtful;
    }
};

/// The strip that a rebuild writes.
RoleSet WalkRows::target_of(const RowRun& run) const {
    if (order_.kind != WalkKind::rebuilding) return {};
    return RoleSet::of(context_.geometry.role_of(run.place.stripe, order_.member));
}

void WalkRows::set_zero(WalkBatch& batch, const RowRun& run, RoleSet roles) {
    batch.leans_on_list |= !(roles & run.voided).empty();
    for (const Role role : roles) {
        std::memset(batch.io.strips[raw(role)] + run.row * row_size, 0, run.count * row_size);
    }
}

void WalkRows::list(WalkBatch& batch, const RowRun& run, Role role, BadKind kind) {
    batch.found.rows_unknown += run.count;
    if (BRAID_MUTANT(bad_rows_not_kept)) return;
    BadRange range = context_.bad.range_of(run.place, role, run.row, run.count);
    range.kind = kind;
    batch.unknown.push_back(range);
}

/// Parity is true: what is gone is computed from the rest, and what could not be read is
/// rewritten. That needs no mark: parity stays true, and a mark would put all of the window in doubt,
/// for no more than a member that answers no reads for a while. Where more is gone than that, only a
/// rebuild has to pass.
void WalkRows::recover_rows_of(WalkBatch& batch, const RowRun& run) {
    const Geometry& geometry = context_.geometry;
    const RoleSet gone = run.gone();
    BRAID_REQUIRE(!run.doubtful);
    if (gone.size() > geometry.parities()) {
        if (order_.kind == WalkKind::rebuilding) {
            batch.marks[run.index] = true;  // parity changes
            return pass_over(batch, run);
        }
        if (order_.kind == WalkKind::scrubbing) {
            batch.found.mismatches.push_back(
                {run.place, run.rows(), gone, "it cannot be read, nor computed from the others"});
            const std::uint64_t strips = (gone & geometry.data_roles()).size();
            batch.found.bytes_unknown += strips * run.count * row_size;
        }
        return;
    }
    StripRows(geometry, batch.io, run.row, run.count).recover(gone);
    for (const Role role : run.bad) batch.wrong[run.index][raw(role)] |= run.rows();
}

/// A rebuild passes rows whose strips cannot be computed, because others cannot be read. Those are
/// left as they are, to be tried again; its own becomes void, as what other lost members held of
/// them. Parity is made true if all that is not void is known.
void WalkRows::pass_over(WalkBatch& batch, const RowRun& run) {
    const Geometry& geometry = context_.geometry;
    const RoleSet data = geometry.data_roles();
    const RoleSet none_there = run.lost | (run.bad & run.voided);
    set_zero(batch, run, none_there);
    for (const Role role : (run.lost & data) - run.voided) list(batch, run, role, BadKind::voided);
    const RoleSet unknown = (run.bad & data) - run.voided;
    for (const Role role : unknown) list(batch, run, role, BadKind::retry);
    if (!unknown.empty() && BRAID_MUTANT(retry_overwritten)) {
        set_zero(batch, run, unknown);
        for (const Role role : unknown) batch.wrong[run.index][raw(role)] |= run.rows();
        return renew_parity(batch, run);
    }
    if (unknown.empty()) renew_with_zeros(batch, run);
}

/// Some strip is to be tried again: parity is not trusted. Where all are known now it is made true,
/// and they leave the list; a rebuild makes its own strip void. Both when parity is durable: until
/// then nobody trusts it, so that no mark is needed, which would put its neighbours in doubt.
/// What is lost and not listed beside it was listed along with others, and may have been written: it is
/// given up, and parity made true for zeros there, for with the last that is to be tried again
/// the row is trusted.
void WalkRows::decide_listed(WalkBatch& batch, const RowRun& run) {
    const Geometry& geometry = context_.geometry;
    const RoleSet data = geometry.data_roles();
    const RoleSet target = target_of(run);
    const RoleSet none_there = (run.gone() & run.voided) | target;
    set_zero(batch, run, none_there);
    for (const Role role : (target & data) - run.voided) {
        batch.found.rows_unknown += run.count;
        batch.voided.push_back(context_.bad.range_of(run.place, role, run.row, run.count));
    }
    const RoleSet given_up = (run.lost & data) - none_there - run.retry;
    set_zero(batch, run, given_up);
    for (const Role role : given_up) list(batch, run, role, BadKind::voided);
    const RoleSet unknown = (run.gone() & data) - none_there - given_up;
    for (const Role role : unknown - run.retry) list(batch, run, role, BadKind::retry);
    if (!unknown.empty()) return;  // one of them is to be tried again, and so parity is not trusted
    renew_with_zeros(batch, run);
    for (const Role role : run.retry - target) {
        batch.known.push_back(context_.bad.range_of(run.place, role, run.row, run.count));
    }
}

/// Whether a strip that cannot be known is there as it was: it cannot be read just now, or its
/// member has left with it, and the row was not written since.
BadKind WalkRows::kind_of(const RowRun& run, Role role) const {
    if (run.bad.has(role)) return BadKind::retry;
    const auto& slot = context_.members.slot(context_.geometry.member_of(run.place.stripe, role));
    const bool kept = context_.members.window_number(run.place) < slot.kept;
    return kept ? BadKind::retry : BadKind::voided;
}

/// Data in doubt that cannot be known. A strip whose member has it as it was is to be tried again;
/// then nothing is written. Where none is, nothing is there: parity is made true for zeros.
void WalkRows::give_up(WalkBatch& batch, const RowRun& run, RoleSet unknown) {
    bool retries = false;
    for (const Role role : unknown) {
        const bool retry = kind_of(run, role) == BadKind::retry;
        list(batch, run, role, retry ? BadKind::retry : BadKind::voided);
        retries |= retry;
        if (!retry) set_zero(batch, run, RoleSet::of(role));
    }
    if (retries && BRAID_MUTANT(retry_overwritten)) set_zero(batch, run, unknown);
    if (!retries || BRAID_MUTANT(retry_overwritten)) renew_with_zeros(batch, run);
}

/// What is void and could not be read gets the zeros that parity is made true for.
void WalkRows::renew_with_zeros(WalkBatch& batch, const RowRun& run) {
    for (const Role role : run.bad& run.voided) batch.wrong[run.index][raw(role)] |= run.rows();
    renew_parity(batch, run);
}

/// All data is in the batch's buffer: P and Q that are not lost are computed, and rewritten where
/// they differ from what was read.
void WalkRows::renew_parity(WalkBatch& batch, const RowRun& run) {
    const Geometry& geometry = context_.geometry;
    for (std::uint32_t row = run.row; row != run.row + run.count; ++row) {
        const StripRows strips(geometry, batch.io, row, 1);
        const ParitySpans& parity = strips.parity();
        std::memcpy(before_[0].data(), parity.p.data(), row_size);
        if (!parity.q.empty()) std::memcpy(before_[1].data(), parity.q.data(), row_size);
        strips.compute_parity();
        bool differs = false;
        for (const Role role : geometry.parity_roles() - run.lost) {
            const auto& before = before_[raw(role) - raw(geometry.p())];
            const bool same =
                std::memcmp(before.data(), batch.io.strips[raw(role)] + row * row_size, row_size) ==
                0;
            if (same && !run.bad.has(role)) continue;
            differs = true;
            batch.wrong[run.index][raw(role)] |= row_range(row, 1);
        }
        if (differs && order_.kind == WalkKind::resyncing) ++batch.found.rows_wrong;
    }
}

/// Parity is in doubt. What is not gone is what it is: old or new, decided by this. A strip that
/// is gone is known if it is void (then it is zeros), or if two parities agree on it; and where as
/// many members are lost as may be, every row in doubt was listed as they were lost: one that is
/// not any more was written whole since, and is true.
void WalkRows::decide_rows(WalkBatch& batch, const RowRun& run) {
    const Geometry& geometry = context_.geometry;
    const RoleSet lost_data = run.lost & geometry.data_roles();
    const bool listed_all = run.lost.size() == geometry.parities();
    if (listed_all && !(lost_data - run.voided).empty() && run.bad.empty() &&
        !BRAID_MUTANT(bad_rows_not_kept)) {
        return;
    }
    set_zero(batch, run, run.gone() & run.voided);
    const RoleSet unknown = (run.gone() & geometry.data_roles()) - run.voided;
    if (unknown.empty()) return renew_with_zeros(batch, run);
    const RoleSet parity = geometry.parity_roles() - run.gone();
    if (unknown.size() >= parity.size()) return give_up(batch, run, unknown);
    for (std::uint32_t row = run.row; row != run.row + run.count; ++row) {
        RowRun one = run;
        one.row = row;
        one.count = 1;
        const StripRows strips(geometry, batch.io, row, 1);
        strips.recover(unknown);
        if (!strips.match()) {
            give_up(batch, one, unknown);
            continue;
        }
        const RoleSet given = (unknown | run.voided) & run.bad;
        for (const Role role : given) batch.wrong[run.index][raw(role)] |= one.rows();
    }
}

/// What a row of a window lacks, and what is listed of it.
WalkRows::RowRun WalkRows::run_at(WalkBatch& batch, std::uint32_t index, std::uint32_t row) const {
    const Geometry& geometry = context_.geometry;
    const RowMask mask = row_range(row, 1);
    RowRun run;
    run.place = context_.members.window_place(batch.first + index);
    run.index = index;
    run.row = row;
    run.count = 1;
    run.bad = batch.bad_roles(geometry, index, row);
    run.doubtful = context_.members.rows_in_doubt(run.place, mask) != 0;
    for (std::uint32_t m = 0; m != geometry.member_count; ++m) {
        const Role role = geometry.role_of(run.place.stripe, MemberIndex{m});
        if (!batch.was_read(MemberIndex{m})) run.lost |= RoleSet::of(role);
        if (context_.bad.rows_of(run.place, role, mask, BadKind::retry) != 0) {
            run.retry |= RoleSet::of(role);
        } else if (context_.bad.rows_of(run.place, role, mask) != 0) {
            run.voided |= RoleSet::of(role);
        }
    }
    return run;
}

/// A window of which strips are lost, rows could not be read, or are to be tried again: rows that
/// are alike are computed together, rows that lack nothing are compared as always.
void WalkRows::recover_window(WalkBatch& batch, std::uint32_t index) {
    const Geometry& geometry = context_.geometry;
    for (RowRun run = run_at(batch, index, 0); run.row != geometry.window_rows;) {
        std::uint32_t next = run.row + 1;
        std::optional<RowRun> after;
        for (; next != geometry.window_rows; ++next) {
            after = run_at(batch, index, next);
            if (!after->is_like(run)) break;
            ++run.count;
        }
        if (!run.retry.empty()) {
            decide_listed(batch, run);
        } else if (run.gone().empty()) {
            for (std::uint32_t i = 0; i != run.count; ++i) inspect_row(batch, index, run.row + i);
        } else if (run.doubtful) {
            decide_rows(batch, run);
        } else {
            recover_rows_of(batch, run);
        }
        if (next == geometry.window_rows) break;
        run = *after;
    }
}

}  // namespace braid
