// SPDX-License-Identifier: BSD-3-Clause
// Reservations: the flow around a node's ReservationTable. What clients ask of a volume passes here
// (RequestGate): it goes on, waits, or is refused. What the table wants to be sent is sent, what it
// wants to be drained is watched until nothing of it is under way.
//
// Rows. Who has a volume locks its clients' rows in its own book, without a message (ReservedRows).
// The array's own work, which only one node does, goes on in every volume: it locks rows where
// everybody does, and then in the book of whoever has the volume, or asks for it. Nothing holds it
// back, for a walk waits with rows in its hands. Whoever grants a volume has no client's lock in it,
// and no walk's that the new holder's book does not know; the one who walks says with its grant how
// far rebuilds are. Homes refuse other nodes' commands; that is a net, and excludes nobody by itself:
// what is told here keeps no order with commands to homes.
//
// When a node is gone the array stops: nothing is given away then, and the table stays as it is.
//
// A volume in mode exclusive is reserved by the first client that connects to it at a node, and
// released when the last one leaves; every other is shared until an operator reserves it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/bus/talk.h"
#include "cluster/homes/home_server.h"
#include "cluster/homes/node_homes.h"
#include "cluster/reservations/reservation_table.h"
#include "engine/base/result.h"
#include "engine/io/clock.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/serving/request_gate.h"
#include "engine/status.h"

namespace braid::cluster {

class Reservations final : public RequestGate, public ReservedRows, public CommandGate {
  public:
    struct Setup {
        ReadyQueue& ready;
        Clock& clock;
        std::uint32_t self{0};             // ids of nodes
        std::vector<std::uint32_t> nodes;  // all, this one among them, by home: NodeHomes' numbers
        std::uint32_t walker{0};           // whose walks go on in every volume
        const Geometry& geometry;
        std::vector<VolumeRecord> volumes;
        std::set<std::string> exclusive;  // names of volumes
        NodeHomes& homes;
        std::function<void(std::uint32_t, const Words&)> tell;
        std::function<void(Severity, std::string)> log;
        ReservationTable::Begins begins{ReservationTable::Begins::with_all};
    };
    /// Who asks waits for others so long; and asks those who refuse again so often.
    static constexpr Nanos patience = seconds(10);
    static constexpr Nanos ask_pause = millis(100);

    explicit Reservations(Setup setup);
    Reservations(const Reservations&) = delete;
    Reservations& operator=(const Reservations&) = delete;

    // ---- what operators and clients of this node want
    /// RESERVE. Refused: somebody has the volume, or does not let go of it in time.
    Task<Checked<Unit>> reserve(std::string volume);
    /// RELEASE. A volume that nobody has reserved is released already.
    Task<Checked<Unit>> release(std::string volume);
    /// A client connects; close_volume() follows when it has left. Refused: another node has the
    /// volume, and nothing follows. What has stopped is nobody's: its clients hear that from requests.
    Task<Checked<Unit>> open_volume(std::string volume);
    void close_volume(const std::string& volume);

    /// One more, of which nothing was heard: it gets the next number as a home.
    void add_node(std::uint32_t node) { setup_.nodes.push_back(node); }
    /// What it has reserved is shared again, and nobody waits for it. It comes no more.
    void node_gone(std::uint32_t node);
    /// It is there again, and hears what this node has reserved, or asks for.
    void node_back(std::uint32_t node);
    /// Walks run on another node from now on.
    void set_walker(std::uint32_t node) { setup_.walker = node; }
    /// This node began among others; what they hold has come.
    void has_heard_all() { table_.has_heard_all(); }

    // ---- what another node says, at once; a refusal: it makes no sense
    Checked<Unit> told(std::uint32_t from, const Words& words);

    /// By volume, in the order of the configuration.
    std::vector<ReservationStatus> status() const;

    // RequestGate
    Way enter(IoRequest& request, Inside& inside) override;
    void leave(const IoRequest& request) override;
    void close() override;
    // ReservedRows
    bool holds(StripeIndex stripe) const override;
    std::optional<std::uint32_t> entered(StripeIndex stripe) const override;
    void lock_over() override;
    // CommandGate
    std::optional<std::uint32_t> refuses(std::uint32_t node, StripeIndex first,
                                         StripeIndex last) const override;

    /// After close(): until nothing runs any more.
    Task<void> stop() {
        close();
        co_await tasks_.join();
    }
    void abandon() {
        closed_ = true;
        changed_.forget();
        asking_timer_ = nullptr;
        for (Volume& known : volumes_) known.reserving = nullptr;
        tasks_.clear();
    }

  private:
    using Effects = ReservationEffects;
    struct Reserving {  // one RESERVE that waits
        bool over{false};
        bool by_operator{false};
        Effects::Ended ended;
        Timer* timer{nullptr};
    };
    struct Volume {
        VolumeRecord record;
        bool exclusive{false};
        bool by_operator{false};       // reserved by an order, not by a connection
        std::uint64_t requests{0};     // under way
        std::uint64_t connections{0};  // of an exclusive one
        bool draining{false};          // the table is to hear when nothing is under way
        IoRequest* first{nullptr};     // waiting
        IoRequest* last{nullptr};
        std::uint64_t waiting{0};
        Inside* inside{nullptr};
        Reserving* reserving{nullptr};
        std::uint64_t releases{0};  // that are over
    };

    static VolumeIndex index(std::size_t at) { return VolumeIndex{static_cast<std::uint32_t>(at)}; }
    Volume& volume(VolumeIndex at) { return volumes_[static_cast<std::uint32_t>(at)]; }
    std::optional<std::size_t> volume_of(StripeIndex stripe) const;
    Checked<std::size_t> find(const std::string& name) const;
    /// Of another node that has the volume, or asks for it.
    std::optional<std::uint32_t> entered_home(std::size_t at) const;
    Error refusal(const ReservationTable::Admission& admission) const;
    void carry_out(Effects effects);
    void look_whether_quiet(std::size_t at, Effects* more);
    void look_again(std::size_t at);
    Task<Checked<Unit>> reserve_now(std::size_t at, bool by_operator);
    Task<void> release_now(std::size_t at);
    Task<void> release_unused(std::size_t at);
    Task<void> ask_again();
    Words words_of(const ReservationMessage& message) const;
    std::string who(const Volume& volume, std::uint32_t node) const;

    Setup setup_;
    ReservationTable table_;
    std::vector<Volume> volumes_;  // in order of their stripes
    TaskGroup tasks_;
    Event changed_;
    bool asking_again_{false};
    Timer* asking_timer_{nullptr};
    bool closed_{false};
};

/// What nodes tell each other of reservations, as it comes: whatever it is, an error or what it has to be.
Checked<ReservationMessage> reservation_message_of(const Words& words, std::size_t volumes);
Checked<std::vector<Rebuilt>> rebuilds_of(const Words& words, const Geometry& geometry);

}  // namespace braid::cluster
