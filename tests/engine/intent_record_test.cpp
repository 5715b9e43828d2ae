// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a write intent record: braid-format(5), "THE WRITE INTENT".
#include "engine/metadata/intent_record.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "engine/base/crc32c.h"
#include "engine/base/rng.h"
#include "tests/engine/array_kit.h"
#include "tests/engine/hex.h"

namespace braid {
namespace {

IntentRecord sample() {
    IntentRecord record;
    record.array = test::kit_configuration(Level::raid5, 3).array;
    record.generation = 0x1122334455667789;
    record.epoch = 7;
    record.node = 3;
    record.entries = {{0, 64, StripeIndex{128}}, {intent_no_volume, 1, StripeIndex{0x10000000000}}};
    return record;
}
constexpr std::uint32_t sample_index = 7;  // node 3, odd generations

Buffer slot_of(const IntentRecord& record) {
    Buffer slot(intent_slot_size);
    const Buffer bytes = encode_intent(record);
    std::memcpy(slot.data(), bytes.data(), bytes.size());
    return slot;
}
void seal(Buffer& slot, std::uint32_t entries) {
    const std::uint32_t sum = crc32c(slot.view().subspan(12, 52 + 16 * entries));
    const Le32 packed = sum;
    std::memcpy(slot.data() + 8, &packed, sizeof packed);
}

TEST(IntentRecord, GoldenBytes) {
    const Buffer bytes = encode_intent(sample());
    ASSERT_EQ(bytes.size(), row_size) << "as many rows as it takes";
    EXPECT_EQ(test::hex(bytes.view().first(96)),
              "4252414944494e54"                  //  0 magic
              "f43391ce"                          //  8 crc32c
              "02000000"                          // 12 format
              "aa000000000000000000000000000001"  // 16 array
              "8977665544332211"                  // 32 generation
              "0700000000000000"                  // 40 epoch
              "03000000"                          // 48 node
              "02000000"                          // 52 entries
              "00000000"                          // 56 absent
              "00000000"                          // 60 reserved
              "00000000400000008000000000000000"  // 64 entry 0: volume, count, first
              "ffffffff010000000000000000010000");
    EXPECT_EQ(test::hex(bytes.view().subspan(96)), std::string(2 * (row_size - 96), '0'));
}

/// Of two members that are away, one is known; stripes 6 to 8 and 700 of 1000 were written to.
IntentRecord sample_with_absent() {
    IntentRecord record = sample();
    record.entries = {{0, 64, StripeIndex{128}}};
    Uuid uuid = record.array;
    uuid.bytes[0] = 1;
    record.absent.push_back({uuid, true, 0x0102});
    uuid.bytes[0] = 2;
    record.absent.push_back({uuid, false, 0});
    record.missed = MissedStripes(1000, 32);
    record.missed.add(StripeIndex{6}, StripeIndex{9});
    record.missed.add(StripeIndex{700}, StripeIndex{701});
    return record;
}

TEST(IntentRecord, GoldenBytesWithMembersAway) {
    const Buffer bytes = encode_intent(sample_with_absent());
    ASSERT_EQ(bytes.size(), row_size);
    EXPECT_EQ(test::hex(bytes.view().subspan(52, 12)), "010000000200000000000000");
    EXPECT_EQ(test::hex(bytes.view().subspan(80, 80)),
              "01000000000000000000000000000001"  //   0 absent 0: uuid
              "0100000000000000"                  //  16 known, reserved
              "0201000000000000"                  //  24 generation
              "02000000000000000000000000000001"  //  32 absent 1
              "0000000000000000"
              "0000000000000000"
              "0400000000000000"    //  64 stripes of a bit
              "fa00000000000000");  // 72 bits
    std::string bits(64, '0');
    bits[1] = '6';           // pieces 1 and 2
    bits[2 * 21 + 0] = '8';  // piece 175
    EXPECT_EQ(test::hex(bytes.view().subspan(160, 32)), bits);
    EXPECT_EQ(test::hex(bytes.view().subspan(192)), std::string(2 * (row_size - 192), '0'));
}

TEST(IntentRecord, OneOfFormat1TellsOfNobody) {
    IntentRecord old = sample();
    old.tells_absent = false;
    const Buffer bytes = encode_intent(old);
    EXPECT_EQ(test::hex(bytes.view().first(16)), "4252414944494e54315d56ea01000000");
    const auto back = decode_intent(slot_of(old).view(), sample_index);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(*back, old);
    Buffer slot = slot_of(sample_with_absent());
    slot.data()[12] = std::byte{1};
    const Le32 sum = crc32c(slot.view().subspan(12, 192 - 12));
    std::memcpy(slot.data() + 8, &sum, sizeof sum);
    const auto wrong = decode_intent(slot.view(), sample_index);
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().text.find("tells of no members"), std::string::npos);
}

TEST(IntentRecord, MembersAwayComeBackAsTheyWere) {
    for (const std::uint32_t entries : {0U, 1U, 500U, intent_marks_named_max}) {
        for (const std::uint32_t away : {1U, absent_max}) {
            for (const std::uint64_t stripes : {1ULL, 7ULL, 5000ULL, 1ULL << 40}) {
                IntentRecord record = sample();
                record.entries.clear();
                for (std::uint32_t i = 0; i != entries; ++i) {
                    record.entries.push_back({i % 3, 1 + i % 7, StripeIndex{10 * i}});
                }
                for (std::uint32_t i = 0; i != away; ++i) {
                    record.absent.push_back({record.array, i == 0, i});
                }
                record.missed = MissedStripes(stripes, missed_bytes_max(entries, away));
                record.missed.add(StripeIndex{stripes / 2}, StripeIndex{stripes / 2 + 1});
                record.missed.add(StripeIndex{stripes - 1}, StripeIndex{stripes});
                const auto back = decode_intent(slot_of(record).view(), sample_index);
                ASSERT_TRUE(back) << back.error().text;
                EXPECT_EQ(*back, record);
                std::vector<std::pair<StripeIndex, StripeIndex>> found;
                back->missed.for_each(
                    [&](auto first, auto end) { found.emplace_back(first, end); });
                ASSERT_FALSE(found.empty());
                EXPECT_GE(found.back().second, StripeIndex{stripes});
                EXPECT_LE(found.front().first, StripeIndex{stripes / 2});
            }
        }
    }
}

TEST(IntentRecord, WhatItSaysOfMembersAwayIsChecked) {
    struct Damage {
        const char* what;
        std::size_t at;
        std::uint8_t value;
    };
    const Damage damages[] = {
        {"65 members that are away", 56, 65},
        {"cannot be", 96, 2},            // known
        {"cannot be", 100, 1},           // reserved
        {"more than fit", 144, 0},       // stripes of a bit
        {"more than fit", 160 + 31, 4},  // a bit behind the last
        {"bits", 155, 1},                // 2^24 of them
    };
    for (const Damage& damage : damages) {
        Buffer slot = slot_of(sample_with_absent());
        slot.data()[damage.at] = std::byte{damage.value};
        const Le32 sum = crc32c(slot.view().subspan(12, 192 - 12));
        std::memcpy(slot.data() + 8, &sum, sizeof sum);
        const auto result = decode_intent(slot.view(), sample_index);
        ASSERT_FALSE(result) << damage.what << " " << damage.at;
        EXPECT_EQ(result.error().kind, FindingKind::corrupt);
        EXPECT_NE(result.error().text.find(damage.what), std::string::npos) << result.error().text;
    }
}

TEST(IntentRecord, ComesBackAsItWas) {
    for (const std::uint32_t entries : {0U, 1U, 252U, 253U, intent_entries_max}) {
        IntentRecord record = sample();
        record.entries.clear();
        for (std::uint32_t i = 0; i != entries; ++i) {
            record.entries.push_back({i % 3, 1 + i % 7, StripeIndex{10 * i}});
        }
        const Buffer slot = slot_of(record);
        const auto back = decode_intent(slot.view(), sample_index);
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_EQ(*back, record);
    }
}

TEST(IntentRecord, WhatLiesBehindItDoesNotCount) {
    IntentRecord long_one = sample();
    for (std::uint32_t i = 0; i != 900; ++i) {
        long_one.entries.push_back({0, 1, StripeIndex{0x20000000000ULL + 2ULL * i}});
    }
    Buffer slot = slot_of(long_one);
    const Buffer short_one = encode_intent(sample());
    std::memcpy(slot.data(), short_one.data(), short_one.size());
    const auto back = decode_intent(slot.view(), sample_index);
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, sample());
}

