// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/credits.h"

#include <gtest/gtest.h>

#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "engine/base/rng.h"

namespace braid::cluster {
namespace {

constexpr CreditTicket first{1};
constexpr CreditTicket second{2};
constexpr CreditTicket third{3};

TEST(Credits, WhoComesFirstIsServedFirst) {
    Credits credits(2, 100);
    EXPECT_TRUE(credits.take(0, 80, first));
    EXPECT_FALSE(credits.take(0, 50, second));
    EXPECT_FALSE(credits.take(0, 10, third)) << "there would be room, but one waits in front";
    EXPECT_TRUE(credits.take(1, 100, third)) << "another home";
    EXPECT_EQ(credits.next_granted(0), std::nullopt);
    credits.give_back(0, 40);
    EXPECT_EQ(credits.next_granted(0), second);
    EXPECT_EQ(credits.next_granted(0), third);
    EXPECT_EQ(credits.next_granted(0), std::nullopt);
    EXPECT_EQ(credits.taken(0), 100u);
    EXPECT_FALSE(credits.is_waited_for(0));
}

TEST(Credits, WhoAsksForMoreThanThereIsGetsItAlone) {
    Credits credits(1, 100);
    EXPECT_TRUE(credits.take(0, 10, first));
    EXPECT_FALSE(credits.take(0, 500, second));
    credits.give_back(0, 10);
    EXPECT_EQ(credits.next_granted(0), second);
    EXPECT_FALSE(credits.take(0, 1, third));
}

TEST(Credits, WhoGivesUpIsInNobodysWay) {
    Credits credits(1, 100);
    EXPECT_TRUE(credits.take(0, 90, first));
    EXPECT_FALSE(credits.take(0, 50, second));
    EXPECT_FALSE(credits.take(0, 10, third));
    EXPECT_TRUE(credits.cancel(0, second));
    EXPECT_FALSE(credits.cancel(0, second));
    EXPECT_EQ(credits.next_granted(0), third);
}

// Goal: never more than there are, and everybody gets his in his turn. Method: a long random life
// beside a plain queue.
TEST(Credits, AreThoseOfAPlainQueue) {
    constexpr std::uint64_t most = 64;
    Rng rng(1);
    Credits credits(1, most);
    std::map<std::uint64_t, std::uint64_t> held;                // by ticket
    std::deque<std::pair<std::uint64_t, std::uint64_t>> queue;  // ticket, bytes
    std::uint64_t taken = 0;
    std::uint64_t last = 0;
    for (int turn = 0; turn != 20000; ++turn) {
        if (rng.chance(2) || held.empty()) {
            const std::uint64_t bytes = 1 + rng.below(most);
            const bool free = queue.empty() && (taken == 0 || taken + bytes <= most);
            ASSERT_EQ(credits.take(0, bytes, CreditTicket{++last}), free);
            if (free) held[last] = bytes, taken += bytes;
            if (!free) queue.emplace_back(last, bytes);
        } else {
            auto at = held.begin();
            std::advance(at, static_cast<std::ptrdiff_t>(rng.below(held.size())));
            credits.give_back(0, at->second);
            taken -= at->second;
            held.erase(at);
        }
        while (!queue.empty() && (taken == 0 || taken + queue.front().second <= most)) {
            const auto [ticket, bytes] = queue.front();
            queue.pop_front();
            ASSERT_EQ(credits.next_granted(0), CreditTicket{ticket});
            held[ticket] = bytes, taken += bytes;
        }
        ASSERT_EQ(credits.next_granted(0), std::nullopt);
        ASSERT_EQ(credits.taken(0), taken);
        ASSERT_LE(taken, most);
    }
}

}  // namespace
}  // namespace braid::cluster
