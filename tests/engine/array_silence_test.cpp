// SPDX-License-Identifier: BSD-3-Clause
// Disks that do not answer: a member that the level can do without is lost, and nobody waits for it who
// need not; one that is needed is waited for.
#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>

#include "tests/engine/loss_fixture.h"
#include "tests/engine/memory_disk.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t hang_seconds = 100;

class Silence : public Loss {
  protected:
    /// Filled, true, no stripe marked; disks are watched.
    void start_watched(SimArrayOptions options, Nanos timeout = seconds(10)) {
        start(options);
        ASSERT_TRUE(sim->stop());
        sim->member_timeout = timeout;
        ASSERT_TRUE(sim->open());
        sim->come_to_rest();
    }
    /// What is given to it from now on takes so long.
    void hang(std::uint32_t member, std::uint64_t seconds_of_it = hang_seconds) {
        sim->platters[member]->delay_nanos = seconds(seconds_of_it).value;
    }
    void heal(std::uint32_t member) { sim->platters[member]->delay_nanos = 0; }
    /// Rows of the array, one in `every`.
    struct Spread {
        std::uint64_t first{0};
        std::uint64_t every{7};
        std::uint64_t count{12};
    };
    /// A write to each of them.
    void ask_writes(Spread rows) {
        const auto [first, every, count] = rows;
        for (std::uint64_t i = 0; i != count; ++i) {
            const std::uint64_t at = (first + i * every) * row_size;
            Asked& asked = asked_.emplace_back();
            sim->ask(asked, IoKind::write, at, random_bytes(sim->loop().rng(), row_size));
            std::memcpy(sim->model.data() + at, asked.data.data(), row_size);
        }
    }
    Asked& ask_flush() {
        Asked& flush = asked_.emplace_back();
        sim->ask(flush, IoKind::flush, 0, 0);
        return flush;
    }
    /// The same, answered: their stripes are marked, and nothing of it is flushed.
    void write_some() {
        ask_writes({});
        for (const Asked& asked : asked_) sim->wait_for(asked);
    }
    std::size_t unanswered() const {
        return static_cast<std::size_t>(std::ranges::count(asked_, false, &Asked::done));
    }
    void expect_all_answered() {
        EXPECT_EQ(unanswered(), 0U);
        for (const Asked& asked : asked_) EXPECT_TRUE(asked.request.ok);
    }
    bool says(const std::string& what) const {
        return std::ranges::any_of(sim->texts, [&](const std::string& text) {
            return text.find(what) != std::string::npos;
        });
    }
    /// It has answered all that it was asked; it is given back, and all is as before.
    void expect_it_comes_back(std::uint32_t member) {
        sim->loop().run_for(seconds(hang_seconds + 5));
        expect_all_answered();
        heal(member);
        const auto back = add_back(member);
        ASSERT_TRUE(back) << back.error().text;
        sim->come_to_rest();
        EXPECT_EQ(sim->array->status().health, Health::clean);
        EXPECT_EQ(sim->array->status().bad_bytes, 0U);
        sim->expect_content();
        sim->expect_parity();
    }

    std::deque<Asked> asked_;  // their addresses stay
};

TEST_F(Silence, AMemberThatHangsIsLostAndTheOthersGoOn) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        asked_.clear();
        start_watched(shape(level, 1));
        write_some();
        hang(1);
        ask_writes({});
        const Asked& flush = ask_flush();
        sim->loop().run_for(seconds(9));
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync) << "it may yet answer";
        sim->loop().run_for(seconds(5));
        EXPECT_EQ(sim->state_of(1), MemberState::faulty);
        EXPECT_TRUE(says("it has not answered for 10 s"));
        EXPECT_TRUE(flush.done && flush.request.ok) << "who waits for a flush goes on";
        EXPECT_NE(unanswered(), 0U) << "what has a client's memory waits for the disk";
        // Marks, flushes and other rows do not.
        const std::uint64_t began = sim->loop().now().value;
        for (std::uint64_t i = 0; i != 40; ++i) {
            Buffer row = random_bytes(sim->loop().rng(), row_size);
            ASSERT_TRUE(sim->write((1000 + 11 * i) * row_size, row));
            if (i % 8 == 0) this->Loss::flush();
        }
        EXPECT_LT(sim->loop().now().value - began, seconds(5).value);
        expect_it_comes_back(1);
    }
}

TEST_F(Silence, WhatTakesLongAndAnswersIsNot) {
    start_watched(shape(Level::raid5, 2));
    hang(2, 8);
    for (int round = 0; round != 8; ++round) {
        ask_writes({.first = static_cast<std::uint64_t>(round), .every = 13, .count = 6});
        sim->loop().run_for(seconds(3));
    }
    sim->loop().run_for(seconds(60));
    expect_all_answered();
    EXPECT_EQ(sim->array->status().health, Health::clean);
    heal(2);
    sim->expect_content();
}

