// SPDX-License-Identifier: BSD-3-Clause
// Addresses as the kernel takes them, and sockets for them.
#pragma once

#include <sys/socket.h>

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/base/unique_fd.h"
#include "engine/io/net.h"

namespace braid {

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size{0};  // bytes of `storage` that count

    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

/// Where an address may be: of a name the best first (RFC 6724), of all others there is one.
class Places {
  public:
    bool is_full() const { return count_ == places_.size(); }
    std::size_t size() const { return count_; }
    void add(const SocketAddress& place) { places_.at(count_++) = place; }
    std::span<const SocketAddress> all() const { return std::span(places_).first(count_); }
    std::span<SocketAddress> all() { return std::span(places_).first(count_); }

  private:
    std::array<SocketAddress, net_places_max> places_{};
    std::size_t count_{0};
};

/// Of all kinds but a name, which must be looked up. Refused: a host that is none of its kind, a
/// path that is too long.
Checked<SocketAddress> socket_address_of(const NetAddress& address);
/// For messages: "10.0.0.1:1234", "[::1]:99", "a unix socket".
std::string text_of(const SocketAddress& address);
/// Of IPv4 or IPv6.
void set_port(SocketAddress& address, std::uint16_t port);

/// A stream socket that could be connected to `address`, or listen there; os_error says why not.
Result<UniqueFd> make_socket(const SocketAddress& address);
/// Small messages go at once; nothing for a unix socket, where they always do.
void send_at_once(int fd, const SocketAddress& peer);

/// What is refused of an address: "10.0.0.1:1234: nobody listens there: start that node".
Refusal refuse(const NetAddress& address, std::string_view why, std::string_view way_out,
               RefusalCode code);

}  // namespace braid
