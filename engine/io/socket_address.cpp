// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/socket_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "parity/require.h"

namespace braid {
namespace {

/// The storage as one of the kinds that it has room for.
template <class Kind>
Kind& as(SocketAddress& address) {
    return reinterpret_cast<Kind&>(address.storage);
}
template <class Kind>
const Kind& as(const SocketAddress& address) {
    return reinterpret_cast<const Kind&>(address.storage);
}

Checked<SocketAddress> ip_address_of(const NetAddress& address) {
    const bool is_ip4 = address.kind == AddressKind::ip4;
    SocketAddress found;
    found.storage.ss_family = is_ip4 ? AF_INET : AF_INET6;
    found.size = is_ip4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    void* const into = is_ip4 ? static_cast<void*>(&as<sockaddr_in>(found).sin_addr)
                              : static_cast<void*>(&as<sockaddr_in6>(found).sin6_addr);
    if (inet_pton(found.storage.ss_family, address.host.c_str(), into) != 1) {
        return refuse(address, is_ip4 ? "is no IPv4 address" : "is no IPv6 address", "correct it",
                      RefusalCode::invalid);
    }
    set_port(found, address.port);
    return found;
}

Checked<SocketAddress> unix_address_of(const NetAddress& address) {
    SocketAddress found;
    auto& to = as<sockaddr_un>(found);
    to.sun_family = AF_UNIX;
    if (address.host.empty() || address.host.size() >= sizeof to.sun_path) {
        return refuse(
            address,
            fmt::format("the path of a unix socket has 1 to {} bytes", sizeof to.sun_path - 1),
            "choose a shorter one", RefusalCode::invalid);
    }
    std::memcpy(to.sun_path, address.host.data(), address.host.size());
    found.size = sizeof to;
    return found;
}

std::string ip4_text(const sockaddr_in& address) {
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
    return text_of(NetAddress{AddressKind::ip4, text.data(), ntohs(address.sin_port)});
}
std::string ip6_text(const sockaddr_in6& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
    return text_of(NetAddress{AddressKind::ip6, text.data(), ntohs(address.sin6_port)});
}

}  // namespace

Checked<SocketAddress> socket_address_of(const NetAddress& address) {
    BRAID_REQUIRE(address.kind != AddressKind::name);
    return address.kind == AddressKind::unix_socket ? unix_address_of(address)
                                                    : ip_address_of(address);
}

std::string text_of(const SocketAddress& address) {
    switch (address.storage.ss_family) {
        case AF_INET:
            return ip4_text(as<sockaddr_in>(address));
        case AF_INET6:
            return ip6_text(as<sockaddr_in6>(address));
        default:
            return "a unix socket";
    }
}

void set_port(SocketAddress& address, std::uint16_t port) {
    if (address.storage.ss_family == AF_INET) {
        as<sockaddr_in>(address).sin_port = htons(port);
    } else {
        BRAID_REQUIRE(address.storage.ss_family == AF_INET6);
        as<sockaddr_in6>(address).sin6_port = htons(port);
    }
}

Result<UniqueFd> make_socket(const SocketAddress& address) {
    UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd.get() < 0) return Error{Errc::io, "socket", errno};
    return fd;
}

void send_at_once(int fd, const SocketAddress& peer) {
    if (peer.storage.ss_family == AF_UNIX) return;
    const int yes = 1;
    // Of a TCP socket it cannot fail (tcp(7)).
    [[maybe_unused]] const int set = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

Refusal refuse(const NetAddress& address, std::string_view why, std::string_view way_out,
               RefusalCode code) {
    return Refusal{fmt::format("{}: {}: {}", text_of(address), why, way_out), code};
}

}  // namespace braid
