// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/walk_orders.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/deciding/member_orders.h"
#include "engine/layout/bad_bytes.h"
#include "parity/require.h"

namespace braid {
namespace {

ScrubRecord record_of(const WalkOrder& scrub, StripeIndex position) {
    return {position, scrub.repair, scrub.mismatches, scrub.repaired, scrub.bytes_unknown};
}

std::string what_was_found(const WalkOrder& scrub) {
    std::string text = fmt::format("{} rows wrong, {} repaired", scrub.mismatches, scrub.repaired);
    if (scrub.bytes_unknown == 0) return text;
    return fmt::format("{}, {} bytes that can neither be read nor computed from the others", text,
                       scrub.bytes_unknown);
}

}  // namespace

WalkOrders::WalkOrders(const DecidingContext& context, Parts parts)
    : DecidingPart(context),
      writer_(parts.writer),
      roster_(parts.roster),
      unknown_(parts.unknown),
      recovery_(parts.recovery),
      orders_(parts.orders),
      scrub_log_(context),
      spare_pauses_(context.clock) {}

void WalkOrders::start() {
    BRAID_REQUIRE(!running_);
    running_ = true;
    tasks_.spawn(run());
}

void WalkOrders::stop() {
    serving_.cancel_walk();
    if (waiting_ != nullptr) waiting_->cancel();
    if (spare_waiting_ != nullptr) spare_waiting_->cancel();
    spare_pauses_.cut_short();
    work_.set();
}

bool WalkOrders::must_resync() const {
    return !members_.failed() && !options_.readonly && running_ && !resync_stuck_ && !waits_ &&
           recovery_.is_needed_by_stop();
}

Task<void> WalkOrders::wait_for_resync() {
    while (must_resync()) {
        // It comes before whatever else walks.
        const std::optional<WalkPosition> other = serving_.walking();
        if (other && other->order.kind != WalkKind::resyncing) serving_.cancel_walk();
        co_await resync_event_.next();
    }
}

void WalkOrders::role_filled(MemberIndex member) {
    BRAID_REQUIRE(!roster_.is_lost_role(member));
    spare_told_.remove(member);
    // By force: what is still listed for the role nobody can give back from now on.
    given_up_.add(member);
    if (rebuild_stuck_ == member) rebuild_stuck_.reset();
    work_.set();
}

void WalkOrders::walk_begun(const WalkOrder& order) {
    if (order.kind != WalkKind::scrubbing) return;
    scrub_begun_ = true;
    scrub_event_.set();
}

void WalkOrders::walk_ended(WalkPosition at, Result<void> result) {
    BRAID_REQUIRE(!result_);  // of the one that was ordered
    at_ = std::move(at);
    result_ = result;
    ended_.set();
}

/// Until it has ended.
Task<Result<void>> WalkOrders::walk(WalkOrder order) {
    BRAID_REQUIRE(!serving_.walking());
    result_.reset();
    serving_.walk(order);
    while (!result_) {
        co_await ended_.next();
    }
    co_return *result_;
}

Task<void> WalkOrders::run() {
    while (!stage_.quiescing) {
        work_.clear();
        co_await use_spare();
        const std::optional<WalkOrder> order = next_walk();
        scrub_event_.set();
        if (!order) {
            if (stage_.quiescing) break;  // stop() waits for us, and rings no second time
            co_await work_.wait();
            continue;
        }
        // What was changed so far is durable before the walk writes.
        if (!co_await writer_.wait_durable(writer_.changes())) continue;  // the array has failed
        if (stage_.quiescing) break;
        const bool scrubs = order->kind == WalkKind::scrubbing;
        // It was stopped meanwhile, and another one may have been ordered.
        if (scrubs && (!configuration_.scrub || configuration_.scrub->repair != order->repair)) {
            continue;
        }
        const bool waits = stage_.ending && must_resync();  // a stop, for a resync
        if (waits && order->kind != WalkKind::resyncing) continue;
        unknown_.walk_begins();
        at_ = WalkPosition{};
        at_.order = *order;
        at_.window = order->begin();
        if (order->kind == WalkKind::rebuilding) {
            // When it is done one more member may be lost: by then the record is on enough.
            const Result<void> kept = co_await serving_.write_all_marks();
            if (!kept) {
                wait_for_members(at_, kept.error());
                continue;
            }
        }
        scrub_ordered_ = scrubs;
        Result<void> result = co_await walk(*order);
        const bool resync = order->kind == WalkKind::resyncing;
        // What it has passed is true, whatever became of a member since.
        if (resync && members_.doubt().empty()) result = Result<void>{};
        // And what was walked is durable before the configuration says so.
        const bool skips = BRAID_MUTANT(checkpoint_ahead) && order->kind == WalkKind::rebuilding;
        StripeIndex true_before = recovery_.first_in_doubt();
        if (result && !skips) result = co_await serving_.flush();
        if (result && order->kind == WalkKind::rebuilding &&
            order->loss_version != members_.loss_version()) {
            result = Error{Errc::cancelled, "walk"};  // perhaps of the very member
        }
        if (resync) {
            if (result && BRAID_MUTANT(resync_skips_last)) {
                serving_.trust_all();
                true_before = recovery_.first_in_doubt();
            }
            if (result) recovery_.flushed(true_before);
            recovery_.resync_ended(at_);
        }
        end_walk(result);
        scrub_ordered_ = false;
        if (result || order->kind == WalkKind::scrubbing) writer_.changed();
    }
    running_ = false;
    work_.set();
    scrub_event_.set();
}

std::optional<WalkOrder> WalkOrders::next_walk() {
    if (members_.failed() || stage_.quiescing || waits_) return std::nullopt;
    WalkOrder order;
    order.loss_version = members_.loss_version();
    // Writes may have made true all that was in doubt: then that is all that is left to say.
    const bool doubtful = !members_.doubt().empty() || serving_.marks_left().any ||
                          configuration_.resynced.has_value();
    if (doubtful && !resync_stuck_ && !options_.readonly) {
        order.kind = WalkKind::resyncing;
        order.ranges = members_.doubt().ranges();
        if (order.ranges.empty()) return order;
        tell(Severity::info, "resync_started",
             serving_.marks_left().any
                 ? fmt::format("making parity true in {} stripes that were marked when the array "
                               "stopped",
                               serving_.marks_left().stripes)
                 : std::string("making parity true"));
        return order;
    }
    const WindowIndex end = geometry_.window_end();
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const MemberIndex member{i};
        if (members_.slot(member).state != MemberState::rebuilding || options_.readonly) continue;
        if (rebuild_stuck_ == member) continue;
        order.kind = WalkKind::rebuilding;
        order.member = member;
        const auto& slot = members_.slot(member);
        order.ranges = {{slot.rebuilt, end}};
        if (slot.behind) order.ranges = slot.behind->ranges(slot.rebuilt, end);
        const char* const where = slot.behind ? ", where it missed what was written"
                                  : order.begin() == WindowIndex{} ? ""
                                                                   : " from where it was";
        tell(Severity::info, "rebuild_started",
             fmt::format("rebuilding member {} ({}){}", i, record(member).path, where));
        return order;
    }
    if (members_.lost() != 0) return std::nullopt;
    const bool repairs = configuration_.scrub && configuration_.scrub->repair;
    if (configuration_.scrub && members_.doubt().empty() && !(repairs && options_.readonly)) {
        order.kind = WalkKind::scrubbing;
        order.ranges = {{geometry_.first_window(configuration_.scrub->position), end}};
        order.repair = configuration_.scrub->repair;
        order.mismatches = configuration_.scrub->mismatches;
        order.repaired = configuration_.scrub->repaired;
        order.bytes_unknown = configuration_.scrub->bytes_unknown;
        scrub_log_.begin();
        scrub_cancelled_ = false;
        tell(Severity::info, "scrub_started",
             order.repair ? "reading all stripes, repairing what is wrong" : "reading all stripes");
        return order;
    }
    return std::nullopt;
}

