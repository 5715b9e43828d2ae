// SPDX-License-Identifier: BSD-3-Clause
// No room, and the second failure: who is needed, or full, keeps his place, and what was flushed is
// there.
#include <cerrno>
#include <cstring>
#include <set>

#include "engine/base/limits.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/config_bad_rows.h"
#include "engine/metadata/config_slot.h"
#include "engine/metadata/intent_record.h"
#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

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
            sim->come_to_rest();
            EXPECT_EQ(sim->array->status().bad_bytes, 0U);
            EXPECT_EQ(sim->array->status().intent.stripes_marked, 0U);
            sim->expect_content();
            sim->expect_parity();
            ASSERT_TRUE(fail(1, Force::no));
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
        sim->come_to_rest();
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
    for (int i = 0; i != 5; ++i) {
        const std::uint64_t since = sim->loop().now().value;
        const auto written = sim->write(0, data);
        ASSERT_FALSE(written) << "the loss of a member is not durable";
        EXPECT_EQ(written.error().code, Errc::full);
        EXPECT_LT(sim->loop().now().value - since, seconds(6).value);
    }
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    EXPECT_EQ(sim->state_of(2), MemberState::faulty);
    EXPECT_EQ(count_events("metadata_refused"), 1U);
    sim->platters[0]->full = false;
    sim->loop().run_for(seconds(10));
    ASSERT_TRUE(sim->write(0, data));
    EXPECT_EQ(count_events("metadata_taken"), 1U);
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
    ASSERT_TRUE(fail(0, Force::no));
    sim->loop().run_for(seconds(20));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(1u << 20, row));
    sim->platters[1]->fails_flushes = true;
    EXPECT_FALSE(sim->flush());
    sim->platters[1]->fails_flushes = false;
    EXPECT_FALSE(sim->flush());
    Buffer more = random_bytes(sim->loop().rng(), row_size);
    EXPECT_FALSE(sim->write(2u << 20, more));
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    EXPECT_EQ(errors(), 0U) << "everything can be read";
    EXPECT_FALSE(sim->stop());
    ASSERT_TRUE(sim->open(all_but(0)));
    sim->come_to_rest();
    EXPECT_LE(errors(), 2 * strip / row_size) << "what the lost member had in the marked region";
}

// Space that is allocated late is missed late.
TEST_F(Loss, AFlushThatFindsNoRoomOnAMemberThatIsNeededIsToldAsThat) {
    start(shape(Level::raid5, 43));
    ASSERT_TRUE(fail(0, Force::no));
    sim->loop().run_for(seconds(20));
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(1u << 20, row));
    sim->platters[1]->fails_flushes = true;
    sim->platters[1]->flush_error = ENOSPC;
    for (int i = 0; i != 2; ++i) {
        const auto flushed = sim->flush();
        ASSERT_FALSE(flushed);
        EXPECT_EQ(flushed.error().code, Errc::full);
        sim->platters[1]->fails_flushes = false;
    }
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    EXPECT_EQ(errors(), 0U) << "everything can be read";
    EXPECT_FALSE(sim->stop());
    ASSERT_TRUE(sim->open(all_but(0)));
    sim->come_to_rest();
    EXPECT_LE(errors(), 2 * strip / row_size) << "what the lost member had in the marked region";
}

// Rows in front of a rebuild's position are in doubt, and not listed: nothing of them is lost.
struct StopInDoubt : Loss {
    enum class Record { none, kept };  // of what is written
    void run(Record record);
};

