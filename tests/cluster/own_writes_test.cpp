// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/own_writes.h"

#include <gtest/gtest.h>

namespace braid::cluster {
namespace {

TEST(OwnWrites, AreFinishedWhenEveryHomeHasAppliedThem) {
    OwnWrites writes;
    EXPECT_EQ(writes.finished_upto(), 0u);
    const WriteId one = writes.begin(0b011);
    const WriteId two = writes.begin(0b110);
    writes.settle(one);
    writes.settle(two);
    writes.applied(1, 2);
    writes.applied(2, 2);
    EXPECT_EQ(writes.finished_upto(), 0u) << "home 0 has the first one";
    EXPECT_EQ(writes.open(), 1u);
    writes.applied(0, 1);
    EXPECT_EQ(writes.finished_upto(), 2u);
    EXPECT_EQ(writes.open(), 0u);
}

TEST(OwnWrites, WhatIsNotSettledIsNotFinishedWhateverAHomeSays) {
    OwnWrites writes;
    const WriteId one = writes.begin(0b1);
    const WriteId two = writes.begin(0b1);
    writes.settle(two);
    writes.applied(0, 2);
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.settle(one);
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.applied(0, 2);
    EXPECT_EQ(writes.finished_upto(), 2u);
}

TEST(OwnWrites, AHomeThatRefusedHasNothingToApply) {
    OwnWrites writes;
    const WriteId one = writes.begin(0b11);
    writes.refused(one, 1);
    EXPECT_EQ(writes.homes_of(one), 0b11u) << "it is told all the same";
    writes.settle(one);
    EXPECT_EQ(writes.finished_upto(), 0u);
    writes.applied(0, 1);
    EXPECT_EQ(writes.finished_upto(), 1u);
}

TEST(OwnWrites, WhatAHomeHasIsKnownUntilItIsOver) {
    OwnWrites writes;
    const WriteId one = writes.begin(0b11);
    writes.charge(one, 0, 100);
    writes.charge(one, 1, 30);
    writes.charge(one, 1, 7);
    EXPECT_TRUE(writes.is_open_at(0));
    EXPECT_EQ(writes.applied(0, 1), 0u) << "it is not settled";
    EXPECT_EQ(writes.refused(one, 0), 100u);
    writes.settle(one);
    EXPECT_FALSE(writes.is_open_at(0));
    EXPECT_EQ(writes.applied(1, 1), 37u);
    EXPECT_EQ(writes.applied(1, 1), 0u);
}

TEST(OwnWrites, NumbersAreNeverUsedTwice) {
    OwnWrites writes;
    const WriteId one = writes.begin(0b1);
    writes.refused(one, 0);
    writes.settle(one);
    EXPECT_EQ(writes.open(), 0u);
    EXPECT_LT(one, writes.begin(0b1));
}

}  // namespace
}  // namespace braid::cluster
