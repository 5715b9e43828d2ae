// SPDX-License-Identifier: BSD-3-Clause
#include "engine/create.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/assembly.h"
#include "tests/engine/memory_disk.h"

namespace braid {
namespace {

constexpr std::uint64_t mebi = 1u << 20;

std::vector<CreateMember> members(std::size_t count, std::uint64_t size = 8 * mebi) {
    std::vector<CreateMember> list;
    for (std::size_t at = 0; at != count; ++at) {
        list.push_back({"/m" + std::to_string(at), size, false, true});
    }
    return list;
}
std::string refusal(const CreateOptions& options, const std::vector<CreateMember>& list) {
    Rng rng(1);
    const auto plan = plan_create(options, list, rng);
    return plan ? "it was planned" : plan.error().text;
}
CreatePlan planned(const CreateOptions& options, const std::vector<CreateMember>& list) {
    Rng rng(1);
    auto plan = plan_create(options, list, rng);
    EXPECT_TRUE(plan) << plan.error().text;
    return *plan;
}
#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(PlanCreate, TakesWholeStripsOfTheSmallestMember) {
    auto list = members(4);
    list[2].size = 7 * mebi + 4096;
    const CreatePlan plan = planned({.strip_size = 1 * mebi}, list);
    EXPECT_EQ(plan.configuration.stripes, 3U);
    EXPECT_EQ(plan.configuration.member_count, 4U);
    EXPECT_EQ(plan.configuration.data_size(), 9 * mebi);
    EXPECT_EQ(plan.configuration.members[0].data_offset, data_offset_default);
    ASSERT_EQ(plan.configuration.volumes.size(), 1U);
    EXPECT_EQ(plan.configuration.volumes[0].name, "data");
    EXPECT_EQ(plan.configuration.volumes[0].stripes, 3U);
    EXPECT_EQ(plan.notices.size(), 3U);
    EXPECT_SAYS(plan.notices[0], "/m0: 1048576 of its 8388608 bytes stay unused");
}

TEST(PlanCreate, LargeMembersHaveALargeGap) {
    const CreatePlan plan = planned({}, members(3, std::uint64_t{64} << 30));
    EXPECT_EQ(plan.configuration.members[0].data_offset, data_offset_large);
}

TEST(PlanCreate, VolumesAreRoundedUpToWholeStripes) {
    CreateOptions options{.level = Level::raid6, .strip_size = 64u << 10};
    options.volumes = {{"one", 1}, {"two", 3 * 128u << 10}};
    const CreatePlan plan = planned(options, members(4));
    const auto& volumes = plan.configuration.volumes;
    ASSERT_EQ(volumes.size(), 2U);
    EXPECT_EQ(volumes[0].stripes, 1U);
    EXPECT_EQ(volumes[1].first, StripeIndex{1});
    EXPECT_EQ(volumes[1].stripes, 3U);
}

TEST(PlanCreate, RefusesTheImpossible) {
    EXPECT_SAYS(refusal({}, members(2)), "RAID-5 needs at least 3 members, and 2 are given");
    EXPECT_SAYS(refusal({.level = Level::raid6}, members(3)), "RAID-6 needs at least 4 members");
    EXPECT_SAYS(refusal({}, members(1)), "1 is given");
    EXPECT_SAYS(refusal({}, members(65)), "at most 64");
    EXPECT_SAYS(refusal({.strip_size = 3000}, members(3)), "strip size of 3000 bytes");
    EXPECT_SAYS(refusal({.strip_size = 32 * mebi}, members(3)), "from 4K to 16M");
    EXPECT_SAYS(refusal({.strip_size = 0}, members(3)), "strip size of 0 bytes");
    EXPECT_SAYS(refusal({.level = Level::raid4, .layout = Layout::right_symmetric}, members(3)),
                "RAID-4 has no choice of layouts");
    EXPECT_SAYS(refusal({.name = "a\n"}, members(3)), "printable ASCII");
    auto list = members(3);
    list[1].size = data_offset_default + 4096;
    EXPECT_SAYS(refusal({}, list), "/m1: is too small");
    list = members(4);
    list[3].spare = true;
    list[3].size -= 4096;
    EXPECT_SAYS(refusal({}, list), "/m3: is too small to be a spare");
    list = members(20);
    for (std::size_t at = 3; at != 20; ++at) list[at].spare = true;
    EXPECT_SAYS(refusal({}, list), "17 spares");
}

TEST(PlanCreate, RefusesImpossibleVolumes) {
    const auto with = [](std::vector<VolumeWish> volumes) {
        CreateOptions options;
        options.volumes = std::move(volumes);
        return refusal(options, members(3));
    };
    EXPECT_SAYS(with({{"a b", 1}}), "cannot be the name of a volume");
    EXPECT_SAYS(with({{"", 1}}), "cannot be the name of a volume");
    EXPECT_SAYS(with({{"a", 1}, {"a", 1}}), "volume a is given twice");
    EXPECT_SAYS(with({{"a", 0}}), "volume a has no size");
    EXPECT_SAYS(with({{"a", mebi}, {"b", 8 * mebi}}),
                "volume b of 8388608 bytes does not fit: "
                "7340032 of the array's 8388608 bytes");
    EXPECT_SAYS(with({{"a", ~std::uint64_t{0}}}), "does not fit");
}

TEST(PlanCreate, ParityIsZeroedResyncedOrAssumed) {
    auto list = members(3);
    EXPECT_EQ(planned({}, list).parity, InitialParity::zeroed);
    EXPECT_EQ(planned({}, list).configuration.resynced, std::nullopt);
    list[1].zero_fast = false;
    EXPECT_EQ(planned({}, list).parity, InitialParity::resynced);
    EXPECT_EQ(planned({}, list).configuration.resynced, StripeIndex{0});
    EXPECT_EQ(planned({.assume_clean = true}, list).parity, InitialParity::assumed);
    EXPECT_EQ(planned({.assume_clean = true}, list).configuration.resynced, std::nullopt);
}

struct Made {
    std::vector<std::unique_ptr<test::MemoryDisk>> disks;
    CreatePlan plan;
    Checked<Unit> result{Unit{}};
};
Made make(CreateOptions options, bool zero_fast, std::size_t count = 5) {
    Made made;
    auto list = members(count);
    for (auto& member : list) member.zero_fast = zero_fast;
    list.back().spare = true;
    made.plan = planned(options, list);
    std::vector<Disk*> disks;
    for (const auto& member : list) {
        made.disks.push_back(std::make_unique<test::MemoryDisk>(member.path, member.size));
        std::memset(made.disks.back()->content().data(), 0x5a, member.size);
        disks.push_back(made.disks.back().get());
    }
    made.result = test::run(create_array(disks, made.plan, {}));
    return made;
}
Checked<Assembly> assemble_all(const Made& made) {
    std::vector<MemberImage> images;
    for (const auto& disk : made.disks) images.push_back(test::run(read_member_image(*disk)));
    return assemble(images, {});
}

TEST(Create, WhatWasPlannedIsAssembled) {
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        for (const bool zero_fast : {true, false}) {
            const Made made = make({.level = level, .name = "new"}, zero_fast);
            ASSERT_TRUE(made.result) << made.result.error().text;
            const auto assembly = assemble_all(made);
            ASSERT_TRUE(assembly) << assembly.error().text;
            // The revision that says that the first one is in force.
            Configuration expected = made.plan.configuration;
            expected.in_force = expected.version;
            ++expected.version.revision;
            expected.events += 2;
            EXPECT_EQ(assembly->configuration, expected);
            EXPECT_EQ(assembly->epoch_seen, expected.version.epoch);
            EXPECT_FALSE(assembly->adopted);
            EXPECT_FALSE(assembly->unclean);
            EXPECT_EQ(assembly->places[4].place, Place::spare);
        }
    }
}

