// SPDX-License-Identifier: BSD-3-Clause
// Goal: with reads = "strict" no node answers a read with what is old, whatever its clock does and for
// however long it stood still; and that costs a round trip, not the time until the next heartbeat.
// Method: nodes are cut off, the others exclude them and go on, something is written there and then
// read here. The clocks are such that by the lease the old would be answered: that is shown, too.
//
// What could go wrong, and where it is tested:
//  1. The clock of the reader is slow: its lease outlives the fence. (OldIsNotRead)
//  2. The process stood still, and its clock with it; it reads as soon as it goes on, and the echo of a
//     stamp that it sent before has come meanwhile. (OldIsNotRead; the mutant older-stamp-confirms)
//  3. The member is another node's, which is cut off as well, and answers as it always did.
//     (OldIsNotRead, with two nodes)
//  4. What the others sent back before they went on comes late, when the read waits. (TheAnswerComesLate)
//  5. The stamp of the question is not newer than one that went out before, since the clock stands, or
//     another channel was further. (Heartbeats.WhoIsAskedAnswersAtOnce, StrictReads)
//  6. The question waits behind a heartbeat that is just going out, or is lost with its connection.
//     (Heartbeats)
//  7. The others have not gone on, and are back: the read is answered. (APauseIsAPause)
//  8. They have, or the node is told to stop: nobody waits for ever. (OldIsNotRead, AStopEndsWhatWaits)
//  9. Who needs nobody asks nobody. (WhoIsHomeOfEnoughAsksNobody)
// 10. Everything at once, under load. (CutOffUnderLoad)
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/cluster/clients.h"
#include "tests/cluster/node_death_kit.h"
#include "tests/cluster/sim_nodes.h"

namespace braid::sim {
namespace {

enum class Clocks : std::uint8_t { slow, stand };

struct StrictCase {
    std::uint64_t seed{1};
    Clocks clocks{Clocks::slow};
    Level level{Level::raid5};
    std::uint32_t members{3};
    std::uint32_t nodes{3};
    std::uint32_t cut_off{1};  // the first ones, from all others
    friend std::ostream& operator<<(std::ostream& out, const StrictCase& shape) {
        return out << "seed " << shape.seed << ", "
                   << (shape.clocks == Clocks::slow ? "slow" : "standing") << " clocks, "
                   << shape.cut_off << " of " << shape.nodes;
    }
};

std::vector<StrictCase> strict_cases(std::uint64_t seeds) {
    std::vector<StrictCase> all;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        for (const Clocks clocks : {Clocks::slow, Clocks::stand}) {
            all.push_back({seed, clocks});
            all.push_back({seed, clocks, Level::raid6, 5, 5, 2});
            all.push_back({seed, clocks, Level::raid6, 6, 3, 1});
        }
    }
    return all;
}

SimNodesOptions options_of(const StrictCase& shape, cluster::Reads reads) {
    SimNodesOptions options;
    options.seed = shape.seed;
    options.level = shape.level;
    options.members = shape.members;
    options.nodes = shape.nodes;
    options.own_loops = true;
    options.reads = reads;
    options.slow_nodes = shape.clocks == Clocks::slow ? shape.cut_off : 0;
    options.slow_ppm = 800'000;
    options.clocks_stand = shape.clocks == Clocks::stand;
    return options;
}

/// What became of a read of a few bytes.
struct Answer {
    bool over{false};
    bool ok{false};
    std::byte value{};
};

class StrictNodes {
  public:
    explicit StrictNodes(const SimNodesOptions& options) : nodes_(options) {}

    SimNodes& nodes() { return nodes_; }
    SimLoop& loop() { return nodes_.loop(); }

