// SPDX-License-Identifier: BSD-3-Clause
// After a crash: which stripes are in doubt, until they are made true; and the settings of the
// write intent.
#include <fmt/format.h>

#include <algorithm>

#include "engine/local/array_impl.h"

namespace braid {
/// Whether the array is not to stop before marked stripes were made true. Without a record nobody
/// would know them afterwards, and a degraded array could not start.
bool ArrayImpl::must_settle() const {
    const bool by_the_list = members_.lost() == geometry_.parities();
    const bool without_record = members_.lost() != 0 && !intent_.on();
    return !members_.failed() && !options_.readonly && background_running_ && !resync_stuck_ &&
           !walk_waits_ && (by_the_list || without_record) && marked_windows_left() != 0;
}

/// From this stripe on everything that is in doubt was listed as it came to be so: as many members
/// are lost there as may be. In front of a rebuild's position one less is.
StripeIndex ArrayImpl::doubt_listed_from() const {
    if (members_.lost() != geometry_.parities()) return StripeIndex{geometry_.stripes};
    std::uint64_t windows = 0;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        if (slot.state == MemberState::rebuilding) windows = std::max(windows, slot.rebuilt);
    }
    const std::uint64_t per_stripe = geometry_.windows_per_stripe();
    return StripeIndex{(windows + per_stripe - 1) / per_stripe};
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

/// The first stripe that is in doubt in memory.
StripeIndex ArrayImpl::first_in_doubt() const {
    const auto& ranges = members_.doubt().ranges();
    return StripeIndex{ranges.empty() ? geometry_.stripes
                                      : ranges.front().begin / geometry_.windows_per_stripe()};
}

/// What was true of the stripes that were marked when a flush began is durable now that it has
/// ended. `before`: first_in_doubt() as it began; what was made true meanwhile it may have missed.
void ArrayImpl::resync_flushed(StripeIndex before) {
    marks_settled(std::min(before, first_in_doubt()));
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
    return fmt::format(
        ": {} stripes that were marked, {} bytes read, {} rows were wrong, {} rows "
        "cannot be known, {:.1f} s",
        recovery_->stripes, recovery_->bytes_read, recovery_->rows_wrong, recovery_->rows_unknown,
        recovery_->seconds);
}

// ---- the settings of the write intent ------------------------------------------------------

/// What holds from the start: the configuration's, changed by the options.
Checked<IntentSettings> ArrayImpl::plan_intent() {
    IntentSettings settings = configuration_.intent;
    settings.on = options_.intent.on.value_or(settings.on);
    settings.region = options_.intent.region.value_or(settings.region);
    BRAID_CHECK(check_intent_region(settings.region));
    const std::string& hindrance = before_.intent_hindrance;
    if (!settings.on || hindrance.empty()) return settings;
    if (options_.intent.on) {
        return Refusal{
            fmt::format("there can be no write intent: {}; start it with intent=off", hindrance)};
    }
    tell(Severity::warning, "intent_off",
         fmt::format("there can be no write intent ({}): after a crash all of the array is "
                     "resynced",
                     hindrance));
    settings.on = false;
    return settings;
}

/// At every moment a crash finds either a record of all that is being written, or a configuration
/// that says that there is none.
Task<Checked<Unit>> ArrayImpl::run_change_intent(IntentChange wanted) {
    BRAID_CO_CHECK(may_command());
    Busy guard(*this);
    const IntentSettings before = configuration_.intent;
    IntentSettings settings = before;
    if (wanted.region) {
        BRAID_CO_CHECK(check_intent_region(*wanted.region));
        intent_.set_region(*wanted.region);
        settings.region = *wanted.region;
        change(change::Intent{settings});
    }
    const bool on = wanted.on.value_or(intent_.on());
    if (on && !intent_.on()) {
        if (!before_.intent_hindrance.empty()) {
            co_return Refusal{
                fmt::format("there can be no write intent: {}", before_.intent_hindrance)};
        }
        intent_.set_on(true);
        while (intent_.unmarked() != 0) {
            auto ended = intent_.unmarked_ended().wait();
            co_await ended;
        }
        Result<void> kept = co_await Requests::flush_members(context_);
        if (kept) kept = co_await intent_.rewrite();
        if (!kept) {
            intent_.set_on(false);
            co_return Refusal{
                fmt::format("the write intent cannot be kept: {}", text_of(kept.error().code))};
        }
    }
    settings.on = on;
    change(change::Intent{settings});
    const Result<void> durable = co_await wait_patiently(changed());
    if (!durable) {
        // Marks go on: a member may hold by now that there are some.
        change(change::Intent{before});
        intent_.set_region(before.region);
        (void)changed();
        co_return not_durable(durable.error());
    }
    if (!on) intent_.set_on(false);
    tell(Severity::info, "intent_changed",
         fmt::format("write intent {}, regions of {} bytes", on ? "on" : "off",
                     configuration_.intent.region));
    co_return Unit{};
}

}  // namespace braid
