// SPDX-License-Identifier: BSD-3-Clause
// How the configuration comes into force (engine/layout/register.h). One coroutine writes it;
// whoever changed it waits for the number of the change. What changes nobody's part is a revision
// of our own epoch; everything else takes a new one. A member that does not promise, or does not
// take it, is lost in a further one; or it is kept, and then all is tried again
// (array_suspend.cpp).
#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/local/array_impl.h"

namespace braid {

void ArrayImpl::change(const Change& what) {
    const Configuration before = std::exchange(configuration_, apply(configuration_, what));
    adopt(before);
}

/// What memory holds beside the configuration follows from it here, and nowhere else. A member that
/// was lost is out of use before the configuration says so; nothing but a change of its record
/// brings it back.
void ArrayImpl::adopt(const Configuration& before) {
    for (const MemberRecord& at : configuration_.members) {
        if (!at.role) continue;
        const MemberRecord* last = before.member(*at.role);
        if (last->uuid != at.uuid || last->state != at.state) adopt_state(at);
    }
    if (before.bad_rows != configuration_.bad_rows) adopt_bad_rows();
}

void ArrayImpl::adopt_state(const MemberRecord& at) {
    auto& slot = members_.slot(*at.role);
    slot.rebuilt = raw(at.rebuilt) * geometry_.windows_per_stripe();
    if (slot.state != at.state) members_.set_state(*at.role, at.state);
}

std::uint64_t ArrayImpl::changed() {
    if (options_.readonly) {  // nothing is written, so nothing is waited for
        members_.set_losses_durable(members_.losses());
        return changes_;
    }
    ++changes_;
    losses_seen_ = members_.losses();
    changed_event_.set();
    return changes_;
}

Task<Result<void>> ArrayImpl::wait_for_writer(std::optional<std::uint64_t> change,
                                              std::uint64_t refusals_max) {
    while (change ? changes_durable_ < *change : members_.owes()) {
        if (members_.failed()) {
            co_return Error{Errc::failed, change ? "configuration" : "array"};
        }
        if (refusals_ >= refusals_max) co_return refusal_;
        durable_event_.clear();
        auto durable = durable_event_.wait();
        co_await durable;
    }
    co_return Result<void>{};
}

Task<void> ArrayImpl::write_configurations() {
    while (!stopped_) {
        auto change = changed_event_.wait();
        co_await change;
        changed_event_.clear();
        while (changes_durable_ != changes_ && !members_.failed() && !stopped_) {
            const std::uint64_t change_now = changes_;
            const std::uint64_t losses_now = losses_seen_;
            const std::uint64_t refusals = refusals_;
            const bool holds = co_await bring_into_force();
            if (members_.failed()) continue;
            if (!holds) {  // a member was lost on the way, or refuses: again, with a new epoch
                own_epoch_ = 0;
                if (refusals_ != refusals) co_await wait_for_suspended();
                continue;
            }
            changes_durable_ = change_now;
            intent_.set_epoch(configuration_.version.epoch);
            members_.set_losses_durable(losses_now);
            if (owed_ <= change_now) members_.set_owing(false);
            end_suspensions();
            durable_event_.set();
        }
        durable_event_.set();  // also when it failed: nobody waits for ever
    }
}

namespace {

Task<void> keep_result(Task<Result<void>> task, Result<void>* result) { *result = co_await task; }

}  // namespace

/// The way into force of what is wanted now, or of the next revision of what is.
Proposal ArrayImpl::propose_next() {
    const MemberSet members = configuration_.taking_part();
    if (own_epoch_ != 0 && own_epoch_ == in_force_.version.epoch &&
        same_parts(configuration_, in_force_)) {
        return Proposal::of_revision(in_force_.version, members);
    }
    own_epoch_ = 0;  // the next one's, once it is in force
    epoch_seen_ = next_epoch(epoch_seen_, clock_.wall_seconds(), 0);
    return Proposal::of_epoch(epoch_seen_, members, in_force_.version);
}

/// True if every member that takes part holds it. It may change in memory meanwhile: what was
/// wanted at the beginning is written. From the first step to the last no disk is closed: a member
/// that is lost between two of them is still one of those that the proposal is for.
Task<bool> ArrayImpl::bring_into_force() {
    const Writing writing(*this);
    Proposal proposal = propose_next();
    Configuration now = configuration_;
    while (proposal.step() != Proposal::Step::in_force) {
        if (proposal.step() == Proposal::Step::failed) co_return false;
        if (proposal.step() == Proposal::Step::announce && BRAID_MUTANT(not_announced)) break;
        if (proposal.step() != Proposal::Step::promise) {
            now.version = proposal.version();
            now.in_force = proposal.in_force();
            now.events += 2;
        }
        co_await do_step(&proposal, &now);
    }
    own_epoch_ = proposal.epoch();
    configuration_.version = now.version;
    configuration_.in_force = now.in_force;
    configuration_.events = now.events;
    in_force_ = now;
    co_await write_spares();
    co_return true;
}

/// One step, at all members that it is for. Who fails is lost, or suspended.
Task<void> ArrayImpl::do_step(Proposal* proposal, const Configuration* now) {
    const std::uint64_t wall = clock_.wall_seconds();
    const bool promises = proposal->step() == Proposal::Step::promise;
    const MemberSet members = proposal->pending();
    std::vector<Result<void>> results(members_.count());
    TaskGroup writers(ready_);
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (!members.has(i)) continue;
        Disk& disk = *members_.slot(MemberIndex{i}).disk;
        MemberMetadata* metadata = &metadata_[i];
        writers.spawn(
            keep_result(promises ? promise_member(disk, metadata, now->array, proposal->epoch())
                                 : write_member_metadata(disk, now, metadata, wall),
                        &results[i]));
    }
    auto joined = writers.join();
    co_await joined;
    bool refused = false;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (!members.has(i)) continue;
        if (results[i]) {
            proposal->done(i);
            continue;
        }
        const MemberIndex member{i};
        const Error& error = results[i].error();
        proposal->failed(i);
        if (is_kept(member, error)) {
            refused = true;
            suspend(member, error);
            continue;
        }
        lose(member, MemberState::faulty,
             fmt::format("its metadata could not be written: {}",
                         error.os_error != 0 ? os_error_text(error.os_error)
                                             : std::string(text_of(error.code))));
    }
    if (refused) ++refusals_;
}

