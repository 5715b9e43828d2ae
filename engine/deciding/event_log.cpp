// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/event_log.h"

#include <utility>

#include "engine/base/limits.h"

namespace braid {

void EventLog::tell(Severity severity, std::string kind, std::string text) {
    ArrayEvent event;
    event.sequence = ++told_;
    event.wall_seconds = clock_.wall_seconds();
    event.severity = severity;
    event.kind = std::move(kind);
    event.text = std::move(text);
    event.version = version_;
    if (on_event_) on_event_(event);
    events_.push_back(std::move(event));
    if (events_.size() > events_kept_max) events_.pop_front();
}

}  // namespace braid
