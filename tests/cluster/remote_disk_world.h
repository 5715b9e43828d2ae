// SPDX-License-Identifier: BSD-3-Clause
// Three nodes on the simulated network, of which one has a disk that the others use.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/bus.h"
#include "cluster/homes/disk_server.h"
#include "cluster/homes/remote_disk.h"
#include "engine/base/buffer.h"
#include "engine/base/rng.h"
#include "tests/engine/fua.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_net.h"

namespace braid::cluster::remote_disk_test {

using sim::SimDisk;
using sim::SimLoop;
using sim::SimNet;
using sim::SimNetwork;
using sim::SimPlatter;

inline constexpr std::uint32_t number = 7;             // of the disk
inline constexpr std::uint64_t data_begin = 8u << 20;  // on it
inline constexpr std::uint64_t mebi = 1u << 20;

/// A node that serves its disks, and asks others for theirs.
class DiskNode final : private BusListener {
  public:
    DiskNode(SimNetwork& network, std::uint32_t id, std::uint64_t boot, std::uint32_t nodes)
        : loop_(network.loop()),
          net_(network, host_of(id)),
          server_(network.loop().ready(), fence) {
        Bus::Setup setup{
            loop_.ready(), loop_,        net_,    {id, boot}, "sim", {address_of(id)}, {},
            id + boot,     std::nullopt, server_, *this};
        for (std::uint32_t peer = 1; peer <= nodes; ++peer) {
            if (peer != id) setup.peers.push_back({peer, {address_of(peer)}});
        }
        bus_ = std::make_unique<Bus>(std::move(setup));
        server_.bind(*bus_);
        const auto started = loop_.run_until_done(bus_->start());
        EXPECT_TRUE(started) << started.error().text;
    }
    DiskNode(const DiskNode&) = delete;
    DiskNode& operator=(const DiskNode&) = delete;
    ~DiskNode() override {
        loop_.run_until_done(bus_->stop());
        loop_.run_until_done(server_.stop());
    }

    static std::string host_of(std::uint32_t id) { return "10.0.0." + std::to_string(id); }
    DiskServer& server() { return server_; }
    Session& session(std::uint32_t node) { return bus_->session(node); }
    Fence fence;
    int ended{0};
    int restarts{0};
    std::vector<std::string> ends;

  private:
    static NetAddress address_of(std::uint32_t id) {
        return {AddressKind::ip4, host_of(id), 10810};
    }
    void connected(std::uint32_t) override {}
    void disconnected(std::uint32_t, const std::string& why) override {
        ++ended;
        ends.push_back(why);
    }
    void restarted(std::uint32_t) override { ++restarts; }
    void taken_for_gone(std::uint32_t, Goes) override {}
    void refused(const std::string&) override {}

    SimLoop& loop_;
    SimNet net_;
    DiskServer server_;
    std::unique_ptr<Bus> bus_;
};

inline DiskOp op_of(DiskOpKind kind, std::uint64_t offset, std::uint64_t size, std::byte* data) {
    DiskOp op;
    op.kind = kind;
    op.offset = offset;
    op.size = size;
    op.data = data;
    return op;
}
inline Task<int> carry_out(Disk* disk, DiskOp op) {
    DiskGroup group;
    submit(*disk, group, op);
    co_await group;
    co_return op.os_error;
}
inline Task<void> keep_error(Disk* disk, DiskOp op, std::optional<int>* os_error) {
    *os_error = co_await carry_out(disk, op);
}

inline Buffer content_of(std::uint64_t seed, std::uint64_t size) {
    Buffer content(size);
    Rng rng(seed);
    for (std::uint64_t at = 0; at != size; at += sizeof seed) {
        const std::uint64_t word = rng.next();
        std::memcpy(content.data() + at, &word, sizeof word);
    }
    return content;
}

/// Node 1 has a disk. Node 2 is the master, node 3 is another one.
class World {
  public:
    explicit World(std::uint64_t seed, std::uint64_t size = 12 * mebi)
        : loop(seed), network(loop), platter(std::make_shared<SimPlatter>(size)) {
        nodes.resize(4);
        for (std::uint32_t id = 1; id != 4; ++id) start(id, 100 + id);
        for (const std::uint32_t id : {2U, 3U}) remote[id] = disk_of(id);
    }
    /// What is under way at a server ends first.
    ~World() {
        for (std::uint32_t id = 3; id != 0; --id) {
            remote[id].reset();
            nodes[id].reset();
        }
    }
    void start(std::uint32_t id, std::uint64_t boot) {
        nodes[id] = std::make_unique<DiskNode>(network, id, boot, 3);
        if (id == 1) serve();
    }
    void serve() {
        server().put(number, std::make_shared<SimDisk>(loop, platter, "disk"));
        server().set_master(2);
        server().set_data(number, DataArea{{data_begin}}, data_begin + mebi);
    }
    void restart(std::uint32_t id, std::uint64_t boot) {
        nodes[id].reset();
        start(id, boot);
    }
    std::unique_ptr<RemoteDisk> disk_of(std::uint32_t node, std::uint32_t which = number) {
        DiskInfo info;
        info.path = "remote";
        info.size = platter->content.size();
        return std::make_unique<RemoteDisk>(nodes[node]->session(1), nodes[node]->fence, which,
                                            info);
    }
    DiskServer& server() { return nodes[1]->server(); }

    int run(Disk& disk, const DiskOp& op) { return loop.run_until_done(carry_out(&disk, op)); }
    int run(std::uint32_t node, const DiskOp& op) { return run(*remote[node], op); }
    int write(std::uint32_t node, std::uint64_t offset, Buffer&& data) {
        return write(node, offset, data);
    }
    int write(std::uint32_t node, std::uint64_t offset, Buffer& data, Fua fua = Fua::no) {
        DiskOp op = op_of(DiskOpKind::write, offset, data.size(), data.data());
        op.fua = fua == Fua::yes;
        return run(node, op);
    }
    int read(std::uint32_t node, std::uint64_t offset, Buffer& data) {
        return run(node, op_of(DiskOpKind::read, offset, data.size(), data.data()));
    }
    int flush(std::uint32_t node) { return run(node, op_of(DiskOpKind::flush, 0, 0, nullptr)); }
    int zero(std::uint32_t node, std::uint64_t offset, std::uint64_t size) {
        return run(node, op_of(DiskOpKind::zero, offset, size, nullptr));
    }
    /// It goes on beside what follows.
    std::optional<int>* begin(std::uint32_t node, const DiskOp& op) {
        std::optional<int>& os_error = errors.emplace_back();
        loop.tasks().spawn(keep_error(remote[node].get(), op, &os_error));
        return &os_error;
    }
    template <class Condition>
    bool holds_within(Nanos time, Condition holds) {
        const std::uint64_t end = loop.now().value + time.value;
        while (!holds()) {
            if (loop.now().value > end || !loop.step()) return false;
        }
        return true;
    }
    bool is_on_disk(std::uint64_t offset, const Buffer& data) const {
        return std::memcmp(platter->content.data() + offset, data.data(), data.size()) == 0;
    }

    SimLoop loop;
    SimNetwork network;
    std::shared_ptr<SimPlatter> platter;
    std::vector<std::unique_ptr<DiskNode>> nodes;  // by id
    std::unique_ptr<RemoteDisk> remote[4];         // node 1's disk, by the node that asks
    std::deque<std::optional<int>> errors;
};

}  // namespace braid::cluster::remote_disk_test
