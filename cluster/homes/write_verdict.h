// SPDX-License-Identifier: BSD-3-Clause
// WriteVerdict: which of the writes that are staged as a fence ends happen. It is passed by
// cluster/membership/recovery.h, and carried out by homes.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <set>

#include "cluster/homes/row_book.h"
#include "cluster/wire/node_boot.h"

namespace braid::cluster {

/// Of one writer, in one of its lives: up to this number of its writes those happen, and no other.
struct Judged {
    static constexpr std::uint64_t all = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t upto{0};  // all: the writer is gone
    std::set<std::uint64_t> happen;
    bool operator==(const Judged&) const = default;
};

/// Of all writers of a fence, and of those that were gone before it and are not settled.
struct WriteVerdict {
    std::uint64_t epoch{0};  // of the fence that begins with it; 0: there is none
    std::map<NodeBoot, Judged> writers;
    bool operator==(const WriteVerdict&) const = default;

    enum class Fate : std::uint8_t { happens, dropped, open };
    /// open: it is not judged.
    Fate fate(CommandId write) const;
};

}  // namespace braid::cluster
