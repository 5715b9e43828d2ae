// SPDX-License-Identifier: BSD-3-Clause
#include "engine/serving/requests.h"

#include <algorithm>

#include "engine/base/limits.h"
#include "engine/serving/reader.h"
#include "engine/stripes/zeroing.h"
#include "parity/require.h"

namespace braid {

bool RequestQueue::push(IoRequest& request) {
    request.link = nullptr;
    (last_ != nullptr ? last_->link : first_) = &request;
    last_ = &request;
    Take* taker = waiting_;
    if (taker == nullptr) return false;
    waiting_ = taker->next;
    taker->ready->push(taker->handle);
    return true;
}

IoRequest* RequestQueue::pop() {
    IoRequest* request = first_;
    if (request == nullptr) return nullptr;
    first_ = request->link;
    if (first_ == nullptr) last_ = nullptr;
    return request;
}

void RequestQueue::close() {
    closed_ = true;
    for (Take* taker = std::exchange(waiting_, nullptr); taker != nullptr; taker = taker->next) {
        taker->ready->push(taker->handle);
    }
}

Requests::Requests(StripeContext context, TaskGroup& tasks)
    : context_(context),
      tasks_(tasks),
      jobs_(context, *this, tasks),
      end_{context.geometry.data_size()},
      parts_(parts_in_flight_max) {
    for (Part& part : parts_) part.next = std::exchange(free_part_, &part);
}

bool Requests::check(IoRequest& request) {
    request.ok = true;
    request.pending = 0;
    if (draining_) {
        request.error = {Errc::fenced, "array"};
    } else if (readonly_ && request.kind != IoKind::read && request.kind != IoKind::flush) {
        request.error = {Errc::readonly, "array"};
    } else if (request.offset > end_ || request.size > end_ - request.offset) {
        request.error = {Errc::range, "request"};
    } else if (request.kind != IoKind::zero && request.size > request_size_max) {
        request.error = {Errc::invalid, "request size"};
    } else {
        return true;
    }
    request.ok = false;
    return false;
}

void Requests::submit(IoRequest& request) {
    ++active_;
    request.let_in = false;
    if (!holding_) return take(request);
    ++waiting_;
    held_.push(request);
}

void Requests::take(IoRequest& request) {
    if (!check(request)) return answer(request);
    if (request.kind != IoKind::flush && request.size == 0) return answer(request);
    Counters& counters = context_.counters;
    switch (request.kind) {
        case IoKind::read:
            ++counters.reads;
            break;
        case IoKind::zero:
            ++counters.zeroes;
            break;
        case IoKind::flush:
            ++counters.flushes;
            break;
        case IoKind::write:
            ++counters.writes;
            break;
    }
    if (gate_ != nullptr && request.kind != IoKind::flush && !passes_gate(request)) return;
    begin(request);
}

/// False: it waits, or has been answered.
bool Requests::passes_gate(IoRequest& request) {
    switch (gate_->enter(request, *this)) {
        case RequestGate::Way::in:
            request.let_in = true;
            return true;
        case RequestGate::Way::waits:
            ++waiting_;
            look_if_quiet();  // it comes from a resync, perhaps
            return false;
        case RequestGate::Way::refused:
            request.ok = false;
            answer(request);
            return false;
    }
    return false;
}

void Requests::let_in(IoRequest& request) {
    request.let_in = true;
    if (holding_) {
        held_.push(request);
        return;
    }
    --waiting_;
    begin(request);
}

void Requests::refuse(IoRequest& request, Error error) {
    --waiting_;
    fail(request, error);
    answer(request);
}

void Requests::begin(IoRequest& request) {
    switch (request.kind) {
        case IoKind::read:
            return start(to_read_, readers_, readers_max, &Requests::read_work, request);
        case IoKind::zero:
            return start(to_zero_, zeroers_, zeroers_max, &Requests::zero_work, request);
        case IoKind::flush:
            return start(to_flush_, flushers_, 1, &Requests::flush_work, request);
        case IoKind::write:
            return start_write(request);
    }
}

void Requests::start_write(IoRequest& request) {
    request.splitting = true;
    request.next_window = 0;
    request.next = round_down(request.offset, context_.geometry.stripe_data_size());
    to_split_.push(request);
    split();
}

void Requests::start(RequestQueue& queue, std::uint32_t& started, std::uint32_t most,
                     Task<void> (Requests::*work)(), IoRequest& request) {
    if (queue.push(request) || started == most) return;
    ++started;
    tasks_.spawn((this->*work)());
}

void Requests::finish(IoRequest& request) {
    const bool undecided =
        !request.ok && request.error.code == Errc::doubt && !context_.members.failed();
    if (undecided && draining_) request.error = {Errc::fenced, "array"};
    if (!undecided || !resync_comes_ || draining_ || request.is_part) {
        answer(request);
        // What a write has made true waits for no resync any more, which perhaps has nothing to do.
        if (parked_.front() != nullptr) retry_parked();
        return;
    }
    // To be done anew, all of it: when the resync has passed, or now, if it has meanwhile.
    if (waits_for_resync(request)) {
        leave_gate(request);  // it has no rows, and may wait long: nobody is to wait for it
        return park(request);
    }
    retry(request);
}

void Requests::park(IoRequest& request) {
    ++waiting_;
    parked_.push(request);
    look_if_quiet();
}

void Requests::retry(IoRequest& request) {
    request.ok = true;
    request.pending = 0;
    const bool is_outside = gate_ != nullptr && request.kind != IoKind::flush && !request.let_in;
    if (is_outside && !passes_gate(request)) return;
    begin(request);
}

void Requests::leave_gate(IoRequest& request) {
    if (std::exchange(request.let_in, false)) gate_->leave(request);
}

bool Requests::waits_for_resync(const IoRequest& request) const {
    if (request.error.code != Errc::doubt || !resync_comes_ || draining_) return false;
    if (context_.members.failed()) return false;
    const Geometry& geometry = context_.geometry;
    const StripeIndex first = geometry.stripe_of(request.offset);
    const StripeIndex last = geometry.stripe_of(request.offset + (request.size - 1));
    return context_.members.doubt().overlaps(
        {geometry.first_window(first), geometry.first_window(last + 1)});
}

void Requests::retry_parked() {
    if (holding_ && !context_.members.failed()) return;
    IoRequest* list = nullptr;
    IoRequest** end = &list;
    while (IoRequest* request = parked_.pop()) {
        --waiting_;
        request->link = nullptr;
        *end = request;
        end = &request->link;
    }
    while (list != nullptr) {
        IoRequest& request = *list;
        list = request.link;
        if (waits_for_resync(request)) {
            park(request);
        } else if (draining_) {
            request.error = {Errc::fenced, "array"};
            answer(request);
        } else if (!resync_comes_ || context_.members.failed()) {
            answer(request);
        } else {
            retry(request);
        }
    }
}

void Requests::answer(IoRequest& request) {
    --active_;
    leave_gate(request);
    request.done(request);  // the request may be gone now
    if (draining_ && active_ == 0) drained_.set();
    look_if_quiet();
}

void Requests::look_if_quiet() {
    if (holding_ && is_quiet()) quiet_.set();
}

void Requests::fail(IoRequest& request, Error error) {
    if (request.ok) request.error = error;
    request.ok = false;
}

// ---- writes: split at stripes and windows --------------------------------------------------

void Requests::split() {
    while (IoRequest* request = to_split_.front()) {
        if (!split_stripe(*request)) break;
        if (request->splitting) continue;
        to_split_.pop();
        BRAID_REQUIRE(request->pending != 0);
    }
}

/// Makes the parts of one more stripe. False when no part is free.
bool Requests::split_stripe(IoRequest& request) {
    const Geometry& geometry = context_.geometry;
    const std::uint64_t data_size = geometry.stripe_data_size();
    const ArrayOffset end = request.offset + request.size;
    const std::uint64_t begin = std::max(request.offset, request.next) - request.next;
    const std::uint64_t part_end = std::min(end - request.next, data_size);
    const Role first = geometry.place_of(request.next + begin).role;
    const Role last = geometry.place_of(request.next + (part_end - 1)).role;
    const RoleSet strips = RoleSet::first(raw(last) + 1) - RoleSet::first(raw(first));
    for (; request.next_window != geometry.windows_per_stripe(); ++request.next_window) {
        Part wanted;
        wanted.begin = begin;
        wanted.end = part_end;
        wanted.cover(geometry, request.next_window, strips);
        if (wanted.rows == 0) continue;
        if (free_part_ == nullptr) return false;  // there is more to do: it is not over before
        Part& part = *free_part_;
        free_part_ = part.next;
        wanted.request = &request;
        part = wanted;
        ++request.pending;
        context_.claims.add(part, {geometry.stripe_of(request.next), request.next_window});
    }
    request.next += data_size;
    request.next_window = 0;
    if (request.next >= end) request.splitting = false;
    return true;
}

void Requests::part_done(Part& part, const Result<void>& result) {
    IoRequest& request = *part.request;
    BRAID_REQUIRE(request.pending != 0);
    part.next = std::exchange(free_part_, &part);
    if (!result) fail(request, result.error());
    if (--request.pending == 0 && !request.splitting) finish(request);
    split();  // what waited for a free part
}

// ---- reads ---------------------------------------------------------------------------------

Task<void> Requests::read_work() {
    while (!to_read_.closed()) {
        auto take = to_read_.take();
        IoRequest* request = co_await take;
        if (request == nullptr) continue;
        const Result<void> result = co_await read(request);
        if (!result) fail(*request, result.error());
        finish(*request);
    }
}

/// A node that others may have gone on without has read what was, perhaps: it reads again when it
/// knows that they have not.
Task<Result<void>> Requests::read(IoRequest* request) {
    for (;;) {
        const Result<void> result = co_await read_request(context_, request);
        if (!result || context_.homes == nullptr) co_return result;
        if (context_.homes->asks_to_answer()) {
            const bool may_answer = co_await context_.homes->ask_to_answer();
            if (may_answer) co_return result;
            co_return Error{Errc::failed, "array"};
        }
        if (context_.homes->may_answer()) co_return result;
        co_await context_.homes->wait_to_answer();
        if (!context_.homes->may_answer()) co_return Error{Errc::failed, "array"};
    }
}

// ---- zeroes --------------------------------------------------------------------------------

Task<void> Requests::zero_work() {
    while (!to_zero_.closed()) {
        auto take = to_zero_.take();
        IoRequest* request = co_await take;
        if (request == nullptr) continue;
        Result<void> result = co_await zero(request);
        if (result && request->fua) result = co_await context_.intent.flush();
        if (!result) fail(*request, result.error());
        finish(*request);
    }
}

namespace {

bool zeroes_fast(const Members& members, bool may_free) {
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const auto& slot = members.slot(MemberIndex{i});
        if (!slot.is_open()) continue;
        const DiskInfo& info = slot.drive->info();
        if (!(may_free ? info.zero_fast : info.zero_kept_fast)) return false;
    }
    return true;
}

}  // namespace

