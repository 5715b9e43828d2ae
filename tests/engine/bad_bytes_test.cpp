// SPDX-License-Identifier: BSD-3-Clause
// bad_bytes_of() against every byte's row looked up one by one.
#include "engine/layout/bad_bytes.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "engine/base/rng.h"
#include "engine/members/bad_rows.h"

namespace braid {
namespace {

Configuration make_configuration(Rng& rng) {
    Configuration c;
    c.level = static_cast<Level>(4 + rng.below(3));
    if (c.level == Level::raid5) c.layout = static_cast<Layout>(rng.below(4));
    c.member_count = parities_of(c.level) + 2 + static_cast<std::uint32_t>(rng.below(4));
    c.strip_size = 4 * row_size;
    c.stripes = 20;
    c.volumes = {{"a", StripeIndex{2}, 5}, {"b", StripeIndex{7}, 6}};
    return c;
}

TEST(BadBytes, ArePerMemberInWords) {
    const auto of = [](std::uint32_t member, std::uint64_t first) {
        return BadRange{MemberIndex{member}, RowIndex{first}, 2};
    };
    EXPECT_EQ(ranges_by_member(std::vector<BadRange>{}), "");
    EXPECT_EQ(ranges_by_member(std::vector{of(2, 4)}), "1 range of member 2");
    EXPECT_EQ(ranges_by_member(std::vector{of(0, 4), of(0, 8), of(3, 4)}),
              "2 ranges of member 0 and 1 of member 3");
    EXPECT_EQ(ranges_by_member(std::vector{of(0, 4), of(1, 8), of(1, 16), of(3, 4)}),
              "1 range of member 0, 2 of member 1 and 1 of member 3");
}

TEST(BadBytes, AreTheRowsOfDataStripsByVolume) {
    Rng rng(9);
    for (int round = 0; round != 300; ++round) {
        Configuration c = make_configuration(rng);
        const Geometry geometry = Geometry::of(c);
        BadRows bad(geometry, {});
        for (int i = 0; i != 6; ++i) {
            bad.set(bad.with({MemberIndex{static_cast<std::uint32_t>(rng.below(c.member_count))},
                              RowIndex{rng.below(40)}, 1 + rng.below(round % 3 == 0 ? 40 : 9)}));
        }
        c.bad_rows = bad.ranges();
        std::map<std::string, std::set<std::uint64_t>> expected;  // rows of a volume
        std::uint64_t rows = 0;
        for (std::uint64_t row = 0; row != c.data_size() / row_size; ++row) {
            const std::uint64_t stripe = row * row_size / c.stripe_data_size();
            const std::uint64_t in_stripe = row * row_size % c.stripe_data_size();
            const Role role{static_cast<std::uint32_t>(in_stripe / c.strip_size)};
            const auto in_strip = static_cast<std::uint32_t>(in_stripe % c.strip_size / row_size);
            const std::uint32_t per_window = geometry.window_rows;
            const WindowPlace place{StripeIndex{stripe}, in_strip / per_window};
            if (bad.rows_of(place, role, row_range(in_strip % per_window, 1)) == 0) continue;
            ++rows;
            if (stripe >= 2 && stripe < 7) {
                expected["a"].insert(row - 2 * c.stripe_data_size() / row_size);
            } else if (stripe >= 7 && stripe < 13) {
                expected["b"].insert(row - 7 * c.stripe_data_size() / row_size);
            } else {
                expected[""].insert(row);
            }
        }
        std::uint64_t total = 0;
        const auto named = bad_bytes_of(c, 1000, &total);
        EXPECT_EQ(total, rows * row_size);
        std::map<std::string, std::set<std::uint64_t>> seen;
        for (const BadBytes& at : named) {
            for (std::uint64_t row = 0; row != at.size / row_size; ++row) {
                EXPECT_TRUE(seen[at.volume].insert(at.offset.value / row_size + row).second);
            }
        }
        EXPECT_EQ(seen, expected);
        for (std::size_t i = 1; i < named.size(); ++i) {
            EXPECT_FALSE(named[i - 1].volume == named[i].volume &&
                         named[i - 1].member == named[i].member &&
                         named[i - 1].offset + named[i - 1].size == named[i].offset)
                << "neighbours are one";
        }
        for (const std::size_t most : {0, 1, 2, 5}) {
            const auto few = bad_bytes_of(c, most, &total);
            ASSERT_EQ(few.size(), std::min(most, named.size()));
            EXPECT_EQ(total, rows * row_size);
            for (std::size_t i = 0; i != few.size(); ++i) {
                EXPECT_EQ(few[i].volume, named[i].volume);
                EXPECT_EQ(few[i].member, named[i].member);
                EXPECT_EQ(few[i].offset, named[i].offset);
                EXPECT_EQ(few[i].size, named[i].size);
            }
        }
    }
}

TEST(BadBytes, OfAWholeMemberTakeNoTime) {
    Configuration c;
    c.level = Level::raid6;
    c.member_count = 10;
    c.strip_size = row_size;
    c.stripes = 10'000'000'000'000;
    c.bad_rows = {{MemberIndex{3}, RowIndex{0}, c.stripes},
                  {MemberIndex{4}, RowIndex{7}, c.stripes - 13}};
    std::uint64_t total = 0;
    const auto named = bad_bytes_of(c, 100, &total);
    EXPECT_EQ(named.size(), 100U);
    std::uint64_t lacking = 0;  // of member 4, in front and at the end
    const Geometry geometry = Geometry::of(c);
    for (std::uint64_t i = 0; i != 13; ++i) {
        const StripeIndex stripe{i < 7 ? i : c.stripes - 13 + i};
        lacking += raw(geometry.role_of(stripe, MemberIndex{4})) < 8 ? 1 : 0;
    }
    EXPECT_EQ(total, (2 * (c.stripes / 10 * 8) - lacking) * row_size);
}

}  // namespace
}  // namespace braid
