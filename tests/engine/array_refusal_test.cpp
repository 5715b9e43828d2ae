// SPDX-License-Identifier: BSD-3-Clause
// Members that the level needs, and that do not take their metadata for a while: they are kept,
// what needs no new configuration goes on, nobody waits for ever, and nothing is lost.
#include <cstring>
#include <optional>

#include "engine/metadata/config_slot.h"
#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

Task<void> keep(Task<Checked<Unit>> task, std::optional<Checked<Unit>>* result) {
    result->emplace(co_await task);
}

class RefusingMember : public Loss {
  protected:
    /// Its metadata cannot be written, or can again.
    void refuse(std::uint32_t member) {
        sim->platters[member]->fails_writes_below = SimArray::data_offset;
    }
    void take_again(std::uint32_t member) { sim->platters[member]->fails_writes_below = 0; }
    /// The write is answered with EIO, which names the member, before long.
    void expect_refused(std::uint64_t at, Buffer& data, std::uint32_t member) {
        const std::uint64_t since = sim->loop().now().value;
        const auto written = sim->write(at, data);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code, Errc::io);
        EXPECT_EQ(std::string(written.error().where),
                  "member " + std::to_string(member) + ", which is needed, takes no metadata");
        EXPECT_LT(sim->loop().now().value - since, seconds(6).value);
    }
    std::string notice_of(std::uint32_t role) const {
        for (const auto& member : sim->array->status().members) {
            if (member.record.role == MemberIndex{role}) return member.notice;
        }
        return {};
    }
    /// The first stripe is marked: writes to it wait for no record.
    void mark() {
        Buffer data = random_bytes(sim->loop().rng(), 2 * strip);
        ASSERT_TRUE(sim->write(0, data));
        flush();
    }
    /// Member 2 is lost, and member 1 does not take a configuration that says so.
    void begin(std::uint64_t seed) {
        start(shape(Level::raid5, seed));
        mark();
        refuse(1);
        sim->platters[2]->dead = true;
        Buffer data = random_bytes(sim->loop().rng(), 2 * strip);
        EXPECT_FALSE(sim->write(0, data));
        for (int i = 0; i != 3; ++i) expect_refused(0, data, 1);
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        EXPECT_EQ(sim->state_of(2), MemberState::faulty);
    }
    /// All but the first stripe, where writes were refused: old or new.
    void expect_rest() {
        for (std::uint64_t at = 2 * strip; at != sim->size(); at += 2 * strip) {
            Buffer piece(2 * strip);
            ASSERT_TRUE(sim->read(at, piece)) << at;
            ASSERT_EQ(std::memcmp(piece.data(), sim->model.data() + at, piece.size()), 0) << at;
        }
    }
};

TEST_F(RefusingMember, WhatNeedsNoNewConfigurationGoesOnAndTheRestIsAnError) {
    begin(1);
    EXPECT_EQ(sim->array->status().health, Health::degraded);
    expect_rest();
    EXPECT_FALSE(sim->flush()) << "the stale member may come back";
    EXPECT_EQ(count_events("metadata_refused"), 1U);
    EXPECT_NE(notice_of(1).find("does not take its metadata (Input/output error), for"),
              std::string::npos)
        << notice_of(1);
    take_again(1);
    sim->loop().run_for(seconds(6));
    EXPECT_EQ(count_events("metadata_taken"), 1U);
    EXPECT_EQ(notice_of(1), "");
    Buffer data = random_bytes(sim->loop().rng(), 2 * strip);
    ASSERT_TRUE(sim->write(0, data));
    flush();
    sim->expect_content();
    sim->crash();
    sim->platters[2]->dead = false;
    ASSERT_TRUE(sim->open());
    EXPECT_NE(sim->state_of(2), MemberState::in_sync) << "it is from before its loss";
    EXPECT_LE(errors(), 64u * 1024 / row_size) << "in the region that was marked";
}

TEST_F(RefusingMember, AShortOneIsNotNoticedByClients) {
    start(shape(Level::raid5, 2));
    mark();
    refuse(1);
    sim->platters[2]->dead = true;
    sim->loop().after(2'000'000'000, [this] { take_again(1); });
    Buffer data = random_bytes(sim->loop().rng(), 2 * strip);
    ASSERT_TRUE(sim->write(0, data));
    EXPECT_TRUE(sim->has_event("metadata_refused"));
    flush();
    sim->expect_content();
}

TEST_F(RefusingMember, AMarkThatIsRefusedIsAnErrorOfThatWrite) {
    start(shape(Level::raid5, 3));
    ASSERT_TRUE(fail(0, Force::no));
    sim->loop().run_for(seconds(20));
    refuse(1);
    Buffer data = random_bytes(sim->loop().rng(), 2 * strip);
    for (int i = 0; i != 5; ++i) {
        const auto written = sim->write(1u << 20, data);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code, Errc::io);
    }
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    sim->expect_content();
    flush();
    take_again(1);
    ASSERT_TRUE(sim->write(1u << 20, data));
    flush();
    sim->expect_content();
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open(all_but(0)));
    sim->expect_content();
}

