// SPDX-License-Identifier: BSD-3-Clause
#include "engine/serving/direct_reads.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace braid {
namespace {

/// Reads into `into` by way of an aligned buffer of the thread's own.
int read_bounced(const Disk& disk, DeviceOffset at, ByteSpan into) {
    constexpr std::uint64_t bounce_size = 64u << 10;
    alignas(row_size) thread_local std::array<std::byte, bounce_size> bounce;
    while (!into.empty()) {
        const std::uint64_t begin = round_down(at.value, row_size);
        const std::uint64_t skip = at.value - begin;
        const std::uint64_t size = std::min(round_up(skip + into.size(), row_size), bounce_size);
        if (const int error = disk.read_now(begin, {bounce.data(), size}); error != 0) return error;
        const std::uint64_t count = std::min<std::uint64_t>(size - skip, into.size());
        std::memcpy(into.data(), bounce.data() + skip, count);
        into = into.subspan(count);
        at += count;
    }
    return 0;
}

int read_member(const Disk& disk, DeviceOffset at, ByteSpan into) {
    const DiskInfo& info = disk.info();
    const bool aligned = is_row_aligned(at) && is_row_aligned(into.size()) &&
                         reinterpret_cast<std::uintptr_t>(into.data()) % info.memory_align == 0;
    return aligned || !info.direct || info.in_memory ? disk.read_now(at.value, into)
                                                     : read_bounced(disk, at, into);
}

}  // namespace

bool DirectReads::read(ArrayOffset from, ByteSpan into) {
    const ArrayOffset end{geometry_.data_size()};
    if (from > end || into.size() > end - from) return false;
    while (!into.empty()) {
        const StripPlace at = geometry_.place_of(from);
        const std::uint64_t count =
            std::min<std::uint64_t>(into.size(), geometry_.strip_size - at.offset);
        auto& slot = members_.slot(geometry_.member_of(at.stripe, at.role));
        std::uint64_t ticket = 0;
        if (!slot.gate.enter(ticket)) return false;
        // Strips on several disks are better read side by side, by the loop; memory is not.
        const Disk& disk = *slot.disk();
        const bool worth_it = count == into.size() || disk.info().in_memory;
        const int error = worth_it
                              ? read_member(disk, slot.area.on_device(geometry_.member_offset(at)),
                                            into.first(count))
                              : EAGAIN;
        if (!slot.gate.leave(ticket) || error != 0) return false;
        into = into.subspan(count);
        from += count;
    }
    count_.fetch_add(1, std::memory_order_relaxed);
    return true;
}

}  // namespace braid
