// SPDX-License-Identifier: BSD-3-Clause
// The search for all orders of arrivals, with programs so small that all their orders are known: by
// reckoning, or because all that steps can make are gone through one by one.
#include "tests/cluster/arrival_search.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/base/rng.h"

namespace braid::test {
namespace {

/// Nodes that take messages, and send some.
class World {
  public:
    /// What a node does that has taken these messages, by their names; the last one just now.
    using Node = std::function<void(World&, std::uint32_t node, const std::vector<std::string>&)>;
    World(std::uint32_t nodes, Node node) : node_(std::move(node)), taken_(nodes) {}

    void send(Channel channel, std::string name) {
        std::vector<std::uint32_t> causes;
        if (step_ != 0) causes.push_back(step_ - 1);
        sent_[channel].push_back({std::move(name), std::move(causes)});
    }
    std::vector<Arrival> offered() const {
        std::vector<Arrival> all;
        for (const auto& [channel, messages] : sent_) {
            if (!messages.empty()) all.push_back({channel, messages.front().causes});
        }
        return all;
    }
    void take(Channel channel) {
        const std::string name = sent_[channel].front().name;
        sent_[channel].pop_front();
        ++step_;
        taken_[channel.to].push_back(name);
        node_(*this, channel.to, taken_[channel.to]);
    }
    /// What nodes can tell apart.
    std::string image() const {
        std::string image;
        for (const auto& taken : taken_) {
            for (const std::string& name : taken) image += name + " ";
            image += "; ";
        }
        return image;
    }

