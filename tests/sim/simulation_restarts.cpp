// SPDX-License-Identifier: BSD-3-Clause
// How the node ends, and starts again.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/metadata/md_superblock.h"
#include "tests/sim/simulation.h"

namespace braid::sim {
namespace {

Task<void> store_array(Task<Checked<std::unique_ptr<Array>>> task,
                       std::optional<Checked<std::unique_ptr<Array>>>* opened) {
    opened->emplace(co_await task);
}

Task<void> store_result(Task<Result<void>> task, std::optional<Result<void>>* result) {
    result->emplace(co_await task);
}

bool is_member(const SimPlatter& platter) {
    Le32 magic;
    std::memcpy(&magic, platter.content.data() + md_superblock_offset, sizeof magic);
    return plain(magic) == md_magic;
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : " ") + name;
    return text;
}

}  // namespace

// ---- ends ----------------------------------------------------------------------------------

/// Degraded and stopped uncleanly an array starts only with a record of the write intent.
bool Simulation::may_crash(std::size_t absent) const {
    if (!is_within()) return true;
    // What is over in memory may not be so on the members yet.
    const bool resyncs =
        configuration().resynced ||
        (resync_seen_ && loop_.now().value - *resync_seen_ <= Oracle::durable_nanos);
    if (intent_sure_ && !resyncs) return true;
    return absent == 0 && weak_roles().empty() && is_stable();
}

void Simulation::crash(bool power) {
    note(power ? "the power goes" : "the node is killed");
    end_outage();
    unforced_.reset();
    ++figures_.crashes;
    oracle_->set_time(loop_.now().value);
    note_mended(true);
    if (array_) {
        last_stable_ = is_stable();
        last_ = array_->configuration();
    }
    for (auto& [path, platter] : disks_) {
        platter->crash(rng_);
        if (power) platter->cut_power(rng_);
    }
    loop_.crash([this] {
        array_.reset();
        opened_.reset();
    });
    note_cut_off();
    parts_.reset();
    steps_to_crash_ = 0;
    flights_.clear();
    flying_ = 0;
    commands_.clear();
    stopping_ = false;
    clean_ = false;
    oracle_->crash(power);
    doubt_ = oracle_->has_doubt();
}

