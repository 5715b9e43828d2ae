// SPDX-License-Identifier: BSD-3-Clause
// The contract on the simulated net by several seeds, and what can go wrong there beyond it:
// connections that break for both sides or for one, what is held back, who is not let in, a crash.
#include "tests/sim/sim_net.h"

#include <gtest/gtest.h>

#include "tests/engine/net_contract.h"
#include "tests/engine/sim_net_world.h"

namespace braid::test {
namespace {

INSTANTIATE_TEST_SUITE_P(Seeds, NetContract,
                         testing::Values(NetWorldKind{"seed_2", SimNetWorld<2>::make},
                                         NetWorldKind{"seed_3", SimNetWorld<3>::make},
                                         NetWorldKind{"seed_4", SimNetWorld<4>::make},
                                         NetWorldKind{"seed_5", SimNetWorld<5>::make},
                                         NetWorldKind{"seed_6", SimNetWorld<6>::make},
                                         NetWorldKind{"seed_7", SimNetWorld<7>::make}),
                         name_of);

const std::string left = "10.0.0.1";
const std::string right = "10.0.0.2";
const NetAddress right_address{AddressKind::ip4, right, 9000};

/// Two nodes; what the contract's helpers make is from the left one to the right one.
class SimNets : public testing::Test, public NetWorld {
  protected:
    SimNets() : network_(loop_), left_(network_, left), right_(network_, right) {}

    Net& net() override { return left_; }
    ReadyQueue& ready() override { return loop_.ready(); }
    void run(Task<void> task) override { loop_.run_until_done(std::move(task)); }
    NetAddress new_address() override { return right_address; }

    /// And a bystander, who is not to be hit by what happens between the two.
    Task<void> link_up() {
        const NetAddress left_address{AddressKind::ip4, left, 9000};
        listener_ = (co_await right_.listen(right_address)).value();
        const auto own = (co_await left_.listen(left_address)).value();
        link_ = co_await make_link(this, listener_.get(), right_address);
        bystander_ = co_await make_link(this, own.get(), left_address);
    }

    void send_from(Connection* connection, ByteView bytes, std::optional<Result<void>>* result) {
        loop_.tasks().spawn(send_into(connection, bytes, result));
    }
    void receive_at(Connection* connection, std::optional<Result<std::size_t>>* result) {
        loop_.tasks().spawn(receive_into(connection, got_.span(), 1, result));
    }
    void pass(std::uint64_t ms) { loop_.run_for(millis(ms)); }

