// SPDX-License-Identifier: BSD-3-Clause
// Two nodes work on the same rows, each request of one with each of the other, or a rebuild with each
// request: in all orders in which messages can arrive (arrival_search.h). A request comes to its node as a
// message, too, so it begins at any moment. Where nodes cannot tell whether one request had ended before
// another one began it is run once more with that end as early as it can be: what clients see then is the
// strictest that fits.
//
// A message arrives when all that came of the one before is done: within a node what is ready goes on in its
// order, and disks take no time, nor do timers. What a disk in the middle of something makes possible, and two
// messages that come at once, cluster_pairs_test and cluster_shared_rows_test have.
#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "tests/cluster/arrival_search.h"
#include "tests/cluster/clients.h"
#include "tests/cluster/pair_plans.h"
#include "tests/cluster/sim_cluster.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

using test::Arrival;
using test::ArrivalSearch;
using test::Channel;

struct OrdersSetting {
    Setting array;
    Answers answers;
    std::uint32_t reads;  // by a third node, one after the other, meanwhile
};

std::string text_of(const std::vector<Channel>& way) {
    std::string text;
    for (const Channel& channel : way) {
        text += std::to_string(channel.from) + ">" + std::to_string(channel.to) + " ";
    }
    return text;
}

/// Steps, of a request.
struct Span {
    std::uint32_t begin{0};
    std::uint32_t end{0};
};

class PairOrders : public ::testing::TestWithParam<OrdersSetting> {
  protected:
    static constexpr std::uint32_t client_channel = 90;

    /// @param next  which one comes of the messages that may; none: the run ends
    /// @return      whether it came to its end
    template <class Next>
    bool run(What first, What second, Next next) {
        HeldMessages held(GetParam().answers);
        SimCluster cluster(cluster_of(GetParam().array));
        Clients clients(cluster, ~std::uint64_t{0});
        const Geometry& geometry = cluster.geometry();
        SimLoop& loop = cluster.loop();
        fill(cluster, clients);
        cluster.set_held(&held);
        spans_.clear();
        const MemberIndex filled{0};
        const std::array<What, 2> plans{first, second};
        for (std::uint32_t node = 0; node != 2; ++node) {
            if (plans[node] == What::rebuild) {
                cluster.rebuild(filled, node);
                continue;
            }
            held.send({client_channel + node, node}, [&, node] {
                loop.tasks().spawn(ask(&clients, &geometry, node, plans[node], &held));
            });
        }
        if (GetParam().reads != 0) {
            held.send({client_channel + 2, 2},
                      [&] { loop.tasks().spawn(read(&clients, GetParam().reads, &held)); });
        }
        for (;;) {
            while (loop.step()) {
            }
            const std::vector<Arrival> offered = held.first();
            if (offered.empty()) break;
            const std::optional<Channel> chosen = next(offered);
            if (!chosen) return false;
            held.let_come(*chosen);
        }
        EXPECT_EQ(loop.tasks().running(), 0u) << "nothing goes on";
        EXPECT_TRUE(first != What::rebuild || !cluster.is_lost(filled));
        if (HasFailure()) return true;
        cluster.set_held(nullptr);
        cluster.settle();
        clients.check(3);
        EXPECT_EQ(cluster.wrong_rows(), 0u);
        return true;
    }
    Task<void> ask(Clients<SimCluster>* clients, const Geometry* geometry, std::uint32_t node,
                   What what, const HeldMessages* held) {
        const std::uint32_t begin = held->steps() - 1;
        co_await carry_out(clients, geometry, node, what);
        spans_.push_back({begin, held->steps() - 1});
    }
    Task<void> read(Clients<SimCluster>* clients, std::uint32_t times, const HeldMessages* held) {
        for (std::uint32_t i = 0; i != times; ++i) {
            const std::uint32_t begin = held->steps() - 1;
            co_await clients->read(2, 0, row_size);
            spans_.push_back({begin, held->steps() - 1});
        }
    }

