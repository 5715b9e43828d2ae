// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/member_orders.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/deciding/losses.h"
#include "engine/deciding/member_names.h"
#include "engine/deciding/walk_orders.h"
#include "parity/require.h"

namespace braid {
namespace {

Refusal is_member_already(const std::string& path, const MemberRecord& at, std::string_view why) {
    return Refusal{fmt::format("{}; {}", member_already(path, at), why)};
}

/// The disk was a member once, and is no copy of what it was as it left, but what came of it elsewhere.
bool went_on_elsewhere(const Configuration& configuration, const NewMember& fresh) {
    if (!fresh.before || !fresh.took_part) return false;
    const Uuid& lineage = fresh.took_part->lineage;
    // One that was taken in there is not known here.
    const bool is_known = configuration.member(*fresh.before) != nullptr;
    if (!is_known) return lineage != Uuid{} && lineage != configuration.lineage;
    return has_another_history(configuration, *fresh.before, lineage, fresh.took_part->in_force);
}

/// An order that was not carried out for that; of a member that is kept, its name.
Refusal not_durable(const Error& error) {
    const bool kept =
        error.code == Errc::io || error.code == Errc::full;  // a member that is needed
    return Refusal{fmt::format("the new configuration could not be written: {}",
                               kept ? error.where : text_of(error.code)),
                   RefusalCode::io};
}

Refusal role_not_free(const std::string& path, MemberIndex role) {
    return Refusal{
        fmt::format(
            "{}: it cannot have the place of member {} yet: a node still waits for what it has asked of "
            "the disk that had it before, or for writes to another disk that was lost. Try again "
            "when these have answered; pull a disk that does not",
            path, raw(role)),
        RefusalCode::busy};
}

Refusal nothing_to_rebuild_from() {
    return Refusal{
        "the array has failed: there is nothing to rebuild a member from. Stop it, bring "
        "lost members back, and start it again"};
}

}  // namespace

MemberOrders::MemberOrders(const DecidingContext& context, Parts parts)
    : DecidingPart(context),
      writer_(parts.writer),
      roster_(parts.roster),
      losses_(parts.losses),
      unknown_(parts.unknown),
      walks_(parts.walks),
      rng_(context.options.seed) {}

Checked<Unit> MemberOrders::may_order() const {
    if (stage_.ending) return Refusal{"the array is being stopped", RefusalCode::stopping};
    if (busy_) {
        return Refusal{"another command on members is running; try again when it is done",
                       RefusalCode::busy};
    }
    if (options_.readonly) return Refusal{"the array is served for reading only"};
    return may_change_roles();
}

/// A member that is lost in memory alone has its role until nodes have agreed on who serves.
Checked<Unit> MemberOrders::may_change_roles() const {
    if (losses_are_recorded()) return Unit{};
    return Refusal{"nodes are just agreeing on who serves; try again in a moment",
                   RefusalCode::busy};
}

/// Whether the member may be failed by order.
Checked<Unit> MemberOrders::may_fail(MemberIndex role, Force force) const {
    const MemberState state = members_.slot(role).state;
    if (roster_.is_lost_role(role)) {
        return Refusal{fmt::format("{} is {} already", roster_.text_of_role(role), text_of(state))};
    }
    const bool counts = state == MemberState::in_sync;
    if (counts && members_.lost() < geometry_.parities() && !members_.is_enough_without(role)) {
        return Refusal{fmt::format(
            "{} is needed: RAID-{} of {} goes on with {} members only if {}. Rebuild a lost member first",
            roster_.text_of_role(role), static_cast<int>(configuration_.level), members_.count(),
            geometry_.data_count(), text_of_tie(configuration_))};
    }
    if (counts && members_.lost() >= geometry_.parities()) {
        return Refusal{fmt::format(
            "{} is needed: {} of {} members are lost already, and RAID-{} can do without {}. "
            "Failing it would make data unreadable. Rebuild a lost member first",
            roster_.text_of_role(role), members_.lost(), members_.count(),
            static_cast<int>(configuration_.level), geometry_.parities())};
    }
    const std::uint64_t cost = unknown_.cost_of_loss(role);
    if (cost == 0 || force == Force::yes || BRAID_MUTANT(order_not_refused)) return Unit{};
    return Refusal{fmt::format(
        "without {} up to {} bytes could not be known: parity of them is in doubt, until the resync "
        "has made it true (braid status shows how far it is), or they can be read again. Wait for "
        "that; with --force they are given up",
        roster_.text_of_role(role), cost)};
}

Task<Checked<Unit>> MemberOrders::fail(MemberName name, Force force) {
    BRAID_CO_CHECK(may_order());
    const Busy guard(*this);
    co_return co_await fail_now(std::move(name), force);
}

Task<Checked<Unit>> MemberOrders::fail_now(MemberName name, Force force) {
    BRAID_CO_TRY(const std::optional<MemberIndex> role, roster_.find_role(name));
    if (!role) {
        if (is_witness(name)) co_return has_no_data(name);
        co_return Refusal{
            fmt::format("{} is a spare; braid member remove takes it out", name.text)};
    }
    BRAID_CO_CHECK(may_fail(*role, force));
    losses_.lose(*role, MemberState::faulty, "an operator said so");
    const Result<void> durable = co_await writer_.wait_patiently(writer_.changes());
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// Until members and spares may be moved.
Task<Checked<Unit>> MemberOrders::wait_written() {
    while (!writer_.is_written()) {
        const auto written = co_await writer_.wait_patiently(writer_.changes());
        if (!written) co_return not_durable(written.error());
    }
    co_return may_change_roles();
}

/// Open, or only remembered.
Task<Checked<Unit>> MemberOrders::remove_spare(Uuid uuid) {
    if (const Spare* spare = roster_.find_spare(uuid); spare != nullptr && spare->silent) {
        co_return Refusal{
            fmt::format("{} has not answered what was written to it: pull it, or wait, "
                        "and remove it then",
                        spare->disk->info().path),
            RefusalCode::busy};
    }
    writer_.change(change::SpareRemoved{uuid});
    Spare gone;  // kept until the configuration without it holds, so that it is not used twice
    if (const Spare* spare = roster_.find_spare(uuid); spare != nullptr) {
        gone = roster_.take_spare(*spare);
        tell(Severity::info, "member_removed",
             fmt::format("spare {} removed", gone.disk->info().path));
    }
    const Result<void> durable = co_await writer_.propose();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

Task<Checked<Unit>> MemberOrders::remove(MemberName name) {
    BRAID_CO_CHECK(may_order());
    const Busy guard(*this);
    BRAID_CO_TRY(const std::size_t found, roster_.find_record(name));
    const std::optional<MemberIndex> role = configuration_.members[found].role;
    const Uuid uuid = configuration_.members[found].uuid;
    BRAID_CO_CHECK(co_await wait_written());
    if (members_.failed()) co_return not_durable({Errc::failed, "array"});
    if (!role && is_witness(name)) co_return has_no_data(name);
    if (!role) co_return co_await remove_spare(uuid);
    const MemberState state = members_.slot(*role).state;
    if (takes_part(state)) {
        co_return Refusal{fmt::format(
            "{} is {}; fail it first (braid member fail {}), or put another in its place (braid "
            "member replace {} PATH)",
            roster_.text_of_role(*role), text_of(state), raw(*role), raw(*role))};
    }
    co_await roster_.close_slot(*role);
    BRAID_CO_CHECK(may_change_roles());
    tell(Severity::info, "member_removed", fmt::format("{} removed", roster_.text_of_role(*role)));
    roster_.set_why_lost(*role, "an operator removed it");
    const Result<void> durable = co_await writer_.propose(change::Removed{*role});
    work_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

void MemberOrders::fill_role(MemberIndex member, Spare spare) {
    BRAID_REQUIRE(roster_.is_lost_role(member));
    const Uuid uuid = spare.metadata.uuid;
    roster_.fill_role(member, std::move(spare), configuration_.member(uuid)->area());
    writer_.change(change::RoleFilled{member, uuid});
    role_filled(member, {});
}

/// @param how  for people: "", or ": …"
void MemberOrders::role_filled(MemberIndex member, const std::string& how) {
    replaced_.remove(member);
    walks_.role_filled(member);
    tell(Severity::info, "rebuild_received",
         fmt::format("{} takes the role of member {}{}", record(member).path, raw(member), how));
}

/// The record of a disk that is to join; refuses one that is too small or in use here already.
Checked<MemberRecord> MemberOrders::plan_record(const Disk& disk) {
    MemberRecord joining;
    joining.uuid = new_uuid();
    joining.state = MemberState::spare;
    joining.size = disk.info().size;
    joining.path = disk.info().path;
    joining.home = serving_.home_of(disk);
    joining.dev_number = free_dev_number(configuration_);
    for (const MemberRecord& at : configuration_.members) {
        joining.data_offset = std::max(joining.data_offset, at.data_offset);
        const Disk* other = roster_.disk_of(at);
        if (other != nullptr && roster_.is_in_use(at) &&
            other->info().identity.overlaps(disk.info().identity)) {
            return is_member_already(joining.path, at, "they are the same bytes");
        }
    }
    const std::uint64_t needed = configuration_.end_on(joining);
    if (joining.size < needed) {
        return Refusal{fmt::format("{} has {} bytes; a member of this array needs at least {}",
                                   joining.path, joining.size, needed)};
    }
    return joining;
}

/// Whether what is written to `member` appears on `disk`: it is the same one, by another name or
/// another cable. The configuration that is written anew is the probe.
Task<Checked<bool>> MemberOrders::is_same_disk(Disk* disk) {
    Buffer before(row_size);
    Buffer after(row_size);
    auto read = co_await read_disk(*disk, md_superblock_offset, before.span());
    if (read) {
        const auto durable = co_await writer_.propose();
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
Task<Checked<Unit>> MemberOrders::tell_from_members(Disk* disk, Force force) {
    BRAID_CO_TRY(const std::vector<Uuid> traces, co_await find_traces(*disk, configuration_.array));
    std::optional<MemberRecord> known;
    for (const MemberRecord& at : configuration_.members) {
        const bool named = std::ranges::find(traces, at.uuid) != traces.end();
        if (named && at.uuid != Uuid{} && roster_.is_in_use(at)) known = at;
    }
    if (!known) co_return Unit{};
    BRAID_CO_TRY(const bool same, co_await is_same_disk(disk));
    if (same) {
        co_return is_member_already(disk->info().path, *known,
                                    "what is written to the one is read from the other");
    }
    const std::string role = known->role ? std::to_string(raw(*known->role)) : "spare";
    if (force == Force::no) {
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
Task<Checked<NewMember>> MemberOrders::prepare(Disk* disk, Uuid uuid, Force force) {
    BRAID_CO_CHECK(co_await wait_written());
    BRAID_CO_CHECK(co_await tell_from_members(disk, force));
    if (members_.failed()) co_return nothing_to_rebuild_from();
    BRAID_CO_TRY(NewMember fresh, co_await prepare_new_member(*disk, uuid, configuration_,
                                                              roster_.any_metadata(), force));
    if (force == Force::no && went_on_elsewhere(configuration_, fresh)) {
        co_return Refusal{fmt::format(
            "{} went on without this array, which went on without it: one of them was started by force. "
            "What was written there would be lost: stop this server, and start one with that disk and "
            "those that went on with it, to look at it; or give it up with --force",
            disk->info().path)};
    }
    co_return std::move(fresh);
}

/// Whether one more record fits, where no role waits for a member.
Checked<Unit> MemberOrders::check_spares() const {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (roster_.is_lost_role(MemberIndex{i})) return Unit{};
    }
    if (configuration_.members.size() < configuration_.member_count + spares_max) return Unit{};
    const auto here = roster_.spares().size();
    return Refusal{fmt::format(
        "there are {} spares already, and no more can be held{}", spares_max,
        here == spares_max ? std::string{}
                           : fmt::format("; {} of them are not here: braid member remove UUID "
                                         "forgets one",
                                         spares_max - here))};
}

bool MemberOrders::is_witness(const MemberName& name) const {
    const auto found = roster_.find_record(name);
    return found && configuration_.members[*found].state == MemberState::witness;
}

Refusal MemberOrders::has_no_data(const MemberName& name) const {
    return Refusal{fmt::format(
        "{} is the witness, which breaks ties and has no data: it stays what it is", name.text)};
}

/// The disk is the witness, which was not here: it goes on being it, with what it has promised.
/// @return  false: it is another disk, and still there
Task<Checked<bool>> MemberOrders::take_witness_back(std::unique_ptr<Disk>* disk) {
    if (configuration_.witness() == nullptr || roster_.can_ask_witness()) co_return false;
    const MemberRecord record = *configuration_.witness();
    if (!roster_.is_witness_quiet()) {
        co_return Refusal{"what was asked of the witness has not ended yet; try again in a moment",
                          RefusalCode::busy};
    }
    const MemberImage image = co_await read_member_image(**disk);
    const MemberFindings findings = inspect(image);
    const ConfigSlot* const slot = findings.slot();
    const bool is_it = slot != nullptr && findings.superblock && slot->member == record.uuid &&
                       slot->configuration.array == configuration_.array;
    if (!is_it) co_return false;
    const std::string path = (*disk)->info().path;
    if (findings.hindrance || findings.promise_hindrance) {
        const auto& why = findings.hindrance ? findings.hindrance : findings.promise_hindrance;
        co_return Refusal{fmt::format("{}: {}", path, why->text)};
    }
    if (serving_.home_of(**disk) != record.home) {
        co_return Refusal{fmt::format(
            "{} is the witness, which was at node {}: leases count on that until all nodes have been "
            "stopped. Give it back to that node, or start all anew",
            path, record.home)};
    }
    writer_.note_seen(std::max(findings.promise.epoch, slot->configuration.version.epoch));
    Spare witness{std::move(*disk), metadata_of(image, findings)};
    roster_.take_witness(std::move(witness));
    tell(Severity::info, "witness_back", fmt::format("the witness ({}) is back", path));
    writer_.changed();  // it hears what holds
    work_.set();
    co_return true;
}

Task<Checked<Unit>> MemberOrders::add(std::unique_ptr<Disk> disk, Force force) {
    BRAID_CO_CHECK(may_order());
    const Busy guard(*this);
    if (members_.failed()) co_return nothing_to_rebuild_from();
    BRAID_CO_TRY(const bool is_back, co_await take_witness_back(&disk));
    if (is_back) co_return Unit{};
    BRAID_CO_CHECK(check_spares());
    BRAID_CO_TRY(MemberRecord joining, plan_record(*disk));
    BRAID_CO_TRY(NewMember fresh, co_await prepare(disk.get(), joining.uuid, force));
    // A member of this array that was away comes back to its own role, if that is still empty.
    std::optional<MemberIndex> role;
    if (fresh.before) role = role_of_former(*fresh.before);
    if (role) {
        BRAID_CO_TRY(const bool is_free, co_await free_role(*role, &joining, &fresh));
        if (!is_free) role.reset();
    }
    if (!role) role = roster_.first_lost_role();
    if (role) BRAID_CO_CHECK(co_await heal_from(disk.get(), *role, &fresh, force));
    co_return co_await join_prepared(std::move(disk), std::move(joining), role, std::move(fresh));
}

Task<Checked<Unit>> MemberOrders::join_prepared(std::unique_ptr<Disk> disk, MemberRecord joining,
                                                std::optional<MemberIndex> role, NewMember fresh) {
    if (!role || !is_its_last(*role, fresh)) fresh.took_part.reset();
    Spare spare{std::move(disk), std::move(fresh.metadata)};
    co_return co_await join(std::move(spare), std::move(joining), role, std::move(fresh.took_part));
}

/// The role that the disk had as this member, of this array.
std::optional<MemberIndex> MemberOrders::role_of_former(const Uuid& member) const {
    const MemberRecord* const own = configuration_.member(member);
    return own != nullptr ? own->role : members_.absence().displaced_role(member);
}

/// To the member that had it before another disk; nobody has ordered that it is anything else.
Task<Checked<Unit>> MemberOrders::give_role_back(MemberIndex role, std::unique_ptr<Disk> disk) {
    if (members_.failed()) co_return nothing_to_rebuild_from();
    BRAID_CO_TRY(MemberRecord joining, plan_record(*disk));
    BRAID_CO_TRY(NewMember fresh, co_await prepare(disk.get(), joining.uuid, Force::no));
    bool is_free = false;
    if (fresh.before && is_displaced(role, *fresh.before)) {
        BRAID_CO_TRY(is_free, co_await free_role(role, &joining, &fresh));
    }
    if (!is_free) {
        co_return Refusal{
            "another disk has its place by now; braid member add takes it as any other disk"};
    }
    BRAID_CO_CHECK(co_await heal_from(disk.get(), role, &fresh, Force::no));
    co_return co_await join_prepared(std::move(disk), std::move(joining), role, std::move(fresh));
}

/// What it misses that had the role has been noted, though another disk has the role now.
bool MemberOrders::is_displaced(MemberIndex role, const Uuid& member) const {
    return members_.absence().displaced_role(member) == role;
}

/// Another disk is being rebuilt in its role, by itself and not by order, and is not half done. Nothing is
/// lost with what was rebuilt so far.
bool MemberOrders::may_have_back(MemberIndex role, const MemberRecord& joining,
                                 const NewMember& prepared) const {
    const MemberRecord& now = record(role);
    if (now.state != MemberState::rebuilding || members_.slot(role).state != now.state)
        return false;
    if (!is_displaced(role, *prepared.before) || !is_its_last(role, prepared)) return false;
    if (!members_.absence().displaced(role)->away || replaced_.has(role)) return false;
    if (!may_return(role, joining, prepared.took_part)) return false;
    if (configuration_.members.size() >= configuration_.member_count + spares_max) return false;
    const bool is_young = 2 * raw(members_.slot(role).rebuilt) < raw(geometry_.window_end());
    return is_young && unknown_.cost_of_loss(role) == 0;
}

/// For the member that had it, which is back: it is lost, or the disk that is being rebuilt in it lacks more,
/// and is a spare again.
Task<Checked<bool>> MemberOrders::free_role(MemberIndex role, MemberRecord* joining,
                                            const NewMember* prepared) {
    if (roster_.is_lost_role(role)) co_return true;
    if (!may_have_back(role, *joining, *prepared)) co_return false;
    Checked<ReturningMember> back = returning(role, *prepared->took_part);
    if (!back) co_return false;
    const Checked<std::uint64_t> missed = co_await serving_.windows_missed(std::move(*back));
    if (!missed && missed.error().code == RefusalCode::busy) co_return missed.error();
    if (!missed || !may_have_back(role, *joining, *prepared)) co_return false;
    // From here until the rebuild has ended nobody else goes on.
    const std::uint64_t end = raw(geometry_.window_end());
    const std::uint64_t done = raw(members_.slot(role).rebuilt);
    if (*missed >= end - done) co_return false;
    const MemberRecord now = record(role);
    const Uuid spare = new_uuid();
    losses_.end_rebuild(role, spare, "the member that it had been is back");
    tell(Severity::info, "rebuild_ended",
         fmt::format(
             "{}, which was member {}, is back, and lacks less than {}, which was rebuilt to {} % "
             "in its place: that is a spare again",
             joining->path, raw(role), now.path, 100 * done / end));
    joining->dev_number = free_dev_number(configuration_);
    co_await roster_.make_spare(role, spare, now.area());
    const Result<void> durable = co_await writer_.propose();
    if (!durable) co_return not_durable(durable.error());
    co_return true;
}

/// What is in the way of a member for which a rebuild was ended is over soon: before, both would lack all.
/// False: it has been waited for long enough.
Task<bool> MemberOrders::wait_for(MemberIndex role, std::uint32_t* tries) {
    constexpr std::uint32_t tries_max = 50;
    const bool is_empty = record(role).uuid == Uuid{} && roster_.is_lost_role(role);
    if (!is_empty || stage_.ending || ++*tries > tries_max) co_return false;
    Timer until_it_is_tried_again(clock_, {clock_.now().value + 100'000'000});
    co_await until_it_is_tried_again;
    co_return !stage_.ending;
}

/// Takes the new member in: into `role`, or into the first that is open, or as a spare.
/// @param before  it had that role last, and holds what it held of it then
Task<Checked<Unit>> MemberOrders::join(Spare spare, MemberRecord joining,
                                       std::optional<MemberIndex> role,
                                       std::optional<NewMember::TookPart> before) {
    if (role && !roster_.is_lost_role(*role)) role.reset(), before.reset();
    if (!role) role = roster_.first_lost_role();
    if (role) {
        co_await roster_.close_slot(*role);
        Result<void> ready = co_await serving_.prepare(*role, *spare.disk, joining.area());
        for (std::uint32_t tries = 0; !ready && before;) {
            if (!co_await wait_for(*role, &tries)) break;
            ready = co_await serving_.prepare(*role, *spare.disk, joining.area());
        }
        if (!ready) co_return role_not_free(joining.path, *role);
    }
    BRAID_CO_CHECK(co_await wait_written());
    if (members_.failed()) co_return not_durable({Errc::failed, "array"});
    if (!serving_.is_there(*spare.disk)) {
        co_return Refusal{fmt::format("{}: its node is gone", joining.path)};
    }
    if (role) {
        co_return co_await take_role(*role, std::move(spare), joining, std::move(before));
    }
    writer_.change(change::SpareAdded{joining});
    tell(Severity::info, "member_added", fmt::format("{} is a spare", joining.path));
    roster_.spares().push_back(std::move(spare));
    const Result<void> durable = co_await writer_.propose();
    work_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// Everything is ready. Who was away, and misses only what is known, is made true there alone.
Task<Checked<Unit>> MemberOrders::take_role(MemberIndex role, Spare spare,
                                            const MemberRecord& joining,
                                            std::optional<NewMember::TookPart> before) {
    std::string how;
    bool returns = false;
    if (before) {
        Checked<Unit> may = may_return(role, joining, before);
        Checked<ReturningMember> back = returning(role, *before);
        if (may && !back) may = back.error();
        if (may) {
            Checked<std::uint64_t> windows = co_await serving_.begin_return(*back);
            for (std::uint32_t tries = 0; !windows;) {
                if (!co_await wait_for(role, &tries)) break;
                windows = co_await serving_.begin_return(*back);
            }
            returns = windows.has_value();
            if (!returns && windows.error().code == RefusalCode::busy) co_return windows.error();
            if (!returns) may = windows.error();
            if (returns) {
                how = fmt::format(", and is back: it missed {} bytes",
                                  *windows * geometry_.window_size());
            }
        }
        if (!returns) how = fmt::format(", and is rebuilt whole: {}", may.error().text);
    }
    // Nodes may have agreed on something else meanwhile.
    Checked<Unit> ready = may_change_roles();
    if (ready && members_.failed()) ready = not_durable({Errc::failed, "array"});
    if (ready && !serving_.is_there(*spare.disk)) {
        ready = Refusal{fmt::format("{}: its node is gone", joining.path), RefusalCode::busy};
    }
    if (ready && !(roster_.is_lost_role(role) && writer_.is_written())) {
        ready = Refusal{"members have just changed; try again", RefusalCode::busy};
    }
    if (!ready) {
        if (returns) serving_.end_return();
        co_return ready.error();
    }
    roster_.fill_role(role, std::move(spare), joining.area());
    writer_.change(change::RoleTaken{role, joining});
    role_filled(role, how);
    const Result<void> durable = co_await writer_.propose();
    if (returns) serving_.end_return();
    work_.set();
    if (!durable) co_return not_durable(durable.error());
    co_return Unit{};
}

/// Why it cannot be known what it missed, as far as that can be told here.
Checked<Unit> MemberOrders::may_return(MemberIndex role, const MemberRecord& joining,
                                       const std::optional<NewMember::TookPart>& before) const {
    BRAID_REQUIRE(before.has_value());
    // Every start that could write to it has begun an epoch of its own, also one by force, elsewhere.
    const EpochRevision* const left = left_of(role, before->member);
    if (left == nullptr || before->version.epoch != left->epoch) {
        return Refusal{"it holds a configuration that was made after it left, or just then"};
    }
    if (before->lineage != configuration_.lineage) {
        return Refusal{"the array was started by force since it left"};
    }
    if (before->area.begin != joining.area().begin) {
        return Refusal{"its data begins elsewhere than that of a new member"};
    }
    const bool is_listed = std::ranges::any_of(
        configuration_.bad_rows, [role](const BadRange& range) { return range.member == role; });
    if (is_listed) return Refusal{"rows of it are on the list of those that cannot be known"};
    return Unit{};
}

Checked<ReturningMember> MemberOrders::returning(MemberIndex role,
                                                 const NewMember::TookPart& before) const {
    ReturningMember back;
    back.member = role;
    if (is_displaced(role, before.member)) back.displaced = before.member;
    back.was_in_sync = before.state == MemberState::in_sync;
    bool fits = true;
    for (const IntentRecord& record : before.records) {
        std::uint64_t& newest = back.records[record.node];
        newest = std::max(newest, record.generation);
    }
    for (const IntentRecord& record : before.records) {
        // What an older one names, and the newest does not, was flushed.
        if (record.generation != back.records[record.node]) continue;
        for (const IntentEntry& at : record.entries) {
            fits &= back.marked.add(geometry_.windows_of(at.first, at.end()));
        }
    }
    if (fits) return back;
    return Refusal{"its record of the write intent names more than the map has room for"};
}

/// The new disk was looked at, written to and made empty before the old one is given up: whatever
/// is refused leaves the old one where it is.
Task<Checked<Unit>> MemberOrders::replace(MemberName name, std::unique_ptr<Disk> disk,
                                          Force force) {
    BRAID_CO_CHECK(may_order());
    const Busy guard(*this);
    if (const Result<Uuid> uuid = Uuid::parse(name.text); uuid) {
        const std::optional<MemberIndex> former = members_.absence().displaced_role(*uuid);
        if (former) co_return co_await give_role_back(*former, std::move(disk));
    }
    BRAID_CO_TRY(const std::optional<MemberIndex> role, roster_.find_role(name));
    if (!role) {
        if (is_witness(name)) co_return has_no_data(name);
        co_return Refusal{fmt::format("{} is a spare: remove it and add another", name.text)};
    }
    if (members_.failed()) co_return nothing_to_rebuild_from();
    if (!roster_.is_lost_role(*role)) BRAID_CO_CHECK(may_fail(*role, force));
    BRAID_CO_TRY(MemberRecord joining, plan_record(*disk));
    BRAID_CO_TRY(NewMember fresh, co_await prepare(disk.get(), joining.uuid, force));
    if (roster_.is_lost_role(*role)) {
        BRAID_CO_CHECK(co_await heal_from(disk.get(), *role, &fresh, force));
    }
    // It may have been lost by itself meanwhile.
    if (!roster_.is_lost_role(*role)) {
        MemberName old(std::to_string(raw(*role)));
        BRAID_CO_CHECK(co_await fail_now(std::move(old), force));
    }
    BRAID_CO_CHECK(
        co_await join_prepared(std::move(disk), std::move(joining), role, std::move(fresh)));
    replaced_.add(*role);
    co_return Unit{};
}

/// What the member held, at least, as it left the role; null: it had it not last, or not as far as is known.
const EpochRevision* MemberOrders::left_of(MemberIndex role, const Uuid& member) const {
    if (is_displaced(role, member)) return &members_.absence().displaced(role)->left;
    const MemberRecord& last = record(role);
    return last.uuid == member ? &last.left : nullptr;
}

/// Whether `prepared` is the member that had the role, and holds what it held as it left.
bool MemberOrders::is_its_last(MemberIndex role, const NewMember& prepared) const {
    if (!prepared.before || !prepared.took_part) return false;
    const EpochRevision* const left = left_of(role, *prepared.before);
    return left != nullptr && prepared.took_part->version >= *left &&
           !went_on_elsewhere(configuration_, prepared);
}

/// The same, and it was in sync.
bool MemberOrders::is_back(MemberIndex role, const NewMember& prepared) const {
    return is_its_last(role, prepared) && prepared.took_part->state == MemberState::in_sync;
}

/// Before `disk` takes the role: what it brings back is known again.
Task<Checked<Unit>> MemberOrders::heal_from(Disk* disk, MemberIndex role, const NewMember* prepared,
                                            Force force) {
    const auto is_its = [role](const BadRange& range) {
        return range.member == role && range.kind == BadKind::retry;
    };
    if (std::ranges::none_of(configuration_.bad_rows, is_its)) co_return Unit{};
    if (!is_back(role, *prepared)) {
        if (force == Force::yes) co_return Unit{};
        co_return Refusal{fmt::format(
            "{} is not the member that has rows that are known to it alone ({} bytes are listed): "
            "bring that one back (braid member add), or give them up with --force",
            disk->info().path, unknown_.bad_bytes())};
    }
    const ReturningDisk from{role, disk, prepared->took_part->area};
    const Result<std::uint64_t> left = co_await serving_.take_back(from);
    if (!left) {
        co_return Refusal{fmt::format("the rows that {} brings back could not be taken: {}",
                                      disk->info().path, text_of(left.error().code))};
    }
    if (*left == 0 || force == Force::yes) co_return Unit{};
    co_return Refusal{fmt::format(
        "{} rows that only {} has cannot be taken back now, because rows of other members beside "
        "them cannot be read. Try again when they can, or give them up with --force",
        *left, disk->info().path)};
}

/// At every moment a crash finds either a record of all that is being written, or a configuration
/// that says that there is none.
Task<Checked<Unit>> MemberOrders::change_intent(IntentChange wanted) {
    BRAID_CO_CHECK(may_order());
    const Busy guard(*this);
    const IntentSettings before = configuration_.intent;
    IntentSettings settings = before;
    settings.region = wanted.region.value_or(before.region);
    BRAID_CO_CHECK(check_intent_region(settings.region));
    settings.on = wanted.on.value_or(before.on && serving_.marks());
    const MarksLeft left = serving_.marks_left();
    if (!settings.on && left.any) {
        co_return Refusal{
            fmt::format(
                "the write intent is all that tells which {} stripes are in doubt since the "
                "array was not stopped cleanly: without it the next start could not do "
                "without any member. Wait for the resync (braid status shows how far it is)",
                left.stripes),
            RefusalCode::conflict};
    }
    const bool begins = settings.on && !serving_.marks();
    if (begins && !hindrance_.empty()) {
        co_return Refusal{fmt::format("there can be no write intent: {}", hindrance_)};
    }
    const auto set_region = [this, before](std::uint64_t region) {
        serving_.set_region(region);
        writer_.change(change::Intent{{before.on, region}});
    };
    if (settings.region != before.region) set_region(settings.region);
    if (begins) {
        if (const auto kept = co_await serving_.begin_marks(); !kept) {
            set_region(before.region);
            co_return Refusal{
                fmt::format("the write intent cannot be kept: {}", text_of(kept.error().code))};
        }
    }
    const Result<void> durable = co_await writer_.propose(change::Intent{settings});
    if (!durable) {
        // Marks go on: a member may hold by now that there are some.
        set_region(before.region);
        tasks_.spawn(end_unwanted_marks(writer_.changed()));
        co_return not_durable(durable.error());
    }
    if (!settings.on) serving_.end_marks();
    tell(Severity::info, "intent_changed",
         fmt::format("write intent {}, regions of {} bytes", settings.on ? "on" : "off",
                     configuration_.intent.region));
    co_return Unit{};
}

/// Once it is durable that there are none.
Task<void> MemberOrders::end_unwanted_marks(std::uint64_t taken_back) {
    const Result<void> durable = co_await writer_.wait_durable(taken_back);
    if (!durable) co_return;  // the array has failed, or ends
    if (!configuration_.intent.on && serving_.marks()) serving_.end_marks();
}

}  // namespace braid
