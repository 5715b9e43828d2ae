// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/assembly.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/engine/array_kit.h"
#include "tests/engine/assembly_answers.h"

namespace braid {
namespace {

using test::has;
using test::has_notice;
using test::Kit;
using test::kit_configuration;
using test::kit_narrow;
using test::refusal;

TEST(Assembly, ACleanArrayComesBackAsItWas) {
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        Kit kit(kit_configuration(level, 5, 1));
        ASSERT_TRUE(kit.start());
        ASSERT_TRUE(kit.stop());
        const auto assembly = kit.assemble({5, 3, 1, 0, 2, 4});
        ASSERT_TRUE(assembly) << refusal(assembly);
        EXPECT_EQ(assembly->configuration, kit.now);
        EXPECT_FALSE(assembly->unclean);
        EXPECT_FALSE(assembly->adopted);
        EXPECT_TRUE(assembly->notices.empty());
        EXPECT_EQ(assembly->places[0].place, Place::spare);
        EXPECT_EQ(assembly->places[0].record, 5U);
        EXPECT_EQ(assembly->places[1].record, 3U);
        EXPECT_EQ(assembly->places[1].place, Place::member);
        EXPECT_EQ(assembly->places[1].metadata.uuid, kit.now.members[3].uuid);
    }
}

TEST(Assembly, APathOfAnyBytesCanBeKept) {
    Kit kit(kit_configuration(Level::raid5, 3));
    kit.now.members[1].path = "/b\xc3\xbc" + std::string(400, '\n');
    ASSERT_TRUE(kit.step());
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->configuration.version, kit.now.version);
}

TEST(Assembly, UncleanAndWholeIsResynced) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->unclean);
    EXPECT_FALSE(assembly->configuration.in_use);
    EXPECT_EQ(assembly->configuration.resynced, StripeIndex{0});
    EXPECT_TRUE(has_notice(*assembly, "not stopped cleanly"));
}