Task<Result<void>> WalkOrders::walk_at(WalkPosition at) {
    BRAID_REQUIRE(at.window <= geometry_.window_end());
    BRAID_REQUIRE(at.order.begin() <= at.window);
    const WalkOrder& order = at.order;
    const StripeIndex stripe = geometry_.stripe_of(at.window);
    const StripeIndex true_before = recovery_.first_in_doubt();
    if (!BRAID_MUTANT(checkpoint_ahead)) {
        BRAID_CO_CHECK(co_await serving_.flush());
    }
    if (order.kind == WalkKind::rebuilding && order.loss_version != members_.loss_version()) {
        co_return Error{Errc::cancelled, "walk"};
    }
    switch (order.kind) {
        case WalkKind::rebuilding:
            writer_.change(change::RebuiltTo{order.member, stripe});
            break;
        case WalkKind::resyncing:
            writer_.change(change::ResyncedTo{stripe});
            recovery_.flushed(true_before);
            break;
        case WalkKind::scrubbing:
            scrub_log_.tell_before(at.window);
            if (configuration_.scrub) {
                writer_.change(change::ScrubAt{record_of(order, stripe)});
            }
            break;
    }
    const std::uint64_t change = writer_.changed();
    co_return co_await writer_.wait_durable(change);
}

