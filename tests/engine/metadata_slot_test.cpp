// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "engine/base/crc32c.h"
#include "engine/base/limits.h"
#include "engine/config_slot.h"
#include "tests/engine/array_kit.h"
#include "tests/engine/hex.h"

namespace braid {
namespace {

using test::kit_configuration;

constexpr std::string_view golden_text = R"({
 "array": "aa000000-0000-0000-0000-000000000001",
 "name": "kit",
 "epoch": 7,
 "settled": 6,
 "events": 24,
 "created": 1700000000,
 "level": 5,
 "layout": "left-symmetric",
 "strip_size": 65536,
 "member_count": 3,
 "stripes": 4,
 "in_use": true,
 "resynced": 2,
 "scrub": null,
 "members": [
  {"uuid":"bb000000-0000-0000-0000-000000000000","role":0,"state":"in_sync","home":0,"data_offset":524288,"size":786432,"rebuilt":0,"dev_number":0,"read_errors":0,"path":"/m0"},
  {"uuid":"bb000000-0000-0000-0000-000000000001","role":1,"state":"in_sync","home":0,"data_offset":524288,"size":786432,"rebuilt":0,"dev_number":1,"read_errors":0,"path":"/m1"},
  {"uuid":"bb000000-0000-0000-0000-000000000002","role":2,"state":"rebuilding","home":0,"data_offset":524288,"size":786432,"rebuilt":1,"dev_number":2,"read_errors":0,"path":"/m2"},
  {"uuid":"bb000000-0000-0000-0000-000000000003","role":null,"state":"spare","home":0,"data_offset":524288,"size":786432,"rebuilt":0,"dev_number":3,"read_errors":0,"path":"/m3"}],
 "volumes": [
  {"name":"root","first":0,"stripes":1},
  {"name":"home","first":2,"stripes":2}],
 "areas": [
  {"name":"configuration","offset":143360,"size":131072}],
 "on": {"member":"bb000000-0000-0000-0000-000000000002","checksum":4149193450,"checksum_before":16909060}
}
)";

ConfigSlot sample() {
    ConfigSlot slot;
    Configuration& c = slot.configuration;
    c = kit_configuration(Level::raid5, 3, 1);
    c.epoch = 7;
    c.settled = 6;
    c.events = 24;
    c.in_use = true;
    c.resynced = StripeIndex{2};
    c.members[2].state = MemberState::rebuilding;
    c.members[2].rebuilt = StripeIndex{1};
    c.volumes = {{"root", StripeIndex{0}, 1}, {"home", StripeIndex{2}, 2}};
    slot.sequence = 9;
    slot.member = c.members[2].uuid;
    slot.tie = {4149193450, 0x01020304};
    return slot;
}

TEST(SlotHeader, GoldenBytesOfAWholeSlot) {
    const Buffer bytes = encode_slot(sample());
    ASSERT_EQ(bytes.size(), slot_size);
    EXPECT_EQ(test::hex(bytes.view().first(64)),
              "42524149444346471803e03901000000aa000000000000000000000000000001"
              "090000000000000007000000000000000a050000000000000000000000000000");
    std::string expected(slot_size - sizeof(SlotHeader), '\0');
    std::memcpy(expected.data(), golden_text.data(), golden_text.size());
    EXPECT_EQ(std::memcmp(bytes.data() + sizeof(SlotHeader), expected.data(), expected.size()), 0);
    EXPECT_EQ(test::hex(bytes.view().subspan(64, sizeof(SlotHeader) - 64)),
              std::string(2 * (sizeof(SlotHeader) - 64), '0'));
}

TEST(Slot, ComesBackAsItWas) {
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        ConfigSlot slot = sample();
        slot.configuration = kit_configuration(level, 5, 2);
        slot.configuration.scrub = ScrubRecord{StripeIndex{3}, true, 4, 5};
        slot.configuration.members[1].state = MemberState::missing;
        slot.configuration.members[1].uuid = Uuid{};
        slot.configuration.members[4].read_errors = ~std::uint64_t{0};
        const auto back = decode_slot(encode_slot(slot).view(), 1);
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_EQ(*back, slot);
    }
}

TEST(Slot, TheLargestConfigurationFits) {
    ConfigSlot slot = sample();
    Configuration& c = slot.configuration;
    c = kit_configuration(Level::raid6, members_max, spares_max);
    c.name = std::string(name_length_max, '"');
    for (MemberRecord& member : c.members) {
        member.read_errors = ~std::uint64_t{0};
        member.data_offset = 16u << 20;
        member.size = std::uint64_t{1} << 60;
        member.path = std::string(member_path_max, '\\');
    }
    c.stripes = 1000;
    c.volumes.clear();
    for (std::uint32_t i = 0; i != volumes_max; ++i) {
        c.volumes.push_back({fmt::format("v{:062}", i), StripeIndex{10 * i}, 10});
    }
    ASSERT_TRUE(check_configuration(c)) << check_configuration(c).error().text;
    const auto back = decode_slot(encode_slot(slot).view(), 1);
    ASSERT_TRUE(back) << back.error().text;
    for (MemberRecord& member : c.members) member.path.clear();  // the first thing to go
    EXPECT_EQ(*back, slot);
}

