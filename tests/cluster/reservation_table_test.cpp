// SPDX-License-Identifier: BSD-3-Clause
// ReservationTable, message by message: who gets a volume, who waits, what is refused; the orders
// of events in which simpler rules go wrong, each by name; and long random lives of several nodes.
// reservation_model_test.cpp has all orders of small cases.
#include "cluster/reservations/reservation_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/rng.h"

namespace braid::cluster {
namespace {

using Kind = ReservationMessage::Kind;
using Ended = ReservationEffects::Ended;
using Outcome = ReservationEffects::Outcome;
using Verdict = ReservationTable::Verdict;
using Admission = ReservationTable::Admission;

constexpr VolumeIndex volume{3};
constexpr NodeId one{1};
constexpr NodeId two{2};
constexpr NodeId three{3};

/// Nodes from 1 on. Messages lie between them until somebody has them read.
struct Nodes {
    explicit Nodes(std::uint32_t count) {
        for (std::uint32_t n = 1; n <= count; ++n) {
            std::set<NodeId> others;
            for (std::uint32_t other = 1; other <= count; ++other) {
                if (other != n) others.insert(NodeId{other});
            }
            tables.emplace(NodeId{n}, ReservationTable(NodeId{n}, others));
        }
    }
    ReservationTable& at(NodeId node) { return tables.at(node); }

    std::optional<NodeId> reserve(NodeId node, VolumeIndex of = volume) {
        ReservationEffects effects;
        const auto conflict = at(node).reserve(of, effects);
        follow(node, effects);
        return conflict;
    }
    bool release(NodeId node, VolumeIndex of = volume) {
        ReservationEffects effects;
        const bool nothing = at(node).release(of, effects);
        follow(node, effects);
        return nothing;
    }
    void give_up(NodeId node, VolumeIndex of = volume) {
        ReservationEffects effects;
        at(node).give_up(of, effects);
        follow(node, effects);
    }
    void ask_again(NodeId node) {
        ReservationEffects effects;
        at(node).ask_again(effects);
        follow(node, effects);
    }
    void idle(NodeId node, VolumeIndex of = volume) {
        busy.erase({node, of});
        ReservationEffects effects;
        at(node).drained(of, effects);
        follow(node, effects);
    }
    void gone(NodeId node, NodeId hears) {
        sent[{node, hears}].clear();
        sent[{hears, node}].clear();
        ReservationEffects effects;
        at(hears).node_gone(node, effects);
        follow(hears, effects);
    }
    enum class Comes { once, again };
    /// The next message of one node to another.
    void read(NodeId to, NodeId from, Comes comes = Comes::once) {
        auto& queue = sent[{from, to}];
        ASSERT_FALSE(queue.empty());
        const ReservationMessage message = queue.front();
        if (comes == Comes::once) queue.pop_front();
        ReservationEffects effects;
        EXPECT_TRUE(at(to).receive(from, message, effects));
        follow(to, effects);
    }
    /// Until nothing lies between them.
    void read_all() {
        for (bool any = true; any;) {
            any = false;
            for (auto& [way, queue] : sent) {
                if (queue.empty()) continue;
                any = true;
                read(way.second, way.first);
                break;
            }
        }
    }
    void follow(NodeId node, const ReservationEffects& effects) {
        EXPECT_TRUE(at(node).holds_together());
        for (const auto& [to, message] : effects.send) sent[{node, to}].push_back(message);
        for (const Ended& end : effects.ended) ended[node].push_back(end);
        for (const VolumeIndex of : effects.released) released.insert({node, of});
        for (const VolumeIndex of : effects.changed) changed.insert({node, of});
        for (const VolumeIndex of : effects.drain) {
            if (!busy.contains({node, of})) idle(node, of);
        }
    }

    bool holds(NodeId node) { return at(node).holds(volume); }
    Verdict verdict(NodeId node) { return at(node).admission(volume).verdict; }
    std::optional<NodeId> entered(NodeId node) {
        const auto entry = at(node).holder(volume);
        return entry ? std::optional(entry->node) : std::nullopt;
    }
    std::vector<Ended> told(NodeId node) { return std::exchange(ended[node], {}); }

