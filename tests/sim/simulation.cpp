// SPDX-License-Identifier: BSD-3-Clause
#include "tests/sim/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "engine/assembly/create.h"
#include "engine/metadata/config_slot.h"

namespace braid::sim {

void Trace::note(std::uint64_t nanos, const std::string& text) {
    std::string line = fmt::format("{:>12.6f} {}", static_cast<double>(nanos) / 1e9, text);
    if (prints_all_) {
        std::puts(line.c_str());
        return;
    }
    last_.push_back(std::move(line));
    if (last_.size() > kept_max) last_.pop_front();
}

void Trace::print() const {
    for (const std::string& line : last_) std::puts(line.c_str());
}

namespace {

// As little in front of the data as the areas need: runs are many, and members are copied.
constexpr std::uint64_t data_offset_with_intent = (promises_end + 65536) / 65536 * 65536;
constexpr std::uint64_t data_offset_without = 512u << 10;
constexpr std::uint64_t spins_max = 1'000'000;

}  // namespace

Simulation::Simulation(SimOptions options, Trace& trace)
    : options_(options),
      trace_(trace),
      rng_(options.seed * 0x9e3779b97f4a7c15 + 1),
      loop_(options.seed),
      data_offset_(options.intent_room ? data_offset_with_intent : data_offset_without) {
    if (options.wall_stands) loop_.let_wall_stand();
}

Simulation::~Simulation() {
    for (auto& [path, platter] : disks_) platter->flights.clear();
    loop_.crash([this] {
        array_.reset();
        opened_.reset();
    });
}

Outcome Simulation::run() {
    create();
    for (std::uint64_t i = 0; i != options_.steps && !failed() && !gone_for_good_; ++i) act();
    if (!failed() && !gone_for_good_) finish();
    if (oracle_) figures_.sectors_checked = oracle_->versions_checked();
    figures_.virtual_seconds = loop_.now().value / 1'000'000'000;
    return outcome_;
}

void Simulation::create() {
    std::vector<CreateMember> members;
    std::vector<std::unique_ptr<SimDisk>> disks;
    std::vector<Disk*> pointers;
    for (std::uint32_t i = 0; i != options_.members + options_.spares; ++i) {
        const std::string path = fmt::format("m{}", i);
        const auto platter = disks_[path] = make_platter(options_.junk);
        disks.push_back(std::make_unique<SimDisk>(loop_, platter, path));
        pointers.push_back(disks.back().get());
        CreateMember member;
        member.path = path;
        // As large as it had to be with the data where `create` puts it.
        member.size = platter->content.size() - data_offset_ + data_offset_default;
        member.spare = i >= options_.members;
        member.zero_fast = options_.zero_fast;
        members.push_back(std::move(member));
    }
    CreateOptions how;
    how.level = options_.level;
    how.layout = options_.layout;
    how.strip_size = options_.strip_size;
    how.name = "sim";
    how.wall_seconds = loop_.wall_seconds();
    const std::uint64_t stripe_size =
        options_.strip_size * (options_.members - parities_of(options_.level));
    for (std::uint32_t i = 0; options_.volumes > 1 && i != options_.volumes; ++i) {
        const std::uint64_t stripes = options_.stripes / (options_.volumes + 1) + i % 2;
        how.volumes.push_back({fmt::format("v{}", i), stripes * stripe_size});
    }
    auto plan = plan_create(how, members, loop_.rng());
    BRAID_REQUIRE(plan.has_value());
    for (MemberRecord& record : plan->configuration.members) {
        record.data_offset = data_offset_;
        record.size = record.size + data_offset_ - data_offset_default;
    }
    const auto created = loop_.run_until_done(create_array(pointers, *plan, {}));
    BRAID_REQUIRE(created.has_value());
    disks.clear();
    last_ = plan->configuration;
    const Geometry geometry = Geometry::of(last_);
    const auto initial = [&](std::uint64_t sector, SectorBytes& into) {
        const std::uint64_t at = sector * sector_size;
        const StripeIndex stripe = geometry.stripe_of(ArrayOffset{at});
        const std::uint64_t in_stripe = at % geometry.stripe_data_size();
        const Role role{static_cast<std::uint32_t>(in_stripe / geometry.strip_size)};
        const auto& platter = disks_.at(fmt::format("m{}", raw(geometry.member_of(stripe, role))));
        std::memcpy(into.data(),
                    platter->content.data() + data_offset_ + geometry.strip_offset(stripe).value +
                        in_stripe % geometry.strip_size,
                    sector_size);
    };
    oracle_ = std::make_unique<Oracle>(last_, initial);
    if (trace_.prints_all()) oracle_->on_note([this](const std::string& text) { note(text); });
    if (last_.resynced) {
        doubt_ = true;
        oracle_->doubt_everything();
    }
    if (!is_within()) oracle_->allow_unknown();
    Names all;
    for (const auto& [path, platter] : disks_) all.push_back(path);
    const Started started = open(all, {});
    BRAID_REQUIRE(started == Started::yes);
}

/// One thing that happens from outside, and some time for the array.
void Simulation::act() {
    const auto strikes = [&](std::uint32_t one_in) { return one_in != 0 && rng_.chance(one_in); };
    if (!array_) return restart();
    if (strikes(options_.crashes_one_in) && may_crash()) return crash(!rng_.chance(3));
    if (strikes(options_.stops_one_in)) return (void)stop(true);
    if (strikes(options_.faults_one_in)) rng_.chance(4) ? heal_one() : inject_fault();
    if (options_.outages && strikes(100)) begin_outage();
    if (strikes(options_.operators_one_in)) operate();
    if (strikes(options_.corrupts_one_in)) corrupt();
    if (options_.aliases && strikes(60)) order_with_second_path();
    if (rng_.chance(200)) take_snapshot();
    if (strikes(options_.idles_one_in)) {
        land();
        run_for(1'000'000'000 + rng_.below(20) * 1'000'000'000);
    }
    if (flying_ < options_.flights_max && !rewrite_some_row()) start_request();
    if (failed() || !array_) return;
    pump(rng_.below(options_.pace) + (flying_ >= options_.flights_max ? options_.pace : 0));
    watch();
}

// ---- time ----------------------------------------------------------------------------------

void Simulation::fail(Outcome outcome, std::string text) {
    if (failed()) return;
    outcome_ = outcome;
    failure_ = std::move(text);
    note("FAILED: " + failure_);
}

void Simulation::check(const std::optional<Broken>& broken) {
    if (broken) fail(Outcome::wrong_data, fmt::format("{}: {}", broken->promise, broken->text));
}

void Simulation::note(const std::string& text) { trace_.note(loop_.now().value, text); }

bool Simulation::step() {
    if (!loop_.step()) {
        if (flying_ != 0) fail(Outcome::not_at_rest, "requests wait, and nothing will ever happen");
        return false;
    }
    if (loop_.now().value != stepped_at_) {
        stepped_at_ = loop_.now().value;
        steps_at_ = 0;
    } else if (++steps_at_ == spins_max) {
        fail(Outcome::not_at_rest, "it spins: a million steps, and no time passes");
    }
    look();
    return true;
}

void Simulation::pump(std::uint64_t steps) {
    for (; steps != 0 && !failed() && array_; --steps) {
        step();
        if (array_ && !failed() && crash_at_change()) return;
    }
}

/// What is wanted of the members changes before the version does, which comes with the writing.
void Simulation::note_states() {
    states_seen_.clear();
    for (const MemberRecord& at : array_->configuration().members) {
        states_seen_.push_back(at.state);
    }
}

bool Simulation::are_states_as_seen() const {
    return std::ranges::equal(array_->configuration().members, states_seen_, {},
                              &MemberRecord::state);
}

/// Keeps the oracle up to date with what it may see of the engine.
void Simulation::look() {
    oracle_->set_time(loop_.now().value);
    if (!array_) return;
    note_mended(false);
    note_changes();
    const Configuration& now = array_->configuration();
    if (now.version != epoch_seen_ || !are_states_as_seen()) {
        epoch_seen_ = now.version;
        note_states();
        epoch_changed_ = loop_.now().value;
    }
    if (now.resynced) resync_seen_ = loop_.now().value;
    if (outage_ && loop_.now().value > outage_->until) end_outage();
    const std::uint64_t listed = oracle_->listed_rows();
    oracle_->set_full(options_.holes && was_full());
    check(oracle_->see(now));
    check_unforced();
    if (oracle_->listed_rows() > listed) figures_.rows_listed += oracle_->listed_rows() - listed;
    if ((!doubt_ && !oracle_->has_failed()) || ++looks_ % 64 != 0) return;
    const ArrayStatus status = array_->status();
    if (!status.readonly && status.intent.stripes_marked == 0) oracle_->marks_are_gone();
    if (!doubt_) return;
    if (status.readonly || status.configuration.resynced) return;
    if (status.recovery && status.recovery->stripes_left != 0) return;
    note("a resync has passed what was in doubt");
    doubt_ = false;
    oracle_->doubt_is_over();
    for (const MemberRecord& record : status.configuration.members) {
        const auto platter = platter_of(record.path);
        if (record.role && platter && !platter->is_well()) oracle_->set_unreadable(*record.role);
    }
}

void Simulation::run_for(std::uint64_t nanos) {
    const std::uint64_t end = loop_.now().value + nanos;
    bool over = false;
    loop_.after(nanos, [&over] { over = true; });
    while (!over && loop_.now().value <= end && !failed()) step();
    BRAID_REQUIRE(over || failed());
}

/// Nobody waits for ever.
void Simulation::watch() {
    constexpr std::uint64_t patience = 300'000'000'000;
    std::erase_if(flights_, [](const Flight& flight) { return flight.done; });
    std::erase_if(commands_, [this](const auto& command) {
        if (!command->result) return false;
        const auto& result = *command->result;
        note(fmt::format("{}: {}", command->name, result ? "done" : result.error().text));
        if (command->name.starts_with("intent")) intent_answered(result.has_value());
        return true;
    });
    look_at_intent();
    for (const Flight& flight : flights_) {
        if (loop_.now().value - flight.since < patience) continue;
        return fail(Outcome::not_at_rest, fmt::format("request {} waits for {} s", flight.number,
                                                      patience / 1'000'000'000));
    }
}

}  // namespace braid::sim
