// SPDX-License-Identifier: BSD-3-Clause
// Goal: a link is up only while this node's own stamps come back over it, by channel, whatever else
// is heard, and nothing from outside changes what it must not.
#include "cluster/membership/links.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

constexpr NodeId two{2};
constexpr NodeId three{3};
using Heard = Links::Heard;

/// Node 1 in its life 7, with two channels; it has sent stamps up to 10 s.
Links links_of_one() {
    Links links({1, 7}, NodeSet::of(two) | NodeSet::of(three), 2, lease_default);
    links.sent(seconds(10));
    return links;
}

NodeHeartbeat beat(std::uint64_t stamp_ms, std::optional<std::uint64_t> echo_ms = std::nullopt,
                   std::uint64_t boot = 4) {
    NodeHeartbeat heartbeat;
    heartbeat.from = {2, boot};
    heartbeat.stamp = millis(stamp_ms);
    if (echo_ms) heartbeat.echo = Echo{{7, millis(*echo_ms)}, false};
    return heartbeat;
}

TEST(Links, AreUpWhileOwnStampsComeBack) {
    Links links = links_of_one();
    EXPECT_EQ(links.said(two), nullptr);
    EXPECT_EQ(links.heard(0, beat(100), seconds(5)), Heard::taken);
    EXPECT_FALSE(links.is_up(two, seconds(5))) << "it is heard, but does it hear?";
    EXPECT_EQ(links.heard(1, beat(400, 5000), millis(5300)), Heard::taken);
    EXPECT_FALSE(links.is_up(two, 0, millis(5300)));
    EXPECT_TRUE(links.is_up(two, 1, millis(5300)));
    EXPECT_TRUE(links.is_up(two, millis(6199)));
    EXPECT_FALSE(links.is_up(two, millis(6200)));
    EXPECT_EQ(links.up(millis(6199)), NodeSet::of(two));
    EXPECT_EQ(links.heard(1, beat(700, 4000), millis(6300)), Heard::taken);
    EXPECT_FALSE(links.is_up(two, millis(6300))) << "it comes back late";
    EXPECT_TRUE(links.is_up(two, millis(5500))) << "and takes nothing back";
}

// It slept, and finds heartbeats that have lain in a buffer since.
TEST(Links, WhatLayInABufferIsNotFresh) {
    Links links = links_of_one();
    EXPECT_EQ(links.heard(0, beat(400, 1000), seconds(9)), Heard::taken);
    EXPECT_FALSE(links.is_up(two, seconds(9)));
}

TEST(Links, BothWaysIfTheOtherSaysSo) {
    Links links = links_of_one();
    NodeHeartbeat heartbeat = beat(100, 5000);
    EXPECT_EQ(links.heard(0, heartbeat, seconds(5)), Heard::taken);
    EXPECT_FALSE(links.is_up_both_ways(two, seconds(5)));
    heartbeat.stamp = millis(400);
    heartbeat.hears = NodeSet::of(NodeId{1});
    EXPECT_EQ(links.heard(0, heartbeat, seconds(5)), Heard::taken);
    EXPECT_TRUE(links.is_up_both_ways(two, seconds(5)));
    EXPECT_FALSE(links.is_up_both_ways(two, seconds(7)));
    EXPECT_FALSE(links.is_up_both_ways(three, seconds(5)));
}

TEST(Links, TheNewestHeartbeatCountsWhateverItsChannel) {
    Links links = links_of_one();
    NodeHeartbeat heartbeat = beat(400);
    heartbeat.epoch = 9;
    heartbeat.promise = 10;
    heartbeat.has_lease = true;
    EXPECT_EQ(links.heard(1, heartbeat, seconds(5)), Heard::taken);
    EXPECT_EQ(links.heard(0, beat(100), seconds(6)), Heard::taken);  // overtaken
    EXPECT_EQ(links.said(two)->epoch, 9U);
    EXPECT_EQ(links.said(two)->promise, 10U);
    EXPECT_EQ(links.said(two)->received, seconds(5));
    EXPECT_TRUE(links.said(two)->has_lease);
    // Each channel sends its own stamps back.
    EXPECT_EQ(links.newest(two, 0)->stamp, (Stamp{4, millis(100)}));
    EXPECT_EQ(links.newest(two, 1)->stamp, (Stamp{4, millis(400)}));
    EXPECT_EQ(links.newest(two, 1)->received, seconds(5));
    EXPECT_EQ(links.newest(two, 1)->epoch, 9U);
    EXPECT_EQ(links.newest(three, 1), std::nullopt);
}

