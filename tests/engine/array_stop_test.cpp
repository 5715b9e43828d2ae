// SPDX-License-Identifier: BSD-3-Clause
// A stop that cannot end yet.
#include <gtest/gtest.h>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

Task<void> stop_array(Array* array, bool* stopped) {
    EXPECT_TRUE(co_await array->stop());
    *stopped = true;
}

TEST(ArrayStop, TellsForWhichMemberItWaits) {
    SimArray sim({.seed = 12});
    sim.create();
    ASSERT_TRUE(sim.open());
    Buffer data = random_bytes(sim.loop().rng(), 64u << 10);
    ASSERT_TRUE(sim.write(0, data));
    sim.platters[1]->delay_nanos = seconds(30).value;
    bool stopped = false;
    TaskGroup tasks(sim.loop().ready());
    tasks.spawn(stop_array(sim.array.get(), &stopped));
    sim.loop().run_for(seconds(4));
    EXPECT_FALSE(sim.has_event("stop_waits"));
    sim.loop().run_for(seconds(2));
    ASSERT_TRUE(sim.has_event("stop_waits"));
    EXPECT_NE(sim.texts.back().find("member 1 (m1), which has not answered"), std::string::npos)
        << sim.texts.back();
    const ArrayStatus status = sim.array->status();
    EXPECT_TRUE(status.stopping);
    EXPECT_NE(status.members[1].in_flight, 0u);
    EXPECT_EQ(status.members[0].in_flight, 0u);
    EXPECT_FALSE(stopped);
    sim.loop().run_for(seconds(300));
    EXPECT_TRUE(stopped);
    sim.array.reset();
}

// Goal: the next start knows that what is in doubt is listed, also where the last writes of the
// metadata were what cost the member. Method: a resync of everything waits for a member that has died.
TEST(ArrayStop, AMemberThatIsLostByItsLastWritesIsSaidInThem) {
    SimArray sim({.seed = 3});
    sim.create();
    sim.intent.on = false;
    ASSERT_TRUE(sim.open());
    Buffer data = random_bytes(sim.loop().rng(), 64u << 10);
    ASSERT_TRUE(sim.write(0, data));
    sim.kill();
    ASSERT_TRUE(sim.open());
    sim.platters[0]->dead = true;
    sim.loop().run_for(seconds(1));
    EXPECT_EQ(sim.array->status().members[0].record.state, MemberState::in_sync);
    EXPECT_TRUE(sim.stop());
    ASSERT_TRUE(sim.open({1, 2, 3})) << "what the member held is listed";
    EXPECT_EQ(sim.array->status().bad_bytes, sim.size() / 4);
}

}  // namespace
}  // namespace braid::sim