bool Simulation::stop(bool may_crash_now) {
    note("stop");
    end_outage();
    stopping_ = true;
    stopped_.reset();
    loop_.tasks().spawn(store_result(array_->stop(), &stopped_));
    std::uint64_t until_crash = ~std::uint64_t{0};
    if (may_crash_now && may_crash() && rng_.chance(5)) until_crash = rng_.below(300);
    const std::uint64_t end = loop_.now().value + 600'000'000'000;
    while (!stopped_ && !failed()) {
        if (until_crash-- == 0) {
            crash(!rng_.chance(3));
            return false;
        }
        if (loop_.now().value > end) fail(Outcome::not_at_rest, "stop() takes more than 600 s");
        step();
    }
    run_until(
        [this] {
            watch();
            return flying_ == 0 && commands_.empty();
        },
        60'000'000'000, "requests and commands after stop()");
    if (failed()) return true;
    last_ = array_->configuration();
    last_stable_ = true;
    const bool well = stopped_->has_value();
    if (!well && is_within()) {
        fail(Outcome::not_at_rest, fmt::format("stop() failed: {}", stopped_->error().text()));
    }
    array_.reset();
    cut_off_.clear();
    parts_.reset();
    steps_to_crash_ = 0;
    stopping_ = false;
    // Without a record nobody knows which rows were left in doubt for want of room.
    clean_ = well && (intent_sure_ || !oracle_->has_failed());
    if (well) {
        oracle_->stopped(oracle_->begin_flush());
    } else {
        oracle_->crash(false);
    }
    doubt_ = oracle_->has_doubt();
    return true;
}

// ---- starts --------------------------------------------------------------------------------

Simulation::Names Simulation::all_members() const {
    Names all;
    for (const auto& [path, platter] : disks_) {
        if (is_member(*platter)) all.push_back(path);
    }
    return all;
}

/// Whether the next start may be without some members, and be expected to do as well. Starts that
/// died in between have answered nothing.
bool Simulation::may_be_absent() const {
    if (!is_within()) return true;
    const bool stable = starts_died_ ? stable_before_ : last_stable_;
    return stable && (clean_ || intent_sure_) && !last_.resynced;
}

/// Members, spares, and what once was one; some members are away.
Simulation::Names Simulation::choose_members(std::set<std::uint32_t>& absent) {
    const std::set<std::uint32_t> weak = weak_roles();
    const bool careful = !may_be_absent();
    const bool due = snapshot_ && snapshot_->due && !careful && !starts_died_;
    if (due) {
        roll_back(absent);
    } else if (!careful && !without_.empty()) {
        // Whoever a start that died was without may be missing now, and nobody else.
        for (const std::uint32_t role : without_) {
            if (rng_.chance(2)) absent.insert(role);
        }
    } else if (!careful && rng_.chance(3)) {
        std::uint64_t most = is_within()
                                 ? losses_max() - std::min<std::size_t>(losses_max(), weak.size())
                                 : options_.members;
        for (most = most == 0 ? 0 : 1 + rng_.below(most); most != 0; --most) {
            absent.insert(static_cast<std::uint32_t>(rng_.below(options_.members)));
        }
        std::erase_if(absent, [&](std::uint32_t role) { return weak.contains(role); });
    }
    if (!careful && absent.empty() && !starts_died_) roll_back(absent);
    Names given;
    for (const std::string& path : all_members()) {
        const auto record = std::ranges::find(last_.members, path, &MemberRecord::path);
        const bool counts = record != last_.members.end() && !path.empty();
        if (counts && record->role && absent.contains(raw(*record->role)) &&
            platter_of(path)->content.size() != 0 && !(snapshot_ && snapshot_->path == path)) {
            continue;
        }
        if (counts || !last_stable_ || rng_.chance(2)) given.push_back(path);
    }
    if (given.empty()) return all_members();
    return given;
}

/// A copy of a member of an array that was stopped cleanly.
void Simulation::copy_at_rest() {
    if (!options_.copies_at_rest || !is_within() || !clean_ || !rng_.chance(3)) return;
    if (snapshot_ && snapshot_->due) return;
    const MemberRecord& record = last_.members[rng_.below(last_.members.size())];
    const auto platter = platter_of(record.path);
    if (!record.role || record.state != MemberState::in_sync || !platter || !platter->is_well())
        return;
    snapshot_ = snapshot_of(record.path, true);
}

/// A member comes back with what it held some time ago.
void Simulation::roll_back(std::set<std::uint32_t>& absent) {
    if (!snapshot_ || !is_within() || (!snapshot_->due && !rng_.chance(3))) return;
    snapshot_->due = false;
    if (weak_roles().size() + 1 > losses_max()) return;
    const auto record = std::ranges::find(last_.members, snapshot_->path, &MemberRecord::path);
    // What tells it: a clean stop since, another epoch, or what the newest says is in force. It is
    // not asked for more than what it was served with: that it says so is what is to be shown.
    const bool told = (clean_ && !snapshot_->at_rest) ||
                      snapshot_->version.epoch < last_.version.epoch ||
                      snapshot_->version < last_.in_force;
    if (record == last_.members.end() || !record->role || record->state != MemberState::in_sync) {
        snapshot_.reset();
        return;
    }
    if (!told) return;
    SimPlatter& platter = *platter_of(snapshot_->path);
    platter.unflushed.clear();
    platter.content = std::move(snapshot_->content);
    absent.insert(raw(*record->role));
    note(fmt::format("{} comes back with its content of {}; the array's is {}, in force {}",
                     snapshot_->path, snapshot_->version.text(), last_.version.text(),
                     last_.in_force.text()));
    snapshot_->used = true;
}

Simulation::Started Simulation::open(const Names& given, Start start) {
    note(fmt::format("start{}{}: {}", start.readonly ? " for reading only" : "",
                     start.force ? " with force" : "", joined(given)));
    std::vector<std::unique_ptr<Disk>> disks;
    for (const std::string& path : given) {
        disks.push_back(std::make_unique<SimDisk>(loop_, disks_.at(path), path));
    }
    ArrayOptions how;
    how.force = start.force;
    how.readonly = start.readonly;
    how.seed = rng_.next();
    how.buffer_size = 16u << 20;
    if (!opened_before_) {
        how.intent.region = options_.intent_region;
        if (!options_.intent_on) how.intent.on = false;
    }
    how.on_event = [this](const ArrayEvent& event) { note(event.kind + ": " + event.text); };
    opened_.reset();
    loop_.tasks().spawn(
        store_array(Array::open(loop_.ready(), loop_, std::move(disks), std::move(how)), &opened_));
    std::uint64_t until_crash = ~std::uint64_t{0};
    if (start.may_crash && rng_.chance(starts_died_ ? 2 : 6)) until_crash = rng_.below(400);
    const std::uint64_t end = loop_.now().value + 600'000'000'000;
    while (!opened_) {
        if (until_crash-- == 0 || (dies_when_ && dies_when_())) {
            crash(!rng_.chance(3));
            return Started::crashed;
        }
        if (!loop_.step() || loop_.now().value > end) {
            fail(Outcome::not_at_rest, "the start takes more than 600 s, or for ever");
            return Started::refused;
        }
    }
    oracle_->set_time(loop_.now().value);
    if (!*opened_) {
        refusal_ = opened_->error().text;
        opened_.reset();
        note("refused: " + refusal_);
        return Started::refused;
    }
    array_ = std::move(**opened_);
    opened_.reset();
    opened_before_ = true;
    ++figures_.starts;
    oracle_->set_readonly(start.readonly);
    check(oracle_->restarted(array_->configuration()));
    check_extent();
    intent_failed_.reset();
    if (!start.readonly) note_intent();
    epoch_seen_ = array_->configuration().version;
    note_states();
    starts_died_ = false;
    without_.clear();
    epoch_changed_ = loop_.now().value;
    looks_ = 0;
    return Started::yes;
}

/// With the write intent on, a crash leaves marked stripes in doubt, never all of the array.
void Simulation::check_extent() {
    if (!is_within() || clean_ || !last_stable_ || !intent_sure_ || last_.resynced) return;
    if (!array_->configuration().resynced) return;
    fail(Outcome::wrong_data, "R4: the write intent was on, and all of the array is in doubt");
}

void Simulation::look_readonly(const Names& given) {
    if (open(given, {.readonly = true}) != Started::yes) return;
    read_all(std::max<std::uint64_t>(65536, oracle_->size() / 16));
    if (failed()) return;
    stopped_.reset();
    stopping_ = true;
    loop_.tasks().spawn(store_result(array_->stop(), &stopped_));
    run_until([this] { return stopped_.has_value(); }, 600'000'000'000,
              "stop() after reading only");
    stopping_ = false;
    if (failed()) return;
    array_.reset();
    oracle_->set_readonly(false);
}

void Simulation::check_refusal(const Names& given) {
    ++figures_.refused;
    if (!is_within() || !last_stable_) return;
    std::uint32_t in_sync = 0;
    MemberSet present;
    for (const MemberRecord& record : last_.members) {
        if (!record.role || record.state != MemberState::in_sync) continue;
        ++in_sync;
        const auto platter = platter_of(record.path);
        const bool here = std::ranges::find(given, record.path) != given.end();
        const bool old = snapshot_ && snapshot_->path == record.path;
        // One that fails reads now and then counts: of its metadata each read is tried six times,
        // and at worst one in five fails. So about one in 60 000 is not read.
        const bool readable = platter && !platter->dead;
        if (here && !old && readable) present.add(*record.role);
    }
    if (!last_.quorum().is_enough(present)) return;  // the absent ones may be newer
    if (!options_.intent_room && present.size() != in_sync)
        return;  // there is no room for promises
    fail(Outcome::wrong_data, "R4: the start was refused: " + refusal_);
}

void Simulation::restart() {
    copy_at_rest();
    die_with_one_written();
    for (int attempt = 0; attempt != 8 && !failed(); ++attempt) {
        std::set<std::uint32_t> absent;
        const Names given = choose_members(absent);
        if (rng_.chance(10)) look_readonly(given);
        if (!failed()) start_with_second_path(given);
        if (failed()) return;
        const bool last_stable_before = last_stable_;
        const Started started = open(given, {.may_crash = may_crash(absent.size())});
        if (started == Started::refused) check_refusal(given);  // it asks who came back as a copy
        if (snapshot_ && snapshot_->used) snapshot_.reset();
        if (started == Started::yes) {
            begin_tensely();
            if (!array_ || failed() || copy_and_end()) return;
            if (rng_.chance(2)) read_all(std::max<std::uint64_t>(65536, oracle_->size() / 16));
            return;
        }
        if (started == Started::crashed) {
            if (!starts_died_) stable_before_ = last_stable_before;
            starts_died_ = true;
            without_.insert(absent.begin(), absent.end());
            last_stable_ = false;  // what it wrote may hold
            continue;
        }
        break;
    }
    if (!failed()) restart_with_all();
}

void Simulation::heal_all() {
    for (const auto& [path, platter] : disks_) heal(path);
}

/// Every fault is gone, and everything that ever was a member is given.
void Simulation::restart_with_all() {
    heal_all();
    Names given = all_members();
    for (std::size_t turn = disks_.size() + 1; turn != 0 && !failed(); --turn) {
        if (open(given, {}) == Started::yes) return;
        // A member that is dead might be newer, where there are no promises; here it is not.
        const bool no_promises = refusal_.find("no room for promises") != std::string::npos;
        if (no_promises && open(given, {.force = true}) == Started::yes) return;
        // A device that is in the way of the others, as people would leave it out.
        const auto named = std::ranges::find_if(given, [this](const std::string& path) {
            const auto record = std::ranges::find(last_.members, path, &MemberRecord::path);
            const bool counts = record != last_.members.end() && record->role &&
                                record->state == MemberState::in_sync;
            return refusal_.starts_with(path + ":") && !counts;
        });
        if (named == given.end()) break;
        given.erase(named);
    }
    ++figures_.refused;
    if (is_within()) return fail(Outcome::wrong_data, "R4: the start was refused: " + refusal_);
    note("no start is possible any more, beyond what the level promises");
    gone_for_good_ = true;
}

}  // namespace braid::sim
