// SPDX-License-Identifier: BSD-3-Clause
// Whole nodes in one thread and one seed: each has its ClusterNode and the array that it serves, on
// disks and a network that are simulated. What a node's server does, without its process.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/node/cluster_node.h"
#include "parity/parity.h"
#include "tests/sim/sim_create.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_net.h"

namespace braid::sim {

struct SimNodesOptions {
    std::uint64_t seed{1};
    Level level{Level::raid5};
    std::uint32_t members{4};
    std::uint32_t nodes{3};
    std::uint32_t homes{0};  // the first ones have the members; 0: all nodes do
    std::uint64_t strip_size{16u << 10};
    std::uint64_t stripes{8};
    bool zero_fast{true};  // else a new array has a resync to do
    bool made{true};       // else there is no array yet
    SimNetShape net{};
    bool exclusive{false};    // the volume, "data"
    std::uint64_t region{0};  // bytes of data that a mark covers; 0: as many as by default
    cluster::NoQuorum no_quorum{cluster::NoQuorum::error};
    std::uint32_t lease_ms{lease_ms_default};
    bool own_loops{false};  // each node has a part of the loop: it can die alone, or stand still
    std::uint64_t drift_ppm{0};  // then its clock differs by up to this much
    cluster::Reads reads{cluster::Reads::lease};
    std::uint32_t slow_nodes{0};  // with `own_loops`: the clocks of the first ones are slower
    std::uint64_t slow_ppm{0};    // by this much
    bool clocks_stand{false};     // and stand while their node does
};

/// What of a node goes: its process, and its connections are closed; or its host, nothing more is
/// heard of it, and what its members had not made durable is gone.
enum class Dies : std::uint8_t { process, host };

class SimNodes {
  public:
    static constexpr std::uint64_t data_offset = 4u << 20;

    explicit SimNodes(SimNodesOptions options)
        : options_(options), loop_(options.seed), network_(loop_, options.net) {
        loop_.let_events_interrupt();
        for (std::uint32_t i = 0; i != options_.members; ++i) {
            platters_.push_back(make_platter());
            paths_.push_back("m" + std::to_string(i));
        }
        if (options_.made) create();
        nodes_.resize(options_.nodes);
    }
    ~SimNodes() { lose_power(); }
    SimNodes(const SimNodes&) = delete;
    SimNodes& operator=(const SimNodes&) = delete;

    SimLoop& loop() { return loop_; }
    /// Of all nodes that begin from now on.
    void set_member_timeout(Nanos timeout) { member_timeout_ = timeout; }
    const Geometry& geometry() const { return geometry_; }
    std::uint32_t nodes() const { return options_.nodes; }
    std::uint32_t home_of(std::uint32_t member) const {
        return member % (options_.homes == 0 ? options_.nodes : options_.homes);
    }
    SimPlatter& platter(std::uint32_t member) { return *platters_[member]; }
    std::shared_ptr<SimPlatter> shared_platter(std::uint32_t member) { return platters_[member]; }
    /// It has that role from now on.
    void set_platter(std::uint32_t member, std::shared_ptr<SimPlatter> platter) {
        platters_[member] = std::move(platter);
    }
    void set_platter(std::uint32_t member, std::shared_ptr<SimPlatter> platter, std::string path) {
        set_platter(member, std::move(platter));
        paths_[member] = std::move(path);
    }
    /// The member's node has one more disk from now on, or only those with a role.
    void put_beside(std::uint32_t member, std::shared_ptr<SimPlatter> platter, std::string path) {
        beside_[member] = {std::move(platter), std::move(path)};
    }
    SimPlatter* beside(std::uint32_t member) {
        const auto at = beside_.find(member);
        return at == beside_.end() ? nullptr : at->second.platter.get();
    }
    const std::string& path_of(std::uint32_t member) const { return paths_[member]; }
    void put_away(std::uint32_t member) { beside_.erase(member); }
    /// A server has it open.
    bool is_open(std::uint32_t member) const { return platters_[member].use_count() != 1; }
    std::shared_ptr<SimPlatter> make_platter() {
        auto platter =
            std::make_shared<SimPlatter>(data_offset + options_.stripes * options_.strip_size);
        platter->zero_fast = options_.zero_fast;
        return platter;
    }
    std::unique_ptr<Disk> disk(const std::shared_ptr<SimPlatter>& platter, std::string path) {
        return std::make_unique<SimDisk>(loop_, platter, std::move(path));
    }
    /// For an order on that node.
    std::unique_ptr<Disk> disk_at(std::uint32_t node, const std::shared_ptr<SimPlatter>& platter,
                                  std::string path) {
        return std::make_unique<SimDisk>(loop_of(node), platter, std::move(path));
    }
    /// What runs on a node, and dies with it.
    SimLoop& loop_of(std::uint32_t node) { return nodes_[node]->loop(); }
    Array& array(std::uint32_t node) { return *nodes_[node]->array; }
    cluster::ClusterNode& node(std::uint32_t node) { return *nodes_[node]->node; }
    bool is_up(std::uint32_t node) const { return nodes_[node] != nullptr; }
    bool is_leaving(std::uint32_t node) const { return nodes_[node]->leaving; }
    /// Its server was told that others have gone on without it.
    bool is_excluded(std::uint32_t node) const { return nodes_[node]->excluded; }
    /// Its server was told that it has left, by order.
    bool is_left(std::uint32_t node) const { return nodes_[node]->left; }

