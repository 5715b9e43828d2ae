// SPDX-License-Identifier: BSD-3-Clause
// Task<T>: a coroutine that starts when it is awaited. Starting and ending go through the ready
// queue of the awaiting coroutine; nothing is resumed from within something else, because GCC 12
// makes recursion of symmetric transfer without optimisation, and because the queue is where the
// simulator decides the order. TaskGroup runs tasks beside each other.
#pragma once

#include <coroutine>
#include <cstdlib>
#include <optional>
#include <type_traits>
#include <utility>

#include "engine/io/frame_pool.h"
#include "engine/io/ready_queue.h"
#include "parity/require.h"

namespace braid {

/// What every braid coroutine's promise has; awaitables take the ready queue from it.
struct PromiseBase {
    ReadyQueue* queue{nullptr};
    std::coroutine_handle<> continuation;

    static void* operator new(std::size_t size) { return frame_allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { frame_free(frame, size); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    [[noreturn]] void unhandled_exception() noexcept { std::abort(); }  // braid throws nothing

    struct Final {
        bool await_ready() noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) noexcept {
            PromiseBase& promise = self.promise();
            if (promise.continuation) promise.queue->push(promise.continuation);
        }
        void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
};

/// What every Task is: the owner of a frame, which starts through the queue of who awaits it.
template <class Promise>
class TaskHandle {
  public:
    TaskHandle(TaskHandle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    TaskHandle& operator=(TaskHandle other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~TaskHandle() {
        if (handle_) handle_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> parent) noexcept {
        PromiseBase& promise = handle_.promise();
        promise.queue = static_cast<PromiseBase&>(parent.promise()).queue;
        promise.continuation = parent;
        promise.queue->push(handle_);
    }

  protected:
    explicit TaskHandle(Promise& promise)
        : handle_(std::coroutine_handle<Promise>::from_promise(promise)) {}
    Promise& promise() const { return handle_.promise(); }

  private:
    std::coroutine_handle<Promise> handle_;
};

template <class T>
class Task;

template <class T>
struct TaskPromise : PromiseBase {
    std::optional<T> value;
    Task<T> get_return_object();
    template <class U>
    void return_value(U&& from) {
        value.emplace(std::forward<U>(from));
    }
};
template <>
struct TaskPromise<void> : PromiseBase {
    Task<void> get_return_object();
    void return_void() noexcept {}
};

template <class T>
class [[nodiscard]] Task : public TaskHandle<TaskPromise<T>> {
  public:
    using promise_type = TaskPromise<T>;
    explicit Task(promise_type& promise) : TaskHandle<promise_type>(promise) {}
    T await_resume() {
        if constexpr (!std::is_void_v<T>) {
            BRAID_REQUIRE(this->promise().value.has_value());
            return std::move(*this->promise().value);
        }
    }
};

template <class T>
Task<T> TaskPromise<T>::get_return_object() {
    return Task<T>(*this);
}
inline Task<void> TaskPromise<void>::get_return_object() { return Task<void>(*this); }

/// `co_await Yield{}`: lets everything else that is ready go first.
struct Yield {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
        static_cast<PromiseBase&>(self.promise()).queue->push(self);
    }
    void await_resume() const noexcept {}
};

/// `co_await YieldToAll{}`: lets everything go first that is ready, and all that comes of it at once.
struct YieldToAll : Yield {
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
        static_cast<PromiseBase&>(self.promise()).queue->push_last(self);
    }
};

/// Waits for one thing at a time: `co_await event.wait()` suspends one coroutine until set() is
/// called; set() before wait() is kept. Any number may wait on an Event; all go on at set().
class Event {
  public:
    Event() = default;
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    struct Wait {
        Event& event;
        ReadyQueue* queue{nullptr};
        std::coroutine_handle<> handle;
        Wait* next{nullptr};
        bool await_ready() const noexcept { return event.set_; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) noexcept {
            queue = static_cast<PromiseBase&>(self.promise()).queue;
            handle = self;
            next = event.waiting_;
            event.waiting_ = this;
        }
        void await_resume() const noexcept {}
    };
    Wait wait() { return Wait{*this, nullptr, nullptr, nullptr}; }
    void set() {
        set_ = true;
        Wait* list = std::exchange(waiting_, nullptr);
        Wait* ordered = nullptr;  // first come, first on the queue
        while (list != nullptr) {
            Wait* next = list->next;
            list->next = ordered;
            ordered = list;
            list = next;
        }
        for (; ordered != nullptr; ordered = ordered->next) ordered->queue->push(ordered->handle);
    }
    void clear() { set_ = false; }
    /// Waits unless it was set, and forgets that it was: for the one who does what is asked for.
    struct Take : Wait {
        void await_resume() const noexcept { event.clear(); }
    };
    Take take() { return Take{wait()}; }
    /// What was set before does not count: `while (!is_so()) co_await event.next();`. To look again
    /// after each set() is right where several wait, or where what was so may have passed.
    Wait next() {
        clear();
        return wait();
    }
    bool is_set() const { return set_; }
    /// Nobody is woken any more who waits now: a crash destroys them where they stand.
    void forget() { waiting_ = nullptr; }

  private:
    bool set_{false};
    Wait* waiting_{nullptr};
};

/// Tasks that run beside each other and belong to the group: join() waits for all of them, and
/// the group's end destroys those that still wait (a crash in the simulator: their I/O must be
/// over by then).
class TaskGroup {
  public:
    explicit TaskGroup(ReadyQueue& queue) : queue_(queue) {}
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;
    ~TaskGroup() { clear(); }
    /// Destroys every task where it stands. The queue may still have some of them: its owner
    /// clears it, too.
    void clear() {
        while (first_ != nullptr) {
            auto* root = first_;
            unlink(*root);
            std::coroutine_handle<Root::promise_type>::from_promise(*root).destroy();
        }
        running_ = 0;
    }

    void spawn(Task<void> task) {
        auto root = run(std::move(task));
        auto& promise = root.handle.promise();
        promise.queue = &queue_;
        promise.group = this;
        promise.next = first_;
        if (first_ != nullptr) first_->previous = &promise;
        first_ = &promise;
        ++running_;
        idle_.clear();
        queue_.push(root.handle);
    }
    /// Suspends until no task of the group runs. Spawning goes on being possible.
    Event::Wait join() {
        if (running_ == 0) idle_.set();
        return idle_.wait();
    }
    std::size_t running() const { return running_; }

  private:
    struct Root {
        struct promise_type : PromiseBase {
            TaskGroup* group{nullptr};
            promise_type* next{nullptr};
            promise_type* previous{nullptr};
            Root get_return_object() {
                return {std::coroutine_handle<promise_type>::from_promise(*this)};
            }
            struct End {
                bool await_ready() noexcept { return false; }
                void await_suspend(std::coroutine_handle<promise_type> self) noexcept {
                    TaskGroup& owner = *self.promise().group;
                    owner.unlink(self.promise());
                    self.destroy();
                    if (--owner.running_ == 0) owner.idle_.set();
                }
                void await_resume() noexcept {}
            };
            End final_suspend() noexcept { return {}; }
            void return_void() noexcept {}
        };
        std::coroutine_handle<promise_type> handle;
    };
    static Root run(Task<void> task) { co_await task; }
    void unlink(Root::promise_type& root) {
        if (root.next != nullptr) root.next->previous = root.previous;
        (root.previous != nullptr ? root.previous->next : first_) = root.next;
    }

    ReadyQueue& queue_;
    Root::promise_type* first_{nullptr};
    std::size_t running_{0};
    Event idle_;
};

}  // namespace braid
