// SPDX-License-Identifier: BSD-3-Clause
#include "tests/sim/sim_options.h"

#include <fmt/format.h>

#include "engine/base/rng.h"

namespace braid::sim {
namespace {

template <class T, std::size_t n>
T one_of(Rng& rng, const T (&values)[n]) {
    return values[rng.below(n)];
}

/// From chance of its own: the half of the seeds that has none of them runs as without.
void draw_crossings(SimOptions& o) {
    Rng rng(o.seed ^ 0xc105'51'0f'ea'7e'2217);
    if (rng.chance(2)) return;
    o.lone_starts = rng.chance(3);
    o.tense_starts = rng.chance(2);
    o.crashes_at_changes = rng.chance(3);
    o.copies_at_rest = rng.chance(3);
    o.rewrites = rng.chance(2);
    o.aliases = rng.chance(3);
    if (o.lone_starts) o.wall_stands = true;  // else its seconds do what promises are for
    if (o.crashes_at_changes) o.faults_one_in = 40;
    if (o.lone_starts || o.copies_at_rest) {  // many starts, and members that come back
        o.crashes_one_in = 40;
        o.operators_one_in = 40;
    }
    if (!rng.chance(12)) return;
    // A mark for each stripe, so many that a record of them does not fit one sector.
    o.strip_size = 16384;
    o.stripes = 96;
    o.members = parities_of(o.level) + 4;
    o.intent_region = 64u << 10;
    o.hot_sectors = 0;
    o.latency_nanos = 100'000;
    o.flights_max = 40;
    o.pace = 4;
}

/// Likewise: of the seeds whose members have no room now and then.
void draw_failed_writes(SimOptions& o) {
    Rng rng(o.seed ^ 0xfa'11'ed'0f'3e'e5'0a11);
    o.failed_writes = o.holes && o.faults_one_in != 0 && rng.chance(2);
}

/// Those that were drawn; or "none".
std::string crossings_of(const SimOptions& o) {
    std::string text;
    const auto add = [&text](bool drawn, const char* name) {
        if (drawn) text += (text.empty() ? "" : ",") + std::string(name);
    };
    add(o.lone_starts, "lone-starts");
    add(o.tense_starts, "tense-starts");
    add(o.crashes_at_changes, "crashes-at-changes");
    add(o.copies_at_rest, "copies-at-rest");
    add(o.rewrites, "rewrites");
    add(o.aliases, "aliases");
    add(o.failed_writes, "failed-writes");
    return text.empty() ? "none" : text;
}

}  // namespace

SimOptions draw_options(std::uint64_t seed, std::uint64_t steps) {
    Rng rng(seed ^ 0x5eed'0f'0b7a'1d00);
    SimOptions o;
    o.seed = seed;
    o.steps = steps;
    o.level = one_of(rng, {Level::raid4, Level::raid5, Level::raid5, Level::raid6, Level::raid6});
    if (o.level == Level::raid5) o.layout = static_cast<Layout>(rng.below(4));
    const std::uint32_t members_min = parities_of(o.level) + 2;
    o.members =
        members_min + static_cast<std::uint32_t>(rng.below(o.level == Level::raid6 ? 3 : 4));
    o.spares = rng.chance(4) ? 1 : 0;
    o.strip_size = one_of(rng, {4096u, 4096u, 8192u, 16384u, 65536u, 524288u});
    o.stripes = o.strip_size >= 524288  ? 3
                : o.strip_size >= 65536 ? 8 + rng.below(6)
                                        : 24 + rng.below(72);
    o.volumes = o.stripes < 6 ? 1 : one_of(rng, {1u, 1u, 2u, 3u});
    o.intent_on = !rng.chance(12);
    o.intent_room = !rng.chance(16);
    o.intent_region =
        one_of(rng, {64u << 10, 64u << 10, 128u << 10, 256u << 10, 1u << 20, 16u << 20});
    o.memory_align = one_of(rng, {1u, 1u, 512u, 4096u});
    o.zero_fast = !rng.chance(3);
    o.reads_now = rng.chance(4);
    o.caches = !rng.chance(8);
    o.junk = rng.chance(3);
    o.latency_nanos = one_of(rng, {100'000u, 1'000'000u, 1'000'000u, 20'000'000u});
    o.plan = rng.chance(3) ? FaultPlan::beyond : FaultPlan::within;
    o.flights_max = one_of(rng, {1u, 4u, 16u, 40u});
    o.pace = one_of(rng, {4u, 12u, 30u, 80u});
    o.hot_sectors = one_of(rng, {0u, 0u, 64u, 512u});
    o.faults_one_in = one_of(rng, {0u, 40u, 80u, 160u});
    o.operators_one_in = one_of(rng, {0u, 40u, 80u, 160u});
    o.crashes_one_in = one_of(rng, {40u, 80u, 160u, 320u});
    o.stops_one_in = one_of(rng, {150u, 300u});
    o.idles_one_in = one_of(rng, {0u, 100u, 300u});
    o.corrupts_one_in = one_of(rng, {0u, 300u});
    o.wall_stands = rng.chance(2);
    o.holes = rng.chance(4);
    o.outages = rng.chance(3);
    draw_crossings(o);
    draw_failed_writes(o);
    return o;
}

std::string text_of(const SimOptions& o) {
    return fmt::format(
        "RAID-{} {} members={} spares={} strip={} stripes={} volumes={} intent={} region={} "
        "align={} zero={} reads={} cache={} junk={} latency={}us plan={} flights={} pace={} hot={} "
        "holes={} outages={} faults=1/{} operators=1/{} crashes=1/{} stops=1/{} idles=1/{} "
        "corrupts=1/{} wall={} crossings={}",
        static_cast<int>(o.level), text_of(o.layout), o.members, o.spares, o.strip_size, o.stripes,
        o.volumes,
        !o.intent_room ? "no-room"
        : o.intent_on  ? "on"
                       : "off",
        o.intent_region, o.memory_align, o.zero_fast ? "fast" : "slow",
        o.reads_now ? "direct" : "loop", o.caches ? "volatile" : "none", o.junk ? "yes" : "no",
        o.latency_nanos / 1000, o.plan == FaultPlan::within ? "within" : "beyond", o.flights_max,
        o.pace, o.hot_sectors, o.holes ? "yes" : "no", o.outages ? "yes" : "no", o.faults_one_in,
        o.operators_one_in, o.crashes_one_in, o.stops_one_in, o.idles_one_in, o.corrupts_one_in,
        o.wall_stands ? "stands" : "runs", crossings_of(o));
}

}  // namespace braid::sim
