// SPDX-License-Identifier: BSD-3-Clause
// Memory for coroutine frames: freed frames are kept by size and used again, so that in steady
// state no frame is allocated. One pool a thread; what it keeps is bounded by the frames that were
// alive at once, and those are bounded by engine/base/limits.h. Under a sanitizer each frame comes
// from the heap, so that a use after its end is seen.
#pragma once

#include <cstddef>

namespace braid {

void* frame_allocate(std::size_t size);
void frame_free(void* frame, std::size_t size) noexcept;

}  // namespace braid
