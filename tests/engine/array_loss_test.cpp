// SPDX-License-Identifier: BSD-3-Clause
// What losses and orders may not cost: what was flushed is there again when the member is.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

// ---- a loss while rows are in doubt --------------------------------------------------------

TEST_F(Loss, AnOrderThatWouldCostRowsInDoubtIsRefused) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        start_whole_resync(shape(level, 1));
        for (const auto& refused : {fail(1, Force::no), replace(1, Force::no)}) {
            ASSERT_FALSE(refused);
            EXPECT_NE(refused.error().text.find("bytes could not be known"), std::string::npos);
            EXPECT_NE(refused.error().text.find("--force"), std::string::npos);
        }
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        slow(0);
        sim->come_to_rest();
        EXPECT_TRUE(fail(1, Force::no));
        sim->expect_content();
        EXPECT_EQ(sim->array->status().bad_bytes, 0U);
    }
}

TEST_F(Loss, AMemberThatLeavesDuringAResyncBringsEverythingBack) {
    for (const bool dies : {true, false}) {
        SCOPED_TRACE(dies ? "it dies" : "it is failed by force");
        start_whole_resync(shape(Level::raid5, 2));
        const Buffer before(sim->platters[1]->content.view());
        if (dies) {
            sim->platters[1]->dead = true;
        } else {
            ASSERT_TRUE(fail(1, Force::yes));
        }
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write(sim->size() - row_size, row));
        slow(0);
        sim->come_to_rest();
        EXPECT_EQ(sim->state_of(1), MemberState::faulty);
        const std::uint64_t lost = errors();
        EXPECT_GT(lost, sim->size() / row_size / 4) << "a third of the volume";
        EXPECT_EQ(lost * row_size, sim->array->status().bad_bytes);
        ASSERT_TRUE(sim->stop());
        ASSERT_TRUE(sim->open(all_but(1)));
        EXPECT_EQ(errors(), lost);
        sim->platters[1]->dead = false;
        EXPECT_EQ(std::memcmp(before.data() + SimArray::data_offset,
                              sim->platters[1]->content.data() + SimArray::data_offset,
                              before.size() - SimArray::data_offset),
                  0)
            << "something is written in its place";
        // Its own bytes are taken as they are.
        const auto back = add_back(1);
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_EQ(sim->array->status().bad_bytes, 0U);
        EXPECT_EQ(errors(), 0U) << "before the rebuild is done";
        sim->come_to_rest();
        EXPECT_EQ(sim->array->status().health, Health::clean);
        sim->expect_content();
        sim->expect_parity();
    }
}

TEST_F(Loss, WhatIsSaidOfALossAgrees) {
    constexpr const char* all_there = "every byte can still be computed";
    for (const bool in_doubt : {false, true}) {
        for (const bool dies : {false, true}) {
            SCOPED_TRACE(testing::Message() << "in doubt: " << in_doubt << ", dies: " << dies);
            in_doubt ? start_whole_resync(shape(Level::raid5, 3)) : start(shape(Level::raid5, 3));
            sim->events.clear();
            sim->texts.clear();
            if (dies) {
                sim->platters[1]->dead = true;
                Buffer stripe = random_bytes(sim->loop().rng(), 2 * strip);
                ASSERT_TRUE(sim->write(0, stripe));
            } else {
                ASSERT_TRUE(fail(1, Force::yes));
            }
            std::vector<std::string> told;
            for (const std::string& kind : sim->events) {
                if (kind == "member_failed" || kind == "bad_rows" || kind == "degraded") {
                    told.push_back(kind);
                }
            }
            using Kinds = std::vector<std::string>;
            EXPECT_EQ(told, in_doubt ? (Kinds{"member_failed", "bad_rows", "degraded"})
                                     : (Kinds{"member_failed", "degraded"}));
            EXPECT_NE(text_of_event("member_failed").find("member 1 (m1) failed: "),
                      std::string::npos)
                << text_of_event("member_failed");
            const std::string degraded = text_of_event("degraded");
            EXPECT_NE(degraded.find("1 of 3 members lost"), std::string::npos) << degraded;
            if (!in_doubt) {
                EXPECT_TRUE(degraded.ends_with(all_there)) << degraded;
            } else {
                const std::string listed = text_of_event("bad_rows");
                EXPECT_NE(listed.find("braid member add"), std::string::npos) << listed;
                const std::size_t end = listed.find(" bytes in all: ");
                ASSERT_NE(end, std::string::npos) << listed;
                const std::size_t begin = listed.rfind(' ', end - 1) + 1;
                const std::string unknown = listed.substr(begin, end - begin);
                const std::string rest =
                    fmt::format("{}, but for {} that cannot be known", all_there, unknown);
                EXPECT_TRUE(degraded.ends_with(rest)) << degraded;
                const std::uint64_t healed = dies ? 2 * strip / 2 : 0;  // written meanwhile
                EXPECT_EQ(std::to_string(sim->array->status().bad_bytes + healed), unknown);
            }
            slow(0);
            sim->come_to_rest();
        }
    }
}

