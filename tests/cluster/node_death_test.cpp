// SPDX-License-Identifier: BSD-3-Clause
// A node is cut off, and the others go on without it: their clients see a pause and no error, what
// any client saw is what one register shows, and no row is lost or in doubt.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "engine/metadata/areas.h"
#include "engine/metadata/intent_record.h"
#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

TEST_P(NodeDeathTest, TheOthersGoOnAndNothingIsLost) {
    const std::uint32_t victim = start_and_choose();
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(100)));
    // As when its process is killed, or its machine falls silent.
    for (std::uint32_t node = 0; node != nodes_.nodes() && GetParam().seed % 2 == 0; ++node) {
        if (node != victim) nodes_.cut(victim, node);
    }
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    expect_others_serve(victim);
}

/// What one node writes comes late to one home: as the fence changes others have it staged, and that one not.
TEST_P(NodeDeathTest, WhatIsStagedAtSomeHomesOnlyIsMadeAgain) {
    const std::uint32_t victim = start_and_choose();
    std::vector<std::uint32_t> others;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node != victim) others.push_back(node);
    }
    const std::uint32_t writer = others.back();
    const std::uint32_t late = others[below(2)];
    nodes_.slow_way(writer, late, millis(40));
    for (std::uint32_t i = 0; i != 8; ++i) {
        ++working_;
        loop().tasks().spawn(client(writer, 1000));
    }
    loop().run_for(millis(50 + below(100)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    load_ends_ = true;
    nodes_.release_way(writer, late);
    end_load();
    load_ends_ = false;
    expect_others_serve(victim);
    if (GetParam().homes != 0) nodes_.expect_parity();  // it had no members
}

/// Others hear it, and so it serves until they know: its clients read what it has at home.
TEST_P(NodeDeathTest, OnlyTheOneWhoDecidesDoesNotHearIt) {
    const std::uint32_t victim = start_and_choose();
    begin_load(4 * nodes_.nodes(), 1'000'000);
    for (int i = 0; i != 4; ++i) loop().tasks().spawn(read_at_home(victim));
    loop().run_for(millis(10 + below(300)));
    nodes_.hold_way(victim, master_);
    wait_until_excluded(victim);
    loop().run_for(millis(500));
    load_ends_ = true;
    loop().run_for(seconds(3));
    expect_nothing_lost(victim);
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// Nobody can tell it, and its clients read what it has at home, until its lease has run out.
TEST_P(NodeDeathTest, CutOffItAnswersNothingOld) {
    const std::uint32_t victim = start_and_choose();
    begin_load(4 * nodes_.nodes(), 1'000'000);
    for (int i = 0; i != 4; ++i) loop().tasks().spawn(read_at_home(victim));
    loop().run_for(millis(10 + below(300)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    loop().run_for(millis(500));
    load_ends_ = true;
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

TEST_P(NodeDeathTest, AfterwardsThePowerGoes) {
    const std::uint32_t victim = start_and_choose();
    begin_load(3 * nodes_.nodes(), 40);
    loop().run_for(millis(10 + below(100)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    loop().run_for(seconds(60));  // marks of the others leave their records, too
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        EXPECT_TRUE(nodes_.flush(node));
    }
    loop().run_for(seconds(60));
    clients_.let_fail();
    nodes_.lose_power();
    nodes_.release(victim);
    nodes_.start();
    EXPECT_EQ(nodes_.array(master_).status().bad_bytes, 0u) << "nothing was under way";
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// As the others' members say: the newest record of the node on each of them names nothing.
bool is_record_empty(SimNodes& nodes, std::uint32_t members, std::uint32_t of) {
    for (std::uint32_t member = 0; member != members; ++member) {
        if (nodes.home_of(member) == of) continue;
        std::optional<IntentRecord> newest;
        for (std::uint32_t slot = 0; slot != intent_slots; ++slot) {
            const std::uint32_t index = (of + 1) * intent_slots + slot;
            const ByteView bytes = nodes.platter(member).content.view().subspan(
                slots_end + index * intent_slot_size, intent_slot_size);
            const auto record = decode_intent(bytes, index);
            if (record && (!newest || record->generation > newest->generation)) newest = *record;
        }
        if (newest && !newest->entries.empty()) return false;
    }
    return true;
}

/// Nobody else has written: of what its record named all is durable by then.
TEST_P(NodeDeathTest, ThePowerGoesAsItsRecordIsEmptied) {
    const std::uint32_t victim = start_and_choose();
    for (std::uint32_t i = 0; i != 8; ++i) {
        ++working_;
        loop().tasks().spawn(client(victim, 1000));
    }
    loop().run_for(millis(10 + below(100)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    const auto is_empty = [&] { return is_record_empty(nodes_, GetParam().members, victim); };
    nodes_.run_until(is_empty, "its record is empty");
    clients_.let_fail();
    nodes_.lose_power();
    nodes_.release(victim);
    nodes_.start();
    for (std::uint32_t member = 0; member != GetParam().members; ++member) {
        wait_until_rebuilt(member);
    }
    // What was just being taken over is in doubt, and beside a lost member not known.
    const bool knows_all = nodes_.array(master_).status().bad_bytes == 0;
    if (knows_all) clients_.check(nodes_.nodes());
    nodes_.stop(0);
    if (knows_all) nodes_.expect_parity();
}

TEST_P(NodeDeathTest, ItWasAwayForAMomentOnly) {
    nodes_.start();
    loop().run_for(seconds(1));
    for (int round = 0; round != 5; ++round) {
        begin_load(2 * nodes_.nodes(), 20);
        loop().run_for(millis(10 + below(50)));
        const auto away = static_cast<std::uint32_t>(below(nodes_.nodes()));
        nodes_.isolate(away);
        loop().run_for(millis(below(600)));
        nodes_.release(away);
        end_load();
        loop().run_for(seconds(2));
    }
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        EXPECT_EQ(nodes_.log(node).find("excluded"), std::string::npos) << node;
    }
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

TEST_P(NodeDeathTest, WhatItHadForItselfIsSharedAgain) {
    const std::uint32_t victim = start_and_choose();
    ASSERT_TRUE(loop().run_until_done(nodes_.array(victim).reserve("data")));
    begin_load(2 * nodes_.nodes(), 30);  // of the others nothing is let in
    loop().run_for(millis(10 + below(60)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    loop().run_for(seconds(3));
    const std::uint64_t refused = clients_.refused();
    begin_load(nodes_.nodes(), 20);
    loop().run_for(seconds(3));
    EXPECT_EQ(clients_.refused(), refused);
    clients_.check(nodes_.nodes(), victim);
    ASSERT_TRUE(loop().run_until_done(nodes_.array(master_).reserve("data")));
    ASSERT_TRUE(loop().run_until_done(nodes_.array(master_).release("data")));
    end_all(victim);
}

TEST_P(NodeDeathTest, TwoThatDoNotReachEachOther) {
    if (nodes_.nodes() < 4) GTEST_SKIP() << "there are two others";
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t low = choose_victim() % (master_ - 1);
    const std::uint32_t high = low + 1;
    const auto members_at = [&](std::uint32_t node) {
        std::uint32_t count = 0;
        for (std::uint32_t i = 0; i != GetParam().members; ++i) count += nodes_.home_of(i) == node;
        return count;
    };
    // Who has fewer members, else the lower one; but nobody whom the level needs.
    const std::uint32_t wanted = members_at(high) < members_at(low) ? high : low;
    const std::uint32_t victim = others_go_on_without(wanted) ? wanted : low + high - wanted;
    if (!others_go_on_without(victim)) GTEST_SKIP() << "neither can be done without";
    clients_.let_fail_at(victim);
    begin_load(2 * nodes_.nodes(), 40);
    loop().run_for(millis(10 + below(60)));
    nodes_.part(low, high);
    wait_until_excluded(victim);
    loop().run_for(seconds(3));
    expect_nothing_lost(victim);
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

INSTANTIATE_TEST_SUITE_P(Shapes, NodeDeathTest, testing::ValuesIn(death_shapes(seeds_of(8, 200))));

/// A level that can do without two nodes.
class NodeDeathsTest : public NodeDeathTest {
  protected:
    void add_spare(std::uint32_t node, const std::shared_ptr<SimPlatter>& platter,
                   std::string path) {
        const auto added = loop().run_until_done(nodes_.array(node).add_member(
            nodes_.disk_at(node, platter, std::move(path)), Force::no));
        EXPECT_TRUE(added) << added.error().text;
    }
    /// In the first stripe.
    std::uint64_t sector_on(std::uint32_t member) {
        const Geometry& geometry = nodes_.geometry();
        for (std::uint64_t at = 0;; at += sector_size) {
            const StripPlace place = geometry.place_of(ArrayOffset{at});
            if (raw(geometry.member_of(place.stripe, place.role)) == member) return at;
        }
    }
    Task<void> fail(std::uint32_t member) {
        const auto failed =
            co_await nodes_.array(master_).fail_member(std::to_string(member), Force::no);
        EXPECT_TRUE(failed) << failed.error().text;
    }
};

/// A disk of the same node failed, with writes under way on it: until they are over, what they write could land
/// behind newer ones, and the spare gets no role. Another one does.
TEST_P(NodeDeathsTest, ASpareWaitsForItsHome) {
    nodes_.start();
    loop().run_for(seconds(1));
    // Who decides, or another one; no record of marks, which members 0 to 2 have, waits for its disk.
    const std::uint32_t node = master_ - static_cast<std::uint32_t>(below(2));
    const bool has_another = below(2) == 0;
    const std::uint32_t other = (node + 1) % nodes_.nodes();
    auto fresh = nodes_.make_platter();
    auto another = nodes_.make_platter();
    // The newest is taken first.
    if (has_another) add_spare(other, another, "another");
    add_spare(node, fresh, "fresh");
    nodes_.platter(node).delay_nanos = seconds(20).value;
    loop().run_until_done(clients_.write(other, 0, nodes_.geometry().stripe_data_size()));
    loop().run_for(millis(50));  // it is under way on the disk
    loop().tasks().spawn(fail(node));
    nodes_.run_until([&] { return is_everywhere(node, MemberState::faulty); }, "it is lost");
    begin_load(2 * nodes_.nodes(), 30);
    const auto fills = [&](const char* path) {
        const Configuration& now = nodes_.array(master_).configuration();
        return now.member(MemberIndex{node})->path.ends_with(path);
    };
    const std::uint64_t began = loop().now().value;
    nodes_.run_until([&] { return fills("fresh") || fills("another"); }, "a spare takes the role");
    EXPECT_EQ(fills("another"), has_another);
    if (has_another) {
        EXPECT_LT(loop().now().value - began, seconds(10).value);
    } else {
        EXPECT_GT(loop().now().value - began, seconds(15).value);
    }
    nodes_.run_until([&] { return state(master_, node) == MemberState::in_sync; }, "it is rebuilt");
    nodes_.set_platter(node, has_another ? another : fresh);
    end_load();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// A client of one node has read what a disk does not answer; then a node dies. Who waits for that disk hears
/// of all else, and the spare takes the role that it can have.
TEST_P(NodeDeathsTest, ADiskHangsWithASpareAndThenANodeDies) {
    nodes_.set_member_timeout(seconds(10));
    nodes_.start();
    loop().run_for(seconds(1));
    constexpr std::uint32_t hangs = 3;
    constexpr std::uint32_t reader = 0;
    constexpr std::uint32_t victim = 1;
    auto fresh = nodes_.make_platter();
    add_spare(2, fresh, "fresh");
    loop().run_until_done(clients_.write(reader, 0, nodes_.geometry().stripe_data_size()));
    loop().run_for(seconds(1));  // it is on the disks
    nodes_.platter(hangs).delay_nanos = seconds(120).value;
    loop().tasks().spawn(clients_.read(reader, sector_on(hangs), sector_size));
    loop().run_for(seconds(15));
    ASSERT_EQ(state(master_, hangs), MemberState::faulty);
    clients_.let_fail_at(victim);
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    const std::uint64_t began = loop().now().value;
    const std::uint64_t stripe = nodes_.geometry().stripe_data_size();
    for (const std::uint32_t node : {2U, 3U, 4U}) {
        loop().run_until_done(clients_.write(node, (node + 1) * stripe, sector_size));
    }
    EXPECT_LT(loop().now().value - began, seconds(5).value);
    EXPECT_EQ(state(master_, hangs), MemberState::faulty);
    nodes_.run_until([&] { return state(master_, victim) == MemberState::in_sync; },
                     "the spare has the role of the one that died");
    clients_.check(nodes_.nodes(), victim);
    nodes_.lose_power();
}

/// Who is being rebuilt is worth less than who is in sync.
TEST_P(NodeDeathsTest, OfTwoThatDoNotReachEachOtherWhoIsRebuiltLeaves) {
    nodes_.start();
    loop().run_for(seconds(1));
    const auto low = static_cast<std::uint32_t>(below(master_ - 1));
    const std::uint32_t high = low + 1;
    ASSERT_TRUE(
        loop().run_until_done(nodes_.array(master_).fail_member(std::to_string(high), Force::no)));
    auto fresh = nodes_.make_platter();
    fresh->delay_nanos = seconds(2).value;
    add_spare(high, fresh, "fresh");
    nodes_.run_until([&] { return state(master_, high) == MemberState::rebuilding; },
                     "it is being rebuilt");
    clients_.let_fail_at(high);
    nodes_.part(low, high);
    const auto is_out = [&](std::uint32_t node) {
        return nodes_.array(master_).status().nodes[node].excluded;
    };
    nodes_.run_until([&] { return is_out(low) || is_out(high); }, "one of them leaves");
    EXPECT_TRUE(is_out(high));
    nodes_.lose_power();
}

TEST_P(NodeDeathsTest, ARoleIsFilledBetweenTwoDeaths) {
    nodes_.start();
    loop().run_for(seconds(1));
    const auto first = static_cast<std::uint32_t>(below(master_));
    const std::uint32_t second = (first + 1) % master_;
    clients_.let_fail_at(first);
    clients_.let_fail_at(second);
    nodes_.isolate(first);
    wait_until_excluded(first);
    auto fresh = nodes_.make_platter();
    const auto added = loop().run_until_done(
        nodes_.array(master_).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    nodes_.run_until([&] { return state(master_, first) == MemberState::in_sync; },
                     "it is rebuilt");
    begin_load(2 * nodes_.nodes(), 30);
    loop().run_for(millis(10 + below(40)));
    nodes_.isolate(second);
    nodes_.run_until([&] { return state(master_, second) == MemberState::missing; }, "it is out");
    loop().run_for(seconds(3));
    EXPECT_EQ(state(master_, first), MemberState::in_sync) << "it is another's now";
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node != first && node != second) read_all(node);
    }
    nodes_.release(first);
    end_all(second, first);
}

TEST_P(NodeDeathsTest, TwoAreGone) {
    nodes_.start();
    loop().run_for(seconds(1));
    const auto first = static_cast<std::uint32_t>(below(master_));
    const std::uint32_t second =
        (first + 1 + static_cast<std::uint32_t>(below(master_ - 1))) % master_;
    clients_.let_fail_at(first);
    clients_.let_fail_at(second);
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(100)));
    nodes_.isolate(first);
    // Both at once, or the second one in the middle of what is done without the first, or after it.
    if (GetParam().seed % 3 != 0) loop().run_for(millis(below(1600)));
    nodes_.isolate(second);
    const auto is_excluded = [&](std::uint32_t node) {
        return state(master_, node) == MemberState::missing;
    };
    nodes_.run_until([&] { return is_excluded(first) && is_excluded(second); }, "both are out");
    loop().run_for(seconds(5));
    begin_load(2 * nodes_.nodes(), 20);
    loop().run_for(seconds(5));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == first || node == second) continue;
        EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
        ASSERT_TRUE(nodes_.flush(node)) << node;
        read_all(node);
    }
    nodes_.release(first);
    nodes_.release(second);
    end_load();
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const bool clean = loop().run_until_done(nodes_.array(node).stop()).has_value();
        EXPECT_TRUE(clean || node == first || node == second) << node;
    }
    nodes_.end_servers();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// Only the one who decides reaches it, and the others each other: it leaves, and none of them.
TEST_P(NodeDeathsTest, OneThatMostDoNotReach) {
    nodes_.start();
    loop().run_for(seconds(1));
    const std::uint32_t victim = master_ - 1 - static_cast<std::uint32_t>(below(2));
    clients_.let_fail_at(victim);
    begin_load(2 * nodes_.nodes(), 40);
    for (std::uint32_t node = 0; node != master_; ++node) {
        loop().run_for(millis(below(300)));
        if (node == victim) continue;
        if (below(2) == 0) {
            nodes_.part(victim, node);
        } else {
            nodes_.hold_way(node, victim);
        }
    }
    wait_until_excluded(victim);
    loop().run_for(seconds(15));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        EXPECT_FALSE(nodes_.ends(node)) << node << nodes_.log(master_);
    }
    if (HasFailure()) return;
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodeDeathsTest, testing::ValuesIn(one_member_each()));

class NodeDeathHangTest : public NodeDeathTest {
  protected:
    /// It waits at the disk's home, as the home gives the disk up.
    Task<void> flush_later(std::uint32_t node, Nanos time) {
        ++working_;
        Timer timer(loop(), Nanos{loop().now().value + time.value});
        co_await timer;
        IoRequest request;
        request.kind = IoKind::flush;
        (void)co_await nodes_.ask(node, request);
        --working_;
    }
};

/// A disk of one that stays hangs meanwhile, and has something of the one that goes under way: its member
/// is lost as well, and that comes into force, whoever its home is and whoever waits there.
TEST_P(NodeDeathHangTest, ADiskHangsAsOneGoes) {
    nodes_.set_member_timeout(seconds(10));
    nodes_.start();
    loop().run_for(seconds(1));
    // Records are on the members with the first roles.
    const bool is_own = GetParam().nodes == 3;
    const std::uint32_t victim = is_own ? 1 : static_cast<std::uint32_t>(below(master_));
    const std::uint32_t hangs = is_own ? master_ : (victim + 1) % 3;
    clients_.let_fail_at(victim);
    nodes_.platter(hangs).delay_nanos = seconds(60).value;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        loop().tasks().spawn(flush_later(node, millis(below(300))));
    }
    begin_load(3 * nodes_.nodes(), 60);
    loop().run_for(millis(10 + below(300)));
    nodes_.isolate(victim);
    nodes_.run_until(
        [&] {
            return state(master_, victim) == MemberState::missing &&
                   state(master_, hangs) == MemberState::faulty;
        },
        "both are out");
    const std::uint64_t began = loop().now().value;
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (node == victim) continue;
        ASSERT_TRUE(nodes_.flush(node)) << node;
        EXPECT_EQ(nodes_.array(node).status().bad_bytes, 0u) << node;
    }
    EXPECT_LT(loop().now().value - began, seconds(15).value);
    loop().run_for(seconds(130));
    nodes_.platter(hangs).delay_nanos = 0;
    end_load();
    nodes_.release(victim);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        const bool clean = loop().run_until_done(nodes_.array(node).stop()).has_value();
        EXPECT_TRUE(clean || node == victim) << node;
    }
    nodes_.end_servers();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}
INSTANTIATE_TEST_SUITE_P(
    Seeds, NodeDeathHangTest,
    testing::ValuesIn(with_seeds(seeds_of(8, 300),
                                 {{.level = Level::raid6, .members = 5, .nodes = 5},
                                  {.level = Level::raid6, .members = 4, .nodes = 3}})));

/// A walk is under way, whose progress others know from the locks of the one that is gone.
class NodeDeathRebuildTest : public NodeDeathTest {
  protected:
    NodeDeathRebuildTest() : NodeDeathTest({.stripes = 64}) {}
};

TEST_P(NodeDeathRebuildTest, ARebuildGoesOn) {
    nodes_.start();
    loop().run_for(seconds(1));
    constexpr std::uint32_t role = 3;  // of the master
    auto victim = static_cast<std::uint32_t>(below(2)) + 1;
    clients_.let_fail_at(victim);
    begin_load(4, 20);
    end_load();
    const auto failed =
        loop().run_until_done(nodes_.array(master_).fail_member(std::to_string(role), Force::no));
    ASSERT_TRUE(failed) << failed.error().text;
    auto fresh = nodes_.make_platter();
    fresh->delay_nanos = millis(2 + below(8)).value;
    const auto added = loop().run_until_done(
        nodes_.array(master_).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    if (victim == 1) victim = 2;  // node 1 has two members, which is too much now
    clients_.let_fail_at(victim);
    begin_load(2 * nodes_.nodes(), 60);
    loop().run_for(millis(20 + below(300)));
    nodes_.isolate(victim);
    wait_until_excluded(victim);
    nodes_.run_until([&] { return state(master_, role) == MemberState::in_sync; }, "it is rebuilt");
    begin_load(nodes_.nodes(), 20);
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    nodes_.platter(0).dead = true;  // what the new one has counts
    for (std::uint32_t i = 0; i != 20 && state(master_, 0) == MemberState::in_sync; ++i) {
        loop().run_until_done(clients_.write(master_, 0, 64u << 10, Fua::yes));
    }
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

INSTANTIATE_TEST_SUITE_P(
    Seeds, NodeDeathRebuildTest,
    testing::ValuesIn(with_seeds(seeds_of(16, 400),
                                 {{.level = Level::raid6, .members = 6, .nodes = 4}})));

}  // namespace
}  // namespace braid::sim
