// SPDX-License-Identifier: BSD-3-Clause
#include "engine/layout/window_set.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/base/rng.h"

namespace braid {
namespace {

constexpr WindowIndex end{5 * WindowSet::page_windows};

std::vector<WindowRange> ranges_of(const std::set<std::uint64_t>& model, WindowIndex from) {
    std::vector<WindowRange> all;
    for (const std::uint64_t at : model) {
        if (at < raw(from)) continue;
        if (!all.empty() && raw(all.back().end) == at) {
            all.back().end = all.back().end + 1;
        } else {
            all.push_back({WindowIndex{at}, WindowIndex{at + 1}});
        }
    }
    return all;
}

TEST(WindowSet, IsTheSetOfWhatWasAdded) {
    for (std::uint64_t seed = 1; seed != 40; ++seed) {
        Rng rng(seed);
        WindowSet set;
        std::set<std::uint64_t> model;
        for (int i = 0; i != 30; ++i) {
            const std::uint64_t first = rng.below(raw(end));
            const std::uint64_t most = rng.chance(3) ? 2 * WindowSet::page_windows : 100;
            const std::uint64_t past = std::min(raw(end), first + 1 + rng.below(most));
            ASSERT_TRUE(set.add({WindowIndex{first}, WindowIndex{past}}));
            for (std::uint64_t at = first; at != past; ++at) model.insert(at);
            const WindowIndex from{rng.below(raw(end))};
            ASSERT_EQ(set.ranges(from, end), ranges_of(model, from)) << seed;
            ASSERT_EQ(set.has(from), model.contains(raw(from)));
        }
        EXPECT_EQ(set.count(), model.size());
        WindowSet copy;
        EXPECT_TRUE(copy.add(set));
        EXPECT_TRUE(copy.add(set));
        EXPECT_EQ(copy, set);
    }
}

TEST(WindowSet, WhatIsAskedForEndsWhereItIsTold) {
    WindowSet set;
    EXPECT_TRUE(set.empty());
    EXPECT_EQ(set.next_in(WindowIndex{0}, end), end);
    EXPECT_EQ(set.next_out(WindowIndex{7}, end), WindowIndex{7});
    ASSERT_TRUE(set.add({WindowIndex{60}, WindowIndex{WindowSet::page_windows + 3}}));
    EXPECT_EQ(set.next_in(WindowIndex{0}, WindowIndex{50}), WindowIndex{50});
    EXPECT_EQ(set.next_in(WindowIndex{0}, end), WindowIndex{60});
    EXPECT_EQ(set.next_out(WindowIndex{60}, end), WindowIndex{WindowSet::page_windows + 3});
    EXPECT_EQ(set.next_out(WindowIndex{60}, WindowIndex{70}), WindowIndex{70});
    EXPECT_EQ(set.next_in(WindowIndex{WindowSet::page_windows + 3}, end), end);
}

TEST(WindowSet, BeyondItsBoundItSaysSo) {
    WindowSet set;
    for (std::uint64_t page = 0; page != window_pages_max; ++page) {
        ASSERT_TRUE(set.add(WindowIndex{page * WindowSet::page_windows}));
    }
    EXPECT_FALSE(set.add(WindowIndex{window_pages_max * WindowSet::page_windows}));
    EXPECT_TRUE(set.add(WindowIndex{1}));
    EXPECT_EQ(set.count(), window_pages_max + 1);
}

}  // namespace
}  // namespace braid
