// SPDX-License-Identifier: BSD-3-Clause
// Sources that cannot be read for a moment, or not any more: nothing is written in the place of what
// may still come back, and what is said of it is so.
#include <cstring>
#include <vector>

#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

TEST_F(Loss, ARebuildWaitsWhileASourceAnswersNoReads) {
    start(shape(Level::raid5, 10));
    slow(30'000'000);
    ASSERT_TRUE(replace(2, Force::no));
    sim->loop().run_for(millis(50));
    sim->platters[1]->read_fails_one_in = 1;
    sim->loop().run_for(seconds(10));
    EXPECT_EQ(count_events("walk_waits"), 1U);
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    const auto waits = next_wait();
    ASSERT_TRUE(waits);
    EXPECT_EQ(waits->what, "rebuilding");
    EXPECT_EQ(waits->member, MemberIndex{2});
    EXPECT_TRUE(waits->by_itself);
    EXPECT_NE(waits->why.find("member 1 (m1) answers no reads"), std::string::npos) << waits->why;
    sim->loop().run_for(seconds(80));
    const auto still = next_wait();
    ASSERT_TRUE(still);
    EXPECT_FALSE(still->by_itself) << "that is no moment any more";
    sim->platters[1]->read_fails_one_in = 0;
    sim->come_to_rest();
    EXPECT_TRUE(sim->array->status().waits.empty());
    EXPECT_EQ(sim->array->status().health, Health::clean);
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    EXPECT_EQ(count_events("bad_rows"), 0U);
    sim->expect_content();
    sim->expect_parity();
}

TEST_F(Loss, AResyncWritesNothingWhereItCouldNotRead) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        SCOPED_TRACE(level == Level::raid5 ? "RAID-5" : "RAID-6");
        start(shape(level, 11));
        const Geometry& geometry = sim->geometry();
        const auto role_of = [&](std::uint64_t stripe, std::uint32_t member) {
            return raw(geometry.role_of(StripeIndex{stripe}, MemberIndex{member}));
        };
        std::uint64_t stripe = 100;
        const std::uint32_t data = geometry.data_count();
        while (role_of(stripe, 1) >= data || role_of(stripe, 2) >= data) ++stripe;
        const auto place_of = [&](std::uint32_t member) {
            return (stripe * data + role_of(stripe, member)) * strip;
        };
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write(place_of(1), row));
        flush();
        sim->kill();
        std::vector<Buffer> before;
        for (auto& platter : sim->platters) before.emplace_back(platter->content.view());
        // The strips of as many members as there are parities, but not their whole selves.
        const std::uint32_t blind = geometry.parities();
        constexpr std::uint64_t rows = strip / row_size;
        for (std::uint32_t member = 1; member <= blind; ++member) {
            for (std::uint64_t i = 0; i != rows; ++i) {
                sim->platters[member]->bad_rows.insert(first_row + stripe * rows + i);
            }
        }
        ASSERT_TRUE(sim->open());
        sim->come_to_rest();
        const std::vector<BadRange> listed = sim->array->status().configuration.bad_rows;
        ASSERT_EQ(listed.size(), blind);
        for (std::uint32_t member = 1; member <= blind; ++member) {
            const BadRange expected{MemberIndex{member}, RowIndex{stripe * rows}, rows,
                                    BadKind::retry};
            EXPECT_EQ(listed[member - 1], expected);
            Buffer one(row_size);
            const auto read = sim->read(place_of(member), one);
            ASSERT_FALSE(read);
            EXPECT_EQ(read.error().code, Errc::unknown);
        }
        EXPECT_EQ(errors(), blind * rows);
        for (std::size_t member = 0; member != before.size(); ++member) {
            EXPECT_EQ(std::memcmp(before[member].data() + SimArray::data_offset,
                                  sim->platters[member]->content.data() + SimArray::data_offset,
                                  before[member].size() - SimArray::data_offset),
                      0)
                << "written to member " << member;
            sim->platters[member]->bad_rows.clear();
        }
        EXPECT_EQ(errors(), 0U);
        sim->come_to_rest();
        EXPECT_TRUE(sim->array->status().configuration.bad_rows.empty());
        EXPECT_EQ(sim->array->status().health, Health::clean);
        sim->expect_parity();
    }
}