TEST(Assembly, UncleanAndDegradedIsRefusedUnlessForced) {
    Kit kit(kit_configuration(Level::raid6, 5));
    ASSERT_TRUE(kit.start());
    // Two parities of one lost member may agree.
    const auto one_lost = kit.assemble({0, 1, 2, 3});
    ASSERT_TRUE(one_lost) << refusal(one_lost);
    EXPECT_EQ(one_lost->configuration.resynced, StripeIndex{0});
    EXPECT_EQ(one_lost->configuration.members[4].state, MemberState::missing);
    EXPECT_REFUSED(kit.assemble({0, 1, 2}), "not stopped cleanly");
    EXPECT_REFUSED(kit.assemble({0, 1, 2}), "member 4 (last seen at /m4, in_sync");
    const auto forced = kit.assemble({0, 1, 2}, Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    EXPECT_EQ(forced->configuration.resynced, std::nullopt);
    EXPECT_TRUE(has_notice(*forced, "by force"));
    EXPECT_EQ(forced->configuration.members[4].state, MemberState::missing);
}

TEST(Assembly, UncleanRaid4WithoutItsParityMemberLosesNothing) {
    Kit kit(kit_configuration(Level::raid4, 4));
    ASSERT_TRUE(kit.start());
    const auto without_parity = kit.assemble({0, 1, 2});
    ASSERT_TRUE(without_parity) << refusal(without_parity);
    EXPECT_EQ(without_parity->configuration.resynced, std::nullopt);
    EXPECT_TRUE(without_parity->unclean);
    EXPECT_REFUSED(kit.assemble({0, 1, 3}), "not stopped cleanly");
    kit.now.members[3].state = MemberState::rebuilding;
    kit.now.members[3].rebuilt = StripeIndex{2};
    ASSERT_TRUE(kit.step());
    const auto rebuilding = kit.assemble();
    ASSERT_TRUE(rebuilding) << refusal(rebuilding);
    EXPECT_EQ(rebuilding->configuration.members[3].rebuilt, StripeIndex{0});
}

TEST(Assembly, ParityNotYetResyncedAndAMemberLostIsRefused) {
    Configuration c = kit_configuration(Level::raid5, 4);
    c.resynced = StripeIndex{2};
    Kit kit(c);
    EXPECT_REFUSED(kit.assemble({0, 1, 2}), "not yet resynced");
    const auto whole = kit.assemble();
    ASSERT_TRUE(whole) << refusal(whole);
    EXPECT_EQ(whole->configuration.resynced, StripeIndex{2});
    EXPECT_FALSE(whole->unclean);
}

// What it took with it is listed beside that, but for what the resync had just made true: that may
// not have been durable.
TEST(Assembly, SoItIsWhereItWasLostMeanwhile) {
    Configuration c = kit_configuration(Level::raid5, 4);
    c.resynced = StripeIndex{2};
    c.members[3].state = MemberState::faulty;
    Kit kit(c);
    EXPECT_REFUSED(kit.assemble({0, 1, 2}), "not yet resynced");
    EXPECT_TRUE(kit.assemble({0, 1, 2}, Force::yes));
}

TEST(Assembly, MissingMembersAreCountedAndNamed) {
    Kit kit(kit_configuration(Level::raid5, 4));
    const auto degraded = kit.assemble({0, 1, 3});
    ASSERT_TRUE(degraded) << refusal(degraded);
    EXPECT_EQ(degraded->configuration.members[2].state, MemberState::missing);
    EXPECT_EQ(degraded->configuration.lost_count(), 1U);
    EXPECT_TRUE(has_notice(*degraded, "degraded: 1 of 4"));
    EXPECT_REFUSED(kit.assemble({0, 1}), "2 of its 4 members are usable, and RAID-5 of 4 needs 3");
    EXPECT_REFUSED(kit.assemble({0, 1}), "member 2 (last seen at /m2, in_sync, uuid bb");
    EXPECT_FALSE(kit.assemble({0, 1}, Force::yes));
}

TEST(Assembly, OfRaid6OfFourTwoAreEnoughWithTheTieBreaker) {
    Kit kit(kit_configuration(Level::raid6, 4));
    EXPECT_REFUSED(kit.assemble({2, 3}), "it takes 3, or 2 with member 0 among them");
    EXPECT_REFUSED(kit.assemble({2, 3}), "may hold a newer configuration");
    const auto forced = kit.assemble({2, 3}, Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    EXPECT_TRUE(has_notice(*forced, "2 of the 4 members that were in sync last"));
    EXPECT_TRUE(kit.assemble({0, 1}));
    EXPECT_TRUE(kit.assemble({1, 2, 3}));
}

TEST(Assembly, EnoughFollowsFromTheGeometryNotFromWhoIsLeft) {
    Kit kit(kit_configuration(Level::raid6, 4));
    ASSERT_TRUE(kit.start());
    kit.now.members[1].state = MemberState::faulty;
    kit.now.members[3].state = MemberState::faulty;
    ASSERT_TRUE(kit.step());
    ASSERT_TRUE(kit.stop());
    const auto left = kit.assemble({0, 2});
    ASSERT_TRUE(left) << refusal(left);
    // The failed ones alone are the older half, and do not start by themselves.
    EXPECT_REFUSED(kit.assemble({1, 3}), "it takes 3");
    // All together: the failed ones are left out, and it is said why, and what to do.
    const auto all = kit.assemble();
    ASSERT_TRUE(all) << refusal(all);
    EXPECT_EQ(all->places[1].place, Place::stale);
    EXPECT_PRED2(has, all->places[1].why, "calls member 1 faulty");
    EXPECT_PRED2(has, all->places[1].why, "braid member add /m1");
    EXPECT_EQ(all->places[2].place, Place::member);
}

TEST(Assembly, WithoutRoomForPromisesAllMustBeHere) {
    Kit kit(kit_narrow(kit_configuration(Level::raid5, 4)));
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    ASSERT_TRUE(kit.assemble());
    EXPECT_REFUSED(kit.assemble({0, 1, 2}), "it takes all of them where its members have no room");
    const auto forced = kit.assemble({0, 1, 2}, Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    // Without one that it did without before: all that are called in sync are here.
    kit.now.members[3].state = MemberState::faulty;
    ASSERT_TRUE(kit.step());
    ASSERT_TRUE(kit.assemble({0, 1, 2}));
}

/// RAID-5 of three: two starts die when only m0 has their slots, then m1 and m2 serve alone.
TEST(Assembly, TwoStartsThatDiedLeaveTheirOnlyMemberStale) {
    Kit kit(kit_configuration(Level::raid5, 3));
    for (int turn = 0; turn != 2; ++turn) {
        auto assembly = kit.assemble();
        ASSERT_TRUE(assembly) << refusal(assembly);
        kit.adopt(*assembly, kit.all());
        kit.begin_epoch();
        kit.now.in_use = true;
        ASSERT_TRUE(kit.promise_all());
        ASSERT_TRUE(test::run(write_member_metadata(*kit.disks[0], &kit.now, &kit.held[0], 1)));
    }
    auto two = kit.assemble({1, 2});
    ASSERT_TRUE(two) << refusal(two);
    EXPECT_GT(two->epoch_seen, two->configuration.version.epoch) << "the promises are seen";
    const auto m0 = kit.disks[0];
    kit.adopt(*two, {1, 2});
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.revise());  // says that it is in force; it serves, writes, and is killed
    kit.disks[0] = m0;
    const auto all = kit.assemble(kit.all(), Force::yes);  // unclean and degraded, without a record
    ASSERT_TRUE(all) << refusal(all);
    EXPECT_EQ(all->places[0].place, Place::stale);
    EXPECT_EQ(all->configuration.members[0].state, MemberState::missing);
    EXPECT_EQ(all->configuration.members[2].state, MemberState::in_sync);
    EXPECT_REFUSED(kit.assemble({0, 1}), "1 of its 3 members are usable");
}

TEST(Assembly, ACopyTakenWhileItRanIsToldAfterACleanStop) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        Kit kit(kit_configuration(level, level == Level::raid5 ? 3 : 6));
        ASSERT_TRUE(kit.start());
        ASSERT_TRUE(kit.revise());
        const Buffer copy = kit.disks[1]->content();
        kit.now.in_use = false;
        ASSERT_TRUE(kit.revise());
        ASSERT_TRUE(kit.revise());  // names the clean mark
        kit.disks[1]->content() = copy;
        const auto assembly = kit.assemble();
        ASSERT_TRUE(assembly) << refusal(assembly);
        EXPECT_EQ(assembly->places[1].place, Place::stale);
        EXPECT_PRED2(has, assembly->places[1].why, "from the past");
    }
}

