// SPDX-License-Identifier: BSD-3-Clause
// A whole array on simulated disks: reads return what was written, whatever is lost on the way.
#include <gtest/gtest.h>

#include <deque>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

/// Several requests in flight that do not overlap (so that the model knows the outcome), of any
/// size and alignment.
void run_burst(SimArray& sim, std::uint64_t count) {
    struct Flying {
        IoRequest request;
        Buffer data;
        bool done{false};
    };
    std::deque<Flying> flying;
    Rng& rng = sim.loop().rng();
    const std::uint64_t lane = sim.size() / count;
    for (std::uint64_t i = 0; i != count; ++i) {
        Flying& one = flying.emplace_back();
        const std::uint64_t begin = i * lane + (rng.chance(3) ? 0 : rng.below(lane));
        const std::uint64_t room = (i + 1) * lane - begin;
        std::uint64_t size =
            rng.chance(2) ? rng.below(room) + 1 : std::min<std::uint64_t>(room, 4096);
        one.request.offset = {rng.chance(3) ? begin : round_down(begin, 512)};
        if (one.request.offset.value < i * lane) one.request.offset = {i * lane};
        size = std::min(size, (i + 1) * lane - one.request.offset.value);
        one.request.size = size;
        one.request.user = &one;
        one.request.done = [](IoRequest& r) { static_cast<Flying*>(r.user)->done = true; };
        const std::uint64_t kind = rng.below(8);
        if (kind < 4) {
            one.request.kind = IoKind::write;
            one.data = random_bytes(rng, size);
            one.request.data = one.data.data();
            one.request.fua = rng.chance(8);
        } else if (kind < 7) {
            one.request.kind = IoKind::read;
            one.data = Buffer(size);
            one.request.data = one.data.data();
        } else {
            one.request.kind = IoKind::zero;
        }
    }
    for (Flying& one : flying) sim.array->submit(one.request);
    for (Flying& one : flying) {
        while (!one.done) ASSERT_TRUE(sim.loop().step());
        ASSERT_TRUE(one.request.ok) << one.request.error.text();
        std::byte* at = sim.model.data() + one.request.offset.value;
        if (one.request.kind == IoKind::write) {
            std::memcpy(at, one.data.data(), one.data.size());
        } else if (one.request.kind == IoKind::zero) {
            std::memset(at, 0, one.request.size);
        } else {
            ASSERT_EQ(std::memcmp(at, one.data.data(), one.data.size()), 0)
                << "read of " << one.request.size << " at " << one.request.offset.value;
        }
    }
}

struct Shape {
    Level level;
    Layout layout;
    std::uint32_t members;
    std::uint64_t strip_size;
    std::uint32_t memory_align;
};
std::vector<Shape> shapes() {
    std::vector<Shape> all;
    for (const std::uint64_t strip : {4096u, 16384u, 65536u, 524288u}) {
        all.push_back({Level::raid4, Layout::left_symmetric, 4, strip, 512});
        all.push_back({Level::raid6, Layout::left_symmetric, 6, strip, 1});
        all.push_back({Level::raid6, Layout::left_symmetric, 4, strip, 4096});
        for (const Layout layout : {Layout::left_asymmetric, Layout::right_asymmetric,
                                    Layout::left_symmetric, Layout::right_symmetric}) {
            all.push_back({Level::raid5, layout, 5, strip, 1});
        }
    }
    return all;
}
SimArrayOptions options_of(const Shape& shape, std::uint64_t seed) {
    SimArrayOptions options;
    options.seed = seed;
    options.level = shape.level;
    options.layout = shape.layout;
    options.members = shape.members;
    options.strip_size = shape.strip_size;
    options.stripes = shape.strip_size >= 524288 ? 6 : 24;
    options.memory_align = shape.memory_align;
    return options;
}

TEST(SimArray, ReturnsWhatWasWritten) {
    std::uint64_t seed = 1;
    for (const Shape& shape : shapes()) {
        SimArray sim(options_of(shape, ++seed));
        SCOPED_TRACE(seed);
        sim.create();
        ASSERT_TRUE(sim.open());
        for (int round = 0; round != 8; ++round) run_burst(sim, 1 + sim.loop().rng().below(24));
        sim.expect_content();
        sim.expect_parity();
        ASSERT_TRUE(sim.stop());
        ASSERT_TRUE(sim.open());
        sim.expect_content();
    }
}

