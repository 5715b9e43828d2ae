// SPDX-License-Identifier: BSD-3-Clause
// Which member a name means: disks that are open before those that once had the path.
#include "engine/deciding/member_names.h"

#include <gtest/gtest.h>

#include <vector>

namespace braid {
namespace {

/// RAID-6 of sdb … sde. sdb died, the letters went down by one, and a spare came.
struct Shifted {
    std::vector<MemberRecord> records;
    std::vector<NamedMember> members;
    Shifted() {
        const char* paths[] = {"/dev/sdb", "/dev/sdb", "/dev/sdc", "/dev/sdd", "/dev/sde"};
        for (std::uint32_t i = 0; i != 5; ++i) {
            MemberRecord record;
            record.uuid.bytes[0] = static_cast<std::uint8_t>(0xa0 + i);
            if (i < 4) record.role = MemberIndex{i};
            record.state = i == 0   ? MemberState::missing
                           : i == 4 ? MemberState::spare
                                    : MemberState::in_sync;
            record.path = paths[i];
            records.push_back(record);
        }
        for (std::size_t i = 0; i != 5; ++i) members.push_back({&records[i], i != 0, false});
    }
    std::size_t find(const std::string& name) const {
        const auto found = find_by_name(members, name);
        return found ? *found : 99;
    }
};

TEST(MemberNames, AnOldPathDoesNotShadowADiskThatIsThere) {
    const Shifted array;
    EXPECT_EQ(array.find("/dev/sdb"), 1U);
    EXPECT_EQ(array.find("/dev/sdc"), 2U);
    EXPECT_EQ(array.find("/dev/sde"), 4U);
    EXPECT_EQ(array.find("0"), 0U);
    EXPECT_EQ(array.find("3"), 3U);
}

TEST(MemberNames, ALostOneIsFoundWhereNobodyElseIsCalledSo) {
    Shifted array;
    array.records[1].path = "/dev/sdx";
    EXPECT_EQ(array.find("/dev/sdb"), 0U);
}

TEST(MemberNames, UuidsMayBeWrittenInCapitals) {
    const Shifted array;
    EXPECT_EQ(array.find("a2000000-0000-0000-0000-000000000000"), 2U);
    EXPECT_EQ(array.find("A2000000-0000-0000-0000-000000000000"), 2U);
    EXPECT_EQ(array.find("00000000-0000-0000-0000-000000000000"), 99U) << "nobody's";
}

TEST(MemberNames, OfTwoThatAreOpenNobodyIsMeant) {
    Shifted array;
    array.records[4].path = "/dev/sdb";  // appeared under the name of one that was pulled
    const auto found = find_by_name(array.members, "/dev/sdb");
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, RefusalCode::ambiguous);
    for (const char* part :
         {"1 (/dev/sdb), in_sync", "spare (/dev/sdb), spare", "a1000000-", "uuid"}) {
        EXPECT_NE(found.error().text.find(part), std::string::npos) << found.error().text;
    }
}

TEST(MemberNames, OfTwoThatAreLostNobodyIsMeant) {
    Shifted array;
    array.members[1].open = false;
    array.records[1].state = MemberState::faulty;
    const auto found = find_by_name(array.members, "/dev/sdb");
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, RefusalCode::ambiguous);
}

TEST(MemberNames, ADiskHasManyNames) {
    Shifted array;
    array.members[3].is_disk = true;  // "/dev/disk/by-id/three" leads to it
    EXPECT_EQ(array.find("/dev/disk/by-id/three"), 3U);
}

TEST(MemberNames, WhoIsNotThereIsAnsweredWithThoseThatAre) {
    const Shifted array;
    for (const char* name : {"", "4", "/dev/sdz", "-1", "1x", "spare"}) {
        const auto found = find_by_name(array.members, name);
        ASSERT_FALSE(found) << name;
        EXPECT_EQ(found.error().code, RefusalCode::not_found);
        EXPECT_NE(found.error().text.find("/dev/sdd"), std::string::npos) << found.error().text;
    }
}

}  // namespace
}  // namespace braid