    /// A place whose strip is on a member of that node.
    ArrayOffset place_at(std::uint32_t node) {
        for (std::uint64_t at = 0;; at += row_size) {
            const StripPlace place = nodes_.geometry().place_of({at});
            const std::uint32_t member = raw(nodes_.geometry().member_of(place.stripe, place.role));
            if (nodes_.home_of(member) == node) return {at};
        }
    }
    void write(std::uint32_t node, ArrayOffset at, std::byte value) {
        const auto answer = std::make_shared<Answer>();
        loop().tasks().spawn(ask(node, IoKind::write, at, value, answer));
        nodes_.run_until([&] { return answer->over; }, "it is written");
        EXPECT_TRUE(answer->ok);
    }
    std::shared_ptr<Answer> begin_read(std::uint32_t node, ArrayOffset at) {
        auto answer = std::make_shared<Answer>();
        loop().tasks().spawn(ask(node, IoKind::read, at, {}, answer));
        return answer;
    }
    Answer read(std::uint32_t node, ArrayOffset at) {
        const auto answer = begin_read(node, at);
        nodes_.run_until([&] { return answer->over; }, "it is read");
        return *answer;
    }
    void cut_off(std::uint32_t count) {
        for (std::uint32_t one = 0; one != count; ++one) {
            for (std::uint32_t other = count; other != nodes_.nodes(); ++other) {
                nodes_.part(one, other);
            }
        }
    }
    void mend(std::uint32_t count) {
        for (std::uint32_t one = 0; one != count; ++one) nodes_.release(one);
    }
    void wait_until_excluded(std::uint32_t count) {
        const std::uint32_t last = nodes_.nodes() - 1;
        nodes_.run_until(
            [&] {
                const std::vector<NodeStatus> all = nodes_.array(last).status().nodes;
                return static_cast<std::uint32_t>(
                           std::ranges::count_if(all, &NodeStatus::excluded)) == count &&
                       is_answered(last);
            },
            "the others go on");
    }
    std::uint64_t heartbeats_sent(std::uint32_t node) {
        std::uint64_t sent = 0;
        for (const NodeStatus& of : nodes_.array(node).status().nodes) {
            for (const ChannelStatus& channel : of.channels) sent += channel.sent;
        }
        return sent;
    }

  private:
    /// It serves, in whichever fence.
    bool is_answered(std::uint32_t node) {
        return nodes_.log(node).find("has begun with") != std::string::npos;
    }
    Task<void> ask(std::uint32_t node, IoKind kind, ArrayOffset at, std::byte value,
                   std::shared_ptr<Answer> answer) {
        Buffer bytes(sector_size);
        std::fill_n(bytes.data(), bytes.size(), value);
        IoRequest request;
        request.kind = kind;
        request.offset = at;
        request.size = bytes.size();
        request.data = bytes.data();
        const Result<void> done = co_await nodes_.ask(node, request);
        answer->ok = done.has_value();
        answer->value = bytes.data()[0];
        answer->over = true;
    }

    SimNodes nodes_;
};

constexpr std::byte before{1};
constexpr std::byte after{2};

/// Nodes are cut off, and all others write something. What those then read of each other's members.
class CutOff {
  public:
    CutOff(const StrictCase& shape, cluster::Reads reads)
        : shape_(shape), world_(options_of(shape, reads)) {
        SimNodes& nodes = world_.nodes();
        nodes.start();
        world_.loop().run_for(seconds(1));
        const std::uint32_t other = shape.nodes - 1;
        for (std::uint32_t i = 0; i != shape.cut_off; ++i) {
            places_.push_back(world_.place_at(i));
            world_.write(other, places_[i], before);
        }
        world_.loop().run_for(Nanos{world_.loop().rng().below(400'000'000)});
        if (shape.clocks == Clocks::stand) stand_still();
        world_.cut_off(shape.cut_off);
        world_.wait_until_excluded(shape.cut_off);
        for (const ArrayOffset place : places_) world_.write(other, place, after);
        for (std::uint32_t i = 0; i != shape.cut_off; ++i) nodes.stand_still(i, false);
        for (std::uint32_t i = 0; i != shape.cut_off; ++i) {
            for (const ArrayOffset place : places_) reads_.push_back(world_.begin_read(i, place));
        }
        world_.loop().run_for(seconds(1));
    }
    std::size_t read_old() const {
        return static_cast<std::size_t>(std::ranges::count_if(reads_, [](const auto& read) {
            return read->over && read->ok && read->value == before;
        }));
    }
    const std::vector<std::shared_ptr<Answer>>& reads() const { return reads_; }
    /// They hear of it, and end.
    void mend() {
        world_.mend(shape_.cut_off);
        world_.nodes().run_until(
            [&] {
                return std::ranges::all_of(reads_, [](const auto& read) { return read->over; });
            },
            "they hear of it");
    }

  private:
    /// What the others send back of the newest stamp comes while they do.
    void stand_still() {
        for (std::uint32_t i = 0; i != shape_.cut_off; ++i) world_.nodes().stand_still(i, true);
        world_.loop().run_for(millis(400));
    }