    std::map<NodeId, ReservationTable> tables;
    std::map<std::pair<NodeId, NodeId>, std::deque<ReservationMessage>> sent;  // from, to
    std::set<std::pair<NodeId, VolumeIndex>> busy;  // requests are under way there
    std::map<NodeId, std::vector<Ended>> ended;
    std::set<std::pair<NodeId, VolumeIndex>> released;
    std::set<std::pair<NodeId, VolumeIndex>> changed;
};

const std::vector<Ended> reserved{{volume, Outcome::reserved, std::nullopt}};
std::vector<Ended> conflict_with(NodeId node) { return {{volume, Outcome::conflict, node}}; }

// ---- one after the other -----------------------------------------------------------------------

TEST(Reservations, ANodeThatIsAloneHasItAtOnce) {
    Nodes nodes(1);
    EXPECT_EQ(nodes.reserve(one), std::nullopt);
    EXPECT_EQ(nodes.told(one), reserved);
    EXPECT_FALSE(nodes.release(one));
    EXPECT_EQ(nodes.released.size(), 1u);
    EXPECT_EQ(nodes.entered(one), std::nullopt);
}

TEST(Reservations, ItIsHeldWhenAllHaveGrantedAndNotBefore) {
    Nodes nodes(3);
    EXPECT_EQ(nodes.reserve(one), std::nullopt);
    nodes.read(two, one);
    nodes.read(one, two);
    EXPECT_FALSE(nodes.holds(one));
    EXPECT_EQ(nodes.verdict(one), Verdict::serve) << "its own requests go on";
    EXPECT_EQ(nodes.verdict(two), Verdict::wait);
    EXPECT_EQ(nodes.verdict(three), Verdict::serve);
    EXPECT_FALSE(nodes.at(two).refuses_commands(volume, three)) << "of requests under way there";
    nodes.read(three, one);
    nodes.read(one, three);
    EXPECT_TRUE(nodes.holds(one));
    EXPECT_EQ(nodes.told(one), reserved);
    nodes.changed.clear();
    nodes.read(two, one);
    EXPECT_EQ(nodes.changed.count({two, volume}), 1u);
    EXPECT_EQ(nodes.at(two).admission(volume), (Admission{Verdict::refuse, one}));
    EXPECT_TRUE(nodes.at(two).refuses_commands(volume, three));
    EXPECT_TRUE(nodes.at(two).refuses_commands(volume, two));
    EXPECT_FALSE(nodes.at(two).refuses_commands(volume, one));
    EXPECT_TRUE(nodes.at(one).refuses_commands(volume, two));
    EXPECT_EQ(nodes.at(two).admission(VolumeIndex{4}), Admission{}) << "another volume";
}

TEST(Reservations, ANodeGrantsWhenItsOwnRequestsHaveEnded) {
    Nodes nodes(2);
    nodes.busy.insert({two, volume});
    nodes.reserve(one);
    nodes.read_all();
    EXPECT_FALSE(nodes.holds(one));
    EXPECT_EQ(nodes.verdict(two), Verdict::wait);
    nodes.idle(two);
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(one));
    nodes.idle(two);  // as it may be said at any time
    EXPECT_TRUE(nodes.sent[std::pair(two, one)].empty());
}

TEST(Reservations, WhatIsEnteredHereIsAConflictAtOnce) {
    Nodes nodes(2);
    nodes.reserve(two);
    EXPECT_EQ(nodes.reserve(two), two) << "its own, being asked for";
    nodes.read(one, two);
    EXPECT_EQ(nodes.reserve(one), two);
    nodes.read_all();
    EXPECT_EQ(nodes.reserve(one), two);
    EXPECT_EQ(nodes.reserve(two), two) << "its own";
}

TEST(Reservations, WhatIsHeldIsAConflictForAHigherOneToo) {
    Nodes nodes(3);
    nodes.reserve(one);
    nodes.read(two, one);
    nodes.read(one, two);
    nodes.read(three, one);
    nodes.reserve(three, VolumeIndex{9});  // nothing to do with it
    nodes.read(one, three);
    EXPECT_TRUE(nodes.holds(one));
    EXPECT_EQ(nodes.reserve(three), one);
    EXPECT_EQ(nodes.reserve(two), one);
}

TEST(Reservations, AReleaseAlwaysSucceeds) {
    Nodes nodes(2);
    EXPECT_TRUE(nodes.release(one)) << "there is none";
    nodes.reserve(two);
    nodes.read_all();
    EXPECT_TRUE(nodes.release(one)) << "it is another's";
    EXPECT_TRUE(nodes.holds(two));
    EXPECT_FALSE(nodes.release(two));
    EXPECT_FALSE(nodes.release(two)) << "twice";
    nodes.read_all();
    EXPECT_EQ(nodes.released.count({two, volume}), 1u);
    EXPECT_EQ(nodes.entered(one), std::nullopt);
    EXPECT_EQ(nodes.entered(two), std::nullopt);
    EXPECT_TRUE(nodes.release(two));
}

TEST(Reservations, AReleaseOfWhatIsBeingAskedForEndsThat) {
    Nodes nodes(3);
    nodes.busy.insert({two, volume});
    nodes.reserve(three);
    nodes.read(one, three);
    nodes.read(two, three);
    EXPECT_FALSE(nodes.release(three));
    EXPECT_EQ(nodes.told(three), (std::vector<Ended>{{volume, Outcome::released, std::nullopt}}));
    nodes.read_all();
    EXPECT_EQ(nodes.released.size(), 1u);
    EXPECT_EQ(nodes.entered(one), std::nullopt);
    EXPECT_EQ(nodes.verdict(two), Verdict::serve);
}

TEST(Reservations, AHolderDrainsBeforeOthersGoOn) {
    Nodes nodes(2);
    nodes.reserve(one);
    nodes.read_all();
    nodes.busy.insert({one, volume});
    nodes.release(one);
    EXPECT_TRUE(nodes.holds(one));
    EXPECT_EQ(nodes.verdict(one), Verdict::wait);
    nodes.read_all();
    EXPECT_EQ(nodes.verdict(two), Verdict::refuse);
    nodes.idle(one);
    EXPECT_FALSE(nodes.holds(one));
    nodes.read_all();
    EXPECT_EQ(nodes.verdict(two), Verdict::serve);
    EXPECT_EQ(nodes.verdict(one), Verdict::serve);
    EXPECT_EQ(nodes.changed.count({one, volume}), 1u);
}

// ---- at once -----------------------------------------------------------------------------------

TEST(Reservations, OfTwoAtOnceTheHigherGetsIt) {
    Nodes nodes(2);
    nodes.reserve(one);
    nodes.reserve(two);
    nodes.read(one, two);
    nodes.read(two, one);
    nodes.read(two, one);  // refused
    EXPECT_TRUE(nodes.at(two).has_to_ask_again());
    nodes.ask_again(two);
    EXPECT_FALSE(nodes.at(two).has_to_ask_again()) << "asked";
    nodes.read(one, two);
    EXPECT_EQ(nodes.told(one), conflict_with(two));
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(two));
    EXPECT_EQ(nodes.entered(one), two);
}

