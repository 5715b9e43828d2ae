// SPDX-License-Identifier: BSD-3-Clause
// Source of the allocator: Knuth, "The Art of Computer Programming", vol. 1, section 2.5.
#include "engine/stripes/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

namespace braid {

BufferPool::BufferPool(std::uint64_t size) : size_(round_up(size, job_size_max)) {
    void* memory = mmap(nullptr, size_ + job_size_max, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();  // ends the process, as out of memory does
    // Trim to a boundary of 8 MiB, so that huge pages fit and a block's buddy is one bit away.
    auto* start = static_cast<std::byte*>(memory);
    const auto address = reinterpret_cast<std::uintptr_t>(start);
    const std::uint64_t before = round_up(address, job_size_max) - address;
    if (before != 0) munmap(start, before);
    if (before != job_size_max) munmap(start + before + size_, job_size_max - before);
    base_ = start + before;
    madvise(base_, size_, MADV_HUGEPAGE);
    blocks_.resize(size_ / row_size);
    std::ranges::fill(free_, none);
    const std::uint32_t per_block = job_size_max / row_size;
    for (auto at = static_cast<std::uint32_t>(blocks_.size()); at != 0; at -= per_block) {
        push_free(at - per_block, orders - 1);
    }
}

BufferPool::~BufferPool() { munmap(base_, size_); }

void BufferPool::push_free(std::uint32_t at, std::uint32_t order) {
    Block& block = blocks_[at];
    block = {free_[order], none, static_cast<std::uint8_t>(order), true};
    if (block.next != none) blocks_[block.next].previous = at;
    free_[order] = at;
}

void BufferPool::remove_free(std::uint32_t at) {
    Block& block = blocks_[at];
    if (block.next != none) blocks_[block.next].previous = block.previous;
    (block.previous != none ? blocks_[block.previous].next : free_[block.order]) = block.next;
    block.free = false;
}

std::byte* BufferPool::take(std::uint64_t size) {
    BRAID_REQUIRE(size != 0 && size <= job_size_max);
    const std::uint64_t rows = (size + row_size - 1) / row_size;
    const auto order = static_cast<std::uint32_t>(std::bit_width(rows - 1));
    std::uint32_t have = order;
    while (have != orders && free_[have] == none) ++have;
    if (have == orders) return nullptr;
    const std::uint32_t at = free_[have];
    remove_free(at);
    while (have != order) {
        --have;
        push_free(at + (std::uint32_t{1} << have), have);
    }
    blocks_[at].order = static_cast<std::uint8_t>(order);
    used_ += row_size << order;
    return base_ + at * row_size;
}

void BufferPool::release(std::byte* data) {
    BRAID_REQUIRE(data >= base_ && data < base_ + size_);
    auto at = static_cast<std::uint32_t>(static_cast<std::uint64_t>(data - base_) / row_size);
    BRAID_REQUIRE(!blocks_[at].free);
    std::uint32_t order = blocks_[at].order;
    used_ -= row_size << order;
    while (order != orders - 1) {
        const std::uint32_t buddy = at ^ (std::uint32_t{1} << order);
        if (!blocks_[buddy].free || blocks_[buddy].order != order) break;
        remove_free(buddy);
        at = std::min(at, buddy);
        ++order;
    }
    push_free(at, order);
    while (waiting_first_ != nullptr) {
        Acquire& waiter = *waiting_first_;
        waiter.data = take(waiter.size);
        if (waiter.data == nullptr) return;
        waiting_first_ = waiter.next;
        if (waiting_first_ == nullptr) waiting_last_ = nullptr;
        waiter.queue->push(waiter.handle);
    }
}

bool BufferPool::try_acquire(Acquire& wanted) {
    if (waiting_first_ != nullptr) return false;  // first come, first served
    wanted.data = take(wanted.size);
    return wanted.data != nullptr;
}

void BufferPool::enqueue(Acquire& wanted) {
    (waiting_last_ != nullptr ? waiting_last_->next : waiting_first_) = &wanted;
    waiting_last_ = &wanted;
}

}  // namespace braid