/// After those that take part. One that fails is found when it is used.
Task<void> ArrayImpl::write_spares() {
    const std::uint64_t wall = clock_.wall_seconds();
    std::deque<Result<void>> results;  // their addresses stay
    TaskGroup writers(ready_);
    for (Spare& spare : spares_) {
        if (in_force_.member(spare.metadata.uuid) == nullptr) continue;  // added just now
        writers.spawn(
            keep_result(write_member_metadata(*spare.disk, &in_force_, &spare.metadata, wall),
                        &results.emplace_back()));
    }
    auto joined = writers.join();
    co_await joined;
}

/// Takes a member out of the array: at once in memory, durably as soon as the others hold it.
void ArrayImpl::lose(MemberIndex member, MemberState state, const std::string& why) {
    auto& slot = members_.slot(member);
    if (!takes_part(slot.state)) return;
    const bool was_rebuilding = slot.state == MemberState::rebuilding;
    const std::string path = slot.disk ? slot.disk->info().path : "";
    const bool was_enough = members_.is_enough();  // else it was started by force
    members_.set_state(member, state);
    slot.suspended.reset();
    why_lost_[raw(member)] = why;
    tell(Severity::error, "member_failed",
         fmt::format("member {} ({}) failed: {}", raw(member), path, why));
    if (was_enough && !members_.failed() && !members_.is_enough()) {
        members_.halt();
        tell(Severity::error, "stopped",
             fmt::format("the array has stopped: of RAID-{} with {} members, {} hold a "
                         "configuration only if member 0, which breaks ties, is among them. "
                         "Nothing is lost: stop it, bring a member back, and start it again; if "
                         "they are gone, start it with force",
                         static_cast<int>(configuration_.level), members_.count(),
                         geometry_.data_count()));
    }
    if (members_.failed()) {
        // The members keep the last configuration that worked: what they hold by it is true.
        tell_failed();
        return;
    }
    change(change::Lost{member, state, metadata_[raw(member)].reg.held});
    tasks_.spawn(let_go(member));
    MemberSet left_now;
    left_now.add(raw(member));
    if (!list_doubt(left_now)) return;
    if (!was_rebuilding) {
        const std::string rest =
            bad_.empty() ? std::string("every byte can still be computed")
                         : fmt::format(
                               "every byte can still be computed, but for {} that cannot be "
                               "known",
                               bad_bytes_size_);
        tell(Severity::warning, "degraded",
             fmt::format("the array is degraded: {} of {} members lost, {}", members_.lost(),
                         members_.count(), rest));
    }
    changed();
    background_event_.set();
}