TEST(Create, WipesTheFrontAndZeroesWhatItPromises) {
    const Made zeroed = make({}, true);
    const Made resynced = make({}, false);
    const Made assumed = make({.assume_clean = true}, true);
    const auto byte = [](const Made& made, std::uint64_t at) {
        return std::to_integer<int>(made.disks[0]->content().data()[at]);
    };
    for (const Made* made : {&zeroed, &resynced, &assumed}) {
        EXPECT_EQ(byte(*made, 512), 0);  // a partition table's place
        EXPECT_EQ(byte(*made, mebi), 0);
    }
    EXPECT_EQ(byte(zeroed, 5 * mebi), 0);
    EXPECT_EQ(byte(resynced, 5 * mebi), 0x5a);
    EXPECT_EQ(byte(assumed, 5 * mebi), 0x5a);
    EXPECT_EQ(byte(resynced, 8 * mebi - 1), 0);  // a version 1.0 superblock's place
    EXPECT_EQ(byte(assumed, 8 * mebi - 1), 0x5a);
}

TEST(Create, AMemberThatFailsIsNamed) {
    auto list = members(3);
    const CreatePlan plan = planned({}, list);
    std::vector<std::unique_ptr<test::MemoryDisk>> disks;
    std::vector<Disk*> pointers;
    for (const auto& member : list) {
        disks.push_back(std::make_unique<test::MemoryDisk>(member.path, member.size));
        pointers.push_back(disks.back().get());
    }
    disks[1]->die();
    const auto result = test::run(create_array(pointers, plan, {}));
    ASSERT_FALSE(result);
    EXPECT_SAYS(result.error().text, "/m1: wiping it failed: Input/output error");
}

}  // namespace
}  // namespace braid
