// SPDX-License-Identifier: BSD-3-Clause
// The key that the nodes of a cluster share: 256 bits. Its file has them as 64 hexadecimal digits
// and a newline, and is its owner's alone. No message shows any of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/base/result.h"

namespace braid::cluster {

inline constexpr std::size_t key_size = 32;
using ClusterKey = std::array<std::uint8_t, key_size>;

/// Makes a file with a new key, with mode 0600, and has it durable, its name included. Refused: the
/// path exists, whatever it is. When it fails later, what was made is taken away.
Checked<Unit> make_key_file(const std::string& path);

/// Refused: what cannot be read, is no regular file, is open to others than its owner, or is not 64
/// hexadecimal digits, in capitals or not, and at most one newline.
Checked<ClusterKey> read_key_file(const std::string& path);

}  // namespace braid::cluster
