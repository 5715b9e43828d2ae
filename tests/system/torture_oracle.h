// SPDX-License-Identifier: BSD-3-Clause
// What each sector of the volume may hold, kept in a file from one run of torture_writer to the next.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/units.h"

namespace braid::torture {

[[noreturn]] void fail(const std::string& text);

constexpr std::uint64_t zeros = 0;  // as a write's number: the content is zeros
constexpr std::uint64_t not_yet = ~std::uint64_t{0};
constexpr std::uint64_t sectors_of_row = row_size / sector_size;

struct Candidate {
    std::uint64_t write{zeros};  // its number, or zeros
    std::uint64_t sent{0};       // moments: a count of what was sent and answered
    std::uint64_t answered{0};
};

using Sector = std::array<std::uint64_t, sector_size / 8>;

Sector content_of(std::uint64_t write, std::uint64_t sector);
/// Which write a sector comes from; none: it is not whole, or belongs elsewhere.
std::optional<std::uint64_t> write_of(const Sector& content, std::uint64_t sector);

/// Everything that is known of the volume, kept in a file from one run to the next.
struct Oracle {
    std::uint64_t size{0};  // bytes
    std::uint64_t strip{0};
    std::uint64_t data{0};  // members' worth of data in a stripe
    std::uint64_t moment{1};
    std::uint64_t writes{0};  // the number of the last one
    std::vector<std::vector<Candidate>> sectors;
    std::vector<char> bad;      // rows of the volume that were found bad
    std::vector<char> torn;     // rows of stripes that a write may have left half done
    std::vector<char> touched;  // stripes that were written and may be marked

    std::uint64_t stripe_size() const { return strip * data; }
    std::uint64_t stripe_of(std::uint64_t offset) const { return offset / stripe_size(); }
    /// The row of a stripe that `offset` lies in, counted along a member.
    std::uint64_t stripe_row_of(std::uint64_t offset) const {
        return stripe_of(offset) * (strip / row_size) + offset % strip / row_size;
    }
};

/// A volume of which nothing is known but its shape.
void prepare(Oracle& oracle);
void save(const Oracle& oracle, const std::string& path);
Oracle load(const std::string& path);

}  // namespace braid::torture