    /// All nodes at once, in any order; until each serves.
    void start() {
        for (std::uint32_t i = 0; i != options_.nodes; ++i) begin(i);
        wait_until_all_serve();
    }
    void wait_until_all_serve() {
        for (const auto& node : nodes_) {
            run_until([&] { return node->over; }, "it serves");
            ASSERT_TRUE(node->array != nullptr) << node->refusal;
        }
        geometry_ = Geometry::of(nodes_[0]->array->configuration());
    }
    /// A node's server is told to stop before it serves, and ends.
    void cancel(std::uint32_t node) {
        EXPECT_TRUE(nodes_[node]->node->cancel_start());
        run_until([&] { return nodes_[node]->over; }, "it does not wait any more");
        EXPECT_FALSE(nodes_[node]->array);
        loop_of(node).tasks().spawn(run_stop(nodes_[node].get()));
        run_until([&] { return nodes_[node]->stopped; }, "the server ends");
        nodes_[node].reset();
    }
    /// One server has all members, until it has lost this one and is stopped.
    void lose_alone(std::uint32_t member) {
        std::vector<std::unique_ptr<Disk>> disks = all_disks();
        ArrayOptions options;
        options.buffer_size = 16u << 20;
        options.seed = loop_.rng().next();
        auto array = loop_.run_until_done(
            Array::open(loop_.ready(), loop_, std::move(disks), std::move(options)));
        ASSERT_TRUE(array) << array.error().text;
        platter(member).dead = true;
        const auto is_lost = [&] {
            return (*array)->status().members[member].record.state == MemberState::faulty;
        };
        Buffer zeroes(64u << 10);
        for (int i = 0; i != 20 && !is_lost(); ++i) {
            IoRequest request;
            request.kind = IoKind::write;
            request.size = zeroes.size();
            request.data = zeroes.data();
            (void)loop_.run_until_done(ask_of(**array, request));
        }
        EXPECT_TRUE(is_lost());
        EXPECT_TRUE(loop_.run_until_done((*array)->stop()));
    }
    /// A node's server begins to start.
    void begin(std::uint32_t node) {
        nodes_[node] = std::make_unique<Node>(*this, node);
        loop_of(node).tasks().spawn(run_start(nodes_[node].get()));
    }
    /// Node `first` is told to stop, and the others when it has.
    void stop(std::uint32_t first) {
        EXPECT_TRUE(loop_.run_until_done(nodes_[first]->array->stop()));
        for (std::uint32_t i = 0; i != options_.nodes; ++i) {
            EXPECT_TRUE(loop_.run_until_done(nodes_[i]->array->stop()))
                << "node " << i << ": " << log(i);
        }
        end_servers();
    }
    /// A node's server is told to stop: its array stops, in whatever way, and it ends.
    void leave(std::uint32_t node) { loop_of(node).tasks().spawn(run_leave(nodes_[node].get())); }
    bool has_left(std::uint32_t node) const { return nodes_[node]->stopped; }
    /// The same, in whatever state it is; once it has left, forget() it.
    void begin_to_end(std::uint32_t node) {
        Node* const at = nodes_[node].get();
        if (at->leaving) return;
        at->leaving = true;
        if (!at->over) (void)at->node->cancel_start();
        loop_of(node).tasks().spawn(run_end(at));
    }
    void forget(std::uint32_t node) { nodes_[node].reset(); }
    /// It ends where it stands; with `own_loops`.
    void kill(std::uint32_t node, Dies what) {
        Node& at = *nodes_[node];
        for (std::uint32_t other = 0; other != options_.nodes && what == Dies::host; ++other) {
            if (other != node) network_.cut_one_side(host_of(node), host_of(other));
        }
        each_platter([&](std::uint32_t member, SimPlatter& platter) {
            if (home_of(member) == node) platter.crash(loop_.rng());
        });
        network_.crash(host_of(node), [&] {
            at.own_loop->crash([&at] {
                if (at.node) at.node->abandon();
                at.array.reset();
                at.node.reset();
            });
        });
        nodes_[node].reset();
        if (what == Dies::host) lose_power_of(node);
    }
    void stand_still(std::uint32_t node, bool still) { loop_of(node).stand_still(still); }
    bool stands_still(std::uint32_t node) { return loop_of(node).stands_still(); }
    /// All that one sends to the other takes longer.
    void slow_way(std::uint32_t from, std::uint32_t to, Nanos by) {
        network_.slow(host_of(from), host_of(to), by);
    }
    void release_way(std::uint32_t from, std::uint32_t to) {
        network_.release(host_of(from), host_of(to));
    }
    /// A node that is excluded, or cut off: its server ends, and is started anew.
    void restart(std::uint32_t node) {
        end(node);
        begin(node);
    }
    /// The server of one node ends, whether it serves, waits, or has been refused.
    void end(std::uint32_t node) {
        if (!nodes_[node]) return;
        Node* const at = nodes_[node].get();
        if (!at->over && at->node->cancel_start()) {
            run_until([&] { return at->over; }, "it does not wait any more");
        }
        if (!at->stopped) {
            // Where it has been told of the array, and is not let in yet, it hears what comes of it.
            run_until([&] { return at->over; }, "its start ends");
            at->loop().tasks().spawn(at->array ? run_leave(at) : run_stop(at));
            run_until([&] { return at->stopped; }, "the server ends");
        }
        nodes_[node].reset();
    }
    /// After the arrays have been stopped.
    void end_servers() {
        for (const auto& node : nodes_) {
            if (!node || node->stopped) continue;
            run_until([&] { return node->over; }, "its start ends");
            node->loop().tasks().spawn(run_stop(node.get()));
        }
        for (const auto& node : nodes_) {
            if (node) run_until([&] { return node->stopped; }, "the server ends");
        }
        for (auto& node : nodes_) node.reset();
    }
    /// The servers are gone, and what no member had in memory safe from that.
    void lose_power() {
        each_platter([&](std::uint32_t, SimPlatter& platter) { platter.crash(loop_.rng()); });
        loop_.crash([this] {
            for (auto& node : nodes_) node.reset();
        });
        each_platter([&](std::uint32_t, SimPlatter& platter) { platter.cut_power(loop_.rng()); });
    }
    /// Of a host whose server has ended: what its members had not made durable is gone.
    void lose_power_of(std::uint32_t node) {
        each_platter([&](std::uint32_t member, SimPlatter& platter) {
            if (home_of(member) == node) platter.cut_power(loop_.rng());
        });
    }
    /// Every stripe's P and Q on the platters, when all is stopped.
    void expect_parity() {
        for (std::uint64_t s = 0; s != geometry_.stripes; ++s) {
            const StripeIndex stripe{s};
            const auto strip = [&](Role role) {
                return platters_[raw(geometry_.member_of(stripe, role))]->content.data() +
                       data_offset + geometry_.strip_offset(stripe).value;
            };
            std::vector<const std::byte*> data;
            for (const Role role : geometry_.data_roles()) data.push_back(strip(role));
            const ByteView p{strip(geometry_.p()), geometry_.strip_size};
            EXPECT_TRUE(
                geometry_.parities() == 2
                    ? parity::matches_pq(p, {strip(geometry_.q()), geometry_.strip_size}, data)
                    : parity::matches_p(p, data))
                << "stripe " << s;
        }
    }
    /// The node is cut off from all others, for good.
    void isolate(std::uint32_t node) {
        hold_sent_by(node);
        hold_sent_to(node);
    }
    /// What the node sends to the others is held back, or what they send to it.
    void hold_sent_by(std::uint32_t node) {
        each_other(node, [this](const std::string& self, const std::string& other) {
            network_.hold(self, other);
        });
    }
    void hold_sent_to(std::uint32_t node) {
        each_other(node, [this](const std::string& self, const std::string& other) {
            network_.hold(other, self);
        });
    }
    void release(std::uint32_t node) {
        each_other(node, [this](const std::string& self, const std::string& other) {
            network_.release(self, other);
            network_.release(other, self);
        });
    }
    /// Two nodes do not reach each other any more.
    void part(std::uint32_t a, std::uint32_t b) {
        network_.hold(host_of(a), host_of(b));
        network_.hold(host_of(b), host_of(a));
    }
    /// What one sends to the other does not come.
    void hold_way(std::uint32_t from, std::uint32_t to) {
        network_.hold(host_of(from), host_of(to));
    }
    void cut(std::uint32_t a, std::uint32_t b, CutSides sides = CutSides::both) {
        if (sides == CutSides::one) return network_.cut_one_side(host_of(a), host_of(b));
        network_.cut(host_of(a), host_of(b));
    }

