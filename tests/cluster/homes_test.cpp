// SPDX-License-Identifier: BSD-3-Clause
// What homes that are slow, full, or have a disk that hangs, cost the others: single situations, each
// of which stood still, or went wrong, once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "tests/cluster/clients.h"
#include "tests/cluster/home_kit.h"
#include "tests/cluster/sim_cluster.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

/// True: what was spawned is over within the time.
bool is_over_within(SimCluster& cluster, std::uint64_t nanos) {
    SimLoop& loop = cluster.loop();
    const std::uint64_t end = loop.now().value + nanos;
    while (loop.tasks().running() != 0) {
        if (loop.now().value > end || !loop.step()) return false;
    }
    return true;
}
void run_for(SimCluster& cluster, std::uint64_t nanos) {
    bool is_over = false;
    cluster.loop().after(nanos, [&is_over] { is_over = true; });
    while (!is_over) cluster.loop().step();
}

/// Data strips, as array offsets, by the homes of the strip and of its parity.
template <class Wanted>
std::vector<std::uint64_t> strips_of(const SimCluster& cluster, Wanted wanted) {
    const Geometry& geometry = cluster.geometry();
    std::vector<std::uint64_t> strips;
    for (StripeIndex stripe{}; raw(stripe) != geometry.stripes; ++stripe) {
        const auto home = [&](Role role) {
            return cluster.home_of(geometry.member_of(stripe, role));
        };
        for (const Role role : geometry.data_roles()) {
            if (!wanted(home(role), home(geometry.p()))) continue;
            strips.push_back(geometry.array_offset_of({stripe, role, 0}).value);
        }
    }
    return strips;
}
bool touches_home_2(std::uint32_t data, std::uint32_t parity) { return data == 2 || parity == 2; }
bool leaves_home_2(std::uint32_t data, std::uint32_t parity) {
    return !touches_home_2(data, parity);
}

Task<void> keep(Task<Result<void>> task, std::vector<Result<void>>* results) {
    results->push_back(co_await task);
}

// Goal: a home that has nothing to say keeps nobody from writing elsewhere. Method: one write there,
// and then, elsewhere, more than the books have entries.
TEST(Homes, OneThatIsSilentDoesNotStopTheOthers) {
    for (std::uint64_t seed = 1; seed != 12; ++seed) {
        SCOPED_TRACE(seed);
        SimClusterOptions options;
        options.seed = seed;
        options.stripes = 8;
        options.book.entries = 12;
        SimCluster cluster(options);
        Buffer data(row_size);
        ASSERT_TRUE(cluster.run(
            0, request_of(IoKind::write, strips_of(cluster, touches_home_2).front(), data)));
        std::uint64_t begun = 0;
        const auto write = [&](std::uint64_t offset) -> Task<void> {
            for (int i = 0; i != 30; ++i) {
                EXPECT_TRUE(co_await cluster.ask(0, request_of(IoKind::write, offset, data)));
                ++begun;
            }
        };
        for (const std::uint64_t offset : strips_of(cluster, leaves_home_2)) {
            cluster.loop().tasks().spawn(write(offset));
        }
        ASSERT_TRUE(is_over_within(cluster, 60 * second)) << begun << " writes";
        EXPECT_GT(begun, 100u);
        cluster.settle();
    }
}

// Goal: as above, with the bounds that there are.
TEST(Homes, ABookIsNeverFull) {
    SimClusterOptions options;
    options.stripes = 8;
    options.disk_nanos = 1000;
    options.delay = {1000, 0};
    SimCluster cluster(options);
    Buffer data(row_size);
    ASSERT_TRUE(cluster.run(
        0, request_of(IoKind::write, strips_of(cluster, touches_home_2).front(), data)));
    const std::uint64_t offset = strips_of(cluster, leaves_home_2).front();
    for (std::uint32_t i = 0; i != book_entries_max + 100; ++i) {
        ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, offset, data))) << "write " << i;
    }
    cluster.settle();
}

