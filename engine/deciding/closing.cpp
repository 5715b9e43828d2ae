// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/closing.h"

#include <fmt/format.h>

#include <optional>

#include "engine/base/mutation.h"
#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/member_orders.h"
#include "engine/deciding/recovery.h"
#include "engine/deciding/walk_orders.h"
#include "parity/require.h"

namespace braid {

Task<void> Closing::wait_for_resync() { return walks_.wait_for_resync(); }

namespace {

/// Whoever stops an array waits in a frame of his own, which a crash may destroy before the frames of
/// orders: what they tell at their end is then for nobody.
class Waiting {
  public:
    explicit Waiting(Event& event) : event_(event) {}
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting() {
        if (!over_) event_.forget();
    }
    void end() { over_ = true; }

  private:
    Event& event_;
    bool over_{false};
};

}  // namespace

Task<void> Closing::end_background() {
    BRAID_REQUIRE(stage_.quiescing);
    walks_.stop();
    Waiting waiting(work_);
    while (walks_.running() || walks_.starting_scrub() || orders_.busy()) {
        co_await work_.take();
        Yield yield;
        co_await yield;
    }
    waiting.end();
}

Task<Result<void>> Closing::keep_final_state() {
    BRAID_REQUIRE(!options_.readonly && !members_.failed());
    BRAID_REQUIRE(!walks_.running() && !orders_.busy());
    const StripeIndex true_before = recovery_.first_in_doubt();
    BRAID_CO_CHECK(co_await serving_.flush());
    recovery_.note_positions();  // everything walked so far was flushed just now
    recovery_.flushed(true_before);
    // Whoever is lost while the last configuration is written changes what it has to say.
    for (std::optional<StripeIndex> listed; listed != recovery_.doubt_listed_from();) {
        listed = recovery_.doubt_listed_from();
        BRAID_CO_CHECK(co_await write_final_state(*listed));
    }
    co_return Result<void>{};
}

/// @param listed  what is in doubt from this stripe on is listed, by row: of that the next start
///        has nothing to ask
Task<Result<void>> Closing::write_final_state(StripeIndex listed) {
    // What is listed has to be in force before it is not marked any more.
    if (!writer_.is_written()) BRAID_CO_CHECK(co_await writer_.wait_durable(writer_.changes()));
    if (recovery_.first_in_doubt() >= listed) writer_.change(change::ResyncedTo{});
    // The next start, or a crash right after it, goes by this.
    serving_.keep_marks_in_doubt(listed);
    BRAID_CO_CHECK(co_await recovery_.write_marks());
    // Marked stripes are left that were not made true: only the record knows them, and it counts
    // after an unclean stop. So that is what it is.
    const MarksLeft left = serving_.marks_left();
    if (left.any) {
        tell(Severity::warning, "resync_left",
             fmt::format("{} stripes that were marked are still to be made true; the next start "
                         "goes on with them",
                         left.stripes));
    }
    if (left.any && !serving_.marks()) co_await begin_record();
    writer_.change(change::InUse{left.any});
    BRAID_CO_CHECK(co_await writer_.wait_durable(writer_.changed()));
    if (BRAID_MUTANT(no_closing_revision)) co_return Result<void>{};
    // One more, which names the clean mark: a copy from before it is told by that.
    co_return co_await writer_.wait_durable(writer_.changed());
}

/// A resync that cannot go on is not waited for, and without a record the next start would have to
/// take all of the parity for doubtful: it could not do without any member.
Task<void> Closing::begin_record() {
    if (!orders_.intent_hindrance().empty()) co_return;
    const Result<void> begun = co_await serving_.begin_marks();
    if (!begun) {
        tell(Severity::warning, "intent_off",
             fmt::format("there can be no write intent ({}): the next start needs all members",
                         text_of(begun.error().code)));
        co_return;
    }
    IntentSettings settings = configuration_.intent;
    settings.on = true;
    writer_.change(change::Intent{settings});
    tell(
        Severity::warning, "intent_stays",
        "the write intent is on from now on, for it is all that tells the next start which stripes "
        "are in doubt; when the resync is done, braid intent off switches it off");
}

std::string Closing::why_it_waits() const {
    if (walks_.must_resync())
        return "the stop waits for the resync of rows that cannot be known else";
    return "the stop waits for requests and commands under way";
}

}  // namespace braid
