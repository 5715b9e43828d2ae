// SPDX-License-Identifier: BSD-3-Clause
// What the array does by itself: a rebuild onto a spare, a resync, a scrub that was asked for; one
// at a time, in this order.
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/mutation.h"
#include "engine/local/array_impl.h"

namespace braid {

Task<void> ArrayImpl::run_background() {
    while (!stopping_) {
        background_event_.clear();
        co_await use_spare();
        const std::optional<WalkOrder> order = next_walk();
        if (!order) {
            if (stopping_) break;  // stop() waits for us, and rings no second time
            auto wait = background_event_.wait();
            co_await wait;
            continue;
        }
        // What is walked is durable before the walk writes.
        if (!co_await wait_durable(changes_)) continue;  // the array has failed
        if (stopping_) break;
        if (order->kind == WalkKind::scrubbing && !configuration_.scrub) continue;
        const bool waits = draining_ && must_settle();  // a stop, for a resync
        if (waits && order->kind != WalkKind::resyncing) continue;
        walk_told_bad_ = walk_told_joined_ = false;
        walk_bad_before_ = bad_bytes_size_;
        if (order->kind == WalkKind::rebuilding) {
            // When it is done one more member may be lost: by then the record is on enough.
            const Result<void> kept = co_await intent_.rewrite();
            if (!kept) {
                wait_for_members(*order, order->begin(), kept.error());
                continue;
            }
        }
        Result<void> result = co_await walker_.run(*order);
        const bool resync = order->kind == WalkKind::resyncing;
        // What it has passed is true, whatever became of a member since.
        if (resync && members_.doubt().empty()) result = Result<void>{};
        // And what was walked is durable before the configuration says so.
        const bool skips = BRAID_MUTANT(checkpoint_ahead) && order->kind == WalkKind::rebuilding;
        StripeIndex settled = first_in_doubt();
        if (result && !skips) result = co_await Requests::flush_members(context_);
        if (result && order->kind == WalkKind::rebuilding && order->losses != members_.losses()) {
            result = Error{Errc::cancelled, "walk"};  // perhaps of the very member
        }
        if (resync) {
            if (result && BRAID_MUTANT(resync_skips_last)) {
                members_.doubt().remove_before(members_.window_count());
                settled = first_in_doubt();
            }
            if (result) resync_flushed(settled);
            note_recovery();
        }
        walk_ended(walker_.order(), result);
        if (result || order->kind == WalkKind::scrubbing) changed();
    }
    background_running_ = false;
    background_event_.set();
}

/// The lost member alone has rows that it can give back. A rebuild onto another disk would give
/// them up, and nobody has ordered that.
bool ArrayImpl::is_awaited(MemberIndex member) const {
    if (!is_open_role(member) || given_up_.has(raw(member))) return false;
    return std::ranges::any_of(bad_.ranges(), [member](const BadRange& range) {
        return range.member == member && range.kind == BadKind::retry;
    });
}

std::string ArrayImpl::why_spare_waits(MemberIndex member) const {
    const std::string& path = configuration_.member(member)->path;
    const std::string spare =
        spares_.empty() ? std::string("SPARE") : spares_.back().disk->info().path;
    return fmt::format(
        "{} bytes are known to {} alone, and a rebuild onto a spare would give them up. Give that "
        "member back (braid member add {}). If it is gone for good: braid member remove {}, then "
        "braid member replace {} {} --force. The spare takes its place by itself when all of these "
        "bytes were written anew (braid volume bad)",
        bytes_to_retry(member), text_of_role(member), path.empty() ? std::string("PATH") : path,
        spare, raw(member), spare);
}

/// Gives a spare the first lost role whose member nobody has to wait for; the member that had it is
/// closed.
Task<void> ArrayImpl::use_spare() {
    if (members_busy_ || spares_.empty() || members_.failed()) co_return;
    if (options_.readonly) co_return;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const MemberIndex member{i};
        if (!is_open_role(member)) continue;
        if (is_awaited(member)) {
            if (spare_told_.has(i)) continue;
            spare_told_.add(i);
            tell(Severity::warning, "spare_waits",
                 fmt::format("no spare takes the place of member {}: {}", i,
                             why_spare_waits(member)));
            continue;
        }
        Busy guard(*this);
        co_await close_slot(member);
        while (!is_settled()) {
            if (!co_await wait_durable(changes_)) co_return;
        }
        if (members_.failed()) co_return;
        if (is_awaited(member)) co_return;  // another loss has listed rows of it
        Spare spare = std::move(spares_.back());
        spares_.pop_back();
        fill_role(member, std::move(spare));
        changed();
        co_return;
    }
}

