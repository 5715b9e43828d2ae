// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/wrong_rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace braid {
namespace {

const VolumeRecord* volume_of(const Configuration& configuration, StripeIndex stripe) {
    for (const VolumeRecord& volume : configuration.volumes) {
        if (stripe >= volume.first && stripe < volume.end()) return &volume;
    }
    return nullptr;
}

/// Bytes of the array, end excluded.
struct Piece {
    ArrayOffset begin{};
    ArrayOffset end{};
};

/// The data of one stripe's rows [first, first + count) that may be wrong; nothing if it is parity.
std::vector<Piece> pieces_of(const WrongRows& rows, const Geometry& geometry) {
    const StripeIndex stripe = geometry.stripe_of(rows.first);
    const std::uint64_t begin = (rows.first - geometry.first_row(stripe)) * row_size;
    std::vector<Piece> pieces;
    for (const Role role : geometry.data_roles()) {
        const MemberIndex member = geometry.member_of(stripe, role);
        if (!rows.members.empty() && !rows.members.has(member)) continue;
        const ArrayOffset at = geometry.array_offset_of({stripe, role, begin});
        if (!pieces.empty() && pieces.back().end == at) {
            pieces.back().end = at + rows.count * row_size;
        } else {
            pieces.push_back({at, at + rows.count * row_size});
        }
    }
    return pieces;
}

std::string text_of_bytes(const WrongRows& rows, const Geometry& geometry, ArrayOffset base) {
    const StripeIndex first = geometry.stripe_of(rows.first);
    const StripeIndex last = geometry.stripe_of(rows.end() - 1);
    const auto text_of_piece = [base](const Piece& piece) {
        return fmt::format("{} to {}", piece.begin - base, piece.end - base - 1);
    };
    if (first == last) {
        std::vector<std::string> texts;
        for (const Piece& piece : pieces_of(rows, geometry)) texts.push_back(text_of_piece(piece));
        if (texts.empty()) return "no byte of it, only parity";
        return fmt::format("bytes {}", fmt::join(texts, ", "));
    }
    const Piece all{geometry.stripe_begin(first), geometry.stripe_begin(last + 1)};
    const bool every_strip = rows.members.empty() && rows.first == geometry.first_row(first) &&
                             rows.end() == geometry.first_row(last + 1);
    return fmt::format("{} {}", every_strip ? "bytes" : "within bytes", text_of_piece(all));
}

std::string text_of_stripes(const WrongRows& rows, const Geometry& geometry) {
    const StripeIndex first = geometry.stripe_of(rows.first);
    const StripeIndex last = geometry.stripe_of(rows.end() - 1);
    if (first == last) {
        const std::uint64_t begin = (rows.first - geometry.first_row(first)) * row_size;
        return fmt::format("stripe {}, bytes {} to {} of its strips", raw(first), begin,
                           begin + rows.count * row_size - 1);
    }
    return fmt::format("{} rows of stripes {} to {}", rows.count, raw(first), raw(last));
}

}  // namespace

bool WrongRowsJoiner::joins(const WrongRows& rows, const WrongRows& next) const {
    if (rows.end() != next.first || rows.members != next.members || rows.what != next.what) {
        return false;
    }
    const Geometry geometry = Geometry::of(configuration_);
    return volume_of(configuration_, geometry.stripe_of(rows.end() - 1)) ==
           volume_of(configuration_, geometry.stripe_of(next.first));
}

std::optional<WrongRows> WrongRowsJoiner::add(WrongRows rows) {
    const auto before =
        std::ranges::find_if(open_, [&](const WrongRows& open) { return joins(open, rows); });
    if (before != open_.end()) {
        rows.first = before->first;
        rows.count += before->count;
        open_.erase(before);
    }
    const auto after =
        std::ranges::find_if(open_, [&](const WrongRows& open) { return joins(rows, open); });
    if (after != open_.end()) {
        rows.count += after->count;
        open_.erase(after);
    }
    open_.push_back(std::move(rows));
    if (open_.size() <= wrong_rows_open_max) return std::nullopt;
    WrongRows oldest = std::move(open_.front());
    open_.erase(open_.begin());
    return oldest;
}

std::vector<WrongRows> WrongRowsJoiner::take_before(RowIndex end) {
    std::vector<WrongRows> complete;
    std::erase_if(open_, [&](WrongRows& rows) {
        if (rows.end() >= end) return false;
        complete.push_back(std::move(rows));
        return true;
    });
    std::ranges::sort(complete, {}, &WrongRows::first);
    return complete;
}

std::string text_of(const WrongRows& rows, const Configuration& configuration) {
    const Geometry geometry = Geometry::of(configuration);
    const VolumeRecord* volume = volume_of(configuration, geometry.stripe_of(rows.first));
    const ArrayOffset base =
        volume != nullptr ? geometry.stripe_begin(volume->first) : ArrayOffset{};
    return fmt::format(
        "{}, {}: {} ({})", volume != nullptr ? "volume " + volume->name : "outside every volume",
        text_of_bytes(rows, geometry, base), rows.what, text_of_stripes(rows, geometry));
}

}  // namespace braid
