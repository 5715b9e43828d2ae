// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/event_hub.h"

#include "engine/base/limits.h"

namespace braid::plugin {

void EventHub::publish(const ArrayEvent& event) {
    const std::lock_guard lock(mutex_);
    if (events_.size() == events_kept_max) events_.pop_front();
    events_.push_back(event);
    came_.notify_all();
}

std::vector<ArrayEvent> EventHub::wait_after(std::uint64_t after, std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    const auto until = std::chrono::steady_clock::now() + wait;
    came_.wait_until(lock, until, [this, after] {
        return closed_ || (!events_.empty() && events_.back().sequence > after);
    });
    std::vector<ArrayEvent> found;
    for (const ArrayEvent& event : events_) {
        if (event.sequence > after) found.push_back(event);
    }
    return found;
}

void EventHub::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    came_.notify_all();
}

bool EventHub::closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
}

}  // namespace braid::plugin