/// Nobody waits any more for what cannot come.
void ArrayImpl::tell_failed() {
    if (!failed_told_ && members_.lost() > geometry_.parities()) {
        tell(Severity::error, "failed",
             fmt::format("{} members are lost, more than RAID-{} can do without: writes are "
                         "refused, and reads of what is lost. Stop it, bring members back, and "
                         "start it again",
                         members_.lost(), static_cast<int>(configuration_.level)));
    }
    failed_told_ = true;
    durable_event_.set();
    resync_event_.set();
    intent_.array_failed();
    requests_.retry_parked();
}

/// Whether the level cannot do without the member.
bool ArrayImpl::is_needed(MemberIndex member) const {
    return members_.slot(member).state == MemberState::in_sync &&
           (members_.lost() >= geometry_.parities() || !members_.is_enough_without(member));
}

/// Nothing is written any more. What can be read still is.
void ArrayImpl::stop_writing(const std::string& why) {
    members_.halt();
    walker_.cancel();
    tell(Severity::error, "stopped", "the array has stopped: " + why);
    tell_failed();
}

/// What a flush did not make durable may be gone, whatever a later one says. On a member that is
/// needed nothing stands in for it: no flush is acknowledged any more, and no mark goes, so that
/// the next start asks for what was written since the last one.
void ArrayImpl::write_failed(MemberIndex member, int os_error) {
    if (!is_needed(member)) {
        return lose(member, MemberState::faulty,
                    fmt::format("a write failed: {}", os_error_text(os_error)));
    }
    if (members_.failed()) return;
    stop_writing(fmt::format(
        "{} is needed, {} of {} members are lost already, and a flush of it failed ({}). What was "
        "written since the last flush may not be durable; reads go on. See to the member, then "
        "stop the array and start it again",
        text_of_role(member), members_.lost(), members_.count(), os_error_text(os_error)));
}

void ArrayImpl::read_failed(MemberIndex member, int os_error) {
    const MemberState state = members_.slot(member).state;
    if (!takes_part(state)) return;
    change(change::ReadError{member});
    const MemberRecord& at = record(member);
    if (at.read_errors == 1 || at.read_errors % 10 == 0) {
        tell(Severity::warning, "read_error",
             fmt::format("member {} ({}): a read failed ({}), {} so far; what can be computed from "
                         "the others is answered from them, and rewritten",
                         raw(member), at.path, os_error_text(os_error), at.read_errors));
    }
    // As md does it: a member that has many at once is failing; one a month is a disk's age.
    constexpr std::uint64_t hour = 3'600'000'000'000;
    auto& slot = members_.slot(member);
    const std::uint64_t now = clock_.now().value;
    if (slot.read_errors == 0) slot.read_errors_since = {now};
    while (slot.read_errors != 0 && now - slot.read_errors_since.value >= hour) {
        slot.read_errors /= 2;
        slot.read_errors_since.value += hour;
    }
    if (slot.read_errors == 0) slot.read_errors_since = {now};
    if (++slot.read_errors <= read_errors_max || members_.lost() >= geometry_.parities()) return;
    if (state == MemberState::in_sync && !members_.is_enough_without(member)) return;
    if (cost_of_loss(member) != 0) return;  // what is in doubt, or to be tried again, needs it
    lose(member, MemberState::faulty,
         fmt::format("{} read errors in a short time, more than {}", slot.read_errors,
                     read_errors_max));
}

}  // namespace braid
