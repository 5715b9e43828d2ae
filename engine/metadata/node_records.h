// SPDX-License-Identifier: BSD-3-Clause
// The write intent's records of a node that is gone: nothing that it had marked is in doubt any more, and
// no start is to take it for that; what members miss of it others have noted.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/result.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/intent_record.h"

namespace braid {

/// The newest records of this node on the members, which stay open meanwhile; none: the node has never
/// marked anything. Several of one generation may differ: one was refused by a member, and put together
/// anew under the same number. An error: one of the members could not be read.
Task<Result<std::vector<IntentRecord>>> newest_records(std::uint32_t node,
                                                       const Configuration& configuration,
                                                       std::vector<Disk*> members);
/// Writes an empty record of the node, newer than this one, durably to each of the members. Whatever the
/// node had written is durable. Gives its generation. An error: one of them did not take it, and the
/// records stay as they are, or are empty on some, which does no harm.
Task<Result<std::uint64_t>> retire_records(IntentRecord newest, std::vector<Disk*> members);

}  // namespace braid
