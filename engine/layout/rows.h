// SPDX-License-Identifier: BSD-3-Clause
// Rows and windows: which part of a stripe is meant. A row is `row_size` bytes of each strip; a
// window is at most 64 rows of a stripe, so that a set of its rows is 64 bits.
#pragma once

#include <bit>
#include <compare>
#include <cstdint>

#include "engine/base/units.h"

namespace braid {

/// A set of rows of one window: bit r is row r.
using RowMask = std::uint64_t;
constexpr RowMask row_range(std::uint32_t first, std::uint32_t count) {
    return (count == 64 ? ~RowMask{0} : (RowMask{1} << count) - 1) << first;
}

/// A window: rows [window * window_rows, ...) of every strip of a stripe.
struct WindowPlace {
    StripeIndex stripe{};
    std::uint32_t window{0};
    auto operator<=>(const WindowPlace&) const = default;
};

/// Windows [begin, end) in the order in which members are walked.
struct WindowRange {
    WindowIndex begin{};
    WindowIndex end{};
    std::uint64_t size() const { return end - begin; }
    bool operator==(const WindowRange&) const = default;
};

/// Calls visit(first row, count) for each run of neighbouring rows.
template <class Visit>
void for_each_run(RowMask rows, Visit visit) {
    while (rows != 0) {
        const auto row = static_cast<std::uint32_t>(std::countr_zero(rows));
        const auto count = static_cast<std::uint32_t>(std::countr_one(rows >> row));
        rows &= ~row_range(row, count);
        visit(row, count);
    }
}

}  // namespace braid
