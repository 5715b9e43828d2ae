// SPDX-License-Identifier: BSD-3-Clause
// The bad-row list as people and file systems see it: byte ranges of the volumes. A pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/layout/configuration.h"

namespace braid {

/// Bytes of a volume that cannot be known.
struct BadBytes {
    std::string volume;  // empty: outside every volume, counted from the array's start
    VolumeOffset offset{};
    std::uint64_t size{0};
    MemberIndex member{};  // that had them
};

/// Bytes that `rows` mean in all.
std::uint64_t bytes_in_all(const Configuration& configuration, std::span<const BadRange> rows);

/// For people, how many ranges are whose: "12 ranges of member 0 and 3 of member 2".
std::string ranges_by_member(std::span<const BadRange> rows);

/// The bytes that `rows` mean, in the order of the array, neighbours of one volume and member
/// together.
/// @param most  how many ranges are named at most
std::vector<BadBytes> bad_bytes_of(const Configuration& configuration,
                                   std::span<const BadRange> rows, std::size_t most);

/// Those of `configuration.bad_rows`.
/// @param total  bytes in all, named or not
std::vector<BadBytes> bad_bytes_of(const Configuration& configuration, std::size_t most,
                                   std::uint64_t* total);

}  // namespace braid
