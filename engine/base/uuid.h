// SPDX-License-Identifier: BSD-3-Clause
// 16 bytes that name an array or a member. The text form is the usual 8-4-4-4-12.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/base/rng.h"

namespace braid {

struct Uuid {
    std::array<std::uint8_t, 16> bytes{};
    auto operator<=>(const Uuid&) const = default;
    static Uuid random(Rng& rng);                      // version 4
    static Result<Uuid> parse(std::string_view text);  // Errc::invalid
    std::string text() const;
};

}  // namespace braid
