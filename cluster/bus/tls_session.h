// SPDX-License-Identifier: BSD-3-Clause
// One end of a TLS 1.3 connection as a machine of bytes: what came goes in, what is to be sent comes
// out, and nothing here waits or knows a socket. GnuTLS does it. Which bytes they are differs from run
// to run, since GnuTLS draws keys; how many does not, so that a simulation can be repeated.
//
// Each side shows the other that it has the cluster's key: an external pre-shared key with the
// identity "braid" (RFC 8446, 2.2), always with a Diffie-Hellman exchange, so that whoever learns
// the key later cannot read what was said before. No certificates, no tickets, no early data.
//
// All nodes have the same key. Which of them is at the other end, and that it is not we ourselves,
// TLS does not say: the first messages have to, in both directions (RFC 9257, 4.1).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/config/key_file.h"
#include "engine/base/buffer.h"
#include "engine/base/result.h"
#include "parity/bytes.h"

namespace braid::cluster {

enum class TlsRole : std::uint8_t {
    asks,     // it has connected
    answers,  // it has accepted
};

enum class TlsStep : std::uint8_t { done, needs_bytes, failed };

class TlsSession {
  public:
    /// Refused: GnuTLS has no memory, or no random numbers, or cannot do what we ask for.
    static Checked<std::unique_ptr<TlsSession>> create(TlsRole role, const ClusterKey& key);
    ~TlsSession();
    TlsSession(const TlsSession&) = delete;
    TlsSession& operator=(const TlsSession&) = delete;

    /// Where bytes from the other side go; never empty, unless came() has filled it and nothing was
    /// taken out since.
    ByteSpan room();
    void came(std::size_t count);

    /// As far as it goes with the bytes that are there. A failure is told in `wrong()`.
    TlsStep handshake();
    /// What failed, to follow the name of the other side: "has another key: ...".
    const std::string& wrong() const { return wrong_; }

    /// Seals all of it, for taken(). Only when the handshake is done.
    Result<void> seal(ByteView bytes);
    /// Opens what is there, as much as `into`, which is not empty, has room for. 0: it takes more
    /// bytes. EBADMSG: somebody has changed them.
    Result<std::size_t> open(ByteSpan into);

    /// What is to be sent to the other side, in its order. Take it before each wait.
    std::vector<std::byte> taken();
    std::size_t sealed_size() const { return out_.size(); }

  private:
    struct Parts;
    TlsSession();
    int set_up(TlsRole role);
    int check() const;
    static ssize_t pull(void* session, void* into, std::size_t size);
    static ssize_t push(void* session, const void* from, std::size_t size);
    TlsStep fail(int fault);

    std::unique_ptr<Parts> parts_;
    ClusterKey key_{};  // until the handshake is done
    Buffer in_;         // [begin_, end_) is not read yet
    std::size_t begin_{0};
    std::size_t end_{0};
    std::vector<std::byte> out_;
    std::string wrong_;
};

}  // namespace braid::cluster
