// SPDX-License-Identifier: BSD-3-Clause
// Goal: when a fence opens, the lease of every node that is excluded from it has ended in true time,
// although no two clocks go alike; a lease is what its definition says, for every set of answers.
// Method: three clocks, each true, 1 % fast or 1 % slow, and every combination of a few delays; then
// random ones. Wrong arithmetic must be found wrong by the same combinations.
#include "cluster/membership/lease.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/rng.h"

namespace braid::cluster {
namespace {

constexpr NodeId one{1};
constexpr NodeId two{2};
constexpr NodeId three{3};
constexpr NodeId four{4};
constexpr Nanos length = lease_default;

MemberSet roles(std::uint64_t bits) { return MemberSet{bits}; }

// ---- whose answers count -----------------------------------------------------------------------

/// RAID-5 of three, a member at each node.
FenceHomes three_homes() {
    return {.members = {{one, roles(1)}, {two, roles(2)}, {three, roles(4)}},
            .quorum = {.members = 3, .parities = 1},
            .witness = std::nullopt};
}

/// Node 1, in its life 7, that has sent stamps up to 10 s.
Lease lease_of_one(FenceHomes homes) {
    Lease lease({1, 7}, length);
    lease.enter(std::move(homes));
    lease.sent(seconds(10));
    return lease;
}

Echo echo(std::uint64_t at_ms, bool extends = true) { return {{7, millis(at_ms)}, extends}; }

TEST(Lease, RunsFromTheStampThatEnoughSentBack) {
    Lease lease = lease_of_one(three_homes());
    EXPECT_EQ(lease.until(seconds(1)), std::nullopt);
    EXPECT_FALSE(lease.holds(seconds(1)));
    EXPECT_TRUE(lease.echoed(two, echo(5000)));
    EXPECT_EQ(lease.until(seconds(6)), millis(6200));
    EXPECT_TRUE(lease.echoed(three, echo(4000)));
    EXPECT_EQ(lease.until(seconds(6)), millis(6200));
    EXPECT_TRUE(lease.holds(millis(6199)));
    EXPECT_FALSE(lease.holds(millis(6200)));
    EXPECT_TRUE(lease.echoed(three, echo(6000)));  // it goes on
    EXPECT_TRUE(lease.holds(millis(6300)));
    EXPECT_TRUE(lease.echoed(three, echo(5500)));  // late: an older one takes nothing back
    EXPECT_EQ(lease.until(seconds(6)), millis(7200));
}

TEST(Lease, AnEchoWithoutTheWordExtendsNothing) {
    Lease lease = lease_of_one(three_homes());
    EXPECT_TRUE(lease.echoed(two, echo(5000, false)));
    EXPECT_EQ(lease.until(seconds(5)), std::nullopt);
    EXPECT_EQ(lease.newest_from_enough(), std::nullopt);
    EXPECT_TRUE(lease.echoed(two, echo(4000)));
    EXPECT_TRUE(lease.echoed(two, echo(6000, false)));
    EXPECT_TRUE(lease.echoed(three, echo(6000, false)));
    EXPECT_EQ(lease.newest_from_enough(), millis(4000));
}

// The echo of an earlier life has a stamp of a clock that may have begun again since.
TEST(Lease, OnlyStampsThatThisLifeSentComeBack) {
    Lease lease = lease_of_one(three_homes());
    EXPECT_FALSE(lease.echoed(two, {{6, seconds(5)}, true}));
    EXPECT_FALSE(lease.echoed(two, echo(10'001)));
    EXPECT_FALSE(lease.echoed(one, echo(5000)));
    EXPECT_EQ(lease.until(seconds(5)), std::nullopt);
    Lease silent({1, 7}, length);
    silent.enter(three_homes());
    EXPECT_FALSE(silent.echoed(two, echo(0)));
}

TEST(Lease, WhoIsHomeOfEnoughNeedsNobody) {
    Lease lease = lease_of_one({.members = {{one, roles(3)}, {two, roles(4)}},
                                .quorum = {.members = 3, .parities = 1},
                                .witness = std::nullopt});
    EXPECT_EQ(lease.until(seconds(99)), millis(100'200));
    Lease outside({1, 7}, length);  // of any fence
    EXPECT_FALSE(outside.holds(seconds(1)));
}

TEST(Lease, Raid6OfFourHasItsTieBreaker) {
    FenceHomes homes{
        .members = {{one, roles(1)}, {two, roles(2)}, {three, roles(4)}, {four, roles(8)}},
        .quorum = {.members = 4, .parities = 2},
        .witness = std::nullopt};
    Lease lease = lease_of_one(homes);
    EXPECT_TRUE(lease.echoed(two, echo(5000)));
    EXPECT_EQ(lease.until(seconds(5)), millis(6200)) << "role 0 is its own";
    homes.members = {{one, roles(2)}, {two, roles(1)}, {three, roles(4)}, {four, roles(8)}};
    lease = lease_of_one(homes);
    EXPECT_TRUE(lease.echoed(three, echo(5000)));
    EXPECT_EQ(lease.until(seconds(5)), std::nullopt);
    EXPECT_TRUE(lease.echoed(four, echo(4000)));
    EXPECT_EQ(lease.until(seconds(5)), millis(5200));
    EXPECT_TRUE(lease.echoed(two, echo(4500)));
    EXPECT_EQ(lease.until(seconds(5)), millis(5700));
    homes.quorum.witness = true;
    homes.members = {{one, roles(3)}, {two, roles(12)}, {three, {}}};
    homes.witness = three;
    lease = lease_of_one(homes);
    EXPECT_TRUE(lease.echoed(three, echo(5000)));
    EXPECT_EQ(lease.until(seconds(5)), millis(6200));
}

/// All that counts by what is in force needs no witness: nobody else goes on without it.
TEST(Lease, ThoseInForceNeedNoWitness) {
    FenceHomes homes{.members = {{one, roles(3)}, {two, roles(12)}, {three, {}}},
                     .quorum = {.members = 4, .parities = 2, .witness = true},
                     .witness = std::nullopt,
                     .in_force = roles(15)};
    const NodeSet alone = NodeSet::of(one);
    EXPECT_FALSE(homes.are_enough(alone));
    homes.in_force = roles(3);
    EXPECT_TRUE(homes.are_enough(alone));
    EXPECT_FALSE(homes.are_enough(NodeSet::of(two)));
    homes.in_force = roles(5);
    EXPECT_FALSE(homes.are_enough(alone));
    homes.in_force = {};
    EXPECT_FALSE(homes.are_enough(alone)) << "nothing is known to be in force";
}

// Every array of up to five members over four nodes, every set of newest stamps: the end is that of
// the newest stamp that enough have.
TEST(Lease, IsWhatItsDefinitionSays) {
    std::size_t cases = 0;
    for (const Quorum quorum : {Quorum{3, 1}, Quorum{4, 1}, Quorum{4, 2}, Quorum{5, 2}}) {
        const std::uint32_t placings = 1U << (2 * quorum.members);
        for (std::uint32_t placing = 0; placing != placings; ++placing) {
            FenceHomes homes{.members = {}, .quorum = quorum, .witness = std::nullopt};
            for (std::uint32_t role = 0; role != quorum.members; ++role)
                homes.members[NodeId{1 + ((placing >> (2 * role)) & 3)}].add(MemberIndex{role});
            for (std::uint32_t stamps = 0; stamps != 64; ++stamps) {
                Lease lease = lease_of_one(homes);
                std::array<std::uint64_t, 5> newest{0, 9, 0, 0, 0};  // in s; 0: none
                for (std::uint32_t node = 2; node <= 4; ++node) {
                    newest[node] = (stamps >> (2 * (node - 2))) & 3;
                    if (newest[node] == 0) continue;
                    ASSERT_TRUE(lease.echoed(NodeId{node}, echo(newest[node] * 1000)));
                }
                std::optional<Nanos> end;
                for (const std::uint64_t s : {1U, 2U, 3U, 9U}) {
                    NodeSet have;
                    for (std::uint32_t node = 1; node <= 4; ++node)
                        if (newest[node] >= s) have.add(NodeId{node});
                    if (homes.are_enough(have)) end = Nanos{seconds(s).value + length.value};
                }
                ASSERT_EQ(lease.until(seconds(9)), end);
                ++cases;
            }
        }
    }
    EXPECT_EQ(cases, 64U * (64 + 256 + 256 + 1024));
}

// ---- what is remembered ------------------------------------------------------------------------

TEST(EchoLog, RemembersWhatItReceivedAndSentBackWithTheWord) {
    EchoLog log(seconds(100));
    EXPECT_EQ(log.age(two, seconds(101)), seconds(1)) << "at most its uptime ago";
    EXPECT_TRUE(log.send(two, 5, seconds(103), 5));
    EXPECT_EQ(log.age(two, seconds(104)), seconds(1));
    EXPECT_FALSE(log.send(two, 5, seconds(105), 6)) << "it has promised a newer epoch";
    EXPECT_FALSE(log.send(two, 7, seconds(105), 6)) << "which it has not promised";
    EXPECT_FALSE(log.send(two, 0, seconds(105), 0)) << "serves in no fence";
    EXPECT_EQ(log.age(two, seconds(106)), seconds(3));
    EXPECT_TRUE(log.send(two, 5, seconds(102), 5)) << "over another channel, late";
    EXPECT_EQ(log.age(two, seconds(106)), seconds(3));
    EXPECT_EQ(log.age(three, seconds(106)), seconds(6));
    log.member_opened(seconds(106));
    EXPECT_EQ(log.age(two, seconds(107)), seconds(1));
    EXPECT_EQ(log.age(two, seconds(1)), Nanos{0});
}

TEST(FenceWait, WaitsForTheYoungest) {
    FenceWait wait(length, NodeSet::of(three) | NodeSet::of(four));
    EXPECT_EQ(fence_wait(length), millis(1236));
    EXPECT_EQ(fence_wait({501'000'001}), (Nanos{516'030'002}));
    EXPECT_EQ(wait.opens_at(), Nanos{0});
    wait.told(three, millis(1000), seconds(5));
    EXPECT_EQ(wait.opens_at(), millis(5236));
    wait.told(three, millis(1200), seconds(5));
    EXPECT_EQ(wait.opens_at(), millis(5236));
    wait.told(four, millis(200), seconds(6));
    EXPECT_EQ(wait.opens_at(), millis(7036));
    EXPECT_EQ(wait.waits_for(seconds(6)), NodeSet::of(four));
    wait.told(two, Nanos{0}, seconds(9));  // takes part
    wait.needs_no_wait(four);
    EXPECT_EQ(wait.opens_at(), millis(5236));
    wait.told(four, Nanos{0}, seconds(9));
    EXPECT_EQ(wait.opens_at(), millis(5236));
    EXPECT_TRUE(wait.waits_for(millis(5236)).empty());
}

// ---- true time ---------------------------------------------------------------------------------

/// Wrong arithmetic.
enum class Fault : std::uint8_t {
    none,
    from_receipt,      // the lease counts from when the echo came
    no_wait,           // the fence opens when all have prepared
    echo_to_excluded,  // who has promised the new epoch goes on extending the lease
    wait_of_one,       // 1.00 · L
    age_of_echo_lost,  // after a restart nothing is known, so nothing is waited for
    age_when_asked,    // the age is taken for that of when it was asked for
};

/// Node 1 is cut off from node 3, which proposes a fence without it, and for a while not from node
/// 2, whose answers extend its lease. In true ms, from the first stamp on.
struct Case {
    std::array<std::uint64_t, 3> rates{100, 100, 100};  // clocks: % of true time
    std::uint64_t second_stamp{300};                    // sent then; 0: there is none
    std::array<std::uint64_t, 2> there{0, 0};           // the way of each stamp to node 2
    std::uint64_t answers{0};   // node 2 sends the echo so long after it received the stamp
    std::uint64_t back{0};      // the way of each echo
    std::uint64_t restarts{0};  // node 2, at this time; 0: it does not
    std::uint64_t prepares{0};  // node 2 promises, and answers
    std::uint64_t answer{0};    // the way of that answer to node 3
};

class Clocks {
  public:
    explicit Clocks(const std::array<std::uint64_t, 3>& rates) : rates_(rates) {}
    /// What the node's clock shows. Each began at another time.
    Nanos read(NodeId node, std::uint64_t ms) const {
        return {seconds(100 * raw(node)).value + ms * 10'000 * rates_[raw(node) - 1]};
    }
    /// The first true time at which it shows that.
    std::uint64_t when(NodeId node, Nanos shows) const {
        const std::uint64_t begin = read(node, 0).value;
        if (shows.value <= begin) return 0;
        const std::uint64_t per_ms = 10'000 * rates_[raw(node) - 1];
        return (shows.value - begin + per_ms - 1) / per_ms;
    }

  private:
    std::array<std::uint64_t, 3> rates_;
};

/// Node 2: what it did with the stamps, and the age that it tells.
struct Answerer {
    const Case& given;
    const Clocks& clocks;
    Fault fault;
    Lease& lease;

    Nanos run() {
        EchoLog log(Nanos{0});
        bool restarted = false;
        const auto restart_until = [&](std::uint64_t ms) {
            if (restarted || given.restarts == 0 || given.restarts > ms) return;
            restarted = true;
            log = EchoLog(fault == Fault::age_of_echo_lost ? Nanos{0}
                                                           : clocks.read(two, given.restarts));
        };
        std::array<std::uint64_t, 2> sends{0, given.second_stamp};
        // In the order in which the echoes go out.
        std::vector<std::pair<std::uint64_t, std::size_t>> out;
        for (std::size_t i = 0; i != (given.second_stamp == 0 ? 1U : 2U); ++i)
            out.push_back({sends[i] + given.there[i] + given.answers, i});
        std::ranges::sort(out);
        std::optional<Nanos> age;
        const auto prepare = [&] {
            restart_until(given.prepares);
            age = log.age(one, clocks.read(two, given.prepares));
        };
        for (const auto& [ms, i] : out) {
            if (ms >= given.prepares && !age) prepare();
            restart_until(ms);
            const std::uint64_t received = ms - given.answers;
            if (restarted && received < given.restarts) continue;  // forgotten
            const std::uint64_t promise = age && fault != Fault::echo_to_excluded ? 2 : 1;
            const bool extends = log.send(one, 1, clocks.read(two, received), promise);
            const Nanos stamp = fault == Fault::from_receipt ? clocks.read(one, ms + given.back)
                                                             : clocks.read(one, sends[i]);
            EXPECT_TRUE(lease.echoed(two, {{7, stamp}, extends}));
        }
        if (!age) prepare();
        return *age;
    }
};

/// Whether node 1 still has a lease, in true time, when the fence opens.
bool overlaps(const Case& given, Fault fault) {
    const Clocks clocks(given.rates);
    Lease lease({1, 7}, length);
    lease.enter(three_homes());
    lease.sent(clocks.read(one, 100'000));
    const Nanos age = Answerer{given, clocks, fault, lease}.run();
    FenceWait wait(fault == Fault::wait_of_one ? Nanos{length.value * 100 / 103} : length,
                   NodeSet::of(one));
    const std::uint64_t comes = given.prepares + given.answer;
    std::uint64_t counts = comes;
    if (fault == Fault::age_when_asked)
        counts = given.prepares - std::min(given.prepares, given.answer);
    wait.told(one, age, clocks.read(three, counts));
    wait.told(one, seconds(1000), clocks.read(three, comes));  // its own
    std::uint64_t opens = comes;
    if (fault != Fault::no_wait) opens = std::max(opens, clocks.when(three, wait.opens_at()));
    return lease.holds(clocks.read(one, opens));
}

/// Every combination of these.
template <class Visit>
void each_case(Visit visit) {
    using Values = std::vector<std::uint64_t>;
    const Values rates{99, 100, 101};
    const std::array<Values, 11> choices{rates,
                                         rates,
                                         rates,
                                         Values{0, 300},                   // the second stamp
                                         Values{0, 50, 400, 1300},         // its way, of the first
                                         Values{0, 700},                   // of the second
                                         Values{0, 250},                   // answers
                                         Values{0, 50, 900},               // back
                                         Values{0, 200, 800},              // restarts
                                         Values{1, 301, 900, 1100, 1900},  // prepares
                                         Values{0, 200, 1500}};            // answer
    std::size_t count = 1;
    for (const Values& values : choices) count *= values.size();
    for (std::size_t number = 0; number != count; ++number) {
        std::array<std::uint64_t, choices.size()> is{};
        std::size_t rest = number;
        for (std::size_t i = 0; i != choices.size(); ++i) {
            is[i] = choices[i][rest % choices[i].size()];
            rest /= choices[i].size();
        }
        visit(Case{.rates = {is[0], is[1], is[2]},
                   .second_stamp = is[3],
                   .there = {is[4], is[5]},
                   .answers = is[6],
                   .back = is[7],
                   .restarts = is[8],
                   .prepares = is[9],
                   .answer = is[10]});
    }
}

TEST(LeaseInTrueTime, HasEndedWhenTheFenceOpens) {
    std::size_t cases = 0;
    std::size_t wrong = 0;
    each_case([&](const Case& given) {
        ++cases;
        if (overlaps(given, Fault::none)) ++wrong;
    });
    EXPECT_EQ(wrong, 0U) << "of " << cases;
    EXPECT_GT(cases, 80'000U);
}

TEST(LeaseInTrueTime, HasEndedWhateverTheDelays) {
    Rng rng(1);
    for (int i = 0; i != 200'000; ++i) {
        Case given;
        for (std::uint64_t& rate : given.rates) rate = 99 + rng.below(3);
        given.second_stamp = rng.below(1500);
        given.there = {rng.below(1500), rng.below(1500)};
        given.answers = rng.below(300);
        given.back = rng.below(1500);
        given.restarts = rng.chance(3) ? rng.below(2000) : 0;
        given.prepares = rng.below(2500);
        given.answer = rng.below(1500);
        ASSERT_FALSE(overlaps(given, Fault::none)) << i;
    }
}

// 1.02 · L would be too little: 1.01 / 0.99 is more.
TEST(LeaseInTrueTime, TheMarginIsNeeded) {
    const Case worst{.rates = {99, 100, 101}, .second_stamp = 0, .prepares = 1};
    EXPECT_FALSE(overlaps(worst, Fault::none));
    EXPECT_GT(101.0 / 99.0, 1.02);
    EXPECT_LT(101.0 / 99.0, 1.03);
}

TEST(LeaseInTrueTime, WrongArithmeticIsFound) {
    for (const Fault fault : {Fault::from_receipt, Fault::no_wait, Fault::echo_to_excluded,
                              Fault::wait_of_one, Fault::age_of_echo_lost, Fault::age_when_asked}) {
        std::size_t found = 0;
        each_case([&](const Case& given) {
            if (overlaps(given, fault)) ++found;
        });
        EXPECT_GT(found, 0U) << static_cast<int>(fault);
    }
}

}  // namespace
}  // namespace braid::cluster
