// SPDX-License-Identifier: BSD-3-Clause
// StripeJobs on members in memory, in virtual time: in which order a write gets its mark and its
// rows, and what can come between. Nobody has rows while he waits for a mark; who has them keeps
// the mark; whatever else happens meanwhile, each part is answered once and in its turn.
#include "engine/stripes/stripe_jobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <list>
#include <memory>
#include <optional>

#include "engine/stripes/row_write.h"
#include "tests/engine/plain_decider.h"
#include "tests/sim/sim_disk.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t data_offset = 4u << 20;
constexpr std::uint64_t delay = 50'000'000;  // far more than an operation takes otherwise

Geometry make_geometry() {
    Geometry geometry;
    geometry.level = Level::raid5;
    geometry.member_count = 4;
    geometry.strip_size = 16 * row_size;
    geometry.stripes = 64;
    geometry.window_rows = 16;
    return geometry;
}

/// One write of a client's, in one window.
struct Write {
    explicit Write(std::uint64_t size) : data(size) {
        std::ranges::fill(data.span(), std::byte{0x5a});
    }
    IoRequest request;
    Part part;
    Buffer data;
    std::optional<Result<void>> answer;
};

class StripeJobsTest : public testing::Test, public PartSink {
  protected:
    void SetUp() override {
        for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
            platters.push_back(
                std::make_shared<SimPlatter>(data_offset + geometry.stripes * geometry.strip_size));
            members.slot(MemberIndex{i}).drive = std::make_unique<LocalDrive>(
                std::make_unique<SimDisk>(loop, platters.back(), "m" + std::to_string(i)));
            members.slot(MemberIndex{i}).area = {{data_offset}};
            members.set_state(MemberIndex{i}, MemberState::in_sync);
            platters.back()->notes_touched = true;
        }
        WriteIntent::Start start;
        start.settings.region = geometry.stripe_data_size();
        intent->start(start, tasks);
        jobs = std::make_unique<StripeJobs>(context, *this, tasks);
    }
    void TearDown() override {
        jobs->stop();
        intent->stop();
        bool joined = false;
        loop.tasks().spawn(join(&joined));
        until([&] { return joined; });
        EXPECT_EQ(claims.entries_in_use(), 0U);
        EXPECT_EQ(pool.used(), 0U);
    }
    Task<void> join(bool* joined) {
        auto all = tasks.join();
        co_await all;
        *joined = true;
    }
    void until(const std::function<bool()>& done) {
        while (!done()) ASSERT_TRUE(loop.step()) << "nothing will ever happen";
    }
    void part_done(Part& part, const Result<void>& result) override {
        for (Write& write : writes) {
            if (&write.part != &part) continue;
            EXPECT_FALSE(write.answer.has_value());
            write.answer = result;
        }
    }

    /// Rows [first, first + count) of the first data strip of a stripe.
    struct StripeRows {
        std::uint64_t stripe{0};
        std::uint32_t first{0};
        std::uint32_t count{1};
    };
    Write& write(StripeRows rows) {
        const auto [stripe, first, count] = rows;
        Write& one = writes.emplace_back(count * row_size);
        one.request.kind = IoKind::write;
        one.request.offset = {stripe * geometry.stripe_data_size() + first * row_size};
        one.request.size = count * row_size;
        one.request.data = one.data.data();
        one.part.request = &one.request;
        one.part.begin = first * row_size;
        one.part.end = (first + count) * row_size;
        one.part.cover(geometry, 0, geometry.data_roles());
        claims.add(one.part, {StripeIndex{stripe}, 0});
        return one;
    }
    void until_answered(const Write& one) {
        until([&] { return one.answer.has_value(); });
    }
    /// Whether anything behind the metadata was written.
    bool wrote_strips() const {
        return std::ranges::any_of(platters, [](const auto& platter) {
            return std::ranges::any_of(
                platter->touched, [](std::uint64_t row) { return row >= data_offset / row_size; });
        });
    }
    std::uint64_t reads() const {
        std::uint64_t sum = 0;
        for (const auto& platter : platters) sum += platter->reads;
        return sum;
    }
    /// What a start would find: the newest record on any member names the stripe.
    bool is_named(std::uint64_t stripe) const {
        std::optional<IntentRecord> newest;
        for (const auto& platter : platters) {
            for (std::uint32_t slot = 0; slot != intent_slots; ++slot) {
                const ByteView bytes = platter->content.view().subspan(
                    slots_end + slot * intent_slot_size, intent_slot_size);
                const auto record = decode_intent(bytes, slot);
                if (record && (!newest || record->generation > newest->generation)) {
                    newest = *record;
                }
            }
        }
        return newest && std::ranges::any_of(newest->entries, [&](const IntentEntry& entry) {
                   return raw(entry.first) <= stripe && stripe < raw(entry.first) + entry.count;
               });
    }
    void set_delay(std::uint64_t nanos) {
        for (const auto& platter : platters) platter->delay_nanos = nanos;
    }
    /// Runs until the record that marks what was written last is under way.
    void until_record_under_way() {
        until([&] {
            return std::ranges::any_of(
                platters, [](const auto& platter) { return !platter->flights.empty(); });
        });
        loop.run_for(Nanos{delay / 4});  // all else that could happen beside it has happened
    }
    /// A claim like a degraded read's, until it is told to end.
    struct Claim {
        bool held{false};
        bool ended{false};
        Event end;
    };
    static Task<void> keep_rows(RowClaims* claims, Claim* claim, WindowPlace place, RowMask rows) {
        RowClaim own(*claims, place, rows);
        co_await own;
        claim->held = true;
        auto end = claim->end.wait();
        co_await end;
    }
    static Task<void> hold_rows(RowClaims* claims, Claim* claim, WindowPlace place, RowMask rows) {
        co_await keep_rows(claims, claim, place, rows);
        claim->ended = true;
    }
    /// Like zeroes: the mark first, then the rows.
    static Task<void> hold_mark_and_rows(WriteIntent* intent, RowClaims* claims, Claim* claim,
                                         WindowPlace place, RowMask rows) {
        {
            WriteIntent::Hold hold(*intent, place.stripe);
            const Result<void> marked = co_await hold;
            EXPECT_TRUE(marked.has_value());
            co_await keep_rows(claims, claim, place, rows);
        }
        claim->ended = true;
    }
    void let_go(Claim& claim) {
        claim.end.set();
        until([&] { return claim.ended; });
    }

    const Geometry geometry{make_geometry()};
    SimLoop loop{11};
    TaskGroup tasks{loop.ready()};
    std::vector<std::shared_ptr<SimPlatter>> platters;
    Members members{geometry};
    test::PlainDecider decider{members};
    RowClaims claims{geometry};
    BufferPool pool{job_size_max};
    BadRows bad{geometry, {}};
    Counters counters;
    std::unique_ptr<WriteIntent> intent{std::make_unique<WriteIntent>(
        loop, geometry, members, decider,
        WriteIntent::Identity{{}, 0, {{"data", StripeIndex{0}, geometry.stripes}}})};
    const StripeContext context{geometry, members, claims,   pool, decider,
                                *intent,  bad,     counters, false};
    std::unique_ptr<StripeJobs> jobs;
    std::list<Write> writes;
    std::list<Claim> held;
};

