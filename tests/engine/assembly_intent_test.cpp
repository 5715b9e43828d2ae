// SPDX-License-Identifier: BSD-3-Clause
// What assembly makes of write intent records: which one counts, and what is in doubt.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "engine/assembly/assembly.h"
#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

class AssemblyIntent : public testing::Test {
  protected:
    void make(Level level, std::uint32_t members) {
        SimArrayOptions options;
        options.level = level;
        options.members = members;
        options.stripes = 100;
        sim = std::make_unique<SimArray>(options);
        sim->create();
        ASSERT_TRUE(sim->open());
        sim->come_to_rest();
        uuid = sim->array->configuration().array;
        generation = sim->array->status().intent.generation;
    }
    /// A record as the array would write it.
    void put(std::uint32_t member, std::uint64_t number, std::vector<IntentEntry> entries,
             std::uint32_t node = 0) {
        IntentRecord record;
        record.array = uuid;
        record.generation = number;
        record.node = node;
        record.entries = std::move(entries);
        const Buffer bytes = encode_intent(record);
        std::memcpy(place(member, number, node), bytes.data(), bytes.size());
    }
    std::byte* place(std::uint32_t member, std::uint64_t number, std::uint32_t node = 0) {
        return sim->platters[member]->content.data() + slots_end + intent_slot_offset(node, number);
    }
    Checked<Assembly> assemble(std::vector<std::size_t> which = {}, Force force = Force::no) {
        if (which.empty()) {
            for (std::size_t i = 0; i != sim->platters.size(); ++i) which.push_back(i);
        }
        std::vector<MemberImage> images;
        for (const std::size_t i : which) {
            auto disk = sim->disk(sim->platters[i], SimArray::path_of(i));
            images.push_back(sim->loop().run_until_done(read_member_image(*disk)));
        }
        return braid::assemble(images, {.force = force == Force::yes});
    }
    static bool has_notice(const Assembly& assembly, std::string_view part) {
        return std::ranges::any_of(assembly.notices, [part](const std::string& notice) {
            return notice.find(part) != std::string::npos;
        });
    }
    const std::vector<IntentEntry> some{{0, 3, StripeIndex{10}}, {0, 1, StripeIndex{50}}};
    const std::vector<IntentEntry> other{{0, 7, StripeIndex{90}}};
    std::unique_ptr<SimArray> sim;
    Uuid uuid;
    std::uint64_t generation{0};
};

TEST_F(AssemblyIntent, TheNewestRecordSaysWhatIsInDoubt) {
    make(Level::raid5, 4);
    put(0, generation + 1, some);
    put(2, generation + 2, other);  // on another member
    sim->kill();
    const auto assembly = assemble();
    ASSERT_TRUE(assembly) << assembly.error().text;
    EXPECT_TRUE(assembly->unclean);
    EXPECT_EQ(assembly->marked, other);
    EXPECT_EQ(assembly->intent_generation(0), generation + 2);
    EXPECT_FALSE(assembly->configuration.resynced);
    EXPECT_TRUE(has_notice(*assembly, "7 of its 100 stripes were marked"));
    EXPECT_EQ(assembly->intent_hindrance, "");
}

TEST_F(AssemblyIntent, ATornRecordFallsBackToTheOneBefore) {
    make(Level::raid5, 4);
    put(0, generation + 1, some);
    put(0, generation + 2, other);
    place(0, generation + 2)[70] ^= std::byte{1};
    sim->kill();
    const auto assembly = assemble();
    ASSERT_TRUE(assembly);
    EXPECT_EQ(assembly->marked, some);
    EXPECT_EQ(assembly->intent_generation(0), generation + 1);
}

TEST_F(AssemblyIntent, ACleanStopLeavesNothingInDoubt) {
    make(Level::raid5, 4);
    ASSERT_TRUE(sim->stop());
    put(0, generation + 9, some);
    const auto assembly = assemble();
    ASSERT_TRUE(assembly);
    EXPECT_FALSE(assembly->unclean);
    EXPECT_TRUE(assembly->marked.empty());
    EXPECT_EQ(assembly->intent_generation(0), generation + 9) << "the next one must be newer";
}

TEST_F(AssemblyIntent, EveryNodesNewestRecordCounts) {
    make(Level::raid6, 5);
    put(1, generation + 1, some);
    put(2, 4, {{0, 2, StripeIndex{12}}}, 31);
    put(3, 3, other, 31);  // older than 4
    sim->kill();
    const auto assembly = assemble();
    ASSERT_TRUE(assembly);
    const std::vector<IntentEntry> expected{
        {0, 3, StripeIndex{10}}, {0, 1, StripeIndex{13}}, {0, 1, StripeIndex{50}}};
    EXPECT_EQ(assembly->marked, expected) << "no stripe twice";
    EXPECT_EQ(assembly->intent_generation(0), generation + 1) << "ours";
}

TEST_F(AssemblyIntent, AMemberThatTakesNoPartHasNoSay) {
    make(Level::raid5, 4);
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member("1", Force::no)));
    sim->loop().run_for(seconds(10));
    put(1, generation + 50, other);
    put(2, generation + 40, some);
    sim->kill();
    const auto assembly = assemble();
    ASSERT_TRUE(assembly) << assembly.error().text;
    EXPECT_EQ(assembly->marked, some);
}