// Goal: who gives up a disk that hangs waits for it no more, neither for what is on its way to it
// nor for its flush, and the home's other members are as before.
TEST(Homes, ADiskThatHangsCostsItsOwnMemberOnly) {
    for (const bool is_flushing : {false, true}) {
        SimClusterOptions options;
        options.level = Level::raid6;
        options.members = 6;
        options.nodes = 2;
        SimCluster cluster(options);
        Clients clients(cluster);
        const MemberIndex hangs = cluster.geometry().member_of(StripeIndex{0}, Role{0});
        std::vector<Result<void>> results;
        IoRequest flush;
        flush.kind = IoKind::flush;
        SimPlatter& platter = cluster.platter(raw(hangs));
        if (!is_flushing) platter.delay_nanos = 3600 * second;
        const std::uint64_t stripe =
            cluster.geometry().stripe_data_size();  // nothing is read for it
        cluster.loop().tasks().spawn(clients.write(0, 0, stripe));
        ASSERT_TRUE(is_over_within(cluster, second));
        run_for(cluster, second);
        platter.delay_nanos = 3600 * second;
        cluster.loop().tasks().spawn(keep(cluster.ask(1, flush), &results));
        run_for(cluster, second);
        EXPECT_TRUE(results.empty()) << "nobody has given it up";
        cluster.suspend(hangs);
        cluster.loop().tasks().spawn(keep(cluster.ask(0, flush), &results));
        cluster.loop().tasks().spawn(clients.write(1, 0, 2 * row_size, Fua::yes));
        EXPECT_TRUE(is_over_within(cluster, 10 * second));
        ASSERT_EQ(results.size(), 2u);
        EXPECT_TRUE(results[0] && results[1]);
        if (HasFailure()) return;
        cluster.settle();
        clients.check(2);
        EXPECT_EQ(cluster.wrong_rows(), 0u);
    }
}

// Goal: a read of many rows waits for what was staged before it, and for nothing else, though some
// of its rows are undecided at any moment. Method: seven nodes write rows of a strip all the time;
// what a read waits for takes at most six messages, each as late as can be.
TEST(Homes, AReadOfManyRowsEndsUnderConstantWrites) {
    SimClusterOptions options;
    options.nodes = 8;
    options.homes = 1;
    options.strip_size = 64u << 10;
    options.stripes = 1;
    options.delay = {1000, 4'000'000};
    SimCluster cluster(options);
    Clients clients(cluster);
    bool is_over = false;
    const auto write = [&](std::uint32_t node, std::uint64_t row) -> Task<void> {
        while (!is_over) co_await clients.write(node, row * row_size, 2 * row_size);
    };
    const auto read = [&]() -> Task<void> {
        for (int i = 0; i != 30; ++i) {
            const std::uint64_t begin = cluster.loop().now().value;
            co_await clients.read(1, 0, options.strip_size);
            EXPECT_LT(cluster.loop().now().value - begin, 6 * 4'000'000u) << "read " << i;
        }
        is_over = true;
    };
    for (std::uint32_t node = 1; node != 8; ++node) {
        cluster.loop().tasks().spawn(write(node, 2 * (node - 1)));
    }
    run_for(cluster, 50'000'000);
    cluster.loop().tasks().spawn(read());
    EXPECT_TRUE(is_over_within(cluster, 60 * second));
    cluster.settle();
    clients.check(8);
}

// Goal: a member is flushed once for all who came before that began, never side by side.
TEST(Homes, AMembersFlushesAreOneAtATime) {
    SimClusterOptions options;
    options.stripes = 2;
    SimCluster cluster(options);
    Clients clients(cluster);
    const auto write = [&](std::uint32_t node, std::uint64_t row) -> Task<void> {
        for (int i = 0; i != 10; ++i)
            co_await clients.write(node, row * row_size, row_size, Fua::yes);
    };
    for (std::uint32_t row = 0; row != 9; ++row) cluster.loop().tasks().spawn(write(row % 3, row));
    while (cluster.loop().tasks().running() != 0) {
        ASSERT_TRUE(cluster.loop().step());
        for (std::uint32_t member = 0; member != options.members; ++member) {
            const auto& flights = cluster.platter(member).flights;
            ASSERT_LE(std::ranges::count_if(flights,
                                            [](const SimPlatter::Flight& flight) {
                                                return flight.op->kind == DiskOpKind::flush;
                                            }),
                      1);
        }
    }
    cluster.settle();
    clients.check(3);
    for (std::uint32_t member = 0; member != options.members; ++member) {
        EXPECT_LT(cluster.platter(member).flushes, 90u);
    }
}

