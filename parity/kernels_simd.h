// SPDX-License-Identifier: BSD-3-Clause
// The loops of the vector kernels, written once. No `#pragma once`: each kernels_*.cpp includes
// this file once, after it has defined
//   BRAID_PARITY_TARGET  the instruction sets, as [[gnu::target]] wants them
//   BRAID_PARITY_INLINE  [[gnu::target(BRAID_PARITY_TARGET), gnu::always_inline]] inline
//   Simd                 in namespace braid::parity, in an unnamed namespace: the vector type, its
//                        constants, and static functions load, store, stream, zero, add, add3,
//                        twice_add, twice_add2, constant, multiply, fence
// Everything is in an unnamed namespace, and inlined into functions that name their target, so no
// instruction that a processor lacks can leak into code that runs there.
//
// A block is a few vectors of every strip. It is computed in registers: all sources are read, the
// highest weight first (Horner's rule, two sources a step), and only then are targets written. So
// a target may be a source, and every byte passes through memory once.

#ifdef __clang__
#define BRAID_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BRAID_UNROLL _Pragma("GCC unroll 16")
#endif

namespace braid::parity {
namespace {

using Vector = Simd::Vector;
inline constexpr std::size_t vector_size = sizeof(Vector);

/// `count` vectors side by side, in registers.
template <std::size_t count>
struct Wide {
    Vector v[count];  // NOLINT: an array class would need functions that know the target
};

template <std::size_t count>
BRAID_PARITY_INLINE Wide<count> zero() {
    Wide<count> made;  // NOLINT(cppcoreguidelines-pro-type-member-init): all of it is set below
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) made.v[n] = Simd::zero();
    return made;
}

template <std::size_t count>
BRAID_PARITY_INLINE Wide<count> load(const std::byte* from) {
    Wide<count> made;  // NOLINT(cppcoreguidelines-pro-type-member-init): all of it is set below
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) made.v[n] = Simd::load(from + n * vector_size);
    return made;
}

template <std::size_t count>
BRAID_PARITY_INLINE Wide<count> load_or_zero(const std::byte* from, std::size_t at) {
    return from != nullptr ? load<count>(from + at) : zero<count>();
}

template <bool streamed, std::size_t count>
BRAID_PARITY_INLINE void store(std::byte* to, const Wide<count>& from) {
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) {
        if constexpr (streamed) {
            Simd::stream(to + n * vector_size, from.v[n]);
        } else {
            Simd::store(to + n * vector_size, from.v[n]);
        }
    }
}

template <std::size_t count>
BRAID_PARITY_INLINE void add(Wide<count>& to, const Wide<count>& a) {
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) to.v[n] = Simd::add(to.v[n], a.v[n]);
}

template <std::size_t count>
BRAID_PARITY_INLINE void multiply(Wide<count>& to, const Simd::Constant& factor) {
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) to.v[n] = Simd::multiply(factor, to.v[n]);
}

/// How far ahead of a store its cache line is asked for. The processor follows the sources by
/// itself, but asks for a target's lines late when a lot is read in between: with cold targets
/// this is worth 3 to 15 % (k = 4), with warm ones it costs up to 4 % (bench/parity).
inline constexpr std::size_t claim_ahead = 512;

/// Asks for the lines of the block of `target` that is written `claim_ahead` bytes later.
template <bool streamed, std::size_t count>
BRAID_PARITY_INLINE void claim(const std::byte* target, std::size_t at, std::size_t size) {
    if constexpr (!streamed) {
        if (target == nullptr || at + claim_ahead >= size) return;
        BRAID_UNROLL
        for (std::size_t n = 0; n < count * vector_size; n += alignment) {
            __builtin_prefetch(target + at + claim_ahead + n, 1);
        }
    }
}

template <std::size_t count>
struct Sums {
    Wide<count> p;
    Wide<count> q;
};

