// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/config/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

constexpr std::string_view unix_prefix = "unix:";
constexpr std::string_view forms = "say HOST:PORT, [IPV6]:PORT or unix:PATH";
constexpr std::size_t socket_path_max = sizeof(sockaddr_un::sun_path) - 1;  // and a NUL
constexpr std::size_t host_name_max = 253;                                  // RFC 1123, 1035
constexpr std::size_t host_label_max = 63;

Refusal refuse(std::string text) { return Refusal{std::move(text), RefusalCode::invalid}; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_label(std::string_view label) {
    const auto fits = [](char c) {
        return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
    };
    return !label.empty() && label.size() <= host_label_max && label.front() != '-' &&
           label.back() != '-' && std::ranges::all_of(label, fits);
}

/// RFC 1123, 2.1. A name whose last label is a number would be an IPv4 address that is none.
bool is_host_name(std::string_view name) {
    if (name.size() > host_name_max) return false;
    while (true) {
        const std::size_t dot = name.find('.');
        const std::string_view label = name.substr(0, dot);
        if (!is_label(label)) return false;
        if (dot == name.npos) return !std::ranges::all_of(label, is_digit);
        name.remove_prefix(dot + 1);
    }
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (fault != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
    return port;
}

Checked<NetAddress> parse_unix(std::string_view path, std::string_view folder) {
    if (path.empty()) return refuse("the path of the socket is missing: say unix:PATH");
    BRAID_TRY(std::string placed, place_path(path, folder));
    if (placed.size() > socket_path_max) {
        return refuse(
            fmt::format("the path of the socket has {} bytes from the root, and {} are possible "
                        "(unix(7)): say a shorter one",
                        placed.size(), socket_path_max));
    }
    return NetAddress{AddressKind::unix_socket, std::move(placed), 0};
}

NetAddress ip4_address(const in_addr& ip) {
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, &ip, text.data(), text.size());
    return {AddressKind::ip4, text.data(), 0};
}

/// An IPv4 address in IPv6's form is that IPv4 address (RFC 4291, 2.5.5.2).
NetAddress ip6_address(const in6_addr& ip) {
    if (IN6_IS_ADDR_V4MAPPED(&ip)) {
        in_addr inner{};
        std::memcpy(&inner, ip.s6_addr + 12, sizeof inner);
        return ip4_address(inner);
    }
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(AF_INET6, &ip, text.data(), text.size());
    return {AddressKind::ip6, text.data(), 0};
}

/// Refuses what stands for several machines, or for whichever one it is.
Checked<NetAddress> of_one_machine(NetAddress address) {
    bool many = false;
    if (address.kind == AddressKind::ip4) {
        in_addr ip{};
        inet_pton(AF_INET, address.host.c_str(), &ip);
        many = ip.s_addr == htonl(INADDR_ANY) || IN_MULTICAST(ntohl(ip.s_addr)) ||
               ip.s_addr == htonl(INADDR_BROADCAST);
    } else if (address.kind == AddressKind::ip6) {
        in6_addr ip{};
        inet_pton(AF_INET6, address.host.c_str(), &ip);
        many = IN6_IS_ADDR_UNSPECIFIED(&ip) || IN6_IS_ADDR_MULTICAST(&ip);
    }
    if (!many) return address;
    return refuse(
        "is no address of one machine: say the one at which the other nodes reach this node");
}

/// With or without what was taken for a port.
bool looks_like_ip6(std::string_view text) {
    return text.find(':') != text.npos &&
           text.find_first_not_of("0123456789abcdefABCDEF:.") == text.npos;
}

Checked<NetAddress> parse_host(std::string_view text, bool in_brackets) {
    const std::string host(text);
    in6_addr ip6{};
    in_addr ip4{};
    if (in_brackets) {
        if (inet_pton(AF_INET6, host.c_str(), &ip6) == 1) return of_one_machine(ip6_address(ip6));
        return refuse(
            "no IPv6 address stands in the brackets: say [IPV6]:PORT, as [fd00::1]:10810");
    }
    if (inet_pton(AF_INET, host.c_str(), &ip4) == 1) return of_one_machine(ip4_address(ip4));
    if (looks_like_ip6(text)) {
        return refuse("an IPv6 address stands in brackets: say [IPV6]:PORT, as [fd00::1]:10810");
    }
    if (!is_host_name(host)) {
        return refuse(fmt::format("no host can have that name or number: {}", forms));
    }
    NetAddress named{AddressKind::name, host, 0};
    for (char& c : named.host) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return named;
}

}  // namespace

Checked<NetAddress> parse_address(std::string_view text, std::string_view folder) {
    if (text.starts_with(unix_prefix)) return parse_unix(text.substr(unix_prefix.size()), folder);
    const bool in_brackets = text.starts_with('[');
    const std::size_t end = in_brackets ? text.find(']') : text.rfind(':');
    if (in_brackets && end == text.npos) return refuse(fmt::format("\"]\" is missing: {}", forms));
    const std::size_t colon = in_brackets ? end + 1 : end;
    const bool has_port = colon < text.size() && text[colon] == ':';
    const std::string_view host =
        in_brackets ? text.substr(1, end - 1) : text.substr(0, has_port ? colon : text.npos);
    BRAID_TRY(NetAddress address, parse_host(host, in_brackets));
    if (!has_port) return refuse(fmt::format("the port is missing: {}", forms));
    const auto port = parse_port(text.substr(colon + 1));
    if (!port) return refuse("the port is no number from 1 to 65535");
    address.port = *port;
    return address;
}

Checked<std::string> place_path(std::string_view path, std::string_view folder) {
    if (path.empty()) return refuse("the path is empty");
    const auto is_control = [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    };
    if (std::ranges::any_of(path, is_control)) {
        return refuse("a path with control characters, which nobody could read in a message");
    }
    std::string whole;
    if (!path.starts_with('/')) whole = std::string(folder) + '/';
    whole += path;
    std::string placed;
    for (std::size_t at = 0; at < whole.size();) {
        const std::size_t slash = std::min(whole.find('/', at), whole.size());
        const std::string_view part = std::string_view(whole).substr(at, slash - at);
        if (!part.empty() && part != ".") placed.append("/").append(part);
        at = slash + 1;
    }
    if (placed.empty()) placed = "/";
    if (placed.size() > path_length_max) {
        return refuse(fmt::format("the path has {} bytes from the root, and {} are possible",
                                  placed.size(), path_length_max));
    }
    return placed;
}

}  // namespace braid::cluster