// 1 begins anew each time, before it reads that 2 asks again.
TEST(Reservations, TheHigherAsksAgainUntilItGivesUp) {
    Nodes nodes(2);
    nodes.reserve(one);
    nodes.reserve(two);
    nodes.read(one, two);
    nodes.read(two, one);
    nodes.read(two, one);
    for (int times = 0; times != 3; ++times) {
        EXPECT_TRUE(nodes.at(two).has_to_ask_again());
        nodes.ask_again(two);
        if (times != 0) nodes.read(one, two);  // that its last entry is removed
        nodes.read(one, two);
        EXPECT_EQ(nodes.told(one), conflict_with(two));
        EXPECT_EQ(nodes.reserve(one), std::nullopt);
        nodes.read(one, two);
        for (int messages = 0; messages != 3; ++messages) nodes.read(two, one);
        EXPECT_TRUE(nodes.told(two).empty());
    }
    nodes.give_up(two);
    EXPECT_EQ(nodes.told(two), (std::vector<Ended>{{volume, Outcome::gave_up, one}}));
    nodes.read_all();
    EXPECT_EQ(nodes.told(one), conflict_with(two)) << "which asked then";
    for (const NodeId node : {one, two}) EXPECT_EQ(nodes.entered(node), std::nullopt);
    nodes.give_up(two);
    EXPECT_TRUE(nodes.told(two).empty()) << "it is over";
}

