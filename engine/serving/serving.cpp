// SPDX-License-Identifier: BSD-3-Clause
#include "engine/serving/serving.h"

#include <utility>

#include "engine/base/mutation.h"
#include "engine/stripes/doubt_rows.h"
#include "parity/require.h"

namespace braid {

Serving::Serving(const Setup& setup)
    : clock_(setup.clock),
      geometry_(setup.geometry),
      node_(setup.node),
      tasks_(setup.tasks),
      decider_(setup.decider),
      members_(geometry_),
      adopted_(geometry_.member_count),
      bad_(geometry_, {}),
      claims_(geometry_),
      pool_(setup.buffer_size),
      intent_(clock_, geometry_, members_, decider_,
              {setup.configuration.array, setup.node, setup.configuration.volumes}),
      context_{geometry_, members_, claims_,   pool_,          decider_,
               intent_,   bad_,     counters_, setup.readonly, setup.homes},
      requests_(context_, tasks_),
      walker_(context_, clock_, setup.ready, *this),
      direct_reads_(geometry_, members_) {
    requests_.set_readonly(setup.readonly);
    members_.set_quorum(setup.configuration.quorum());
    if (setup.homes != nullptr) members_.set_shared();
    members_.set_on_leaving([this](MemberIndex member) { return on_leaving(member); });
}

void Serving::set_gates() { set_direct_gates(context_); }

Task<void> Serving::close_gates() {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        auto& gate = members_.slot(MemberIndex{i}).gate;
        gate.close();
        while (gate.has_readers()) {
            co_await members_.quiet().next();
        }
    }
}

Task<void> Serving::wait_for_disks() {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        while (!takes_part(slot.state) && slot.in_flight() != 0) {
            co_await members_.quiet().next();
        }
    }
}

void Serving::stop() {
    requests_.stop();
    intent_.stop();
}

void Serving::abandon() {
    intent_.abandon();
    claims_.abandon();
    pool_.abandon();
    walker_.abandon();
}

void Serving::fill(ArrayStatus& status) const {
    status.health = members_.failed()                        ? Health::failed
                    : members_.lost() != 0                   ? Health::degraded
                    : !status.configuration.bad_rows.empty() ? Health::damaged
                                                             : Health::clean;
    status.intent = intent_.status();
    // Marks that no configuration speaks of count for no start.
    if (!status.configuration.intent.on) status.intent.on = false;
    status.in_doubt = !members_.doubt().empty();
    status.doubt_bytes =
        members_.doubt().windows() * geometry_.window_size() * geometry_.data_count();
    status.counters = counters_;
    status.counters.direct_reads = direct_reads_.count();
    status.memory_bytes = pool_.used() + walker_.memory_bytes();
    status.memory_bytes_max = pool_.region().size() + walker_.memory_bytes();
}

MemberStatus Serving::member_status(const MemberRecord& at) const {
    const auto& slot = members_.slot(*at.role);
    MemberStatus member;
    member.record = at;
    member.record.state = slot.state;
    member.record.rebuilt = geometry_.stripe_of(slot.rebuilt);
    member.open = slot.is_open();
    const MemberIo io = slot.drive ? slot.drive->io() : MemberIo{};
    member.reads = io.reads;
    member.writes = io.writes;
    member.bytes_read = io.bytes_read;
    member.bytes_written = io.bytes_written;
    member.errors_read = io.errors_read;
    member.errors_write = io.errors_write;
    member.in_flight = slot.in_flight();
    return member;
}

/// A member that was lost is out of use before the configuration says so; nothing but a change of
/// its record brings it back. How far a rebuild is in memory is ahead of the record.
void Serving::adopt(const Configuration& wanted) {
    members_.set_quorum(wanted.quorum());
    for (const MemberRecord& at : wanted.members) {
        if (!at.role) continue;
        Adopted& last = adopted_[raw(*at.role)];
        auto& slot = members_.slot(*at.role);
        const Adopted before =
            std::exchange(last, Adopted{at.uuid, at.state, at.left, at.path.empty()});
        if (before.uuid == at.uuid && before.state == at.state) {
            // Another node rebuilds it: here that was heard with locks only.
            if (slot.state == MemberState::rebuilding && slot.state == at.state) {
                slot.rebuilt = std::max(slot.rebuilt, geometry_.first_window(at.rebuilt));
            }
            continue;
        }
        if (before.uuid != at.uuid && before.uuid != Uuid{}) {
            const bool is_away = before.state == MemberState::missing && !before.removed;
            members_.displace(*at.role, {before.uuid, before.left, is_away});
        }
        intent_.set_member(*at.role, at.uuid);
        slot.rebuilt = geometry_.first_window(at.rebuilt);
        // One that failed before this start, and was not given, is not there.
        const bool gone = at.state == MemberState::faulty && slot.state == MemberState::missing;
        if (slot.state != at.state && !gone) members_.set_state(*at.role, at.state);
    }
    resynced_ = wanted.resynced;
    if (bad_.ranges() != wanted.bad_rows) {
        bad_.set(wanted.bad_rows);
        set_gates();
    }
    BRAID_AUDIT(fits_records(wanted));
}

