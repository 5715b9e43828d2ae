// SPDX-License-Identifier: BSD-3-Clause
// AbsenceMap: what each member misses that is away. From when it leaves, every window is noted in which
// this node changes a strip of its role, and before that what was on its way, or not durable yet, as it
// left (`seed`). A member that comes back is made true there, and nowhere else: its other windows are
// as all others' (Members::Slot::behind). In a cluster that is what all nodes have noted together.
//
// Where another disk takes its role meanwhile, it is *displaced*: it goes on being noted until that one is
// in sync, so that it can have its role back while the other one lacks more. Who has the role then is not
// known by that map.
//
// The write intent's records keep it, for all members together (WriteIntent): a mark leaves them only
// when the stripes are named there. So a start knows it again, by stripes and not by windows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/layout/register.h"
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
    /// A member whose role another disk has.
    struct Displaced {
        Uuid uuid;           // nil: nobody knows here which one that is
        EpochRevision left;  // what it held, at least, as it left
        bool away{false};    // it did not fail, nor did anybody remove it
    };
    /// Whoever has the role leaves.
    /// @param how  none: what it misses is not known
    void leaves(MemberIndex member, std::optional<Left> how) {
        if (!how) return forget_holder(member);
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

    /// The role is another disk's, which lacks everything.
    void displace(MemberIndex member, const Displaced& former) {
        const auto at = away_.find(member);
        // One that was itself being rebuilt in another's place is known by nothing.
        if (at != away_.end() && !at->second.displaced) at->second.displaced = former;
    }
    /// This node begins: what it writes itself it knows from now on, whoever is away, and whether or not
    /// another disk has that one's role.
    void begin(MemberIndex member, bool is_displaced) {
        Away& away = away_[member];
        away.since_start = true;
        if (is_displaced) away.displaced = Displaced{};
    }
    /// What the role's map tells is what whoever has the role now misses: it was the displaced one.
    void returned(MemberIndex member) {
        if (const auto at = away_.find(member); at != away_.end()) at->second.displaced.reset();
    }
    /// What whoever has the role now misses is not known, or nothing.
    void forget_holder(MemberIndex member) {
        if (!displaced(member)) forget(member);
    }
    /// Null: none is.
    const Displaced* displaced(MemberIndex member) const {
        const auto at = away_.find(member);
        if (at == away_.end() || !at->second.displaced) return nullptr;
        return &*at->second.displaced;
    }
    /// Which this one had, as far as it is known here by its uuid.
    std::optional<MemberIndex> displaced_role(const Uuid& uuid) const {
        const auto is_it = [&](const auto& at) {
            return at.second.displaced && at.second.displaced->uuid == uuid;
        };
        const auto at = std::ranges::find_if(away_, is_it);
        if (uuid == Uuid{} || at == away_.end()) return std::nullopt;
        return at->first;
    }
    /// What this one has missed is known, though another disk has its role, or had it since.
    bool knows_displaced(MemberIndex member, const Uuid& uuid) const {
        const auto at = away_.find(member);
        if (at == away_.end() || at->second.since_start) return at != away_.end();
        return at->second.displaced && at->second.displaced->uuid == uuid;
    }

    bool on() const { return !away_.empty(); }
    /// What whoever has the role misses.
    bool knows(MemberIndex member) const {
        return away_.contains(member) &&
               (displaced(member) == nullptr || BRAID_MUTANT(displaced_for_holder));
    }
    /// Whose misses that is, for records: the displaced one's, or `holder`'s, who has the role now; nil:
    /// nobody's who could be named.
    Uuid known(MemberIndex member, const Uuid& holder) const {
        const Displaced* const former = displaced(member);
        if (former != nullptr) return former->uuid;
        return knows(member) ? holder : Uuid{};
    }
    /// Of one that it knows, or has as displaced: by node, what it has to hold at least.
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
    /// Of one that it knows, or has as displaced.
    const WindowSet& missed(MemberIndex member) const { return away_.at(member).missed; }

  private:
    struct Away {
        std::map<std::uint32_t, std::uint64_t> generations;
        bool long_ago{false};
        bool since_start{false};  // it was away as this node began, where others had gone on
        std::optional<Displaced> displaced{};
        WindowSet missed;
    };
    std::map<MemberIndex, Away> away_;  // members that are known
};

}  // namespace braid
