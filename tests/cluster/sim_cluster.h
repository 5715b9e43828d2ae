// SPDX-License-Identifier: BSD-3-Clause
// Several nodes in one thread and one seed: each serves clients and is home of some members, and
// commands between them take their time. A member that fails is lost; what says so is held by all
// nodes in the end, each of which hears of it in its time. Nothing else is decided here.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/bus.h"
#include "cluster/homes/home.h"
#include "cluster/homes/home_server.h"
#include "cluster/homes/node_homes.h"
#include "cluster/homes/remote_home.h"
#include "cluster/reservations/reservations.h"
#include "engine/serving/serving.h"
#include "parity/parity.h"
#include "tests/cluster/sim_link.h"
#include "tests/sim/sim_create.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_net.h"

namespace braid::sim {

/// Clusters come and go by the thousand: their memory is kept, and not given back to the system.
inline const bool memory_of_clusters_is_kept =
    mallopt(M_MMAP_THRESHOLD, 1 << 30) != 0 && mallopt(M_TRIM_THRESHOLD, 1 << 30) != 0;

/// One node's decider: it waits for the configuration without the lost member. Of all else a test
/// says that it cannot happen.
class SimDecider final : public Decider {
  public:
    void bind(Serving& serving) { serving_ = &serving; }
    /// What the node holds is in force everywhere.
    void in_force(const Configuration& configuration) {
        Members& members = serving_->members();
        if (!members.knows_losses(configuration)) return;
        serving_->in_force(configuration, members.loss_version());
        in_force_.set();
    }

    void read_failed(MemberIndex, int) override {}
    Task<Result<void>> losses_durable() override {
        while (serving_->members().owes()) co_await in_force_.next();
        co_return Result<void>{};
    }
    void flush_failed(MemberIndex, int) override { fail("flush_failed"); }
    void strip_write_failed(MemberIndex, int) override { fail("strip_write_failed"); }
    void not_answering(MemberIndex) override { fail("not_answering"); }
    Task<Result<void>> rows_doubtful(std::vector<BadRange>) override {
        return failed("rows_doubtful");
    }
    Task<Result<void>> rows_unknown(std::vector<BadRange>) override {
        return failed("rows_unknown");
    }
    Task<Result<void>> rows_known(std::vector<BadRange>) override { return failed("rows_known"); }
    void walk_begun(const WalkOrder&) override {}
    void walk_passed() override {}
    Task<Result<void>> walk_at(WalkPosition) override { co_return Result<void>{}; }
    void walk_ended(WalkPosition at, Result<void> result) override {
        EXPECT_TRUE(result);
        on_rebuilt(at.order.member);
    }
    void rows_wrong(WindowPlace, RowMask, RoleSet, std::string) override { fail("rows_wrong"); }
    void write_refused(WindowPlace, RowMask, RoleSet) override { fail("write_refused"); }

    std::function<void(MemberIndex)> on_rebuilt;

  private:
    static void fail(const char* what) { ADD_FAILURE() << "a decision is asked for: " << what; }
    static Task<Result<void>> failed(const char* what) {
        fail(what);
        co_return Error{Errc::failed, "decider"};
    }

