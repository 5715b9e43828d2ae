// SPDX-License-Identifier: BSD-3-Clause
// Rows that cannot be known: what a loss takes with it, or would, and how the list of them is kept.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/layout/bad_bytes.h"
#include "engine/local/array_impl.h"

namespace braid {
namespace {

std::string text_of_bad(const std::vector<BadBytes>& bad, std::uint64_t size) {
    constexpr std::size_t named_max = 4;
    std::string text;
    for (std::size_t i = 0; i != std::min(bad.size(), named_max); ++i) {
        const BadBytes& at = bad[i];
        text += fmt::format("{}{} bytes {}…{}", i == 0 ? "" : ", ",
                            at.volume.empty() ? std::string("(no volume)") : at.volume, at.offset,
                            at.offset + at.size - 1);
    }
    if (bad.size() > named_max) text += ", …";
    return fmt::format("{} bytes in all: {}", size, text);
}

}  // namespace

// ---- the list ------------------------------------------------------------------------------

void ArrayImpl::adopt_bad_rows() {
    bad_.set(configuration_.bad_rows);
    bad_bytes_ = bad_bytes_of(configuration_, bad_bytes_listed_max, &bad_bytes_size_);
    set_gates();
    background_event_.set();  // a spare may wait for rows to leave it
}

/// Not past the loop: what is on the bad-row list, and what must be settled before it is read.
void ArrayImpl::set_gates() {
    const bool settles = geometry_.parities() == 2 && intent_.has_doubt() && !options_.readonly &&
                         !BRAID_MUTANT(doubt_read_unsettled);
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        members_.set_direct(MemberIndex{i}, !settles && !bad_.has_member(MemberIndex{i}));
    }
}

std::vector<BadRange> ArrayImpl::bad_rows_with(const std::vector<BadRange>& rows) const {
    BadRows more(geometry_, bad_.ranges());
    for (const BadRange& range : rows) more.set(more.with(range));
    return more.ranges();
}

/// Members that are lost, and whose strips may have been written since.
MemberSet ArrayImpl::written_since() const {
    MemberSet members;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        if (slot.state != MemberState::in_sync && !slot.whole) members.add(i);
    }
    return members;
}

/// The list becomes this; false: it has no room for it, however much is joined.
bool ArrayImpl::take_bad_rows(std::vector<BadRange> more) {
    if (!fit_slot(more)) {
        const std::uint64_t meant = bytes_in_all(configuration_, more);
        if (!merge_to_fit(more, written_since())) return false;
        const std::string text = fmt::format(
            "the list of rows that cannot be known has no room for each of them: {} bytes that lie "
            "between them are listed along",
            bytes_in_all(configuration_, more) - meant);
        if (!walk_told_joined_) tell(Severity::warning, "bad_rows_joined", text);
        walk_told_joined_ = true;
    }
    const std::uint64_t before = bad_bytes_size_;
    change(change::BadRows{std::move(more)});
    if (recovery_ && bad_bytes_size_ > before) {
        recovery_->rows_unknown += (bad_bytes_size_ - before) / row_size;
    }
    return true;
}

/// Lists what lost members take with them; false: the list has no room, and the array has stopped.
bool ArrayImpl::add_bad_rows(const std::vector<BadRange>& rows) {
    std::vector<BadRange> more = bad_rows_with(rows);
    if (more == bad_.ranges()) return true;
    const std::size_t count = more.size();
    walk_told_joined_ = false;
    if (!take_bad_rows(std::move(more))) {
        halt(fmt::format("{} ranges of rows cannot be known", count));
        return false;
    }
    const bool comes_back = std::ranges::count(rows, BadKind::retry, &BadRange::kind) != 0;
    tell(Severity::error, "bad_rows",
         fmt::format(
             "rows whose parity is in doubt cannot be computed without what is lost. "
             "Reading them is an error until they are written anew{}: {}",
             comes_back ? ", or until the member that has them is back (braid member add)" : "",
             text_of_bad(bad_bytes_, bad_bytes_size_)));
    return true;
}

