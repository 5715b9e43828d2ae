// SPDX-License-Identifier: BSD-3-Clause
// What engine/ relies on of a Disk, a Clock and a loop, asked of the simulated ones and of io_uring
// on tmpfs, on a file beside this program, and on a loop device where that is allowed.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/limits.h"
#include "engine/base/rng.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "tests/engine/temporary_file.h"
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

using test::here;
using test::TemporaryFile;

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

}  // namespace
}  // namespace braid
