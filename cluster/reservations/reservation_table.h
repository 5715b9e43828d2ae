// SPDX-License-Identifier: BSD-3-Clause
// ReservationTable: what a node knows of which volume is reserved by which node. A pure state
// machine: every command and every message changes it at once, and tells what follows of it
// (ReservationEffects). It keeps no requests: it says of each whether it is served, waits or is
// refused, and when to look again.
//
// To reserve. The node enters itself and asks every other node. Who is asked, and has no entry,
// enters the asker, lets new requests to the volume wait, ends its own that are under way
// ("drains"), and then grants. When all have granted the volume is held. From then on, and not
// earlier, others' requests are refused, and homes refuse others' commands.
//
// Two at once. A node that is refused learns who is in the way. Only what that one says of itself
// counts, for what a third node has of it may be over. Does it hold the volume, or ask for it with
// a higher id, then the request fails, and is taken back from everybody.
// Otherwise the node asks again until nothing is in the way, or it gives up. So of those that ask
// at once the highest id gets it.
//
// To release. The holder drains; then all homes let others' commands pass again, and have said so;
// then all remove the entry, and have said so. In one step a node that has removed it could send a
// command to a home that has not.
//
// What comes from outside. Messages of one node to another arrive in order; one that is repeated is
// answered again, and changes nothing. A request has a number that the node does not use again, so
// that an answer to an earlier one is known for what it is. Nothing is received from a node after
// node_gone(), until node_back().
//
// Invariants: a volume has one entry at most; a node that holds it is entered at all others.
//
// Source: seeds 004, figures 10, 12 and 19 (Reserve, Node_Reserve, Release), and the rule of the
// higher-priority node there. There the node asks once more, after a time.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "cluster/wire/node_id.h"

namespace braid::cluster {

enum class VolumeIndex : std::uint32_t {};  // below volumes_max; the same volume at all nodes

struct ReservationMessage {
    enum class Kind : std::uint8_t {
        reserve,  // answered by granted or refused; of who holds it, or lets go: to one who is back
        granted,  // entered, and drained
        refused,  // somebody else is entered: `holder`
        begun,    // all have granted: the sender holds the volume
        lift,     // let others' commands pass again; answered by lifted
        lifted,   //
        release,  // remove the entry, if there is one; answered by released
        released,  //
    };
    /// Of a `holder` that refuses, or of who reserves: what it says of itself.
    enum class Standing : std::uint8_t { asks, holds, leaves };

    Kind kind{Kind::reserve};
    VolumeIndex volume{};
    std::uint64_t request{0};  // of who reserves; from 1 on
    NodeId holder{};
    Standing standing{
        Standing::asks};  // of a refusal it means something only if `holder` is the sender
    bool operator==(const ReservationMessage&) const = default;
};

/// What follows of a command or a message: to be done, and told, after it.
struct ReservationEffects {
    struct Send {
        NodeId to{};
        ReservationMessage message;
        bool operator==(const Send&) const = default;
    };
    enum class Outcome : std::uint8_t {
        reserved,
        conflict,  // with `node`
        gave_up,   // `node` was in the way, if any was
        released,  // by a RELEASE that came before its end
    };
    struct Ended {  // a RESERVE
        VolumeIndex volume{};
        Outcome outcome{Outcome::reserved};
        std::optional<NodeId> node;
        bool operator==(const Ended&) const = default;
    };
    std::vector<Send> send;  // in this order
    std::vector<Ended> ended;
    std::vector<VolumeIndex> released;  // every RELEASE of it that was told to wait
    std::vector<VolumeIndex> drain;     // drained() when no request to it is under way here
    std::vector<VolumeIndex> changed;   // what waits for it asks admission() again
};

class ReservationTable {
  public:
    /// Who begins among others that reserve already enters nobody who only asks, until it has heard
    /// what they hold: of two entries it could not tell which one is to stay.
    enum class Begins : bool { with_all, among_others };
    /// @param others  all other nodes that are there; nothing is reserved
    ReservationTable(NodeId self, std::set<NodeId> others, Begins how = Begins::with_all);
    /// Before the first client: what others had to tell has come.
    void has_heard_all() { hears_ = false; }

