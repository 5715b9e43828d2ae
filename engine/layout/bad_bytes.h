// SPDX-License-Identifier: BSD-3-Clause
// The bad-row list as people and file systems see it: byte ranges of the volumes. A pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/layout/configuration.h"

namespace braid {

/// Bytes of a volume that cannot be known.
struct BadBytes {
    std::string volume;                  // empty: outside every volume, counted from the array's start
    std::uint64_t offset{0};             // bytes in the volume
    std::uint64_t size{0};
    MemberIndex member{};                // that had them
};

/// The bytes of `configuration.bad_rows`, in the order of the array, neighbours of one volume and
/// member together.
/// @param most   how many ranges are named at most
/// @param total  bytes in all, named or not
std::vector<BadBytes> bad_bytes_of(const Configuration& configuration, std::size_t most,
                                   std::uint64_t* total);

}  // namespace braid
