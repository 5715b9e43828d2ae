// SPDX-License-Identifier: BSD-3-Clause
// RowBook, command by command: locks in the order in which they were asked for, what is staged,
// decided, dropped and applied, repeats, a member that is lost, a node that is gone; and a long
// random life of three nodes, after each step of which everything must hold together.
#include "cluster/homes/row_book.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/rng.h"

namespace braid::cluster {
namespace {

constexpr NodeBoot one{1, 11};
constexpr NodeBoot two{2, 22};
constexpr WindowRows row0{WindowIndex{3}, 1};
constexpr WindowRows row1{WindowIndex{3}, 2};
constexpr WindowRows both{WindowIndex{3}, 3};
constexpr MemberIndex member{4};

Stage stage_of(CommandId write, WindowRows at) {
    Stage stage;
    stage.write = write;
    stage.member = member;
    stage.at = at;
    stage.participants = 1U << raw(member);
    return stage;
}

class Book : public ::testing::Test {
  protected:
    void TearDown() override { EXPECT_TRUE(book.holds_together()); }
    EntryNumber staged(CommandId write, WindowRows at) {
        EXPECT_EQ(book.stage(stage_of(write, at)), StageAnswer::staged);
        return EntryNumber{++entries};
    }
    Effects decide(CommandId write) {
        Effects effects;
        book.decide(write, effects);
        return effects;
    }
    Effects applied(EntryNumber entry) {
        Effects effects;
        book.applied(entry, effects);
        return effects;
    }
    RowBook book;
    std::uint64_t entries{0};
};

// ---- locks -------------------------------------------------------------------------------------

TEST_F(Book, LocksComeInTheOrderInWhichTheyWereAskedFor) {
    Effects effects;
    EXPECT_TRUE(book.lock({one, 1}, row0, LockMode::exclusive));
    EXPECT_FALSE(book.lock({two, 1}, both, LockMode::exclusive));
    EXPECT_FALSE(book.lock({one, 2}, row1, LockMode::exclusive)) << "behind one that waits";
    EXPECT_TRUE(book.lock({one, 3}, {WindowIndex{9}, 1}, LockMode::exclusive)) << "another window";
    book.unlock({one, 1}, effects);
    EXPECT_EQ(effects.granted, (std::vector<CommandId>{{two, 1}}));
    effects = {};
    book.unlock({two, 1}, effects);
    EXPECT_EQ(effects.granted, (std::vector<CommandId>{{one, 2}}));
}

TEST_F(Book, SharedLocksGoTogetherAndNotPastAnExclusiveOne) {
    Effects effects;
    EXPECT_TRUE(book.lock({one, 1}, row0, LockMode::shared));
    EXPECT_TRUE(book.lock({two, 1}, row0, LockMode::shared));
    EXPECT_FALSE(book.lock({one, 2}, row0, LockMode::exclusive));
    EXPECT_FALSE(book.lock({two, 2}, row0, LockMode::shared)) << "past the one that waits";
    book.unlock({one, 1}, effects);
    EXPECT_TRUE(effects.granted.empty());
    book.unlock({two, 1}, effects);
    EXPECT_EQ(effects.granted, (std::vector<CommandId>{{one, 2}}));
}

TEST_F(Book, RepeatsAndStrangersOfLocksChangeNothing) {
    Effects effects;
    EXPECT_TRUE(book.lock({one, 1}, row0, LockMode::exclusive));
    EXPECT_TRUE(book.lock({one, 1}, row0, LockMode::exclusive));
    EXPECT_FALSE(book.lock({two, 1}, row0, LockMode::exclusive));
    EXPECT_FALSE(book.lock({two, 1}, row0, LockMode::exclusive));
    book.unlock({two, 9}, effects);
    book.unlock({two, 1}, effects);  // waits no more
    book.unlock({one, 1}, effects);
    book.unlock({one, 1}, effects);
    EXPECT_TRUE(effects.granted.empty());
    EXPECT_TRUE(book.empty());
}

// ---- writes ------------------------------------------------------------------------------------

TEST_F(Book, NothingIsAppliedBeforeItIsDecidedNorOutOfOrder) {
    const EntryNumber first = staged({one, 1}, row0);
    const EntryNumber second = staged({two, 1}, both);
    EXPECT_TRUE(decide({two, 1}).apply.empty()) << "an earlier entry has a row of it";
    EXPECT_EQ(decide({one, 1}).apply, std::vector{first});
    EXPECT_EQ(applied(first).apply, std::vector{second});
    EXPECT_TRUE(applied(second).apply.empty());
}

TEST_F(Book, WhatIsDroppedLetsTheNextOneGo) {
    staged({one, 1}, row0);
    const EntryNumber second = staged({two, 1}, row0);
    EXPECT_TRUE(decide({two, 1}).apply.empty());
    Effects effects;
    book.drop({one, 1}, effects);
    EXPECT_EQ(effects.apply, std::vector{second});
    EXPECT_TRUE(decide({one, 1}).apply.empty()) << "it was dropped";
    effects = {};
    book.drop({two, 1}, effects);
    EXPECT_TRUE(effects.apply.empty());
    EXPECT_TRUE(book.known_of(two).front().decided) << "it was decided";
}

TEST_F(Book, AClaimGoesWithTheDecisionOfItsWriteAlone) {
    ASSERT_TRUE(book.lock({one, 1}, row0, LockMode::exclusive));
    ASSERT_FALSE(book.lock({two, 1}, row0, LockMode::exclusive));
    Stage stage = stage_of({two, 5}, row0);
    stage.unlocks = CommandId{one, 1};
    EXPECT_EQ(book.stage(stage), StageAnswer::invalid) << "another's";
    stage.write = {one, 5};
    EXPECT_EQ(book.stage(stage), StageAnswer::staged);
    EXPECT_TRUE(book.holds({one, 1}));
    EXPECT_EQ(decide({one, 5}).granted, (std::vector<CommandId>{{two, 1}}));
}

TEST_F(Book, AReadWaitsForTheDecisionAndThenComesFromMemory) {
    const EntryNumber entry = staged({one, 1}, row0);
    EXPECT_FALSE(book.read(member, both, book.next_entry(), WaiterNumber{7}));
    EXPECT_TRUE(book.read(member, row1, book.next_entry(), WaiterNumber{8})) << "nothing is there";
    EXPECT_TRUE(book.read(MemberIndex{5}, row0, book.next_entry(), WaiterNumber{8}))
        << "another member";
    EXPECT_EQ(decide({one, 1}).readable, std::vector{WaiterNumber{7}});
    const auto memory = book.read(member, both, book.next_entry(), WaiterNumber{9});
    ASSERT_TRUE(memory);
    ASSERT_EQ(memory->size(), 1U);
    EXPECT_EQ(memory->front().entry, entry);
    EXPECT_EQ(memory->front().rows, 1U);
    applied(entry);
    EXPECT_TRUE(book.read(member, both, book.next_entry(), WaiterNumber{9})->empty())
        << "it is on the disk";
}

TEST_F(Book, TheNewestThatIsDecidedIsRead) {
    staged({one, 1}, both);
    const EntryNumber newer = staged({two, 1}, row0);
    decide({one, 1});
    decide({two, 1});
    const auto memory = book.read(member, both, book.next_entry(), WaiterNumber{1});
    ASSERT_TRUE(memory);
    ASSERT_EQ(memory->size(), 2U);
    EXPECT_EQ(memory->front().entry, newer);
    EXPECT_EQ(memory->front().rows, 1U);
    EXPECT_EQ(memory->back().rows, 2U);
}

TEST_F(Book, AReadDoesNotWaitForWhatIsStagedAfterItCame) {
    staged({one, 1}, row0);
    const EntryNumber came = book.next_entry();
    EXPECT_FALSE(book.read(member, both, came, WaiterNumber{7}));
    staged({two, 1}, row1);
    const EntryNumber third = staged({two, 2}, row1);
    EXPECT_EQ(decide({one, 1}).readable, std::vector{WaiterNumber{7}}) << "row 1 is undecided";
    auto memory = book.read(member, both, came, WaiterNumber{7});
    ASSERT_TRUE(memory);
    ASSERT_EQ(memory->size(), 1U) << "what is undecided it does not see";
    EXPECT_EQ(memory->front().rows, row0.rows);
    EXPECT_FALSE(book.read(member, both, book.next_entry(), WaiterNumber{8})) << "a later one";
    decide({two, 2});
    memory = book.read(member, row1, came, WaiterNumber{7});
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->front().entry, third) << "what is decided it does";
}

TEST_F(Book, AFlushWaitsForItsMemberOnly) {
    const EntryNumber entry = staged({one, 1}, row0);
    EXPECT_TRUE(book.flush(MemberIndex{5}, WaiterNumber{1}));
    EXPECT_FALSE(book.flush(member, WaiterNumber{2}));
    EXPECT_FALSE(book.flush({}, WaiterNumber{3}));
    EXPECT_TRUE(decide({one, 1}).flushable.empty());
    EXPECT_EQ(applied(entry).flushable, (std::vector{WaiterNumber{2}, WaiterNumber{3}}));
}

TEST_F(Book, AFlushWaitsForWhatWasStagedBeforeItOnly) {
    EXPECT_TRUE(book.flush({}, WaiterNumber{1}));
    const EntryNumber entry = staged({one, 1}, row0);
    EXPECT_FALSE(book.flush({}, WaiterNumber{2}));
    staged({two, 1}, row1);
    EXPECT_TRUE(decide({one, 1}).flushable.empty());
    EXPECT_EQ(applied(entry).flushable, std::vector{WaiterNumber{2}});
    EXPECT_FALSE(book.flush({}, WaiterNumber{3}));
    book.cancel(WaiterNumber{3});
    Effects effects;
    book.drop({two, 1}, effects);
    EXPECT_TRUE(effects.flushable.empty());
}

TEST_F(Book, WhatFailsToBeAppliedStaysAndIsTriedAgain) {
    const EntryNumber first = staged({one, 1}, row0);
    const EntryNumber second = staged({one, 2}, row0);
    decide({one, 1});
    decide({one, 2});
    book.apply_failed(first);
    EXPECT_EQ(book.failed(), std::vector{first});
    EXPECT_EQ(book.read(member, row0, book.next_entry(), WaiterNumber{1})->front().entry, second);
    book.finished(one, 2);
    EXPECT_EQ(book.failed(), std::vector{first}) << "nothing is forgotten that is not on the disk";
    EXPECT_EQ(applied(first).apply, std::vector{second});
    applied(second);
    EXPECT_TRUE(book.empty());
}

TEST_F(Book, RepeatsOfStagesChangeNothingAndFinishedOnesAreTooLate) {
    const EntryNumber entry = staged({one, 1}, row0);
    EXPECT_EQ(book.stage(stage_of({one, 1}, row0)), StageAnswer::staged);
    decide({one, 1});
    EXPECT_EQ(book.stage(stage_of({one, 1}, row0)), StageAnswer::staged);
    applied(entry);
    EXPECT_EQ(book.stage(stage_of({one, 1}, row0)), StageAnswer::staged);
    EXPECT_EQ(book.applied_upto(one), 1U);
    book.finished(one, 1);
    EXPECT_EQ(book.stage(stage_of({one, 1}, row0)), StageAnswer::finished);
    EXPECT_EQ(book.stage(stage_of({two, 1}, row0)), StageAnswer::staged) << "another node's";
    EXPECT_EQ(book.stage(stage_of({one, 2}, {WindowIndex{3}, 0})), StageAnswer::invalid);
}

TEST_F(Book, ANodeHasSoManyEntriesAndNoMore) {
    for (std::uint64_t i = 1; i <= book_entries_max; ++i) {
        ASSERT_EQ(book.stage(stage_of({one, i}, {WindowIndex{i}, 1})), StageAnswer::staged);
    }
    EXPECT_EQ(book.stage(stage_of({one, 9999}, row0)), StageAnswer::full);
    EXPECT_EQ(book.stage(stage_of({two, 1}, row0)), StageAnswer::staged);
    Effects effects;
    book.drop({one, 1}, effects);
    book.finished(one, 1);
    EXPECT_EQ(book.stage(stage_of({one, 9999}, row0)), StageAnswer::staged);
}

TEST_F(Book, AppliedUptoStopsBeforeWhatIsOpen) {
    const EntryNumber first = staged({one, 1}, row0);
    staged({one, 2}, row1);
    const EntryNumber third = staged({one, 3}, {WindowIndex{5}, 1});
    decide({one, 1});
    decide({one, 3});
    applied(first);
    applied(third);
    EXPECT_EQ(book.applied_upto(one), 1U);
    EXPECT_EQ(book.applied_upto(two), 0U);
}

// ---- a member, or a node, is gone ----------------------------------------------------------------

TEST_F(Book, OfAMemberThatIsLostNothingIsAppliedAndNobodyWaits) {
    staged({one, 1}, row0);
    staged({one, 2}, row0);
    staged({two, 1}, row0);
    decide({one, 1});
    decide({one, 2});
    EXPECT_FALSE(book.flush(member, WaiterNumber{1}));
    Effects effects;
    book.member_lost(member, effects);
    EXPECT_TRUE(effects.apply.empty());
    EXPECT_TRUE(book.failed().empty());
    EXPECT_EQ(book.applied_upto(one), 2U) << "not even for what is on its way to that disk";
    EXPECT_TRUE(effects.flushable.empty()) << "one is undecided";
    EXPECT_TRUE(decide({two, 1}).apply.empty());
    EXPECT_EQ(book.applied_upto(two), 1U);
    EXPECT_EQ(book.known_of(two).size(), 1U) << "that it was staged is remembered";
}

TEST_F(Book, WhatIsKnownOfANodeThatIsGone) {
    Stage part = stage_of({one, 1}, row0);
    part.participants = 0b10001;
    part.member = MemberIndex{0};
    ASSERT_EQ(book.stage(part), StageAnswer::staged);
    part.member = member;
    ASSERT_EQ(book.stage(part), StageAnswer::staged);
    ASSERT_EQ(book.stage(stage_of({one, 2}, row1)), StageAnswer::staged);
    ASSERT_EQ(book.stage(stage_of({two, 2}, row1)), StageAnswer::staged);
    const std::vector<RowBook::Known> known = book.known_of(one);
    ASSERT_EQ(known.size(), 2U);
    EXPECT_EQ(known[0], (RowBook::Known{{one, 1}, 0b10001, 0b10001, false}));
    EXPECT_EQ(known[1].members, 1U << raw(member));
    const Effects happens = decide({one, 1});
    EXPECT_EQ(happens.apply.size(), 2U);
    Effects effects;
    book.forget(one, effects);
    EXPECT_EQ(book.known_of(one).size(), 1U) << "the one that is being applied";
    for (const EntryNumber entry : happens.apply) applied(entry);
    EXPECT_TRUE(book.known_of(one).empty());
    EXPECT_EQ(book.stage(stage_of({one, 3}, row0)), StageAnswer::finished);
    EXPECT_EQ(decide({two, 2}).apply.size(), 1U) << "what the node had staged before it is gone";
}

TEST_F(Book, ANodesClaimsAreBounded) {
    for (std::uint64_t i = 1; i <= book_claims_max; ++i) {
        ASSERT_TRUE(book.has_room_for({one, i}));
        (void)book.lock({one, i}, {WindowIndex{i % 3}, 1}, LockMode::exclusive);
    }
    EXPECT_FALSE(book.has_room_for({one, book_claims_max + 1}));
    EXPECT_TRUE(book.has_room_for({one, 5})) << "that is there";
    EXPECT_TRUE(book.has_room_for({two, 1}));
    EXPECT_TRUE(book.holds_together());
    Effects effects;
    book.unlock({one, 5}, effects);
    EXPECT_TRUE(book.has_room_for({one, book_claims_max + 1}));
    book.clear_locks();
    EXPECT_TRUE(book.empty());
    EXPECT_TRUE(book.holds_together());
}

TEST_F(Book, ABarrierEndsAllLocks) {
    ASSERT_TRUE(book.lock({one, 1}, row0, LockMode::exclusive));
    ASSERT_FALSE(book.lock({two, 1}, row0, LockMode::exclusive));
    staged({one, 1}, row0);
    book.clear_locks();
    EXPECT_FALSE(book.holds({one, 1}));
    EXPECT_TRUE(book.lock({two, 2}, row0, LockMode::exclusive));
}

// ---- a long life -------------------------------------------------------------------------------

/// What every command did, kept in the simplest way: lists, through which every question goes anew.
struct Ledger {
    struct Part {
        CommandId write;
        MemberIndex member;
        WindowRows at;
        std::optional<CommandId> unlocks;
        enum : std::uint8_t { staged, decided, dropped } state{staged};
        bool applied{false};
        bool is_open() const { return !applied && state != dropped; }
    };
    struct Claim {
        CommandId id;
        WindowRows at;
        LockMode mode{LockMode::exclusive};
    };
    struct Read {
        MemberIndex member{};
        WindowRows at;
        std::uint64_t before{0};
    };
    std::map<std::uint64_t, Part> parts;  // by entry
    std::vector<Claim> claims;            // in the order in which they came
    std::set<CommandId> held;
    std::map<WaiterNumber, Read> reads;             // that wait
    std::map<WaiterNumber, std::uint64_t> flushes;  // that wait for entries before this one

