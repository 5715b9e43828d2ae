// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/wrong_rows.h"

#include "tests/engine/array_fixture.h"

namespace braid {
namespace {

/// RAID-5 of four: strips of four rows, stripes of three strips, two volumes with a gap behind.
Configuration raid5() {
    Configuration c;
    c.level = Level::raid5;
    c.strip_size = 4 * row_size;
    c.member_count = 4;
    c.stripes = 30;
    c.volumes = {{"one", StripeIndex{0}, 10}, {"two", StripeIndex{10}, 10}};
    return c;
}
WrongRows rows(std::uint64_t first, std::uint64_t count, MemberSet members = {}) {
    return {RowIndex{first}, count, members, "differs"};
}

TEST(WrongRows, AreNamedAsBytesOfVolumes) {
    const Configuration c = raid5();
    EXPECT_EQ(text_of(rows(41, 2), c),
              "volume two, bytes 4096 to 12287, 20480 to 28671, 36864 to 45055: differs "
              "(stripe 10, bytes 4096 to 12287 of its strips)");
    EXPECT_EQ(text_of(rows(40, 4), c),
              "volume two, bytes 0 to 49151: differs (stripe 10, bytes 0 to 16383 of its strips)");
    EXPECT_EQ(text_of(rows(0, 8), c),
              "volume one, bytes 0 to 98303: differs (8 rows of stripes 0 to 1)");
    EXPECT_EQ(text_of(rows(1, 8), c),
              "volume one, within bytes 0 to 147455: differs (8 rows of stripes 0 to 2)");
    EXPECT_EQ(text_of(rows(80, 1), c).substr(0, 40), "outside every volume, bytes 983040 to 98");
    // Left-symmetric: in stripe 0, P is on member 3, and member 1 has the second strip.
    EXPECT_EQ(
        text_of(rows(0, 1, MemberSet::of(MemberIndex{1})), c),
        "volume one, bytes 16384 to 20479: differs (stripe 0, bytes 0 to 4095 of its strips)");
    EXPECT_EQ(text_of(rows(0, 1, MemberSet::of(MemberIndex{3})), c),
              "volume one, no byte of it, only parity: differs "
              "(stripe 0, bytes 0 to 4095 of its strips)");
}

TEST(WrongRows, NeighboursAreJoinedInAnyOrder) {
    const Configuration c = raid5();
    WrongRowsJoiner joiner(c);
    for (const std::uint64_t row : {3, 1, 2, 7, 0, 5, 6}) {
        EXPECT_FALSE(joiner.add(rows(row, 1)));
    }
    EXPECT_FALSE(joiner.add(rows(4, 1, MemberSet::of(MemberIndex{2}))));  // wrong in another way
    const auto found = joiner.take_before(RowIndex{100});
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[0].first, RowIndex{0});
    EXPECT_EQ(found[0].count, 4u);
    EXPECT_EQ(found[1].count, 1u);
    EXPECT_EQ(found[2].first, RowIndex{5});
    EXPECT_EQ(found[2].count, 3u);
}

TEST(WrongRows, AreNotJoinedAcrossVolumesAndMemoryIsBounded) {
    const Configuration c = raid5();
    WrongRowsJoiner joiner(c);
    joiner.add(rows(39, 1));
    joiner.add(rows(40, 1));
    EXPECT_EQ(joiner.take_before(RowIndex{41}).size(), 1u) << "what may still grow stays";
    EXPECT_EQ(joiner.take_before(RowIndex{42}).size(), 1u);
    std::uint64_t out = 0;
    for (std::uint64_t row = 0; row != 100; row += 2) {
        if (const auto complete = joiner.add(rows(row, 1))) {
            EXPECT_EQ(complete->first, RowIndex{2 * out++});
        }
    }
    EXPECT_EQ(out, 50 - wrong_rows_open_max);
}

TEST(WrongRows, AScrubNamesAllAndTheLogManyTogether) {
    sim::SimArray sim({.seed = 30, .stripes = 400});
    sim.create();
    ASSERT_TRUE(sim.open());
    for (std::uint64_t stripe = 0; stripe != 400; ++stripe) {  // the second row of each strip
        sim.platters[0]->content.data()[sim::SimArray::data_offset + stripe * (16u << 10) + 5000] ^=
            std::byte{1};
    }
    ASSERT_TRUE(sim.scrub(ScrubMode::compare));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().last_scrub->mismatches, 400u);
    EXPECT_EQ(sim.wrong.size(), 400u);
    EXPECT_EQ(std::ranges::count(sim.events, "mismatch"), 21);
    EXPECT_EQ(std::ranges::count_if(sim.texts,
                                    [](const std::string& text) {
                                        return text.starts_with(
                                            "380 more places with 380 rows, between stripe ");
                                    }),
              1);
    ASSERT_TRUE(sim.scrub(ScrubMode::repair));
    sim.come_to_rest();
    sim.expect_parity();
}

TEST(WrongRows, AnArrayInDoubtIsNotScrubbedAndSaysWhatHelps) {
    sim::SimArray sim({.seed = 31});
    sim.create();
    ASSERT_TRUE(sim.open());
    Buffer data = sim::random_bytes(sim.loop().rng(), 64u << 10);
    ASSERT_TRUE(sim.write(0, data));
    sim.kill();
    ASSERT_TRUE(sim.open_readonly());
    const ArrayStatus status = sim.array->status();
    EXPECT_TRUE(status.in_doubt);
    EXPECT_TRUE(status.intent.on) << "it only rests";
    EXPECT_TRUE(sim.has_event("resync_waits"));
    for (const std::string& text : sim.texts) {
        EXPECT_EQ(text.find("made true again"), std::string::npos) << text;
    }
    const auto refused = sim.scrub(ScrubMode::compare);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("braid check --repair"), std::string::npos);
    EXPECT_TRUE(sim.stop());
    ASSERT_TRUE(sim.open());
    sim.come_to_rest();
    EXPECT_FALSE(sim.array->status().in_doubt);
}

}  // namespace
}  // namespace braid
