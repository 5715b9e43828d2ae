// SPDX-License-Identifier: BSD-3-Clause
// Units, little-endian fields, CRC-32C, uuids, chance.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/crc32c.h"
#include "engine/base/endian.h"
#include "engine/base/hex.h"
#include "engine/base/rng.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"

namespace braid {
namespace {

ByteView view_of(const std::vector<std::uint8_t>& bytes) {
    return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

TEST(Crc32c, GivesTheVectorsOfRfc3720) {  // appendix B.4
    EXPECT_EQ(crc32c(view_of(std::vector<std::uint8_t>(32, 0x00))), 0x8a9136aaU);
    EXPECT_EQ(crc32c(view_of(std::vector<std::uint8_t>(32, 0xff))), 0x62a8ab43U);
    std::vector<std::uint8_t> up(32);
    std::vector<std::uint8_t> down(32);
    for (std::uint8_t i = 0; i != 32; ++i) {
        up[i] = i;
        down[i] = static_cast<std::uint8_t>(31 - i);
    }
    EXPECT_EQ(crc32c(view_of(up)), 0x46dd794eU);
    EXPECT_EQ(crc32c(view_of(down)), 0x113fdb5cU);
    const std::vector<std::uint8_t> read_command{
        0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
        0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    EXPECT_EQ(crc32c(view_of(read_command)), 0xd9963a56U);
    const std::string digits = "123456789";
    EXPECT_EQ(crc32c(std::as_bytes(std::span(digits))), 0xe3069283U);
    EXPECT_EQ(crc32c({}), 0U);
}

TEST(Crc32c, GoesOnWhereItEnded) {
    Rng rng(1);
    std::vector<std::uint8_t> bytes(1000);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng.next());
    const std::uint32_t whole = crc32c(view_of(bytes));
    for (std::size_t cut = 0; cut <= bytes.size(); cut += 7) {
        const ByteView all = view_of(bytes);
        EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), whole);
    }
}

TEST(LittleEndian, LiesInMemoryLowByteFirst) {
    const Le16 small = 0x1234;
    const Le32 middle = 0x12345678;
    const Le64 large = 0x123456789abcdef0;
    EXPECT_EQ(std::memcmp(&small, "\x34\x12", 2), 0);
    EXPECT_EQ(std::memcmp(&middle, "\x78\x56\x34\x12", 4), 0);
    EXPECT_EQ(std::memcmp(&large, "\xf0\xde\xbc\x9a\x78\x56\x34\x12", 8), 0);
    EXPECT_EQ(std::uint16_t{small}, 0x1234);
    EXPECT_EQ(std::uint32_t{middle}, 0x12345678U);
    EXPECT_EQ(std::uint64_t{large}, 0x123456789abcdef0U);
    const LeS32 negative = -2;
    EXPECT_EQ(std::int32_t{negative}, -2);
    EXPECT_EQ(std::memcmp(&negative, "\xfe\xff\xff\xff", 4), 0);
    static_assert(is_packed_v<Le64> && sizeof(Le64) == 8 && !is_packed_v<std::uint64_t>);
}

TEST(Units, RoundAndConvert) {
    EXPECT_EQ(to_bytes(Sectors{3}).value, 1536U);
    EXPECT_EQ(to_sectors(Bytes{1535}).value, 2U);
    EXPECT_EQ(round_down(8191, row_size), 4096U);
    EXPECT_EQ(round_up(4097, row_size), 8192U);
    EXPECT_EQ(round_up(8192, row_size), 8192U);
    EXPECT_EQ(round_up(0, 12288), 0U);
    EXPECT_TRUE(is_row_aligned(0) && is_row_aligned(8192));
    EXPECT_FALSE(is_row_aligned(512));
    EXPECT_EQ(seconds(2), millis(2000));
    EXPECT_LT(millis(1), seconds(1));
}

TEST(Hex, BytesComeBackFromDigitsOfEitherCase) {
    for (std::uint32_t value = 0; value != 256; ++value) {
        std::string text;
        append_hex(text, static_cast<std::uint8_t>(value));
        ASSERT_EQ(text.size(), 2U);
        for (const char digit : text) EXPECT_TRUE(digit >= '0' && digit <= 'f') << text;
        EXPECT_EQ(value_of_hex(text[0]).value() * 16 + value_of_hex(text[1]).value(), value);
    }
    EXPECT_EQ(value_of_hex('F'), value_of_hex('f'));
    for (const char none : {'g', 'G', '/', ':', '@', '`', ' ', '\0'})
        EXPECT_FALSE(value_of_hex(none));
}

TEST(Uuid, TextComesBack) {
    Rng rng(7);
    std::set<Uuid> all;
    for (int i = 0; i != 1000; ++i) {
        const Uuid uuid = Uuid::random(rng);
        all.insert(uuid);
        const std::string text = uuid.text();
        ASSERT_EQ(text.size(), 36U);
        EXPECT_EQ(text[14], '4');
        EXPECT_NE(std::string("89ab").find(text[19]), std::string::npos);
        const auto parsed = Uuid::parse(text);
        ASSERT_TRUE(parsed);
        EXPECT_EQ(*parsed, uuid);
    }
    EXPECT_EQ(all.size(), 1000U);
}

TEST(Uuid, RefusesWhatIsNone) {
    const std::string good = "0123abcd-4567-89ef-0123-456789abcdef";
    ASSERT_TRUE(Uuid::parse(good));
    EXPECT_TRUE(Uuid::parse("0123ABCD-4567-89EF-0123-456789ABCDEF"));
    for (std::size_t i = 0; i != good.size(); ++i) {
        std::string bad = good;
        bad[i] = bad[i] == '-' ? '0' : '-';
        EXPECT_FALSE(Uuid::parse(bad)) << bad;
        bad[i] = 'g';
        EXPECT_FALSE(Uuid::parse(bad)) << bad;
        EXPECT_FALSE(Uuid::parse(good.substr(0, i)));
    }
    EXPECT_FALSE(Uuid::parse(good + "0"));
    EXPECT_FALSE(Uuid::parse(""));
}

TEST(Rng, IsTheSameForASeedAndEven) {
    Rng one(42);
    Rng other(42);
    for (int i = 0; i != 100; ++i) EXPECT_EQ(one.next(), other.next());
    Rng zero(0);
    EXPECT_EQ(zero.next(), 0xe220a8397b1dcdafU);  // splitmix64's published first output for 0
    std::vector<int> hits(7);
    for (int i = 0; i != 70'000; ++i) ++hits[one.below(7)];
    for (const int count : hits) EXPECT_NEAR(count, 10'000, 500);
    EXPECT_EQ(one.below(1), 0U);
}

TEST(Buffer, IsZeroAlignedAndCopied) {
    const Buffer empty;
    EXPECT_EQ(empty.size(), 0U);
    Buffer one(5000);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.data()) % row_size, 0U);
    for (std::size_t i = 0; i != one.size(); ++i) ASSERT_EQ(one.data()[i], std::byte{0});
    one.data()[3] = std::byte{9};
    Buffer copy = one;
    EXPECT_EQ(copy, one);
    copy.data()[3] = std::byte{8};
    EXPECT_FALSE(copy == one);
    const Buffer moved = std::move(copy);
    EXPECT_EQ(moved.data()[3], std::byte{8});
    EXPECT_EQ(copy.size(), 0U);  // NOLINT: that is what is tested
}

}  // namespace
}  // namespace braid
