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
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/node/cluster_node.h"
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
    std::map<std::uint32_t, std::uint32_t>
        lease_ms_at{};  // by node, where its file has another one
    std::uint32_t heartbeat_ms{heartbeat_ms_default};
    std::uint32_t channels{1};  // addresses of each node
    std::uint32_t start_wait_ms{start_wait_ms_default};
    bool own_loops{false};  // each node has a part of the loop: it can die alone, or stand still
    std::uint64_t drift_ppm{0};  // then its clock differs by up to this much
    cluster::Reads reads{cluster::Reads::lease};
    std::optional<std::uint32_t> witness{};  // the node that has it
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

    explicit SimNodes(SimNodesOptions options);
    ~SimNodes() { lose_power(); }
    SimNodes(const SimNodes&) = delete;
    SimNodes& operator=(const SimNodes&) = delete;

    SimLoop& loop() { return loop_; }
    /// For servers that begin from now on.
    void set_force(bool force) { force_ = force; }
    void set_member_timeout(Nanos timeout) { member_timeout_ = timeout; }
    void set_rebuild_delay(Nanos delay) { rebuild_delay_ = delay; }
    const Geometry& geometry() const { return geometry_; }
    std::uint32_t nodes() const { return options_.nodes; }
    /// Of the witness, which comes after the members, too.
    std::uint32_t home_of(std::uint32_t member) const {
        if (member == options_.members) return *options_.witness;
        return member % (options_.homes == 0 ? options_.nodes : options_.homes);
    }
    SimPlatter& witness() { return *platters_[options_.members]; }
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
    /// A node has one more disk from now on, which no role is meant for.
    void put_spare(std::uint32_t node, std::shared_ptr<SimPlatter> platter, std::string path) {
        spares_.push_back({node, {std::move(platter), std::move(path)}});
    }
    void put_spares_away() { spares_.clear(); }
    const std::string& path_of(std::uint32_t member) const { return paths_[member]; }
    void put_away(std::uint32_t member) { beside_.erase(member); }
    /// A server has it open.
    bool is_open(std::uint32_t member) const;
    std::shared_ptr<SimPlatter> make_platter();
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
    bool is_excluded(std::uint32_t node) const { return ends(node) == cluster::NodeEnds::excluded; }
    /// Its server was told that it has left, by order.
    bool is_left(std::uint32_t node) const { return ends(node) == cluster::NodeEnds::left; }
    /// Why its server was told to end, if it was.
    std::optional<cluster::NodeEnds> ends(std::uint32_t node) const { return nodes_[node]->ends; }

    /// All nodes at once, in any order; until each serves.
    void start() {
        for (std::uint32_t i = 0; i != options_.nodes; ++i) begin(i);
        wait_until_all_serve();
    }
    void wait_until_all_serve();
    /// A node's server is told to stop before it serves, and ends.
    void cancel(std::uint32_t node);
    /// One server has all members, until it has lost this one and is stopped.
    void lose_alone(std::uint32_t member);
    /// A node's server begins to start.
    void begin(std::uint32_t node);
    /// Node `first` is told to stop, and the others when it has.
    void stop(std::uint32_t first);
    /// A node's server is told to stop: its array stops, in whatever way, and it ends.
    void leave(std::uint32_t node) { loop_of(node).tasks().spawn(run_leave(nodes_[node].get())); }
    bool has_left(std::uint32_t node) const { return nodes_[node]->stopped; }
    /// The same, in whatever state it is; once it has left, forget() it.
    void begin_to_end(std::uint32_t node);
    void forget(std::uint32_t node) { nodes_[node].reset(); }
    /// It ends where it stands; with `own_loops`.
    void kill(std::uint32_t node, Dies what);
    void stand_still(std::uint32_t node, bool still) { loop_of(node).stand_still(still); }
    /// Its clocks jump; with `own_loops`.
    void jump(std::uint32_t node, Nanos stamp_ahead, std::uint64_t wall_seconds) {
        loop_of(node).jump(stamp_ahead, wall_seconds);
    }
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
    void end(std::uint32_t node);
    /// After the arrays have been stopped.
    void end_servers();
    /// The servers are gone, and what no member had in memory safe from that.
    void lose_power();
    /// Of a host whose server has ended: what its members had not made durable is gone.
    void lose_power_of(std::uint32_t node);
    /// Every row's P and Q on the platters, when all is stopped; but for rows that are to be tried
    /// again, whose parity nobody trusts.
    void expect_parity(const std::set<RowIndex>& untrusted = {});
    /// The node is cut off from all others, for good.
    void isolate(std::uint32_t node) {
        hold_sent_by(node);
        hold_sent_to(node);
    }
    /// What the node sends to the others is held back, or what they send to it.
    void hold_sent_by(std::uint32_t node);
    void hold_sent_to(std::uint32_t node);
    void release(std::uint32_t node);
    /// Two nodes do not reach each other any more.
    void part(std::uint32_t a, std::uint32_t b) {
        network_.hold(host_of(a), host_of(b));
        network_.hold(host_of(b), host_of(a));
    }
    /// What one sends to the other does not come.
    void hold_way(std::uint32_t from, std::uint32_t to) {
        network_.hold(host_of(from), host_of(to));
    }
    /// One of a node's cables: what goes by that address of it is held back.
    void unplug(std::uint32_t node, std::uint32_t channel) {
        network_.unplug(address_of(node, channel));
    }
    void plug(std::uint32_t node, std::uint32_t channel) {
        network_.plug(address_of(node, channel));
    }
    std::uint32_t channels() const { return options_.channels; }
    /// Which nodes this one's file of the cluster has from now on.
    void set_file(std::uint32_t node, std::set<std::uint32_t> nodes) {
        files_[node] = std::move(nodes);
    }
    /// It cannot be read, or only after so long.
    void hold_file(std::uint32_t node) { files_held_.insert(node); }
    void release_file(std::uint32_t node) { files_held_.erase(node); }
    /// A machine more, with the next number, on which nothing runs; members stay where they are. Only its own
    /// file has it.
    std::uint32_t add_machine();
    void cut(std::uint32_t a, std::uint32_t b, CutSides sides = CutSides::both) {
        if (sides == CutSides::one) return network_.cut_one_side(host_of(a), host_of(b));
        network_.cut(host_of(a), host_of(b));
    }

    Task<Result<void>> ask(std::uint32_t node, IoRequest request);
    /// A client's read or write of the first bytes, until it is answered.
    Result<void> ask_first(std::uint32_t node, IoKind kind, Buffer& data);
    Result<void> flush(std::uint32_t node);
    /// start() is over; and why it was refused.
    bool has_begun(std::uint32_t node) const { return nodes_[node]->over; }
    const std::string& refusal(std::uint32_t node) const { return nodes_[node]->refusal; }
    /// What people were told on this node.
    std::string log(std::uint32_t node) const { return nodes_[node]->log; }
    void run_until(const std::function<bool()>& condition, const char* what);
    std::string logs() const;

  private:
    struct Node {
        Node(SimNodes& nodes, std::uint32_t self);
        ~Node();
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
        std::optional<cluster::NodeEnds> ends;
    };

    template <class Each>
    void each_platter(Each each) {
        for (std::uint32_t i = 0; i != platters_.size(); ++i) each(home_of(i), *platters_[i]);
        for (const auto& [member, beside] : beside_) each(home_of(member), *beside.platter);
        for (const auto& [node, spare] : spares_) each(node, *spare.platter);
    }
    template <class Each>
    void each_other(std::uint32_t node, Each each) {
        for (std::uint32_t other = 0; other != options_.nodes; ++other) {
            if (other != node) each(host_of(node), host_of(other));
        }
    }
    static std::string host_of(std::uint32_t node) { return "10.0.0." + std::to_string(node + 1); }
    static NetAddress address_of(std::uint32_t node, std::uint32_t channel) {
        return {AddressKind::ip4,
                "10." + std::to_string(channel) + ".0." + std::to_string(node + 1), 10810};
    }
    static Task<void> keep(Task<Result<void>> task,
                           std::shared_ptr<std::optional<Result<void>>> result);
    static Task<Result<void>> nobody_serves();
    cluster::ClusterConfig config_of(std::uint32_t node) const;
    Task<Checked<cluster::ClusterConfig>> read_config(std::uint32_t node);
    static Task<void> run_start(Node* at);
    static Task<void> run_stop(Node* at);
    static Task<void> run_leave(Node* at);
    static Task<void> run_end(Node* at);
    std::vector<std::unique_ptr<Disk>> all_disks();
    void create();

    SimNodesOptions options_;
    SimLoop loop_;
    bool force_{false};
    Nanos member_timeout_{};
    Nanos rebuild_delay_{};
    SimNetwork network_;
    Geometry geometry_;
    struct Beside {
        std::shared_ptr<SimPlatter> platter;
        std::string path;
    };
    std::vector<std::shared_ptr<SimPlatter>> platters_;
    std::vector<std::string> paths_;                        // of them, where they are
    std::map<std::uint32_t, Beside> beside_;                // by the member whose role it may get
    std::vector<std::pair<std::uint32_t, Beside>> spares_;  // nodes, and what they have
    std::vector<std::unique_ptr<Node>> nodes_;
    std::vector<std::set<std::uint32_t>> files_;  // by node: which nodes its file has
    std::set<std::uint32_t> files_held_;
};

}  // namespace braid::sim
