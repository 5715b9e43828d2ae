// SPDX-License-Identifier: BSD-3-Clause
// Rows that cannot be known: how they are listed, kept, written around and healed.
#include <gtest/gtest.h>

#include <list>

#include "tests/engine/recovery_fixture.h"

namespace braid::sim {
namespace {

// A lost strip of a row in doubt: RAID-5 cannot tell; the row is listed, and nothing else is.
TEST_F(Recovery, DirtyAndDegradedIsAnErrorForThoseRowsAlone) {
    start(shape(Level::raid5, 5));
    tear(20, 1, Reached::data);
    const std::uint32_t lost = member_of(20, 0);
    ASSERT_TRUE(sim->open(all_but({lost}))) << "without force";
    const auto now = sim->array->status();
    EXPECT_TRUE(sim->has_event("bad_rows"));
    ASSERT_FALSE(now.configuration.bad_rows.empty());
    EXPECT_EQ(now.configuration.bad_rows[0],
              (BadRange{MemberIndex{lost}, RowIndex{20 * 4}, 4, BadKind::retry}));
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);
    EXPECT_EQ(read_error(offset_of(20, 0) + 16384 - 512, 512), Errc::unknown);
    EXPECT_TRUE(reads_as_model(0, offset_of(20, 0)));
    EXPECT_TRUE(reads_as_model(offset_of(20, 1), sim->size() - offset_of(20, 1)));
    sim->come_to_rest();
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);

    // Its neighbours are written as ever; the row itself in part is not.
    Buffer small = random_bytes(sim->loop().rng(), 700);
    EXPECT_TRUE(sim->write(offset_of(20, 1) + 100, small));
    const auto part = sim->write(offset_of(20, 0) + 100, small);
    ASSERT_FALSE(part);
    EXPECT_EQ(part.error().code, Errc::unknown);

    // Listed over restarts, clean and not.
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open(all_but({lost})));
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);
    flush();
    sim->loop().run_for(seconds(20));
    sim->crash();
    ASSERT_TRUE(sim->open(all_but({lost})));
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);
    EXPECT_TRUE(reads_as_model(offset_of(20, 1), 2 * 16384));

    // Written whole, a row is known again, and only that row.
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(offset_of(20, 0) + row_size, row));
    EXPECT_TRUE(reads_as_model(offset_of(20, 0) + row_size, row_size));
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);
    EXPECT_EQ(read_error(offset_of(20, 0) + 2 * row_size, 512), Errc::unknown);
    flush();
    sim->loop().run_for(seconds(20));  // its mark is gone: nothing of it is in doubt
    sim->crash();
    ASSERT_TRUE(sim->open(all_but({lost})));
    EXPECT_TRUE(reads_as_model(offset_of(20, 0) + row_size, row_size));
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);

    // A new member gets what is known; the list stays with its role.
    rebuild_onto_new(lost);
    EXPECT_EQ(sim->state_of(lost), MemberState::in_sync);
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);
    EXPECT_TRUE(reads_as_model(offset_of(20, 0) + row_size, row_size));
    sim->expect_parity();
    Buffer strip = random_bytes(sim->loop().rng(), 16384);
    ASSERT_TRUE(sim->write(offset_of(20, 0), strip));
    EXPECT_TRUE(sim->array->status().configuration.bad_rows.empty());
    EXPECT_TRUE(sim->has_event("bad_rows_healed"));
    sim->expect_content();
    sim->expect_parity();
}

// A read beside the write that heals: an error or the new bytes, never what stood in their place.
TEST_F(Recovery, AReadBesideTheHealingWriteSeesNoZeros) {
    for (std::uint64_t seed = 100; seed != 130; ++seed) {
        SCOPED_TRACE(seed);
        start(shape(Level::raid5, seed));
        tear(20, 1, Reached::data);
        const std::uint32_t lost = member_of(20, 0);
        ASSERT_TRUE(sim->open(all_but({lost})));
        rebuild_onto_new(lost);
        std::list<Asked> all;
        const auto submit = [&](IoKind kind, std::uint64_t strips) {
            sim->ask(all.emplace_back(), kind, offset_of(20, 0),
                     random_bytes(sim->loop().rng(), strips * 16384));
        };
        submit(IoKind::write, 1);
        for (int i = 0; i != 20; ++i) {
            submit(IoKind::read, 2);
            // The other strip may take longer than the write, its flush and the configuration.
            for (int step = 0; step != 6; ++step) {
                auto& other = sim->platters[member_of(20, 1)];
                other->delay_nanos = sim->loop().rng().chance(3) ? 30'000'000 : 0;
                sim->loop().step();
            }
        }
        for (const Asked& asked : all) ASSERT_NO_FATAL_FAILURE(sim->wait_for(asked));
        ASSERT_TRUE(all.front().request.ok);
        for (const Asked& asked : all) {
            if (!asked.request.ok) {
                EXPECT_EQ(asked.request.error.code, Errc::unknown);
            } else {
                EXPECT_EQ(std::memcmp(asked.data.data(), all.front().data.data(), 16384), 0);
            }
        }
        EXPECT_TRUE(sim->stop());
    }
}

