// SPDX-License-Identifier: BSD-3-Clause
// What an order looks at before it gives up a disk, or wipes one: identity, content at both ends,
// whether the disk takes writes. Whatever is refused leaves everything as it was.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <optional>

#include "engine/metadata/member_metadata.h"
#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

using Platter = std::shared_ptr<SimPlatter>;

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

void fill(SimArray& sim) {
    Buffer data = random_bytes(sim.loop().rng(), sim.size());
    ASSERT_TRUE(sim.write(0, data));
}
Checked<Unit> add(SimArray& sim, const Platter& platter, const std::string& path,
                  Force force = Force::no) {
    return sim.loop().run_until_done(sim.array->add_member(sim.disk(platter, path), force));
}
Checked<Unit> replace(SimArray& sim, const std::string& name, const Platter& platter,
                      const std::string& path, Force force = Force::no) {
    return sim.loop().run_until_done(
        sim.array->replace_member(name, sim.disk(platter, path), force));
}
Checked<Unit> fail(SimArray& sim, const std::string& name) {
    return sim.loop().run_until_done(sim.array->fail_member(name, Force::no));
}
template <class T>
Task<void> keep(Task<T> task, std::optional<T>* result) {
    result->emplace(co_await task);
}
std::string text_of(const Checked<Unit>& result) { return result ? "done" : result.error().text; }
MemberStatus member(const SimArray& sim, std::uint32_t role) {
    for (const MemberStatus& one : sim.array->status().members) {
        if (one.record.role == MemberIndex{role}) return one;
    }
    return {};
}

struct BadDisk {
    const char* says;
    std::function<void(SimPlatter&)> spoil;
};
std::vector<BadDisk> bad_disks() {
    const auto put = [](SimPlatter& platter, std::uint64_t at, std::string_view bytes) {
        std::memcpy(platter.content.data() + at, bytes.data(), bytes.size());
    };
    return {
        {"holds data of something else", [put](auto& p) { put(p, 1024 + 56, "\x53\xef"); }},
        {"holds a backup GPT", [put](auto& p) { put(p, p.content.size() - 512, "EFI PART"); }},
        {"holds an md superblock of version 1.0",
         [put](auto& p) {
             put(p, round_down(p.content.size() / 512 - 16, 8) * 512, "\xfc\x4e\x2b\xa9");
         }},
        {"cannot be read: Input/output error", [](auto& p) { p.dead = true; }},
        {"cannot be read: Input/output error", [](auto& p) { p.bad_rows.insert(1); }},
        {"cannot be written: Operation not permitted", [](auto& p) { p.refuses_writes = true; }},
        {"cannot be written: Input/output error", [](auto& p) { p.fails_writes = true; }},
        {"cannot be written: Input/output error", [](auto& p) { p.fails_flushes = true; }},
        {"has sectors of 8192 bytes", [](auto& p) { p.sector_size = 8192; }},
        {"a member of this array needs at least",
         [](auto& p) { p.content = Buffer(p.content.size() - row_size); }},
    };
}

TEST(Orders, AReplaceThatIsRefusedLeavesTheOldMemberInSync) {
    for (const BadDisk& bad : bad_disks()) {
        SCOPED_TRACE(bad.says);
        SimArray sim({.seed = 3});
        sim.create();
        ASSERT_TRUE(sim.open());
        fill(sim);
        const auto platter = sim.make_platter();
        bad.spoil(*platter);
        const Buffer before = platter->content;
        const auto refused = replace(sim, "1", platter, "new");
        EXPECT_SAYS(text_of(refused), bad.says);
        EXPECT_SAYS(text_of(refused), "new");
        EXPECT_TRUE(platter->content == before) << "refused, but written to";
        EXPECT_EQ(sim.state_of(1), MemberState::in_sync);
        EXPECT_EQ(sim.array->status().health, Health::clean);
        sim.expect_content();
        sim.expect_parity();
    }
}

TEST(Orders, AnAddThatIsRefusedTakesNothing) {
    for (const BadDisk& bad : bad_disks()) {
        SCOPED_TRACE(bad.says);
        SimArray sim({.seed = 4});
        sim.create();
        ASSERT_TRUE(sim.open());
        const auto platter = sim.make_platter();
        bad.spoil(*platter);
        const Buffer before = platter->content;
        EXPECT_SAYS(text_of(add(sim, platter, "new")), bad.says);
        EXPECT_TRUE(platter->content == before) << "refused, but written to";
        EXPECT_EQ(sim.array->status().members.size(), 4U);
    }
}

