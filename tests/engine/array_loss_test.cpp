// SPDX-License-Identifier: BSD-3-Clause
// What losses, orders and unreadable sources may not cost: what was flushed is there again when the
// member, or its reads, are.
#include <algorithm>
#include <cstring>

#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

// ---- a loss while rows are in doubt --------------------------------------------------------

TEST_F(Loss, AnOrderThatWouldCostRowsInDoubtIsRefused) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        start_whole_resync(shape(level, 1));
        for (const auto& refused : {fail(1, false), replace(1, false)}) {
            ASSERT_FALSE(refused);
            EXPECT_NE(refused.error().text.find("bytes could not be known"), std::string::npos);
            EXPECT_NE(refused.error().text.find("--force"), std::string::npos);
        }
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        slow(0);
        sim->settle();
        EXPECT_TRUE(fail(1, false));
        sim->expect_content();
        EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    }
}

TEST_F(Loss, AMemberThatLeavesDuringAResyncBringsEverythingBack) {
    start_whole_resync(shape(Level::raid5, 2));
    const Buffer before(sim->platters[1]->content.view());
    sim->platters[1]->dead = true;
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(sim->size() - row_size, row));
    slow(0);
    sim->settle();
    EXPECT_EQ(sim->state_of(1), MemberState::faulty);
    const std::uint64_t lost = errors();
    EXPECT_GT(lost, sim->size() / row_size / 4) << "a third of the volume";
    EXPECT_EQ(lost * row_size, sim->array->status().bad_bytes);
    // Nothing is written in its place, and its own bytes are taken as they are.
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open(all_but(1)));
    EXPECT_EQ(errors(), lost);
    sim->platters[1]->dead = false;
    EXPECT_EQ(std::memcmp(before.data() + SimArray::data_offset,
                          sim->platters[1]->content.data() + SimArray::data_offset,
                          before.size() - SimArray::data_offset), 0);
    const auto back = add_back(1);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    EXPECT_EQ(errors(), 0U) << "before the rebuild is done";
    sim->settle();
    EXPECT_EQ(sim->array->status().health, Health::clean);
    sim->expect_content();
    sim->expect_parity();
}

TEST_F(Loss, AnotherDiskInItsPlaceNeedsForce) {
    start_whole_resync(shape(Level::raid5, 3));
    sim->platters[1]->dead = true;
    Buffer stripe = random_bytes(sim->loop().rng(), 2 * strip);
    ASSERT_TRUE(sim->write(0, stripe));
    slow(0);
    sim->settle();
    const std::uint64_t lost = errors();
    ASSERT_NE(lost, 0U);
    const auto refused = replace(1, false);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
    ASSERT_TRUE(replace(1, true));
    sim->settle();
    EXPECT_EQ(sim->array->status().health, Health::damaged);
    EXPECT_EQ(errors(), lost);
    sim->expect_parity();
    for (const BadRange& range : sim->array->status().configuration.bad_rows) {
        EXPECT_EQ(range.kind, BadKind::voided);
    }
}

// With defaults, on a medium without cheap zeroing: `create` leaves all of parity to a resync.
TEST_F(Loss, WhatWasWrittenDuringTheFirstResyncIsKnown) {
    for (const bool dies : {true, false}) {
        SimArrayOptions options = shape(Level::raid5, 4);
        options.zero_fast = false;
        options.stripes = 2000;  // the resync is not done by then
        create(options);
        slow(20'000'000);
        Buffer data = random_bytes(sim->loop().rng(), 1u << 20);
        const std::uint64_t at = round_down(sim->size() / 2, row_size);
        ASSERT_TRUE(sim->write(at, data));
        Buffer small = random_bytes(sim->loop().rng(), 700);
        ASSERT_TRUE(sim->write(at + (2u << 20) - 300, small));
        flush();
        ASSERT_TRUE(sim->array->status().configuration.resynced);
        if (dies) {
            sim->platters[2]->dead = true;
            ASSERT_TRUE(sim->write(at, data));
        } else {
            EXPECT_FALSE(fail(2, false));
            ASSERT_TRUE(fail(2, true));
        }
        Buffer back(1u << 20);
        ASSERT_TRUE(sim->read(at, back));
        EXPECT_EQ(std::memcmp(back.data(), data.data(), data.size()), 0);
        Buffer again(700);
        ASSERT_TRUE(sim->read(at + (2u << 20) - 300, again));
        EXPECT_EQ(std::memcmp(again.data(), small.data(), small.size()), 0);
        slow(0);
        sim->settle();
    }
}

