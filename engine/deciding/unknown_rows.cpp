// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/unknown_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/deciding/losses.h"
#include "engine/layout/bad_bytes.h"
#include "engine/members/bad_rows.h"
#include "engine/metadata/config_bad_rows.h"
#include "parity/require.h"

namespace braid {
namespace {

std::string text_of_bad(const std::vector<BadBytes>& bad, std::uint64_t size) {
    constexpr std::size_t named_max = 4;
    std::string text;
    for (std::size_t i = 0; i != std::min(bad.size(), named_max); ++i) {
        const BadBytes& at = bad[i];
        text += fmt::format("{}{} bytes {}…{}", i == 0 ? "" : ", ",
                            at.volume.empty() ? std::string("(no volume)") : at.volume,
                            at.offset.value, at.offset.value + at.size - 1);
    }
    if (bad.size() > named_max) text += ", …";
    return fmt::format("{} bytes in all: {}", size, text);
}

}  // namespace

UnknownRows::UnknownRows(const DecidingContext& context, ConfigurationWriter& writer,
                         Losses& losses)
    : DecidingPart(context), writer_(writer), losses_(losses) {}

// ---- the list ------------------------------------------------------------------------------

void UnknownRows::adopt() {
    bad_ = bad_bytes_of(configuration_, bad_bytes_listed_max, &bad_bytes_);
    work_.set();  // a spare may wait for rows to leave it
}

void UnknownRows::walk_begins() {
    told_by_walk_ = told_joined_ = false;
    before_walk_ = bad_bytes_;
}

std::optional<std::uint64_t> UnknownRows::found_by_walk() const {
    if (!told_by_walk_) return std::nullopt;
    return bad_bytes_ - std::min(bad_bytes_, before_walk_);
}

std::vector<BadRange> UnknownRows::with(const std::vector<BadRange>& rows) const {
    BadRows more(geometry_, configuration_.bad_rows);
    for (const BadRange& range : rows) more.set(more.with(range));
    return more.ranges();
}

/// Members that are lost, and whose strips may have been written since.
MemberSet UnknownRows::written_since() const {
    MemberSet members;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        if (slot.state != MemberState::in_sync && !slot.whole) members.add(MemberIndex{i});
    }
    return members;
}

/// The list becomes this; false: it has no room for it, however much is joined.
bool UnknownRows::take(std::vector<BadRange> more) {
    BRAID_REQUIRE(std::ranges::all_of(
        more, [this](const BadRange& at) { return raw(at.member) < members_.count(); }));
    if (!fit_slot(more)) {
        const std::uint64_t meant = bytes_in_all(configuration_, more);
        const std::string whose = ranges_by_member(more);
        if (!merge_to_fit(more, written_since())) return false;
        const std::string text = fmt::format(
            "the list of rows that cannot be known has no room for each of them ({}): {} "
            "bytes that lie between them are listed along",
            whose, bytes_in_all(configuration_, more) - meant);
        if (!told_joined_) tell(Severity::warning, "bad_rows_joined", text);
        told_joined_ = true;
    }
    const std::uint64_t before = bad_bytes_;
    writer_.change(change::BadRows{std::move(more)});
    if (bad_bytes_ > before) rows_listed_ += (bad_bytes_ - before) / row_size;
    return true;
}

/// Lists what lost members take with them; false: the list has no room, and the array has stopped.
bool UnknownRows::add(const std::vector<BadRange>& rows) {
    std::vector<BadRange> more = with(rows);
    if (more == configuration_.bad_rows) return true;
    const std::string whose = ranges_by_member(more);
    told_joined_ = false;
    if (!take(std::move(more))) {
        losses_.halt(fmt::format("of rows that cannot be known there are {}", whose));
        return false;
    }
    const bool comes_back = std::ranges::count(rows, BadKind::retry, &BadRange::kind) != 0;
    tell(Severity::error, "bad_rows",
         fmt::format("rows whose parity is in doubt cannot be computed without what is lost. "
                     "Reading them is an error until they are written anew{}: {}",
                     comes_back ? fmt::format(", or until the member that has them is back ({})",
                                              order_text("braid member add"))
                                : "",
                     text_of_bad(bad_, bad_bytes_)));
    return true;
}

