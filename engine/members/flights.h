// SPDX-License-Identifier: BSD-3-Clause
// Flights: operations on a disk that may outlive who waits for them. What they need they have
// themselves: so of a disk that does not answer any more they can be given up.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/io/disk.h"

namespace braid {

class Flights {
  public:
    Flights() = default;
    Flights(const Flights&) = delete;
    Flights& operator=(const Flights&) = delete;

    /// A flush, or a write, whose bytes are copied: `op`, which a group counts already, completes
    /// with it. All of them end before this goes, or nothing runs any more.
    void start(Disk& disk, DiskOp& op);
    /// Those that wait are told ENODEV now; what is under way goes on.
    void abandon();

  private:
    struct Flight final : DiskOp {
        Flights* all{nullptr};
        DiskOp* waiting{nullptr};
        Buffer bytes;
    };
    static void landed(DiskOp& op);

    std::deque<Flight> flights_;  // their addresses stay
    std::vector<Flight*> free_;
};

}  // namespace braid