void WalkOrders::end_walk(const Result<void>& result) {
    const WalkOrder& order = at_.order;
    resync_event_.set();
    if (!result && wait_for_members(at_, result.error())) return;
    pause_ = {};
    wait_.reset();
    if (order.kind == WalkKind::scrubbing) return end_scrub(result);
    const bool rebuild = order.kind == WalkKind::rebuilding;
    const std::string what =
        rebuild ? fmt::format("rebuild of member {}", raw(order.member)) : std::string("resync");
    if (rebuild && members_.slot(order.member).state != MemberState::rebuilding) return;
    if (result) {
        if (rebuild) {
            writer_.change(change::RebuildDone{order.member});
            given_up_.remove(order.member);
        } else {
            writer_.change(change::ResyncedTo{});
        }
        if (order.ranges.empty() && !rebuild) return;  // there was nothing to walk over
        tasks_.spawn(tell_done(rebuild ? "rebuild_done" : "resync_done",
                               what + " is done" + (rebuild ? "" : recovery_.result())));
        return;
    }
    if (result.error().code == Errc::cancelled || members_.failed()) return;
    if (at_.window != order.begin() || result.error().code == Errc::fenced) return;
    // A row that came to be in doubt: the resync is next.
    if (rebuild && result.error().code == Errc::doubt && !resync_stuck_) return;
    // No step forward: something cannot be read that would be needed.
    const std::string why = fmt::format(
        "cannot go on at stripe {}: {}. Rows there cannot be computed from the members that are "
        "left; see their read errors",
        raw(geometry_.stripe_of(at_.window)), result.error().text());
    if (rebuild) {
        rebuild_stuck_ = order.member;
        why_rebuild_stuck_ = why;
    } else {
        resync_stuck_ = true;
        why_resync_stuck_ = why;
        set_resync_comes();
    }
    tell(Severity::error, rebuild ? "rebuild_stuck" : "resync_stuck",
         fmt::format("{} {}", what, why));
}

/// Whoever reads it may pull another member at once: it is so after a crash, too.
Task<void> WalkOrders::tell_done(const char* kind, std::string text) {
    const Result<void> kept = co_await writer_.wait_durable(writer_.changed());
    if (!kept) co_return;
    tell(Severity::info, kind, std::move(text));
    tell_walk_result();
}

void WalkOrders::tell_walk_result() {
    if (const auto more = unknown_.found_by_walk()) {
        tell(Severity::warning, "walk_unknown",
             fmt::format("{} bytes more than before it cannot be known, {} in all: {} names them",
                         *more, unknown_.bad_bytes(), order_text("braid status")));
    }
    if (members_.lost() != 0) return;
    if (configuration_.bad_rows.empty()) {
        tell(Severity::info, "clean", "the array is clean: no member is lost");
    } else {
        tell(Severity::warning, "damaged",
             fmt::format("no member is lost, and {} bytes cannot be known", unknown_.bad_bytes()));
    }
}

std::string WalkOrders::why_walk_waits(const WalkPosition& at, const Error& error) const {
    if (error.code == Errc::full && std::string_view(error.where) == "bad rows") {
        return fmt::format(
            "the list of rows that cannot be known is full ({}), and what lost members alone "
            "have is not joined with what was written since; bring them back, or write listed rows "
            "anew",
            ranges_by_member(configuration_.bad_rows));
    }
    if (error.code == Errc::full) return "a member has no room for what it has to write";
    if (error.code == Errc::io) return "a member that is needed takes no writes";
    return fmt::format("{} answers no reads", roster_.text_of_role(at.unreadable));
}

