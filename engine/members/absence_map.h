// SPDX-License-Identifier: BSD-3-Clause
// AbsenceMap: what members miss that are away. From when the first of them leaves, every window is
// noted that this node writes to, and before that what was on its way, or not durable yet, as it
// left (`seed`). A member that comes back is made true there, and nowhere else: its other windows are
// as all others' (Members::Slot::behind). In a cluster that is what all nodes have noted together.
//
// In memory only: who has begun anew knows of no member what it misses.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "engine/base/mutation.h"
#include "engine/base/units.h"
#include "engine/layout/rows.h"
#include "engine/layout/window_set.h"

namespace braid {

class AbsenceMap {
  public:
    /// Of a member that leaves.
    struct Left {
        WindowSet seed;               // what it may not have, as it leaves
        std::uint64_t generation{0};  // of the newest record of the write intent that it holds
    };
    /// @param how  none: what it misses is not known
    void leaves(MemberIndex member, std::optional<Left> how) {
        if (!how) return forget(member);
        generations_[member] = how->generation;
        note(how->seed);
    }
    /// What it misses is not known any more; or it misses nothing, or another disk has its role.
    void forget(MemberIndex member) {
        generations_.erase(member);
        if (generations_.empty() || BRAID_MUTANT(absence_cleared_early)) written_.clear();
    }
    void forget_all() {
        generations_.clear();
        written_.clear();
    }

    bool on() const { return !generations_.empty(); }
    bool knows(MemberIndex member) const { return generations_.contains(member); }
    /// Of a member that it knows.
    std::uint64_t generation(MemberIndex member) const { return generations_.at(member); }
    void note(WindowRange windows) {
        if (on() && !written_.add(windows)) forget_all();
    }
    void note(const WindowSet& windows) {
        if (on() && !written_.add(windows)) forget_all();
    }
    const WindowSet& written() const { return written_; }

  private:
    std::map<MemberIndex, std::uint64_t> generations_;  // of members that are known
    WindowSet written_;
};

}  // namespace braid