TEST(SimArray, LosesNothingWithAsManyMembersLostAsTheLevelAllows) {
    std::uint64_t seed = 100;
    for (const Shape& shape : shapes()) {
        SimArray sim(options_of(shape, ++seed));
        SCOPED_TRACE(seed);
        sim.create();
        ASSERT_TRUE(sim.open());
        run_burst(sim, 12);
        const std::uint32_t lost = shape.level == Level::raid6 ? 2 : 1;
        auto first = static_cast<std::uint32_t>(sim.loop().rng().below(shape.members));
        if (shape.level == Level::raid6 && shape.members == 4) first |= 1;  // 0 breaks ties
        for (std::uint32_t i = 0; i != lost; ++i) {
            const std::uint32_t role = (first + i * 2) % shape.members;
            const auto failed =
                sim.loop().run_until_done(sim.array->fail_member(std::to_string(role), Force::no));
            ASSERT_TRUE(failed) << failed.error().text;
            std::memset(sim.platters[role]->content.data() + SimArray::data_offset, 0xee,
                        sim.platters[role]->content.size() - SimArray::data_offset);
            run_burst(sim, 12);
        }
        sim.expect_content();
        for (int round = 0; round != 6; ++round) run_burst(sim, 1 + sim.loop().rng().below(24));
        sim.expect_content();
        ASSERT_TRUE(sim.stop());
        ASSERT_TRUE(sim.open());
        sim.expect_content();
        EXPECT_EQ(sim.array->status().health, Health::degraded);
    }
}

TEST(SimArray, AMemberThatDiesUnderLoadIsNoticedAndReplaced) {
    std::uint64_t seed = 200;
    for (const Shape& shape : shapes()) {
        SimArray sim(options_of(shape, ++seed));
        SCOPED_TRACE(seed);
        sim.create();
        ASSERT_TRUE(sim.open());
        run_burst(sim, 12);
        const auto dead = static_cast<std::uint32_t>(sim.loop().rng().below(shape.members));
        sim.platters[dead]->dead = true;
        for (int round = 0; round != 6; ++round) run_burst(sim, 12);
        sim.expect_content();
        EXPECT_EQ(sim.state_of(dead), MemberState::faulty);
        sim.platters[dead] = sim.make_platter();
        const auto replaced = sim.loop().run_until_done(sim.array->replace_member(
            std::to_string(dead), sim.disk(sim.platters[dead], "new"), Force::no));
        ASSERT_TRUE(replaced) << replaced.error().text;
        for (int round = 0; round != 6; ++round) run_burst(sim, 12);
        sim.come_to_rest();
        EXPECT_EQ(sim.state_of(dead), MemberState::in_sync);
        sim.expect_content();
        sim.expect_parity();
        EXPECT_EQ(sim.array->status().health, Health::clean);
        ASSERT_TRUE(sim.stop());
        ASSERT_TRUE(sim.open());
        sim.expect_content();
        EXPECT_EQ(sim.array->status().health, Health::clean);
    }
}

TEST(SimArray, ASpareTakesOverByItself) {
    SimArrayOptions options;
    options.spares = 1;
    SimArray sim(options);
    sim.create();
    ASSERT_TRUE(sim.open());
    run_burst(sim, 12);
    sim.platters[1]->fails_writes = true;
    for (int round = 0; round != 6; ++round) run_burst(sim, 12);
    // It stays the faulty one until somebody removes it; the role is the spare's.
    sim.come_to_rest();
    EXPECT_EQ(sim.state_of(1), MemberState::in_sync);
    std::swap(sim.platters[1], sim.platters[4]);
    sim.expect_content();
    sim.expect_parity();
}

TEST(SimArray, ARebuildGoesOnWhereItWasAfterARestart) {
    SimArrayOptions options;
    options.seed = 7;
    options.stripes = 2000;
    SimArray sim(options);
    sim.create();
    ASSERT_TRUE(sim.open());
    run_burst(sim, 24);
    sim.platters[2] = sim.make_platter();
    const auto replaced = sim.loop().run_until_done(
        sim.array->replace_member("2", sim.disk(sim.platters[2], "m2"), Force::no));
    ASSERT_TRUE(replaced) << replaced.error().text;
    while (sim.array->status().walks.empty() ||
           sim.array->status().walks[0].position < (1u << 20)) {
        ASSERT_TRUE(sim.loop().step());
    }
    ASSERT_TRUE(sim.stop());
    ASSERT_TRUE(sim.open());
    while (sim.array->status().walks.empty()) ASSERT_TRUE(sim.loop().step());
    EXPECT_GE(sim.array->status().walks[0].position, 1u << 20);
    run_burst(sim, 24);
    sim.come_to_rest();
    sim.expect_content();
    sim.expect_parity();
}

