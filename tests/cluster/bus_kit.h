// SPDX-License-Identifier: BSD-3-Clause
// Buses of several nodes in the simulator, as tests of them have them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/bus.h"
#include "tests/cluster/bus_node.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_net.h"

namespace braid::cluster {

using sim::SimLoop;
using sim::SimNet;
using sim::SimNetwork;

inline NetAddress address_of(std::uint32_t node) {
    return {AddressKind::ip4, "10.0.0." + std::to_string(node), 10810};
}
inline std::vector<NetAddress> addresses_of(std::uint32_t node, std::uint32_t channels) {
    std::vector<NetAddress> all;
    for (std::uint32_t i = 0; i != channels; ++i) {
        all.push_back({AddressKind::ip4, fmt::format("10.{}.0.{}", i, node), 10810});
    }
    return all;
}
inline std::string name_of_node(std::uint32_t node) { return address_of(node).host; }

inline std::unique_ptr<BusNode> node_of(SimNetwork& network, std::uint32_t id, std::uint64_t boot,
                                        const std::vector<std::uint32_t>& peers,
                                        std::string cluster = "lab",
                                        std::optional<ClusterKey> key = std::nullopt,
                                        std::uint32_t channels = 1) {
    std::vector<Bus::Peer> others;
    for (const std::uint32_t peer : peers) others.push_back({peer, addresses_of(peer, channels)});
    SimLoop& loop = network.loop();
    return std::make_unique<BusNode>(
        BusNode::World{loop.ready(), loop, std::make_unique<SimNet>(network, name_of_node(id)),
                       [&loop](Task<void> task) { loop.run_until_done(std::move(task)); }},
        NodeBoot{id, boot}, addresses_of(id, channels), std::move(others), std::move(cluster), key);
}

template <class Condition>
void run_until(SimLoop& loop, Condition holds) {
    const std::uint64_t end = loop.now().value + seconds(120).value;
    while (!holds()) {
        ASSERT_LT(loop.now().value, end) << "it takes too long";
        ASSERT_TRUE(loop.step());
    }
}

inline ChannelStatus channel_of(BusNode& node, std::uint32_t peer, std::size_t channel = 0) {
    const std::vector<ChannelStatus> all = node.bus().heartbeats().status(peer);
    BRAID_REQUIRE(channel < all.size());
    return all[channel];
}
inline bool is_up(BusNode& node, std::uint32_t peer, std::size_t channel = 0) {
    return channel_of(node, peer, channel).up;
}

/// Sends bytes, and reads until the other side closes.
inline Task<Buffer> talk(SimNet* net, NetAddress address, Buffer bytes) {
    Buffer heard(64u << 10);
    std::size_t size = 0;
    auto connection = co_await net->connect(std::move(address));
    BRAID_REQUIRE(connection.has_value());
    if (bytes.size() != 0) {
        const std::array<ByteView, 1> parts{bytes.view()};
        (void)co_await (*connection)->send(parts);
    }
    for (;;) {
        const std::array<ByteSpan, 1> parts{heard.span().subspan(size)};
        const auto came = co_await (*connection)->receive(parts, 1);
        if (!came) break;
        size += *came;
    }
    (*connection)->shut();
    co_return Buffer(heard.view().first(size));
}

inline Task<void> say(SimNet* net, NetAddress address, Buffer bytes) {
    (void)co_await talk(net, std::move(address), std::move(bytes));
}

}  // namespace braid::cluster