    Serving* serving_{nullptr};
    Event in_force_;
};

/// For all of `data`, which a zero only takes the size of.
inline IoRequest request_of(IoKind kind, std::uint64_t offset, Buffer& data) {
    IoRequest request;
    request.kind = kind;
    request.offset = {offset};
    request.size = data.size();
    request.data = kind == IoKind::zero ? nullptr : data.data();
    return request;
}

/// One node's end of the connections between all, which are over a simulated network.
class SimBus final : private cluster::BusListener {
  public:
    SimBus(SimNetwork& network, cluster::Home& home, const Geometry& geometry, std::uint32_t self,
           std::uint32_t nodes)
        : net_(network, host_of(self)), geometry_(geometry), server_(home, geometry, fence_) {
        cluster::Bus::Setup setup{network.loop().ready(),
                                  network.loop(),
                                  net_,
                                  {self + 1, boot},
                                  "sim",
                                  {address_of(self)},
                                  {},
                                  network.loop().rng().next(),
                                  std::nullopt,
                                  server_,
                                  *this};
        for (std::uint32_t i = 0; i != nodes; ++i) {
            if (i != self) setup.peers.push_back({i + 1, {address_of(i)}});
        }
        bus_ = std::make_unique<cluster::Bus>(std::move(setup));
        server_.bind(*bus_);
    }
    static std::string host_of(std::uint32_t node) { return "10.0.0." + std::to_string(node + 1); }
    cluster::Bus& bus() { return *bus_; }
    cluster::HomeLink* link_to(std::uint32_t node, bool combined = true) {
        return &links_.emplace_back(bus_->session(node + 1), geometry_, fence_, combined);
    }
    /// From now on the node works by this one.
    void set_fence(std::uint64_t epoch) { fence_.epoch = epoch; }
    std::uint64_t ended() const { return ended_; }
    /// Of those that ended since it was asked last, as this node says it.
    std::vector<std::string> take_whys() { return std::exchange(whys_, {}); }
    static constexpr std::uint64_t boot = 1;  // of every node

  private:
    static NetAddress address_of(std::uint32_t node) {
        return {AddressKind::ip4, host_of(node), 10810};
    }
    // BusListener
    void connected(std::uint32_t) override {}
    void disconnected(std::uint32_t, const std::string& why) override {
        ++ended_;
        whys_.push_back(why);
    }
    void restarted(std::uint32_t node) override { ADD_FAILURE() << "node " << node << " has not"; }
    void taken_for_gone(std::uint32_t by, Goes) override {
        ADD_FAILURE() << "node " << by << " has";
    }
    void refused(const std::string&) override {}  // while connections come and go

    SimNet net_;
    const Geometry& geometry_;
    cluster::Fence fence_;
    cluster::HomeServer server_;
    std::unique_ptr<cluster::Bus> bus_;
    std::deque<cluster::RemoteHome> links_;
    std::uint64_t ended_{0};
    std::vector<std::string> whys_;
};

struct SimClusterOptions {
    std::uint64_t seed{1};
    Level level{Level::raid5};
    std::uint32_t members{4};
    std::uint32_t nodes{3};
    std::uint32_t homes{0};  // the first ones have the members; 0: all nodes do
    std::uint32_t lost{0};   // members that are missing: the first ones
    std::uint64_t strip_size{16u << 10};
    std::uint64_t stripes{4};
    bool zero_fast{true};
    std::uint64_t disk_nanos{1'000'000};
    cluster::Credit book{book_bytes_max, book_entries_max};
    std::optional<std::uint32_t> late_adopter;  // a node that hears of configurations a second late
    SimDelay delay;
    bool sessions{false};  // commands go as messages over connections, and not by calls
    bool combined{true};   // false: old parity does not come with locks, and each end goes alone
    SimNetShape net{};     // with sessions
    std::uint32_t volumes{1};
    std::optional<std::uint32_t> walker;  // volumes can be reserved; who walks, if anybody does
    std::uint64_t verdict_nanos{0};       // of a failing member takes so much longer
};

class SimCluster final : private cluster::HomeListener {
  public:
    static constexpr std::uint64_t data_offset = 64u << 10;
    static constexpr std::uint32_t decider_channel = 99;  // with messages that are held
    static constexpr DataArea area{{data_offset}};

    explicit SimCluster(SimClusterOptions options)
        : options_(options),
          loop_(options.seed),
          network_(loop_, options.net),
          configuration_(configuration_of(options)) {
        geometry_ = Geometry::of(configuration_);
        for (std::uint32_t i = 0; i != options_.nodes; ++i) {
            nodes_.push_back(std::make_unique<Node>(*this));
        }
        for (std::uint32_t i = 0; i != options_.members; ++i) attach(MemberIndex{i});
        if (options_.sessions) {
            loop_.let_events_interrupt();
            connect();
        }
        for (std::uint32_t i = 0; i != options_.nodes; ++i) nodes_[i]->join(*this, i);
    }
    /// Also in the middle of it all, after a test has failed.
    ~SimCluster() override {
        loop_.crash([this] { nodes_.clear(); });
    }
    SimCluster(const SimCluster&) = delete;
    SimCluster& operator=(const SimCluster&) = delete;

