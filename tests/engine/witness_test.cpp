// SPDX-License-Identifier: BSD-3-Clause
// RAID-6 of four with a witness: any two members go on with it, and never two pairs that do not know
// of each other.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/metadata/config_slot.h"
#include "engine/metadata/md_superblock.h"
#include "engine/metadata/member_metadata.h"
#include "tests/engine/array_fixture.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

constexpr std::size_t witness_at = 4;

SimArrayOptions with_witness(std::uint64_t seed = 1) {
    return {.seed = seed, .level = Level::raid6, .members = 4, .stripes = 8, .witness = true};
}

class WitnessTest : public testing::Test {
  protected:
    Checked<Unit> lose(std::uint32_t role) {
        return array_.loop().run_until_done(
            array_.array->fail_member(std::to_string(role), Force::no));
    }
    SimPlatter& witness() { return *array_.platters[witness_at]; }
    void write_somewhere() {
        Buffer data = random_bytes(array_.loop().rng(), 64u << 10);
        const std::uint64_t places = (array_.size() - data.size()) / sector_size;
        ASSERT_TRUE(array_.write(array_.loop().rng().below(places) * sector_size, data));
        ASSERT_TRUE(array_.flush());
    }
    bool says(const std::string& words) const {
        return std::ranges::any_of(array_.texts, [&](const std::string& text) {
            return text.find(words) != std::string::npos;
        });
    }
    MemberFindings findings_of(std::size_t at) {
        const auto disk = array_.disk(array_.platters[at], "look");
        return inspect(array_.loop().run_until_done(read_member_image(*disk)));
    }

    SimArray array_{with_witness()};
};

TEST_F(WitnessTest, ItHasNoDataAndMdNeverTakesIt) {
    array_.make();
    ASSERT_TRUE(array_.stop());
    const MemberFindings findings = findings_of(witness_at);
    ASSERT_TRUE(findings.superblock) << findings.superblock.error().text;
    EXPECT_TRUE(is_in_use(*findings.superblock)) << "though the array was stopped cleanly";
    EXPECT_EQ(role_of(*findings.superblock), md_role::spare);
    ASSERT_NE(findings.slot(), nullptr);
    const Configuration& held = findings.slot()->configuration;
    ASSERT_NE(held.witness(), nullptr);
    EXPECT_EQ(held.witness()->uuid, findings.slot()->member);
    EXPECT_FALSE(is_in_use(*findings_of(0).superblock));
}

TEST_F(WitnessTest, AnyTwoGoOnWithIt) {
    for (const auto& [one, other] : {std::pair{0u, 1u}, {2u, 3u}, {0u, 3u}, {1u, 2u}}) {
        SimArray array(with_witness(one * 8 + other));
        array.make();
        for (const std::uint32_t role : {one, other}) {
            const auto lost = array.loop().run_until_done(
                array.array->fail_member(std::to_string(role), Force::no));
            ASSERT_TRUE(lost) << lost.error().text;
        }
        Buffer data = random_bytes(array.loop().rng(), 256u << 10);
        ASSERT_TRUE(array.write(0, data));
        ASSERT_TRUE(array.flush());
        array.expect_content();
        array.loop().run_for(seconds(8));  // nothing is marked any more
        ASSERT_TRUE(array.flush());
        array.crash();
        // Those that are left need it no more: nobody else goes on without them.
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i != 4; ++i) {
            if (i != one && i != other) left.push_back(i);
        }
        const auto alone = array.open(left);
        ASSERT_TRUE(alone) << alone.error().text;
        array.expect_content();
        ASSERT_TRUE(array.stop());
        const std::vector<std::size_t> lost{one, other, witness_at};
        const auto old = array.open(lost);
        ASSERT_FALSE(old) << "they went on without these";
    }
}

TEST_F(WitnessTest, WithoutItNoTwoStart) {
    array_.make();
    write_somewhere();
    ASSERT_TRUE(array_.stop());
    for (const std::vector<std::size_t>& two : {std::vector<std::size_t>{0, 1}, {2, 3}}) {
        const auto started = array_.open(two);
        ASSERT_FALSE(started) << "member 0 breaks no ties where there is a witness";
        EXPECT_NE(started.error().text.find("it takes 3, or 2 and the witness"), std::string::npos)
            << started.error().text;
    }
    ASSERT_TRUE(array_.open({2, 3, witness_at}));
    array_.expect_content();
    ASSERT_TRUE(array_.stop());
    EXPECT_FALSE(array_.open({0, 1, witness_at})) << "it knows that the others went on";
    EXPECT_FALSE(array_.open({0, 1, 2})) << "one of three is current, which is not enough";
    ASSERT_TRUE(array_.open({2, 3})) << "all that count, by what was in force";
    array_.expect_content();
}

