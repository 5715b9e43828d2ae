// SPDX-License-Identifier: BSD-3-Clause
// After a crash: what is in doubt and made true, what a lost member takes with it, how rows that
// cannot be known are listed, kept, written around and healed, and the settings of the write
// intent.
#include <gtest/gtest.h>

#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t region = 64u << 10;

SimArrayOptions shape(Level level, std::uint64_t seed) {
    SimArrayOptions options;
    options.seed = seed;
    options.level = level;
    options.members = level == Level::raid6 ? 5 : 4;  // three data strips
    options.strip_size = 16u << 10;
    options.stripes = 60;
    return options;
}

/// A write that is under way when the array ends.
struct Flight {
    IoRequest request;
    Buffer data;
    bool done{false};
};

/// What of a torn write is on the members.
enum class Reached { data, parity };

class Recovery : public testing::Test {
  protected:
    void start(SimArrayOptions options) {
        sim = std::make_unique<SimArray>(options);
        sim->create();
        sim->intent.region = region;
        ASSERT_TRUE(sim->open());
        sim->settle();
        for (std::uint64_t at = 0; at != sim->size(); at += sim->size() / 10) {
            Buffer data = random_bytes(sim->loop().rng(), sim->size() / 10);
            ASSERT_TRUE(sim->write(at, data));
        }
        flush();
        sim->loop().run_for(seconds(20));
        ASSERT_EQ(sim->array->status().intent.stripes_marked, 0U);
    }
    void flush() {
        IoRequest request;
        request.kind = IoKind::flush;
        ASSERT_TRUE(sim->run(request));
    }
    std::uint64_t stripe_size() const { return sim->geometry().stripe_data_size(); }
    /// Bytes of data strip `role` of `stripe`, from its start.
    std::uint64_t offset_of(std::uint64_t stripe, std::uint32_t role) const {
        return stripe * stripe_size() + role * sim->geometry().strip_size;
    }
    std::uint32_t member_of(std::uint64_t stripe, std::uint32_t role) const {
        return raw(sim->geometry().member_of(StripeIndex{stripe}, Role{role}));
    }
    std::vector<std::size_t> all_but(std::vector<std::uint32_t> lost) const {
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i != sim->platters.size(); ++i) {
            if (std::ranges::find(lost, i) == lost.end()) left.push_back(i);
        }
        return left;
    }
    /// The first row of a data strip is written, and the array ends when only the data, or only the
    /// parity, has reached the members. The model has what the data strip holds then.
    void tear(std::uint64_t stripe, std::uint32_t role, Reached reached) {
        Flight flight;
        flight.data = random_bytes(sim->loop().rng(), row_size);
        flight.request.kind = IoKind::write;
        flight.request.offset = offset_of(stripe, role);
        flight.request.size = row_size;
        flight.request.data = flight.data.data();
        flight.request.user = &flight;
        flight.request.done = [](IoRequest& request) {
            static_cast<Flight*>(request.user)->done = true;
        };
        std::vector<Buffer> before;
        for (auto& platter : sim->platters) before.emplace_back(platter->content.view());
        sim->array->submit(flight.request);
        while (!flight.done) ASSERT_TRUE(sim->loop().step());
        sim->kill();
        const auto& geometry = sim->geometry();
        for (std::uint32_t m = 0; m != geometry.member_count; ++m) {
            const bool is_data = m == member_of(stripe, role);
            if (is_data == (reached == Reached::data)) continue;
            const std::uint64_t at =
                SimArray::data_offset + geometry.strip_offset(StripeIndex{stripe});
            std::memcpy(sim->platters[m]->content.data() + at, before[m].data() + at,
                        geometry.strip_size);
        }
        if (reached == Reached::data) {
            std::memcpy(sim->model.data() + flight.request.offset, flight.data.data(), row_size);
        }
    }
    /// A new member takes the place of one that is lost.
    void rebuild_onto_new(std::uint32_t lost) {
        auto platter = sim->make_platter();
        sim->platters[lost] = platter;
        ASSERT_TRUE(sim->loop().run_until_done(
            sim->array->add_member(sim->disk(platter, SimArray::path_of(lost)), true)));
        sim->settle();
    }
    /// Row 1 of data strip `role` of stripe 30, on its member.
    std::uint64_t unreadable_row() const {
        return (SimArray::data_offset + 30 * 16384) / row_size + 1;
    }
    /// The member with data strip 0 of stripe 30 is rebuilt while a row of strip 1 cannot be read:
    /// its own row is void then, the other is to be tried again.
    void rebuild_beside_unreadable_row() {
        const std::uint32_t lost = member_of(30, 0);
        ASSERT_TRUE(
            sim->loop().run_until_done(sim->array->fail_member(std::to_string(lost), false)));
        sim->platters[member_of(30, 1)]->bad_rows.insert(unreadable_row());
        auto platter = sim->make_platter();
        ASSERT_TRUE(sim->loop().run_until_done(sim->array->replace_member(
            std::to_string(lost), sim->disk(platter, SimArray::path_of(lost)), false)));
        sim->platters[lost] = platter;
        sim->settle();
    }
    Errc read_error(std::uint64_t offset, std::uint64_t size) {
        Buffer into(size);
        const auto result = sim->read(offset, into);
        return result ? Errc::invalid : result.error().code;
    }
    bool reads_as_model(std::uint64_t offset, std::uint64_t size) {
        Buffer into(size);
        return sim->read(offset, into) &&
               std::memcmp(into.data(), sim->model.data() + offset, size) == 0;
    }
    std::unique_ptr<SimArray> sim;
};