TEST(SimArray, ReadErrorsAreAnsweredFromTheOthersAndRewritten) {
    for (const std::uint32_t align : {1u, 4096u}) {
        SimArrayOptions options;
        options.seed = 9 + align;
        options.memory_align = align;
        SimArray sim(options);
        sim.create();
        ASSERT_TRUE(sim.open());
        run_burst(sim, 12);
        for (std::uint64_t i = 0; i != 10; ++i) {
            sim.platters[i % 4]->bad_rows.insert(SimArray::data_offset / row_size + i * 7);
        }
        sim.expect_content();
        for (int round = 0; round != 4; ++round) run_burst(sim, 12);
        ASSERT_TRUE(sim.scrub(ScrubMode::repair));
        sim.come_to_rest();
        for (const auto& platter : sim.platters) EXPECT_TRUE(platter->bad_rows.empty());
        sim.expect_content();
        sim.expect_parity();
        EXPECT_EQ(sim.array->status().health, Health::clean);
        EXPECT_EQ(sim.array->status().last_scrub->mismatches, 0);
    }
}

TEST(SimArray, TooManyReadErrorsFailTheMember) {
    SimArray sim({.stripes = 200});
    sim.create();
    ASSERT_TRUE(sim.open());
    for (std::uint64_t i = 0; i != 2 * read_errors_max; ++i) {
        sim.platters[1]->bad_rows.insert(SimArray::data_offset / row_size + i * 4);
    }
    for (int round = 0; round != 10; ++round) sim.expect_content();
    EXPECT_EQ(sim.state_of(1), MemberState::faulty);
    sim.expect_content();
}

TEST(SimArray, ReadErrorsThatAreFarApartDoNotFailAMember) {
    SimArray sim({.seed = 16, .stripes = 200});
    sim.create();
    ASSERT_TRUE(sim.open());
    for (std::uint64_t i = 0; i != 3 * read_errors_max; ++i) {
        sim.platters[1]->bad_rows.insert(SimArray::data_offset / row_size + i);
        sim.expect_content();
        sim.loop().run_for(seconds(1800));
    }
    EXPECT_EQ(sim.state_of(1), MemberState::in_sync);
}

TEST(SimArray, AMemberThatCannotZeroAfterAllIsWritten) {
    SimArray sim({.seed = 17});
    sim.create();
    ASSERT_TRUE(sim.open());
    run_burst(sim, 12);
    sim.platters[2]->zero_fast = false;  // its disk had said that it could
    IoRequest zero;
    zero.kind = IoKind::zero;
    zero.offset = {1000};
    zero.size = sim.size() - 2000;
    ASSERT_TRUE(sim.run(zero));
    std::memset(sim.model.data() + zero.offset.value, 0, zero.size);
    sim.expect_content();
    sim.expect_parity();
    EXPECT_EQ(sim.array->status().health, Health::clean);
}

TEST(SimArray, AScrubLocatesTheWrongStripOfRaid6AndRepairsThatOne) {
    SimArrayOptions options;
    options.level = Level::raid6;
    options.members = 6;
    options.seed = 11;
    SimArray sim(options);
    sim.create();
    ASSERT_TRUE(sim.open());
    for (int round = 0; round != 4; ++round) run_burst(sim, 12);
    for (std::uint64_t i = 0; i != 6; ++i) {  // one row of each member, all in other rows
        sim.platters[i]->content.data()[SimArray::data_offset + i * 3 * row_size + 5] ^=
            std::byte{0x40};
    }
    ASSERT_TRUE(sim.scrub(ScrubMode::compare));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().last_scrub->mismatches, 6);
    EXPECT_EQ(sim.array->status().last_scrub->repaired, 0);
    ASSERT_TRUE(sim.scrub(ScrubMode::repair));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().last_scrub->repaired, 6);
    sim.expect_content();
    sim.expect_parity();
}

