// SPDX-License-Identifier: BSD-3-Clause
// What engine/ relies on of a Disk, a Clock and a loop, asked of the simulated ones and of io_uring
// on tmpfs, on a file beside this program, and on a loop device where that is allowed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/limits.h"
#include "engine/base/rng.h"
#include "engine/io/identify.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "tests/engine/loop_thread.h"
#include "tests/sim/sim_disk.h"

namespace braid {
namespace {

constexpr std::uint64_t disk_size = 8u << 20;

/// A loop and a disk on it.
class World {
  public:
    virtual ~World() = default;
    virtual Disk& disk() = 0;
    virtual Clock& clock() = 0;
    virtual void run(Task<void> task) = 0;
    /// Bytes that the disk takes up; none: nobody can tell.
    virtual std::optional<std::uint64_t> space() const = 0;
};

class SimWorld final : public World {
  public:
    SimWorld() : loop_(1), platter_(std::make_shared<sim::SimPlatter>(disk_size)) {
        disk_ = std::make_unique<sim::SimDisk>(loop_, platter_, "sim");
    }
    Disk& disk() override { return *disk_; }
    Clock& clock() override { return loop_; }
    void run(Task<void> task) override { loop_.run_until_done(std::move(task)); }
    std::optional<std::uint64_t> space() const override { return platter_->space_taken(); }

