// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/wrong_rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace braid {
namespace {

const VolumeRecord* volume_of(const Configuration& configuration, std::uint64_t stripe) {
    for (const VolumeRecord& volume : configuration.volumes) {
        const std::uint64_t first = raw(volume.first);
        if (stripe >= first && stripe < first + volume.stripes) return &volume;
    }
    return nullptr;
}

/// Bytes of the array, end excluded.
struct Piece {
    std::uint64_t begin{0};
    std::uint64_t end{0};
};

/// The data of one stripe's rows [first, first + count) that may be wrong; nothing if it is parity.
std::vector<Piece> pieces_of(const WrongRows& rows, const Geometry& geometry) {
    const std::uint64_t per_strip = geometry.rows_per_strip();
    const StripeIndex stripe{rows.first / per_strip};
    const std::uint64_t begin = rows.first % per_strip * row_size;
    std::vector<Piece> pieces;
    for (const Role role : geometry.data_roles()) {
        const MemberIndex member = geometry.member_of(stripe, role);
        if (!rows.members.empty() && !rows.members.has(member)) continue;
        const std::uint64_t at = geometry.array_offset_of({stripe, role, begin});
        if (!pieces.empty() && pieces.back().end == at) {
            pieces.back().end = at + rows.count * row_size;
        } else {
            pieces.push_back({at, at + rows.count * row_size});
        }
    }
    return pieces;
}

std::string text_of_bytes(const WrongRows& rows, const Geometry& geometry, std::uint64_t base) {
    const std::uint64_t per_strip = geometry.rows_per_strip();
    const std::uint64_t first = rows.first / per_strip;
    const std::uint64_t last = (rows.end() - 1) / per_strip;
    const auto text_of_piece = [base](const Piece& piece) {
        return fmt::format("{} to {}", piece.begin - base, piece.end - base - 1);
    };
    if (first == last) {
        std::vector<std::string> texts;
        for (const Piece& piece : pieces_of(rows, geometry)) texts.push_back(text_of_piece(piece));
        if (texts.empty()) return "no byte of it, only parity";
        return fmt::format("bytes {}", fmt::join(texts, ", "));
    }
    const Piece all{first * geometry.stripe_data_size(), (last + 1) * geometry.stripe_data_size()};
    const bool every_strip =
        rows.members.empty() && rows.first % per_strip == 0 && rows.end() % per_strip == 0;
    return fmt::format("{} {}", every_strip ? "bytes" : "within bytes", text_of_piece(all));
}

std::string text_of_stripes(const WrongRows& rows, const Geometry& geometry) {
    const std::uint64_t per_strip = geometry.rows_per_strip();
    const std::uint64_t first = rows.first / per_strip;
    const std::uint64_t last = (rows.end() - 1) / per_strip;
    const std::uint64_t begin = rows.first % per_strip * row_size;
    const std::uint64_t end = ((rows.end() - 1) % per_strip + 1) * row_size;
    if (first == last) {
        return fmt::format("stripe {}, bytes {} to {} of its strips", first, begin, end - 1);
    }
    return fmt::format("{} rows of stripes {} to {}", rows.count, first, last);
}

}  // namespace

bool WrongRowsJoiner::joins(const WrongRows& rows, const WrongRows& next) const {
    if (rows.end() != next.first || rows.members != next.members || rows.what != next.what) {
        return false;
    }
    const std::uint64_t per_strip = configuration_.strip_size / row_size;
    if (next.first % per_strip != 0) return true;
    return volume_of(configuration_, (rows.end() - 1) / per_strip) ==
           volume_of(configuration_, next.first / per_strip);
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

std::vector<WrongRows> WrongRowsJoiner::take_before(std::uint64_t end) {
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
    const VolumeRecord* volume = volume_of(configuration, rows.first / geometry.rows_per_strip());
    const std::uint64_t base =
        volume != nullptr ? raw(volume->first) * geometry.stripe_data_size() : 0;
    return fmt::format(
        "{}, {}: {} ({})", volume != nullptr ? "volume " + volume->name : "outside every volume",
        text_of_bytes(rows, geometry, base), rows.what, text_of_stripes(rows, geometry));
}

}  // namespace braid
