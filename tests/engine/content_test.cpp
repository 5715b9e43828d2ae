// SPDX-License-Identifier: BSD-3-Clause
// What a disk holds, in words; and when nothing on it looks like an array.
#include "engine/assembly/content.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "engine/assembly/create.h"
#include "engine/metadata/areas.h"
#include "tests/engine/memory_disk.h"

namespace braid {
namespace {

constexpr std::uint64_t size = 8u << 20;

MemberImage image_of(Disk& disk) { return test::run(read_member_image(disk)); }
void overwrite(Disk& disk, std::uint64_t offset, std::uint64_t count, unsigned char with) {
    Buffer bytes(count);
    std::memset(bytes.data(), with, count);
    ASSERT_TRUE(test::run(write_disk(disk, offset, bytes.view())));
}

class ContentTest : public testing::Test {
  protected:
    ContentTest() {
        for (int at = 0; at != 3; ++at) {
            disks_.push_back(std::make_unique<test::MemoryDisk>("m" + std::to_string(at), size));
        }
    }
    void make_array() {
        std::vector<CreateMember> members;
        std::vector<Disk*> disks;
        for (const auto& disk : disks_) {
            members.push_back({disk->info().path, size, false, true});
            disks.push_back(disk.get());
        }
        Rng rng(1);
        const auto plan = plan_create({.name = "kit"}, members, rng);
        ASSERT_TRUE(plan) << plan.error().text;
        ASSERT_TRUE(test::run(create_array(disks, *plan, {})));
    }
    Disk& disk() { return *disks_[0]; }
    std::vector<std::unique_ptr<test::MemoryDisk>> disks_;
};

TEST_F(ContentTest, WhatIsNoArrayIsBlank) {
    EXPECT_TRUE(is_blank(image_of(disk())));
    overwrite(disk(), 0, size, 0x5a);
    EXPECT_TRUE(is_blank(image_of(disk()))) << "a file system, say: it is somebody else's question";
}

TEST_F(ContentTest, AMemberIsNotBlankHoweverDamaged) {
    make_array();
    EXPECT_FALSE(is_blank(image_of(disk())));
    EXPECT_EQ(
        content_of(image_of(disk()), {"a member of a RAID array (linux_raid_member)"}, {}).size(),
        1u)
        << "that is the same";
    overwrite(disk(), md_superblock_offset, row_size, 0);
    const MemberImage without = image_of(disk());
    EXPECT_FALSE(is_blank(without));
    EXPECT_NE(describe_member(without)->find("a configuration of braid's, of array kit"),
              std::string::npos);
    // The text of both slots, and nothing else.
    for (const std::uint32_t slot : {0u, 1u})
        overwrite(disk(), slot_offset(slot) + row_size, row_size, 7);
    const MemberImage damaged = image_of(disk());
    EXPECT_EQ(inspect(damaged).slot(), nullptr);
    EXPECT_FALSE(is_blank(damaged));
    for (const std::uint32_t slot : {0u, 1u}) overwrite(disk(), slot_offset(slot), row_size, 0);
    EXPECT_TRUE(is_blank(image_of(disk())));
}

TEST_F(ContentTest, WhatCannotBeReadMayBeAnything) {
    MemberImage image = image_of(disk());
    image.os_error = EIO;
    EXPECT_FALSE(is_blank(image));
}

TEST_F(ContentTest, OtherSuperblocksOfMdAreNotBlank) {
    MemberImage image = image_of(disk());
    image.elsewhere = "an md superblock of version 1.1";
    EXPECT_FALSE(is_blank(image));
    EXPECT_EQ(text_of_content(content_of(image, {}, {"ZFS labels"})),
              "an md superblock of version 1.1; and ZFS labels");
}

TEST_F(ContentTest, WhatLibblkidKnowsIsNotSaidTwice) {
    const MemberImage image = image_of(disk());
    EXPECT_EQ(text_of_content(content_of(image, {"a partition table (gpt)"},
                                         {"a partition table (gpt)", "a backup GPT"})),
              "a partition table (gpt)");
    EXPECT_TRUE(content_of(image, {}, {}).empty());
}

}  // namespace
}  // namespace braid
