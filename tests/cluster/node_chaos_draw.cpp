// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: what a seed draws. Each kind of thing has a stream of its own, so that a new one changes none
// of the others.
#include <fmt/format.h>

#include <array>

#include "tests/cluster/node_chaos_kit.h"

namespace braid::sim {
namespace {

/// What the cluster's file says. Half of all runs have what is there by default, or was once.
void draw_file(std::uint64_t seed, ChaosOptions& options) {
    Rng rng(seed * 0x9e3779b97f4a7c15 + 2);
    if (rng.chance(2)) return;
    if (rng.chance(2)) options.no_quorum = cluster::NoQuorum::wait;
    if (rng.chance(2)) options.channels = 2;
    if (!rng.chance(3)) return;
    constexpr std::array<std::uint32_t, 4> leases{2400, 4000, 8000, 30'000};
    options.lease_ms = leases[rng.below(leases.size())];
    if (rng.chance(2)) options.heartbeat_ms = options.lease_ms / heartbeats_per_lease;
}

/// In the middle of every fourth run one more machine comes, with no members.
void draw_machine(std::uint64_t seed, ChaosOptions& options) {
    Rng rng(seed * 0x9e3779b97f4a7c15 + 4);
    if (rng.chance(4)) options.machine_after = 1 + rng.below(options.seconds);
}

/// In every fourth run in which no more is lost than the level can there are spares.
void draw_spares(std::uint64_t seed, Spares spares, ChaosOptions& options) {
    Rng rng(seed * 0x9e3779b97f4a7c15 + 5);
    const bool has_some = rng.chance(4) || spares == Spares::some;
    if (options.beyond || options.witness || !has_some) return;
    options.spares = 1 + static_cast<std::uint32_t>(rng.below(2));
    options.rebuild_delay_ms = rng.below(8'000);
    options.kinds &= ~bit(ChaosKind::disk);
}

/// Half of those whose members are at two nodes have four of them, and a witness.
void draw_witness(std::uint64_t seed, ChaosOptions& options) {
    Rng rng(seed * 0x9e3779b97f4a7c15 + 3);
    if (options.homes != 2 || rng.chance(2)) return;
    options.members = 4;
    options.witness = 2 + static_cast<std::uint32_t>(rng.below(options.nodes - 2));
}

}  // namespace

ChaosOptions draw_chaos(std::uint64_t seed, Spares spares) {
    Rng rng(seed * 0x9e3779b97f4a7c15 + 1);
    ChaosOptions options;
    options.seed = seed;
    switch (rng.below(6)) {
        case 0:
        case 1:
            break;
        case 2:
            options.level = seed % 2 == 0 ? Level::raid4 : Level::raid5;
            options.members = 4;
            options.nodes = 4;
            break;
        case 3:
            options.level = Level::raid6;
            options.members = 6;
            options.nodes = 4;
            break;
        case 4:
            options.level = Level::raid6;
            options.members = options.nodes = 5;
            break;
        default:
            options.level = Level::raid6;
            options.members = 6;
            options.nodes = 4;
            options.homes = 2;
    }
    if (rng.chance(2)) options.region = 64u << 10;
    if (rng.chance(4)) options.stripes = 48;
    if (rng.chance(3)) options.drift_ppm = 10'000;
    options.seconds = 30 + rng.below(90);
    options.pause_ms = rng.chance(2) ? 1000 : 8000;
    options.think_ms = rng.chance(3) ? 40 : 400;
    options.kinds = all_kinds;
    if (rng.chance(2)) {
        // Some of them only, so that more of the same comes together.
        options.kinds &= static_cast<std::uint32_t>(rng.next());
        options.kinds |= bit(static_cast<ChaosKind>(rng.below(3)));
    }
    options.beyond = rng.chance(3);
    draw_file(seed, options);
    draw_witness(seed, options);
    draw_machine(seed, options);
    draw_spares(seed, spares, options);
    return options;
}

std::string text_of(const ChaosOptions& options) {
    std::string text = fmt::format(
        "RAID-{} of {} on {} nodes{}, {} stripes, marks of {}, {} s, {}, kinds {:#x}, drift {} ppm, "
        "pause {} ms, clients' {} ms{}, no_quorum={}, {} channels, lease {} ms, heartbeat {} ms",
        static_cast<int>(options.level), options.members, options.nodes,
        options.homes == 0 ? ""
                           : fmt::format(" ({} with members{})", options.homes,
                                         options.witness ? ", and a witness" : ""),
        options.stripes, options.region, options.seconds, options.beyond ? "beyond" : "within",
        options.kinds, options.drift_ppm, options.pause_ms, options.think_ms,
        options.strict ? ", strict reads" : "",
        options.no_quorum == cluster::NoQuorum::wait ? "wait" : "error", options.channels,
        options.lease_ms, options.heartbeat_ms);
    if (options.spares == 0) return text;
    return text + fmt::format(", {} spares after {} ms", options.spares, options.rebuild_delay_ms);
}

}  // namespace braid::sim