TEST_F(StripeJobsTest, NobodyHasRowsWhileHeWaitsForAMark) {
    set_delay(delay);
    const Write& one = write({.stripe = 5});
    until_record_under_way();
    // Neither its old content is read, nor is anything of its own claimed or leased.
    EXPECT_EQ(reads(), 0U);
    EXPECT_EQ(pool.used(), 0U);
    Claim& beside = held.emplace_back();
    tasks.spawn(hold_rows(&claims, &beside, {StripeIndex{5}, 0}, row_range(1, 15)));
    until([&] { return beside.held; });
    EXPECT_EQ(reads(), 0U);
    EXPECT_FALSE(is_named(5));
    until_answered(one);
    EXPECT_TRUE(one.answer->has_value());
    EXPECT_TRUE(is_named(5));
    let_go(beside);
}

TEST_F(StripeJobsTest, WhatComesWhileTheMarkIsAwaitedSharesItsJob) {
    set_delay(delay);
    const Write& first = write({.stripe = 5});
    until_record_under_way();
    const Write& second = write({.stripe = 5, .first = 1});
    const Write& elsewhere = write({.stripe = 6});  // waits for the next record
    until_answered(first);
    until_answered(second);
    until_answered(elsewhere);
    EXPECT_EQ(counters.jobs, 2U);
    EXPECT_EQ(counters.parts_merged, 2U);
    EXPECT_EQ(intent->status().records, 2U);
}

TEST_F(StripeJobsTest, OneRecordServesAllWhoCameWhileTheOneBeforeWasOnItsWay) {
    for (std::uint64_t stripe = 0; stripe != 40; ++stripe) write({.stripe = stripe});
    for (const Write& one : writes) until_answered(one);
    EXPECT_LE(intent->status().records, 2U);
}