TEST_F(Recovery, OnlyMarkedStripesAreReadAfterACrash) {
    start(shape(Level::raid5, 1));
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    const auto begun = sim->array->status();
    ASSERT_TRUE(begun.recovery);
    EXPECT_EQ(begun.recovery->stripes, 1U);
    sim->settle();
    const auto now = sim->array->status();
    EXPECT_EQ(now.recovery->stripes_left, 0U);
    EXPECT_EQ(now.recovery->rows_wrong, 1U);
    EXPECT_EQ(now.recovery->bytes_read, 4 * sim->geometry().strip_size);
    EXPECT_TRUE(now.bad.empty());
    sim->expect_parity();
    sim->expect_content();
    EXPECT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open());
    EXPECT_FALSE(sim->array->status().recovery) << "stopped cleanly";
}

Task<void> keep_opened(Task<Checked<std::unique_ptr<Array>>> task,
                       std::optional<Checked<std::unique_ptr<Array>>>* opened) {
    opened->emplace(co_await task);
}

TEST_F(Recovery, WhatAssemblyReadsIsDurableBeforeAnythingBuildsOnIt) {
    start(shape(Level::raid5, 3));
    Buffer data = random_bytes(sim->loop().rng(), stripe_size());
    ASSERT_TRUE(sim->write(offset_of(7, 0), data));
    sim->kill();  // the members' caches are as they were
    std::vector<std::uint64_t> done;
    std::vector<std::unique_ptr<Disk>> disks;
    for (std::size_t i = 0; i != sim->platters.size(); ++i) {
        EXPECT_FALSE(sim->platters[i]->unflushed.empty());
        done.push_back(sim->platters[i]->writes_done);
        disks.push_back(sim->disk(sim->platters[i], SimArray::path_of(i)));
    }
    const auto nothing_written = [&] {
        for (std::size_t i = 0; i != done.size(); ++i) {
            if (sim->platters[i]->writes_done != done[i]) return false;
        }
        return true;
    };
    std::optional<Checked<std::unique_ptr<Array>>> opened;
    sim->loop().tasks().spawn(
        keep_opened(Array::open(sim->loop().ready(), sim->loop(), std::move(disks), {}), &opened));
    while (!opened && nothing_written()) ASSERT_TRUE(sim->loop().step());
    ASSERT_FALSE(nothing_written());
    for (std::size_t i = 0; i != done.size(); ++i) {
        for (const auto& write : sim->platters[i]->unflushed) EXPECT_GT(write.sequence, done[i]);
    }
    while (!opened) ASSERT_TRUE(sim->loop().step());
    ASSERT_TRUE(*opened) << opened->error().text;
    sim->array = std::move(**opened);
}

TEST_F(Recovery, AMemberThatCannotFlushStillHasItsSay) {
    SimArrayOptions options = shape(Level::raid6, 4);
    options.members = 4;
    start(options);
    sim->kill();
    sim->platters[1]->fails_flushes = true;
    const auto opened = sim->open(all_but({2}));
    ASSERT_TRUE(opened) << opened.error().text << ": two of four would not be enough";
    EXPECT_EQ(sim->state_of(1), MemberState::faulty);
    sim->settle();
    sim->expect_content();
}