TEST(IntentRecord, SlotsOfNodesAndGenerationsDoNotOverlap) {
    EXPECT_EQ(intent_slot_offset(0, 42), 0U);
    EXPECT_EQ(intent_slot_offset(0, 43), intent_slot_size);
    EXPECT_EQ(intent_slot_offset(3, sample().generation), 7 * intent_slot_size);
    EXPECT_EQ(intent_slot_offset(nodes_max - 1, 1) + intent_slot_size, write_intent_size);
}

TEST(IntentRecord, NothingThereIsNoDamage) {
    const Buffer empty(intent_slot_size);
    EXPECT_EQ(decode_intent(empty.view(), 0).error().kind, FindingKind::none);
    EXPECT_EQ(decode_intent({}, 0).error().kind, FindingKind::none);
}

TEST(IntentRecord, AnEmptySlotIsItsMagic) {
    const Buffer two = empty_intent_slots(2);
    ASSERT_EQ(two.size(), 2 * intent_slot_size);
    for (std::uint32_t slot = 0; slot != 2; ++slot) {
        const ByteView bytes = two.view().subspan(slot * intent_slot_size, intent_slot_size);
        EXPECT_EQ(test::hex(bytes),
                  "4252414944494e54" + std::string(2 * (intent_slot_size - 8), '0'));
        EXPECT_EQ(decode_intent(bytes, slot).error().kind, FindingKind::none);
    }
}

