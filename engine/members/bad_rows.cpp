// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/bad_rows.h"

#include <algorithm>

#include "parity/require.h"

namespace braid {

std::vector<BadRange>::const_iterator BadRows::find(MemberIndex member, RowIndex row) const {
    return std::ranges::partition_point(ranges_, [=](const BadRange& range) {
        return range.member < member || (range.member == member && range.end() <= row);
    });
}

bool BadRows::has_member(MemberIndex member) const {
    const auto range = find(member, RowIndex{});
    return range != ranges_.end() && range->member == member;
}

BadRange BadRows::range_of(WindowPlace place, Role role, std::uint32_t first,
                           std::uint32_t count) const {
    BRAID_REQUIRE(first <= geometry_.window_rows);
    BRAID_REQUIRE(count <= geometry_.window_rows - first);
    return {geometry_.member_of(place.stripe, role), geometry_.row_number(place, first), count};
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
bool BadRows::means(MemberIndex member, RowIndex row) const {
    return raw(geometry_.role_of(geometry_.stripe_of(row), member)) < geometry_.data_count();
}

/// Whether rows that mean something lie between two ranges of a member.
bool BadRows::parts(const BadRange& before, const BadRange& after) const {
    for (RowIndex row = before.end(); row < after.first;
         row = geometry_.first_row(geometry_.stripe_of(row) + 1)) {
        if (means(before.member, row)) return true;
    }
    return false;
}

void BadRows::trim(BadRange& range) const {
    RowIndex end = range.end();
    while (range.first < end && !means(range.member, range.first)) {
        const StripeIndex next = geometry_.stripe_of(range.first) + 1;
        range.first = std::min(end, geometry_.first_row(next));
    }
    while (range.first < end && !means(range.member, end - 1)) {
        end = std::max(range.first, geometry_.first_row(geometry_.stripe_of(end - 1)));
    }
    BRAID_REQUIRE(range.first <= end);
    range.count = end - range.first;
}

std::vector<BadRange> BadRows::listed_in(const BadRange& range) const {
    std::vector<BadRange> listed;
    for (auto at = find(range.member, range.first);
         at != ranges_.end() && at->member == range.member && at->first < range.end(); ++at) {
        const RowIndex begin = std::max(at->first, range.first);
        listed.push_back({range.member, begin, std::min(at->end(), range.end()) - begin, at->kind});
    }
    return listed;
}

std::vector<BadRange> BadRows::with(const BadRange& range) const {
    std::vector<BadRange> all = ranges_;
    const auto add = [&](RowIndex first, RowIndex end) {
        BadRange piece{range.member, first, end - first, range.kind};
        trim(piece);
        if (piece.count != 0) all.push_back(piece);
    };
    RowIndex at = range.first;
    for (const BadRange& listed : listed_in(range)) {
        if (at < listed.first) add(at, listed.first);
        at = listed.end();
    }
    if (at < range.end()) add(at, range.end());
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
        last->count = std::max(last->end(), next.end()) - last->first;
    }
    return merged;
}

std::vector<BadRange> BadRows::without(const BadRange& range) const {
    std::vector<BadRange> rest;
    const auto keep = [&](BadRange piece) {
        trim(piece);
        if (piece.count != 0) rest.push_back(piece);
    };
    for (const BadRange& old : ranges_) {
        if (old.member != range.member || old.end() <= range.first || range.end() <= old.first) {
            rest.push_back(old);
            continue;
        }
        if (old.first < range.first)
            keep({old.member, old.first, range.first - old.first, old.kind});
        if (range.end() < old.end())
            keep({old.member, range.end(), old.end() - range.end(), old.kind});
    }
    return rest;
}

}  // namespace braid
