// SPDX-License-Identifier: BSD-3-Clause
// ToldLately: what happens again and again is told now and then.
#pragma once

#include <optional>

#include "engine/base/units.h"

namespace braid {

class ToldLately {
  public:
    /// Whether it was told within the last `quiet`; else the caller tells it, and it was told now.
    bool was_told(Nanos now, Nanos quiet) {
        if (last_ && now.value - last_->value < quiet.value) return true;
        last_ = now;
        return false;
    }

  private:
    std::optional<Nanos> last_;
};

}  // namespace braid