// Who cannot be told anything advises no order that could not be given.
TEST_F(Loss, WhereNoOrderIsTakenTheAdviceBeginsWithASocket) {
    start_whole_resync(shape(Level::raid5, 3));
    sim->kill();
    sim->orders = Orders::not_taken;
    ASSERT_TRUE(sim->open());
    sim->platters[1]->dead = true;
    Buffer stripe = random_bytes(sim->loop().rng(), 2 * strip);
    ASSERT_TRUE(sim->write(0, stripe));
    EXPECT_NE(text_of_event("bad_rows")
                  .find("is back (start the server with socket=PATH, then braid member add)"),
              std::string::npos)
        << text_of_event("bad_rows");
    slow(0);
    sim->come_to_rest();
    ASSERT_TRUE(sim->stop());
    sim->platters[1]->dead = false;
    sim->events.clear();
    sim->texts.clear();
    ASSERT_TRUE(sim->open());
    const std::string left_out = text_of_event("notice");
    EXPECT_NE(left_out.find("; start the server with socket=PATH, then give it back with: braid "
                            "member add m1"),
              std::string::npos)
        << left_out;
}

TEST_F(Loss, AnotherDiskInItsPlaceNeedsForce) {
    start_whole_resync(shape(Level::raid5, 3));
    sim->platters[1]->dead = true;
    Buffer stripe = random_bytes(sim->loop().rng(), 2 * strip);
    ASSERT_TRUE(sim->write(0, stripe));
    slow(0);
    sim->come_to_rest();
    const std::uint64_t lost = errors();
    ASSERT_NE(lost, 0U);
    const auto refused = replace(1, Force::no);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
    ASSERT_TRUE(replace(1, Force::yes));
    sim->come_to_rest();
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
        sim = std::make_unique<SimArray>(options);
        Rng rng(7);  // what was there before: parity fits nowhere
        for (auto& platter : sim->platters)
            platter->content = random_bytes(rng, platter->content.size());
        sim->create();
        sim->intent.region = 64u << 10;
        ASSERT_TRUE(sim->open());
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
            EXPECT_FALSE(fail(2, Force::no));
            ASSERT_TRUE(fail(2, Force::yes));
        }
        Buffer back(1u << 20);
        ASSERT_TRUE(sim->read(at, back));
        EXPECT_EQ(std::memcmp(back.data(), data.data(), data.size()), 0);
        Buffer again(700);
        ASSERT_TRUE(sim->read(at + (2u << 20) - 300, again));
        EXPECT_EQ(std::memcmp(again.data(), small.data(), small.size()), 0);
        slow(0);
        sim->come_to_rest();
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
    request.offset = {place_of(0)};
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
    ASSERT_TRUE(fail(1, Force::yes));
    while (!done) ASSERT_TRUE(sim->loop().step());
    ASSERT_TRUE(request.ok) << request.error.text();
    std::memcpy(sim->model.data() + place_of(0), row.data(), row_size);
    for (const std::uint32_t member : {0U, 1U}) {
        Buffer now(row_size);
        ASSERT_TRUE(sim->read(place_of(member), now));
        EXPECT_EQ(std::memcmp(now.data(), sim->model.data() + place_of(member), row_size), 0);
    }
    slow(0);
    sim->come_to_rest();
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
        sim->come_to_rest();
        sim->expect_content();
        sim->expect_parity();
    }
}

// It is given to a start, which leaves it out; the rows that the real one alone has are known
// before.
TEST_F(Loss, AnOldCopyThatAStartIsGivenHasLeftTheArray) {
    start(shape(Level::raid5, 44));
    const Buffer old(sim->platters[1]->content.view());
    const EpochRevision copied = sim->array->configuration().version;
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open());
    fill();
    sim->loop().run_for(seconds(20));
    std::uint64_t stripe = 50;
    while (raw(sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{1})) == 2) ++stripe;
    sim->platters[1]->bad_rows.insert(first_row + stripe * 4);
    ASSERT_TRUE(replace(2, Force::no));
    sim->come_to_rest();
    ASSERT_NE(sim->array->status().bad_bytes, 0U);
    ASSERT_TRUE(sim->stop());
    sim->platters[1]->bad_rows.clear();
    const Buffer own(sim->platters[1]->content.view());
    std::memcpy(sim->platters[1]->content.data(), old.data(), old.size());
    ASSERT_TRUE(sim->open());
    ASSERT_EQ(sim->state_of(1), MemberState::missing);
    EXPECT_GT(sim->array->configuration().member(MemberIndex{1})->left, copied);
    const std::uint64_t listed = sim->array->status().bad_bytes;
    const auto refused = add_back(1);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("is not the member"), std::string::npos)
        << refused.error().text;
    EXPECT_EQ(sim->array->status().bad_bytes, listed);
    std::memcpy(sim->platters[1]->content.data(), own.data(), own.size());
    const auto back = add_back(1);
    ASSERT_TRUE(back) << back.error().text;
    sim->come_to_rest();
    EXPECT_LE(errors(), 1U) << "what member 2 had beside it is void";
    sim->expect_parity();
}