TEST_F(RefusingMember, AStopDoesNotWaitForEverAndTheNextStartLosesNothing) {
    begin(4);
    const std::uint64_t since = sim->loop().now().value;
    EXPECT_FALSE(sim->stop());
    EXPECT_LT(sim->loop().now().value - since, seconds(20).value);
    const auto refused = sim->open(all_but(2));
    ASSERT_FALSE(refused) << "the start needs it likewise";
    take_again(1);
    sim->platters[2]->dead = false;
    ASSERT_TRUE(sim->open());
    EXPECT_EQ(sim->state_of(2), MemberState::in_sync) << "no configuration says that it is lost";
    sim->come_to_rest();
    expect_rest();
    sim->expect_parity();
}

// Also where it is the record that is refused for a moment.
TEST_F(RefusingMember, AStopAndAStartOutlastAShortOne) {
    start(shape(Level::raid5, 5));
    ASSERT_TRUE(fail(0, Force::no));
    mark();
    refuse(1);
    sim->loop().after(2'000'000'000, [this] { take_again(1); });
    ASSERT_TRUE(sim->stop());
    refuse(1);
    sim->loop().after(2'000'000'000, [this] { take_again(1); });
    ASSERT_TRUE(sim->open(all_but(0)));
    sim->expect_content();
}

TEST_F(RefusingMember, APowerCutFindsTheConfigurationThatWasInForce) {
    for (std::uint64_t seed = 10; seed != 20; ++seed) {
        SCOPED_TRACE(seed);
        begin(seed);
        // In the middle of a try, often.
        const std::uint64_t steps = sim->loop().rng().below(400);
        for (std::uint64_t i = 0; i != steps; ++i) ASSERT_TRUE(sim->loop().step());
        sim->crash();
        take_again(1);
        sim->platters[2]->dead = false;
        ASSERT_TRUE(sim->open());
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        sim->come_to_rest();
        expect_rest();
        if (sim->state_of(2) == MemberState::in_sync) sim->expect_parity();
        ASSERT_TRUE(sim->stop());
    }
}

TEST_F(RefusingMember, AnOrderIsRefusedAndSaysForWhom) {
    begin(23);
    std::optional<Checked<Unit>> removed;
    sim->loop().tasks().spawn(keep(sim->array->remove_member("2"), &removed));
    sim->loop().run_for(seconds(6));
    ASSERT_TRUE(removed);
    ASSERT_FALSE(*removed);
    EXPECT_NE(removed->error().text.find("member 1, which is needed, takes no metadata"),
              std::string::npos)
        << removed->error().text;
    take_again(1);
    sim->loop().run_for(seconds(6));
    removed.reset();
    sim->loop().tasks().spawn(keep(sim->array->remove_member("2"), &removed));
    sim->loop().run_for(seconds(6));
    EXPECT_TRUE(removed && *removed);
    EXPECT_EQ(sim->state_of(2), MemberState::missing);
}

TEST_F(RefusingMember, TwoAtATime) {
    start(shape(Level::raid6, 21));
    ASSERT_TRUE(fail(3, Force::no));
    ASSERT_TRUE(fail(4, Force::no));
    sim->loop().run_for(seconds(20));
    refuse(0);
    refuse(1);
    Buffer data = random_bytes(sim->loop().rng(), strip);
    EXPECT_FALSE(sim->write(0, data));
    // A configuration that both are to take.
    std::optional<Checked<Unit>> changed;
    sim->loop().tasks().spawn(keep(sim->array->change_intent({true, 128u << 10}), &changed));
    sim->loop().run_for(seconds(30));
    ASSERT_TRUE(changed);
    EXPECT_FALSE(*changed);
    EXPECT_EQ(count_events("metadata_refused"), 2U);
    take_again(1);
    sim->loop().run_for(seconds(30));
    EXPECT_EQ(count_events("metadata_taken"), 0U);
    sim->expect_content();
    take_again(0);
    sim->loop().run_for(seconds(6));
    EXPECT_EQ(count_events("metadata_taken"), 2U);
    EXPECT_NE(sim->array->configuration().intent.region, 128u << 10);  // as it was
    ASSERT_TRUE(sim->write(0, data));
    flush();
    changed.reset();
    sim->loop().tasks().spawn(keep(sim->array->change_intent({true, 128u << 10}), &changed));
    sim->loop().run_for(seconds(6));
    EXPECT_TRUE(changed && *changed);
    EXPECT_EQ(sim->array->configuration().intent.region, 128u << 10);
    ASSERT_TRUE(sim->write(0, data));
    flush();
    sim->expect_content();
}

// RAID-6 without one member: another has no room, and a third is lost.
TEST_F(RefusingMember, ALossWhileAnotherMemberHasNoRoom) {
    start(shape(Level::raid6, 22));
    ASSERT_TRUE(fail(4, Force::no));
    sim->loop().run_for(seconds(20));
    for (std::uint64_t row = 0; row != promises_end / row_size; ++row) {
        sim->platters[0]->holes.insert(row);
    }
    sim->platters[0]->full = true;
    sim->platters[1]->dead = true;
    Buffer data = random_bytes(sim->loop().rng(), strip);
    for (int i = 0; i != 3; ++i) {
        const auto written = sim->write(0, data);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code, Errc::full);
    }
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    refuse(2);  // needed by now
    sim->loop().run_for(seconds(20));
    EXPECT_EQ(sim->state_of(2), MemberState::in_sync);
    sim->platters[0]->full = false;
    take_again(2);
    sim->loop().run_for(seconds(10));
    ASSERT_TRUE(sim->write(0, data));
    flush();
    sim->expect_content();
}

TEST_F(RefusingMember, AWriteIntentThatCannotBeKeptLeavesItsSettingsAsTheyWere) {
    start(shape(Level::raid5, 29));
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent({.on = false, .region = {}})));
    ASSERT_TRUE(fail(0, Force::no));
    sim->loop().run_for(seconds(20));
    refuse(1);
    const IntentSettings before = sim->array->configuration().intent;
    const auto changed = sim->loop().run_until_done(
        sim->array->change_intent({.on = true, .region = 2 * before.region}));
    ASSERT_FALSE(changed);
    EXPECT_EQ(sim->array->configuration().intent, before);
    EXPECT_EQ(sim->array->status().intent.region, before.region);
    // Marks are made meanwhile: some member may hold that there are some.
    EXPECT_FALSE(sim->array->status().intent.on);
    take_again(1);
    sim->loop().run_for(seconds(10));
    Buffer data = random_bytes(sim->loop().rng(), strip);
    ASSERT_TRUE(sim->write(0, data));
    EXPECT_EQ(sim->array->status().intent.stripes_marked, 0U);
    EXPECT_FALSE(sim->array->status().intent.on);
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent({.on = true, .region = {}})));
    ASSERT_TRUE(sim->write(0, data));
    EXPECT_NE(sim->array->status().intent.stripes_marked, 0U);
    EXPECT_TRUE(sim->array->status().intent.on);
}

