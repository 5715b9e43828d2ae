// SPDX-License-Identifier: BSD-3-Clause
// What losses, orders, unreadable sources and failed writes may not cost: what was flushed is there
// again when the member, its reads or its room are.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/config_slot.h"
#include "engine/intent_record.h"
#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t strip = 16u << 10;
constexpr std::uint64_t first_row = SimArray::data_offset / row_size;

class Loss : public testing::Test {
  protected:
    SimArrayOptions shape(Level level, std::uint64_t seed) {
        SimArrayOptions options;
        options.seed = seed;
        options.level = level;
        options.members = level == Level::raid6 ? 5 : 3;
        options.strip_size = strip;
        options.stripes = 200;
        return options;
    }
    void create(SimArrayOptions options) {
        sim = std::make_unique<SimArray>(options);
        sim->create();
        sim->intent.region = 64u << 10;
        ASSERT_TRUE(sim->open());
    }
    void fill() {
        for (std::uint64_t at = 0; at < sim->size(); at += 1u << 20) {
            Buffer data = random_bytes(sim->loop().rng(),
                                       std::min<std::uint64_t>(sim->size() - at, 1u << 20));
            ASSERT_TRUE(sim->write(at, data));
        }
        flush();
    }
    /// Created, true, filled and flushed, no stripe marked.
    void start(SimArrayOptions options) {
        create(options);
        sim->settle();
        fill();
        sim->loop().run_for(seconds(20));
        ASSERT_EQ(sim->array->status().intent.stripes_marked, 0U);
    }
    void flush() {
        IoRequest request;
        request.kind = IoKind::flush;
        ASSERT_TRUE(sim->run(request));
    }
    Checked<Unit> fail(std::uint32_t member, bool force) {
        return sim->loop().run_until_done(sim->array->fail_member(std::to_string(member), force));
    }
    Checked<Unit> replace(std::uint32_t member, bool force) {
        auto platter = sim->make_platter();
        const auto done = sim->loop().run_until_done(sim->array->replace_member(
            std::to_string(member), sim->disk(platter, "new"), force));
        if (done) sim->platters[member] = platter;
        return done;
    }
    Checked<Unit> add_back(std::uint32_t member) {
        return sim->loop().run_until_done(sim->array->add_member(
            sim->disk(sim->platters[member], SimArray::path_of(member)), false));
    }
    std::vector<std::size_t> all_but(std::size_t lost) const {
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i != sim->platters.size(); ++i) {
            if (i != lost) left.push_back(i);
        }
        return left;
    }
    /// A slow resync of everything: the write intent was off, and the node was killed.
    void start_whole_resync(SimArrayOptions options) {
        start(options);
        sim->stop().value();
        sim->intent.on = false;
        ASSERT_TRUE(sim->open());
        sim->crash(false);
        slow(20'000'000);
        ASSERT_TRUE(sim->open());
        ASSERT_TRUE(sim->array->status().configuration.resynced);
    }
    void slow(std::uint64_t nanos) {
        for (auto& platter : sim->platters) platter->delay_nanos = nanos;
    }
    /// Rows of the volume that cannot be read, of every `each`th.
    std::uint64_t errors(std::uint64_t each = 1) {
        std::uint64_t count = 0;
        for (std::uint64_t at = 0; at < sim->size(); at += each * row_size) {
            Buffer row(row_size);
            if (!sim->read(at, row)) {
                ++count;
            } else {
                EXPECT_EQ(std::memcmp(row.data(), sim->model.data() + at, row_size), 0) << at;
            }
        }
        return count;
    }
    std::uint64_t count_events(const std::string& kind) const {
        return static_cast<std::uint64_t>(std::ranges::count(sim->events, kind));
    }
    std::unique_ptr<SimArray> sim;
};

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

// ---- no room, and the second failure -------------------------------------------------------