std::optional<WalkOrder> ArrayImpl::next_walk() {
    if (members_.failed() || stopping_ || walk_waits_) return std::nullopt;
    WalkOrder order;
    order.losses = members_.losses();
    // Writes may have made true all that was in doubt: then that is all that is left to say.
    const bool doubtful =
        !members_.doubt().empty() || intent_.has_doubt() || configuration_.resynced.has_value();
    if (doubtful && !resync_stuck_ && !options_.readonly) {
        order.kind = WalkKind::resyncing;
        order.ranges = members_.doubt().ranges();
        if (order.ranges.empty()) return order;
        tell(Severity::info, "resync_started",
             intent_.has_doubt()
                 ? fmt::format("making parity true in {} stripes that were marked when the array "
                               "stopped",
                               intent_.stripes_in_doubt())
                 : std::string("making parity true"));
        return order;
    }
    const std::uint64_t end = members_.window_count();
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const MemberIndex member{i};
        if (members_.slot(member).state != MemberState::rebuilding || options_.readonly) continue;
        if (rebuild_stuck_ == member) continue;
        order.kind = WalkKind::rebuilding;
        order.member = member;
        order.ranges = {{members_.slot(member).rebuilt, end}};
        tell(Severity::info, "rebuild_started",
             fmt::format("rebuilding member {} ({}){}", i, record(member).path,
                         order.begin() == 0 ? "" : " from where it was"));
        return order;
    }
    if (members_.lost() != 0) return std::nullopt;
    const bool repairs = configuration_.scrub && configuration_.scrub->repair;
    if (configuration_.scrub && members_.doubt().empty() && !(repairs && options_.readonly)) {
        order.kind = WalkKind::scrubbing;
        order.ranges = {
            {raw(configuration_.scrub->position) * geometry_.windows_per_stripe(), end}};
        order.repair = configuration_.scrub->repair;
        order.mismatches = configuration_.scrub->mismatches;
        order.repaired = configuration_.scrub->repaired;
        wrong_told_ = 0;
        scrub_cancelled_ = false;
        tell(Severity::info, "scrub_started",
             order.repair ? "reading all stripes, repairing what is wrong" : "reading all stripes");
        return order;
    }
    return std::nullopt;
}

/// In memory at once; in the configuration only when the data is durable: keep_position().
void ArrayImpl::walk_passed(const WalkOrder& order, WindowRange passed) {
    if (order.kind == WalkKind::rebuilding) {
        members_.slot(order.member).rebuilt = passed.end;
    } else if (order.kind == WalkKind::resyncing) {
        members_.doubt().remove(passed);
        resync_event_.set();
        requests_.retry_parked();
    }
}