/// A trim never writes: what it covers of a stripe in part keeps its content, and the space that
/// it has, or has not.
Task<Result<void>> Requests::zero(IoRequest* request) {
    const Geometry& geometry = context_.geometry;
    const std::uint64_t data_size = geometry.stripe_data_size();
    const ArrayOffset end = request->offset + request->size;
    const ArrayOffset first = round_up(request->offset, data_size);
    const ArrayOffset last = round_down(end, data_size);
    const bool may_free = request->may_free || request->trim;
    const bool fast = zeroes_fast(context_.members, may_free);
    const StripeSpan whole{geometry.stripe_of(first), (last - first) / data_size, may_free};
    if (request->trim) {
        if (first >= last || !fast) co_return Result<void>{};
        co_return co_await zero_stripes(context_, whole);
    }
    if (request->fast_only && !fast) co_return Error{Errc::unsupported, "fast zero"};
    if (first >= last || !fast) co_return co_await write_zeroes(request->offset, end);
    BRAID_CO_CHECK(co_await write_zeroes(request->offset, first));
    BRAID_CO_CHECK(co_await zero_stripes(context_, whole));
    co_return co_await write_zeroes(last, end);
}

struct Requests::WriteTarget {
    Requests& requests;
    void submit(IoRequest& request) {
        ++requests.active_;
        requests.start_write(request);
    }
};