// Goal: a node that believes that a rebuild has just begun, while others work by its end already,
// writes the member all the same. Method: it hears of the end a second late, and its first write
// comes in between.
TEST(Homes, WhoHearsLateOfARebuildsEndWritesTheMember) {
    SimClusterOptions options;
    options.lost = 1;
    options.late_adopter = 1;
    SimCluster cluster(options);
    Clients clients(cluster);
    cluster.rebuild(MemberIndex{0}, 0);
    while (cluster.is_rebuilding(MemberIndex{0})) ASSERT_TRUE(cluster.loop().step());
    run_for(cluster, 200'000'000);
    // Its own home is as late as it is, and would tell it.
    const auto strips = strips_of(
        cluster, [](std::uint32_t data, std::uint32_t parity) { return data == 0 && parity != 1; });
    for (const std::uint64_t offset : strips) {
        cluster.loop().tasks().spawn(clients.write(1, offset, 2 * row_size));
    }
    ASSERT_TRUE(is_over_within(cluster, 60 * second));
    cluster.settle();
    clients.check(3);
    EXPECT_EQ(cluster.wrong_rows(), 0u);
}

Task<void> keep_lock(Task<Result<LockId>> task, std::optional<LockId>* lock) {
    const Result<LockId> given = co_await task;
    EXPECT_TRUE(given);
    if (given) *lock = *given;
}

// Goal: how far a rebuild is, as a lock tells, is of the disk that has the role as it is told. Method: the
// answer is on its way for a second; meanwhile that disk is lost, and the next one has the role.
TEST(Homes, ALockSaysNothingOfWhoHadARoleBefore) {
    SimClusterOptions options;
    options.lost = 1;
    options.stripes = 12;
    SimCluster cluster(options);
    const Geometry& geometry = cluster.geometry();
    constexpr MemberIndex member{0};
    cluster.platter(0).delay_nanos = 60 * second;
    cluster.rebuild(member, 0);  // which holds some rows for all that time
    run_for(cluster, second / 100);
    constexpr std::uint32_t late = 2;
    WindowPlace place{StripeIndex{6}, 0};
    while (cluster.home_of(geometry.member_of(place.stripe, geometry.p())) == late) {
        place.stripe = place.stripe + 1;
    }
    const std::uint32_t home = cluster.home_of(geometry.member_of(place.stripe, geometry.p()));
    // It is told where rows are locked.
    const auto rebuilt = [&](std::uint32_t node) -> WindowIndex& {
        return cluster.serving(node).members().slot(member).rebuilt;
    };
    rebuilt(0) = WindowIndex{3};
    const auto lock_at = [&](std::uint32_t node, std::optional<LockId>* lock) {
        cluster.loop().tasks().spawn(keep_lock(
            cluster.homes(node).lock(place, 1, LockMode::exclusive, LockFor::client, nullptr),
            lock));
    };
    std::optional<LockId> first;
    lock_at(0, &first);
    run_for(cluster, second / 100);
    ASSERT_TRUE(first);
    cluster.homes(0).unlock(*first);
    run_for(cluster, second / 100);
    ASSERT_EQ(cluster.home(home).rebuilt(member), WindowIndex{3});
    SimLate answer{.numbers = {1}};
    cluster.set_late(&answer);
    std::optional<LockId> second_lock;
    lock_at(late, &second_lock);
    run_for(cluster, second / 10);
    cluster.set_late(nullptr);
    ASSERT_FALSE(second_lock);
    Configuration wanted = cluster.configuration();
    wanted.version.epoch += 256;
    wanted.member(member)->state = MemberState::faulty;
    cluster.serving(late).member_lost(member, MemberState::faulty);
    cluster.serving(late).adopt(wanted);
    cluster.home(home).adopt(wanted);
    wanted.member(member)->state = MemberState::rebuilding;
    wanted.member(member)->uuid = Uuid{};
    wanted.member(member)->uuid.bytes[0] = 77;
    cluster.serving(late).adopt(wanted);
    cluster.home(home).adopt(wanted);
    run_for(cluster, 2 * second);
    ASSERT_TRUE(second_lock);
    EXPECT_EQ(rebuilt(late), WindowIndex{});
    cluster.homes(late).unlock(*second_lock);
}