/// A walk that ended because members do not answer, or have no room, goes on later by itself.
/// Nothing was decided where it stands, before `window`.
bool WalkOrders::wait_for_members(const WalkPosition& at, const Error& error) {
    const WalkOrder& order = at.order;
    const WindowIndex window = at.window;
    const bool refused = error.code == Errc::io;  // a write of what it found wrong
    if (error.code != Errc::busy && error.code != Errc::full && !refused) return false;
    if (members_.failed() || stage_.quiescing) return false;
    const std::uint64_t pause =
        pause_.value == 0 ? pause_first : std::min(2 * pause_.value, pause_max);
    const bool first = pause_.value == 0;
    pause_ = {pause};
    waits_ = true;
    set_resync_comes();
    const bool moved = !wait_ || wait_->window != window || wait_->order.kind != order.kind;
    const Nanos since = moved ? clock_.now() : wait_->since;
    wait_ = WalkWait{order, window, since, error.code == Errc::busy, why_walk_waits(at, error)};
    if (first) {
        tell(Severity::error, "walk_waits",
             fmt::format("{} waits at stripe {}: {}. Nothing is given up for that; it is tried "
                         "again by itself",
                         text_of(order.kind), raw(geometry_.stripe_of(window)), wait_->why));
    }
    tasks_.spawn(end_wait(Nanos{clock_.now().value + pause}));
    return true;
}

/// What ought to run, and does not. A member that answers no reads may do so again in a moment;
/// whatever else a walk waits for takes somebody who sees to it.
std::vector<WaitStatus> WalkOrders::waits() const {
    constexpr std::uint64_t moment_nanos = 60'000'000'000;
    std::vector<WaitStatus> all;
    if (members_.failed()) return all;
    const auto add = [&all](std::string_view what, std::optional<MemberIndex> member,
                            std::string why) {
        all.push_back({.what = std::string(what), .member = member, .why = std::move(why)});
    };
    if (waits_ && wait_) {
        const WalkOrder& order = wait_->order;
        std::optional<MemberIndex> member;
        if (order.kind == WalkKind::rebuilding) member = order.member;
        add(text_of(order.kind), member,
            fmt::format("stands at stripe {}: {}. It is tried again by itself",
                        raw(geometry_.stripe_of(wait_->window)), wait_->why));
        all.back().by_itself =
            wait_->no_reads && clock_.now().value - wait_->since.value < moment_nanos;
    }
    const std::string_view resync = text_of(WalkKind::resyncing);
    const bool doubtful = !members_.doubt().empty();
    if (doubtful && resync_stuck_) add(resync, {}, why_resync_stuck_);
    if (doubtful && options_.readonly) {
        add(resync, {},
            "the array is served for reading only, and nothing is written to make parity true");
    }
    if (rebuild_stuck_ && members_.slot(*rebuild_stuck_).state == MemberState::rebuilding) {
        add(text_of(WalkKind::rebuilding), rebuild_stuck_, why_rebuild_stuck_);
    }
    for (std::uint32_t i = 0; i != members_.count() && !roster_.spares().empty(); ++i) {
        const MemberIndex role{i};
        if (is_awaited(role)) {
            add("spare", role, why_spare_waits(role));
        } else if (roster_.is_lost_role(role) && awaited_until(role)) {
            add("spare", role, why_spare_is_held(role));
            all.back().by_itself = true;
        }
    }
    return all;
}

Task<void> WalkOrders::end_wait(Nanos until) {
    Timer timer(clock_, until);
    waiting_ = &timer;
    co_await timer;
    waiting_ = nullptr;
    waits_ = false;
    set_resync_comes();
    work_.set();
}

