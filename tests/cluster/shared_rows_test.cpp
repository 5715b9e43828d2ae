// SPDX-License-Identifier: BSD-3-Clause
// Several nodes serve the same rows, while members fail and are rebuilt.
#include <algorithm>
#include <string>

#include "tests/cluster/clients.h"
#include "tests/cluster/sim_cluster.h"

namespace braid::sim {
namespace {

/// Clients of all nodes, who write and read the same few stripes by chance.
class Crowd {
  public:
    explicit Crowd(SimCluster& cluster)
        : cluster_(cluster), clients_(cluster), rng_(cluster.loop().rng().next()) {}

    void run(std::uint32_t nodes, std::uint32_t clients, std::uint32_t requests) {
        TaskGroup& tasks = cluster_.loop().tasks();
        for (std::uint32_t i = 0; i != nodes * clients; ++i) {
            tasks.spawn(client(i % nodes, requests));
        }
        while (tasks.running() != 0) {
            ASSERT_TRUE(cluster_.loop().step()) << "nothing goes on";
            for (std::uint32_t home = 0; home != nodes; ++home) {
                memory_peak_ = std::max(memory_peak_, cluster_.home(home).memory_bytes());
            }
        }
    }
    /// The most that a home had staged.
    std::uint64_t memory_peak() const { return memory_peak_; }
    /// When all is at rest: what was ever seen fits, and parity is true.
    void check(std::uint32_t nodes) {
        cluster_.settle();
        clients_.check(nodes);
        EXPECT_EQ(cluster_.wrong_rows(), 0u);
    }

  private:
    struct Place {
        std::uint64_t offset{0};
        std::uint64_t size{0};
    };
    /// Mostly a few sectors, now and then whole stripes.
    Place draw() {
        const std::uint64_t sectors = clients_.sectors();
        const std::uint64_t stripe = cluster_.geometry().stripe_data_size() / sector_size;
        if (rng_.chance(5)) {
            return {rng_.below(sectors / stripe) * stripe * sector_size, stripe * sector_size};
        }
        const std::uint64_t most = rng_.chance(4) ? stripe : 20;
        const std::uint64_t count = 1 + rng_.below(most);
        return {rng_.below(sectors - count + 1) * sector_size, count * sector_size};
    }
    Task<void> client(std::uint32_t node, std::uint32_t requests) {
        for (std::uint32_t i = 0; i != requests; ++i) {
            const Place at = draw();
            const std::uint64_t what = rng_.below(20);
            if (what == 0) {
                IoRequest request;
                request.kind = IoKind::flush;
                EXPECT_TRUE(co_await cluster_.ask(node, request));
            } else if (what < 12) {
                co_await clients_.write(node, at.offset, at.size, what == 1 ? Fua::yes : Fua::no);
            } else {
                co_await clients_.read(node, at.offset, at.size);
            }
        }
    }