TEST(Orders, WhatIsForcedIsWipedAtBothEnds) {
    SimArray sim({.seed = 5});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    const auto platter = sim.make_platter();
    std::memset(platter->content.data(), 0x5a, platter->content.size());
    ASSERT_FALSE(add(sim, platter, "new"));
    const auto added = add(sim, platter, "new", Force::yes);
    ASSERT_TRUE(added) << added.error().text;
    const auto& bytes = platter->content;
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{512}, std::uint64_t{3} << 20}) {
        EXPECT_EQ(bytes.data()[at], std::byte{0}) << at;
    }
    // The end is the data area's, which nobody has written yet: it is a spare.
    EXPECT_EQ(bytes.data()[bytes.size() - 512], std::byte{0});
    const auto replaced = replace(sim, "2", sim.make_platter(), "newer");
    ASSERT_TRUE(replaced) << replaced.error().text;
}

TEST(Orders, ASecondNameOfAMemberIsRefused) {
    for (const bool known : {true, false}) {
        SCOPED_TRACE(known ? "told by the kernel" : "told by what lies on it");
        SimArray sim({.seed = 6, .spares = 1});
        sim.create();
        for (auto& platter : sim.platters) platter->is_known = known;
        ASSERT_TRUE(sim.open());
        fill(sim);
        for (const Force force : {Force::no, Force::yes}) {
            const auto added = add(sim, sim.platters[1], "/dev/other", force);
            EXPECT_SAYS(text_of(added),
                        "/dev/other is a member of this array already: member 1 (m1)");
            const auto spare = add(sim, sim.platters[4], "/dev/other", force);
            EXPECT_SAYS(text_of(spare), "is a member of this array already: a spare (m4)");
            const auto replaced = replace(sim, "2", sim.platters[1], "/dev/other", force);
            EXPECT_SAYS(text_of(replaced), "is a member of this array already: member 1 (m1)");
            const auto itself = replace(sim, "1", sim.platters[1], "/dev/other", force);
            EXPECT_SAYS(text_of(itself), "is a member of this array already");
        }
        EXPECT_EQ(sim.array->status().health, Health::clean);
        EXPECT_EQ(sim.array->status().members.size(), 5U);
        sim.expect_content();
        sim.expect_parity();
        ASSERT_TRUE(sim.stop());
        ASSERT_TRUE(sim.open());
        sim.expect_content();
    }
}

TEST(Orders, ACopyOfAMemberIsOtherDataAndNotTheMember) {
    SimArray sim({.seed = 7});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    const auto copy = std::make_shared<SimPlatter>(Buffer(sim.platters[1]->content));
    EXPECT_SAYS(text_of(add(sim, copy, "copy")),
                "copy: holds a copy of member 1 (m1), which is in use, which would be lost");
    EXPECT_SAYS(text_of(replace(sim, "2", copy, "copy")), "holds a copy of member 1");
    EXPECT_EQ(sim.state_of(2), MemberState::in_sync);
    const auto forced = replace(sim, "2", copy, "copy", Force::yes);
    ASSERT_TRUE(forced) << forced.error().text;
    sim.platters[2] = copy;
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().health, Health::clean);
    sim.expect_content();
    sim.expect_parity();
}

TEST(Orders, ADiskAppearsUnderTheNameOfTheOneThatWasPulled) {
    SimArray sim({.seed = 8});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    ASSERT_TRUE(fail(sim, "1"));
    sim.loop().run_for(millis(100));
    EXPECT_FALSE(member(sim, 1).open) << "its name is not free";
    sim.platters[1] = sim.make_platter();
    const auto replaced = replace(sim, "1", sim.platters[1], "m1");
    ASSERT_TRUE(replaced) << replaced.error().text;
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().health, Health::clean);
    sim.expect_content();
    sim.expect_parity();
}

TEST(Orders, ADiskThatDiedByItselfIsLetGo) {
    SimArray sim({.seed = 9});
    sim.create();
    ASSERT_TRUE(sim.open());
    sim.platters[2]->dead = true;
    fill(sim);
    sim.loop().run_for(millis(500));
    EXPECT_EQ(sim.state_of(2), MemberState::faulty);
    EXPECT_FALSE(member(sim, 2).open);
    EXPECT_SAYS(member(sim, 2).notice, "Input/output error");
    sim.platters[2] = sim.make_platter();
    ASSERT_TRUE(replace(sim, "2", sim.platters[2], "m2"));
    EXPECT_EQ(member(sim, 2).notice, "");
    sim.come_to_rest();
    sim.expect_content();
}