TEST(Links, ANewLifeHasNoLinksYet) {
    Links links = links_of_one();
    EXPECT_EQ(links.heard(0, beat(90'000, 5000), seconds(5)), Heard::taken);
    EXPECT_EQ(links.heard(1, beat(10, std::nullopt, 5), seconds(5)), Heard::new_life);
    EXPECT_FALSE(links.is_up(two, seconds(5)));
    EXPECT_EQ(links.newest(two, 0), std::nullopt);
    EXPECT_EQ(links.said(two)->stamp, millis(10));
}

TEST(Links, WhatIsOfAnEarlierLifeHereIsOfNoUse) {
    Links links = links_of_one();
    NodeHeartbeat heartbeat = beat(100);
    heartbeat.echo = Echo{{6, seconds(99)}, true};
    EXPECT_EQ(links.heard(0, heartbeat, seconds(5)), Heard::taken);
    EXPECT_FALSE(links.is_up(two, seconds(5)));
}

TEST(Links, WhatMakesNoSenseIsRefused) {
    Links links = links_of_one();
    const auto refuses = [&](std::uint32_t channel, const NodeHeartbeat& heartbeat) {
        EXPECT_EQ(links.heard(channel, heartbeat, seconds(5)), Heard::refused);
        EXPECT_EQ(links.said(two), nullptr);
        EXPECT_TRUE(links.up(seconds(5)).empty());
    };
    refuses(2, beat(100, 5000));
    refuses(0, beat(100, 10'001));
    refuses(0, beat(100, 5000, 0));
    for (const std::uint32_t from : {0U, 1U, 4U, nodes_max, 64U, 4'000'000'000U}) {
        NodeHeartbeat heartbeat = beat(100, 5000);
        heartbeat.from.node = from;
        refuses(0, heartbeat);
    }
    NodeHeartbeat heartbeat = beat(100, 5000);
    heartbeat.epoch = epoch_max + 1;
    refuses(0, heartbeat);
    heartbeat.epoch = 0;
    heartbeat.promise = ~std::uint64_t{0};
    refuses(0, heartbeat);
    Links silent({1, 7}, NodeSet::of(two), 1, lease_default);
    EXPECT_EQ(silent.heard(0, beat(100, 0), seconds(5)), Heard::refused) << "nothing was sent";
}

// Two nodes, two channels, each of the four ways works or does not: a link is up over a channel if
// both of its ways work, at both nodes, and nothing is up L after all are cut.
TEST(Links, OneWayIsNoLink) {
    for (std::uint32_t works = 0; works != 16; ++works) {
        std::array<Links, 2> nodes{Links({1, 7}, NodeSet::of(two), 2, lease_default),
                                   Links({2, 9}, NodeSet::of(NodeId{1}), 2, lease_default)};
        // Their clocks have nothing to do with each other.
        const auto read = [](std::size_t node, std::uint64_t ms) {
            return millis(ms + (node == 0 ? 1'000'000 : 5));
        };
        for (std::uint64_t ms = 0; ms != 3000; ms += 300) {
            for (std::size_t from = 0; from != 2; ++from) {
                const std::size_t to = 1 - from;
                nodes[from].sent(read(from, ms));
                for (std::uint32_t channel = 0; channel != 2; ++channel) {
                    if (((works >> (from * 2 + channel)) & 1) == 0) continue;
                    NodeHeartbeat heartbeat;
                    heartbeat.from = from == 0 ? NodeBoot{1, 7} : NodeBoot{2, 9};
                    heartbeat.stamp = read(from, ms);
                    const NodeId other{static_cast<std::uint32_t>(to + 1)};
                    if (const auto got = nodes[from].newest(other, channel))
                        heartbeat.echo = Echo{got->stamp, false};
                    EXPECT_EQ(nodes[to].heard(channel, heartbeat, read(to, ms)), Heard::taken);
                }
            }
        }
        for (std::size_t node = 0; node != 2; ++node) {
            const NodeId other{static_cast<std::uint32_t>(2 - node)};
            for (std::uint32_t channel = 0; channel != 2; ++channel) {
                const bool up = ((works >> channel) & (works >> (2 + channel)) & 1) != 0;
                EXPECT_EQ(nodes[node].is_up(other, channel, read(node, 3000)), up) << works;
                EXPECT_FALSE(nodes[node].is_up(other, channel, read(node, 2700 + 1200)));
            }
        }
    }
}

}  // namespace
}  // namespace braid::cluster