TEST_F(Silence, WithoutATimeItIsWaitedFor) {
    start_watched(shape(Level::raid5, 3), Nanos{});
    hang(0);
    ask_writes({.count = 6});
    sim->loop().run_for(seconds(hang_seconds - 10));
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    EXPECT_NE(unanswered(), 0U);
    sim->loop().run_for(seconds(4 * hang_seconds));
    expect_all_answered();
    EXPECT_EQ(sim->array->status().health, Health::clean);
    heal(0);
}

TEST_F(Silence, OneThatIsNeededIsWaitedForAndThatIsTold) {
    start_watched(shape(Level::raid5, 4));
    ASSERT_TRUE(fail(0, Force::no));
    sim->loop().run_for(seconds(1));
    hang(1, 40);
    ask_writes({.count = 6});
    sim->loop().run_for(seconds(30));
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    EXPECT_TRUE(says("has not answered for 10 s. It is needed, and keeps its place"));
    EXPECT_EQ(std::ranges::count(sim->events, "no_answer"), 1) << "once a minute";
    heal(1);
    sim->loop().run_for(seconds(200));
    expect_all_answered();
    EXPECT_NE(sim->array->status().health, Health::failed);
    sim->expect_content();
}

/// In the middle of a configuration's way onto the members: that does not wait for it either.
TEST_F(Silence, AConfigurationThatIsBeingWritten) {
    start_watched(shape(Level::raid6, 5));
    hang(1);
    const std::uint64_t began = sim->loop().now().value;
    ASSERT_TRUE(fail(0, Force::no));
    EXPECT_LT(sim->loop().now().value - began, seconds(15).value);
    EXPECT_EQ(sim->state_of(1), MemberState::faulty);
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(0, row));
    ASSERT_TRUE(sim->flush());
    ASSERT_TRUE(add_back(0));
    sim->come_to_rest();
    expect_it_comes_back(1);
}

/// Any operation of its way onto a member may be the one that hangs. When that answers the next one
/// follows, and between them nobody closes the disk, whoever looks for that.
TEST_F(Silence, AnyOperationOfAConfigurationHangs) {
    for (std::uint64_t operation = 0; operation != 12; ++operation) {
        SCOPED_TRACE(operation);
        asked_.clear();
        start_watched(shape(Level::raid6, 20 + operation));
        const SimPlatter& platter = *sim->platters[1];
        const std::uint64_t before = platter.submitted;
        std::optional<Checked<Unit>> failed;
        sim->loop().tasks().spawn(
            test::keep_result(sim->array->fail_member("0", Force::no), &failed));
        for (int i = 0; i != 2000 && platter.submitted <= before + operation; ++i) {
            ASSERT_TRUE(sim->loop().step());
            if (platter.submitted == before + operation) hang(1, 30);
        }
        // Whoever asks for anything looks whether a disk is quiet.
        for (int i = 0; i != 450; ++i) {
            sim->loop().run_for(millis(100));
            const std::uint64_t at = 11 * static_cast<std::uint64_t>(i) % 512 * row_size;
            Buffer row(row_size);
            ASSERT_TRUE(sim->read(at, row));
            if (i == 310) heal(1);
        }
        ASSERT_TRUE(failed && *failed);
        sim->loop().run_for(seconds(40));
        if (sim->state_of(1) != MemberState::in_sync) {
            ASSERT_TRUE(add_back(1));
        }
        ASSERT_TRUE(add_back(0));
        sim->come_to_rest();
        EXPECT_EQ(sim->array->status().health, Health::clean);
        sim->expect_parity();
    }
}

/// A spare that hangs holds back no loss, no flush and no clean stop; and takes no member's place.
TEST_F(Silence, ASpare) {
    start_watched(shape(Level::raid5, 13));
    const auto spare = sim->make_platter();
    ASSERT_TRUE(
        sim->loop().run_until_done(sim->array->add_member(sim->disk(spare, "spare"), Force::no)));
    sim->come_to_rest();
    spare->delay_nanos = seconds(hang_seconds).value;
    const std::uint64_t began = sim->loop().now().value;
    Asked& flush = ask_flush();
    IntentChange change;
    change.region = 128u << 10;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(change)));
    sim->wait_for(flush);
    EXPECT_LT(sim->loop().now().value - began, seconds(15).value);
    EXPECT_TRUE(says("spare spare has not answered for 10 s"));
    const auto removed = remove("spare");
    ASSERT_FALSE(removed);
    EXPECT_NE(removed.error().text.find("has not answered what was written to it"),
              std::string::npos)
        << removed.error().text;
    // Its turn comes when it has answered.
    ASSERT_TRUE(fail(1, Force::no));
    EXPECT_LT(sim->loop().now().value - began, seconds(20).value);
    sim->loop().run_for(seconds(20));
    EXPECT_EQ(sim->state_of(1), MemberState::faulty);
    sim->loop().run_for(seconds(4 * hang_seconds));
    spare->delay_nanos = 0;
    sim->loop().run_for(seconds(4 * hang_seconds));
    sim->come_to_rest();
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    sim->platters[1] = spare;
    EXPECT_EQ(sim->array->status().health, Health::clean);
    sim->expect_content();
    sim->expect_parity();
}