/// The edges, and members that cannot zero: zeros written as any data is.
Task<Result<void>> Requests::write_zeroes(ArrayOffset begin, ArrayOffset end) {
    BRAID_REQUIRE(begin <= end);
    for (ArrayOffset at = begin; at < end;) {
        IoRequest write;
        write.kind = IoKind::write;
        write.is_part = true;
        write.offset = at;
        write.size = std::min<std::uint64_t>(end - at, request_size_max);
        at += write.size;
        WriteTarget target{*this};  // not submit(): drain() lets what came before it end
        RunRequest run(target, write);
        BRAID_CO_CHECK(co_await run);
    }
    co_return Result<void>{};
}

// ---- flush ---------------------------------------------------------------------------------

Task<void> Requests::flush_work() {
    while (!to_flush_.closed()) {
        auto take = to_flush_.take();
        IoRequest* request = co_await take;
        if (request == nullptr) continue;
        // Everyone who waits now is served by one round: their writes were done before they asked.
        IoRequest* round = request;
        round->link = nullptr;
        for (IoRequest* last = request; IoRequest* more = to_flush_.pop(); last = more) {
            last->link = more;
            more->link = nullptr;
        }
        const Result<void> result = co_await context_.intent.flush();
        while (round != nullptr) {
            IoRequest* next = round->link;
            if (!result) fail(*round, result.error());
            finish(*round);
            round = next;
        }
    }
}

// ---- the end -------------------------------------------------------------------------------

Task<void> Requests::wait_until_quiet() {
    while (holding_ && !is_quiet()) co_await quiet_.next();
}

void Requests::let_go() {
    holding_ = false;
    quiet_.set();
    while (IoRequest* request = held_.pop()) {
        --waiting_;
        if (!request->let_in) {
            take(*request);
        } else if (check(*request)) {
            begin(*request);
        } else {
            answer(*request);
        }
    }
    retry_parked();
}

void Requests::refuse_all() {
    draining_ = true;
    let_go();
    if (gate_ != nullptr) gate_->close();
}

Task<void> Requests::drain() {
    refuse_all();
    if (active_ != 0) co_await drained_.wait();
}

void Requests::stop() {
    to_read_.close();
    to_zero_.close();
    to_flush_.close();
    jobs_.stop();
}

}  // namespace braid
