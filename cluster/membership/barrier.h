// SPDX-License-Identifier: BSD-3-Clause
// The barrier: all nodes of a group stop under one fence and go on under the next one. Two pure
// machines: what one node does (NodeBarrier), and what the one does that proposes (MasterBarrier),
// which is a node of the group as well.
//
//   SERVING(E) → FROZEN(F) → SERVING(F), never back.
//
// prepare: the node freezes. It decides nothing, answers no client, takes no command of the old
// fence and no answer to an attempt that is not decided, until it adopts. When its disks are at rest
// and its members have promised F, durably, it answers with all that it knows. store: it takes the
// configuration, if its promise is still F. announce: it has the revision that says that F is in
// force, and with it the verdict (recovery.h). adopt: it goes on. settle: what the verdict names is
// applied and flushed; when all have said so the verdict and the writers that are gone are forgotten.
//
// Announce is a step of its own: nobody serves under F before every node of F knows that it is in
// force, who is in it, and what happens. So whoever is left can go on from there, and can tell a
// node that was excluded that it was.
//
// A proposal is never changed. If somebody is gone, refuses or cannot store before F is in force, F
// has failed, and the next one has a higher epoch. Afterwards F is in force whatever happens: who is
// gone then is missing in the next one.
//
// Source: for epochs and promises engine/layout/register.h; for a flush that ends a view before the
// next one begins Birman and Joseph, "Exploiting virtual synchrony", 1987; seeds 004, figure 13
// (Negotiate), whose four answers are to `store`.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "cluster/membership/lease.h"
#include "cluster/membership/recovery.h"
#include "cluster/wire/node_boot.h"
#include "cluster/wire/node_id.h"
#include "engine/base/units.h"

namespace braid::cluster {

/// A proposal: the nodes, in their present lives, that are to serve in the next fence.
struct Prepare {
    std::uint64_t epoch{0};
    NodeId proposer{};
    std::set<NodeBoot> kept;  // with the proposer
};

/// One node, in one of its lives.
class NodeBarrier {
  public:
    enum class Phase : std::uint8_t {
        outside,   // a new life: in no fence yet
        serving,   // under fence()
        frozen,    // it has prepared for promise()
        expelled,  // a fence without it: it fails what it had begun, and begins a new life
    };
    /// @param promise  the highest that its members hold
    /// @param newest   the newest fence that they know to be in force
    NodeBarrier(NodeBoot self, std::uint64_t promise, KnownFence newest = {});

    enum class Prepared : std::uint8_t {
        freezes,     // from now on; promised() when disks are at rest and members have promised
        not_above,   // promise(): the epoch has to be higher
        has_master,  // which it hears, and whose lease runs (group.h)
        not_kept,    // it is not named, in this life
    };
    /// @param has_master  is_refused_for_master()
    Prepared prepare(const Prepare& prepare, bool has_master);
    /// All its members have promised. False: it has promised a higher epoch since; nothing is
    /// answered.
    bool promised(std::uint64_t epoch);
    /// Of whom the answer has books: who it has served with, is not kept, and is not settled.
    std::set<NodeBoot> gone() const;
    /// False: its promise is another one, or it has not promised. Else it may be stored, and was.
    bool store(std::uint64_t epoch);
    /// The fence is in force; nothing changes yet but what it knows. False: as store(), or it has
    /// not stored.
    bool announce(const WriteVerdict& verdict);
    /// It serves under the new fence. False: it was not announced here, or its promise is another.
    bool adopt(std::uint64_t epoch);
    /// All nodes of this fence have settled: what is known of those that are gone may be forgotten.
    /// Nothing follows of another fence than that in which it serves.
    void all_settled(std::uint64_t epoch);
    /// KILL: a proposal of this epoch, which is not in force yet, excludes it. True: it is out, and
    /// says so; false: it has promised a higher epoch, and answers nothing.
    bool killed(std::uint64_t epoch);
    /// It hears of a fence in force. True: it is not in it, and out, whatever it has promised since;
    /// false: it is in it, or in a newer one.
    bool heard_of(const KnownFence& fence);

    /// The loss of a member: a new epoch under the same fence. False: its promise is as high, or it
    /// is not serving.
    bool promise_loss(std::uint64_t epoch);

