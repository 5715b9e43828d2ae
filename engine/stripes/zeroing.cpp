// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/zeroing.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/stripes/doubt_rows.h"
#include "engine/stripes/row_write.h"
#include "engine/stripes/stripe_io.h"
#include "parity/require.h"

namespace braid {
namespace {

/// The windows are live on the same members.
void add_zeroes(RowWrite& write, const StripeContext& context, WindowRange zeroed, bool may_free) {
    BRAID_REQUIRE(zeroed.begin < zeroed.end);
    const Members& members = context.members;
    const WindowPlace first = members.window_place(zeroed.begin);
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        MemberWindows piece;
        piece.member = MemberIndex{i};
        piece.may_free = may_free;
        if (!members.is_live(piece.member, first)) continue;
        piece.windows = zeroed;
        write.add_windows(piece);
    }
}

/// What a member's disk did not zero for us is written, window by window.
Task<DriveResult> write_zero_windows(StripeContext context, const WriteIntent::Hold* mark,
                                     MemberIndex member, WindowRange windows) {
    RowWrite write(context);
    for (WindowIndex at = windows.begin; at != windows.end; ++at) {
        write.begin(WriteGround::marked, mark);
        MemberWindows piece;
        piece.member = member;
        piece.windows = {at, at + 1};
        piece.content = zero_window().data();
        write.add_windows(piece);
        while (co_await write) {
        }
        if (!write.failed_members().empty()) co_return write.result_of(member);
    }
    co_return DriveResult{};
}

/// Looks at what became of the zeroes, and writes zeros where a disk cannot zero: others have
/// zeroed theirs, and parity is true again only when this one has, too.
/// @return an error if a member that is kept did not take them: Errc::full for want of room
Task<Result<void>> end_zeroes(StripeContext context, const RowWrite* zeroes,
                              const WriteIntent::Hold* mark, WindowRange zeroed) {
    Result<void> result;
    for (const MemberIndex member : zeroes->failed_members()) {
        DriveResult done = zeroes->result_of(member);
        if (done.is_members() && done.os_error == EOPNOTSUPP) {
            done = co_await write_zero_windows(context, mark, member, zeroed);
        }
        if (done.ok()) continue;
        const int error = done.os_error;
        if (done.is_members()) context.decider.strip_write_failed(member, error);
        if (!takes_part(context.members.slot(member).state)) continue;
        result = Error{error == ENOSPC ? Errc::full : Errc::io, "member", error};
    }
    co_return result;
}

/// In a cluster: a participant did not take the zeroes, and nothing of them has happened. Its home
/// tells who decides.
Error dropped_error(const RowWrite& zeroes) {
    for (const MemberIndex member : zeroes.failed_members()) {
        const int error = zeroes.result_of(member).os_error;
        return {error == ENOSPC ? Errc::full : Errc::io, "member", error};
    }
    return {Errc::failed, "array"};
}

/// Whole windows were zeroed, on all members or on some.
Task<Result<void>> windows_doubtful(StripeContext context, WindowRange zeroed) {
    Result<void> result;
    for (WindowIndex at = zeroed.begin; at != zeroed.end; ++at) {
        const Result<void> told = co_await doubt_rows(context, context.members.window_place(at),
                                                      row_range(0, context.geometry.window_rows));
        if (!told && result) result = told;
    }
    co_return result;
}

/// Whole windows were zeroed: what was listed of them is known again.
Task<Result<void>> zeroes_known(StripeContext context, WindowRange zeroed) {
    std::vector<BadRange> healed;
    const RowIndex first = context.geometry.first_row(zeroed.begin);
    const std::uint64_t count = context.geometry.first_row(zeroed.end) - first;
    for (std::uint32_t i = 0; i != context.members.count(); ++i) {
        const BadRange rows{MemberIndex{i}, first, count};
        for (const BadRange& listed : context.bad.listed_in(rows)) healed.push_back(listed);
    }
    if (healed.empty()) co_return Result<void>{};
    co_return co_await context.decider.rows_known(std::move(healed));
}

}  // namespace

Task<Result<void>> zero_stripes(StripeContext context, StripeSpan span) {
    BRAID_REQUIRE(raw(span.first) <= context.geometry.stripes);
    BRAID_REQUIRE(span.count <= context.geometry.stripes - raw(span.first));
    if (context.members.failed()) co_return Error{Errc::failed, "array"};
    const std::uint64_t per_stripe = context.geometry.windows_per_stripe();
    const WindowIndex end = context.geometry.first_window(span.first + span.count);
    WindowIndex number = context.geometry.first_window(span.first);
    RowWrite zeroes(context);
    while (number != end) {
        const WindowPlace place = context.members.window_place(number);
        std::uint64_t windows = std::min<std::uint64_t>(
            {end - number, windows_claimed_max,
             context.intent.stripes_together(place.stripe) * per_stripe - place.window});
        if (context.homes != nullptr) windows = 1;  // what is decided at once
        {
            WriteIntent::Hold hold(context.intent, place.stripe);
            BRAID_CO_CHECK(co_await hold);
            std::array<std::optional<RowClaim>, windows_claimed_max> claims;
            // Waits for the first window only, and takes those after it as far as they are free:
            // who holds claims waits for none, because a walk keeps its own until its turn comes.
            for (std::uint64_t i = 0; i != windows; ++i) {
                claims[i].emplace(context.claims, context.members.window_place(number + i),
                                  row_range(0, context.geometry.window_rows));
                RowClaim& claim = *claims[i];
                if (i == 0) {
                    co_await claim;
                } else if (!claim.await_ready()) {
                    windows = i;
                    break;
                }
            }
            RowLock lock(context.homes);
            if (lock.is_needed()) {
                BRAID_CO_CHECK(co_await lock.take(place, row_range(0, context.geometry.window_rows),
                                                  LockMode::exclusive));
            }
            if (context.members.failed()) co_return Error{Errc::failed, "array"};  // meanwhile
            const WindowRange zeroed{number, context.members.live_alike(number, number + windows)};
            context.members.note_written_by_zeroes(zeroed);
            zeroes.begin(WriteGround::marked, &hold);
            add_zeroes(zeroes, context, zeroed, span.may_free);
            while (co_await zeroes) {
            }
            if (zeroes.is_again()) continue;  // nothing of it has happened
            if (zeroes.is_dropped()) co_return dropped_error(zeroes);
            const Result<void> done = co_await end_zeroes(context, &zeroes, &hold, zeroed);
            context.members.note_written_by_zeroes(zeroed);  // lost meanwhile, or by this
            if (!done) {
                const Result<void> told = co_await windows_doubtful(context, zeroed);
                if (context.members.failed()) co_return Error{Errc::failed, "array"};
                BRAID_CO_CHECK(told);
                co_return done.error();
            }
            const bool told = context.homes != nullptr && !context.members.doubt().empty();
            const RowMask all = row_range(0, context.geometry.window_rows);
            for (WindowIndex at = number; at != zeroed.end; ++at) {
                const WindowPlace here = context.members.window_place(at);
                context.members.rows_true(here, all);
                if (told) BRAID_CO_CHECK(co_await context.decider.rows_true(here, all));
            }
            if (!context.bad.empty()) {
                BRAID_CO_CHECK(co_await zeroes_known(context, zeroed));
            }
            number = zeroed.end;
        }
    }
    // With no row claimed, as after any write (StripeJobs::await_losses()).
    if (context.members.owes()) BRAID_CO_CHECK(co_await context.decider.losses_durable());
    co_return Result<void>{};
}

}  // namespace braid
