// SPDX-License-Identifier: BSD-3-Clause
// Pauses: what coroutines wait for, and whoever ends them can cut short.
#pragma once

#include <vector>

#include "engine/io/clock.h"

namespace braid {

class Pauses {
  public:
    explicit Pauses(Clock& clock) : clock_(clock) {}
    Pauses(const Pauses&) = delete;
    Pauses& operator=(const Pauses&) = delete;

    /// Whoever pauses now goes on, in the order in which they began. Those that come later pause.
    void cut_short() {
        for (Timer* timer : timers_) timer->cancel();
    }

  private:
    friend class Pause;
    Clock& clock_;
    std::vector<Timer*> timers_;
};

/// `Pause pause{pauses, time}; co_await pause;`. Lives as a Timer does.
class Pause : public Timer {
  public:
    Pause(Pauses& pauses, Nanos time)
        : Timer(pauses.clock_, Nanos{pauses.clock_.now().value + time.value}), pauses_(pauses) {
        pauses_.timers_.push_back(this);
    }
    ~Pause() { std::erase(pauses_.timers_, this); }

  private:
    Pauses& pauses_;
};

}  // namespace braid
