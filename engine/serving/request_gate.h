// SPDX-License-Identifier: BSD-3-Clause
// RequestGate: who may use a volume, and who not yet. In a cluster a volume can be reserved by one
// node; what other nodes' clients ask of it waits meanwhile, or is refused. A node that is alone has
// no gate.
#pragma once

#include "engine/io_request.h"

namespace braid {

class RequestGate {
  public:
    /// Where requests go on that had to wait.
    class Inside {
      public:
        virtual ~Inside() = default;
        virtual void let_in(IoRequest& request) = 0;
        virtual void refuse(IoRequest& request, Error error) = 0;
    };
    enum class Way : std::uint8_t {
        in,       // leave() follows when it is over
        waits,    // the gate keeps it (IoRequest::link), and tells Inside when it is known
        refused,  // IoRequest::error says why
    };

    virtual ~RequestGate() = default;
    /// Of a read, a write or a zero within the array. A flush is of no volume.
    virtual Way enter(IoRequest& request, Inside& inside) = 0;
    /// A request that was let in is over, and not answered yet; or waits for a resync, and enters
    /// again after it.
    virtual void leave(const IoRequest& request) = 0;
    /// The node leaves the array: whoever waits is refused, with Errc::fenced.
    virtual void close() = 0;
};

}  // namespace braid
