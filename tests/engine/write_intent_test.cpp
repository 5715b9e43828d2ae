// SPDX-License-Identifier: BSD-3-Clause
// WriteIntent on members in memory, in virtual time: what is durable before a writer goes on, what
// one record serves, when marks go, and what happens when the record or a member is in the way.
#include "engine/intent/write_intent.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <list>
#include <memory>
#include <optional>

#include "tests/engine/plain_decider.h"
#include "tests/sim/sim_disk.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t data_offset = 4u << 20;

Geometry make_geometry(std::uint64_t stripes) {
    Geometry geometry;
    geometry.level = Level::raid5;
    geometry.member_count = 4;
    geometry.strip_size = 4096;
    geometry.stripes = stripes;
    geometry.window_rows = 1;
    return geometry;
}

/// A writer: holds a stripe until it is told to end.
struct Writer {
    StripeIndex stripe{};
    std::optional<Result<void>> ready;
    Event end;
    bool ended{false};
};

class WriteIntents : public testing::Test {
  protected:
    static constexpr std::uint64_t region = 64u << 10;  // 5 stripes of 12 KiB

    void make(std::uint64_t stripes = 1'000'000, std::vector<VolumeRecord> volumes = {}) {
        geometry = make_geometry(stripes);
        members = std::make_unique<Members>(geometry);
        members->set_quorum({geometry.member_count, geometry.parities()});
        decider = std::make_unique<test::PlainDecider>(*members);
        for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
            platters.push_back(std::make_shared<SimPlatter>(data_offset));
            members->slot(MemberIndex{i}).drive = std::make_unique<LocalDrive>(
                std::make_unique<SimDisk>(loop, platters.back(), "m" + std::to_string(i)));
            members->slot(MemberIndex{i}).area = {{data_offset}};
            members->set_state(MemberIndex{i}, MemberState::in_sync);
        }
        if (volumes.empty()) volumes = {{"data", StripeIndex{0}, stripes}};
        WriteIntent::Identity identity;
        identity.array = array;
        identity.volumes = volumes;
        intent = std::make_unique<WriteIntent>(loop, geometry, *members, *decider, identity);
        WriteIntent::Start start;
        start.settings.region = region;
        start.generation = 41;
        start.marked = marked;
        intent->start(start, tasks);
    }
    void TearDown() override {
        for (Writer& writer : writers) writer.end.set();
        intent->stop();
        bool joined = false;
        loop.tasks().spawn(join(&joined));
        while (!joined) ASSERT_TRUE(loop.step());
    }
    Task<void> join(bool* joined) {
        auto all = tasks.join();
        co_await all;
        *joined = true;
    }

    static Task<void> write(WriteIntent* intent, Writer* writer) {
        {
            WriteIntent::Hold hold(*intent, writer->stripe);
            writer->ready = co_await hold;
            auto end = writer->end.wait();
            co_await end;
        }
        writer->ended = true;
    }
    /// As on a node of a cluster, where whoever decides is another one.
    void all_but_the_first_fail(int error) {
        members->set_shared();
        decider->loses_at_once = false;
        for (const std::uint32_t member : {1U, 2U, 3U}) {
            platters[member]->fails_writes = true;
            platters[member]->write_error = error;
        }
    }
    static Task<void> rewrite(WriteIntent* intent, bool* kept) {
        *kept = (co_await intent->rewrite()).has_value();
    }
    Writer& begin(std::uint64_t stripe) {
        Writer& writer = writers.emplace_back();
        writer.stripe = StripeIndex{stripe};
        tasks.spawn(write(intent.get(), &writer));
        return writer;
    }
    void until(const std::function<bool()>& done) {
        while (!done()) ASSERT_TRUE(loop.step()) << "nothing will ever happen";
    }
    void until_ready(Writer& writer) {
        until([&] { return writer.ready.has_value(); });
    }
    void end(Writer& writer) {
        writer.end.set();
        until([&] { return writer.ended; });
    }
    /// The newest valid record of a member's slots that a power cut leaves.
    std::optional<IntentRecord> record_on(std::uint32_t member) {
        std::optional<IntentRecord> newest;
        for (std::uint32_t slot = 0; slot != intent_slots; ++slot) {
            const ByteView bytes = platters[member]->content.view().subspan(
                slots_end + slot * intent_slot_size, intent_slot_size);
            const auto record = decode_intent(bytes, slot);
            if (record && (!newest || record->generation > newest->generation)) newest = *record;
        }
        return newest;
    }
    static bool names(const std::optional<IntentRecord>& record, std::uint64_t stripe) {
        if (!record) return false;
        for (const IntentEntry& entry : record->entries) {
            if (raw(entry.first) <= stripe && stripe < raw(entry.first) + entry.count) return true;
        }
        return false;
    }

    Uuid array{};
    SimLoop loop{7};
    TaskGroup tasks{loop.ready()};
    Geometry geometry;
    std::vector<IntentEntry> marked;
    std::vector<std::shared_ptr<SimPlatter>> platters;
    std::unique_ptr<Members> members;
    std::unique_ptr<test::PlainDecider> decider;
    std::unique_ptr<WriteIntent> intent;
    std::list<Writer> writers;
};