// A is granted by C, and refused by B that asks as well. Taken out of A's own table only, the entry
// at C would be in the way for ever: B asks C until it gives up.
TEST(Reservations, WhatAThirdNodeGrantedIsTakenBack) {
    Nodes nodes(3);
    nodes.reserve(one);
    nodes.read(three, one);
    nodes.read(one, three);
    EXPECT_EQ(nodes.entered(three), one);
    nodes.reserve(two);
    nodes.read(two, one);
    nodes.read(three, two);
    nodes.read(two, three);  // refused by 3, which names 1
    EXPECT_TRUE(nodes.at(two).has_to_ask_again());
    nodes.read(one, two);
    nodes.read(one, two);  // refused by 2
    EXPECT_EQ(nodes.told(one), conflict_with(two));
    EXPECT_EQ(nodes.entered(three), one);
    nodes.read(three, one);
    EXPECT_EQ(nodes.entered(three), std::nullopt);
    EXPECT_EQ(nodes.changed.count({three, volume}), 1u) << "what was queued there goes on";
    nodes.read_all();
    nodes.ask_again(two);
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(two) && nodes.told(two) == reserved);
}

// 3 asks for nothing; it has entered 1 and refuses 2. Were 2 to compare itself with 3 it would give
// way, and 1 gives way to 2: nobody would get it.
TEST(Reservations, PriorityIsOverWhoIsInTheWayNotOverWhoAnswers) {
    Nodes nodes(3);
    nodes.reserve(one);
    nodes.reserve(two);
    nodes.read(three, one);
    nodes.read(three, two);
    nodes.read(two, three);
    EXPECT_TRUE(nodes.told(two).empty());
    nodes.read(two, one);
    nodes.read_all();
    EXPECT_EQ(nodes.told(one), conflict_with(two));
    nodes.ask_again(two);
    nodes.read_all();
    EXPECT_EQ(nodes.told(two), reserved);
}

// A is granted by B and refused by C: B has asked C, given up, and what takes that back is still on
// its way to C. A is lower than B, and must not give way to a request that is over.
TEST(Reservations, WhatAThirdNodeHasOfAHigherOneMayBeOver) {
    Nodes nodes(3);
    nodes.reserve(two);
    nodes.read(three, two);
    nodes.give_up(two);
    nodes.told(two);
    nodes.read(one, two);
    nodes.read(one, two);
    nodes.reserve(one);
    nodes.read(two, one);  // behind it: the answers to what 2 has asked, which is over
    nodes.read(two, one);
    nodes.read(two, one);
    EXPECT_EQ(nodes.entered(two), one);
    nodes.read(three, one);
    nodes.read(one, three);
    EXPECT_TRUE(nodes.told(one).empty());
    EXPECT_TRUE(nodes.at(one).has_to_ask_again());
    nodes.read_all();
    nodes.ask_again(one);
    nodes.read_all();
    EXPECT_EQ(nodes.told(one), reserved);
}

