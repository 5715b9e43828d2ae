// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/own_writes.h"

#include <gtest/gtest.h>

namespace braid::cluster {
namespace {

constexpr Credit page{4096, 1};

/// Staged for one member of each of its homes.
WriteId staged(OwnWrites& writes, HomeSet homes) {
    const WriteId write = writes.begin(homes);
    for (std::uint32_t home = 0; home != nodes_max; ++home) {
        if ((homes >> home & 1) != 0) writes.charge(write, home, page);
    }
    return write;
}

TEST(OwnWrites, AreFinishedWhenEveryHomeHasAppliedThem) {
    OwnWrites writes;
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.end_with(staged(writes, 0b011), OwnWrites::Fate::decided);
    writes.end_with(staged(writes, 0b110), OwnWrites::Fate::decided);
    writes.applied(1, 2);
    writes.applied(2, 2);
    EXPECT_EQ(writes.finished_upto(), 0u) << "home 0 has the first one";
    EXPECT_EQ(writes.held_back_by(), 0b001u);
    EXPECT_FALSE(writes.is_open_at(1));
    EXPECT_TRUE(writes.is_open_at(0));
    writes.applied(0, 1);
    EXPECT_EQ(writes.finished_upto(), 2u);
    EXPECT_EQ(writes.held_back_by(), 0u);
    EXPECT_EQ(writes.open(), 0u);
}

TEST(OwnWrites, WhatIsNotSettledIsNotFinishedWhateverAHomeSays) {
    OwnWrites writes;
    const WriteId one = staged(writes, 0b1);
    writes.end_with(staged(writes, 0b1), OwnWrites::Fate::decided);
    writes.applied(0, 2);
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.end_with(one, OwnWrites::Fate::decided);
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.applied(0, 2);
    EXPECT_EQ(writes.finished_upto(), 2u);
}

TEST(OwnWrites, AHomeThatTookNothingHasNothingToApply) {
    OwnWrites writes;
    const WriteId one = staged(writes, 0b11);
    writes.refused(one, 1, page);
    EXPECT_EQ(writes.take_freed()[1], page);
    EXPECT_EQ(writes.homes_of(one), 0b11u) << "it is told all the same";
    writes.end_with(one, OwnWrites::Fate::decided);
    EXPECT_FALSE(writes.is_open_at(1));
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.applied(0, 1);
    EXPECT_EQ(writes.finished_upto(), 1u);
}

// Its data and its parity are at the same home, which refuses the one and takes the other.
TEST(OwnWrites, AHomeThatTookAPartHasThatToApply) {
    OwnWrites writes;
    const WriteId one = writes.begin(0b1);
    writes.charge(one, 0, page);
    writes.charge(one, 0, {8192, 1});
    writes.refused(one, 0, page);
    writes.end_with(one, OwnWrites::Fate::decided);
    EXPECT_EQ(writes.take_freed()[0], page);
    EXPECT_TRUE(writes.is_open_at(0));
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.applied(0, 1);
    EXPECT_EQ(writes.take_freed()[0], (Credit{8192, 1}));
    EXPECT_EQ(writes.finished_upto(), 1u);
}

TEST(OwnWrites, BytesComeBackWithTheirHomeEntriesWhenAllIsFinished) {
    OwnWrites writes;
    writes.end_with(staged(writes, 0b11), OwnWrites::Fate::decided);
    writes.end_with(staged(writes, 0b10), OwnWrites::Fate::decided);
    writes.applied(1, 2);
    EXPECT_EQ(writes.take_freed()[1], (Credit{8192, 0})) << "home 0 holds the first one back";
    EXPECT_EQ(writes.take_freed()[1], Credit{}) << "once";
    writes.applied(0, 1);
    const OwnWrites::Freed freed = writes.take_freed();
    EXPECT_EQ(freed[0], page);
    EXPECT_EQ(freed[1], (Credit{0, 2}));
}

TEST(OwnWrites, NumbersAreNeverUsedTwice) {
    OwnWrites writes;
    const WriteId one = staged(writes, 0b1);
    writes.refused(one, 0, page);
    writes.end_with(one, OwnWrites::Fate::decided);
    EXPECT_EQ(writes.open(), 0u);
    EXPECT_LT(one, writes.begin(0b1));
}

// Goal: nothing waits for a home that is gone, and what was decided is known until it is over.
TEST(OwnWrites, AHomeIsGone) {
    OwnWrites writes;
    const WriteId both = staged(writes, 0b11);
    const WriteId gone_only = staged(writes, 0b10);
    const WriteId open = staged(writes, 0b11);
    writes.end_with(both, OwnWrites::Fate::decided);
    writes.end_with(gone_only, OwnWrites::Fate::decided);
    EXPECT_EQ(writes.decided(), (std::vector<std::uint64_t>{1, 2}));
    (void)writes.take_freed();
    writes.home_gone(1);
    EXPECT_EQ(writes.decided(), (std::vector<std::uint64_t>{1, 2}))
        << "behind one that is not over";
    EXPECT_EQ(writes.held_back_by(), 0b01u);
    writes.end_with(open, OwnWrites::Fate::dropped);
    EXPECT_FALSE(writes.is_open_at(1)) << "what was not ended then is over there when it is";
    EXPECT_TRUE(writes.is_open_at(0));
    writes.applied(0, 3);
    EXPECT_EQ(writes.finished_upto(), 3u);
    EXPECT_EQ(writes.newest(), 3u);
    EXPECT_TRUE(writes.decided().empty());
}

// Goal: a home that is there again is not waited for where it had staged something in another life.
TEST(OwnWrites, AHomeIsBack) {
    OwnWrites writes;
    const WriteId before = staged(writes, 0b11);
    writes.home_gone(1);
    writes.home_back(1);
    writes.end_with(before, OwnWrites::Fate::dropped);
    EXPECT_FALSE(writes.is_open_at(1));
    writes.applied(0, 1);
    EXPECT_EQ(writes.finished_upto(), 1u);
    const WriteId after = staged(writes, 0b10);
    writes.end_with(after, OwnWrites::Fate::decided);
    EXPECT_TRUE(writes.is_open_at(1)) << "this it knows";
    writes.applied(1, 2);
    EXPECT_EQ(writes.finished_upto(), 2u);
}

}  // namespace
}  // namespace braid::cluster
