// SPDX-License-Identifier: BSD-3-Clause
// The register's functions one by one, and what they make of two starts that died and of a copy
// that was put back. Orders of steps are register_model_test's.
#include "engine/layout/register.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace braid {
namespace {

using RegisterPart = MemberAnswer::Part;

EpochRevision at(std::uint64_t number, std::uint64_t revision = 0) {
    return {number * epochs_per_number, revision};
}

MemberSet set_of(std::initializer_list<std::uint32_t> members) {
    MemberSet set;
    for (const std::uint32_t member : members) set.add(MemberIndex{member});
    return set;
}

TEST(RegisterEpochs, AreAboveAllThatWasSeenAndAboveTheClock) {
    EXPECT_EQ(next_epoch(0, 0, 0), 256u);
    EXPECT_EQ(next_epoch(256, 0, 0), 512u);
    EXPECT_EQ(next_epoch(256 + 255, 0, 3), 512u + 3);  // a higher node's of the same number
    EXPECT_EQ(next_epoch(256, 1000, 0), 1001u * 256);
    EXPECT_EQ(next_epoch(5000 * 256, 1000, 7), 5001u * 256 + 7);  // the clock went back
    for (std::uint64_t highest = 0; highest != 2000; ++highest) {
        for (const std::uint64_t seconds : {0u, 1u, 3u, 7u, 8u}) {
            for (const std::uint32_t node : {0u, 1u, nodes_max - 1}) {
                const std::uint64_t epoch = next_epoch(highest, seconds, node);
                EXPECT_GT(epoch, highest);
                EXPECT_GT(epoch / epochs_per_number, seconds);
                EXPECT_EQ(epoch % epochs_per_number, node);
            }
        }
    }
}

TEST(RegisterEpochs, OfTwoStartsAreNotTheSameAfterAPromiseWasPutBack) {
    const std::uint64_t first = next_epoch(256, 1000, 0);
    EXPECT_LT(first, next_epoch(256, 1001, 0));  // nothing that is left knows of the first
}

TEST(RegisterEpochs, NameThemselves) {
    EXPECT_EQ((EpochRevision{17, 0}).text(), "epoch 17");
    EXPECT_EQ((EpochRevision{17, 3}).text(), "epoch 17, revision 3");
    EXPECT_LT((EpochRevision{1, 9}), (EpochRevision{2, 0}));
    EXPECT_LT((EpochRevision{2, 0}), (EpochRevision{2, 1}));
}

TEST(RegisterMemberSet, IsASet) {
    MemberSet set = MemberSet::first(3);
    EXPECT_EQ(set.bits(), 7u);
    set.remove(MemberIndex{1});
    set.add(MemberIndex{63});
    EXPECT_EQ(set.size(), 3u);
    EXPECT_TRUE(set.has(MemberIndex{0}) && set.has(MemberIndex{2}) && set.has(MemberIndex{63}) &&
                !set.has(MemberIndex{1}));
    EXPECT_TRUE(set.has_all(set_of({0, 63})));
    EXPECT_FALSE(set.has_all(set_of({0, 1})));
    EXPECT_TRUE(MemberSet{}.empty());
    EXPECT_EQ(MemberSet::first(members_max).size(), members_max);
}

/// What is_enough has to say, in words of its own.
bool is_enough_by_count(const Quorum& quorum, std::uint64_t bits, bool witness) {
    const std::uint32_t count = static_cast<std::uint32_t>(std::popcount(bits));
    const std::uint32_t needed = quorum.members - quorum.parities;
    if (count < needed) return false;
    if (2 * needed > quorum.members || count > needed) return true;
    return quorum.witness ? witness : (bits & 1) != 0;
}

std::vector<Quorum> quorums() {
    std::vector<Quorum> all;
    for (std::uint32_t members = 2; members <= 8; ++members) {
        for (std::uint32_t parities = 1; 2 * parities <= members && parities <= 2; ++parities) {
            all.push_back({members, parities, false});
            all.push_back({members, parities, true});
        }
    }
    return all;
}

TEST(RegisterQuorum, IsNLessPAndTheTieBreakerWhereTwoNeedNotMeet) {
    for (const Quorum& quorum : quorums()) {
        for (std::uint64_t bits = 0; bits != std::uint64_t{1} << quorum.members; ++bits) {
            for (const bool witness : {false, true}) {
                EXPECT_EQ(quorum.is_enough(MemberSet{bits}, Witness{witness}),
                          is_enough_by_count(quorum, bits, witness))
                    << quorum.members << "-" << quorum.parities << " set " << bits;
            }
        }
    }
    const Quorum raid6_of_four{4, 2, false};
    EXPECT_TRUE(raid6_of_four.is_enough(set_of({0, 3})));
    EXPECT_FALSE(raid6_of_four.is_enough(set_of({1, 2})));
    EXPECT_FALSE(
        raid6_of_four.is_enough(set_of({1, 2}), Witness::promised));  // there is no witness
    EXPECT_TRUE(raid6_of_four.is_enough(set_of({1, 2, 3})));
    const Quorum with_witness{4, 2, true};
    EXPECT_TRUE(with_witness.is_enough(set_of({1, 2}), Witness::promised));
    EXPECT_FALSE(with_witness.is_enough(set_of({0, 1}), Witness::silent));
    EXPECT_TRUE(with_witness.is_enough(set_of({0, 1, 2}), Witness::silent));
}

/// Any two sets that are enough share a member, or the witness; and all members less any p, and
/// the tie-breaker with them, are enough.
TEST(RegisterQuorum, AnyTwoSetsThatAreEnoughShareOne) {
    for (const Quorum& quorum : quorums()) {
        const std::uint32_t registers = quorum.members + (quorum.witness ? 1 : 0);
        const std::uint64_t members = MemberSet::first(quorum.members).bits();
        std::vector<std::uint64_t> enough;
        for (std::uint64_t bits = 0; bits != std::uint64_t{1} << registers; ++bits) {
            const bool witness = quorum.witness && ((bits >> quorum.members) & 1) != 0;
            if (quorum.is_enough(MemberSet{bits & members}, Witness{witness}))
                enough.push_back(bits);
        }
        for (const std::uint64_t one : enough) {
            for (const std::uint64_t other : enough) {
                ASSERT_NE(one & other, 0u)
                    << quorum.members << "-" << quorum.parities << ": " << one << " and " << other;
            }
            // More members are never less.
            for (std::uint32_t i = 0; i != registers; ++i) {
                const std::uint64_t more = one | (std::uint64_t{1} << i);
                EXPECT_TRUE(std::binary_search(enough.begin(), enough.end(), more));
            }
        }
        for (std::uint64_t lost = 0; lost <= members; ++lost) {
            if (static_cast<std::uint32_t>(std::popcount(lost)) > quorum.parities) continue;
            if (!quorum.witness && quorum.members == 2 * quorum.parities && (lost & 1) != 0) {
                continue;
            }
            EXPECT_TRUE(quorum.is_enough(MemberSet{members & ~lost}, Witness{quorum.witness}));
        }
    }
}

TEST(RegisterMember, PromisesOnlyUpwards) {
    const MemberRegister member{.promise = 5 * 256, .held = at(4, 2)};
    EXPECT_EQ(member.bound(), 5u * 256);
    EXPECT_FALSE(member.may_promise(4 * 256));
    EXPECT_FALSE(member.may_promise(5 * 256));  // also the same again: it may be another's
    EXPECT_TRUE(member.may_promise(5 * 256 + 1));
    // A configuration that was put in without a promise (an old format) binds as well.
    const MemberRegister holds{.promise = 0, .held = at(7, 1)};
    EXPECT_EQ(holds.bound(), 7u * 256);
    EXPECT_FALSE(holds.may_promise(7 * 256));
    EXPECT_TRUE(holds.may_promise(8 * 256));
}

TEST(RegisterMember, StoresOnlyWhatItPromisedAndOnlyForwards) {
    const MemberRegister member{.promise = 5 * 256, .held = at(4, 2)};
    EXPECT_TRUE(member.may_store(at(5)));
    EXPECT_FALSE(member.may_store(at(4, 3)));  // a revision of an older epoch
    EXPECT_FALSE(member.may_store(at(6)));     // not promised
    const MemberRegister stored{.promise = 5 * 256, .held = at(5, 1)};
    EXPECT_FALSE(stored.may_store(at(5, 0)));
    EXPECT_FALSE(stored.may_store(at(5, 1)));
    EXPECT_TRUE(stored.may_store(at(5, 2)));
    EXPECT_FALSE((MemberRegister{}).may_store({}));
}

TEST(RegisterStanding, OfEachPartAndEachAge) {
    const EpochRevision in_force = at(3, 1);
    const auto standing = [&](RegisterPart part, EpochRevision held) {
        return standing_of({part, held}, in_force);
    };
    for (const EpochRevision held : {at(3, 1), at(3, 2), at(4)}) {  // also not in force yet
        EXPECT_EQ(standing(RegisterPart::in_sync, held), Standing::counts);
        EXPECT_EQ(standing(RegisterPart::rebuilding, held), Standing::rebuilding);
    }
    for (const EpochRevision held : {EpochRevision{}, at(2, 9), at(3, 0)}) {
        EXPECT_EQ(standing(RegisterPart::in_sync, held), Standing::stale);
        EXPECT_EQ(standing(RegisterPart::rebuilding, held), Standing::stale);
    }
    for (const EpochRevision held : {EpochRevision{}, at(3, 0), at(3, 1), at(4)}) {
        EXPECT_EQ(standing(RegisterPart::fresh, held), Standing::rebuilding);  // nothing counts
        EXPECT_EQ(standing(RegisterPart::none, held), Standing::none);
    }
}

TEST(RegisterStanding, OfTheRebuiltUnderTheNewestAlone) {
    EXPECT_TRUE(may_become_in_sync(at(3, 2), at(3, 1), at(3).epoch));
    EXPECT_FALSE(may_become_in_sync(at(3, 2), at(3, 1), 0));            // not complete
    EXPECT_FALSE(may_become_in_sync(at(4, 0), at(3, 1), at(3).epoch));  // under another
    EXPECT_FALSE(may_become_in_sync(at(4, 0), at(3, 1), at(4).epoch));  // may not be in force
    EXPECT_TRUE(may_become_in_sync(at(4, 1), at(4, 0), at(4).epoch));
}

void all_done(Proposal& proposal, MemberSet members) {
    for (std::uint32_t i = 0; i != members_max; ++i) {
        if (members.has(MemberIndex{i})) proposal.done(MemberIndex{i});
    }
}

TEST(RegisterProposal, OfAnEpochIsPromisedStoredAndAnnounced) {
    const MemberSet members = set_of({0, 2});
    Proposal proposal = Proposal::of_epoch(at(5).epoch, members, at(3, 1));
    EXPECT_EQ(proposal.step(), Proposal::Step::promise);
    EXPECT_EQ(proposal.epoch(), at(5).epoch);
    EXPECT_EQ(proposal.pending(), members);
    proposal.done(MemberIndex{2});
    EXPECT_EQ(proposal.pending(), set_of({0}));
    EXPECT_EQ(proposal.step(), Proposal::Step::promise);
    proposal.done(MemberIndex{0});
    EXPECT_EQ(proposal.step(), Proposal::Step::store);
    EXPECT_EQ(proposal.version(), at(5));
    EXPECT_EQ(proposal.in_force(), at(3, 1));  // not itself: it is on its way
    all_done(proposal, members);
    EXPECT_EQ(proposal.step(), Proposal::Step::announce);
    EXPECT_EQ(proposal.version(), at(5, 1));
    EXPECT_EQ(proposal.in_force(), at(5, 0));
    EXPECT_EQ(proposal.pending(), members);
    proposal.done(MemberIndex{0});
    EXPECT_EQ(proposal.step(), Proposal::Step::announce);
    proposal.done(MemberIndex{2});
    EXPECT_EQ(proposal.step(), Proposal::Step::in_force);
    EXPECT_EQ(proposal.version(), at(5, 1));
    EXPECT_EQ(proposal.in_force(), at(5, 1));
    EXPECT_TRUE(proposal.pending().empty());
}

TEST(RegisterProposal, OfARevisionIsStoredOnly) {
    const MemberSet members = set_of({1, 2});
    Proposal proposal = Proposal::of_revision(at(5, 1), members);
    EXPECT_EQ(proposal.step(), Proposal::Step::store);
    EXPECT_EQ(proposal.version(), at(5, 2));
    EXPECT_EQ(proposal.in_force(), at(5, 1));
    proposal.done(MemberIndex{1});
    EXPECT_EQ(proposal.step(), Proposal::Step::store);
    proposal.done(MemberIndex{2});
    EXPECT_EQ(proposal.step(), Proposal::Step::in_force);
    EXPECT_EQ(proposal.in_force(), at(5, 2));
}

TEST(RegisterProposal, EndsWhereAMemberFails) {
    const MemberSet members = set_of({0, 1, 2});
    for (std::uint32_t steps = 0; steps != 9; ++steps) {  // three members, three steps
        Proposal proposal = Proposal::of_epoch(at(5).epoch, members, at(3, 1));
        for (std::uint32_t i = 0; i != steps; ++i) proposal.done(MemberIndex{i % 3});
        proposal.failed(MemberIndex{steps % 3});
        EXPECT_EQ(proposal.step(), Proposal::Step::failed) << steps;
        EXPECT_TRUE(proposal.pending().empty());
        proposal.done(MemberIndex{(steps + 1) % 3});  // what was on its way comes back late
        EXPECT_EQ(proposal.step(), Proposal::Step::failed) << steps;
    }
}

// ---- scenarios ----------------------------------------------------------------------------------

/// A member of RAID-5 of three, with the configuration that it holds.
struct Disk {
    MemberRegister reg;
    MemberSet in_sync;
    EpochRevision in_force;
    int content{0};
};

/// A start as the rules want it, on the members of `reached`, which ends before its `steps` + 1st
/// store; what it decided.
struct Start {
    bool enough{false};
    MemberSet counts;
    bool in_force{false};
    EpochRevision version;
};

class RegisterScenario : public testing::Test {
  protected:
    Start start(MemberSet reached, std::size_t stores = 100) {
        std::uint64_t highest = 0;
        for_each(reached, [&](Disk& disk) { highest = std::max(highest, disk.reg.bound()); });
        const std::uint64_t epoch = next_epoch(highest, ++seconds_, 0);
        const Disk* newest = nullptr;
        EpochRevision known;
        for_each(reached, [&](Disk& disk) {
            EXPECT_TRUE(disk.reg.may_promise(epoch));
            disk.reg.promise = epoch;
            if (newest == nullptr || newest->reg.held < disk.reg.held) newest = &disk;
            known = std::max(known, disk.in_force);
        });
        Start result;
        for (std::uint32_t i = 0; i != disks_.size(); ++i) {
            const bool part = reached.has(MemberIndex{i}) && newest->in_sync.has(MemberIndex{i});
            const MemberAnswer answer{part ? RegisterPart::in_sync : RegisterPart::none,
                                      disks_[i].reg.held};
            if (standing_of(answer, known) == Standing::counts) result.counts.add(MemberIndex{i});
        }
        result.enough = Quorum{3, 1, false}.is_enough(result.counts);
        if (result.enough) store(Proposal::of_epoch(epoch, result.counts, known), result, stores);
        return result;
    }