// Where nothing can be computed nothing is answered or rewritten, and no message says so.
TEST_F(Loss, AReadErrorBesideALostMemberPromisesNothing) {
    start(shape(Level::raid5, 13));
    ASSERT_TRUE(fail(2, Force::no));
    sim->loop().run_for(seconds(20));
    std::uint64_t stripe = 7;  // in which member 1 has data
    while (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{1})) == 2) ++stripe;
    const std::uint64_t role = raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{1}));
    const std::uint64_t row = first_row + stripe * strip / row_size;
    SimPlatter& platter = *sim->platters[1];
    const Buffer before(ByteView{platter.content.data() + row * row_size, row_size});
    platter.bad_rows.insert(row);
    Buffer bytes(row_size);
    EXPECT_FALSE(sim->read((2 * stripe + role) * strip, bytes));
    EXPECT_EQ(text_of_event("read_error"),
              "member 1 (m1): a read failed (Input/output error), 1 so far; what can be computed "
              "from the others is answered from them, and rewritten");
    EXPECT_TRUE(platter.bad_rows.contains(row)) << "it was not rewritten";
    platter.bad_rows.clear();
    EXPECT_EQ(std::memcmp(platter.content.data() + row * row_size, before.data(), row_size), 0);
    ASSERT_TRUE(sim->read((2 * stripe + role) * strip, bytes)) << "it is tried again";
    EXPECT_EQ(std::memcmp(bytes.data(), before.data(), row_size), 0);
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
    ASSERT_TRUE(replace(2, Force::no));
    sim->come_to_rest();
    for (int i = 0; i != 100 && !sim->has_event("walk_unknown"); ++i) {
        sim->loop().run_for(millis(20));  // it is told when it is so after a crash, too
    }
    EXPECT_EQ(sim->array->status().health, Health::damaged);
    EXPECT_EQ(count_events("bad_rows"), 1U) << "not one for each batch";
    EXPECT_EQ(count_events("walk_unknown"), 1U);
    const std::string bytes = std::to_string(sim->array->status().bad_bytes);
    EXPECT_EQ(text_of_event("walk_unknown"), bytes +
                                                 " bytes more than before it cannot be known, " +
                                                 bytes + " in all: braid status names them");
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

// Parity is made true for zeros in the place of what is void and cannot be read: they are there
// then.
TEST_F(Loss, WhatIsVoidAndCannotBeReadGetsTheZerosOfItsParity) {
    start(shape(Level::raid5, 13));
    std::uint64_t stripe = 50;
    while (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{0})) != 2) ++stripe;
    const std::uint64_t row = first_row + stripe * 4;
    sim->platters[1]->bad_rows.insert(row);
    ASSERT_TRUE(replace(2, Force::no));
    sim->come_to_rest();
    ASSERT_EQ(errors(), 2U) << "the one to be tried again, the other void";
    sim->platters[1]->bad_rows.clear();
    sim->platters[2]->bad_rows.insert(row);
    std::memset(sim->platters[2]->content.data() + row * row_size, 0x5a, row_size);
    ASSERT_TRUE(sim->scrub(ScrubMode::compare));
    sim->come_to_rest();
    sim->platters[2]->bad_rows.clear();
    Buffer fresh = random_bytes(sim->loop().rng(), row_size);
    const auto role = sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{2});
    ASSERT_TRUE(sim->write((stripe * 2 + raw(role)) * strip, fresh));
    EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    sim->expect_content();
    sim->expect_parity();
}

// Failed is not the same as more lost than the level allows.
TEST_F(Loss, AnArrayThatHasFailedSaysWhy) {
    start(shape(Level::raid5, 61));
    EXPECT_EQ(sim->array->status().failure, "");
    ASSERT_TRUE(fail(0, Force::no));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(1u << 20, row));
    sim->platters[1]->fails_flushes = true;
    EXPECT_FALSE(sim->flush());
    EXPECT_EQ(sim->array->status().health, Health::failed);
    EXPECT_NE(sim->array->status().failure.find("member 1 (m1) is needed"), std::string::npos)
        << sim->array->status().failure;
    EXPECT_NE(sim->array->status().failure.find("a flush of it failed"), std::string::npos);
    sim->platters[1]->fails_flushes = false;
    EXPECT_FALSE(sim->stop());
}

TEST_F(Loss, OnlyWhatWasRewrittenCountsAsCorrected) {
    start(shape(Level::raid5, 63));
    sim->platters[0]->bad_rows.insert(first_row);
    sim->platters[1]->bad_rows.insert(first_row);
    EXPECT_GT(errors(), 0U);
    ArrayStatus status = sim->array->status();
    EXPECT_GT(status.members[0].record.read_errors + status.members[1].record.read_errors, 0U);
    EXPECT_EQ(status.counters.reads_corrected, 0U) << "it could not be computed";
    sim->platters[1]->bad_rows.clear();
    ASSERT_TRUE(sim->scrub(ScrubMode::compare));
    sim->come_to_rest();
    EXPECT_EQ(sim->array->status().counters.reads_corrected, 1U);
    EXPECT_TRUE(sim->platters[0]->bad_rows.empty());
}

TEST_F(Loss, NothingIsSaidToBeRewrittenWhereNothingIsWritten) {
    start(shape(Level::raid5, 64));
    ASSERT_TRUE(sim->stop());
    for (std::size_t member = 0; member != 3; ++member) {
        sim->platters[member]->bad_rows.insert(first_row + member);
    }
    ASSERT_TRUE(sim->open_readonly());
    EXPECT_EQ(errors(), 0U);
    ASSERT_TRUE(sim->scrub(ScrubMode::compare));
    sim->come_to_rest();
    const std::string text = text_of_event("read_error");
    EXPECT_NE(text.find("nothing is written"), std::string::npos) << text;
    EXPECT_EQ(text.find("rewritten"), std::string::npos) << text;
    EXPECT_EQ(sim->array->status().counters.reads_corrected, 0U);
    for (std::size_t member = 0; member != 3; ++member) {
        EXPECT_EQ(sim->platters[member]->bad_rows.size(), 1U);
    }
}

}  // namespace
}  // namespace braid::sim
