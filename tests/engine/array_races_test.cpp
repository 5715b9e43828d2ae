// SPDX-License-Identifier: BSD-3-Clause
// What happens at the same time: members that fail, go and come while requests, rebuilds and
// writes of the configuration are under way. Each test here failed once.
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <functional>
#include <optional>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

/// Requests in the air, none of whose outcome is looked at before they are done.
class Flight {
  public:
    explicit Flight(SimArray& sim) : sim_(sim) {}
    IoRequest& start(IoKind kind, std::uint64_t offset, std::uint64_t size) {
        One& one = all_.emplace_back();
        one.request.kind = kind;
        one.request.offset = {offset};
        one.request.size = size;
        if (kind == IoKind::read) one.data = Buffer(size);
        if (kind == IoKind::write) one.data = random_bytes(sim_.loop().rng(), size);
        one.request.data = one.data.data();
        one.request.user = this;
        one.request.done = [](IoRequest& request) {
            --static_cast<Flight*>(request.user)->running_;
        };
        ++running_;
        sim_.array->submit(one.request);
        return one.request;
    }
    std::size_t running() const { return running_; }
    /// False if the simulation comes to an end before the requests do: a deadlock.
    bool land() {
        while (running_ != 0) {
            if (!sim_.loop().step()) return false;
        }
        return true;
    }
    /// Of requests that did not overlap: the model follows what was written.
    void expect_ok() {
        for (One& one : all_) {
            ASSERT_TRUE(one.request.ok) << one.request.error.text();
            std::byte* at = sim_.model.data() + one.request.offset.value;
            if (one.request.kind == IoKind::write) {
                std::memcpy(at, one.data.data(), one.request.size);
            } else if (one.request.kind == IoKind::zero) {
                std::memset(at, 0, one.request.size);
            } else {
                ASSERT_EQ(std::memcmp(at, one.data.data(), one.request.size), 0);
            }
        }
        all_.clear();
    }

  private:
    struct One {
        IoRequest request;
        Buffer data;
    };
    SimArray& sim_;
    std::deque<One> all_;
    std::size_t running_{0};
};

/// An operator's command that runs beside the rest.
class Command {
  public:
    Command(SimArray& sim, Task<Checked<Unit>> task) : sim_(sim) {
        sim.loop().tasks().spawn(keep(std::move(task), &result_));
    }
    bool done() const { return result_.has_value(); }
    Checked<Unit>& wait() {
        while (!done()) BRAID_REQUIRE(sim_.loop().step());
        return *result_;
    }

  private:
    static Task<void> keep(Task<Checked<Unit>> task, std::optional<Checked<Unit>>* result) {
        result->emplace(co_await task);
    }
    SimArray& sim_;
    std::optional<Checked<Unit>> result_;
};

void fill(SimArray& sim) {
    Flight flight(sim);
    constexpr std::uint64_t piece = 1u << 20;
    for (std::uint64_t at = 0; at < sim.size(); at += piece) {
        flight.start(IoKind::write, at, std::min(piece, sim.size() - at));
    }
    ASSERT_TRUE(flight.land());
    flight.expect_ok();
}

std::uint64_t walked(const SimArray& sim) {
    const auto status = sim.array->status();
    return status.walks.empty() ? 0 : status.walks[0].position;
}

/// Replaces member `role` by a new platter; the command may be waited for.
std::unique_ptr<Command> replace(SimArray& sim, std::uint32_t role) {
    sim.platters[role] = sim.make_platter();
    return std::make_unique<Command>(
        sim, sim.array->replace_member(std::to_string(role), sim.disk(sim.platters[role], "new"),
                                       Force::no));
}

TEST(SimArrayRaces, AMemberThatFailsWhenItsRebuildEndsIsNotInSync) {
    for (std::uint64_t seed = 1; seed != 9; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .stripes = 100});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        ASSERT_TRUE(replace(sim, 2)->wait());
        while (walked(sim) == 0) ASSERT_TRUE(sim.loop().step());
        sim.platters[2]->fails_flushes = true;  // the one before the rebuild counts as done
        while (!sim.array->status().walks.empty()) ASSERT_TRUE(sim.loop().step());
        sim.loop().run_for(millis(100));
        EXPECT_EQ(sim.state_of(2), MemberState::faulty);
        EXPECT_FALSE(sim.has_event("rebuild_done"));
        sim.expect_content();
    }
}