TEST(Orders, AMemberThatWasFailedComesBackToItsRole) {
    SimArray sim({.seed = 10, .level = Level::raid6, .members = 5});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    ASSERT_TRUE(fail(sim, "0"));
    ASSERT_TRUE(fail(sim, "3"));
    sim.loop().run_for(millis(100));
    EXPECT_EQ(member(sim, 3).notice, "an operator said so");
    const auto back = add(sim, sim.platters[3], "m3");
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(sim.state_of(3), MemberState::rebuilding);
    EXPECT_EQ(sim.state_of(0), MemberState::faulty);
    ASSERT_TRUE(add(sim, sim.platters[0], "m0"));
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().health, Health::clean);
    sim.expect_content();
    sim.expect_parity();
}

TEST(Orders, AnOldPathDoesNotShadowADiskThatIsThere) {
    SimArray sim({.seed = 11, .level = Level::raid6, .members = 5});
    sim.create();
    ASSERT_TRUE(sim.open());
    ASSERT_TRUE(sim.stop());
    // m0 dies, and the names of the others go down by one.
    auto& platters = sim.platters;
    const auto dead = platters[0];
    platters = {platters[1], platters[2], platters[3], platters[4]};
    ASSERT_TRUE(sim.open());
    EXPECT_EQ(member(sim, 0).record.path, "m0");
    EXPECT_EQ(member(sim, 0).notice, "it was not there at the start");
    EXPECT_EQ(member(sim, 1).record.path, "m0");
    const auto failed = fail(sim, "m0");
    ASSERT_TRUE(failed) << failed.error().text;
    EXPECT_EQ(sim.state_of(1), MemberState::faulty);
    EXPECT_EQ(sim.state_of(0), MemberState::missing);
    // Both are lost now, and nobody knows which is meant.
    const auto which = replace(sim, "m0", sim.make_platter(), "new");
    EXPECT_SAYS(text_of(which), "\"m0\" may be any of 2 members");
    EXPECT_SAYS(text_of(which), "0 (m0), missing");
    EXPECT_SAYS(text_of(which), "1 (m0), faulty");
}

TEST(Orders, AMemberThatIsNeededIsRefusedBeforeTheNewOneIsTouched) {
    SimArray sim({.seed = 12});
    sim.create();
    ASSERT_TRUE(sim.open());
    fill(sim);
    ASSERT_TRUE(fail(sim, "0"));
    const auto platter = sim.make_platter();
    std::memset(platter->content.data(), 0x5a, platter->content.size());
    const Buffer before = platter->content;
    EXPECT_SAYS(text_of(replace(sim, "1", platter, "new", Force::yes)), "is needed");
    EXPECT_TRUE(platter->content == before);
    EXPECT_EQ(sim.state_of(1), MemberState::in_sync);
    sim.expect_content();
}

TEST(Orders, ThereMayBeSixteenSparesAndNoMore) {
    SimArray sim({.seed = 13, .stripes = 4, .spares = spares_max});
    sim.create();
    ASSERT_TRUE(sim.open());
    EXPECT_SAYS(text_of(add(sim, sim.make_platter(), "new")), "there are 16 spares already");
    // It takes a role, not a spare's place.
    const auto replaced = replace(sim, "1", sim.platters[1] = sim.make_platter(), "newer");
    ASSERT_TRUE(replaced) << replaced.error().text;
    sim.come_to_rest();
    EXPECT_EQ(sim.array->status().health, Health::clean);
    ASSERT_TRUE(sim.stop());
    // One of them is not here, and still has its record.
    std::vector<std::size_t> here;
    for (std::size_t i = 0; i + 1 != sim.platters.size(); ++i) here.push_back(i);
    ASSERT_TRUE(sim.open(here));
    EXPECT_SAYS(text_of(add(sim, sim.make_platter(), "new")), "1 of them are not here");
    const MemberStatus missing = sim.array->status().members.back();
    EXPECT_EQ(missing.notice, "it was not there at the start");
    ASSERT_TRUE(sim.loop().run_until_done(sim.array->remove_member(missing.record.uuid.text())));
    const auto added = add(sim, sim.make_platter(), "new");
    EXPECT_TRUE(added) << added.error().text;
}

