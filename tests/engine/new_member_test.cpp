// SPDX-License-Identifier: BSD-3-Clause
// What lies at the ends of a disk is found, and taken away.
#include "engine/assembly/new_member.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "tests/engine/memory_disk.h"

namespace braid {
namespace {

constexpr std::uint64_t mebi = 1u << 20;
constexpr std::uint64_t kibi = 1u << 10;

void put(test::MemoryDisk& disk, std::uint64_t at, std::string_view bytes) {
    std::memcpy(disk.content().data() + at, bytes.data(), bytes.size());
}
void put_uberblocks(test::MemoryDisk& disk, std::uint64_t label, bool other_endian) {
    const std::string_view magic = other_endian ? std::string_view{"\0\0\0\0\x00\xba\xb1\x0c", 8}
                                                : std::string_view{"\x0c\xb1\xba\0\0\0\0\0", 8};
    for (std::uint64_t at = 128 * kibi; at != 256 * kibi; at += 16 * kibi)
        put(disk, label + at, magic);
}
std::string found_on(test::MemoryDisk& disk) {
    const auto found = test::run(find_signatures(disk));
    if (!found) return found.error().text;
    std::string all;
    for (const std::string& one : *found) all += one + ";";
    return all;
}
bool is_blank(const test::MemoryDisk& const_disk, std::uint64_t from, std::uint64_t to) {
    auto& disk = const_cast<test::MemoryDisk&>(const_disk);  // NOLINT
    return std::all_of(disk.content().data() + from, disk.content().data() + to,
                       [](std::byte one) { return one == std::byte{0}; });
}

TEST(DiskEnds, SignaturesAreFoundAndWiped) {
    struct Case {
        const char* what;
        std::uint64_t size;
        void (*fill)(test::MemoryDisk&);
    };
    const Case cases[]{
        {"a backup GPT", 16 * mebi, [](auto& disk) { put(disk, 16 * mebi - 512, "EFI PART"); }},
        {"a backup GPT", 16 * mebi, [](auto& disk) { put(disk, 16 * mebi - 4096, "EFI PART"); }},
        {"a backup GPT", 16 * mebi + 512, [](auto& disk) { put(disk, 16 * mebi, "EFI PART"); }},
        {"a partition table (gpt)", 16 * mebi, [](auto& disk) { put(disk, 512, "EFI PART"); }},
        {"ZFS", 16 * mebi, [](auto& disk) { put_uberblocks(disk, 16 * mebi - 256 * kibi, false); }},
        {"ZFS", 16 * mebi + 200 * kibi,
         [](auto& disk) { put_uberblocks(disk, 16 * mebi - 512 * kibi, true); }},
        {"ZFS", 16 * mebi, [](auto& disk) { put_uberblocks(disk, 0, false); }},
    };
    for (const Case& one : cases) {
        SCOPED_TRACE(one.what);
        test::MemoryDisk disk("/d", one.size);
        EXPECT_EQ(found_on(disk), "");
        one.fill(disk);
        EXPECT_NE(found_on(disk).find(one.what), std::string::npos) << found_on(disk);
        ASSERT_TRUE(test::run(wipe_ends(disk, 4 * mebi)));
        EXPECT_EQ(found_on(disk), "");
        EXPECT_TRUE(is_blank(disk, 0, one.size));
    }
}

TEST(DiskEnds, OtherSuperblocksOfMdsAreWiped) {
    for (const std::uint64_t size : {16 * mebi, 16 * mebi + 37 * row_size, 16 * mebi + 1536}) {
        const std::uint64_t at_1_0 = round_down(size / 512 - 16, 8) * 512;
        const std::uint64_t at_0_90 = round_down(size, 64 * kibi) - 64 * kibi;
        for (const std::uint64_t at : {at_1_0, at_0_90, std::uint64_t{0}}) {
            test::MemoryDisk disk("/d", size);
            put(disk, at, "\xfc\x4e\x2b\xa9");
            EXPECT_NE(test::run(read_member_image(disk)).elsewhere, "") << at;
            ASSERT_TRUE(test::run(wipe_ends(disk, 4 * mebi)));
            EXPECT_EQ(test::run(read_member_image(disk)).elsewhere, "") << at;
        }
    }
}

TEST(DiskEnds, DataThatIsToStayIsLeftAlone) {
    test::MemoryDisk disk("/d", 16 * mebi + 512);
    std::memset(disk.content().data(), 0x5a, disk.content().size());
    ASSERT_TRUE(test::run(wipe_ends(disk, 2 * mebi, disk.content().size())));
    EXPECT_TRUE(is_blank(disk, 0, 2 * mebi));
    for (const std::uint64_t at : {2 * mebi, 8 * mebi, 16 * mebi, 16 * mebi + 511}) {
        EXPECT_EQ(disk.content().data()[at], std::byte{0x5a}) << at;
    }
}

TEST(DiskEnds, ADiskOfOneRowHasBothEndsInOne) {
    test::MemoryDisk disk("/d", row_size + 512);
    std::memset(disk.content().data(), 0x5a, disk.content().size());
    ASSERT_TRUE(test::run(wipe_ends(disk, 4 * mebi)));
    EXPECT_TRUE(is_blank(disk, 0, disk.content().size()));
}

TEST(TryWrite, ChangesNothingAndFindsWhatCannotBeWritten) {
    test::MemoryDisk disk("/d", 16 * mebi);
    std::memset(disk.content().data(), 0x5a, disk.content().size());
    const Buffer before = disk.content();
    ASSERT_TRUE(test::run(try_write(disk)));
    EXPECT_TRUE(disk.content() == before);
    disk.info().sector_size = 8192;
    const auto coarse = test::run(try_write(disk));
    ASSERT_FALSE(coarse);
    EXPECT_NE(coarse.error().text.find("/d: has sectors of 8192 bytes"), std::string::npos)
        << coarse.error().text;
    disk.info().sector_size = 4096;
    EXPECT_TRUE(test::run(try_write(disk)));
    disk.refuse_writes();
    const auto closed = test::run(try_write(disk));
    ASSERT_FALSE(closed);
    EXPECT_NE(closed.error().text.find("/d: cannot be written"), std::string::npos);
    EXPECT_TRUE(disk.content() == before);
}

}  // namespace
}  // namespace braid