    static bool meet(const WindowRows& a, const WindowRows& b) {
        return a.window == b.window && (a.rows & b.rows) != 0;
    }
    std::set<CommandId> holders() const {
        std::set<CommandId> all;
        for (auto at = claims.begin(); at != claims.end(); ++at) {
            const bool waits = std::any_of(claims.begin(), at, [&](const Claim& before) {
                const bool share = before.mode == LockMode::shared && at->mode == LockMode::shared;
                return !share && meet(before.at, at->at);
            });
            if (!waits) all.insert(at->id);
        }
        return all;
    }
    void unlock(const CommandId& claim) {
        std::erase_if(claims, [&](const Claim& known) { return known.id == claim; });
    }
    void settle(const CommandId& write, bool happens) {
        for (auto& [number, part] : parts) {
            if (part.write != write || part.state != Part::staged) continue;
            part.state = happens ? Part::decided : Part::dropped;
            if (part.unlocks) unlock(*part.unlocks);
        }
    }
    /// Something undecided was there when it came.
    bool waits(const Read& read) const {
        return std::ranges::any_of(parts, [&](const auto& at) {
            const Part& part = at.second;
            return at.first < read.before && part.state == Part::staged &&
                   part.member == read.member && meet(part.at, read.at);
        });
    }
    /// The entry that each of its rows comes from; what is not there lies on the disk.
    std::map<std::uint32_t, std::uint64_t> sources(const Read& read) const {
        std::map<std::uint32_t, std::uint64_t> all;
        for (const auto& [number, part] : parts) {
            if (part.state != Part::decided || part.applied) continue;
            if (part.member != read.member || part.at.window != read.at.window) continue;
            for (std::uint32_t row = 0; row != 64; ++row) {
                if ((part.at.rows & read.at.rows) >> row & 1) all[row] = number;
            }
        }
        return all;
    }
    bool flush_waits(std::uint64_t upto) const {
        return std::ranges::any_of(
            parts, [&](const auto& at) { return at.first < upto && at.second.is_open(); });
    }
    /// Who need not wait any more.
    std::set<WaiterNumber> take_readable() {
        std::set<WaiterNumber> all;
        for (const auto& [who, read] : reads) {
            if (!waits(read)) all.insert(who);
        }
        for (const WaiterNumber who : all) reads.erase(who);
        return all;
    }
    std::set<WaiterNumber> take_flushable() {
        std::set<WaiterNumber> all;
        for (const auto& [who, upto] : flushes) {
            if (!flush_waits(upto)) all.insert(who);
        }
        for (const WaiterNumber who : all) flushes.erase(who);
        return all;
    }
};

template <class Id>
std::set<Id> set_of(const std::vector<Id>& list) {
    return {list.begin(), list.end()};
}

TEST(RowBookLife, EverythingHoldsTogetherAfterEachStep) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE(seed);
        Rng rng(seed);
        RowBook book;
        Ledger ledger;
        std::set<EntryNumber> applying;
        std::uint64_t entries = 0;
        std::uint64_t sequence = 0;
        std::vector<CommandId> claims;
        std::vector<CommandId> writes;
        const auto any_of = [&](const std::vector<CommandId>& ids) {
            return ids[rng.below(ids.size())];
        };
        const auto some_rows = [&] {
            return WindowRows{WindowIndex{rng.below(2)}, 1 + rng.below(7)};
        };
        for (int step = 0; step != 600; ++step) {
            const NodeBoot from = std::array{one, two, NodeBoot{3, 33}}[rng.below(3)];
            Effects effects;
            switch (rng.below(9)) {
                case 0: {
                    claims.push_back({from, ++sequence});
                    const LockMode mode = rng.chance(3) ? LockMode::shared : LockMode::exclusive;
                    const WindowRows at = some_rows();
                    ledger.claims.push_back({claims.back(), at, mode});
                    const bool holds = book.lock(claims.back(), at, mode);
                    ASSERT_EQ(holds, ledger.holders().contains(claims.back()));
                    if (holds) ledger.held.insert(claims.back());
                    break;
                }
                case 1: {
                    if (claims.empty()) break;
                    const CommandId claim = any_of(claims);
                    book.unlock(claim, effects);
                    ledger.unlock(claim);
                    break;
                }
                case 2:
                case 3: {
                    Stage stage = stage_of({from, ++sequence}, some_rows());
                    stage.member = MemberIndex{static_cast<std::uint32_t>(rng.below(2))};
                    writes.push_back(stage.write);
                    if (!claims.empty() && rng.chance(3)) stage.unlocks = any_of(claims);
                    if (stage.unlocks && stage.unlocks->from != from) stage.unlocks.reset();
                    ASSERT_EQ(book.stage(stage), StageAnswer::staged);
                    ledger.parts[++entries] = {stage.write, stage.member, stage.at, stage.unlocks};
                    break;
                }
                case 4:
                case 5: {
                    if (writes.empty()) break;
                    const CommandId write = any_of(writes);
                    const bool happens = !rng.chance(4);
                    happens ? book.decide(write, effects) : book.drop(write, effects);
                    ledger.settle(write, happens);
                    break;
                }
                case 6:
                    if (applying.empty()) break;
                    if (rng.chance(4)) {
                        book.apply_failed(*applying.begin());
                    } else {
                        const EntryNumber entry = *applying.begin();
                        applying.erase(entry);
                        ledger.parts[static_cast<std::uint64_t>(entry)].applied = true;
                        book.applied(entry, effects);
                    }
                    break;
                case 7: {
                    const WaiterNumber reader{++sequence};
                    // It may have come some time ago, and was told to ask again.
                    const Ledger::Read wanted{MemberIndex{0}, some_rows(),
                                              entries + 1 - rng.below(std::min(entries, 6UL) + 1)};
                    const auto read =
                        book.read(wanted.member, wanted.at, EntryNumber{wanted.before}, reader);
                    ASSERT_EQ(!read, ledger.waits(wanted));
                    if (!read) ledger.reads[reader] = wanted;
                    std::map<std::uint32_t, std::uint64_t> sources;
                    for (const RowBook::Source& source :
                         read.value_or(std::vector<RowBook::Source>())) {
                        for (std::uint32_t row = 0; row != 64; ++row) {
                            if ((source.rows >> row & 1) == 0) continue;
                            ASSERT_TRUE(
                                sources.emplace(row, static_cast<std::uint64_t>(source.entry))
                                    .second);
                        }
                    }
                    if (read) {
                        ASSERT_EQ(sources, ledger.sources(wanted));
                    }
                    const WaiterNumber flusher{++sequence};
                    const bool flushed = book.flush({}, flusher);
                    ASSERT_EQ(!flushed, ledger.flush_waits(entries + 1));
                    if (!flushed) ledger.flushes[flusher] = entries + 1;
                    break;
                }
                case 8:
                    book.finished(from, book.applied_upto(from));
                    break;
                default:
                    break;
            }
            for (const EntryNumber entry : effects.apply) {
                const auto& part = ledger.parts[static_cast<std::uint64_t>(entry)];
                ASSERT_EQ(part.state, Ledger::Part::decided);
                for (const auto& [number, before] : ledger.parts) {
                    if (number >= static_cast<std::uint64_t>(entry)) break;
                    const bool meets = before.member == part.member &&
                                       before.at.window == part.at.window &&
                                       (before.at.rows & part.at.rows) != 0;
                    if (!meets) continue;
                    ASSERT_TRUE(before.applied || before.state == Ledger::Part::dropped);
                }
                ASSERT_TRUE(applying.insert(entry).second) << "twice";
            }
            // Who has rows now that he had not, and who need not wait any more, is told, and nobody else.
            std::set<CommandId> granted = ledger.holders();
            std::swap(granted, ledger.held);
            std::set<CommandId> fresh;
            for (const CommandId& claim : ledger.held) {
                ASSERT_TRUE(book.holds(claim));
                if (!granted.contains(claim)) fresh.insert(claim);
            }
            for (const CommandId& claim : claims) {
                ASSERT_EQ(book.holds(claim), ledger.held.contains(claim));
            }
            ASSERT_EQ(set_of(effects.granted), fresh);
            ASSERT_EQ(set_of(effects.readable), ledger.take_readable());
            ASSERT_EQ(set_of(effects.flushable), ledger.take_flushable());
            ASSERT_TRUE(book.holds_together());
        }
        // Everything comes to its end.
        Effects effects;
        for (const CommandId& write : writes) book.drop(write, effects);
        for (const CommandId& claim : claims) book.unlock(claim, effects);
        applying.insert(effects.apply.begin(), effects.apply.end());
        while (!applying.empty()) {
            const EntryNumber entry = *applying.begin();
            applying.erase(entry);
            Effects more;
            book.applied(entry, more);
            applying.insert(more.apply.begin(), more.apply.end());
        }
        for (const NodeBoot from : {one, two, NodeBoot{3, 33}}) {
            book.finished(from, sequence);
            EXPECT_TRUE(book.known_of(from).empty());
        }
        EXPECT_TRUE(book.holds_together());
        EXPECT_TRUE(book.empty());
    }
}

}  // namespace
}  // namespace braid::cluster