void StopInDoubt::run(Record record) {
    SimArrayOptions options = shape(Level::raid5, 44);
    options.stripes = 3000;
    start(options);
    if (record == Record::none) {
        ASSERT_TRUE(sim->stop());
        sim->intent.on = false;
        ASSERT_TRUE(sim->open());
    }
    ASSERT_TRUE(replace(2, Force::no));
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
            const auto member =
                sim->geometry().member_of(StripeIndex{stripe}, Role{static_cast<std::uint32_t>(i)});
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
    const auto waits = next_wait();
    ASSERT_TRUE(waits);
    EXPECT_FALSE(waits->by_itself) << "room has to be made";
    EXPECT_NE(waits->why.find("no room"), std::string::npos) << waits->why;
    ASSERT_TRUE(sim->stop());
    EXPECT_EQ(sim->has_event("intent_stays"), record == Record::none);
    sim->platters[1]->full = false;
    sim->intent.on = std::nullopt;
    ASSERT_TRUE(sim->open());
    EXPECT_TRUE(sim->array->status().configuration.intent.on);
    sim->come_to_rest();
    EXPECT_EQ(sim->state_of(2), MemberState::in_sync);
    EXPECT_LE(errors(), 1U) << "of the row behind the position, whose strip was lost";
    sim->expect_parity();
}

TEST_F(StopInDoubt, ForgetsNothingInFrontOfARebuild) { run(Record::kept); }
// Without a record all of it would be in doubt, and the member that is being rebuilt missing.
TEST_F(StopInDoubt, BeginsARecordWhereThereIsNone) { run(Record::none); }

// As many are lost as the level can do without, and writes to another one fail: it is kept, and so
// is what was flushed.
struct FailedWrite : Loss {
    /// Without as many members as the level allows; nothing is marked.
    void begin(Level level, std::uint64_t seed) {
        start(shape(level, seed));
        lost = level == Level::raid6 ? std::set<std::size_t>{0, 3} : std::set<std::size_t>{0};
        for (const std::size_t member : lost) {
            ASSERT_TRUE(fail(static_cast<std::uint32_t>(member), Force::no));
        }
        sim->loop().run_for(seconds(20));
        ASSERT_EQ(sim->array->status().intent.stripes_marked, 0U);
    }
    std::vector<std::size_t> left() const {
        std::vector<std::size_t> all = all_but(*lost.begin());
        std::erase_if(all, [this](std::size_t member) { return lost.contains(member); });
        return all;
    }
    /// Of the volume's rows which share a row of a stripe with this one.
    std::vector<std::uint64_t> beside(std::uint64_t row) const {
        constexpr std::uint64_t per_strip = strip / row_size;
        const std::uint64_t per_stripe = sim->geometry().data_count() * per_strip;
        std::vector<std::uint64_t> all;
        for (std::uint64_t one = row / per_stripe * per_stripe + row % per_strip;
             one < (row / per_stripe + 1) * per_stripe; one += per_strip) {
            if (one != row) all.push_back(one);
        }
        return all;
    }
    bool is_listed(std::uint64_t at) const {
        return std::ranges::any_of(sim->array->status().bad, [at](const BadBytes& bad) {
            return at >= bad.offset.value && at < bad.offset.value + bad.size;
        });
    }
    void run_many(Level level, std::uint64_t seed, std::uint64_t* listed_in_all);
    enum class Then { power_cut, kill, death };
    void run_one(Level level, std::uint64_t seed, Then then);
    std::set<std::size_t> lost;
    std::uint64_t refused{0};
};

