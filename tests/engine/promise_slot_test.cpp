// SPDX-License-Identifier: BSD-3-Clause
// A member's promise: its bytes (braid-format(5), "PROMISES"), and how it is kept.
#include "engine/metadata/promise_slot.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "engine/base/crc32c.h"
#include "tests/engine/array_kit.h"
#include "tests/engine/hex.h"

namespace braid {
namespace {

using test::Kit;
using test::kit_configuration;
using test::kit_narrow;

Promise sample() { return {test::uuid_of(0xaa, 1), test::uuid_of(0xbb, 2), 5, 435200000007}; }

TEST(PromiseSlot, GoldenBytes) {
    const Buffer bytes = encode_promise(sample());
    ASSERT_EQ(bytes.size(), promise_slot_size);
    EXPECT_EQ(test::hex(bytes.view().first(64)),
              "425241494450524d"                  //  0 "BRAIDPRM"
              "dfa1e0c6"                          //  8 crc32c
              "01000000"                          // 12 format
              "aa000000000000000000000000000001"  // 16 array
              "bb000000000000000000000000000002"  // 32 member
              "0500000000000000"                  // 48 sequence
              "0700f15365000000");                // 56 epoch
    EXPECT_EQ(test::hex(bytes.view().subspan(64)), std::string(2 * (promise_slot_size - 64), '0'));
    const auto back = decode_promise(bytes.view(), 1);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(*back, sample());
}

TEST(PromiseSlot, DamageIsNamed) {
    struct Damage {
        const char* what;
        std::function<void(PromiseSlot&)> change;
        FindingKind kind;
    };
    const std::vector<Damage> damages{
        {"holds no promise", [](PromiseSlot& p) { p.magic[0] = 'b'; }, FindingKind::none},
        {"has format 2", [](PromiseSlot& p) { p.format = 2; }, FindingKind::unsupported},
        {"reserved bytes", [](PromiseSlot& p) { p.reserved[4031] = 1; }, FindingKind::corrupt},
        {"belongs into the other", [](PromiseSlot& p) { p.sequence = 4; }, FindingKind::corrupt},
        {"beyond any", [](PromiseSlot& p) { p.epoch = epoch_max + 1; }, FindingKind::corrupt},
    };
    for (const Damage& damage : damages) {
        PromiseSlot slot;
        const Buffer good = encode_promise(sample());
        std::memcpy(&slot, good.data(), sizeof slot);
        damage.change(slot);
        Buffer bytes(sizeof slot);
        std::memcpy(bytes.data(), &slot, sizeof slot);
        slot.crc32c = crc32c(bytes.view().subspan(12));
        std::memcpy(bytes.data(), &slot, sizeof slot);
        const auto result = decode_promise(bytes.view(), 1);
        ASSERT_FALSE(result) << damage.what;
        EXPECT_EQ(result.error().kind, damage.kind) << damage.what;
        EXPECT_NE(result.error().text.find(damage.what), std::string::npos) << result.error().text;
    }
    for (std::size_t at = 0; at < promise_slot_size; at += at < 80 ? 1 : 97) {
        Buffer bytes = encode_promise(sample());
        bytes.data()[at] ^= std::byte{0x20};
        EXPECT_FALSE(decode_promise(bytes.view(), 1)) << at;
    }
    EXPECT_FALSE(decode_promise(encode_promise(sample()).view().first(512), 1));
}

std::uint64_t promised(const Kit& kit, std::size_t at) {
    return inspect(kit.image(at)).promise.epoch;
}

TEST(Promise, IsDurableAndHoldsAtTheMember) {
    Kit kit(kit_configuration(Level::raid5, 3));
    MemberMetadata& held = kit.held[1];
    const std::uint64_t first = held.reg.promise;
    Rng rng(1);
    ASSERT_TRUE(test::run(promise_member(*kit.disks[1], &held, kit.now.array, first + 256)));
    kit.disks[1]->lose_unflushed(rng);
    EXPECT_EQ(promised(kit, 1), first + 256) << "it was written with FUA";
    // Not again, and nothing older.
    for (const std::uint64_t epoch : {first, first + 1, first + 256}) {
        const auto again = test::run(promise_member(*kit.disks[1], &held, kit.now.array, epoch));
        ASSERT_FALSE(again);
        EXPECT_EQ(again.error().code, Errc::fenced);
    }
    // Stored is only what was promised: not the epoch before, not a later one.
    for (const std::uint64_t epoch : {first, first + 512}) {
        Configuration other = kit.now;
        other.version = {epoch, 7};
        const auto stored = test::run(write_member_metadata(*kit.disks[1], &other, &held, 1));
        ASSERT_FALSE(stored);
        EXPECT_EQ(stored.error().code, Errc::fenced);
    }
    Configuration next = kit.now;
    next.version = {first + 256, 0};
    EXPECT_TRUE(test::run(write_member_metadata(*kit.disks[1], &next, &held, 1)));
}

TEST(Promise, ATornOneTakesBackNothing) {
    for (std::uint64_t seed = 1; seed != 40; ++seed) {
        Rng rng(seed);
        Kit kit(kit_configuration(Level::raid5, 3));
        MemberMetadata& held = kit.held[0];
        const std::uint64_t first = held.reg.promise;
        for (std::uint64_t turn = 1; turn != 4; ++turn) {
            ASSERT_TRUE(
                test::run(promise_member(*kit.disks[0], &held, kit.now.array, first + turn * 256)));
            const auto slot = static_cast<std::uint32_t>((held.promise_sequence + 1) % 2);
            // The next one is torn: its slot holds anything.
            std::byte* at = kit.disks[0]->content().data() + promise_slot_offset(slot);
            for (std::size_t i = 0; i != promise_slot_size; ++i) {
                if (i % 512 == 0 && rng.chance(2))
                    i += 511;
                else
                    at[i] = static_cast<std::byte>(rng.below(256));
            }
            std::memcpy(at, promise_magic.data(), promise_magic.size());
            EXPECT_EQ(promised(kit, 0), first + turn * 256);
        }
    }
}

TEST(Promise, OfAnotherMemberOrArrayDoesNotCount) {
    Kit kit(kit_configuration(Level::raid5, 3));
    const std::uint64_t own = promised(kit, 0);
    for (const bool array : {true, false}) {
        Promise other{kit.now.array, kit.held[0].uuid, 8, own + 5000};
        (array ? other.array : other.member) = test::uuid_of(0xcc, 3);
        const Buffer bytes = encode_promise(other);
        std::memcpy(kit.disks[0]->content().data() + promise_slot_offset(0), bytes.data(),
                    bytes.size());
        EXPECT_EQ(promised(kit, 0), own);
    }
}

TEST(Promise, WhereSomethingElseLiesNothingIsWritten) {
    Kit kit(kit_configuration(Level::raid5, 3));
    kit.disks[2]->content().data()[promise_slot_offset(0) + 9] = std::byte{7};
    std::memset(kit.disks[2]->content().data() + promise_slot_offset(1), 0, promise_slot_size);
    const MemberFindings found = inspect(kit.image(2));
    ASSERT_TRUE(found.promise_hindrance);
    EXPECT_NE(found.promise_hindrance->text.find("something else"), std::string::npos);
    MemberMetadata metadata = metadata_of(kit.image(2), found);
    const Buffer before = kit.disks[2]->content();
    ASSERT_TRUE(test::run(promise_member(*kit.disks[2], &metadata, kit.now.array, 1u << 20)));
    EXPECT_EQ(std::memcmp(before.data(), kit.disks[2]->content().data(), before.size()), 0);
    Kit narrow(kit_narrow(kit_configuration(Level::raid5, 3)));
    EXPECT_NE(inspect(narrow.image(0)).promise_hindrance->text.find("has no room for promises"),
              std::string::npos);
}

}  // namespace
}  // namespace braid