    SimLoop& loop() { return loop_; }
    const Geometry& geometry() const { return geometry_; }
    cluster::Home& home(std::uint32_t node) { return nodes_[node]->home; }
    cluster::NodeHomes& homes(std::uint32_t node) { return *nodes_[node]->homes; }
    /// With a walker.
    cluster::Reservations& reservations(std::uint32_t node) { return *nodes_[node]->reservations; }
    Serving& serving(std::uint32_t node) { return *nodes_[node]->serving; }
    SimPlatter& platter(std::uint32_t member) { return *platters_[member]; }
    const Configuration& configuration() const { return configuration_; }
    /// Some time within `nanos` the member fails, maybe for writes alone: what it answers to reads is
    /// old then.
    void fail_by_chance(std::uint32_t member, std::uint64_t nanos) {
        loop_.after(loop_.rng().below(nanos), [this, member] {
            SimPlatter& failing = platter(member);
            (loop_.rng().chance(2) ? failing.dead : failing.fails_writes) = true;
        });
    }
    /// Its home gives the member up: it does not answer.
    void suspend(MemberIndex member) {
        home(home_of_[raw(member)]).suspend(member);
        if (!is_lost(member)) decide(member, MemberState::faulty);
    }
    std::uint32_t home_of(MemberIndex member) const { return home_of_[raw(member)]; }
    /// What homes have told of their members, in its order.
    const std::vector<HomeFault>& faults() const { return faults_; }
    /// From now on; none: nothing is late any more.
    void set_late(SimLate* late) { options_.delay.late = late; }
    /// From now on a message comes when these let it, and what is ready goes on in the order in which it
    /// became so; none: as before. Nothing is under way.
    void set_held(HeldMessages* held) {
        options_.delay.held = held;
        loop_.let_order_stand(held != nullptr);
    }

    /// With sessions.
    SimNetwork& network() { return network_; }
    SimBus& bus(std::uint32_t node) { return *nodes_[node]->bus; }
    /// All connections of two nodes break, or for one of them alone, who finds that out later.
    void cut(std::uint32_t a, std::uint32_t b, CutSides sides = CutSides::both) {
        if (sides == CutSides::one)
            return network_.cut_one_side(SimBus::host_of(a), SimBus::host_of(b));
        network_.cut(SimBus::host_of(a), SimBus::host_of(b));
    }
    /// Connections that were over, as nodes saw it.
    std::uint64_t connections_ended() const {
        std::uint64_t ended = 0;
        for (const auto& node : nodes_) ended += node->bus ? node->bus->ended() : 0;
        return ended;
    }
    /// Asks one node, and waits for its answer.
    Task<Result<void>> ask(std::uint32_t node, IoRequest request) {
        return ask_of(*nodes_[node]->serving, request);
    }
    Result<void> run(std::uint32_t node, IoRequest request) {
        return loop_.run_until_done(ask(node, request));
    }
    Result<void> flush(std::uint32_t node) {
        IoRequest request;
        request.kind = IoKind::flush;
        return run(node, request);
    }