void FailedWrite::run_many(Level level, std::uint64_t seed, std::uint64_t* listed_in_all) {
    begin(level, seed);
    Rng& rng = sim->loop().rng();
    sim->platters[1]->write_fails_one_in = 4;
    std::vector<bool> touched(sim->size() / row_size);
    std::vector<bool> near_one(touched.size());  // what a lost member had there may be listed
    for (int i = 0; i != 60; ++i) {
        Buffer data = random_bytes(rng, row_size);
        const std::uint64_t at = rng.below(sim->size() / row_size) * row_size;
        if (sim->write(at, data)) continue;
        touched[at / row_size] = true;
        for (const std::uint64_t one : beside(at / row_size)) near_one[one] = true;
    }
    sim->platters[1]->write_fails_one_in = 0;
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    // A crash when nothing is marked any more; a stop while regions still are, which is none.
    const bool crashes = seed % 2 == 0;
    if (crashes) {
        flush();
        sim->loop().run_for(seconds(20));
    }
    EXPECT_EQ(sim->array->status().intent.stripes_marked == 0, crashes);
    const std::uint64_t listed = sim->array->status().bad_bytes;
    *listed_in_all += listed;
    if (crashes) {
        sim->crash();
    } else {
        ASSERT_TRUE(sim->stop());
    }
    ASSERT_TRUE(sim->open(left()));
    EXPECT_FALSE(sim->array->status().recovery) << "nothing is in doubt";
    EXPECT_EQ(sim->array->status().bad_bytes, listed) << "a restart makes it no larger";
    std::uint64_t wrong = 0;
    for (std::uint64_t row = 0; row != touched.size(); ++row) {
        Buffer now(row_size);
        const auto read = sim->read(row * row_size, now);
        if (!read && near_one[row] && read.error().code == Errc::unknown) continue;
        const bool ok =
            read && std::memcmp(now.data(), sim->model.data() + row * row_size, row_size) == 0;
        if (!ok && !touched[row]) ++wrong;
    }
    EXPECT_EQ(wrong, 0U);
    ASSERT_TRUE(sim->stop());
}

TEST_F(FailedWrite, OfAMemberThatIsNeededCostsOnlyItsRows) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        std::uint64_t listed_in_all = 0;
        for (std::uint64_t seed = 30; seed != 38; ++seed) {
            SCOPED_TRACE(testing::Message() << static_cast<int>(level) << ' ' << seed);
            run_many(level, seed, &listed_in_all);
            if (HasFatalFailure()) return;
        }
        EXPECT_NE(listed_in_all, 0U);
    }
}

// The sectors that were written are old or new. Of the rest an error is allowed for what the lost
// members had in the region that was marked, if it is listed.
void FailedWrite::run_one(Level level, std::uint64_t seed, Then then) {
    begin(level, seed);
    Rng& rng = sim->loop().rng();
    const Geometry& geometry = sim->geometry();
    const std::uint64_t per_stripe = geometry.data_count() * strip;
    const auto member_at = [&](std::uint64_t at) -> std::size_t {
        const auto role = static_cast<std::uint32_t>(at % per_stripe / strip);
        return raw(geometry.member_of(StripeIndex{at / per_stripe}, Role{role}));
    };
    SimPlatter& sick = *sim->platters[1];
    make_holes(sick, SimArray::data_offset, sick.content.size());
    sick.full = true;
    sick.full_error = EIO;
    // Of its own strip, or of another one, whose parity it may hold.
    std::uint64_t at = 0;
    do {
        at = rng.below(sim->size() / row_size) * row_size;
    } while (lost.contains(member_at(at)));
    Buffer data = random_bytes(rng, row_size);
    Buffer before(ByteView{sim->model.data() + at, row_size});
    const auto done = sim->write(at, data);
    if (!done) {
        EXPECT_EQ(done.error().code, Errc::io);
        ++refused;
    }
    EXPECT_TRUE(member_at(at) != 1 || !done);
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    if (then == Then::death) {
        sick.dead = true;
        Buffer row(row_size);
        for (std::uint64_t i = 0; i != 20; ++i) (void)sim->read(i * per_stripe, row);
    }
    if (then == Then::kill) {
        sim->kill();
    } else {
        sim->crash();
    }
    sick.heal();
    ASSERT_TRUE(sim->open(left()));
    sim->come_to_rest();
    const std::uint64_t region = std::max<std::uint64_t>(1, (64u << 10) / per_stripe);
    for (std::uint64_t row = 0; row < sim->size(); row += row_size) {
        Buffer now(row_size);
        const auto read = sim->read(row, now);
        if (!read) {
            EXPECT_EQ(read.error().code, Errc::unknown);
            EXPECT_TRUE(is_listed(row)) << row;
            EXPECT_TRUE(lost.contains(member_at(row))) << row;
            EXPECT_EQ(row / per_stripe / region, at / per_stripe / region) << row;
            continue;
        }
        for (std::uint64_t i = 0; i != row_size; i += sector_size) {
            const bool is_old =
                std::memcmp(now.data() + i,
                            (row == at ? before.data() : sim->model.data() + row) + i,
                            sector_size) == 0;
            const bool is_new =
                row == at && std::memcmp(now.data() + i, data.data() + i, sector_size) == 0;
            EXPECT_TRUE(is_old || is_new) << row + i;
        }
    }
    ASSERT_TRUE(sim->stop());
}

