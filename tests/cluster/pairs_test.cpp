// SPDX-License-Identifier: BSD-3-Clause
// Two nodes work on the same rows, each request of one with each of the other, or a rebuild with each
// request, and messages come late: none of them, each single one, and each two that are sent near each
// other (for one setting any two, with BRAID_LONG=1). A third node reads meanwhile, twice. So of all orders
// of events those are covered that two delays make of the one in which every message takes the same time;
// disks take none.
//
// Source: Emmi, Qadeer, Rakamarić, "Delay-bounded scheduling", 2011: most bugs of order need very few
// delays in a schedule that is otherwise fixed.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/cluster/clients.h"
#include "tests/cluster/pair_plans.h"
#include "tests/cluster/sim_cluster.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

Task<void> read_twice(Clients<SimCluster>* clients, std::uint64_t size) {
    co_await clients->read(2, 0, size);
    co_await clients->read(2, 0, size);
}

// Messages; some 60 are sent in all. What a sanitizer finds it finds in fewer orders, too.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint32_t near = 3;
#else
constexpr std::uint32_t near = 16;
#endif

class Pairs : public ::testing::TestWithParam<Setting> {
  protected:
    /// @return how many messages were sent until all was answered
    std::uint32_t run(What first, What second, std::vector<std::uint32_t> late_ones) {
        SimLate late;
        SimCluster cluster(cluster_of(GetParam()));
        Clients clients(cluster, ~std::uint64_t{0});
        const Geometry& geometry = cluster.geometry();
        SimLoop& loop = cluster.loop();
        fill(cluster, clients);
        late.numbers = std::move(late_ones);
        cluster.set_late(&late);
        TaskGroup& tasks = loop.tasks();
        const MemberIndex filled{0};
        if (first == What::rebuild) {
            cluster.rebuild(filled, 0);
        } else {
            tasks.spawn(carry_out(&clients, &geometry, 0, first));
        }
        tasks.spawn(carry_out(&clients, &geometry, 1, second));
        tasks.spawn(read_twice(&clients, row_size));
        while (tasks.running() != 0 || cluster.is_rebuilding(filled)) {
            if (loop.step()) continue;
            ADD_FAILURE() << "nothing goes on";
            break;
        }
        const std::uint32_t sent = late.sent;
        cluster.set_late(nullptr);
        cluster.settle();
        clients.check(3);
        EXPECT_EQ(cluster.wrong_rows(), 0u);
        EXPECT_TRUE(first != What::rebuild || !cluster.is_lost(filled));
        return sent;
    }
    void run_all(What first, What second) {
        const std::uint32_t sent = run(first, second, {});
        for (std::uint32_t one = 0; one != sent && !HasFailure(); ++one) {
            run(first, second, {one});
            const bool any_two = test::is_long && std::string_view(GetParam().name) == "Raid5";
            const std::uint32_t from = one > near && !any_two ? one - near : 0;
            for (std::uint32_t two = from; two != one && !HasFailure(); ++two) {
                run(first, second, {two, one});
                ++runs;
            }
            if (HasFailure()) ADD_FAILURE() << "with message " << one << " late";
        }
    }
    std::uint64_t runs{0};
};

TEST_P(Pairs, OfRequestsOnTheSameRowsFitWhateverComesLate) {
    for (std::size_t i = 0; i != all_plans.size(); ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            SCOPED_TRACE(std::string(plan_names[i]) + " and " + plan_names[j]);
            run_all(all_plans[i], all_plans[j]);
            if (HasFailure()) return;
        }
    }
    EXPECT_GT(runs, 1000u);
}

TEST_P(Pairs, OfARebuildAndARequestFitWhateverComesLate) {
    if (GetParam().lost == 0) GTEST_SKIP() << "there is nothing to be rebuilt";
    for (std::size_t i = 0; i != all_plans.size(); ++i) {
        SCOPED_TRACE(std::string("a rebuild and ") + plan_names[i]);
        run_all(What::rebuild, all_plans[i]);
        if (HasFailure()) return;
    }
    EXPECT_GT(runs, 1000u);
}

INSTANTIATE_TEST_SUITE_P(Settings, Pairs,
                         ::testing::Values(Setting{Level::raid5, 4, 0, "Raid5"},
                                           Setting{Level::raid5, 4, 1, "Raid5Degraded"},
                                           Setting{Level::raid6, 5, 0, "Raid6"},
                                           Setting{Level::raid6, 5, 2, "Raid6TwoLost"}),
                         [](const auto& setting) { return setting.param.name; });

}  // namespace
}  // namespace braid::sim