TEST_F(Loss, NoRoomIsToldAndTheArrayGoesOnWhenThereIs) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        for (std::uint64_t seed = 20; seed != 26; ++seed) {
            SCOPED_TRACE(seed);
            start(shape(level, seed));
            Rng& rng = sim->loop().rng();
            for (auto& platter : sim->platters) {
                for (std::uint64_t row = 0; row != 800; ++row) {
                    if (rng.chance(3)) platter->holes.insert(first_row + row);
                }
                platter->full = rng.chance(2);
            }
            sim->platters[0]->full = true;
            std::uint64_t refused = 0;
            for (int i = 0; i != 200; ++i) {
                Buffer data = random_bytes(rng, 512 * (1 + rng.below(60)));
                const std::uint64_t at = rng.below((sim->size() - data.size()) / 512) * 512;
                const auto written = sim->write(at, data);
                if (written) continue;
                ++refused;
                EXPECT_EQ(written.error().code, Errc::full);
                // What is there of it may be old or new, sector by sector.
                Buffer now(data.size());
                const auto read = sim->read(at, now);
                ASSERT_TRUE(read) << read.error().text() << read.error().where;
                for (std::uint64_t s = 0; s != now.size(); s += 512) {
                    EXPECT_TRUE(std::memcmp(now.data() + s, data.data() + s, 512) == 0 ||
                                std::memcmp(now.data() + s, sim->model.data() + at + s, 512) == 0);
                }
                std::memcpy(sim->model.data() + at, now.data(), now.size());
            }
            EXPECT_GT(refused, 20U);
            for (std::uint32_t m = 0; m != sim->platters.size(); ++m) {
                EXPECT_EQ(sim->state_of(m), MemberState::in_sync);
            }
            sim->expect_content();
            for (auto& platter : sim->platters) platter->full = false;
            sim->loop().run_for(seconds(200));
            sim->settle();
            EXPECT_EQ(sim->array->status().bad_bytes, 0U);
            EXPECT_EQ(sim->array->status().intent.stripes_marked, 0U);
            sim->expect_content();
            sim->expect_parity();
            ASSERT_TRUE(fail(1, false));
            sim->expect_content();
        }
    }
}

/// Rows of a member's front that have no space yet.
void make_holes(SimPlatter& platter, std::uint64_t begin, std::uint64_t end) {
    for (std::uint64_t row = begin / row_size; row != end / row_size; ++row) {
        platter.holes.insert(row);
    }
}

TEST_F(Loss, NoRoomForAMarkIsToldAndTheMemberKeepsItsPlace) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        start(shape(level, 40));
        make_holes(*sim->platters[1], slots_end, slots_end + write_intent_size);
        sim->platters[1]->full = true;
        Buffer data = random_bytes(sim->loop().rng(), 100'000);
        for (int i = 0; i != 3; ++i) {
            const auto written = sim->write(1u << 20, data);
            ASSERT_FALSE(written);
            EXPECT_EQ(written.error().code, Errc::full);
        }
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        flush();
        sim->expect_content();
        sim->platters[1]->full = false;
        ASSERT_TRUE(sim->write(1u << 20, data));
        flush();
        sim->crash();
        ASSERT_TRUE(sim->open());
        sim->settle();
        sim->expect_content();
        sim->expect_parity();
    }
}

TEST_F(Loss, NoRoomForMetadataIsWaitedForAndTheMemberKeepsItsPlace) {
    start(shape(Level::raid5, 41));
    make_holes(*sim->platters[0], 0, slots_end);
    make_holes(*sim->platters[0], promises_offset, promises_end);
    sim->platters[0]->full = true;
    sim->platters[2]->dead = true;
    Buffer data = random_bytes(sim->loop().rng(), 2 * strip);
    bool done = false;
    IoRequest request;
    request.kind = IoKind::write;
    request.size = data.size();
    request.data = data.data();
    request.user = &done;
    request.done = [](IoRequest& over) { *static_cast<bool*>(over.user) = true; };
    sim->array->submit(request);
    sim->loop().run_for(seconds(30));
    EXPECT_FALSE(done) << "the loss of a member is not durable";
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    EXPECT_EQ(sim->state_of(2), MemberState::faulty);
    sim->platters[0]->full = false;
    sim->loop().run_for(seconds(5));
    ASSERT_TRUE(done);
    ASSERT_TRUE(request.ok);
    std::memcpy(sim->model.data(), data.data(), data.size());
    flush();
    sim->expect_content();
    // A stop does not wait for it for ever, and the next start has lost nothing.
    make_holes(*sim->platters[0], 0, slots_end);
    make_holes(*sim->platters[0], promises_offset, promises_end);
    sim->platters[0]->full = true;
    EXPECT_FALSE(sim->stop());
    EXPECT_FALSE(sim->open(all_but(2)));
    sim->platters[0]->full = false;
    ASSERT_TRUE(sim->open(all_but(2)));
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    EXPECT_EQ(errors(), 0U);
}

// What a flush did not make durable may be gone, whatever the next one says.
TEST_F(Loss, AFailedFlushOfAMemberThatIsNeededIsTheLast) {
    start(shape(Level::raid5, 42));
    ASSERT_TRUE(fail(0, false));
    sim->loop().run_for(seconds(20));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(1u << 20, row));
    sim->platters[1]->fails_flushes = true;
    IoRequest request;
    request.kind = IoKind::flush;
    EXPECT_FALSE(sim->run(request));
    sim->platters[1]->fails_flushes = false;
    EXPECT_FALSE(sim->run(request));
    Buffer more = random_bytes(sim->loop().rng(), row_size);
    EXPECT_FALSE(sim->write(2u << 20, more));
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    EXPECT_EQ(errors(), 0U) << "everything can be read";
    EXPECT_FALSE(sim->stop());
    ASSERT_TRUE(sim->open(all_but(0)));
    sim->settle();
    EXPECT_LE(errors(), 2 * strip / row_size) << "what the lost member had in the marked region";
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