TEST_F(Recovery, AZeroedStripeIsKnownAgain) {
    start(shape(Level::raid5, 6));
    tear(20, 1, Reached::parity);
    ASSERT_TRUE(sim->open(all_but({member_of(20, 2)})));
    IoRequest zero;
    zero.kind = IoKind::zero;
    zero.offset = {offset_of(19, 0)};
    zero.size = 3 * stripe_size();
    ASSERT_TRUE(sim->run(zero));
    std::memset(sim->model.data() + zero.offset.value, 0, zero.size);
    EXPECT_TRUE(sim->array->status().configuration.bad_rows.empty());
    sim->expect_content();
    sim->come_to_rest();
    sim->expect_content();
}

// An unreadable row beside a lost member: listed, and the rebuild goes on.
TEST_F(Recovery, ARebuildGoesOnBehindRowsThatCannotBeComputed) {
    start(shape(Level::raid5, 11));
    const std::uint32_t lost = member_of(30, 0);
    const std::uint32_t other = member_of(30, 1);
    rebuild_beside_unreadable_row();
    EXPECT_EQ(sim->state_of(lost), MemberState::in_sync);
    const auto bad = sim->array->status().configuration.bad_rows;
    ASSERT_EQ(bad.size(), 2U);
    for (const BadRange& range : bad) {
        EXPECT_EQ(range.kind, raw(range.member) == lost ? BadKind::voided : BadKind::retry);
    }
    EXPECT_EQ(sim->array->status().health, Health::damaged);
    // Nothing crashed, and no message says so.
    EXPECT_EQ(
        text_of_event("walk_unknown"),
        "8192 bytes more than before it cannot be known, 8192 in all: braid status names them");
    EXPECT_EQ(
        text_of_event("bad_rows")
            .find("rows can neither be read nor computed from the others: they are listed, and "
                  "reading them is an error until they can be read again, or are written anew: "),
        0U)
        << text_of_event("bad_rows");
    for (const std::string& text : sim->texts) {
        EXPECT_EQ(text.find("crash"), std::string::npos) << text;
    }
    EXPECT_EQ(read_error(offset_of(30, 0) + row_size, 512), Errc::unknown);
    EXPECT_EQ(read_error(offset_of(30, 1) + row_size, 512), Errc::unknown);
    EXPECT_TRUE(reads_as_model(offset_of(30, 2), 16384));
    EXPECT_TRUE(reads_as_model(offset_of(30, 0) + 2 * row_size, row_size));
    EXPECT_TRUE(reads_as_model(0, offset_of(30, 0)));
    // It can be read after all: then its row is true again.
    sim->platters[other]->bad_rows.clear();
    EXPECT_TRUE(reads_as_model(offset_of(30, 1), 16384));
    EXPECT_EQ(sim->array->status().configuration.bad_rows.size(), 1U);
    EXPECT_EQ(read_error(offset_of(30, 0) + row_size, 512), Errc::unknown);
    sim->expect_parity();
}

// Its parity was made of the row that is void now.
TEST_F(Recovery, ARowBesideOneToBeTriedAgainIsNotComputed) {
    start(shape(Level::raid5, 12));
    rebuild_beside_unreadable_row();
    sim->platters[member_of(30, 1)]->bad_rows.clear();
    sim->platters[member_of(30, 2)]->bad_rows.insert(unreadable_row());
    EXPECT_EQ(read_error(offset_of(30, 2) + row_size, 512), Errc::unknown);
    sim->platters[member_of(30, 2)]->bad_rows.clear();
    EXPECT_TRUE(reads_as_model(offset_of(30, 1), 2 * 16384));
}

// A crash finds it on the list, or with the parity that its being read again gave it.
TEST_F(Recovery, ARowLeavesTheListWhenItsParityIsDurable) {
    start(shape(Level::raid5, 13));
    rebuild_beside_unreadable_row();
    sim->platters[member_of(30, 1)]->bad_rows.clear();
    Asked read;
    sim->ask(read, IoKind::read, offset_of(30, 1), Buffer(16384));
    ASSERT_NO_FATAL_FAILURE(sim->crash_when_configured());
    ASSERT_TRUE(sim->open());
    sim->come_to_rest();
    ASSERT_EQ(sim->array->status().configuration.bad_rows.size(), 1U);
    const std::string third = std::to_string(member_of(30, 2));
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member(third, Force::no)));
    EXPECT_TRUE(reads_as_model(offset_of(30, 2), 16384));
}

