// SPDX-License-Identifier: BSD-3-Clause
// Several nodes reserve, use and release volumes, while members fail and are rebuilt.
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cluster/clients.h"
#include "tests/cluster/sim_cluster.h"

namespace braid::sim {
namespace {

using cluster::HomeCommandKind;

class Reservers {
  public:
    static constexpr std::uint32_t volumes = 2;

    Reservers(SimCluster& cluster, std::uint32_t nodes)
        : cluster_(cluster), clients_(cluster), rng_(cluster.loop().rng().next()), nodes_(nodes) {}

    /// Clients of all nodes, and operators of all who reserve and release.
    void run(std::uint32_t clients, std::uint32_t requests) {
        TaskGroup& tasks = cluster_.loop().tasks();
        for (std::uint32_t i = 0; i != nodes_ * clients; ++i) {
            ++working_;
            tasks.spawn(client(i % nodes_, requests));
        }
        for (std::uint32_t i = 0; i != nodes_; ++i) tasks.spawn(operate(i));
        while (tasks.running() != 0) ASSERT_TRUE(cluster_.loop().step()) << "nothing goes on";
    }
    void check() {
        cluster_.settle();
        clients_.check(nodes_);
        EXPECT_EQ(cluster_.wrong_rows(), 0u);
    }
    std::uint64_t refused() const { return clients_.refused(); }
    std::uint64_t reserved() const { return reserved_; }
    std::uint64_t conflicts() const { return conflicts_; }

  private:
    Task<void> client(std::uint32_t node, std::uint32_t requests) {
        for (std::uint32_t i = 0; i != requests; ++i) {
            const VolumeRecord& volume = cluster_.configuration().volumes[rng_.below(volumes)];
            const std::uint64_t begin =
                cluster_.configuration().area_of(volume).begin.value / sector_size;
            const std::uint64_t sectors =
                cluster_.configuration().area_of(volume).size / sector_size;
            const std::uint64_t count = 1 + rng_.below(rng_.chance(6) ? sectors : 20);
            const std::uint64_t first = begin + rng_.below(sectors - count + 1);
            if (rng_.below(5) < 3) {
                co_await clients_.write(node, first * sector_size, count * sector_size,
                                        rng_.chance(8) ? Fua::yes : Fua::no);
            } else {
                co_await clients_.read(node, first * sector_size, count * sector_size);
            }
        }
        --working_;
    }
    /// As long as any client works, and lets go of everything at the end.
    Task<void> operate(std::uint32_t node) {
        cluster::Reservations& own = cluster_.reservations(node);
        while (working_ != 0) {
            const std::string volume = std::to_string(rng_.below(volumes));
            const auto done = co_await own.reserve(volume);
            ++(done ? reserved_ : conflicts_);
            if (done) {
                EXPECT_EQ(holders(volume), 1u) << "volume " << volume;
            }
            Timer timer(cluster_.loop(),
                        Nanos{cluster_.loop().now().value + 1 + rng_.below(60'000'000)});
            co_await timer;
            if (!done) continue;
            EXPECT_TRUE(co_await own.release(volume));
        }
    }
    std::uint32_t holders(const std::string& volume) {
        std::uint32_t holders = 0;
        for (std::uint32_t node = 0; node != nodes_; ++node) {
            const auto status = cluster_.reservations(node).status()[std::stoul(volume)];
            holders += status.holds && status.node == node + 1 ? 1 : 0;
        }
        return holders;
    }