// Goal: rows are locked at one place, whoever knows of a loss. Method: the member with their P is lost, of
// which one node hears a second late. It needs no old P, for it writes most of a row, and a sector of a
// strip; another node writes the next sector at once.
TEST(Homes, WhoHearsLateOfALossLocksRowsWhereOthersDo) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        SCOPED_TRACE(seed);
        SimClusterOptions options;
        options.seed = seed;
        options.stripes = 2;
        options.late_adopter = 1;
        SimCluster cluster(options);
        Clients clients(cluster);
        const Geometry& geometry = cluster.geometry();
        constexpr StripeIndex stripe{1};
        const MemberIndex lost = geometry.member_of(stripe, geometry.p());
        ASSERT_NE(cluster.home_of(lost), cluster.home_of(geometry.member_of(stripe, Role{0})));
        cluster.suspend(lost);
        run_for(cluster, 200'000'000);
        const std::uint64_t at = geometry.stripe_data_size();
        const std::uint64_t strips = 2 * geometry.strip_size;
        cluster.loop().tasks().spawn(clients.write(1, at, strips + sector_size));
        cluster.loop().tasks().spawn(clients.write(0, at + strips + sector_size, sector_size));
        ASSERT_TRUE(is_over_within(cluster, 60 * second));
        cluster.settle();
        clients.check(3);
        if (HasFailure()) return;
    }
}

// Goal: who waits for room in a book keeps nobody else from rows. Method: what a node has staged for a
// disk that does not answer leaves it no room at that home; it asks for rows there, and another node
// for the same ones.
TEST(Homes, WhoWaitsForRoomHoldsNoRows) {
    SimClusterOptions options;
    options.book.bytes = row_size;
    SimCluster cluster(options);
    const Geometry& geometry = cluster.geometry();
    const MemberIndex hangs = geometry.member_of(StripeIndex{0}, Role{0});
    cluster.platter(raw(hangs)).delay_nanos = 20 * second;
    Buffer stripe(geometry.stripe_data_size());
    ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, 0, stripe))) << "it is staged";
    Role other{0};  // a strip of another stripe, which needs that disk for nothing
    while (geometry.member_of(StripeIndex{1}, other) == hangs) other = Role{raw(other) + 1};
    ASSERT_NE(geometry.member_of(StripeIndex{1}, geometry.p()), hangs);
    const std::uint64_t at = geometry.array_offset_of({StripeIndex{1}, other, 0}).value;
    Buffer data(row_size);
    std::vector<Result<void>> results;
    cluster.loop().tasks().spawn(
        keep(cluster.ask(0, request_of(IoKind::write, at, data)), &results));
    run_for(cluster, second);
    EXPECT_TRUE(results.empty());
    EXPECT_EQ(cluster.homes(0).counts().waits_for_credit, 1u);
    const std::uint64_t begin = cluster.loop().now().value;
    ASSERT_TRUE(cluster.run(1, request_of(IoKind::write, at, data)));
    EXPECT_LT(cluster.loop().now().value - begin, second);
    EXPECT_TRUE(results.empty());
    ASSERT_TRUE(is_over_within(cluster, 60 * second));
    cluster.settle();
    EXPECT_EQ(cluster.wrong_rows(), 0u);
}

