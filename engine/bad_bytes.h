// SPDX-License-Identifier: BSD-3-Clause
// The bad-row list as people and file systems see it: byte ranges of the volumes. A pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/configuration.h"
#include "engine/status.h"

namespace braid {

/// The bytes of `configuration.bad_rows`, in the order of the array, neighbours of one volume and
/// member together.
/// @param most   how many ranges are named at most
/// @param total  bytes in all, named or not
std::vector<BadBytes> bad_bytes_of(const Configuration& configuration, std::size_t most,
                                   std::uint64_t* total);

}  // namespace braid
