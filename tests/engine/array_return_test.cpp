// SPDX-License-Identifier: BSD-3-Clause
// A member that was away comes back: it is made true where it missed something, and nowhere else. What
// it missed is known since it left, and only by who was there.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/engine/return_fixture.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

TEST_F(Return, OnlyWhatWasMissedIsWritten) {
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        for (std::uint32_t member = 0; member != 3; ++member) {
            SCOPED_TRACE(std::to_string(static_cast<int>(level)) + " " + std::to_string(member));
            begin(level, 7 + member);
            ASSERT_TRUE(fail(member, Force::no));
            write_some(8);
            ASSERT_TRUE(add_back(member)) << how_it_came();
            sim->come_to_rest();
            EXPECT_NE(how_it_came().find("is back: it missed"), std::string::npos) << how_it_came();
            // At most 24 rows in 16 windows, and metadata.
            EXPECT_LE(written_to(member), 16 * strip + (1u << 20) + (64u << 10)) << how_it_came();
            EXPECT_LT(written_to(member), whole());
            expect_clean();
            ASSERT_TRUE(sim->stop());
            ASSERT_TRUE(sim->open());
            expect_clean();
        }
    }
}

TEST_F(Return, NothingWasMissed) {
    begin(Level::raid5, 3);
    ASSERT_TRUE(fail(1, Force::no));
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    EXPECT_NE(how_it_came().find("it missed 0 bytes"), std::string::npos) << how_it_came();
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    expect_clean();
}

/// What was on its way as the member left is made true, too: it has some of it, or none. The last one, which
/// holds no record that would name it.
TEST_F(Return, WhatWasOnItsWayAsItLeft) {
    for (std::uint64_t seed = 1; seed != 30; ++seed) {
        SCOPED_TRACE(seed);
        begin(seed % 2 == 0 ? Level::raid6 : Level::raid5, seed);
        const auto last = static_cast<std::uint32_t>(sim->platters.size()) - 1;
        Rng& rng = sim->loop().rng();
        std::vector<std::unique_ptr<Asked>> asked;
        for (int i = 0; i != 16; ++i) {
            asked.push_back(std::make_unique<Asked>());
            const std::uint64_t at =
                (static_cast<std::uint64_t>(i) * 37 + rng.below(30)) * row_size;
            Buffer data = random_bytes(rng, row_size);
            std::memcpy(sim->model.data() + at, data.data(), row_size);
            sim->ask(*asked.back(), IoKind::write, at, std::move(data));
        }
        for (std::uint64_t i = rng.below(300); i != 0 && sim->loop().step(); --i) {
        }
        ASSERT_TRUE(fail(last, Force::no));
        for (const auto& one : asked) sim->wait_for(*one);
        // Its cache is lost as it is pulled.
        sim->loop().run_for(millis(10));
        sim->platters[last]->cut_power(rng);
        write_some(3);
        ASSERT_TRUE(add_back(last));
        for (int i = 0; i != 20; ++i) {
            write_some(1);
            sim->loop().run_for(millis(rng.below(3)));
        }
        sim->come_to_rest();
        EXPECT_NE(how_it_came().find("is back"), std::string::npos) << how_it_came();
        expect_clean();
    }
}

/// Clients write all the time, and zero, where the member is live already and where it is not.
TEST_F(Return, ClientsGoOnWhileItIsMadeTrue) {
    for (std::uint64_t seed = 1; seed != 20; ++seed) {
        SCOPED_TRACE(seed);
        begin(seed % 2 == 0 ? Level::raid6 : Level::raid5, seed);
        Rng& rng = sim->loop().rng();
        ASSERT_TRUE(fail(1, Force::no));
        write_some(40, sim->size() / 2);
        slow(1'000'000);
        ASSERT_TRUE(add_back(1));
        for (int i = 0; i != 30; ++i) {
            const std::uint64_t at = rng.below(sim->size() / strip - 16) * strip;
            if (rng.chance(4)) {
                Asked zero;
                sim->ask(zero, IoKind::zero, at, 16 * strip);
                sim->wait_for(zero);
                ASSERT_TRUE(zero.request.ok);
                std::memset(sim->model.data() + at, 0, 16 * strip);
            } else {
                write_some(2);
            }
            Buffer row(row_size);
            ASSERT_TRUE(sim->read(at, row));
            EXPECT_EQ(std::memcmp(row.data(), sim->model.data() + at, row_size), 0);
        }
        slow(0);
        sim->come_to_rest();
        expect_clean();
    }
}