TEST(SimArray, AScrubOfRaid5ReportsAndRewritesParityOnlyWhenTold) {
    SimArray sim({.seed = 12});
    sim.create();
    ASSERT_TRUE(sim.open());
    run_burst(sim, 12);
    const auto& geometry = sim.geometry();
    const auto p = raw(geometry.member_of(StripeIndex{3}, geometry.p()));
    sim.platters[p]
        ->content.data()[SimArray::data_offset + geometry.strip_offset(StripeIndex{3}).value] ^=
        std::byte{1};
    ASSERT_TRUE(sim.scrub(ScrubMode::compare));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().last_scrub->mismatches, 1);
    EXPECT_TRUE(sim.has_event("mismatch"));
    ASSERT_TRUE(sim.scrub(ScrubMode::repair));
    sim.come_to_rest();
    sim.expect_parity();
    sim.expect_content();
}

TEST(SimArray, AResyncMakesParityTrueWhereMembersCannotBeZeroedCheaply) {
    SimArray sim({.seed = 13, .level = Level::raid6, .members = 5, .zero_fast = false});
    for (auto& platter : sim.platters) {
        for (std::uint64_t i = SimArray::data_offset; i != platter->content.size(); ++i) {
            platter->content.data()[i] = static_cast<std::byte>(sim.loop().rng().next());
        }
    }
    sim.create();
    ASSERT_TRUE(sim.open());
    Buffer all(sim.size());
    ASSERT_TRUE(sim.read(0, all));
    std::memcpy(sim.model.data(), all.data(), all.size());
    for (int round = 0; round != 4; ++round) run_burst(sim, 12);
    sim.come_to_rest();
    EXPECT_TRUE(sim.has_event("resync_done"));
    sim.expect_parity();
    sim.expect_content();
}

TEST(SimArray, MoreLossesThanTheLevelAllowsAreAnErrorNotGarbage) {
    SimArray sim({.seed = 14});
    sim.create();
    ASSERT_TRUE(sim.open());
    run_burst(sim, 12);
    const auto failed = sim.loop().run_until_done(sim.array->fail_member("0", Force::no));
    ASSERT_TRUE(failed);
    const auto refused = sim.loop().run_until_done(sim.array->fail_member("1", Force::no));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("is needed"), std::string::npos);
    sim.platters[1]->dead = true;
    Buffer all(sim.size());
    EXPECT_FALSE(sim.read(0, all));
    Buffer data(3 * 16384);  // a whole stripe: written without reading
    for (int i = 0; i != 8; ++i) {
        IoRequest request;
        request.kind = IoKind::write;
        request.offset = {static_cast<std::uint64_t>(i) * data.size()};
        request.size = data.size();
        request.data = data.data();
        (void)sim.run(request).has_value();  // some fail; what counts is that none lies
    }
    EXPECT_EQ(sim.state_of(1), MemberState::in_sync) << "it is needed, and kept";
    EXPECT_EQ(sim.array->status().health, Health::degraded);
    EXPECT_FALSE(sim.stop());
}

TEST(SimArray, AReadonlyArrayIsScrubbedAndNothingIsWritten) {
    SimArray sim({.seed = 15, .level = Level::raid6, .members = 5});
    sim.create();
    ASSERT_TRUE(sim.open());
    run_burst(sim, 12);
    ASSERT_TRUE(sim.stop());
    sim.platters[1]->bad_rows.insert(SimArray::data_offset / row_size + 3);
    sim.platters[2]->content.data()[SimArray::data_offset + 9 * row_size] ^= std::byte{1};
    std::uint64_t writes = 0;
    for (const auto& platter : sim.platters) writes += platter->writes;
    ASSERT_TRUE(sim.open_readonly());
    EXPECT_FALSE(sim.scrub(ScrubMode::repair));
    ASSERT_TRUE(sim.scrub(ScrubMode::compare));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().last_scrub->mismatches, 1);
    ASSERT_TRUE(sim.stop());
    for (const auto& platter : sim.platters) writes -= platter->writes;
    EXPECT_EQ(writes, 0);
    EXPECT_EQ(sim.platters[1]->bad_rows.size(), 1);
}

TEST(SimArray, RequestsBeyondTheEndAreRefused) {
    SimArray sim({});
    sim.create();
    ASSERT_TRUE(sim.open());
    Buffer data(4096);
    const auto beyond = sim.write(sim.size() - 1, data);
    ASSERT_FALSE(beyond);
    EXPECT_EQ(beyond.error().code, Errc::range);
}

}  // namespace
}  // namespace braid::sim
