// SPDX-License-Identifier: BSD-3-Clause
// What two nodes do with the same rows: a request of each plan that a write can have, reads, a rebuild.
#pragma once

#include <array>
#include <cstdint>

#include "engine/layout/geometry.h"
#include "tests/cluster/clients.h"
#include "tests/cluster/sim_cluster.h"

namespace braid::sim {

enum class What : std::uint8_t {
    sector,       // of a row: read, changed, written
    row,          // RMW
    row_fua,      // and durable
    rows,         // several of one strip
    two_strips,   // RCW
    stripe,       // full stripe
    zero_stripe,  // on all members at once
    zero_row,     // written as zeros
    read_row,
    read_stripe,
    later_row,  // RMW, of the last one of `rows`; only where a test says so
    rebuild,    // of a lost member, by this node; no request
};
inline constexpr std::array<What, 10> all_plans{
    What::sector, What::row,         What::row_fua,  What::rows,     What::two_strips,
    What::stripe, What::zero_stripe, What::zero_row, What::read_row, What::read_stripe};
inline constexpr std::array<const char*, 10> plan_names{
    "sector", "row",         "row_fua",  "rows",     "two_strips",
    "stripe", "zero_stripe", "zero_row", "read_row", "read_stripe"};

struct Setting {
    Level level;
    std::uint32_t members;
    std::uint32_t lost;
    const char* name;
};

/// Of one stripe, on disks that take next to no time; a message takes a millisecond.
inline SimClusterOptions cluster_of(const Setting& array) {
    SimClusterOptions options;
    options.level = array.level;
    options.members = array.members;
    options.lost = array.lost;
    options.stripes = 1;
    options.disk_nanos = 1;
    options.delay = {1'000'000, 0};
    return options;
}

/// Its value is 1; that of zeroes is 0.
inline void fill(SimCluster& cluster, Clients<SimCluster>& clients) {
    cluster.loop().run_until_done(clients.write(0, 0, cluster.geometry().stripe_data_size()));
    cluster.settle();
}

inline Task<void> carry_out(Clients<SimCluster>* clients, const Geometry* geometry,
                            std::uint32_t node, What what) {
    const std::uint64_t stripe = geometry->stripe_data_size();
    switch (what) {
        case What::sector:
            return clients->write(node, sector_size, sector_size);
        case What::row:
            return clients->write(node, 0, row_size);
        case What::row_fua:
            return clients->write(node, 0, row_size, Fua::yes);
        case What::rows:
            return clients->write(node, 0, 3 * row_size);
        case What::two_strips:
            return clients->write(node, 0, geometry->strip_size + row_size);
        case What::stripe:
            return clients->write(node, 0, stripe);
        case What::zero_stripe:
            return clients->zero(node, 0, stripe);
        case What::zero_row:
            return clients->zero(node, 0, row_size);
        case What::read_row:
            return clients->read(node, 0, row_size);
        case What::later_row:
            return clients->write(node, 2 * row_size, row_size);
        case What::read_stripe:
        case What::rebuild:
            break;
    }
    return clients->read(node, 0, stripe);
}

}  // namespace braid::sim
