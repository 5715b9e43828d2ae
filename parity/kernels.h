// SPDX-License-Identifier: BSD-3-Clause
// The kernels behind parity.h: one table, best first, the scalar reference last. The first usable
// one is taken, or the one that the environment variable BRAID_KERNEL names. parity.h checks the
// arguments; kernels trust them. This header is for tests, benches and `--dump-plugin`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "parity/parity.h"

namespace braid::parity {

/// Computes P, Q or both, and copies. The destinations are empty or as many as the sources.
struct GenerateJob {
    std::byte* p = nullptr;  // nullptr: not wanted
    std::byte* q = nullptr;  // nullptr: not wanted
    Sources data = {};
    Targets copies = {};
    std::size_t size = 0;
    bool streamed = false;
};

/// P ^= d and Q ^= factor·d with d = old_data ^ new_data.
struct UpdateJob {
    std::byte* p = nullptr;  // nullptr: not wanted
    std::byte* q = nullptr;  // nullptr: not wanted
    std::uint8_t factor = 1;
    const std::byte* old_data = nullptr;  // nullptr: zeros
    const std::byte* new_data = nullptr;  // nullptr: zeros
    std::size_t size = 0;
};

/// With p' and q' the P and Q of the data (the lost strips being nullptr) and of the given p and q:
///   first = from_p·p' ^ from_q·q'     second = p' ^ first, or only p' without second_adds_first
struct RecoverJob {
    std::byte* first = nullptr;   // nullptr: not wanted
    std::byte* second = nullptr;  // nullptr: not wanted
    Sources data = {};
    const std::byte* p = nullptr;  // nullptr: zeros
    const std::byte* q = nullptr;  // nullptr: zeros
    std::uint8_t from_p = 0;
    std::uint8_t from_q = 0;
    bool second_adds_first = true;
    std::size_t size = 0;
    bool streamed = false;
};

struct Kernel {
    const char* name;
    bool (*usable)();
    void (*generate)(const GenerateJob&);
    void (*update)(const UpdateJob&);
    void (*recover)(const RecoverJob&);
};

/// All kernels of this build, usable here or not, best first.
std::span<const Kernel> kernels();

/// The kernel in use.
const Kernel& kernel();
const char* kernel_name();

/// What is wrong with BRAID_KERNEL, or nullptr. The library works on with the best kernel; a
/// program that takes parameters seriously refuses to start.
const char* kernel_error();

/// For tests and benches: every later call uses `choice`, an entry of kernels() that is usable.
void use_kernel(const Kernel& choice);

// One file each, kernels_*.cpp.
extern const Kernel kernel_scalar;
#ifdef __x86_64__
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
extern const Kernel kernel_avx512_gfni;
#endif

}  // namespace braid::parity
