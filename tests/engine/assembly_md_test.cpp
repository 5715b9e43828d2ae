// SPDX-License-Identifier: BSD-3-Clause
// Assembly of arrays that mdadm made: tests/fixtures/md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "engine/assembly/assembly.h"
#include "engine/assembly/new_member.h"
#include "tests/engine/memory_disk.h"
#include "tests/fixtures/md/fixtures.h"

namespace braid {
namespace {

using fixtures::md_fixture;
using fixtures::MdFixture;

struct Members {
    std::vector<std::shared_ptr<test::MemoryDisk>> disks;
    std::vector<MemberImage> images() const {
        std::vector<MemberImage> images;
        for (const auto& disk : disks) images.push_back(test::run(read_member_image(*disk)));
        return images;
    }
    Checked<Assembly> assemble(Force force = Force::no) const {
        return braid::assemble(images(), {.force = force == Force::yes});
    }
};
Members open_fixture(const MdFixture& fixture) {
    Members members;
    for (const auto& member : fixture.members) {
        const auto bytes = fixtures::unpack(fixture, member);
        BRAID_REQUIRE(bytes.size() == fixture.member_bytes);
        auto disk = std::make_shared<test::MemoryDisk>(std::string(member.file), bytes.size());
        std::memcpy(disk->content().data(), bytes.data(), bytes.size());
        members.disks.push_back(std::move(disk));
    }
    return members;
}
bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// Another spare of the same array.
std::shared_ptr<test::MemoryDisk> another_spare(test::MemoryDisk& spare, unsigned number) {
    auto disk =
        std::make_shared<test::MemoryDisk>("s" + std::to_string(number), spare.content().size());
    std::memcpy(disk->content().data(), spare.content().data(), spare.content().size());
    MdSuperblock sb;
    std::byte* at = disk->content().data() + md_superblock_offset;
    std::memcpy(&sb, at, sizeof sb);
    sb.device_uuid.bytes[0] = static_cast<std::uint8_t>(number);
    sb.dev_number = number;
    sb.max_dev = std::max<std::uint32_t>(sb.max_dev, number + 1);
    sb.dev_roles[number] = md_role::spare;
    sb.sb_csum = md_checksum(sb);
    std::memcpy(at, &sb, sizeof sb);
    return disk;
}

TEST(AssemblyOfMd, OfTooManySparesItIsSaidWhenOneCanBeGiven) {
    Members members = open_fixture(md_fixture("raid5-spare"));
    const auto as_it_is = members.assemble();
    ASSERT_TRUE(as_it_is) << as_it_is.error().text;
    const auto first = std::ranges::find(as_it_is->places, Place::spare, &MemberPlace::place);
    ASSERT_NE(first, as_it_is->places.end());
    const auto spare = members.disks[static_cast<std::size_t>(first - as_it_is->places.begin())];
    for (unsigned number = 20; number != 20 + spares_max; ++number) {
        members.disks.push_back(another_spare(*spare, number));
    }
    const std::string last = "s" + std::to_string(19 + spares_max);
    const auto images = members.images();
    const std::map<Purpose, std::string> whens{
        {Purpose::serve, ""},
        {Purpose::serve_unasked, "start the server with socket=PATH, then "},
        {Purpose::read, "when the array is served for writing, "},
        {Purpose::look, "when the array is served, "}};
    for (const auto& [purpose, when] : whens) {
        const auto assembly = braid::assemble(images, {.force = false, .purpose = purpose});
        ASSERT_TRUE(assembly) << assembly.error().text;
        EXPECT_EQ(assembly->places.back().place, Place::stale);
        EXPECT_EQ(assembly->places.back().why,
                  "more spares than the 16 that an array can have; " + when +
                      "take another spare out (braid member remove), then give it back with: "
                      "braid member add " +
                      last);
        EXPECT_EQ(std::ranges::count(assembly->places, Place::spare, &MemberPlace::place),
                  spares_max);
    }
}

TEST(AssemblyOfMd, TakesOverWhatItCanAndRefusesTheRest) {
    for (const MdFixture& fixture : fixtures::md_fixtures()) {
        SCOPED_TRACE(std::string(fixture.name));
        const Members members = open_fixture(fixture);
        const auto assembly = members.assemble();
        const bool supported =
            (fixture.kind == "plain" || fixture.kind == "bitmap" || fixture.kind == "spare" ||
             fixture.kind == "stale" || fixture.kind == "two-lost" ||
             fixture.kind == "rebuilding" || fixture.kind == "in-use") &&
            !(fixture.level == 6 && fixture.layout != 2);
        ASSERT_EQ(assembly.has_value(), supported)
            << (assembly ? "it was assembled" : assembly.error().text);
        if (!assembly) {
            RecordProperty(std::string(fixture.name), assembly.error().text);
            continue;
        }
        const Configuration& c = assembly->configuration;
        EXPECT_TRUE(assembly->adopted);
        EXPECT_EQ(static_cast<int>(c.level), fixture.level);
        EXPECT_EQ(c.member_count, static_cast<std::uint32_t>(fixture.member_count));
        EXPECT_EQ(c.strip_size, std::uint64_t{fixture.chunk_kib} * 1024);
        EXPECT_EQ(c.data_size(), fixture.array_bytes);
        if (fixture.level == 5) {
            EXPECT_EQ(static_cast<std::uint32_t>(c.layout), fixture.layout);
        }
        ASSERT_EQ(c.volumes.size(), 1U);
        EXPECT_EQ(c.volumes[0].name, "data");
        EXPECT_EQ(c.volumes[0].stripes, c.stripes);
        EXPECT_EQ(!c.resynced, fixture.clean);
        for (std::size_t at = 0; at != fixture.members.size(); ++at) {
            const auto& expected = fixture.members[at];
            const MemberPlace& place = assembly->places[at];
            if (expected.state == "stale") {
                EXPECT_EQ(place.place, Place::stale) << place.why;
                continue;
            }
            ASSERT_TRUE(place.record) << place.why;
            const MemberRecord& record = c.members[*place.record];
            EXPECT_EQ(text_of(record.state), expected.state);
            EXPECT_EQ(record.data_offset, fixture.data_offset);
            if (expected.role >= 0) {
                EXPECT_EQ(raw(*record.role), static_cast<std::uint32_t>(expected.role));
            }
        }
    }
}

/// Without the first of the members that md calls in_sync.
Members without_one(const MdFixture& fixture) {
    Members members = open_fixture(fixture);
    const auto at =
        std::ranges::find(fixture.members, std::string_view("in_sync"), &fixtures::MdMember::state);
    members.disks.erase(members.disks.begin() + (at - fixture.members.begin()));
    return members;
}

TEST(AssemblyOfMd, ForceTakesInTheFreshestThatAreBehind) {
    const MdFixture& fixture = md_fixture("raid5-stale");
    const Members members = without_one(fixture);
    const auto refused = members.assemble();
    ASSERT_FALSE(refused);
    EXPECT_PRED2(has, refused.error().text, "force it (force=true)");
    EXPECT_PRED2(has, refused.error().text, "it is stale: its events are");
    const auto forced = members.assemble(Force::yes);
    ASSERT_TRUE(forced) << forced.error().text;
    EXPECT_TRUE(forced->forced);
    const auto stale =
        std::ranges::find(fixture.members, std::string_view("stale"), &fixtures::MdMember::state);
    const MemberRecord* taken =
        forced->configuration.member(MemberIndex{static_cast<std::uint32_t>(stale->role)});
    ASSERT_NE(taken, nullptr);
    EXPECT_EQ(taken->state, MemberState::in_sync);
    EXPECT_EQ(forced->configuration.in_sync().size(), forced->configuration.data_count());
    EXPECT_TRUE(std::ranges::any_of(forced->notices, [](const std::string& notice) {
        return has(notice, "was taken in by force: its events are");
    }));
    const auto whole = open_fixture(fixture).assemble(Force::yes);
    ASSERT_TRUE(whole) << whole.error().text;
    EXPECT_FALSE(whole->forced) << "it is not needed";
}

TEST(AssemblyOfMd, ForceTakesInNoneThatIsBeingRebuiltAndNoneOfAnotherArray) {
    const auto rebuilding = without_one(md_fixture("raid5-rebuilding")).assemble(Force::yes);
    ASSERT_FALSE(rebuilding);
    EXPECT_FALSE(has(rebuilding.error().text, "force=true")) << rebuilding.error().text;
    Members mixed = without_one(md_fixture("raid5-stale"));
    mixed.disks.push_back(open_fixture(md_fixture("raid5-64k")).disks[0]);
    const auto refused = mixed.assemble(Force::yes);
    ASSERT_FALSE(refused);
    EXPECT_PRED2(has, refused.error().text, "belong to different arrays");
}

std::string why_refused(std::string_view name) {
    const auto assembly = open_fixture(md_fixture(name)).assemble();
    return assembly ? "it was assembled" : assembly.error().text;
}

TEST(AssemblyOfMd, SaysWhyItRefuses) {
    EXPECT_PRED2(has, why_refused("raid1"), "md array of RAID-1 (level 1)");
    EXPECT_PRED2(has, why_refused("raid5-ppl"), "partial parity log");
    EXPECT_PRED2(has, why_refused("raid5-journal"), "journal");
    EXPECT_PRED2(has, why_refused("raid5-super1.0"), "version 1.0");
    EXPECT_PRED2(has, why_refused("raid5-super0.90"), "version 0.90");
    EXPECT_PRED2(has, why_refused("raid6-la-64k"), "RAID-6 layout 0");
}

TEST(AssemblyOfMd, ARebuildGoesOnWhereMdLeftIt) {
    const auto assembly = open_fixture(md_fixture("raid5-rebuilding")).assemble();
    ASSERT_TRUE(assembly) << assembly.error().text;
    EXPECT_EQ(assembly->configuration.members[1].state, MemberState::rebuilding);
    EXPECT_EQ(assembly->configuration.members[1].rebuilt, StripeIndex{512 / 128});
}

TEST(AssemblyOfMd, UncleanAndDegradedIsRefused) {
    Members members = open_fixture(md_fixture("raid5-in-use"));
    members.disks.pop_back();
    const auto assembly = members.assemble();
    ASSERT_FALSE(assembly);
    EXPECT_PRED2(has, assembly.error().text, "parity is in doubt");
    EXPECT_TRUE(members.assemble(Force::yes));
}

/// When braid writes a configuration: as it starts, or as it stops cleanly.
enum class Moment { start, stop };
void serve(Members& members, Configuration& c, std::vector<MemberMetadata>& held, Moment moment) {
    c.in_use = moment == Moment::start;
    c.in_force = c.version;
    c.version = {next_epoch(c.version.epoch, 0, 0), 0};
    c.events += 2;
    for (std::size_t at = 0; at != members.disks.size(); ++at) {
        if (held[at].uuid == Uuid{}) continue;
        ASSERT_TRUE(
            test::run(promise_member(*members.disks[at], &held[at], c.array, c.version.epoch)));
        ASSERT_TRUE(test::run(write_member_metadata(*members.disks[at], &c, &held[at], 1)));
    }
}

TEST(AssemblyOfMd, ServedAndStoppedItIsMdsAgain) {
    for (const std::string_view name : {"raid5-64k", "raid5-bitmap", "raid4-64k", "raid5-spare",
                                        "raid5-rebuilding", "raid5-stale", "raid6-two-lost"}) {
        SCOPED_TRACE(std::string(name));
        Members members = open_fixture(md_fixture(name));
        const auto before = members.images();
        auto assembly = members.assemble();
        ASSERT_TRUE(assembly) << assembly.error().text;
        Configuration c = assembly->configuration;
        std::vector<MemberMetadata> held;
        for (const MemberPlace& place : assembly->places) held.push_back(place.metadata);
        serve(members, c, held, Moment::start);
        for (std::size_t at = 0; at != held.size(); ++at) {
            if (held[at].uuid == Uuid{}) continue;
            EXPECT_TRUE(is_in_use(*inspect(members.images()[at]).superblock));
        }
        serve(members, c, held, Moment::stop);
        const auto after = members.images();
        for (std::size_t at = 0; at != held.size(); ++at) {
            if (held[at].uuid == Uuid{}) continue;
            const MdSuperblock old = *inspect(before[at]).superblock;
            const MdSuperblock now = *inspect(after[at]).superblock;
            // What md said stays, but for events, times, and the numbers of members that are gone.
            EXPECT_EQ(plain(now.events), c.events);
            EXPECT_EQ(plain(now.feature_map), plain(old.feature_map));
            EXPECT_EQ(plain(now.resync_offset), plain(old.resync_offset));
            EXPECT_EQ(plain(now.layout), plain(old.layout));
            EXPECT_EQ(plain(now.size), plain(old.size));
            EXPECT_EQ(now.set_name, old.set_name);
            EXPECT_EQ(plain(now.recovery_offset), plain(old.recovery_offset));
            EXPECT_EQ(role_of(now), role_of(old));
            if (after[at].bitmap.size() != 0) {
                EXPECT_EQ(plain(inspect(after[at]).bitmap->events), c.events);
            }
        }
        const auto ours = members.assemble();
        ASSERT_TRUE(ours) << ours.error().text;
        EXPECT_FALSE(ours->adopted);
        EXPECT_EQ(ours->configuration, c);
    }
}

TEST(AssemblyOfMd, ANewMemberIsLikeItsSiblings) {
    Members members = open_fixture(md_fixture("raid5-bitmap"));
    members.disks.pop_back();
    auto assembly = members.assemble();
    ASSERT_TRUE(assembly) << assembly.error().text;
    Configuration c = assembly->configuration;
    const auto fresh = std::make_shared<test::MemoryDisk>("/fresh", 8u << 20);
    Uuid uuid;
    uuid.bytes[2] = 9;
    auto prepared =
        test::run(prepare_new_member(*fresh, uuid, c, assembly->places[0].metadata, Force::no));
    ASSERT_TRUE(prepared) << prepared.error().text;
    EXPECT_EQ(prepared->before, std::nullopt);
    MemberRecord& record = *c.member(MemberIndex{3});
    record.uuid = uuid;
    record.path = "/fresh";
    record.state = MemberState::rebuilding;
    record.size = fresh->info().size;
    record.data_offset = c.members[0].data_offset;
    std::vector<MemberMetadata> held;
    for (const MemberPlace& place : assembly->places) held.push_back(place.metadata);
    held.push_back(std::move(prepared->metadata));
    members.disks.push_back(fresh);
    serve(members, c, held, Moment::start);
    serve(members, c, held, Moment::stop);
    const auto found = inspect(test::run(read_member_image(*fresh)));
    ASSERT_TRUE(found.superblock) << found.superblock.error().text;
    ASSERT_TRUE(found.bitmap);
    EXPECT_EQ(plain(found.superblock->feature_map),
              md_feature::bitmap | md_feature::recovery_offset);
    const auto again = members.assemble();
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_EQ(again->configuration, c);
}

TEST(NewMember, IsLookedAtFirst) {
    Members members = open_fixture(md_fixture("raid5-64k"));
    const auto assembly = members.assemble();
    ASSERT_TRUE(assembly) << assembly.error().text;
    const Configuration& c = assembly->configuration;
    const MemberMetadata& sibling = assembly->places[0].metadata;
    const auto prepare = [&](test::MemoryDisk& disk, Force force) {
        return test::run(prepare_new_member(disk, Uuid{}, c, sibling, force));
    };
    // One of this array that was away.
    const auto back = prepare(*members.disks[4], Force::no);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(back->before, assembly->places[4].metadata.uuid);
    // One of another array.
    Members other = open_fixture(md_fixture("raid6-64k"));
    const auto foreign = prepare(*other.disks[0], Force::no);
    ASSERT_FALSE(foreign);
    EXPECT_PRED2(has, foreign.error().text, "holds a member of md array");
    EXPECT_TRUE(prepare(*other.disks[0], Force::yes));
    EXPECT_EQ(std::to_integer<int>(other.disks[0]->content().data()[4096]), 0);
    // Something else, at the front or at the end.
    for (const std::uint64_t at : {std::uint64_t{1080}, std::uint64_t{(1u << 21) - 1}}) {
        test::MemoryDisk full("/full", 1u << 21);
        full.content().data()[at] = std::byte{0x53};
        const auto refused = prepare(full, Force::no);
        ASSERT_FALSE(refused);
        EXPECT_PRED2(has, refused.error().text, "/full: holds data of something else");
    }
}

}  // namespace
}  // namespace braid
