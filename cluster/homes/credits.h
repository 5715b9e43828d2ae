// SPDX-License-Identifier: BSD-3-Clause
// Credits: how much a node may have staged at each home, and who waits for some, first come first
// served. Pure. Who asks for more than is free waits until others have given back; so a sender that
// is faster than a home's disks cannot fill the home's memory, nor its book.
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

/// What is staged at one home takes bytes until it is on the disk, and entries of the book until
/// every home has applied its part, so that it can be forgotten.
struct Credit {
    std::uint64_t bytes{0};
    std::uint64_t entries{0};

    bool empty() const { return bytes == 0 && entries == 0; }
    Credit& operator+=(const Credit& other) {
        bytes += other.bytes, entries += other.entries;
        return *this;
    }
    Credit& operator-=(const Credit& other) {
        bytes -= other.bytes, entries -= other.entries;
        return *this;
    }
    bool operator==(const Credit&) const = default;
};

class Credits {
  public:
    Credits(std::size_t homes, Credit most);

    /// One more, where nothing is taken.
    void add_home() { homes_.emplace_back(); }

    /// True: they are his. False: he waits, and next_granted() will name him. Who asks for more bytes
    /// than there are gets them when nobody else has any; of entries there have to be as many.
    bool take(std::uint32_t home, Credit wanted, CreditTicket ticket);
    void give_back(std::uint32_t home, Credit credit);
    /// Who waited and has his credits now; again until there is none.
    std::optional<CreditTicket> next_granted(std::uint32_t home);
    /// He waits no more, and has nothing. False: he did not wait.
    bool cancel(std::uint32_t home, CreditTicket ticket);

    bool is_waited_for(std::uint32_t home) const { return !homes_[home].waiting.empty(); }
    Credit taken(std::uint32_t home) const { return homes_[home].taken; }

  private:
    struct Waiter {
        CreditTicket ticket{};
        Credit wanted;
    };
    struct Home {
        Credit taken;
        std::deque<Waiter> waiting;
    };
    bool fits(const Credit& taken, const Credit& wanted) const;

    Credit most_;
    std::vector<Home> homes_;
};

}  // namespace braid::cluster