  private:
    struct Message {
        std::string name;
        std::vector<std::uint32_t> causes;
    };
    Node node_;
    std::map<Channel, std::deque<Message>> sent_;
    std::vector<std::vector<std::string>> taken_;
    std::uint32_t step_{0};
};

using Make = std::function<World()>;

struct Found {
    std::set<std::string> images;
    std::uint64_t orders{0};
    std::uint64_t cut_short{0};
};

Found search(const Make& make) {
    Found found;
    ArrivalSearch search;
    while (search.next_run()) {
        World world = make();
        for (;;) {
            const std::vector<Arrival> offered = world.offered();
            if (offered.empty()) {
                found.images.insert(world.image());
                break;
            }
            const std::optional<Channel> chosen = search.choose(offered);
            if (!chosen) break;
            world.take(*chosen);
        }
    }
    found.orders = search.orders();
    found.cut_short = search.cut_short();
    return found;
}

/// Of all sequences of steps.
void go_through(const World& world, std::set<std::string>* images) {
    const std::vector<Arrival> offered = world.offered();
    if (offered.empty()) images->insert(world.image());
    for (const Arrival& arrival : offered) {
        World next = world;
        next.take(arrival.channel);
        go_through(next, images);
    }
}

void does_nothing(World&, std::uint32_t, const std::vector<std::string>&) {}

/// This many messages of each sender to node 0.
std::uint64_t orders_of(const std::vector<std::uint32_t>& counts) {
    const Found found = search([&] {
        World world(1, does_nothing);
        for (std::uint32_t from = 0; from != counts.size(); ++from) {
            for (std::uint32_t i = 0; i != counts[from]; ++i) {
                world.send({from + 1, 0}, std::to_string(from) + "." + std::to_string(i));
            }
        }
        return world;
    });
    EXPECT_EQ(found.images.size(), found.orders);
    return found.orders;
}

TEST(ArrivalSearch, TwoSendersMessagesComeInAllOrdersThatKeepThoseOfEach) {
    EXPECT_EQ(orders_of({1, 1}), 2u);
    EXPECT_EQ(orders_of({2, 3}), 10u);
    EXPECT_EQ(orders_of({5, 4}), 126u);
    EXPECT_EQ(orders_of({7}), 1u);
    EXPECT_EQ(orders_of({2, 2, 2}), 90u);
}

TEST(ArrivalSearch, ArrivalsAtDifferentNodesHaveOneOrder) {
    const Found found = search([] {
        World world(5, does_nothing);
        for (std::uint32_t to = 0; to != 5; ++to) {
            for (int i = 0; i != 3; ++i) world.send({9, to}, std::to_string(i));
        }
        return world;
    });
    EXPECT_EQ(found.orders, 1u);
    EXPECT_EQ(found.cut_short, 0u);
}

// An answer does not come before what it answers.
TEST(ArrivalSearch, WhatWasSentBecauseOfAMessageComesAfterIt) {
    const Found found = search([] {
        World world(3, [](World& at, std::uint32_t node, const std::vector<std::string>& taken) {
            if (node == 0) at.send({0, 1}, "answer to " + taken.back());
            if (node == 1 && taken.back() == "go") at.send({1, 0}, "question");
        });
        world.send({2, 1}, "go");
        world.send({2, 0}, "other");
        return world;
    });
    // At node 0 two orders; at node 1 "go" is before both answers, if the question is first, or the
    // answer to "other" may come before it.
    EXPECT_EQ(found.orders, found.images.size());
    EXPECT_EQ(found.orders, 3u);
}

// One that nodes cannot tell from the run, but others might.
TEST(ArrivalSearch, ARunThatIsTheSameToNodesMayHaveAStepAsEarlyAsCanBe) {
    ArrivalSearch search;
    World world(3, [](World& at, std::uint32_t node, const std::vector<std::string>&) {
        if (node == 1) at.send({1, 2}, "second");
    });
    world.send({0, 1}, "a");
    world.send({0, 1}, "b");
    ASSERT_TRUE(search.next_run());
    while (!world.offered().empty()) world.take(*search.choose(world.offered()));
    const std::vector<Channel> way{{0, 1}, {0, 1}, {1, 2}, {1, 2}};
    EXPECT_EQ(search.way(), way);
    EXPECT_TRUE(search.is_before(0, 2));
    EXPECT_FALSE(search.is_before(1, 2));
    const std::vector<Channel> other{{0, 1}, {1, 2}, {0, 1}, {1, 2}};
    EXPECT_EQ(search.way_at_once_to(2), other);
    EXPECT_FALSE(search.next_run());
}

/// What a node sends depends on the order in which it took what came before.
void by_chance(World& world, std::uint32_t node, const std::vector<std::string>& taken,
               std::uint64_t seed) {
    std::uint64_t mixed = seed * 31 + node;
    for (const std::string& name : taken) {
        mixed = Rng(mixed ^ std::hash<std::string>{}(name)).next();
    }
    Rng rng(mixed);
    if (taken.back().size() < 2) {  // its generation
        for (std::uint32_t to = 0; to != 3; ++to) {
            if (to != node && rng.chance(2)) {
                world.send({node, to}, taken.back() + static_cast<char>('a' + rng.below(26)));
            }
        }
    }
}

TEST(ArrivalSearch, FindsWhatAllSequencesOfStepsFindTogether) {
    std::uint64_t all = 0;
    std::uint64_t cut_short = 0;
    for (std::uint64_t seed = 1; seed != 400; ++seed) {
        const Make make = [seed] {
            World world(3, [seed](World& at, std::uint32_t node, const auto& taken) {
                by_chance(at, node, taken, seed);
            });
            world.send({3, 0}, "x");
            world.send({3, 1}, "y");
            world.send({4, 1}, "z");
            return world;
        };
        std::set<std::string> images;
        go_through(make(), &images);
        const Found found = search(make);
        ASSERT_EQ(found.images, images) << "seed " << seed;
        ASSERT_EQ(found.orders, images.size()) << "seed " << seed;
        all += found.orders;
        cut_short += found.cut_short;
    }
    EXPECT_GT(all, 2000u);
    EXPECT_LT(cut_short, all);
}

}  // namespace
}  // namespace braid::test