// The middle one gives way to the highest, and the lowest to the middle one, which is over then:
// each gives way to somebody higher who asked, so one is left.
TEST(Reservations, OfThreeAtOnceTheHighestGetsIt) {
    Nodes nodes(3);
    for (const NodeId node : {one, two, three}) nodes.reserve(node);
    nodes.read(three, two);
    nodes.read(two, one);
    nodes.read(one, two);
    nodes.read(two, three);
    nodes.read(two, three);
    EXPECT_EQ(nodes.told(two), conflict_with(three));
    nodes.read(one, two);
    EXPECT_EQ(nodes.told(one), conflict_with(two));
    nodes.read_all();
    nodes.ask_again(three);
    nodes.read_all();
    EXPECT_EQ(nodes.told(three), reserved);
    EXPECT_EQ(nodes.entered(one), three);
    EXPECT_EQ(nodes.entered(two), three);
}

// 2 was busy, so its grant comes late: after 1 has given up, and asks anew.
TEST(Reservations, AnOldGrantDoesNotCountForANewRequest) {
    Nodes nodes(2);
    nodes.busy.insert({two, volume});
    nodes.reserve(one);
    nodes.read(two, one);
    nodes.give_up(one);
    nodes.reserve(one);
    nodes.idle(two);
    nodes.busy.insert({two, volume});
    nodes.read(one, two);
    EXPECT_FALSE(nodes.holds(one));
    nodes.read_all();
    EXPECT_FALSE(nodes.holds(one)) << "2 drains anew";
    nodes.idle(two);
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(one));
}

// 1 is refused by 3, for 2 is entered there; a repeat of the same question enters it, for 2 is gone
// by then. 1 has failed meanwhile: it has to take back also what was refused.
TEST(Reservations, AQuestionRepeatedAfterItsRefusalLeavesNothing) {
    Nodes nodes(3);
    nodes.reserve(one);
    nodes.reserve(two);
    nodes.read(three, two);
    nodes.read(three, one, Nodes::Comes::again);
    nodes.read(one, three);
    nodes.give_up(two);
    nodes.read(three, two);
    nodes.give_up(one);
    nodes.read(three, one);
    EXPECT_EQ(nodes.entered(three), one);
    nodes.read_all();
    for (const NodeId node : {one, two, three}) EXPECT_EQ(nodes.entered(node), std::nullopt);
}

// 1 has removed the entry of 2, and 3 has not yet: so 2 still has it, and says that it leaves.
TEST(Reservations, WhoAsksDuringAReleaseGetsIt) {
    Nodes nodes(3);
    nodes.reserve(two);
    nodes.read_all();
    nodes.release(two);
    nodes.read(three, two);
    nodes.read(two, three);
    EXPECT_EQ(nodes.reserve(one), two) << "2 is still entered here";
    nodes.read(one, two);
    nodes.read(two, one);
    nodes.read(one, two);
    EXPECT_EQ(nodes.reserve(one), std::nullopt);
    nodes.read(two, one);
    nodes.read(two, one);
    nodes.read(one, two);
    nodes.read(three, two);
    EXPECT_TRUE(nodes.told(one).empty()) << "2 is higher, but on its way out";
    EXPECT_TRUE(nodes.at(one).has_to_ask_again());
    nodes.read_all();
    nodes.ask_again(one);
    nodes.read_all();
    EXPECT_EQ(nodes.told(one), reserved);
}

// Were the entries removed in one step, 2 could serve a request, and 3 refuse its command.
TEST(Reservations, HomesLetCommandsPassBeforeAnybodyServes) {
    Nodes nodes(3);
    nodes.reserve(one);
    nodes.read_all();
    nodes.release(one);
    nodes.read(two, one);
    nodes.read(one, two);
    EXPECT_EQ(nodes.verdict(two), Verdict::wait);
    EXPECT_FALSE(nodes.at(two).refuses_commands(volume, three));
    EXPECT_TRUE(nodes.at(three).refuses_commands(volume, two));
    EXPECT_EQ(nodes.verdict(one), Verdict::wait);
    nodes.read(three, one);
    EXPECT_FALSE(nodes.at(three).refuses_commands(volume, two));
    nodes.read(one, three);
    EXPECT_EQ(nodes.verdict(one), Verdict::serve);
    nodes.read(two, one);
    EXPECT_EQ(nodes.verdict(two), Verdict::serve);
    EXPECT_FALSE(nodes.released.contains({one, volume})) << "3 still has it";
    nodes.read_all();
    EXPECT_TRUE(nodes.released.contains({one, volume}));
}

