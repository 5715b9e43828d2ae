// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/frame_pool.h"

#include <array>
#include <new>

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

struct Pool {
    std::array<Free*, classes + 1> lists{};
    ~Pool() {
        for (Free* list : lists) {
            while (list != nullptr) {
                Free* next = list->next;
                ::operator delete(list);
                list = next;
            }
        }
    }
};
thread_local Pool pool;

constexpr std::size_t class_of(std::size_t size) { return (size + step - 1) / step; }

}  // namespace

void* frame_allocate(std::size_t size) {
    const std::size_t slot = class_of(size);
    if (!reuse || slot > classes) return ::operator new(size);
    if (Free* free = pool.lists[slot]; free != nullptr) {
        pool.lists[slot] = free->next;
        return free;
    }
    return ::operator new(slot* step);
}

void frame_free(void* frame, std::size_t size) noexcept {
    const std::size_t slot = class_of(size);
    if (!reuse || slot > classes) return ::operator delete(frame);
    pool.lists[slot] = new (frame) Free{pool.lists[slot]};
}

}  // namespace braid
