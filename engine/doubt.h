// SPDX-License-Identifier: BSD-3-Clause
// Doubt: the windows whose parity may not be true, because a write to them was cut off by a crash
// (write intent), or because nothing made them true since the array was created. Nothing is
// computed from their parity until a resync has passed. Ranges of window numbers, in order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parity/require.h"

namespace braid {

/// Windows [begin, end) in the order in which members are walked.
struct WindowRange {
    std::uint64_t begin{0};
    std::uint64_t end{0};
    std::uint64_t size() const { return end - begin; }
    bool operator==(const WindowRange&) const = default;
};

class Doubt {
  public:
    bool empty() const { return ranges_.empty(); }
    const std::vector<WindowRange>& ranges() const { return ranges_; }
    std::uint64_t windows() const {
        std::uint64_t sum = 0;
        for (const WindowRange& range : ranges_) sum += range.size();
        return sum;
    }

    /// In any order, overlapping or not.
    void add(WindowRange range) {
        if (range.size() == 0) return;
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
    bool has(std::uint64_t window) const { return overlaps({window, window + 1}); }
    bool overlaps(WindowRange range) const {
        if (ranges_.empty()) return false;  // mostly
        const auto after = std::ranges::upper_bound(ranges_, range.begin, {}, &WindowRange::end);
        return after != ranges_.end() && after->begin < range.end;
    }
    /// Everything before `window` was made true.
    void remove_before(std::uint64_t window) {
        std::erase_if(ranges_, [window](const WindowRange& range) { return range.end <= window; });
        if (!ranges_.empty()) ranges_.front().begin = std::max(ranges_.front().begin, window);
    }

  private:
    std::vector<WindowRange> ranges_;
};

}  // namespace braid
