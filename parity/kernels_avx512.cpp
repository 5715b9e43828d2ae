// SPDX-License-Identifier: BSD-3-Clause
// Kernel for AVX-512 with its byte instructions (BW) but without GFNI: 64 bytes a vector.
#ifndef __clang__  // GCC 12 warns of operands that its own header leaves undefined (its PR 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "parity/constants.h"
#include "parity/kernels.h"

#define BRAID_PARITY_TARGET "avx512f,avx512bw"
#define BRAID_PARITY_INLINE [[gnu::target(BRAID_PARITY_TARGET), gnu::always_inline]] inline

namespace braid::parity {
namespace {

struct Simd {
    using Vector = __m512i;
    static constexpr std::size_t vectors = 4;  // of 32 registers, P, Q and two sources take sixteen

    struct Constant {
        Vector low;
        Vector high;
    };

    BRAID_PARITY_INLINE static Vector load(const std::byte* from) {
        return _mm512_loadu_si512(from);
    }
    BRAID_PARITY_INLINE static void store(std::byte* to, Vector x) { _mm512_store_si512(to, x); }
    BRAID_PARITY_INLINE static void stream(std::byte* to, Vector x) {
        _mm512_stream_si512(reinterpret_cast<Vector*>(to), x);
    }
    BRAID_PARITY_INLINE static void fence() { _mm_sfence(); }
    BRAID_PARITY_INLINE static Vector zero() { return _mm512_setzero_si512(); }
    BRAID_PARITY_INLINE static Vector add(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
    BRAID_PARITY_INLINE static Vector add3(Vector a, Vector b, Vector c) {
        return _mm512_ternarylogic_epi64(a, b, c, 0x96);  // 0x96 is the truth table of a ^ b ^ c
    }

    /// What the reduction subtracts from 2·x: 0x1d in each byte whose highest bit is set.
    BRAID_PARITY_INLINE static Vector reduction(Vector x) {
        return _mm512_maskz_mov_epi8(_mm512_movepi8_mask(x), _mm512_set1_epi8(0x1d));
    }
    BRAID_PARITY_INLINE static Vector twice_add(Vector x, Vector a) {
        return add3(_mm512_add_epi8(x, x), reduction(x), a);
    }
    BRAID_PARITY_INLINE static Vector twice_add2(Vector x, Vector a, Vector b) {
        return twice_add(twice_add(x, a), b);
    }

    BRAID_PARITY_INLINE static Constant constant(std::uint8_t factor) {
        const NibbleTable& table = nibble_tables[factor];
        const auto* low = reinterpret_cast<const __m128i*>(table.low.data());
        const auto* high = reinterpret_cast<const __m128i*>(table.high.data());
        return {_mm512_broadcast_i32x4(_mm_load_si128(low)),
                _mm512_broadcast_i32x4(_mm_load_si128(high))};
    }
    BRAID_PARITY_INLINE static Vector multiply(const Constant& factor, Vector x) {
        const Vector mask = _mm512_set1_epi8(0x0f);
        const Vector low = _mm512_and_si512(x, mask);
        const Vector high = _mm512_and_si512(_mm512_srli_epi64(x, 4), mask);
        return add(_mm512_shuffle_epi8(factor.low, low), _mm512_shuffle_epi8(factor.high, high));
    }
};

}  // namespace
}  // namespace braid::parity

#include "parity/kernels_simd.h"

namespace braid::parity {

constinit const Kernel kernel_avx512{
    "avx512", [] { return __builtin_cpu_supports("avx512bw") != 0; }, generate, update, recover};

}  // namespace braid::parity
