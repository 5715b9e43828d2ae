// SPDX-License-Identifier: BSD-3-Clause
// The arithmetic of leases: how long a node may serve, and when others may go on without it. Pure:
// times come in, as this node's clock has them (CLOCK_BOOTTIME); no clock is compared with another
// node's.
//
// A node puts stamps of its clock into its heartbeats; who hears it sends the newest one back, the
// echo, with a word whether it extends the lease. The lease runs to s + L, where s is the newest
// stamp such that nodes which sent s or a later one back with that word have, together with the node
// itself, the homes of enough members. It counts from when the stamp was *sent*: whatever the echo
// took, the other side had it later.
//
// A fence from which nodes are excluded opens only when every lease of theirs has run out. Of any
// two sets of enough members some member is in both, so its home, which takes part in the new fence,
// knows when it last *received* a stamp that it sent back with the word: the lease ends within L of
// that. Where two clocks are each up to 1 % off, L of one of them is less than 1.03 · L of the other.
//
// The word is given only to nodes of the newest epoch that the echoing node has promised: after its
// promise for the new fence an excluded node gets none.
//
// Source: Gray and Cheriton, "Leases", 1989 (with an expiry that each side counts on its own clock).
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "cluster/wire/node_boot.h"
#include "cluster/wire/node_id.h"
#include "engine/base/limits.h"
#include "engine/base/units.h"
#include "engine/layout/register.h"

namespace braid::cluster {

inline constexpr Nanos lease_default = millis(lease_ms_default);
inline constexpr Nanos lease_min = millis(lease_ms_min);
inline constexpr Nanos lease_max = millis(lease_ms_max);

/// What a fence waits for a lease that may have been extended just now: 1.03 · L, rounded up.
constexpr Nanos fence_wait(Nanos lease) { return {(lease.value * 103 + 99) / 100}; }

/// A node's clock, in one of its lives: machines that start again count from zero.
struct Stamp {
    std::uint64_t boot{0};
    Nanos at;
    bool operator==(const Stamp&) const = default;
};

/// A stamp that comes back to who sent it.
struct Echo {
    Stamp stamp;
    bool extends{false};  // the lease
    bool operator==(const Echo&) const = default;
};

/// Who is the home of which members, in one fence.
struct FenceHomes {
    std::map<NodeId, MemberSet> members;  // roles in sync, or as the fence counts them
    Quorum quorum;
    std::optional<NodeId> witness;  // the node that has it, where quorum.witness
    /// Likewise: in sync by what is in force. Nobody goes on without these: break_ties().
    MemberSet in_force{};

    /// Whether these nodes are homes of enough members, by role.
    bool are_enough(NodeSet nodes) const;
};

/// A node's own lease, for one of its lives.
class Lease {
  public:
    /// @param length  L, the same at all nodes
    Lease(NodeBoot self, Nanos length);

    /// A fence in which this node serves. What was sent back before still counts, for the new homes:
    /// who sent it back remembers that.
    void enter(FenceHomes homes);
    /// A heartbeat goes out with this stamp; never earlier than the one before.
    void sent(Nanos stamp);
    /// False: it makes no sense (no stamp of this life that was sent), and changes nothing.
    bool echoed(NodeId from, const Echo& echo);

    /// The newest stamp that came back, it or a later one, with the word, from nodes that with this
    /// one have the homes of enough. nullopt: there is none.
    std::optional<Nanos> newest_from_enough() const;
    /// When the lease ends, as far as is known now; it may lie in the past. A node that is the home
    /// of enough by itself needs nobody: then it ends L from now, whenever one asks. nullopt: there
    /// is none, for too few have answered, or no fence was entered.
    std::optional<Nanos> until(Nanos now) const;
    /// Outside of it the node is frozen: it takes no command as a home, reads nothing past its loop,
    /// decides nothing and answers no client; and goes on when the lease does.
    bool holds(Nanos now) const;

  private:
    NodeBoot self_;
    Nanos length_;
    std::optional<FenceHomes> homes_;
    std::optional<Nanos> sent_;       // the newest
    std::map<NodeId, Nanos> echoed_;  // by whom: the newest that came back and extends the lease
};

/// What a node remembers of having extended others' leases.
class EchoLog {
  public:
    /// @param since  when it began to remember: this start of the process
    explicit EchoLog(Nanos since) : since_(since) {}

    /// It has a member that it had not before, whose home may have been another: of that one's
    /// echoes it knows nothing, so that from here on it remembers from `now` only.
    void member_opened(Nanos now);
    /// The echo of a stamp of this node goes out now. Whether it extends the lease.
    /// @param epoch     that the heartbeat with the stamp named; 0: the node serves in none
    /// @param received  when that heartbeat came
    /// @param promise   the newest epoch that this node has promised
    bool send(NodeId to, std::uint64_t epoch, Nanos received, std::uint64_t promise);
    /// How long ago, at least, it last received a stamp that it sent back with the word.
    Nanos age(NodeId of, Nanos now) const;

  private:
    Nanos since_;
    std::map<NodeId, Nanos> extended_;  // when the newest such stamp was received
};

/// When a new fence may open, as who proposes it knows.
class FenceWait {
  public:
    /// @param excluded  every node that is known and takes no part
    FenceWait(Nanos lease, NodeSet excluded) : wait_(fence_wait(lease)), excluded_(excluded) {}

    /// The node that was asked to prepare told this age (EchoLog::age()); of nodes that are not
    /// excluded, or need no wait, nothing follows.
    /// @param heard  when the answer came, on this node's clock
    void told(NodeId excluded, Nanos age, Nanos heard);
    /// It has said itself that it serves no more: it answered KILL, or left in order.
    void needs_no_wait(NodeId excluded);

    /// On this node's clock; counts what was told so far.
    Nanos opens_at() const;
    /// For whom it waits at this time.
    NodeSet waits_for(Nanos now) const;

  private:
    Nanos wait_;
    NodeSet excluded_;
    std::map<NodeId, Nanos> ends_;  // when its lease has ended for sure
};

}  // namespace braid::cluster