// It is lost while parity that was computed from what it holds is on its way.
TEST_F(Loss, AWriteThatIsUnderWayKeepsWhatAMemberHeldOfItsRow) {
    start_whole_resync(shape(Level::raid5, 5));
    std::uint64_t stripe = 190;
    while (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{2})) != 2) --stripe;
    const auto place_of = [&](std::uint32_t member) {
        const Role role = sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{member});
        return (stripe * 2 + raw(role)) * strip;
    };
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    bool done = false;
    IoRequest request;
    request.kind = IoKind::write;
    request.offset = place_of(0);
    request.size = row.size();
    request.data = row.data();
    request.user = &done;
    request.done = [](IoRequest& over) { *static_cast<bool*>(over.user) = true; };
    sim->array->submit(request);
    const auto is_written = [](const SimPlatter::Flight& flight) {
        return flight.op->kind == DiskOpKind::write && flight.op->offset >= SimArray::data_offset;
    };
    while (std::ranges::none_of(sim->platters[0]->flights, is_written)) {
        ASSERT_TRUE(sim->loop().step());
    }
    ASSERT_TRUE(fail(1, true));
    while (!done) ASSERT_TRUE(sim->loop().step());
    ASSERT_TRUE(request.ok) << request.error.text();
    std::memcpy(sim->model.data() + place_of(0), row.data(), row_size);
    for (const std::uint32_t member : {0U, 1U}) {
        Buffer now(row_size);
        ASSERT_TRUE(sim->read(place_of(member), now));
        EXPECT_EQ(std::memcmp(now.data(), sim->model.data() + place_of(member), row_size), 0);
    }
    slow(0);
    sim->settle();
}

// A copy of it from before has something else in the rows that it is asked for.
TEST_F(Loss, AnOldCopyOfAMemberThatIsAwayBringsNothingBack) {
    for (const bool starts_again : {false, true}) {
        start(shape(Level::raid5, 43));
        const Buffer old(sim->platters[1]->content.view());
        ASSERT_TRUE(sim->stop());
        ASSERT_TRUE(sim->open());
        Buffer data = random_bytes(sim->loop().rng(), 8 * strip);
        ASSERT_TRUE(sim->write(1u << 20, data));
        flush();
        sim->crash();
        ASSERT_TRUE(sim->open(all_but(1)));
        if (starts_again) {
            ASSERT_TRUE(sim->stop());
            ASSERT_TRUE(sim->open(all_but(1)));
        }
        ASSERT_NE(sim->array->status().bad_bytes, 0U);
        const Buffer own(sim->platters[1]->content.view());
        std::memcpy(sim->platters[1]->content.data(), old.data(), old.size());
        const auto refused = add_back(1);
        ASSERT_FALSE(refused);
        EXPECT_NE(refused.error().text.find("is not the member"), std::string::npos)
            << refused.error().text;
        std::memcpy(sim->platters[1]->content.data(), own.data(), own.size());
        const auto back = add_back(1);
        ASSERT_TRUE(back) << back.error().text;
        sim->settle();
        sim->expect_content();
        sim->expect_parity();
    }
}

// ---- sources that cannot be read for a moment ----------------------------------------------

TEST_F(Loss, ARebuildWaitsWhileASourceAnswersNoReads) {
    start(shape(Level::raid5, 10));
    slow(30'000'000);
    ASSERT_TRUE(replace(2, false));
    sim->loop().run_for(millis(50));
    sim->platters[1]->read_fails_one_in = 1;
    sim->loop().run_for(seconds(10));
    EXPECT_EQ(count_events("walk_waits"), 1U);
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    sim->platters[1]->read_fails_one_in = 0;
    sim->settle();
    EXPECT_EQ(sim->array->status().health, Health::clean);
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    EXPECT_EQ(count_events("bad_rows"), 0U);
    sim->expect_content();
    sim->expect_parity();
}