/// What a walk met. Told once in a walk: there may be many.
Task<Result<void>> UnknownRows::rows_unknown(std::vector<BadRange> rows) {
    BadRows more(geometry_, configuration_.bad_rows);
    for (const BadRange& range : rows) {
        if (range.kind == BadKind::voided) more.set(more.without(range));
        more.set(more.with(range));
    }
    // Also those that were listed already must be so durably.
    const bool known = more.ranges() == configuration_.bad_rows;
    if (!known && !take(more.ranges())) co_return Error{Errc::full, "bad rows"};
    if (!known && !told_by_walk_) {
        told_by_walk_ = true;
        tell(Severity::error, "bad_rows",
             fmt::format("rows can neither be read nor computed from the others: they are "
                         "listed, and reading them is an error until they can be read "
                         "again, or are written anew: {}",
                         text_of_bad(bad_, bad_bytes_)));
    }
    const std::uint64_t change = known ? writer_.changes() : writer_.changed();
    co_return co_await writer_.wait_patiently(change);
}

/// Of a member that is being rebuilt a row counts before its checkpoint only: what was written in
/// front of where the rebuild is now is taken along. Beside a row that is to be tried again nothing
/// else would give it back after a crash.
Task<Result<void>> UnknownRows::rows_known(std::vector<BadRange> rows) {
    BRAID_REQUIRE(!rows.empty());
    const std::vector<RebuiltTo> rebuilt = rebuilt_to();
    if (!BRAID_MUTANT(bad_row_healed_early)) {
        BRAID_CO_CHECK(co_await serving_.flush());
    }
    BadRows less(geometry_, configuration_.bad_rows);
    for (const BadRange& range : rows) less.set(less.without(range));
    if (!fit_slot(less.ranges())) co_return Error{Errc::full, "bad rows"};
    if (less.ranges() == configuration_.bad_rows) {
        co_return co_await writer_.wait_patiently(writer_.changes());
    }
    writer_.change(change::BadRows{less.ranges()});
    note_rebuilt(rebuilt);
    if (less.empty()) {
        tell(Severity::info, "bad_rows_healed",
             "every row that could not be known was read after all, or written anew");
    }
    const std::uint64_t change = writer_.changed();
    const Result<void> durable = co_await writer_.wait_patiently(change);
    if (!durable) writer_.owe(change);
    co_return durable;
}

Task<Result<void>> UnknownRows::rows_doubtful(std::vector<BadRange> lost) {
    work_.set();
    if (lost.empty()) co_return Result<void>{};
    if (!add(lost)) co_return Error{Errc::failed, "bad rows"};
    co_return co_await writer_.propose();
}

std::vector<UnknownRows::RebuiltTo> UnknownRows::rebuilt_to() const {
    std::vector<RebuiltTo> members;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        if (slot.state != MemberState::rebuilding) continue;
        members.push_back({record(MemberIndex{i}).uuid, geometry_.stripe_of(slot.rebuilt)});
    }
    return members;
}

void UnknownRows::note_rebuilt(const std::vector<RebuiltTo>& members) {
    for (const RebuiltTo& at : members) {
        const MemberRecord* record = configuration_.member(at.uuid);
        if (record == nullptr || record->state != MemberState::rebuilding) continue;
        writer_.change(change::RebuiltTo{*record->role, at.stripe});
    }
}

// ---- what a loss costs ---------------------------------------------------------------------

