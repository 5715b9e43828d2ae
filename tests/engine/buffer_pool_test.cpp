// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "engine/base/rng.h"

namespace braid {
namespace {

std::uint64_t block_of(std::uint64_t size) { return std::bit_ceil(round_up(size, row_size)); }

/// Coroutines that take a lease each, hold it until told, and give it back.
class Takers {
  public:
    explicit Takers(std::uint64_t size) : pool(size) {}
    struct One {
        std::uint64_t size{0};
        std::byte* data{nullptr};  // once granted
        Event let_go;
    };
    One& take(std::uint64_t size) {
        auto one = std::make_unique<One>();
        one->size = size;
        One& at = *one;
        all.push_back(std::move(one));
        tasks.spawn(run(&at));
        run_out();
        return at;
    }
    void let_go(One& one) {
        held.erase(one.data);
        one.let_go.set();
        run_out();
    }
    void run_out() {
        while (!ready.empty()) ready.take().resume();
    }

    ReadyQueue ready;
    BufferPool pool;
    TaskGroup tasks{ready};
    std::vector<std::unique_ptr<One>> all;
    std::vector<One*> granted;        // in the order of the grants
    std::map<std::byte*, One*> held;  // by address

  private:
    Task<void> run(One* one) {
        Lease lease = co_await pool.acquire(one->size);
        one->data = lease.data();
        granted.push_back(one);
        held[one->data] = one;
        auto wait = one->let_go.wait();
        co_await wait;
    }
};

TEST(BufferPool, LeasesAreAlignedApartAndAllGivenBack) {
    Takers takers(3 * job_size_max);
    const ByteSpan region = takers.pool.region();
    ASSERT_EQ(region.size(), 3 * job_size_max);
    Rng rng(1);
    for (int step = 0; step != 4000; ++step) {
        if (rng.chance(2) || takers.held.empty()) {
            const std::uint64_t most = rng.chance(10) ? job_size_max : 200'000;
            takers.take(1 + rng.below(most));
        } else {
            auto at = takers.held.begin();
            std::advance(at, static_cast<std::ptrdiff_t>(rng.below(takers.held.size())));
            takers.let_go(*at->second);
        }
        std::uint64_t used = 0;
        std::byte* end = region.data();
        for (const auto& [data, one] : takers.held) {
            ASSERT_GE(data, end) << "two leases overlap";
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(data) % row_size, 0U);
            end = data + one->size;
            used += block_of(one->size);
        }
        ASSERT_LE(end, region.data() + region.size());
        ASSERT_EQ(takers.pool.used(), used);
    }
    while (!takers.held.empty()) takers.let_go(*takers.held.begin()->second);
    EXPECT_EQ(takers.granted.size(), takers.all.size());
    EXPECT_EQ(takers.pool.used(), 0U);
    EXPECT_FALSE(takers.pool.has_waiters());
    for (int i = 0; i != 3; ++i) EXPECT_NE(takers.take(job_size_max).data, nullptr);  // one piece
    while (!takers.held.empty()) takers.let_go(*takers.held.begin()->second);
}

TEST(BufferPool, WhoComesFirstIsServedFirst) {
    Takers takers(job_size_max);
    auto& large = takers.take(job_size_max);
    auto& half = takers.take(job_size_max / 2);
    auto& whole = takers.take(job_size_max);
    auto& small = takers.take(1);  // would fit beside `half`, but came after `whole`
    EXPECT_EQ(half.data, nullptr);
    takers.let_go(large);
    EXPECT_NE(half.data, nullptr);
    EXPECT_EQ(whole.data, nullptr);
    EXPECT_EQ(small.data, nullptr);
    EXPECT_TRUE(takers.pool.has_waiters());
    takers.let_go(half);
    EXPECT_NE(whole.data, nullptr);
    EXPECT_EQ(small.data, nullptr);
    takers.let_go(whole);
    EXPECT_NE(small.data, nullptr);
    takers.let_go(small);
    EXPECT_EQ(takers.pool.used(), 0U);
}

TEST(BufferPool, GrantsAreInTheOrderOfArrivalWhateverIsGivenBack) {
    Takers takers(2 * job_size_max);
    Rng rng(2);
    for (int step = 0; step != 3000; ++step) {
        if (rng.chance(2) || takers.held.empty()) {
            takers.take(1 + rng.below(job_size_max));
        } else {
            auto at = takers.held.begin();
            std::advance(at, static_cast<std::ptrdiff_t>(rng.below(takers.held.size())));
            takers.let_go(*at->second);
        }
        for (std::size_t i = 0; i != takers.granted.size(); ++i) {
            ASSERT_EQ(takers.granted[i], takers.all[i].get());
        }
    }
    while (!takers.held.empty()) takers.let_go(*takers.held.begin()->second);
}

TEST(BufferPool, ALeaseMoves) {
    Takers takers(job_size_max);
    ReadyQueue& ready = takers.ready;
    auto use = [](BufferPool* pool) -> Task<void> {
        Lease one = co_await pool->acquire(5000);
        Lease two = std::move(one);
        EXPECT_EQ(one.data(), nullptr);  // NOLINT: that is what is tested
        EXPECT_EQ(pool->used(), 8192U);
        two = Lease();
        EXPECT_EQ(pool->used(), 0U);
        two = co_await pool->acquire(4096);
        EXPECT_EQ(pool->used(), 4096U);
    };
    takers.tasks.spawn(use(&takers.pool));
    while (!ready.empty()) ready.take().resume();
    EXPECT_EQ(takers.pool.used(), 0U);
}

}  // namespace
}  // namespace braid
