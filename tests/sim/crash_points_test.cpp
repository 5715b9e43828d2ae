// SPDX-License-Identifier: BSD-3-Clause
// Every crash point of small arrays. An operation is begun anew for each of its member writes, the
// power goes after that one, and of the writes that no flush covered every subset is kept (all of
// them while they are few, else none, all, each alone, all but each, and some by seed). Then the
// array starts, whole or with one member more away, and every sector must be as it was before the
// operation or as it is after it, decided once; parity must be true when the resync has passed; and
// an error is allowed for listed rows of the regions that were being written alone, and none where
// nothing was in doubt any more. A write that fails on a member that keeps its place (no room, or
// the level needs it) goes on: with another one of its row, a flush, and what is read then has to
// stay. Of a start and of a stop that die what lies on the members is only decided by later starts:
// one of them dies, too, another one has as few members as are enough, and writes; whoever was not
// there may have no say any more, and nothing may come back.
#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "tests/sim/crash_point.h"

namespace braid::sim::crash {
namespace {

constexpr What every_kind[] = {
    What::small, What::several, What::full,    What::trim, What::clean, What::configuration,
    What::heal,  What::rebuild, What::no_room, What::kept, What::start, What::start_after_crash,
    What::stop};

/// Of the stripe that is written.
MemberIndex member_of(Level level, std::uint32_t role) {
    Geometry geometry;
    geometry.level = level;
    geometry.member_count = level == Level::raid6 ? 5 : 4;
    geometry.strip_size = strip;
    geometry.stripes = stripes;
    geometry.window_rows = 1;
    return geometry.member_of(StripeIndex{7}, Role{role});
}

/// Whole; without a data strip; without parity. What RAID-4 does as RAID-5 is left to that.
std::vector<Case> cases_of(Level level, What what) {
    constexpr std::uint32_t data = 1;
    constexpr std::uint32_t p = 3;
    constexpr std::uint32_t q = 4;
    using Lost = std::vector<std::uint32_t>;  // roles
    const auto with = [&](const Lost& lost, std::uint32_t refuses = 0) {
        Case one{.level = level, .what = what, .lost = {}, .refuses = refuses};
        for (const std::uint32_t role : lost) one.lost.insert(raw(member_of(level, role)));
        return one;
    };
    switch (what) {
        case What::heal:  // it is degraded by itself
            return {with({})};
        case What::rebuild:
            return {with({data}), with({p})};
        case What::no_room:
            if (level == Level::raid4) return {};
            if (level == Level::raid5) return {with({}, data), with({}, p)};
            return {with({}, data), with({}, p), with({data}, 0), with({data}, q)};
        case What::kept:  // as many are lost as the level can do without
            if (level != Level::raid6) return {with({data}, 0), with({data}, p), with({p}, data)};
            return {with({data, 2}, 0), with({data, 2}, p), with({data, 2}, q), with({data, p}, 0),
                    with({data, p}, q), with({data, q}, 0), with({data, q}, p), with({p, q}, data)};
        case What::start:
            if (level == Level::raid6) return {with({}), with({data})};
            [[fallthrough]];
        case What::start_after_crash:
        case What::stop:
            if (level == Level::raid4) return {};
            return {with({})};
        default:
            return {with({}), with({data}), with({p})};
    }
}

/// Cases and crash points of all operations on one array.
void run_level(Level level, std::uint64_t points_min, std::uint64_t cases_min) {
    std::uint64_t points = 0;
    std::uint64_t cases = 0;
    for (const What what : every_kind) {
        for (const Case& one : cases_of(level, what)) {
            bool goes_on = true;
            const std::uint64_t points_before = points;
            const std::uint64_t cases_before = cases;
            for (std::uint64_t after = 0; goes_on; ++after) {
                Point point(one, after);
                goes_on = point.run();
                ASSERT_FALSE(testing::Test::HasFatalFailure());
                ++points;
                cases += point.check_all();
                ASSERT_FALSE(testing::Test::HasFailure());
            }
            std::printf("%s: %lu crash points, %lu cases\n", text_of(one).c_str(),
                        points - points_before, cases - cases_before);
        }
    }
    std::printf("%lu crash points, %lu cases\n", points, cases);
    std::fflush(stdout);
    EXPECT_GE(points, points_min) << "operations write less than they did: are all still tried?";
    EXPECT_GE(cases, cases_min);
}

// Floors below what there is (RAID-5: 2050 cases in 418 points).
TEST(CrashPoints, Raid4) { run_level(Level::raid4, 270, 1200); }
TEST(CrashPoints, Raid5) { run_level(Level::raid5, 380, 1800); }
TEST(CrashPoints, Raid6) { run_level(Level::raid6, 660, 4000); }

}  // namespace
}  // namespace braid::sim::crash
