// SPDX-License-Identifier: BSD-3-Clause
// Goal: no read waits for what nobody has asked; one question is on its way at a time, and those that
// come meanwhile share the next one; only what went out after a read had its bytes answers it.
// Method: every sequence of up to nine steps, in which reads get their bytes, heartbeats go out by
// themselves, and what went out comes back from enough, late or never.
#include "cluster/membership/strict_reads.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace braid::cluster {
namespace {

class World {
  public:
    /// @return  false: this step is none
    bool step(std::uint32_t what) {
        switch (what) {
            case 0:  // a read has its bytes
                reads_.push_back({sent_});
                if (strict_.begin({sent_})) ask();
                break;
            case 1:  // a heartbeat goes out
                ++sent_;
                break;
            case 2:  // all come back
            case 3:  // or all but the newest: it is lost with its connection, or late
                return come_back(what == 2 ? sent_ : sent_ - 1);
            default:
                return false;
        }
        return true;
    }
    /// Of what waits something is on its way that will answer it, or will have the next one asked.
    void check() const {
        std::uint64_t open = 0;
        for (const std::uint64_t asked : questions_) open += asked > back_ ? 1 : 0;
        EXPECT_LE(open, 1u);
        for (const Nanos read : reads_) {
            EXPECT_TRUE(back_ > read.value || open == 1) << "a read waits, and nobody is asked";
        }
    }
    /// When all comes back at once and nothing new is read, all reads are answered.
    void settle() {
        for (int i = 0; i != 2; ++i) come_back(sent_);
        for (const Nanos read : reads_) EXPECT_GT(back_, read.value);
    }
    std::size_t questions() const { return questions_.size(); }

  private:
    void ask() {
        questions_.push_back(++sent_);  // a stamp that is newer than all
    }
    bool come_back(std::uint64_t stamp) {
        if (stamp <= back_) return false;
        back_ = stamp;
        if (strict_.came_back({back_}, {sent_})) ask();
        return true;
    }

    StrictReads strict_;
    std::uint64_t sent_{5};
    std::uint64_t back_{3};
    std::vector<Nanos> reads_;  // the newest stamp that had gone out
    std::vector<std::uint64_t> questions_;
};

std::uint64_t try_all(const World& world, int steps) {
    std::uint64_t cases = 1;
    World end = world;
    end.settle();
    if (steps == 0 || testing::Test::HasFailure()) return cases;
    for (std::uint32_t what = 0; what != 4; ++what) {
        World next = world;
        if (!next.step(what)) continue;
        next.check();
        cases += try_all(next, steps - 1);
    }
    return cases;
}

TEST(StrictReads, NoneWaitsForNothing) { EXPECT_GT(try_all(World{}, 9), 10'000u); }

TEST(StrictReads, ReadsShareAQuestion) {
    World world;
    for (int i = 0; i != 100; ++i) EXPECT_TRUE(world.step(0));
    EXPECT_EQ(world.questions(), 1u);
    EXPECT_TRUE(world.step(2));
    EXPECT_EQ(world.questions(), 2u) << "for the other 99";
    EXPECT_TRUE(world.step(2));
    EXPECT_EQ(world.questions(), 2u);
    world.settle();
}

TEST(StrictReads, WhatWasSentBeforeAnswersNothing) {
    StrictReads strict;
    EXPECT_TRUE(strict.begin({10}));
    EXPECT_FALSE(strict.begin({11}));
    EXPECT_FALSE(strict.came_back({10}, {11}));
    EXPECT_TRUE(strict.came_back({11}, {11})) << "the second read asks again";
    EXPECT_FALSE(strict.came_back({11}, {12}));
    EXPECT_FALSE(strict.came_back({12}, {12}));
    EXPECT_TRUE(strict.begin({12})) << "nothing is on its way";
    EXPECT_FALSE(strict.begin({13}));
    EXPECT_FALSE(strict.came_back({14}, {14})) << "that answers both";
}

}  // namespace
}  // namespace braid::cluster
