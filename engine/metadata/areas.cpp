// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/areas.h"

#include <algorithm>

#include "engine/base/limits.h"

namespace braid {

std::vector<Area> areas_of(const Configuration& configuration, std::uint32_t format) {
    std::uint64_t end = member_size_max;
    for (const MemberRecord& member : configuration.members) {
        if (member.data_offset >= slots_end) end = std::min(end, member.data_offset - row_size);
    }
    std::vector<Area> areas{{"configuration", slots_offset, slots_end - slots_offset}};
    if (end == member_size_max || end < slots_end + write_intent_size) return areas;
    areas.push_back({"write_intent", slots_end, write_intent_size});
    std::uint64_t reserved = slots_end + write_intent_size;
    if (format >= 3 && end >= promises_end) {
        areas.push_back({"promises", promises_offset, promises_end - promises_offset});
        reserved = promises_end;
    }
    if (end > reserved) areas.push_back({"reserved", reserved, end - reserved});
    return areas;
}

}  // namespace braid
