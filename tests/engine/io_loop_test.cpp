// SPDX-License-Identifier: BSD-3-Clause
// The loop over io_uring: what other threads bring, who runs it, why there may be none, how it ends.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "tests/engine/loop_thread.h"
#include "tests/engine/temporary_file.h"

namespace braid {
namespace {

using test::here;
using test::TemporaryFile;

constexpr std::uint64_t disk_size = 8u << 20;

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

TEST(UringLoop, TellsWhyThereIsNone) {
    EXPECT_NE(text_of_no_ring(ENOMEM).find("RLIMIT_MEMLOCK is "), std::string::npos);
    EXPECT_EQ(text_of_no_ring(ENOMEM).find("io_uring_disabled"), std::string::npos);
    EXPECT_EQ(text_of_no_ring(EPERM).find("RLIMIT_MEMLOCK"), std::string::npos);
    EXPECT_NE(text_of_no_ring(EMFILE).find("ulimit -n"), std::string::npos);
    EXPECT_NE(text_of_no_ring(ENOSYS).find("Linux 5.15"), std::string::npos);
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