TEST_F(WriteIntents, AWriterGoesOnWhenARecordOnTwoMembersNamesItsStripe) {
    make();
    Writer& writer = begin(123);
    until_ready(writer);
    ASSERT_TRUE(*writer.ready);
    Rng rng(3);
    for (auto& platter : platters) platter->cut_power(rng);  // FUA: it stays
    EXPECT_TRUE(names(record_on(0), 123));
    EXPECT_TRUE(names(record_on(1), 123));
    EXPECT_EQ(record_on(0)->generation, 42U);  // goes on from what was there
    EXPECT_FALSE(record_on(2)) << "RAID-5: one more than may be lost";
    EXPECT_TRUE(names(record_on(0), 120) && names(record_on(0), 124)) << "the whole region";
    EXPECT_FALSE(names(record_on(0), 119) || names(record_on(0), 125));
}

TEST_F(WriteIntents, OneRecordServesAllWhoCameWhileTheOneBeforeWasOnItsWay) {
    make();
    Writer& first = begin(0);
    until([&] { return platters[0]->writes + platters[1]->writes != 0; });  // on its way
    std::vector<Writer*> later;
    for (std::uint64_t i = 1; i != 50; ++i) later.push_back(&begin(i * 100));
    for (Writer* writer : later) until_ready(*writer);
    EXPECT_TRUE(first.ready);
    EXPECT_EQ(intent->status().records, 2U);
    EXPECT_EQ(record_on(0)->entries.size(), 50U);
}

TEST_F(WriteIntents, AMarkThatIsDurableCostsNothing) {
    make();
    Writer& first = begin(1000);
    until_ready(first);
    end(first);
    Writer& again = begin(1001);
    until_ready(again);
    EXPECT_EQ(intent->status().records, 1U);
}

TEST_F(WriteIntents, GenerationsAlternateBetweenTheSlots) {
    make();
    Writer& first = begin(0);
    until_ready(first);
    const Buffer before(platters[0]->content.view().subspan(slots_end, intent_slot_size));
    ASSERT_EQ(record_on(0)->generation, 42U);  // in slot 0
    Writer& second = begin(500);
    until_ready(second);
    EXPECT_EQ(record_on(0)->generation, 43U);
    const Buffer after(platters[0]->content.view().subspan(slots_end, intent_slot_size));
    EXPECT_TRUE(before == after) << "the generation before must stay as it is";
}

TEST_F(WriteIntents, AMarkStaysWhileItsWritesAreNotFlushedAndGoesAfterwards) {
    make();
    Writer& writer = begin(0);
    until_ready(writer);
    loop.run_for(seconds(30));
    EXPECT_TRUE(names(record_on(0), 0)) << "still being written";
    const std::uint64_t before = intent->status().flushes;
    end(writer);
    loop.run_for(seconds(30));
    EXPECT_FALSE(names(record_on(0), 0));
    EXPECT_EQ(intent->status().flushes, before + 1) << "flushed once, before it went";
    EXPECT_EQ(intent->status().stripes_marked, 0U);
    const std::uint64_t records = intent->status().records;
    loop.run_for(seconds(100));
    EXPECT_EQ(intent->status().records, records) << "nothing happens while nothing is marked";
}