    Task<Result<void>> ask(std::uint32_t node, IoRequest request) {
        // Its server has no clients any more, or none yet.
        if (!nodes_[node] || !nodes_[node]->array || nodes_[node]->leaving) return nobody_serves();
        return ask_of(*nodes_[node]->array, request);
    }
    Result<void> flush(std::uint32_t node) {
        IoRequest request;
        request.kind = IoKind::flush;
        const auto result = std::make_shared<std::optional<Result<void>>>();
        loop_.tasks().spawn(keep(ask(node, request), result));
        run_until([&] { return result->has_value(); }, "the flush ends");
        return *result ? **result : Result<void>(Error{Errc::failed, "in vain"});
    }
    /// start() is over; and why it was refused.
    bool has_begun(std::uint32_t node) const { return nodes_[node]->over; }
    const std::string& refusal(std::uint32_t node) const { return nodes_[node]->refusal; }
    /// What people were told on this node.
    std::string log(std::uint32_t node) const { return nodes_[node]->log; }
    void run_until(const std::function<bool()>& condition, const char* what) {
        const Nanos end{loop_.now().value + seconds(600).value};
        while (!condition()) {
            ASSERT_LT(loop_.now().value, end.value) << "in vain: " << what << logs();
            ASSERT_TRUE(loop_.step()) << "nothing happens any more: " << what << logs();
        }
    }
    std::string logs() const {
        std::string all;
        for (std::size_t i = 0; i != nodes_.size(); ++i) {
            if (nodes_[i]) all += "\nnode " + std::to_string(i) + ":\n" + nodes_[i]->log;
        }
        return all;
    }

