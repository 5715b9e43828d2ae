// SPDX-License-Identifier: BSD-3-Clause
// A member that was away comes back: it has its rows on the bad-row list as they were. Before it is
// rebuilt they are read from it, and parity is made true for them; from then on they are known.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

#include "engine/serving/serving.h"
#include "engine/stripes/row_parity.h"
#include "parity/require.h"

namespace braid {
namespace {

/// Rows of one window that the member brings back. Their claim is held.
struct Returning {
    Disk* disk{nullptr};
    DataArea area;  // on it
    WindowPlace place;
    Role role{};
    RowMask rows{0};
};

/// Roles whose content the returning one's row has to be put beside: the other data strips. False:
/// one of them is neither live nor void.
bool others_are_known(const StripeContext& context, const Returning& from, RoleSet lost) {
    const RoleSet others = context.geometry.data_roles() - RoleSet::of(from.role);
    for (const Role role : others& lost) {
        const RowMask voided = context.bad.rows_of(from.place, role, from.rows, BadKind::voided);
        if (voided != from.rows) return false;
    }
    return true;
}

/// Makes parity true for what the member brings. False: it could not be. Until the rows leave the
/// list nobody trusts it: no mark is needed.
///
/// What the list has of a lost member, to be tried again, nobody has written in its place, though
/// other rows of the region may have been: marks are not asked.
/// - It is listed as the member leaves, or as a start misses it, of rows that are in doubt then. A
///   row in doubt is written by computing parity from all data, which ends its doubt: so it is
///   listed when the next member leaves, too, only if it was not written. Where memory has no room
///   for which rows ended it, Members::Slot::kept falls to that window, and what is listed from
///   there on is void.
/// - A row that comes to be in doubt while the member is away, by a write that failed, or by a
///   crash after a configuration without it, is listed as void at once.
/// - Ranges are joined over what lies between them only while nothing was written in the member's
///   place (`whole`).
/// - Who writes a listed row takes it off the list, durably, before the write is acknowledged.
/// That the disk holds what the member held as it left, and not a copy of it from before,
/// MemberOrders tells.
Task<bool> take_rows(StripeContext context, Returning from) {
    BRAID_REQUIRE(from.rows != 0);
    const RoleSet lost = context.members.state_of(from.place).lost;
    if (!lost.has(from.role) || !others_are_known(context, from, lost)) co_return false;
    ParityRows at;
    at.place = from.place;
    at.rows = from.rows;
    at.loss_version = context.members.loss_version();
    at.returning = ReturningStrip{from.disk, from.area, from.role};
    co_return (co_await make_parity_true(context, at)).has_value();
}

}  // namespace

/// Rows [at, end) of the member's list, as many as can be claimed at once; `at` moves on. Gives the
/// number of rows that could not be taken.
Task<Result<std::uint64_t>> Serving::take_batch(ReturningDisk from, RowIndex* at, RowIndex end) {
    BRAID_REQUIRE(*at < end);
    const Geometry& geometry = geometry_;
    std::array<std::optional<RowClaim>, windows_claimed_max> claims;
    std::vector<BadRange> known;
    std::uint64_t left = 0;
    RowLock lock(context_.homes, LockFor::array);
    // Who holds a lock waits for none.
    const std::size_t together = lock.is_needed() ? 1 : windows_claimed_max;
    for (std::size_t i = 0; i != together && *at != end; ++i) {
        const WindowIndex window = geometry.window_of(*at);
        const RowIndex past = std::min(end, geometry.first_row(window + 1));
        const auto first = static_cast<std::uint32_t>(*at - geometry.first_row(window));
        Returning rows;
        rows.disk = from.disk;
        rows.area = from.area;
        rows.place = members_.window_place(window);
        rows.role = geometry.role_of(rows.place.stripe, from.member);
        claims[i].emplace(claims_, rows.place, row_range(0, geometry.window_rows));
        RowClaim& claim = *claims[i];
        // Who holds claims waits for none, as zero_stripes() does it.
        if (i == 0) {
            co_await claim;
        } else if (!claim.await_ready()) {
            break;
        }
        if (lock.is_needed()) {
            BRAID_CO_CHECK(co_await lock.take(rows.place, row_range(0, geometry.window_rows),
                                              LockMode::exclusive));
        }
        rows.rows =
            bad_.rows_of(rows.place, rows.role,
                         row_range(first, static_cast<std::uint32_t>(past - *at)), BadKind::retry);
        bool taken = rows.rows == 0;
        if (!taken) taken = co_await take_rows(context_, rows);
        if (!lock.counts()) co_return left;  // once more, from `at` on
        *at = past;
        if (rows.rows == 0) continue;
        if (!taken) {
            left += static_cast<std::uint64_t>(std::popcount(rows.rows));
            continue;
        }
        // Those of others, too, which could be read for this: beside one that stays the rebuild
        // would trust no parity, and give up what it was just made true for.
        for (const Role role : geometry.data_roles()) {
            for_each_run(bad_.rows_of(rows.place, role, rows.rows, BadKind::retry),
                         [&](std::uint32_t row, std::uint32_t count) {
                             known.push_back(bad_.range_of(rows.place, role, row, count));
                         });
        }
    }
    if (!known.empty()) BRAID_CO_CHECK(co_await decider_.rows_known(std::move(known)));
    co_return left;
}

/// Reads what is listed for the member, to be tried again, from the disk that it comes back on.
/// @return how many rows could not be taken
Task<Result<std::uint64_t>> Serving::take_back(ReturningDisk from) {
    BRAID_REQUIRE(from.disk != nullptr);
    BRAID_REQUIRE(raw(from.member) < geometry_.member_count);
    std::uint64_t left = 0;
    const std::vector<BadRange> listed = bad_.ranges();
    for (const BadRange& range : listed) {
        if (range.member != from.member || range.kind != BadKind::retry) continue;
        for (RowIndex at = range.first; at != range.end();) {
            BRAID_CO_TRY(const std::uint64_t more, co_await take_batch(from, &at, range.end()));
            left += more;
            if (members_.failed()) co_return Error{Errc::failed, "array"};
        }
    }
    co_return left;
}

}  // namespace braid