TEST(IntentRecord, EveryFlippedBitIsFound) {
    const Buffer good = slot_of(sample());
    for (std::size_t at = 0; at != 96; ++at) {
        for (int bit = 0; bit != 8; ++bit) {
            Buffer slot = good;
            slot.data()[at] ^= std::byte{1} << bit;
            EXPECT_FALSE(decode_intent(slot.view(), sample_index)) << at;
        }
    }
}

TEST(IntentRecord, EveryFieldIsChecked) {
    struct Damage {
        const char* what;
        std::size_t at;
        std::uint8_t value;
        FindingKind kind;
    };
    const Damage damages[] = {
        {"has format 3", 12, 3, FindingKind::unsupported},
        {"node 4's", 48, 4, FindingKind::corrupt},
        {"belongs into the other slot", 32, 0x88, FindingKind::corrupt},
        {"reserved bytes", 63, 1, FindingKind::corrupt},
        {"entry 0 is empty", 68, 0, FindingKind::corrupt},
        {"entry 1 is empty, or not behind", 93, 0, FindingKind::corrupt},
        {"in no volume that can be", 64, volumes_max, FindingKind::corrupt},
    };
    for (const Damage& damage : damages) {
        Buffer slot = slot_of(sample());
        slot.data()[damage.at] = std::byte{damage.value};
        seal(slot, 2);
        const auto result = decode_intent(slot.view(), sample_index);
        ASSERT_FALSE(result) << damage.what;
        EXPECT_EQ(result.error().kind, damage.kind) << damage.what;
        EXPECT_NE(result.error().text.find(damage.what), std::string::npos) << result.error().text;
    }
    Buffer slot = slot_of(sample());
    slot.data()[53] = std::byte{4};  // 1026 entries
    const auto result = decode_intent(slot.view(), sample_index);
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().text.find("1026 entries"), std::string::npos);
}

TEST(IntentRecord, NoBytesMakeTrouble) {
    Rng rng(4);
    const Buffer good = slot_of(sample());
    for (int round = 0; round != 3000; ++round) {
        Buffer slot = good;
        for (std::uint64_t i = 1 + rng.below(20); i != 0; --i) {
            slot.data()[12 + rng.below(100)] = static_cast<std::byte>(rng.next());
        }
        std::uint32_t entries = 0;
        std::memcpy(&entries, slot.data() + 52, sizeof entries);
        seal(slot, std::min(entries, intent_entries_max));
        const auto result = decode_intent(slot.view(), sample_index);
        if (!result) continue;
        std::uint64_t end = 0;
        for (const IntentEntry& entry : result->entries) {
            EXPECT_GE(raw(entry.first), end);
            EXPECT_NE(entry.count, 0U);
            end = raw(entry.first) + entry.count;
        }
    }
}

}  // namespace
}  // namespace braid
