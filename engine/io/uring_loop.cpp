// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/uring_loop.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "engine/io/uring_disk.h"
#include "parity/require.h"

namespace braid {
namespace {

constexpr Nanos never{~std::uint64_t{0}};

// What a completion is of: the address of a DiskOp, or that of a RingOp and a bit, or one of these.
constexpr std::uint64_t wake_data = 0;
constexpr std::uint64_t ring_op_bit = 1;
constexpr std::uint64_t nobody_data = ring_op_bit;  // a RingOp was to be taken back
static_assert(alignof(DiskOp) > ring_op_bit && alignof(RingOp) > ring_op_bit);

std::uint64_t data_of(const RingOp& op) {
    return reinterpret_cast<std::uintptr_t>(&op) | ring_op_bit;
}

Nanos time_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return {static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
            static_cast<std::uint64_t>(time.tv_nsec)};
}

__kernel_timespec time_left(Nanos now, Nanos until) {
    const std::uint64_t left = until > now ? until.value - now.value : 0;
    return {static_cast<long long>(left / 1'000'000'000),
            static_cast<long long>(left % 1'000'000'000)};
}

/// The kernel has completions that it puts in the ring when it is asked.
bool has_events(const io_uring& ring) {
    const std::uint32_t flags = std::atomic_ref(*ring.sq.kflags).load(std::memory_order_acquire);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

}  // namespace

std::string memlock_text() {
    rlimit limit{};
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "RLIMIT_MEMLOCK is not known";
    if (limit.rlim_cur == RLIM_INFINITY) return "RLIMIT_MEMLOCK is unlimited";
    return fmt::format("RLIMIT_MEMLOCK is {} KiB", limit.rlim_cur >> 10);
}

std::string text_of_no_ring(int error) {
    const std::string what =
        fmt::format("io_uring is not to be had here ({})", os_error_text(error));
    switch (error) {
        case ENOMEM:
            return fmt::format(
                "{}: there is not enough memory that may be locked; {}. Raise it "
                "(`ulimit -l`, or LimitMEMLOCK= in a systemd unit)",
                what, memlock_text());
        case EPERM: {
            std::ifstream file("/proc/sys/kernel/io_uring_disabled");
            int disabled = 0;
            if ((file >> disabled) && disabled != 0) {
                return fmt::format("{}: /proc/sys/kernel/io_uring_disabled is {}, which forbids it",
                                   what, disabled);
            }
            return what +
                   ": a security policy forbids it (a container's seccomp filter, or SELinux)";
        }
        case ENOSYS:
            return what + ": it needs Linux 5.15 or newer, and a container that lets it through";
        case EMFILE:
        case ENFILE:
            return what + ": too many files are open; raise the limit (`ulimit -n`)";
        default:
            return what + "; it needs Linux 5.15 or newer";
    }
}

UringLoop::UringLoop() = default;

void UringLoop::EndRing::operator()(io_uring* ring) const {
    io_uring_queue_exit(ring);
    delete ring;
}

Checked<std::unique_ptr<UringLoop>> UringLoop::create() {
    std::unique_ptr<UringLoop> loop(new UringLoop);
    auto ring = std::make_unique<io_uring>();
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CLAMP;
    int error = io_uring_queue_init_params(ring_entries, ring.get(), &params);
    loop->defer_taskrun_ = error == 0;
    if (error == -EINVAL) {  // before Linux 6.1
        params = {};
        error = io_uring_queue_init_params(ring_entries, ring.get(), &params);
    }
    if (error < 0) {
        return Refusal{text_of_no_ring(-error)};
    }
    loop->ring_.reset(ring.release());  // only a ring that was begun is ended
    loop->registered_files_ =
        io_uring_register_files_sparse(loop->ring_.get(), ring_files_max) == 0;
    loop->wake_fd_ = eventfd(0, EFD_CLOEXEC);
    if (loop->wake_fd_ < 0) return Refusal{fmt::format("eventfd: {}", os_error_text(errno))};
    loop->watch_wake_fd();
    loop->deferred_.reserve(ring_entries);
    return loop;
}

UringLoop::~UringLoop() {
    if (wake_fd_ >= 0) close(wake_fd_);
}

void UringLoop::watch_wake_fd() {
    io_uring_sqe* sqe = entry();
    io_uring_prep_read(sqe, wake_fd_, &wake_value_, sizeof wake_value_, 0);
    io_uring_sqe_set_data64(sqe, wake_data);
    --in_flight_;
}

io_uring_sqe* UringLoop::entry() {
    io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
    while (sqe == nullptr) {
        io_uring_submit(ring_.get());
        queued_ = 0;
        sqe = io_uring_get_sqe(ring_.get());
    }
    ++queued_;
    ++in_flight_;
    return sqe;
}

int UringLoop::register_file(int fd) {
    if (!registered_files_ || guest_leads_) return -1;
    const int slot = std::countr_one(files_used_);
    if (slot >= static_cast<int>(ring_files_max)) return -1;
    if (io_uring_register_files_update(ring_.get(), static_cast<unsigned>(slot), &fd, 1) != 1) {
        return -1;
    }
    files_used_ |= std::uint64_t{1} << slot;
    return slot;
}

void UringLoop::unregister_file(int slot) {
    BRAID_REQUIRE(((files_used_ >> slot) & 1) != 0);
    BRAID_REQUIRE(!guest_leads_);  // there is a disk of the ring: the loop is not lent
    int none = -1;
    io_uring_register_files_update(ring_.get(), static_cast<unsigned>(slot), &none, 1);
    files_used_ &= ~(std::uint64_t{1} << slot);
}

Result<void> UringLoop::register_buffer(ByteSpan region) {
    // Pinned pages count against RLIMIT_MEMLOCK for all but root; without them I/O only costs more.
    const iovec vector{region.data(), region.size()};
    const int error = io_uring_register_buffers(ring_.get(), &vector, 1);
    if (error < 0) return Error{Errc::unsupported, "io_uring buffers", -error};
    registered_ = region;
    return {};
}

void UringLoop::unregister_buffer() {
    if (registered_.empty()) return;
    BRAID_REQUIRE(io_uring_unregister_buffers(ring_.get()) == 0);
    registered_ = {};
}

std::string UringLoop::features() const {
    std::string text = defer_taskrun_ ? "single_issuer defer_taskrun" : "plain";
    if (registered_files_) text += " registered_files";
    if (!registered_.empty()) text += " registered_buffers";
    return text;
}

Nanos UringLoop::now() const { return time_of(CLOCK_MONOTONIC); }
Nanos UringLoop::stamp() const { return time_of(CLOCK_BOOTTIME); }
std::uint64_t UringLoop::wall_seconds() const {
    return time_of(CLOCK_REALTIME).value / 1'000'000'000;
}

void UringLoop::arm(Timer& timer) {
    timer.sequence = ++timers_armed_;
    timers_.insert({{timer.until, timer.sequence}, &timer});
}
void UringLoop::disarm(Timer& timer) {
    timers_.erase({{timer.until, timer.sequence}, &timer});
    timer.armed = false;
}

void UringLoop::fire_timers() {
    if (timers_.empty()) return;
    const Nanos time = now();
    while (!timers_.empty() && timers_.begin()->first.first <= time) {
        Timer* timer = timers_.begin()->second;
        timers_.erase(timers_.begin());
        timer->fire();
    }
}

void UringLoop::post(Message& message) {
    if (leads_by_posting(message)) give();
}
void UringLoop::post_or_lead(Message& message) {
    if (leads_by_posting(message)) lead();
}
bool UringLoop::leads_by_posting(Message& message) {
    const Posted posted = inbox_.post(message);
    if (posted == Posted::first) wake();
    return posted == Posted::leads;
}
void UringLoop::stop() {
    stopping_.store(true);
    if (rest_.exchange(Rest::awake) != Rest::awake) write_wake_fd();
}
/// If it is lent, a guest leads, and will look before he leaves.
void UringLoop::wake() {
    Rest seen = Rest::asleep;
    if (!rest_.compare_exchange_strong(seen, Rest::awake)) return;  // it will look before it sleeps
    write_wake_fd();
}
void UringLoop::write_wake_fd() {
    const std::uint64_t one = 1;
    // An eventfd that nobody reads takes 2^64-2 of these before it would block.
    [[maybe_unused]] const auto written = write(wake_fd_, &one, sizeof one);
}

void UringLoop::run() {
    while (!stopping_.load(std::memory_order_relaxed)) {
        if (!run_turn()) rest();
    }
    stopping_.store(false);
}

/// True if there is more to do at once; else what was queued is submitted as the loop goes to
/// sleep.
bool UringLoop::run_turn() {
    inbox_.run_all();
    fire_timers();
    run_ready();
    if (const AfterTurn* after = after_turn_.load(); after != nullptr && after->is_due()) {
        submit();
        after->work();
    }
    if (ready_.empty()) return false;
    submit();
    if (in_flight_ != 0) reap();
    return true;
}

/// And what comes of it at once: a Task that begins or ends is a round of its own.
void UringLoop::run_ready() {
    for (std::uint32_t round = 0; round != ready_rounds_max && !ready_.empty(); ++round) {
        for (std::size_t left = ready_.size(); left != 0; --left) ready_.take().resume();
    }
    ready_.let_last_go();
}

void UringLoop::submit() {
    if (queued_ == 0 || guest_leads_) return;
    io_uring_submit(ring_.get());
    queued_ = 0;
}

void UringLoop::rest() {
    if (ring_users_ == 0) {
        lend();
    } else {
        submit_and_wait();
    }
}

void UringLoop::submit_and_wait() {
    rest_.store(Rest::asleep, std::memory_order_seq_cst);
    if (!inbox_.empty() || stopping_.load()) {
        rest_.store(Rest::awake);
        submit();
        reap();
        return;
    }
    io_uring_cqe* cqe = nullptr;
    if (timers_.empty()) {
        io_uring_submit_and_wait(ring_.get(), 1);
    } else {
        __kernel_timespec limit = time_left(now(), timers_.begin()->first.first);
        io_uring_submit_and_wait_timeout(ring_.get(), &cqe, 1, &limit, nullptr);
    }
    queued_ = 0;
    rest_.store(Rest::awake);
    reap();
}

// ---- leading in turn -----------------------------------------------------------------------

/// The own thread: sleeps without the lead, and has it again afterwards.
void UringLoop::lend() {
    submit();
    // What the kernel did not take, for want of memory, it is asked to take as long as it takes.
    if (io_uring_sq_ready(ring_.get()) != 0) return submit_and_wait();
    lent_until_ = timers_.empty() ? never : timers_.begin()->first.first;
    frames_ = &frame_pool();
    want_.seen = false;
    want_.run = [](Message& message) { static_cast<Want&>(message).seen = true; };
    rest_.store(Rest::lent, std::memory_order_seq_cst);
    if (stopping_.load() || !inbox_.leave()) {
        rest_.store(Rest::awake);
        reap();
        return;
    }
    wait_lent();
    rest_.store(Rest::awake);
    const bool leads = given_.try_take() || inbox_.post(want_) == Posted::leads;
    if (!leads) given_.take();
    queue_deferred();
    reap();
}

/// Reads completions' place only: the rest of the ring's memory is the leader's.
void UringLoop::wait_lent() {
    io_uring_cqe* cqe = nullptr;
    if (lent_until_ == never) {
        io_uring_wait_cqe(ring_.get(), &cqe);
    } else {
        __kernel_timespec limit = time_left(now(), lent_until_);
        io_uring_wait_cqes(ring_.get(), &cqe, 1, &limit, nullptr);
    }
}

/// A guest, whose message is in the inbox.
void UringLoop::lead() {
    const FramePoolLoan loan(*frames_);
    guest_leads_ = true;
    for (std::uint32_t turns = 1;; ++turns) {
        inbox_.run_all();
        run_ready();
        if (ends_lead(turns)) break;
        if (!ready_.empty()) continue;
        guest_leads_ = false;
        if (inbox_.leave()) return;
        guest_leads_ = true;
    }
    guest_leads_ = false;
    give();
}

/// The own thread has to go on.
bool UringLoop::ends_lead(std::uint32_t turns) const {
    if (want_.seen || turns == lead_turns_max) return true;
    if (!deferred_.empty() || !deferred_ops_.empty() || !deferred_cancels_.empty()) return true;
    return !timers_.empty() && timers_.begin()->first.first < lent_until_;
}

/// Whoever leads, and is not the own thread.
void UringLoop::give() {
    const bool sleeps = rest_.exchange(Rest::awake) == Rest::lent;
    given_.give();
    if (sleeps) write_wake_fd();
}

bool UringLoop::defer(DiskOp& op) {
    if (guest_leads_) deferred_.push_back(&op);
    return guest_leads_;
}

void UringLoop::start(RingOp& op) {
    if (guest_leads_) {
        deferred_ops_.push_back(&op);
    } else {
        queue(op);
    }
}

void UringLoop::queue(RingOp& op) {
    io_uring_sqe* sqe = entry();
    io_uring_prep_rw(op.code, sqe, op.fd, op.address, op.size, op.offset);
    sqe->msg_flags = op.flags;
    io_uring_sqe_set_data64(sqe, data_of(op));
}

/// What comes to lie in its place later is queued behind this, and so not meant.
void UringLoop::cancel(RingOp& op) {
    if (!op.under_way()) return;
    if (guest_leads_) {
        if (std::erase(deferred_ops_, &op) == 1) {
            op.complete(-ECANCELED);
        } else {
            deferred_cancels_.push_back(&op);
        }
        return;
    }
    queue_cancel(op);
}

void UringLoop::queue_cancel(const RingOp& op) {
    io_uring_sqe* sqe = entry();
    io_uring_prep_cancel64(sqe, data_of(op), 0);
    io_uring_sqe_set_data64(sqe, nobody_data);
}

void UringLoop::queue_deferred() {
    for (DiskOp* op : deferred_) UringDisk::queue_deferred(*op);
    deferred_.clear();
    for (RingOp* op : deferred_ops_) queue(*op);
    deferred_ops_.clear();
    for (const RingOp* op : deferred_cancels_) queue_cancel(*op);
    deferred_cancels_.clear();
}

void UringLoop::reap() {
    // Without DEFER_TASKRUN completions come by themselves.
    if (defer_taskrun_ && has_events(*ring_)) io_uring_get_events(ring_.get());
    unsigned head = 0;
    unsigned count = 0;
    bool woken = false;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(ring_.get(), head, cqe) {
        ++count;
        if (cqe->user_data == wake_data) {
            woken = true;
        } else {
            completed(cqe->user_data, cqe->res);
        }
    }
    if (count != 0) io_uring_cq_advance(ring_.get(), count);
    if (woken) watch_wake_fd();
}

void UringLoop::completed(std::uint64_t user_data, int result) {
    BRAID_REQUIRE(in_flight_ != 0);
    --in_flight_;
    if (user_data == nobody_data) return;
    void* const op = reinterpret_cast<void*>(user_data & ~ring_op_bit);  // NOLINT: as it was given
    if ((user_data & ring_op_bit) != 0) {
        static_cast<RingOp*>(op)->complete(result);
    } else {
        UringDisk::completed(*static_cast<DiskOp*>(op), result);
    }
}

}  // namespace braid