// Goal: whatever a node locks and never unlocks, a home's book keeps no more than it has room for.
TEST(Homes, WhoNeverUnlocksIsRefused) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(0);
    const cluster::NodeBoot greedy{7, 1};
    std::vector<Told> told(book_claims_max);
    for (std::uint32_t i = 0; i != book_claims_max; ++i)
        home.take(lock_of(i + 1, greedy), &told[i]);
    EXPECT_TRUE(told[0].answer->result.ok());
    for (std::uint32_t i = 1; i != book_claims_max; ++i) ASSERT_FALSE(told[i].is_told());
    const auto answer_to = [&](const cluster::HomeCommand& command) {
        Told answer;
        home.take(command, &answer);
        return answer.answer.has_value() ? answer.answer->result : DriveResult{};
    };
    const DriveResult refused = answer_to(lock_of(book_claims_max + 1, greedy));
    EXPECT_EQ(refused.outcome, DriveOutcome::fenced);
    EXPECT_EQ(refused.os_error, EBUSY);
    EXPECT_TRUE(answer_to(lock_of(1, greedy)).ok()) << "one that it has";
    cluster::HomeCommand elsewhere = lock_of(1, {6, 1});
    elsewhere.at.window = WindowIndex{1};
    EXPECT_TRUE(answer_to(elsewhere).ok()) << "another node has room of its own";
    const auto unlock = [&](const cluster::HomeCommand& lock) {
        cluster::HomeCommand command;
        command.kind = cluster::HomeCommandKind::unlock;
        command.id = lock.id;
        home.take(command, nullptr);
    };
    unlock(lock_of(2, greedy));
    Told once_more;
    home.take(lock_of(book_claims_max + 1, greedy), &once_more);
    EXPECT_FALSE(once_more.is_told()) << "there is room, and it waits";
    unlock(elsewhere);
    for (std::uint32_t i = 0; i != book_claims_max + 1; ++i) unlock(lock_of(i + 1, greedy));
    EXPECT_TRUE(once_more.is_told());
    EXPECT_TRUE(home.book().empty());
    EXPECT_TRUE(home.book().holds_together());
}

// Goal: a node never has more claims than a home has room for, also while it holds unlocks back.
// Method: it works without a member of which nobody says that the home has heard, and writes more rows
// than it may hold back; none of them is to fail.
TEST(Homes, WhoHoldsUnlocksBackTakesNoMoreLocks) {
    constexpr std::uint32_t writers = 8;
    constexpr std::uint32_t each = unlocks_held_max / writers + 60;
    SimClusterOptions options;
    options.strip_size = row_size;
    options.stripes = writers * each;  // nobody waits for rows of another
    options.disk_nanos = 1000;
    options.delay = {1000, 0};
    SimCluster cluster(options);
    std::uint32_t written = 0;
    Buffer data(row_size);
    const auto write = [&](std::uint32_t writer) -> Task<void> {
        for (std::uint32_t i = 0; i != each; ++i) {
            const std::uint64_t offset =
                (writer * each + i) * cluster.geometry().stripe_data_size();
            EXPECT_TRUE(co_await cluster.ask(0, request_of(IoKind::write, offset, data)));
            ++written;
        }
    };
    cluster.homes(0).loss_begins(MemberIndex{3});
    for (std::uint32_t i = 0; i != writers; ++i) cluster.loop().tasks().spawn(write(i));
    run_for(cluster, 10 * second);
    EXPECT_GE(written, unlocks_held_max);
    EXPECT_LT(written, unlocks_held_max + writers);
    cluster.homes(0).loss_is_known(MemberIndex{3});
    ASSERT_TRUE(is_over_within(cluster, 10 * second));
    EXPECT_EQ(written, writers * each);
    cluster.settle();
}

/// A cluster with a member on which there is no room, and which has something that it cannot write.
class NoRoom : public testing::Test {
  protected:
    NoRoom() : cluster(options()) {
        full = cluster.geometry().member_of(StripeIndex{0}, Role{0});
        SimPlatter& platter = cluster.platter(raw(full));
        for (std::uint64_t row = 0; row != cluster.geometry().strip_size / row_size; ++row) {
            platter.holes.insert(SimCluster::data_offset / row_size + row);
        }
        platter.full = true;
    }
    static SimClusterOptions options() {
        SimClusterOptions options;
        options.stripes = 1;
        return options;
    }
    void make_room() {
        cluster.platter(raw(full)).full = false;
        for (std::uint32_t node = 0; node != 3; ++node) EXPECT_TRUE(cluster.flush(node));
        cluster.settle();
        EXPECT_EQ(cluster.wrong_rows(), 0u);
    }

