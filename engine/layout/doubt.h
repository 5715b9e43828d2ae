// SPDX-License-Identifier: BSD-3-Clause
// Doubt: the rows whose parity may not be true, because a write to them was cut off by a crash
// (write intent) or failed on a member that is kept, or because nothing made them true since the
// array was created. Nothing is computed from their parity until a resync has passed, or a write
// that computed it from all data strips. Ranges of window numbers, in order; of windows that are
// true in part, which rows are, as far as there is room: what is forgotten stays in doubt.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "engine/base/limits.h"
#include "engine/layout/rows.h"
#include "parity/require.h"

namespace braid {

class Doubt {
  public:
    bool empty() const { return ranges_.empty(); }
    const std::vector<WindowRange>& ranges() const { return ranges_; }
    std::uint64_t windows() const {
        std::uint64_t sum = 0;
        for (const WindowRange& range : ranges_) sum += range.size();
        return sum;
    }

    /// All rows of these windows. In any order, overlapping or not.
    void add(WindowRange range) {
        BRAID_REQUIRE(range.begin <= range.end);
        if (range.size() == 0) return;
        true_.erase(true_.lower_bound(range.begin), true_.lower_bound(range.end));
        ranges_.push_back(range);
        std::ranges::sort(ranges_, {}, &WindowRange::begin);
        std::vector<WindowRange> merged;
        for (const WindowRange& next : ranges_) {
            if (merged.empty() || next.begin > merged.back().end) {
                merged.push_back(next);
            } else {
                merged.back().end = std::max(merged.back().end, next.end);
            }
        }
        ranges_ = std::move(merged);
    }
    /// Rows of one window; bit r is row r, `all` are those that it has. False: there is no room to
    /// remember which, all of them are.
    bool add_rows(WindowIndex window, RowMask rows, RowMask all) {
        BRAID_REQUIRE((rows & ~all) == 0);
        const RowMask before = has(window) ? rows_of(window, all) : 0;
        add({window, window + 1});
        return remove_rows(window, all & ~(before | rows), all);
    }
    bool has(WindowIndex window) const { return overlaps({window, window + 1}); }
    bool overlaps(WindowRange range) const {
        if (ranges_.empty()) return false;  // mostly
        const auto after = std::ranges::upper_bound(ranges_, range.begin, {}, &WindowRange::end);
        return after != ranges_.end() && after->begin < range.end;
    }
    /// Which of `rows` of the window are in doubt.
    RowMask rows_of(WindowIndex window, RowMask rows) const {
        if (!has(window)) return 0;
        const auto known = true_.find(window);
        return known == true_.end() ? rows : rows & ~known->second;
    }
    /// Rows of a window that are true in part; the next one from `window` on. `rows` are those that
    /// are true.
    struct Partly {
        WindowIndex window{};
        RowMask rows{0};
    };
    Partly next_partly(WindowIndex window) const {
        const auto at = true_.lower_bound(window);
        return at == true_.end() ? Partly{WindowIndex{~std::uint64_t{0}}, 0}
                                 : Partly{at->first, at->second};
    }

    /// These rows were made true. False: there is no room to remember it, they stay in doubt.
    bool remove_rows(WindowIndex window, RowMask rows, RowMask all) {
        if (rows == 0 || !has(window)) return true;
        auto known = true_.find(window);
        if (known == true_.end()) {
            if ((rows & all) != all && true_.size() >= doubt_windows_max) return false;
            known = true_.emplace(window, 0).first;
        }
        known->second |= rows & all;
        // Where there is no room for one range more it stays, as one of which every row is true.
        if (known->second == all) (void)remove({window, window + 1});
        return true;
    }
    /// These windows were made true. False: there is no room for the ranges that would be left.
    bool remove(WindowRange range) {
        std::vector<WindowRange> left;
        for (const WindowRange& at : ranges_) {
            if (at.end <= range.begin || range.end <= at.begin) {
                left.push_back(at);
                continue;
            }
            if (at.begin < range.begin) left.push_back({at.begin, range.begin});
            if (range.end < at.end) left.push_back({range.end, at.end});
        }
        if (left.size() > ranges_.size() && left.size() > doubt_ranges_max) return false;
        ranges_ = std::move(left);
        true_.erase(true_.lower_bound(range.begin), true_.lower_bound(range.end));
        return true;
    }
    /// Everything before `window` was made true.
    void remove_before(WindowIndex window) { remove({WindowIndex{}, window}); }

  private:
    std::vector<WindowRange> ranges_;
    std::map<WindowIndex, RowMask> true_;  // rows of windows in `ranges_` that are true
};

}  // namespace braid
