// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/bad_rows.h"

#include <algorithm>

namespace braid {

std::vector<BadRange>::const_iterator BadRows::find(MemberIndex member, std::uint64_t row) const {
    return std::ranges::partition_point(ranges_, [=](const BadRange& range) {
        return range.member < member ||
               (range.member == member && range.first + range.count <= row);
    });
}

bool BadRows::has_member(MemberIndex member) const {
    const auto range = find(member, 0);
    return range != ranges_.end() && range->member == member;
}

BadRange BadRows::range_of(WindowPlace place, Role role, std::uint32_t first,
                           std::uint32_t count) const {
    const std::uint64_t window_first =
        raw(place.stripe) * geometry_.rows_per_strip() + place.window * geometry_.window_rows;
    return {geometry_.member_of(place.stripe, role), window_first + first, count};
}

void BadRows::set(std::vector<BadRange> ranges) {
    BRAID_AUDIT(std::ranges::is_sorted(
        ranges, {}, [](const BadRange& at) { return std::pair(raw(at.member), at.first); }));
    ranges_ = std::move(ranges);
    retries_ =
        static_cast<std::size_t>(std::ranges::count(ranges_, BadKind::retry, &BadRange::kind));
}

RowMask BadRows::retry_rows(WindowPlace place, RowMask rows) const {
    RowMask found = 0;
    if (retries_ == 0) return 0;  // mostly
    for (const Role role : geometry_.data_roles()) {
        found |= rows_of(place, role, rows, BadKind::retry);
    }
    return found;
}

RowMask BadRows::rows_of(WindowPlace place, Role role, RowMask rows,
                         std::optional<BadKind> kind) const {
    if (ranges_.empty() || raw(role) >= geometry_.data_count()) return 0;
    const BadRange window = range_of(place, role, 0, geometry_.window_rows);
    RowMask listed = 0;
    for (const BadRange& range : listed_in(window)) {
        if (kind && range.kind != *kind) continue;
        listed |= row_range(static_cast<std::uint32_t>(range.first - window.first),
                            static_cast<std::uint32_t>(range.count));
    }
    return listed & rows;
}

/// Whether the member holds data in the stripe of the row.
bool BadRows::means(MemberIndex member, std::uint64_t row) const {
    const StripeIndex stripe{row / geometry_.rows_per_strip()};
    return raw(geometry_.role_of(stripe, member)) < geometry_.data_count();
}

/// Whether rows that mean something lie between two ranges of a member.
bool BadRows::parts(const BadRange& before, const BadRange& after) const {
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    for (std::uint64_t row = before.first + before.count; row < after.first;
         row = round_down(row + per_strip, per_strip)) {
        if (means(before.member, row)) return true;
    }
    return false;
}

void BadRows::trim(BadRange& range) const {
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    std::uint64_t end = range.first + range.count;
    while (range.first < end && !means(range.member, range.first)) {
        range.first = std::min(end, round_down(range.first + per_strip, per_strip));
    }
    while (range.first < end && !means(range.member, end - 1)) {
        end = std::max(range.first, round_down(end - 1, per_strip));
    }
    range.count = end - range.first;
}

std::vector<BadRange> BadRows::listed_in(const BadRange& range) const {
    std::vector<BadRange> listed;
    const std::uint64_t past = range.first + range.count;
    for (auto at = find(range.member, range.first);
         at != ranges_.end() && at->member == range.member && at->first < past; ++at) {
        const std::uint64_t begin = std::max(at->first, range.first);
        listed.push_back(
            {range.member, begin, std::min(at->first + at->count, past) - begin, at->kind});
    }
    return listed;
}

std::vector<BadRange> BadRows::with(const BadRange& range) const {
    std::vector<BadRange> all = ranges_;
    const auto add = [&](std::uint64_t first, std::uint64_t end) {
        BadRange piece{range.member, first, end - first, range.kind};
        trim(piece);
        if (piece.count != 0) all.push_back(piece);
    };
    std::uint64_t at = range.first;
    for (const BadRange& listed : listed_in(range)) {
        if (at < listed.first) add(at, listed.first);
        at = listed.first + listed.count;
    }
    if (at < range.first + range.count) add(at, range.first + range.count);
    if (all.size() == ranges_.size()) return ranges_;
    std::ranges::sort(all, [](const BadRange& a, const BadRange& b) {
        return a.member != b.member ? a.member < b.member : a.first < b.first;
    });
    std::vector<BadRange> merged;
    for (const BadRange& next : all) {
        BadRange* last = merged.empty() ? nullptr : &merged.back();
        if (last == nullptr || last->member != next.member || last->kind != next.kind ||
            parts(*last, next)) {
            merged.push_back(next);
            continue;
        }
        const std::uint64_t end = std::max(last->first + last->count, next.first + next.count);
        last->count = end - last->first;
    }
    return merged;
}

std::vector<BadRange> BadRows::without(const BadRange& range) const {
    std::vector<BadRange> rest;
    const auto keep = [&](BadRange piece) {
        trim(piece);
        if (piece.count != 0) rest.push_back(piece);
    };
    const std::uint64_t end = range.first + range.count;
    for (const BadRange& old : ranges_) {
        const std::uint64_t old_end = old.first + old.count;
        if (old.member != range.member || old_end <= range.first || end <= old.first) {
            rest.push_back(old);
            continue;
        }
        if (old.first < range.first)
            keep({old.member, old.first, range.first - old.first, old.kind});
        if (end < old_end) keep({old.member, end, old_end - end, old.kind});
    }
    return rest;
}

}  // namespace braid
