// SPDX-License-Identifier: BSD-3-Clause
// What assembly answered, for tests: why it refused, what it has to say.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "engine/assembly/assembly.h"

namespace braid::test {

inline std::string refusal(const Checked<Assembly>& result) {
    return result ? "it was assembled" : result.error().text;
}
inline bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}
inline bool has_notice(const Assembly& assembly, std::string_view part) {
    return std::ranges::any_of(assembly.notices,
                               [part](const std::string& notice) { return has(notice, part); });
}
#define EXPECT_REFUSED(result, part)                                                     \
    do {                                                                                 \
        const auto braid_refused = (result);                                             \
        EXPECT_FALSE(braid_refused.has_value());                                         \
        EXPECT_PRED2(::braid::test::has, ::braid::test::refusal(braid_refused), (part)); \
    } while (false)

}  // namespace braid::test
