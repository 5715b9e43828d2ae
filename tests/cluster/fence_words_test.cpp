// SPDX-License-Identifier: BSD-3-Clause
// Goal: what nodes tell each other between two fences comes as it was, in as many messages as it takes;
// and what is not as it has to be is refused by name. Method: there and back, as text.
#include "cluster/node/fence_words.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cluster/node/node_commands.h"
#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

Words sent(const Words& words) { return Words::parse(words.dump()); }

TEST(FenceWords, PrepareComesAsItWas) {
    const Words words =
        sent(words_of(PrepareWords{512, {{3, 77}, {1, ~std::uint64_t{0}}}, {{2, 5}}, {1}}));
    EXPECT_TRUE(is_prepare(words));
    EXPECT_FALSE(is_adopt(words));
    const auto prepare = prepare_of(words);
    ASSERT_TRUE(prepare) << prepare.error().text;
    EXPECT_EQ(prepare->fence, 512u);
    EXPECT_EQ(prepare->gone, (std::vector<NodeBoot>{{3, 77}, {1, ~std::uint64_t{0}}}));
    EXPECT_EQ(prepare->joined, (std::vector<NodeBoot>{{2, 5}}));
    EXPECT_EQ(prepare->left, (std::set<std::uint32_t>{1}));
}

TEST(FenceWords, WhatANodeKnowsComesInPieces) {
    Prepared prepared;
    PrepareAnswer& answer = prepared.answer;
    answer.sequence = 9000;
    for (std::uint64_t i = 1; i <= 2 * writes_told_max + 1; ++i) answer.decided.push_back(3 * i);
    const NodeBoot gone{2, 41};
    for (std::uint64_t i = 1; i <= writes_told_max + 7; ++i) {
        answer.books[gone].push_back({{gone, i}, i % 64, i % 32, i % 3 == 0});
    }
    answer.books[{4, 8}] = {};  // it has nothing of this one, and says so
    answer.ages[NodeId{2}] = millis(7);
    answer.verdict.epoch = 200;
    answer.verdict.writers[gone] = {Judged::all, {5, 7}};
    for (std::uint64_t i = 1; i <= writes_told_max + 1; ++i) {
        answer.verdict.writers[{4, 8}].happen.insert(i);
    }
    prepared.roles = {{true, 2, 0, WindowIndex{17}}, {false, 0, 0, WindowIndex{}}};
    const std::vector<Words> pieces = words_of(256, prepared);
    EXPECT_EQ(pieces.size(), 1u + 2u + 3u + 2u + 1u + 1u);
    Prepared come;
    for (const Words& piece : pieces) {
        EXPECT_LE(piece.dump().size(), message_body_size_max);
        const auto is_last = take_prepared(sent(piece), &come);
        ASSERT_TRUE(is_last) << is_last.error().text;
        EXPECT_EQ(*is_last, &piece == &pieces.back());
    }
    EXPECT_EQ(come.answer.sequence, answer.sequence);
    EXPECT_EQ(come.answer.decided, answer.decided);
    EXPECT_EQ(come.answer.books, answer.books);
    EXPECT_EQ(come.answer.ages, answer.ages);
    EXPECT_EQ(come.answer.verdict, answer.verdict);
    EXPECT_EQ(come.roles, prepared.roles);
}

TEST(FenceWords, AVerdictComesInPieces) {
    WriteVerdict verdict;
    verdict.epoch = 768;
    Judged& one = verdict.writers[{1, 5}];
    one.upto = 100'000;
    for (std::uint64_t i = 0; i != writes_told_max + 1; ++i) one.happen.insert(7 * i + 1);
    verdict.writers[{2, 6}].upto = Judged::all;
    WriteVerdict come;
    for (const Words& piece : words_of(verdict)) {
        const auto taken = take_verdict(sent(piece), &come);
        ASSERT_TRUE(taken) << taken.error().text;
    }
    EXPECT_EQ(come, verdict);
}