TEST(SimArrayRaces, AMemberReplacedInItsRebuildIsRebuiltFromTheStart) {
    for (std::uint64_t seed = 1; seed != 5; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .stripes = 1000});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        ASSERT_TRUE(replace(sim, 2)->wait());
        while (walked(sim) < 400 * 16384) ASSERT_TRUE(sim.loop().step());
        // So many writes of a row of each stripe that the rebuild has to wait for a while there.
        Flight flight(sim);
        for (std::uint64_t i = 0; i != 40 * 100; ++i) {
            const std::uint64_t stripe = 500 + i % 100;
            flight.start(IoKind::write, stripe * sim.geometry().stripe_data_size(), 512);
        }
        std::uint64_t position = 0;
        do {
            position = walked(sim);
            sim.loop().run_for(millis(4));
        } while (walked(sim) != position);
        ASSERT_TRUE(replace(sim, 2)->wait());
        ASSERT_TRUE(flight.land());
        flight.expect_ok();
        sim.come_to_rest();
        EXPECT_EQ(sim.state_of(2), MemberState::in_sync);
        sim.expect_parity();
        sim.expect_content();
    }
}

TEST(SimArrayRaces, ZeroingAndWalkingDoNotWaitForEachOther) {
    for (std::uint64_t seed = 1; seed != 41; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .strip_size = 16384, .stripes = 300});
        sim.create();
        ASSERT_TRUE(sim.open());
        Rng& rng = sim.loop().rng();
        ASSERT_TRUE(sim.scrub(ScrubMode::compare));
        Flight flight(sim);
        while (walked(sim) == 0) ASSERT_TRUE(sim.loop().step());
        while (!sim.array->status().walks.empty()) {
            if (flight.running() < 24) {
                const std::uint64_t at = rng.below(sim.size() - (4u << 20));
                if (rng.chance(3)) {
                    flight.start(IoKind::zero, at, rng.below(4u << 20));
                } else {
                    flight.start(IoKind::write, at, 1 + rng.below(8192));
                }
            }
            ASSERT_TRUE(sim.loop().step()) << "everybody waits for somebody";
        }
        ASSERT_TRUE(flight.land()) << "everybody waits for somebody";
        sim.expect_parity();
    }
}

TEST(SimArrayRaces, MorePartsThanThereIsRoomForWaitTheirTurn) {
    for (std::uint64_t seed = 1; seed != 7; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .strip_size = 512u << 10, .stripes = 4});
        sim.create();
        ASSERT_TRUE(sim.open());
        {
            Flight flight(sim);  // all but one of the parts, on the same row
            for (std::uint32_t i = 0; i != parts_in_flight_max - 1; ++i) {
                flight.start(IoKind::write, 0, 512);
            }
            flight.start(IoKind::write, 2 * sim.geometry().stripe_data_size(), 4096);
            flight.start(IoKind::write, 3 * sim.geometry().stripe_data_size(), 4096);
            ASSERT_TRUE(flight.land());
            flight.expect_ok();
        }
        sim.expect_content();
        sim.expect_parity();
    }
}

TEST(SimArrayRaces, AMemberIsNotClosedWhileTheConfigurationIsWrittenToIt) {
    for (std::uint64_t seed = 1; seed != 13; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .stripes = 12, .spares = 2});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        sim.platters[3]->dead = true;
        Flight flight(sim);
        const auto write_all = [&] {
            for (std::uint64_t s = 0; s != 12; ++s) {
                flight.start(IoKind::write, s * sim.geometry().stripe_data_size(),
                             sim.geometry().stripe_data_size());
            }
        };
        write_all();
        while (!sim.has_event("rebuild_done")) ASSERT_TRUE(sim.loop().step());
        sim.platters[1]->delay_nanos =
            1'000'000;  // the metadata takes longer than the next failure
        sim.platters[1]->fails_writes = true;
        write_all();
        ASSERT_TRUE(flight.land());
        sim.come_to_rest();
        for (std::uint32_t i = 0; i != 4; ++i) EXPECT_EQ(sim.state_of(i), MemberState::in_sync);
    }
}

TEST(SimArrayRaces, ASpareTakesOverWhenAnOperatorFailsAMember) {
    SimArray sim({.spares = 1});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    ASSERT_TRUE(Command(sim, sim.array->fail_member("1", Force::no)).wait());
    sim.come_to_rest();
    sim.loop().run_for(seconds(1));
    sim.come_to_rest();
    EXPECT_EQ(sim.state_of(1), MemberState::in_sync);
    EXPECT_EQ(sim.array->status().health, Health::clean);
    sim.expect_content();
}

TEST(SimArrayRaces, AReplacementGetsTheRoleEvenWhereThereIsASpare) {
    for (std::uint64_t seed = 1; seed != 9; ++seed) {
        SimArray sim({.seed = seed, .spares = 1});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        ASSERT_TRUE(replace(sim, 1)->wait());
        sim.come_to_rest();
        sim.loop().run_for(seconds(1));
        EXPECT_EQ(sim.array->status().members[1].record.path, "new");
        EXPECT_EQ(sim.array->status().members.size(), 5U);
        sim.expect_content();
        sim.expect_parity();
    }
}