    /// A node fills the member, which was missing, and has something else on it. Every node has heard
    /// of that before it begins; how far it is they hear when they lock rows.
    void rebuild(MemberIndex member, std::uint32_t by) {
        Buffer& content = platter(raw(member)).content;
        std::memset(content.data(), 0xdd, content.size());
        configuration_.member(member)->state = MemberState::rebuilding;
        configuration_.version.epoch += 256;
        for (const auto& node : nodes_) {
            node->attach(*this, member);
            node->adopt(configuration_);
        }
        nodes_[by]->decider.on_rebuilt = [this](MemberIndex filled) {
            decide(filled, MemberState::in_sync);
        };
        WalkOrder order;
        order.kind = WalkKind::rebuilding;
        order.member = member;
        order.ranges = {{WindowIndex{}, geometry_.window_end()}};
        order.loss_version = nodes_[by]->serving->members().loss_version();
        nodes_[by]->serving->walk(order);
    }
    /// Nothing is under way any more: all is on the platters, and no book has anything.
    void settle() {
        for (std::uint32_t node = 0; node != options_.nodes; ++node) {
            EXPECT_TRUE(flush(node)) << "node " << node;
        }
        for (std::uint32_t node = 0; node != options_.nodes; ++node) {
            loop_.run_until_done(homes(node).catch_up());
        }
        run_out();
        for (std::uint32_t node = 0; node != options_.nodes; ++node) {
            EXPECT_EQ(homes(node).writes().open(), 0u) << "node " << node;
            EXPECT_TRUE(home(node).book().empty()) << "node " << node;
            EXPECT_TRUE(home(node).book().holds_together());
            EXPECT_EQ(home(node).memory_bytes(), 0u);
            for (std::uint32_t to = 0; to != options_.nodes; ++to) {
                EXPECT_TRUE(homes(node).credits().taken(to).empty()) << "of node " << node;
            }
        }
    }
    bool is_rebuilding(MemberIndex member) const {
        return configuration_.member(member)->state == MemberState::rebuilding;
    }
    bool is_lost(MemberIndex member) const {
        return !takes_part(configuration_.member(member)->state);
    }
    /// Rows whose parity is not that of their data.
    std::uint64_t wrong_rows() const {
        std::uint64_t wrong = 0;
        for (std::uint64_t stripe = 0; stripe != geometry_.stripes; ++stripe) {
            for (std::uint64_t at = 0; at != geometry_.strip_size; at += row_size) {
                wrong += is_true(StripeIndex{stripe}, at) ? 0 : 1;
            }
        }
        return wrong;
    }

  private:
    /// Until nothing happens any more, or nothing but signs of life.
    void run_out() {
        if (options_.sessions) return loop_.run_for(seconds(20));
        while (loop_.step()) {
        }
    }

    struct Node {
        explicit Node(SimCluster& cluster)
            : tasks(cluster.loop_.ready()), home(cluster.geometry_, tasks, cluster) {}
        void join(SimCluster& cluster, std::uint32_t self) {
            std::vector<cluster::HomeLink*> to;
            for (std::uint32_t i = 0; i != cluster.nodes_.size(); ++i) {
                if (i == self) {
                    to.push_back(&own);
                } else if (bus) {
                    to.push_back(bus->link_to(i, cluster.options_.combined));
                } else {
                    to.push_back(&links.emplace_back(cluster.loop_, cluster.nodes_[i]->home,
                                                     cluster.options_.delay,
                                                     test::Channel{self, i}));
                }
            }
            homes = std::make_unique<cluster::NodeHomes>(
                cluster::NodeHomes::Setup{cluster.geometry_,
                                          {self + 1, 1},
                                          std::move(to),
                                          cluster.home_of_,
                                          cluster.options_.book,
                                          cluster.options_.combined});
            serving = std::make_unique<Serving>(Serving::Setup{
                cluster.loop_.ready(), cluster.loop_, cluster.geometry_, cluster.configuration_,
                tasks, decider, 16u << 20, false, homes.get()});
            decider.bind(*serving);
            for (std::uint32_t i = cluster.options_.lost; i != cluster.options_.members; ++i) {
                attach(cluster, MemberIndex{i});
            }
            homes->bind(serving->members());
            if (cluster.options_.walker) make_reservations(cluster, self);
            serving->adopt(cluster.configuration_);
            serving->members().set_loss_version_durable(serving->members().loss_version());
        }
        void make_reservations(SimCluster& cluster, std::uint32_t self) {
            cluster::Reservations::Setup setup{
                cluster.loop_.ready(),
                cluster.loop_,
                self + 1,
                {},
                *cluster.options_.walker + 1,
                cluster.geometry_,
                cluster.configuration_.volumes,
                {},
                *homes,
                [&cluster, self](std::uint32_t to, const cluster::Words& words) {
                    cluster.tell(self, to - 1, words);
                },
                [](Severity, const std::string&) {}};
            for (std::uint32_t i = 0; i != cluster.options_.nodes; ++i) {
                setup.nodes.push_back(i + 1);
            }
            reservations = std::make_unique<cluster::Reservations>(std::move(setup));
            serving->set_gate(*reservations);
            homes->set_reserved(*reservations);
        }
        void attach(SimCluster& cluster, MemberIndex member) {
            const DiskInfo info = cluster.nodes_[cluster.home_of_[raw(member)]]->home.info(member);
            serving->attach_drive(member, homes->drive(member, info, area), area);
            serving->members().refresh();
        }
        /// A newer one may have come before it.
        void adopt(const Configuration& wanted) {
            if (wanted.version < adopted) return;
            adopted = wanted.version;
            home.adopt(wanted);
            serving->adopt(wanted);
        }
        ~Node() {
            if (reservations) reservations->abandon();
            if (serving) serving->abandon();
            tasks.clear();
            if (bus) bus->bus().abandon();
        }