// ---- a node that is gone -----------------------------------------------------------------------

TEST(Reservations, ADeadNodesReservationsFall) {
    Nodes nodes(3);
    nodes.reserve(three);
    nodes.read_all();
    nodes.reserve(three, VolumeIndex{4});
    nodes.read(two, three);
    EXPECT_EQ(nodes.at(two).admission(VolumeIndex{4}).verdict, Verdict::wait);
    nodes.changed.clear();
    nodes.gone(three, two);
    EXPECT_EQ(nodes.changed.size(), 2u);
    EXPECT_EQ(nodes.verdict(two), Verdict::serve);
    EXPECT_EQ(nodes.at(two).admission(VolumeIndex{4}).verdict, Verdict::serve);
}

TEST(Reservations, NobodyWaitsForADeadNode) {
    Nodes nodes(3);
    nodes.busy.insert({three, volume});
    nodes.reserve(one);
    nodes.read_all();
    EXPECT_FALSE(nodes.holds(one));
    nodes.gone(three, one);
    EXPECT_EQ(nodes.told(one), reserved);
    nodes.release(one);
    nodes.gone(two, one);
    EXPECT_TRUE(nodes.released.contains({one, volume}));
    nodes.gone(two, one);
    EXPECT_EQ(nodes.entered(one), std::nullopt);
}

// 1 has heard of the death of 3, and 2 has not: it refuses, naming a node that is gone.
TEST(Reservations, ARefusalMayNameANodeThatIsGone) {
    Nodes nodes(3);
    nodes.reserve(three);
    nodes.read_all();
    nodes.gone(three, one);
    EXPECT_EQ(nodes.reserve(one), std::nullopt);
    nodes.read(two, one);
    nodes.read(one, two);
    EXPECT_TRUE(nodes.told(one).empty());
    nodes.gone(three, two);
    nodes.ask_again(one);
    nodes.read_all();
    EXPECT_EQ(nodes.told(one), reserved);
}

// ---- a node that is back -----------------------------------------------------------------------

/// It knows nothing, and lets no client in before it has what was told it.
class Back : public testing::Test {
  protected:
    void begins_anew(NodeId node) {
        for (const NodeId other : {one, two, three}) {
            if (other == node) continue;
            nodes.gone(node, other);
        }
        std::set<NodeId> others{one, two, three};
        others.erase(node);
        nodes.tables.at(node) =
            ReservationTable(node, others, ReservationTable::Begins::among_others);
    }
    void is_back(NodeId node, NodeId hears) {
        ReservationEffects effects;
        nodes.at(hears).node_back(node, effects);
        nodes.follow(hears, effects);
    }
    /// 3 is back, and 1, which had the volume, has not let go of it: its own requests are under way.
    void lets_go_as_three_begins_anew() {
        nodes.reserve(one);
        nodes.read_all();
        begins_anew(three);
        nodes.busy.insert({one, volume});
        nodes.release(one);
    }
    void three_is_back() {
        is_back(three, one);
        is_back(three, two);
    }
    Nodes nodes{3};
};

TEST_F(Back, WhatIsHeldIsToldIt) {
    nodes.reserve(one);
    nodes.read_all();
    begins_anew(three);
    three_is_back();
    nodes.read(three, one);
    nodes.read(three, one);
    EXPECT_EQ(nodes.verdict(three), Verdict::refuse);
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(one));
    nodes.release(one);
    nodes.read_all();
    EXPECT_TRUE(nodes.released.contains({one, volume}));
    EXPECT_EQ(nodes.verdict(three), Verdict::serve);
}

