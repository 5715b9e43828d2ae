// SPDX-License-Identifier: BSD-3-Clause
// What operators do with members: fail, remove, add, replace.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/deciding/member_names.h"
#include "engine/local/array_impl.h"

namespace braid {

std::string ArrayImpl::text_of_role(MemberIndex member) const {
    const MemberRecord& at = *configuration_.member(member);
    return at.path.empty() ? fmt::format("member {}", raw(member))
                           : fmt::format("member {} ({})", raw(member), at.path);
}

/// The record that `name` means, by its place in the configuration.
Checked<std::size_t> ArrayImpl::find_record(const std::string& name) const {
    std::vector<NamedMember> members;
    for (const MemberRecord& at : configuration_.members) {
        members.push_back({&at, is_in_use(at), false});
    }
    const auto found = find_by_name(members, name);
    if (!found) return Refusal{found.error().text};
    return *found;
}

/// The role that `name` means; nullopt if it names a spare.
Checked<std::optional<MemberIndex>> ArrayImpl::find_role(const std::string& name) const {
    BRAID_TRY(const std::size_t at, find_record(name));
    return configuration_.members[at].role;
}

ArrayImpl::Spare* ArrayImpl::find_spare(const Uuid& uuid) {
    const auto found =
        std::ranges::find(spares_, uuid, [](const Spare& spare) { return spare.metadata.uuid; });
    return found == spares_.end() ? nullptr : &*found;
}

/// The disk of a record, while it is open.
const Disk* ArrayImpl::disk_of(const MemberRecord& at) const {
    if (at.role) return members_.slot(*at.role).disk.get();
    const auto spare =
        std::ranges::find(spares_, at.uuid, [](const Spare& one) { return one.metadata.uuid; });
    return spare == spares_.end() ? nullptr : spare->disk.get();
}

/// It is open and has a part to play.
bool ArrayImpl::is_in_use(const MemberRecord& at) const {
    if (disk_of(at) == nullptr) return false;
    return !at.role || !is_open_role(*at.role);
}

/// Waits until nobody uses the member's disk any more, and closes it. Its state is set before.
Task<void> ArrayImpl::close_slot(MemberIndex member) {
    auto& slot = members_.slot(member);
    while (slot.in_flight != 0 || slot.gate.has_readers() || writing_) {
        Timer timer(clock_, Nanos{clock_.now().value + 1'000'000});
        co_await timer;
    }
    slot.disk.reset();
    members_.refresh();
}

/// A lost member's disk is closed when nobody uses it any more: then it can be pulled, and the next
/// one have its name, or come back itself.
Task<void> ArrayImpl::let_go(MemberIndex member) {
    auto& slot = members_.slot(member);
    const Disk* const disk = slot.disk.get();
    while (!stopped_ && slot.state == MemberState::faulty && slot.disk.get() == disk) {
        if (slot.in_flight == 0 && !slot.gate.has_readers() && !writing_) {
            slot.disk.reset();
            members_.refresh();
            co_return;
        }
        Timer timer(clock_, Nanos{clock_.now().value + 10'000'000});
        co_await timer;
    }
}

namespace {

Refusal is_member_already(const std::string& path, const MemberRecord& at, std::string_view why) {
    const std::string what = at.role ? fmt::format("member {}", raw(*at.role)) : "a spare";
    return Refusal{fmt::format("{} is a member of this array already: {} ({}), {}; {}", path, what,
                               at.path, text_of(at.state), why)};
}

}  // namespace

/// An order that was not carried out for that; of a member that is kept, its name.
Refusal ArrayImpl::not_durable(const Error& error) {
    const bool kept =
        error.code == Errc::io || error.code == Errc::full;  // a member that is needed
    return Refusal{fmt::format("the new configuration could not be written: {}",
                               kept ? error.where : text_of(error.code))};
}

Checked<Unit> ArrayImpl::may_command() const {
    if (draining_) return Refusal{"the array is being stopped"};
    if (members_busy_) {
        return Refusal{"another command on members is running; try again when it is done"};
    }
    if (options_.readonly) return Refusal{"the array is served for reading only"};
    return Unit{};
}

/// Whether the member may be failed by order.
Checked<Unit> ArrayImpl::may_fail(MemberIndex role, bool force) const {
    const MemberState state = members_.slot(role).state;
    if (is_open_role(role)) {
        return Refusal{fmt::format("{} is {} already", text_of_role(role), text_of(state))};
    }
    const bool counts = state == MemberState::in_sync;
    if (counts && members_.lost() < geometry_.parities() && !members_.is_enough_without(role)) {
        return Refusal{fmt::format(
            "{} is needed: RAID-{} of {} goes on with {} members only if member 0, which breaks "
            "ties, is among them. Rebuild a lost member first",
            text_of_role(role), static_cast<int>(configuration_.level), members_.count(),
            geometry_.data_count())};
    }
    if (counts && members_.lost() >= geometry_.parities()) {
        return Refusal{fmt::format(
            "{} is needed: {} of {} members are lost already, and RAID-{} can do without {}. "
            "Failing it would make data unreadable. Rebuild a lost member first",
            text_of_role(role), members_.lost(), members_.count(),
            static_cast<int>(configuration_.level), geometry_.parities())};
    }
    const std::uint64_t cost = cost_of_loss(role);
    if (cost == 0 || force || BRAID_MUTANT(order_not_refused)) return Unit{};
    return Refusal{fmt::format(
        "without {} up to {} bytes could not be known: parity of them is in doubt, until the resync "
        "has made it true (braid status shows how far it is), or they can be read again. Wait for "
        "that; with --force they are given up",
        text_of_role(role), cost)};
}

Task<Checked<Unit>> ArrayImpl::run_fail(std::string name, bool force) {
    BRAID_CO_CHECK(may_command());
    Busy guard(*this);
    co_return co_await fail_now(std::move(name), force);
}

Task<Checked<Unit>> ArrayImpl::fail_now(std::string name, bool force) {
    BRAID_CO_TRY(const std::optional<MemberIndex> role, find_role(name));
    if (!role) {
        co_return Refusal{fmt::format("{} is a spare; braid member remove takes it out", name)};
    }
    BRAID_CO_CHECK(may_fail(*role, force));
    lose(*role, MemberState::faulty, "an operator said so");
    const Result<void> durable = co_await wait_patiently(changes_);
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// Open, or only remembered.
Task<Checked<Unit>> ArrayImpl::remove_spare(Uuid uuid) {
    change(change::SpareRemoved{uuid});
    Spare gone;  // kept until the configuration without it holds, so that it is not used twice
    if (Spare* spare = find_spare(uuid); spare != nullptr) {
        gone = std::move(*spare);
        spares_.erase(spares_.begin() + (spare - spares_.data()));
        tell(Severity::info, "member_removed",
             fmt::format("spare {} removed", gone.disk->info().path));
    }
    const Result<void> durable = co_await wait_patiently(changed());
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

Task<Checked<Unit>> ArrayImpl::run_remove(std::string name) {
    BRAID_CO_CHECK(may_command());
    Busy guard(*this);
    BRAID_CO_TRY(const std::size_t found, find_record(name));
    const std::optional<MemberIndex> role = configuration_.members[found].role;
    const Uuid uuid = configuration_.members[found].uuid;
    while (!is_settled()) {
        const auto settled = co_await wait_patiently(changes_);
        if (!settled) co_return not_durable(settled.error());
    }
    if (members_.failed()) co_return not_durable({Errc::failed, "array"});
    if (!role) co_return co_await remove_spare(uuid);
    const MemberState state = members_.slot(*role).state;
    if (takes_part(state)) {
        co_return Refusal{fmt::format(
            "{} is {}; fail it first (braid member fail {}), or put another in its place (braid "
            "member replace {} PATH)",
            text_of_role(*role), text_of(state), raw(*role), raw(*role))};
    }
    co_await close_slot(*role);
    tell(Severity::info, "member_removed", fmt::format("{} removed", text_of_role(*role)));
    change(change::Removed{*role});
    why_lost_[raw(*role)] = "an operator removed it";
    const Result<void> durable = co_await wait_patiently(changed());
    background_event_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// Makes `spare` the member of a lost role, to be rebuilt from the first stripe on.
void ArrayImpl::fill_role(MemberIndex member, Spare spare) {
    auto& slot = members_.slot(member);
    BRAID_REQUIRE(!slot.disk);
    const Uuid uuid = spare.metadata.uuid;
    slot.disk = std::move(spare.disk);
    slot.data_offset = configuration_.member(uuid)->data_offset;
    slot.kept = 0;
    slot.whole = false;
    slot.io = {};
    slot.read_errors = 0;
    slot.changes = slot.flushed = 0;
    why_lost_[raw(member)].clear();
    // By force: what is still listed for the role nobody can give back from now on.
    spare_told_.remove(raw(member));
    given_up_.add(raw(member));
    metadata_[raw(member)] = std::move(spare.metadata);
    change(change::RoleFilled{member, uuid});
    if (rebuild_stuck_ == member) rebuild_stuck_.reset();
    tell(Severity::info, "member_added",
         fmt::format("{} takes the role of member {}", record(member).path, raw(member)));
    background_event_.set();
}

/// The record of a disk that is to join; refuses one that is too small or in use here already.
Checked<MemberRecord> ArrayImpl::plan_record(const Disk& disk) {
    MemberRecord joining;
    joining.uuid = Uuid::random(rng_);
    joining.state = MemberState::spare;
    joining.size = disk.info().size;
    joining.path = disk.info().path;
    joining.dev_number = free_dev_number(configuration_);
    for (const MemberRecord& at : configuration_.members) {
        joining.data_offset = std::max(joining.data_offset, at.data_offset);
        const Disk* other = disk_of(at);
        if (other != nullptr && is_in_use(at) &&
            other->info().identity.overlaps(disk.info().identity)) {
            return is_member_already(joining.path, at, "they are the same bytes");
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

/// Whether what is written to `member` appears on `disk`: it is the same one, by another name or
/// another cable. The configuration that is written anew is the probe.
Task<Checked<bool>> ArrayImpl::is_same_disk(Disk* disk) {
    Buffer before(row_size);
    Buffer after(row_size);
    auto read = co_await read_disk(*disk, md_superblock_offset, before.span());
    if (read) {
        const auto durable = co_await wait_patiently(changed());
        if (!durable) co_return not_durable(durable.error());
        read = co_await read_disk(*disk, md_superblock_offset, after.span());
    }
    if (!read) {
        co_return Refusal{fmt::format("{}: cannot be read: {}", disk->info().path,
                                      os_error_text(read.error().os_error))};
    }
    co_return !(before == after);
}

/// A disk whose metadata names a member that is in use is that one, or a copy of it: the copy may
/// be forced.
Task<Checked<Unit>> ArrayImpl::tell_from_members(Disk* disk, bool force) {
    BRAID_CO_TRY(const std::vector<Uuid> traces, co_await find_traces(*disk, configuration_.array));
    std::optional<MemberRecord> known;
    for (const MemberRecord& at : configuration_.members) {
        const bool named = std::ranges::find(traces, at.uuid) != traces.end();
        if (named && at.uuid != Uuid{} && is_in_use(at)) known = at;
    }
    if (!known) co_return Unit{};
    BRAID_CO_TRY(const bool same, co_await is_same_disk(disk));
    if (same) {
        co_return is_member_already(disk->info().path, *known,
                                    "what is written to the one is read from the other");
    }
    const std::string role = known->role ? std::to_string(raw(*known->role)) : "spare";
    if (!force) {
        co_return refuse_content(
            *disk, fmt::format("a copy of member {} ({}), which is in use", role, known->path));
    }
    BRAID_CO_CHECK(co_await try_write(*disk));
    const auto wiped = co_await wipe_ends(*disk, front_of(configuration_));
    if (wiped) co_return Unit{};
    co_return Refusal{fmt::format("{}: cannot be written: {}", disk->info().path,
                                  os_error_text(wiped.error().os_error))};
}

/// All that can speak against a disk is found out, and the disk made ready, before anything is
/// given up for it.
Task<Checked<NewMember>> ArrayImpl::prepare(Disk* disk, Uuid uuid, bool force) {
    while (!is_settled()) {
        const auto settled = co_await wait_patiently(changes_);
        if (!settled) co_return not_durable(settled.error());
    }
    BRAID_CO_CHECK(co_await tell_from_members(disk, force));
    if (members_.failed()) co_return nothing_to_rebuild_from();
    co_return co_await prepare_new_member(*disk, uuid, configuration_, any_metadata(), force);
}

/// Whether one more record fits, where no role waits for a member.
Checked<Unit> ArrayImpl::check_spares() const {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (is_open_role(MemberIndex{i})) return Unit{};
    }
    if (configuration_.members.size() < configuration_.member_count + spares_max) return Unit{};
    const auto here = spares_.size();
    return Refusal{fmt::format(
        "there are {} spares already, and no more can be held{}", spares_max,
        here == spares_max ? std::string{}
                           : fmt::format("; {} of them are not here: braid member remove UUID "
                                         "forgets one",
                                         spares_max - here))};
}

Refusal ArrayImpl::nothing_to_rebuild_from() {
    return Refusal{
        "the array has failed: there is nothing to rebuild a member from. Stop it, bring "
        "lost members back, and start it again"};
}

Task<Checked<Unit>> ArrayImpl::run_add(std::unique_ptr<Disk> disk, bool force) {
    BRAID_CO_CHECK(may_command());
    Busy guard(*this);
    if (members_.failed()) co_return nothing_to_rebuild_from();
    BRAID_CO_CHECK(check_spares());
    BRAID_CO_TRY(MemberRecord joining, plan_record(*disk));
    BRAID_CO_TRY(NewMember fresh, co_await prepare(disk.get(), joining.uuid, force));
    // A member of this array that was away comes back to its own role, if that is still empty.
    std::optional<MemberIndex> role;
    if (fresh.before) {
        if (const auto* own = configuration_.member(*fresh.before)) role = own->role;
    }
    if (role && !is_open_role(*role)) role.reset();
    if (!role) role = first_open_role();
    if (role) BRAID_CO_CHECK(co_await heal_from(disk.get(), *role, &fresh, force));
    Spare spare{std::move(disk), std::move(fresh.metadata)};
    co_return co_await join(std::move(spare), std::move(joining), role);
}

std::optional<MemberIndex> ArrayImpl::first_open_role() const {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (is_open_role(MemberIndex{i})) return MemberIndex{i};
    }
    return std::nullopt;
}

/// Takes the new member in: into `role`, or into the first that is open, or as a spare.
Task<Checked<Unit>> ArrayImpl::join(Spare spare, MemberRecord joining,
                                    std::optional<MemberIndex> role) {
    if (role && !is_open_role(*role)) role.reset();
    if (!role) role = first_open_role();
    if (role) co_await close_slot(*role);
    while (!is_settled()) {
        const auto settled = co_await wait_patiently(changes_);
        if (!settled) co_return not_durable(settled.error());
    }
    if (members_.failed()) co_return not_durable({Errc::failed, "array"});
    change(change::SpareAdded{joining});
    if (role) {
        fill_role(*role, std::move(spare));
    } else {
        tell(Severity::info, "member_added", fmt::format("{} is a spare", joining.path));
        spares_.push_back(std::move(spare));
    }
    const Result<void> durable = co_await wait_patiently(changed());
    background_event_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// The new disk was looked at, written to and made empty before the old one is given up: whatever
/// is refused leaves the old one where it is.
Task<Checked<Unit>> ArrayImpl::run_replace(std::string name, std::unique_ptr<Disk> disk,
                                           bool force) {
    BRAID_CO_CHECK(may_command());
    Busy guard(*this);
    BRAID_CO_TRY(const std::optional<MemberIndex> role, find_role(name));
    if (!role) {
        co_return Refusal{fmt::format("{} is a spare: remove it and add another", name)};
    }
    if (members_.failed()) co_return nothing_to_rebuild_from();
    if (!is_open_role(*role)) BRAID_CO_CHECK(may_fail(*role, force));
    BRAID_CO_TRY(MemberRecord joining, plan_record(*disk));
    BRAID_CO_TRY(NewMember fresh, co_await prepare(disk.get(), joining.uuid, force));
    if (is_open_role(*role)) {
        BRAID_CO_CHECK(co_await heal_from(disk.get(), *role, &fresh, force));
    }
    // It may have been lost by itself meanwhile.
    if (!is_open_role(*role)) {
        BRAID_CO_CHECK(co_await fail_now(std::to_string(raw(*role)), force));
    }
    Spare spare{std::move(disk), std::move(fresh.metadata)};
    co_return co_await join(std::move(spare), std::move(joining), role);
}

}  // namespace braid