/// What a walk met. Told once in a walk: there may be many.
Task<Result<void>> ArrayImpl::list_rows(std::vector<BadRange> rows) {
    BadRows more(geometry_, bad_.ranges());
    for (const BadRange& range : rows) {
        if (range.kind == BadKind::voided) more.set(more.without(range));
        more.set(more.with(range));
    }
    // Also those that were listed already must be so durably.
    const bool known = more.ranges() == bad_.ranges();
    if (!known && !take_bad_rows(more.ranges())) co_return Error{Errc::full, "bad rows"};
    if (!known && !walk_told_bad_) {
        walk_told_bad_ = true;
        tell(Severity::error, "bad_rows",
             fmt::format("rows can neither be read nor computed from the others: they are "
                         "listed, and reading them is an error until they can be read "
                         "again, or are written anew: {}",
                         text_of_bad(bad_bytes_, bad_bytes_size_)));
    }
    const std::uint64_t change = known ? changes_ : changed();
    co_return co_await wait_patiently(change);
}

/// Of a member that is being rebuilt a row counts before its checkpoint only: what was written in
/// front of where the rebuild is now is taken along. Beside a row that is to be tried again nothing
/// else would give it back after a crash.
Task<Result<void>> ArrayImpl::unlist_rows(std::vector<BadRange> rows) {
    const std::vector<RebuiltTo> rebuilt = rebuilt_to();
    if (!BRAID_MUTANT(bad_row_healed_early)) {
        BRAID_CO_CHECK(co_await Requests::flush_members(context_));
    }
    BadRows less(geometry_, bad_.ranges());
    for (const BadRange& range : rows) less.set(less.without(range));
    if (!fit_slot(less.ranges())) co_return Error{Errc::full, "bad rows"};
    if (less.ranges() == bad_.ranges()) {
        co_return co_await wait_patiently(changes_);
    }
    change(change::BadRows{less.ranges()});
    note_rebuilt(rebuilt);
    if (less.empty()) {
        tell(Severity::info, "bad_rows_healed",
             "every row that could not be known was read after all, or written anew");
    }
    const std::uint64_t change = changed();
    const Result<void> durable = co_await wait_patiently(change);
    if (!durable && changes_durable_ < change) {
        owed_ = std::max(owed_, change);
        members_.set_owing(true);
    }
    co_return durable;
}

// ---- what a loss costs ---------------------------------------------------------------------

/// Whether a window of the member cannot be read; `also` is taken for lost. Cuts `end` where that
/// changes: a member that is being rebuilt is live up to its checkpoint.
bool ArrayImpl::is_gone(MemberIndex member, std::uint64_t at, std::uint64_t& end,
                        std::optional<MemberIndex> also) const {
    const auto& slot = members_.slot(member);
    if (also == member) return true;
    if (slot.state == MemberState::in_sync) return false;
    if (slot.state != MemberState::rebuilding || at >= slot.rebuilt) return true;
    end = std::min(end, slot.rebuilt);
    return false;
}

/// Adds windows [at, end) of the member, but for the rows that are in no doubt.
void ArrayImpl::add_doubt_of(std::vector<BadRange>& rows, MemberIndex member, std::uint64_t at,
                             std::uint64_t end, bool left_now) const {
    const bool kept = left_now || members_.slot(member).kept > at;
    const BadKind kind = kept ? BadKind::retry : BadKind::voided;
    const std::uint64_t per_window = geometry_.window_rows;
    const RowMask all = row_range(0, geometry_.window_rows);
    while (at != end) {
        const Doubt::Partly partly = members_.doubt().next_partly(at);
        const std::uint64_t whole = std::min(partly.window, end);
        if (whole != at) rows.push_back({member, at * per_window, (whole - at) * per_window, kind});
        at = whole;
        if (at == end) return;
        for_each_run(all & ~partly.rows, [&](std::uint32_t row, std::uint32_t count) {
            rows.push_back({member, at * per_window + row, count, kind});
        });
        ++at;
    }
}

