// SPDX-License-Identifier: BSD-3-Clause
// SimLoop: the loop of the simulator. One thread, virtual time; the order of what is ready, and
// how long a disk takes, come from the seed. A node may have a part of it for itself: that can stand
// still while all others go on, or end as in a crash.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/base/rng.h"
#include "engine/io/clock.h"
#include "engine/io/ready_queue.h"
#include "engine/io/task.h"

namespace braid::sim {

class SimLoop final : public Clock {
  public:
    explicit SimLoop(std::uint64_t seed) : rng_(seed) {}
    /// A part of `whole`, which runs it and lives longer.
    explicit SimLoop(SimLoop& whole) : whole_(&whole), rng_(0) { whole.parts_.push_back(this); }
    ~SimLoop() override {
        if (whole_ != nullptr) std::erase(whole_->parts_, this);
    }
    SimLoop(const SimLoop&) = delete;
    SimLoop& operator=(const SimLoop&) = delete;

    ReadyQueue& ready() { return ready_; }
    TaskGroup& tasks() { return tasks_; }
    Rng& rng() { return whole().rng_; }

    Nanos now() const override { return {whole().now_}; }
    Nanos stamp() const override {
        const std::uint64_t time = (stands_ ? *stands_ : whole().now_) - stood_;
        return {time + time / 1'000'000 * stamp_fast_ppm_ - time / 1'000'000 * stamp_slow_ppm_ +
                stamp_ahead_};
    }
    std::uint64_t wall_seconds() const override {
        return wall_begin_ + (whole().wall_stands_ ? 0 : whole().now_ / 1'000'000'000);
    }
    /// The clock that leases are measured by goes faster than true time, or slower.
    void let_stamps_differ(std::uint64_t fast_ppm, std::uint64_t slow_ppm) {
        stamp_fast_ppm_ = fast_ppm;
        stamp_slow_ppm_ = slow_ppm;
    }
    /// It stands while the part does, as one that does not go on while its machine sleeps.
    void let_stamps_stand() { stamps_stand_ = true; }
    /// A part stands still, as a process that is stopped: its disks end what they were given, and
    /// nobody takes note; its timers are late.
    void stand_still(bool still) {
        stands_still_ = still;
        if (!stamps_stand_) return;
        const std::uint64_t now = whole().now_;
        if (still && !stands_) stands_ = now;
        if (still || !stands_) return;
        stood_ += now - *stands_;
        stands_.reset();
    }
    bool stands_still() const { return stands_still_; }
    /// The clocks of a part jump: that which leases are measured by forward, as it does where a machine
    /// was asleep; the wall clock to any time.
    void jump(Nanos stamp_ahead, std::uint64_t wall_seconds) {
        stamp_ahead_ += stamp_ahead.value;
        wall_begin_ = wall_seconds;
    }
    /// Epochs must grow by what the members promised, too.
    void let_wall_stand() { wall_stands_ = true; }
    /// From now on what comes in the same instant may come between two steps of what is ready, as
    /// completions do that the kernel hands over together.
    void let_events_interrupt() { interrupts_ = true; }
    /// From now on what is ready goes on in the order in which it became so, as it does when it is served.
    void let_order_stand(bool stands) { order_stands_ = stands; }
    void arm(Timer& timer) override {
        timer.sequence = ++whole().armed_;
        timers_.insert({{timer.until.value, timer.sequence}, &timer});
    }
    void disarm(Timer& timer) override {
        timers_.erase({{timer.until.value, timer.sequence}, &timer});
        timer.armed = false;
    }
    /// Calls `what` in `nanos` of virtual time.
    void after(std::uint64_t nanos, std::function<void()> what) {
        events_.emplace(std::pair{whole().now_ + nanos, ++whole().scheduled_}, std::move(what));
    }

    /// One step: resumes something that is ready, in an order drawn from the seed, or lets time
    /// pass. False when nothing will ever happen again.
    bool step() {
        std::size_t ready = ready_.size();
        for (SimLoop* part : parts_) ready += part->may_run();
        if (ready != 0 && !(interrupts_ && is_due() && rng_.chance(2))) {
            take(order_stands_ ? 0 : static_cast<std::size_t>(rng_.below(ready))).resume();
            return true;
        }
        SimLoop* const of_event = earliest([](const SimLoop& loop) { return loop.event_next(); });
        SimLoop* const of_timer = earliest([](const SimLoop& loop) { return loop.timer_next(); });
        const Due event = of_event->event_next();
        const Due timer = of_timer->timer_next();
        if (event.first == never && timer.first == never) return false;
        if (event.first <= timer.first) {
            now_ = std::max(now_, event.first);
            auto what = std::move(of_event->events_.begin()->second);
            of_event->events_.erase(of_event->events_.begin());
            what();
        } else {
            now_ = std::max(now_, timer.first);
            Timer* due = of_timer->timers_.begin()->second;
            of_timer->timers_.erase(of_timer->timers_.begin());
            due->fire();
        }
        return true;
    }

    /// The node is gone: nothing that was under way goes on. `destroy` ends what runs on the loop;
    /// disks may be closed in it with operations in flight.
    void crash(const std::function<void()>& destroy) {
        crash_begins();  // first: commands that run here look at the array in their destructors
        destroy();
        for (SimLoop* part : parts_) part->crash_ends();
        crash_ends();
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
    using Due = std::pair<std::uint64_t, std::uint64_t>;  // when, and in which order
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    SimLoop& whole() { return whole_ == nullptr ? *this : *whole_; }
    const SimLoop& whole() const { return whole_ == nullptr ? *this : *whole_; }
    std::size_t may_run() const { return stands_still_ ? 0 : ready_.size(); }
    Due event_next() const { return events_.empty() ? Due{never, 0} : events_.begin()->first; }
    Due timer_next() const {
        return timers_.empty() || stands_still_ ? Due{never, 0} : timers_.begin()->first;
    }
    template <class Next>
    SimLoop* earliest(Next next) {
        SimLoop* first = this;
        for (SimLoop* part : parts_) {
            if (next(*part) < next(*first)) first = part;
        }
        return first;
    }
    std::coroutine_handle<> take(std::size_t at) {
        if (at < ready_.size()) return ready_.take(at);
        at -= ready_.size();
        for (SimLoop* part : parts_) {
            if (at < part->may_run()) return part->ready_.take(at);
            at -= part->may_run();
        }
        BRAID_REQUIRE(false);
        return {};
    }
    bool is_due() {
        return earliest([](const SimLoop& loop) { return loop.event_next(); })
                   ->event_next()
                   .first <= now_;
    }
    void crash_begins() {
        crashing_ = true;
        for (SimLoop* part : parts_) part->crash_begins();
        tasks_.clear();
    }
    void crash_ends() {
        ready_.clear();
        events_.clear();
        timers_.clear();
        crashing_ = false;
    }
    template <class T>
    static Task<void> store(Task<T> task, std::optional<T>* result) {
        result->emplace(co_await task);
    }
    static Task<void> finish(Task<void> task, bool* done) {
        co_await task;
        *done = true;
    }

    SimLoop* whole_{nullptr};      // none: it is the whole one
    std::vector<SimLoop*> parts_;  // in the order in which they were made
    bool stands_still_{false};
    std::uint64_t stamp_fast_ppm_{0};
    std::uint64_t stamp_ahead_{0};
    std::uint64_t wall_begin_{1'700'000'000};
    std::uint64_t stamp_slow_ppm_{0};
    bool stamps_stand_{false};
    std::optional<std::uint64_t> stands_;  // the clock of stamps, since then
    std::uint64_t stood_{0};               // before
    bool wall_stands_{false};
    bool interrupts_{false};
    bool order_stands_{false};
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
