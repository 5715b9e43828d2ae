// SPDX-License-Identifier: BSD-3-Clause
// Kernel for AVX2: 32 bytes a vector.
#include <immintrin.h>

#include "parity/constants.h"
#include "parity/kernels.h"

#define BRAID_PARITY_TARGET "avx2"
#define BRAID_PARITY_INLINE [[gnu::target(BRAID_PARITY_TARGET), gnu::always_inline]] inline

namespace braid::parity {
namespace {

struct Simd {
    using Vector = __m256i;
    static constexpr std::size_t vectors = 2;  // of 16 registers, P, Q and two sources take eight

    struct Constant {
        Vector low;
        Vector high;
    };

    BRAID_PARITY_INLINE static Vector load(const std::byte* from) {
        return _mm256_loadu_si256(reinterpret_cast<const Vector*>(from));
    }
    BRAID_PARITY_INLINE static void store(std::byte* to, Vector x) {
        _mm256_store_si256(reinterpret_cast<Vector*>(to), x);
    }
    BRAID_PARITY_INLINE static void stream(std::byte* to, Vector x) {
        _mm256_stream_si256(reinterpret_cast<Vector*>(to), x);
    }
    BRAID_PARITY_INLINE static void fence() { _mm_sfence(); }
    BRAID_PARITY_INLINE static Vector zero() { return _mm256_setzero_si256(); }
    BRAID_PARITY_INLINE static Vector add(Vector a, Vector b) { return _mm256_xor_si256(a, b); }
    BRAID_PARITY_INLINE static Vector add3(Vector a, Vector b, Vector c) {
        return add(add(a, b), c);
    }

    /// The comparison makes 0xff of every byte whose highest bit is set, and the mask leaves of
    /// that what the reduction subtracts (Anvin, section 3).
    BRAID_PARITY_INLINE static Vector twice(Vector x) {
        const Vector overflow = _mm256_cmpgt_epi8(zero(), x);
        const Vector reduction = _mm256_and_si256(overflow, _mm256_set1_epi8(0x1d));
        return add(_mm256_add_epi8(x, x), reduction);
    }
    BRAID_PARITY_INLINE static Vector twice_add(Vector x, Vector a) { return add(twice(x), a); }
    BRAID_PARITY_INLINE static Vector twice_add2(Vector x, Vector a, Vector b) {
        return twice_add(twice_add(x, a), b);
    }

    BRAID_PARITY_INLINE static Constant constant(std::uint8_t factor) {
        const NibbleTable& table = nibble_tables[factor];
        const auto* low = reinterpret_cast<const __m128i*>(table.low.data());
        const auto* high = reinterpret_cast<const __m128i*>(table.high.data());
        return {_mm256_broadcastsi128_si256(_mm_load_si128(low)),
                _mm256_broadcastsi128_si256(_mm_load_si128(high))};
    }
    BRAID_PARITY_INLINE static Vector multiply(const Constant& factor, Vector x) {
        const Vector mask = _mm256_set1_epi8(0x0f);
        const Vector low = _mm256_and_si256(x, mask);
        const Vector high = _mm256_and_si256(_mm256_srli_epi64(x, 4), mask);
        return add(_mm256_shuffle_epi8(factor.low, low), _mm256_shuffle_epi8(factor.high, high));
    }
};

}  // namespace
}  // namespace braid::parity

#include "parity/kernels_simd.h"

namespace braid::parity {

constinit const Kernel kernel_avx2{"avx2", [] { return __builtin_cpu_supports("avx2") != 0; },
                                   generate, update, recover};

}  // namespace braid::parity