Task<Result<void>> ArrayImpl::keep_position() {
    const WalkOrder order = walker_.order();
    const StripeIndex stripe{walker_.position() / geometry_.windows_per_stripe()};
    const StripeIndex settled = first_in_doubt();
    if (!BRAID_MUTANT(checkpoint_ahead)) {
        BRAID_CO_CHECK(co_await Requests::flush_members(context_));
    }
    if (order.kind == WalkKind::rebuilding && order.losses != members_.losses()) {
        co_return Error{Errc::cancelled, "walk"};
    }
    switch (order.kind) {
        case WalkKind::rebuilding:
            change(change::RebuiltTo{order.member, stripe});
            break;
        case WalkKind::resyncing:
            change(change::ResyncedTo{stripe});
            resync_flushed(settled);
            break;
        case WalkKind::scrubbing:
            tell_wrong_before(walker_.position());
            if (configuration_.scrub) {
                change(change::ScrubAt{
                    ScrubRecord{stripe, order.repair, order.mismatches, order.repaired}});
            }
            break;
    }
    const std::uint64_t change = changed();
    co_return co_await wait_durable(change);
}

void ArrayImpl::walk_ended(const WalkOrder& order, const Result<void>& result) {
    resync_event_.set();
    if (!result && wait_for_members(order, walker_.position(), result.error())) return;
    walk_pause_ = {};
    walk_wait_.reset();
    if (order.kind == WalkKind::scrubbing) return scrub_ended(order, result);
    const bool rebuild = order.kind == WalkKind::rebuilding;
    const std::string what =
        rebuild ? fmt::format("rebuild of member {}", raw(order.member)) : std::string("resync");
    if (rebuild && members_.slot(order.member).state != MemberState::rebuilding) return;
    if (result) {
        if (rebuild) {
            change(change::RebuildDone{order.member});
            given_up_.remove(raw(order.member));
        } else {
            change(change::ResyncedTo{});
        }
        if (order.ranges.empty()) return;  // there was nothing to walk over
        tell(Severity::info, rebuild ? "rebuild_done" : "resync_done",
             what + " is done" + (rebuild ? "" : resync_result()));
        tell_walk_result();
        return;
    }
    if (result.error().code == Errc::cancelled || members_.failed()) return;
    if (walker_.position() != order.begin() || result.error().code == Errc::fenced) return;
    // A row that came to be in doubt: the resync is next.
    if (rebuild && result.error().code == Errc::doubt && !resync_stuck_) return;
    // No step forward: something cannot be read that would be needed.
    const std::string why = fmt::format(
        "cannot go on at stripe {}: {}. Rows there cannot be computed from the members that are "
        "left; see their read errors",
        walker_.position() / geometry_.windows_per_stripe(), result.error().text());
    if (rebuild) {
        rebuild_stuck_ = order.member;
        why_rebuild_stuck_ = why;
    } else {
        resync_stuck_ = true;
        why_resync_stuck_ = why;
        set_settles();
    }
    tell(Severity::error, rebuild ? "rebuild_stuck" : "resync_stuck",
         fmt::format("{} {}", what, why));
}

void ArrayImpl::tell_walk_result() {
    if (walk_told_bad_) {
        const std::uint64_t more = bad_bytes_size_ - std::min(bad_bytes_size_, walk_bad_before_);
        tell(Severity::warning, "walk_unknown",
             fmt::format("{} bytes more than before it cannot be known, {} in all: braid status "
                         "names them",
                         more, bad_bytes_size_));
    }
    if (members_.lost() != 0) return;
    if (bad_.empty()) {
        tell(Severity::info, "clean", "the array is clean: no member is lost");
    } else {
        tell(Severity::warning, "damaged",
             fmt::format("no member is lost, and {} bytes cannot be known", bad_bytes_size_));
    }
}

std::string ArrayImpl::why_walk_waits(const Error& error) const {
    if (error.code == Errc::full && std::string_view(error.where) == "bad rows") {
        return "the list of rows that cannot be known is full, and what lost members alone have is "
               "not joined with what was written since; bring them back, or write listed rows anew";
    }
    if (error.code == Errc::full) return "a member has no room for what it has to write";
    if (error.code == Errc::io) return "a member that is needed takes no writes";
    return fmt::format("{} answers no reads", text_of_role(walker_.unreadable()));
}

