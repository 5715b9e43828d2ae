// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/answer_watch.h"

#include "engine/io/disk.h"

namespace braid {

Task<void> AnswerWatch::run() {
    // What was submitted just before a tick has been under way for one less.
    const std::uint64_t tick = timeout_.value / (Disk::ticks_late - 1);
    while (!stopped_ && tick != 0) {
        const Nanos due{clock_.now().value + tick};
        Timer timer(clock_, due);
        pausing_ = &timer;
        co_await timer;
        pausing_ = nullptr;
        if (stopped_) break;
        // A turn that comes late counts time in which nothing could be heard.
        if (clock_.now().value > due.value + tick) continue;
        for (const MemberIndex member : tick_()) tell_(member);
    }
}

void AnswerWatch::stop() {
    stopped_ = true;
    if (pausing_ != nullptr) pausing_->cancel();
}

}  // namespace braid