TEST(Orders, AReadOnlyMemberIsNotTakenForABrokenOne) {
    SimArray sim({.seed = 14});
    sim.create();
    sim.platters[2]->read_only = true;
    const auto before = sim.platters[0]->content;
    const auto refused = sim.open();
    ASSERT_FALSE(refused);
    EXPECT_SAYS(refused.error().text, "m2: is read-only");
    EXPECT_SAYS(refused.error().text, "readonly=true");
    EXPECT_TRUE(sim.platters[0]->content == before) << "the others were told already";
    ASSERT_TRUE(sim.open_readonly());
    sim.expect_content();
    ASSERT_TRUE(sim.stop());
    sim.platters[2]->read_only = false;
    ASSERT_TRUE(sim.open());
    EXPECT_EQ(sim.array->status().health, Health::clean);
}

TEST(Orders, ARefusalSaysWhatKindOfObstacleThereIs) {
    SimArray sim({.seed = 15, .spares = 1});
    sim.create();
    for (auto& platter : sim.platters) platter->is_known = true;
    ASSERT_TRUE(sim.open());
    const auto code_of = [&](Task<Checked<Unit>> task) {
        const auto result = sim.loop().run_until_done(std::move(task));
        EXPECT_FALSE(result);
        return result ? RefusalCode::io : result.error().code;
    };
    EXPECT_EQ(code_of(sim.array->fail_member("9", Force::no)), RefusalCode::not_found);
    EXPECT_EQ(code_of(sim.array->remove_member("/dev/nobody")), RefusalCode::not_found);
    EXPECT_EQ(code_of(sim.array->remove_member("1")), RefusalCode::conflict);
    // A path that the array does not know leads to a disk that it has.
    const DiskIdentity disk = member(sim, 1).identity;
    ASSERT_TRUE(disk.known());
    const MemberName link("/dev/disk/by-id/one", disk);
    ASSERT_TRUE(sim.loop().run_until_done(sim.array->fail_member(link, Force::no)));
    sim.come_to_rest();
    EXPECT_NE(member(sim, 1).record.path, "m1") << "the spare took its place";
    std::optional<Checked<Unit>> first;
    sim.loop().tasks().spawn(keep(sim.array->fail_member("2", Force::no), &first));
    // Under way, which is not yet said by whose turn it is.
    while (member(sim, 2).record.state == MemberState::in_sync) ASSERT_TRUE(sim.loop().step());
    ASSERT_FALSE(first);
    std::optional<Checked<Unit>> second;
    sim.loop().tasks().spawn(keep(sim.array->remove_member("2"), &second));
    while (!first || !second) ASSERT_TRUE(sim.loop().step());
    EXPECT_TRUE(*first);
    ASSERT_FALSE(*second);
    EXPECT_EQ(second->error().code, RefusalCode::busy);
    ASSERT_TRUE(sim.loop().run_until_done(sim.array->stop()));
    EXPECT_EQ(code_of(sim.array->fail_member("2", Force::no)), RefusalCode::stopping);
    EXPECT_EQ(code_of(sim.array->start_scrub(ScrubMode::compare)), RefusalCode::stopping);
}

// ---- a scrub is ordered ----

bool scrubs(const SimArray& sim) {
    const ArrayStatus status = sim.array->status();
    return !status.walks.empty() && status.walks.front().kind == WalkKind::scrubbing;
}

TEST(ScrubOrder, EndsWhenTheWalkRuns) {
    for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
        SCOPED_TRACE(seed);
        SimArray sim({.seed = seed, .stripes = 400});
        sim.create();
        ASSERT_TRUE(sim.open());
        std::optional<Checked<Unit>> result;
        sim.loop().tasks().spawn(keep(sim.array->start_scrub(ScrubMode::compare), &result));
        while (!result) {
            ASSERT_TRUE(sim.loop().step());
            EXPECT_TRUE(!scrubs(sim) || sim.has_event("scrub_started"));
        }
        ASSERT_TRUE(*result);
        EXPECT_TRUE(scrubs(sim));
        const auto again = sim.scrub(ScrubMode::repair);
        EXPECT_SAYS(text_of(again), "a scrub is running already");
        EXPECT_EQ(again.error().code, RefusalCode::busy);
        sim.come_to_rest();
        EXPECT_EQ(sim.array->status().last_scrub->mismatches, 0u);
        ASSERT_TRUE(sim.stop());
    }
}

