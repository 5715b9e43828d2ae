// SPDX-License-Identifier: BSD-3-Clause
// The production loop: one thread, one io_uring, one ready queue, a clock and an inbox. A turn
// runs the inbox, the timers that are due and what is ready, submits all I/O that came of it in
// one system call, and sleeps when nothing is left to do.
//
// While its thread sleeps and no disk of it works by the ring, the loop is *lent*: whoever brings a
// message then leads the loop, as a guest, until nothing is left to do, and the two switches between
// threads are saved. Sockets may have something under way in the ring: when it ends the own thread
// wakes, and wants the lead. What holds:
// - One thread leads at a time (inbox.h). Everything here is the leader's, but for what says "any
//   thread".
// - The ring is the own thread's alone (SINGLE_ISSUER; and the kernel cancels what a thread has
//   under way when it ends, as nbdkit's do with their connection). What a guest would submit, or
//   take back, waits in `deferred_`, `deferred_ops_` and `deferred_cancels_`; and nothing completes
//   before the own thread has seen to these.
// - A guest leaves, or gives the lead to the own thread: when that wants it (a timer is due, a
//   completion or a stop has come), when there is something for the ring, when a timer was armed
//   that ends before the own thread's sleep, and after lead_turns_max turns.
// - No gift is lost: `given_` counts it, whatever the own thread does. If that sleeps it is woken by
//   the eventfd, since it said `lent` before it left the lead. If it is awake, it takes what is
//   given, or posts `want_`: then it leads, or there is a guest who runs `want_`, or gives before,
//   and the own thread waits for just that. There is one gift at most for each time that it is lent.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/io/clock.h"
#include "engine/io/frame_pool.h"
#include "engine/io/gift.h"
#include "engine/io/inbox.h"
#include "engine/io/ready_queue.h"
#include "engine/io/task.h"
#include "parity/bytes.h"

struct io_uring;
struct io_uring_sqe;

namespace braid {

struct DiskOp;
struct RingOp;

/// "RLIMIT_MEMLOCK is 64 KiB".
std::string memlock_text();
/// Why there is no ring, and what helps; `error` is io_uring_setup(2)'s.
std::string text_of_no_ring(int error);

class UringLoop final : public Clock {
  public:
    /// Must be created, run and destroyed on one thread (SINGLE_ISSUER).
    static Checked<std::unique_ptr<UringLoop>> create();
    ~UringLoop() override;

    ReadyQueue& ready() { return ready_; }
    TaskGroup& tasks() { return tasks_; }

    /// Runs until stop() is called.
    void run();
    /// Any thread: run() returns after its turn.
    void stop();
    /// Any thread: runs `message` on the loop.
    void post(Message& message);
    /// Any thread: the same, and this thread may do it, and what else there is to do meanwhile.
    void post_or_lead(Message& message);

    /// Runs the loop until `task` is done and gives its result: for tools and tests.
    template <class T>
    T run_until_done(Task<T> task) {
        std::optional<T> result;
        tasks_.spawn(store(std::move(task), &result, &stopping_));
        run();
        return std::move(*result);
    }
    void run_until_done(Task<void> task) {
        tasks_.spawn(finish(std::move(task), &stopping_));
        run();
    }

    /// Memory that DiskOps will mostly use, registered with the kernel. When it is freed, and nothing is
    /// under way: unregister_buffer().
    Result<void> register_buffer(ByteSpan region);
    void unregister_buffer();
    bool is_registered(const std::byte* data, std::uint64_t size) const {
        return data >= registered_.data() && data + size <= registered_.data() + registered_.size();
    }

    /// What may keep the own thread from going on, as waking others may: after a turn, when what came
    /// of that is on its way to the kernel.
    struct AfterTurn {
        bool (*is_due)();
        void (*work)();
    };
    /// Any thread. It stays where it is for as long as the loop is there.
    void after_turns(const AfterTurn& after) { after_turn_.store(&after); }

    Nanos now() const override;
    Nanos stamp() const override;
    std::uint64_t wall_seconds() const override;
    void arm(Timer& timer) override;
    void disarm(Timer& timer) override;

