// SPDX-License-Identifier: BSD-3-Clause
// What happened to the array, for people: told to the log at once, and kept for the status.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "engine/io/clock.h"
#include "engine/status.h"

namespace braid {

class EventLog {
  public:
    using OnEvent = std::function<void(const ArrayEvent&)>;

    /// @param on_event  may be empty
    EventLog(Clock& clock, OnEvent on_event) : clock_(clock), on_event_(std::move(on_event)) {}

    void tell(Severity severity, std::string kind, std::string text);
    /// The configuration that is in force from now on.
    void set_version(EpochRevision version) { version_ = version; }
    /// What happened before this log began, of another one; before anything is told.
    void begin_after(const EventLog& before) {
        version_ = before.version_;
        told_ = before.told_;
        events_ = before.events_;
    }
    /// The newest events_kept_max, in order.
    const std::deque<ArrayEvent>& events() const { return events_; }

  private:
    Clock& clock_;
    OnEvent on_event_;
    EpochRevision version_;
    std::uint64_t told_{0};
    std::deque<ArrayEvent> events_;
};

}  // namespace braid