TEST(Assembly, AnEpochBeyondAnyClockIsRefusedAndNamed) {
    Kit kit(kit_configuration(Level::raid5, 3));
    kit.now.version.epoch = epoch_start_max;
    ASSERT_TRUE(kit.write_all());
    ASSERT_TRUE(kit.assemble());
    Promise promise{kit.now.array, kit.held[1].uuid, 8, epoch_start_max + 1};
    const Buffer bytes = encode_promise(promise);
    std::memcpy(kit.disks[1]->content().data() + promise_slot_offset(0), bytes.data(),
                bytes.size());
    EXPECT_REFUSED(kit.assemble(), "/m1: names epoch 2305843009213693953");
    EXPECT_TRUE(kit.assemble({0, 2}));
}

TEST(Assembly, ForceTakesInTheFreshestThatAreBehind) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    kit.now.members[2].state = MemberState::faulty;
    ASSERT_TRUE(kit.step());
    ASSERT_TRUE(kit.revise());
    const Buffer behind = kit.disks[3]->content();
    ASSERT_TRUE(kit.revise());
    ASSERT_TRUE(kit.revise());
    kit.disks[3]->content() = behind;  // fresher than member 2
    EXPECT_REFUSED(kit.assemble(), "2 of its 4 members are usable, and RAID-5 of 4 needs 3");
    EXPECT_REFUSED(kit.assemble(), "force it (force=true)");
    EXPECT_REFUSED(kit.assemble(), "not used: /m3: it is from the past");
    const auto forced = kit.assemble(kit.all(), Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    EXPECT_TRUE(forced->forced);
    EXPECT_EQ(forced->places[3].place, Place::member);
    EXPECT_EQ(forced->places[2].place, Place::stale);
    EXPECT_TRUE(has_notice(*forced, "member 3 (/m3) was taken in by force"));
    EXPECT_TRUE(has_notice(*forced, "comes back old"));
    const auto older = kit.assemble({0, 1, 2}, Force::yes);
    ASSERT_TRUE(older) << refusal(older);
    EXPECT_EQ(older->places[2].place, Place::member);
}

