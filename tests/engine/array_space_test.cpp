// SPDX-License-Identifier: BSD-3-Clause
// What members take up: thin ones stay thin, preallocated ones stay allocated.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t kibi = 1024;

/// Of all members, without what lies before the data.
std::uint64_t data_space(const SimArray& sim) {
    constexpr std::uint64_t first = SimArray::data_offset / row_size;
    std::uint64_t rows = 0;
    for (const auto& platter : sim.platters) {
        const auto begin = platter->space.begin() + static_cast<std::ptrdiff_t>(first);
        rows += static_cast<std::uint64_t>(std::count(begin, platter->space.end(), true));
    }
    return rows * row_size;
}
constexpr std::uint64_t tail_of_create = 1024 * kibi;  // of each member; wiped by writing

IoRequest zero_of(std::uint64_t offset, std::uint64_t size) {
    IoRequest zero;
    zero.kind = IoKind::zero;
    zero.offset = {offset};
    zero.size = size;
    return zero;
}

TEST(ArraySpace, TrimsOfEmptySpaceTakeNone) {
    SimArray sim({.seed = 3, .members = 5, .strip_size = 64 * kibi, .stripes = 40});
    sim.create();
    ASSERT_TRUE(sim.open());
    const std::uint64_t before = data_space(sim);
    EXPECT_LE(before, 5 * tail_of_create);
    Rng rng(1);
    for (int i = 0; i != 300; ++i) {
        IoRequest trim = zero_of(0, 64 * kibi);
        trim.offset = {rng.below(sim.size() - trim.size)};
        trim.trim = true;
        ASSERT_TRUE(sim.run(trim));
    }
    EXPECT_EQ(data_space(sim), before);
    sim.expect_content();
    sim.expect_parity();
}

TEST(ArraySpace, ATrimFreesWholeStripesAndLeavesTheRest) {
    SimArray sim({.seed = 4, .members = 4, .strip_size = 16 * kibi, .stripes = 24});
    sim.create();
    ASSERT_TRUE(sim.open());
    Buffer all = random_bytes(sim.loop().rng(), sim.size());
    ASSERT_TRUE(sim.write(0, all));
    EXPECT_EQ(data_space(sim), 24 * 4 * 16 * kibi);
    IoRequest trim = zero_of(5000, 10 * 48 * kibi);  // the first stripe and the eleventh in part
    trim.trim = true;
    ASSERT_TRUE(sim.run(trim));
    EXPECT_EQ(data_space(sim), (24 - 9) * 4 * 16 * kibi);
    std::memset(sim.model.data() + 48 * kibi, 0, 9 * 48 * kibi);
    sim.expect_content();
    sim.expect_parity();
}

TEST(ArraySpace, ATrimDoesNothingWhereItIsNotFast) {
    SimArray sim({.seed = 5, .zero_fast = false});
    sim.create();
    ASSERT_TRUE(sim.open());
    sim.come_to_rest();
    Buffer all = random_bytes(sim.loop().rng(), sim.size());
    ASSERT_TRUE(sim.write(0, all));
    IoRequest trim = zero_of(0, sim.size());
    trim.trim = true;
    ASSERT_TRUE(sim.run(trim));
    sim.expect_content();
}

TEST(ArraySpace, AZeroKeepsSpaceUnlessItMayFree) {
    for (const bool kept_fast : {true, false}) {
        SimArray sim({.seed = 6, .members = 4, .strip_size = 16 * kibi, .stripes = 24});
        for (auto& platter : sim.platters) platter->zero_kept_fast = kept_fast;
        sim.create();
        ASSERT_TRUE(sim.open());
        Buffer all = random_bytes(sim.loop().rng(), sim.size());
        ASSERT_TRUE(sim.write(0, all));
        const std::uint64_t full = data_space(sim);
        EXPECT_EQ(full, 24 * 4 * 16 * kibi);
        IoRequest fast = zero_of(0, sim.size());
        fast.fast_only = true;
        EXPECT_EQ(sim.run(fast).has_value(), kept_fast);
        IoRequest zero = zero_of(1000, sim.size() - 2000);
        ASSERT_TRUE(sim.run(zero));
        if (kept_fast) std::memset(sim.model.data(), 0, sim.size());
        std::memset(sim.model.data() + 1000, 0, sim.size() - 2000);
        EXPECT_EQ(data_space(sim), full);
        sim.expect_content();
        IoRequest freeing = zero_of(1000, sim.size() - 2000);
        freeing.may_free = true;
        ASSERT_TRUE(sim.run(freeing));
        EXPECT_EQ(data_space(sim), 2 * 4 * 16 * kibi);  // the first and the last stripe
        sim.expect_content();
        sim.expect_parity();
    }
}

TEST(ArraySpace, CreateKeepsPreallocatedMembersAllocatedAndThinOnesThin) {
    for (const bool kept_fast : {true, false}) {
        SimArray sim({.seed = 7, .members = 3, .strip_size = 64 * kibi, .stripes = 40});
        for (auto& platter : sim.platters) platter->zero_kept_fast = kept_fast;
        auto& full = *sim.platters[1];
        full.space.assign(full.space.size(), true);
        std::memset(full.content.data(), 0x5a, full.content.size());  // and old content
        sim.create();
        ASSERT_TRUE(sim.open());
        sim.come_to_rest();
        EXPECT_EQ(full.space_taken(), full.content.size());
        if (kept_fast) {  // else a resync makes parity of the old content
            EXPECT_LE(data_space(sim), 40 * 64 * kibi + 2 * tail_of_create);
            sim.expect_content();
        }
        sim.expect_parity();
    }
}

