// SPDX-License-Identifier: BSD-3-Clause
// RowSet: whatever was added is found, in bounded memory, and nothing else while there is room.
#include "engine/layout/row_set.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/base/rng.h"

namespace braid {
namespace {

std::set<std::uint64_t> rows_of(const RowSet& set) {
    std::set<std::uint64_t> rows;
    RowIndex last{};
    set.for_each([&](RowIndex first, std::uint64_t count) {
        EXPECT_GE(first, last) << "in order";
        EXPECT_NE(count, 0U);
        for (std::uint64_t i = 0; i != count; ++i) rows.insert(raw(first) + i);
        last = first + count;
    });
    return rows;
}

TEST(RowSet, HasWhatWasAddedAndNothingElse) {
    Rng rng(1);
    for (int round = 0; round != 50; ++round) {
        RowSet set;
        std::set<std::uint64_t> rows;
        EXPECT_TRUE(set.empty());
        for (int i = 0; i != 100; ++i) {
            const std::uint64_t first = rng.below(4000) + (rng.chance(2) ? 1'000'000'000'000 : 0);
            const std::uint64_t count = rng.chance(3) ? rng.below(300) : rng.below(3);
            set.add(RowIndex{first}, count);
            for (std::uint64_t row = first; row != first + count; ++row) rows.insert(row);
        }
        EXPECT_EQ(rows_of(set), rows);
        for (int i = 0; i != 200; ++i) {
            const std::uint64_t first = rng.below(4100);
            const std::uint64_t count = rng.below(200);
            const auto at = rows.lower_bound(first);
            EXPECT_EQ(set.overlaps(RowIndex{first}, count),
                      at != rows.end() && *at < first + count);
        }
        RowSet both;
        both.add(RowIndex{5000}, 10);
        both.add(set);
        for (std::uint64_t row = 5000; row != 5010; ++row) rows.insert(row);
        EXPECT_EQ(rows_of(both), rows);
        set.clear();
        EXPECT_TRUE(set.empty());
        EXPECT_TRUE(rows_of(set).empty());
        EXPECT_FALSE(set.overlaps(RowIndex{0}, 5000));
    }
}

TEST(RowSet, PastItsBoundItBecomesCoarser) {
    Rng rng(2);
    RowSet set;
    std::set<std::uint64_t> rows;
    for (int i = 0; i != 100'000; ++i) {
        const std::uint64_t row = rng.below(std::uint64_t{1} << 30);
        set.add(RowIndex{row}, 1);
        rows.insert(row);
    }
    for (const std::uint64_t row : rows) ASSERT_TRUE(set.overlaps(RowIndex{row}, 1)) << row;
    std::uint64_t runs = 0;
    std::uint64_t in_all = 0;
    set.for_each([&](RowIndex, std::uint64_t count) {
        ++runs;
        in_all += count;
    });
    EXPECT_LE(runs, std::uint64_t{row_blocks_max} * 32);
    EXPECT_LT(in_all, std::uint64_t{1} << 30) << "not everything";
    EXPECT_GE(in_all, rows.size());
    // One long piece stays exact: it needs few blocks.
    set.clear();
    set.add(RowIndex{7}, 12'000 * 64);
    EXPECT_TRUE(set.overlaps(RowIndex{7}, 1));
    EXPECT_FALSE(set.overlaps(RowIndex{0}, 7));
    EXPECT_FALSE(set.overlaps(RowIndex{7 + 12'000 * 64}, 100));
}

}  // namespace
}  // namespace braid