// The array's members are whole after the crash, and a client reads the new content; then the
// power goes again, and the member that it was read from. P and Q may not speak of the old content.
TEST_F(Recovery, WhatWasReadOfARowInDoubtIsWhatPAndQGive) {
    for (std::uint64_t seed = 600; seed != 616; ++seed) {
        SCOPED_TRACE(seed);
        start(shape(Level::raid6, seed));
        tear(7, 0, Reached::data);
        const bool before_the_resync = seed % 2 == 0;
        for (auto& platter : sim->platters) platter->reads_now = true;
        ASSERT_TRUE(sim->open());
        Buffer row(row_size);
        if (before_the_resync) {
            EXPECT_FALSE(sim->array->read_direct(offset_of(7, 0), row.span()));
        } else {
            while (sim->array->status().recovery->stripes_left != 0) {
                ASSERT_TRUE(sim->loop().step());
            }
        }
        ASSERT_TRUE(reads_as_model(offset_of(7, 0), row_size));
        sim->crash();
        ASSERT_TRUE(sim->open(all_but({member_of(7, 0)})));
        EXPECT_TRUE(reads_as_model(offset_of(7, 0), row_size));
        sim->settle();
        EXPECT_TRUE(reads_as_model(offset_of(7, 0), row_size));
        EXPECT_TRUE(sim->array->read_direct(offset_of(7, 1), row.span()));
        ASSERT_TRUE(sim->stop());
    }
}

TEST_F(Recovery, ASecondCrashBeforeTheResyncIsDoneFindsTheMarksAgain) {
    start(shape(Level::raid6, 2));
    tear(7, 0, Reached::parity);
    for (int i = 0; i != 3; ++i) {
        ASSERT_TRUE(sim->open());
        ASSERT_TRUE(sim->array->status().recovery);
        sim->crash();
    }
    ASSERT_TRUE(sim->open());
    sim->settle();
    sim->expect_parity();
    sim->expect_content();
}

TEST_F(Recovery, AStopBeforeTheResyncIsDoneIsNotAClean) {
    start(shape(Level::raid5, 3));
    tear(9, 2, Reached::data);
    ASSERT_TRUE(sim->open());
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open());
    EXPECT_TRUE(sim->array->status().recovery || sim->has_event("resync_done"));
    sim->settle();
    sim->expect_parity();
    sim->expect_content();
}

TEST_F(Recovery, WritesToStripesInDoubtMakeThemTrue) {
    start(shape(Level::raid5, 4));
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    Buffer data = random_bytes(sim->loop().rng(), 1000);
    ASSERT_TRUE(sim->write(offset_of(20, 2) + 300, data));
    ASSERT_TRUE(sim->write(offset_of(20, 1) + 50, data));
    sim->settle();
    sim->expect_parity();
    sim->expect_content();
}

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
    sim->settle();
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
        std::list<Flight> flights;
        const auto submit = [&](IoKind kind, std::uint64_t strips) {
            Flight& flight = flights.emplace_back();
            flight.data = random_bytes(sim->loop().rng(), strips * 16384);
            flight.request.kind = kind;
            flight.request.offset = offset_of(20, 0);
            flight.request.size = flight.data.size();
            flight.request.data = flight.data.data();
            flight.request.user = &flight;
            flight.request.done = [](IoRequest& request) {
                static_cast<Flight*>(request.user)->done = true;
            };
            sim->array->submit(flight.request);
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
        for (Flight& flight : flights) {
            while (!flight.done) ASSERT_TRUE(sim->loop().step());
        }
        ASSERT_TRUE(flights.front().request.ok);
        for (Flight& flight : flights) {
            if (!flight.request.ok) {
                EXPECT_EQ(flight.request.error.code, Errc::unknown);
            } else {
                EXPECT_EQ(std::memcmp(flight.data.data(), flights.front().data.data(), 16384), 0);
            }
        }
        EXPECT_TRUE(sim->stop());
    }
}

