// SPDX-License-Identifier: BSD-3-Clause
// Single moments at which the node that decides goes: what it had stored and told nobody, what it had told
// some, what others had heard of its walk, what it was asked and had not answered.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "engine/metadata/config_slot.h"
#include "tests/cluster/node_takeover_kit.h"

namespace braid::sim {
namespace {

/// The one who decides has no member, nor has the next one; nodes 0 and 1 have three each.
class TakeoverCase : public NodeTakeoverTest {
  protected:
    static constexpr std::uint32_t next = 2;
    TakeoverCase() : NodeTakeoverTest({.stripes = 64}) {}

    void order(Task<Checked<Unit>> wanted) { loop().tasks().spawn(carry_out(std::move(wanted))); }
    Task<void> write(std::uint32_t node, std::uint64_t at, bool* answered) {
        co_await clients_.write(node, at, sector_size);
        *answered = true;
    }
    void take_over() {
        const std::uint32_t victim = master_;
        nodes_.isolate(victim);
        wait_until_decides(next);
        ASSERT_EQ(victim, 3u);
    }
    void expect_same_states() {
        for (std::uint32_t member = 0; member != GetParam().members; ++member) {
            for (const std::uint32_t node : {0U, 1U}) {
                EXPECT_EQ(state(node, member), state(next, member)) << member << " at " << node;
            }
        }
    }
    std::uint64_t fence(std::uint32_t node) { return nodes_.array(node).status().cluster->fence; }
    std::size_t spares(std::uint32_t node) {
        const Configuration& now = nodes_.array(node).configuration();
        return now.members.size() - GetParam().members;
    }
};

TEST_P(TakeoverCase, WhatItHasStoredCounts) {
    start_all();
    const std::uint32_t victim = master_;
    nodes_.hold_way(master_, next);  // so that it waits until this one has adopted it
    auto fresh = nodes_.make_platter();
    order(nodes_.array(0).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    loop().run_for(millis(300));
    ASSERT_EQ(spares(next), 0u);
    take_over();
    loop().run_for(seconds(2));
    for (const std::uint32_t node : {0U, 1U, 2U}) EXPECT_EQ(spares(node), 1u) << node;
    // And it takes the role of a member that is lost.
    clients_.let_fail_at(victim);
    ASSERT_TRUE(loop().run_until_done(nodes_.array(next).fail_member("1", Force::no)));
    nodes_.run_until([&] { return state(next, 1) == MemberState::in_sync; }, "it is rebuilt");
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

TEST_P(TakeoverCase, ALossThatSomeHaveHeardOfIsOne) {
    start_all();
    const std::uint32_t victim = master_;
    nodes_.hold_way(master_, next);
    begin_load(6, 30);
    order(nodes_.array(master_).fail_member("0", Force::no));
    nodes_.run_until([&] { return state(1, 0) != MemberState::in_sync; }, "one has heard of it");
    ASSERT_EQ(state(next, 0), MemberState::in_sync);
    take_over();
    loop().run_for(seconds(2));
    expect_same_states();
    EXPECT_NE(state(next, 0), MemberState::in_sync);
    if (HasFailure()) return;
    begin_load(6, 30);
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// Others have heard from it how far that is, and the one who comes to decide has not.
TEST_P(TakeoverCase, ARebuildIsAsFarAsAnyHasHeard) {
    start_all();
    const std::uint32_t victim = master_;
    ASSERT_TRUE(loop().run_until_done(nodes_.array(master_).fail_member("0", Force::no)));
    auto fresh = nodes_.make_platter();
    fresh->delay_nanos = millis(60).value;
    const auto added =
        loop().run_until_done(nodes_.array(0).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    const std::uint64_t stripe = nodes_.geometry().stripe_data_size();
    const std::uint64_t size = nodes_.geometry().data_size();
    for (int i = 0; i != 12; ++i) {
        loop().run_until_done(clients_.write(0, below(size / stripe) * stripe, sector_size));
    }
    take_over();
    ASSERT_EQ(state(next, 0), MemberState::rebuilding);
    for (std::uint64_t at = 0; at != size; at += stripe) {
        loop().run_until_done(clients_.write(next, at, stripe));
        loop().run_until_done(clients_.read(0, at, stripe));
    }
    nodes_.run_until([&] { return state(next, 0) == MemberState::in_sync; }, "it is rebuilt");
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// The next one has prepared for a fence of its, and no other node has: its own is above that. Else it would
/// have no lease, for they go by what they promised.
TEST_P(TakeoverCase, ItsFenceIsAboveWhatItHasPromisedItself) {
    constexpr std::uint32_t heir = 1;
    loop().let_wall_stand();  // fences count
    start_all();
    const std::uint32_t victim = master_;
    clients_.let_fail_at(next);
    nodes_.slow_way(victim, 0, millis(400));
    nodes_.isolate(next);
    nodes_.run_until(
        [&] {
            return nodes_.log(heir).find("node 3 is excluded, says node 4") != std::string::npos;
        },
        "it has prepared");
    nodes_.isolate(victim);
    wait_until_decides(heir);
    ASSERT_EQ(nodes_.log(0).find("node 3 is excluded, says node 4"), std::string::npos);
    nodes_.run_until([&] { return nodes_.array(heir).status().cluster->lease.has_value(); },
                     "it has a lease");
    loop().run_until_done(clients_.write(heir, 0, sector_size));
    loop().run_until_done(clients_.read(0, 0, sector_size));
    clients_.check(nodes_.nodes(), victim);
    end_all(victim, next);
}

/// It excludes a node while another one has given its voice away, and so refuses: it tries that again now and
/// then, and not at once.
TEST_P(TakeoverCase, WhoIsRefusedTriesAgainInAWhile) {
    loop().let_wall_stand();  // fences count how often it is tried
    start_all();
    clients_.let_fail_at(next);
    nodes_.part(master_, 0);
    nodes_.part(master_, next);  // which asks node 0 for its voice, and node 1, which hears him
    loop().run_for(millis(1600 + below(400)));
    begin_load(6, 30);
    const std::uint64_t before = fence(master_);
    nodes_.release(master_);
    nodes_.isolate(next);
    nodes_.run_until([&] { return nodes_.array(0).status().nodes[next].excluded; },
                     "it is excluded");
    nodes_.run_until([&] { return fence(0) != before && fence(0) == fence(1); }, "they go on");
    EXPECT_TRUE(decides(master_));
    EXPECT_LE((fence(0) - before) / 256, 16u);
    clients_.check(nodes_.nodes(), next);
    end_all(next);
}

/// Its configuration is whole: who comes to decide can do without it.
TEST_P(TakeoverCase, AMemberWithoutASuperblockIsLost) {
    start_all();
    const std::uint32_t victim = master_;
    begin_load(6, 30);
    loop().run_for(millis(100));
    std::memset(nodes_.platter(0).content.data() + md_superblock_offset, 0, row_size);
    take_over();
    loop().run_for(seconds(2));
    expect_same_states();
    EXPECT_EQ(state(next, 0), MemberState::faulty);
    if (HasFailure()) return;
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

TEST_P(TakeoverCase, WhatItHasNotAnsweredIsAskedAgain) {
    start_all();
    const std::uint32_t victim = master_;
    const std::uint64_t stripe = nodes_.geometry().stripe_data_size();
    loop().run_until_done(clients_.write(1, 0, stripe));
    EXPECT_TRUE(nodes_.flush(1));
    for (const std::uint32_t member : {0U, 1U}) {
        nodes_.platter(member).bad_rows.insert(SimNodes::data_offset / row_size);
    }
    ASSERT_TRUE(loop().run_until_done(nodes_.array(master_).fail_member("5", Force::no)));
    auto fresh = nodes_.make_platter();
    const auto added =
        loop().run_until_done(nodes_.array(1).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    wait_until_rebuilt(5);
    ASSERT_NE(nodes_.array(master_).status().bad_bytes, 0u) << "it met what cannot be known";
    loop().run_for(seconds(1));
    nodes_.isolate(master_);
    loop().tasks().spawn(clients_.write(1, 0, stripe));  // heals the rows, and asks for that
    wait_until_decides(next);
    loop().run_for(seconds(3));
    EXPECT_EQ(nodes_.array(next).status().bad_bytes, 0u);
    EXPECT_TRUE(nodes_.array(1).configuration().bad_rows.empty());
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// As they began the next one had not met another whose disks it was told of.
TEST_P(TakeoverCase, TheOthersHaveNotMetWhenTheyWereTold) {
    nodes_.part(0, next);
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) nodes_.begin(node);
    loop().run_for(seconds(1));
    nodes_.release(0);
    nodes_.wait_until_all_serve();
    const std::uint32_t victim = master_;
    clients_.let_fail_at(victim);
    begin_load(6, 30);
    loop().run_for(millis(500));
    take_over();
    loop().run_for(seconds(2));
    for (std::uint32_t member = 0; member != GetParam().members; ++member) {
        EXPECT_EQ(state(next, member), MemberState::in_sync) << member;
    }
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// A node had begun anew before all did, which the next one who decides hears as it has been told of that start
/// already: it goes on, and nobody opens a fence without waiting for its lease.
TEST_P(TakeoverCase, AStartThatWasMetLateServes) {
    for (const std::uint32_t node : {0U, 1U, next}) nodes_.begin(node);
    nodes_.run_until(
        [&] { return nodes_.log(next).find("node 1 is connected") != std::string::npos; },
        "they meet");
    loop().run_for(millis(100 + below(200)));
    // What it says comes late, and what it hears in time.
    nodes_.slow_way(0, next, millis(200 + below(200)));
    nodes_.end(0);
    nodes_.begin(0);
    nodes_.begin(master_);
    nodes_.wait_until_all_serve();
    nodes_.slow_way(0, next, Nanos{});
    EXPECT_EQ(nodes_.log(next).find("has begun anew"), std::string::npos) << nodes_.log(next);
    const std::uint32_t victim = master_;
    clients_.let_fail_at(victim);
    begin_load(6, 30);
    loop().run_for(millis(500));
    take_over();
    EXPECT_EQ(nodes_.log(next).find("node 1 is excluded"), std::string::npos);
    loop().run_for(seconds(2));
    EXPECT_EQ(state(next, 0), MemberState::in_sync) << nodes_.logs();
    for (std::uint32_t member = 0; member != GetParam().members; ++member) {
        EXPECT_EQ(state(next, member), MemberState::in_sync) << member;
    }
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// The one who decides is told to stop, and the next one has the voices of all already: who hears that all is
/// to end before it hears of him goes on with him, and its clients have waited.
TEST_P(TakeoverCase, ItIsToldToStopAndAnotherOneDecides) {
    start_all();
    const std::uint32_t victim = master_;
    nodes_.isolate(victim);
    bool answered[4]{};
    for (const std::uint32_t node : {0U, 1U, 2U}) {
        loop().tasks().spawn(write(node, node * sector_size, &answered[node]));
    }
    nodes_.run_until(
        [&] { return nodes_.log(next).find("decides about the array") != std::string::npos; },
        "all have given their voices");
    nodes_.hold_way(next, 0);
    nodes_.release_way(victim, 0);
    nodes_.release_way(0, victim);
    nodes_.leave(victim);
    nodes_.run_until([&] { return nodes_.array(0).status().stopping; }, "it hears of the stop");
    loop().tasks().spawn(write(0, 8 * sector_size, &answered[3]));
    loop().run_for(millis(50 + below(200)));
    EXPECT_FALSE(answered[3]);
    nodes_.release_way(next, 0);
    wait_until_decides(next);
    nodes_.run_until([&] { return std::ranges::count(answered, true) == 4; },
                     "who has waited is answered");
    EXPECT_FALSE(nodes_.array(0).status().stopping);
    nodes_.run_until([&] { return nodes_.has_left(victim); }, "its server ends");
    begin_load(6, 30);
    loop().run_for(seconds(3));
    clients_.check(nodes_.nodes(), victim);
    end_load();
    nodes_.forget(victim);
    nodes_.release(victim);
    nodes_.begin(victim);
    wait_until_in(victim);
    end_whole();
}

TEST_P(TakeoverCase, AMemberThatWaitsForAVerdictGetsOne) {
    start_all();
    const std::uint32_t victim = master_;
    nodes_.hold_sent_to(master_);
    nodes_.platter(1).dead = true;  // at home there
    begin_load(6, 30);
    loop().run_for(millis(100));
    ASSERT_EQ(state(0, 1), MemberState::in_sync);
    take_over();
    nodes_.run_until([&] { return state(0, 1) != MemberState::in_sync; }, "it is lost");
    loop().run_for(seconds(2));
    expect_same_states();
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// The next one does not wait for it to look at what is on all members.
TEST_P(TakeoverCase, ADiskHangsMeanwhile) {
    start_all();
    const std::uint32_t victim = master_;
    begin_load(6, 30);
    loop().run_for(millis(100));
    nodes_.platter(0).delay_nanos = seconds(60).value;
    const std::uint64_t began = loop().now().value;
    take_over();
    EXPECT_LT(loop().now().value - began, seconds(12).value);
    loop().run_for(seconds(1));
    expect_same_states();
    EXPECT_EQ(state(next, 0), MemberState::faulty);
    for (std::uint32_t member = 1; member != GetParam().members; ++member) {
        EXPECT_EQ(state(next, member), MemberState::in_sync) << member;
    }
    loop().run_for(seconds(130));
    nodes_.platter(0).delay_nanos = 0;
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// It hears only one that has no members, which hears all others; and they reach each other. That one
/// does not hold them back for ever.
TEST_P(TakeoverCase, ItHearsTooFewAndTheOthersAreEnough) {
    start_all();
    const std::uint32_t victim = master_;
    const auto part = [&] {
        for (const std::uint32_t node : {0U, 1U}) nodes_.part(victim, node);
    };
    begin_load(6, 60);
    loop().run_for(millis(100));
    part();
    loop().run_for(seconds(4));
    nodes_.release(victim);
    loop().run_for(seconds(3));
    ASSERT_TRUE(decides(victim)) << "it passes";
    ASSERT_TRUE(nodes_.array(0).status().health == Health::clean);
    const std::uint64_t began = loop().now().value;
    part();
    nodes_.run_until([&] { return decides(0) || decides(1); }, "another one decides");
    EXPECT_GT(loop().now().value - began, cluster::ClusterNode::all_come_back.value);
    wait_until_decides(decides(0) ? 0 : 1);
    EXPECT_LT(loop().now().value - began, seconds(14).value);
    nodes_.run_until([&] { return nodes_.is_excluded(victim); }, "it hears of that");
    loop().run_for(seconds(2));
    expect_same_states();
    expect_no_bad_rows(victim);
    for (std::uint32_t member = 0; member != GetParam().members; ++member) {
        EXPECT_EQ(state(next, member), MemberState::in_sync) << member;
    }
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// What is to be read of the members comes by a way that is long and narrow: while something comes of it
/// nobody gives up.
TEST(Takeover, ReadingTheMembersTakesLong) {
    for (std::uint64_t seed = 1; seed <= seeds_of(3, 50); ++seed) {
        SCOPED_TRACE(seed);
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 6,
                        .nodes = 3,
                        .net = {.window_min = 16u << 10, .window_max = 16u << 10},
                        .own_loops = true});
        SimLoop& loop = nodes.loop();
        nodes.start();
        loop.run_for(seconds(1));
        nodes.slow_way(0, 1, millis(80));
        nodes.slow_way(1, 0, millis(80));
        const std::uint64_t began = loop.now().value;
        nodes.kill(2, Dies::process);
        const auto has_begun = [&](std::uint32_t node) {
            return nodes.log(node).find("has begun with 2 nodes") != std::string::npos ||
                   nodes.log(node).find("the array stops") != std::string::npos;
        };
        nodes.run_until([&] { return has_begun(1); }, "the next one decides");
        EXPECT_GT(loop.now().value - began, cluster::ClusterNode::patience.value) << "it was fast";
        for (const std::uint32_t node : {0U, 1U}) {
            EXPECT_EQ(nodes.log(node).find("the array stops"), std::string::npos)
                << nodes.log(node);
        }
        Buffer into(4096);
        EXPECT_TRUE(nodes.ask_first(0, IoKind::read, into));
        nodes.lose_power();
    }
}

/// Of those that are left one reaches the first of these, the other one does not: they come to stand at
/// the same time, and would each have the other one's voice.
TEST(Takeover, TheTwoHighestBeginAnew) {
    for (std::uint64_t seed = 1; seed <= seeds_of(8, 200); ++seed) {
        SCOPED_TRACE(seed);
        SimNodes nodes({.seed = seed,
                        .level = Level::raid6,
                        .members = 6,
                        .nodes = 4,
                        .homes = 2,
                        .own_loops = true});
        SimLoop& loop = nodes.loop();
        nodes.start();
        loop.run_for(seconds(1));
        for (const std::uint32_t node : {2U, 3U}) nodes.kill(node, Dies::process);
        nodes.part(0, 2);
        for (const std::uint32_t node : {2U, 3U}) nodes.begin(node);
        loop.run_for(seconds(6));
        const auto decides = [&](std::uint32_t node) {
            return nodes.is_up(node) && nodes.node(node).is_master() &&
                   nodes.log(node).find("fence") != std::string::npos;
        };
        ASSERT_TRUE(decides(0) != decides(1)) << nodes.logs();
        nodes.release(0);
        nodes.wait_until_all_serve();
    }
}

/// The member was served elsewhere by force, and its epochs are newer: a server that begins anew with it
/// has it open.
TEST_P(TakeoverCase, AnotherHistoryIsNotTheArrays) {
    start_all();
    const std::uint32_t victim = master_;
    auto platter = nodes_.make_platter();
    const auto added =
        loop().run_until_done(nodes_.array(0).add_member(nodes_.disk(platter, "x"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    loop().run_for(seconds(1));
    std::uint64_t newest = 0;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        std::byte* const bytes = platter->content.data() + slot_offset(slot);
        Result<ConfigSlot, Finding> held = decode_slot({bytes, slot_size}, slot);
        if (!held || held->sequence < newest) continue;
        newest = held->sequence;
        Configuration& c = held->configuration;
        c.lineage.bytes[0] = 1;
        c.version = {c.version.epoch + 100 * epochs_per_number, 1};
        c.in_force = {c.version.epoch, 0};
        const Buffer foreign = encode_slot(*held);
        std::memcpy(bytes, foreign.data(), foreign.size());
    }
    ASSERT_NE(newest, 0u);
    begin_load(6, 30);
    loop().run_for(millis(100));
    take_over();
    loop().run_for(seconds(2));
    expect_same_states();
    for (std::uint32_t member = 0; member != GetParam().members; ++member) {
        EXPECT_EQ(state(next, member), MemberState::in_sync) << member;
    }
    EXPECT_EQ(nodes_.array(next).configuration().lineage, Uuid{});
    if (HasFailure()) return;
    clients_.check(nodes_.nodes(), victim);
    end_all(victim);
}

/// The newest configuration on the member.
std::optional<Configuration> held_by(const SimPlatter& platter) {
    std::optional<ConfigSlot> newest;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        const ByteView bytes = platter.content.view().subspan(slot_offset(slot), slot_size);
        Result<ConfigSlot, Finding> found = decode_slot(bytes, slot);
        if (found && (!newest || found->sequence > newest->sequence)) newest = std::move(*found);
    }
    if (!newest) return std::nullopt;
    return std::move(newest->configuration);
}

/// Every node has a member that is needed.
class TakeoverWaits : public NodeTakeoverTest {
  protected:
    TakeoverWaits() : NodeTakeoverTest({.stripes = 64}) {}

    /// One of the two others, whichever is first.
    void wait_until_one_decides() {
        const auto goes_on = [&](std::uint32_t node) {
            return decides(node) &&
                   nodes_.log(node).find("has begun with 2 nodes") != std::string::npos;
        };
        nodes_.run_until([&] { return goes_on(0) || goes_on(1); }, "another one decides");
    }
    /// Node 1 was told that member 1 is rebuilt. Its status does not say so before that is in force.
    bool has_heard() {
        return nodes_.array(1).configuration().members[1].state == MemberState::in_sync;
    }
    /// A disk takes the place of member 1, until what member 0 holds has it in sync, and `as_wanted`.
    void rebuild_one_until(const char* what,
                           const std::function<bool(const Configuration& held)>& as_wanted) {
        start_all();
        ASSERT_EQ(master_, 2U);
        ASSERT_TRUE(loop().run_until_done(nodes_.array(master_).fail_member("1", Force::no)));
        const auto added = loop().run_until_done(
            nodes_.array(1).add_member(nodes_.disk(nodes_.make_platter(), "fresh"), Force::no));
        ASSERT_TRUE(added) << added.error().text;
        nodes_.platter(master_).delay_nanos = millis(100).value;
        std::uint64_t changes = 0;
        const auto is_there = [&] {
            const std::uint64_t now = nodes_.platter(0).changes;
            if (std::exchange(changes, now) == now) return false;
            const std::optional<Configuration> held = held_by(nodes_.platter(0));
            return held && held->members[1].state == MemberState::in_sync && as_wanted(*held);
        };
        nodes_.run_until(is_there, what);
    }
};

/// To the others it has said that a member is rebuilt, and then it is silent for a while: that is not in
/// force, and without it they are too few.
TEST_P(TakeoverWaits, ARebuildThatIsNotInForceIsNotCountedOn) {
    start_all();
    ASSERT_EQ(master_, 2U);
    ASSERT_TRUE(loop().run_until_done(nodes_.array(master_).fail_member("1", Force::no)));
    auto fresh = nodes_.make_platter();
    fresh->delay_nanos = millis(60).value;
    const auto added =
        loop().run_until_done(nodes_.array(1).add_member(nodes_.disk(fresh, "fresh"), Force::no));
    ASSERT_TRUE(added) << added.error().text;
    nodes_.platter(0).delay_nanos = millis(100).value;
    ASSERT_EQ(state(1, 1), MemberState::rebuilding);
    nodes_.run_until([&] { return has_heard(); }, "one has heard of it");
    nodes_.isolate(master_);
    nodes_.platter(0).delay_nanos = 0;
    loop().run_for(millis(1250 + below(500)));
    nodes_.release(master_);
    loop().run_for(seconds(2));
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        ASSERT_TRUE(nodes_.is_up(node)) << node;
        EXPECT_FALSE(nodes_.is_excluded(node)) << node;
    }
    EXPECT_TRUE(decides(2));
    begin_load(6, 30);
    loop().run_for(seconds(2));
    end_whole();
}

/// It goes for good when a rebuild is in force, and has told nobody: the members of the others say so.
TEST_P(TakeoverWaits, WhatMembersSayIsInForceIsCountedOn) {
    rebuild_one_until("it is in force, and a member says so", [](const Configuration& held) {
        return held.in_force.epoch == held.version.epoch;
    });
    const std::uint64_t began = loop().now().value;
    nodes_.isolate(master_);
    wait_until_one_decides();
    EXPECT_LT(loop().now().value - began, seconds(5).value);
    for (const std::uint32_t node : {0U, 1U}) {
        EXPECT_EQ(nodes_.log(node).find("the array stops"), std::string::npos) << nodes_.log(node);
        EXPECT_EQ(state(node, 1), MemberState::in_sync) << node;
    }
    Buffer data(4096);
    EXPECT_TRUE(nodes_.ask_first(0, IoKind::write, data));
    nodes_.lose_power();
}

/// The same, and nobody says that it is in force: that is waited for, and then the newest is taken over.
TEST_P(TakeoverWaits, WhatIsNotInForceIsTakenOverWhenNobodyComesBack) {
    const char* const what = "a member holds it, and none says that it is in force";
    rebuild_one_until(what, [this](const Configuration& held) {
        return held.in_force.epoch != held.version.epoch && has_heard();
    });
    const std::uint64_t began = loop().now().value;
    nodes_.isolate(master_);
    wait_until_one_decides();
    EXPECT_GT(loop().now().value - began, seconds(5).value);
    EXPECT_LT(loop().now().value - began, seconds(10).value);
    for (const std::uint32_t node : {0U, 1U}) {
        EXPECT_EQ(nodes_.log(node).find("the array stops"), std::string::npos) << nodes_.log(node);
    }
    Buffer data(4096);
    EXPECT_TRUE(nodes_.ask_first(0, IoKind::write, data));
    nodes_.lose_power();
}

INSTANTIATE_TEST_SUITE_P(Seeds, TakeoverWaits,
                         testing::ValuesIn(with_seeds(seeds_of(8, 200),
                                                      {{.level = Level::raid5, .members = 3}})));

INSTANTIATE_TEST_SUITE_P(
    Seeds, TakeoverCase,
    testing::ValuesIn(with_seeds(seeds_of(8, 200),
                                 {{.level = Level::raid6, .members = 6, .nodes = 4, .homes = 2}})));

}  // namespace
}  // namespace braid::sim
