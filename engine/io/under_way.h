// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "parity/require.h"

namespace braid {

/// `const UnderWay mark(sending_);` in a coroutine that must not run twice at a time: the flag is
/// true until the frame ends, which the flag lives longer than.
class UnderWay {
  public:
    explicit UnderWay(bool& flag) : flag_(flag) {
        BRAID_REQUIRE(!flag_);
        flag_ = true;
    }
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;
    ~UnderWay() { flag_ = false; }

  private:
    bool& flag_;
};

}  // namespace braid