/// No record of the write intent is on it yet, and none of the writes has begun: they do not wait.
TEST_F(Silence, NobodyWaitsForARecordOnIt) {
    start_watched(shape(Level::raid5, 9));
    hang(0);
    ask_writes({});
    sim->loop().run_for(seconds(14));
    EXPECT_EQ(sim->state_of(0), MemberState::faulty);
    EXPECT_EQ(unanswered(), 0U);
    expect_it_comes_back(0);
}

/// It is failed by an operator before that: the same.
TEST_F(Silence, AnOperatorIsFaster) {
    start_watched(shape(Level::raid5, 6));
    write_some();
    hang(2);
    ask_writes({});
    const Asked& flush = ask_flush();
    sim->loop().run_for(seconds(1));
    ASSERT_TRUE(fail(2, Force::no));
    EXPECT_FALSE(flush.done);
    sim->loop().run_for(seconds(13));
    EXPECT_TRUE(flush.done && flush.request.ok);
    expect_it_comes_back(2);
}

/// Its disk is closed only when it has answered.
TEST_F(Silence, AStopWaitsForTheDisk) {
    start_watched(shape(Level::raid5, 7));
    hang(1);
    ask_writes({.count = 1});
    ask_flush();
    sim->loop().run_for(seconds(15));
    EXPECT_EQ(sim->state_of(1), MemberState::faulty);
    const std::uint64_t began = sim->loop().now().value;
    ASSERT_TRUE(sim->stop());
    EXPECT_GT(sim->loop().now().value - began, seconds(hang_seconds - 30).value);
    heal(1);
    sim->member_timeout = {};
    ASSERT_TRUE(sim->open());
    sim->come_to_rest();
    sim->expect_content();
}

/// The power goes while nobody waits for it any more.
TEST_F(Silence, TheNodeIsKilledMeanwhile) {
    std::uint64_t clean = 0;
    for (std::uint64_t seed = 8; seed != 28; ++seed) {
        asked_.clear();
        start_watched(shape(seed % 2 == 0 ? Level::raid5 : Level::raid6, seed));
        if (seed % 4 < 2) write_some();
        hang(1);
        for (int i = 0; i != 6; ++i) {
            Buffer row = random_bytes(sim->loop().rng(), row_size);
            Asked& write = asked_.emplace_back();
            sim->ask(write, IoKind::write, sim->loop().rng().below(900) * row_size, std::move(row));
        }
        ask_flush();
        sim->loop().run_for(millis(10'000 + sim->loop().rng().below(6'000)));
        sim->crash();
        heal(1);
        ASSERT_TRUE(sim->open());
        sim->come_to_rest();
        if (sim->state_of(1) != MemberState::in_sync) {
            ASSERT_TRUE(add_back(1));
            sim->come_to_rest();
        }
        // With a crash and a lost member rows of marked regions cannot be known, perhaps.
        Buffer far(300 * row_size);
        ASSERT_TRUE(sim->read(1200 * row_size, far));
        EXPECT_EQ(std::memcmp(far.data(), sim->model.data() + 1200 * row_size, far.size()), 0);
        if (sim->array->status().health != Health::clean) continue;
        sim->expect_parity();
        ++clean;
    }
    EXPECT_GT(clean, 5U);
}

TEST(DiskTicks, LateIsWhatWasSubmittedSoManyTicksAgo) {
    SimLoop loop(1);
    auto platter = std::make_shared<SimPlatter>(1u << 20);
    SimDisk disk(loop, platter, "m");
    const auto tick = [&](std::uint32_t times) {
        bool late = false;
        for (std::uint32_t i = 0; i != times; ++i) late = disk.tick();
        return late;
    };
    EXPECT_FALSE(tick(3 * Disk::ticks_late)) << "nothing is under way";
    platter->delay_nanos = seconds(10).value;
    DiskGroup first_group, second_group;
    DiskOp first, second;
    first.kind = second.kind = DiskOpKind::flush;
    submit(disk, first_group, first);
    EXPECT_FALSE(tick(Disk::ticks_late - 1));
    submit(disk, second_group, second);
    EXPECT_TRUE(tick(1));
    loop.run_for(seconds(11));
    EXPECT_EQ(disk.in_flight(), 0U);
    EXPECT_FALSE(tick(1)) << "both have answered, the late one, too";
    EXPECT_FALSE(tick(3 * Disk::ticks_late));
}

TEST(DirectGateTurns, WhoHasBeenThereForTwoTurnsIsLate) {
    DirectGate gate;
    gate.open();
    std::uint64_t slow = 0, quick = 0;
    ASSERT_TRUE(gate.enter(slow));
    EXPECT_FALSE(gate.turn());
    for (int i = 0; i != 5; ++i) {
        ASSERT_TRUE(gate.enter(quick));
        EXPECT_TRUE(gate.leave(quick));
        EXPECT_TRUE(gate.turn()) << "whatever others do";
    }
    EXPECT_TRUE(gate.has_readers());
    gate.close();
    EXPECT_FALSE(gate.enter(quick));
    EXPECT_FALSE(gate.leave(slow)) << "it was closed meanwhile";
    EXPECT_FALSE(gate.has_readers());
    EXPECT_FALSE(gate.turn());
}

}  // namespace
}  // namespace braid::sim