/// Whether a window of the member cannot be read; `also` is taken for lost. Cuts `end` where that
/// changes: a member that is being rebuilt is live up to its checkpoint, and where it missed nothing.
bool UnknownRows::is_gone(MemberIndex member, WindowIndex at, WindowIndex& end,
                          std::optional<MemberIndex> also) const {
    const auto& slot = members_.slot(member);
    if (also == member) return true;
    if (slot.state == MemberState::in_sync) return false;
    if (slot.state != MemberState::rebuilding) return true;
    if (at < slot.rebuilt) {
        end = std::min(end, slot.rebuilt);
        return false;
    }
    if (!slot.behind) return true;
    const bool is_behind = slot.behind->has(at);
    end = is_behind ? slot.behind->next_out(at, end) : slot.behind->next_in(at, end);
    return is_behind;
}

/// Adds windows of the member, but for the rows that are in no doubt.
void UnknownRows::add_doubt_of(std::vector<BadRange>& rows, MemberIndex member, WindowRange windows,
                               bool left_now) const {
    WindowIndex at = windows.begin;
    const bool kept = left_now || members_.slot(member).kept > at;
    const BadKind kind = kept ? BadKind::retry : BadKind::voided;
    const RowMask all = row_range(0, geometry_.window_rows);
    while (at != windows.end) {
        const Doubt::Partly partly = members_.doubt().next_partly(at);
        const WindowIndex whole = std::min(partly.window, windows.end);
        const RowIndex first = geometry_.first_row(at);
        if (whole != at) rows.push_back({member, first, geometry_.first_row(whole) - first, kind});
        at = whole;
        if (at == windows.end) return;
        for_each_run(all & ~partly.rows, [&](std::uint32_t row, std::uint32_t count) {
            rows.push_back({member, geometry_.first_row(at) + row, count, kind});
        });
        ++at;
    }
}

/// Rows that nothing vouches for: those in doubt where as many members are lost as may be, and what
/// is lost beside a row that is to be tried again. `also` is taken for lost now.
std::vector<BadRange> UnknownRows::undecidable_rows(std::optional<MemberIndex> also,
                                                    MemberSet left_now) const {
    std::vector<BadRange> rows;
    for (const WindowRange& range : members_.doubt().ranges()) {
        for (WindowIndex at = range.begin; at != range.end;) {
            WindowIndex end = range.end;
            std::vector<MemberIndex> lost;
            for (std::uint32_t i = 0; i != members_.count(); ++i) {
                if (is_gone(MemberIndex{i}, at, end, also)) lost.push_back(MemberIndex{i});
            }
            for (const MemberIndex member : lost) {
                // Fewer are lost: two parities may still agree. An order counts what they may not.
                const bool counts = lost.size() == geometry_.parities() || also == member;
                if (counts) add_doubt_of(rows, member, {at, end}, also == member);
            }
            at = end;
        }
    }
    for (const BadRange& range : configuration_.bad_rows) {
        if (range.kind == BadKind::retry) add_beside(rows, range, also, left_now);
    }
    return rows;
}

/// What lost members have in the rows of `range`, in which its member has data. Of one that left
/// before all was listed that it has there; what is not was listed along with others, and written.
void UnknownRows::add_beside(std::vector<BadRange>& rows, const BadRange& range,
                             std::optional<MemberIndex> also, MemberSet left_now) const {
    for (RowIndex row = range.first; row != range.end();) {
        const StripeIndex stripe = geometry_.stripe_of(row);
        const RowIndex end = std::min(range.end(), geometry_.first_row(stripe + 1));
        const WindowIndex window = geometry_.window_of(row);
        const bool means = raw(geometry_.role_of(stripe, range.member)) < geometry_.data_count();
        for (std::uint32_t i = 0; means && i != members_.count(); ++i) {
            const MemberIndex member{i};
            WindowIndex all = geometry_.window_end();
            if (member == range.member || !is_gone(member, window, all, also)) continue;
            const bool kept = also == member ||
                              (left_now.has(MemberIndex{i}) && members_.slot(member).kept > window);
            rows.push_back({member, row, end - row, kept ? BadKind::retry : BadKind::voided});
        }
        row = end;
    }
}