    /// For UringDisk: a free submission entry; submits what is queued when there is none.
    io_uring_sqe* entry();
    /// Hands what is queued to the kernel now, not at the end of the turn.
    void submit();
    /// For disks: one whose requests need the ring.
    void ring_user_comes() { ++ring_users_; }
    void ring_user_goes() { --ring_users_; }
    /// For UringDisk: true if a guest leads: the own thread will queue `op`.
    bool defer(DiskOp& op);
    /// Puts it on the ring, or has the own thread do it if a guest leads.
    void start(RingOp& op);
    /// Takes it back: it ends soon, with -ECANCELED unless it was over. Nothing if it has ended.
    void cancel(RingOp& op);
    /// Registers `fd`; -1 when the table is full, or a guest leads.
    int register_file(int fd);
    void unregister_file(int slot);

    /// "single_issuer defer_taskrun registered_buffers ..." for --dump-plugin.
    std::string features() const;

  private:
    UringLoop();
    template <class T>
    static Task<void> store(Task<T> task, std::optional<T>* result, std::atomic<bool>* done) {
        result->emplace(co_await task);
        done->store(true);
    }
    static Task<void> finish(Task<void> task, std::atomic<bool>* done) {
        co_await task;
        done->store(true);
    }
    bool run_turn();
    void run_ready();
    void queue(RingOp& op);
    void queue_cancel(const RingOp& op);
    void queue_deferred();
    void completed(std::uint64_t user_data, int result);
    void fire_timers();
    void submit_and_wait();
    void reap();

    enum class Rest : std::uint8_t { awake, asleep, lent };  // of the own thread; asleep: it leads
    bool leads_by_posting(Message& message);
    void wake();
    void write_wake_fd();
    void rest();
    void lend();
    void wait_lent();
    void lead();
    bool ends_lead(std::uint32_t turns) const;
    void give();
    void watch_wake_fd();

    struct EndRing {
        void operator()(io_uring* ring) const;
    };

    std::unique_ptr<io_uring, EndRing> ring_;
    ReadyQueue ready_;
    Inbox inbox_;
    bool defer_taskrun_{false};
    bool registered_files_{false};
    std::uint64_t files_used_{0};  // one bit a slot
    ByteSpan registered_;
    int wake_fd_{-1};
    std::uint64_t wake_value_{0};
    std::atomic<Rest> rest_{Rest::awake};
    std::atomic<bool> stopping_{false};
    std::atomic<const AfterTurn*> after_turn_{nullptr};
    unsigned queued_{0};     // entries not yet submitted
    unsigned in_flight_{0};  // submitted or queued, not yet completed; without the wake entry
    std::uint64_t timers_armed_{0};

    // Leading in turn.
    struct Want : Message {
        bool seen{false};
    };
    Want want_;   // posted by the own thread, run by a guest
    Gift given_;  // the lead, to the own thread
    bool guest_leads_{false};
    int ring_users_{0};
    std::vector<DiskOp*> deferred_;  // for the own thread to queue
    std::vector<RingOp*> deferred_ops_;
    std::vector<RingOp*> deferred_cancels_;  // of what is in the ring
    Nanos lent_until_{};                     // when the own thread wakes by itself
    FramePool* frames_{nullptr};             // the own thread's

    using TimerKey = std::pair<std::pair<Nanos, std::uint64_t>, Timer*>;
    std::set<TimerKey> timers_;
    TaskGroup tasks_{ready_};  // ends first: frames that are left may hold disks and timers
};

/// What goes through the ring and is no DiskOp; its fields are those of the entry, as
/// io_uring_enter(2) has them for `code`. `co_await op` puts it there and gives what came of it: an
/// errno is negative. It stays in its place until then, as does all that it points to.
struct RingOp {
    UringLoop& loop;
    std::uint8_t code{0};
    int fd{-1};
    const void* address{nullptr};
    std::uint32_t size{0};
    std::uint64_t offset{0};
    std::uint32_t flags{0};

    int result{0};
    ReadyQueue* queue{nullptr};
    std::coroutine_handle<> handle{};

    bool under_way() const { return handle != nullptr; }
    bool await_ready() const { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        queue = static_cast<PromiseBase&>(self.promise()).queue;
        handle = self;
        loop.start(*this);
    }
    int await_resume() const { return result; }
    /// For the loop.
    void complete(int its_result) {
        result = its_result;
        queue->push(std::exchange(handle, nullptr));
    }
};

}  // namespace braid