/// Slots against records: no member counts for more than its record says, none is in use that a
/// record has no disk for, and the rows that cannot be known are the same.
bool Serving::fits_records(const Configuration& wanted) const {
    for (const MemberRecord& at : wanted.members) {
        if (!at.role) continue;
        const auto& slot = members_.slot(*at.role);
        const bool in_use = takes_part(slot.state);
        if (in_use && slot.state != at.state) return false;
        if (in_use && !slot.is_open()) return false;
        if (slot.state == MemberState::rebuilding &&
            slot.rebuilt < geometry_.first_window(at.rebuilt)) {
            return false;
        }
    }
    return bad_.ranges() == wanted.bad_rows;
}

void Serving::attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) {
    attach_drive(member, std::make_unique<LocalDrive>(std::move(disk)), area);
}

void Serving::attach_drive(MemberIndex member, std::unique_ptr<Drive> drive, DataArea area) {
    BRAID_REQUIRE(drive != nullptr && is_row_aligned(area.begin));
    auto& slot = members_.slot(member);
    BRAID_REQUIRE(!slot.is_open());
    slot.drive = std::move(drive);
    slot.area = area;
    slot.kept = {};
    slot.whole = false;
    slot.behind.reset();
    intent_.forget_generation_at(member);
    if (returning_ && returning_->member == member) {
        members_.set_behind(member, std::move(returning_->missed));
        returning_.reset();
    }
}

std::unique_ptr<Disk> Serving::detach(MemberIndex member) {
    auto& slot = members_.slot(member);
    std::unique_ptr<Disk> disk;
    if (slot.drive) disk = slot.drive->close();
    members_.refresh();
    return disk;
}

// ---- members that are away -------------------------------------------------------------------

/// What is not marked is durable on the member: a mark goes when all that take part were flushed. What
/// is written without one stays claimed until it is durable, or its rows in doubt, or on the list of
/// those that cannot be known.
std::optional<AbsenceMap::Left> Serving::on_leaving(MemberIndex member) {
    intent_.members_changed();
    if (!marks_in_force_ || !intent_.on() || intent_.unmarked() != 0) return std::nullopt;
    AbsenceMap::Left left;
    left.generations[node_] = intent_.generation_at(member);
    if (BRAID_MUTANT(absence_begins_empty)) return left;
    if (!add_maybe_missed(&left.seed)) return std::nullopt;
    return left;
}

void Serving::note_absent(MemberIndex member, AbsenceMap::Left left) {
    intent_.members_changed();
    if (!intent_.on() || !add_maybe_missed(&left.seed)) return members_.forget_absence(member);
    members_.note_absent(member, std::move(left));
}

/// What a node has written without a mark nobody knows when it is gone.
void Serving::end_marks() {
    intent_.set_on(false);
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        members_.forget_absence(MemberIndex{i});
    }
}

/// What a member that leaves now may not have. False: there is no room.
bool Serving::add_maybe_missed(WindowSet* seed) const {
    bool fits = seed->add(claims_.claimed());
    for (const IntentEntry& at : intent_.maybe_missed()) {
        fits &= seed->add({geometry_.first_window(at.first), geometry_.first_window(at.end())});
    }
    for (const WindowRange& range : members_.doubt().ranges()) fits &= seed->add(range);
    for (const BadRange& at : bad_.ranges()) {
        fits &= seed->add({geometry_.window_of(at.first), geometry_.window_of(at.end() - 1) + 1});
    }
    if (resynced_) {
        fits &= seed->add({geometry_.first_window(*resynced_), geometry_.window_end()});
    }
    return fits;
}

