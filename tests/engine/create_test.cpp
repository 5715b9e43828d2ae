// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/create.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/assembly/assembly.h"
#include "engine/metadata/config_slot.h"
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
/// How long it takes a member to make its bytes zeroes.
enum class Zeroes { slow, fast };
Made make(CreateOptions options, Zeroes zeroes, std::size_t count = 5) {
    Made made;
    auto list = members(count);
    for (auto& member : list) member.zero_fast = zeroes == Zeroes::fast;
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
        for (const Zeroes zeroes : {Zeroes::fast, Zeroes::slow}) {
            const Made made = make({.level = level, .name = "new"}, zeroes);
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
    const Made zeroed = make({}, Zeroes::fast);
    const Made resynced = make({}, Zeroes::slow);
    const Made assumed = make({.assume_clean = true}, Zeroes::fast);
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
    EXPECT_SAYS(result.error().text, "/m1: cannot be read: Input/output error");
    EXPECT_SAYS(result.error().text, "no member was changed");
}

// --- what is there, where data is to stay ---

struct Bench {
    std::vector<CreateMember> list = members(3, 24 * mebi);
    std::vector<std::unique_ptr<test::MemoryDisk>> disks;
    std::vector<Disk*> pointers;

    Bench() {
        for (const auto& member : list) {
            disks.push_back(std::make_unique<test::MemoryDisk>(member.path, member.size));
            pointers.push_back(disks.back().get());
        }
    }
    /// As the command does it.
    void look() {
        for (std::size_t at = 0; at != list.size(); ++at) {
            list[at].before = old_layouts(test::run(read_member_image(*disks[at])));
        }
    }
    Checked<CreatePlan> plan(const CreateOptions& options) {
        Rng rng(7);
        return plan_create(options, list, rng);
    }
    Checked<Unit> create(const CreateOptions& options) {
        const auto planned = plan(options);
        if (!planned) return planned.error();
        return test::run(create_array(pointers, *planned, {}));
    }
    void fill_data(std::uint64_t from) {
        for (auto& disk : disks) {
            std::memset(disk->content().data() + from, 0x5a, disk->content().size() - from);
        }
    }
    void zero(std::size_t at, std::uint64_t from, std::uint64_t to) {
        std::memset(disks[at]->content().data() + from, 0, to - from);
    }
    bool data_is_whole(std::uint64_t from) const {
        return std::ranges::all_of(disks, [from](const auto& disk) {
            return std::all_of(disk->content().data() + from,
                               disk->content().data() + disk->content().size(),
                               [](std::byte one) { return one == std::byte{0x5a}; });
        });
    }
    std::vector<Buffer> contents() const {
        std::vector<Buffer> all;
        for (const auto& disk : disks) all.push_back(disk->content());
        return all;
    }
    std::string why_not(const CreateOptions& options) {
        const auto before = contents();
        const auto result = create(options);
        EXPECT_TRUE(contents() == before) << "refused, but written to";
        return result ? "it was made" : result.error().text;
    }
};

TEST(CreateAgain, DataBeginsWhereTheSlotsSay) {
    for (const std::uint64_t offset : {6 * mebi, mebi / 2, mebi}) {
        SCOPED_TRACE(offset);
        Bench bench;
        ASSERT_TRUE(bench.create({.data_offset = offset}));
        bench.fill_data(offset);
        for (std::size_t at = 0; at != 3; ++at) bench.zero(at, 0, 8192);  // the superblocks go
        bench.look();
        const CreateOptions again{.assume_clean = true};
        const auto plan = bench.plan(again);
        ASSERT_TRUE(plan) << plan.error().text;
        EXPECT_EQ(plan->configuration.members[2].data_offset, offset);
        ASSERT_EQ(plan->notices.size(), 1U);
        EXPECT_SAYS(plan->notices[0], "/m0: its configuration slot ");
        const auto created = bench.create(again);
        ASSERT_TRUE(created) << created.error().text;
        EXPECT_TRUE(bench.data_is_whole(offset));
    }
}

TEST(CreateAgain, DataBeginsWhereAnMdSuperblockSays) {
    Bench bench;
    ASSERT_TRUE(bench.create({.data_offset = 3 * mebi}));
    bench.fill_data(3 * mebi);
    for (std::size_t at = 0; at != 3; ++at) bench.zero(at, slots_offset, slots_end);
    bench.zero(1, 0, 8192);  // one of three says nothing at all
    bench.look();
    EXPECT_TRUE(bench.list[1].before.empty());
    ASSERT_TRUE(bench.create({.assume_clean = true}));
    EXPECT_TRUE(bench.data_is_whole(3 * mebi));
    const auto sb = test::run(read_member_image(*bench.disks[1]));
    EXPECT_EQ(inspect(sb).slot()->configuration.members[1].data_offset, 3 * mebi);
}

TEST(CreateAgain, NothingButMetadataIsZeroedWhereNobodySaysAnything) {
    Bench bench;
    bench.fill_data(2 * mebi);
    bench.look();
    ASSERT_TRUE(bench.create({.assume_clean = true}));
    EXPECT_EQ(bench.disks[0]->content().data()[3 * mebi], std::byte{0x5a});
    EXPECT_TRUE(bench.data_is_whole(data_offset_default));
}

TEST(CreateAgain, ContradictionsAreRefused) {
    Bench bench;
    ASSERT_TRUE(bench.create({.data_offset = 6 * mebi}));
    bench.look();
    EXPECT_SAYS(bench.why_not({.assume_clean = true, .data_offset = 4 * mebi}),
                "/m0: its md superblock says that the data begins at byte 6291456, but "
                "--data-offset says 4194304");
    EXPECT_SAYS(bench.why_not({.strip_size = 128u << 10, .assume_clean = true}),
                "/m0: its md superblock says RAID-5 left-symmetric of 3 members, strips of 65536 "
                "bytes, and what is to be made is RAID-5 left-symmetric of 3 members, strips of "
                "131072 bytes");
    EXPECT_SAYS(bench.why_not({.level = Level::raid4, .assume_clean = true}), "RAID-4 of 3");
    EXPECT_SAYS(bench.why_not({.layout = Layout::right_symmetric, .assume_clean = true}),
                "right-symmetric");
    std::swap(bench.list[0].before, bench.list[2].before);
    EXPECT_SAYS(bench.why_not({.assume_clean = true}),
                "/m0: its md superblock says that it is member 2, and it is given as member 0");
    std::swap(bench.list[0].before, bench.list[2].before);
    for (OldLayout& old : bench.list[1].before) old.data_offset = 16 * mebi;
    EXPECT_SAYS(bench.why_not({.assume_clean = true}),
                "/m1: its md superblock says that the data "
                "begins at byte 16777216, but /m0: its md "
                "superblock says 6291456");
    ASSERT_TRUE(bench.create({.data_offset = 4 * mebi})) << "a new array asks nobody";
}

TEST(CreateAgain, NoStripeIsTakenForTrueThatNobodyMade) {
    Bench bench;
    for (auto& member : bench.list) member.size = 10 * mebi;
    ASSERT_TRUE(bench.create({}));
    for (auto& member : bench.list) member.size = 24 * mebi;
    bench.look();
    const auto plan = bench.plan({.assume_clean = true});
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->configuration.stripes, (6 * mebi) >> 16);
    for (auto& member : bench.list) member.size = 8 * mebi;
    EXPECT_SAYS(bench.why_not({.assume_clean = true}), "a member became smaller");
}

