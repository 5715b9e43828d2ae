// SPDX-License-Identifier: BSD-3-Clause
// OwnWrites: what a node remembers of its own writes until every home has applied them. Pure.
//
// A home tells with each answer up to which number all that it has of this node's writes is over
// there: RowBook::applied_upto(). Writes reach each home in the order of their numbers, so that what
// it says of a number it also says of every lower one that went to it.
#pragma once

#include <cstdint>
#include <map>

#include "engine/members/row_homes.h"

namespace braid::cluster {

/// Homes by number: bit i is home i.
using HomeSet = std::uint32_t;

class OwnWrites {
  public:
    /// The next one, which is going to be staged at these homes.
    WriteId begin(HomeSet homes);
    /// So many bytes of it are staged at the home.
    void charge(WriteId write, std::uint32_t home, std::uint64_t bytes);
    /// It was decided, or dropped.
    void settle(WriteId write);
    // How many bytes the home has less after that:
    /// It did not take the write, and so has nothing to apply.
    std::uint64_t refused(WriteId write, std::uint32_t home);
    /// What it has of all writes up to this one is over there.
    std::uint64_t applied(std::uint32_t home, std::uint64_t upto);

    HomeSet homes_of(WriteId write) const;
    /// All writes up to this one are over everywhere.
    std::uint64_t finished_upto() const;
    std::size_t open() const { return open_.size(); }
    /// Something is staged at the home, or was, as far as is known here.
    bool is_open_at(std::uint32_t home) const;

  private:
    struct Write {
        HomeSet homes{0};
        HomeSet left{0};  // where it is not over yet
        bool settled{false};
        std::map<std::uint32_t, std::uint64_t> bytes;  // by home
        std::uint64_t over_at(std::uint32_t home);
    };
    std::map<std::uint64_t, Write> open_;
    std::uint64_t last_{0};
};

}  // namespace braid::cluster