TEST_F(WitnessTest, ThreeGoOnWithoutItAndItLearnsOfThat) {
    array_.make();
    ASSERT_TRUE(array_.stop());
    ASSERT_TRUE(array_.open({0, 1, 2}));
    write_somewhere();
    ASSERT_TRUE(array_.stop());
    EXPECT_FALSE(array_.open({3, witness_at})) << "two are needed";
    ASSERT_TRUE(array_.open({0, 1, 2, witness_at}));
    array_.loop().run_for(seconds(1));
    EXPECT_EQ(findings_of(witness_at).slot()->configuration.version.epoch,
              findings_of(0).slot()->configuration.version.epoch)
        << "it is told what is in force, though nothing needs it";
    array_.expect_content();
}

TEST_F(WitnessTest, OneThatFailsIsNotCountedOn) {
    array_.make();
    witness().dead = true;
    array_.loop().run_for(seconds(20));
    EXPECT_TRUE(array_.has_event("witness_failed"));
    ASSERT_TRUE(lose(1)) << "three are enough";
    write_somewhere();
    const auto refused = lose(2);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("only if the witness answers"), std::string::npos)
        << refused.error().text;
    witness().dead = false;
    array_.loop().run_for(seconds(20));
    EXPECT_TRUE(array_.has_event("witness_answers"));
    ASSERT_TRUE(lose(2)) << "two are, with it";
    write_somewhere();
    array_.expect_content();
}

/// Then half of the members and one are needed: a write that one of them does not take is an error.
TEST_F(WitnessTest, WithoutAnAnswerThreeAreNeeded) {
    array_.make();
    write_somewhere();
    ASSERT_TRUE(lose(0));
    witness().dead = true;
    array_.loop().run_for(seconds(20));
    array_.platters[1]->fails_writes = true;
    Buffer data = random_bytes(array_.loop().rng(), array_.geometry().stripe_data_size());
    std::memcpy(array_.model.data(), data.data(),
                data.size());  // what was begun, or what was there
    EXPECT_FALSE(array_.write(0, data));
    EXPECT_EQ(array_.state_of(1), MemberState::in_sync) << "it is needed";
    array_.platters[1]->fails_writes = false;
    ASSERT_TRUE(array_.write(0, data));
    array_.expect_content();
    witness().dead = false;
    array_.loop().run_for(seconds(20));
    array_.platters[1]->fails_writes = true;
    ASSERT_TRUE(array_.write(0, data));
    EXPECT_EQ(array_.state_of(1), MemberState::faulty) << "with the witness two are enough";
    array_.expect_content();
}

/// It fails just as it is needed: what needs the new configuration waits, and goes on by itself.
TEST_F(WitnessTest, ItFailsJustAsItIsNeeded) {
    array_.make();
    ASSERT_TRUE(lose(3));
    array_.loop().run_for(seconds(6));
    witness().fails_writes = true;  // nobody has noticed yet
    array_.platters[1]->dead = true;
    Asked asked;
    array_.ask(asked, IoKind::write, 0, Buffer(64u << 10));
    std::memset(array_.model.data(), 0, 64u << 10);
    array_.loop().run_for(seconds(4));
    EXPECT_FALSE(asked.done && asked.request.ok) << "nothing is in force that says who is lost";
    witness().fails_writes = false;
    array_.wait_for(asked);
    array_.loop().run_for(seconds(10));
    write_somewhere();
    EXPECT_EQ(array_.state_of(1), MemberState::faulty);
    array_.expect_content();
}

TEST_F(WitnessTest, NobodyWaitsForOneThatHangs) {
    array_.make();
    witness().answers_no_reads = true;
    witness().delay_nanos = 3'600'000'000'000;
    array_.loop().run_for(seconds(20));
    EXPECT_TRUE(array_.has_event("witness_failed"));
    const Nanos before = array_.loop().now();
    ASSERT_TRUE(lose(2));
    write_somewhere();
    EXPECT_LT(array_.loop().now().value - before.value, seconds(1).value);
    witness().answers_no_reads = false;
    witness().delay_nanos = 0;
    array_.kill();
    ASSERT_TRUE(array_.open({0, 1, 3, witness_at}));
    array_.expect_content();
}

TEST_F(WitnessTest, WhatItIsCannotBeChanged) {
    array_.make();
    const std::string name = array_.array->configuration().witness()->uuid.text();
    const auto& loop = [this](auto task) { return array_.loop().run_until_done(std::move(task)); };
    const auto failed = loop(array_.array->fail_member(name, Force::no));
    const auto removed = loop(array_.array->remove_member(name));
    const auto replaced = loop(
        array_.array->replace_member(name, array_.disk(array_.make_platter(), "new"), Force::no));
    for (const auto* refused : {&failed, &removed, &replaced}) {
        ASSERT_FALSE(*refused);
        EXPECT_NE(refused->error().text.find("is the witness"), std::string::npos)
            << refused->error().text;
    }
}

