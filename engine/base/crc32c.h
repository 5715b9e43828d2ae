// SPDX-License-Identifier: BSD-3-Clause
// CRC-32C (Castagnoli), as iSCSI and ext4 use it. Source: RFC 3720, appendix B.4.
#pragma once

#include <cstdint>

#include "parity/bytes.h"

namespace braid {

/// The checksum of `bytes`; pass an earlier result as `before` to go on where it ended.
std::uint32_t crc32c(ByteView bytes, std::uint32_t before = 0);

}  // namespace braid