  private:
    struct Node {
        Node(SimNodes& nodes, std::uint32_t self)
            : own_loop(nodes.options_.own_loops ? std::make_unique<SimLoop>(nodes.loop_) : nullptr),
              whole_loop(nodes.loop_),
              net(nodes.network_, host_of(self)) {
            if (const std::uint64_t drift = nodes.options_.drift_ppm; own_loop && drift != 0) {
                Rng drawn(nodes.options_.seed * 64 + self);  // the same at each start
                const std::uint64_t by = drawn.below(drift + 1);
                own_loop->let_stamps_differ(by % 2 == 0 ? by : 0, by % 2 == 0 ? 0 : by);
            }
            if (own_loop && self < nodes.options_.slow_nodes) {
                own_loop->let_stamps_differ(0, nodes.options_.slow_ppm);
            }
            if (own_loop && nodes.options_.clocks_stand) own_loop->let_stamps_stand();
            cluster::ClusterConfig config;
            config.name = "sim";
            config.reads = nodes.options_.reads;
            if (nodes.options_.exclusive) config.exclusive = {"data"};
            config.no_quorum = nodes.options_.no_quorum;
            config.lease_ms = nodes.options_.lease_ms;
            for (std::uint32_t i = 0; i != nodes.options_.nodes; ++i) {
                config.nodes.push_back({i + 1, {address_of(i)}, {}});
            }
            ArrayOptions options;
            options.buffer_size = 16u << 20;
            options.seed = nodes.loop_.rng().next();
            if (nodes.options_.region != 0) options.intent.region = nodes.options_.region;
            options.member_timeout = nodes.member_timeout_;
            options.on_event = [this](const ArrayEvent& event) { log += event.text + "\n"; };
            node = std::make_unique<cluster::ClusterNode>(cluster::ClusterNode::Setup{
                loop().ready(),
                loop(),
                net,
                std::move(config),
                self + 1,
                std::nullopt,
                nodes.loop_.rng().next() | 1,
                nodes.loop_.rng().next(),
                std::move(options),
                [this](Severity, const std::string& text) { log += text + "\n"; },
                {},
                [this] { excluded = true; },
                [this] { left = true; }});
            for (std::uint32_t i = 0; i != nodes.platters_.size(); ++i) {
                if (nodes.home_of(i) != self) continue;
                node->put_disk(
                    std::make_unique<SimDisk>(loop(), nodes.platters_[i], nodes.paths_[i]));
                const auto beside = nodes.beside_.find(i);
                if (beside == nodes.beside_.end()) continue;
                node->put_disk(
                    std::make_unique<SimDisk>(loop(), beside->second.platter, beside->second.path));
            }
        }
        ~Node() {
            if (node) node->abandon();
        }
        SimLoop& loop() { return own_loop ? *own_loop : whole_loop; }
        std::unique_ptr<SimLoop> own_loop;
        SimLoop& whole_loop;
        SimNet net;
        std::unique_ptr<cluster::ClusterNode> node;
        std::unique_ptr<Array> array;  // goes first
        std::string log;
        std::string refusal;
        bool over{false};
        bool leaving{false};
        bool stopped{false};
        bool excluded{false};
        bool left{false};
    };

