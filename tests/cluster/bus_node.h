// SPDX-License-Identifier: BSD-3-Clause
// A node for tests of the bus, over any network.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/bus.h"
#include "engine/base/buffer.h"

namespace braid::cluster {

inline std::uint64_t number_in(ByteView body) {
    std::uint64_t number = 0;
    BRAID_REQUIRE(body.size() >= sizeof number);
    std::memcpy(&number, body.data(), sizeof number);
    return number;
}
inline std::vector<std::byte> body_of(std::uint64_t number) {
    std::vector<std::byte> body(sizeof number);
    std::memcpy(body.data(), &number, sizeof number);
    return body;
}

inline ClusterKey key_of(std::uint8_t first) {
    ClusterKey key{};
    key[0] = first;
    return key;
}

/// Content that tells whose it is.
inline Buffer payload_of(std::uint64_t number, std::size_t rows) {
    Buffer payload(rows * row_size);
    for (std::size_t i = 0; i != payload.size(); ++i) {
        payload.data()[i] = static_cast<std::byte>(number * 31 + i / 7);
    }
    return payload;
}

/// Sends commands with numbers in their bodies, answers those of others with the same number and
/// content, and sees to it that nothing comes twice, late or changed.
class BusNode final : public CommandTaker, public BusListener {
  public:
    struct World {
        ReadyQueue& ready;
        Clock& clock;
        std::unique_ptr<Net> net;
        std::function<void(Task<void>)> run;
        LeaseKeeper* leases{nullptr};
    };
    BusNode(World world, NodeBoot self, std::vector<NetAddress> addresses,
            std::vector<Bus::Peer> peers, std::string cluster, std::optional<ClusterKey> key)
        : id_(self.node), world_(std::move(world)) {
        bus_ = std::make_unique<Bus>(Bus::Setup{world_.ready,
                                                world_.clock,
                                                *world_.net,
                                                self,
                                                std::move(cluster),
                                                std::move(addresses),
                                                std::move(peers),
                                                self.node + self.boot,
                                                key,
                                                *this,
                                                *this,
                                                {},
                                                world_.leases});
    }
    /// Also in the middle of it all, after a test has failed.
    ~BusNode() override { bus_->abandon(); }
    BusNode(const BusNode&) = delete;
    BusNode& operator=(const BusNode&) = delete;
    Bus& bus() { return *bus_; }

    void start() { world_.run(started()); }
    void stop() { world_.run(bus_->stop()); }
    /// It ends where it stands, and nobody is told.
    void die() {
        bus_->abandon();
        sinks_.clear();
    }

    void ask(std::uint32_t node, std::size_t rows) {
        QueuedMessage message;
        message.header.type = MessageType::stage;
        const std::uint64_t number = ++asked_[node];
        message.body = body_of(number);
        message.payload = payload_of(number, rows);
        bus_->session(node).send(std::move(message), &sinks_.emplace_back(*this, number, rows));
    }
    void tell(std::uint32_t node) {
        QueuedMessage message;
        message.header.type = MessageType::ended;
        message.body = body_of(++asked_[node]);
        bus_->session(node).send(std::move(message));
    }
    /// Commands of this node that have come, since the peer was as it is.
    std::uint64_t came_from(std::uint32_t node) const {
        const auto at = came_.find(node);
        return at == came_.end() ? 0 : at->second;
    }
    void forget(std::uint32_t node) { came_[node] = 0; }
    std::size_t answered() const { return answered_; }
    std::size_t cut() const { return cut_; }

    std::function<void()> on_answer;
    std::vector<std::string> refusals;
    std::vector<std::string> ends;
    int connections{0};
    int restarts{0};
    int taken_for_gone_times{0};

  private:
    struct Sink final : AnswerSink {
        Sink(BusNode& whose, std::uint64_t the_number, std::size_t rows)
            : node(whose), number(the_number), into(rows * row_size) {}
        BusNode& node;
        std::uint64_t number;
        Buffer into;
        bool over{false};
        ByteSpan place(std::uint32_t size) override {
            return size == into.size() ? into.span() : ByteSpan{};
        }
        Checked<Unit> answered(const Message& answer) override {
            EXPECT_FALSE(over) << "answered twice";
            over = true;
            EXPECT_EQ(number_in(answer.body), number);
            EXPECT_EQ(into, payload_of(number, into.size() / row_size));
            ++node.answered_;
            if (node.on_answer) node.on_answer();
            return Unit{};
        }
        void cut() override {
            EXPECT_FALSE(over);
            over = true;
            ++node.cut_;
        }
    };

    Task<void> started() {
        const Checked<Unit> result = co_await bus_->start();
        EXPECT_TRUE(result) << result.error().text;
    }
    Checked<Unit> take(std::uint32_t from, const Message& command, Buffer payload) override {
        const std::uint64_t number = number_in(command.body);
        EXPECT_EQ(number, came_[from] + 1) << "of node " << from << " at node " << id_;
        came_[from] = number;
        if (command.header.type != MessageType::stage) return Unit{};
        EXPECT_EQ(payload, payload_of(number, payload.size() / row_size));
        QueuedMessage answer;
        answer.header.type = command.header.type;
        answer.header.answers = command.header.number;
        answer.body = body_of(number);
        answer.payload = std::move(payload);
        bus_->session(from).send(std::move(answer));
        return Unit{};
    }
    void forgotten(std::uint32_t) override {}
    void connected(std::uint32_t) override { ++connections; }
    void disconnected(std::uint32_t, const std::string& why) override { ends.push_back(why); }
    void restarted(std::uint32_t) override { ++restarts; }
    void taken_for_gone(std::uint32_t, Goes) override { ++taken_for_gone_times; }
    void refused(const std::string& why) override { refusals.push_back(why); }

    std::uint32_t id_;
    World world_;
    std::deque<Sink> sinks_;
    std::map<std::uint32_t, std::uint64_t> asked_;
    std::map<std::uint32_t, std::uint64_t> came_;
    std::size_t answered_{0};
    std::size_t cut_{0};
    std::unique_ptr<Bus> bus_;
};

}  // namespace braid::cluster