TEST_F(FailedWrite, AndThenThePowerGoesOrTheMemberToo) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        refused = 0;
        for (std::uint64_t seed = 40; seed != 52; ++seed) {
            for (const Then then : {Then::power_cut, Then::kill, Then::death}) {
                SCOPED_TRACE(testing::Message() << static_cast<int>(level) << ' ' << seed << ' '
                                                << static_cast<int>(then));
                run_one(level, seed, then);
                if (HasFatalFailure()) return;
            }
        }
        EXPECT_GT(refused, 10U);
    }
}

// ---- more than the list of rows that cannot be known holds -----------------------------------

// RAID-4 that starts without its first member after a crash, with as many marks as there may be: what
// the member alone has of them is joined until it fits. Then something is written in its place, and
// nothing more of it can be joined; between any two of its ranges a write that fails leaves another
// one, of rows that are gone.
struct FullList : Loss {
    static constexpr std::uint64_t first_stripe = 400;
    static constexpr std::uint64_t apart = 11;
    void begin(std::uint64_t seed) {
        SimArrayOptions options = shape(Level::raid4, seed);
        options.strip_size = row_size;
        options.stripes = first_stripe + apart * intent_entries_max + 20;
        start(options);
        plant(0, first_stripe);
        plant(1, first_stripe + 5);
        sim->kill();
        ASSERT_TRUE(sim->open({1, 2}));
        sim->come_to_rest();
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write(offset_of(10, 0), row));
        flush();
        make_holes(*sim->platters[2], SimArray::data_offset, sim->platters[2]->content.size());
        sim->platters[2]->full = true;
        sim->platters[2]->full_error = EIO;
    }
    /// A node's record of the write intent, with a mark of two stripes in every eleven.
    void plant(std::uint32_t node, std::uint64_t first) {
        IntentRecord record;
        record.array = sim->array->configuration().array;
        record.generation = sim->array->status().intent.generation + 1;
        record.node = node;
        for (std::uint64_t i = 0; i != intent_entries_max; ++i) {
            record.entries.push_back({0, 2, StripeIndex{first + i * apart}});
        }
        const Buffer bytes = encode_intent(record);
        std::memcpy(sim->platters[1]->content.data() + slots_end +
                        intent_slot_offset(node, record.generation),
                    bytes.data(), bytes.size());
    }
    std::uint64_t offset_of(std::uint64_t stripe, std::uint64_t role) const {
        return (2 * stripe + role) * row_size;
    }
    /// The strip beside the lost one, where nothing is listed: its parity cannot be written.
    Result<void> spoil_next() {
        const auto is_listed = [this] {
            const auto& bad = sim->array->status().configuration.bad_rows;
            return std::ranges::any_of(bad, [this](const BadRange& at) {
                return raw(at.first) <= next + 1 && next <= raw(at.end());
            });
        };
        do next += apart;
        while (is_listed());
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        return sim->write(offset_of(next, 1), row);
    }
    std::vector<BadRange> list() const { return sim->array->status().configuration.bad_rows; }
    std::uint64_t room() const { return bad_rows_text_max - json_text_of(list()).size(); }
    std::uint64_t next{first_stripe + 8};
};