  private:
    sim::SimLoop loop_;
    std::shared_ptr<sim::SimPlatter> platter_;
    std::unique_ptr<sim::SimDisk> disk_;
};

/// A file that is gone with its object.
class TemporaryFile {
  public:
    TemporaryFile(const std::string& folder, std::uint64_t size) : path_(folder + "/braid.XXXXXX") {
        const int fd = mkstemp(path_.data());
        EXPECT_GE(fd, 0) << path_;
        EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size)), 0);
        close(fd);
    }
    ~TemporaryFile() { unlink(path_.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

std::string here() { return std::filesystem::current_path().string(); }
std::string output_of(const std::string& command) {
    std::string text;
    std::array<char, 256> line;
    FILE* pipe = popen(command.c_str(), "r");
    while (pipe != nullptr && fgets(line.data(), line.size(), pipe) != nullptr) text += line.data();
    if (pipe != nullptr) pclose(pipe);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

class UringWorld final : public World {
  public:
    UringWorld(const std::string& folder, bool on_loop_device) : file_(folder, disk_size) {
        if (on_loop_device)
            device_ = output_of("losetup -f --show " + file_.path() + " 2>/dev/null");
        if (on_loop_device && device_.empty()) return;
        auto loop = UringLoop::create();
        EXPECT_TRUE(loop) << loop.error().text;
        loop_ = std::move(*loop);
        auto disk = open_disk(*loop_, device_.empty() ? file_.path() : device_);
        EXPECT_TRUE(disk) << disk.error().text;
        disk_ = std::move(*disk);
    }
    ~UringWorld() override {
        disk_.reset();
        if (!device_.empty()) output_of("losetup -d " + device_);
    }
    bool is_there() const { return disk_ != nullptr; }
    Disk& disk() override { return *disk_; }
    Clock& clock() override { return *loop_; }
    void run(Task<void> task) override { loop_->run_until_done(std::move(task)); }
    std::optional<std::uint64_t> space() const override {
        struct stat status {};
        if (!device_.empty() || stat(file_.path().c_str(), &status) != 0) return std::nullopt;
        return static_cast<std::uint64_t>(status.st_blocks) * 512;
    }

  private:
    TemporaryFile file_;
    std::string device_;
    std::unique_ptr<UringLoop> loop_;
    std::unique_ptr<UringDisk> disk_;
};

std::unique_ptr<World> make_world(const std::string& kind) {
    if (kind == "sim") return std::make_unique<SimWorld>();
    if (kind == "tmpfs" && access("/dev/shm", W_OK) != 0) return nullptr;
    if (kind == "loop" && geteuid() != 0) return nullptr;
    auto world =
        std::make_unique<UringWorld>(kind == "tmpfs" ? "/dev/shm" : here(), kind == "loop");
    if (!world->is_there()) return nullptr;
    return world;
}

class DiskContract : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        world = make_world(GetParam());
        if (!world)
            GTEST_SKIP() << GetParam() << " is not to be had here (root? losetup? /dev/shm?)";
    }
    std::unique_ptr<World> world;
};

void fill(Buffer& buffer, Rng& rng) {
    for (std::size_t i = 0; i != buffer.size(); i += 8) {
        const std::uint64_t word = rng.next();
        std::memcpy(buffer.data() + i, &word, 8);
    }
}

Task<void> do_one(Disk* disk, DiskOp* op) {
    DiskGroup group;
    submit(*disk, group, *op);
    co_await group;
    EXPECT_EQ(group.pending(), 0U);
}

TEST_P(DiskContract, TellsWhatItIs) {
    const DiskInfo& info = world->disk().info();
    EXPECT_EQ(info.size, disk_size);
    EXPECT_FALSE(info.path.empty());
    EXPECT_TRUE(std::has_single_bit(info.memory_align));
    EXPECT_LE(info.memory_align, row_size);
    EXPECT_EQ(info.block_device, GetParam() == "loop");
    EXPECT_EQ(info.in_memory, GetParam() == "tmpfs");
}

TEST_P(DiskContract, ReadsWhatWasWritten) {
    Rng rng(1);
    Buffer model(disk_size);
    for (int i = 0; i != 300; ++i) {
        DiskOp op;
        op.offset = rng.below(disk_size / row_size) * row_size;
        op.size =
            std::min((1 + rng.below(i % 10 == 0 ? 300 : 8)) * row_size, disk_size - op.offset);
        Buffer data(op.size);
        op.data = data.data();
        switch (rng.below(8)) {
            case 0:
                op.kind = DiskOpKind::flush;
                break;
            case 1:
                op.kind = DiskOpKind::zero;
                op.may_free = rng.chance(2);
                break;
            case 2:
            case 3:
            case 4:
                op.kind = DiskOpKind::write;
                op.fua = rng.chance(3);
                fill(data, rng);
                break;
            default:
                break;
        }
        world->run(do_one(&world->disk(), &op));
        std::byte* at = model.data() + op.offset;
        if (op.kind == DiskOpKind::zero && op.os_error == EOPNOTSUPP) {
            const DiskInfo& info = world->disk().info();
            EXPECT_FALSE(op.may_free ? info.zero_fast : info.zero_kept_fast);
            continue;
        }
        ASSERT_EQ(op.os_error, 0);
        if (op.kind == DiskOpKind::write) std::memcpy(at, data.data(), op.size);
        if (op.kind == DiskOpKind::zero) std::memset(at, 0, op.size);
        if (op.kind == DiskOpKind::read) {
            ASSERT_EQ(std::memcmp(at, data.data(), op.size), 0);
        }
    }
}

/// Zeroes the middle of what was written, and returns how much space that gave back.
std::optional<std::uint64_t> space_freed(World& world, bool may_free) {
    Rng rng(7);
    Buffer content(1u << 20);
    fill(content, rng);
    DiskOp write;
    write.kind = DiskOpKind::write;
    write.size = content.size();
    write.data = content.data();
    world.run(do_one(&world.disk(), &write));
    DiskOp flush;
    flush.kind = DiskOpKind::flush;
    world.run(do_one(&world.disk(), &flush));
    const auto before = world.space();
    DiskOp zero;
    zero.kind = DiskOpKind::zero;
    zero.may_free = may_free;
    zero.offset = 256u << 10;
    zero.size = 512u << 10;
    world.run(do_one(&world.disk(), &zero));
    const DiskInfo& info = world.disk().info();
    EXPECT_EQ(zero.ok(), may_free ? info.zero_fast : info.zero_kept_fast);
    if (zero.ok()) std::memset(content.data() + zero.offset, 0, zero.size);
    Buffer back(content.size());
    DiskOp read;
    read.size = back.size();
    read.data = back.data();
    world.run(do_one(&world.disk(), &read));
    EXPECT_EQ(back, content);
    if (!before || !zero.ok()) return std::nullopt;
    return *before - *world.space();
}
TEST_P(DiskContract, AZeroThatMayFreeGivesSpaceBack) {
    const auto freed = space_freed(*world, true);
    EXPECT_EQ(freed.value_or(512u << 10), 512u << 10);
}
TEST_P(DiskContract, AZeroThatMayNotFreeKeepsSpace) {
    const auto freed = space_freed(*world, false);
    EXPECT_EQ(freed.value_or(0), 0u);
}
TEST_P(DiskContract, ASparseDiskIsNotAllocated) {
    EXPECT_FALSE(world->space() && world->disk().info().allocated);
}

Task<void> do_many(Disk* disk, std::deque<DiskOp>* ops) {
    DiskGroup group;
    for (DiskOp& op : *ops) submit(*disk, group, op);
    co_await group;
    EXPECT_EQ(group.pending(), 0U);
}
Task<void> pass_time(Clock* clock) {
    Timer timer(*clock, Nanos{clock->now().value + 20'000'000});
    co_await timer;
}

TEST_P(DiskContract, TakesMoreOperationsThanTheRingHasRoomFor) {
    constexpr std::uint64_t rows = disk_size / row_size;
    constexpr std::uint64_t passes = 3;
    Rng rng(2);
    Buffer content(disk_size);
    fill(content, rng);
    Buffer back(passes * disk_size);
    std::deque<DiskOp> writes;
    std::deque<DiskOp> reads;
    for (std::uint64_t i = 0; i != rows; ++i) {
        DiskOp& op = writes.emplace_back();
        op.kind = DiskOpKind::write;
        op.offset = i * row_size;
        op.size = row_size;
        op.data = content.data() + i * row_size;
    }
    static_assert(passes * rows > 2 * ring_entries);  // more than its completions, too
    for (std::uint64_t i = 0; i != passes * rows; ++i) {
        DiskOp& op = reads.emplace_back();
        op.offset = i % rows * row_size;
        op.size = row_size;
        op.data = back.data() + i * row_size;
    }
    world->run(do_many(&world->disk(), &writes));
    world->run(do_many(&world->disk(), &reads));
    world->run(pass_time(&world->clock()));  // none completes twice
    for (const DiskOp& op : writes) ASSERT_EQ(op.os_error, 0);
    for (const DiskOp& op : reads) ASSERT_EQ(op.os_error, 0);
    for (std::uint64_t i = 0; i != passes; ++i) {
        EXPECT_EQ(std::memcmp(back.data() + i * disk_size, content.data(), disk_size), 0);
    }
}

TEST_P(DiskContract, AReadBeyondTheEndIsAnError) {
    Buffer data(2 * row_size);
    for (const std::uint64_t offset : {disk_size - row_size, disk_size, disk_size + (1u << 20)}) {
        DiskOp op;
        op.offset = offset;
        op.size = data.size();
        op.data = data.data();
        world->run(do_one(&world->disk(), &op));
        EXPECT_FALSE(op.ok()) << offset;
    }
    DiskOp last;  // and nothing is broken by it
    last.offset = disk_size - 2 * row_size;
    last.size = data.size();
    last.data = data.data();
    world->run(do_one(&world->disk(), &last));
    EXPECT_TRUE(last.ok());
}

TEST_P(DiskContract, OtherThreadsMayRead) {
    Rng rng(3);
    Buffer content(16 * row_size);
    fill(content, rng);
    DiskOp op;
    op.kind = DiskOpKind::write;
    op.offset = 5 * row_size;
    op.size = content.size();
    op.data = content.data();
    world->run(do_one(&world->disk(), &op));
    int error = -1;
    Buffer back(content.size());
    std::thread reader([&] { error = world->disk().read_now(op.offset, back.span()); });
    reader.join();
    if (error == ENOSYS) GTEST_SKIP() << "this disk cannot be read past its loop";
    EXPECT_EQ(error, 0);
    EXPECT_EQ(back, content);
    EXPECT_NE(world->disk().read_now(disk_size, back.span()), 0);
}

Task<void> note_timer(Clock* clock, Nanos at, int id, std::vector<int>* order) {
    Timer timer(*clock, at);
    co_await timer;
    EXPECT_GE(clock->now(), at);
    order->push_back(id);
}
Task<void> run_timers(Clock* clock, std::vector<int>* order, TaskGroup* group) {
    const std::uint64_t now = clock->now().value;
    const std::array<std::uint64_t, 5> delays{30, 10, 20, 10, 0};
    for (std::size_t i = 0; i != delays.size(); ++i) {
        group->spawn(
            note_timer(clock, Nanos{now + delays[i] * 1'000'000}, static_cast<int>(i), order));
    }
    auto joined = group->join();
    co_await joined;
}
Task<void> wait_long(Clock* clock, Timer** timer, bool* woken) {
    Timer own(*clock, Nanos{clock->now().value + 3'600'000'000'000});
    *timer = &own;
    co_await own;
    *woken = true;
}
Task<void> cancel_timer(Clock* clock, TaskGroup* group, bool* woken) {
    Timer* timer = nullptr;
    group->spawn(wait_long(clock, &timer, woken));
    Timer soon(*clock, Nanos{clock->now().value + 2'000'000});
    co_await soon;
    EXPECT_FALSE(*woken);
    EXPECT_TRUE(timer->armed);
    timer->cancel();
    timer->cancel();  // once is enough
    auto joined = group->join();
    co_await joined;
}

template <class Loop>
void check_clock(Loop& loop) {
    std::vector<int> order;
    const Nanos before = loop.now();
    {
        TaskGroup group(loop.ready());
        loop.run_until_done(run_timers(&loop, &order, &group));
    }
    ASSERT_EQ(order.size(), 5U);
    EXPECT_EQ(order[0], 4);
    EXPECT_EQ(order[3], 2);
    EXPECT_EQ(order[4], 0);
    EXPECT_GE(loop.now().value - before.value, 30'000'000U);
    bool woken = false;
    TaskGroup group(loop.ready());
    loop.run_until_done(cancel_timer(&loop, &group, &woken));
    EXPECT_TRUE(woken);
    EXPECT_GT(loop.wall_seconds(), 1'600'000'000U);
}
TEST(ClockContract, Sim) {
    sim::SimLoop loop(1);
    check_clock(loop);
}
TEST(ClockContract, Uring) {
    auto loop = UringLoop::create();
    ASSERT_TRUE(loop) << loop.error().text;
    check_clock(**loop);
}

INSTANTIATE_TEST_SUITE_P(All, DiskContract, testing::Values("sim", "tmpfs", "file", "loop"),
                         [](const auto& kind) { return kind.param; });

struct Posted : Message {
    std::uint64_t* count{nullptr};
    std::uint64_t last{0};
    UringLoop* loop{nullptr};
};

TEST(UringLoop, RunsWhatOtherThreadsPostAlsoWhenItSleeps) {
    auto created = UringLoop::create();
    ASSERT_TRUE(created) << created.error().text;
    UringLoop& loop = **created;
    constexpr std::size_t threads_count = 3;
    constexpr std::size_t each = 3000;
    std::uint64_t count = 0;  // the loop's thread alone
    std::vector<std::vector<Posted>> messages(threads_count, std::vector<Posted>(each));
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != threads_count; ++t) {
        threads.emplace_back([&, t] {
            for (std::size_t i = 0; i != each; ++i) {
                Posted& message = messages[t][i];
                message.count = &count;
                message.loop = &loop;
                message.last = threads_count * each;
                message.run = [](Message& posted) {
                    auto& mine = static_cast<Posted&>(posted);
                    if (++*mine.count == mine.last) mine.loop->stop();
                };
                loop.post(message);
                if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
            }
        });
    }
    loop.run();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(count, threads_count * each);
}

struct Errand : Message {
    UringLoop* loop{nullptr};
    Task<void> (*make)(Errand*){nullptr};
    UringDisk* disk{nullptr};
    ByteSpan data;
    std::uint64_t* count{nullptr};  // the leader's
    int os_error{0};
    std::thread::id begun_on;
    std::binary_semaphore over{0};

    static void start(Message& message) {
        auto& self = static_cast<Errand&>(message);
        self.begun_on = std::this_thread::get_id();
        self.loop->tasks().spawn(self.make(&self));
    }
};
Task<void> wait_a_while(Errand* errand) {
    for (int i = 0; i != 3; ++i) {
        Timer timer{*errand->loop, {errand->loop->now().value + 200'000}};
        co_await timer;
        ++*errand->count;
    }
    errand->over.release();
}
Task<void> read_in_the_background(Errand* errand) {
    DiskOp op;
    op.background = true;
    op.size = errand->data.size();
    op.data = errand->data.data();
    DiskGroup group;
    submit(*errand->disk, group, op);
    co_await group;
    errand->os_error = op.os_error;
    ++*errand->count;
    errand->over.release();
}
Task<void> only_count(Errand* errand) {
    co_await Yield{};
    ++*errand->count;
    errand->over.release();
}

/// A loop that is lent while it has nothing to do.
class LentLoop {
  public:
    LentLoop() {
        thread_.before_end = [this] { disk_.reset(); };
    }
    UringLoop& loop() { return thread_.loop(); }
    std::unique_ptr<UringDisk> disk_;

    void run(Errand& errand, Task<void> (*make)(Errand*)) {
        errand.loop = &loop();
        errand.disk = disk_.get();
        errand.count = &count_;
        errand.make = make;
        errand.run = Errand::start;
        loop().post_or_lead(errand);
        errand.over.acquire();
    }
    std::uint64_t count_{0};

  private:
    test::LoopThread thread_;
};

TEST(UringLoop, WhoFindsItFreeRunsIt) {
    LentLoop lent;
    bool led = false;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!led && std::chrono::steady_clock::now() < until) {  // the own thread may be in it yet
        std::this_thread::yield();
        Errand errand;
        lent.run(errand, only_count);
        led = errand.begun_on == std::this_thread::get_id();
    }
    EXPECT_TRUE(led);
}

// Timers that guests arm, and I/O that only the own thread can submit, come to their end though
// every guest has gone.
TEST(UringLoop, TheOwnThreadDoesWhatGuestsCannot) {
    if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "skipped: there is no tmpfs";
    LentLoop lent;
    TemporaryFile file("/dev/shm", disk_size);
    auto opened = open_member_file(file.path(), {});
    ASSERT_TRUE(opened) << opened.error().text;
    lent.disk_ = std::make_unique<UringDisk>(lent.loop(), std::move(*opened));
    Buffer data(4 * row_size);
    for (int i = 0; i != 50; ++i) {
        Errand timed;
        lent.run(timed, wait_a_while);
        Errand read;
        read.data = data.span();
        lent.run(read, read_in_the_background);
        EXPECT_EQ(read.os_error, 0);
    }
}

TEST(UringLoop, ManyLeadInTurn) {
    constexpr std::size_t threads_count = 4;
    constexpr std::size_t each = 2000;
    LentLoop lent;
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != threads_count; ++t) {
        threads.emplace_back([&lent, t] {
            for (std::size_t i = 0; i != each; ++i) {
                Errand errand;
                const bool timed = t == 0 && i % 20 == 0;
                lent.run(errand, timed ? wait_a_while : only_count);
                if (i % 500 == 0) std::this_thread::yield();  // the own thread, too
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(lent.count_, threads_count * each + each / 20 * 2);
}

/// As those that share a disk have it.
class InFront final : public Disk {
  public:
    explicit InFront(Disk& disk) : disk_(disk) {}
    const DiskInfo& info() const override { return disk_.info(); }
    void submit(DiskOp& op) override { disk_.submit(op); }

  private:
    Disk& disk_;
};

TEST(UringDisk, AFileThatShrinksIsAnErrorNotAHang) {
    for (const std::string& folder : {std::string("/dev/shm"), here()}) {
        if (access(folder.c_str(), W_OK) != 0) continue;
        TemporaryFile file(folder, disk_size);
        auto loop = UringLoop::create();
        ASSERT_TRUE(loop);
        auto disk = open_disk(**loop, file.path());
        ASSERT_TRUE(disk) << disk.error().text;
        Buffer data(64 * row_size);
        DiskOp op;
        op.offset = disk_size / 2 - 32 * row_size;
        op.size = data.size();
        op.data = data.data();
        std::filesystem::resize_file(file.path(), disk_size / 2);  // the first half can be read
        (*loop)->run_until_done(do_one(disk->get(), &op));
        EXPECT_EQ(op.os_error, EIO) << folder;
        InFront other(**disk);
        (*loop)->run_until_done(do_one(&other, &op));
        EXPECT_EQ(op.os_error, EIO) << folder << ", through another disk";
        EXPECT_EQ((*disk)->read_now(op.offset, data.span()), EIO) << folder;
    }
}

void expect_refused(const std::string& path, const std::string& why, OpenOptions options = {}) {
    const auto opened = open_member_file(path, options);
    ASSERT_FALSE(opened) << path;
    EXPECT_NE(opened.error().text.find(why), std::string::npos) << opened.error().text;
    EXPECT_NE(opened.error().text.find(path), std::string::npos) << "it does not name the member";
}

TEST(MemberFile, RefusesWhatIsNoMemberAndSaysWhy) {
    expect_refused(here(), "is a directory");
    expect_refused("/dev/null", "neither a regular file nor a block device");
    expect_refused(here() + "/there-is-no-such-file", "No such file");
    TemporaryFile empty(here(), 0);
    expect_refused(empty.path(), "is empty");
    const std::string fifo = here() + "/braid-test-fifo";
    unlink(fifo.c_str());
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    expect_refused(fifo, "neither a regular file nor a block device");
    unlink(fifo.c_str());
    TemporaryFile closed(here(), disk_size);
    ASSERT_EQ(chmod(closed.path().c_str(), 0), 0);
    if (geteuid() != 0) expect_refused(closed.path(), "Permission denied");
}

TEST(MemberFile, TellsWhetherItHasSpaceForAll) {
    for (const std::string& folder : {std::string("/dev/shm"), here()}) {
        if (access(folder.c_str(), W_OK) != 0) continue;
        TemporaryFile file(folder, disk_size);
        EXPECT_FALSE(open_member_file(file.path(), {})->info.allocated) << folder;
        const int fd = open(file.path().c_str(), O_RDWR);
        EXPECT_EQ(posix_fallocate(fd, 0, disk_size), 0);
        close(fd);
        EXPECT_TRUE(open_member_file(file.path(), {})->info.allocated) << folder;
    }
}

TEST(UringLoop, TellsWhyThereIsNone) {
    EXPECT_NE(text_of_no_ring(ENOMEM).find("RLIMIT_MEMLOCK is "), std::string::npos);
    EXPECT_EQ(text_of_no_ring(ENOMEM).find("io_uring_disabled"), std::string::npos);
    EXPECT_EQ(text_of_no_ring(EPERM).find("RLIMIT_MEMLOCK"), std::string::npos);
    EXPECT_NE(text_of_no_ring(EMFILE).find("ulimit -n"), std::string::npos);
    EXPECT_NE(text_of_no_ring(ENOSYS).find("Linux 5.15"), std::string::npos);
}

TEST(MemberFile, HasTheIdentityOfItsBytesWhateverItsName) {
    TemporaryFile file(here(), disk_size);
    TemporaryFile other(here(), disk_size);
    const std::string hard = here() + "/braid-test-hard-link";
    const std::string soft = here() + "/braid-test-soft-link";
    unlink(hard.c_str());
    unlink(soft.c_str());
    ASSERT_EQ(link(file.path().c_str(), hard.c_str()), 0);
    ASSERT_EQ(symlink(file.path().c_str(), soft.c_str()), 0);
    const auto opened = open_member_file(file.path(), {});
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_TRUE(opened->info.identity.known());
    for (const std::string& name : {file.path(), hard, soft}) {
        const auto identity = identify_path(name);
        ASSERT_TRUE(identity) << name;
        EXPECT_TRUE(identity->overlaps(opened->info.identity)) << name;
    }
    EXPECT_FALSE(identify_path(other.path())->overlaps(opened->info.identity));
    EXPECT_EQ(identify_path(here() + "/there-is-no-such-file").error().os_error, ENOENT);
    EXPECT_FALSE(identify_path("/dev/null")->known());
    unlink(hard.c_str());
    unlink(soft.c_str());
}

TEST(DiskIdentity, StretchesOfOneFileAreTheSameWhereTheyOverlap) {
    const DiskIdentity whole{1, 2, 0, ~std::uint64_t{0}};
    const DiskIdentity first{1, 2, 0, 4096};
    const DiskIdentity second{1, 2, 4096, 8192};
    EXPECT_TRUE(whole.overlaps(first));
    EXPECT_TRUE(second.overlaps(whole));
    EXPECT_FALSE(first.overlaps(second));
    EXPECT_FALSE(first.overlaps({1, 3, 0, 4096})) << "another file";
    EXPECT_FALSE(first.overlaps({2, 2, 0, 4096})) << "another file system";
    EXPECT_FALSE(DiskIdentity{}.overlaps(DiskIdentity{})) << "nothing is known of either";
}

TEST(MemberFile, AReadOnlyOneIsRefusedWithWhatElseCanBeDone) {
    if (geteuid() == 0) GTEST_SKIP() << "root writes where nobody may";
    TemporaryFile file(here(), disk_size);
    ASSERT_EQ(chmod(file.path().c_str(), 0400), 0);
    expect_refused(file.path(), "make it writable");
    expect_refused(file.path(), "make it writable, or look away", {.if_read_only = "look away"});
    const auto reader = open_member_file(file.path(), {.readonly = true});
    ASSERT_TRUE(reader) << reader.error().text;
    EXPECT_TRUE(reader->info.read_only);
}

TEST(MemberFile, IsLockedAgainstASecondOpener) {
    TemporaryFile file(here(), disk_size);
    {
        const auto first = open_member_file(file.path(), {});
        ASSERT_TRUE(first) << first.error().text;
        expect_refused(file.path(), "in use");
        expect_refused(file.path(), "in use", {.readonly = true});
        EXPECT_TRUE(open_member_file(file.path(), {.lock = false}));
    }
    {
        const auto reader = open_member_file(file.path(), {.readonly = true});
        ASSERT_TRUE(reader);
        EXPECT_TRUE(open_member_file(file.path(), {.readonly = true}));  // readers share
        expect_refused(file.path(), "in use");
    }
    EXPECT_TRUE(open_member_file(file.path(), {}));
}

/// A root task that is still suspended when its loop ends, with an open member in its frame.
Task<void> hold_disk(UringLoop* loop, std::string path) {
    auto disk = open_disk(*loop, path);
    BRAID_REQUIRE(disk.has_value());
    Timer timer(*loop, Nanos{loop->now().value + seconds(3600).value});
    co_await timer;
}
Task<int> look_once() { co_return 1; }

TEST(UringLoop, EndsItsTasksBeforeItsRingSoThatMembersAreUnlocked) {
    const std::string path = testing::TempDir() + "held-by-a-task";
    { std::ofstream(path) << std::string(1 << 20, 'x'); }
    {
        auto loop = UringLoop::create();
        ASSERT_TRUE(loop);
        (*loop)->tasks().spawn(hold_disk(loop->get(), path));
        EXPECT_EQ((*loop)->run_until_done(look_once()), 1);
    }
    EXPECT_TRUE(open_member_file(path, {}));
    std::filesystem::remove(path);
}

}  // namespace
}  // namespace braid
