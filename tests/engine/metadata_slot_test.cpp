// SPDX-License-Identifier: BSD-3-Clause
// The bytes of a configuration slot: braid-format(5), "THE CONFIGURATION".
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "engine/base/crc32c.h"
#include "engine/base/limits.h"
#include "engine/metadata/config_bad_rows.h"
#include "engine/metadata/config_check.h"
#include "engine/metadata/config_slot.h"
#include "tests/engine/array_kit.h"
#include "tests/engine/hex.h"

namespace braid {
namespace {

using test::kit_configuration;
using test::kit_narrow;

constexpr std::string_view golden_text = R"({
 "array": "aa000000-0000-0000-0000-000000000001",
 "name": "kit",
 "epoch": 435200000007,
 "revision": 3,
 "in_force": [435200000007, 2],
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
 "intent": {"on":true,"region":1048576},
 "bad_rows": [[0,3,5,"retry"],[2,1,63,"void"]],
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
    c = kit_narrow(kit_configuration(Level::raid5, 3, 1));
    c.version = {435200000007, 3};
    c.in_force = {435200000007, 2};
    c.events = 24;
    c.in_use = true;
    c.resynced = StripeIndex{2};
    c.members[2].state = MemberState::rebuilding;
    c.members[2].rebuilt = StripeIndex{1};
    c.volumes = {{"root", StripeIndex{0}, 1}, {"home", StripeIndex{2}, 2}};
    c.intent.region = 1u << 20;
    c.bad_rows = {{MemberIndex{0}, RowIndex{3}, 5, BadKind::retry},
                  {MemberIndex{2}, RowIndex{1}, 63}};
    slot.sequence = 9;
    slot.member = c.members[2].uuid;
    slot.tie = {4149193450, 0x01020304};
    return slot;
}

TEST(SlotHeader, GoldenBytesOfAWholeSlot) {
    const Buffer bytes = encode_slot(sample());
    ASSERT_EQ(bytes.size(), slot_size);
    EXPECT_EQ(test::hex(bytes.view().first(64)),
              "4252414944434647145b589603000000aa000000000000000000000000000001"
              "09000000000000000700f153650000008f050000030000000000000000000000");
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
        slot.configuration.scrub = ScrubRecord{StripeIndex{3}, true, 4, 5, 4096};
        slot.configuration.members[1].state = MemberState::missing;
        slot.configuration.members[1].uuid = Uuid{};
        slot.configuration.members[4].read_errors = ~std::uint64_t{0};
        const auto back = decode_slot(encode_slot(slot).view(), 1);
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_EQ(*back, slot);
    }
}

/// Everything at its longest, but the paths: `path` for each member.
ConfigSlot largest(const std::string& path, std::uint32_t bad_ranges = 600) {
    constexpr std::uint64_t most = ~std::uint64_t{0};
    ConfigSlot slot = sample();
    Configuration& c = slot.configuration;
    c = kit_configuration(Level::raid6, members_max, spares_max);
    c.name = std::string(name_length_max, '"');
    c.version = {epoch_max, epoch_max};
    c.in_force = {epoch_max, epoch_max - 1};
    c.lineage = test::uuid_of(0xcc, 9);
    c.tie_breaker = MemberIndex{c.member_count - 1};
    c.events = most;
    c.created = (std::uint64_t{1} << 40) - 1;
    c.strip_size = strip_size_min;
    c.stripes = member_size_max / c.strip_size;
    c.in_use = true;
    c.resynced = StripeIndex{c.stripes};
    c.scrub = ScrubRecord{StripeIndex{c.stripes}, true, most, most, most};
    c.intent.on = false;
    c.intent.region = intent_region_max;
    for (std::uint32_t at = 0; at != c.members.size(); ++at) {
        MemberRecord& member = c.members[at];
        if (member.role) member.state = MemberState::rebuilding;
        member.home = nodes_max - 1;
        member.data_offset = member_size_max;
        member.size = 2 * member_size_max;
        member.rebuilt = StripeIndex{c.stripes};
        member.dev_number = md_devices_max - 1 - at;
        member.read_errors = most;
        member.path = path;
    }
    c.volumes.clear();
    for (std::uint32_t i = 0; i != volumes_max; ++i) {
        c.volumes.push_back({fmt::format("v{:062}", i),
                             StripeIndex{c.stripes - (volumes_max - i) * 4'000'000'000'000},
                             4'000'000'000'000});
    }
    // 600 always fit; these have the most digits in all.
    const RowIndex rows{c.stripes};
    for (std::uint32_t i = 0; i != bad_ranges; ++i) {
        c.bad_rows.push_back(
            {MemberIndex{60}, rows - (bad_ranges - i) * 100'000'000'001, 100'000'000'000});
    }
    return slot;
}

