// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "parity/require.h"

namespace braid {

// ---- recovery ------------------------------------------------------------------------------

void Recovery::begin(const std::vector<IntentEntry>& marked) {
    BRAID_REQUIRE(members_.doubt().empty() && !recovery_);
    RecoveryStatus recovery;
    for (const IntentEntry& entry : marked) {
        serving_.add_doubt(
            {geometry_.first_window(entry.first), geometry_.first_window(entry.end())});
        recovery.stripes += entry.count;
    }
    if (configuration_.resynced) {
        serving_.add_doubt(
            {geometry_.first_window(*configuration_.resynced), geometry_.window_end()});
    }
    if (recovery.stripes == 0) return;
    recovery.stripes_left = recovery.stripes;
    recovery_ = recovery;
    since_ = clock_.now();
}

void Recovery::give_up() {
    serving_.trust_all();
    recovery_.reset();
    writer_.change(change::ResyncedTo{});
}

bool Recovery::is_needed_by_stop() const {
    const bool by_the_list = members_.lost() == geometry_.parities();
    const bool without_record = members_.lost() != 0 && !serving_.marks();
    return (by_the_list || without_record) && marked_windows_left() != 0;
}

StripeIndex Recovery::doubt_listed_from() const {
    if (members_.lost() != geometry_.parities()) return StripeIndex{geometry_.stripes};
    WindowIndex rebuilt{};
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        if (slot.behind) return StripeIndex{geometry_.stripes};  // it is live here and there
        if (slot.state == MemberState::rebuilding) rebuilt = std::max(rebuilt, slot.rebuilt);
    }
    return geometry_.stripe_of(rebuilt + (geometry_.windows_per_stripe() - 1));
}

StripeIndex Recovery::first_in_doubt() const {
    const auto& ranges = members_.doubt().ranges();
    return geometry_.stripe_of(ranges.empty() ? geometry_.window_end() : ranges.front().begin);
}

Task<Result<void>> Recovery::write_marks() {
    for (std::uint32_t tries = 1;; ++tries) {
        const Result<void> kept = co_await serving_.write_marks();
        const bool last = tries == ConfigurationWriter::tries_last_max;
        if (kept || members_.failed() || last) co_return kept;
        Timer timer(clock_, Nanos{clock_.now().value + ConfigurationWriter::pause_first.value});
        co_await timer;
    }
}

void Recovery::flushed(StripeIndex before) {
    BRAID_REQUIRE(raw(before) <= geometry_.stripes);
    serving_.retire_marks(std::min(before, first_in_doubt()));
}

void Recovery::note_positions() {
    unknown_.note_rebuilt(unknown_.rebuilt_to());
    if (!configuration_.resynced || members_.doubt().empty()) return;
    // Marked stripes in front of it do not count: the record has them.
    writer_.change(change::ResyncedTo{first_in_doubt()});
}

/// Of the stripes that were marked, those in front of what an older resync has to do anyhow.
std::uint64_t Recovery::marked_windows_left() const {
    const WindowIndex end = configuration_.resynced
                                ? geometry_.first_window(*configuration_.resynced)
                                : geometry_.window_end();
    std::uint64_t left = 0;
    for (const WindowRange& range : members_.doubt().ranges()) {
        if (range.begin < end) left += std::min(range.end, end) - range.begin;
    }
    return left;
}

std::optional<RecoveryStatus> Recovery::status() const {
    if (!recovery_) return std::nullopt;
    RecoveryStatus status = *recovery_;
    const std::uint64_t per_stripe = geometry_.windows_per_stripe();
    status.rows_unknown = unknown_.rows_listed();
    status.stripes_left = (marked_windows_left() + per_stripe - 1) / per_stripe;
    if (status.stripes_left == 0 && status.seconds != 0) return status;
    const std::optional<WalkPosition> walk = serving_.walking();
    if (walk && walk->order.kind == WalkKind::resyncing) {
        status.bytes_read += walk->bytes_read;
        status.rows_wrong += walk->rows_wrong;
    }
    status.seconds = static_cast<double>(clock_.now().value - since_.value) / 1e9;
    return status;
}

void Recovery::resync_ended(const WalkPosition& at) {
    if (!recovery_) return;
    recovery_->bytes_read += at.bytes_read;
    recovery_->rows_wrong += at.rows_wrong;
    if (marked_windows_left() != 0) return;
    recovery_->stripes_left = 0;
    recovery_->seconds = static_cast<double>(clock_.now().value - since_.value) / 1e9;
}

std::string Recovery::result() const {
    if (!recovery_) return {};
    return fmt::format(
        ": {} stripes that were marked, {} bytes read, {} rows were wrong, {} rows "
        "cannot be known, {:.1f} s",
        recovery_->stripes, recovery_->bytes_read, recovery_->rows_wrong, unknown_.rows_listed(),
        recovery_->seconds);
}

Checked<IntentSettings> Recovery::plan_intent(const std::string& hindrance, bool any_marked) {
    IntentSettings settings = configuration_.intent;
    settings.on = options_.intent.on.value_or(settings.on);
    settings.region = options_.intent.region.value_or(settings.region);
    BRAID_CHECK(check_intent_region(settings.region));
    if (!settings.on && any_marked) {
        tell(
            Severity::warning, "intent_stays",
            "the write intent stays on, for it is all that tells which stripes are in doubt since the "
            "array was not stopped cleanly; when the resync is done, braid intent off, or the "
            "next start, switches it off");
        settings.on = true;
    }
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

}  // namespace braid
