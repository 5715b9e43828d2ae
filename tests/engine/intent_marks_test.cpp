// SPDX-License-Identifier: BSD-3-Clause
// Which regions a record names, without any record: marks come, are held, linger and go; what is
// in doubt stays until it was made true.
#include "engine/intent/intent_marks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "engine/base/rng.h"

namespace braid {
namespace {

constexpr std::uint64_t stripes = 100'000;

Geometry geometry_of_marks() {
    Configuration configuration;
    configuration.level = Level::raid5;
    configuration.member_count = 4;
    configuration.strip_size = 64u << 10;
    configuration.stripes = stripes;
    return Geometry::of(configuration);
}
const Geometry geometry = geometry_of_marks();
const std::uint64_t stripe_size = geometry.stripe_data_size();

/// Two volumes with nothing between them, and something behind.
std::vector<VolumeRecord> volumes() {
    return {{"one", StripeIndex{0}, 1005}, {"two", StripeIndex{1005}, 50'000}};
}

IntentMarks::Mark& made(IntentMarks& marks, std::uint64_t stripe, std::uint64_t needs = 1) {
    IntentMarks::Mark* mark = marks.find(StripeIndex{stripe});
    if (mark == nullptr) mark = marks.make(StripeIndex{stripe}, needs);
    EXPECT_NE(mark, nullptr);
    return *mark;
}

TEST(IntentMarks, ARegionEndsWithItsVolume) {
    IntentMarks marks(geometry, volumes());
    marks.set_region(10 * stripe_size);
    EXPECT_EQ(marks.stripes_together(StripeIndex{0}), 10u);
    EXPECT_EQ(marks.stripes_together(StripeIndex{3}), 7u);
    EXPECT_EQ(marks.stripes_together(StripeIndex{1000}), 5u) << "the first volume ends";
    EXPECT_EQ(marks.stripes_together(StripeIndex{1005}), 10u) << "counted from the second's start";
    EXPECT_EQ(marks.stripes_together(StripeIndex{stripes - 1}), 1u);
    made(marks, 1003);
    made(marks, 1005);
    made(marks, 60'000);
    const std::vector<IntentEntry> expected{{0, 5, StripeIndex{1000}},
                                            {1, 10, StripeIndex{1005}},
                                            {intent_no_volume, 10, StripeIndex{59'995}}};
    EXPECT_EQ(marks.entries(), expected);
}

TEST(IntentMarks, AMarkIsFoundByAnyStripeOfItsRegion) {
    IntentMarks marks(geometry, volumes());
    marks.set_region(8 * stripe_size);
    IntentMarks::Mark& mark = made(marks, 19, 7);
    EXPECT_EQ(mark.needs, 7u);
    for (std::uint64_t stripe = 16; stripe != 24; ++stripe) {
        EXPECT_EQ(marks.find(StripeIndex{stripe}), &mark);
    }
    EXPECT_EQ(marks.find(StripeIndex{15}), nullptr);
    EXPECT_EQ(marks.find(StripeIndex{24}), nullptr);
    EXPECT_EQ(marks.used(), 1u);
    EXPECT_EQ(marks.stripes_marked(), 8u);
    marks.generation_again(5);
    EXPECT_EQ(mark.needs, 5u) << "the record that was to name it will have that number";
}

TEST(IntentMarks, WhatIsHeldOrNotFlushedStays) {
    IntentMarks marks(geometry, volumes());
    IntentMarks::Mark& mark = made(marks, 0);
    marks.hold(mark);
    const std::uint64_t before = marks.flush_begins();
    marks.drop_clean();
    EXPECT_EQ(marks.used(), 1u) << "held";
    marks.release(mark);
    marks.flushed(before);  // a flush that began before the write had ended
    marks.drop_clean();
    EXPECT_EQ(marks.used(), 1u) << "not flushed";
    marks.flushed(marks.flush_begins());
    marks.drop_stale();
    EXPECT_EQ(marks.used(), 1u) << "it lingers";
    marks.drop_clean();
    EXPECT_EQ(marks.used(), 0u);
    EXPECT_TRUE(marks.entries().empty());
}

/// What a member misses that leaves now is under them: held, or written to since a flush began.
TEST(IntentMarks, WhatOnlyLingersIsNotMissed) {
    IntentMarks marks(geometry, volumes());
    marks.set_region(10 * stripe_size);
    EXPECT_TRUE(marks.maybe_missed().empty());
    IntentMarks::Mark& mark = made(marks, 0);
    marks.hold(mark);
    const std::vector<IntentEntry> first{{0, 10, StripeIndex{0}}};
    EXPECT_EQ(marks.maybe_missed(), first);
    const std::uint64_t begins_too_early = marks.flush_begins();
    marks.release(mark);
    EXPECT_EQ(marks.maybe_missed(), first) << "written, and not flushed";
    marks.flushed(begins_too_early);
    EXPECT_EQ(marks.maybe_missed(), first) << "the flush began before the write ended";
    marks.flushed(marks.flush_begins());
    EXPECT_TRUE(marks.maybe_missed().empty());
    EXPECT_EQ(marks.entries(), first) << "it lingers";
    marks.set_carried({{0, 3, StripeIndex{50}}});
    EXPECT_EQ(marks.maybe_missed(), (std::vector<IntentEntry>{{0, 3, StripeIndex{50}}}));
}

TEST(IntentMarks, WhatNobodyUsedForAWhileGoes) {
    IntentMarks marks(geometry, volumes());
    marks.set_region(stripe_size);
    for (const std::uint64_t stripe : {10, 20}) {
        IntentMarks::Mark& mark = made(marks, stripe);
        marks.hold(mark);
        marks.release(mark);
    }
    marks.tick();
    IntentMarks::Mark& again = made(marks, 20);
    marks.hold(again);
    marks.release(again);
    for (std::uint64_t i = 1; i != IntentMarks::linger_ticks; ++i) marks.tick();
    EXPECT_TRUE(marks.has_stale(IntentMarks::Stale::unflushed))
        << "stripe 10, which is not flushed";
    EXPECT_FALSE(marks.has_stale(IntentMarks::Stale::droppable));
    marks.flushed(marks.flush_begins());
    EXPECT_TRUE(marks.has_stale(IntentMarks::Stale::droppable));
    EXPECT_FALSE(marks.has_stale(IntentMarks::Stale::unflushed));
    marks.drop_stale();
    EXPECT_EQ(marks.find(StripeIndex{10}), nullptr);
    EXPECT_NE(marks.find(StripeIndex{20}), nullptr);
}

TEST(IntentMarks, AFullRecordMakesRoomWithTheOldestThatMayGo) {
    IntentMarks marks(geometry, {});
    marks.set_region(stripe_size);
    for (std::uint64_t i = 0; i != intent_marks_max; ++i) {
        IntentMarks::Mark& mark = made(marks, 2 * i);
        marks.hold(mark);
        if (i != 0) marks.release(mark);
    }
    EXPECT_EQ(marks.make(StripeIndex{99'999}, 1), nullptr) << "nothing is flushed";
    marks.flushed(marks.flush_begins());
    EXPECT_NE(marks.make(StripeIndex{99'999}, 1), nullptr);
    EXPECT_NE(marks.find(StripeIndex{0}), nullptr) << "held";
    EXPECT_EQ(marks.find(StripeIndex{2}), nullptr) << "the oldest that was not";
    EXPECT_NE(marks.find(StripeIndex{4}), nullptr);
    EXPECT_EQ(marks.used(), intent_marks_max);
}

TEST(IntentMarks, MarksOfAnotherSizeOfRegionsStayAsTheyAre) {
    IntentMarks marks(geometry, {});
    marks.set_region(4 * stripe_size);
    IntentMarks::Mark& old = made(marks, 0);
    marks.hold(old);
    marks.set_region(2 * stripe_size);
    EXPECT_EQ(marks.find(StripeIndex{0}), nullptr);
    IntentMarks::Mark& fresh = made(marks, 0);
    EXPECT_NE(&fresh, &old);
    EXPECT_EQ(marks.entries(), (std::vector<IntentEntry>{{intent_no_volume, 4, StripeIndex{0}}}));
    marks.release(old);
    marks.flushed(marks.flush_begins());
    marks.drop_clean();
    EXPECT_EQ(marks.used(), 0u);
}

TEST(IntentMarks, DoubtGoesFromBothEnds) {
    IntentMarks marks(geometry, {});
    marks.set_carried(
        {{intent_no_volume, 10, StripeIndex{100}}, {intent_no_volume, 10, StripeIndex{200}}});
    EXPECT_EQ(marks.stripes_carried(), 20u);
    EXPECT_FALSE(marks.carry(StripeIndex{105})) << "it is already";
    EXPECT_TRUE(marks.carry(StripeIndex{110}));
    EXPECT_EQ(marks.entries(),
              (std::vector<IntentEntry>{{intent_no_volume, 11, StripeIndex{100}},
                                        {intent_no_volume, 10, StripeIndex{200}}}));
    EXPECT_FALSE(marks.retire_before(StripeIndex{105}));
    EXPECT_FALSE(marks.is_carried(StripeIndex{104}));
    EXPECT_TRUE(marks.is_carried(StripeIndex{105}));
    marks.retire_from(StripeIndex{203});
    EXPECT_TRUE(marks.is_carried(StripeIndex{202}));
    EXPECT_FALSE(marks.is_carried(StripeIndex{203}));
    EXPECT_EQ(marks.stripes_carried(), 9u);
    EXPECT_TRUE(marks.retire_before(StripeIndex{203})) << "that was the last of it";
    EXPECT_FALSE(marks.retire_before(StripeIndex{203}));
    EXPECT_FALSE(marks.has_carried());
}

/// Against the plainest model: a set of stripes that must be named, whatever happens.
TEST(IntentMarks, EveryStripeThatMustBeNamedIs) {
    for (std::uint64_t seed = 1; seed != 40; ++seed) {
        Rng rng(seed);
        IntentMarks marks(geometry, volumes());
        marks.set_region((1 + rng.below(20)) * stripe_size);
        std::multiset<std::uint64_t> held;
        std::map<std::uint64_t, IntentMarks::Mark*> mark_of;
        std::set<std::uint64_t> unflushed;
        std::set<std::uint64_t> doubt;
        for (int step = 0; step != 2000; ++step) {
            const std::uint64_t stripe = rng.below(3000);
            switch (rng.below(6)) {
                case 0:
                case 1: {
                    if (held.contains(stripe)) break;
                    IntentMarks::Mark* mark = marks.find(StripeIndex{stripe});
                    if (mark == nullptr) mark = marks.make(StripeIndex{stripe}, 1);
                    if (mark == nullptr) break;
                    marks.hold(*mark);
                    mark_of[stripe] = mark;
                    held.insert(stripe);
                    break;
                }
                case 2:
                    if (held.empty()) break;
                    marks.release(*mark_of[*held.begin()]);
                    unflushed.insert(*held.begin());
                    held.erase(held.begin());
                    break;
                case 3:
                    marks.tick();
                    marks.drop_stale();
                    break;
                case 4:
                    if (rng.chance(20)) {
                        marks.flushed(marks.flush_begins());
                        unflushed.clear();
                        marks.drop_clean();
                    }
                    break;
                default:
                    if (rng.chance(10)) {
                        marks.carry(StripeIndex{stripe});
                        doubt.insert(stripe);
                    } else if (rng.chance(50)) {
                        marks.retire_before(StripeIndex{stripe});
                        doubt.erase(doubt.begin(), doubt.lower_bound(stripe));
                    }
            }
            if (step % 20 != 0) continue;
            const std::vector<IntentEntry> entries = marks.entries();
            ASSERT_LE(entries.size(), intent_entries_max);
            const auto named = [&](std::uint64_t one) {
                return std::ranges::any_of(entries, [one](const IntentEntry& entry) {
                    return raw(entry.first) <= one && one < raw(entry.first) + entry.count;
                });
            };
            for (const std::uint64_t one : held) ASSERT_TRUE(named(one)) << seed << ": held";
            for (const std::uint64_t one : unflushed) ASSERT_TRUE(named(one)) << seed;
            for (const std::uint64_t one : doubt) {
                ASSERT_TRUE(marks.is_carried(StripeIndex{one})) << seed;
                ASSERT_TRUE(named(one)) << seed << ": in doubt";
            }
            for (std::size_t i = 1; i < entries.size(); ++i) {
                ASSERT_LE(raw(entries[i - 1].first) + entries[i - 1].count, raw(entries[i].first));
            }
        }
    }
}

}  // namespace
}  // namespace braid