TEST(Slot, TheLargestConfigurationFits) {
    struct Case {
        std::string path;
        std::uint32_t bad_ranges;
        bool kept;
    };
    const Case cases[] = {
        {"", 600, true},
        {std::string(70, 'p'), 600, true},
        {std::string(106, 'p'), 600, false},
        {std::string(100, '\\'), 0, true},  // twice as long in JSON: the longest that there is
        {std::string(member_path_max, 'p'), 0, true},
        {std::string(member_path_max, '\\'), 0, false},
    };
    for (const Case& each : cases) {
        const ConfigSlot slot = largest(each.path, each.bad_ranges);
        const auto checked = check_configuration(slot.configuration);
        ASSERT_TRUE(checked) << checked.error().text;
        const std::string text = to_json_text(slot);
        EXPECT_LE(text.size(), slot_text_max);
        const auto back = decode_slot(encode_slot(slot).view(), 1);
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_EQ(*back, each.kept ? slot : largest("", each.bad_ranges))
            << each.path << ": " << text.size();
    }
    EXPECT_EQ(to_json_text(largest("")).size(), 53159U) << "as braid-format(5) says";
}

TEST(Slot, BadRowsHaveAPartOfTheSlotOfTheirOwn) {
    Configuration c = largest(std::string(member_path_max, '"')).configuration;
    c.bad_rows.clear();
    ConfigSlot slot;
    slot.configuration = largest("").configuration;
    slot.configuration.bad_rows.clear();
    slot.tie = {~std::uint32_t{0}, ~std::uint32_t{0}};
    EXPECT_LE(to_json_text(slot).size(), rest_text_max) << "the rest, at its longest";
    for (const std::uint32_t lost : {0U, 1U}) {
        slot.configuration.members[lost].state = MemberState::missing;
        slot.configuration.members[lost].left = {epoch_max, epoch_max};
    }
    EXPECT_LE(to_json_text(slot).size(), rest_text_max) << "and with members that left";
    // The longest list that is taken.
    while (check_configuration(c)) {
        c.bad_rows.push_back(
            {MemberIndex{2}, RowIndex{1'000'000 + 4096 * c.bad_rows.size()}, 1024});
    }
    EXPECT_NE(check_configuration(c).error().text.find("too many"), std::string::npos);
    EXPECT_GT(c.bad_rows.size(), 1200U);
    c.bad_rows.pop_back();
    slot.configuration = c;
    const auto back = decode_slot(encode_slot(slot).view(), 0);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(back->configuration.bad_rows, c.bad_rows);
}

TEST(Slot, AListThatIsTooLongIsJoinedWhereThatCostsLeast) {
    std::vector<BadRange> rows;
    for (std::uint64_t i = 0; i != 3000; ++i) {
        const BadKind kind = i < 1500 ? BadKind::retry : BadKind::voided;
        rows.push_back({MemberIndex{i < 1500 ? 1U : 2U}, RowIndex{1000 + 20 * i}, 1, kind});
    }
    const std::vector<BadRange> all = rows;
    ASSERT_FALSE(fit_slot(rows));
    ASSERT_TRUE(merge_to_fit(rows));
    EXPECT_TRUE(fit_slot(rows));
    std::uint64_t retried = 0;
    std::uint64_t voided = 0;
    for (const BadRange& range : rows) {
        (range.kind == BadKind::retry ? retried : voided) += range.count;
    }
    EXPECT_LE(voided, 6000U) << "what is void is lost";
    EXPECT_GT(retried, 20000U) << "what is tried again is not";
    for (const BadRange& range : all) {
        EXPECT_TRUE(std::ranges::any_of(rows, [&](const BadRange& joined) {
            return joined.member == range.member && joined.kind == range.kind &&
                   joined.first <= range.first && range.first < joined.end();
        }));
    }
}