/// It leaves again in the middle of that, as one that misses what it missed before, and more.
TEST_F(Return, ItLeavesAgainInTheMiddle) {
    begin(Level::raid5, 5);
    ASSERT_TRUE(fail(1, Force::no));
    write_some(60);
    slow(3'000'000);
    ASSERT_TRUE(add_back(1));
    sim->loop().run_for(millis(30));
    ASSERT_EQ(sim->state_of(1), MemberState::rebuilding);
    ASSERT_TRUE(fail(1, Force::no));
    write_some(4);
    slow(0);
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    EXPECT_NE(how_it_came().find("is back"), std::string::npos) << how_it_came();
    expect_clean();
}

/// A strip has several windows, of which the member has missed some: what is read of it in one piece is
/// read where it is true.
TEST(ReturnOfLongStrips, AreReadByWindows) {
    for (std::uint64_t seed = 1; seed != 6; ++seed) {
        SCOPED_TRACE(seed);
        SimArrayOptions options;
        options.seed = seed;
        options.members = 3;
        options.strip_size = 1u << 20;
        options.stripes = 6;
        SimArray sim(options);
        sim.make();
        Rng& rng = sim.loop().rng();
        Buffer all = random_bytes(rng, sim.size());
        ASSERT_TRUE(sim.write(0, all));
        ASSERT_TRUE(sim.flush());
        sim.loop().run_for(seconds(20));
        ASSERT_TRUE(sim.loop().run_until_done(sim.array->fail_member(MemberName("1"), Force::no)));
        for (int i = 0; i != 12; ++i) {
            Buffer data = random_bytes(rng, row_size);
            ASSERT_TRUE(sim.write(rng.below(sim.size() / row_size) * row_size, data));
        }
        for (auto& platter : sim.platters) platter->delay_nanos = 5'000'000;
        ASSERT_TRUE(sim.loop().run_until_done(
            sim.array->add_member(sim.disk(sim.platters[1], "m1"), Force::no)));
        ASSERT_EQ(sim.state_of(1), MemberState::rebuilding);
        sim.expect_content();
        for (auto& platter : sim.platters) platter->delay_nanos = 0;
        sim.come_to_rest();
        sim.expect_content();
        sim.expect_parity();
    }
}

/// A spare waits for one that is only missing, and takes the place of one that failed at once.
TEST_F(Return, ASpareWaitsForOneThatIsMissing) {
    SimArrayOptions options = shape(Level::raid5, 13);
    options.spares = 1;
    start(options);
    ASSERT_TRUE(sim->stop());
    sim->rebuild_delay = seconds(600);
    ASSERT_TRUE(sim->open({0, 2, 3}));
    write_some(5);
    sim->loop().run_for(seconds(500));
    EXPECT_EQ(sim->state_of(1), MemberState::missing);
    EXPECT_EQ(count_events("spare_held"), 1u);
    const std::vector<WaitStatus> waits = sim->array->status().waits;
    ASSERT_EQ(waits.size(), 1u);
    EXPECT_EQ(waits[0].what, "spare");
    EXPECT_TRUE(waits[0].by_itself);
    EXPECT_NE(waits[0].why.find("braid member remove 1"), std::string::npos) << waits[0].why;
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    EXPECT_NE(how_it_came().find("is back"), std::string::npos) << how_it_came();
    EXPECT_TRUE(sim->array->status().waits.empty());
    expect_clean();
    // The next time it is not back in time.
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open({0, 2, 3}));
    sim->loop().run_for(seconds(590));
    EXPECT_EQ(sim->state_of(1), MemberState::missing);
    sim->loop().run_for(seconds(20));
    sim->come_to_rest();
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    EXPECT_EQ(sim->array->status().health, Health::clean);
    ASSERT_TRUE(sim->stop());
}

TEST_F(Return, ASpareDoesNotWaitForOneThatFailedOrWasGivenUp) {
    for (const bool gives_up : {true, false}) {
        SimArrayOptions options = shape(Level::raid5, 14);
        options.spares = 1;
        start(options);
        ASSERT_TRUE(sim->stop());
        sim->rebuild_delay = seconds(600);
        if (gives_up) {
            ASSERT_TRUE(sim->open({0, 2, 3}));
            ASSERT_TRUE(remove("1"));
        } else {
            ASSERT_TRUE(sim->open());
            ASSERT_TRUE(fail(1, Force::no));
        }
        sim->loop().run_for(seconds(5));
        sim->come_to_rest();
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        EXPECT_EQ(sim->array->status().health, Health::clean);
        // Told to stop while a spare waits it stops.
        ASSERT_TRUE(sim->stop());
    }
}