// The resync has nothing left to do there then, and passes nothing that could wake who waits for it.
TEST_F(Recovery, AWriteThatWaitsForTheResyncGoesOnWhenAnotherMakesItsRowsTrue) {
    for (std::uint64_t seed = 40; seed != 60; ++seed) {
        SCOPED_TRACE(seed);
        start(shape(Level::raid5, seed));
        tear(20, 1, Reached::data);
        ASSERT_TRUE(sim->open());
        Rng& rng = sim->loop().rng();
        std::list<Flight> flights;
        const auto submit = [&](std::uint64_t offset, std::uint64_t size) {
            Flight& flight = flights.emplace_back();
            flight.data = random_bytes(rng, size);
            flight.request.kind = IoKind::write;
            flight.request.offset = offset;
            flight.request.size = size;
            flight.request.data = flight.data.data();
            flight.request.user = &flight;
            flight.request.done = [](IoRequest& request) {
                static_cast<Flight*>(request.user)->done = true;
            };
            sim->array->submit(flight.request);
        };
        submit(offset_of(20, 2), row_size / 2);
        submit(offset_of(18, 0), 5 * stripe_size());  // all that was marked
        auto& silent = sim->platters[member_of(20, 0)];
        silent->delay_nanos = rng.below(20'000'000);
        silent->answers_no_reads = true;
        while (!flights.front().done || !flights.back().done) {
            ASSERT_TRUE(sim->loop().step());
            ASSERT_LT(sim->loop().now().value, seconds(600).value) << "a request waits for ever";
        }
        silent->answers_no_reads = false;
        EXPECT_TRUE(sim->stop());
    }
}

TEST_F(Recovery, AZeroedStripeIsKnownAgain) {
    start(shape(Level::raid5, 6));
    tear(20, 1, Reached::parity);
    ASSERT_TRUE(sim->open(all_but({member_of(20, 2)})));
    IoRequest zero;
    zero.kind = IoKind::zero;
    zero.offset = offset_of(19, 0);
    zero.size = 3 * stripe_size();
    ASSERT_TRUE(sim->run(zero));
    std::memset(sim->model.data() + zero.offset, 0, zero.size);
    EXPECT_TRUE(sim->array->status().configuration.bad_rows.empty());
    sim->expect_content();
    sim->settle();
    sim->expect_content();
}

// RAID-6 without one member: P and Q agree on every row but the torn one.
TEST_F(Recovery, TwoParitiesKnowWhichRowsWereTorn) {
    start(shape(Level::raid6, 7));
    tear(20, 1, Reached::data);
    const std::uint32_t lost = member_of(20, 0);
    ASSERT_TRUE(sim->open(all_but({lost})));
    Buffer small = random_bytes(sim->loop().rng(), 700);
    ASSERT_TRUE(sim->write(offset_of(20, 2) + 100, small)) << "waits until it is settled";
    sim->settle();
    const auto bad = sim->array->status().configuration.bad_rows;
    ASSERT_EQ(bad.size(), 1U);
    EXPECT_EQ(bad[0], (BadRange{MemberIndex{lost}, RowIndex{20 * 4}, 1, BadKind::retry}));
    EXPECT_EQ(read_error(offset_of(20, 0), 4096), Errc::unknown);
    EXPECT_TRUE(reads_as_model(offset_of(20, 0) + row_size, 3 * row_size));
    EXPECT_TRUE(reads_as_model(offset_of(20, 1), 2 * 16384));
}

TEST_F(Recovery, ReadsOfRowsInDoubtWaitUntilTheyAreDecided) {
    start(shape(Level::raid6, 8));
    // Only parity is new: both parities agree with each other, not with D1.
    tear(20, 1, Reached::parity);
    const std::uint32_t lost = member_of(20, 0);
    ASSERT_TRUE(sim->open(all_but({lost})));
    EXPECT_TRUE(reads_as_model(offset_of(20, 0) + row_size, 3 * row_size)) << "waited, was known";
    EXPECT_EQ(read_error(offset_of(20, 0), 512), Errc::unknown);
}

TEST_F(Recovery, AMemberLostDuringTheResyncTakesRowsInDoubtWithIt) {
    start(shape(Level::raid5, 9));
    tear(40, 1, Reached::data);
    for (auto& platter : sim->platters) platter->delay_nanos = 50'000'000;
    ASSERT_TRUE(sim->open());
    ASSERT_TRUE(sim->array->status().recovery->stripes_left != 0);
    const std::uint32_t lost = member_of(40, 2);
    const auto refused =
        sim->loop().run_until_done(sim->array->fail_member(std::to_string(lost), false));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("16384 bytes"), std::string::npos) << refused.error().text;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member(std::to_string(lost), true)));
    sim->settle();
    const auto bad = sim->array->status().configuration.bad_rows;
    ASSERT_FALSE(bad.empty());
    {
        EXPECT_EQ(bad[0], (BadRange{MemberIndex{lost}, RowIndex{40 * 4}, 4, BadKind::retry}));
        EXPECT_EQ(read_error(offset_of(40, 2), 512), Errc::unknown);
        EXPECT_TRUE(reads_as_model(offset_of(40, 0), 2 * 16384));
    }
}

