// SPDX-License-Identifier: BSD-3-Clause
// What is owed while the loss of a member is not durable: nothing is told that the next start, with
// that member back, would take back; and nobody holds rows for it.
#include <cstring>

#include "engine/metadata/intent_record.h"
#include "engine/metadata/promise_slot.h"
#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

class Owed : public Loss {
  protected:
    static constexpr std::uint64_t stripe = 20;
    static constexpr std::uint64_t row_in_strip = 1;

    /// Asks for one row.
    void ask(Asked& asked, IoKind kind, std::uint64_t at) {
        const bool writes = kind == IoKind::write;
        sim->ask(asked, kind, at,
                 writes ? random_bytes(sim->loop().rng(), row_size) : Buffer(row_size));
    }
    std::uint64_t offset_of(std::uint32_t role) const {
        return (stripe * sim->geometry().data_count() + role) * strip + row_in_strip * row_size;
    }
    std::uint32_t member_of(std::uint32_t role) const {
        return raw(sim->geometry().member_of(StripeIndex{stripe}, Role{role}));
    }
    SimPlatter& platter_of(std::uint32_t role) { return *sim->platters[member_of(role)]; }
    /// The stripe is marked, and what is written is durable at once. The member of its first strip
    /// takes no more writes.
    void begin(Level level, std::uint64_t seed) {
        start(shape(level, seed));
        for (auto& platter : sim->platters) platter->caches = false;
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write(offset_of(1), row));
        flush();
        platter_of(0).fails_writes = true;
    }
    /// The node dies, and starts again with the member that was lost.
    void start_again() {
        sim->crash();
        platter_of(0).fails_writes = false;
        ASSERT_TRUE(sim->open());
    }
    /// The row is this, or, where one parity cannot tell after a loss and a crash, on the list.
    void expect_still(const Buffer& told, const char* why) {
        sim->come_to_rest();
        Buffer now(row_size);
        const auto found = sim->read(offset_of(0), now);
        EXPECT_TRUE(found || sim->geometry().parities() == 1);
        if (found) {
            EXPECT_TRUE(now == told) << why;
        } else {
            EXPECT_EQ(found.error().code, Errc::unknown);
        }
    }
};

TEST_F(Owed, NothingIsTakenBackThatWasReadInALostMembersPlace) {
    for (std::uint64_t seed = 1; seed != 17; ++seed) {
        SCOPED_TRACE(seed);
        begin(seed % 2 == 0 ? Level::raid5 : Level::raid6, seed);
        Asked write;
        ask(write, IoKind::write, offset_of(0));
        while (!sim->has_event("member_failed")) ASSERT_TRUE(sim->loop().step());
        Asked read;
        ask(read, IoKind::read, offset_of(0));
        sim->wait_for(read);
        ASSERT_TRUE(read.request.ok) << read.request.error.text();
        ASSERT_TRUE(read.data == write.data) << "it came after the write";
        start_again();
        expect_still(read.data, "it was read before the power went");
    }
}

TEST_F(Owed, NothingIsTakenBackThatWasWrittenInALostMembersPlace) {
    for (std::uint64_t seed = 21; seed != 29; ++seed) {
        SCOPED_TRACE(seed);
        begin(seed % 2 == 0 ? Level::raid5 : Level::raid6, seed);
        Asked write;
        ask(write, IoKind::write, offset_of(0));
        sim->wait_for(write);
        ASSERT_TRUE(write.request.ok) << write.request.error.text();
        start_again();
        expect_still(write.data, "it was acknowledged before the power went");
    }
}

// Two rows of the stripe, of which the member has missed one; another member has no room for the
// configuration that says so.
TEST_F(Owed, RowsAreFreeWhileTheLossIsAwaited) {
    begin(Level::raid6, 31);
    SimPlatter& other = platter_of(2);
    for (std::uint64_t at = 0; at != promises_end; at += row_size) {
        if (at < slots_end || at >= promises_offset) other.holes.insert(at / row_size);
    }
    other.full = true;
    Asked write;
    ask(write, IoKind::write, offset_of(0));
    while (!sim->has_event("metadata_refused")) ASSERT_TRUE(sim->loop().step());
    const std::uint64_t since = sim->loop().now().value;
    Asked again;
    ask(again, IoKind::write, offset_of(0));
    // A live strip of the same row, which has to be computed under its lock.
    platter_of(1).bad_rows.insert(SimArray::data_offset / row_size + stripe * strip / row_size +
                                  row_in_strip);
    Asked beside;
    ask(beside, IoKind::read, offset_of(1));
    // What the member has not missed is computed as it has it.
    Asked unwritten;
    ask(unwritten, IoKind::read, offset_of(0) + row_size);
    Asked missed;
    ask(missed, IoKind::read, offset_of(0));
    sim->loop().run_for(millis(200));
    EXPECT_FALSE(write.done);
    EXPECT_FALSE(again.done);
    EXPECT_FALSE(missed.done);
    ASSERT_TRUE(beside.done && beside.request.ok);
    EXPECT_EQ(std::memcmp(beside.data.data(), sim->model.data() + offset_of(1), row_size), 0);
    ASSERT_TRUE(unwritten.done && unwritten.request.ok);
    EXPECT_EQ(
        std::memcmp(unwritten.data.data(), sim->model.data() + offset_of(0) + row_size, row_size),
        0);
    sim->wait_for(write);
    sim->wait_for(again);
    sim->wait_for(missed);
    EXPECT_LT(sim->loop().now().value - since, millis(4500).value) << "one after the other";
    for (const Asked* asked : {&write, &again, &missed}) {
        EXPECT_FALSE(asked->request.ok);
        EXPECT_EQ(asked->request.error.code, Errc::full);
    }
    other.full = false;
    sim->loop().run_for(seconds(10));
    ask(missed, IoKind::read, offset_of(0));
    sim->wait_for(missed);
    ASSERT_TRUE(missed.request.ok);
    EXPECT_TRUE(missed.data == again.data);
    std::memcpy(sim->model.data() + offset_of(0), again.data.data(), row_size);
    flush();
    sim->expect_content();
}

// The same for whole stripes that are zeroed.
TEST_F(Owed, ZeroesAreOwedLikewise) {
    for (std::uint64_t seed = 41; seed != 49; ++seed) {
        SCOPED_TRACE(seed);
        begin(Level::raid5, seed);
        IoRequest zero;
        zero.kind = IoKind::zero;
        zero.offset = {stripe * 2 * strip};
        zero.size = 2 * strip;
        ASSERT_TRUE(sim->run(zero));
        start_again();
        expect_still(Buffer(row_size), "it was acknowledged before the power went");
    }
}

}  // namespace
}  // namespace braid::sim
