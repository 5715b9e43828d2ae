// SPDX-License-Identifier: BSD-3-Clause
// Sets of windows as they travel.
#include "cluster/epochs/window_words.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/base/limits.h"
#include "engine/base/rng.h"

namespace braid::cluster {
namespace {

Geometry geometry_of(std::uint64_t stripes) {
    Geometry geometry;
    geometry.level = Level::raid5;
    geometry.member_count = 3;
    geometry.strip_size = 64u << 10;
    geometry.window_rows = 16;
    geometry.stripes = stripes;
    return geometry;
}

/// As it comes out at the other end.
Words travelled(const Words& words) { return Words::parse(words.dump()); }

TEST(WindowWords, WhatWasPutIsTaken) {
    Rng rng(3);
    const std::uint64_t windows = 100 * WindowSet::page_windows - 5;
    WindowSet set;
    for (int i = 0; i != 400; ++i) {
        const std::uint64_t first = rng.below(windows);
        const std::uint64_t past = std::min(windows, first + 1 + rng.below(200));
        ASSERT_TRUE(set.add({WindowIndex{first}, WindowIndex{past}}));
    }
    ASSERT_TRUE(set.add(WindowIndex{windows - 1}));
    WindowSet taken;
    int pieces = 0;
    for (std::optional<std::uint64_t> from = 0; from; ++pieces) {
        Words words = Words::object();
        from = put_windows(&words, set, *from);
        EXPECT_LE(words.dump().size(), message_body_size_max);
        const Words come = travelled(words);
        WordFields fields(come);
        const auto added = take_windows(fields, geometry_of(windows), &taken);
        ASSERT_TRUE(added) << added.error().text;
    }
    EXPECT_GE(pieces, 4);
    EXPECT_EQ(taken, set);
}

TEST(WindowWords, OneMessageSaysThatNothingWasMissed) {
    const std::vector<Words> all = words_of_behind(MemberIndex{2}, {});
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].dump(), R"({"first":true,"member":2,"pages":[],"tell":"behind"})");
}

/// Bytes in order of windows, the lowest bit of each first.
TEST(WindowWords, GoldenBits) {
    WindowSet set;
    for (const std::uint64_t at : {0, 9, 4096 + 15}) ASSERT_TRUE(set.add(WindowIndex{at}));
    Words words = Words::object();
    EXPECT_EQ(put_windows(&words, set), std::nullopt);
    EXPECT_EQ(words["pages"].size(), 2u);
    EXPECT_EQ(words["pages"][0][0], 0);
    EXPECT_EQ(words["pages"][0][1], "0102" + std::string(1020, '0'));
    EXPECT_EQ(words["pages"][1][0], 1);
    EXPECT_EQ(words["pages"][1][1], "0080" + std::string(1020, '0'));
}

TEST(WindowWords, WhatIsNoPageIsRefused) {
    const std::string empty(1024, '0');
    const std::string last = std::string(1022, '0') + "80";
    const std::vector<Words> bad{
        1,
        "x",
        Words::array({1}),
        Words::array({1, 2}),
        Words::array({"1", empty}),
        Words::array({-1, empty}),
        Words::array({0, empty + "0"}),
        Words::array({0, "g" + empty.substr(1)}),
        Words::array({2, empty}),  // beyond the array
        Words::array({1, last}),
        Words::array({~std::uint64_t{0}, empty}),
    };
    for (const Words& page : bad) {
        Words words = Words::object();
        words["pages"] = Words::array({page});
        const Words come = travelled(words);
        WordFields fields(come);
        WindowSet set;
        EXPECT_FALSE(take_windows(fields, geometry_of(4096 + 4000), &set)) << come.dump();
    }
    const Words none = Words::object();
    WordFields fields(none);
    WindowSet set;
    EXPECT_FALSE(take_windows(fields, geometry_of(5), &set));
}

}  // namespace
}  // namespace braid::cluster
