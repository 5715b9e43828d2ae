// SPDX-License-Identifier: BSD-3-Clause
// Views of raw bytes, the currency of parity/ and engine/.
#pragma once

#include <cstddef>
#include <span>

namespace braid {

using ByteSpan = std::span<std::byte>;        // bytes that the callee may change
using ByteView = std::span<const std::byte>;  // bytes that the callee only reads

}  // namespace braid
