// SPDX-License-Identifier: BSD-3-Clause
// StrictReads: when a read that has its bytes may be answered, by what the others say and by no
// clock. Pure.
//
// A heartbeat that went out after the bytes were read comes back, with the word that extends leases,
// from nodes that with this one have the homes of enough members. Whoever gave that word had not
// prepared, when it gave it, for a fence without this node; without one of them no such fence begins.
// So none had begun when the bytes were read: they were what everybody else read, too.
//
// Stamps only name heartbeats here, in the order in which they went out. How fast the clock goes, and
// for how long the process stood still meanwhile, does not matter.
//
// One question is on its way at a time. Reads that come meanwhile share the next one.
#pragma once

#include <algorithm>
#include <optional>

#include "engine/base/units.h"

namespace braid::cluster {

class StrictReads {
  public:
    /// A read has its bytes; it may be answered when enough have sent a later stamp back.
    /// @param sent  the newest that has gone out
    /// @return      a question is to go out now
    bool begin(Nanos sent) {
        if (on_its_way_) {
            next_ = std::max(next_.value_or(sent), sent);
            return false;
        }
        on_its_way_ = sent;
        return true;
    }
    /// Enough have sent this stamp back, or later ones.
    /// @return  another question is to go out now
    bool came_back(Nanos stamp, Nanos sent) {
        if (!on_its_way_ || stamp <= *on_its_way_) return false;
        on_its_way_.reset();
        if (next_ && stamp > *next_) next_.reset();  // it has told them as well
        if (!next_) return false;
        next_.reset();
        on_its_way_ = sent;
        return true;
    }

  private:
    std::optional<Nanos> on_its_way_;  // a question: its stamp is later than this
    std::optional<Nanos> next_;        // the newest of those that came since
};

}  // namespace braid::cluster