TEST(PlanCreate, TheDataOffsetIsChecked) {
    const CreatePlan plan = planned({.data_offset = 2 * mebi}, members(3));
    EXPECT_EQ(plan.configuration.members[0].data_offset, 2 * mebi);
    EXPECT_EQ(plan.configuration.data_size(), 12 * mebi);
    for (const std::uint64_t offset :
         {std::uint64_t{0}, std::uint64_t{4096}, mebi + 512, ~std::uint64_t{0}}) {
        const std::string why = refusal({.data_offset = offset}, members(3));
        EXPECT_SAYS(why, "--data-offset:") << offset;
        for (const char* least : {"at least 278528", "less than 1327104", "less than 1335296"}) {
            EXPECT_SAYS(why, least);
        }
    }
    EXPECT_EQ(planned({.data_offset = 278528}, members(3)).configuration.members[0].data_offset,
              278528U);
    EXPECT_SAYS(refusal({.data_offset = 278528 - 4096}, members(3)), "at least 278528");
    EXPECT_SAYS(refusal({.data_offset = 8 * mebi}, members(3)), "is too small");
}

TEST(PlanCreate, WhatIsMadeCanBeReadAgain) {
    // md wants ten sectors of data; one strip of 4096 bytes has eight.
    auto list = members(3, data_offset_default + 4096);
    EXPECT_SAYS(refusal({.strip_size = 4096}, list), "/m0: is too small");
    for (auto& member : list) member.size = data_offset_default + 8192;
    Rng rng(1);
    EXPECT_TRUE(plan_create({.strip_size = 4096}, list, rng));
}

