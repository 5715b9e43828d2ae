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
    Credits credits(2, {100, 9});
    EXPECT_TRUE(credits.take(0, {80, 1}, first));
    EXPECT_FALSE(credits.take(0, {50, 1}, second));
    EXPECT_FALSE(credits.take(0, {10, 1}, third)) << "there would be room, but one waits in front";
    EXPECT_TRUE(credits.take(1, {100, 1}, third)) << "another home";
    EXPECT_EQ(credits.next_granted(0), std::nullopt);
    credits.give_back(0, {40, 0});
    EXPECT_EQ(credits.next_granted(0), second);
    EXPECT_EQ(credits.next_granted(0), third);
    EXPECT_EQ(credits.next_granted(0), std::nullopt);
    EXPECT_EQ(credits.taken(0), (Credit{100, 3}));
    EXPECT_FALSE(credits.is_waited_for(0));
}

TEST(Credits, WhoAsksForMoreThanThereIsGetsItAlone) {
    Credits credits(1, {100, 9});
    EXPECT_TRUE(credits.take(0, {10, 1}, first));
    EXPECT_FALSE(credits.take(0, {500, 1}, second));
    credits.give_back(0, {10, 1});
    EXPECT_EQ(credits.next_granted(0), second);
    EXPECT_FALSE(credits.take(0, {1, 1}, third));
}

TEST(Credits, WhoGivesUpIsInNobodysWay) {
    Credits credits(1, {100, 9});
    EXPECT_TRUE(credits.take(0, {90, 1}, first));
    EXPECT_FALSE(credits.take(0, {50, 1}, second));
    EXPECT_FALSE(credits.take(0, {10, 1}, third));
    EXPECT_TRUE(credits.cancel(0, second));
    EXPECT_FALSE(credits.cancel(0, second));
    EXPECT_EQ(credits.next_granted(0), third);
}

TEST(Credits, EntriesAreCountedBesideBytes) {
    Credits credits(1, {100, 3});
    EXPECT_TRUE(credits.take(0, {1, 2}, first));
    EXPECT_FALSE(credits.take(0, {1, 2}, second));
    credits.give_back(0, {1, 0});
    EXPECT_EQ(credits.next_granted(0), std::nullopt);
    credits.give_back(0, {0, 1});
    EXPECT_EQ(credits.next_granted(0), second);
    EXPECT_FALSE(credits.take(0, {500, 1}, third)) << "no bytes are left over, nor entries";
    credits.give_back(0, {1, 0});
    EXPECT_EQ(credits.next_granted(0), std::nullopt) << "of entries there have to be as many";
    credits.give_back(0, {0, 1});
    EXPECT_EQ(credits.next_granted(0), third);
}

// Goal: never more than there are, and everybody gets his in his turn. Method: a long random life
// beside a plain queue.
TEST(Credits, AreThoseOfAPlainQueue) {
    constexpr Credit most{64, 12};
    Rng rng(1);
    Credits credits(1, most);
    std::map<std::uint64_t, Credit> held;                // by ticket
    std::deque<std::pair<std::uint64_t, Credit>> queue;  // ticket, what it waits for
    Credit taken;
    std::uint64_t last = 0;
    const auto fits = [&](const Credit& wanted) {
        return (taken.bytes == 0 || taken.bytes + wanted.bytes <= most.bytes) &&
               taken.entries + wanted.entries <= most.entries;
    };
    for (int turn = 0; turn != 20000; ++turn) {
        if (rng.chance(2) || held.empty()) {
            const Credit wanted{1 + rng.below(most.bytes), 1 + rng.below(4)};
            const bool free = queue.empty() && fits(wanted);
            ASSERT_EQ(credits.take(0, wanted, CreditTicket{++last}), free);
            if (free) held[last] = wanted, taken += wanted;
            if (!free) queue.emplace_back(last, wanted);
        } else {
            auto at = held.begin();
            std::advance(at, static_cast<std::ptrdiff_t>(rng.below(held.size())));
            credits.give_back(0, at->second);
            taken -= at->second;
            held.erase(at);
        }
        while (!queue.empty() && fits(queue.front().second)) {
            const auto [ticket, wanted] = queue.front();
            queue.pop_front();
            ASSERT_EQ(credits.next_granted(0), CreditTicket{ticket});
            held[ticket] = wanted, taken += wanted;
        }
        ASSERT_EQ(credits.next_granted(0), std::nullopt);
        ASSERT_EQ(credits.taken(0), taken);
        ASSERT_LE(taken.bytes, most.bytes);
        ASSERT_LE(taken.entries, most.entries);
    }
}

}  // namespace
}  // namespace braid::cluster