/// Of two that are away each is made true where it missed something.
TEST_F(Return, TwoAreAway) {
    for (const bool same_order : {true, false}) {
        begin(Level::raid6, 6);
        ASSERT_TRUE(fail(1, Force::no));
        write_some(6);
        ASSERT_TRUE(fail(3, Force::no));
        write_some(6);
        ASSERT_TRUE(add_back(same_order ? 1 : 3));
        write_some(6);
        sim->come_to_rest();
        write_some(6);
        ASSERT_TRUE(add_back(same_order ? 3 : 1));
        write_some(6);
        sim->come_to_rest();
        EXPECT_NE(how_it_came().find("is back"), std::string::npos) << how_it_came();
        EXPECT_LT(written_to(1), whole());
        EXPECT_LT(written_to(3), whole());
        expect_clean();
    }
}

/// In stripes where both have data nobody else's changes what they have, whatever becomes of the parity.
TEST_F(Return, EachMissesWhatIsItsOwn) {
    begin(Level::raid6, 16);
    const Geometry& geometry = sim->geometry();
    const auto strips_of = [&](std::uint32_t member) {
        std::vector<std::uint64_t> places;
        for (std::uint64_t s = 0; s != geometry.stripes; ++s) {
            const StripeIndex stripe{s};
            const auto data = [&](std::uint32_t of) {
                return raw(geometry.role_of(stripe, MemberIndex{of})) < geometry.data_count();
            };
            if (!data(0) || !data(1) || !data(member)) continue;
            const Role role = geometry.role_of(stripe, MemberIndex{member});
            places.push_back(s * geometry.stripe_data_size() + raw(role) * strip);
        }
        return places;
    };
    for (const std::uint32_t lost : {0U, 1U}) ASSERT_TRUE(fail(lost, Force::no));
    const auto write_to = [&](std::uint32_t member, std::size_t count) {
        const auto places = strips_of(member);
        for (std::size_t i = 0; i != count; ++i) {
            Buffer data = random_bytes(sim->loop().rng(), row_size);
            ASSERT_TRUE(sim->write(places.at(2 * i), data));
        }
    };
    write_to(2, 7);
    write_to(4, 6);
    write_to(1, 3);
    for (const auto& [member, windows] : {std::pair{0U, 0}, std::pair{1U, 3}}) {
        sim->events.clear();
        sim->texts.clear();
        ASSERT_TRUE(add_back(member)) << how_it_came();
        EXPECT_NE(how_it_came().find(fmt::format("is back: it missed {} bytes", windows * 16384)),
                  std::string::npos)
            << how_it_came();
        sim->come_to_rest();
    }
    expect_clean();
}

/// A crash in the middle: the map is gone, the checkpoint is not, and what lies behind it is rebuilt.
TEST_F(Return, ACrashInTheMiddle) {
    for (std::uint64_t seed = 1; seed != 12; ++seed) {
        SCOPED_TRACE(seed);
        begin(Level::raid6, seed);
        ASSERT_TRUE(fail(1, Force::no));
        write_some(60);
        slow(2'000'000);
        ASSERT_TRUE(add_back(1));
        sim->loop().run_for(millis(sim->loop().rng().below(100)));
        write_some(3);
        ASSERT_TRUE(sim->flush());
        sim->crash();
        slow(0);
        ASSERT_TRUE(sim->open());
        sim->come_to_rest();
        expect_clean();
    }
}

/// One that is not given at a start.
TEST_F(Return, ForgottenAtAStart) {
    for (const bool clean : {true, false}) {
        SCOPED_TRACE(clean);
        begin(Level::raid5, 8);
        write_some(5);
        if (clean) {
            ASSERT_TRUE(sim->stop());
        } else {
            ASSERT_TRUE(sim->flush());
            sim->loop().run_for(seconds(20));
            sim->kill();
        }
        ASSERT_TRUE(sim->open(all_but(1)));
        write_some(5);
        ASSERT_TRUE(add_back(1));
        sim->come_to_rest();
        EXPECT_NE(how_it_came().find("is back"), std::string::npos) << how_it_came();
        EXPECT_LT(written_to(1), whole());
        expect_clean();
    }
}

