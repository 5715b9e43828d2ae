// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/config_bad_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/base/limits.h"

namespace braid {

std::string json_text_of(std::span<const BadRange> ranges) {
    std::string text = "[";  // short: there may be many
    for (const BadRange& range : ranges) {
        if (text.size() != 1) text += ',';
        text += fmt::format("[{},{},{},\"{}\"]", raw(range.member), raw(range.first), range.count,
                            text_of(range.kind));
    }
    return text + "]";
}

bool fit_slot(std::span<const BadRange> ranges) {
    return ranges.size() <= bad_ranges_max && json_text_of(ranges).size() <= bad_rows_text_max;
}

namespace {

/// What it costs to list along what lies between a range and the next one; none: it cannot be.
std::optional<std::uint64_t> gap_cost(const BadRange& range, const BadRange& next,
                                      MemberSet written_since) {
    if (range.member != next.member || range.kind != next.kind) return std::nullopt;
    if (range.kind == BadKind::retry && written_since.has(range.member)) return std::nullopt;
    if (next.first < range.end()) return std::nullopt;  // not in order: refused elsewhere
    constexpr std::uint64_t void_weight = 8;  // what is void is lost, what is tried again is not
    const std::uint64_t gap = next.first - range.end();
    return range.kind == BadKind::voided ? gap * void_weight : gap;
}

}  // namespace

bool merge_to_fit(std::vector<BadRange>& ranges, MemberSet written_since) {
    while (!fit_slot(ranges)) {
        std::vector<std::uint64_t> costs;
        for (std::size_t i = 0; i + 1 < ranges.size(); ++i) {
            const auto cost = gap_cost(ranges[i], ranges[i + 1], written_since);
            if (cost) costs.push_back(*cost);
        }
        if (costs.empty()) return false;
        // Some at once, the cheapest first, so that a long list is not looked at for each.
        const std::size_t some = std::min(costs.size() - 1, ranges.size() / 16);
        std::ranges::nth_element(costs, costs.begin() + static_cast<std::ptrdiff_t>(some));
        std::vector<BadRange> merged;
        std::size_t left = some + 1;  // many may cost the same
        for (const BadRange& next : ranges) {
            const auto cost =
                merged.empty() ? std::nullopt : gap_cost(merged.back(), next, written_since);
            if (cost && *cost <= costs[some] && left != 0) {
                --left;
                merged.back().count = next.end() - merged.back().first;
            } else {
                merged.push_back(next);
            }
        }
        ranges = std::move(merged);
    }
    return true;
}

}  // namespace braid