    SimCluster& cluster_;
    Clients<SimCluster> clients_;
    Rng rng_;
    std::uint32_t nodes_;
    std::uint32_t working_{0};
    std::uint64_t reserved_{0};
    std::uint64_t conflicts_{0};
};

struct Shape {
    Level level;
    std::uint32_t members;
    std::uint32_t nodes;
    std::uint32_t homes;
    const char* name;
};

class SharedReservations : public ::testing::TestWithParam<Shape> {
  protected:
    static SimClusterOptions options_of(const Shape& shape, std::uint64_t seed) {
        SimClusterOptions options;
        options.seed = seed;
        options.level = shape.level;
        options.members = shape.members;
        options.nodes = shape.nodes;
        options.homes = shape.homes;
        options.stripes = 2 + seed % 5;
        options.volumes = Reservers::volumes;
        options.walker = static_cast<std::uint32_t>(seed % shape.nodes);
        return options;
    }
};

// Goal: R1 whoever has a volume, and while it changes hands. Method: nodes reserve and release two
// volumes all the time, and clients of all write and read; what is refused has not happened. Members
// fail in some runs.
TEST_P(SharedReservations, EverySectorIsOneRegister) {
    const Shape& shape = GetParam();
    std::uint64_t refused = 0;
    std::uint64_t reserved = 0;
    std::uint64_t conflicts = 0;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimCluster cluster(options_of(shape, seed));
        if (seed % 3 == 0) {
            const auto member = static_cast<std::uint32_t>(seed / 3 % shape.members);
            cluster.fail_by_chance(member, 150'000'000);
        }
        Reservers all(cluster, shape.nodes);
        all.run(3, 20);
        all.check();
        refused += all.refused();
        reserved += all.reserved();
        conflicts += all.conflicts();
        if (HasFailure()) return;
    }
    EXPECT_GT(refused, 100u);
    EXPECT_GT(reserved, 100u);
    EXPECT_GT(conflicts, 20u);
}

// Goal: nobody misses a rebuild that goes through a volume which somebody has for himself, and who
// lets go of it tells nothing old. Method: as above, on an array that has missed a member for a
// while; the member is in sync at the end, and is read.
TEST_P(SharedReservations, ARebuildGoesThroughAllVolumes) {
    const Shape& shape = GetParam();
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        SimClusterOptions options = options_of(shape, seed);
        options.lost = 1;
        options.stripes = 4 + seed % 9;
        SimCluster cluster(options);
        Reservers all(cluster, shape.nodes);
        all.run(2, 6);
        cluster.rebuild(MemberIndex{0}, *options.walker);
        all.run(3, 20);
        all.check();
        EXPECT_EQ(cluster.configuration().lost_count(), 0u) << "it is rebuilt";
        if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SharedReservations,
                         ::testing::Values(Shape{Level::raid5, 4, 2, 0, "Raid5TwoNodes"},
                                           Shape{Level::raid5, 4, 3, 0, "Raid5ThreeNodes"},
                                           Shape{Level::raid6, 6, 4, 2, "Raid6FourNodes"}),
                         [](const auto& shape) { return shape.param.name; });

// Goal: what is reserved costs no lock (CLUSTER 5). Method: from a node that is home of nothing, to
// homes that are all equally far.
TEST(ReservedVolume, SendsNoLock) {
    constexpr std::uint64_t one_way = 1'000'000'000;
    for (const Level level : {Level::raid5, Level::raid6}) {
        SimClusterOptions options;
        options.level = level;
        options.members = 6;
        options.nodes = 4;
        options.homes = 3;
        options.disk_nanos = 1;
        options.delay = {one_way, 0};
        options.walker = 3;
        SimCluster cluster(options);
        cluster::Reservations& own = cluster.reservations(3);
        ASSERT_TRUE(cluster.loop().run_until_done(own.reserve("0")));
        Buffer data(cluster.geometry().stripe_data_size());
        const auto trips = [&](IoRequest request) {
            const std::uint64_t begin = cluster.loop().now().value;
            EXPECT_TRUE(cluster.run(3, request));
            return (cluster.loop().now().value - begin + one_way / 2) / (2 * one_way);
        };
        IoRequest request = request_of(IoKind::write, 0, data);
        EXPECT_EQ(trips(request), 1u) << "a full stripe: stage";
        request.fua = true;
        EXPECT_EQ(trips(request), 2u) << "and durable";
        request.fua = false;
        request.size = row_size;
        EXPECT_EQ(trips(request), 2u) << "a small write: read, stage";
        request.fua = true;
        EXPECT_EQ(trips(request), 3u) << "and durable";
        request.kind = IoKind::read;
        request.fua = false;
        EXPECT_EQ(trips(request), 1u) << "a read";
        const auto& sent = cluster.homes(3).counts().sent;
        EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::lock)], 0u);
        EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::unlock)], 0u);
        ASSERT_TRUE(cluster.loop().run_until_done(own.release("0")));
        request.kind = IoKind::write;
        EXPECT_EQ(trips(request), 3u) << "it is shared again";
        EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::lock)], 1u);
        cluster.settle();
    }
}

// Goal: nor does what is computed in a lost member's place. Method: the same, with one member lost.
TEST(ReservedVolume, SendsNoLockForALostMember) {
    constexpr std::uint64_t one_way = 1'000'000'000;
    for (const Level level : {Level::raid5, Level::raid6}) {
        SimClusterOptions options;
        options.level = level;
        options.members = 6;
        options.nodes = 4;
        options.homes = 3;
        options.lost = 1;
        options.disk_nanos = 1;
        options.delay = {one_way, 0};
        options.walker = 3;
        SimCluster cluster(options);
        const Geometry& geometry = cluster.geometry();
        ASSERT_TRUE(cluster.loop().run_until_done(cluster.reservations(3).reserve("0")));
        StripeIndex stripe{0};  // whose data is lost
        while (!geometry.data_roles().has(geometry.role_of(stripe, MemberIndex{0}))) {
            stripe = stripe + 1;
        }
        const Role lost = geometry.role_of(stripe, MemberIndex{0});
        const Role other{raw(lost) == 0 ? 1U : 0U};
        Buffer data(row_size);
        const auto trips = [&](IoKind kind, Role role) {
            const std::uint64_t begin = cluster.loop().now().value;
            const std::uint64_t at = geometry.array_offset_of({stripe, role, 0}).value;
            EXPECT_TRUE(cluster.run(3, request_of(kind, at, data)));
            return (cluster.loop().now().value - begin + one_way / 2) / (2 * one_way);
        };
        EXPECT_EQ(trips(IoKind::read, lost), 1u) << "a computed read: read the others";
        EXPECT_EQ(trips(IoKind::write, lost), 2u) << "of what is lost: read the others, stage";
        EXPECT_EQ(trips(IoKind::write, other), 2u) << "beside it: read, stage";
        EXPECT_EQ(trips(IoKind::read, other), 1u);
        const auto& sent = cluster.homes(3).counts().sent;
        EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::lock)], 0u);
        EXPECT_EQ(sent[static_cast<std::size_t>(HomeCommandKind::unlock)], 0u);
        cluster.settle();
        EXPECT_EQ(cluster.wrong_rows(), 0u);
    }
}

