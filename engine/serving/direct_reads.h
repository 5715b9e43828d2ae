// SPDX-License-Identifier: BSD-3-Clause
// DirectReads: a client's thread reads its members itself, past the loop, where every byte lies on
// members that are in sync and whose gate is open.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/layout/geometry.h"
#include "engine/members/members.h"

namespace braid {

class DirectReads {
  public:
    DirectReads(const Geometry& geometry, Members& members)
        : geometry_(geometry), members_(members) {}

    /// Any thread. False: nothing is promised of `into`.
    bool read(ArrayOffset from, ByteSpan into);
    /// Those that were true.
    std::uint64_t count() const { return count_.load(std::memory_order_relaxed); }

  private:
    const Geometry& geometry_;
    Members& members_;
    std::atomic<std::uint64_t> count_{0};
};

}  // namespace braid
