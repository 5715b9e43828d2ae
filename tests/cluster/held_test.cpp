// SPDX-License-Identifier: BSD-3-Clause
// Which members are enough while the one who decides is silent, by what they hold themselves.
#include "cluster/membership/held.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace braid::cluster {
namespace {

constexpr EpochRevision version(std::uint64_t epoch, std::uint64_t revision) {
    return {epoch, revision};
}

Uuid uuid_of(std::uint32_t member) {
    Uuid uuid{};
    uuid.bytes[0] = static_cast<std::uint8_t>(member + 1);
    return uuid;
}

/// RAID-5 of three; member 1 was just rebuilt, in epoch 6.
struct Rebuilt {
    Configuration before = of({5, 7}, {5, 6}, MemberState::rebuilding);
    Configuration after = of({6, 0}, {5, 7}, MemberState::in_sync);
    Configuration said = of({6, 1}, {6, 0}, MemberState::in_sync);

    static Configuration of(EpochRevision version, EpochRevision in_force, MemberState of_one) {
        Configuration all;
        all.level = Level::raid5;
        all.member_count = 3;
        all.version = version;
        all.in_force = in_force;
        for (std::uint32_t i = 0; i != 3; ++i) {
            MemberRecord record;
            record.uuid = uuid_of(i);
            record.role = MemberIndex{i};
            record.state = i == 1 ? of_one : MemberState::in_sync;
            all.members.push_back(std::move(record));
        }
        return all;
    }
};

HeldByMember holds(std::uint32_t member, const Configuration& what) {
    return {uuid_of(member), what.version, what.in_force};
}

bool are_enough_by(const Configuration& newest, std::vector<HeldByMember> held, HeldCounts counts) {
    return are_enough({std::move(held), newest}, counts);
}

/// The one who decides has the third one.
TEST(Held, ARebuildCountsWhenAnyMemberSaysThatItIsInForce) {
    const Rebuilt all;
    const auto in_force = HeldCounts::in_force;
    EXPECT_FALSE(are_enough_by(all.before, {holds(0, all.before), holds(1, all.before)}, in_force));
    EXPECT_FALSE(are_enough_by(all.after, {holds(0, all.before), holds(1, all.after)}, in_force))
        << "it may not be on the third one";
    EXPECT_FALSE(are_enough_by(all.after, {holds(0, all.after), holds(1, all.after)}, in_force))
        << "nobody says so";
    EXPECT_TRUE(are_enough_by(all.said, {holds(0, all.said), holds(1, all.after)}, in_force));
    EXPECT_TRUE(are_enough_by(all.said, {holds(0, all.after), holds(1, all.said)}, in_force));
    EXPECT_FALSE(are_enough_by(all.said, {holds(0, all.before), holds(1, all.said)}, in_force))
        << "a member from before what was in force does not count";
    EXPECT_FALSE(are_enough_by(all.said, {holds(1, all.said)}, in_force));
}

/// Whoever comes to decide takes it over, whether or not it was in force.
TEST(Held, TheNewestIsTakenOver) {
    const Rebuilt all;
    const auto newest = HeldCounts::newest;
    EXPECT_FALSE(are_enough_by(all.before, {holds(0, all.before), holds(1, all.before)}, newest));
    EXPECT_TRUE(are_enough_by(all.after, {holds(0, all.before), holds(1, all.after)}, newest));
    EXPECT_TRUE(are_enough_by(all.after, {holds(0, all.after), holds(1, all.after)}, newest));
    Configuration lost = all.said;
    lost.version = {7, 0};
    lost.members[0].state = MemberState::missing;
    EXPECT_FALSE(are_enough_by(lost, {holds(0, all.said), holds(1, lost)}, newest))
        << "whom it calls missing stays that";
    EXPECT_FALSE(are_enough_by(
        all.said, {{uuid_of(9), all.said.version, all.said.in_force}, holds(1, all.said)}, newest))
        << "it is none of them";
}

}  // namespace
}  // namespace braid::cluster
