// SPDX-License-Identifier: BSD-3-Clause
// AnswerWatch: looks again and again whether the disks of this node answer, and tells of those that
// do not.
#pragma once

#include <functional>
#include <utility>

#include "engine/io/clock.h"
#include "engine/io/task.h"
#include "engine/layout/roles.h"

namespace braid {

class AnswerWatch {
  public:
    /// A tick begins: which members are late, by Disk::ticks_late of them.
    using Tick = std::function<MemberSet()>;
    using Tell = std::function<void(MemberIndex)>;  // as long as it is so, and it takes part
    /// @param timeout  late is what has been under way for so long, or up to a seventh longer; a read
    ///                 past the loop up to twice as long. 0: nobody ever is
    AnswerWatch(Clock& clock, Nanos timeout, Tick tick, Tell tell)
        : clock_(clock), timeout_(timeout), tick_(std::move(tick)), tell_(std::move(tell)) {}

    Task<void> run();
    void stop();

  private:
    Clock& clock_;
    Nanos timeout_;
    Tick tick_;
    Tell tell_;
    Timer* pausing_{nullptr};
    bool stopped_{false};
};

}  // namespace braid