TEST_F(StripeJobsTest, AClaimThatComesLaterWaitsBehindAWriteThatWaitsForItsMark) {
    set_delay(delay);
    const Write& one = write({.stripe = 5, .count = 2});
    until_record_under_way();
    Claim& later = held.emplace_back();
    tasks.spawn(hold_rows(&claims, &later, {StripeIndex{5}, 0}, row_range(1, 2)));
    loop.run_for(Nanos{delay / 4});
    EXPECT_FALSE(later.held);
    until([&] { return later.held; });
    EXPECT_EQ(counters.jobs, 1U);
    EXPECT_TRUE(wrote_strips());
    let_go(later);
    until_answered(one);
}

TEST_F(StripeJobsTest, AWriteWhoseRowsAreNotFreeAsksForNoMark) {
    Claim& first = held.emplace_back();
    tasks.spawn(hold_rows(&claims, &first, {StripeIndex{5}, 0}, row_range(0, 1)));
    until([&] { return first.held; });
    const Write& one = write({.stripe = 5});
    loop.run_for(Nanos{delay});
    EXPECT_EQ(intent->status().records, 0U);
    let_go(first);
    until_answered(one);
    EXPECT_TRUE(one.answer->has_value());
    EXPECT_TRUE(is_named(5));
}

// Zeroes, a walk: marked, and then the rows are not free for so long that everything is flushed
// and the mark would be taken out of the record by age.
TEST_F(StripeJobsTest, AMarkStaysWhileItsHolderWaitsForRows) {
    Claim& first = held.emplace_back();
    tasks.spawn(hold_rows(&claims, &first, {StripeIndex{5}, 0}, row_range(0, 4)));
    until([&] { return first.held; });
    Claim& zeroes = held.emplace_back();
    tasks.spawn(
        hold_mark_and_rows(intent.get(), &claims, &zeroes, {StripeIndex{5}, 0}, row_range(0, 16)));
    until([&] { return is_named(5); });
    for (std::uint64_t stripe = 10; stripe != 14;
         ++stripe) {  // records, in which it could be left out
        loop.run_for(Nanos{3 * WriteIntent::tick_nanos});
        ASSERT_TRUE(loop.run_until_done(intent->flush()).has_value());
        intent->drop_clean();
        until_answered(write({.stripe = stripe}));
        EXPECT_TRUE(is_named(5));
    }
    EXPECT_FALSE(zeroes.held);
    EXPECT_FALSE(is_named(10));
    let_go(first);
    until([&] { return zeroes.held; });
    EXPECT_TRUE(is_named(5));
    let_go(zeroes);
}

TEST_F(StripeJobsTest, WhoseMarkIsRefusedIsToldAndNothingIsWritten) {
    for (const auto& platter : platters) {
        platter->full = true;
        for (std::uint64_t row = 0; row != data_offset / row_size; ++row)
            platter->holes.insert(row);
    }
    const Write& one = write({.stripe = 5});
    const Write& two = write({.stripe = 5, .first = 1});
    until_answered(one);
    until_answered(two);
    ASSERT_FALSE(one.answer->has_value());
    EXPECT_EQ(one.answer->error().code, Errc::full);
    ASSERT_FALSE(two.answer->has_value());
    EXPECT_FALSE(wrote_strips());
    for (const auto& platter : platters) platter->full = false;
    const Write& again = write({.stripe = 5});
    until_answered(again);
    EXPECT_TRUE(again.answer->has_value());
    EXPECT_TRUE(is_named(5));
}

TEST_F(StripeJobsTest, WhenTheArrayFailsMeanwhileNothingIsWritten) {
    set_delay(delay);
    const Write& one = write({.stripe = 5});
    until_record_under_way();
    members.halt();
    intent->array_failed();
    until_answered(one);
    ASSERT_FALSE(one.answer->has_value());
    EXPECT_EQ(one.answer->error().code, Errc::failed);
    EXPECT_FALSE(wrote_strips());
    until([&] { return platters[0]->flights.empty() && platters[1]->flights.empty(); });
}

