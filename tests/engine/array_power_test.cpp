// SPDX-License-Identifier: BSD-3-Clause
// The power goes: what was flushed, or written with FUA, is there afterwards.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

/// An array that was never stopped. Its coroutines wait for ever; somebody has to own them.
std::vector<std::unique_ptr<Array>>& abandoned() {
    static auto* all = new std::vector<std::unique_ptr<Array>>;  // NOLINT: outlives everything
    return *all;
}

struct Shape {
    Level level;
    std::uint32_t members;
    std::uint64_t strip_size;
};

TEST(SimArrayPower, FlushedDataIsThereAfterThePowerWasCut) {
    for (std::uint64_t seed = 1; seed != 25; ++seed) {
        SCOPED_TRACE(seed);
        const Shape shapes[] = {
            {Level::raid5, 4, 16384}, {Level::raid6, 5, 4096}, {Level::raid4, 3, 65536}};
        const Shape& shape = shapes[seed % 3];
        SimArray sim({.seed = seed,
                      .level = shape.level,
                      .members = shape.members,
                      .strip_size = shape.strip_size});
        sim.create();
        ASSERT_TRUE(sim.open());
        Rng& rng = sim.loop().rng();
        const std::uint64_t sectors = sim.size() / sector_size;
        const auto write_some = [&](Fua fua) {
            const std::uint64_t first = rng.below(sectors);
            const std::uint64_t count = std::min(1 + rng.below(200), sectors - first);
            Buffer data = random_bytes(rng, count * sector_size);
            ASSERT_TRUE(sim.write(first * sector_size, data, fua));
        };
        for (int i = 0; i != 30; ++i) write_some(Fua::no);
        ASSERT_TRUE(sim.flush());
        // Beyond it: some with FUA, which count, and some without, which may come or go.
        std::vector<bool> loose(sectors, false);
        for (int i = 0; i != 20; ++i) {
            const std::vector<std::byte> before = sim.model;
            const Fua fua = rng.chance(3) ? Fua::yes : Fua::no;
            write_some(fua);
            for (std::uint64_t s = 0; s != sectors; ++s) {
                const std::uint64_t at = s * sector_size;
                if (std::memcmp(&before[at], &sim.model[at], sector_size) == 0) continue;
                loose[s] = fua == Fua::no;
            }
        }
        const std::vector<std::byte> last = sim.model;
        abandoned().push_back(std::move(sim.array));
        for (auto& platter : sim.platters) platter->cut_power(rng);
        ASSERT_TRUE(sim.open());
        const auto check = [&] {
            Buffer all(sim.size());
            ASSERT_TRUE(sim.read(0, all));
            for (std::uint64_t s = 0; s != sectors; ++s) {
                const std::uint64_t at = s * sector_size;
                if (loose[s]) continue;
                ASSERT_EQ(std::memcmp(all.data() + at, &last[at], sector_size), 0)
                    << "sector " << s;
            }
        };
        check();
        sim.come_to_rest();
        EXPECT_TRUE(sim.has_event("resync_done"));
        check();
        sim.expect_parity();
    }
}

TEST(SimArrayPower, ARebuildGoesOnNoFurtherThanWhatIsDurable) {
    SimArray sim({.seed = 30, .stripes = 1000});
    sim.create();
    ASSERT_TRUE(sim.open());
    constexpr std::uint64_t piece = 1u << 20;
    for (std::uint64_t at = 0; at < sim.size(); at += piece) {
        Buffer data = random_bytes(sim.loop().rng(), std::min(piece, sim.size() - at));
        ASSERT_TRUE(sim.write(at, data));
    }
    ASSERT_TRUE(sim.flush());
    auto platter = sim.make_platter();
    ASSERT_TRUE(sim.loop().run_until_done(
        sim.array->replace_member("1", sim.disk(platter, sim.path_of(1)), Force::no)));
    sim.platters[1] = platter;
    platter->delay_nanos = 3'000'000'000;  // so that it takes some checkpoints
    const auto position = [&] {
        for (const MemberRecord& member : sim.array->configuration().members) {
            if (member.state == MemberState::rebuilding) return raw(member.rebuilt);
        }
        return std::uint64_t{0};
    };
    while (position() == 0) ASSERT_TRUE(sim.loop().step());
    ASSERT_NO_FATAL_FAILURE(sim.crash_when_configured());
    platter->delay_nanos = 0;
    ASSERT_TRUE(sim.open());
    EXPECT_NE(position(), 0U);
    sim.come_to_rest();
    sim.expect_content();
    sim.expect_parity();
}

/// Whoever reads "clean" may pull another member, and the power may go at that moment.
TEST(SimArrayPower, AMemberIsNotCalledRebuiltBeforeAStartWouldCountIt) {
    for (const char* told : {"rebuild_done", "clean", "health"}) {
        SimArray sim({.seed = 31, .stripes = 20});
        sim.create();
        ASSERT_TRUE(sim.open());
        Buffer data = random_bytes(sim.loop().rng(), sim.size());
        ASSERT_TRUE(sim.write(0, data));
        ASSERT_TRUE(sim.flush());
        sim.loop().run_for(seconds(20));  // until nothing is marked any more
        auto platter = sim.make_platter();
        ASSERT_TRUE(sim.loop().run_until_done(
            sim.array->replace_member("1", sim.disk(platter, sim.path_of(1)), Force::no)));
        sim.platters[1] = platter;
        const auto is_told = [&] {
            return told == std::string("health") ? sim.array->status().health == Health::clean
                                                 : sim.has_event(told);
        };
        while (!is_told()) ASSERT_TRUE(sim.loop().step());
        sim.crash();
        ASSERT_TRUE(sim.open({1, 2, 3})) << told;
        sim.expect_content();
    }
}

}  // namespace
}  // namespace braid::sim