        TaskGroup tasks;
        SimDecider decider;
        EpochRevision adopted;
        cluster::Home home;
        cluster::HomeCall own{home};
        std::unique_ptr<SimBus> bus;
        std::deque<SimLink> links;
        std::unique_ptr<cluster::NodeHomes> homes;
        std::unique_ptr<cluster::Reservations> reservations;
        std::unique_ptr<Serving> serving;
    };

    void connect() {
        for (std::uint32_t i = 0; i != options_.nodes; ++i) {
            nodes_[i]->bus =
                std::make_unique<SimBus>(network_, nodes_[i]->home, geometry_, i, options_.nodes);
        }
        for (const auto& node : nodes_) {
            EXPECT_TRUE(loop_.run_until_done(node->bus->bus().start()));
        }
    }

    /// What is told to one node comes in its order.
    void tell(std::uint32_t from, std::uint32_t to, const cluster::Words& words) {
        const std::uint64_t now = loop_.now().value;
        std::uint64_t& arrival = told_[{from, to}];
        arrival = std::max(arrival, now + options_.delay.draw(loop_.rng()));
        loop_.after(arrival - now, [this, from, to, text = words.dump()] {
            const auto taken =
                nodes_[to]->reservations->told(from + 1, cluster::Words::parse(text));
            EXPECT_TRUE(taken) << text;
        });
    }

    // HomeListener
    void member_failing(MemberIndex member, HomeFault what, int) override {
        faults_.push_back(what);
        loop_.after(options_.verdict_nanos + slowly(), [this, member] { give_verdict(member); });
    }
    /// As the level can do without it.
    void give_verdict(MemberIndex member) {
        cluster::Home& home = this->home(home_of_[raw(member)]);
        if (!home.has(member)) return;
        const auto lost = configuration_.lost_count();
        if (!is_lost(member) && lost >= geometry_.parities()) return home.keep(member);
        suspend(member);
    }
    /// Storing it takes a while, then every node adopts it, and then it is in force.
    void decide(MemberIndex member, MemberState state) {
        configuration_.member(member)->state = state;
        configuration_.version = {configuration_.version.epoch + 256, 0};
        const Configuration wanted = configuration_;
        if (options_.delay.held != nullptr) return tell_held(wanted);
        loop_.after(slowly(), [this, wanted] {
            auto left = std::make_shared<std::size_t>(nodes_.size());
            for (std::uint32_t i = 0; i != nodes_.size(); ++i) {
                Node* at = nodes_[i].get();
                const std::uint64_t late = options_.late_adopter == i ? SimLate::nanos : 0;
                loop_.after(slowly() + late, [this, at, wanted, left] {
                    at->adopt(wanted);
                    if (--*left == 0) tell_in_force(wanted);
                });
            }
        });
    }
    /// In any order, and in force when all have adopted it, whoever was the last.
    void tell_held(const Configuration& wanted) {
        HeldMessages* const held = options_.delay.held;
        auto adopted_in = std::make_shared<std::vector<std::uint32_t>>();
        for (std::uint32_t i = 0; i != nodes_.size(); ++i) {
            held->send({decider_channel, i}, [this, held, i, wanted, adopted_in] {
                nodes_[i]->adopt(wanted);
                adopted_in->push_back(held->steps() - 1);
                if (adopted_in->size() != nodes_.size()) return;
                for (std::uint32_t to = 0; to != nodes_.size(); ++to) {
                    auto arrive = [at = nodes_[to].get(), wanted] {
                        at->home.in_force(wanted);
                        at->decider.in_force(wanted);
                    };
                    held->send({decider_channel, to}, std::move(arrive), *adopted_in);
                }
            });
        }
    }
    void tell_in_force(const Configuration& wanted) {
        for (const auto& node : nodes_) {
            Node* at = node.get();
            loop_.after(slowly(), [at, wanted] {
                at->home.in_force(wanted);
                at->decider.in_force(wanted);
            });
        }
    }
    std::uint64_t slowly() { return 1 + loop_.rng().below(20'000'000); }