    SimCluster& cluster_;
    Clients<SimCluster> clients_;
    Rng rng_;
    std::uint64_t memory_peak_{0};
};

struct Shape {
    Level level;
    std::uint32_t members;
    std::uint32_t nodes;
    std::uint32_t homes;
    std::uint32_t lost;
    const char* name;
};

SimClusterOptions options_of(const Shape& shape, std::uint64_t seed) {
    SimClusterOptions options;
    options.seed = seed;
    options.level = shape.level;
    options.members = shape.members;
    options.nodes = shape.nodes;
    options.homes = shape.homes;
    return options;
}

class SharedRows : public ::testing::TestWithParam<Shape> {};

// Goal: R1 across nodes. Method: clients of all nodes write and read the same stripes, commands and
// answers take their time and come in many orders; then every sector is to look like one register,
// parity is to be true, and no book is to have anything left.
TEST_P(SharedRows, EverySectorIsOneRegister) {
    const Shape& shape = GetParam();
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimClusterOptions options = options_of(shape, seed);
        options.lost = shape.lost;
        options.stripes = 1 + seed % 3;
        SimCluster cluster(options);
        Crowd crowd(cluster);
        crowd.run(shape.nodes, 3, 20);
        crowd.check(shape.nodes);
        if (HasFailure()) return;
    }
}

/// Breaks a connection now and then, sometimes for one side alone, until it is told to end.
Task<void> cut_connections(SimCluster* cluster, std::uint32_t nodes, const bool* over) {
    Rng rng(cluster->loop().rng().next());
    while (!*over) {
        Timer timer(cluster->loop(),
                    Nanos{cluster->loop().now().value + 1 + rng.below(30'000'000)});
        co_await timer;
        const auto a = static_cast<std::uint32_t>(rng.below(nodes));
        const auto b = (a + 1 + static_cast<std::uint32_t>(rng.below(nodes - 1))) % nodes;
        cluster->cut(a, b, rng.chance(3) ? CutSides::one : CutSides::both);
    }
}

// Goal: R1 over connections that break. Method: as above, with every command a message; both sides,
// or one of them, lose connections all the time, with whatever is on its way.
TEST_P(SharedRows, ConnectionsMayBreak) {
    const Shape& shape = GetParam();
    if (shape.nodes == 1) GTEST_SKIP() << "there is no connection";
    std::uint64_t ended = 0;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimClusterOptions options = options_of(shape, seed);
        options.sessions = true;
        options.lost = shape.lost;
        options.stripes = 1 + seed % 3;
        SimCluster cluster(options);
        Crowd crowd(cluster);
        bool over = seed % 5 == 0;  // and sometimes nothing breaks
        TaskGroup cuts(cluster.loop().ready());
        cuts.spawn(cut_connections(&cluster, shape.nodes, &over));
        crowd.run(shape.nodes, 3, 15);
        over = true;
        while (cuts.running() != 0) ASSERT_TRUE(cluster.loop().step());
        crowd.check(shape.nodes);
        ended += cluster.connections_ended();
        if (HasFailure()) return;
    }
    EXPECT_GT(ended, 100U) << "connections did break";
}

INSTANTIATE_TEST_SUITE_P(Shapes, SharedRows,
                         ::testing::Values(Shape{Level::raid5, 3, 1, 0, 0, "Raid5OneNode"},
                                           Shape{Level::raid5, 3, 2, 0, 0, "Raid5TwoNodes"},
                                           Shape{Level::raid5, 4, 3, 0, 0, "Raid5ThreeNodes"},
                                           Shape{Level::raid5, 4, 3, 2, 0,
                                                 "Raid5OneNodeIsHomeOfNothing"},
                                           Shape{Level::raid4, 4, 3, 0, 0, "Raid4ThreeNodes"},
                                           Shape{Level::raid6, 6, 3, 0, 0, "Raid6ThreeNodes"},
                                           Shape{Level::raid6, 5, 5, 0, 0, "Raid6FiveNodes"},
                                           Shape{Level::raid5, 4, 3, 0, 1, "Raid5Degraded"},
                                           Shape{Level::raid4, 4, 2, 0, 1, "Raid4Degraded"},
                                           Shape{Level::raid6, 5, 3, 0, 1, "Raid6OneLost"},
                                           Shape{Level::raid6, 6, 3, 2, 2, "Raid6TwoLost"}),
                         [](const auto& shape) { return shape.param.name; });

// ---- members that fail ---------------------------------------------------------------------------

class SharedLosses : public ::testing::TestWithParam<Shape> {};

// Goal: a member's failure takes nothing from anybody. Method: as above, and members fail in the
// middle of it, in some runs for writes only: what they answer to reads is old then. No request may
// fail.
TEST_P(SharedLosses, NobodyMissesAnything) {
    const Shape& shape = GetParam();
    std::uint64_t lost = 0;
    for (std::uint64_t seed = 1; seed <= 120; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimClusterOptions options = options_of(shape, seed);
        options.stripes = 1 + seed % 3;
        SimCluster cluster(options);
        for (std::uint32_t i = 0; i != shape.lost; ++i) {
            const auto member = static_cast<std::uint32_t>(
                (seed + i * (1 + seed % (shape.members - 1))) % shape.members);
            cluster.fail_by_chance(member, (5 + 25 * shape.nodes) * 1'000'000);
        }
        Crowd crowd(cluster);
        crowd.run(shape.nodes, 3, 20);
        crowd.check(shape.nodes);
        lost += cluster.configuration().lost_count();
        if (HasFailure()) return;
    }
    EXPECT_GT(lost, 60u) << "members fail when everything is over";
}