TEST(ArraySpace, AResyncOfThinMembersTakesNoSpace) {
    SimArray sim({.seed = 8,
                  .level = Level::raid6,
                  .members = 5,
                  .strip_size = 64 * kibi,
                  .stripes = 40,
                  .zero_fast = false});
    sim.create();
    ASSERT_TRUE(sim.open());
    sim.come_to_rest();
    EXPECT_LE(data_space(sim), 5 * tail_of_create);
    sim.expect_parity();
}

/// What a rebuild of member 1 onto `platter` writes into the data, in bytes.
std::uint64_t rebuild_onto(SimArray& sim, std::size_t platter) {
    EXPECT_TRUE(sim.loop().run_until_done(sim.array->replace_member(
        "1", sim.disk(sim.platters[platter], SimArray::path_of(platter)), Force::yes)));
    sim.come_to_rest();
    EXPECT_EQ(sim.state_of(1), MemberState::in_sync);
    return sim.array->status().members[1].bytes_written;
}

TEST(ArraySpace, ARebuildWritesNoZerosOntoZeros) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        SimArray sim(
            {.seed = 9, .level = level, .members = 5, .strip_size = 64 * kibi, .stripes = 400});
        sim.create();
        ASSERT_TRUE(sim.open());
        Buffer data = random_bytes(sim.loop().rng(), 1u << 20);
        ASSERT_TRUE(sim.write(7 << 20, data));
        sim.platters.push_back(sim.make_platter());
        const std::uint64_t written = rebuild_onto(sim, 5);
        EXPECT_GT(written, 0u);
        EXPECT_LE(written, 512 * kibi);  // of 25 MiB
        EXPECT_LE(sim.platters[5]->space_taken(), SimArray::data_offset + 512 * kibi);
        sim.platters[1] = sim.platters[5];
        sim.platters.pop_back();
        sim.expect_content();
        sim.expect_parity();
    }
}

TEST(ArraySpace, ARebuildOverwritesWhatADiskHeldBefore) {
    SimArray sim({.seed = 10, .members = 4, .strip_size = 16 * kibi, .stripes = 600});
    sim.create();
    ASSERT_TRUE(sim.open());
    Rng& rng = sim.loop().rng();
    for (int i = 0; i != 40; ++i) {
        Buffer data = random_bytes(rng, 4096 + rng.below(30'000));
        ASSERT_TRUE(sim.write(rng.below(sim.size() - data.size()), data));
    }
    sim.platters.push_back(sim.make_platter());
    SimPlatter& used = *sim.platters[4];
    for (std::uint64_t at = SimArray::data_offset; at < used.content.size(); at += row_size) {
        if (rng.chance(3)) continue;  // zero rows between
        used.content.data()[at + rng.below(row_size)] = std::byte{1};
    }
    rebuild_onto(sim, 4);
    sim.platters[1] = sim.platters[4];
    sim.platters.pop_back();
    sim.expect_parity();
    sim.expect_content();
}

TEST(ArraySpace, ZerosThatARebuildFindsAreDurableWhenItIsDone) {
    SimArray sim({.seed = 11, .members = 4, .strip_size = 16 * kibi, .stripes = 600});
    sim.create();
    ASSERT_TRUE(sim.open());
    sim.platters.push_back(sim.make_platter());
    SimPlatter& used = *sim.platters[4];
    auto disk = sim.disk(sim.platters[4], SimArray::path_of(4));
    std::memset(used.content.data() + SimArray::data_offset, 0x77,
                used.content.size() - SimArray::data_offset);
    sim.platters[0]->delay_nanos = seconds(2).value;  // the rebuild waits for its first reads
    ASSERT_TRUE(
        sim.loop().run_until_done(sim.array->replace_member("1", std::move(disk), Force::yes)));
    sim.loop().run_for(seconds(1));
    // Behind the rebuild's back, after everything that joining flushes: into the cache only.
    used.change(SimArray::data_offset, nullptr, used.content.size() - SimArray::data_offset, false,
                [](std::uint64_t) { return true; });
    sim.platters[0]->delay_nanos = 0;
    for (int i = 0; i != 1'000'000 && !sim.has_event("rebuild_done"); ++i) {
        sim.loop().run_for(Nanos{5'000});
    }
    ASSERT_EQ(sim.state_of(1), MemberState::in_sync);
    EXPECT_EQ(sim.array->status().members[1].bytes_written, 0u);
    // The configuration that says so is on its way now.
    EXPECT_TRUE(std::ranges::none_of(used.unflushed, [](const SimPlatter::Write& write) {
        return write.offset >= SimArray::data_offset;
    }));
    sim.come_to_rest();
    sim.crash();
    sim.platters[1] = sim.platters[4];
    sim.platters.pop_back();
    ASSERT_TRUE(sim.open());
    sim.come_to_rest();
    sim.expect_parity();
    sim.expect_content();
}

}  // namespace
}  // namespace braid::sim
