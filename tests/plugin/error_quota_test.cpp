// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/error_quota.h"

#include <gtest/gtest.h>

namespace braid::plugin {
namespace {

TEST(ErrorQuota, TellsOfTheFirstAndThenHowManyThereWere) {
    ErrorQuota quota;
    const std::uint64_t day = seconds(86'400).value;
    for (std::uint64_t i = 0; i != ErrorQuota::lines_max; ++i) EXPECT_EQ(quota.take({day + i}), 0U);
    for (std::uint64_t i = 0; i != 1000; ++i) {
        EXPECT_FALSE(quota.take({day + ErrorQuota::lines_max + i}));
    }
    EXPECT_FALSE(quota.take({day + ErrorQuota::period.value - 1}));
    EXPECT_EQ(quota.take({day + ErrorQuota::period.value}), 1001U);
    EXPECT_EQ(quota.take({day + ErrorQuota::period.value}), 0U);
}

TEST(ErrorQuota, FewAtATimeAreAllToldOf) {
    ErrorQuota quota;
    for (std::uint64_t i = 0; i != 100; ++i) {
        EXPECT_EQ(quota.take({i * (ErrorQuota::period.value / ErrorQuota::lines_max)}), 0U);
    }
}

}  // namespace
}  // namespace braid::plugin
