// SPDX-License-Identifier: BSD-3-Clause
// What starts make of each subset of the unflushed writes that stays.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/sim/crash_point.h"

namespace braid::sim::crash {

std::uint64_t Point::check_all() {
    std::uint64_t cases = 0;
    const std::size_t n = loose_.size();
    Rng rng(stop_after_ * 31 + 7);
    const auto check = [&](const Stays& stays) {
        case_.has_histories() ? check_histories(stays, cases) : check_subset(stays, cases);
        ++cases;
    };
    const bool each_away = case_.fails() || case_.has_histories();
    if (n <= (each_away ? 3 : 7)) {
        // Each member is away once, also where there are few subsets.
        const std::uint64_t all = std::uint64_t{1} << n;
        const std::uint64_t turns =
            each_away && all < sim.platters.size() ? sim.platters.size() : all;
        for (std::uint64_t turn = 0; turn != turns; ++turn) {
            const std::uint64_t bits = turn % all;
            check([bits](std::size_t i) { return ((bits >> i) & 1) != 0; });
            if (testing::Test::HasFailure()) return cases;
        }
        return cases;
    }
    check([](std::size_t) { return false; });
    check([](std::size_t) { return true; });
    for (std::size_t one = 0; one != n && !testing::Test::HasFailure(); ++one) {
        // By turns where there are many points.
        const bool even = stop_after_ % 2 == 0;
        if (!each_away || even) check([one](std::size_t i) { return i == one; });
        if (!each_away || !even) check([one](std::size_t i) { return i != one; });
    }
    for (int some = 0; some != (each_away ? 2 : 8) && !testing::Test::HasFailure(); ++some) {
        std::vector<bool> fate(n);
        for (std::size_t i = 0; i != n; ++i) fate[i] = rng.chance(2);
        check([&fate](std::size_t i) { return static_cast<bool>(fate[i]); });
    }
    return cases;
}

/// Lays out what the power cut leaves.
void Point::lay(const Stays& stays) {
    std::size_t first = 0;
    for (std::size_t m = 0; m != sim.platters.size(); ++m) {
        SimPlatter& platter = *sim.platters[m];
        platter.heal();
        SimArray::copy_used(platter.content, content_[m]);
        platter.unflushed = unflushed_[m];
        platter.cut_power([&](std::size_t write, std::uint64_t) { return stays(first + write); });
        first += unflushed_[m].size();
        SimArray::copy_used(left_[m], platter.content);
    }
}

std::string Point::where(std::uint64_t number) const {
    return fmt::format("{}, RAID-{}, after {} member writes, subset {} of {} writes",
                       text_of(case_), static_cast<int>(case_.level), stop_after_, number,
                       loose_.size());
}

/// A start, or a stop, died. Perhaps another start does, without one member, as soon as one
/// holds what it stores; then one serves without that, which has as few members as are enough,
/// is written to, and dies. Whoever was not there has no say any more.
void Point::check_histories(const Stays& stays, std::uint64_t number) {
    SCOPED_TRACE(where(number));
    lay(stays);
    const std::vector<std::byte> model = sim.model;
    const std::vector<std::byte> after = after_;
    const bool had_no_doubt = has_no_doubt_;
    const std::vector<std::size_t> all = here();
    const std::size_t turn = number % all.size();
    std::set<std::size_t> without{all[turn]};
    if (case_.level == Level::raid6 && case_.lost.empty())
        without.insert(all[(turn + 1) % all.size()]);
    const std::uint64_t deaths = (stop_after_ + number / all.size()) % 3;
    const bool dies_again = deaths != 0;
    if (dies_again) die_in_start(all[turn], all[(turn + 1) % all.size()], deaths + 1);
    serve_without(all, without, dies_again);
    if (testing::Test::HasFatalFailure()) return;
    const auto opened = sim.open(all);
    ASSERT_TRUE(opened) << opened.error().text;
    for (const std::size_t one : served_ ? without : std::set<std::size_t>{}) {
        EXPECT_EQ(sim.state_of(static_cast<std::uint32_t>(one)), MemberState::missing) << one;
    }
    expect_old_or_new(true);
    sim.come_to_rest();
    expect_old_or_new(true);
    sim.kill();
    sim.model = model;
    after_ = after;
    has_no_doubt_ = had_no_doubt;
    unknown_.clear();
}

/// After so many writes of the member that is away later on: its promise, its slot, the rest.
void Point::die_in_start(std::size_t first, std::size_t without, std::uint64_t stop_after) {
    std::vector<std::size_t> given = here();
    std::erase(given, without);
    begin_start(given, first);
    const SimPlatter& platter = *sim.platters[first];
    const std::uint64_t base = platter.writes;
    while (!opened_ && platter.writes - base < stop_after) ASSERT_TRUE(sim.loop().step());
    kill();
    for (auto& one : sim.platters) {
        one->cut_power(sim.loop().rng());
        one->heal();
    }
}

void Point::serve_without(const std::vector<std::size_t>& all, const std::set<std::size_t>& without,
                          bool may_be_refused) {
    std::vector<std::size_t> given = all;
    std::erase_if(given, [&](std::size_t one) { return without.contains(one); });
    const auto opened = sim.open(given);
    served_ = opened.has_value();
    if (!served_) {  // the start before may hold, without one of these
        ASSERT_TRUE(may_be_refused) << opened.error().text;
        return;
    }
    const std::vector<std::byte> decided = expect_old_or_new(true);
    for (std::uint64_t at = 0; at != sim.size(); at += sector_size) {
        const bool known =
            !std::all_of(decided.begin() + static_cast<std::ptrdiff_t>(at),
                         decided.begin() + static_cast<std::ptrdiff_t>(at + sector_size),
                         [](std::byte byte) { return byte == std::byte{0xee}; });
        if (!known) unknown_.insert(at);
    }
    sim.model = decided;
    // Whole where rows are listed.
    Buffer whole = random_bytes(sim.loop().rng(), stripe_size());
    ASSERT_TRUE(sim.write(7 * stripe_size(), whole, Fua::yes));
    Buffer part = random_bytes(sim.loop().rng(), strip + 512);
    for (const std::uint64_t stripe : {0u, 12u}) {
        ASSERT_TRUE(sim.write(stripe * stripe_size() + strip, part, Fua::yes));
    }
    for (std::uint64_t at = 0; at != sim.size(); at += sector_size) {
        if (std::memcmp(sim.model.data() + at, decided.data() + at, sector_size) != 0)
            unknown_.erase(at);
    }
    after_ = sim.model;
    while (sim.array->status().intent.stripes_marked != 0) sim.loop().run_for(millis(100));
    sim.loop().run_for(millis(100));  // with the record that says so
    has_no_doubt_ = true;
    sim.crash();
}

void Point::check_subset(const Stays& stays, std::uint64_t number) {
    SCOPED_TRACE(where(number));
    lay(stays);
    // Another member is away, if the level allows it: no wrong byte, and errors where allowed.
    const bool rebuilds = case_.what == What::rebuild;
    const std::uint32_t parities = case_.level == Level::raid6 ? 2 : 1;
    const std::set<std::size_t>& lost_now = rebuilds ? case_.lost : away_;
    if (lost_now.size() < parities) {
        auto also = static_cast<std::uint32_t>(number % sim.platters.size());
        if (lost_now.contains(also)) {
            also = (also + 1) % static_cast<std::uint32_t>(sim.platters.size());
        }
        const auto opened = sim.open(here(also));
        ASSERT_TRUE(opened) << opened.error().text;
        expect_old_or_new(true);
        sim.kill();
        for (std::size_t m = 0; m != sim.platters.size(); ++m) {
            SimArray::copy_used(sim.platters[m]->content, left_[m]);
            sim.platters[m]->unflushed.clear();
        }
    }
    const auto opened = sim.open(here());
    ASSERT_TRUE(opened) << opened.error().text;
    const std::vector<std::byte> decided = expect_old_or_new(!lost_now.empty());
    if (testing::Test::HasFatalFailure()) return;
    sim.come_to_rest();
    EXPECT_EQ(expect_old_or_new(!lost_now.empty()), decided) << "decided twice";
    if (away_.empty() && sim.array->status().health == Health::clean) sim.expect_parity();
    sim.kill();
}

/// Reads all; what cannot be read comes back as a pattern of its own.
std::vector<std::byte> Point::expect_old_or_new(bool degraded) {
    std::vector<std::byte> seen(sim.size(), std::byte{0xee});
    // In pieces that are read at once where nothing is wrong, else by sectors.
    Buffer piece(strip);
    Buffer sector(sector_size);
    bool whole = false;
    for (std::uint64_t at = 0; at != sim.size(); at += sector_size) {
        if (at % strip == 0) whole = sim.read(at, piece).has_value();
        Result<void> result;
        if (whole) {
            std::memcpy(sector.data(), piece.data() + at % strip, sector_size);
        } else {
            result = sim.read(at, sector);
        }
        if (!result) {
            EXPECT_EQ(result.error().code, Errc::unknown);
            EXPECT_TRUE(degraded) << "an error although nothing is lost, at " << at;
            EXPECT_TRUE(is_listed(at)) << "an error that is not listed, at " << at;
            EXPECT_TRUE(!has_no_doubt_ || unknown_.contains(at))
                << "an error although nothing was in doubt, at " << at;
            const std::uint64_t marked =
                case_.what == What::configuration ? region_changed : region;
            const std::uint64_t per_region = marked / stripe_size() * stripe_size();
            EXPECT_TRUE(at >= touched_.first / per_region * per_region &&
                        at < (touched_.second + per_region - 1) / per_region * per_region)
                << "an error where nothing was written, at " << at;
            continue;
        }
        std::memcpy(seen.data() + at, sector.data(), sector_size);
        const bool is_new = std::memcmp(sector.data(), after_.data() + at, sector_size) == 0;
        const bool is_old = std::memcmp(sector.data(), sim.model.data() + at, sector_size) == 0;
        EXPECT_TRUE(is_new || (is_old && (!flushed_ || unknown_.contains(at))))
            << (is_old ? "flushed, and lost again, at " : "neither old nor new, at ") << at;
        if (testing::Test::HasFailure()) return seen;
    }
    return seen;
}

bool Point::is_listed(std::uint64_t at) const {
    for (const BadBytes& bad : sim.array->status().bad) {
        if (at >= bad.offset.value && at < bad.offset.value + bad.size) return true;
    }
    return false;
}

}  // namespace braid::sim::crash
