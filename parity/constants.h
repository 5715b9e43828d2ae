// SPDX-License-Identifier: BSD-3-Clause
// Multiplication by a constant of the field, in the two shapes that vector instructions want.
#pragma once

#include <array>
#include <cstdint>

#include "parity/gf.h"

namespace braid::parity {

/// factor·x = low[x & 15] ^ high[x >> 4], for the byte shuffles (pshufb).
/// @source Anvin, "The mathematics of RAID-6", and Plank et al., "Screaming fast Galois field
///         arithmetic using Intel SIMD instructions", FAST 2013
struct NibbleTable {
    alignas(32) std::array<std::uint8_t, 16> low{};
    std::array<std::uint8_t, 16> high{};
};

inline constexpr std::array<NibbleTable, 256> nibble_tables = [] {
    std::array<NibbleTable, 256> made{};
    for (unsigned factor = 0; factor != 256; ++factor) {
        for (unsigned nibble = 0; nibble != 16; ++nibble) {
            const auto by = static_cast<std::uint8_t>(factor);
            made[factor].low[nibble] = gf::mul(by, static_cast<std::uint8_t>(nibble));
            made[factor].high[nibble] = gf::mul(by, static_cast<std::uint8_t>(nibble << 4));
        }
    }
    return made;
}();

/// Multiplication by `factor` as an 8×8 matrix of bits for gf2p8affineqb. The instruction that
/// multiplies (gf2p8mulb) is of no use: its field is 0x11b. But multiplication by a constant is
/// linear over the bits in any field, and the affine instruction takes any matrix: bit i of the
/// result is the parity of (x & row i), and row i is byte 7 - i of the matrix. Bit j of row i is
/// therefore bit i of factor·2^j.
/// @source Intel SDM volume 2, GF2P8AFFINEQB
constexpr std::uint64_t affine_matrix(std::uint8_t factor) {
    std::uint64_t matrix = 0;
    for (unsigned i = 0; i != 8; ++i) {
        for (unsigned j = 0; j != 8; ++j) {
            const std::uint8_t product = gf::mul(factor, static_cast<std::uint8_t>(1U << j));
            const std::uint64_t bit = (product >> i) & 1U;
            matrix |= bit << (8 * (7 - i) + j);
        }
    }
    return matrix;
}

inline constexpr std::array<std::uint64_t, 256> affine_matrices = [] {
    std::array<std::uint64_t, 256> made{};
    for (unsigned factor = 0; factor != 256; ++factor) {
        made[factor] = affine_matrix(static_cast<std::uint8_t>(factor));
    }
    return made;
}();

static_assert(affine_matrices[1] == 0x0102040810204080, "the identity, as the SDM writes it");

}  // namespace braid::parity