TEST_F(Recovery, ALostParityStripMakesNothingUnknown) {
    start(shape(Level::raid4, 10));
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open(all_but({3})));
    sim->settle();
    EXPECT_TRUE(sim->array->status().configuration.bad_rows.empty());
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
    Flight flight;
    flight.data = Buffer(16384);
    flight.request.offset = offset_of(30, 1);
    flight.request.size = flight.data.size();
    flight.request.data = flight.data.data();
    flight.request.done = [](IoRequest&) {};
    sim->array->submit(flight.request);
    ASSERT_NO_FATAL_FAILURE(sim->crash_when_configured());
    ASSERT_TRUE(sim->open());
    sim->settle();
    ASSERT_EQ(sim->array->status().configuration.bad_rows.size(), 1U);
    const std::string third = std::to_string(member_of(30, 2));
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member(third, false)));
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
    sim->settle();
    EXPECT_TRUE(sim->has_event("bad_rows_joined"));
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

/// Marks in `stripes` stripes, every second one, none of them torn.
void mark_every_second(SimArray& sim, std::uint64_t stripes) {
    for (std::uint64_t s = 0; s < stripes; s += 2) {
        Buffer row = random_bytes(sim.loop().rng(), row_size);
        ASSERT_TRUE(sim.write(s * sim.geometry().stripe_data_size(), row));
    }
}

TEST_F(Recovery, ACleanStopLeavesOnlyWhatIsInDoubtInTheRecord) {
    SimArrayOptions options = shape(Level::raid6, 101);
    options.stripes = 400;
    start(options);
    mark_every_second(*sim, 180);
    tear(20, 1, Reached::data);
    for (auto& platter : sim->platters) platter->delay_nanos = 5'000'000;
    ASSERT_TRUE(sim->open(all_but({0})));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(offset_of(300, 0), row));
    ASSERT_NE(sim->array->status().recovery->stripes_left, 0U);
    ASSERT_TRUE(sim->stop());
    EXPECT_TRUE(sim->has_event("resync_left"));
    ASSERT_TRUE(sim->open(all_but({0, 1}))) << "another one is lost now";
    EXPECT_TRUE(reads_as_model(offset_of(300, 0), stripe_size())) << "was in no doubt";
}