/// However the array ended meanwhile, and however often: the records name what it misses.
TEST_F(Return, WhoWasNotThereKnowsByTheRecords) {
    enum class Ends : std::uint8_t { stopped, killed, power_lost };
    for (const Ends ends : {Ends::stopped, Ends::killed, Ends::power_lost}) {
        for (int starts = 1; starts != 4; ++starts) {
            SCOPED_TRACE(std::to_string(static_cast<int>(ends)) + " " + std::to_string(starts));
            begin(starts % 2 == 0 ? Level::raid6 : Level::raid5, 9);
            ASSERT_TRUE(fail(1, Force::no));
            write_some(5, sim->size() / 4);
            for (int i = 0; i != starts; ++i) {
                ASSERT_TRUE(sim->flush());
                sim->loop().run_for(seconds(4));
                if (ends == Ends::stopped) {
                    ASSERT_TRUE(sim->stop());
                }
                if (ends == Ends::killed) sim->kill();
                if (ends == Ends::power_lost) sim->crash();
                ASSERT_TRUE(sim->open(all_but(1)));
                write_some(2, sim->size() / 4);
            }
            ASSERT_TRUE(add_back(1)) << how_it_came();
            write_some(2);
            sim->come_to_rest();
            EXPECT_NE(how_it_came().find("is back: it missed"), std::string::npos) << how_it_came();
            EXPECT_LT(written_to(1), whole());
            expect_clean();
        }
    }
}

/// Anything in any order: it is back with all that it missed, or rebuilt whole.
TEST_F(Return, AcrossAnyStarts) {
    std::uint64_t back = 0;
    std::uint64_t whole_ones = 0;
    for (std::uint64_t seed = 1; seed <= test::seeds_of(60, 2000); ++seed) {
        SCOPED_TRACE(seed);
        begin(seed % 2 == 0 ? Level::raid6 : Level::raid5, seed);
        Rng& rng = sim->loop().rng();
        const std::size_t lost_max = seed % 2 == 0 ? 2 : 1;
        std::vector<std::uint32_t> away;
        const auto not_in_sync = [&] {
            std::size_t count = 0;
            for (std::uint32_t i = 0; i != sim->platters.size(); ++i) {
                count += sim->state_of(i) != MemberState::in_sync ? 1 : 0;
            }
            return count;
        };
        const auto open = [&] {
            std::vector<std::size_t> present;
            for (std::uint32_t i = 0; i != sim->platters.size(); ++i) {
                if (std::ranges::find(away, i) == away.end()) present.push_back(i);
            }
            const auto opened = sim->open(present);
            ASSERT_TRUE(opened) << opened.error().text;
        };
        for (int i = 0; i != 24; ++i) {
            write_some(static_cast<int>(rng.below(4)));
            switch (rng.below(8)) {
                case 0:
                case 1: {
                    if (away.size() == lost_max || !rng.chance(2)) break;
                    sim->come_to_rest();
                    const auto member = static_cast<std::uint32_t>(rng.below(sim->platters.size()));
                    if (sim->state_of(member) != MemberState::in_sync) break;
                    if (fail(member, Force::no)) away.push_back(member);
                    break;
                }
                case 2:
                    if (away.empty()) break;
                    ASSERT_TRUE(add_back(away.back()));
                    away.pop_back();
                    back += how_it_came().find("is back") != std::string::npos;
                    whole_ones += how_it_came().find("whole") != std::string::npos;
                    if (rng.chance(2)) sim->come_to_rest();
                    break;
                case 3:
                    ASSERT_TRUE(sim->stop());
                    open();
                    break;
                case 4:
                case 5:
                    ASSERT_TRUE(sim->flush());
                    // Rows in doubt that miss a member could not be known.
                    if (not_in_sync() >= lost_max) {
                        sim->come_to_rest();
                        sim->loop().run_for(seconds(20));
                    }
                    if (rng.chance(2)) {
                        sim->kill();
                    } else {
                        sim->crash();
                    }
                    open();
                    break;
                case 6:
                    sim->loop().run_for(seconds(rng.below(8)));
                    break;
                default:
                    ASSERT_TRUE(sim->flush());
            }
            if (HasFailure()) return;
        }
        while (!away.empty()) {
            ASSERT_TRUE(add_back(away.back()));
            away.pop_back();
            sim->come_to_rest();
        }
        sim->come_to_rest();
        expect_clean();
        if (HasFailure()) return;
    }
    EXPECT_GT(back, whole_ones) << "it is what this is about";
}

