// SPDX-License-Identifier: BSD-3-Clause
// How the configuration becomes durable. One coroutine writes it; whoever changed it waits for the
// number of the change. A new configuration holds when it is on all members that it calls in_sync;
// one that does not take it is lost in a further one.
#include <fmt/format.h>

#include <cstring>

#include "engine/array_impl.h"

#include "engine/base/os_error.h"

namespace braid {

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

Task<Result<void>> ArrayImpl::wait_durable(ArrayImpl* self, std::uint64_t change) {
    while (self->changes_durable_ < change) {
        if (self->members_.failed()) co_return Error{Errc::failed, "configuration"};
        self->durable_event_.clear();
        auto durable = self->durable_event_.wait();
        co_await durable;
    }
    co_return Result<void>{};
}

Task<Result<void>> ArrayImpl::wait_losses_durable(ArrayImpl* self) {
    while (self->members_.losses_durable() != self->members_.losses()) {
        if (self->members_.failed()) co_return Error{Errc::failed, "array"};
        self->durable_event_.clear();
        auto durable = self->durable_event_.wait();
        co_await durable;
    }
    co_return Result<void>{};
}

Task<void> ArrayImpl::write_configurations(ArrayImpl* self) {
    while (!self->stopped_) {
        auto change = self->changed_event_.wait();
        co_await change;
        self->changed_event_.clear();
        while (self->changes_durable_ != self->changes_ && !self->members_.failed()) {
            const std::uint64_t change_now = self->changes_;
            const std::uint64_t losses_now = self->losses_seen_;
            const bool held = co_await write_one_configuration(self);
            if (!held || self->members_.failed()) continue;  // a member was lost on the way: again
            self->changes_durable_ = change_now;
            self->intent_.set_epoch(self->configuration_.epoch);
            self->members_.set_losses_durable(losses_now);
            self->durable_event_.set();
        }
        self->durable_event_.set();  // also when it failed: nobody waits for ever
    }
}

namespace {

struct Written {
    std::optional<MemberIndex> role;  // none: a spare
    Result<void> result;
};

Task<void> write_member(Disk* disk, const Configuration* configuration, MemberMetadata* metadata,
                        std::uint64_t wall_seconds, Written* written) {
    written->result = co_await write_member_metadata(*disk, configuration, metadata, wall_seconds);
}

}  // namespace

/// True if every member that takes part holds it.
Task<bool> ArrayImpl::write_one_configuration(ArrayImpl* self) {
    std::vector<const MemberMetadata*> held;
    for (std::uint32_t i = 0; i != self->members_.count(); ++i) {
        if (self->members_.slot(MemberIndex{i}).disk) held.push_back(&self->metadata_[i]);
    }
    for (const Spare& spare : self->spares_) held.push_back(&spare.metadata);
    braid::advance(self->configuration_, held);
    const Configuration now = self->configuration_;  // it may change while it is written
    const std::uint64_t wall = self->clock_.wall_seconds();
    std::deque<Written> written;  // their addresses stay
    TaskGroup writers(self->ready_);
    for (std::uint32_t i = 0; i != self->members_.count(); ++i) {
        auto& slot = self->members_.slot(MemberIndex{i});
        if (slot.state != MemberState::in_sync && slot.state != MemberState::rebuilding) continue;
        Written& entry = written.emplace_back(Written{MemberIndex{i}, {}});
        writers.spawn(
            write_member(slot.disk.get(), &now, &self->metadata_[i], wall, &entry));
    }
    for (Spare& spare : self->spares_) {
        Written& entry = written.emplace_back();
        writers.spawn(write_member(spare.disk.get(), &now, &spare.metadata, wall, &entry));
    }
    self->writing_ = true;
    auto joined = writers.join();
    co_await joined;
    self->writing_ = false;
    bool held_by_all = true;
    for (const Written& entry : written) {
        if (entry.result || !entry.role) continue;  // a spare that fails is found when it is used
        held_by_all = false;
        self->lose(*entry.role, MemberState::faulty,
                   fmt::format("its metadata could not be written: {}",
                               os_error_text(entry.result.error().os_error)));
    }
    co_return held_by_all;
}

/// Takes a member out of the array: at once in memory, durably as soon as the others hold it.
void ArrayImpl::lose(MemberIndex member, MemberState state, const std::string& why) {
    auto& slot = members_.slot(member);
    if (slot.state != MemberState::in_sync && slot.state != MemberState::rebuilding) return;
    const bool was_rebuilding = slot.state == MemberState::rebuilding;
    const std::string path = slot.disk ? slot.disk->info().path : "";
    members_.set_state(member, state);
    tell(Severity::error, "member_failed",
         fmt::format("member {} ({}) failed: {}", raw(member), path, why));
    if (members_.failed()) {
        // The members keep the last configuration that worked: what they hold by it is true.
        tell_failed();
        return;
    }
    record(member).state = state;
    record(member).rebuilt = {};
    if (!list_doubt()) return;
    if (!was_rebuilding) {
        tell(Severity::warning, "degraded",
             fmt::format("the array is degraded: {} of {} members lost, every byte can still be "
                         "computed", members_.lost(), members_.count()));
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

void ArrayImpl::write_failed(MemberIndex member, int os_error) {
    lose(member, MemberState::faulty, fmt::format("a write failed: {}", os_error_text(os_error)));
}

void ArrayImpl::read_failed(MemberIndex member, int os_error) {
    const MemberState state = members_.slot(member).state;
    if (state != MemberState::in_sync && state != MemberState::rebuilding) return;
    MemberRecord& at = record(member);
    ++at.read_errors;
    if (at.read_errors == 1 || at.read_errors % 10 == 0) {
        tell(Severity::warning, "read_error",
             fmt::format("member {} ({}): a read failed ({}); answered from the others and "
                         "rewritten, {} so far", raw(member), at.path, os_error_text(os_error),
                         at.read_errors));
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
    lose(member, MemberState::faulty,
         fmt::format("{} read errors in a short time, more than {}", slot.read_errors,
                     read_errors_max));
}

}  // namespace braid
