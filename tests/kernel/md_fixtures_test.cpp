// SPDX-License-Identifier: BSD-3-Clause
// Checks the fixtures themselves, with nothing of braid: where md puts each row of an array is
// written down here once more, straight from the kernel's drivers/md/raid5.c
// (raid5_compute_sector), so that a mistake in braid's geometry cannot hide in a mistake of the
// fixtures, nor the other way round.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/fixtures/md/fixtures.h"

namespace braid::fixtures {
namespace {

struct Place {
    int role;
    std::uint64_t offset;  // from the start of the member's data
};

Place place_of(const MdFixture& fixture, std::uint64_t row) {
    const std::uint64_t rows_per_strip = fixture.chunk_kib / 4;
    const int n = fixture.member_count;
    const int data = fixture.level == 6 ? n - 2 : n - 1;
    const std::uint64_t strip = row / rows_per_strip;
    const std::uint64_t stripe = strip / static_cast<unsigned>(data);
    const int turn = static_cast<int>(stripe % static_cast<unsigned>(n));
    int d = static_cast<int>(strip % static_cast<unsigned>(data));
    const std::uint64_t offset = (stripe * rows_per_strip + row % rows_per_strip) * 4096;
    if (fixture.level == 4) return {d, offset};
    const bool left = fixture.layout == 0 || fixture.layout == 2;
    const int p = left ? n - 1 - turn : turn;
    if (fixture.layout >= 2) return {(p + 1 + (fixture.level == 6 ? 1 : 0) + d) % n, offset};
    if (fixture.level == 5) return {d >= p ? d + 1 : d, offset};
    if (p == n - 1) return {d + 1, offset};  // Q is on member 0
    return {d >= p ? d + 2 : d, offset};
}

bool has_plain_format(const MdFixture& fixture) {
    return fixture.chunk_kib != 0 && fixture.members.front().state != "unread";
}

TEST(MdFixtures, EveryRowIsWhereMdPutsIt) {
    int seen = 0;
    for (const MdFixture& fixture : md_fixtures()) {
        if (!has_plain_format(fixture)) continue;
        SCOPED_TRACE(fixture.name);
        std::vector<std::vector<std::byte>> by_role(static_cast<std::size_t>(fixture.member_count));
        for (const MdMember& member : fixture.members) {
            const auto bytes = unpack(fixture, member);
            ASSERT_FALSE(bytes.empty()) << member.file;
            if (member.state == "in_sync") by_role[static_cast<std::size_t>(member.role)] = bytes;
        }
        std::uint64_t read = 0;
        for (std::uint64_t row = 0; row != fixture.array_bytes / 4096; ++row) {
            const Place place = place_of(fixture, row);
            const auto& member = by_role[static_cast<std::size_t>(place.role)];
            if (member.empty()) continue;
            ASSERT_LE(fixture.data_offset + place.offset + 4096, member.size());
            const auto at = static_cast<std::ptrdiff_t>(fixture.data_offset + place.offset);
            const std::span<const std::byte> bytes(member.begin() + at, 4096);
            ASSERT_TRUE(is_content(fixture.seed, row, bytes)) << "row " << row;
            ++read;
        }
        EXPECT_GE(read * 4096 * 2, fixture.array_bytes);
        ++seen;
    }
    EXPECT_GE(seen, 16);
}

TEST(MdFixtures, AStaleMemberHoldsOldContentAndARebuildingOneItsFirstRows) {
    const MdFixture stale = md_fixture("raid5-stale");
    const MdFixture rebuilding = md_fixture("raid5-rebuilding");
    const auto old_bytes = unpack(stale, stale.members.at(2));
    const auto new_bytes = unpack(rebuilding, rebuilding.members.at(1));
    ASSERT_EQ(stale.members[2].state, "stale");
    ASSERT_EQ(rebuilding.members[1].state, "rebuilding");
    ASSERT_FALSE(old_bytes.empty() || new_bytes.empty());
    for (std::uint64_t row = 0; row != stale.array_bytes / 4096; ++row) {
        const Place place = place_of(stale, row);
        if (place.role != 2) continue;
        const auto at = static_cast<std::ptrdiff_t>(stale.data_offset + place.offset);
        EXPECT_TRUE(is_content(stale.seed - 100, row, {old_bytes.begin() + at, 4096})) << row;
    }
    for (std::uint64_t row = 0; row != rebuilding.array_bytes / 4096; ++row) {
        const Place place = place_of(rebuilding, row);
        if (place.role != 1) continue;
        const auto at = static_cast<std::ptrdiff_t>(rebuilding.data_offset + place.offset);
        const std::span<const std::byte> bytes(new_bytes.begin() + at, 4096);
        EXPECT_EQ(is_content(rebuilding.seed, row, bytes), place.offset < 512 * 512) << row;
    }
}

}  // namespace
}  // namespace braid::fixtures