// ---- a spare for a member that alone has rows ------------------------------------------------

class WithSpare : public Loss {
  protected:
    /// Of RAID-5 with a spare member 1 is lost, and alone has rows: all parity was in doubt.
    void lose_one_that_alone_has_rows(std::uint64_t seed) {
        SimArrayOptions options = shape(Level::raid5, seed);
        options.spares = 1;
        start_whole_resync(options);
        sim->platters[1]->dead = true;
        Buffer stripe = random_bytes(sim->loop().rng(), 2 * strip);
        ASSERT_TRUE(sim->write(0, stripe));
        slow(0);
        sim->come_to_rest();
    }
};

TEST_F(WithSpare, WaitsForAMemberThatAloneHasRows) {
    enum class Then : std::uint8_t { back, rewritten, given_up };
    for (const Then then : {Then::back, Then::rewritten, Then::given_up}) {
        SCOPED_TRACE(static_cast<int>(then));
        lose_one_that_alone_has_rows(50);
        sim->loop().run_for(seconds(60));
        EXPECT_EQ(sim->state_of(1), MemberState::faulty);
        const std::uint64_t listed = sim->array->status().bad_bytes;
        ASSERT_NE(listed, 0U);
        EXPECT_EQ(count_events("spare_waits"), 1U);
        const auto waits = next_wait();
        ASSERT_TRUE(waits);
        EXPECT_EQ(waits->what, "spare");
        EXPECT_EQ(waits->member, MemberIndex{1});
        EXPECT_FALSE(waits->by_itself);
        for (const char* said : {"braid member add m1", "braid member remove m3",
                                 "braid member replace 1 m3 --force"}) {
            EXPECT_NE(waits->why.find(said), std::string::npos) << waits->why;
        }
        EXPECT_NE(waits->why.find(std::to_string(listed) + " bytes"), std::string::npos);
        // Also after a restart.
        ASSERT_TRUE(sim->stop());
        ASSERT_TRUE(sim->open({0, 2, 3}));
        sim->loop().run_for(seconds(60));
        EXPECT_EQ(sim->state_of(1), MemberState::missing);
        EXPECT_EQ(sim->array->status().bad_bytes, listed);
        switch (then) {
            case Then::back:
                sim->platters[1]->dead = false;
                ASSERT_TRUE(add_back(1));
                break;
            case Then::rewritten:
                fill();
                break;
            case Then::given_up:
                EXPECT_FALSE(replace(1, Force::no));
                ASSERT_TRUE(remove("m3"));
                ASSERT_TRUE(sim->loop().run_until_done(sim->array->replace_member(
                    "1", sim->disk(sim->platters[3], "m3"), Force::yes)));
                break;
        }
        sim->loop().run_for(seconds(1));
        sim->come_to_rest();
        EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
        EXPECT_TRUE(sim->array->status().waits.empty());
        if (then != Then::back) std::swap(sim->platters[1], sim->platters[3]);
        EXPECT_EQ(errors(), then == Then::given_up ? listed / row_size : 0U);
        sim->expect_parity();
    }
}

// What a crash left in doubt a member that is not there at the start still has.
TEST_F(Loss, ASpareWaitsForAMemberThatAStartMisses) {
    SimArrayOptions options = shape(Level::raid5, 51);
    options.spares = 1;
    start(options);
    Buffer data = random_bytes(sim->loop().rng(), 8 * strip);
    ASSERT_TRUE(sim->write(1u << 20, data));
    flush();
    sim->crash();
    ASSERT_TRUE(sim->open({0, 2, 3}));
    sim->loop().run_for(seconds(60));
    EXPECT_EQ(sim->state_of(1), MemberState::missing);
    EXPECT_NE(sim->array->status().bad_bytes, 0U);
    ASSERT_TRUE(next_wait());
    ASSERT_TRUE(add_back(1));
    sim->come_to_rest();
    EXPECT_EQ(sim->array->status().health, Health::clean);
    sim->expect_content();
    sim->expect_parity();
}