    void revise(Start& started) {
        store(Proposal::of_revision(started.version, started.counts), started, 100);
    }
    void write(const Start& started, int content) {
        ASSERT_TRUE(started.in_force);
        for_each(started.counts, [&](Disk& disk) { disk.content = content; });
    }
    void stop_cleanly(Start& started) {
        revise(started);  // the clean mark
        revise(started);  // the closing revision: says that the mark is on all
    }
    void expect_content(const Start& started, int content) {
        for_each(started.counts, [&](Disk& disk) { EXPECT_EQ(disk.content, content); });
    }

    std::array<Disk, 3> disks_{first_disk(), first_disk(), first_disk()};

  private:
    static Disk first_disk() { return {{at(1).epoch, at(1, 1)}, MemberSet::first(3), at(1, 0), 0}; }
    template <class F>
    void for_each(MemberSet members, F&& f) {
        for (std::uint32_t i = 0; i != disks_.size(); ++i) {
            if (members.has(MemberIndex{i})) f(disks_[i]);
        }
    }
    void store(Proposal proposal, Start& result, std::size_t stores) {
        if (proposal.step() == Proposal::Step::promise) all_done(proposal, result.counts);
        for (; stores != 0 && proposal.step() != Proposal::Step::in_force; --stores) {
            const auto member =
                static_cast<std::uint32_t>(std::countr_zero(proposal.pending().bits()));
            Disk& disk = disks_[member];
            ASSERT_TRUE(disk.reg.may_store(proposal.version()));
            disk.reg.held = proposal.version();
            disk.in_sync = result.counts;
            disk.in_force = proposal.in_force();
            proposal.done(MemberIndex{member});
        }
        result.in_force = proposal.step() == Proposal::Step::in_force;
        result.version = proposal.version();
    }