    /// The run that is over, with the end of one request as early as it can be, if that may come before
    /// another one's begin and did not.
    void run_again(const ArrivalSearch& search, What first, What second) {
        std::vector<std::uint32_t> ends;
        for (const Span& one : spans_) {
            const bool matters = std::ranges::any_of(spans_, [&](const Span& other) {
                return other.begin < one.end && !search.is_before(other.begin, one.end);
            });
            if (matters) ends.push_back(one.end);
        }
        for (const std::uint32_t end : ends) {
            const std::vector<Channel> way = search.way_at_once_to(end);
            std::size_t step = 0;
            run(first, second,
                [&](const std::vector<Arrival>&) { return std::optional(way.at(step++)); });
            EXPECT_EQ(step, way.size());
            ++again_;
            if (HasFailure()) ADD_FAILURE() << "messages come in this order: " << text_of(way);
        }
    }
    void run_all(What first, What second) {
        ArrivalSearch search;
        while (search.next_run()) {
            const bool whole = run(first, second, [&](const std::vector<Arrival>& offered) {
                return search.choose(offered);
            });
            if (HasFailure()) {
                ADD_FAILURE() << "messages come in this order: " << text_of(search.way());
                return;
            }
            if (whole) run_again(search, first, second);
            if (HasFailure()) return;
        }
        orders_ += search.orders();
        most_ = std::max(most_, search.orders());
        cut_short_ += search.cut_short();
    }
    ~PairOrders() override {
        if (orders_ == 0) return;
        std::cout << orders_ << " orders, of one pair at most " << most_ << "; " << again_
                  << " once more, " << cut_short_ << " cut short\n";
    }

    std::vector<Span> spans_;  // of requests, as they ended
    std::uint64_t orders_{0};
    std::uint64_t most_{0};
    std::uint64_t again_{0};
    std::uint64_t cut_short_{0};
};

TEST_P(PairOrders, OfRequestsOnTheSameRowsFit) {
    for (std::size_t i = 0; i != all_plans.size(); ++i) {
        for (std::size_t j = 0; j != all_plans.size(); ++j) {
            SCOPED_TRACE(std::string(plan_names[i]) + " and " + plan_names[j]);
            run_all(all_plans[i], all_plans[j]);
            if (HasFailure()) return;
        }
    }
    EXPECT_GT(orders_, 1000u);
}

// All others have their first row in common.
TEST_P(PairOrders, OfRequestsThatHaveALaterRowInCommonFit) {
    for (const What what : {What::rows, What::stripe, What::zero_stripe, What::read_stripe}) {
        run_all(what, What::later_row);
        run_all(What::later_row, what);
        if (HasFailure()) return;
    }
}

/// Of arrays that have lost something.
class RebuildOrders : public PairOrders {};

/// With the configuration that ends it these are many: where one is lost of three some 20,000 each.
TEST_P(RebuildOrders, BesideARequestFit) {
    for (std::size_t i = 0; i != all_plans.size(); ++i) {
        if (!test::is_long && all_plans[i] != What::row) continue;
        SCOPED_TRACE(std::string("a rebuild and ") + plan_names[i]);
        run_all(What::rebuild, all_plans[i]);
        if (HasFailure()) return;
    }
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool is_slow = true;
#else
constexpr bool is_slow = false;
#endif

std::vector<OrdersSetting> settings() {
    std::vector<OrdersSetting> all;
    const auto add = [&](Level level, std::uint32_t members, std::uint32_t lost, Answers answers,
                         std::uint32_t reads, const char* name) {
        all.push_back({{level, members, lost, name}, answers, reads});
    };
    add(Level::raid5, 3, 0, Answers::in_any_order, 0, "Raid5");
    if (is_slow && !test::is_long) return all;
    add(Level::raid5, 3, 1, Answers::in_any_order, 0, "Raid5Degraded");
    if (test::is_short) return all;
    add(Level::raid6, 4, 0, Answers::in_order, 0, "Raid6");
    add(Level::raid6, 5, 2, Answers::in_order, 0, "Raid6TwoLost");
    if (!test::is_long) return all;
    add(Level::raid5, 3, 0, Answers::in_order, 1, "Raid5AndARead");
    add(Level::raid5, 4, 0, Answers::in_any_order, 0, "Raid5OfFour");
    add(Level::raid6, 4, 0, Answers::in_any_order, 0, "Raid6AnyOrder");
    add(Level::raid6, 4, 1, Answers::in_order, 0, "Raid6Degraded");
    add(Level::raid6, 5, 0, Answers::in_order, 0, "Raid6OfFive");
    return all;
}

std::vector<OrdersSetting> rebuild_settings() {
    std::vector<OrdersSetting> all{{{Level::raid6, 5, 2, "Raid6TwoLost"}, Answers::in_order, 0}};
    if (test::is_long)
        all.push_back({{Level::raid5, 3, 1, "Raid5Degraded"}, Answers::in_any_order, 0});
    return all;
}

std::string name_of(const ::testing::TestParamInfo<OrdersSetting>& setting) {
    return setting.param.array.name;
}

INSTANTIATE_TEST_SUITE_P(Settings, PairOrders, ::testing::ValuesIn(settings()), name_of);
INSTANTIATE_TEST_SUITE_P(Settings, RebuildOrders, ::testing::ValuesIn(rebuild_settings()), name_of);

}  // namespace
}  // namespace braid::sim