/// Takes one source (the next lower weight) into P and Q.
template <bool with_p, bool with_q, std::size_t count>
BRAID_PARITY_INLINE void take(Sums<count>& sums, const Wide<count>& a) {
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) {
        if constexpr (with_p) sums.p.v[n] = Simd::add(sums.p.v[n], a.v[n]);
        if constexpr (with_q) sums.q.v[n] = Simd::twice_add(sums.q.v[n], a.v[n]);
    }
}

/// Takes two sources, `a` with the higher weight.
template <bool with_p, bool with_q, std::size_t count>
BRAID_PARITY_INLINE void take2(Sums<count>& sums, const Wide<count>& a, const Wide<count>& b) {
    BRAID_UNROLL
    for (std::size_t n = 0; n != count; ++n) {
        if constexpr (with_p) sums.p.v[n] = Simd::add3(sums.p.v[n], a.v[n], b.v[n]);
        if constexpr (with_q) sums.q.v[n] = Simd::twice_add2(sums.q.v[n], a.v[n], b.v[n]);
    }
}

/// How far ahead a source is fetched into the second-level cache while targets are streamed. The
/// write-combining buffers then take the places that the processor's own prefetching would use:
/// for P and Q from memory this is worth 5 to 8 %; without streaming it is worth nothing.
inline constexpr std::size_t fetch_ahead = 512;

template <std::size_t count>
BRAID_PARITY_INLINE void fetch(const std::byte* from, std::size_t at, std::size_t size) {
    if (at + fetch_ahead >= size) return;
    BRAID_UNROLL
    for (std::size_t n = 0; n < count * vector_size; n += alignment) {
        __builtin_prefetch(from + at + fetch_ahead + n, 0, 2);
    }
}

/// The block at `at` of source `i`, copied to its destination on the way.
template <bool copied, bool streamed, std::size_t count>
BRAID_PARITY_INLINE Wide<count> source(const GenerateJob& job, std::size_t i, std::size_t at) {
    const std::byte* from = job.data.data()[i];
    const Wide<count> read = load_or_zero<count>(from, at);
    if constexpr (streamed) {
        if (from != nullptr) fetch<count>(from, at, job.size);
    }
    if constexpr (copied) {
        if (std::byte* copy = job.copies.data()[i]) {
            claim<streamed, count>(copy, at, job.size);
            store<streamed>(copy + at, read);
        }
    }
    return read;
}

template <bool with_p, bool with_q, bool copied, bool streamed, std::size_t count>
BRAID_PARITY_INLINE Sums<count> sums_at(const GenerateJob& job, std::size_t at) {
    Sums<count> sums{zero<count>(), zero<count>()};
    std::size_t i = job.data.size();
    if (i % 2 != 0) {
        --i;
        take<with_p, with_q>(sums, source<copied, streamed, count>(job, i, at));
    }
    while (i != 0) {
        const Wide<count> a = source<copied, streamed, count>(job, i - 1, at);
        const Wide<count> b = source<copied, streamed, count>(job, i - 2, at);
        take2<with_p, with_q>(sums, a, b);
        i -= 2;
    }
    return sums;
}

template <bool with_p, bool with_q, bool copied, bool streamed, std::size_t count>
BRAID_PARITY_INLINE std::size_t generate_blocks(const GenerateJob& job, std::size_t at) {
    for (; at + count * vector_size <= job.size; at += count * vector_size) {
        if constexpr (with_p) claim<streamed, count>(job.p, at, job.size);
        if constexpr (with_q) claim<streamed, count>(job.q, at, job.size);
        const Sums<count> sums = sums_at<with_p, with_q, copied, streamed, count>(job, at);
        if constexpr (with_p) store<streamed>(job.p + at, sums.p);
        if constexpr (with_q) store<streamed>(job.q + at, sums.q);
    }
    return at;
}

template <bool with_p, bool with_q, bool copied, bool streamed>
[[gnu::target(BRAID_PARITY_TARGET)]] void generate_all(const GenerateJob& job) {
    constexpr std::size_t wide = with_q ? Simd::vectors : 2 * Simd::vectors;  // P needs half
    const std::size_t at = generate_blocks<with_p, with_q, copied, streamed, wide>(job, 0);
    generate_blocks<with_p, with_q, copied, streamed, 1>(job, at);
    if constexpr (streamed) Simd::fence();
}