    std::uint64_t seconds_{100};
};

TEST_F(RegisterScenario, TwoStartsThatDied) {
    for (int i = 0; i != 2; ++i) {
        const Start died = start(MemberSet::first(3), 1);  // m0 alone has its slot
        EXPECT_TRUE(died.enough);
        EXPECT_FALSE(died.in_force);
    }
    const Start without = start(set_of({1, 2}));
    ASSERT_TRUE(without.in_force);
    write(without, 1);  // and is killed
    const Start all = start(MemberSet::first(3));
    ASSERT_TRUE(all.in_force);
    EXPECT_EQ(all.counts, set_of({1, 2}));  // m0 is from the past
    expect_content(all, 1);
    EXPECT_FALSE(start(set_of({0, 1})).enough);  // and stays so until it is resynced
    EXPECT_FALSE(start(set_of({0, 2})).enough);
    EXPECT_TRUE(start(set_of({1, 2})).enough);
}

TEST_F(RegisterScenario, TwoStartsThatDiedWithThePowerAfterAnyStore) {
    const auto fresh = disks_;
    for (std::size_t first = 0; first != 6; ++first) {
        for (std::size_t second = 0; second != 6; ++second) {
            disks_ = fresh;
            start(MemberSet::first(3), first);
            start(MemberSet::first(3), second);
            const Start without = start(set_of({1, 2}));
            ASSERT_TRUE(without.in_force) << first << " " << second;
            write(without, 1);
            const Start all = start(MemberSet::first(3));
            EXPECT_EQ(all.counts, set_of({1, 2})) << first << " " << second;
            expect_content(all, 1);
        }
    }
}

TEST_F(RegisterScenario, ACopyTakenWhileRunningIsPutBackAfterACleanStop) {
    for (std::uint32_t member = 0; member != 3; ++member) {
        Start running = start(MemberSet::first(3));
        write(running, 1);
        const Disk copy = disks_[member];
        write(running, 2);
        stop_cleanly(running);
        disks_[member] = copy;
        const Start after = start(MemberSet::first(3));
        ASSERT_TRUE(after.in_force);
        EXPECT_FALSE(after.counts.has(MemberIndex{member}));
        EXPECT_EQ(after.counts.size(), 2u);
        expect_content(after, 2);
        disks_ = {disks_[(member + 1) % 3], disks_[(member + 1) % 3], disks_[(member + 1) % 3]};
        for (Disk& disk : disks_) disk.in_sync = MemberSet::first(3);  // resynced
    }
}

TEST_F(RegisterScenario, WithoutAClosingRevisionTheCopyWouldCount) {
    Start running = start(MemberSet::first(3));
    const Disk copy = disks_[1];
    write(running, 2);
    revise(running);  // the clean mark, and no more
    disks_[1] = copy;
    EXPECT_TRUE(start(MemberSet::first(3)).counts.has(MemberIndex{1}));
}

TEST_F(RegisterScenario, ACopyOfAnOlderEpochIsPutBackAfterACrash) {
    const Start old = start(MemberSet::first(3));
    write(old, 1);
    const Disk copy = disks_[2];
    const Start running = start(MemberSet::first(3));
    write(running, 2);  // and is killed
    disks_[2] = copy;
    const Start after = start(MemberSet::first(3));
    EXPECT_EQ(after.counts, set_of({0, 1}));
    expect_content(after, 2);
}

}  // namespace
}  // namespace braid