TEST(SimArrayRaces, StopWaitsForAnOperatorsCommand) {
    for (std::uint64_t seed = 1; seed != 41; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .stripes = 12});
        sim.create();
        ASSERT_TRUE(sim.open());
        auto command = replace(sim, 2);
        for (std::uint64_t i = sim.loop().rng().below(150); i != 0; --i) sim.loop().step();
        ASSERT_TRUE(sim.stop());
        for (int i = 0; i != 100 && !command->done(); ++i) sim.loop().step();
        ASSERT_TRUE(command->done());
        // Whatever came of it, the array is there again, if need be without the new one.
        if (!sim.open()) {
            ASSERT_TRUE(sim.open({0, 1, 3}));
        }
        sim.come_to_rest();
        sim.expect_content();
    }
}

TEST(SimArrayRaces, AScrubPassesRowsThatCannotBeKnown) {
    SimArray sim({});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    const std::uint64_t row = SimArray::data_offset / row_size + 9;
    sim.platters[0]->bad_rows.insert(row);
    sim.platters[1]->bad_rows.insert(row);
    ASSERT_TRUE(sim.scrub(ScrubMode::repair));
    sim.come_to_rest();
    EXPECT_EQ(std::ranges::count(sim.events, "scrub_started"), 1);
    EXPECT_TRUE(sim.has_event("mismatch"));
    EXPECT_EQ(sim.array->status().health, Health::clean);
    const auto last = sim.array->status().last_scrub;
    ASSERT_TRUE(last);
    EXPECT_EQ(last->mismatches, 0U);
    const auto holds_parity = static_cast<std::uint64_t>(
        std::ranges::count_if(std::array{0U, 1U}, [&](std::uint32_t member) {
            const StripeIndex stripe{9 * row_size / (16U << 10)};
            return sim.geometry().member_of(stripe, sim.geometry().p()) == MemberIndex{member};
        }));
    EXPECT_EQ(last->bytes_unknown, (2 - holds_parity) * row_size);
    const auto done = std::ranges::find(sim.events, "scrub_done") - sim.events.begin();
    EXPECT_NE(sim.texts.at(static_cast<std::size_t>(done)).find(" bytes that can neither be read"),
              std::string::npos);
    fill(sim);  // a rewrite heals them
    ASSERT_TRUE(sim.scrub(ScrubMode::compare));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().last_scrub->bytes_unknown, 0U);
    sim.expect_content();
    sim.expect_parity();
}

TEST(SimArrayRaces, BadRowsOfSeveralMembersCloseTogetherAreMendedByAWalk) {
    for (const WalkKind kind : {WalkKind::scrubbing, WalkKind::rebuilding}) {
        SimArray sim({.level = Level::raid6, .members = 5, .stripes = 40});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        for (std::uint64_t i = 0; i != 20; ++i) {
            sim.platters[i % 5]->bad_rows.insert(SimArray::data_offset / row_size + i * 3);
        }
        if (kind == WalkKind::scrubbing) {
            sim.platters[1]->content.data()[SimArray::data_offset + row_size] ^= std::byte{1};
            ASSERT_TRUE(sim.scrub(ScrubMode::repair));
        } else {
            ASSERT_TRUE(replace(sim, 4)->wait());
        }
        sim.come_to_rest();
        for (const auto& platter : sim.platters) EXPECT_TRUE(platter->bad_rows.empty());
        EXPECT_EQ(sim.array->status().health, Health::clean);
        sim.expect_content();
        sim.expect_parity();
    }
}

TEST(SimArrayRaces, ARebuildGoesOnWhenAnotherMemberIsLost) {
    for (std::uint64_t seed = 1; seed != 17; ++seed) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .level = Level::raid6, .members = 5, .stripes = 100});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        auto command = replace(sim, 2);
        while (!sim.has_event("rebuild_started")) ASSERT_TRUE(sim.loop().step());
        for (std::uint64_t i = sim.loop().rng().below(60); i != 0; --i) sim.loop().step();
        sim.platters[4]->dead = true;
        ASSERT_TRUE(command->wait());
        Flight flight(sim);
        flight.start(IoKind::write, 0, sim.size());
        ASSERT_TRUE(flight.land());
        flight.expect_ok();
        sim.come_to_rest();
        EXPECT_EQ(sim.state_of(2), MemberState::in_sync);
        sim.expect_content();
    }
}

TEST(SimArrayRaces, AFlushOfAnArrayThatIsOnlyReadDoesNotWaitForALossToBeWritten) {
    SimArray sim({.stripes = 200});
    sim.create();
    ASSERT_TRUE(sim.open_readonly());
    for (std::uint64_t i = 0; i != 2 * read_errors_max; ++i) {
        sim.platters[1]->bad_rows.insert(SimArray::data_offset / row_size + i * 4);
    }
    for (int round = 0; round != 10; ++round) sim.expect_content();
    EXPECT_EQ(sim.state_of(1), MemberState::faulty);
    Flight flight(sim);
    flight.start(IoKind::flush, 0, 0);
    EXPECT_TRUE(flight.land()) << "waits for ever";
}

}  // namespace
}  // namespace braid::sim