TEST_F(FullList, StopsTheArrayWhereNothingCanBeJoined) {
    begin(60);
    const std::uint64_t joined = count_events("bad_rows_joined");
    while (room() >= 24) {
        const auto written = spoil_next();
        ASSERT_FALSE(written);
        ASSERT_EQ(written.error().code, Errc::io);
    }
    EXPECT_FALSE(sim->has_event("stopped"));
    std::size_t listed = 0;
    for (int i = 0; i != 3 && !sim->has_event("stopped"); ++i) {
        listed = list().size();
        EXPECT_FALSE(spoil_next());
    }
    EXPECT_EQ(count_events("bad_rows_joined"), joined);
    EXPECT_EQ(
        text_of_event("stopped"),
        "the array has stopped: of rows that cannot be known there are " +
            std::to_string(listed + 1) +
            " ranges of member 0, more than the list of bad rows holds, and going on would "
            "mean guessing. Nothing was lost that was not lost before. Bring back members that the "
            "array has not gone on without, and start it again; if there are none, start it "
            "with force, which trusts parity as it is, check the file systems, and restore "
            "what is wrong");
    EXPECT_EQ(sim->array->status().health, Health::failed);
    Buffer row(row_size);
    const auto written = sim->write(offset_of(5, 1), row);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, Errc::failed);
    ASSERT_TRUE(sim->read(offset_of(5, 1), row)) << "what is there is read";
    EXPECT_EQ(std::memcmp(row.data(), sim->model.data() + offset_of(5, 1), row_size), 0);
    // As the message says: by force it starts.
    sim->platters[2]->heal();
    EXPECT_FALSE(sim->stop());
    const auto opened = sim->open({1, 2}, Force::yes);
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_TRUE(sim->array->status().health == Health::degraded);
    ASSERT_TRUE(sim->read(offset_of(5, 0), row)) << "computed";
    EXPECT_EQ(std::memcmp(row.data(), sim->model.data() + offset_of(5, 0), row_size), 0);
    ASSERT_TRUE(sim->write(offset_of(5, 1), row));
}

TEST_F(FullList, MakesAWalkWaitUntilThereIsRoom) {
    begin(61);
    while (room() >= 24) ASSERT_FALSE(spoil_next());
    sim->platters[2]->heal();
    sim->loop().run_for(seconds(200));  // what the writes that failed left in doubt is made true
    sim->come_to_rest();
    const std::size_t listed = list().size();
    // Of a stripe that the rebuild comes to first.
    sim->platters[1]->bad_rows.insert(first_row + 100);
    ASSERT_TRUE(replace(0, Force::yes));
    const auto waits = next_wait();
    ASSERT_TRUE(waits);
    EXPECT_NE(
        waits->why.find("the list of rows that cannot be known is full (" + std::to_string(listed) +
                        " ranges of member 0), and what lost "
                        "members alone have is not joined with what was written since; "
                        "bring them back, or write listed rows anew"),
        std::string::npos)
        << waits->why;
    EXPECT_FALSE(waits->by_itself);
    EXPECT_TRUE(sim->has_event("walk_waits"));
    EXPECT_EQ(sim->state_of(0), MemberState::rebuilding);
    EXPECT_EQ(list().size(), listed) << "none was forgotten";
    // As the message says: some of them are written anew.
    const std::vector<BadRange> before = list();
    for (std::size_t i = 0; i != 10; ++i) {
        for (RowIndex at = before[i].first; at != before[i].end(); ++at) {
            Buffer row = random_bytes(sim->loop().rng(), row_size);
            ASSERT_TRUE(sim->write(offset_of(raw(at), 0), row));
        }
    }
    sim->loop().run_for(seconds(200));
    sim->come_to_rest();
    EXPECT_EQ(sim->state_of(0), MemberState::in_sync);
    EXPECT_EQ(sim->array->status().health, Health::damaged);
    Buffer row(row_size);
    EXPECT_FALSE(sim->read(offset_of(100, 0), row));
    const std::uint64_t anew = offset_of(raw(before[0].first), 0);
    ASSERT_TRUE(sim->read(anew, row)) << "it was written anew";
    EXPECT_EQ(std::memcmp(row.data(), sim->model.data() + anew, row_size), 0);
}

}  // namespace
}  // namespace braid::sim