TEST_F(AssemblyIntent, DirtyAndDegradedStartsByItselfWithARecordOnly) {
    make(Level::raid5, 4);
    put(0, generation + 2, some);
    sim->kill();
    const auto with = assemble({0, 2, 3});
    ASSERT_TRUE(with) << with.error().text;
    EXPECT_EQ(with->marked, some);
    EXPECT_FALSE(with->configuration.resynced);
    for (std::uint32_t m = 0; m != 4; ++m) std::memset(place(m, 0), 0, 2 * intent_slot_size);
    const auto lost = assemble({0, 2, 3});
    ASSERT_FALSE(lost);
    EXPECT_NE(lost.error().text.find("not stopped cleanly (no write intent was found"),
              std::string::npos)
        << lost.error().text;
    std::memcpy(place(0, 0), "BRAIDINT?", 9);  // once a record, but not any more
    const auto without = assemble({0, 2, 3});
    ASSERT_FALSE(without);
    EXPECT_NE(without.error().text.find("parity is in doubt"), std::string::npos);
    const auto whole = assemble();
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->configuration.resynced, StripeIndex{0});
    EXPECT_TRUE(has_notice(*whole, "no usable write intent was found"));
    EXPECT_TRUE(has_notice(*whole, "is corrupt"));
}

TEST_F(AssemblyIntent, RecordsOfAnotherArrayOrBeyondThisOneDoNotCount) {
    make(Level::raid5, 4);
    std::memset(place(0, 0), 0, 2 * intent_slot_size);
    std::memset(place(1, 0), 0, 2 * intent_slot_size);
    put(0, generation + 1, {{0, 3, StripeIndex{98}}});
    uuid.bytes[0] ^= 1;
    put(1, generation + 2, some);
    sim->kill();
    const auto assembly = assemble();
    ASSERT_TRUE(assembly);
    EXPECT_TRUE(assembly->marked.empty());
    EXPECT_EQ(assembly->configuration.resynced, StripeIndex{0});
    EXPECT_TRUE(has_notice(*assembly, "beyond the array"));
}

TEST_F(AssemblyIntent, BytesOfSomethingElseAreLeftAlone) {
    make(Level::raid5, 4);
    ASSERT_TRUE(sim->stop());
    std::memset(place(2, 0, 17), 7, 8);  // nothing tells any more that the slot is ours
    const auto assembly = assemble();
    ASSERT_TRUE(assembly) << "the array itself is well";
    EXPECT_NE(assembly->intent_hindrance.find("m2: has bytes of something else"), std::string::npos)
        << assembly->intent_hindrance;
    ASSERT_TRUE(sim->open());
    EXPECT_FALSE(sim->array->status().intent.on);
    EXPECT_TRUE(sim->has_event("intent_off"));
    ASSERT_TRUE(sim->stop());
    EXPECT_EQ(place(2, 0, 17)[0], std::byte{7});
    sim->intent.on = true;
    const auto wanted = sim->open();
    ASSERT_FALSE(wanted);
    EXPECT_NE(wanted.error().text.find("m2: has bytes of something else"), std::string::npos);
}

TEST_F(AssemblyIntent, ForceTellsWhatWasBeingWrittenLast) {
    make(Level::raid5, 4);
    const Buffer behind = sim->platters[2]->content;
    ASSERT_TRUE(sim->loop().run_until_done(sim->array->fail_member("1", Force::no)));
    sim->loop().run_for(seconds(10));
    put(0, generation + 50, some);
    sim->kill();
    sim->platters[2]->content = behind;
    ASSERT_FALSE(assemble({0, 2, 3}));
    const auto forced = assemble({0, 2, 3}, Force::yes);
    ASSERT_TRUE(forced) << forced.error().text;
    EXPECT_TRUE(forced->forced);
    EXPECT_TRUE(has_notice(*forced, "(m2) was taken in by force"));
    const std::uint64_t bytes = 4 * forced->configuration.stripe_data_size();
    EXPECT_TRUE(has_notice(
        *forced, "4 stripes, " + std::to_string(bytes) + " bytes of data (10 to 12, 50 to 50)"));
}

TEST_F(AssemblyIntent, RowsThatAreUnknownKeepMdAway) {
    make(Level::raid5, 4);
    ASSERT_TRUE(sim->stop());
    auto disk = sim->disk(sim->platters[0], "m0");
    const auto image = sim->loop().run_until_done(read_member_image(*disk));
    EXPECT_FALSE(is_in_use(*inspect(image).superblock));
    Configuration c = inspect(image).slot()->configuration;
    MdSuperblock sb = *inspect(image).superblock;
    EXPECT_FALSE(is_in_use(update_md_superblock(sb, c, c.members[0], 1)));
    c.bad_rows = {{MemberIndex{1}, RowIndex{5}, 1}};
    EXPECT_TRUE(is_in_use(update_md_superblock(sb, c, c.members[0], 1)));
}

}  // namespace
}  // namespace braid::sim