TEST_F(Recovery, MoreThanTheListHoldsIsJoined) {
    SimArrayOptions options = shape(Level::raid6, 12);
    options.strip_size = 4096;
    options.stripes = 14000;
    start(options);
    // Every other row torn, in more stripes than the list has room for, and a record of them all.
    const std::uint32_t lost = 0;
    for (std::uint64_t stripe = 0; stripe < 14000; stripe += 2) {
        const std::uint32_t p = raw(sim->geometry().member_of(StripeIndex{stripe}, Role{3}));
        if (p == lost) continue;
        sim->platters[p]->content.data()[SimArray::data_offset + stripe * 4096] ^= std::byte{1};
    }
    IntentRecord record;
    record.array = sim->array->configuration().array;
    record.generation = sim->array->status().intent.generation + 1;
    record.entries = {{0, 14000, StripeIndex{0}}};
    const Buffer bytes = encode_intent(record);
    std::memcpy(
        sim->platters[1]->content.data() + slots_end + intent_slot_offset(0, record.generation),
        bytes.data(), bytes.size());
    sim->kill();
    ASSERT_TRUE(sim->open(all_but({lost})));
    sim->come_to_rest();
    const std::string text = text_of_event("bad_rows_joined");
    unsigned ranges = 0;
    unsigned along = 0;
    ASSERT_EQ(std::sscanf(text.c_str(),
                          "the list of rows that cannot be known has no room for each of them (%u "
                          "ranges of member 0): %u bytes that lie between them are listed along",
                          &ranges, &along),
              2)
        << text;
    EXPECT_GT(ranges, 1400U) << "of 31744 bytes of text";
    EXPECT_GT(along, 0U);
    EXPECT_EQ(along % row_size, 0U);
    EXPECT_FALSE(sim->has_event("stopped"));
    EXPECT_EQ(sim->array->status().health, Health::degraded);
    Buffer row(row_size);
    EXPECT_TRUE(sim->write(0, row));
    EXPECT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open(all_but({lost})));  // and again: it did not forget
    EXPECT_GT(sim->array->status().bad_bytes, 4000 * row_size);
}

// Nobody may be left without a way to start.
TEST_F(Recovery, AStartWithMoreThanTheListHolds) {
    SimArrayOptions options = shape(Level::raid6, 16);
    options.strip_size = 4096;
    options.stripes = 12000;
    start(options);
    IntentRecord record;
    record.array = sim->array->configuration().array;
    record.generation = sim->array->status().intent.generation + 1;
    for (std::uint64_t i = 0; i != intent_entries_max; ++i) {
        record.entries.push_back({0, 5, StripeIndex{i * 11}});
    }
    const Buffer bytes = encode_intent(record);
    std::memcpy(
        sim->platters[1]->content.data() + slots_end + intent_slot_offset(0, record.generation),
        bytes.data(), bytes.size());
    IntentRecord behind = record;  // another node's, so that there are even more
    behind.node = 1;
    for (IntentEntry& entry : behind.entries) entry.first = StripeIndex{raw(entry.first) + 6};
    for (IntentEntry& entry : behind.entries) entry.count = 1;
    const Buffer more = encode_intent(behind);
    std::memcpy(
        sim->platters[1]->content.data() + slots_end + intent_slot_offset(1, record.generation),
        more.data(), more.size());
    sim->kill();
    const auto opened = sim->open(all_but({0, 4}));
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_TRUE(sim->has_event("bad_rows_joined"));
    // Behind the last mark everything is known.
    EXPECT_TRUE(reads_as_model(offset_of(11500, 0), 100 * row_size));
}

TEST_F(Recovery, AHealedRowIsNotListedAgainAfterACleanStop) {
    SimArrayOptions options = shape(Level::raid5, 102);
    options.stripes = 400;
    start(options);
    mark_every_second(180);
    tear(20, 1, Reached::data);
    for (auto& platter : sim->platters) platter->delay_nanos = 5'000'000;
    ASSERT_TRUE(sim->open(all_but({0})));
    std::uint64_t stripe = 178;
    while (member_of(stripe, 0) != 0) stripe -= 2;
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(offset_of(stripe, 0), row));
    ASSERT_NE(sim->array->status().recovery->stripes_left, 0U);
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open(all_but({0})));
    EXPECT_TRUE(reads_as_model(offset_of(stripe, 0), row_size));
    EXPECT_EQ(read_error(offset_of(stripe, 0) + row_size, 512), Errc::unknown);
}

TEST_F(Recovery, AsManyMarksAsThereMayBeFitOnTheList) {
    SimArrayOptions options = shape(Level::raid5, 103);
    options.strip_size = 4096;
    options.stripes = 4200;
    start(options);
    for (std::uint64_t s = 0; s < 4200; s += 10) {  // 420 regions of 5 stripes
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write(offset_of(s, 0), row));
    }
    sim->crash();
    ASSERT_TRUE(sim->open(all_but({0})));
    EXPECT_GT(sim->array->status().configuration.bad_rows.size(), 256U);
    EXPECT_TRUE(reads_as_model(offset_of(5, 0), 3 * stripe_size()));
}

}  // namespace
}  // namespace braid::sim
