// SPDX-License-Identifier: BSD-3-Clause
// Memory for coroutine frames: freed frames are kept by size and used again, so that in steady
// state no frame is allocated. One pool a thread, and who leads a loop uses that of its own thread,
// or frames would go from one pool to the other without end; what it keeps is bounded by the frames
// that were alive at once, and those are bounded by engine/base/limits.h. Under a sanitizer each
// frame comes from the heap, so that a use after its end is seen.
#pragma once

#include <cstddef>

namespace braid {

void* frame_allocate(std::size_t size);
void frame_free(void* frame, std::size_t size) noexcept;

struct FramePool;
/// The one that this thread uses now.
FramePool& frame_pool();
/// This thread uses another's pool, which that one lets alone meanwhile.
class FramePoolLoan {
  public:
    explicit FramePoolLoan(FramePool& pool);
    FramePoolLoan(const FramePoolLoan&) = delete;
    FramePoolLoan& operator=(const FramePoolLoan&) = delete;
    ~FramePoolLoan();

  private:
    FramePool* before_;
};

}  // namespace braid