TEST(Slot, AMemberThatLeftIsKeptWithWhatItHeld) {
    ConfigSlot slot;
    slot.configuration = kit_configuration(Level::raid5, 3);
    slot.member = slot.configuration.members[0].uuid;
    MemberRecord& lost = slot.configuration.members[1];
    lost.left = {512, 3};
    EXPECT_EQ(to_json_text(slot).find("\"left\""), std::string::npos) << "it is there";
    for (const MemberState state : {MemberState::faulty, MemberState::missing}) {
        lost.state = state;
        const auto back = decode_slot(encode_slot(slot).view(), 0);
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_EQ(*back, slot);
    }
    std::string text = to_json_text(slot);
    text.replace(text.find("[512,3]"), 7, "[512,-]");
    EXPECT_FALSE(from_json_text(text));
    text.replace(text.find("[512,-]"), 7, "[51.5] ");
    const auto unsound = from_json_text(text);
    ASSERT_FALSE(unsound);
    EXPECT_NE(unsound.error().text.find("[epoch, revision]"), std::string::npos);
}

TEST(Slot, ALineageIsKeptWhereThereIsOne) {
    ConfigSlot slot;
    slot.configuration = kit_configuration(Level::raid5, 3);
    slot.member = slot.configuration.members[0].uuid;
    EXPECT_EQ(to_json_text(slot).find("lineage"), std::string::npos);
    slot.configuration.lineage = test::uuid_of(0xcc, 9);
    slot.configuration.tie_breaker = MemberIndex{2};
    std::string text = to_json_text(slot);
    EXPECT_NE(text.find("\n \"lineage\": \"cc000000-0000-0000-0000-000000000009\",\n"
                        " \"tie_breaker\": 2,\n"),
              std::string::npos)
        << text;
    const auto back = decode_slot(encode_slot(slot).view(), 0);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(*back, slot);
    text.replace(text.find("cc000000"), 2, "00");
    text.replace(text.find("000000000009\",\n \"tie"), 12, "000000000000");
    EXPECT_FALSE(from_json_text(text)) << "nil is left out";
}

// What lies between two strips of a member that is away may have been written since.
TEST(Slot, WhatAMemberThatIsAwayMayNotGiveIsNotListedAlong) {
    std::vector<BadRange> rows;
    for (std::uint64_t i = 0; i != 3000; ++i) {
        rows.push_back({MemberIndex{1}, RowIndex{1000 + 2 * i}, 1, BadKind::retry});
    }
    std::vector<BadRange> as_they_are = rows;
    EXPECT_FALSE(merge_to_fit(as_they_are, MemberSet{0b10}));
    EXPECT_EQ(as_they_are, rows);
    for (BadRange& range : as_they_are) range.kind = BadKind::voided;
    EXPECT_TRUE(merge_to_fit(as_they_are, MemberSet{0b10}));
    EXPECT_TRUE(merge_to_fit(rows, MemberSet{0b100}));
}

