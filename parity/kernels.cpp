// SPDX-License-Identifier: BSD-3-Clause
// The table of kernels and the choice among them.
#include "parity/kernels.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "parity/require.h"

namespace braid::parity {
namespace {

struct Choice {
    const Kernel* kernel;
    const char* error;
};

const Kernel& best_kernel() {
    for (const Kernel& candidate : kernels()) {
        if (candidate.usable()) return candidate;
    }
    return kernel_scalar;
}

Choice choose_kernel() {
    const char* name = std::getenv("BRAID_KERNEL");
    if (name == nullptr || *name == '\0') return {&best_kernel(), nullptr};
    for (const Kernel& candidate : kernels()) {
        if (std::strcmp(candidate.name, name) != 0) continue;
        if (candidate.usable()) return {&candidate, nullptr};
        return {&best_kernel(), "BRAID_KERNEL names a kernel that this processor cannot run"};
    }
    return {&best_kernel(),
            "BRAID_KERNEL names no kernel; there are avx512-gfni, avx512, avx2 and scalar"};
}

const Choice& chosen() {
    static const Choice choice = choose_kernel();
    return choice;
}

std::atomic<const Kernel*> replaced{nullptr};  // by use_kernel

}  // namespace

std::span<const Kernel> kernels() {
    static const std::array all{
#ifdef __x86_64__
        kernel_avx512_gfni,
        kernel_avx512,
        kernel_avx2,
#endif
        kernel_scalar,
    };
    return all;
}

const Kernel& kernel() {
    const Kernel* replacement = replaced.load(std::memory_order_relaxed);
    return replacement != nullptr ? *replacement : *chosen().kernel;
}

const char* kernel_name() { return kernel().name; }

const char* kernel_error() { return chosen().error; }

void use_kernel(const Kernel& choice) {
    BRAID_REQUIRE(choice.usable());
    replaced.store(&choice, std::memory_order_relaxed);
}

}  // namespace braid::parity