/// What is being written has its windows claimed, and goes by what holds as it was planned.
Checked<WindowSet> Serving::missed_by(const ReturningMember& back) const {
    const AbsenceMap& absence = members_.absence();
    const bool is_known = back.displaced ? absence.knows_displaced(back.member, *back.displaced)
                                         : absence.knows(back.member);
    if (!is_known) {
        return Refusal{"what was written while it was away is not known", RefusalCode::conflict};
    }
    for (const auto& [node, least] : absence.generations(back.member)) {
        const auto held = back.records.find(node);
        if (held != back.records.end() && held->second >= least) continue;
        if (least == 0) continue;
        return Refusal{
            "it is a copy of the member from before it left: its record of the write intent is older",
            RefusalCode::conflict};
    }
    if (absence.long_ago(back.member) && !back.was_in_sync) {
        return Refusal{"it was being rebuilt as it left, before the array was started",
                       RefusalCode::conflict};
    }
    WindowSet missed = absence.missed(back.member);
    if (missed.add(claims_.claimed()) && missed.add(back.marked)) return missed;
    return Refusal{"more was written while it was away than the map has room for",
                   RefusalCode::conflict};
}

Task<Checked<std::uint64_t>> Serving::windows_missed(ReturningMember back) {
    BRAID_CO_TRY(const WindowSet missed, missed_by(back));
    co_return missed.count();
}

Task<Checked<std::uint64_t>> Serving::begin_return(ReturningMember back) {
    BRAID_CO_TRY(WindowSet missed, missed_by(back));
    const std::uint64_t count = missed.count();
    set_returning(back.member, std::move(missed));
    co_return count;
}

void Serving::array_failed() {
    intent_.array_failed();
    requests_.let_go();
}

// ---- walks -----------------------------------------------------------------------------------

Task<void> Serving::run_walk(WalkOrder order) {
    const Result<void> result = co_await walker_.run(std::move(order));
    requests_.retry_parked();  // of what it met, too, that others have made true
    decider_.walk_ended(position(), result);
}

WalkPosition Serving::position() const {
    WalkPosition at;
    at.order = walker_.order();
    at.window = walker_.position();
    at.bytes_read = walker_.bytes_read();
    at.rows_wrong = walker_.rows_wrong();
    at.unreadable = walker_.unreadable();
    at.status = walker_.status();
    return at;
}

std::optional<WalkPosition> Serving::walking() const {
    if (!walker_.running()) return std::nullopt;
    return position();
}

/// In memory at once; in the configuration only when the data is durable: Decider::walk_at().
void Serving::walk_passed(const WalkOrder& order, WindowRange passed) {
    BRAID_REQUIRE(passed.begin < passed.end && passed.end <= members_.window_end());
    if (order.kind == WalkKind::rebuilding) {
        BRAID_REQUIRE(passed.end >= members_.slot(order.member).rebuilt);
        members_.slot(order.member).rebuilt = passed.end;
    } else if (order.kind == WalkKind::resyncing) {
        members_.doubt().remove(passed);
        decider_.walk_passed();
        requests_.retry_parked();
    }
}

void Serving::doubt_passed(WindowIndex upto) {
    if (upto == WindowIndex{}) return;
    members_.doubt().remove({WindowIndex{}, upto});
    requests_.retry_parked();
}

void Serving::set_resync_comes(bool comes) {
    if (comes != requests_.resync_comes()) requests_.set_resync_comes(comes);
}

// ---- marks -----------------------------------------------------------------------------------

MarksLeft Serving::marks_left() const {
    if (!intent_.has_carried()) return {};
    return {true, intent_.stripes_carried()};
}

void Serving::retire_marks(StripeIndex before) {
    intent_.retire_before(before);
    set_gates();
}

void Serving::keep_marks_in_doubt(StripeIndex listed) {
    intent_.retire_from(listed);
    intent_.drop_clean();
}

Task<Result<void>> Serving::begin_marks() {
    BRAID_REQUIRE(!intent_.on());
    intent_.set_on(true);
    while (intent_.unmarked() != 0) {
        co_await intent_.unmarked_ended().wait();
    }
    Result<void> kept = co_await flush();
    if (kept) kept = co_await intent_.rewrite();
    if (!kept) intent_.set_on(false);
    co_return kept;
}

}  // namespace braid
