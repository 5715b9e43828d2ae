// SPDX-License-Identifier: BSD-3-Clause
// ErrorQuota: how many requests that failed are told of. A client goes on trying, and an array that
// has stopped refuses all: a line for each would fill the disk that the log is on.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "engine/base/units.h"

namespace braid::plugin {

/// From any thread.
class ErrorQuota {
  public:
    static constexpr std::uint64_t lines_max = 20;  // within `period`
    static constexpr Nanos period = seconds(10);

    /// Of a request that failed now. None: nothing is to be told of it. Else how many were not told
    /// of since the last that was.
    std::optional<std::uint64_t> take(Nanos now);

  private:
    std::mutex mutex_;
    std::optional<Nanos> begun_;
    std::uint64_t lines_{0};
    std::uint64_t left_out_{0};
};

}  // namespace braid::plugin