    Phase phase() const { return phase_; }
    std::uint64_t fence() const { return fence_; }
    std::uint64_t promise() const { return promise_; }
    const KnownFence& newest() const { return newest_; }
    const WriteVerdict& verdict() const { return verdict_; }
    /// Clients are answered, writes are decided; if its lease holds, too.
    bool serves() const { return phase_ == Phase::serving; }
    /// A command, or an answer, of this node under this fence.
    bool takes(NodeBoot from, std::uint64_t fence) const;

    /// All that it holds, as numbers: equal for equal machines.
    std::vector<std::uint64_t> image() const;

  private:
    enum class Progress : std::uint8_t { freezing, promised, stored, announced };

    bool is_at(std::uint64_t epoch, Progress progress) const;

    NodeBoot self_;
    Phase phase_{Phase::outside};
    std::uint64_t promise_;
    std::uint64_t fence_{0};
    KnownFence newest_;
    std::set<NodeBoot> met_;  // under a fence in this life, and not forgotten
    WriteVerdict verdict_;
    // Of the proposal that it is frozen for.
    Progress progress_{Progress::freezing};
    std::set<NodeBoot> kept_;
};

/// One proposal, at the node that makes it.
class MasterBarrier {
  public:
    struct Setup {
        Prepare prepare;
        NodeSet excluded;  // all nodes that are known and not kept
        Nanos lease;       // L
    };
    enum class Step : std::uint8_t {
        prepare,   // pending() are asked; prepared(), refused()
        judge,     // all have answered: newest configuration, verdict(); judged(), or abandon()
        store,     // and KILL to the excluded; stored(), store_failed(), excluded_is_out()
        wait,      // until opens_at(); excluded_is_out(), time_is()
        announce,  // announced()
        adopt,     // in force; adopted()
        settle,    // settled(), applied and flushed; clients are served
        over,      // all_settled() to every node
        failed,    // without(): whom the next one does without
    };
    explicit MasterBarrier(Setup setup);

    Step step() const { return step_; }
    std::uint64_t epoch() const { return setup_.prepare.epoch; }
    const Prepare& proposal() const { return setup_.prepare; }
    /// Who has not answered in this step.
    NodeSet pending() const { return pending_; }
    /// No node of it can go back to an older fence.
    bool is_in_force() const { return in_force_; }

    // An answer that does not belong to this step, or comes from nobody who is asked, or comes again,
    // changes nothing; but settled() may come before the last adopted().
    /// One that cannot be (it knows of a fence that is not older) makes the proposal fail, without its
    /// sender. An excluded node of which it tells no age was heard just now.
    /// @param now  when it came, on this node's clock
    void prepared(const PrepareAnswer& answer, Nanos now);
    /// It has promised a higher epoch; or, with its own promise below, it hears a master.
    void refused(NodeId from, std::uint64_t promise);
    /// In step `judge`.
    const std::vector<PrepareAnswer>& answers() const { return answers_; }
    void judged(WriteVerdict verdict);
    const WriteVerdict& verdict() const { return verdict_; }
    void stored(NodeId from);
    void store_failed(NodeId from);
    /// It answered KILL, or left in order.
    void excluded_is_out(NodeId node);
    Nanos opens_at() const { return wait_.opens_at(); }
    NodeSet waits_for(Nanos now) const { return wait_.waits_for(now); }
    void time_is(Nanos now);
    void announced(NodeId from);
    void adopted(NodeId from);
    void settled(NodeId from);
    /// The link is down, it has another life, or there was no answer within L.
    void gone(NodeId node);
    /// What the answers make cannot be stored: not enough members, or an operator ends it.
    void abandon();

    NodeSet without() const { return without_; }
    /// The next proposal is above all promises that were named.
    std::uint64_t highest_promise() const { return highest_promise_; }

  private:
    bool answers_now(NodeId from, Step step);
    void next(Step step);
    void fail(NodeSet without);

    Setup setup_;
    NodeSet nodes_;
    Step step_{Step::prepare};
    NodeSet pending_;
    NodeSet settled_;
    bool in_force_{false};
    FenceWait wait_;
    std::vector<PrepareAnswer> answers_;
    WriteVerdict verdict_;
    NodeSet without_;
    std::uint64_t highest_promise_;
};

}  // namespace braid::cluster