TEST(Assembly, AMemberThatWasAwayIsStale) {
    Kit kit(kit_configuration(Level::raid5, 4));
    auto away = kit.assemble({0, 1, 3});
    ASSERT_TRUE(away) << refusal(away);
    const auto left_behind = kit.disks[2];
    kit.adopt(*away, {0, 1, 3});
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    kit.disks[2] = left_behind;
    const auto back = kit.assemble();
    ASSERT_TRUE(back) << refusal(back);
    EXPECT_EQ(back->places[2].place, Place::stale);
    EXPECT_PRED2(has, back->places[2].why, "went on without it");
    EXPECT_PRED2(has, back->places[2].why, "; give it back with: braid member add /m2");
    const auto unasked = assemble(kit.images(kit.all()), {.purpose = Purpose::serve_unasked});
    ASSERT_TRUE(unasked) << refusal(unasked);
    EXPECT_PRED2(
        has, unasked->places[2].why,
        "; start the server with socket=PATH, then give it back with: braid member add /m2");
    const auto read = assemble(kit.images(kit.all()), {.purpose = Purpose::read});
    ASSERT_TRUE(read) << refusal(read);
    EXPECT_PRED2(has, read->places[2].why, "; when the array is served for writing, give it back");
    const auto look = assemble(kit.images(kit.all()), {.purpose = Purpose::look});
    ASSERT_TRUE(look) << refusal(look);
    EXPECT_PRED2(has, look->places[2].why, "; when the array is served, give it back");
    EXPECT_EQ(back->configuration.members[2].state, MemberState::missing);
    // With the others gone, the newest that is left says who is missing.
    EXPECT_REFUSED(kit.assemble({2, 3}), "1 of its 4 members are usable");
}

TEST(Assembly, ACopyFromThePastIsStale) {
    Kit kit(kit_configuration(Level::raid5, 4));
    const Buffer past = kit.disks[1]->content();
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    kit.disks[1]->content() = past;
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[1].place, Place::stale);
    EXPECT_PRED2(has, assembly->places[1].why, "from the past");
}

TEST(Assembly, RefusesWhatIsNotOneArray) {
    Kit kit(kit_configuration(Level::raid5, 3));
    Configuration c = kit_configuration(Level::raid5, 3);
    c.array = test::uuid_of(0xcc, 9);
    for (auto& member : c.members) member.uuid.bytes[1] = 7;
    Kit other(c);
    auto images = kit.images({0, 1});
    images.push_back(other.image(0));
    images[2].path = "/other";
    const auto two = assemble(images, {});
    EXPECT_REFUSED(two, "different arrays");
    EXPECT_REFUSED(two, "array cc000000-0000-0000-0000-000000000009: /other");
    EXPECT_REFUSED(two, "array aa000000-0000-0000-0000-000000000001: /m0, /m1");
    images.pop_back();
    images.push_back(kit.image(1));
    images[2].path = "/again";
    EXPECT_REFUSED(assemble(images, {}), "/m1 and /again are the same member");
    EXPECT_REFUSED(assemble({}, {}), "no members");
}