TEST_F(Recovery, AHealedRowIsNotListedAgainAfterACleanStop) {
    SimArrayOptions options = shape(Level::raid5, 102);
    options.stripes = 400;
    start(options);
    mark_every_second(*sim, 180);
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

TEST_F(Recovery, ARequestWaitsForTheResyncEvenIfAPartOfItTakesLonger) {
    for (std::uint64_t seed = 0; seed != 40; ++seed) {
        start(shape(Level::raid6, 400 + seed));
        for (std::uint64_t at = 12; at <= 20; at += 2) {
            Buffer row = random_bytes(sim->loop().rng(), row_size);
            ASSERT_TRUE(sim->write(offset_of(at, 1), row));
        }
        flush();
        sim->crash();  // nothing is torn
        const std::uint32_t lost = member_of(20, 0);
        for (auto& platter : sim->platters) platter->delay_nanos = 5'000'000;
        ASSERT_TRUE(sim->open(all_but({lost})));
        Flight write;
        write.data = random_bytes(sim->loop().rng(), 2 * row_size - 1024);
        write.request.kind = IoKind::write;
        write.request.offset = offset_of(21, 0) - row_size + 512;
        write.request.size = write.data.size();
        write.request.data = write.data.data();
        write.request.user = &write;
        write.request.done = [](IoRequest& request) {
            static_cast<Flight*>(request.user)->done = true;
        };
        sim->array->submit(write.request);
        sim->loop().run_for(Nanos{5'000'000 + 100'000 * (seed % 20)});
        for (auto& platter : sim->platters) platter->delay_nanos = 50'000'000;
        while (!write.done) ASSERT_TRUE(sim->loop().step());
        EXPECT_TRUE(write.request.ok) << write.request.error.text();
        for (auto& platter : sim->platters) platter->delay_nanos = 0;
        sim->settle();
        ASSERT_TRUE(sim->stop());
    }
}

TEST_F(Recovery, AMemberLostInTheLastFlushDoesNotUndoTheFirstResync) {
    SimArrayOptions options = shape(Level::raid5, 105);
    options.zero_fast = false;
    sim = std::make_unique<SimArray>(options);
    sim->create();
    sim->intent.region = region;
    ASSERT_TRUE(sim->open());
    while (sim->array->status().walks.empty()) ASSERT_TRUE(sim->loop().step());
    while (!sim->array->status().walks.empty()) ASSERT_TRUE(sim->loop().step());
    sim->platters[2]->fails_flushes = true;
    sim->loop().run_for(seconds(20));
    EXPECT_FALSE(sim->array->status().configuration.resynced);
    ASSERT_TRUE(sim->stop());
    const auto again = sim->open(all_but({2}));
    ASSERT_TRUE(again) << again.error().text;
}

TEST_F(Recovery, AMemberLostInTheLastFlushLeavesNothingInDoubt) {
    start(shape(Level::raid5, 106));
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    while (sim->array->status().recovery->stripes_left != 0) ASSERT_TRUE(sim->loop().step());
    const std::uint32_t lost = member_of(20, 3);
    sim->platters[lost]->fails_flushes = sim->platters[lost]->fails_writes = true;
    sim->loop().run_for(seconds(20));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(offset_of(20, 1), row));
    flush();
    sim->loop().run_for(seconds(60));
    EXPECT_EQ(sim->array->status().intent.stripes_marked, 0U);
    sim->crash();
    ASSERT_TRUE(sim->open(all_but({lost})));
    EXPECT_TRUE(reads_as_model(0, sim->size()));
}

// It was away while the array went on; a record that it still has may be of a higher generation.
TEST_F(Recovery, AMemberThatComesBackBringsNoRecordsAlong) {
    start(shape(Level::raid5, 15));
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member("0", false)));
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->remove_member("0")));
    IntentRecord strange;
    strange.array = sim->array->configuration().array;
    strange.generation = 1000;
    strange.entries = {{0, 1, StripeIndex{59}}};
    const Buffer bytes = encode_intent(strange);
    std::memcpy(sim->platters[0]->content.data() + slots_end + intent_slot_offset(0, 1000),
                bytes.data(), bytes.size());
    ASSERT_TRUE(sim->loop().run_until_done(
        sim->array->add_member(sim->disk(sim->platters[0], "m0"), false)));
    sim->settle();
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    sim->settle();
    sim->expect_parity();
    sim->expect_content();
}

TEST_F(Recovery, WithoutTheIntentACrashMeansAResyncOfEverything) {
    SimArrayOptions options = shape(Level::raid5, 13);
    start(options);
    IntentChange off;
    off.on = false;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(off)));
    tear(20, 1, Reached::data);
    ASSERT_FALSE(sim->open(all_but({1}))) << "degraded, and nobody knows which stripes";
    ASSERT_TRUE(sim->open());
    EXPECT_TRUE(sim->array->status().configuration.resynced);
    sim->settle();
    sim->expect_parity();
    IntentChange on;
    on.on = true;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(on)));
    tear(30, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    EXPECT_FALSE(sim->array->status().configuration.resynced);
    EXPECT_EQ(sim->array->status().recovery->stripes, 1U);
    sim->settle();
    sim->expect_parity();
    sim->expect_content();
}

TEST_F(Recovery, TheRegionIsCheckedAndKept) {
    start(shape(Level::raid5, 14));
    IntentChange wrong;
    wrong.region = 100'000;
    EXPECT_FALSE(sim->loop().run_until_done(sim->array->change_intent(wrong)));
    IntentChange right;
    right.region = 256u << 10;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(right)));
    sim->intent = {};
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open());
    EXPECT_EQ(sim->array->status().intent.region, 256u << 10);
    tear(11, 0, Reached::data);
    ASSERT_TRUE(sim->open());
    EXPECT_EQ(sim->array->status().recovery->stripes, 5U);  // [10, 15)
}

}  // namespace
}  // namespace braid::sim
