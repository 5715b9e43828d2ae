// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/net.h"

#include <fmt/format.h>

namespace braid {

std::string text_of(const NetAddress& address) {
    switch (address.kind) {
        case AddressKind::ip6:
            return fmt::format("[{}]:{}", address.host, address.port);
        case AddressKind::unix_socket:
            return "unix:" + address.host;
        case AddressKind::ip4:
        case AddressKind::name:
            break;
    }
    return fmt::format("{}:{}", address.host, address.port);
}

bool is_local(const NetAddress& address) {
    switch (address.kind) {
        case AddressKind::ip4:
            return address.host.starts_with("127.");
        case AddressKind::ip6:
            return address.host == "::1";
        case AddressKind::name:
            return address.host == "localhost";  // RFC 6761, 6.3
        case AddressKind::unix_socket:
            return true;
    }
    return false;
}

}  // namespace braid