    template <class Each>
    void each_platter(Each each) {
        for (std::uint32_t i = 0; i != platters_.size(); ++i) each(i, *platters_[i]);
        for (const auto& [member, beside] : beside_) each(member, *beside.platter);
    }
    template <class Each>
    void each_other(std::uint32_t node, Each each) {
        for (std::uint32_t other = 0; other != options_.nodes; ++other) {
            if (other != node) each(host_of(node), host_of(other));
        }
    }
    static std::string host_of(std::uint32_t node) { return "10.0.0." + std::to_string(node + 1); }
    static NetAddress address_of(std::uint32_t node) {
        return {AddressKind::ip4, host_of(node), 10810};
    }
    static Task<void> keep(Task<Result<void>> task,
                           std::shared_ptr<std::optional<Result<void>>> result) {
        *result = co_await task;
    }
    static Task<Result<void>> nobody_serves() { co_return Error{Errc::failed, "node"}; }
    static Task<void> run_start(Node* at) {
        Checked<std::unique_ptr<Array>> started = co_await at->node->start();
        if (started) {
            at->array = std::move(started).value();
        } else {
            at->refusal = started.error().text;
        }
        at->over = true;
    }
    static Task<void> run_stop(Node* at) {
        co_await at->node->stop();
        at->array.reset();
        at->node.reset();
        at->stopped = true;
    }
    static Task<void> run_leave(Node* at) {
        at->leaving = true;
        (void)co_await at->array->stop();
        co_await run_stop(at);
    }
    static Task<void> run_end(Node* at) {
        while (!at->over) {
            Timer timer(at->loop(), Nanos{at->loop().now().value + millis(5).value});
            co_await timer;
        }
        if (at->array) (void)co_await at->array->stop();
        co_await run_stop(at);
    }
    std::vector<std::unique_ptr<Disk>> all_disks() {
        std::vector<std::unique_ptr<Disk>> disks;
        for (std::uint32_t i = 0; i != platters_.size(); ++i) {
            disks.push_back(disk(platters_[i], "m" + std::to_string(i)));
        }
        return disks;
    }
    void create() {
        std::vector<std::unique_ptr<Disk>> disks = all_disks();
        CreateOptions how;
        how.level = options_.level;
        how.strip_size = options_.strip_size;
        how.name = "sim";
        how.wall_seconds = loop_.wall_seconds();
        geometry_ = Geometry::of(create_on(loop_, disks, disks.size(), how));
    }

    SimNodesOptions options_;
    SimLoop loop_;
    Nanos member_timeout_{};
    SimNetwork network_;
    Geometry geometry_;
    struct Beside {
        std::shared_ptr<SimPlatter> platter;
        std::string path;
    };
    std::vector<std::shared_ptr<SimPlatter>> platters_;
    std::vector<std::string> paths_;          // of them, where they are
    std::map<std::uint32_t, Beside> beside_;  // by the member whose role it may get
    std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace braid::sim
