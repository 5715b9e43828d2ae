// SPDX-License-Identifier: BSD-3-Clause
// OwnWrites: what a node remembers of its own writes until every home has applied them. Pure.
//
// A home tells with each answer up to which number all that it has of this node's writes is over
// there: RowBook::applied_upto(). Writes reach each home in the order of their numbers, but for those
// that wait there for what becomes of a failing member: they are not over yet, and so do not
// count as applied, whatever it says of higher ones.
//
// What a write has staged takes credits: its bytes come back when the home has applied them, its
// entries when it, and every write before it, is over at all homes; then the home is told so with
// the next command, and forgets them before it looks at that.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "cluster/homes/credits.h"
#include "engine/base/limits.h"
#include "engine/members/row_homes.h"

namespace braid::cluster {

/// Homes by number: bit i is home i.
using HomeSet = std::uint32_t;
static_assert(nodes_max <= 32);

class OwnWrites {
  public:
    using Freed = std::array<Credit, nodes_max>;  // by home

    /// The next one, which is going to be staged at these homes.
    WriteId begin(HomeSet homes);
    /// It is being staged for a member of the home.
    void charge(WriteId write, std::uint32_t home, Credit credit);
    /// Whether it happens.
    enum class Fate : bool { dropped, decided };
    void end_with(WriteId write, Fate fate);
    /// The home did not take it for a member, for which that had been charged.
    void refused(WriteId write, std::uint32_t home, Credit credit);
    /// What the home has of all writes up to this one is over there.
    void applied(std::uint32_t home, std::uint64_t upto);
    /// The home is gone: of what is ended, or will be, nothing is left there.
    void home_gone(std::uint32_t home);
    /// It is there again, and knows nothing of what came before. Nothing is being staged.
    void home_back(std::uint32_t home);
    /// The newest, and those that are decided, as far as they are not over everywhere.
    std::uint64_t newest() const { return last_; }
    std::vector<std::uint64_t> decided() const;
    /// What has become free since it was asked last.
    Freed take_freed();

    HomeSet homes_of(WriteId write) const;
    /// All writes up to this one are over everywhere.
    std::uint64_t finished_upto() const;
    /// The homes that the oldest write is not over at, as far as is known here; without one: none.
    HomeSet held_back_by() const;
    std::size_t open() const { return open_.size(); }
    /// Something is staged at the home, or was, as far as is known here.
    bool is_open_at(std::uint32_t home) const { return !open_at_[home].empty(); }

  private:
    struct Part {
        std::uint32_t staged{0};  // members of the home that it is staged for
        Credit credit;
    };
    struct Write {
        HomeSet homes{0};
        HomeSet left{0};  // where it is not over yet
        bool ended{false};
        bool decided{false};
        std::map<std::uint32_t, Part> parts{};  // by home
    };
    Write& at(WriteId write);
    void over_at(std::uint64_t number, std::uint32_t home);
    void forget_finished();

    std::map<std::uint64_t, Write> open_;                     // every one after finished_upto()
    std::array<std::set<std::uint64_t>, nodes_max> open_at_;  // by home: where it is left
    HomeSet gone_{0};
    Freed freed_{};
    std::uint64_t last_{0};
};

}  // namespace braid::cluster