    SimCluster cluster;
    MemberIndex full{};
};

TEST_F(NoRoom, ZeroesThatAMemberDidNotTakeHaveNotHappened) {
    Buffer data(row_size);
    std::ranges::fill(data.span(), std::byte{0x5a});
    ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, 0, data)));
    run_for(cluster, second);
    Buffer stripe(cluster.geometry().stripe_data_size());
    const Result<void> zeroed = cluster.run(1, request_of(IoKind::zero, 0, stripe));
    ASSERT_FALSE(zeroed);
    EXPECT_EQ(zeroed.error().code, Errc::full);
    Buffer back(row_size);
    ASSERT_TRUE(cluster.run(2, request_of(IoKind::read, 0, back)));
    EXPECT_EQ(back.span()[0], std::byte{0x5a});
    make_room();
}

// What could not be written is just being tried again when its home gives the member up.
TEST_F(NoRoom, ATryThatIsUnderWayWhenItsMemberIsGivenUpIsNobodysAnyMore) {
    Buffer data(row_size);
    ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, 0, data)));
    run_for(cluster, second);
    cluster.platter(raw(full)).full = false;
    cluster.platter(raw(full)).delay_nanos = 10 * second;
    std::vector<Result<void>> results;
    IoRequest flush;
    flush.kind = IoKind::flush;
    cluster.loop().tasks().spawn(keep(cluster.ask(1, flush), &results));
    run_for(cluster, second);
    EXPECT_TRUE(results.empty());
    cluster.suspend(full);
    ASSERT_TRUE(is_over_within(cluster, 20 * second));
    EXPECT_TRUE(results.front());
    cluster.settle();
    EXPECT_EQ(cluster.wrong_rows(), 0u);
}

// Goal: what was decided is not made again, for another node may have written the rows since.
// Method: two writes that are merged, durable, on a member without room; both are told so.
TEST_F(NoRoom, WhatWasDecidedIsNotMadeAgain) {
    Buffer data(row_size);
    std::vector<Result<void>> results;
    for (std::uint64_t row = 0; row != 3; ++row) {
        IoRequest request = request_of(IoKind::write, row * row_size, data);
        request.fua = true;
        cluster.loop().tasks().spawn(keep(cluster.ask(0, request), &results));
    }
    ASSERT_TRUE(is_over_within(cluster, 60 * second));
    ASSERT_EQ(results.size(), 3u);
    for (const Result<void>& result : results) {
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, Errc::full);
    }
    make_room();
    EXPECT_LE(cluster.homes(0).writes().finished_upto(), 2u);
}

// Goal: a member that the level needs keeps its place when its writes fail, whatever fails, and what
// was acknowledged stays. Method: one of four is lost, another takes no writes for a while.
TEST(Homes, AMemberThatIsNeededKeepsItsPlace) {
    SimClusterOptions options;
    options.lost = 1;
    SimCluster cluster(options);
    std::uint64_t stripe = 0;  // whose first strip is there, on the failing member
    while (raw(cluster.geometry().member_of(StripeIndex{stripe}, Role{0})) == 0) ++stripe;
    const MemberIndex member = cluster.geometry().member_of(StripeIndex{stripe}, Role{0});
    const std::uint64_t at = stripe * cluster.geometry().stripe_data_size();
    cluster.platter(raw(member)).fails_writes = true;
    Buffer data(row_size);
    std::ranges::fill(data.span(), std::byte{0x5a});
    EXPECT_TRUE(cluster.run(0, request_of(IoKind::write, at, data)))
        << "it is in its home's memory";
    run_for(cluster, second);
    for (std::uint32_t node = 0; node != 3; ++node) {
        EXPECT_TRUE(cluster.home(node).has(member) || cluster.home_of(member) != node);
        const Result<void> refused = cluster.run(node, request_of(IoKind::write, at, data));
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::io);
        EXPECT_FALSE(cluster.flush(node));
        Buffer back(row_size);
        ASSERT_TRUE(cluster.run(node, request_of(IoKind::read, at, back)));
        EXPECT_TRUE(back == data);
    }
    cluster.platter(raw(member)).fails_writes = false;
    for (std::uint32_t node = 0; node != 3; ++node) EXPECT_TRUE(cluster.flush(node));
    std::ranges::fill(data.span(), std::byte{0xa5});
    EXPECT_TRUE(cluster.run(1, request_of(IoKind::write, at, data)));
    cluster.settle();
    EXPECT_EQ(cluster.wrong_rows(), 0u);
}

