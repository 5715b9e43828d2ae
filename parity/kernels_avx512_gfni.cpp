// SPDX-License-Identifier: BSD-3-Clause
// Kernel for AVX-512 with GFNI: a multiplication by any constant is one affine instruction.
#include <immintrin.h>

#include "parity/constants.h"
#include "parity/kernels.h"

#define BRAID_PARITY_TARGET "avx512f,avx512bw,gfni"
#define BRAID_PARITY_INLINE [[gnu::target(BRAID_PARITY_TARGET), gnu::always_inline]] inline

namespace braid::parity {
namespace {

struct Simd {
    using Vector = __m512i;
    static constexpr std::size_t vectors = 4;  // of 32 registers, P, Q and two sources take sixteen

    using Constant = Vector;

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

    BRAID_PARITY_INLINE static Constant constant(std::uint8_t factor) {
        return _mm512_set1_epi64(static_cast<long long>(affine_matrices[factor]));
    }
    BRAID_PARITY_INLINE static Vector multiply(const Constant& factor, Vector x) {
        return _mm512_gf2p8affine_epi64_epi8(x, factor, 0);
    }
    BRAID_PARITY_INLINE static Vector twice_add(Vector x, Vector a) {
        return add(multiply(constant(2), x), a);
    }
    BRAID_PARITY_INLINE static Vector twice_add2(Vector x, Vector a, Vector b) {
        return add3(multiply(constant(4), x), multiply(constant(2), a), b);
    }
};

}  // namespace
}  // namespace braid::parity

#include "parity/kernels_simd.h"

namespace braid::parity {

constinit const Kernel kernel_avx512_gfni{
    "avx512-gfni",
    [] { return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("gfni") != 0; },
    generate, update, recover};

}  // namespace braid::parity