/// Switched on again the records begin anew, with nothing that is known of earlier.
TEST_F(Return, WithoutTheWriteIntentForAWhile) {
    for (const bool on_at_the_start : {false, true}) {
        begin(Level::raid5, 10);
        ASSERT_TRUE(fail(1, Force::no));
        write_some(2);
        sim->loop().run_for(seconds(10));
        IntentChange change;
        change.on = false;
        ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(change)));
        ASSERT_TRUE(sim->stop());
        ASSERT_TRUE(sim->open(all_but(1)));
        write_some(5);
        if (on_at_the_start) {
            ASSERT_TRUE(sim->stop());
            sim->intent.on = true;
            ASSERT_TRUE(sim->open(all_but(1)));
        } else {
            change.on = true;
            ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(change)));
        }
        ASSERT_TRUE(sim->stop());
        ASSERT_TRUE(sim->open(all_but(1)));
        ASSERT_TRUE(add_back(1));
        sim->come_to_rest();
        expect_rebuilt_whole("what was written while it was away is not known");
    }
}

TEST_F(Return, WithoutTheWriteIntentNothingIsKnown) {
    sim = nullptr;
    create(shape(Level::raid5, 10));
    sim->come_to_rest();
    fill();
    IntentChange off;
    off.on = false;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(off)));
    ASSERT_TRUE(fail(1, Force::no));
    write_some(5);
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    expect_rebuilt_whole("what was written while it was away is not known");
}

/// A copy of the member's disk from before, which holds an older record: the array knows which one it had as
/// it left, after a start by its own records.
TEST_F(Return, ACopyFromBeforeIsRebuiltWhole) {
    for (const bool starts_between : {false, true}) {
        SCOPED_TRACE(starts_between);
        begin(Level::raid5, 11);
        const Buffer copy = sim->platters[1]->content;
        write_some(20);
        ASSERT_TRUE(sim->flush());
        sim->loop().run_for(seconds(20));
        ASSERT_TRUE(fail(1, Force::no));
        write_some(5);
        if (starts_between) {
            ASSERT_TRUE(sim->stop());
        }
        std::memcpy(sim->platters[1]->content.data(), copy.data(), copy.size());
        if (starts_between) {
            ASSERT_TRUE(sim->open(all_but(1)));
        }
        ASSERT_TRUE(add_back(1));
        sim->come_to_rest();
        expect_rebuilt_whole("it is a copy of the member from before it left");
    }
}

/// Meanwhile it was served elsewhere, with a copy of another one, and has what nobody here wrote.
TEST_F(Return, OneThatWasServedElsewhereIsRebuiltWhole) {
    begin(Level::raid5, 15);
    ASSERT_TRUE(sim->stop());
    const auto copy = sim->make_platter();
    std::memcpy(copy->content.data(), sim->platters[2]->content.data(), copy->content.size());
    copy->space = sim->platters[2]->space;
    ASSERT_TRUE(sim->open(all_but(1)));
    write_some(5);
    {
        std::vector<std::unique_ptr<Disk>> disks;
        disks.push_back(sim->disk(sim->platters[1], "m1"));
        disks.push_back(sim->disk(copy, "elsewhere"));
        ArrayOptions how;
        how.buffer_size = 16u << 20;
        auto opened = sim->loop().run_until_done(
            Array::open(sim->loop().ready(), sim->loop(), std::move(disks), how));
        ASSERT_TRUE(opened) << opened.error().text;
        Buffer foreign = random_bytes(sim->loop().rng(), 64 * row_size);
        IoRequest request;
        request.kind = IoKind::write;
        request.size = foreign.size();
        request.data = foreign.data();
        ASSERT_TRUE(sim->loop().run_until_done(SimArray::run_one(opened->get(), &request)));
        ASSERT_TRUE(sim->loop().run_until_done((*opened)->stop()));
    }
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    expect_rebuilt_whole("it holds a configuration that was made after it left");
}

/// Another disk in its place lacks everything.
TEST_F(Return, AnotherDiskIsRebuiltWhole) {
    begin(Level::raid5, 12);
    ASSERT_TRUE(fail(1, Force::no));
    write_some(5);
    ASSERT_TRUE(replace(1, Force::no));
    sim->come_to_rest();
    EXPECT_EQ(how_it_came().find("back"), std::string::npos) << how_it_came();
    EXPECT_GE(written_to(1), whole());
    expect_clean();
    // And it can leave, and come back, itself.
    ASSERT_TRUE(fail(1, Force::no));
    write_some(5);
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    EXPECT_NE(how_it_came().find("is back"), std::string::npos) << how_it_came();
    expect_clean();
}

}  // namespace
}  // namespace braid::sim