/// A walk that ended because members do not answer, or have no room, goes on later by itself.
/// Nothing was decided where it stands, before `window`.
bool ArrayImpl::wait_for_members(const WalkOrder& order, std::uint64_t window, const Error& error) {
    const bool refused = error.code == Errc::io;  // a write of what it found wrong
    if (error.code != Errc::busy && error.code != Errc::full && !refused) return false;
    if (members_.failed() || stopping_) return false;
    const std::uint64_t pause =
        walk_pause_.value == 0 ? walk_pause_first : std::min(2 * walk_pause_.value, walk_pause_max);
    const bool first = walk_pause_.value == 0;
    walk_pause_ = {pause};
    walk_waits_ = true;
    set_settles();
    const bool moved =
        !walk_wait_ || walk_wait_->window != window || walk_wait_->order.kind != order.kind;
    const Nanos since = moved ? clock_.now() : walk_wait_->since;
    walk_wait_ = WalkWait{order, window, since, error.code == Errc::busy, why_walk_waits(error)};
    if (first) {
        tell(Severity::error, "walk_waits",
             fmt::format("{} waits at stripe {}: {}. Nothing is given up for that; it is tried "
                         "again by itself",
                         text_of(order.kind), window / geometry_.windows_per_stripe(),
                         walk_wait_->why));
    }
    tasks_.spawn(end_wait(Nanos{clock_.now().value + pause}));
    return true;
}

/// What ought to run, and does not. A member that answers no reads may do so again in a moment;
/// whatever else a walk waits for takes somebody who sees to it.
std::vector<WaitStatus> ArrayImpl::waits() const {
    constexpr std::uint64_t moment_nanos = 60'000'000'000;
    std::vector<WaitStatus> all;
    if (members_.failed()) return all;
    const auto add = [&all](std::string_view what, std::optional<MemberIndex> member,
                            std::string why) {
        all.push_back({std::string(what), member, false, std::move(why)});
    };
    if (walk_waits_ && walk_wait_) {
        const WalkOrder& order = walk_wait_->order;
        std::optional<MemberIndex> member;
        if (order.kind == WalkKind::rebuilding) member = order.member;
        add(text_of(order.kind), member,
            fmt::format("stands at stripe {}: {}. It is tried again by itself",
                        walk_wait_->window / geometry_.windows_per_stripe(), walk_wait_->why));
        all.back().by_itself =
            walk_wait_->no_reads && clock_.now().value - walk_wait_->since.value < moment_nanos;
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
    for (std::uint32_t i = 0; i != members_.count() && !spares_.empty(); ++i) {
        if (is_awaited(MemberIndex{i}))
            add("spare", MemberIndex{i}, why_spare_waits(MemberIndex{i}));
    }
    return all;
}

Task<void> ArrayImpl::end_wait(Nanos until) {
    Timer timer(clock_, until);
    waiting_ = &timer;
    co_await timer;
    waiting_ = nullptr;
    walk_waits_ = false;
    set_settles();
    background_event_.set();
}

void ArrayImpl::scrub_ended(const WalkOrder& order, const Result<void>& result) {
    tell_wrong_before(members_.window_count() + 1);  // all, though it may not have come so far
    tell_more_wrong();
    WalkStatus status = walker_.status();
    status.mismatches = order.mismatches;
    status.repaired = order.repaired;
    status.seconds_left.reset();
    last_scrub_ = status;
    const bool settles = !result && result.error().code == Errc::doubt && !resync_stuck_;
    const bool stuck = !result && !settles && result.error().code != Errc::cancelled &&
                       !members_.failed() && walker_.position() == order.begin();
    if (!result && !scrub_cancelled_ && !stuck) {  // interrupted: to be gone on with
        change(change::ScrubAt{
            ScrubRecord{StripeIndex{walker_.position() / geometry_.windows_per_stripe()},
                        order.repair, order.mismatches, order.repaired}});
        return;
    }
    change(change::ScrubAt{});
    if (stuck) {
        tell(Severity::error, "scrub_stuck",
             fmt::format("scrub cannot go on at stripe {}: {}",
                         walker_.position() / geometry_.windows_per_stripe(),
                         result.error().text()));
        return;
    }
    if (scrub_cancelled_) {
        tell(Severity::info, "scrub_stopped",
             fmt::format("scrub stopped: {} rows wrong so far, {} repaired", order.mismatches,
                         order.repaired));
        return;
    }
    tell(
        order.mismatches == 0 ? Severity::info : Severity::warning, "scrub_done",
        fmt::format("scrub is done: {} rows wrong, {} repaired", order.mismatches, order.repaired));
}

void ArrayImpl::walk_mismatch(WindowPlace place, RowMask rows, RoleSet strips, std::string what) {
    WrongRows wrong;
    for (const Role role : strips) {
        wrong.members |= RoleSet::of(Role{raw(geometry_.member_of(place.stripe, role))});
    }
    wrong.what = std::move(what);
    for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
        wrong.first = members_.window_number(place) * geometry_.window_rows + row;
        wrong.count = count;
        if (const auto complete = wrong_.add(wrong)) tell_wrong(*complete);
    });
}

