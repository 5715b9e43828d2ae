// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/error_quota.h"

#include <utility>

namespace braid::plugin {

std::optional<std::uint64_t> ErrorQuota::take(Nanos now) {
    const std::scoped_lock lock(mutex_);
    // Threads come in another order than they looked at the clock.
    if (!begun_ || now.value >= begun_->value + period.value) {
        begun_ = now;
        lines_ = 0;
    }
    if (lines_ == lines_max) {
        ++left_out_;
        return std::nullopt;
    }
    ++lines_;
    return std::exchange(left_out_, 0);
}

}  // namespace braid::plugin
