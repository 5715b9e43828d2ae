// SPDX-License-Identifier: BSD-3-Clause
// Credits: how many bytes a node may have staged at each home, and who waits for some, first come
// first served. Pure. Who asks for more than is free waits until others have given back; so a sender
// that is faster than a home's disks cannot fill the home's memory.
//
// Whoever needs credits at several homes takes them in the order of the homes, before he locks
// anything: nobody waits for credits in a circle. What ends something needs none.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace braid::cluster {

/// Somebody who waits; the number is the caller's.
enum class CreditTicket : std::uint64_t {};

class Credits {
  public:
    Credits(std::size_t homes, std::uint64_t bytes_max);

    /// True: they are his. False: he waits, and next_granted() will name him. Nobody gets more than
    /// all of them: who asks for more has them all.
    bool take(std::uint32_t home, std::uint64_t bytes, CreditTicket ticket);
    void give_back(std::uint32_t home, std::uint64_t bytes);
    /// Who waited and has his credits now; again until there is none.
    std::optional<CreditTicket> next_granted(std::uint32_t home);
    /// He waits no more, and has nothing. False: he did not wait.
    bool cancel(std::uint32_t home, CreditTicket ticket);

    bool is_waited_for(std::uint32_t home) const { return !homes_[home].waiting.empty(); }
    std::uint64_t taken(std::uint32_t home) const { return homes_[home].taken; }

  private:
    struct Waiter {
        CreditTicket ticket{};
        std::uint64_t bytes{0};
    };
    struct Home {
        std::uint64_t taken{0};
        std::deque<Waiter> waiting;
    };
    bool fits(const Home& home, std::uint64_t bytes) const;

    std::uint64_t bytes_max_;
    std::vector<Home> homes_;
};

}  // namespace braid::cluster
