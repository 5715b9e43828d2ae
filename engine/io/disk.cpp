// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/disk.h"

#include <fmt/format.h>

namespace braid {

Checked<Unit> check_sectors(const DiskInfo& info) {
    if (info.sector_size <= row_size && row_size % info.sector_size == 0) return Unit{};
    return Refusal{fmt::format(
        "{}: has sectors of {} bytes, and braid reads and writes {} bytes at a time; a device with "
        "sectors of 512 or 4096 bytes can be a member",
        info.path, info.sector_size, row_size)};
}

}  // namespace braid
