// SPDX-License-Identifier: BSD-3-Clause
// Where a node is reached: HOST:PORT, [IPV6]:PORT or unix:PATH. Pure: no name is looked up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace braid::cluster {

enum class AddressKind : std::uint8_t { ip4, ip6, name, unix_socket };

struct NodeAddress {
    AddressKind kind{AddressKind::ip4};
    /// As inet_ntop(3) writes it, a name in lower case, or a path from the root: equal text is an
    /// equal address.
    std::string host;
    std::uint16_t port{0};  // of a unix socket 0
    bool operator==(const NodeAddress&) const = default;
};

/// As it is written in the file; parse_address() gives the same again.
std::string text_of(const NodeAddress& address);
/// Nobody comes by it from another machine: a unix socket, 127.0.0.0/8, ::1, localhost.
bool is_local(const NodeAddress& address);

/// A socket's relative path begins at `folder`, which is a path from the root. The refusal says what
/// is wrong and what to write, without the text itself.
Checked<NodeAddress> parse_address(std::string_view text, std::string_view folder);

/// `path` from the root, relative ones from `folder`; without `//`, `/./` and a final `/`, but
/// with `..`, which only the kernel can resolve. Refused: an empty path, control characters, more
/// than path_length_max bytes.
Checked<std::string> place_path(std::string_view path, std::string_view folder);

}  // namespace braid::cluster