/// Rows that nothing vouches for: those in doubt where as many members are lost as may be, and what
/// is lost beside a row that is to be tried again. `also` is taken for lost now.
std::vector<BadRange> ArrayImpl::undecidable_rows(std::optional<MemberIndex> also,
                                                  MemberSet left_now) const {
    std::vector<BadRange> rows;
    for (const WindowRange& range : members_.doubt().ranges()) {
        for (std::uint64_t at = range.begin; at != range.end;) {
            std::uint64_t end = range.end;
            std::vector<MemberIndex> lost;
            for (std::uint32_t i = 0; i != members_.count(); ++i) {
                if (is_gone(MemberIndex{i}, at, end, also)) lost.push_back(MemberIndex{i});
            }
            for (const MemberIndex member : lost) {
                // Fewer are lost: two parities may still agree. An order counts what they may not.
                const bool counts = lost.size() == geometry_.parities() || also == member;
                if (counts) add_doubt_of(rows, member, at, end, also == member);
            }
            at = end;
        }
    }
    for (const BadRange& range : bad_.ranges()) {
        if (range.kind == BadKind::retry) add_beside(rows, range, also, left_now);
    }
    return rows;
}

/// What lost members have in the rows of `range`, in which its member has data. Of one that left
/// before all was listed that it has there; what is not was listed along with others, and written.
void ArrayImpl::add_beside(std::vector<BadRange>& rows, const BadRange& range,
                           std::optional<MemberIndex> also, MemberSet left_now) const {
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    const std::uint64_t past = range.first + range.count;
    for (std::uint64_t row = range.first; row != past;) {
        const StripeIndex stripe{row / per_strip};
        const std::uint64_t end = std::min(past, (raw(stripe) + 1) * per_strip);
        const std::uint64_t window = row / geometry_.window_rows;
        const bool means = raw(geometry_.role_of(stripe, range.member)) < geometry_.data_count();
        for (std::uint32_t i = 0; means && i != members_.count(); ++i) {
            const MemberIndex member{i};
            std::uint64_t all = ~std::uint64_t{0};
            if (member == range.member || !is_gone(member, window, all, also)) continue;
            const bool kept =
                also == member || (left_now.has(i) && members_.slot(member).kept > window);
            rows.push_back({member, row, end - row, kept ? BadKind::retry : BadKind::voided});
        }
        row = end;
    }
}

/// Bytes that are listed, and that only the member can give.
std::uint64_t ArrayImpl::bytes_to_retry(MemberIndex member) const {
    std::vector<BadRange> own;
    for (const BadRange& range : bad_.ranges()) {
        if (range.member == member && range.kind == BadKind::retry) own.push_back(range);
    }
    return bytes_in_all(configuration_, own);
}

/// Bytes that could not be known any more if the member were lost now, with those that only it can
/// give if they are tried again.
std::uint64_t ArrayImpl::cost_of_loss(MemberIndex member) const {
    const std::uint64_t tried = bytes_to_retry(member);
    const std::vector<BadRange> rows = undecidable_rows(member, {});
    if (rows.empty()) return tried;
    return tried + bytes_in_all(configuration_, bad_rows_with(rows)) - bad_bytes_size_;
}

/// Where as many members are lost as may be, nothing vouches for what they held of rows in doubt:
/// lists it, at once, so that no write comes in between. It is durable with the next configuration.
bool ArrayImpl::list_doubt(MemberSet left_now) {
    if (BRAID_MUTANT(degraded_trusts_doubt) || BRAID_MUTANT(bad_rows_not_kept)) return true;
    const std::vector<BadRange> rows = undecidable_rows(std::nullopt, left_now);
    return rows.empty() || add_bad_rows(rows);
}

