// SPDX-License-Identifier: BSD-3-Clause
// Sets of windows as they travel between nodes: pages with any, each as [number, bits]; the bits as
// hexadecimal digits, byte by byte, from the page's first window on, the lowest bit of a byte first.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cluster/bus/talk.h"
#include "engine/layout/geometry.h"
#include "engine/layout/window_set.h"

namespace braid::cluster {

/// As many pages as fit in one message, from page `from` on. Gives the number of the next one that has
/// any window; none: these were the last.
std::optional<std::uint64_t> put_windows(Words* words, const WindowSet& windows,
                                         std::uint64_t from = 0);
/// Adds them to the set. Refused: they are no pages of the array's.
Checked<Unit> take_windows(WordFields& fields, const Geometry& geometry, WindowSet* windows);

/// TELL "behind": what a member misses that is about to have a role again; in as many messages as it
/// takes.
std::vector<Words> words_of_behind(MemberIndex member, const WindowSet& behind);

}  // namespace braid::cluster
