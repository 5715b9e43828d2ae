// SPDX-License-Identifier: BSD-3-Clause
// Pauses that end with their time, or are cut short.
#include "engine/io/pauses.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/sim/sim_loop.h"

namespace braid {
namespace {

struct Woken {
    int who{0};
    Nanos at;
    bool operator==(const Woken&) const = default;
};

Task<void> wait_a_while(sim::SimLoop* loop, Pauses* pauses, int who, Nanos time,
                        std::vector<Woken>* woken) {
    Pause pause(*pauses, time);
    co_await pause;
    woken->push_back({who, loop->now()});
}

TEST(Pauses, EndWithTheirTimeOrAllAtOnce) {
    sim::SimLoop loop(1);
    Pauses pauses(loop);
    TaskGroup tasks(loop.ready());
    std::vector<Woken> woken;
    const Nanos begin = loop.now();
    const auto after = [begin](Nanos time) { return Nanos{begin.value + time.value}; };
    tasks.spawn(wait_a_while(&loop, &pauses, 1, seconds(20), &woken));
    tasks.spawn(wait_a_while(&loop, &pauses, 2, seconds(1), &woken));
    tasks.spawn(wait_a_while(&loop, &pauses, 3, seconds(30), &woken));
    loop.run_for(seconds(5));
    EXPECT_EQ(woken, (std::vector<Woken>{{2, after(seconds(1))}}));
    pauses.cut_short();
    tasks.spawn(wait_a_while(&loop, &pauses, 4, seconds(2), &woken));
    loop.run_for(seconds(100));
    ASSERT_EQ(woken.size(), 4U);
    EXPECT_EQ(woken[1].at, after(seconds(5)));
    EXPECT_EQ(woken[2].at, after(seconds(5)));
    EXPECT_EQ(woken[3], (Woken{4, after(seconds(7))})) << "who came later has paused";
    pauses.cut_short();  // nobody is left
}

TEST(Pauses, WhoIsDestroyedIsNotWoken) {
    sim::SimLoop loop(1);
    Pauses pauses(loop);
    std::vector<Woken> woken;
    {
        TaskGroup tasks(loop.ready());
        tasks.spawn(wait_a_while(&loop, &pauses, 1, seconds(20), &woken));
        loop.run_for(seconds(1));
    }
    pauses.cut_short();
    loop.run_for(seconds(100));
    EXPECT_TRUE(woken.empty());
}

}  // namespace
}  // namespace braid
