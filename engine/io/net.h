// SPDX-License-Identifier: BSD-3-Clause
// The seam to other nodes: connections that carry bytes both ways, in order, until they break. On
// each one send and one receive may be under way at a time. All of it belongs to the loop's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "engine/base/result.h"
#include "engine/io/task.h"
#include "parity/bytes.h"

namespace braid {

enum class AddressKind : std::uint8_t { ip4, ip6, name, unix_socket };

/// Where a node listens: HOST:PORT, [IPV6]:PORT or unix:PATH.
struct NetAddress {
    AddressKind kind{AddressKind::ip4};
    /// As inet_ntop(3) writes it, a name in lower case, or a path from the root: equal text is an
    /// equal address.
    std::string host;
    std::uint16_t port{0};  // of a unix socket 0
    bool operator==(const NetAddress&) const = default;
};

/// As people write it.
std::string text_of(const NetAddress& address);
/// Nobody comes by it from another machine: a unix socket, 127.0.0.0/8, ::1, localhost.
bool is_local(const NetAddress& address);

/// What fails says so with Errc::io and the errno; after that, and after shut(), so does all that
/// follows, in both directions. Not destroyed while a send or a receive is under way.
class Connection {
  public:
    virtual ~Connection() = default;
    /// Who is at the other end, for messages: as text_of(NetAddress), or "a unix socket".
    virtual const std::string& peer() const = 0;
    /// Takes all bytes of the parts, one part after the other, on their way. Ok says nothing of
    /// their arrival. The parts and their bytes stay until then.
    virtual Task<Result<void>> send(std::span<const ByteView> parts) = 0;
    /// Fills the parts, one after the other, until `at_least` bytes are there, from 1 to the size of
    /// all. The other side has sent its last byte: Error with os_error 0.
    /// @return  how many bytes came: more than `at_least` if they were there
    virtual Task<Result<std::size_t>> receive(std::span<const ByteSpan> parts,
                                              std::size_t at_least) = 0;
    /// Breaks it, both ways: what is under way ends soon, with ECANCELED. Again: nothing.
    virtual void shut() = 0;
};

/// Not destroyed while an accept is under way.
class Listener {
  public:
    virtual ~Listener() = default;
    /// The next one that has come. An error that concerns one comer alone is not told; others are
    /// (no file descriptors are left, say), and the listener stays as it is.
    virtual Task<Result<std::unique_ptr<Connection>>> accept() = 0;
    /// What is under way ends soon, with ECANCELED, and nobody is let in any more. Again: nothing.
    virtual void shut() = 0;
};

class Net {
  public:
    virtual ~Net() = default;
    /// A socket's file that is left of a process that is gone is replaced. Refused: an address in
    /// use, or one that is not of this machine.
    virtual Task<Checked<std::unique_ptr<Listener>>> listen(NetAddress address) = 0;
    /// Refused with the reason: nobody listens, no answer in time (net_connect_ms), the name is not
    /// known.
    virtual Task<Checked<std::unique_ptr<Connection>>> connect(NetAddress address) = 0;
};

}  // namespace braid
