// SPDX-License-Identifier: BSD-3-Clause
// After a crash: which stripes are in doubt, what becomes of rows that cannot be known, and the
// settings of the write intent.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "engine/array_impl.h"
#include "engine/bad_bytes.h"
#include "engine/base/mutation.h"

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

// ---- rows that cannot be known -------------------------------------------------------------

void ArrayImpl::set_bad_rows(std::vector<BadRange> ranges) {
    bad_.set(ranges);
    configuration_.bad_rows = std::move(ranges);
    bad_bytes_ = bad_bytes_of(configuration_, bad_bytes_listed_max, &bad_bytes_size_);
    set_gates();
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

/// The list with these rows; false: it has no room for them, and the array has stopped.
bool ArrayImpl::add_bad_rows(const std::vector<BadRange>& rows) {
    const std::vector<BadRange> more = bad_rows_with(rows);
    if (more == bad_.ranges()) return true;
    if (!fit_slot(more)) {
        halt(fmt::format("{} ranges of rows cannot be known", more.size()));
        return false;
    }
    const std::uint64_t before = bad_bytes_size_;
    set_bad_rows(more);
    if (recovery_) recovery_->rows_unknown += (bad_bytes_size_ - before) / row_size;
    tell(Severity::error, "bad_rows",
         fmt::format("rows that were being written cannot be computed without the lost members; "
                     "reading them is an error until they are written anew: {}",
                     text_of_bad(bad_bytes_, bad_bytes_size_)));
    return true;
}

Task<Result<void>> ArrayImpl::list_rows(ArrayImpl* self, std::vector<BadRange> rows) {
    const std::vector<BadRange> before = self->bad_.ranges();
    if (!self->add_bad_rows(rows)) co_return Error{Errc::failed, "bad rows"};
    // Also those that were listed already must be so durably.
    const bool known = self->bad_.ranges() == before;
    const std::uint64_t change = known ? self->changes_ : self->changed();
    co_return co_await wait_durable(self, change);
}

Task<Result<void>> ArrayImpl::unlist_rows(ArrayImpl* self, std::vector<BadRange> rows) {
    if (!BRAID_MUTANT(bad_row_healed_early)) {
        BRAID_CO_CHECK(co_await Requests::flush_members(self->context_));
    }
    BadRows less(self->geometry_, self->bad_.ranges());
    for (const BadRange& range : rows) less.set(less.without(range));
    if (!fit_slot(less.ranges())) co_return Error{Errc::full, "bad rows"};
    if (less.ranges() == self->bad_.ranges()) {
        co_return co_await wait_durable(self, self->changes_);
    }
    self->set_bad_rows(less.ranges());
    if (less.empty()) {
        self->tell(Severity::info, "bad_rows_healed", "every row that could not be known was "
                                                      "written anew");
    }
    const std::uint64_t change = self->changed();
    co_return co_await wait_durable(self, change);
}

/// Where as many members are lost as may be, nothing vouches for what they held of rows in doubt:
/// lists it, at once, so that no write comes in between. It is durable with the next configuration.
bool ArrayImpl::list_doubt() {
    if (BRAID_MUTANT(degraded_trusts_doubt) || BRAID_MUTANT(bad_rows_not_kept)) return true;
    const std::vector<BadRange> rows = undecidable_rows();
    return rows.empty() || add_bad_rows(rows);
}

/// At the start, by force: parity is trusted as it is where the list has no room.
void ArrayImpl::trust_doubt_by_force() {
    const std::vector<BadRange> more = bad_rows_with(undecidable_rows());
    if (fit_slot(more)) return;
    tell(Severity::warning, "forced",
         fmt::format("started by force although {} ranges of rows cannot be known: parity is "
                     "trusted as it is, and what lost members held of them may come back wrong. "
                     "Check the file systems, and scrub with repair when the array is whole again",
                     more.size()));
    members_.doubt().remove_before(members_.window_count());
    before_.marked.clear();
    recovery_.reset();
    configuration_.resynced.reset();
}

std::vector<BadRange> ArrayImpl::undecidable_rows() const {
    std::vector<BadRange> rows;
    for (const WindowRange& range : members_.doubt().ranges()) {
        for (std::uint64_t at = range.begin; at != range.end;) {
            // A member that is being rebuilt is live up to its checkpoint.
            std::uint64_t end = range.end;
            std::vector<MemberIndex> lost;
            for (std::uint32_t i = 0; i != members_.count(); ++i) {
                const auto& slot = members_.slot(MemberIndex{i});
                if (slot.state == MemberState::in_sync) continue;
                if (slot.state == MemberState::rebuilding && at < slot.rebuilt) {
                    end = std::min(end, slot.rebuilt);
                } else {
                    lost.push_back(MemberIndex{i});
                }
            }
            if (lost.size() == geometry_.parities()) {
                for (const MemberIndex member : lost) {
                    rows.push_back({member, at * geometry_.window_rows,
                                    (end - at) * geometry_.window_rows});
                }
            }
            at = end;
        }
    }
    return rows;
}

/// Whether the array is not to stop before marked stripes were made true. Without a record nobody
/// would know them afterwards, and a degraded array could not start.
bool ArrayImpl::must_settle() const {
    const bool by_the_list = members_.lost() == geometry_.parities();
    const bool without_record = members_.lost() != 0 && !intent_.on();
    return !members_.failed() && !options_.readonly && background_running_ && !resync_stuck_ &&
           (by_the_list || without_record) && marked_windows_left() != 0;
}

void ArrayImpl::halt(const std::string& why) {
    if (members_.failed()) return;
    members_.halt();
    tell(Severity::error, "stopped",
         fmt::format("the array has stopped: {}, more than the list of bad rows holds, and going "
                     "on would mean guessing. Nothing was lost that was not lost before. Bring "
                     "back the members that are missing and start it again; if they are gone, "
                     "start it with force, which trusts parity as it is, check the file systems, "
                     "and restore what is wrong", why));
    tell_failed();
}

// ---- recovery ------------------------------------------------------------------------------

void ArrayImpl::begin_recovery() {
    const std::uint64_t per_stripe = geometry_.windows_per_stripe();
    RecoveryStatus recovery;
    for (const IntentEntry& entry : before_.marked) {
        const std::uint64_t first = raw(entry.first) * per_stripe;
        members_.doubt().add({first, first + entry.count * per_stripe});
        recovery.stripes += entry.count;
    }
    if (configuration_.resynced) {
        members_.doubt().add({raw(*configuration_.resynced) * per_stripe, members_.window_count()});
    }
    if (recovery.stripes == 0) return;
    recovery.stripes_left = recovery.stripes;
    recovery_ = recovery;
    recovery_since_ = clock_.now();
}

/// What was made true of the stripes that were marked is durable now.
void ArrayImpl::resync_flushed() {
    const auto& ranges = members_.doubt().ranges();
    const std::uint64_t first =
        ranges.empty() ? geometry_.stripes : ranges.front().begin / geometry_.windows_per_stripe();
    marks_settled(StripeIndex{first});
}

void ArrayImpl::marks_settled(StripeIndex first) {
    intent_.settled_before(first);
    set_gates();
}

/// Of the stripes that were marked, those in front of what an older resync has to do anyhow.
std::uint64_t ArrayImpl::marked_windows_left() const {
    const std::uint64_t end = configuration_.resynced
                                  ? raw(*configuration_.resynced) * geometry_.windows_per_stripe()
                                  : members_.window_count();
    std::uint64_t left = 0;
    for (const WindowRange& range : members_.doubt().ranges()) {
        if (range.begin < end) left += std::min(range.end, end) - range.begin;
    }
    return left;
}

RecoveryStatus ArrayImpl::recovery_status() const {
    RecoveryStatus status = *recovery_;
    const std::uint64_t per_stripe = geometry_.windows_per_stripe();
    status.stripes_left = (marked_windows_left() + per_stripe - 1) / per_stripe;
    if (status.stripes_left == 0 && status.seconds != 0) return status;
    if (walker_.running() && walker_.order().kind == WalkKind::resyncing) {
        status.bytes_read += walker_.bytes_read();
        status.rows_wrong += walker_.rows_wrong();
    }
    status.seconds = static_cast<double>(clock_.now().value - recovery_since_.value) / 1e9;
    return status;
}

/// A resync has ended, or was interrupted.
void ArrayImpl::note_recovery() {
    if (!recovery_) return;
    recovery_->bytes_read += walker_.bytes_read();
    recovery_->rows_wrong += walker_.rows_wrong();
    if (marked_windows_left() != 0) return;
    recovery_->stripes_left = 0;
    recovery_->seconds = static_cast<double>(clock_.now().value - recovery_since_.value) / 1e9;
}

std::string ArrayImpl::resync_result() const {
    if (!recovery_) return {};
    return fmt::format(": {} stripes that were marked, {} bytes read, {} rows were wrong, {} rows "
                       "cannot be known, {:.1f} s",
                       recovery_->stripes, recovery_->bytes_read, recovery_->rows_wrong,
                       recovery_->rows_unknown, recovery_->seconds);
}

// ---- the settings of the write intent ------------------------------------------------------

namespace {

Checked<Unit> check_region(std::uint64_t region) {
    if (std::has_single_bit(region) && region >= intent_region_min && region <= intent_region_max) {
        return Unit{};
    }
    return Refusal{fmt::format("an intent region of {} bytes is not a power of two from {} to {}",
                               region, intent_region_min, intent_region_max)};
}

}  // namespace

/// What holds from the start: the configuration's, changed by the options.
Checked<IntentSettings> ArrayImpl::plan_intent() {
    IntentSettings settings = configuration_.intent;
    settings.on = options_.intent.on.value_or(settings.on);
    settings.region = options_.intent.region.value_or(settings.region);
    BRAID_CHECK(check_region(settings.region));
    const std::string& hindrance = before_.intent_hindrance;
    if (!settings.on || hindrance.empty()) return settings;
    if (options_.intent.on) {
        return Refusal{fmt::format("there can be no write intent: {}; start it with intent=off",
                                   hindrance)};
    }
    tell(Severity::warning, "intent_off",
         fmt::format("there can be no write intent ({}): after a crash all of the array is "
                     "resynced", hindrance));
    settings.on = false;
    return settings;
}

/// At every moment a crash finds either a record of all that is being written, or a configuration
/// that says that there is none.
Task<Checked<Unit>> ArrayImpl::run_change_intent(ArrayImpl* self, IntentChange change) {
    BRAID_CO_CHECK(self->may_command());
    Busy guard(*self);
    if (change.region) {
        BRAID_CO_CHECK(check_region(*change.region));
        self->intent_.set_region(*change.region);
        self->configuration_.intent.region = *change.region;
    }
    const bool on = change.on.value_or(self->intent_.on());
    if (on && !self->intent_.on()) {
        if (!self->before_.intent_hindrance.empty()) {
            co_return Refusal{fmt::format("there can be no write intent: {}",
                                          self->before_.intent_hindrance)};
        }
        self->intent_.set_on(true);
        while (self->intent_.unmarked() != 0) {
            auto ended = self->intent_.unmarked_ended().wait();
            co_await ended;
        }
        Result<void> kept = co_await Requests::flush_members(self->context_);
        if (kept) kept = co_await WriteIntent::rewrite(&self->intent_);
        if (!kept) co_return Refusal{"the array has failed: its write intent cannot be kept"};
    }
    self->configuration_.intent.on = on;
    const Result<void> durable = co_await wait_durable(self, self->changed());
    if (!durable) {
        co_return Refusal{fmt::format("the new configuration could not be written: {}",
                                      text_of(durable.error().code))};
    }
    if (!on) self->intent_.set_on(false);
    self->tell(Severity::info, "intent_changed",
               fmt::format("write intent {}, regions of {} bytes", on ? "on" : "off",
                           self->configuration_.intent.region));
    co_return Unit{};
}

}  // namespace braid
