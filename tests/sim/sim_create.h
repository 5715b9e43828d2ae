// SPDX-License-Identifier: BSD-3-Clause
// A new array on simulated disks, and requests to one.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "engine/assembly/create.h"
#include "engine/io_request.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_loop.h"

namespace braid::sim {

enum class WithWitness : bool { no, yes };

/// @param disks    as unique_ptr of any Disk; those from `roles` on are spares
/// @param witness  whether the last one is the witness
template <class Disks>
Configuration create_on(SimLoop& loop, const Disks& disks, std::size_t roles,
                        const CreateOptions& how, WithWitness witness = WithWitness::no) {
    std::vector<CreateMember> members;
    std::vector<Disk*> pointers;
    for (const auto& disk : disks) {
        CreateMember member;
        member.path = disk->info().path;
        member.size = disk->info().size;
        const bool is_last = members.size() + 1 == disks.size();
        member.witness = is_last && witness == WithWitness::yes;
        member.spare = members.size() >= roles && !member.witness;
        member.zero_fast = zeroes_fast(disk->info());
        members.push_back(member);
        pointers.push_back(disk.get());
    }
    auto plan = plan_create(how, members, loop.rng());
    EXPECT_TRUE(plan) << plan.error().text;
    const auto created = loop.run_until_done(create_array(pointers, *plan, {}));
    EXPECT_TRUE(created) << created.error().text;
    return plan->configuration;
}

/// @tparam Served  with submit(IoRequest&)
template <class Served>
Task<Result<void>> ask_of(Served& served, IoRequest request) {
    Event over;
    request.user = &over;
    request.done = [](IoRequest& done) { static_cast<Event*>(done.user)->set(); };
    served.submit(request);
    co_await over.wait();
    if (request.ok) co_return Result<void>{};
    co_return request.error;
}

}  // namespace braid::sim
