// SPDX-License-Identifier: BSD-3-Clause
// Each change alters what it names and nothing else, and whatever is changed in whatever order, the
// configuration stays one that a slot takes.
#include "engine/layout/change.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/base/rng.h"
#include "engine/metadata/config_check.h"

namespace braid {
namespace {

Uuid uuid_of(std::uint8_t number) {
    Uuid uuid;
    uuid.bytes.fill(number);
    return uuid;
}

MemberRecord spare_of(std::uint8_t number, std::uint32_t dev_number) {
    MemberRecord record;
    record.uuid = uuid_of(number);
    record.state = MemberState::spare;
    record.data_offset = 4u << 20;
    record.size = 64u << 20;
    record.dev_number = dev_number;
    record.path = "/dev/spare";
    return record;
}

/// RAID-6 of four, all in sync, parity true before stripe 10, not in use.
Configuration array_of_four() {
    Configuration c;
    c.array = uuid_of(100);
    c.name = "array";
    c.version = {256, 1};
    c.in_force = {256, 0};
    c.events = 2;
    c.level = Level::raid6;
    c.strip_size = 65536;
    c.member_count = 4;
    c.stripes = 100;
    c.resynced = StripeIndex{10};
    for (std::uint32_t i = 0; i != 4; ++i) {
        MemberRecord record = spare_of(static_cast<std::uint8_t>(i + 1), i);
        record.role = MemberIndex{i};
        record.state = MemberState::in_sync;
        record.path = "/dev/member";
        c.members.push_back(record);
    }
    c.volumes.push_back({"data", StripeIndex{0}, 100});
    return c;
}

TEST(Change, ALostMemberLeavesWithWhatItHeld) {
    const Configuration before = array_of_four();
    Configuration expected = before;
    expected.members[2].state = MemberState::faulty;
    expected.members[2].left = {256, 1};
    EXPECT_EQ(apply(before, change::Lost{MemberIndex{2}, MemberState::faulty, {256, 1}}), expected);
}

TEST(Change, AMemberThatWasBeingRebuiltLosesItsProgress) {
    Configuration c = array_of_four();
    c.members[1].state = MemberState::rebuilding;
    c.members[1].rebuilt = StripeIndex{7};
    c = apply(c, change::Lost{MemberIndex{1}, MemberState::missing, {}});
    EXPECT_EQ(c.members[1].state, MemberState::missing);
    EXPECT_EQ(c.members[1].rebuilt, StripeIndex{});
}

TEST(Change, OneThatIsAwayKeepsItsState) {
    const Configuration before = array_of_four();
    Configuration expected = before;
    expected.members[0].left = {256, 0};
    EXPECT_EQ(apply(before, change::Away{MemberIndex{0}, {256, 0}}), expected);
}

TEST(Change, ASpareTakesALostRoleAndIsASpareNoMore) {
    Configuration c = array_of_four();
    c = apply(c, change::SpareAdded{spare_of(9, 4)});
    ASSERT_EQ(c.members.size(), 5u);
    c = apply(c, change::Lost{MemberIndex{3}, MemberState::faulty, {}});
    c = apply(c, change::Removed{MemberIndex{3}});
    EXPECT_EQ(c.members[3].state, MemberState::missing);
    EXPECT_TRUE(c.members[3].path.empty());
    EXPECT_EQ(c.members[3].uuid, uuid_of(4));  // who comes back is known
    c = apply(c, change::RoleFilled{MemberIndex{3}, uuid_of(9)});
    ASSERT_EQ(c.members.size(), 4u);
    EXPECT_EQ(c.members[3].uuid, uuid_of(9));
    EXPECT_EQ(c.members[3].role, MemberIndex{3});
    EXPECT_EQ(c.members[3].state, MemberState::rebuilding);
    EXPECT_EQ(c.members[3].dev_number, 4u);
    c = apply(c, change::RebuiltTo{MemberIndex{3}, StripeIndex{50}});
    EXPECT_EQ(c.members[3].rebuilt, StripeIndex{50});
    EXPECT_EQ(apply(c, change::RebuiltTo{MemberIndex{3}, StripeIndex{49}}), c);  // never back
    c = apply(c, change::ReadError{MemberIndex{3}});
    EXPECT_EQ(c.members[3].read_errors, 1u);
    c = apply(c, change::RebuildDone{MemberIndex{3}});
    EXPECT_EQ(c.members[3].state, MemberState::in_sync);
    EXPECT_EQ(c.members[3].rebuilt, StripeIndex{});
    EXPECT_EQ(c.members[3].read_errors, 0u);
}

TEST(Change, ADiskThatWasNoneTakesALostRole) {
    Configuration c =
        apply(array_of_four(), change::Lost{MemberIndex{3}, MemberState::missing, {}});
    c = apply(c, change::RoleTaken{MemberIndex{3}, spare_of(9, 4)});
    ASSERT_EQ(c.members.size(), 4u);
    EXPECT_EQ(c.members[3].uuid, uuid_of(9));
    EXPECT_EQ(c.members[3].role, MemberIndex{3});
    EXPECT_EQ(c.members[3].state, MemberState::rebuilding);
}

TEST(Change, ADiskThatIsBeingRebuiltIsASpareAgain) {
    Configuration c =
        apply(array_of_four(), change::Lost{MemberIndex{3}, MemberState::missing, {}});
    c = apply(c, change::RoleTaken{MemberIndex{3}, spare_of(9, 4)});
    c = apply(c, change::RebuiltTo{MemberIndex{3}, StripeIndex{7}});
    c = apply(c, change::RoleGivenUp{MemberIndex{3}, uuid_of(10), 5});
    ASSERT_EQ(c.members.size(), 5u);
    EXPECT_EQ(c.members[3].uuid, Uuid{});
    EXPECT_EQ(c.members[3].state, MemberState::missing);
    EXPECT_EQ(c.members[3].rebuilt, StripeIndex{});
    EXPECT_TRUE(c.members[3].path.empty());
    const MemberRecord& spare = c.members[4];
    EXPECT_EQ(spare.uuid, uuid_of(10));
    EXPECT_EQ(spare.state, MemberState::spare);
    EXPECT_FALSE(spare.role);
    EXPECT_EQ(spare.rebuilt, StripeIndex{});
    EXPECT_EQ(spare.path, spare_of(9, 4).path);
    EXPECT_EQ(c.member(uuid_of(9)), nullptr);
    c = apply(c, change::RoleFilled{MemberIndex{3}, uuid_of(10)});
    EXPECT_EQ(c.members.size(), 4u);
    EXPECT_EQ(c.members[3].state, MemberState::rebuilding);
}

TEST(Change, ASpareIsRemovedAndNoMember) {
    Configuration c = apply(array_of_four(), change::SpareAdded{spare_of(9, 4)});
    EXPECT_EQ(apply(c, change::SpareRemoved{uuid_of(9)}), array_of_four());
    EXPECT_EQ(apply(c, change::SpareRemoved{uuid_of(1)}), c);
}

TEST(Change, ADiskIsSeenSomewhereElse) {
    const Configuration before = array_of_four();
    Configuration expected = before;
    expected.members[1].path = "/dev/other";
    expected.members[1].size = 65u << 20;
    EXPECT_EQ(apply(before, change::Seen{uuid_of(2), "/dev/other", 65u << 20}), expected);
}

TEST(Change, AResyncNeverGoesBack) {
    Configuration c = array_of_four();
    c = apply(c, change::ResyncedTo{StripeIndex{5}});
    EXPECT_EQ(c.resynced, StripeIndex{10});
    c = apply(c, change::ResyncedTo{StripeIndex{20}});
    EXPECT_EQ(c.resynced, StripeIndex{20});
    c = apply(c, change::ResyncedTo{});
    EXPECT_FALSE(c.resynced);
    c = apply(c, change::ResyncedTo{StripeIndex{30}});
    EXPECT_FALSE(c.resynced);
}

TEST(Change, TheRestIsTakenAsItIs) {
    const Configuration before = array_of_four();
    const auto alters = [&](const Change& what, auto&& edit) {
        Configuration expected = before;
        edit(expected);
        EXPECT_NE(expected, before);
        EXPECT_EQ(apply(before, what), expected);
    };
    const std::vector<BadRange> bad{{MemberIndex{1}, RowIndex{4}, 2, BadKind::retry}};
    const ScrubRecord scrub{StripeIndex{3}, true, 4, 2};
    alters(change::BadRows{bad}, [&](Configuration& c) { c.bad_rows = bad; });
    alters(change::ScrubAt{scrub}, [&](Configuration& c) { c.scrub = scrub; });
    alters(change::Intent{{false, 65536}}, [](Configuration& c) { c.intent = {false, 65536}; });
    Uuid lineage;
    lineage.bytes[0] = 1;
    alters(change::Lineage{lineage, MemberIndex{2}}, [&](Configuration& c) {
        c.lineage = lineage;
        c.tie_breaker = MemberIndex{2};
    });
    alters(change::InUse{true}, [](Configuration& c) { c.in_use = true; });
    alters(change::ReadError{MemberIndex{2}},
           [](Configuration& c) { c.members[2].read_errors = 1; });
    EXPECT_EQ(apply(apply(before, change::ScrubAt{scrub}), change::ScrubAt{}), before);
}

TEST(ChangeDeathTest, WhatDoesNotFitEndsTheProcess) {
    const Configuration c = array_of_four();
    const std::vector<Change> misfits{
        change::Lost{MemberIndex{1}, MemberState::in_sync, {}},
        change::Lost{MemberIndex{4}, MemberState::faulty, {}},
        change::Removed{MemberIndex{1}},
        change::SpareAdded{spare_of(1, 5)},
        change::RoleFilled{MemberIndex{1}, uuid_of(9)},
        change::RoleTaken{MemberIndex{1}, spare_of(9, 4)},
        change::RoleGivenUp{MemberIndex{1}, uuid_of(9), 4},
        change::RebuiltTo{MemberIndex{1}, StripeIndex{1}},
        change::RebuildDone{MemberIndex{1}},
        change::Seen{uuid_of(50), "x", 1},
    };
    for (const Change& misfit : misfits) {
        EXPECT_DEATH((void)apply(c, misfit), "") << misfit.index();
    }
}

/// A change that fits, drawn.
std::optional<Change> draw(Rng& rng, const Configuration& c, std::uint8_t& uuids) {
    const MemberIndex member{static_cast<std::uint32_t>(rng.below(4))};
    const MemberState state = c.member(member)->state;
    const bool part = state == MemberState::in_sync || state == MemberState::rebuilding;
    const auto spare = std::ranges::find(c.members, MemberState::spare, &MemberRecord::state);
    const StripeIndex stripe{rng.below(c.stripes + 1)};
    const auto free_number = [&] {
        std::uint32_t number = 0;
        while (std::ranges::find(c.members, number, &MemberRecord::dev_number) != c.members.end())
            ++number;
        return number;
    };
    switch (rng.below(14)) {
        case 0:
            if (!part || c.lost_count() == 2) return std::nullopt;
            return change::Lost{
                member, rng.below(2) == 0 ? MemberState::faulty : MemberState::missing, c.version};
        case 1:
            if (part) return std::nullopt;
            return change::Removed{member};
        case 2:
            if (c.members.size() == 7) return std::nullopt;
            return change::SpareAdded{spare_of(++uuids, free_number())};
        case 3:
            if (spare == c.members.end()) return std::nullopt;
            return change::SpareRemoved{spare->uuid};
        case 4:
            if (part || spare == c.members.end()) return std::nullopt;
            return change::RoleFilled{member, spare->uuid};
        case 5:
            if (state != MemberState::rebuilding) return std::nullopt;
            return change::RebuiltTo{member, stripe};
        case 6:
            if (state != MemberState::rebuilding) return std::nullopt;
            return change::RebuildDone{member};
        case 7:
            return change::ResyncedTo{stripe};
        case 8:
            return change::ScrubAt{ScrubRecord{stripe, false, 0, 0, 0}};
        case 9:
            return change::InUse{rng.below(2) == 0};
        case 10:
            return change::ReadError{member};
        case 11:
            if (part) return std::nullopt;
            return change::RoleTaken{member, spare_of(++uuids, free_number())};
        case 12:
            if (state != MemberState::rebuilding || c.members.size() == 7) return std::nullopt;
            return change::RoleGivenUp{member, uuid_of(++uuids), free_number()};
        default:
            if (c.member(member)->uuid == Uuid{}) return std::nullopt;
            return change::Seen{c.member(member)->uuid, "/dev/again", 70u << 20};
    }
}

TEST(Change, WhateverIsChangedASlotTakesIt) {
    for (std::uint64_t seed = 1; seed != 51; ++seed) {
        Rng rng(seed);
        Configuration c = array_of_four();
        std::uint8_t uuids = 10;
        std::size_t drawn = 0;
        while (drawn != 80) {
            const std::optional<Change> what = draw(rng, c, uuids);
            if (!what) continue;
            ++drawn;
            c = apply(std::move(c), *what);
            const auto checked = check_configuration(c);
            ASSERT_TRUE(checked) << checked.error().text << ", seed " << seed << ", change "
                                 << drawn << ", kind " << what->index();
            EXPECT_EQ(c.version, (EpochRevision{256, 1}));
            EXPECT_EQ(c.events, 2u);
        }
    }
}

}  // namespace
}  // namespace braid
