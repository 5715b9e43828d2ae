// SPDX-License-Identifier: BSD-3-Clause
// AbsenceMap: what members miss that are away. From when the first of them leaves, every window is
// noted that this node writes to, and before that what was on its way, or not durable yet, as it
// left (`seed`). A member that comes back is made true there, and nowhere else: its other windows are
// as all others' (Members::Slot::behind). In a cluster that is what all nodes have noted together.
//
// The write intent's records keep it (WriteIntent): a mark leaves them only when the stripes are named
// there. So a start knows it again, by stripes and not by windows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/base/units.h"
#include "engine/layout/rows.h"
#include "engine/layout/window_set.h"

namespace braid {

class AbsenceMap {
  public:
    /// Of a member that leaves.
    struct Left {
        WindowSet seed;  // what it may not have, as it leaves
        /// Of the newest record of the write intent that it holds of each node.
        std::map<std::uint32_t, std::uint64_t> generations{};
        bool long_ago{false};  // it was away when this start began
    };
    /// @param how  none: what it misses is not known
    void leaves(MemberIndex member, std::optional<Left> how) {
        if (!how) return forget(member);
        away_[member] = {std::move(how->generations), how->long_ago};
        note(how->seed);
    }
    /// What it misses is not known any more; or it misses nothing, or another disk has its role.
    void forget(MemberIndex member) {
        away_.erase(member);
        if (away_.empty() || BRAID_MUTANT(absence_cleared_early)) written_.clear();
    }
    void forget_all() {
        away_.clear();
        written_.clear();
    }

    bool on() const { return !away_.empty(); }
    bool knows(MemberIndex member) const { return away_.contains(member); }
    /// Of a member that it knows: by node, what it has to hold at least.
    const std::map<std::uint32_t, std::uint64_t>& generations(MemberIndex member) const {
        return away_.at(member).generations;
    }
    bool long_ago(MemberIndex member) const { return away_.at(member).long_ago; }
    void note(WindowRange windows) {
        if (on() && !written_.add(windows)) forget_all();
    }
    void note(const WindowSet& windows) {
        if (on() && !written_.add(windows)) forget_all();
    }
    const WindowSet& written() const { return written_; }

  private:
    struct Away {
        std::map<std::uint32_t, std::uint64_t> generations;
        bool long_ago{false};
    };
    std::map<MemberIndex, Away> away_;  // members that are known
    WindowSet written_;
};

}  // namespace braid
