// SPDX-License-Identifier: BSD-3-Clause
// Requests: takes what clients ask, cuts writes into parts, reads from in-sync members without a
// lock, zeroes whole stripes at once, and groups flushes. All tables have a fixed size; a request
// that finds one full waits, first come first served.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/io/clock.h"
#include "engine/io/task.h"
#include "engine/io_request.h"
#include "engine/serving/request_gate.h"
#include "engine/stripes/stripe_jobs.h"

namespace braid {

/// Requests in the order of arrival, and the coroutines that wait for one.
class RequestQueue {
  public:
    struct Take {
        RequestQueue& queue;
        ReadyQueue* ready{nullptr};
        std::coroutine_handle<> handle{};
        Take* next{nullptr};
        bool await_ready() const { return queue.first_ != nullptr || queue.closed_; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) {
            ready = static_cast<PromiseBase&>(self.promise()).queue;
            handle = self;
            next = queue.waiting_;
            queue.waiting_ = this;
        }
        /// nullptr: woken for a request that somebody else took, or closed; ask again unless
        /// closed.
        IoRequest* await_resume() const { return queue.pop(); }
    };
    Take take() { return Take{*this, nullptr, {}, nullptr}; }

    /// True if a waiting coroutine was woken for it.
    bool push(IoRequest& request);
    IoRequest* pop();
    IoRequest* front() const { return first_; }
    void close();
    bool closed() const { return closed_; }

  private:
    IoRequest* first_{nullptr};
    IoRequest* last_{nullptr};
    Take* waiting_{nullptr};
    bool closed_{false};
};

class Requests final : public PartSink, private RequestGate::Inside {
  public:
    Requests(StripeContext context, TaskGroup& tasks);

    void submit(IoRequest& request);
    void part_done(Part& part, const Result<void>& result) override;

    // Before a node leaves that may have to stay after all: it ends by let_go(), or by drain().
    /// From now on what is asked waits, what the gate lets in and what waits for a resync, too; what
    /// has begun goes on.
    void hold() { holding_ = true; }
    bool is_held() const { return holding_; }
    /// Nothing has begun that is not over: what there is waits, here, at the gate, or for a resync.
    bool is_quiet() const { return active_ == waiting_; }
    /// Until it is quiet, or not held any more.
    Task<void> wait_until_quiet();
    void let_go();

    /// Answers every request from now on with Errc::fenced, and those that wait.
    void refuse_all();
    /// The same, and waits until none is left.
    Task<void> drain();
    /// After drain(): ends the workers.
    void stop();
    void set_readonly(bool readonly) { readonly_ = readonly; }
    /// Once, before the first request.
    void set_gate(RequestGate& gate) { gate_ = &gate; }
    /// Requests that met rows in doubt whose lost strip is not decided yet wait for the resync;
    /// call it when doubt has become less, and whenever `resync_comes` may have changed.
    void retry_parked();
    /// Whether a resync is going to pass everything that is in doubt.
    void set_resync_comes(bool comes) { resync_comes_ = comes, retry_parked(); }
    bool resync_comes() const { return resync_comes_; }

  private:
    // RequestGate::Inside
    void let_in(IoRequest& request) override;
    void refuse(IoRequest& request, Error error) override;

    struct WriteTarget;
    void take(IoRequest& request);
    void park(IoRequest& request);
    void look_if_quiet();
    bool passes_gate(IoRequest& request);
    void leave_gate(IoRequest& request);
    void start_write(IoRequest& request);
    void begin(IoRequest& request);
    void finish(IoRequest& request);
    void answer(IoRequest& request);
    void retry(IoRequest& request);
    bool waits_for_resync(const IoRequest& request) const;
    void fail(IoRequest& request, Error error);
    bool check(IoRequest& request);
    void split();
    bool split_stripe(IoRequest& request);
    void start(RequestQueue& queue, std::uint32_t& started, std::uint32_t most,
               Task<void> (Requests::*work)(), IoRequest& request);

    Task<void> read_work();
    Task<Result<void>> read(IoRequest* request);
    Task<void> zero_work();
    Task<void> flush_work();
    Task<Result<void>> zero(IoRequest* request);
    Task<Result<void>> write_zeroes(ArrayOffset begin, ArrayOffset end);

    StripeContext context_;
    TaskGroup& tasks_;
    RequestGate* gate_{nullptr};  // none: the node is alone
    StripeJobs jobs_;
    ArrayOffset end_;  // of the array
    std::vector<Part> parts_;
    Part* free_part_{nullptr};
    RequestQueue to_split_;
    RequestQueue to_read_;
    RequestQueue to_zero_;
    RequestQueue to_flush_;
    RequestQueue parked_;
    bool resync_comes_{false};
    std::uint32_t readers_{0};
    std::uint32_t zeroers_{0};
    std::uint32_t flushers_{0};
    std::uint64_t active_{0};
    std::uint64_t waiting_{0};  // of them, those that are not under way
    RequestQueue held_;
    bool holding_{false};
    Event quiet_;
    bool draining_{false};
    bool readonly_{false};
    Event drained_;
};

/// `co_await RunRequest{submit_to, request}`: for coroutines that ask like a client.
template <class Target>
struct RunRequest {
    Target& target;
    IoRequest& request;
    ReadyQueue* queue{nullptr};
    std::coroutine_handle<> handle{};
    RunRequest(Target& the_target, IoRequest& the_request)
        : target(the_target), request(the_request) {}
    bool await_ready() const { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        queue = static_cast<PromiseBase&>(self.promise()).queue;
        handle = self;
        request.user = this;
        request.done = [](IoRequest& done) {
            auto* run = static_cast<RunRequest*>(done.user);
            run->queue->push(run->handle);
        };
        target.submit(request);
    }
    Result<void> await_resume() const {
        if (!request.ok) return request.error;
        return {};
    }
};

}  // namespace braid