TEST(FenceWords, PositionsOfRebuilds) {
    Geometry geometry;
    geometry.member_count = 4;
    geometry.stripes = 100;
    geometry.strip_size = 64u << 10;
    geometry.window_rows = 16;
    Words words = words_of(Negotiate{NegotiateStep::adopt, 256});
    put_rebuilt(&words, {{MemberIndex{3}, WindowIndex{17}}});
    EXPECT_TRUE(is_adopt(sent(words)));
    const auto come = rebuilt_of(sent(words), geometry);
    ASSERT_TRUE(come) << come.error().text;
    ASSERT_EQ(come->size(), 1u);
    EXPECT_EQ(come->front().member, MemberIndex{3});
    EXPECT_EQ(come->front().upto, WindowIndex{17});
    words["rebuilt"][0][0] = 4U;
    EXPECT_FALSE(rebuilt_of(sent(words), geometry)) << "there is no member 4";
    words["rebuilt"][0] = {3U, raw(geometry.window_end()) + 1};
    EXPECT_FALSE(rebuilt_of(sent(words), geometry)) << "beyond the array";
}

std::string why(const Words& words) {
    Prepared answer;
    WriteVerdict verdict;
    const std::string what = words.value("tell", "");
    if (what == fence_words::verdict) {
        const auto taken = take_verdict(words, &verdict);
        return taken ? "" : taken.error().text;
    }
    if (what.empty()) {
        const auto taken = prepare_of(words);
        return taken ? "" : taken.error().text;
    }
    const auto taken = take_prepared(words, &answer);
    return taken ? "" : taken.error().text;
}

TEST(FenceWords, WhatCannotBeIsRefusedByName) {
    const Words too_many(Words::array_t(writes_told_max + 1, Words(1U)));
    const struct {
        Words words;
        const char* names;
    } cases[] = {
        {{{"fence", 1}, {"gone", 7}}, "gone"},
        {{{"fence", 1}, {"gone", {{0, 1}}}}, "gone"},
        {{{"fence", 1}, {"gone", {{1, 0}}}}, "gone"},
        {{{"fence", 1}, {"gone", {{99, 1}}}}, "gone"},
        {{{"fence", 1}, {"gone", {{1}}}}, "gone"},
        {{{"gone", Words::array()}}, "fence"},
        {{{"tell", "decided"}, {"fence", 1}, {"writes", {1, -1}}}, "writes"},
        {{{"tell", "decided"}, {"fence", 1}, {"writes", too_many}}, "writes"},
        {{{"tell", "known"}, {"fence", 1}, {"node", 0}, {"boot", 1}, {"writes", Words::array()}},
         "node"},
        {{{"tell", "known"}, {"fence", 1}, {"node", 1}, {"boot", 0}, {"writes", Words::array()}},
         "boot"},
        {{{"tell", "known"}, {"fence", 1}, {"node", 1}, {"boot", 2}, {"writes", {{1, 2, 3}}}},
         "writes"},
        {{{"tell", "known"}, {"fence", 1}, {"node", 1}, {"boot", 2}, {"writes", {{1, 2, 3, 2}}}},
         "writes"},
        {{{"tell", "prepared"}, {"fence", 1}, {"ages", Words::array()}}, "newest"},
        {{{"tell", "prepared"}, {"fence", 1}, {"newest", 1}, {"ages", {{77, 1}}}}, "ages"},
        {{{"tell", "prepared"},
          {"fence", 1},
          {"newest", 1},
          {"ages", Words::array()},
          {"roles", {{2, 1, 1, 1}}}},
         "roles"},
        {{{"tell", "judged"}, {"fence", 1}, {"node", 1}, {"boot", 2}, {"upto", 3}, {"happen", {1}}},
         "epoch"},
        {{{"tell", "verdict"},
          {"fence", 1},
          {"node", 1},
          {"boot", 2},
          {"upto", "x"},
          {"happen", {1}}},
         "upto"},
        {{{"tell", "verdict"},
          {"fence", 1},
          {"node", 1},
          {"boot", 2},
          {"upto", 3},
          {"happen", "all"}},
         "happen"},
    };
    for (const auto& one : cases) {
        EXPECT_NE(why(sent(one.words)).find(one.names), std::string::npos)
            << one.words.dump().substr(0, 200) << " -> " << why(sent(one.words));
    }
}

}  // namespace
}  // namespace braid::cluster