TEST_F(Back, WhoAsksAsksItToo) {
    begins_anew(three);
    nodes.busy.insert({two, volume});
    nodes.reserve(one);
    nodes.read_all();
    EXPECT_FALSE(nodes.holds(one));
    three_is_back();
    nodes.idle(two);
    nodes.read_all();
    EXPECT_FALSE(nodes.holds(one)) << "it has not heard of all";
    nodes.at(three).has_heard_all();
    nodes.ask_again(one);
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(one));
    EXPECT_EQ(nodes.verdict(three), Verdict::refuse);
}

// 1 lets go, and so refuses 2 without an end to its asking; both tell 3, and 2 comes first.
TEST_F(Back, WhoOnlyAsksIsNotEnteredBeforeWhoHolds) {
    lets_go_as_three_begins_anew();
    EXPECT_EQ(nodes.reserve(two), one) << "it knows who is entered";
    ReservationEffects effects;
    ReservationMessage asks;
    asks.volume = volume;
    asks.request = 7;
    EXPECT_TRUE(nodes.at(three).receive(two, asks, effects));
    ASSERT_EQ(effects.send.size(), 1u);
    EXPECT_EQ(effects.send[0].message.kind, ReservationMessage::Kind::refused);
    EXPECT_EQ(effects.send[0].message.standing, ReservationMessage::Standing::leaves);
    three_is_back();
    nodes.read_all();
    EXPECT_EQ(nodes.verdict(three), Verdict::refuse) << "1 holds it still";
    nodes.at(three).has_heard_all();
    nodes.idle(one);
    nodes.read_all();
    EXPECT_EQ(nodes.verdict(three), Verdict::serve);
}

TEST_F(Back, WhoLetsGoIsEnteredUntilNoHomeRefuses) {
    lets_go_as_three_begins_anew();
    three_is_back();
    nodes.read_all();
    EXPECT_EQ(nodes.verdict(three), Verdict::refuse);
    nodes.idle(one);
    EXPECT_NE(nodes.verdict(three), Verdict::serve) << "two has not let go";
    begins_anew(three);  // and again, while homes are asked to let commands pass
    three_is_back();
    nodes.read(three, one);
    nodes.read(three, one);
    EXPECT_EQ(nodes.verdict(three), Verdict::refuse);
    nodes.read_all();
    EXPECT_TRUE(nodes.released.contains({one, volume}));
    EXPECT_EQ(nodes.verdict(three), Verdict::serve);
}

// ---- from outside ------------------------------------------------------------------------------

TEST(Reservations, MessagesThatMakeNoSenseChangeNothing) {
    Nodes nodes(3);
    nodes.busy.insert({one, volume});
    nodes.reserve(two);
    nodes.read(one, two);
    ReservationTable& table = nodes.at(one);
    const auto before = table.image();
    const auto refuses = [&](NodeId from, ReservationMessage message) {
        ReservationEffects effects;
        EXPECT_FALSE(table.receive(from, message, effects));
        EXPECT_TRUE(effects.send.empty() && effects.drain.empty() && effects.changed.empty());
        EXPECT_EQ(table.image(), before);
    };
    refuses(two, {Kind::reserve, VolumeIndex{volumes_max}, 1, {}, {}});
    refuses(two, {Kind::reserve, VolumeIndex{4}, 0, {}, {}});
    refuses(NodeId{9}, {Kind::reserve, VolumeIndex{4}, 1, {}, {}});
    refuses(one, {Kind::reserve, VolumeIndex{4}, 1, {}, {}});
    refuses(two, {Kind::reserve, volume, 2, {}, {}});  // without having taken back the first
    refuses(two, {Kind::begun, volume, 1, {}, {}});    // which was not granted
    refuses(two, {Kind::lift, volume, 1, {}, {}});     // which is not held
    refuses(three, {Kind::begun, volume, 1, {}, {}});  // of another one
    refuses(two, {static_cast<Kind>(77), volume, 1, {}, {}});
    for (const Kind kind : {Kind::granted, Kind::refused, Kind::lifted, Kind::released}) {
        ReservationEffects effects;
        EXPECT_TRUE(table.receive(two, {kind, volume, 1, {}, {}}, effects)) << "an old answer";
        EXPECT_EQ(table.image(), before);
    }
}

