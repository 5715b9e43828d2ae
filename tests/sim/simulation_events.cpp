// SPDX-License-Identifier: BSD-3-Clause
// What goes wrong with members, and what operators do about it and besides.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/metadata/areas.h"
#include "engine/metadata/config_slot.h"
#include "tests/sim/simulation.h"

namespace braid::sim {
namespace {

const char* name_of(ScrubMode mode) {
    return mode == ScrubMode::repair ? "scrub and repair" : "scrub";
}

}  // namespace

std::shared_ptr<SimPlatter> Simulation::platter_of(const std::string& path) const {
    const auto found = disks_.find(path);
    return found == disks_.end() ? nullptr : found->second;
}

const Configuration& Simulation::configuration() const {
    return array_ ? array_->configuration() : last_;
}

std::set<std::uint32_t> Simulation::weak_roles() const {
    std::set<std::uint32_t> weak;
    for (const MemberRecord& record : configuration().members) {
        if (!record.role) continue;
        const auto platter = platter_of(record.path);
        const bool keeps_its_place =
            platter && platter->is_only_full() && platter->full_error == ENOSPC;
        const bool well = keeps_its_place || (platter && platter->is_well());
        if (record.state == MemberState::in_sync && well && !is_healed_just_now(record.path)) {
            continue;
        }
        weak.insert(raw(*record.role));
    }
    return weak;
}

/// What an operation met before may still be told, when all that it was part of has ended.
bool Simulation::is_healed_just_now(const std::string& path) const {
    const auto healed = healed_.find(path);
    return healed != healed_.end() && loop_.now().value - healed->second < Oracle::durable_nanos;
}

void Simulation::heal(const std::string& path) {
    SimPlatter& platter = *disks_.at(path);
    if (!platter.is_well()) healed_[path] = loop_.now().value;
    platter.heal();
}

/// Whether a member may have had no room for what was written just now.
bool Simulation::was_full() const {
    return std::ranges::any_of(disks_, [this](const auto& one) {
        return one.second->full || is_healed_just_now(one.first);
    });
}

/// No change of who takes part is under way, in memory or on its way to the members.
bool Simulation::is_stable() const {
    // Where metadata is not taken, what is in memory is not in force.
    return commands_.empty() && !(outage_ && outage_->refuses) &&
           loop_.now().value - epoch_changed_ > Oracle::durable_nanos;
}

/// Whether the plan allows that `more` members fail now.
bool Simulation::may_lose(std::uint32_t more) const {
    if (!is_within()) return true;
    return is_stable() && weak_roles().size() + more <= losses_max();
}

std::shared_ptr<SimPlatter> Simulation::make_platter(bool junk) {
    auto platter =
        std::make_shared<SimPlatter>(data_offset_ + options_.stripes * options_.strip_size);
    platter->memory_align = options_.memory_align;
    platter->zero_fast = options_.zero_fast;
    platter->reads_now = options_.reads_now;
    platter->caches = options_.caches;
    platter->latency_nanos = options_.latency_nanos;
    if (options_.holes) make_holes(*platter);
    for (std::uint64_t at = data_offset_; junk && at < platter->content.size(); at += 8) {
        const std::uint64_t word = rng_.next();
        std::memcpy(platter->content.data() + at, &word, sizeof word);
    }
    return platter;
}

void Simulation::make_holes(SimPlatter& platter) {
    for (std::uint64_t row = data_offset_ / row_size; row != platter.content.size() / row_size;
         ++row) {
        if (rng_.chance(3)) platter.holes.insert(row);
    }
}

/// Nobody should find zeros where nothing was rebuilt: it holds something.
std::string Simulation::fresh_platter() {
    const std::string path = fmt::format("x{}", ++disks_made_);
    disks_[path] = make_platter(true);
    return path;
}

// ---- faults --------------------------------------------------------------------------------

void Simulation::inject_fault() {
    std::vector<const MemberRecord*> well;
    for (const MemberRecord& record : configuration().members) {
        const auto platter = platter_of(record.path);
        if (!record.role || !platter || !platter->is_well()) continue;
        if (record.state == MemberState::in_sync) well.push_back(&record);
    }
    if (well.empty()) return;
    const MemberRecord& record = *well[rng_.below(well.size())];
    SimPlatter& platter = *platter_of(record.path);
    const std::uint64_t kind = rng_.below(options_.holes ? 10 : 8);
    if (kind == 0) {
        platter.delay_nanos = 1 + rng_.below(50'000'000);
        return note(fmt::format("{} becomes slow", record.path));
    }
    if (kind >= 8) {
        platter.full = true;
        platter.full_error = is_needed_alone() ? EIO : ENOSPC;
        if (platter.full_error == ENOSPC) return note(record.path + " has no room");
        make_holes(platter);
        return note(fmt::format("{} fails writes of {} rows", record.path, platter.holes.size()));
    }
    if (!may_lose(1)) return;
    std::string what;
    switch (kind) {
        case 1:
        case 2:
            platter.dead = true;
            what = "dies";
            break;
        case 3:
            platter.fails_writes = true;
            what = "fails writes";
            break;
        case 4:
            platter.fails_flushes = true;
            what = "fails flushes";
            break;
        case 5:
            platter.read_fails_one_in = 5 + rng_.below(40);
            what = "fails reads now and then";
            break;
        case 6:
            platter.write_fails_one_in = 5 + rng_.below(40);
            what = "fails writes now and then";
            break;
        default: {
            const std::uint64_t rows = options_.stripes * options_.strip_size / row_size;
            for (std::uint64_t i = 1 + rng_.below(6); i != 0; --i) {
                const std::uint64_t row = rng_.below(rows);
                platter.bad_rows.insert(data_offset_ / row_size + row);
                mended_.emplace(record.path, row);
            }
            what = fmt::format("has {} rows that cannot be read", platter.bad_rows.size());
        }
    }
    oracle_->set_unreadable(*record.role);
    ++figures_.losses;
    note(fmt::format("{} (member {}) {}", record.path, raw(*record.role), what));
}

/// A member answers no reads for a moment, though the level may need it, or one that it does need
/// takes no metadata: what is asked meanwhile may be an error, and nothing is given up for it.
void Simulation::begin_outage() {
    constexpr std::uint64_t gap_nanos = 30'000'000'000;
    const std::uint64_t now = loop_.now().value;
    if (outage_ || !array_ || now < outage_ended_ + gap_nanos) return;
    std::vector<const MemberRecord*> well;
    for (const MemberRecord& record : configuration().members) {
        const auto platter = platter_of(record.path);
        if (record.role && platter && platter->is_well() && record.state == MemberState::in_sync) {
            well.push_back(&record);
        }
    }
    // Another fault that the array does not know of yet, and the level could not do without both.
    const bool needed = lost_roles() == parities_of(options_.level);
    if (well.empty() || (!needed && !weak_roles().empty())) return;
    const std::string& path = well[rng_.below(well.size())]->path;
    outage_ = Outage{path, now, now + 100'000'000 + rng_.below(20'000'000'000)};
    outage_->refuses = needed && rng_.chance(2);
    SimPlatter& platter = *disks_.at(path);
    if (outage_->refuses) {
        platter.fails_writes_below = data_offset_;
    } else {
        platter.answers_no_reads = true;
    }
    note(path + (outage_->refuses ? " takes no metadata" : " answers no reads"));
}

/// Whether a member that is well has to keep its place though writes to it fail, and nothing else is
/// wrong. (Should it be needed no more meanwhile it may be lost: then the level allows it.)
bool Simulation::is_needed_alone() const {
    return options_.failed_writes && is_within() && is_stable() &&
           lost_roles() == parities_of(options_.level) && weak_roles().size() == lost_roles();
}

std::size_t Simulation::lost_roles() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(configuration().members, [](const MemberRecord& record) {
            return record.role && record.state != MemberState::in_sync;
        }));
}

void Simulation::end_outage() {
    if (!outage_) return;
    SimPlatter& platter = *disks_.at(outage_->path);
    platter.answers_no_reads = false;
    platter.fails_writes_below = 0;
    note(outage_->path + (outage_->refuses ? " takes metadata again" : " answers reads again"));
    if (outage_->refuses) oracle_->metadata_stayed(outage_->since);
    outage_.reset();
    outage_ended_ = loop_.now().value;
}

/// Whether something that began then may have met an outage.
bool Simulation::met_outage(std::uint64_t since) const {
    return outage_ || (outage_ended_ != 0 && since < outage_ended_ + Oracle::durable_nanos);
}

/// Rows that could not be read are rewritten when they are met, under a mark of their own, also by
/// walks. `all`: one may be under way that is not seen yet.
void Simulation::note_mended(bool all) {
    for (auto at = mended_.begin(); at != mended_.end();) {
        const auto& [path, row] = *at;
        const auto platter = platter_of(path);
        const bool there = platter && platter->bad_rows.contains(data_offset_ / row_size + row);
        if (!there || all) oracle_->touch(StripeIndex{row / (options_.strip_size / row_size)});
        at = there ? std::next(at) : mended_.erase(at);
    }
}

/// A fault goes away as it came; what the array made of it stays.
void Simulation::heal_one() {
    std::vector<std::string> sick;
    for (const auto& [path, platter] : disks_) {
        if (!platter->is_well() || platter->delay_nanos != 0) sick.push_back(path);
    }
    if (sick.empty()) return;
    const std::string& path = sick[rng_.below(sick.size())];
    heal(path);
    note(fmt::format("{} works again", path));
}

/// A member as it is now, to come back with that later.
void Simulation::take_snapshot() {
    if (!array_ || !is_within() || !is_stable()) return;
    const auto& members = configuration().members;
    const MemberRecord& record = members[rng_.below(members.size())];
    const auto platter = platter_of(record.path);
    if (!record.role || record.state != MemberState::in_sync || !platter || !platter->is_well())
        return;
    snapshot_ = snapshot_of(record.path, false);
}

/// What the copy itself holds counts: the array may have stored more on it than it goes by as yet.
Simulation::Snapshot Simulation::snapshot_of(const std::string& path, bool at_rest) const {
    Snapshot snapshot{path, platter_of(path)->content, {}, false, at_rest};
    for (std::uint32_t i = 0; i != slot_count; ++i) {
        const ByteView bytes{snapshot.content.data() + slot_offset(i), slot_size};
        const auto slot = decode_slot(bytes, i);
        if (!slot) continue;
        snapshot.version = std::max(snapshot.version, slot->configuration.version);
    }
    return snapshot;
}

// ---- operators -----------------------------------------------------------------------------

namespace {

bool is_lost(MemberState state) {
    return state == MemberState::faulty || state == MemberState::missing;
}

Task<void> keep(Task<Checked<Unit>> task, std::optional<Checked<Unit>>* result) {
    result->emplace(co_await task);
}

}  // namespace

void Simulation::spawn(std::string name, Task<Checked<Unit>> task) {
    auto command = std::make_shared<Command>();
    command->name = std::move(name);
    note("operator: " + command->name);
    commands_.push_back(command);
    // A crash destroys the task before the list is cleared.
    loop_.tasks().spawn(keep(std::move(task), &command->result));
}

/// Rows that are listed of the member.
std::uint64_t Simulation::listed_of(std::uint32_t role) const {
    std::uint64_t rows = 0;
    for (const BadRange& range : array_->configuration().bad_rows) {
        if (raw(range.member) == role) rows += range.count;
    }
    return rows;
}

/// An order that was not forced, and was taken, cost nothing.
void Simulation::check_unforced() {
    if (!unforced_ || !unforced_->command->result) return;
    const Unforced order = *std::exchange(unforced_, std::nullopt);
    const MemberRecord* record = array_->configuration().member(MemberIndex{order.role});
    if (!*order.command->result || record->state != MemberState::faulty) return;
    if (listed_of(order.role) <= order.listed || !is_within()) return;
    // A write that was under way then had no room, perhaps, and left its rows in doubt.
    if (options_.holes && was_full()) return;
    fail(Outcome::wrong_data, "R4: " + order.command->name +
                                  " was taken unforced, and rows came on "
                                  "the bad-row list for it");
}

void Simulation::add_any() {
    // Something new, or something that lies about: it may once have been a member, or was lost as one
    // just now. Such a one is not forced: what it alone knows is not to be given up.
    Names idle;
    Names lost;
    for (const auto& [path, platter] : disks_) {
        const auto is_its = [&path](const MemberStatus& at) { return at.record.path == path; };
        const ArrayStatus status = array_->status();
        const auto member = std::ranges::find_if(status.members, is_its);
        const bool is_known = member != status.members.end();
        if (is_known && (member->open || !is_lost(member->record.state))) continue;
        if (platter->dead || !platter->flights.empty()) continue;
        idle.push_back(path);
        if (is_known) lost.push_back(path);
    }
    const std::string path =
        idle.empty() || rng_.chance(2) ? fresh_platter() : idle[rng_.below(idle.size())];
    const bool comes_back = std::ranges::find(lost, path) != lost.end();
    spawn((comes_back ? "bring back " : "add ") + path,
          array_->add_member(std::make_unique<SimDisk>(loop_, disks_.at(path), path),
                             comes_back ? Force::no : Force::yes));
}

void Simulation::replace(std::uint32_t role, Force force) {
    const std::string path = fresh_platter();
    spawn(fmt::format("replace {} by {}{}", role, path, force == Force::yes ? " by force" : ""),
          array_->replace_member(std::to_string(role),
                                 std::make_unique<SimDisk>(loop_, disks_.at(path), path), force));
}

void Simulation::change_intent() {
    if (!options_.intent_room) return;
    IntentChange change;
    if (rng_.chance(2)) change.on = rng_.chance(2);
    if (rng_.chance(2)) change.region = intent_region_min << rng_.below(5);
    if (change.region) oracle_->add_region(*change.region);
    // A crash on the way finds the one or the other.
    intent_sure_ = false;
    oracle_->set_intent(false);
    spawn(fmt::format("intent {} {}", change.on ? (*change.on ? "on" : "off") : "",
                      change.region.value_or(0)),
          array_->change_intent(change));
}

void Simulation::intent_answered(bool done) {
    intent_failed_.reset();
    if (done && array_) note_intent();
    if (!done) intent_failed_ = loop_.now().value;
}

/// An order that failed is taken back, but some member may hold it until all take metadata again.
void Simulation::look_at_intent() {
    if (!intent_failed_ || !array_ || outage_) return;
    for (const MemberRecord& record : configuration().members) {
        if (!record.role || record.state != MemberState::in_sync) continue;
        const auto platter = platter_of(record.path);
        if (!platter || platter->is_well()) continue;
        intent_failed_ = loop_.now().value;
        return;
    }
    const std::uint64_t since = std::max(*intent_failed_, outage_ended_);
    if (loop_.now().value - since <= Oracle::durable_nanos) return;
    intent_failed_.reset();
    note_intent();
}

/// Which rows a crash may leave in doubt from now on.
void Simulation::note_intent() {
    const IntentStatus intent = array_->status().intent;
    intent_sure_ = intent.on;
    oracle_->set_intent(intent.on);
    oracle_->add_region(intent.region);
}

void Simulation::fail_by_order(std::uint32_t role) {
    ++figures_.losses;
    const Force force{rng_.chance(3)};
    spawn(fmt::format("fail {}{}", role, force == Force::yes ? " by force" : ""),
          array_->fail_member(std::to_string(role), force));
    if (force == Force::no) unforced_ = Unforced{commands_.back(), role, listed_of(role)};
}

void Simulation::operate() {
    if (commands_.size() > 2) return;
    const std::set<std::uint32_t> weak = weak_roles();
    const auto role = static_cast<std::uint32_t>(rng_.below(options_.members));
    const bool is_weak = weak.contains(role);
    // Members that had no room until just now count as weak, and nobody asked whether they may.
    const bool too_many = is_within() && weak.size() > losses_max();
    switch (rng_.below(9)) {
        case 0:
            if (too_many || (!is_weak && !may_lose(1))) return;
            if (!is_within() || commands_.empty()) fail_by_order(role);
            return;
        case 1:
            return spawn(fmt::format("remove {}", role),
                         array_->remove_member(std::to_string(role)));
        case 2:
            return add_any();
        case 3:
        case 4:
            if (too_many) return;
            // Mostly a lost one, so that it goes on.
            if (!weak.empty() && commands_.empty())
                return replace(*weak.begin(), Force{rng_.chance(2)});
            if (!is_weak && (!may_lose(1) || !commands_.empty())) return;
            return replace(role, Force{rng_.chance(2)});
        case 5:
        case 6: {
            const ScrubMode mode{rng_.chance(2)};
            return spawn(name_of(mode), array_->start_scrub(mode));
        }
        case 7:
            note(
                fmt::format("operator: scrub stop: {}", array_->stop_scrub() ? "done" : "refused"));
            return;
        default:
            if (commands_.empty() && rng_.chance(2)) change_intent();
    }
}

/// At the end, when nothing is in its way. False: that was a failure.
bool Simulation::start_scrub(ScrubMode mode) {
    spawn(name_of(mode), array_->start_scrub(mode));
    const std::shared_ptr<Command> command = commands_.back();
    run_until([&] { return command->result.has_value(); }, 600'000'000'000, "a scrub to begin");
    if (failed()) return false;
    if (*command->result) return true;
    fail(Outcome::not_at_rest, "no scrub can be started: " + command->result->error().text);
    return false;
}

// ---- silent corruption ---------------------------------------------------------------------

/// Waits for a scrub that must find and repair so many rows.
void Simulation::finish_scrub(std::uint64_t repaired) {
    run_until([&] { return !array_->configuration().scrub; }, 600'000'000'000, "the scrub");
    if (failed()) return;
    const auto last = array_->status().last_scrub;
    if (last && last->mismatches == repaired && last->repaired == repaired) return;
    fail(Outcome::wrong_data,
         fmt::format("parity: a scrub found {} rows wrong and repaired {}, of {}",
                     last ? last->mismatches : 0, last ? last->repaired : 0, repaired));
}

/// Bytes change by themselves. RAID-6 tells which strip it was; the others can only trust data, so
/// there it is parity that suffers. Nobody reads what the level does not vouch for before the scrub
/// has passed.
void Simulation::corrupt() {
    if (!is_within() || doubt_ || !weak_roles().empty() || !is_stable()) return;
    if (configuration().resynced || configuration().scrub) return;
    land();
    flush();
    if (failed() || !weak_roles().empty() || !configuration().bad_rows.empty()) return;
    // Where a write had no room, a resync makes its rows true when there is: no scrub before that.
    if (const ArrayStatus status = array_->status(); status.in_doubt || !status.waits.empty())
        return;
    const Geometry geometry = Geometry::of(configuration());
    struct Hurt {
        std::shared_ptr<SimPlatter> platter;
        std::uint64_t offset;
        Buffer before;
    };
    std::vector<Hurt> hurts;
    std::set<std::uint64_t> rows;
    for (std::uint64_t i = 1 + rng_.below(4); i != 0; --i) {
        const StripeIndex stripe{rng_.below(options_.stripes)};
        const std::uint64_t in_strip = rng_.below(options_.strip_size / row_size);
        if (!rows.insert(raw(stripe) * geometry.rows_per_strip() + in_strip).second) continue;
        const Role role = parities_of(options_.level) == 2
                              ? Role{static_cast<std::uint32_t>(rng_.below(options_.members))}
                              : geometry.p();
        const MemberRecord& record = *configuration().member(geometry.member_of(stripe, role));
        Hurt hurt{platter_of(record.path),
                  data_offset_ + geometry.strip_offset(stripe).value + in_strip * row_size,
                  {}};
        std::byte* at = hurt.platter->content.data() + hurt.offset;
        hurt.before = Buffer(ByteView{at, row_size});
        for (std::uint64_t n = 1 + rng_.below(30); n != 0; --n) {
            at[rng_.below(row_size)] ^= static_cast<std::byte>(1 + rng_.below(255));
        }
        hurt.platter->keep(hurt.offset, row_size);
        note(fmt::format("{}: bytes at {} change by themselves", record.path, hurt.offset));
        hurts.push_back(std::move(hurt));
    }
    // A byte that was changed twice may be what it was.
    const auto count =
        static_cast<std::uint64_t>(std::ranges::count_if(hurts, [](const Hurt& hurt) {
            return std::memcmp(hurt.platter->content.data() + hurt.offset, hurt.before.data(),
                               row_size) != 0;
        }));
    if (!start_scrub(ScrubMode::repair)) return;
    finish_scrub(count);
    oracle_->set_time(loop_.now().value);
    for (const std::uint64_t row : rows)
        oracle_->touch(StripeIndex{row / geometry.rows_per_strip()});
    for (const Hurt& hurt : hurts) {
        if (std::memcmp(hurt.platter->content.data() + hurt.offset, hurt.before.data(), row_size) ==
            0)
            continue;
        fail(Outcome::wrong_data,
             fmt::format("parity: a scrub did not repair the bytes at {}", hurt.offset));
    }
}

}  // namespace braid::sim