TEST(Slot, AreasFollowFromTheGap) {
    Configuration c = kit_narrow(kit_configuration(Level::raid5, 3));
    EXPECT_EQ(areas_of(c).size(), 1U);
    for (MemberRecord& member : c.members) member.data_offset = 4u << 20;
    const auto areas = areas_of(c);
    ASSERT_EQ(areas.size(), 4U);
    EXPECT_EQ(areas[1].name, "write_intent");
    EXPECT_EQ(areas[1].offset, slots_end);
    EXPECT_EQ(areas[2].name, "promises");
    EXPECT_EQ(areas[2].offset, 1323008U);
    EXPECT_EQ(areas[2].size, 8192U);
    EXPECT_EQ(areas[3].offset + areas[3].size, (4u << 20) - row_size);
    const auto before = areas_of(c, 2);
    ASSERT_EQ(before.size(), 3U);
    EXPECT_EQ(before[2].name, "reserved");
    EXPECT_EQ(before[2].offset, 1323008U);
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
        {"has format 4", [](SlotHeader& h) { h.format = 4; }, FindingKind::unsupported},
        {"has format 0", [](SlotHeader& h) { h.format = 0; }, FindingKind::unsupported},
        {"0 bytes of text", [](SlotHeader& h) { h.text_size = 0; }, FindingKind::corrupt},
        {"61441 bytes of text", [](SlotHeader& h) { h.text_size = 61441; }, FindingKind::corrupt},
        {"reserved bytes", [](SlotHeader& h) { h.reserved[4035] = 1; }, FindingKind::corrupt},
        {"belongs into the other", [](SlotHeader& h) { h.sequence = 10; }, FindingKind::corrupt},
        {"header and text disagree", [](SlotHeader& h) { h.epoch = 8; }, FindingKind::corrupt},
        {"header and text disagree", [](SlotHeader& h) { h.revision = 4; }, FindingKind::corrupt},
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

/// The text as braid wrote it before epochs had revisions: "settled" said what in_force says now.
std::string text_of_format_2() {
    std::string text = changed(R"(
 "epoch": 435200000007,
 "revision": 3,
 "in_force": [435200000007, 2],)",
                               R"(
 "epoch": 7,
 "settled": 6,)");
    const std::string kinds = R"([[0,3,5,"retry"],[2,1,63,"void"]])";
    return text.replace(text.find(kinds), kinds.size(), "[[0,3,5],[2,1,63]]");
}

/// Before that it had no write intent and no bad rows.
std::string text_of_format_1() {
    std::string text = text_of_format_2();
    const auto begin = text.find(R"( "intent")");
    return text.erase(begin, text.find(R"( "members")") - begin);
}