// A disk that was forced into the role has nothing of what its predecessor alone knew.
TEST_F(WithSpare, TakesOverFromADiskThatWasForcedIn) {
    lose_one_that_alone_has_rows(52);
    ASSERT_EQ(count_events("spare_waits"), 1U);
    slow(20'000'000);
    ASSERT_TRUE(replace(1, Force::yes));
    ASSERT_TRUE(fail(1, Force::yes));
    slow(0);
    sim->loop().run_for(seconds(1));
    sim->come_to_rest();
    EXPECT_EQ(sim->state_of(1), MemberState::in_sync);
    EXPECT_EQ(count_events("spare_waits"), 1U);
    std::swap(sim->platters[1], sim->platters[3]);
    sim->expect_parity();
}

// ---- writing what two lost members had -------------------------------------------------------

/// Rows of a stripe in which neither member 1 nor member 2 holds parity.
std::uint64_t stripe_of_data(const SimArray& sim) {
    const Geometry& geometry = sim.geometry();
    for (std::uint64_t stripe = 100;; ++stripe) {
        const auto is_data = [&](std::uint32_t member) {
            return raw(geometry.role_of(StripeIndex{stripe}, MemberIndex{member})) <
                   geometry.data_count();
        };
        if (is_data(1) && is_data(2)) return stripe;
    }
}

TEST_F(Loss, WhatTwoLostMembersMayBringBackIsWrittenTogether) {
    start_whole_resync(shape(Level::raid6, 53));
    sim->platters[1]->dead = sim->platters[2]->dead = true;
    Buffer first = random_bytes(sim->loop().rng(), 3 * strip);
    ASSERT_TRUE(sim->write(0, first));
    slow(0);
    sim->come_to_rest();
    ASSERT_NE(sim->array->status().bad_bytes, 0U);
    const std::uint64_t stripe = stripe_of_data(*sim);
    const auto place_of = [&](std::uint32_t member) {
        const Role role = sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{member});
        return (stripe * 3 + raw(role)) * strip;
    };
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    const auto refused = sim->write(place_of(1), row);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unknown);
    const std::string text = text_of_event("write_refused");
    const std::uint64_t begin = stripe * 3 * strip;
    using Range = std::pair<std::uint64_t, std::uint64_t>;
    for (const auto& [at, size] :
         {Range{place_of(1), row_size}, Range{place_of(2), row_size}, Range{begin, 3 * strip}}) {
        const std::string bytes = fmt::format("bytes {}…{}", at, at + size - 1);
        EXPECT_NE(text.find(bytes), std::string::npos) << bytes << " in " << text;
    }
    EXPECT_FALSE(sim->write(place_of(1), row));
    EXPECT_EQ(count_events("write_refused"), 1U) << "a client that goes on trying";
    Buffer whole = random_bytes(sim->loop().rng(), 3 * strip);
    ASSERT_TRUE(sim->write(begin, whole));
    Buffer back(whole.size());
    ASSERT_TRUE(sim->read(begin, back));
    EXPECT_EQ(std::memcmp(back.data(), whole.data(), whole.size()), 0);
    errors();
    // A member that comes back leaves what was written, and brings the rest.
    for (const std::uint32_t member : {1U, 2U}) {
        sim->platters[member]->dead = false;
        const auto added = sim->loop().run_until_done(sim->array->add_member(
            sim->disk(sim->platters[member], SimArray::path_of(member)), Force{member == 1}));
        ASSERT_TRUE(added) << added.error().text;
    }
    sim->come_to_rest();
    sim->expect_parity();
}

// What is void, because its members had left before the crash, keeps nobody from writing.
TEST_F(Loss, WhatIsVoidOfTwoLostMembersIsWrittenOneByOne) {
    start(shape(Level::raid6, 54));
    ASSERT_TRUE(fail(1, Force::no));
    ASSERT_TRUE(fail(2, Force::no));
    const std::uint64_t stripe = stripe_of_data(*sim);
    Buffer data = random_bytes(sim->loop().rng(), 3 * strip);
    ASSERT_TRUE(sim->write(stripe * 3 * strip, data));
    flush();
    sim->crash();
    ASSERT_TRUE(sim->open({0, 3, 4}));
    sim->come_to_rest();
    const std::uint64_t listed = sim->array->status().bad_bytes;
    ASSERT_NE(listed, 0U);
    for (const std::uint32_t member : {1U, 2U}) {
        const Role role = sim->geometry().role_of(StripeIndex{stripe}, MemberIndex{member});
        Buffer row = random_bytes(sim->loop().rng(), row_size);
        ASSERT_TRUE(sim->write((stripe * 3 + raw(role)) * strip, row));
    }
    EXPECT_EQ(sim->array->status().bad_bytes, listed - 2 * row_size);
    errors();
}

}  // namespace
}  // namespace braid::sim
