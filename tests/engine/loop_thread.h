// SPDX-License-Identifier: BSD-3-Clause
// A UringLoop on a thread of its own, for tests that come from others.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <semaphore>
#include <thread>

#include "engine/io/uring_loop.h"

namespace braid::test {

class LoopThread {
  public:
    LoopThread() {
        std::promise<void> up;
        auto started = up.get_future();
        thread_ = std::thread([this, &up] {
            loop_ = UringLoop::create().value();
            up.set_value();
            loop_->run();
            left_alone_.acquire();
            if (before_end) before_end();
            loop_.reset();
        });
        started.wait();
    }
    LoopThread(const LoopThread&) = delete;
    LoopThread& operator=(const LoopThread&) = delete;
    ~LoopThread() {
        loop_->stop();
        left_alone_.release();
        thread_.join();
    }
    UringLoop& loop() { return *loop_; }
    std::function<void()> before_end;  // on its thread: closes what works by the loop

  private:
    std::unique_ptr<UringLoop> loop_;
    std::binary_semaphore left_alone_{0};
    std::thread thread_;
};

}  // namespace braid::test
