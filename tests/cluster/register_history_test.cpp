// SPDX-License-Identifier: BSD-3-Clause
#include "tests/cluster/register_history.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "engine/base/rng.h"

namespace braid::test {
namespace {

TEST(RegisterHistory, TakesWhatOneRegisterCanShow) {
    RegisterHistory history(0);
    history.read(0, 1, 2);
    history.write(7, 3, 10);
    history.read(0, 4, 5);  // beside the write: old
    history.read(7, 6, 7);  // and new
    history.read(7, 11, 12);
    history.write(8, 13, RegisterHistory::never);
    history.read(7, 14, 15);
    history.read(8, 16, 17);
    EXPECT_EQ(history.fault(), "");
}

TEST(RegisterHistory, FindsAReadThatGoesBack) {
    RegisterHistory history(0);
    history.write(7, 3, 10);
    history.read(7, 4, 5);
    history.read(0, 6, 7);
    EXPECT_NE(history.fault(), "");
}

TEST(RegisterHistory, FindsAWriteThatWasLost) {
    RegisterHistory history(0);
    history.write(7, 1, 2);
    history.read(0, 3, 4);
    EXPECT_NE(history.fault(), "");
}

TEST(RegisterHistory, FindsAWriteThatComesBack) {
    RegisterHistory history(0);
    history.write(7, 1, 2);
    history.write(8, 3, 4);
    history.read(8, 5, 6);
    history.read(7, 7, 8);
    EXPECT_NE(history.fault(), "");
}

TEST(RegisterHistory, FindsWhatNobodyWroteOrNobodyHadWrittenYet) {
    RegisterHistory unknown(0);
    unknown.read(9, 1, 2);
    EXPECT_NE(unknown.fault(), "");
    RegisterHistory early(0);
    early.read(9, 1, 2);
    early.write(9, 3, 4);
    EXPECT_NE(early.fault(), "");
}

struct Op {
    bool is_write;
    std::uint64_t value;
    std::uint64_t begin;
    std::uint64_t end;
};

/// By trying every order.
bool is_linearizable(std::vector<Op> left, std::uint64_t value) {
    if (left.empty()) return true;
    for (std::size_t i = 0; i != left.size(); ++i) {
        const Op one = left[i];
        const bool first =
            std::ranges::none_of(left, [&](const Op& other) { return other.end < one.begin; });
        if (!first || (!one.is_write && one.value != value)) continue;
        std::vector<Op> rest = left;
        rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
        if (is_linearizable(std::move(rest), one.value)) return true;
    }
    return false;
}

// Goal: the zones say what the definition says. Method: small histories by chance, every order
// tried.
TEST(RegisterHistory, AgreesWithTheDefinition) {
    Rng rng(1);
    std::array<int, 2> found{};
    for (int turn = 0; turn != 20000; ++turn) {
        constexpr std::size_t count = 6;
        std::vector<std::uint64_t> times;
        for (std::uint64_t at = 1; at <= 2 * count; ++at) times.push_back(at);
        for (std::size_t i = times.size(); i > 1; --i) std::swap(times[i - 1], times[rng.below(i)]);
        std::vector<Op> ops;
        RegisterHistory history(0);
        for (std::size_t i = 0; i != count; ++i) {
            const std::uint64_t begin = std::min(times[2 * i], times[2 * i + 1]);
            const std::uint64_t end = std::max(times[2 * i], times[2 * i + 1]);
            const bool is_write = i < 3;
            const std::uint64_t value = is_write ? i + 1 : rng.below(4);
            ops.push_back({is_write, value, begin, end});
            is_write ? history.write(value, begin, end) : history.read(value, begin, end);
        }
        const bool right = is_linearizable(ops, 0);
        ++found[right ? 1 : 0];
        ASSERT_EQ(history.fault().empty(), right) << "turn " << turn << ": " << history.fault();
    }
    EXPECT_GT(found[0], 100);
    EXPECT_GT(found[1], 100);
}

}  // namespace
}  // namespace braid::test
