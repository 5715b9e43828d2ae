// SPDX-License-Identifier: BSD-3-Clause
// Names of machines to addresses. getaddrinfo(3) blocks, for as long as resolv.conf(5) allows, and
// nothing ends it: each name has a thread of its own, which touches nothing of the loop. It writes
// to an eventfd, and that is read by the ring.
#pragma once

#include <memory>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/io/net.h"
#include "engine/io/socket_address.h"
#include "engine/io/task.h"
#include "engine/io/uring_loop.h"

namespace braid {

class NameLookup {
  public:
    explicit NameLookup(UringLoop& loop);
    /// Waits for the threads that are left.
    ~NameLookup();
    /// Where a name is. Refused: nowhere, no answer until then, too many are asked for at once.
    Task<Checked<Places>> find(NetAddress name, Nanos until);

  private:
    struct Search;
    Checked<Search*> begin(const NetAddress& name);
    void forget_ended();

    UringLoop& loop_;
    std::vector<std::unique_ptr<Search>> searches_;
};

}  // namespace braid
