// SPDX-License-Identifier: BSD-3-Clause
// A small seeded generator, the only source of chance for engine/ and cluster/.
// Source: splitmix64 (Steele, Lea, Flood, OOPSLA 2014; public domain reference by S. Vigna).
#pragma once

#include <cstdint>

#include "parity/require.h"

namespace braid {

class Rng {
  public:
    explicit Rng(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        state_ += 0x9e3779b97f4a7c15;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
        return mixed ^ (mixed >> 31);
    }
    /// Evenly in [0, bound).
    std::uint64_t below(std::uint64_t bound) {
        BRAID_REQUIRE(bound != 0);
        return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
    }
    bool chance(std::uint64_t one_in) { return below(one_in) == 0; }

  private:
    std::uint64_t state_;
};

}  // namespace braid
