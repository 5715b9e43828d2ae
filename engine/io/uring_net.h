// SPDX-License-Identifier: BSD-3-Clause
// Connections by TCP and unix sockets behind io_uring. As long as there is a listener or a
// connection the loop is not lent (uring_loop.h).
#pragma once

#include <cstdint>
#include <memory>

#include "engine/base/limits.h"
#include "engine/io/name_lookup.h"
#include "engine/io/net.h"
#include "engine/io/uring_loop.h"

namespace braid {

class UringNet final : public Net {
  public:
    /// `connect_ms`: from the question to the answer, the looking up of a name included.
    explicit UringNet(UringLoop& loop, std::uint64_t connect_ms = net_connect_ms);
    /// Nothing of connect() and listen() is under way. Waits for a name that was given up and is
    /// still looked for: as long as the resolver does (resolv.conf(5)).
    ~UringNet() override = default;
    /// Of a name's addresses the first that is one of this machine. One that is in use is tried again
    /// for a second.
    Task<Checked<std::unique_ptr<Listener>>> listen(NetAddress address) override;
    /// Of a name's addresses the first that answers. They share the time.
    Task<Checked<std::unique_ptr<Connection>>> connect(NetAddress address) override;

  private:
    Task<Checked<Places>> places_of(NetAddress address, Nanos until);

    UringLoop& loop_;
    std::uint64_t connect_ms_;
    NameLookup names_;
};

}  // namespace braid