TEST_F(Loss, AResyncWritesNothingWhereItCouldNotRead) {
    start(shape(Level::raid5, 11));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(sim->size() / 2, row));
    flush();
    sim->crash(false);
    sim->platters[0]->read_fails_one_in = 0;
    for (auto& platter : sim->platters) platter->delay_nanos = 1'000'000;
    // All rows of a member in the marked region, but not its whole self.
    const std::uint64_t stripe = sim->size() / 2 / sim->geometry().stripe_data_size();
    const Buffer before(sim->platters[1]->content.view());
    for (std::uint64_t i = 0; i != 4; ++i) {
        sim->platters[1]->bad_rows.insert(first_row + stripe * 4 + i);
    }
    ASSERT_TRUE(sim->open());
    sim->settle();
    EXPECT_EQ(std::memcmp(before.data() + SimArray::data_offset,
                          sim->platters[1]->content.data() + SimArray::data_offset,
                          before.size() - SimArray::data_offset), 0);
    sim->platters[1]->bad_rows.clear();
    EXPECT_EQ(errors(), 0U);
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    EXPECT_EQ(sim->array->status().health, Health::clean);
    sim->expect_parity();
}

TEST_F(Loss, ManyScatteredBadSectorsDoNotStopTheArray) {
    SimArrayOptions options = shape(Level::raid5, 12);
    options.stripes = 6000;
    start(options);
    const Buffer before(sim->platters[1]->content.view());
    for (std::uint64_t row = 5; row < 24000; row += 11) {
        sim->platters[1]->bad_rows.insert(first_row + row);
    }
    ASSERT_GT(sim->platters[1]->bad_rows.size(), 2100U);
    ASSERT_TRUE(replace(2, false));
    sim->settle();
    EXPECT_EQ(sim->array->status().health, Health::damaged);
    EXPECT_EQ(count_events("bad_rows"), 1U) << "not one for each batch";
    EXPECT_EQ(count_events("walk_unknown"), 1U);
    EXPECT_EQ(sim->state_of(2), MemberState::in_sync);
    for (std::uint64_t stripe = 0; stripe != options.stripes; ++stripe) {
        if (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{1})) == 2) continue;
        const std::uint64_t at = SimArray::data_offset + stripe * strip;
        ASSERT_EQ(std::memcmp(before.data() + at, sim->platters[1]->content.data() + at, strip), 0);
    }
    constexpr std::uint64_t each = 37;
    const std::uint64_t lost = errors(each);
    EXPECT_LE(lost, 48000 / each / 8) << "one or two for each bad sector";
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open());
    EXPECT_LE(errors(each), lost) << "a restart makes it no larger";
    sim->platters[1]->bad_rows.clear();
    EXPECT_LT(errors(each), lost);
    ASSERT_TRUE(sim->stop());
}

// Parity is made true for zeros in the place of what is void and cannot be read: they are there then.
TEST_F(Loss, WhatIsVoidAndCannotBeReadGetsTheZerosOfItsParity) {
    start(shape(Level::raid5, 13));
    std::uint64_t stripe = 50;
    while (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{0})) != 2) ++stripe;
    const std::uint64_t row = first_row + stripe * 4;
    sim->platters[1]->bad_rows.insert(row);
    ASSERT_TRUE(replace(2, false));
    sim->settle();
    ASSERT_EQ(errors(), 2U) << "the one to be tried again, the other void";
    sim->platters[1]->bad_rows.clear();
    sim->platters[2]->bad_rows.insert(row);
    std::memset(sim->platters[2]->content.data() + row * row_size, 0x5a, row_size);
    ASSERT_TRUE(sim->array->start_scrub(false));
    sim->settle();
    sim->platters[2]->bad_rows.clear();
    Buffer fresh = random_bytes(sim->loop().rng(), row_size);
    const auto role = sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{2});
    ASSERT_TRUE(sim->write((stripe * 2 + raw(role)) * strip, fresh));
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    sim->expect_content();
    sim->expect_parity();
}

}  // namespace
}  // namespace braid::sim