TEST(Reservations, ARepeatIsAnsweredAgain) {
    Nodes nodes(2);
    nodes.reserve(one);
    nodes.read(two, one, Nodes::Comes::again);
    nodes.read(two, one);
    EXPECT_EQ(nodes.sent[std::pair(two, one)].size(), 2u);
    nodes.read_all();
    EXPECT_TRUE(nodes.holds(one));
    nodes.release(one);
    nodes.read(two, one, Nodes::Comes::again);
    nodes.read(two, one);
    nodes.read(one, two);
    nodes.read(two, one, Nodes::Comes::again);
    nodes.read_all();
    EXPECT_TRUE(nodes.released.contains({one, volume}));
}

// ---- long lives --------------------------------------------------------------------------------

/// Of a few nodes, and two volumes: everything happens in any order, and all must come to rest.
void live(std::uint64_t seed, std::uint32_t count) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    Nodes nodes(count);
    const auto any = [&] { return NodeId{1 + static_cast<std::uint32_t>(rng.below(count))}; };
    const auto check = [&] {
        for (const VolumeIndex of : {VolumeIndex{0}, VolumeIndex{1}}) {
            std::optional<NodeId> holder;
            for (auto& [node, table] : nodes.tables) {
                if (!table.holds(of)) continue;
                ASSERT_EQ(holder, std::nullopt);
                holder = node;
            }
            for (auto& [node, table] : nodes.tables) {
                if (!holder || node == *holder) continue;
                ASSERT_FALSE(nodes.busy.contains({node, of}));
                ASSERT_NE(table.admission(of).verdict, Verdict::serve);
            }
        }
    };
    for (int step = 0; step != 20'000; ++step) {
        const NodeId node = any();
        const VolumeIndex of{static_cast<std::uint32_t>(rng.below(2))};
        switch (rng.below(12)) {
            case 0:
                nodes.reserve(node, of);
                break;
            case 1:
                if (rng.below(4) == 0) nodes.release(node, of);
                break;
            case 2:
                if (rng.below(8) == 0) nodes.give_up(node, of);
                break;
            case 3:
                nodes.ask_again(node);
                break;
            case 4:
                if (nodes.at(node).admission(of).verdict == Verdict::serve)
                    nodes.busy.insert({node, of});
                break;
            case 5:
                nodes.idle(node, of);
                break;
            default: {
                const NodeId from = any();
                if (nodes.sent[std::pair(from, node)].empty()) break;
                using Comes = Nodes::Comes;
                nodes.read(node, from, rng.below(16) == 0 ? Comes::again : Comes::once);
            }
        }
        check();
        if (::testing::Test::HasFatalFailure()) return;
    }
    for (int round = 0; round != 100; ++round) {
        for (auto& [node, table] : nodes.tables) {
            for (const VolumeIndex of : {VolumeIndex{0}, VolumeIndex{1}}) {
                nodes.idle(node, of);
                if (table.holds(of)) nodes.release(node, of);
            }
            nodes.ask_again(node);
        }
        nodes.read_all();
    }
    for (auto& [node, table] : nodes.tables) {
        EXPECT_EQ(table.holder(VolumeIndex{0}), std::nullopt);
        EXPECT_EQ(table.holder(VolumeIndex{1}), std::nullopt);
    }
}

TEST(Reservations, LongLives) {
    for (std::uint64_t seed = 1; seed != 11; ++seed)
        live(seed, 2 + static_cast<std::uint32_t>(seed % 5));
}

}  // namespace
}  // namespace braid::cluster
