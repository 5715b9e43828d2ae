// SPDX-License-Identifier: BSD-3-Clause
#include "engine/layout/bad_bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "engine/layout/geometry.h"

namespace braid {
namespace {

/// Bytes [begin, end) of the array.
struct ArrayBytes {
    ArrayOffset begin{};
    ArrayOffset end{};
    MemberIndex member{};
};

/// The strip's rows that a range names in one stripe; nothing where the member holds parity.
ArrayBytes bytes_in(const Geometry& geometry, const BadRange& range, StripeIndex stripe) {
    const Role role = geometry.role_of(stripe, range.member);
    if (raw(role) >= geometry.data_count()) return {};
    const RowIndex begin = geometry.first_row(stripe);
    const std::uint64_t first = std::max(range.first, begin) - begin;
    const std::uint64_t end = std::min(range.end(), geometry.first_row(stripe + 1)) - begin;
    const ArrayOffset strip = geometry.array_offset_of({stripe, role, 0});
    return {strip + first * row_size, strip + end * row_size, range.member};
}

/// Cut at the borders of volumes; those outside are counted from the array's start.
void name_bytes(std::vector<BadBytes>& named, const Configuration& configuration,
                ArrayBytes bytes) {
    while (bytes.begin != bytes.end) {
        BadBytes piece;
        piece.offset = {bytes.begin.value};
        piece.member = bytes.member;
        ArrayOffset end = bytes.end;
        for (const VolumeRecord& volume : configuration.volumes) {
            const VolumeArea area = configuration.area_of(volume);
            if (bytes.begin >= area.end()) continue;
            if (bytes.begin < area.begin) {
                end = std::min(end, area.begin);
            } else {
                end = std::min(end, area.end());
                piece.volume = volume.name;
                piece.offset = area.in_volume(bytes.begin);
            }
            break;
        }
        piece.size = end - bytes.begin;
        bytes.begin = end;
        BadBytes* last = named.empty() ? nullptr : &named.back();
        if (last != nullptr && last->volume == piece.volume && last->member == piece.member &&
            last->offset + last->size == piece.offset) {
            last->size += piece.size;
        } else {
            named.push_back(std::move(piece));
        }
    }
}

/// The stripe after the last one that a range has rows of.
StripeIndex stripe_end_of(const Geometry& geometry, const BadRange& range) {
    return geometry.stripe_of(range.end() + (geometry.rows_per_strip() - 1));
}

/// Bytes that a range means. Roles come again after as many stripes as there are members, so that
/// a range of any length is counted at once.
std::uint64_t size_of(const Geometry& geometry, const BadRange& range) {
    const StripeIndex first = geometry.stripe_of(range.first);
    const StripeIndex end = stripe_end_of(geometry, range);
    const auto sum = [&](StripeIndex from, StripeIndex to) {
        std::uint64_t size = 0;
        for (StripeIndex stripe = from; stripe != to; ++stripe) {
            const ArrayBytes bytes = bytes_in(geometry, range, stripe);
            size += bytes.end - bytes.begin;
        }
        return size;
    };
    const std::uint64_t cycle = geometry.member_count;
    if (end - first < 2 * cycle) return sum(first, end);
    // The first and the last stripe may be named in part.
    const std::uint64_t cycles = (end - first - 2) / cycle;
    const StripeIndex rest = first + 1 + cycles * cycle;
    return sum(first, first + 1) + cycles * sum(first + 1, first + 1 + cycle) + sum(rest, end);
}

/// The first pieces of a range in the order of the array, enough for `most` names: two pieces can
/// be one name.
void add_pieces(std::vector<ArrayBytes>& all, const Geometry& geometry, const BadRange& range,
                std::size_t most) {
    const StripeIndex end = stripe_end_of(geometry, range);
    std::size_t here = 0;
    for (StripeIndex stripe = geometry.stripe_of(range.first); stripe != end && here / 2 <= most;
         ++stripe) {
        const ArrayBytes bytes = bytes_in(geometry, range, stripe);
        if (bytes.begin == bytes.end) continue;
        all.push_back(bytes);
        ++here;
    }
}

}  // namespace

std::uint64_t bytes_in_all(const Configuration& configuration, std::span<const BadRange> rows) {
    const Geometry geometry = Geometry::of(configuration);
    std::uint64_t size = 0;
    for (const BadRange& range : rows) size += size_of(geometry, range);
    return size;
}

std::string ranges_by_member(std::span<const BadRange> rows) {
    std::map<MemberIndex, std::size_t> counts;
    for (const BadRange& range : rows) ++counts[range.member];
    std::string text;
    std::size_t left = counts.size();
    for (const auto& [member, count] : counts) {
        const char* before = text.empty() ? "" : left == 1 ? " and " : ", ";
        const char* what = !text.empty() ? "" : count == 1 ? " range" : " ranges";
        text += fmt::format("{}{}{} of member {}", before, count, what, raw(member));
        --left;
    }
    return text;
}

std::vector<BadBytes> bad_bytes_of(const Configuration& configuration,
                                   std::span<const BadRange> rows, std::size_t most) {
    const Geometry geometry = Geometry::of(configuration);
    std::vector<ArrayBytes> all;
    for (const BadRange& range : rows) add_pieces(all, geometry, range, most);
    std::ranges::sort(all, {}, &ArrayBytes::begin);
    std::vector<BadBytes> named;
    for (const ArrayBytes& bytes : all) {
        if (named.size() > most) break;
        name_bytes(named, configuration, bytes);
    }
    if (named.size() > most) named.resize(most);
    return named;
}

std::vector<BadBytes> bad_bytes_of(const Configuration& configuration, std::size_t most,
                                   std::uint64_t* total) {
    *total = bytes_in_all(configuration, configuration.bad_rows);
    return bad_bytes_of(configuration, configuration.bad_rows, most);
}

}  // namespace braid
