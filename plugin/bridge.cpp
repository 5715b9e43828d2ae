// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/bridge.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::plugin {
namespace {

enum Progress : std::uint32_t { under_way, awaited, over };
using Word = std::atomic<std::uint32_t>;

// The waiter may be gone by now. Then its stack had a word here that nobody waits on, or another
// waiter that looks again and goes on sleeping.
void wake(Word* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }

/// Whom the loop's leader wakes later, since a system call for each would keep the loop as long as a
/// request does, and who is woken may take the leader's CPU: a guest when somebody else can lead, the
/// own thread after its turn.
class Wakes {
  public:
    Wakes() = default;
    ~Wakes() { wake_all(); }
    Wakes(const Wakes&) = delete;
    Wakes& operator=(const Wakes&) = delete;

    void later(Word& word) {
        if (count_ == words_.size()) wake_all();
        BRAID_REQUIRE(count_ < words_.size());
        words_[count_++] = &word;
    }
    bool empty() const { return count_ == 0; }
    void wake_all() {
        const std::size_t count = std::exchange(count_, 0);
        for (std::size_t i = 0; i != count; ++i) wake(words_[i]);
    }

  private:
    std::array<Word*, 32> words_;
    std::size_t count_{0};
};
thread_local Wakes wakes;

}  // namespace

struct Bridge::Call : Message, IoRequest {
    Array* array{nullptr};
    Word progress{under_way};

    void wait();
    static void start(Message& message) {
        auto& call = static_cast<Call&>(message);
        call.array->submit(call);
    }
    static void finish(IoRequest& request);
};

Bridge::Bridge(UringLoop& loop, Array& array) : loop_(loop), array_(array) {
    static constexpr UringLoop::AfterTurn wake_clients{[] { return !wakes.empty(); },
                                                       [] { wakes.wake_all(); }};
    loop.after_turns(wake_clients);
}

// A bare futex: std::atomic::wait spins first and counts its waiters in a table that all threads
// share, and this thread always sleeps.
void Bridge::Call::wait() {
    std::uint32_t seen = under_way;
    if (!progress.compare_exchange_strong(seen, awaited, std::memory_order_acquire)) return;
    while (progress.load(std::memory_order_acquire) != over) {
        syscall(SYS_futex, &progress, FUTEX_WAIT_PRIVATE, awaited, nullptr, nullptr, 0);
    }
}

void Bridge::Call::finish(IoRequest& request) {
    Word& word = static_cast<Call&>(request).progress;
    const std::uint32_t was = word.exchange(over, std::memory_order_acq_rel);
    BRAID_REQUIRE(was != over);
    if (was == awaited) wakes.later(word);
}

Result<void> Bridge::run(Call& call) {
    const bool has_data = call.kind == IoKind::read || call.kind == IoKind::write;
    BRAID_REQUIRE(!has_data || (call.data != nullptr && call.size <= request_size_max));
    BRAID_REQUIRE((call.kind == IoKind::flush) == (call.size == 0));
    BRAID_REQUIRE(call.progress.load(std::memory_order_relaxed) == under_way);
    call.array = &array_;
    call.Message::run = Call::start;
    call.done = Call::finish;
    const Nanos start = loop_.now();
    if (call.size <= lead_size_max) {
        loop_.post_or_lead(call);
        wakes.wake_all();
    } else {  // the copying costs far more than a switch; and whose request is done answers beside it
        loop_.post(call);
    }
    call.wait();
    array_.note_latency({loop_.now().value - start.value});
    if (call.ok) return {};
    return call.error;
}

Result<void> Bridge::read(ArrayOffset offset, ByteSpan into) {
    const Nanos start = loop_.now();
    if (array_.read_direct(offset, into)) {
        array_.note_latency({loop_.now().value - start.value});
        return {};
    }
    while (!into.empty()) {
        const ByteSpan piece = into.first(std::min<std::size_t>(into.size(), request_size_max));
        Call call;
        call.kind = IoKind::read;
        call.offset = offset;
        call.size = piece.size();
        call.data = piece.data();
        BRAID_CHECK(run(call));
        offset += piece.size();
        into = into.subspan(piece.size());
    }
    return {};
}

Result<void> Bridge::write(ArrayOffset offset, ByteView from, WriteOptions options) {
    while (!from.empty()) {
        const ByteView piece = from.first(std::min<std::size_t>(from.size(), request_size_max));
        Call call;
        call.kind = IoKind::write;
        call.fua = options.fua;
        call.offset = offset;
        call.size = piece.size();
        call.data = const_cast<std::byte*>(piece.data());  // NOLINT: a write only reads it
        BRAID_CHECK(run(call));
        offset += piece.size();
        from = from.subspan(piece.size());
    }
    return {};
}

Result<void> Bridge::zero(ArrayOffset offset, std::uint64_t size, ZeroOptions options) {
    if (size == 0) return {};
    Call call;
    call.kind = IoKind::zero;
    call.fua = options.fua;
    call.fast_only = options.fast_only;
    call.may_free = options.may_free;
    call.trim = options.trim;
    call.offset = offset;
    call.size = size;
    return run(call);
}

Result<void> Bridge::flush() {
    Call call;
    call.kind = IoKind::flush;
    return run(call);
}

}  // namespace braid::plugin