    StrictCase shape_;
    StrictNodes world_;
    std::vector<ArrayOffset> places_;
    std::vector<std::shared_ptr<Answer>> reads_;
};

class NodeStrictTest : public testing::TestWithParam<StrictCase> {};

TEST_P(NodeStrictTest, OldIsNotRead) {
    CutOff cut(GetParam(), cluster::Reads::strict);
    if (HasFailure()) return;
    for (const auto& read : cut.reads()) EXPECT_FALSE(read->over);
    cut.mend();
    for (const auto& read : cut.reads()) EXPECT_FALSE(read->ok) << "it is excluded";
}

/// Or the test above would show nothing. With a slow clock a lease may be over all the same when they read.
TEST_P(NodeStrictTest, ByTheLeaseItWouldBe) {
    CutOff cut(GetParam(), cluster::Reads::lease);
    if (HasFailure()) return;
    EXPECT_NE(cut.read_old(), 0u);
    cut.mend();
}

INSTANTIATE_TEST_SUITE_P(Cases, NodeStrictTest, testing::ValuesIn(strict_cases(seeds_of(6, 200))));

class NodeStrictSeedTest : public testing::TestWithParam<std::uint64_t> {
  protected:
    static SimNodesOptions options(std::uint32_t nodes = 3, std::uint32_t homes = 0) {
        SimNodesOptions options;
        options.seed = GetParam();
        options.members = 3;
        options.nodes = nodes;
        options.homes = homes;
        options.own_loops = true;
        options.reads = cluster::Reads::strict;
        return options;
    }
};

/// The echoes of its stamps are held up on their way, until the others have gone on.
TEST_P(NodeStrictSeedTest, TheAnswerComesLate) {
    SimNodesOptions how = options();
    how.slow_nodes = 1;
    how.slow_ppm = 800'000;
    StrictNodes world(how);
    world.nodes().start();
    world.loop().run_for(seconds(1));
    const ArrayOffset place = world.place_at(0);
    world.write(2, place, before);
    world.nodes().hold_sent_to(0);
    world.loop().run_for(millis(700));  // they hear it, and answer
    world.nodes().hold_sent_by(0);
    world.wait_until_excluded(1);
    world.write(2, place, after);
    const auto read = world.begin_read(0, place);
    world.loop().run_for(millis(100));
    EXPECT_FALSE(read->over);
    world.nodes().release(0);
    world.nodes().run_until([&] { return read->over; }, "it hears of it");
    EXPECT_FALSE(read->ok);
}

/// By the lease, which counts from when its stamps went out: their echoes are on their way for longer than
/// that, and come when the others have gone on.
TEST_P(NodeStrictSeedTest, TheEchoComesLate) {
    SimNodesOptions how = options();
    how.reads = cluster::Reads::lease;
    StrictNodes world(how);
    world.nodes().start();
    world.loop().run_for(seconds(1));
    const ArrayOffset place = world.place_at(0);
    world.write(2, place, before);
    for (const std::uint32_t other : {1U, 2U}) world.nodes().slow_way(other, 0, millis(2600));
    world.loop().run_for(millis(500));  // they hear it, and answer
    world.nodes().hold_sent_by(0);
    world.wait_until_excluded(1);
    world.write(2, place, after);
    const auto read = world.begin_read(0, place);
    world.loop().run_for(seconds(2));
    EXPECT_FALSE(read->over && read->ok);
    for (const std::uint32_t other : {1U, 2U}) world.nodes().release_way(other, 0);
    world.nodes().release(0);
    world.nodes().run_until([&] { return read->over; }, "it hears of it");
    EXPECT_FALSE(read->ok);
}

TEST_P(NodeStrictSeedTest, APauseIsAPause) {
    StrictNodes world(options());
    world.nodes().start();
    world.loop().run_for(seconds(1));
    const ArrayOffset place = world.place_at(0);
    world.write(2, place, before);
    world.cut_off(1);
    const auto read = world.begin_read(0, place);
    world.loop().run_for(millis(600));
    EXPECT_FALSE(read->over);
    EXPECT_TRUE(world.read(1, world.place_at(1)).ok) << "two are enough";
    world.mend(1);
    world.nodes().run_until([&] { return read->over; }, "it is read");
    EXPECT_TRUE(read->ok);
    EXPECT_EQ(read->value, before);
    EXPECT_EQ(world.nodes().log(2).find("is excluded"), std::string::npos);
    world.nodes().stop(0);
}

/// Of one that is cut off; and of all, where the others stop as well.
TEST_P(NodeStrictSeedTest, AStopEndsWhatWaits) {
    StrictNodes world(options());
    world.nodes().start();
    world.loop().run_for(seconds(1));
    const ArrayOffset place = world.place_at(0);
    world.cut_off(1);
    const auto read = world.begin_read(0, place);
    world.loop().run_for(millis(100));
    world.nodes().leave(0);
    world.wait_until_excluded(1);
    world.mend(1);
    world.nodes().run_until([&] { return read->over && world.nodes().has_left(0); }, "it ends");
    EXPECT_FALSE(read->ok);
    std::vector<std::shared_ptr<Answer>> reads;
    for (int i = 0; i != 8; ++i) reads.push_back(world.begin_read(1, world.place_at(1)));
    world.nodes().leave(1);
    world.nodes().leave(2);
    world.nodes().run_until(
        [&] {
            return world.nodes().has_left(1) && world.nodes().has_left(2) &&
                   std::ranges::all_of(reads, [](const auto& one) { return one->over; });
        },
        "all end");
}

/// A round trip is 0.04 to 2 ms here, and a heartbeat goes every 300 ms by itself.
TEST_P(NodeStrictSeedTest, ItTakesARoundTrip) {
    StrictNodes world(options());
    world.nodes().start();
    world.loop().run_for(seconds(1));
    const ArrayOffset place = world.place_at(0);
    const std::uint64_t begin = world.loop().now().value;
    for (int i = 0; i != 200; ++i) EXPECT_TRUE(world.read(0, place).ok);
    EXPECT_LT(world.loop().now().value - begin, millis(200 * 10).value);
    // Those that come together share questions.
    const std::uint64_t sent = world.heartbeats_sent(0);
    for (int round = 0; round != 10; ++round) {
        std::vector<std::shared_ptr<Answer>> reads;
        for (int i = 0; i != 64; ++i) reads.push_back(world.begin_read(0, place));
        world.nodes().run_until(
            [&] { return std::ranges::all_of(reads, [](const auto& one) { return one->over; }); },
            "they are read");
    }
    EXPECT_LT(world.heartbeats_sent(0) - sent, 640u / 4);
    world.nodes().stop(0);
}

TEST_P(NodeStrictSeedTest, WhoIsHomeOfEnoughAsksNobody) {
    StrictNodes alone(options(1));
    alone.nodes().start();
    EXPECT_TRUE(alone.read(0, alone.place_at(0)).ok);
    alone.nodes().stop(0);

    StrictNodes world(options(2, 1));  // all members at the first
    world.nodes().start();
    world.loop().run_for(seconds(1));
    const ArrayOffset place = world.place_at(0);
    const std::uint64_t sent = world.heartbeats_sent(0);
    world.nodes().hold_sent_by(0);
    for (int i = 0; i != 20; ++i) EXPECT_TRUE(world.read(0, place).ok);
    EXPECT_LE(world.heartbeats_sent(0), sent + 2);
    world.nodes().release(0);
    EXPECT_TRUE(world.read(1, place).ok);
    world.nodes().stop(0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodeStrictSeedTest,
                         testing::Range<std::uint64_t>(1, 1 + seeds_of(6, 100)));

/// Every sector is one register, for the clients of those that are cut off as well.
class NodeStrictLoadTest : public testing::TestWithParam<StrictCase> {
  protected:
    NodeStrictLoadTest()
        : world_(options_of(GetParam(), cluster::Reads::strict)), clients_(world_.nodes()) {}
    SimLoop& loop() { return world_.loop(); }

    Task<void> client(std::uint32_t node) {
        ++working_;
        while (!ends_) {
            const std::uint64_t sectors = 1 + loop().rng().below(16);
            const ArrayOffset at{loop().rng().below(clients_.sectors() - sectors + 1) *
                                 sector_size};
            if (loop().rng().below(3) == 0) {
                co_await clients_.write(node, at.value, sectors * sector_size);
            } else {
                co_await clients_.read(node, at.value, sectors * sector_size);
            }
            Timer timer(loop(), Nanos{loop().now().value + 1 + loop().rng().below(3'000'000)});
            co_await timer;
        }
        --working_;
    }

    StrictNodes world_;
    Clients<SimNodes> clients_;
    std::uint32_t working_{0};
    bool ends_{false};
};

TEST_P(NodeStrictLoadTest, CutOffUnderLoad) {
    const StrictCase& shape = GetParam();
    SimNodes& nodes = world_.nodes();
    nodes.start();
    loop().run_for(seconds(1));
    for (std::uint32_t i = 0; i != shape.cut_off; ++i) clients_.let_fail_at(i);
    for (std::uint32_t i = 0; i != 4 * shape.nodes; ++i) {
        loop().tasks().spawn(client(i % shape.nodes));
    }
    loop().run_for(millis(50 + loop().rng().below(300)));
    const bool stands = shape.clocks == Clocks::stand;
    for (std::uint32_t i = 0; stands && i != shape.cut_off; ++i) nodes.stand_still(i, true);
    if (stands) loop().run_for(millis(loop().rng().below(400)));
    world_.cut_off(shape.cut_off);
    world_.wait_until_excluded(shape.cut_off);
    loop().run_for(millis(loop().rng().below(500)));
    for (std::uint32_t i = 0; stands && i != shape.cut_off; ++i) nodes.stand_still(i, false);
    loop().run_for(seconds(1));
    world_.mend(shape.cut_off);
    loop().run_for(seconds(2));
    ends_ = true;
    nodes.run_until([&] { return working_ == 0; }, "the clients end");
    EXPECT_EQ(clients_.fault(), "");
}

INSTANTIATE_TEST_SUITE_P(Cases, NodeStrictLoadTest,
                         testing::ValuesIn(strict_cases(seeds_of(4, 200))));

}  // namespace
}  // namespace braid::sim