TEST(Assembly, RefusesWhatIsNoMember) {
    Kit kit(kit_configuration(Level::raid5, 3));
    auto images = kit.images({0, 1});
    test::MemoryDisk empty("/empty", 1u << 20);
    images.push_back(test::run(read_member_image(empty)));
    EXPECT_REFUSED(assemble(images, {}), "/empty: holds no md superblock 1.2");
    EXPECT_REFUSED(assemble(images, {}), "braid member add");
    test::MemoryDisk tiny("/tiny", 4096);
    images[2] = test::run(read_member_image(tiny));
    EXPECT_REFUSED(assemble(images, {}), "/tiny: is too small to be a member: 4096 bytes");
    test::MemoryDisk odd("/odd", 5000);
    images[2] = test::run(read_member_image(odd));
    EXPECT_REFUSED(assemble(images, {}), "/odd: is too small to be a member: 5000 bytes");
}

TEST(Assembly, ADamagedMemberIsAsGoodAsLost) {
    Kit kit(kit_configuration(Level::raid5, 4));
    struct Way {
        std::string serve, look;
    };
    struct Damage {
        std::string what;
        Way way;
        std::function<void(MemberImage&)> damage;
    };
    const std::string rebuilt = "; give it to the array with: braid member add --force /m2";
    const std::vector<Damage> damages{
        {"corrupt md superblock: its checksum is",
         {rebuilt, "; braid restore --force puts its superblock back"},
         [](MemberImage& image) { image.superblock.data()[200] ^= std::byte{1}; }},
        {"its md superblock is gone (it was member bb000000-0000-0000-0000-000000000002 of array "
         "kit aa000000",
         {rebuilt, "; braid restore puts its superblock back"},
         [](MemberImage& image) { image.superblock = Buffer(row_size); }},
        {"is truncated: its data reaches to byte 2359296, but it has only 2355200",
         {"; when it has its size back, give it back with: braid member add /m2",
          "; give the device its size back"},
         [](MemberImage& image) { image.device_size -= 4096; }},
    };
    for (const auto& [what, way, damage] : damages) {
        auto images = kit.images(kit.all());
        damage(images[2]);
        const auto assembly = assemble(images, {});
        ASSERT_TRUE(assembly) << refusal(assembly);
        EXPECT_EQ(assembly->places[2].place, Place::foreign);
        EXPECT_PRED2(has, assembly->places[2].why, what);
        EXPECT_TRUE(has_notice(*assembly, "/m2: left out: "));
        // The array goes on without it: then it is too late for a restore.
        EXPECT_FALSE(has(assembly->places[2].why, "braid restore")) << assembly->places[2].why;
        EXPECT_PRED2(has, assembly->places[2].why, way.serve);
        const auto unasked = assemble(images, {.purpose = Purpose::serve_unasked});
        ASSERT_TRUE(unasked) << refusal(unasked);
        EXPECT_FALSE(has(unasked->places[2].why, "braid restore")) << unasked->places[2].why;
        EXPECT_PRED2(has, unasked->places[2].why,
                     "start the server with socket=PATH, then give it");
        const auto look = assemble(images, {.purpose = Purpose::look});
        ASSERT_TRUE(look) << refusal(look);
        EXPECT_PRED2(has, look->places[2].why, way.look);
        const auto read = assemble(images, {.purpose = Purpose::read});
        ASSERT_TRUE(read) << refusal(read);
        EXPECT_PRED2(has, read->places[2].why, way.look);
        EXPECT_EQ(assembly->configuration.members[2].state, MemberState::missing);
        damage(images[0]);
        const auto two = assemble(images, {});
        EXPECT_REFUSED(two, "2 of its 4 members are usable");
        EXPECT_REFUSED(two, "not used: /m2: " + what);
        EXPECT_REFUSED(two, way.look);  // nothing has gone on yet
        for (MemberImage& image : images) {
            if (image.path != "/m0" && image.path != "/m2") damage(image);
        }
        EXPECT_REFUSED(assemble(images, {}), "none of the given members can be used");
        EXPECT_REFUSED(assemble(images, {}), "/m1: ");
    }
}