// Rows in front of a rebuild's position are in doubt, and not listed: nothing of them is lost.
TEST_F(Loss, AStopForgetsNoDoubtInFrontOfARebuild) {
    SimArrayOptions options = shape(Level::raid5, 44);
    options.stripes = 3000;
    start(options);
    ASSERT_TRUE(replace(2, false));
    const auto position = [&] {
        const auto walks = sim->array->status().walks;
        return walks.empty() ? 0 : walks.front().position / strip;
    };
    while (position() < 200) ASSERT_TRUE(sim->loop().step());
    slow(20'000'000);
    // Of stripes in which it holds parity; the one in front of the position, the other behind.
    make_holes(*sim->platters[1], SimArray::data_offset, sim->platters[1]->content.size());
    sim->platters[1]->full = true;
    std::uint64_t failed = 0;
    for (const std::uint64_t from : {std::uint64_t{10}, std::uint64_t{2500}}) {
        std::uint64_t stripe = from;
        while (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{1})) != 2) ++stripe;
        const std::uint64_t at = stripe * 2 * strip;
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        for (std::uint64_t i = 0; i != 2; ++i) {  // the strip that is not the rebuilt member's
            const auto member = sim->geometry().member_of(StripeIndex{stripe}, Role{
                static_cast<std::uint32_t>(i)});
            if (member == MemberIndex{2}) continue;
            const auto written = sim->write(at + i * strip, row);
            ASSERT_FALSE(written);
            EXPECT_EQ(written.error().code, Errc::full);
            Buffer now(row_size);
            ASSERT_TRUE(sim->read(at + i * strip, now));
            std::memcpy(sim->model.data() + at + i * strip, now.data(), row_size);
            ++failed;
        }
    }
    ASSERT_EQ(failed, 2U);
    EXPECT_LT(position(), 2500U);
    slow(0);
    while (!sim->has_event("walk_waits")) ASSERT_TRUE(sim->loop().step());
    ASSERT_TRUE(sim->stop());
    sim->platters[1]->full = false;
    ASSERT_TRUE(sim->open());
    sim->settle();
    EXPECT_EQ(sim->state_of(2), MemberState::in_sync);
    EXPECT_LE(errors(), 1U) << "of the row behind the position, whose strip was lost";
    sim->expect_parity();
}

// RAID-5 without one member, and writes to another one fail: it is kept, and so is what was flushed.
TEST_F(Loss, AWriteThatFailsOnAMemberThatIsNeededCostsOnlyItsRows) {
    for (std::uint64_t seed = 30; seed != 38; ++seed) {
        SCOPED_TRACE(seed);
        start(shape(Level::raid5, seed));
        Rng& rng = sim->loop().rng();
        ASSERT_TRUE(fail(0, false));
        sim->loop().run_for(seconds(20));
        sim->platters[1]->write_fails_one_in = 4;
        std::vector<bool> touched(sim->size() / row_size);
        for (int i = 0; i != 60; ++i) {
            Buffer data = random_bytes(rng, row_size);
            const std::uint64_t at = rng.below(sim->size() / row_size) * row_size;
            if (!sim->write(at, data)) touched[at / row_size] = true;
            if (sim->array->status().health == Health::failed) break;
        }
        sim->platters[1]->write_fails_one_in = 0;
        if (sim->array->status().health == Health::failed) {  // its metadata did not hold
            sim->crash(false);
            continue;
        }
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        const bool crashes = seed % 2 == 0;
        flush();
        sim->loop().run_for(seconds(20));
        if (crashes) {
            sim->crash();
        } else {
            ASSERT_TRUE(sim->stop());
        }
        ASSERT_TRUE(sim->open(all_but(0)));
        std::uint64_t wrong = 0;
        for (std::uint64_t row = 0; row != touched.size(); ++row) {
            Buffer now(row_size);
            const bool ok = sim->read(row * row_size, now) &&
                            std::memcmp(now.data(), sim->model.data() + row * row_size,
                                        row_size) == 0;
            if (!ok && !touched[row]) ++wrong;
        }
        EXPECT_EQ(wrong, 0U);
        ASSERT_TRUE(sim->stop());
    }
}

}  // namespace
}  // namespace braid::sim