template <bool with_p, bool with_q>
void generate_as(const GenerateJob& job) {
    if (job.copies.empty()) {
        job.streamed ? generate_all<with_p, with_q, false, true>(job)
                     : generate_all<with_p, with_q, false, false>(job);
    } else {
        job.streamed ? generate_all<with_p, with_q, true, true>(job)
                     : generate_all<with_p, with_q, true, false>(job);
    }
}

void generate(const GenerateJob& job) {
    if (job.p == nullptr) {
        generate_as<false, true>(job);
    } else if (job.q == nullptr) {
        generate_as<true, false>(job);
    } else {
        generate_as<true, true>(job);
    }
}

template <bool with_p, bool with_q, std::size_t count>
BRAID_PARITY_INLINE std::size_t update_blocks(const UpdateJob& job, const Simd::Constant& factor,
                                              std::size_t at) {
    for (; at + count * vector_size <= job.size; at += count * vector_size) {
        Wide<count> change = load_or_zero<count>(job.old_data, at);
        add(change, load_or_zero<count>(job.new_data, at));
        if constexpr (with_p) {
            Wide<count> p = load<count>(job.p + at);
            add(p, change);
            store<false>(job.p + at, p);
        }
        if constexpr (with_q) {
            Wide<count> q = load<count>(job.q + at);
            multiply(change, factor);
            add(q, change);
            store<false>(job.q + at, q);
        }
    }
    return at;
}

template <bool with_p, bool with_q>
[[gnu::target(BRAID_PARITY_TARGET)]] void update_all(const UpdateJob& job) {
    const Simd::Constant factor = Simd::constant(job.factor);
    const std::size_t at = update_blocks<with_p, with_q, 4>(job, factor, 0);
    update_blocks<with_p, with_q, 1>(job, factor, at);
}

void update(const UpdateJob& job) {
    if (job.p == nullptr) {
        update_all<false, true>(job);
    } else if (job.q == nullptr) {
        update_all<true, false>(job);
    } else {
        update_all<true, true>(job);
    }
}

template <bool streamed, std::size_t count>
BRAID_PARITY_INLINE std::size_t recover_blocks(const RecoverJob& job, const Simd::Constant& from_p,
                                               const Simd::Constant& from_q, std::size_t at) {
    const GenerateJob survivors{.data = job.data, .size = job.size};
    for (; at + count * vector_size <= job.size; at += count * vector_size) {
        claim<streamed, count>(job.first, at, job.size);
        claim<streamed, count>(job.second, at, job.size);
        Sums<count> sums = sums_at<true, true, false, streamed, count>(survivors, at);
        if (job.p != nullptr) add(sums.p, load<count>(job.p + at));
        if (job.q != nullptr) add(sums.q, load<count>(job.q + at));
        Wide<count> first = sums.p;
        multiply(first, from_p);
        multiply(sums.q, from_q);
        add(first, sums.q);
        if (job.first != nullptr) store<streamed>(job.first + at, first);
        if (job.second == nullptr) continue;
        if (job.second_adds_first) add(sums.p, first);
        store<streamed>(job.second + at, sums.p);
    }
    return at;
}

template <bool streamed>
[[gnu::target(BRAID_PARITY_TARGET)]] void recover_all(const RecoverJob& job) {
    const Simd::Constant from_p = Simd::constant(job.from_p);
    const Simd::Constant from_q = Simd::constant(job.from_q);
    const std::size_t at = recover_blocks<streamed, Simd::vectors>(job, from_p, from_q, 0);
    recover_blocks<streamed, 1>(job, from_p, from_q, at);
    if constexpr (streamed) Simd::fence();
}

void recover(const RecoverJob& job) {
    job.streamed ? recover_all<true>(job) : recover_all<false>(job);
}

}  // namespace
}  // namespace braid::parity