// Goal: of a flush that fails the one who decides hears, also while he has not answered about a write.
TEST(Homes, AFailedFlushIsToldBesideAWriteThatFailed) {
    SimClusterOptions options;
    options.lost = 1;
    options.verdict_nanos = 10 * second;
    SimCluster cluster(options);
    std::uint64_t stripe = 0;
    while (raw(cluster.geometry().member_of(StripeIndex{stripe}, Role{0})) == 0) ++stripe;
    const MemberIndex member = cluster.geometry().member_of(StripeIndex{stripe}, Role{0});
    const std::uint64_t at = stripe * cluster.geometry().stripe_data_size();
    SimPlatter& platter = cluster.platter(raw(member));
    Buffer data(row_size);
    ASSERT_TRUE(cluster.run(0, request_of(IoKind::write, at, data)));
    run_for(cluster, second);
    platter.fails_flushes = true;
    platter.delay_nanos = second;
    std::vector<Result<void>> results;
    IoRequest flush;
    flush.kind = IoKind::flush;
    cluster.loop().tasks().spawn(keep(cluster.ask(1, flush), &results));
    run_for(cluster, second / 20);      // the disk has it
    platter.delay_nanos = second / 10;  // the write fails before the flush
    platter.fails_writes = true;
    cluster.loop().tasks().spawn(
        keep(cluster.ask(0, request_of(IoKind::write, at + row_size, data)), &results));
    ASSERT_TRUE(is_over_within(cluster, 20 * second));
    EXPECT_EQ(std::ranges::count(cluster.faults(), HomeFault::flush), 1);
    EXPECT_GE(std::ranges::count(cluster.faults(), HomeFault::write), 1);
    EXPECT_FALSE(cluster.flush(2)) << "no later one makes that durable";
}

// Who wants to write it meanwhile waits to hear what becomes of it, and goes on without it.
TEST(Homes, WhatIsStagedOnAFailingMemberWaitsForTheVerdict) {
    SimCluster cluster(SimClusterOptions{});
    const MemberIndex member = cluster.geometry().member_of(StripeIndex{0}, Role{0});
    cluster.platter(raw(member)).fails_writes = true;
    std::vector<Result<void>> results;
    Buffer data(row_size);
    for (std::uint64_t i = 0; i != 8; ++i) {
        const std::uint64_t at = i % 4 * row_size;
        cluster.loop().tasks().spawn(keep(
            cluster.ask(static_cast<std::uint32_t>(i % 3), request_of(IoKind::write, at, data)),
            &results));
        run_for(cluster, second / 1000);
    }
    ASSERT_TRUE(is_over_within(cluster, 20 * second));
    for (const Result<void>& result : results) EXPECT_TRUE(result);
    EXPECT_FALSE(cluster.home(cluster.home_of(member)).has(member));
    EXPECT_TRUE(cluster.flush(1));
    cluster.settle();
    EXPECT_EQ(cluster.wrong_rows(), 0u);
}