TEST(Slot, AreasFollowFromTheGap) {
    Configuration c = kit_configuration(Level::raid5, 3);
    EXPECT_EQ(areas_of(c).size(), 1U);
    for (MemberRecord& member : c.members) member.data_offset = 4u << 20;
    const auto areas = areas_of(c);
    ASSERT_EQ(areas.size(), 3U);
    EXPECT_EQ(areas[1].name, "write_intent");
    EXPECT_EQ(areas[1].offset, slots_end);
    EXPECT_EQ(areas[2].offset + areas[2].size, (4u << 20) - row_size);
}

// --- damage ---

void seal(Buffer& bytes) {
    SlotHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::size_t size = std::min<std::size_t>(header.text_size, slot_text_max);
    const std::uint32_t head = crc32c(bytes.view().subspan(12, sizeof header - 12));
    header.crc32c = crc32c(bytes.view().subspan(sizeof header, size), head);
    std::memcpy(bytes.data(), &header, sizeof header);
}

TEST(Slot, DamageOfTheHeaderIsNamed) {
    struct Damage {
        const char* what;
        std::function<void(SlotHeader&)> change;
        FindingKind kind;
    };
    const std::vector<Damage> damages{
        {"holds no configuration", [](SlotHeader& h) { h.magic[0] = 'b'; }, FindingKind::none},
        {"has format 2", [](SlotHeader& h) { h.format = 2; }, FindingKind::unsupported},
        {"0 bytes of text", [](SlotHeader& h) { h.text_size = 0; }, FindingKind::corrupt},
        {"61441 bytes of text", [](SlotHeader& h) { h.text_size = 61441; }, FindingKind::corrupt},
        {"reserved bytes", [](SlotHeader& h) { h.reserved[4043] = 1; }, FindingKind::corrupt},
        {"belongs into the other", [](SlotHeader& h) { h.sequence = 10; }, FindingKind::corrupt},
        {"header and text disagree", [](SlotHeader& h) { h.epoch = 8; }, FindingKind::corrupt},
        {"header and text disagree", [](SlotHeader& h) { h.array.bytes[3] = 1; },
         FindingKind::corrupt},
        {"is not JSON", [](SlotHeader& h) { h.text_size = 100; }, FindingKind::corrupt},
    };
    for (const Damage& damage : damages) {
        Buffer bytes = encode_slot(sample());
        SlotHeader header;
        std::memcpy(&header, bytes.data(), sizeof header);
        damage.change(header);
        std::memcpy(bytes.data(), &header, sizeof header);
        seal(bytes);
        const auto result = decode_slot(bytes.view(), 1);
        ASSERT_FALSE(result) << damage.what;
        EXPECT_EQ(result.error().kind, damage.kind) << damage.what;
        EXPECT_NE(result.error().text.find(damage.what), std::string::npos) << result.error().text;
    }
}

TEST(Slot, EveryFlippedBitIsFound) {
    const Buffer good = encode_slot(sample());
    const std::size_t end = sizeof(SlotHeader) + golden_text.size();
    for (std::size_t at = 0; at < end; at += at < 64 || at > 4090 ? 1 : 97) {
        Buffer bytes = good;
        bytes.data()[at] ^= std::byte{0x10};
        EXPECT_FALSE(decode_slot(bytes.view(), 1)) << at;
    }
}