INSTANTIATE_TEST_SUITE_P(Shapes, SharedLosses,
                         ::testing::Values(Shape{Level::raid5, 3, 1, 0, 1, "Raid5OneNode"},
                                           Shape{Level::raid5, 4, 3, 0, 1, "Raid5ThreeNodes"},
                                           Shape{Level::raid6, 5, 2, 0, 2, "Raid6TwoNodes"},
                                           Shape{Level::raid6, 6, 4, 3, 2, "Raid6FourNodes"}),
                         [](const auto& shape) { return shape.param.name; });

// ---- walks -----------------------------------------------------------------------------------------

class SharedRebuild : public ::testing::TestWithParam<Shape> {};

// Goal: one node fills a member while others, who hear of its position only when they lock rows,
// write. Method: as above, on an array that has missed a member for a while; at the end the member
// is in sync, and is read.
TEST_P(SharedRebuild, OthersWriteMeanwhile) {
    const Shape& shape = GetParam();
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimClusterOptions options = options_of(shape, seed);
        options.lost = 1;
        options.stripes = 3 + seed % 6;
        SimCluster cluster(options);
        Crowd crowd(cluster);
        crowd.run(shape.nodes, 2, 8);
        cluster.rebuild(MemberIndex{0}, static_cast<std::uint32_t>(seed % shape.nodes));
        crowd.run(shape.nodes, 3, 20);
        crowd.check(shape.nodes);
        EXPECT_EQ(cluster.configuration().lost_count(), 0u) << "it is rebuilt";
        if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SharedRebuild,
                         ::testing::Values(Shape{Level::raid5, 3, 1, 0, 1, "Raid5OneNode"},
                                           Shape{Level::raid5, 4, 3, 0, 1, "Raid5ThreeNodes"},
                                           Shape{Level::raid6, 5, 3, 2, 1, "Raid6ThreeNodes"}),
                         [](const auto& shape) { return shape.param.name; });

// ---- what a request costs ------------------------------------------------------------------------

struct Costs {
    Level level;
    std::uint32_t members;
    std::uint32_t lost;
    const char* name;
};

class RoundTrips : public ::testing::TestWithParam<Costs> {
  protected:
    static constexpr std::uint64_t one_way = 1'000'000'000;

    /// From a node that is home of nothing, to homes that are all equally far; disks take next to no
    /// time.
    static SimClusterOptions far_away(const Costs& costs) {
        SimClusterOptions options;
        options.level = costs.level;
        options.members = costs.members;
        options.lost = costs.lost;
        options.nodes = 4;
        options.homes = 3;
        options.disk_nanos = 1;
        options.delay = {one_way, 0};
        return options;
    }
    /// Round trips until the client was answered.
    static std::uint64_t trips(SimCluster& cluster, const IoRequest& request) {
        const std::uint64_t begin = cluster.loop().now().value;
        EXPECT_TRUE(cluster.run(3, request));
        const std::uint64_t took = cluster.loop().now().value - begin;
        return (took + one_way / 2) / (2 * one_way);
    }
    /// The first byte of a data strip whose member is lost, or is not.
    static std::uint64_t strip_that_is(const SimCluster& cluster, bool lost) {
        const Geometry& geometry = cluster.geometry();
        for (StripeIndex stripe{}; raw(stripe) != geometry.stripes; ++stripe) {
            for (const Role role : geometry.data_roles()) {
                if (cluster.is_lost(geometry.member_of(stripe, role)) == lost) {
                    return geometry.array_offset_of({stripe, role, 0}).value;
                }
            }
        }
        ADD_FAILURE() << "no such strip";
        return 0;
    }
    static IoRequest write_of(const Buffer& data, std::uint64_t offset, std::uint64_t size) {
        IoRequest request;
        request.kind = IoKind::write;
        request.offset = {offset};
        request.data = const_cast<std::byte*>(data.data());  // NOLINT: a write only reads it
        request.size = size;
        return request;
    }
};