Task<void> ask_holder(SimCluster* cluster, IoRequest request, bool* over) {
    EXPECT_TRUE(co_await cluster->ask(1, request));
    *over = true;
}
Task<void> let_go(SimCluster* cluster, bool* over) {
    EXPECT_TRUE(co_await cluster->reservations(1).release("0"));
    *over = true;
}

// Goal: a request that waits for a resync, which may take hours, keeps nobody waiting for the volume.
// Method: writes and zeroes meet rows in doubt; then the volume is released, and then the resync comes.
TEST(ReservedVolume, IsReleasedBesideWhoWaitsForAResync) {
    for (const IoKind kind : {IoKind::write, IoKind::zero}) {
        SimClusterOptions options;
        options.lost = 1;
        options.walker = 0;
        options.zero_fast = false;
        SimCluster cluster(options);
        ASSERT_TRUE(cluster.loop().run_until_done(cluster.reservations(1).reserve("0")));
        Serving& serving = cluster.serving(1);
        serving.add_doubt({WindowIndex{}, cluster.geometry().window_end()});
        serving.set_resync_comes(true);
        Buffer data(16u << 10);
        bool answered = false;
        bool released = false;
        const IoRequest request = request_of(kind, 48u << 10, data);
        cluster.loop().tasks().spawn(ask_holder(&cluster, request, &answered));
        cluster.loop().run_for(seconds(1));
        EXPECT_FALSE(answered) << "it waits for the resync";
        cluster.loop().tasks().spawn(let_go(&cluster, &released));
        cluster.loop().run_for(seconds(1));
        EXPECT_TRUE(released);
        serving.doubt_passed(cluster.geometry().window_end());
        cluster.loop().run_for(seconds(1));
        EXPECT_TRUE(answered);
    }
}

/// A node that is home of nothing, and so hears of no walk's locks there, reserves the volume before a
/// slow rebuild or in the middle of it, and writes what was rebuilt first.
/// @return rows whose strips do not fit together afterwards
std::uint64_t wrong_behind_a_rebuild(bool reserved_before, std::uint64_t seed) {
    constexpr std::uint32_t holder = 2;
    SimClusterOptions options;
    options.seed = seed;
    options.lost = 1;
    options.homes = 2;
    options.stripes = 40;
    options.walker = 0;
    options.disk_nanos = 5'000'000;
    SimCluster cluster(options);
    const auto reserve = [&] {
        EXPECT_TRUE(cluster.loop().run_until_done(cluster.reservations(holder).reserve("0")));
    };
    Buffer all(cluster.geometry().data_size());
    EXPECT_TRUE(cluster.run(0, request_of(IoKind::write, 0, all)));
    if (reserved_before) reserve();
    cluster.rebuild(MemberIndex{0}, 0);
    const auto is_far = [&] {
        const auto rebuilds = cluster.homes(0).rebuilds();
        return !rebuilds.empty() && raw(rebuilds.front().upto) >= 10;
    };
    while (!is_far() && cluster.loop().step()) {
    }
    EXPECT_TRUE(is_far());
    if (!reserved_before) reserve();
    Buffer stripe(cluster.geometry().stripe_data_size());
    std::memset(stripe.data(), 0xee, stripe.size());
    EXPECT_TRUE(cluster.run(holder, request_of(IoKind::write, 0, stripe)));
    EXPECT_TRUE(cluster.is_rebuilding(MemberIndex{0})) << "the write came in the middle";
    while (cluster.is_rebuilding(MemberIndex{0}) && cluster.loop().step()) {
    }
    EXPECT_FALSE(cluster.is_rebuilding(MemberIndex{0}));
    cluster.settle();
    return cluster.wrong_rows();
}

// Goal: who has a volume writes a member that is being rebuilt wherever the rebuild has been, though
// its rows are no longer locked where that is known.
TEST(ReservedVolume, TheHolderHearsHowFarARebuildIs) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        EXPECT_EQ(wrong_behind_a_rebuild(false, seed), 0u) << "seed " << seed;
    }
}

// Goal: a walk comes to whoever has the volume: it locks the rows there, too.
TEST(ReservedVolume, AWalkLocksRowsAtTheHolder) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        EXPECT_EQ(wrong_behind_a_rebuild(true, seed), 0u) << "seed " << seed;
    }
}

}  // namespace
}  // namespace braid::sim
