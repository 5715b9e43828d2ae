// SPDX-License-Identifier: BSD-3-Clause
// Recovery: after a crash, which stripes are in doubt until they are made true, and how far that
// is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/deciding/deciding_part.h"
#include "engine/deciding/unknown_rows.h"
#include "engine/metadata/intent_record.h"

namespace braid {

class Recovery final : public DecidingPart {
  public:
    Recovery(const DecidingContext& context, ConfigurationWriter& writer, UnknownRows& unknown)
        : DecidingPart(context), writer_(writer), unknown_(unknown) {}

    /// Everything that was marked, or behind an older resync, is in doubt from now on.
    void begin(const std::vector<IntentEntry>& marked);
    /// Nothing is: parity is trusted as it is.
    void give_up();
    /// What holds of the write intent from the start: the configuration's, changed by the options.
    /// @param hindrance   why there can be none, or empty
    /// @param any_marked  by the records that were found
    Checked<IntentSettings> plan_intent(const std::string& hindrance, bool any_marked);

    /// Whether marked stripes are left that only the record, or memory, knows, where the array must
    /// not be stopped with them: a degraded one could not start.
    bool is_needed_by_stop() const;
    /// From this stripe on everything that is in doubt was listed as it came to be so: as many
    /// members are lost there as may be. In front of a rebuild's position one less is.
    StripeIndex doubt_listed_from() const;
    /// The first stripe that is in doubt in memory.
    StripeIndex first_in_doubt() const;
    /// The record of all marks that a start, or the end, needs: tried as often as their
    /// configuration is.
    Task<Result<void>> write_marks();
    /// What was true of the stripes that were marked when a flush began is durable now that it has
    /// ended. `before`: first_in_doubt() as it began; what was made true meanwhile it may have
    /// missed.
    void flushed(StripeIndex before);
    /// How far members' rebuilds and the resync are, as a flush that has just ended covers it.
    void note_positions();

    /// A resync has ended, or was interrupted.
    void resync_ended(const WalkPosition& at);
    /// For people: what it came to.
    std::string result() const;
    /// Of what there was to recover since the start, if anything.
    std::optional<RecoveryStatus> status() const;

  private:
    std::uint64_t marked_windows_left() const;

    ConfigurationWriter& writer_;
    UnknownRows& unknown_;
    std::optional<RecoveryStatus> recovery_;
    Nanos since_{};
};

}  // namespace braid