/// What the scrub has found and passed.
void ArrayImpl::tell_wrong_before(std::uint64_t windows) {
    for (const WrongRows& rows : wrong_.take_before(windows * geometry_.window_rows)) {
        tell_wrong(rows);
    }
}

/// The first ones by themselves, for the log; then many together. Who asked for all gets all.
void ArrayImpl::tell_wrong(const WrongRows& rows) {
    constexpr std::uint64_t told_max = 20;
    constexpr std::uint64_t together = 1000;
    if (options_.on_wrong) options_.on_wrong(text_of(rows, configuration_));
    if (wrong_told_ < told_max) {
        ++wrong_told_;
        return tell(Severity::warning, "mismatch", text_of(rows, configuration_));
    }
    if (wrong_more_runs_ == 0) wrong_more_ = rows;
    const std::uint64_t end = std::max(wrong_more_.end(), rows.end());
    wrong_more_.first = std::min(wrong_more_.first, rows.first);
    wrong_more_.count = end - wrong_more_.first;
    wrong_more_rows_ += rows.count;
    if (++wrong_more_runs_ == together) tell_more_wrong();
}

void ArrayImpl::tell_more_wrong() {
    if (wrong_more_runs_ == 0) return;
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    tell(Severity::warning, "mismatch",
         fmt::format("{} more places with {} rows, between stripe {} and stripe {}, are wrong; "
                     "`braid check` of the stopped array names them all",
                     wrong_more_runs_, wrong_more_rows_, wrong_more_.first / per_strip,
                     (wrong_more_.end() - 1) / per_strip));
    wrong_more_runs_ = wrong_more_rows_ = 0;
}

Checked<Unit> ArrayImpl::start_scrub(bool repair) {
    if (draining_) return Refusal{"the array is being stopped"};
    if (options_.readonly && repair) {
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
        return Refusal{"a resync makes parity true just now; scrub when it is done"};
    }
    if (configuration_.scrub) {
        return Refusal{"a scrub is running already; braid scrub stop ends it"};
    }
    change(change::ScrubAt{ScrubRecord{StripeIndex{}, repair, 0, 0}});
    scrub_cancelled_ = false;
    background_event_.set();
    return Unit{};
}

Checked<Unit> ArrayImpl::stop_scrub() {
    if (!configuration_.scrub) return Refusal{"no scrub is running"};
    scrub_cancelled_ = true;
    if (walker_.running() && walker_.order().kind == WalkKind::scrubbing) {
        walker_.cancel();
    } else {
        change(change::ScrubAt{});
        changed();
    }
    return Unit{};
}

}  // namespace braid
