// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/bridge.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/rng.h"
#include "tests/plugin/fake_array.h"

namespace braid::plugin {
namespace {

Buffer pattern(std::size_t size, std::uint64_t seed) {
    Buffer buffer(size);
    Rng rng(seed);
    for (std::size_t at = 0; at != size; ++at) buffer.data()[at] = std::byte(rng.next() & 0xff);
    return buffer;
}

Task<std::string> name_task(Array* array) { co_return array->configuration().name; }
Task<int> nested_task(int left) {
    if (left == 0) co_return 0;
    const int rest = co_await nested_task(left - 1);
    co_return rest + 1;
}

TEST(Bridge, WhatIsWrittenIsRead) {
    LoopThread server;
    Bridge bridge(server.loop(), server.array());
    const Buffer written = pattern(70'001, 1);
    ASSERT_TRUE(bridge.write({12'345}, written.view(), {.fua = true}));
    for (const bool direct : {false, true}) {
        server.array().direct = direct;
        Buffer back(written.size());
        ASSERT_TRUE(bridge.read({12'345}, back.span()));
        EXPECT_EQ(back, written);
    }
    ASSERT_TRUE(bridge.zero({12'345}, 70'001, {}));
    Buffer back(written.size());
    ASSERT_TRUE(bridge.read({12'345}, back.span()));
    EXPECT_EQ(back, Buffer(written.size()));
    EXPECT_TRUE(bridge.flush());
}

TEST(Bridge, RequestsBeyondTheEnginesLimitAreCut) {
    LoopThread server;
    Bridge bridge(server.loop(), server.array());
    const Buffer written = pattern(request_size_max + 5000, 2);
    ASSERT_TRUE(bridge.write({0}, written.view()));
    Buffer back(written.size());
    ASSERT_TRUE(bridge.read({0}, back.span()));
    EXPECT_EQ(back, written);
    const auto jobs = bridge.run_on_loop([](Array& array) -> Task<Counters> {
        struct Ask {
            static Task<Counters> task(Array* it) { co_return it->status().counters; }
        };
        return Ask::task(&array);
    });
    EXPECT_EQ(jobs.jobs, 4u);
}

TEST(Bridge, ErrorsComeBack) {
    LoopThread server;
    Bridge bridge(server.loop(), server.array());
    server.array().fails_with = Errc::readonly;
    const Buffer bytes(512);
    const auto result = bridge.write({0}, bytes.view());
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::readonly);
    EXPECT_FALSE(bridge.flush());
}

TEST(Bridge, CommandsRunOnTheLoop) {
    LoopThread server;
    Bridge bridge(server.loop(), server.array());
    EXPECT_EQ(bridge.run_on_loop([](Array& array) { return name_task(&array); }), "fake");
    EXPECT_EQ(bridge.run_on_loop([](Array&) { return nested_task(50); }), 50);
}

// Many threads at once, each on bytes of its own: every one gets its own answer, and wakes.
TEST(Bridge, ManyThreads) {
    LoopThread server;
    Bridge bridge(server.loop(), server.array());
    std::vector<std::thread> threads;
    constexpr std::uint64_t share = 1u << 20;
    for (std::uint64_t number = 0; number != 16; ++number) {
        threads.emplace_back([&bridge, number] {
            Rng rng(number);
            for (int round = 0; round != 500; ++round) {
                const std::uint64_t size = 1 + rng.below(5000);
                const std::uint64_t offset = number * share + rng.below(share - size);
                const Buffer written = pattern(size, rng.next());
                ASSERT_TRUE(bridge.write({offset}, written.view()));
                Buffer back(size);
                ASSERT_TRUE(bridge.read({offset}, back.span()));
                ASSERT_EQ(back, written);
            }
        });
    }
    for (int round = 0; round != 200; ++round) {
        ASSERT_EQ(bridge.run_on_loop([](Array&) { return nested_task(5); }), 5);
    }
    for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace braid::plugin