TEST(PlanCreate, RefusesSectorsThatAreTooLarge) {
    auto list = members(3);
    list[2].sector_size = 8192;
    EXPECT_SAYS(refusal({}, list), "/m2: has sectors of 8192 bytes");
    list[2].sector_size = 4096;
    EXPECT_EQ(planned({}, list).configuration.member_count, 3U);
}

TEST(Create, LooksAtAllMembersBeforeItWipesOne) {
    Bench bench;
    bench.fill_data(0);
    bench.disks[2]->info().sector_size = 8192;
    EXPECT_SAYS(bench.why_not({}), "/m2: has sectors of 8192 bytes");
    bench.disks[2]->info().sector_size = 512;
    bench.disks[1]->refuse_writes();
    EXPECT_SAYS(bench.why_not({}),
                "/m1: cannot be written: Operation not permitted; no array was "
                "made, and no member was changed");
}

TEST(Create, UndoesWhatItMadeWhenItFailsHalfWay) {
    for (std::uint64_t writes = 1; writes != 40; ++writes) {
        SCOPED_TRACE(writes);
        Bench bench;
        bench.fill_data(0);
        bench.disks[1]->refuse_writes(writes);
        const auto result = bench.create({});
        if (result) {
            EXPECT_GT(writes, 5U) << "it never failed";
            return;
        }
        EXPECT_SAYS(result.error().text, "no array was made");
        EXPECT_SAYS(result.error().text, "/m1");
        for (const auto& disk : bench.disks) {
            const auto findings = inspect(test::run(read_member_image(*disk)));
            if (disk == bench.disks[1]) continue;  // it takes no writes any more, and is named
            EXPECT_FALSE(findings.superblock) << disk->info().path;
            EXPECT_EQ(findings.slot(), nullptr) << disk->info().path;
        }
        EXPECT_SAYS(result.error().text, "It could not be undone, so wipe before use: /m1");
        EXPECT_SAYS(result.error().text, "Wiped, and without metadata now: /m0");
    }
    FAIL() << "it always failed";
}

TEST(CreateAgain, OldMetadataComesBackWhenItFailsHalfWay) {
    Bench bench;
    ASSERT_TRUE(bench.create({.data_offset = 6 * mebi}));
    bench.fill_data(6 * mebi);
    bench.look();
    const auto before = bench.contents();
    bench.disks[2]->refuse_writes(3);
    const auto result = bench.create({.assume_clean = true});
    ASSERT_FALSE(result);
    EXPECT_SAYS(result.error().text, "With their old metadata again: /m0, /m1");
    EXPECT_TRUE(bench.disks[0]->content() == before[0]);
    EXPECT_TRUE(bench.disks[1]->content() == before[1]);
}

TEST(Create, TwoNamesOfOneDiskMakeNoArray) {
    Bench bench;
    bench.pointers[2] = bench.pointers[0];
    const auto result = bench.create({});
    ASSERT_FALSE(result);
    EXPECT_SAYS(result.error().text, "are one and the same disk");
    EXPECT_FALSE(inspect(test::run(read_member_image(*bench.disks[0]))).superblock);
    EXPECT_FALSE(inspect(test::run(read_member_image(*bench.disks[1]))).superblock);
}

TEST(Create, TakesAwayWhatOthersLeftAtTheEnd) {
    Bench bench;
    for (auto& disk : bench.disks) {
        std::memset(disk->content().data() + 23 * mebi, 0x5a, mebi);
    }
    ASSERT_TRUE(bench.create({}));
    for (auto& disk : bench.disks) {
        EXPECT_TRUE(std::all_of(disk->content().data() + 23 * mebi,
                                disk->content().data() + 24 * mebi,
                                [](std::byte one) { return one == std::byte{0}; }));
    }
}

}  // namespace
}  // namespace braid
