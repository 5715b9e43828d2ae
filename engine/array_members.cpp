// SPDX-License-Identifier: BSD-3-Clause
// What operators do with members: fail, remove, add, replace.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "engine/array_impl.h"

namespace braid {

std::string ArrayImpl::text_of_role(MemberIndex member) const {
    const MemberRecord& at = *configuration_.member(member);
    return at.path.empty() ? fmt::format("member {}", raw(member))
                           : fmt::format("member {} ({})", raw(member), at.path);
}

std::string ArrayImpl::names() const {
    std::string text;
    for (const MemberRecord& at : configuration_.members) {
        if (!text.empty()) text += ", ";
        text += at.role ? fmt::format("{}", raw(*at.role)) : std::string("spare");
        if (!at.path.empty()) text += fmt::format(" ({})", at.path);
    }
    return text;
}

/// The role that `name` means; nullopt if it names a spare.
Checked<std::optional<MemberIndex>> ArrayImpl::find_role(const std::string& name) const {
    std::uint32_t number = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool is_number = parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size();
    const auto uuid = Uuid::parse(name);
    for (const MemberRecord& at : configuration_.members) {
        const bool by_number = is_number && at.role && raw(*at.role) == number;
        const bool by_uuid = uuid && at.uuid == *uuid;
        if (by_number || by_uuid || (!name.empty() && at.path == name)) return at.role;
    }
    return Refusal{fmt::format("no member is called \"{}\"; there are: {}", name, names())};
}

ArrayImpl::Spare* ArrayImpl::find_spare(const std::string& name) {
    const auto uuid = Uuid::parse(name);
    for (Spare& spare : spares_) {
        if (spare.disk->info().path == name || (uuid && spare.metadata.uuid == *uuid)) return &spare;
    }
    return nullptr;
}

/// Waits until nobody uses the member's disk any more, and closes it. Its state is set before.
Task<void> ArrayImpl::close_slot(ArrayImpl* self, MemberIndex member) {
    auto& slot = self->members_.slot(member);
    while (slot.in_flight != 0 || slot.gate.has_readers() || self->writing_) {
        Timer timer(self->clock_, Nanos{self->clock_.now().value + 1'000'000});
        co_await timer;
    }
    slot.disk.reset();
    self->members_.refresh();
}

namespace {

Refusal not_durable(const Error& error) {
    return Refusal{fmt::format("the new configuration could not be written: {}",
                               text_of(error.code))};
}

}  // namespace

Checked<Unit> ArrayImpl::may_command() const {
    if (draining_) return Refusal{"the array is being stopped"};
    if (members_busy_) {
        return Refusal{"another command on members is running; try again when it is done"};
    }
    if (options_.readonly) return Refusal{"the array is served for reading only"};
    return Unit{};
}

Task<Checked<Unit>> ArrayImpl::run_fail(ArrayImpl* self, std::string name) {
    BRAID_CO_CHECK(self->may_command());
    Busy guard(*self);
    co_return co_await fail_now(self, std::move(name));
}

Task<Checked<Unit>> ArrayImpl::fail_now(ArrayImpl* self, std::string name) {
    BRAID_CO_TRY(const std::optional<MemberIndex> role, self->find_role(name));
    if (!role) {
        co_return Refusal{fmt::format("{} is a spare; braid member remove takes it out", name)};
    }
    const auto& slot = self->members_.slot(*role);
    if (slot.state != MemberState::in_sync && slot.state != MemberState::rebuilding) {
        co_return Refusal{fmt::format("{} is {} already", self->text_of_role(*role),
                                      text_of(slot.state))};
    }
    const bool counts = slot.state == MemberState::in_sync;
    if (counts && self->members_.lost() < self->geometry_.parities() &&
        !self->members_.is_enough_without(*role)) {
        co_return Refusal{fmt::format(
            "{} is needed: RAID-{} of {} goes on with {} members only if member 0, which breaks "
            "ties, is among them. Rebuild a lost member first",
            self->text_of_role(*role), static_cast<int>(self->configuration_.level),
            self->members_.count(), self->geometry_.data_count())};
    }
    if (counts && self->members_.lost() >= self->geometry_.parities()) {
        co_return Refusal{fmt::format(
            "{} is needed: {} of {} members are lost already, and RAID-{} can do without {}. "
            "Failing it would make data unreadable. Rebuild a lost member first",
            self->text_of_role(*role), self->members_.lost(), self->members_.count(),
            static_cast<int>(self->configuration_.level), self->geometry_.parities())};
    }
    self->lose(*role, MemberState::faulty, "an operator said so");
    const Result<void> durable = co_await wait_durable(self, self->changes_);
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

Task<Checked<Unit>> ArrayImpl::run_remove(ArrayImpl* self, std::string name) {
    BRAID_CO_CHECK(self->may_command());
    Busy guard(*self);
    BRAID_CO_TRY(const std::optional<MemberIndex> role, self->find_role(name));
    while (!self->is_settled()) {
        const auto settled = co_await wait_durable(self, self->changes_);
        if (!settled) co_return not_durable(settled.error());
    }
    if (!role) {
        Spare* spare = self->find_spare(name);
        if (spare != nullptr) {
            std::erase_if(self->configuration_.members,
                          [&](const MemberRecord& at) { return at.uuid == spare->metadata.uuid; });
            // Kept until the configuration without it holds, so that it is not used twice.
            const Spare gone = std::move(*spare);
            self->spares_.erase(self->spares_.begin() + (spare - self->spares_.data()));
            self->tell(Severity::info, "member_removed",
                       fmt::format("spare {} removed", gone.disk->info().path));
            const Result<void> durable = co_await wait_durable(self, self->changed());
            if (!durable) co_return not_durable(durable.error());
            co_return Unit{};
        }
        const auto uuid = Uuid::parse(name);
        std::erase_if(self->configuration_.members, [&](const MemberRecord& at) {
            return !at.role && (at.path == name || (uuid && at.uuid == *uuid));
        });
        const Result<void> durable = co_await wait_durable(self, self->changed());
        if (!durable) co_return not_durable(durable.error());
        co_return Unit{};
    }
    const MemberState state = self->members_.slot(*role).state;
    if (state == MemberState::in_sync || state == MemberState::rebuilding) {
        co_return Refusal{fmt::format(
            "{} is {}; fail it first (braid member fail {}), or put another in its place (braid "
            "member replace {} PATH)", self->text_of_role(*role), text_of(state), raw(*role),
            raw(*role))};
    }
    co_await close_slot(self, *role);
    self->tell(Severity::info, "member_removed",
               fmt::format("{} removed", self->text_of_role(*role)));
    self->members_.set_state(*role, MemberState::missing);
    self->record(*role).state = MemberState::missing;
    self->record(*role).path.clear();
    const Result<void> durable = co_await wait_durable(self, self->changed());
    self->background_event_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// Makes `spare` the member of a lost role, to be rebuilt from the first stripe on.
void ArrayImpl::fill_role(MemberIndex member, Spare spare) {
    auto& slot = members_.slot(member);
    BRAID_REQUIRE(!slot.disk);
    MemberRecord joining = *configuration_.member(spare.metadata.uuid);  // copied, then moved
    std::erase_if(configuration_.members, [&](const MemberRecord& at) {
        return at.uuid == joining.uuid;
    });
    joining.role = member;
    joining.state = MemberState::rebuilding;
    joining.rebuilt = {};
    record(member) = joining;
    slot.disk = std::move(spare.disk);
    slot.data_offset = joining.data_offset;
    slot.rebuilt = 0;
    slot.io = {};
    slot.read_errors = 0;
    slot.changes = slot.flushed = 0;
    metadata_[raw(member)] = std::move(spare.metadata);
    members_.set_state(member, MemberState::rebuilding);
    if (rebuild_stuck_ == member) rebuild_stuck_.reset();
    tell(Severity::info, "member_added", fmt::format("{} takes the role of member {}",
                                                     joining.path, raw(member)));
    background_event_.set();
}

/// The record of a disk that is to join, in place of `role` if that is given; refuses one that is
/// too small or here already.
Checked<MemberRecord> ArrayImpl::plan_record(const Disk& disk, std::optional<MemberIndex> role) {
    MemberRecord joining;
    joining.uuid = Uuid::random(rng_);
    joining.state = MemberState::spare;
    joining.size = disk.info().size;
    joining.path = disk.info().path;
    joining.dev_number = free_dev_number(configuration_);
    for (const MemberRecord& at : configuration_.members) {
        joining.data_offset = std::max(joining.data_offset, at.data_offset);
        const bool open = at.state == MemberState::in_sync ||
                          at.state == MemberState::rebuilding || at.state == MemberState::spare;
        const bool replaced = role && at.role == role;
        if (open && !replaced && at.path == joining.path) {
            return Refusal{fmt::format("{} is a member already ({})", at.path, text_of(at.state))};
        }
    }
    const std::uint64_t needed =
        joining.data_offset + configuration_.stripes * configuration_.strip_size;
    if (joining.size < needed) {
        return Refusal{fmt::format("{} has {} bytes; a member of this array needs at least {}",
                                   joining.path, joining.size, needed)};
    }
    return joining;
}

bool ArrayImpl::is_open_role(MemberIndex member) const {
    const MemberState state = members_.slot(member).state;
    return state == MemberState::missing || state == MemberState::faulty;
}

/// A sibling whose metadata a new member's is made like.
const MemberMetadata& ArrayImpl::any_metadata() const {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (members_.slot(MemberIndex{i}).state == MemberState::in_sync) return metadata_[i];
    }
    BRAID_REQUIRE(false);  // a failed array takes no members
    return metadata_.front();
}

Task<Checked<Unit>> ArrayImpl::run_add(ArrayImpl* self, std::unique_ptr<Disk> disk,
                                       std::optional<MemberIndex> role, bool force) {
    BRAID_CO_CHECK(self->may_command());
    Busy guard(*self);
    co_return co_await add_now(self, std::move(disk), role, force);
}

Task<Checked<Unit>> ArrayImpl::add_now(ArrayImpl* self, std::unique_ptr<Disk> disk,
                                       std::optional<MemberIndex> role, bool force) {
    if (self->members_.failed()) {
        co_return Refusal{"the array has failed: there is nothing to rebuild a member from. Stop "
                          "it, bring lost members back, and start it again"};
    }
    if (self->spares_.size() == spares_max) {
        co_return Refusal{fmt::format("there are {} spares already, and no more can be held",
                                      spares_max)};
    }
    BRAID_CO_TRY(MemberRecord joining, self->plan_record(*disk, role));
    while (!self->is_settled()) {
        const auto settled = co_await wait_durable(self, self->changes_);
        if (!settled) co_return not_durable(settled.error());
    }
    BRAID_CO_TRY(NewMember prepared,
                 co_await prepare_new_member(*disk, joining.uuid, self->configuration_,
                                             self->any_metadata(), force));
    // A member of this array that was away comes back to its own role, if that is still empty.
    if (!role && prepared.before) {
        if (const auto* own = self->configuration_.member(*prepared.before)) role = own->role;
    }
    if (role && !self->is_open_role(*role)) role.reset();
    for (std::uint32_t i = 0; !role && i != self->members_.count(); ++i) {
        if (self->is_open_role(MemberIndex{i})) role = MemberIndex{i};
    }
    if (role) co_await close_slot(self, *role);
    while (!self->is_settled()) {
        const auto settled = co_await wait_durable(self, self->changes_);
        if (!settled) co_return not_durable(settled.error());
    }
    if (self->members_.failed()) co_return not_durable({Errc::failed, "array"});
    self->configuration_.members.push_back(joining);
    Spare spare{std::move(disk), std::move(prepared.metadata)};
    if (role) {
        self->fill_role(*role, std::move(spare));
    } else {
        self->tell(Severity::info, "member_added", fmt::format("{} is a spare", joining.path));
        self->spares_.push_back(std::move(spare));
    }
    const Result<void> durable = co_await wait_durable(self, self->changed());
    self->background_event_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

Task<Checked<Unit>> ArrayImpl::run_replace(ArrayImpl* self, std::string name,
                                           std::unique_ptr<Disk> disk, bool force) {
    BRAID_CO_CHECK(self->may_command());
    Busy guard(*self);
    BRAID_CO_TRY(const std::optional<MemberIndex> role, self->find_role(name));
    if (!role) {
        co_return Refusal{fmt::format("{} is a spare: remove it and add another", name)};
    }
    BRAID_CO_CHECK(self->plan_record(*disk, role));  // before the old one is failed
    const MemberState state = self->members_.slot(*role).state;
    if (state == MemberState::in_sync || state == MemberState::rebuilding) {
        BRAID_CO_CHECK(co_await fail_now(self, name));
    }
    co_return co_await add_now(self, std::move(disk), role, force);
}

}  // namespace braid
