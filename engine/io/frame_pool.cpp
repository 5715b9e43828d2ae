// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/frame_pool.h"

#include <array>
#include <new>
#include <utility>

namespace braid {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool reuse = false;
#else
constexpr bool reuse = true;
#endif

constexpr std::size_t step = 64;
constexpr std::size_t classes = 512;  // frames up to 32 KiB

struct Free {
    Free* next;
};

}  // namespace

struct FramePool {
    std::array<Free*, classes + 1> lists{};
    ~FramePool() {
        for (Free* list : lists) {
            while (list != nullptr) {
                Free* next = list->next;
                ::operator delete(list);
                list = next;
            }
        }
    }
};

namespace {

thread_local FramePool own;
thread_local FramePool* lent = nullptr;

constexpr std::size_t class_of(std::size_t size) { return (size + step - 1) / step; }

}  // namespace

FramePool& frame_pool() { return lent != nullptr ? *lent : own; }

FramePoolLoan::FramePoolLoan(FramePool& pool) : before_(std::exchange(lent, &pool)) {}
FramePoolLoan::~FramePoolLoan() { lent = before_; }

void* frame_allocate(std::size_t size) {
    const std::size_t slot = class_of(size);
    if (!reuse || slot > classes) return ::operator new(size);
    FramePool& pool = frame_pool();
    if (Free* free = pool.lists[slot]; free != nullptr) {
        pool.lists[slot] = free->next;
        return free;
    }
    return ::operator new(slot* step);
}

void frame_free(void* frame, std::size_t size) noexcept {
    const std::size_t slot = class_of(size);
    if (!reuse || slot > classes) return ::operator delete(frame);
    Free*& list = frame_pool().lists[slot];
    list = new (frame) Free{list};
}

}  // namespace braid
