// SPDX-License-Identifier: BSD-3-Clause
// Doubt and BadRows against plain sets.
#include "engine/layout/doubt.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "engine/base/rng.h"
#include "engine/members/bad_rows.h"

namespace braid {
namespace {

TEST(Doubt, IsTheUnionOfWhatWasAddedLessWhatWasPassed) {
    Rng rng(5);
    for (int round = 0; round != 300; ++round) {
        Doubt doubt;
        std::set<WindowIndex> model;
        for (std::uint64_t i = rng.below(12); i != 0; --i) {
            const WindowIndex begin{rng.below(60)};
            const WindowIndex end = begin + rng.below(10);
            doubt.add({begin, end});
            for (WindowIndex at = begin; at != end; ++at) model.insert(at);
        }
        const WindowIndex passed{rng.below(70)};
        doubt.remove_before(passed);
        model.erase(model.begin(), model.lower_bound(passed));
        EXPECT_EQ(doubt.windows(), model.size());
        EXPECT_EQ(doubt.empty(), model.empty());
        for (WindowIndex at{0}; at != WindowIndex{80}; ++at) {
            EXPECT_EQ(doubt.has(at), model.contains(at)) << raw(at);
            const auto next = model.lower_bound(at);
            EXPECT_EQ(doubt.overlaps({at, at + 3}), next != model.end() && *next < at + 3);
        }
        for (std::size_t i = 1; i < doubt.ranges().size(); ++i) {
            EXPECT_LT(doubt.ranges()[i - 1].end, doubt.ranges()[i].begin);
        }
    }
}

Geometry make_geometry() {
    Geometry geometry;
    geometry.level = Level::raid6;
    geometry.member_count = 5;
    geometry.strip_size = 8 * row_size;
    geometry.stripes = 10;
    geometry.window_rows = 4;
    return geometry;
}

TEST(BadRows, IsASetOfRowsOfMembers) {
    const Geometry geometry = make_geometry();
    Rng rng(6);
    for (int round = 0; round != 200; ++round) {
        BadRows bad(geometry, {});
        std::set<std::pair<std::uint32_t, RowIndex>> model;
        for (int i = 0; i != 15; ++i) {
            const BadRange range{MemberIndex{static_cast<std::uint32_t>(rng.below(5))},
                                 RowIndex{rng.below(70)}, 1 + rng.below(10)};
            const bool adds = rng.chance(2);
            bad.set(adds ? bad.with(range) : bad.without(range));
            for (RowIndex row = range.first; row != range.end(); ++row) {
                const std::pair at{raw(range.member), row};
                const Role role = geometry.role_of(StripeIndex{raw(row) / 8}, range.member);
                if (raw(role) >= geometry.data_count()) continue;  // means nothing
                if (adds) {
                    model.insert(at);
                } else {
                    model.erase(at);
                }
            }
        }
        const auto& ranges = bad.ranges();
        for (std::size_t i = 0; i != ranges.size(); ++i) {
            for (const RowIndex end : {ranges[i].first, ranges[i].end() - 1}) {
                const Role role = geometry.role_of(StripeIndex{raw(end) / 8}, ranges[i].member);
                EXPECT_LT(raw(role), geometry.data_count())
                    << "a range ends with what means nothing";
            }
            if (i == 0 || ranges[i - 1].member != ranges[i].member) continue;
            EXPECT_LT(ranges[i - 1].end(), ranges[i].first);
        }
        for (std::uint64_t stripe = 0; stripe != geometry.stripes; ++stripe) {
            for (std::uint32_t window = 0; window != 2; ++window) {
                for (std::uint32_t role = 0; role != 5; ++role) {
                    const WindowPlace place{StripeIndex{stripe}, window};
                    const MemberIndex member = geometry.member_of(place.stripe, Role{role});
                    RowMask expected = 0;
                    for (std::uint32_t row = 0; row != 4 && role < 3; ++row) {
                        const std::pair at{raw(member), RowIndex{stripe * 8 + window * 4 + row}};
                        if (model.contains(at)) expected |= row_range(row, 1);
                    }
                    EXPECT_EQ(bad.rows_of(place, Role{role}, row_range(0, 4)), expected);
                }
            }
        }
        for (std::uint32_t member = 0; member != 5; ++member) {
            const auto first = model.lower_bound({member, RowIndex{0}});
            EXPECT_EQ(bad.has_member(MemberIndex{member}),
                      first != model.end() && first->first == member);
            for (RowIndex row{0}; row != RowIndex{80}; ++row) {
                const Role role = geometry.role_of(StripeIndex{raw(row) / 8}, MemberIndex{member});
                if (raw(role) >= geometry.data_count()) continue;
                EXPECT_EQ(!bad.listed_in({MemberIndex{member}, row, 1}).empty(),
                          model.contains({member, row}));
            }
        }
    }
}

}  // namespace
}  // namespace braid