TEST_F(WriteIntents, AFullRecordMakesRoomWithOneFlush) {
    make();
    for (std::uint64_t i = 0; i != intent_marks_max; ++i) {
        Writer& writer = begin(i * 10);
        until_ready(writer);
        end(writer);
    }
    EXPECT_EQ(intent->status().marks, intent_marks_max);
    const std::uint64_t before = intent->status().flushes;
    for (std::uint64_t i = 0; i != 500; ++i) {
        Writer& writer = begin(500'000 + i * 10);
        until_ready(writer);
        ASSERT_TRUE(*writer.ready);
        EXPECT_TRUE(names(record_on(0), 500'000 + i * 10));
        end(writer);
    }
    EXPECT_LE(intent->status().marks, intent_marks_max);
    EXPECT_LE(intent->status().flushes, before + 2);
}

TEST_F(WriteIntents, WritersWaitForRoomUntilOthersEnd) {
    make();
    std::vector<Writer*> all;
    for (std::uint64_t i = 0; i != intent_marks_max; ++i) all.push_back(&begin(i * 10));
    for (Writer* writer : all) until_ready(*writer);
    Writer& late = begin(700'000);
    until([&] { return intent->status().waiting == 1; });
    Writer& later = begin(800'000);
    loop.run_for(seconds(10));
    EXPECT_FALSE(late.ready || later.ready);
    EXPECT_EQ(intent->status().waiting, 2U);
    end(*all[17]);
    until_ready(late);
    EXPECT_FALSE(later.ready);
    end(*all[3]);
    until_ready(later);
    EXPECT_EQ(intent->status().waiting, 0U);
    EXPECT_TRUE(names(record_on(0), 700'000) && names(record_on(0), 800'000));
}

TEST_F(WriteIntents, AMemberThatFailsTheRecordIsLostAndAnotherTakesItsPlace) {
    make();
    platters[1]->fails_writes = true;
    Writer& writer = begin(77);
    until_ready(writer);
    ASSERT_TRUE(*writer.ready);
    EXPECT_EQ(members->slot(MemberIndex{1}).state, MemberState::faulty);
    EXPECT_TRUE(names(record_on(0), 77) && names(record_on(2), 77));
}

TEST_F(WriteIntents, WhereThereIsNoRoomForARecordItsWritersAreToldAndItIsTriedAgain) {
    make();
    Writer& before = begin(1000);
    until_ready(before);
    ASSERT_EQ(record_on(1)->generation, 42U);
    for (std::uint64_t row = slots_end / row_size; row != data_offset / row_size; ++row) {
        platters[1]->holes.insert(row);
    }
    platters[1]->full = true;
    Writer& first = begin(10);
    until([&] { return platters[0]->writes + platters[1]->writes > 2; });  // on its way
    Writer& second = begin(20);
    Writer& neighbour = begin(11);
    for (Writer* writer : {&first, &second, &neighbour}) {
        until_ready(*writer);
        ASSERT_FALSE(*writer->ready);
        EXPECT_EQ(writer->ready->error().code, Errc::full);
        end(*writer);
    }
    EXPECT_EQ(members->slot(MemberIndex{1}).state, MemberState::in_sync);
    EXPECT_EQ(record_on(1)->generation, 42U) << "what it had is left alone";
    Writer& again = begin(1001);
    until_ready(again);
    EXPECT_TRUE(*again.ready) << "that is marked durably";
    Writer& refused = begin(10);
    until_ready(refused);
    EXPECT_FALSE(*refused.ready);
    platters[1]->full = false;
    Writer& last = begin(10);
    until_ready(last);
    EXPECT_TRUE(*last.ready);
    for (const std::uint32_t member : {0U, 1U}) {
        EXPECT_EQ(record_on(member)->generation, 43U) << "nothing began under it before";
        EXPECT_TRUE(names(record_on(member), 10) && names(record_on(member), 1000));
    }
    Writer& next = begin(20);
    until_ready(next);
    EXPECT_TRUE(*next.ready);
}

TEST_F(WriteIntents, WhoWaitsForARecordAfterItWasRefusedIsTold) {
    make();
    for (std::uint64_t row = slots_end / row_size; row != data_offset / row_size; ++row) {
        platters[0]->holes.insert(row);
    }
    platters[0]->full = true;
    WriteIntent::Hold early(*intent, StripeIndex{500});  // waits later than it was made
    until([&] { return intent->status().records == 1; });
    EXPECT_FALSE(early.await_ready());
    Writer& same = begin(501);  // the same mark
    until_ready(same);
    ASSERT_FALSE(*same.ready);
    EXPECT_EQ(same.ready->error().code, Errc::full);
    bool kept = true;
    const std::uint64_t records = intent->status().records;
    tasks.spawn(rewrite(intent.get(), &kept));
    until([&] { return intent->status().records != records; });
    loop.run_for(millis(1));
    EXPECT_FALSE(kept);
}

TEST_F(WriteIntents, WhenTheArrayFailsEverybodyIsTold) {
    make();
    for (auto& platter : platters) platter->fails_writes = true;
    Writer& writer = begin(77);
    until_ready(writer);
    EXPECT_FALSE(*writer.ready);
}

// In a cluster: the homes of three of four members are cut off, and no word has come of what becomes of
// them. A record needs two.
TEST_F(WriteIntents, WhatNoMemberIsToBlameForIsWaitedFor) {
    make();
    all_but_the_first_fail(ECONNRESET);
    Writer& writer = begin(77);
    bool kept = true;
    tasks.spawn(rewrite(intent.get(), &kept));
    loop.run_for(seconds(5));
    EXPECT_FALSE(writer.ready) << "neither refused, nor under a record that one member has";
    EXPECT_FALSE(kept) << "who would go on without is told";
    EXPECT_FALSE(decider->told_of_write);
    members->set_state(MemberIndex{1}, MemberState::missing);
    intent->members_changed();
    loop.run_for(millis(100));
    EXPECT_FALSE(writer.ready) << "two are still needed";
    for (auto& platter : platters) platter->heal();
    until_ready(writer);
    ASSERT_TRUE(*writer.ready);
    EXPECT_TRUE(names(record_on(0), 77));
    EXPECT_TRUE(names(record_on(2), 77) || names(record_on(3), 77));
}

TEST_F(WriteIntents, AMemberThatWillBeLostIsWaitedFor) {
    make();
    all_but_the_first_fail(EIO);
    Writer& writer = begin(77);
    loop.run_for(seconds(5));
    EXPECT_FALSE(writer.ready);
    EXPECT_TRUE(decider->told_of_write);
    members->set_state(MemberIndex{1}, MemberState::faulty);
    platters[2]->heal();
    intent->members_changed();
    loop.run_for(millis(100));  // less than a tick
    ASSERT_TRUE(writer.ready);
    EXPECT_TRUE(*writer.ready);
    EXPECT_TRUE(names(record_on(0), 77) && names(record_on(2), 77));
}

TEST_F(WriteIntents, AMemberThatIsNeededAndFailsTheRecordIsNotWaitedFor) {
    make();
    members->set_state(MemberIndex{3}, MemberState::missing);
    all_but_the_first_fail(EIO);
    Writer& writer = begin(77);
    until_ready(writer);
    ASSERT_FALSE(*writer.ready);
    EXPECT_EQ(writer.ready->error().code, Errc::io);
}

TEST_F(WriteIntents, WhoWaitsForAMemberIsToldWhenTheArrayEndsOnThisNode) {
    make();
    all_but_the_first_fail(ECONNRESET);
    Writer& writer = begin(77);
    loop.run_for(seconds(5));
    ASSERT_FALSE(writer.ready);
    members->halt();
    intent->array_failed();
    until_ready(writer);
    EXPECT_FALSE(*writer.ready);
}

/// TearDown() waits until the background has ended.
TEST_F(WriteIntents, AStopWaitsForNoMember) {
    for (const std::uint64_t nanos : {0U, 1'500'000U, 100'000'000U}) {
        SCOPED_TRACE(nanos);
        make();
        all_but_the_first_fail(ECONNRESET);
        bool kept = true;
        tasks.spawn(rewrite(intent.get(), &kept));
        loop.run_for(Nanos{nanos});
        intent->stop();
        bool joined = false;
        loop.tasks().spawn(join(&joined));
        until([&] { return joined; });
        platters.clear();
    }
}

TEST_F(WriteIntents, WhoAsksForARecordIsAnsweredEachTime) {
    make();
    all_but_the_first_fail(ECONNRESET);
    for (int i = 0; i != 3; ++i) {
        bool kept = true;
        tasks.spawn(rewrite(intent.get(), &kept));
        until([&] { return !kept; });
    }
    for (auto& platter : platters) platter->heal();
    bool kept = false;
    tasks.spawn(rewrite(intent.get(), &kept));
    until([&] { return kept; });
}

TEST_F(WriteIntents, WhatWasInDoubtStaysInTheRecordUntilItIsTrue) {
    marked = {{0, 20, StripeIndex{100}}, {0, 5, StripeIndex{300}}};
    make();
    Writer& writer = begin(0);
    until_ready(writer);
    EXPECT_TRUE(names(record_on(0), 100) && names(record_on(0), 119) && names(record_on(0), 304));
    intent->retire_before(StripeIndex{110});
    EXPECT_EQ(intent->stripes_carried(), 15U);
    intent->retire_before(StripeIndex{400});
    EXPECT_FALSE(intent->has_carried());
    until([&] { return intent->status().records == 2; });
    EXPECT_FALSE(names(record_on(0), 115) || names(record_on(0), 300));
    EXPECT_TRUE(names(record_on(0), 0));
}

TEST_F(WriteIntents, WhatIsListedElsewhereIsInDoubtNoMore) {
    marked = {{0, 10, StripeIndex{100}}, {0, 10, StripeIndex{200}}, {0, 10, StripeIndex{300}}};
    make();
    intent->retire_from(StripeIndex{204});
    EXPECT_TRUE(intent->is_carried(StripeIndex{109}));
    EXPECT_TRUE(intent->is_carried(StripeIndex{203}));
    EXPECT_FALSE(intent->is_carried(StripeIndex{204}));
    EXPECT_FALSE(intent->is_carried(StripeIndex{300}));
    intent->retire_from(StripeIndex{150});
    EXPECT_EQ(intent->stripes_carried(), 10U);
    intent->retire_from(StripeIndex{0});
    EXPECT_FALSE(intent->has_carried());
}

TEST_F(WriteIntents, RegionsEndWithTheirVolume) {
    make(1000, {{"a", StripeIndex{3}, 7}, {"b", StripeIndex{10}, 100}});
    Writer& in_a = begin(9);   // a: [3, 10) in regions of 5: [3, 8), [8, 10)
    Writer& in_b = begin(10);  // b: [10, 15)
    Writer& before = begin(0);
    Writer& behind = begin(999);
    for (Writer* writer : {&in_a, &in_b, &before, &behind}) until_ready(*writer);
    const auto record = record_on(0);
    ASSERT_TRUE(record);
    const std::vector<IntentEntry> expected{{intent_no_volume, 3, StripeIndex{0}},
                                            {0, 2, StripeIndex{8}},
                                            {1, 5, StripeIndex{10}},
                                            {intent_no_volume, 5, StripeIndex{995}}};
    EXPECT_EQ(record->entries, expected);
}

TEST_F(WriteIntents, AnotherSizeOfRegionsLeavesNoStripeUnmarked) {
    make();
    Writer& before = begin(2);
    until_ready(before);
    intent->set_region(256u << 10);
    Writer& after = begin(12);  // [0, 21), which starts where the old region starts
    until_ready(after);
    EXPECT_TRUE(names(record_on(0), 2) && names(record_on(0), 12) && names(record_on(0), 20));
    end(before);
    EXPECT_TRUE(names(record_on(0), 2));
}

TEST_F(WriteIntents, SwitchedOffNothingIsWaitedForAndSwitchedOnEverythingIsCovered) {
    make();
    intent->set_on(false);
    Writer& unmarked = begin(5);
    until_ready(unmarked);
    EXPECT_EQ(intent->status().records, 0U);
    intent->set_on(true);
    EXPECT_EQ(intent->unmarked(), 1U);
    Writer& marked_one = begin(6);
    until_ready(marked_one);
    EXPECT_TRUE(names(record_on(0), 6));
    end(unmarked);
    EXPECT_EQ(intent->unmarked(), 0U);
    EXPECT_TRUE(intent->unmarked_ended().is_set());
}

}  // namespace
}  // namespace braid::sim