    sim::SimLoop loop_{1};
    sim::SimNetwork network_;
    sim::SimNet left_;
    sim::SimNet right_;
    std::unique_ptr<Listener> listener_;
    Link link_;
    Link bystander_;
    const Buffer bytes_ = random_bytes(100, 1);
    const Buffer much_ = random_bytes(8u << 20, 2);
    Buffer got_{100};
    std::optional<Result<void>> sent_;
    std::optional<Result<std::size_t>> received_;
};

TEST_F(SimNets, ACutIsHeardAtOnceByBothAndByNobodyElse) {
    run(link_up());
    std::optional<Result<std::size_t>> theirs;
    send_from(link_.asker.get(), much_.view(), &sent_);
    receive_at(link_.asker.get(), &received_);
    pass(10);
    EXPECT_FALSE(sent_ || received_);
    const Nanos before = loop_.now();
    network_.cut(right, left);
    receive_at(link_.asked.get(), &theirs);
    while (!sent_ || !received_ || !theirs) ASSERT_TRUE(loop_.step());
    EXPECT_EQ(loop_.now(), before);
    expect_fault(*sent_, ECONNRESET);
    expect_fault(*received_, ECONNRESET);
    expect_fault(*theirs, ECONNRESET);  // though bytes had come
    run(let_pass(&bystander_));
}

TEST_F(SimNets, OneSideMayBeUnawareOfACut) {
    run(link_up());
    std::optional<Result<std::size_t>> theirs;
    receive_at(link_.asked.get(), &theirs);
    network_.cut_one_side(left, right);
    receive_at(link_.asker.get(), &received_);
    pass(0);
    ASSERT_TRUE(received_);
    expect_fault(*received_, ECONNRESET);
    link_.asker.reset();
    send_from(link_.asked.get(), bytes_.view(), &sent_);
    pass(60'000);
    EXPECT_FALSE(theirs) << "it hears nothing more, not even an end";
    ASSERT_TRUE(sent_);
    EXPECT_TRUE(*sent_) << "and may send for a while";
    sent_.reset();
    send_from(link_.asked.get(), much_.view(), &sent_);
    pass(60'000);
    EXPECT_FALSE(sent_) << "until nothing more fits";
    link_.asked->shut();
    pass(0);
    ASSERT_TRUE(sent_ && theirs);
    expect_fault(*sent_, ECANCELED);
    expect_fault(*theirs, ECANCELED);
}

TEST_F(SimNets, WhatIsHeldBackComesWhenItIsReleased) {
    run(link_up());
    network_.hold(left, right);
    send_from(link_.asker.get(), bytes_.view(), &sent_);
    receive_at(link_.asked.get(), &received_);
    pass(60'000);
    ASSERT_TRUE(sent_);
    EXPECT_TRUE(*sent_);
    EXPECT_FALSE(received_);
    const auto back = [this] {  // the other direction is as it was
        std::optional<Result<void>> sent;
        std::optional<Result<std::size_t>> received;
        send_from(link_.asked.get(), bytes_.view(), &sent);
        receive_at(link_.asker.get(), &received);
        pass(10);
        return sent && received && *sent && *received;
    };
    EXPECT_TRUE(back());
    network_.release(left, right);
    pass(0);
    ASSERT_TRUE(received_);
    EXPECT_TRUE(*received_);
}

TEST_F(SimNets, WhatIsHeldBackMayBeLostInTheEnd) {
    run(link_up());
    network_.hold(left, right);
    send_from(link_.asker.get(), bytes_.view(), &sent_);
    pass(10);
    network_.cut(left, right);
    network_.release(left, right);
    receive_at(link_.asked.get(), &received_);
    pass(10);
    ASSERT_TRUE(received_);
    expect_fault(*received_, ECONNRESET);
}

Task<void> connect_into(Net* net, std::optional<Checked<std::unique_ptr<Connection>>>* result) {
    result->emplace(co_await net->connect(right_address));
}

TEST_F(SimNets, AHeldConnectWaitsAndHasItsTime) {
    run(link_up());
    std::optional<Checked<std::unique_ptr<Connection>>> result;
    for (const bool is_question : {true, false}) {
        const auto& [from, to] = is_question ? std::pair(left, right) : std::pair(right, left);
        network_.hold(from, to);
        loop_.tasks().spawn(connect_into(&left_, &result));
        pass(1000);
        EXPECT_FALSE(result);
        network_.release(from, to);
        pass(10);
        ASSERT_TRUE(result);
        EXPECT_TRUE(*result) << result->error().text;
        result.reset();
        network_.hold(from, to);
        loop_.tasks().spawn(connect_into(&left_, &result));
        pass(net_connect_ms + 10);
        ASSERT_TRUE(result);
        ASSERT_FALSE(*result);
        EXPECT_NE(result->error().text.find("10.0.0.2:9000: no answer in time"), std::string::npos)
            << result->error().text;
        network_.release(from, to);
        result.reset();
    }
}

TEST_F(SimNets, AnAddressMayRefuseEverybody) {
    run(link_up());
    std::optional<Checked<std::unique_ptr<Connection>>> result;
    for (const bool refused : {true, false}) {
        network_.refuse(right_address, refused);
        loop_.tasks().spawn(connect_into(&left_, &result));
        pass(10);
        ASSERT_TRUE(result);
        EXPECT_EQ(result->has_value(), !refused);
        result.reset();
    }
    run(let_pass(&link_));
}

TEST_F(SimNets, WhoHasGoneWithBytesUnreadBreaksTheConnection) {
    run(link_up());
    send_from(link_.asked.get(), bytes_.view(), &sent_);
    pass(10);
    link_.asker.reset();
    receive_at(link_.asked.get(), &received_);
    pass(10);
    ASSERT_TRUE(received_);
    expect_fault(*received_, ECONNRESET);
}

TEST_F(SimNets, ACrashDestroysWhatIsUnderWay) {
    run(link_up());
    std::optional<int> accepted;
    send_from(link_.asker.get(), much_.view(), &sent_);
    receive_at(link_.asker.get(), &received_);
    loop_.tasks().spawn(accept_result(listener_.get(), &accepted));
    pass(10);
    EXPECT_FALSE(sent_ || received_ || accepted);
    loop_.crash([this] {
        link_ = {};
        bystander_ = {};
        listener_.reset();
    });
    EXPECT_FALSE(loop_.step());
    run(link_up());  // the address is free again
    run(let_pass(&link_));
}

template <std::uint64_t seed>
Nanos time_of_much() {
    SimNetWorld<seed> world;
    world.run(both_ways(&world));
    return world.loop().now();
}
TEST(SimNet, OneSeedIsOneCourseOfThings) {
    EXPECT_EQ(time_of_much<8>(), time_of_much<8>());
    EXPECT_NE(time_of_much<8>(), time_of_much<9>());
}

}  // namespace
}  // namespace braid::test
