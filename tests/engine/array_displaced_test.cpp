// SPDX-License-Identifier: BSD-3-Clause
// A member comes back while another disk is being rebuilt in its role: it has that again in time, and is a
// spare later.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/return_fixture.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

/// Another disk has taken its role, and is being rebuilt in it.
class Displaced : public Return {
  protected:
    /// Member 1 is not there at a start, and a fresh disk is slowly rebuilt in its place.
    void displace(Level level, std::uint64_t seed) {
        SimArrayOptions options = shape(level, seed);
        options.stripes = 800;
        start(options);
        former = sim->platters[1];
        ASSERT_TRUE(sim->stop());
        ASSERT_TRUE(sim->open(all_but(1)));
        write_some(8);
        fresh = sim->make_platter();
        fresh->delay_nanos = 40'000'000;
        ASSERT_TRUE(
            sim->loop().run_until_done(sim->array->add_member(sim->disk(fresh, "new"), Force::no)));
        sim->platters[1] = fresh;
        write_some(static_cast<int>(sim->loop().rng().below(3)));
        ASSERT_EQ(sim->state_of(1), MemberState::rebuilding);
    }
    void hurry() {
        slow(0);
        former->delay_nanos = 0;
        fresh->delay_nanos = 0;
    }
    /// Stripes, in memory.
    std::uint64_t rebuilt() const {
        const ArrayStatus status = sim->array->status();
        return status.walks.empty() ? 0 : status.walks.front().position / strip;
    }
    void wait_until_rebuilt(std::uint64_t stripes) {
        for (int i = 0; i != 10'000 && rebuilt() < stripes; ++i) sim->loop().run_for(millis(2));
        ASSERT_GE(rebuilt(), stripes);
        ASSERT_EQ(sim->state_of(1), MemberState::rebuilding);
    }
    Task<void> give(Checked<Unit>* done) {
        *done = co_await sim->array->add_member(sim->disk(former, "former"), Force::no);
        if (*done) given = true;
    }
    Checked<Unit> give_back() {
        Checked<Unit> done = Unit{};
        sim->loop().run_until_done(give(&done));
        if (done && sim->has_event("rebuild_ended")) sim->platters[1] = former;
        return done;
    }
    std::string spare() const {
        std::string paths;
        for (const MemberRecord& at : sim->array->status().configuration.members) {
            if (at.state == MemberState::spare) paths += at.path;
        }
        return paths;
    }
    /// As it is given back; and the other disk goes on.
    void expect_becomes_a_spare() {
        ASSERT_TRUE(give_back());
        EXPECT_FALSE(sim->has_event("rebuild_ended"));
        EXPECT_EQ(spare(), "former");
        hurry();
        sim->come_to_rest();
        expect_clean();
    }
    std::shared_ptr<SimPlatter> former;
    std::shared_ptr<SimPlatter> fresh;
    bool given{false};
};

/// It is back before that one is half done: it has its role again, lacks what was written since it left, also
/// what the other one has got meanwhile, and that one is a spare, which takes the role when it leaves again.
TEST_F(Displaced, IsBackInTime) {
    for (std::uint64_t seed = 1; seed <= test::seeds_of(9, 60); ++seed) {
        SCOPED_TRACE(seed);
        displace(seed % 2 == 0 ? Level::raid6 : Level::raid5, seed);
        if (seed % 3 == 0) {
            wait_until_rebuilt(1);
            write_some(2);
        }
        ASSERT_TRUE(give_back());
        EXPECT_NE(text_of_event("rebuild_ended").find("former, which was member 1, is back"),
                  std::string::npos)
            << text_of_event("rebuild_ended");
        EXPECT_NE(how_it_came().find("is back: it missed"), std::string::npos) << how_it_came();
        EXPECT_EQ(spare(), "new");
        write_some(4);
        hurry();
        sim->come_to_rest();
        EXPECT_LT(written_to(1), whole() / 2);
        expect_clean();
        if (seed % 2 == 0) {
            ASSERT_TRUE(fail(1, Force::no));
            sim->platters[1] = fresh;
            sim->come_to_rest();
            EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
            expect_clean();
            EXPECT_EQ(spare(), "");
        }
    }
}

/// The other one is more than half done: that goes on, and who comes back is a spare.
TEST_F(Displaced, IsBackTooLate) {
    displace(Level::raid5, 4);
    wait_until_rebuilt(sim->geometry().stripes / 2);
    expect_becomes_a_spare();
}

/// It lacks more than the other one.
TEST_F(Displaced, HasMissedMore) {
    displace(Level::raid5, 5);
    fill();
    EXPECT_LT(rebuilt(), sim->geometry().stripes / 2);
    expect_becomes_a_spare();
}

/// The other one leaves. What the first one misses is noted still; of the other one nobody knows what it lacks.
TEST_F(Displaced, TheOtherOneLeaves) {
    for (const bool first_is_back : {true, false}) {
        SCOPED_TRACE(first_is_back);
        displace(Level::raid5, 6);
        wait_until_rebuilt(2);
        ASSERT_TRUE(fail(1, Force::no));
        write_some(6);
        hurry();
        if (first_is_back) {
            sim->platters[1] = former;
            ASSERT_TRUE(give_back());
        } else {
            ASSERT_TRUE(add_back(1));
        }
        sim->come_to_rest();
        if (!first_is_back) {
            expect_rebuilt_whole("what was written while it was away is not known");
            continue;
        }
        EXPECT_NE(how_it_came().find("is back: it missed"), std::string::npos) << how_it_came();
        EXPECT_LT(written_to(1), whole() / 2);
        expect_clean();
    }
}

/// When the other one is in sync nothing is noted any more.
TEST_F(Displaced, TheOtherOneIsDone) {
    displace(Level::raid5, 7);
    hurry();
    sim->come_to_rest();
    ASSERT_TRUE(give_back());
    EXPECT_EQ(spare(), "former");
    ASSERT_TRUE(fail(1, Force::no));
    write_some(3);
    sim->platters[1] = former;
    sim->come_to_rest();
    EXPECT_GE(written_to(1), whole());
    expect_clean();
}

/// The power goes at any moment of it: whichever of the two has the role then, all is there.
TEST_F(Displaced, ThePowerGoesAsItComesBack) {
    std::uint64_t cut = 0;
    for (std::uint64_t seed = 1; seed <= test::seeds_of(60, 1000); ++seed) {
        SCOPED_TRACE(seed);
        displace(seed % 2 == 0 ? Level::raid6 : Level::raid5, seed);
        ASSERT_TRUE(sim->flush());
        fresh->delay_nanos = 2'000'000'000;
        sim->loop().run_for(seconds(12));  // until nothing is marked
        ASSERT_EQ(sim->array->status().intent.stripes_marked, 0U);
        ASSERT_EQ(sim->state_of(1), MemberState::rebuilding);
        fresh->delay_nanos = 40'000'000;
        given = false;
        Checked<Unit> done = Unit{};
        sim->loop().tasks().spawn(give(&done));
        for (std::uint64_t i = sim->loop().rng().below(400); i != 0 && sim->loop().step(); --i) {
        }
        cut += given ? 0 : 1;
        sim->crash();
        former->cut_power(sim->loop().rng());
        hurry();
        // Both are there, or one of them.
        sim->platters.push_back(former);
        const std::uint64_t which = sim->loop().rng().below(3);
        std::vector<std::size_t> present;
        for (std::size_t i = 0; i != sim->platters.size(); ++i) {
            const bool is_away =
                (which == 1 && i == 1) || (which == 2 && sim->platters[i] == former);
            if (!is_away) present.push_back(i);
        }
        ASSERT_TRUE(sim->open(present));
        sim->come_to_rest();
        sim->expect_content();
        EXPECT_EQ(sim->array->status().bad_bytes, 0U);
        if (sim->state_of(1) != MemberState::in_sync) {
            ASSERT_TRUE(replace(1, Force::no));
            sim->come_to_rest();
            sim->expect_content();
        }
        ASSERT_TRUE(sim->stop());
        if (HasFailure()) return;
    }
    EXPECT_GT(cut, 10U);
}

}  // namespace
}  // namespace braid::sim
