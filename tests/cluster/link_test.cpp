// SPDX-License-Identifier: BSD-3-Clause
// What heartbeats show of a channel: it is up only where a node's own stamps come back.
#include "cluster/bus/link.h"

#include <gtest/gtest.h>

namespace braid::cluster {
namespace {

constexpr Nanos at(std::uint64_t ms) { return millis(ms); }

/// Two ends, and what goes between them unless it is lost.
struct Ends {
    Link one, two;
    std::uint64_t skew{0};  // of two's clock

    explicit Ends(std::uint64_t two_is_ahead_ms = 0) : skew(millis(two_is_ahead_ms).value) {
        one.begin(at(0));
        two.begin(of_two(at(0)));
    }
    Nanos of_two(Nanos now) const { return {now.value + skew}; }
    bool to_two(std::uint64_t sent_ms, std::uint64_t come_ms) {
        return two.heard(one.next(at(sent_ms)), of_two(at(come_ms))).has_value();
    }
    bool to_one(std::uint64_t sent_ms, std::uint64_t come_ms) {
        return one.heard(two.next(of_two(at(sent_ms))), at(come_ms)).has_value();
    }
};

TEST(Link, ItIsUpWhenOnesOwnStampHasComeBack) {
    Ends ends(1'000'000);
    EXPECT_TRUE(ends.to_two(10, 12));
    EXPECT_TRUE(ends.two.is_heard(ends.of_two(at(12))));
    EXPECT_FALSE(ends.two.is_up(ends.of_two(at(12)))) << "nothing of its own has come back";
    EXPECT_FALSE(ends.one.is_heard(at(12)));
    EXPECT_TRUE(ends.to_one(100, 103));
    EXPECT_TRUE(ends.one.is_up(at(103)));
    EXPECT_EQ(ends.one.round_trip()->value, millis(5).value)
        << "without what the other held it for";
    EXPECT_FALSE(ends.two.is_up(ends.of_two(at(103))));
    EXPECT_TRUE(ends.to_two(200, 201));
    EXPECT_TRUE(ends.two.is_up(ends.of_two(at(201))));
    EXPECT_EQ(ends.two.round_trip()->value, millis(4).value);
}

TEST(Link, ItIsDownAfterFourMissesHoweverMuchIsHeard) {
    Ends ends;
    ASSERT_TRUE(ends.to_two(100, 101) && ends.to_one(101, 102) && ends.to_two(102, 103));
    ASSERT_TRUE(ends.one.is_up(at(103)) && ends.two.is_up(at(103)));
    // From now on nothing of `one` arrives.
    for (std::uint64_t ms = 400; ms != 3100; ms += 300) {
        (void)ends.one.next(at(ms));
        ASSERT_TRUE(ends.to_one(ms, ms + 1));
        const bool is_fresh = ms + 1 < 102 + 1200;
        EXPECT_EQ(ends.one.is_up(at(ms + 1)), is_fresh) << ms;
        EXPECT_TRUE(ends.one.is_heard(at(ms + 1)));
        EXPECT_EQ(ends.two.is_up(at(ms + 1)), ms + 1 < 101 + 1200);
        EXPECT_EQ(ends.two.is_heard(at(ms + 1)), ms + 1 < 103 + 1200);
    }
    EXPECT_EQ(ends.one.unanswered_for(at(3100)).value, millis(3100 - 102).value);
    // The same echo again and again is no news.
    EXPECT_EQ(ends.one.round_trip()->value, millis(2).value);
    EXPECT_TRUE(ends.to_two(3200, 3201) && ends.to_one(3202, 3203));
    EXPECT_TRUE(ends.one.is_up(at(3203)));
}

/// Four heartbeats are missed, of the side whose are rarer.
TEST(Link, RareHeartbeatsShowAsMuch) {
    for (const bool are_ones : {true, false}) {
        SCOPED_TRACE(are_ones);
        Ends ends;
        (are_ones ? ends.one : ends.two).set_interval(at(2000));
        const std::uint64_t of_one = are_ones ? 2000 : 300;
        const std::uint64_t of_two = are_ones ? 300 : 2000;
        std::uint64_t ms = 0;
        for (; ms != 60'000; ms += 100) {
            if (ms % of_one == 0) {
                ASSERT_TRUE(ends.to_two(ms, ms + 1));
            }
            if (ms % of_two == 0) {
                ASSERT_TRUE(ends.to_one(ms + 2, ms + 3));
            }
            if (ms < 5000) continue;  // what the other one's are has yet to be seen
            ASSERT_TRUE(ends.one.is_up(at(ms + 50)) && ends.two.is_up(at(ms + 50))) << ms;
            ASSERT_TRUE(ends.one.is_heard(at(ms + 50)) && ends.two.is_heard(at(ms + 50))) << ms;
        }
        EXPECT_FALSE(ends.one.is_up(at(ms + 8000)) || ends.two.is_up(at(ms + 8000)));
        EXPECT_FALSE(ends.one.is_heard(at(ms + 8000)) || ends.two.is_heard(at(ms + 8000)));
    }
}

/// One that stood still for a minute sends one a minute late: its next ones are as frequent as before.
TEST(Link, OneLongPauseIsNoHabit) {
    Ends ends;
    for (std::uint64_t ms = 0; ms != 3000; ms += 300) ASSERT_TRUE(ends.to_two(ms, ms + 1));
    EXPECT_EQ(ends.two.fresh_for(), Link::fresh_min);
    ASSERT_TRUE(ends.to_two(63'000, 63'001));
    EXPECT_EQ(ends.two.fresh_for(), seconds(30)) << "nobody's are rarer than that";
    for (std::uint64_t ms = 63'300; ms != 81'300; ms += 300) ASSERT_TRUE(ends.to_two(ms, ms + 1));
    EXPECT_EQ(ends.two.fresh_for(), Link::fresh_min);
}

TEST(Link, WhatNeverWentOutDoesNotComeBack) {
    Ends ends;
    ends.one.end();
    ends.one.begin(at(50));
    ASSERT_TRUE(ends.to_two(100, 101));
    Heartbeat reply = ends.two.next(at(102));
    Heartbeat wrong = reply;
    wrong.echo += 1;
    EXPECT_FALSE(ends.one.heard(wrong, at(103)));
    wrong.echo = at(49).value;
    EXPECT_FALSE(ends.one.heard(wrong, at(103))) << "from before the connection";
    EXPECT_TRUE(ends.one.heard(reply, at(103)));
    EXPECT_FALSE(ends.one.heard(reply, at(104))) << "its clock does not go on";
    EXPECT_EQ(ends.one.received(), 1u);
    EXPECT_EQ(ends.one.sent(), 1u);
}

TEST(Link, AnotherConnectionBeginsAnew) {
    Ends ends;
    ASSERT_TRUE(ends.to_two(100, 101));
    const Heartbeat late = ends.two.next(at(102));
    ends.one.end();
    EXPECT_FALSE(ends.one.is_up(at(103)));
    ends.one.begin(at(103));
    EXPECT_EQ(ends.one.unanswered_for(at(203)).value, millis(100).value);
    EXPECT_FALSE(ends.one.heard(late, at(104))) << "it echoes what went out on the former one";
    ends.two.end();
    ends.two.begin(at(104));
    EXPECT_EQ(ends.two.next(at(105)).echo, 0u);
    EXPECT_TRUE(ends.to_two(106, 107) && ends.to_one(107, 108));
    EXPECT_TRUE(ends.one.is_up(at(108)));
    EXPECT_EQ(ends.one.heard_since(at(110))->value, millis(2).value);
}

/// A clock that stands still for a while, and a peer that says it held a stamp for longer than that.
TEST(Link, StampsGrowAndTimesDoNotWrap) {
    Link one;
    one.begin(at(5));
    const Heartbeat first = one.next(at(5));
    const Heartbeat second = one.next(at(5));
    EXPECT_LT(first.stamp, second.stamp);
    Heartbeat reply;
    reply.stamp = 1;
    reply.echo = second.stamp;
    reply.held = seconds(100).value;
    EXPECT_TRUE(one.heard(reply, at(5)));
    EXPECT_EQ(one.round_trip()->value, 0u);
    EXPECT_TRUE(one.is_up(at(5)));
    EXPECT_FALSE(Link().heard_since(at(1)).has_value());
}

}  // namespace
}  // namespace braid::cluster
