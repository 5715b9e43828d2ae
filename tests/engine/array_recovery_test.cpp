// SPDX-License-Identifier: BSD-3-Clause
// After a crash: what is in doubt and made true, what a lost member takes with it, and the settings
// of the write intent.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/metadata/areas.h"
#include "tests/engine/recovery_fixture.h"

namespace braid::sim {
namespace {

TEST_F(Recovery, OnlyMarkedStripesAreReadAfterACrash) {
    start(shape(Level::raid5, 1));
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    const auto begun = sim->array->status();
    ASSERT_TRUE(begun.recovery);
    EXPECT_EQ(begun.recovery->stripes, 1U);
    sim->come_to_rest();
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
    sim->come_to_rest();
    sim->expect_content();
}

/// Both slots of a member, and its promises.
std::string register_of(const SimPlatter& platter) {
    std::string bytes;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        const ByteView at = platter.content.view().subspan(slot_offset(slot), slot_size);
        bytes.append(reinterpret_cast<const char*>(at.data()), at.size());
    }
    for (std::uint32_t slot = 0; slot != promise_slot_count; ++slot) {
        const ByteView at =
            platter.content.view().subspan(promise_slot_offset(slot), promise_slot_size);
        bytes.append(reinterpret_cast<const char*>(at.data()), at.size());
    }
    return bytes;
}

/// Each start that got further would write the other one of two slots, and of what only a cache holds the
/// power leaves nothing.
TEST_F(Recovery, StartsThatFailLeaveAMemberThatCannotFlushAsItWas) {
    start(shape(Level::raid5, 3));
    sim->kill();
    for (const std::size_t member : {1U, 2U}) sim->platters[member]->fails_flushes = true;
    const std::string held[] = {register_of(*sim->platters[1]), register_of(*sim->platters[2])};
    for (int again = 0; again != 3; ++again) {
        const auto opened = sim->open();
        ASSERT_FALSE(opened) << "two of them do not take their metadata";
        EXPECT_TRUE(register_of(*sim->platters[1]) == held[0]);
        EXPECT_TRUE(register_of(*sim->platters[2]) == held[1]);
    }
    for (const std::size_t member : {1U, 2U}) sim->platters[member]->heal();
    sim->crash();  // now the power goes
    const auto opened = sim->open();
    ASSERT_TRUE(opened) << opened.error().text;
    sim->come_to_rest();
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
            EXPECT_FALSE(sim->array->read_direct({offset_of(7, 0)}, row.span()));
        } else {
            while (sim->array->status().recovery->stripes_left != 0) {
                ASSERT_TRUE(sim->loop().step());
            }
        }
        ASSERT_TRUE(reads_as_model(offset_of(7, 0), row_size));
        sim->crash();
        ASSERT_TRUE(sim->open(all_but({member_of(7, 0)})));
        EXPECT_TRUE(reads_as_model(offset_of(7, 0), row_size));
        sim->come_to_rest();
        EXPECT_TRUE(reads_as_model(offset_of(7, 0), row_size));
        EXPECT_TRUE(sim->array->read_direct({offset_of(7, 1)}, row.span()));
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
    sim->come_to_rest();
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
    sim->come_to_rest();
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
    sim->come_to_rest();
    sim->expect_parity();
    sim->expect_content();
}

// The resync has nothing left to do there then, and passes nothing that could wake who waits for it.
TEST_F(Recovery, AWriteThatWaitsForTheResyncGoesOnWhenAnotherMakesItsRowsTrue) {
    for (std::uint64_t seed = 40; seed != 60; ++seed) {
        SCOPED_TRACE(seed);
        start(shape(Level::raid5, seed));
        tear(20, 1, Reached::data);
        ASSERT_TRUE(sim->open());
        Rng& rng = sim->loop().rng();
        Asked waiting;
        sim->ask(waiting, IoKind::write, offset_of(20, 2), random_bytes(rng, row_size / 2));
        Asked all_marked;
        sim->ask(all_marked, IoKind::write, offset_of(18, 0), random_bytes(rng, 5 * stripe_size()));
        auto& silent = sim->platters[member_of(20, 0)];
        silent->delay_nanos = rng.below(20'000'000);
        silent->answers_no_reads = true;
        while (!waiting.done || !all_marked.done) {
            ASSERT_TRUE(sim->loop().step());
            ASSERT_LT(sim->loop().now().value, seconds(600).value) << "a request waits for ever";
        }
        silent->answers_no_reads = false;
        EXPECT_TRUE(sim->stop());
    }
}

