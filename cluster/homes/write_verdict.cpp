// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/write_verdict.h"

namespace braid::cluster {

WriteVerdict::Fate WriteVerdict::fate(CommandId write) const {
    const auto at = writers.find(write.from);
    if (at == writers.end()) return Fate::open;
    if (at->second.happen.contains(write.sequence)) return Fate::happens;
    return write.sequence <= at->second.upto ? Fate::dropped : Fate::open;
}

}  // namespace braid::cluster