/// Degraded, with rows that cannot be known.
class ListedRow : public RefusingMember {
  protected:
    void begin(std::uint64_t seed) {
        start(shape(Level::raid5, seed));
        ASSERT_TRUE(fail(0, Force::no));
        Buffer data = random_bytes(sim->loop().rng(), 4 * strip);
        ASSERT_TRUE(sim->write(0, data));
        flush();
        sim->crash();
        ASSERT_TRUE(sim->open(all_but(0)));
        sim->come_to_rest();
        sim->loop().run_for(seconds(20));
        for (bad_at = 0; bad_at != sim->size(); bad_at += row_size) {
            Buffer found(row_size);
            if (!sim->read(bad_at, found)) break;
        }
        ASSERT_NE(bad_at, sim->size());
        // So that a write needs no mark that is not there.
        Buffer beside = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write(bad_at + strip + row_size, beside));
        row = random_bytes(sim->loop().rng(), row_size);
    }
    std::uint64_t bad_at{0};
    Buffer row;
};

TEST_F(ListedRow, AWriteThatHealsIsRefusedWithENOSPCWhileThereIsNoRoomForTheList) {
    begin(30);
    for (std::uint64_t at = 0; at != slots_end / row_size; ++at) sim->platters[1]->holes.insert(at);
    sim->platters[1]->full = true;
    const std::uint64_t since = sim->loop().now().value;
    const auto written = sim->write(bad_at, row);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, Errc::full);
    EXPECT_LT(sim->loop().now().value - since, seconds(6).value);
    sim->platters[1]->full = false;
    sim->loop().run_for(seconds(10));
    ASSERT_TRUE(sim->write(bad_at, row));
    flush();
    Buffer now(row_size);
    ASSERT_TRUE(sim->read(bad_at, now));
    EXPECT_TRUE(now == row);
}

// It left the list in memory. Nobody vouches for it before the members say so, too.
TEST_F(ListedRow, ARowThatLeftTheListIsOwedToEveryFlush) {
    begin(31);
    refuse(1);
    EXPECT_FALSE(sim->write(bad_at, row));
    Buffer other = random_bytes(sim->loop().rng(), row_size);
    Buffer again = random_bytes(sim->loop().rng(), row_size);
    (void)sim->write(bad_at, again).has_value();
    EXPECT_FALSE(sim->flush());
    EXPECT_FALSE(sim->write(bad_at, again, Fua::yes)) << "FUA";
    EXPECT_FALSE(sim->write(bad_at + strip + row_size, other));
    take_again(1);
    sim->loop().run_for(seconds(10));
    ASSERT_TRUE(sim->write(bad_at, again));
    flush();
    sim->loop().run_for(seconds(20));
    sim->crash();
    ASSERT_TRUE(sim->open(all_but(0)));
    Buffer now(row_size);
    ASSERT_TRUE(sim->read(bad_at, now));
    EXPECT_TRUE(now == again);
}

}  // namespace
}  // namespace braid::sim
