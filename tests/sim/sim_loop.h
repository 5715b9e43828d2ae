// SPDX-License-Identifier: BSD-3-Clause
// SimLoop: the loop of the simulator. One thread, virtual time; the order of what is ready, and
// how long a disk takes, come from the seed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "engine/base/rng.h"
#include "engine/io/clock.h"
#include "engine/io/ready_queue.h"
#include "engine/io/task.h"

namespace braid::sim {

class SimLoop final : public Clock {
  public:
    explicit SimLoop(std::uint64_t seed) : rng_(seed) {}

    ReadyQueue& ready() { return ready_; }
    TaskGroup& tasks() { return tasks_; }
    Rng& rng() { return rng_; }

    Nanos now() const override { return {now_}; }
    std::uint64_t wall_seconds() const override {
        return 1'700'000'000 + (wall_stands_ ? 0 : now_ / 1'000'000'000);
    }
    /// Epochs must grow by what the members promised, too.
    void let_wall_stand() { wall_stands_ = true; }
    /// From now on what comes in the same instant may come between two steps of what is ready, as
    /// completions do that the kernel hands over together.
    void let_events_interrupt() { interrupts_ = true; }
    void arm(Timer& timer) override {
        timer.sequence = ++armed_;
        timers_.insert({{timer.until.value, timer.sequence}, &timer});
    }
    void disarm(Timer& timer) override {
        timers_.erase({{timer.until.value, timer.sequence}, &timer});
        timer.armed = false;
    }
    /// Calls `what` in `nanos` of virtual time.
    void after(std::uint64_t nanos, std::function<void()> what) {
        events_.emplace(std::pair{now_ + nanos, ++scheduled_}, std::move(what));
    }

    /// One step: resumes something that is ready, in an order drawn from the seed, or lets time
    /// pass. False when nothing will ever happen again.
    bool step() {
        if (!ready_.empty() && !(interrupts_ && is_due() && rng_.chance(2))) {
            ready_.take(static_cast<std::size_t>(rng_.below(ready_.size()))).resume();
            return true;
        }
        const std::uint64_t event = events_.empty() ? never : events_.begin()->first.first;
        const std::uint64_t timer = timers_.empty() ? never : timers_.begin()->first.first;
        if (event == never && timer == never) return false;
        if (event <= timer) {
            now_ = std::max(now_, event);
            auto what = std::move(events_.begin()->second);
            events_.erase(events_.begin());
            what();
        } else {
            now_ = std::max(now_, timer);
            Timer* due = timers_.begin()->second;
            timers_.erase(timers_.begin());
            due->fire();
        }
        return true;
    }

    /// The node is gone: nothing that was under way goes on. `destroy` ends what runs on the loop;
    /// disks may be closed in it with operations in flight.
    void crash(const std::function<void()>& destroy) {
        crashing_ = true;
        tasks_.clear();  // first: commands that run here look at the array in their destructors
        destroy();
        ready_.clear();
        events_.clear();
        timers_.clear();
        crashing_ = false;
    }
    bool crashing() const { return crashing_; }

    template <class T>
    T run_until_done(Task<T> task) {
        std::optional<T> result;
        tasks_.spawn(store(std::move(task), &result));
        while (!result) BRAID_REQUIRE(step());
        return std::move(*result);
    }
    void run_until_done(Task<void> task) {
        bool done = false;
        tasks_.spawn(finish(std::move(task), &done));
        while (!done) BRAID_REQUIRE(step());
    }
    void run_for(Nanos time) {
        const std::uint64_t end = now_ + time.value;
        bool over = false;
        after(time.value, [&over] { over = true; });
        while (!over && now_ <= end && step()) {
        }
    }

  private:
    bool is_due() const { return !events_.empty() && events_.begin()->first.first <= now_; }

    bool wall_stands_{false};
    bool interrupts_{false};
    static constexpr std::uint64_t never = ~std::uint64_t{0};
    template <class T>
    static Task<void> store(Task<T> task, std::optional<T>* result) {
        result->emplace(co_await task);
    }
    static Task<void> finish(Task<void> task, bool* done) {
        co_await task;
        *done = true;
    }

    Rng rng_;
    bool crashing_{false};
    std::uint64_t now_{1'000'000'000};
    std::uint64_t armed_{0};
    std::uint64_t scheduled_{0};
    std::set<std::pair<std::pair<std::uint64_t, std::uint64_t>, Timer*>> timers_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::function<void()>> events_;
    ReadyQueue ready_;
    TaskGroup tasks_{ready_};
};

}  // namespace braid::sim
