// SPDX-License-Identifier: BSD-3-Clause
// BRAID_REQUIRE states what the program promises itself (arguments, invariants, results). It is on
// in every build. What comes from outside is checked and becomes an Error instead (engine/base).
#pragma once

#include <cstdio>
#include <cstdlib>

namespace braid {

[[noreturn]] inline void require_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "braid: broken promise at %s:%d: %s\n", file, line, condition);
    std::abort();
}

}  // namespace braid

#define BRAID_REQUIRE(condition)                                     \
    do {                                                             \
        if (!(condition)) [[unlikely]] {                             \
            ::braid::require_failed(#condition, __FILE__, __LINE__); \
        }                                                            \
    } while (false)

/// Checks that recompute or walk something; in tests, the simulator, and sanitizer builds.
#ifdef BRAID_AUDITS
#define BRAID_AUDIT(condition) BRAID_REQUIRE(condition)
#else
#define BRAID_AUDIT(condition) \
    do {                       \
    } while (false)
#endif