// Its strips are computed and rewritten, and parity stays true: nothing is in doubt by that. With a
// mark, a crash and one member away would cost every row that the scrub has passed.
TEST_F(Recovery, AScrubOfAMemberThatAnswersNoReadsMarksNothing) {
    start(shape(Level::raid5, 31));
    sim->platters[1]->answers_no_reads = true;
    ASSERT_TRUE(sim->scrub(ScrubMode::compare));
    std::uint64_t marked = 0;
    while (!sim->array->status().walks.empty()) {
        ASSERT_TRUE(sim->loop().step());
        marked = std::max(marked, sim->array->status().intent.stripes_marked);
    }
    EXPECT_EQ(marked, 0U);
    EXPECT_EQ(sim->array->status().counters.reads_corrected, 60U * 4);
    sim->platters[1]->answers_no_reads = false;
    sim->expect_parity();
    sim->expect_content();
}

// RAID-6 without one member: P and Q agree on every row but the torn one.
TEST_F(Recovery, TwoParitiesKnowWhichRowsWereTorn) {
    start(shape(Level::raid6, 7));
    tear(20, 1, Reached::data);
    const std::uint32_t lost = member_of(20, 0);
    ASSERT_TRUE(sim->open(all_but({lost})));
    Buffer small = random_bytes(sim->loop().rng(), 700);
    ASSERT_TRUE(sim->write(offset_of(20, 2) + 100, small)) << "waits until it is made true";
    sim->come_to_rest();
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
        sim->loop().run_until_done(sim->array->fail_member(std::to_string(lost), Force::no));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("16384 bytes"), std::string::npos) << refused.error().text;
    ASSERT_TRUE(
        sim->loop().run_until_done(sim->array->fail_member(std::to_string(lost), Force::yes)));
    sim->come_to_rest();
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
    sim->come_to_rest();
    EXPECT_TRUE(sim->array->status().configuration.bad_rows.empty());
    sim->expect_content();
}

TEST_F(Recovery, ACleanStopLeavesOnlyWhatIsInDoubtInTheRecord) {
    SimArrayOptions options = shape(Level::raid6, 101);
    options.stripes = 400;
    start(options);
    mark_every_second(180);
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
        Asked write;
        sim->ask(write, IoKind::write, offset_of(21, 0) - row_size + 512,
                 random_bytes(sim->loop().rng(), 2 * row_size - 1024));
        sim->loop().run_for(Nanos{5'000'000 + 100'000 * (seed % 20)});
        for (auto& platter : sim->platters) platter->delay_nanos = 50'000'000;
        ASSERT_NO_FATAL_FAILURE(sim->wait_for(write));
        EXPECT_TRUE(write.request.ok) << write.request.error.text();
        for (auto& platter : sim->platters) platter->delay_nanos = 0;
        sim->come_to_rest();
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
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member("0", Force::no)));
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->remove_member("0")));
    IntentRecord strange;
    strange.array = sim->array->configuration().array;
    strange.generation = 1000;
    strange.entries = {{0, 1, StripeIndex{59}}};
    const Buffer bytes = encode_intent(strange);
    std::memcpy(sim->platters[0]->content.data() + slots_end + intent_slot_offset(0, 1000),
                bytes.data(), bytes.size());
    ASSERT_TRUE(sim->loop().run_until_done(
        sim->array->add_member(sim->disk(sim->platters[0], "m0"), Force::no)));
    sim->come_to_rest();
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    tear(20, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    sim->come_to_rest();
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
    sim->come_to_rest();
    sim->expect_parity();
    IntentChange on;
    on.on = true;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->change_intent(on)));
    tear(30, 1, Reached::data);
    ASSERT_TRUE(sim->open());
    EXPECT_FALSE(sim->array->status().configuration.resynced);
    EXPECT_EQ(sim->array->status().recovery->stripes, 1U);
    sim->come_to_rest();
    sim->expect_parity();
    sim->expect_content();
}

/// Found by the simulator: switched off while marks were left, and stopped, the array could not start
/// without a member that it could do without before.
TEST_F(Recovery, TheIntentIsNotSwitchedOffWhileItAloneTellsWhatIsInDoubt) {
    start(shape(Level::raid5, 15));
    tear(20, 1, Reached::data);
    sim->intent.on = false;
    ASSERT_TRUE(sim->open());
    sim->platters[2]->answers_no_reads = true;  // the resync waits
    EXPECT_TRUE(sim->has_event("intent_stays"));
    EXPECT_TRUE(sim->array->status().intent.on);
    IntentChange off;
    off.on = false;
    const auto refused = sim->loop().run_until_done(sim->array->change_intent(off));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("Wait for the resync"), std::string::npos);
    sim->kill();
    sim->platters[2]->answers_no_reads = false;
    ASSERT_TRUE(sim->open(all_but({0}))) << "what is marked is in doubt, and no more";
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open());
    sim->come_to_rest();
    EXPECT_TRUE(sim->loop().run_until_done(sim->array->change_intent(off)));
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