TEST(Assembly, AMemberThatCannotBeReadIsLeftOut) {
    Kit kit(kit_configuration(Level::raid5, 4));
    kit.disks[1]->die();
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[1].place, Place::foreign);
    EXPECT_PRED2(
        has, assembly->places[1].why,
        "cannot be read: Input/output error; when it can be read again, give it back with: "
        "braid member add /m1");
    const auto read = assemble(kit.images(kit.all()), {.purpose = Purpose::read});
    ASSERT_TRUE(read) << refusal(read);
    EXPECT_PRED2(has, read->places[1].why, "; see to the device");
    kit.disks[0]->die();
    kit.disks[2]->die();
    kit.disks[3]->die();
    EXPECT_REFUSED(kit.assemble(), "none of the given members can be used");
}

void damage_newest_slot(Kit& kit, std::size_t at) {
    const auto slot = static_cast<std::uint32_t>(kit.held[at].sequence % 2);
    kit.disks[at]->content().data()[slot_offset(slot) + 5000] ^= std::byte{4};
}

TEST(Assembly, ADamagedSlotFallsBackToTheOther) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    damage_newest_slot(kit, 1);
    auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[1].place, Place::member);
    EXPECT_TRUE(has_notice(*assembly, "/m1: configuration slot 1 is corrupt: its CRC-32C is"));
    EXPECT_FALSE(assembly->unclean);
    // Both slots: the superblock still says that it was there.
    kit.disks[1]->content().data()[slot_offset(0) + 5000] ^= std::byte{4};
    assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[1].place, Place::member);
    // The next write heals both, one after the other.
    kit.adopt(*assembly, kit.all());
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_TRUE(assembly->notices.empty());
}

TEST(Assembly, DamagedNewestSlotsEverywhereFallBackTogether) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    for (std::size_t at = 0; at != 4; ++at) damage_newest_slot(kit, at);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->configuration.members[3].state, MemberState::in_sync);
}

TEST(Assembly, OfTwoConfigurationsOfOneEpochTheMoreHeldOneCounts) {
    Kit kit(kit_configuration(Level::raid6, 5));
    // As braid could leave it before there were promises: a crash when only member 0 had got an
    // epoch, then a start without it that used the same one.
    kit.begin_epoch();
    ASSERT_TRUE(kit.promise_all());
    Configuration first = kit.now;
    first.name = "first";
    ASSERT_TRUE(test::run(write_member_metadata(*kit.disks[0], &first, &kit.held[0], 1)));
    Configuration second = kit.now;
    second.members[0].state = MemberState::missing;
    for (std::size_t at = 1; at != 5; ++at) {
        ASSERT_TRUE(test::run(write_member_metadata(*kit.disks[at], &second, &kit.held[at], 1)));
    }
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->configuration.name, "kit");
    EXPECT_EQ(assembly->places[0].place, Place::stale);
    EXPECT_REFUSED(kit.assemble({0, 1}), "two different configurations of epoch 512");
}

TEST(Assembly, ARebuildingMemberKeepsItsCheckpoint) {
    Kit kit(kit_configuration(Level::raid5, 4));
    ASSERT_TRUE(kit.start());
    kit.now.members[2].state = MemberState::rebuilding;
    kit.now.members[2].rebuilt = StripeIndex{3};
    ASSERT_TRUE(kit.step());
    ASSERT_TRUE(kit.stop());
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->configuration.members[2].state, MemberState::rebuilding);
    EXPECT_EQ(assembly->configuration.members[2].rebuilt, StripeIndex{3});
    const auto without = kit.assemble({0, 1, 3});
    ASSERT_TRUE(without) << refusal(without);
    EXPECT_EQ(without->configuration.members[2].state, MemberState::missing);
    EXPECT_EQ(without->configuration.members[2].rebuilt, StripeIndex{0});
}