/// Something comes in the way between the order and the walk.
struct Obstacle {
    const char* says;
    RefusalCode code;
    std::function<void(SimArray&)> put;
};

TEST(ScrubOrder, WhatComesInItsWayWithdrawsIt) {
    std::optional<Checked<Unit>> failed;
    std::optional<Result<void>> stopped;
    const std::vector<Obstacle> obstacles{
        {"1 of 4 members lost", RefusalCode::conflict,
         [&](SimArray& sim) {
             sim.loop().tasks().spawn(keep(sim.array->fail_member("1", Force::no), &failed));
         }},
        {"the scrub was stopped before it began", RefusalCode::conflict,
         [](SimArray& sim) { ASSERT_TRUE(sim.array->stop_scrub()); }},
        {"the array is being stopped", RefusalCode::stopping,
         [&](SimArray& sim) { sim.loop().tasks().spawn(keep(sim.array->stop(), &stopped)); }},
    };
    for (const Obstacle& obstacle : obstacles) {
        SCOPED_TRACE(obstacle.says);
        // Whose turn is first is drawn: some come too late, when the walk runs already.
        std::uint32_t in_its_way = 0;
        for (std::uint64_t seed = 1; seed != 21; ++seed) {
            SimArray sim({.seed = seed});
            sim.create();
            ASSERT_TRUE(sim.open());
            std::optional<Checked<Unit>> result;
            sim.loop().tasks().spawn(keep(sim.array->start_scrub(ScrubMode::repair), &result));
            while (!sim.array->configuration().scrub) ASSERT_TRUE(sim.loop().step());
            ASSERT_FALSE(result);
            failed.reset();
            stopped.reset();
            obstacle.put(sim);
            while (!result) ASSERT_TRUE(sim.loop().step());
            const bool withdrawn = !*result;
            if (withdrawn) {
                ++in_its_way;
                EXPECT_SAYS(text_of(*result), obstacle.says);
                EXPECT_EQ(result->error().code, obstacle.code);
                EXPECT_FALSE(sim.array->configuration().scrub) << "it begins by itself later";
            }
            if (obstacle.code == RefusalCode::stopping) {
                while (!stopped) ASSERT_TRUE(sim.loop().step());
                EXPECT_TRUE(*stopped);
                ASSERT_TRUE(sim.open());
                EXPECT_FALSE(withdrawn && sim.array->configuration().scrub);
            }
            if (!withdrawn) continue;
            sim.come_to_rest();
            EXPECT_FALSE(sim.has_event("scrub_done"));
        }
        EXPECT_GT(in_its_way, 2U);
    }
}

/// Told to stop between the order and the first step of the walk, it went on in the place of the next.
TEST(ScrubOrder, OneThatWasStoppedEndsNoOther) {
    for (std::uint64_t seed = 1; seed != 5; ++seed) {
        SimArray made({.seed = seed});
        made.create();
        for (std::uint32_t steps = 1; steps != 80; ++steps) {
            SCOPED_TRACE(testing::Message() << "seed " << seed << ", after step " << steps);
            SimArray sim({.seed = seed});
            sim.copy_from(made);
            ASSERT_TRUE(sim.open());
            std::optional<Checked<Unit>> first;
            sim.loop().tasks().spawn(keep(sim.array->start_scrub(ScrubMode::compare), &first));
            for (std::uint32_t i = 0; i != steps; ++i) ASSERT_TRUE(sim.loop().step());
            const bool stopped = sim.array->stop_scrub().has_value();
            std::optional<Checked<Unit>> second;
            do {
                sim.loop().run_for(millis(1));  // time passes only where nothing is ready
                second.reset();
                sim.loop().tasks().spawn(keep(sim.array->start_scrub(ScrubMode::repair), &second));
                while (!second) ASSERT_TRUE(sim.loop().step());
            } while (!*second && second->error().code == RefusalCode::busy);
            EXPECT_TRUE(*second) << second->error().text;
            while (!first) ASSERT_TRUE(sim.loop().step());
            sim.come_to_rest();
            if (!stopped) continue;
            ASSERT_TRUE(sim.array->status().last_scrub);
            EXPECT_TRUE(sim.array->status().last_scrub->repair) << "the second one's end";
            EXPECT_TRUE(sim.has_event("scrub_done"));
        }
    }
}

}  // namespace
}  // namespace braid::sim
