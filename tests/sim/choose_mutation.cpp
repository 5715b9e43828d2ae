// SPDX-License-Identifier: BSD-3-Clause
// Tests of the engine with a deliberate bug in it: before main() begins, the environment's
// BRAID_MUTATION chooses which (engine/base/mutation.h). An unknown name ends the program.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "engine/base/mutation.h"

namespace braid {
namespace {

constexpr int exit_usage = 64;  // no test ends with it

bool choose() {
    const char* name = std::getenv("BRAID_MUTATION");
    if (name == nullptr) return true;
    const std::optional<Mutation> which = mutation_of(name);
    if (!which) {
        std::fprintf(stderr, "BRAID_MUTATION: there is no mutation \"%s\"\n", name);
        std::exit(exit_usage);
    }
    chosen_mutation = *which;
    return true;
}

[[maybe_unused]] const bool chosen = choose();

}  // namespace
}  // namespace braid