TEST(Assembly, ASpareThatIsAbsentIsMissedAndWelcomeBack) {
    Kit kit(kit_configuration(Level::raid5, 3, 1));
    auto without = kit.assemble({0, 1, 2});
    ASSERT_TRUE(without) << refusal(without);
    EXPECT_EQ(without->configuration.members[3].state, MemberState::missing);
    const auto spare = kit.disks[3];
    kit.adopt(*without, {0, 1, 2});
    ASSERT_TRUE(kit.start());
    ASSERT_TRUE(kit.stop());
    kit.disks[3] = spare;
    const auto back = kit.assemble();
    ASSERT_TRUE(back) << refusal(back);
    EXPECT_EQ(back->places[3].place, Place::spare);
    EXPECT_EQ(back->configuration.members[3].state, MemberState::spare);
}

TEST(Assembly, AMemberThatWasRemovedIsNotTakenBack) {
    Kit kit(kit_configuration(Level::raid5, 3, 1));
    kit.now.members.pop_back();
    const auto spare = kit.disks[3];
    kit.disks.pop_back();
    kit.held.pop_back();
    ASSERT_TRUE(kit.step());
    kit.disks.push_back(spare);
    const auto assembly = kit.assemble();
    ASSERT_TRUE(assembly) << refusal(assembly);
    EXPECT_EQ(assembly->places[3].place, Place::stale);
    EXPECT_PRED2(has, assembly->places[3].why, "does not name it");
}

TEST(Assembly, InUseWithoutAnyConfigurationIsRefusedUnlessForced) {
    Kit kit(kit_configuration(Level::raid5, 3));
    ASSERT_TRUE(kit.start());
    for (const auto& disk : kit.disks) {
        std::memset(disk->content().data() + slots_offset, 0, slots_end - slots_offset);
    }
    EXPECT_REFUSED(kit.assemble(), "no member that is here has a valid configuration");
    const auto forced = kit.assemble(kit.all(), Force::yes);
    ASSERT_TRUE(forced) << refusal(forced);
    EXPECT_EQ(forced->configuration.resynced, StripeIndex{0});
}

TEST(Assembly, BytesOfSomethingElseInTheGapAreRefused) {
    Kit kit(kit_configuration(Level::raid5, 3));
    for (const auto& disk : kit.disks) {
        std::memset(disk->content().data() + slots_offset, 0, slots_end - slots_offset);
    }
    kit.disks[1]->content().data()[slot_offset(1) + 77] = std::byte{1};
    EXPECT_REFUSED(kit.assemble(), "/m1: has bytes of something else");
    kit.disks[1]->content().data()[slot_offset(1) + 77] = std::byte{0};
    EXPECT_TRUE(kit.assemble());
}

TEST(Assembly, MdsBadBlockLogWithEntriesIsRefused) {
    Kit kit(kit_configuration(Level::raid5, 3));
    for (const auto& disk : kit.disks) {
        test::change_superblock(*disk, [](MdSuperblock& sb) {
            sb.feature_map = sb.feature_map | md_feature::bad_blocks;
        });
    }
    const std::uint64_t log = md_log_place;
    for (const auto& disk : kit.disks) std::memset(disk->content().data() + log, 0xff, row_size);
    EXPECT_TRUE(kit.assemble());
    kit.disks[1]->content().data()[log] = std::byte{3};
    EXPECT_REFUSED(kit.assemble(), "/m1: has 1 entries in md's bad-block log");
}

}  // namespace
}  // namespace braid