    // ---- what this node's clients and operators order
    /// RESERVE. The node that has it or asks for it, this one not excepted: a conflict. nullopt:
    /// ReservationEffects::ended tells, maybe at once.
    std::optional<NodeId> reserve(VolumeIndex volume, ReservationEffects& effects);
    /// RELEASE. True: there is nothing to release. False: ReservationEffects::released tells,
    /// maybe at once, when no node has the entry any more.
    bool release(VolumeIndex volume, ReservationEffects& effects);
    /// The time of a RESERVE is over. If it has ended nothing follows.
    void give_up(VolumeIndex volume, ReservationEffects& effects);
    /// Whether somebody has refused that is to be asked again, after a while.
    bool has_to_ask_again() const;
    void ask_again(ReservationEffects& effects);

    // ---- requests
    enum class Verdict : std::uint8_t { serve, wait, refuse };
    struct Admission {
        Verdict verdict{Verdict::serve};
        NodeId holder{};  // of what is refused
        bool operator==(const Admission&) const = default;
    };
    /// Of a new request, or connection, of a client of this node.
    Admission admission(VolumeIndex volume) const;
    /// No request to the volume is under way here. May be said at any time at which it is so.
    void drained(VolumeIndex volume, ReservationEffects& effects);
    /// Whether this node, as a home, refuses commands of that node (which may be this one).
    bool refuses_commands(VolumeIndex volume, NodeId from) const;
    /// This node has the volume for itself.
    bool holds(VolumeIndex volume) const;

    // ---- other nodes
    /// False: it makes no sense, and changes nothing.
    bool receive(NodeId from, const ReservationMessage& message, ReservationEffects& effects);
    /// Its reservations fall, and nobody waits for its answers.
    void node_gone(NodeId node, ReservationEffects& effects);
    /// It is there again, and knows nothing. What this node has of it in its table is told, or asked,
    /// before anything that follows; the node lets no client in before it has that of all others.
    void node_back(NodeId node, ReservationEffects& effects);

    struct Holder {
        NodeId node{};
        bool holds{false};  // as far as is known here; or it asks
        bool operator==(const Holder&) const = default;
    };
    /// Who is entered; nullopt: the volume is shared.
    std::optional<Holder> holder(VolumeIndex volume) const;

    /// Checks every invariant that one node can see; for tests and audits.
    bool holds_together() const;
    /// All that it holds, as numbers: equal for equal tables, so that a model can tell states apart.
    std::vector<std::uint64_t> image() const;

  private:
    using Message = ReservationMessage;
    using Effects = ReservationEffects;

    enum class Phase : std::uint8_t {
        asking,    // until all have granted
        held,      //
        draining,  // RELEASE: until its own requests have ended
        lifting,   // until no home refuses others' commands
        leaving,   // until all have removed the entry
    };
    /// This node's own entry for a volume.
    struct Own {
        std::uint64_t request{0};
        Phase phase{Phase::asking};
        std::set<NodeId> unanswered;            // asked, or told
        std::map<NodeId, NodeId> in_the_way{};  // who has refused: whom it named
    };
    enum class Seen : std::uint8_t { draining, granted, held };
    /// Another node's.
    struct Entered {
        NodeId holder{};
        std::uint64_t request{0};
        Seen seen{Seen::draining};
    };
    using Owns = std::map<VolumeIndex, Own>;

    void send(NodeId to, Message::Kind kind, VolumeIndex volume, std::uint64_t request,
              Effects& effects, Message::Standing standing = Message::Standing::asks) const;
    static Message refusal(const Message& message, NodeId holder, Message::Standing standing);
    void tell(Owns::iterator at, const std::set<NodeId>& nodes, Message::Kind kind,
              Effects& effects);
    void fail(Owns::iterator at, Effects::Outcome outcome, std::optional<NodeId> node,
              Effects& effects);
    void go_on(Owns::iterator at, Effects& effects);
    bool enter(NodeId from, const Message& message, Effects& effects);
    bool take_refusal(NodeId from, const Message& message, Owns::iterator at, Effects& effects);
    bool take_answer(NodeId from, const Message& message, Effects& effects);
    bool take_word(NodeId from, const Message& message, Effects& effects);
    Message::Standing standing_of(const Own& own) const;

    NodeId self_;
    std::set<NodeId> others_;
    Owns own_;
    std::map<VolumeIndex, Entered> entered_;
    std::uint64_t last_request_{0};
    bool hears_{false};
};

}  // namespace braid::cluster
