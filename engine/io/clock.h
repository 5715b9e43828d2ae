// SPDX-License-Identifier: BSD-3-Clause
// The seam to time. Production reads CLOCK_MONOTONIC and CLOCK_BOOTTIME; the simulator
// moves its own.
#pragma once

#include <coroutine>
#include <cstdint>

#include "engine/base/units.h"
#include "engine/io/task.h"

namespace braid {

struct Timer;

class Clock {
  public:
    virtual ~Clock() = default;
    /// Since some fixed point; never goes back.
    virtual Nanos now() const = 0;
    /// As now(), from a fixed point of its own, and it goes on while the machine sleeps: what leases
    /// and heartbeats are measured by.
    virtual Nanos stamp() const { return now(); }
    /// Seconds since 1970, for what people read and for md's time fields.
    virtual std::uint64_t wall_seconds() const = 0;
    virtual void arm(Timer& timer) = 0;
    virtual void disarm(Timer& timer) = 0;
};

/// `Timer timer{clock, until}; co_await timer;` suspends until the clock has reached `until`, or
/// cancel() is called. Lives in the frame of the coroutine that waits on it.
struct Timer {
    Clock& clock;
    Nanos until;
    ReadyQueue* queue{nullptr};
    std::coroutine_handle<> handle{};
    std::uint64_t sequence{0};  // of the clock: equal times fire in the order of arming
    bool armed{false};

    Timer(Clock& the_clock, Nanos at) : clock(the_clock), until(at) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer() {
        if (armed) clock.disarm(*this);
    }
    bool await_ready() const { return clock.now() >= until; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        queue = static_cast<PromiseBase&>(self.promise()).queue;
        handle = self;
        armed = true;
        clock.arm(*this);
    }
    void await_resume() const {}
    /// For a Clock: the time has come.
    void fire() {
        armed = false;
        queue->push(handle);
    }
    void cancel() {
        if (!armed) return;
        clock.disarm(*this);
        fire();
    }
};

}  // namespace braid
