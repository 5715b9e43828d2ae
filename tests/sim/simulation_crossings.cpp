// SPDX-License-Identifier: BSD-3-Clause
// Rare crossings: what random events seldom bring together is brought together here. Starts that
// die with one member alone written, a second fault before a resync has passed, a node that dies as
// the configuration changes, writes to rows that are listed, a disk under a second path.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/metadata/config_slot.h"
#include "tests/sim/simulation.h"

namespace braid::sim {
namespace {

constexpr std::size_t cut_off_max = 16;

}  // namespace

// ---- starts that die -----------------------------------------------------------------------

/// Starts that die, in a row, as soon as one member alone holds what they store; the next one may
/// be without that member. Nothing was answered by any of them, so that whatever they left counts
/// for nothing: only promises on the others keep the next start above it.
void Simulation::die_with_one_written() {
    if (!options_.lone_starts || !is_within() || starts_died_ || !may_be_absent()) return;
    if (snapshot_ && snapshot_->due) return;
    // They leave it as a crash does, and the next one is degraded.
    if (!may_crash(1) || !rng_.chance(2) || weak_roles().size() + 1 > losses_max()) return;
    std::vector<const MemberRecord*> well;
    for (const MemberRecord& record : last_.members) {
        const auto platter = platter_of(record.path);
        const bool counts = record.role && record.state == MemberState::in_sync;
        if (counts && platter && platter->is_well()) well.push_back(&record);
    }
    if (well.empty()) return;
    const MemberRecord lone = *well[rng_.below(well.size())];
    const bool stable_before = last_stable_;
    for (std::uint64_t turn = 1 + rng_.below(3); turn != 0 && !failed(); --turn) {
        const Started started = open_until_written(lone.path);
        if (started == Started::refused) return check_refusal(all_members());
        if (started == Started::yes) return;
        if (!starts_died_) stable_before_ = stable_before;
        starts_died_ = true;
        without_.insert(raw(*lone.role));
        last_stable_ = false;
    }
}

/// The others take longer, and what was on its way to them has not begun to happen.
Simulation::Started Simulation::open_until_written(const std::string& lone) {
    SimPlatter& platter = *disks_.at(lone);
    const auto slots = [&platter] {
        return ByteView{platter.content.data() + slots_offset, slot_count * slot_size};
    };
    const Buffer before(slots());
    std::uint64_t changes = platter.changes;
    std::optional<std::uint64_t> flushes;  // as the slot was written
    // A write of its slot and a flush happen before any write of theirs.
    const std::uint64_t slow_nanos = 3 * options_.latency_nanos + 1'000'000;
    for (auto& [path, other] : disks_) {
        if (path != lone) other->delay_nanos += slow_nanos;
    }
    dies_when_ = [&] {
        if (!flushes && platter.changes != changes) {
            changes = platter.changes;
            const bool written = std::memcmp(before.data(), slots().data(), before.size()) != 0;
            if (written) flushes = platter.flushes;
        }
        if (!flushes || platter.flushes == *flushes) return false;
        for (auto& [path, other] : disks_) {
            if (path != lone) other->flights.clear();
        }
        return true;
    };
    const Started started = open(all_members(), {});
    dies_when_ = {};
    for (auto& [path, other] : disks_) {
        if (path != lone) other->delay_nanos -= std::min(other->delay_nanos, slow_nanos);
    }
    return started;
}

// ---- copies that are put back ----------------------------------------------------------------

/// A copy of one member, taken while it was served or before that; something is written, and the
/// array is stopped, or crashes. The next start finds the copy in the member's place. False:
/// nothing was done.
bool Simulation::copy_and_end() {
    if (!options_.copies_at_rest || !is_within() || !array_ || !rng_.chance(2)) return false;
    land();
    run_for(Oracle::durable_nanos + 1'000'000'000);
    if (failed() || !is_stable() || !weak_roles().empty()) return false;
    const bool at_rest = snapshot_ && snapshot_->at_rest && may_crash();
    if (!at_rest) {
        snapshot_.reset();
        take_snapshot();
    }
    if (!snapshot_) return false;
    for (int i = 0; i != 12 && !failed(); ++i) start_request();
    land();
    if (failed()) return false;
    snapshot_->due = true;
    if (at_rest) {
        crash(rng_.chance(2));
    } else {
        stop(false);
    }
    return true;
}

// ---- a second fault right after a crash ----------------------------------------------------

/// What clients have under way is what they ask for again after a crash.
void Simulation::note_cut_off() {
    for (const Flight& flight : flights_) {
        const IoRequest& request = flight.request;
        const bool write = request.kind == IoKind::write || request.kind == IoKind::zero;
        if (!flight.done && write && cut_off_.size() != cut_off_max) {
            cut_off_.push_back({request.offset.value, request.size});
        }
    }
}

void Simulation::ask_again(IoKind kind, Extent extent) {
    if (kind == IoKind::write && !oracle_->may_write(extent.offset, extent.size)) return;
    begin(kind, extent.offset, extent.size, false);
}

/// Clients are back at once with what a crash cut off, and something else goes wrong before the
/// resync has passed.
void Simulation::begin_tensely() {
    const std::vector<Extent> again = std::exchange(cut_off_, {});
    if (!options_.tense_starts || again.empty() || !array_) return;
    const std::uint64_t mood = rng_.below(3);
    for (const Extent& extent : again) {
        if (mood != 0) ask_again(IoKind::read, extent);
        // A part of a row, so that old content counts.
        const std::uint64_t size = std::min<std::uint64_t>(extent.size, sector_size);
        if (mood == 0 || rng_.chance(4)) ask_again(IoKind::write, {extent.offset, size});
    }
    pump(rng_.below(100));
    if (!array_ || failed()) return;
    const Extent& extent = again[rng_.below(again.size())];
    switch (rng_.below(6)) {
        case 0:
            if (may_crash()) return crash(!rng_.chance(3));
            break;
        case 1:
        case 2:
            lose_now(extent);
            break;
        case 3:
            begin_outage();
            break;
        default:
            if (may_lose_now(extent)) fail_by_order(raw(member_of(extent)));
    }
    run_for(100'000'000 + rng_.below(2'000'000'000));  // it is decided, mostly
    if (!array_ || failed()) return;
    for (const Extent& one : again) ask_again(IoKind::read, one);
}

/// That holds the first byte: its loss is what costs something.
MemberIndex Simulation::member_of(Extent extent) const {
    const Geometry geometry = Geometry::of(configuration());
    const StripPlace place = geometry.place_of({extent.offset});
    return geometry.member_of(place.stripe, place.role);
}

/// Right after a start all that takes part holds the configuration: nothing is under way yet, and
/// may_lose() need not wait for it.
bool Simulation::may_lose_now(Extent extent) const {
    const std::set<std::uint32_t> weak = weak_roles();
    if (!commands_.empty() || weak.contains(raw(member_of(extent)))) return false;
    return !is_within() || weak.size() + 1 <= losses_max();
}

void Simulation::lose_now(Extent extent) {
    if (!may_lose_now(extent)) return;
    const MemberIndex member = member_of(extent);
    const std::string path = configuration().member(member)->path;
    disks_.at(path)->dead = true;
    oracle_->set_unreadable(member);
    ++figures_.losses;
    note(fmt::format("{} (member {}) dies right after the start", path, raw(member)));
}

// ---- a node that dies as its configuration changes -----------------------------------------

/// Whatever changes who takes part, or what is listed: the node dies right then, often enough.
void Simulation::note_changes() {
    if (!options_.crashes_at_changes) return;
    const Configuration& now = array_->configuration();
    std::uint64_t parts = now.bad_rows.size();
    for (const MemberRecord& record : now.members) {
        parts = parts * 31 + static_cast<std::uint64_t>(record.state) + (record.role ? 8 : 0);
    }
    const std::optional<std::uint64_t> before = std::exchange(parts_, parts);
    if (!before || *before == parts || steps_to_crash_ != 0 || !rng_.chance(2)) return;
    steps_to_crash_ = 1 + rng_.below(rng_.chance(3) ? 300 : 30);
}

/// What failed just before was part of what made the node die, perhaps, and works again.
bool Simulation::crash_at_change() {
    if (steps_to_crash_ == 0 || --steps_to_crash_ != 0 || !may_crash()) return false;
    crash(rng_.chance(2));
    for (const auto& [path, platter] : disks_) {
        if (platter->is_well() || !rng_.chance(2)) continue;
        heal(path);
        note(fmt::format("{} works again", path));
    }
    return true;
}

// ---- rows that are listed ------------------------------------------------------------------

/// Somebody writes what cannot be known anew. False: nothing is listed.
bool Simulation::rewrite_some_row() {
    if (!options_.rewrites || oracle_->listed_rows() == 0 || !rng_.chance(3)) return false;
    const std::uint64_t first = rng_.below(oracle_->rows());
    for (std::uint64_t i = 0; i != oracle_->rows(); ++i) {
        const std::uint64_t row = (first + i) % oracle_->rows();
        if (!oracle_->is_listed(row)) continue;
        ask_again(IoKind::write, {row * row_size, row_size});
        return true;
    }
    return false;
}

// ---- a disk under two paths ----------------------------------------------------------------

/// A second path of a disk. Either the kernel tells that it is the same, or, where a second cable
/// leads to it, only what lies on it does.
std::unique_ptr<SimDisk> Simulation::second_path(const std::string& path, bool second_cable) {
    SimPlatter& platter = *disks_.at(path);
    platter.is_known = !second_cable;
    auto disk = std::make_unique<SimDisk>(loop_, disks_.at(path), path + "-again");
    platter.is_known = true;
    return disk;
}

/// An operator gives a second path of a disk in use. That is refused, forced or not, and changes
/// nothing of who takes part.
void Simulation::order_with_second_path() {
    if (!commands_.empty() || !is_stable()) return;
    Names used;
    for (const MemberStatus& member : array_->status().members) {
        const bool takes_part = member.record.state != MemberState::faulty &&
                                member.record.state != MemberState::missing;
        const auto platter = platter_of(member.record.path);
        if (member.open && takes_part && platter->is_well()) used.push_back(member.record.path);
    }
    if (used.empty()) return;
    const std::string path = used[rng_.below(used.size())];
    const auto role = static_cast<std::uint32_t>(rng_.below(options_.members));
    const bool cable = rng_.chance(2);
    const bool adds = rng_.chance(2);
    const Force force{rng_.chance(2)};
    const std::vector<MemberRecord> before = configuration().members;
    const std::uint64_t sick = count_sick();
    const std::string what = fmt::format("{} {}{}, a second path of {}{}",
                                         adds ? "add" : fmt::format("replace {} by", role),
                                         path + "-again", force == Force::yes ? " by force" : "",
                                         path, cable ? ", by another cable" : "");
    auto disk = second_path(path, cable);
    spawn(what, adds ? array_->add_member(std::move(disk), force)
                     : array_->replace_member(std::to_string(role), std::move(disk), force));
    const std::shared_ptr<Command> order = commands_.back();
    run_until([&] { return order->result.has_value(); }, 600'000'000'000, what);
    watch();
    if (failed()) return;
    // A member that is lost meanwhile may change what takes part, and is not in use any more.
    if (sick != 0 || count_sick() != 0) return;
    if (*order->result)
        return fail(Outcome::wrong_data, "a disk under two paths was taken: " + what);
    for (const MemberRecord& record : configuration().members) {
        if (std::ranges::find(before, record.uuid, &MemberRecord::uuid) != before.end()) continue;
        fail(Outcome::wrong_data, "a disk under two paths was refused, and is a member: " + what);
    }
    for (const MemberRecord& record : before) {
        if (record.state != MemberState::in_sync) continue;
        const auto now =
            std::ranges::find(configuration().members, record.uuid, &MemberRecord::uuid);
        if (now != configuration().members.end() && now->role == record.role &&
            now->state == record.state)
            continue;
        fail(Outcome::wrong_data, "a disk under two paths was refused, and one was lost: " + what);
    }
}

std::uint64_t Simulation::count_sick() const {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(disks_, [](const auto& one) { return !one.second->is_well(); }));
}

/// A start that is given a member by two paths is refused, and writes nothing.
void Simulation::start_with_second_path(const Names& given) {
    if (!options_.aliases || !rng_.chance(4)) return;
    Names members;
    for (const std::string& path : given) {
        const auto record = std::ranges::find(last_.members, path, &MemberRecord::path);
        if (record != last_.members.end() && disks_.at(path)->is_well()) members.push_back(path);
    }
    if (members.empty()) return;
    const std::string path = members[rng_.below(members.size())];
    const auto writes = [this] {
        std::uint64_t sum = 0;
        for (const auto& [name, platter] : disks_) sum += platter->writes;
        return sum;
    };
    const std::uint64_t before = writes();
    Names twice = given;
    twice.push_back(path + "-again");
    disks_[twice.back()] = disks_.at(path);
    const Started started = open(twice, {.force = rng_.chance(2)});
    disks_.erase(twice.back());
    if (failed()) return;
    const bool named = refusal_.find(twice.back()) != std::string::npos;
    if (started == Started::refused && named && writes() == before) return;
    fail(Outcome::wrong_data, fmt::format("a start with {} by two paths was {}", path,
                                          started == Started::yes ? "not refused"
                                          : named                 ? "refused, and wrote something"
                                                  : "refused for another reason: " + refusal_));
}

}  // namespace braid::sim
