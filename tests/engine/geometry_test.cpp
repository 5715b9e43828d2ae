// SPDX-License-Identifier: BSD-3-Clause
// Geometry against md's own formulas, written down once more, and what must hold of any layout.
#include "engine/layout/geometry.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "engine/base/rng.h"

namespace braid {
namespace {

struct Shape {
    Level level;
    Layout layout;
};
constexpr Shape shapes[] = {
    {Level::raid4, Layout::left_symmetric},   {Level::raid5, Layout::left_asymmetric},
    {Level::raid5, Layout::right_asymmetric}, {Level::raid5, Layout::left_symmetric},
    {Level::raid5, Layout::right_symmetric},  {Level::raid6, Layout::left_symmetric},
};

Geometry make(Shape shape, std::uint32_t members, std::uint64_t strip, std::uint64_t stripes) {
    Configuration configuration;
    configuration.level = shape.level;
    configuration.layout = shape.layout;
    configuration.member_count = members;
    configuration.strip_size = strip;
    configuration.stripes = stripes;
    return Geometry::of(configuration);
}

/// Linux 6.1, drivers/md/raid5.c, raid5_compute_sector(), with its names; sectors of 512 bytes.
struct MdPlace {
    std::uint64_t new_sector;
    std::uint32_t dd_idx, pd_idx, qd_idx;
};
MdPlace md_compute_sector(std::uint64_t r_sector, Shape shape, std::uint32_t raid_disks,
                          std::uint64_t sectors_per_chunk) {
    const std::uint32_t max_degraded = shape.level == Level::raid6 ? 2 : 1;
    const std::uint32_t data_disks = raid_disks - max_degraded;
    const std::uint64_t chunk_offset = r_sector % sectors_per_chunk;
    const std::uint64_t chunk_number = r_sector / sectors_per_chunk;
    const std::uint64_t stripe = chunk_number / data_disks;
    auto dd_idx = static_cast<std::uint32_t>(chunk_number % data_disks);
    const auto turn = static_cast<std::uint32_t>(stripe % raid_disks);  // sector_div(stripe2, ...)
    std::uint32_t pd_idx = ~0U;
    std::uint32_t qd_idx = ~0U;
    if (shape.level == Level::raid4) {
        pd_idx = data_disks;
    } else if (shape.level == Level::raid5) {
        switch (shape.layout) {
            case Layout::left_asymmetric:  // ALGORITHM_LEFT_ASYMMETRIC, 0
                pd_idx = data_disks - turn;
                if (dd_idx >= pd_idx) dd_idx++;
                break;
            case Layout::right_asymmetric:  // 1
                pd_idx = turn;
                if (dd_idx >= pd_idx) dd_idx++;
                break;
            case Layout::left_symmetric:  // 2
                pd_idx = data_disks - turn;
                dd_idx = (pd_idx + 1 + dd_idx) % raid_disks;
                break;
            case Layout::right_symmetric:  // 3
                pd_idx = turn;
                dd_idx = (pd_idx + 1 + dd_idx) % raid_disks;
                break;
        }
    } else {  // ALGORITHM_LEFT_SYMMETRIC
        pd_idx = raid_disks - 1 - turn;
        qd_idx = (pd_idx + 1) % raid_disks;
        dd_idx = (pd_idx + 2 + dd_idx) % raid_disks;
    }
    return {stripe * sectors_per_chunk + chunk_offset, dd_idx, pd_idx, qd_idx};
}

TEST(Geometry, IsMdsForEverySector) {
    for (const Shape shape : shapes) {
        for (std::uint32_t members = shape.level == Level::raid6 ? 4 : 3; members != 12;
             ++members) {
            const Geometry g = make(shape, members, 8192, 3 * members);
            const std::uint64_t sectors = g.stripes * g.stripe_data_size() / 512;
            for (std::uint64_t sector = 0; sector != sectors; ++sector) {
                const MdPlace md = md_compute_sector(sector, shape, members, 8192 / 512);
                const std::uint64_t at = sector * 512;
                const StripeIndex stripe = g.stripe_of(ArrayOffset{at});
                const std::uint64_t in_stripe = at % g.stripe_data_size();
                const Role role{static_cast<std::uint32_t>(in_stripe / g.strip_size)};
                ASSERT_EQ(raw(g.member_of(stripe, role)), md.dd_idx);
                ASSERT_EQ(g.strip_offset(stripe).value + in_stripe % g.strip_size,
                          md.new_sector * 512);
                ASSERT_EQ(raw(g.member_of(stripe, g.p())), md.pd_idx);
                if (shape.level == Level::raid6) {
                    ASSERT_EQ(raw(g.member_of(stripe, g.q())), md.qd_idx);
                }
            }
        }
    }
}

TEST(Geometry, EveryRoleHasOneMemberAndTheOtherWayRound) {
    for (const Shape shape : shapes) {
        for (std::uint32_t members = shape.level == Level::raid6 ? 4 : 3; members <= members_max;
             ++members) {
            const Geometry g = make(shape, members, 4096, 1000);
            for (std::uint64_t s = 0; s != 2 * members + 1; ++s) {
                const StripeIndex stripe{s};
                std::set<MemberIndex> used;
                for (const Role role : RoleSet::first(members)) {
                    const MemberIndex member = g.member_of(stripe, role);
                    ASSERT_LT(raw(member), members);
                    used.insert(member);
                    ASSERT_EQ(g.role_of(stripe, member), role);
                }
                ASSERT_EQ(used.size(), members);
            }
        }
    }
}

TEST(Geometry, AByteOfTheArrayHasOnePlaceAndBack) {
    for (const Shape shape : shapes) {
        const Geometry geometry = make(shape, 5, 16384, 40);
        const std::uint64_t size = geometry.stripes * geometry.stripe_data_size();
        std::uint64_t expected = 0;
        for (std::uint64_t stripe = 0; stripe != geometry.stripes; ++stripe) {
            for (const Role role : geometry.data_roles()) {
                for (const std::uint64_t offset : {0u, 1u, 4095u, 4096u, 16383u}) {
                    const ArrayOffset at =
                        geometry.array_offset_of({StripeIndex{stripe}, role, offset});
                    ASSERT_EQ(at.value, expected + offset);
                    ASSERT_LT(at.value, size);
                    const StripPlace place = geometry.place_of(at);
                    ASSERT_EQ(raw(place.stripe), stripe);
                    ASSERT_EQ(raw(place.role), raw(role));
                    ASSERT_EQ(place.offset, offset);
                    const ArrayOffset stripe_begin = geometry.stripe_begin(place.stripe);
                    ASSERT_EQ((stripe_begin + geometry.window_begin(role, 0)).value, expected);
                }
                expected += geometry.strip_size;
            }
        }
        ASSERT_EQ(expected, size);
    }
}

TEST(Geometry, RowsOfWindowsFollowEachOtherOnAMember) {
    const Geometry geometry = make(shapes[5], 6, 1u << 20, 10);
    std::uint64_t expected = 0;
    WindowIndex number{};
    RowIndex row_number{};
    for (StripeIndex stripe{}; stripe != StripeIndex{geometry.stripes}; ++stripe) {
        EXPECT_EQ(geometry.first_window(stripe), number);
        EXPECT_EQ(geometry.first_row(stripe), row_number);
        for (std::uint32_t window = 0; window != geometry.windows_per_stripe(); ++window) {
            const WindowPlace place{stripe, window};
            ASSERT_EQ(geometry.window_number(place), number);
            ASSERT_EQ(geometry.window_place(number), place);
            ASSERT_EQ(geometry.stripe_of(number), stripe);
            ASSERT_EQ(geometry.first_row(number), row_number);
            for (std::uint32_t row = 0; row != geometry.window_rows; ++row) {
                ASSERT_EQ(geometry.row_offset(place, row).value, expected);
                ASSERT_EQ(geometry.row_number(place, row), row_number);
                ASSERT_EQ(geometry.window_of(row_number), number);
                ASSERT_EQ(geometry.stripe_of(row_number), stripe);
                expected += row_size;
                ++row_number;
            }
            ++number;
        }
    }
    EXPECT_EQ(number, geometry.window_end());
    EXPECT_EQ(expected, geometry.stripes * geometry.strip_size);
}

TEST(Geometry, ParityIsSpreadEvenlyExceptOverRaid4) {
    for (const Shape shape : shapes) {
        const Geometry g = make(shape, 7, 4096, 700);
        std::vector<int> count(7);
        for (std::uint64_t s = 0; s != 70; ++s) ++count[raw(g.member_of(StripeIndex{s}, g.p()))];
        for (std::uint32_t m = 0; m != 7; ++m) {
            EXPECT_EQ(count[m], shape.level == Level::raid4 ? (m == 6 ? 70 : 0) : 10);
        }
    }
}

TEST(Geometry, LargeArraysDoNotOverflow) {
    for (const Shape shape : shapes) {
        const std::uint64_t stripes = member_size_max / strip_size_max;
        const Geometry g = make(shape, 16, strip_size_max, stripes);
        const StripeIndex last{stripes - 1};
        EXPECT_EQ(g.stripe_of(ArrayOffset{stripes * g.stripe_data_size() - 1}), last);
        EXPECT_EQ(g.strip_offset(last).value + g.strip_size, member_size_max);
        EXPECT_EQ(g.role_of(last, g.member_of(last, g.p())), g.p());
    }
}

TEST(Geometry, WindowsCutStripsEvenlyAndAJobFitsItsBuffers) {
    for (const Shape shape : shapes) {
        for (std::uint32_t members = shape.level == Level::raid6 ? 4 : 3; members <= members_max;
             ++members) {
            for (std::uint64_t strip = strip_size_min; strip <= strip_size_max; strip *= 2) {
                const Geometry g = make(shape, members, strip, 10);
                ASSERT_GE(g.window_rows, 1U);
                ASSERT_LE(g.window_rows, window_rows_max);
                ASSERT_EQ(g.rows_per_strip() % g.window_rows, 0U);
                ASSERT_EQ(g.window_size() * g.windows_per_stripe(), strip);
                // Old and new of each member's strip, and some.
                ASSERT_LE((2 * members + 2) * g.window_size(), job_size_max);
                const bool could_be_larger =
                    2 * g.window_rows <= window_rows_max && 2 * g.window_rows <= g.rows_per_strip();
                if (could_be_larger) {
                    ASSERT_GT((2 * members + 2) * 2 * g.window_size(), job_size_max);
                }
            }
        }
    }
}

TEST(RoleSet, IsASet) {
    EXPECT_EQ(RoleSet::first(64).size(), 64U);
    EXPECT_EQ(RoleSet::first(0).size(), 0U);
    const RoleSet some = RoleSet::of(Role{0}) | RoleSet::of(Role{5}) | RoleSet::of(Role{63});
    std::vector<std::uint32_t> roles;
    for (const Role role : some) roles.push_back(raw(role));
    EXPECT_EQ(roles, (std::vector<std::uint32_t>{0, 5, 63}));
    EXPECT_EQ((some - RoleSet::of(Role{5})).size(), 2U);
    EXPECT_TRUE(RoleSet::first(64).has_all(some));
    EXPECT_FALSE(some.has_all(RoleSet::first(2)));
}

}  // namespace
}  // namespace braid
