// SPDX-License-Identifier: BSD-3-Clause
#include "engine/walks/throttle.h"

#include <gtest/gtest.h>

namespace braid {
namespace {

constexpr Nanos step = millis(5);
LatencySample sample(std::uint64_t count, std::uint64_t each) {
    return {count, count * LatencySample::square_of(Nanos{each})};
}

TEST(Throttle, WithoutClientsThereIsNoPause) {
    Throttle throttle;
    for (int i = 0; i != 100; ++i) EXPECT_EQ(throttle.pause_after(step, {}, {}).value, 0U);
    EXPECT_EQ(throttle.severity(), 0);
}

TEST(Throttle, FirstItLearnsHowFastClientsAreWithoutTheWalk) {
    Throttle throttle;
    EXPECT_EQ(throttle.pause_after(step, sample(10, 100'000), {}).value, Throttle::probe_nanos);
}

TEST(Throttle, WhatOthersTellNeedsALongerPauseToBeHeard) {
    Throttle throttle(Nanos{Throttle::probe_of_nodes_nanos});
    EXPECT_EQ(throttle.pause_after(step, sample(10, 100'000), {}).value,
              Throttle::probe_of_nodes_nanos);
}

TEST(Throttle, PausesGrowWhileClientsSufferAndTheWalkKeepsItsShare) {
    Throttle throttle;
    Nanos before{};
    for (int i = 0; i != 200; ++i) {
        const Nanos pause = throttle.pause_after(step, sample(10, 1'000'000), sample(10, 100'000));
        EXPECT_GE(pause, before);
        before = pause;
        const double share =
            static_cast<double>(step.value) / static_cast<double>(step.value + pause.value);
        ASSERT_GE(share, Throttle::share_min * 0.99);
    }
    EXPECT_GT(before, step);
    EXPECT_GT(throttle.severity(), 0.79);
    EXPECT_LE(throttle.severity(), 1.0);
}

/// As where other nodes tell of their clients: not in each step.
TEST(Throttle, WhoAsksNowAndThenIsThere) {
    Throttle throttle;
    Nanos pause{};
    for (int i = 0; i != 400; ++i) {
        const bool told = i % 2 == 0;
        pause = throttle.pause_after(millis(1), told ? sample(10, 1'000'000) : LatencySample{},
                                     told ? sample(10, 100'000) : LatencySample{});
        EXPECT_TRUE(throttle.has_clients());
    }
    EXPECT_GT(pause.value, 3 * millis(1).value);
}

/// The average of these is a third longer than without the walk.
TEST(Throttle, AFewThatWaitForLongCount) {
    Throttle throttle;
    LatencySample few = sample(95, 1'000'000);
    few.count += 5;
    few.squares += 5 * LatencySample::square_of(Nanos{7'000'000});
    Nanos pause{};
    for (int i = 0; i != 100; ++i) {
        pause = throttle.pause_after(step, few, sample(100, 1'000'000));
    }
    EXPECT_GT(pause.value, 3 * step.value);
}

TEST(Throttle, PausesShrinkWhenClientsNoLongerSufferAndVanishWhenTheyGo) {
    Throttle throttle;
    for (int i = 0; i != 100; ++i) {
        (void)throttle.pause_after(step, sample(10, 1'000'000), sample(10, 100'000));
    }
    const Nanos high = throttle.pause_after(step, sample(10, 100'000), sample(10, 100'000));
    Nanos low = high;
    for (int i = 0; i != 60; ++i) {
        low = throttle.pause_after(step, sample(10, 100'000), sample(10, 100'000));
    }
    EXPECT_LT(low, high);
    EXPECT_LE(low.value, Throttle::probe_nanos);
    for (int i = 0; i != 30; ++i) low = throttle.pause_after(step, {}, {});
    EXPECT_EQ(low.value, 0U);
    EXPECT_EQ(throttle.severity(), 0);
}

TEST(Throttle, ProbesNowAndThenWhereItDoesNotPause) {
    Throttle throttle;
    std::uint64_t probes = 0;
    std::uint64_t time = 0;
    LatencySample quiet;
    while (time < 10'000'000'000) {
        const Nanos pause = throttle.pause_after(step, sample(10, 100'000), quiet);
        quiet = pause.value != 0 ? sample(5, 100'000) : LatencySample{};
        probes += pause.value != 0 ? 1 : 0;
        time += step.value + pause.value;
    }
    EXPECT_GE(probes, 15U);  // twice a second
    EXPECT_LE(probes, 30U);
}

TEST(Throttle, AStepThatTookNoTimeIsNoTrouble) {
    Throttle throttle;
    (void)throttle.pause_after({}, {}, {});
    EXPECT_GE(throttle.severity(), 0);  // a number
    EXPECT_LE(throttle.severity(), 1);
}

}  // namespace
}  // namespace braid
