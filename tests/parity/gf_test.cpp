// SPDX-License-Identifier: BSD-3-Clause
// The field, and the constants that the kernels multiply by.
#include "parity/gf.h"

#include "parity/constants.h"
#include "tests/parity/strips.h"

namespace braid::parity::test {
namespace {

// Facts of Anvin, "The mathematics of RAID-6", section 1: in this field 2 is a generator.
static_assert(gf::exp(0) == 1 && gf::exp(7) == 0x80 && gf::exp(8) == 0x1d && gf::exp(255) == 1);
static_assert(gf::mul(0, 7) == 0 && gf::mul(7, 0) == 0 && gf::mul(1, 7) == 7);
static_assert(gf::inverse(1) == 1 && gf::inverse(2) == 0x8e && gf::div(0, 3) == 0);
static_assert(gf::log(0x1d) == 8 && gf::twice(0x80) == 0x1d);

// The powers of 2 as tables for 0x11d print them, for instance raid6_gfexp, which Linux's
// lib/raid6/mktables.c makes.
TEST(Field, HasThePublishedPowers) {
    constexpr std::uint8_t published[32] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80,
                                            0x1d, 0x3a, 0x74, 0xe8, 0xcd, 0x87, 0x13, 0x26,
                                            0x4c, 0x98, 0x2d, 0x5a, 0xb4, 0x75, 0xea, 0xc9,
                                            0x8f, 0x03, 0x06, 0x0c, 0x18, 0x30, 0x60, 0xc0};
    for (std::size_t n = 0; n != std::size(published); ++n) EXPECT_EQ(gf::exp(n), published[n]);
}

TEST(Field, MultipliesLikePolynomials) {
    for (unsigned a = 0; a != 256; ++a) {
        for (unsigned b = 0; b != 256; ++b) {
            const auto x = static_cast<std::uint8_t>(a);
            const auto y = static_cast<std::uint8_t>(b);
            ASSERT_EQ(gf::mul(x, y), slow_mul(a, b)) << a << " * " << b;
            if (b != 0) {
                ASSERT_EQ(gf::mul(gf::div(x, y), y), x) << a << " / " << b;
            }
        }
    }
}

TEST(Field, InvertsEverythingButZero) {
    for (unsigned a = 1; a != 256; ++a) {
        const auto x = static_cast<std::uint8_t>(a);
        ASSERT_EQ(slow_mul(x, gf::inverse(x)), 1U);
        ASSERT_EQ(gf::exp(gf::log(x)), x);
    }
}

TEST(Constants, NibbleTablesMultiply) {
    for (unsigned factor = 0; factor != 256; ++factor) {
        for (unsigned x = 0; x != 256; ++x) {
            const NibbleTable& table = nibble_tables[factor];
            ASSERT_EQ(table.low[x & 15] ^ table.high[x >> 4], slow_mul(factor, x));
        }
    }
}

// gf2p8affineqb by its definition in the SDM: result bit i is the parity of matrix byte 7-i & x.
TEST(Constants, AffineMatricesMultiply) {
    for (unsigned factor = 0; factor != 256; ++factor) {
        for (unsigned x = 0; x != 256; ++x) {
            unsigned result = 0;
            for (unsigned i = 0; i != 8; ++i) {
                const auto row = static_cast<unsigned>(affine_matrices[factor] >> (8 * (7 - i)));
                result |= static_cast<unsigned>(__builtin_parity(row & 0xffU & x)) << i;
            }
            ASSERT_EQ(result, slow_mul(factor, x));
        }
    }
}

}  // namespace
}  // namespace braid::parity::test
