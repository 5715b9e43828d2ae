// SPDX-License-Identifier: BSD-3-Clause
// The bridge from nbdkit's threads to the loop and back. A thread puts its request on its own
// stack and posts it to the loop. If the request is small and nobody leads the loop it does so
// itself, and its request is mostly done by then; else it sleeps on a word beside the request until
// the leader is done with it. Nothing is allocated and no lock is taken. A read that lies on in-sync
// members is served by the thread itself and never sees the loop.
#pragma once

#include <cstdint>
#include <semaphore>
#include <utility>

#include "engine/array.h"
#include "engine/base/result.h"
#include "engine/io/uring_loop.h"

namespace braid::plugin {

struct ZeroOptions {
    bool fua{false};
    bool fast_only{false};
    bool may_free{false};
    bool trim{false};
};

struct WriteOptions {
    bool fua{false};
};

class Bridge {
  public:
    /// Both must outlive every call; the loop must run as long as calls may come.
    Bridge(UringLoop& loop, Array& array);

    // Any thread but the loop's. Offsets have any alignment; each returns when the array has answered.
    Result<void> read(ArrayOffset offset, ByteSpan into);
    Result<void> write(ArrayOffset offset, ByteView from, WriteOptions options = {});
    Result<void> zero(ArrayOffset offset, std::uint64_t size, ZeroOptions options);
    Result<void> flush();

    /// Runs `make(array)`, a Task<T>, on the loop and returns its result. For operators' commands:
    /// it allocates. Any thread but the loop's.
    template <class Make>
    auto run_on_loop(Make make) {
        using T = decltype(std::declval<decltype(make(array_))>().await_resume());
        struct Order : Message {
            Make* make;
            UringLoop* loop;
            Array* array;
            std::optional<T> result;
            std::binary_semaphore done{0};
        };
        struct Run {
            static Task<void> task(Task<T> task, Order* order) {
                order->result.emplace(co_await task);
                order->done.release();  // the last thing: the order's life ends now
            }
        };
        Order order;
        order.make = &make;
        order.loop = &loop_;
        order.array = &array_;
        order.run = [](Message& message) {
            auto& self = static_cast<Order&>(message);
            self.loop->tasks().spawn(Run::task((*self.make)(*self.array), &self));
        };
        loop_.post(order);
        order.done.acquire();
        return std::move(*order.result);
    }

  private:
    struct Call;
    Result<void> run(Call& call);

    UringLoop& loop_;
    Array& array_;
};

}  // namespace braid::plugin