void WalkOrders::end_scrub(const Result<void>& result) {
    const WalkOrder& order = at_.order;
    // Withdrawn as it was about to begin: whoever ordered it was told so, and it is not gone on with.
    if (!configuration_.scrub && !scrub_cancelled_) return;
    scrub_log_.tell_before(geometry_.window_end() + 1);  // all, though it may not have come so far
    scrub_log_.tell_rest();
    WalkStatus status = at_.status;
    status.mismatches = order.mismatches;
    status.repaired = order.repaired;
    status.bytes_unknown = order.bytes_unknown;
    status.seconds_left.reset();
    last_scrub_ = status;
    const bool waits = !result && result.error().code == Errc::doubt && !resync_stuck_;
    const bool stuck = !result && !waits && result.error().code != Errc::cancelled &&
                       !members_.failed() && at_.window == order.begin();
    if (!result && !scrub_cancelled_ && !stuck) {  // interrupted: to be gone on with
        writer_.change(change::ScrubAt{record_of(order, geometry_.stripe_of(at_.window))});
        return;
    }
    writer_.change(change::ScrubAt{});
    if (stuck) {
        tell(Severity::error, "scrub_stuck",
             fmt::format("scrub cannot go on at stripe {}: {}",
                         raw(geometry_.stripe_of(at_.window)), result.error().text()));
        return;
    }
    if (scrub_cancelled_) {
        tell(Severity::info, "scrub_stopped",
             fmt::format("scrub stopped: {} so far", what_was_found(order)));
        return;
    }
    const bool all_well = order.mismatches == 0 && order.bytes_unknown == 0;
    tell(all_well ? Severity::info : Severity::warning, "scrub_done",
         fmt::format("scrub is done: {}", what_was_found(order)));
}

/// Whether there is anything in the way of a scrub.
Checked<Unit> WalkOrders::may_scrub(ScrubMode mode) const {
    if (stage_.ending) return Refusal{"the array is being stopped", RefusalCode::stopping};
    if (options_.readonly && mode == ScrubMode::repair) {
        return Refusal{"the array is served for reading only: a scrub cannot repair"};
    }
    if (members_.lost() != 0) {
        return Refusal{fmt::format(
            "{} of {} members lost: there is nothing left to compare with. Rebuild first (braid "
            "member replace)",
            members_.lost(), members_.count())};
    }
    if (!members_.doubt().empty() && options_.readonly) {
        return Refusal{
            "the array was not stopped cleanly, or its first resync is not done: parity is not known "
            "to be true yet, and nothing is written to make it true. Serve it for writing, or say "
            "`braid check --repair`, which resyncs first"};
    }
    if (!members_.doubt().empty()) {
        return Refusal{"a resync makes parity true just now; scrub when it is done",
                       RefusalCode::busy};
    }
    if (members_.failed()) return Refusal{"the array has failed"};
    return Unit{};
}

Task<Checked<Unit>> WalkOrders::start_scrub(ScrubMode mode) {
    BRAID_CO_CHECK(may_scrub(mode));
    if (configuration_.scrub) {
        co_return Refusal{"a scrub is running already; braid scrub stop ends it",
                          RefusalCode::busy};
    }
    writer_.change(change::ScrubAt{ScrubRecord{.repair = mode == ScrubMode::repair}});
    scrub_cancelled_ = scrub_begun_ = false;
    scrub_starting_ = true;
    work_.set();
    Checked<Unit> result = Unit{};
    while (!scrub_begun_ && configuration_.scrub && result) {
        co_await scrub_event_.next();
        if (!scrub_begun_) result = may_scrub(mode);
    }
    scrub_starting_ = false;
    work_.set();  // a stop waits for us
    if (scrub_begun_) co_return Unit{};
    if (!configuration_.scrub) co_return Refusal{"the scrub was stopped before it began"};
    writer_.change(change::ScrubAt{});
    writer_.changed();
    co_return result;
}

Checked<Unit> WalkOrders::stop_scrub() {
    if (!configuration_.scrub) return Refusal{"no scrub is running"};
    scrub_cancelled_ = true;
    if (scrub_ordered_) {  // perhaps it has not begun yet, but it will
        serving_.cancel_walk();
    } else {
        writer_.change(change::ScrubAt{});
        writer_.changed();
        scrub_event_.set();
    }
    return Unit{};
}

/// Requests wait for a resync as long as one is going to pass.
void WalkOrders::set_resync_comes() {
    serving_.set_resync_comes(!resync_stuck_ && !waits_ && !writer_.is_refused());
}

}  // namespace braid
