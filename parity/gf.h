// SPDX-License-Identifier: BSD-3-Clause
// The field of RAID-6: GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), generator 2.
//
// Everything here is constexpr and works on single bytes: it is the arithmetic that chooses
// constants and fills tables. The loops over strips are in the kernels.
// Source: H. Peter Anvin, "The mathematics of RAID-6", 2004, sections 1 and 2.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace braid::parity::gf {

inline constexpr unsigned polynomial = 0x11d;
inline constexpr std::size_t order = 255;  // 2^255 = 1, and no smaller power is

/// x · 2: shift, and subtract the polynomial when a bit falls out.
constexpr std::uint8_t twice(unsigned x) {
    return static_cast<std::uint8_t>((x << 1U) ^ ((x & 0x80U) != 0 ? polynomial : 0U));
}

struct Tables {
    std::array<std::uint8_t, order> exp{};  // exp[n] = 2^n
    std::array<std::uint8_t, 256> log{};    // log[exp[n]] = n; log[0] means nothing
};

inline constexpr Tables tables = [] {
    Tables made;
    std::uint8_t power = 1;
    for (std::size_t n = 0; n != order; ++n) {
        made.exp[n] = power;
        made.log[power] = static_cast<std::uint8_t>(n);
        power = twice(power);
    }
    return made;
}();

/// 2^n, for any n.
constexpr std::uint8_t exp(std::size_t n) { return tables.exp[n % order]; }

/// The n below 255 with 2^n = x. x must not be 0.
constexpr std::size_t log(std::uint8_t x) { return tables.log[x]; }

constexpr std::uint8_t mul(std::uint8_t a, std::uint8_t b) {
    return a == 0 || b == 0 ? std::uint8_t{0} : exp(log(a) + log(b));
}

/// a / b. b must not be 0.
constexpr std::uint8_t div(std::uint8_t a, std::uint8_t b) {
    return a == 0 ? std::uint8_t{0} : exp(log(a) + order - log(b));
}

/// 1 / x. x must not be 0.
constexpr std::uint8_t inverse(std::uint8_t x) { return exp(order - log(x)); }

}  // namespace braid::parity::gf