std::string changed(std::string from, std::string to) {
    std::string text(golden_text);
    const auto at = text.find(from);
    BRAID_REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

TEST(SlotText, EveryFieldIsChecked) {
    struct Damage {
        const char* what;
        std::string text;
    };
    const std::vector<Damage> damages{
        {"is not JSON", "{"},
        {"is not JSON", ""},
        {"is not JSON", std::string("\"\xff\"")},
        {"is not an object", "[]"},
        {"is not an object", "7"},
        {"key twice", changed(R"("epoch": 7)", R"("epoch": 7, "epoch": 7)")},
        {"keys that braid does not know", changed(R"("epoch": 7)", R"("epoch": 7, "x": 7)")},
        {"has no \"epoch\"", changed(R"( "epoch": 7,)", "")},
        {"\"epoch\" is not a whole number", changed(R"("epoch": 7)", R"("epoch": -7)")},
        {"\"epoch\" is not a whole number", changed(R"("epoch": 7)", R"("epoch": 7.0)")},
        {"\"epoch\" is not a whole number",
         changed(R"("epoch": 7)", R"("epoch": 99999999999999999999)")},
        {"\"epoch\" is not a whole number", changed(R"("epoch": 7)", R"("epoch": "7")")},
        {"settled: beyond", changed(R"("settled": 6)", R"("settled": 8)")},
        {"created: beyond", changed("1700000000", "1700000000000")},
        {"\"array\" is not a uuid", changed("aa000000-", "aa000000+")},
        {"array: no uuid",
         changed("aa000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000000")},
        {"name:", changed(R"("kit")", R"("k\u00fct")")},
        {"name:", changed(R"("kit")", '"' + std::string(64, 'x') + '"')},
        {"\"level\"", changed(R"("level": 5)", R"("level": 7)")},
        {"\"layout\" is unknown", changed("left-symmetric", "left")},
        {"\"layout\" is unknown", changed(R"("left-symmetric")", "2")},
        {"not null, but RAID-4", changed(R"("level": 5)", R"("level": 4)")},
        {"strip_size: 65537", changed(R"("strip_size": 65536)", R"("strip_size": 65537)")},
        {"strip_size: 2048", changed(R"("strip_size": 65536)", R"("strip_size": 2048)")},
        {"member_count: 2", changed(R"("member_count": 3)", R"("member_count": 2)")},
        {"members: 4 records for 5", changed(R"("member_count": 3)", R"("member_count": 5)")},
        {"stripes: 0", changed(R"("stripes": 4,)", R"("stripes": 0,)")},
        {"stripes: 18446744073709551615",
         changed(R"("stripes": 4,)", R"("stripes": 18446744073709551615,)")},
        {"\"in_use\" is neither", changed(R"("in_use": true)", R"("in_use": 1)")},
        {"resynced: beyond", changed(R"("resynced": 2)", R"("resynced": 5)")},
        {"scrub is not an object", changed(R"("scrub": null)", R"("scrub": 1)")},
        {"scrub: beyond", changed(R"("scrub": null)", R"("scrub": {"position":5,"repair":true,)"
                                                      R"("mismatches":0,"repaired":0})")},
        {"each role comes once", changed(R"("role":1)", R"("role":0)")},
        {"each role comes once", changed(R"("role":1)", R"("role":null)")},
        {"a role that is too high", changed(R"("role":1)", R"("role":64)")},
        {"unknown state", changed("rebuilding", "recovering")},
        {"a spare with a role", changed("rebuilding", "spare")},
        {"without a role", changed("spare", "in_sync")},
        {"no such node", changed(R"("home":0)", R"("home":32)")},
        {"over the configuration", changed("524288", "200704")},
        {"not on a row", changed("524288", "524289")},
        {"less than the array uses", changed("786432", "700000")},
        {"rebuilt: beyond", changed(R"("rebuilt":1)", R"("rebuilt":5)")},
        {"dev_number 1 comes twice", changed(R"("dev_number":2)", R"("dev_number":1)")},
        {"beyond md's table", changed(R"("dev_number":2)", R"("dev_number":1920)")},
        {"comes twice",
         changed("bb000000-0000-0000-0000-000000000001", "bb000000-0000-0000-0000-000000000000")},
        {"path: too long", changed("/m1", "/" + std::string(255, 'm'))},
        {"path: too long", changed("/m1", "\\u0007")},
        {"\"members\" is not a list", changed("\"members\": [", "\"members\": {}, \"m\": [")},
        {"a record is not an object", changed("\"volumes\": [", "\"volumes\": [7, ")},
        {"home comes twice", changed("root", "home")},
        {"a letter or digit first", changed("root", "-oot")},
        {"a letter or digit first", changed("root", "r/ot")},
        {"a letter or digit first", changed("root", "")},
        {"overlaps", changed(R"("stripes":1})", R"("stripes":3})")},
        {"reaches beyond", changed(R"("first":2,"stripes":2)", R"("first":2,"stripes":3)")},
        {"reaches beyond", changed(R"("first":2,"stripes":2)", R"("first":4,"stripes":0)")},
        {"reaches beyond",
         changed(R"("first":2,"stripes":2)", R"("first":2,"stripes":18446744073709551615)")},
        {"areas: not those", changed("143360", "143361")},
        {"on is not an object", changed(R"("on": {)", R"("on": 1, "o": {)")},
        {"\"checksum\" is not a whole", changed("4149193450", "4294967296")},
    };
    for (const Damage& damage : damages) {
        const auto result = from_json_text(damage.text);
        ASSERT_FALSE(result) << damage.what;
        EXPECT_NE(result.error().text.find(damage.what), std::string::npos)
            << damage.what << " is not in: " << result.error().text;
    }
    EXPECT_TRUE(from_json_text(golden_text));
}

TEST(SlotText, DeepNestingIsNoTrouble) {
    const auto deep = from_json_text(std::string(60000, '['));
    EXPECT_FALSE(deep);
    EXPECT_FALSE(from_json_text(std::string(30000, '[') + std::string(30000, ']')));
}

TEST(SlotText, PathsAreMadeFitToKeep) {
    EXPECT_EQ(path_to_keep("/dev/sda"), "/dev/sda");
    EXPECT_EQ(path_to_keep("/a\nb\xff"), "/a?b?");
    EXPECT_EQ(path_to_keep(std::string(300, 'x')).size(), member_path_max);
}

}  // namespace
}  // namespace braid
