// SPDX-License-Identifier: BSD-3-Clause
// Bytes as text, for golden bytes.
#pragma once

#include <fmt/format.h>

#include <string>

#include "parity/bytes.h"

namespace braid::test {

inline std::string hex(ByteView bytes) {
    std::string text;
    for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(b));
    return text;
}

}  // namespace braid::test