TEST(SlotText, Format2IsTakenOver) {
    const auto old = from_json_text(text_of_format_2(), 2);
    ASSERT_TRUE(old) << old.error().text;
    EXPECT_EQ(old->configuration.version, (EpochRevision{7, 0}));
    EXPECT_EQ(old->configuration.in_force, (EpochRevision{6, 0}));
    std::vector<BadRange> voided = sample().configuration.bad_rows;
    for (BadRange& range : voided) range.kind = BadKind::voided;
    EXPECT_EQ(old->configuration.bad_rows, voided);
    EXPECT_FALSE(from_json_text(text_of_format_2(), 3)) << "the newer fields are missing";
    EXPECT_FALSE(from_json_text(golden_text, 2)) << "it did not know those keys";
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
        {"key twice", changed(R"("epoch": 435200000007)", R"("epoch": 7, "epoch": 7)")},
        {"keys that braid does not know",
         changed(R"("epoch": 435200000007)", R"("epoch": 7, "x": 7)")},
        {"has no \"epoch\"", changed(R"( "epoch": 435200000007,)", "")},
        {"\"epoch\" is not a whole number", changed(R"("epoch": 435200000007)", R"("epoch": -7)")},
        {"\"epoch\" is not a whole number", changed(R"("epoch": 435200000007)", R"("epoch": 7.0)")},
        {"\"epoch\" is not a whole number",
         changed(R"("epoch": 435200000007)", R"("epoch": 99999999999999999999)")},
        {"\"epoch\" is not a whole number", changed(R"("epoch": 435200000007)", R"("epoch": "7")")},
        {"in_force: not before", changed("[435200000007, 2]", "[435200000007, 3]")},
        {"in_force: not before", changed("[435200000007, 2]", "[435200000008, 0]")},
        {"in_force: not before", changed(R"("epoch": 435200000007,)", R"("epoch": 0,)")},
        {"\"in_force\" is not [epoch, revision]", changed("[435200000007, 2]", "[435200000007]")},
        {"\"in_force\" is not [epoch, revision]", changed("[435200000007, 2]", "[1, -2]")},
        {"\"in_force\" is not a list", changed("[435200000007, 2]", "7")},
        {"has no \"revision\"", changed(R"( "revision": 3,)", "")},
        {"epoch, revision: beyond",
         changed(R"("epoch": 435200000007,)", R"("epoch": 4611686018427387905,)")},
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
        {"intent is not an object", changed(R"("intent": {)", R"("intent": 1, "i": {)")},
        {"\"on\" is neither", changed(R"({"on":true)", R"({"on":1)")},
        {"a region of 1000000", changed("1048576", "1000000")},
        {"a region of 32768", changed("1048576", "32768")},
        {"\"bad_rows\" is not a list", changed(R"("bad_rows": [)", R"("bad_rows": 1, "b": [)")},
        {"is not [member, first, count, ", changed("[2,1,63,\"void\"]", "[2,1]")},
        {"is not [member, first, count", changed("\"void\"]", "\"lost\"]")},
        {"is not [member, first, count, ", changed("[2,1,63,\"void\"]", "[2,1,-63,\"void\"]")},
        {"is not [member, first, count, ", changed("[2,1,63,\"void\"]", "[64,1,63,\"void\"]")},
        {"is not [member, first, count, ", changed("[2,1,63,\"void\"]", "7")},
        {"no such member", changed("[2,1,63,\"void\"]", "[3,1,63,\"void\"]")},
        {"reaches beyond the member", changed("[2,1,63,\"void\"]", "[2,1,64,\"void\"]")},
        {"is empty", changed("[2,1,63,\"void\"]", "[2,1,0,\"void\"]")},
        {"not in order", changed("[2,1,63,\"void\"]", "[0,1,1,\"void\"]")},
        {"two ranges of a kind touch", changed("[2,1,63,\"void\"]", "[0,8,9,\"retry\"]")},
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

/// What the release before wrote, byte for byte.
TEST(SlotHeader, GoldenBytesOfFormat1AreStillRead) {
    const std::string text = text_of_format_1();
    Buffer bytes(slot_size);
    const std::string_view golden_header =
        "4252414944434647"
        "1803e039"
        "01000000"
        "aa000000000000000000000000000001"
        "0900000000000000"
        "0700000000000000"
        "0a050000"
        "000000000000000000000000";
    ASSERT_EQ(golden_header.size(), 128U);
    for (std::size_t at = 0; at != 64; ++at) {
        bytes.data()[at] = static_cast<std::byte>(
            std::stoi(std::string(golden_header.substr(2 * at, 2)), nullptr, 16));
    }
    std::memcpy(bytes.data() + sizeof(SlotHeader), text.data(), text.size());
    const auto old = decode_slot(bytes.view(), 1);
    ASSERT_TRUE(old) << old.error().text;
    ConfigSlot expected = sample();
    expected.configuration.version = {7, 0};
    expected.configuration.in_force = {6, 0};
    expected.configuration.intent = {};
    expected.configuration.bad_rows.clear();
    EXPECT_EQ(*old, expected);
    SlotHeader header;
    std::memcpy(&header, encode_slot(*old).data(), sizeof header);
    EXPECT_EQ(plain(header.format), 3U) << "and never written";
}

TEST(SlotText, Format1IsTakenOver) {
    const std::string text = text_of_format_1();
    const auto old = from_json_text(text, 1);
    ASSERT_TRUE(old) << old.error().text;
    EXPECT_TRUE(old->configuration.intent.on);
    EXPECT_EQ(old->configuration.intent.region, intent_region_default);
    EXPECT_TRUE(old->configuration.bad_rows.empty());
    EXPECT_FALSE(from_json_text(text, 2));
    EXPECT_FALSE(from_json_text(golden_text, 1)) << "it did not know those keys";
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