/// At the start, by force: parity is trusted as it is where the list has no room.
void ArrayImpl::trust_doubt_by_force() {
    std::vector<BadRange> more = bad_rows_with(undecidable_rows(std::nullopt, away()));
    const std::size_t count = more.size();
    if (fit_slot(more) || merge_to_fit(more, written_since())) return;
    tell(Severity::warning, "forced",
         fmt::format("started by force although {} ranges of rows cannot be known: parity is "
                     "trusted as it is, and what lost members held of them may come back wrong. "
                     "Check the file systems, and scrub with repair when the array is whole again",
                     count));
    members_.doubt().remove_before(members_.window_count());
    before_.marked.clear();
    recovery_.reset();
    change(change::ResyncedTo{});
}

void ArrayImpl::halt(const std::string& why) {
    if (members_.failed()) return;
    members_.halt();
    tell(Severity::error, "stopped",
         fmt::format("the array has stopped: {}, more than the list of bad rows holds, and going "
                     "on would mean guessing. Nothing was lost that was not lost before. Bring "
                     "back the members that are missing and start it again; if they are gone, "
                     "start it with force, which trusts parity as it is, check the file systems, "
                     "and restore what is wrong",
                     why));
    tell_failed();
}

// ---- writes that failed ----------------------------------------------------------------------

void ArrayImpl::strip_write_failed(MemberIndex member, int os_error) {
    if (!takes_part(members_.slot(member).state)) return;
    const bool full = os_error == ENOSPC;
    if (!full && !is_needed(member)) return write_failed(member, os_error);
    constexpr std::uint64_t quiet_nanos = 60'000'000'000;  // a client goes on trying
    auto& slot = members_.slot(member);
    const std::uint64_t now = clock_.now().value;
    if (slot.write_told && now - slot.write_told->value < quiet_nanos) return;
    slot.write_told = Nanos{now};
    if (full) {
        tell(Severity::error, "no_room",
             fmt::format("{} has no room for a write: it is refused with ENOSPC until there is. "
                         "The member keeps its place",
                         text_of_role(member)));
        return;
    }
    tell(Severity::error, "write_failed",
         fmt::format(
             "a write to {} failed ({}): it is answered with an error. The member is needed, "
             "and keeps its place: {} of {} members are lost already",
             text_of_role(member), os_error_text(os_error), members_.lost(), members_.count()));
}

/// The client has nothing but EIO: the log says what it can do. A request that has the rows of two
/// strips has other rows of them, which may be listed likewise: only of the whole stripe it is sure
/// that it can be written.
void ArrayImpl::write_refused(WindowPlace place, RowMask rows, RoleSet together) {
    constexpr std::uint64_t quiet_nanos = 10'000'000'000;
    const std::uint64_t now = clock_.now().value;
    if (write_refused_told_ && now - write_refused_told_->value < quiet_nanos) return;
    write_refused_told_ = Nanos{now};
    std::vector<BadRange> refused;
    std::vector<BadRange> stripe;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const Role role = geometry_.role_of(place.stripe, MemberIndex{i});
        if (raw(role) >= geometry_.data_count()) continue;
        const std::uint64_t per_strip = geometry_.rows_per_strip();
        stripe.push_back({MemberIndex{i}, raw(place.stripe) * per_strip, per_strip});
        if (!together.has(role)) continue;
        for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
            refused.push_back(bad_.range_of(place, role, row, count));
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
             "read of it), give a lost member back (braid member add), or wait until a rebuild has "
             "passed the stripe",
             text, whole.front().volume, whole.front().offset,
             whole.back().offset + whole.back().size - 1));
}

Task<Result<void>> ArrayImpl::doubt_rows(WindowPlace place, RowMask rows) {
    Members& members = members_;
    const Geometry& geometry = geometry_;
    members.rows_doubtful(place, rows);
    intent_.add_doubt(place.stripe);
    set_gates();
    std::vector<BadRange> lost;
    for (const Role role : members.state_of(place).lost& geometry.data_roles()) {
        for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
            lost.push_back(bad_.range_of(place, role, row, count));
        });
    }
    background_event_.set();
    if (lost.empty()) co_return Result<void>{};
    if (!add_bad_rows(lost)) co_return Error{Errc::failed, "bad rows"};
    co_return co_await wait_patiently(changed());
}

}  // namespace braid