std::uint64_t UnknownRows::bytes_to_retry(MemberIndex member) const {
    std::vector<BadRange> own;
    for (const BadRange& range : configuration_.bad_rows) {
        if (range.member == member && range.kind == BadKind::retry) own.push_back(range);
    }
    return bytes_in_all(configuration_, own);
}

std::uint64_t UnknownRows::cost_of_loss(MemberIndex member) const {
    const std::uint64_t tried = bytes_to_retry(member);
    const std::vector<BadRange> rows = undecidable_rows(member, {});
    if (rows.empty()) return tried;
    return tried + bytes_in_all(configuration_, with(rows)) - bad_bytes_;
}

bool UnknownRows::list_doubt(MemberSet left_now) {
    if (BRAID_MUTANT(degraded_trusts_doubt) || BRAID_MUTANT(bad_rows_not_kept)) return true;
    const std::vector<BadRange> rows = undecidable_rows(std::nullopt, left_now);
    return rows.empty() || add(rows);
}

bool UnknownRows::lists_more(MemberSet left_now) const {
    return with(undecidable_rows(std::nullopt, left_now)) != configuration_.bad_rows;
}

bool UnknownRows::is_too_much(MemberSet away) {
    std::vector<BadRange> more = with(undecidable_rows(std::nullopt, away));
    const std::string whose = ranges_by_member(more);
    if (fit_slot(more) || merge_to_fit(more, written_since())) return false;
    tell(
        Severity::warning, "forced",
        fmt::format(
            "started by force although of rows that cannot be known there are {}, more "
            "than the list holds: parity is trusted as it is, and what lost members held of them may come back wrong. "
            "Check the file systems, and scrub with repair when the array is whole again",
            whose));
    return true;
}

// ---- writes that were refused --------------------------------------------------------------

/// The client has nothing but EIO: the log says what it can do. A request that has the rows of two
/// strips has other rows of them, which may be listed likewise: only of the whole stripe it is sure
/// that it can be written.
void UnknownRows::write_refused(WindowPlace place, RowMask rows, RoleSet together) {
    BRAID_REQUIRE(rows != 0);
    BRAID_REQUIRE(raw(place.stripe) < geometry_.stripes);
    if (refusal_.was_told(clock_.now(), seconds(10))) return;
    const BadRows ranges(geometry_, {});
    std::vector<BadRange> refused;
    std::vector<BadRange> stripe;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const Role role = geometry_.role_of(place.stripe, MemberIndex{i});
        if (raw(role) >= geometry_.data_count()) continue;
        stripe.push_back(
            {MemberIndex{i}, geometry_.first_row(place.stripe), geometry_.rows_per_strip()});
        if (!together.has(role)) continue;
        for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
            refused.push_back(ranges.range_of(place, role, row, count));
        });
    }
    const std::vector<BadBytes> bytes = bad_bytes_of(configuration_, refused, bad_bytes_listed_max);
    const std::string text = text_of_bad(bytes, bytes_in_all(configuration_, refused));
    const std::vector<BadBytes> whole = bad_bytes_of(configuration_, stripe, bad_bytes_listed_max);
    if (bytes.empty() || whole.empty()) return;
    tell(Severity::warning, "write_refused",
         fmt::format(
             "a write was refused: parity can hold what one lost member had of a row, but not "
             "while another strip of that row may still come back. What goes together is {}. "
             "Write the whole stripe in one request, {} bytes {}…{} (read before what can be "
             "read of it), give a lost member back ({}), or wait until a rebuild has passed the "
             "stripe",
             text, whole.front().volume, whole.front().offset.value,
             whole.back().offset.value + whole.back().size - 1, order_text("braid member add")));
}

}  // namespace braid