    static Configuration configuration_of(const SimClusterOptions& options) {
        Configuration configuration;
        configuration.level = options.level;
        configuration.strip_size = options.strip_size;
        configuration.member_count = options.members;
        configuration.stripes = options.stripes;
        for (std::uint32_t i = 0; i != options.members; ++i) {
            MemberRecord record;
            record.role = MemberIndex{i};
            record.state = i < options.lost ? MemberState::missing : MemberState::in_sync;
            record.uuid.bytes[0] = static_cast<std::uint8_t>(i + 1);
            record.data_offset = data_offset;
            configuration.members.push_back(record);
        }
        for (std::uint64_t i = 0; i != options.volumes; ++i) {
            const std::uint64_t first = i * options.stripes / options.volumes;
            const std::uint64_t end = (i + 1) * options.stripes / options.volumes;
            configuration.volumes.push_back({std::to_string(i), StripeIndex{first}, end - first});
        }
        return configuration;
    }
    void attach(MemberIndex member) {
        const std::uint32_t homes = options_.homes == 0 ? options_.nodes : options_.homes;
        auto platter =
            std::make_shared<SimPlatter>(data_offset + options_.stripes * options_.strip_size);
        platter->zero_fast = options_.zero_fast;
        platter->latency_nanos = options_.disk_nanos;
        home_of_.push_back(raw(member) % homes);
        nodes_[home_of_.back()]->home.attach(
            member, std::make_unique<SimDisk>(loop_, platter, "m" + std::to_string(raw(member))),
            area);
        platters_.push_back(std::move(platter));
    }
    /// Parity fits what the members hold; with nothing to spare it always does.
    bool is_true(StripeIndex stripe, std::uint64_t at) const {
        if (configuration_.lost_count() == geometry_.parities()) return true;
        BRAID_REQUIRE(configuration_.lost_count() <= 1);
        Buffer computed(row_size);
        std::vector<const std::byte*> strips;  // by role
        std::optional<Role> lost;
        for (const Role role : RoleSet::first(geometry_.member_count)) {
            const MemberIndex member = geometry_.member_of(stripe, role);
            if (is_lost(member)) lost = role;
            strips.push_back(is_lost(member)
                                 ? computed.data()
                                 : platters_[raw(member)]->content.data() + data_offset +
                                       geometry_.strip_offset(stripe).value + at);
        }
        const std::size_t data = geometry_.data_count();
        const std::byte* p = strips[data];
        const std::byte* q = geometry_.parities() == 2 ? strips[data + 1] : nullptr;
        if (lost && raw(*lost) < data) {  // by P, so that Q still says something
            std::vector<const std::byte*> others = strips;
            others.resize(data);
            others[raw(*lost)] = p;
            parity::compute_p(computed.span(), {others.data(), others.size()});
        }
        Buffer right(row_size);
        const auto fits = [&](const std::byte* strip) {
            return strip == nullptr || strip == computed.data() ||
                   std::memcmp(strip, right.data(), row_size) == 0;
        };
        parity::compute_p(right.span(), {strips.data(), data});
        if (!fits(p)) return false;
        parity::compute_q(right.span(), {strips.data(), data});
        return fits(q);
    }

    SimClusterOptions options_;
    SimLoop loop_;
    SimNetwork network_;
    Configuration configuration_;  // the newest that was decided
    std::vector<HomeFault> faults_;
    Geometry geometry_;
    std::vector<std::uint32_t> home_of_;
    std::vector<std::shared_ptr<SimPlatter>> platters_;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> told_;  // when the last comes
    std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace braid::sim