TEST_F(WitnessTest, ByForceTwoGoOnWithoutIt) {
    array_.make();
    write_somewhere();
    ASSERT_TRUE(array_.stop());
    ASSERT_TRUE(array_.open({1, 2}, Force::yes));
    EXPECT_EQ(array_.array->configuration().witness(), nullptr) << "it has no say any more";
    write_somewhere();
    ASSERT_TRUE(array_.stop());
    ASSERT_TRUE(array_.open({1, 2}));
    array_.expect_content();
    ASSERT_TRUE(array_.stop());
    const auto both = array_.open({0, 1, 2, 3, witness_at});
    ASSERT_TRUE(both) << both.error().text;
    array_.expect_content();
}

TEST_F(WitnessTest, AForceThatIsAboutParityKeepsIt) {
    array_.make();
    write_somewhere();
    array_.kill();
    ASSERT_TRUE(array_.open({0, 1, 2, 3}, Force::yes));
    EXPECT_NE(array_.array->configuration().witness(), nullptr);
}

/// With half of the members and the witness, at any of its steps: afterwards that half goes on, or the
/// other one, and never each of them.
TEST(WitnessStarts, OneThatDiesLeavesOneHistory) {
    std::uint32_t halves[2]{};
    bool died = true;
    for (std::uint64_t point = 0; died; point += 3) {
        SCOPED_TRACE(testing::Message() << "dies after step " << point);
        SimArray array(with_witness(point + 1));
        array.create();
        died = array.die_in_start(point, {0, 1, witness_at});
        const bool first = array.open({0, 1}).has_value();
        if (first) {
            EXPECT_TRUE(array.stop());
        }
        const bool second = array.open({2, 3, witness_at}).has_value();
        if (second) {
            EXPECT_TRUE(array.stop());
        }
        EXPECT_FALSE(first && second) << "two histories";
        halves[0] += first ? 1 : 0;
        halves[1] += second ? 1 : 0;
        if (HasFailure()) return;
    }
    EXPECT_GT(halves[0], 2u);
    EXPECT_GT(halves[1], 5u);
}

class WitnessSeeds : public testing::TestWithParam<std::uint64_t> {};

/// Starts with any members, with and without the witness, that end in any way, at any moment. Whatever
/// starts has what was flushed last.
TEST_P(WitnessSeeds, WhateverStartsHasWhatWasFlushed) {
    SimArray array(with_witness(GetParam()));
    array.create();
    Rng& rng = array.loop().rng();
    std::uint32_t served = 0;
    for (int round = 0; round != 40; ++round) {
        std::vector<std::size_t> here;
        for (std::size_t i = 0; i != 5; ++i) {
            if (rng.below(4) != 0) here.push_back(i);
        }
        if (here.empty() || (here.size() == 1 && here[0] == witness_at)) continue;
        if (!array.open(here)) continue;
        ++served;
        array.expect_content();
        ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
        for (std::uint64_t writes = rng.below(4); writes != 0; --writes) {
            Buffer data = random_bytes(rng, 4096 * (1 + rng.below(16)));
            ASSERT_TRUE(array.write(rng.below((array.size() - data.size()) / 4096) * 4096, data));
        }
        ASSERT_TRUE(array.flush());
        if (rng.below(3) == 0) {
            const auto lost = array.loop().run_until_done(
                array.array->fail_member(std::to_string(rng.below(4)), Force::no));
            EXPECT_TRUE(array.flush()) << (lost ? "lost" : "refused");
        }
        // Nothing is marked any more: with two lost the next start would list what is.
        array.loop().run_for(millis(8000 + rng.below(8000)));
        const std::uint64_t end = rng.below(4);
        if (end == 0) {
            ASSERT_TRUE(array.stop());
        } else if (end == 1) {
            array.kill();
        } else if (end == 2) {
            array.crash();
        } else {  // in the middle of what another loss needs
            Asked asked;
            const std::uint64_t victim = rng.below(4);
            array.platters[victim]->dead = true;
            array.ask(asked, IoKind::read, 0, Buffer(array.size() / 2));
            for (std::uint64_t steps = rng.below(400); steps != 0; --steps) {
                if (!array.loop().step()) break;
            }
            array.crash();
            array.platters[victim]->dead = false;
        }
    }
    EXPECT_GT(served, 5u);
}
INSTANTIATE_TEST_SUITE_P(Seeds, WitnessSeeds,
                         testing::Range(std::uint64_t{1}, test::seeds_of(40, 2000) + 1));

}  // namespace
}  // namespace braid::sim
