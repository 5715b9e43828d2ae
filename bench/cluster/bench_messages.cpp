// SPDX-License-Identifier: BSD-3-Clause
// bench_messages: what a small write costs between nodes, in messages and in time, on a simulated
// network whose delay is the only thing that takes time: with old parity that comes with the lock and
// ends that go together, and beside it with a message for each of them; and in a volume that the node
// has reserved. As the nodes become more.
#include <fmt/format.h>

#include <cstring>
#include <iterator>
#include <string_view>

#include "tests/cluster/sim_cluster.h"

namespace braid::sim {
namespace {

struct Cost {
    double messages{0};
    double round_trips{0};
    double microseconds{0};
};

/// From the last node, which is home of nothing, where there are more nodes than homes.
Cost measure(Level level, std::uint32_t nodes, std::uint64_t one_way, bool combined,
             bool reserved) {
    SimClusterOptions options;
    options.level = level;
    options.members = level == Level::raid6 ? 6 : 3;
    options.nodes = nodes;
    options.homes = std::min(nodes, 3u);
    options.stripes = 32;
    options.disk_nanos = 1;
    options.sessions = true;
    options.combined = combined;
    options.net = {one_way, 0, 16u << 20, 16u << 20, 1u << 20};
    options.walker = 0;
    SimCluster cluster(options);
    const std::uint32_t client = nodes - 1;
    if (reserved && !cluster.loop().run_until_done(cluster.reservations(client).reserve("0"))) {
        throw std::runtime_error("the volume is not reserved");
    }
    Buffer data(sector_size);
    const std::uint64_t strip = cluster.geometry().strip_size;
    const std::uint64_t count = cluster.geometry().data_size() / strip;
    const std::uint64_t before = cluster.homes(client).messages();
    const std::uint64_t begin = cluster.loop().now().value;
    for (std::uint64_t i = 0; i != count; ++i) {
        if (!cluster.run(client, request_of(IoKind::write, i * strip, data))) {
            throw std::runtime_error("a write failed");
        }
    }
    const auto nanos = static_cast<double>(cluster.loop().now().value - begin);
    cluster.loop().run_for(millis(10));  // what need not be waited for
    const auto writes = static_cast<double>(count);
    Cost cost;
    cost.messages = static_cast<double>(cluster.homes(client).messages() - before) / writes;
    cost.microseconds = nanos / writes / 1000;
    cost.round_trips = nanos / writes / (2 * static_cast<double>(one_way));
    return cost;
}

void run(std::FILE* json) {
    bool first = true;
    if (json != nullptr) fmt::print(json, "[\n");
    for (const std::uint64_t one_way : {25'000u, 250'000u}) {
        fmt::print(
            "delay {} us there and back: messages, round trips and us for a write of a sector\n",
            2 * one_way / 1000);
        fmt::print("{:<8}{:>6}{:>24}{:>24}{:>24}{:>8}\n", "", "nodes", "together", "each alone",
                   "reserved", "factor");
        for (const Level level : {Level::raid5, Level::raid6}) {
            for (const std::uint32_t nodes : {2u, 3u, 5u, 8u}) {
                const Cost costs[] = {measure(level, nodes, one_way, true, false),
                                      measure(level, nodes, one_way, false, false),
                                      measure(level, nodes, one_way, true, true)};
                fmt::print("RAID-{:<3}{:>6}", static_cast<int>(level), nodes);
                for (const Cost& cost : costs) {
                    fmt::print("{:>10.2f}{:>6.2f}{:>8.0f}", cost.messages, cost.round_trips,
                               cost.microseconds);
                }
                fmt::print("{:>8.2f}\n", costs[1].messages / costs[0].messages);
                if (json == nullptr) continue;
                fmt::print(json, "{}{{\"level\": {}, \"nodes\": {}, \"delay_us\": {}",
                           first ? "" : ",\n", static_cast<int>(level), nodes, 2 * one_way / 1000);
                const char* const names[] = {"together", "alone", "reserved"};
                for (std::size_t i = 0; i != std::size(costs); ++i) {
                    fmt::print(
                        json, ", \"{0}\": {1:.3f}, \"trips_{0}\": {2:.3f}, \"us_{0}\": {3:.1f}",
                        names[i], costs[i].messages, costs[i].round_trips, costs[i].microseconds);
                }
                fmt::print(json, "}}");
                first = false;
            }
        }
    }
    if (json != nullptr) fmt::print(json, "\n]\n");
}

}  // namespace
}  // namespace braid::sim

int main(int count, char** words) {
    std::FILE* json = nullptr;
    for (int i = 1; i < count; ++i) {
        const std::string_view word = words[i];
        if (word == "--quick") continue;  // it is
        if (word == "--json" && i + 1 < count) {
            json = std::fopen(words[++i], "w");
            if (json != nullptr) continue;
        }
        fmt::print(stderr, "bench_messages [--quick] [--json FILE]\n");
        return 64;
    }
    braid::sim::run(json);
    if (json != nullptr) std::fclose(json);
    return 0;
}
