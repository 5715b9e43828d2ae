// SPDX-License-Identifier: BSD-3-Clause
// For tasks of the loop: what waits for a disk or a file system, and so gets a thread of its own.
#pragma once

#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "engine/io/task.h"
#include "engine/io/uring_loop.h"

namespace braid::plugin {

template <class T>
struct RunBeside : Message {
    UringLoop* loop{nullptr};
    std::function<T()> what;
    std::optional<T> result;
    Event over;

    /// On its thread. What is posted last is the end of it.
    void work() {
        result.emplace(what());
        loop->post(*this);
    }
    static void ended(Message& message) { static_cast<RunBeside&>(message).over.set(); }
};

/// The loop runs until it has ended.
template <class T>
Task<T> run_beside(UringLoop* loop, std::function<T()> what) {
    RunBeside<T> beside;
    beside.loop = loop;
    beside.what = std::move(what);
    beside.run = RunBeside<T>::ended;
    std::thread thread(&RunBeside<T>::work, &beside);
    co_await beside.over.wait();
    thread.join();
    co_return std::move(*beside.result);
}

}  // namespace braid::plugin
