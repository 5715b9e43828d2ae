// SPDX-License-Identifier: BSD-3-Clause
// BufferPool: the memory of all stripe I/O, mapped once when the array opens, so that it can be
// registered with the kernel and its use is bounded. A buddy allocator of blocks from one row to
// job_size_max. Who finds it empty waits, first come first served; each takes all it needs in one
// lease, and waits for nothing else of the pool while it holds one, so that no two wait for each
// other.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/units.h"
#include "engine/io/task.h"
#include "parity/bytes.h"

namespace braid {

class BufferPool;

/// Bytes of the pool, given back when it ends.
class Lease {
  public:
    Lease() = default;
    Lease(BufferPool& pool, std::byte* data) : pool_(&pool), data_(data) {}
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
    Lease& operator=(Lease other) noexcept {
        std::swap(pool_, other.pool_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~Lease();
    std::byte* data() const { return data_; }  // row-aligned

  private:
    BufferPool* pool_{nullptr};
    std::byte* data_{nullptr};
};

class BufferPool {
  public:
    /// @param size  bytes; rounded up to a multiple of job_size_max
    explicit BufferPool(std::uint64_t size);
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;
    ~BufferPool();

    struct Acquire {
        BufferPool& pool;
        std::uint64_t size;  // bytes
        ReadyQueue* queue{nullptr};
        std::coroutine_handle<> handle{};
        std::byte* data{nullptr};
        Acquire* next{nullptr};
        bool await_ready() { return pool.try_acquire(*this); }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) {
            queue = static_cast<PromiseBase&>(self.promise()).queue;
            handle = self;
            pool.enqueue(*this);
        }
        Lease await_resume() { return Lease(pool, data); }
    };
    /// `Lease lease = co_await pool.acquire(size)`; size in 1 … job_size_max.
    Acquire acquire(std::uint64_t size) {
        return Acquire{*this, size, nullptr, {}, nullptr, nullptr};
    }

    ByteSpan region() const { return {base_, size_}; }
    std::uint64_t used() const { return used_; }
    bool has_waiters() const { return waiting_first_ != nullptr; }
    /// Those who wait are destroyed without being served.
    void abandon() { waiting_first_ = waiting_last_ = nullptr; }

  private:
    friend class Lease;
    static constexpr std::uint32_t none = ~std::uint32_t{0};
    static constexpr std::uint32_t orders = 12;  // 4 KiB << 11 = 8 MiB
    static_assert((row_size << (orders - 1)) == job_size_max);
    struct Block {
        std::uint32_t next{none};
        std::uint32_t previous{none};
        std::uint8_t order{0};
        bool free{false};
    };

    bool try_acquire(Acquire& wanted);
    void enqueue(Acquire& wanted);
    std::byte* take(std::uint64_t size);
    void release(std::byte* data);
    void push_free(std::uint32_t at, std::uint32_t order);
    void remove_free(std::uint32_t at);

    std::byte* base_{nullptr};
    std::uint64_t size_{0};  // bytes
    std::uint64_t used_{0};
    std::vector<Block>
        blocks_;  // one for each row of the region; the first of a block speaks for it
    std::uint32_t free_[orders];
    Acquire* waiting_first_{nullptr};
    Acquire* waiting_last_{nullptr};
};

inline Lease::~Lease() {
    if (pool_ != nullptr) pool_->release(data_);
}

}  // namespace braid
