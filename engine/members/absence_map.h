// SPDX-License-Identifier: BSD-3-Clause
// AbsenceMap: what each member misses that is away. From when it leaves, every window is noted in which
// this node changes a strip of its role, and before that what was on its way, or not durable yet, as it
// left (`seed`). A member that comes back is made true there, and nowhere else: its other windows are
// as all others' (Members::Slot::behind). In a cluster that is what all nodes have noted together.
//
// The write intent's records keep it, for all members together (WriteIntent): a mark leaves them only
// when the stripes are named there. So a start knows it again, by stripes and not by windows.
#pragma once

#include <cstdint>
#include <iterator>
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
        Away& away =
            away_[member];  // what one missed that leaves again as it comes back it still does
        away.generations = std::move(how->generations);
        away.long_ago = how->long_ago;
        note(member, how->seed);
    }
    /// What it misses is not known any more; or it misses nothing, or another disk has its role.
    void forget(MemberIndex member) {
        away_.erase(member);
        if (!BRAID_MUTANT(absence_cleared_early)) return;
        for (auto& [other, away] : away_) away.missed.clear();
    }

    bool on() const { return !away_.empty(); }
    bool knows(MemberIndex member) const { return away_.contains(member); }
    /// Of a member that it knows: by node, what it has to hold at least.
    const std::map<std::uint32_t, std::uint64_t>& generations(MemberIndex member) const {
        return away_.at(member).generations;
    }
    bool long_ago(MemberIndex member) const { return away_.at(member).long_ago; }
    /// All of them may miss it.
    void note(WindowRange windows) {
        note_for([](MemberIndex) { return true; }, windows);
    }
    /// Those that `misses` tells.
    template <class Misses>
    void note_for(Misses misses, WindowRange windows) {
        for (auto at = away_.begin(); at != away_.end();) {
            const bool fits = !misses(at->first) || at->second.missed.add(windows);
            at = fits ? std::next(at) : away_.erase(at);
        }
    }
    void note(MemberIndex member, const WindowSet& windows) {
        const auto at = away_.find(member);
        if (at != away_.end() && !at->second.missed.add(windows)) away_.erase(at);
    }
    /// Of a member that it knows.
    const WindowSet& missed(MemberIndex member) const { return away_.at(member).missed; }

  private:
    struct Away {
        std::map<std::uint32_t, std::uint64_t> generations;
        bool long_ago{false};
        WindowSet missed;
    };
    std::map<MemberIndex, Away> away_;  // members that are known
};

}  // namespace braid