// Whenever it is, a crash finds every stripe named of which a strip was written.
TEST_F(StripeJobsTest, NoStripIsWrittenBeforeARecordNamesItsStripe) {
    for (std::uint64_t stripe = 0; stripe != 64; ++stripe) write({.stripe = stripe, .first = 3});
    const auto answered = [](const Write& one) { return one.answer.has_value(); };
    std::size_t looked = 0;
    while (!std::ranges::all_of(writes, answered)) {
        ASSERT_TRUE(loop.step());
        for (const auto& platter : platters) {
            for (const std::uint64_t row : platter->touched) {
                if (row < data_offset / row_size) continue;
                ++looked;
                EXPECT_TRUE(is_named((row - data_offset / row_size) / 16));
            }
            platter->touched.clear();
        }
    }
    EXPECT_EQ(looked, 2U * 64);
}

// ---- RowWrite ------------------------------------------------------------------------------

struct Rows {
    explicit Rows(const StripeContext& the_context)
        : context(the_context), io(context.geometry, context.members), write(context) {
        io.begin({StripeIndex{5}, 0}, row_range(0, 16));
        for (std::uint32_t i = 0; i != context.geometry.member_count; ++i) {
            io.strips[i] = buffer.data() + i * io.span_size();
        }
        std::ranges::fill(buffer.span(), std::byte{0x77});
    }
    static Task<void> run(RowWrite* write) {
        RowWrite& own = *write;  // GCC 12 makes an illegal instruction of `co_await *write`
        while (co_await own) {
        }
    }
    const StripeContext& context;
    Buffer buffer{4 * 16 * row_size};
    StripeIo io;
    RowWrite write;
};

TEST_F(StripeJobsTest, ARowWriteTellsWhichParticipantsDidNotTakeIt) {
    Rows rows(context);
    Claim& claim = held.emplace_back();
    tasks.spawn(hold_rows(&claims, &claim, {StripeIndex{5}, 0}, row_range(0, 16)));
    until([&] { return claim.held; });
    WriteIntent::Hold hold(*intent, StripeIndex{5});
    until([&] { return hold.is_durable_for(StripeIndex{5}); });
    const Role last{1};
    const MemberIndex broken = geometry.member_of(StripeIndex{5}, last);
    platters[raw(broken)]->fails_writes = true;
    rows.write.begin(WriteGround::marked, &hold);
    rows.write.add_strip(rows.io, Role{0}, row_range(0, 1) | row_range(4, 3));
    rows.write.add_strip(rows.io, last, row_range(2, 1));
    loop.run_until_done(Rows::run(&rows.write));
    EXPECT_EQ(rows.write.failed(), RoleSet::of(last));
    EXPECT_EQ(rows.write.result_of(broken).os_error, EIO);
    EXPECT_FALSE(rows.write.tell_failed());  // it was not for want of room
    EXPECT_EQ(members.slot(broken).state, MemberState::faulty);
    const auto& taken = platters[raw(geometry.member_of(StripeIndex{5}, Role{0}))]->touched;
    const std::uint64_t first = data_offset / row_size + 5 * 16;
    EXPECT_TRUE(std::ranges::count(taken, first) == 1 && std::ranges::count(taken, first + 6) == 1);
    EXPECT_EQ(std::ranges::count(taken, first + 1), 0);
    rows.write.begin(WriteGround::marked, &hold);
    EXPECT_TRUE(rows.write.failed().empty());
    let_go(claim);
}

TEST_F(StripeJobsTest, WhoWritesRowsHasThemAndAGround) {
    Rows rows(context);
    WriteIntent::Hold hold(*intent, StripeIndex{5});
    until([&] { return hold.is_durable_for(StripeIndex{5}); });
    rows.write.begin(WriteGround::marked, &hold);
    rows.write.add_strip(rows.io, Role{0}, row_range(0, 1));
    EXPECT_DEATH(rows.write.stage(), "are_claimed");
    Claim& claim = held.emplace_back();
    tasks.spawn(hold_rows(&claims, &claim, {StripeIndex{5}, 0}, row_range(0, 16)));
    until([&] { return claim.held; });
    const auto stage = [&](WriteGround ground, const WriteIntent::Hold* mark) {
        rows.write.begin(ground, mark);
        rows.write.add_strip(rows.io, geometry.p(), row_range(0, 1));
        rows.write.stage();
    };
    EXPECT_DEATH(stage(WriteGround::marked, nullptr), "mark_");
    EXPECT_DEATH(stage(WriteGround::untrusted, nullptr), "doubtful");
    EXPECT_DEATH(stage(WriteGround::rebuilt, nullptr), "is_live");
    WriteIntent::Hold elsewhere(*intent, StripeIndex{6});
    EXPECT_DEATH(stage(WriteGround::marked, &elsewhere), "is_durable_for");
    let_go(claim);
}

}  // namespace
}  // namespace braid::sim