TEST_P(RoundTrips, AreAsFewAsTheProtocolSays) {
    SimCluster cluster(far_away(GetParam()));
    Buffer data(cluster.geometry().stripe_data_size());
    const std::uint64_t live = strip_that_is(cluster, false);
    IoRequest request = write_of(data, live, row_size);
    EXPECT_EQ(trips(cluster, request), 3u) << "a small write: lock, read, stage";
    request.fua = true;
    EXPECT_EQ(trips(cluster, request), 4u) << "and durable";
    request = write_of(data, 0, data.size());
    EXPECT_EQ(trips(cluster, request), 2u) << "a full stripe: lock, stage";
    request.fua = true;
    EXPECT_EQ(trips(cluster, request), 3u) << "and durable";
    request = write_of(data, live, row_size);
    request.kind = IoKind::read;
    EXPECT_EQ(trips(cluster, request), 1u) << "a read";
    if (GetParam().lost != 0) {
        const std::uint64_t lost = strip_that_is(cluster, true);
        request.offset = {lost};
        EXPECT_EQ(trips(cluster, request), 2u) << "a computed read: lock, read";
        EXPECT_EQ(trips(cluster, write_of(data, lost, row_size)), 3u)
            << "a small write of what is lost";
    }
    cluster.settle();
}

INSTANTIATE_TEST_SUITE_P(Levels, RoundTrips,
                         ::testing::Values(Costs{Level::raid5, 4, 0, "Raid5"},
                                           Costs{Level::raid6, 6, 0, "Raid6"},
                                           Costs{Level::raid5, 4, 1, "Raid5Degraded"},
                                           Costs{Level::raid6, 6, 1, "Raid6OneLost"}),
                         [](const auto& costs) { return costs.param.name; });

// ---- credits -------------------------------------------------------------------------------------

// Goal: a home's memory is bounded, and nobody waits for ever for room in it. Method: room for one
// stripe of each node at a time, at slow disks.
TEST(SharedCredits, BoundWhatIsStaged) {
    std::uint64_t waits = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimClusterOptions options;
        options.seed = seed;
        options.stripes = 4;
        options.disk_nanos = 20'000'000;
        options.book.bytes = 2 * options.strip_size;  // two of the members are at one home
        SimCluster cluster(options);
        Crowd crowd(cluster);
        crowd.run(3, 6, 10);
        EXPECT_LE(crowd.memory_peak(), 3 * options.book.bytes);
        for (std::uint32_t node = 0; node != 3; ++node) {
            waits += cluster.homes(node).counts().waits_for_credit;
        }
        crowd.check(3);
        if (HasFailure()) return;
    }
    EXPECT_GT(waits, 1000u);
}

// ---- zeros, and what is durable ------------------------------------------------------------------

TEST(SharedZeroes, AreSeenByAllAndParityIsTrue) {
    for (const bool zero_fast : {true, false}) {
        SimClusterOptions options;
        options.level = Level::raid6;
        options.members = 5;
        options.zero_fast = zero_fast;
        SimCluster cluster(options);
        Buffer ones(cluster.geometry().data_size());
        std::memset(ones.data(), 0xee, ones.size());
        ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, 0, ones)));
        const std::uint64_t begin = 3 * sector_size;
        const std::uint64_t end = ones.size() - 5 * sector_size;
        Buffer some(end - begin);
        ASSERT_TRUE(cluster.run(1, request_of(IoKind::zero, begin, some)));
        Buffer all(ones.size());
        ASSERT_TRUE(cluster.run(2, request_of(IoKind::read, 0, all)));
        std::memset(ones.data() + begin, 0, end - begin);
        EXPECT_TRUE(all == ones);
        cluster.settle();
        EXPECT_EQ(cluster.wrong_rows(), 0u);
    }
}

// R2: what one node has acknowledged another one makes durable.
TEST(SharedFlush, CoversWhatOtherNodesAcknowledged) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        SimClusterOptions options;
        options.seed = seed;
        SimCluster cluster(options);
        Buffer data(cluster.geometry().data_size());
        std::memset(data.data(), 0xee, data.size());
        ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, 0, data)));
        ASSERT_TRUE(cluster.flush(1));
        for (std::uint32_t i = 0; i != 4; ++i) {
            cluster.platter(i).cut_power([](std::size_t, std::uint64_t) { return false; });
        }
        Buffer all(data.size());
        ASSERT_TRUE(cluster.run(2, request_of(IoKind::read, 0, all)));
        ASSERT_TRUE(all == data) << "seed " << seed;
        EXPECT_EQ(cluster.wrong_rows(), 0u);
    }
}

}  // namespace
}  // namespace braid::sim
