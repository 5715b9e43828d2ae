// SPDX-License-Identifier: BSD-3-Clause
// The reference kernel: portable and plain. Every other kernel is tested against it. It works on
// eight bytes at a time, which is as fast as plain C++ gets.
// Source: Anvin, "The mathematics of RAID-6", section 3 (multiplying several bytes by 2 at once).
#include <cstring>

#include "parity/gf.h"
#include "parity/kernels.h"

namespace braid::parity {
namespace {

using Word = std::uint64_t;

Word load(const std::byte* from, std::size_t at) {
    Word word = 0;
    if (from != nullptr) std::memcpy(&word, from + at, sizeof word);
    return word;
}

void store(std::byte* to, std::size_t at, Word word) {
    if (to != nullptr) std::memcpy(to + at, &word, sizeof word);
}

/// Each byte times 2: shifted within its lane, and reduced where its highest bit was set.
Word twice(Word word) {
    const Word high = (word >> 7) & 0x0101010101010101;
    return ((word << 1) & 0xfefefefefefefefe) ^ (high * (gf::polynomial & 0xff));
}

/// Each byte times `factor`.
Word multiply(std::uint8_t factor, Word word) {
    Word product = 0;
    for (unsigned shift = 0; shift != 64; shift += 8) {
        const auto byte = static_cast<std::uint8_t>(word >> shift);
        product |= Word{gf::mul(factor, byte)} << shift;
    }
    return product;
}

struct Sums {
    Word p = 0;
    Word q = 0;
};

/// P and Q of the eight bytes at `at`: Q by Horner's rule, the highest weight first.
Sums sums_at(Sources data, std::size_t at) {
    Sums sums;
    for (std::size_t i = data.size(); i-- != 0;) {
        const Word word = load(data[i], at);
        sums.p ^= word;
        sums.q = twice(sums.q) ^ word;
    }
    return sums;
}

void generate(const GenerateJob& job) {
    for (std::size_t at = 0; at != job.size; at += sizeof(Word)) {
        const Sums sums = sums_at(job.data, at);
        for (std::size_t i = 0; i != job.copies.size(); ++i) {
            store(job.copies[i], at, load(job.data[i], at));
        }
        store(job.p, at, sums.p);
        store(job.q, at, sums.q);
    }
}

void update(const UpdateJob& job) {
    for (std::size_t at = 0; at != job.size; at += sizeof(Word)) {
        const Word change = load(job.old_data, at) ^ load(job.new_data, at);
        store(job.p, at, load(job.p, at) ^ change);
        store(job.q, at, load(job.q, at) ^ multiply(job.factor, change));
    }
}

void recover(const RecoverJob& job) {
    for (std::size_t at = 0; at != job.size; at += sizeof(Word)) {
        Sums sums = sums_at(job.data, at);
        sums.p ^= load(job.p, at);
        sums.q ^= load(job.q, at);
        const Word first = multiply(job.from_p, sums.p) ^ multiply(job.from_q, sums.q);
        store(job.first, at, first);
        store(job.second, at, job.second_adds_first ? sums.p ^ first : sums.p);
    }
}

}  // namespace

constinit const Kernel kernel_scalar{"scalar", [] { return true; }, generate, update, recover};

}  // namespace braid::parity