TEST(Homes, WhatIsDroppedTakesNoMemory) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(1);
    for (std::uint64_t write = 1; write != 4; ++write) {
        Told told;
        home.take(stage_of(MemberIndex{1}, write), &told);
        ASSERT_TRUE(told.answer && told.answer->result.ok());
        EXPECT_EQ(home.memory_bytes(), row_size);
        cluster::HomeCommand drop;
        drop.kind = cluster::HomeCommandKind::drop;
        drop.id = {{1, 1}, write};
        home.take(std::move(drop), nullptr);
        EXPECT_EQ(home.memory_bytes(), 0U);
    }
    cluster::HomeCommand over;
    over.kind = cluster::HomeCommandKind::finished;
    over.id = {{1, 1}, 0};
    over.finished = 3;
    home.take(std::move(over), nullptr);
    EXPECT_TRUE(home.book().empty());
    home.suspend(MemberIndex{1});
}

TEST(Homes, WhoStagesMoreThanHisCreditsIsRefused) {
    SimCluster cluster(SimClusterOptions{});
    cluster::Home& home = cluster.home(1);
    for (std::uint64_t write = 1; write * row_size <= 4 * book_bytes_max; ++write) {
        Told told;
        home.take(stage_of(MemberIndex{1}, write), &told);
        ASSERT_TRUE(told.answer);
        if (told.answer->result.ok()) continue;
        EXPECT_EQ(told.answer->result.outcome, DriveOutcome::fenced);
        EXPECT_LE(home.memory_bytes(), book_bytes_max);
        return;
    }
    FAIL() << "nothing was refused";
}

TEST(Homes, ReadsBeyondWhatIsReadAtATimeComeAlsoAfterAConnectionBroke) {
    SimClusterOptions options;
    options.sessions = true;
    options.strip_size = 1u << 20;
    options.stripes = 4;
    options.disk_nanos = 1'000;
    SimCluster cluster(options);
    cluster::HomeLink* const link = cluster.bus(0).link_to(1);
    constexpr std::uint64_t rows = 256;  // 1 MiB
    constexpr std::size_t reads = 3 * home_read_bytes_max / (rows * row_size);
    std::vector<Told> told(reads);
    Buffer into(rows * row_size);
    for (Told& one : told) {
        cluster::HomeCommand command;
        command.member = MemberIndex{1};
        command.count = rows;
        command.into = into.data();
        link->send(std::move(command), &one);
    }
    const auto left = [&] { return std::ranges::count(told, false, &Told::is_told); };
    std::uint64_t steps = 0;
    while (left() != 0) {
        ASSERT_LT(cluster.loop().now().value, seconds(300).value) << left() << " never come";
        ASSERT_TRUE(cluster.loop().step());
        if (++steps % 1500 == 0) cluster.cut(0, 1);
    }
    EXPECT_GT(cluster.connections_ended(), 3U);
    for (const Told& one : told) EXPECT_TRUE(one.answer->result.ok());
}

TEST(Homes, ACommandUnderAnotherFenceIsRefused) {
    SimClusterOptions options;
    options.sessions = true;
    SimCluster cluster(options);
    cluster::HomeLink* const link = cluster.bus(0).link_to(1);
    const auto stage = [&] {
        cluster::HomeCommand command;
        command.kind = cluster::HomeCommandKind::stage;
        command.id = {{1, 1}, 1};
        command.member = MemberIndex{1};
        command.at = {WindowIndex{0}, 1};
        command.participants.add(MemberIndex{1});
        command.content = Buffer(row_size);
        Told told;
        link->send(std::move(command), &told);
        while (!told.answer) BRAID_REQUIRE(cluster.loop().step());
        return told.answer->result;
    };
    cluster.bus(1).set_fence(256);  // it has passed a barrier of which node 0 has not heard
    EXPECT_EQ(stage().outcome, DriveOutcome::fenced);
    EXPECT_TRUE(cluster.home(1).book().empty());
    cluster::HomeCommand drop;  // not answered, and not obeyed
    drop.kind = cluster::HomeCommandKind::decide;
    drop.id = {{1, 1}, 1};
    link->send(std::move(drop), nullptr);
    cluster.bus(0).set_fence(256);
    EXPECT_EQ(stage().outcome, DriveOutcome::done);
    EXPECT_FALSE(cluster.home(1).book().empty());
}

}  // namespace
}  // namespace braid::sim
