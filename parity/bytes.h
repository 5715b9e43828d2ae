// SPDX-License-Identifier: BSD-3-Clause
// Views of raw bytes, the currency of parity/ and engine/.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

namespace braid {

using ByteSpan = std::span<std::byte>;        // bytes that the callee may change
using ByteView = std::span<const std::byte>;  // bytes that the callee only reads

/// Each byte equals the one before it, and the first is zero.
inline bool is_zero(ByteView bytes) {
    return bytes.empty() || (bytes[0] == std::byte{0} &&
                             std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace braid
