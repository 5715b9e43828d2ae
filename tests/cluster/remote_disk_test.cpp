// SPDX-License-Identifier: BSD-3-Clause
// Disks that another node has opened, over sessions on the simulated network: every operation is
// carried out once, whatever connections do; who may do what where; what becomes of operations when
// the node with the disk begins anew.
#include "cluster/homes/remote_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/homes/disk_messages.h"
#include "cluster/homes/disk_server.h"
#include "engine/base/limits.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/intent_record.h"
#include "tests/cluster/remote_disk_world.h"

namespace braid::cluster {
namespace {

using namespace remote_disk_test;

TEST(RemoteDisk, ReadsWritesZeroesAndFlushes) {
    World world(1);
    SimPlatter& platter = *world.platter;
    Buffer data = content_of(1, 3 * row_size);
    EXPECT_EQ(world.write(2, slots_offset, data), 0);
    EXPECT_TRUE(world.is_on_disk(slots_offset, data));
    EXPECT_EQ(platter.unflushed.size(), 1U) << "nobody asked for more";
    EXPECT_EQ(world.flush(2), 0);
    EXPECT_EQ(platter.unflushed.size(), 0U);
    EXPECT_EQ(platter.flushes, 1U);

    Buffer durable = content_of(2, row_size);
    EXPECT_EQ(world.write(2, promises_offset, durable, Fua::yes), 0);
    EXPECT_EQ(platter.flushes, 1U);
    platter.cut_power([](std::size_t, std::uint64_t) { return false; });
    EXPECT_TRUE(world.is_on_disk(promises_offset, durable));
    EXPECT_TRUE(world.is_on_disk(slots_offset, data));

    Buffer back(data.size());
    EXPECT_EQ(world.read(2, slots_offset, back), 0);
    EXPECT_EQ(back, data);
    EXPECT_EQ(world.zero(2, slots_offset + row_size, row_size), 0);
    EXPECT_EQ(world.read(2, slots_offset, back), 0);
    std::memset(data.data() + row_size, 0, row_size);
    EXPECT_EQ(back, data);
    EXPECT_EQ(world.remote[2]->in_flight(), 0U);
    EXPECT_EQ(world.remote[2]->info().path, "remote");
}

TEST(RemoteDisk, ZeroesGiveSpaceBackWhereTheyMay) {
    World world(1);
    SimPlatter& platter = *world.platter;
    Buffer data = content_of(1, 4 * row_size);
    ASSERT_EQ(world.write(2, 0, data), 0);
    EXPECT_EQ(platter.space_taken(), 4 * row_size);
    EXPECT_EQ(world.zero(2, 0, row_size), 0);
    EXPECT_EQ(platter.space_taken(), 4 * row_size);
    DiskOp op = op_of(DiskOpKind::zero, 0, 2 * row_size, nullptr);
    op.may_free = true;
    EXPECT_EQ(world.run(2, op), 0);
    EXPECT_EQ(platter.space_taken(), 2 * row_size);
}

// Goal: what is larger than a message may be is carried out in pieces, and completes once.
TEST(RemoteDisk, LargeOperationsGoInPieces) {
    const std::uint64_t size = 2 * message_payload_size_max + 5 * row_size;
    World world(2, size + 2 * mebi);
    world.server().set_data(number, DataArea{}, 0);  // none
    SimPlatter& platter = *world.platter;
    Buffer data = content_of(3, size);
    EXPECT_EQ(world.write(2, mebi, data), 0);
    EXPECT_TRUE(world.is_on_disk(mebi, data));
    EXPECT_EQ(platter.writes, size / remote_disk_write_bytes_max + 1);
    Buffer back(size);
    EXPECT_EQ(world.read(2, mebi, back), 0);
    EXPECT_EQ(back, data);
    EXPECT_EQ(platter.reads, 3U);
    const std::uint64_t before = platter.writes;
    EXPECT_EQ(world.zero(2, mebi, size), 0);
    EXPECT_EQ(platter.writes, before + 3);
    EXPECT_TRUE(world.is_on_disk(mebi, Buffer(size)));
    // The first error ends it.
    platter.bad_rows.insert((mebi + message_payload_size_max) / row_size);
    platter.reads = 0;
    EXPECT_EQ(world.read(2, mebi, back), EIO);
    EXPECT_EQ(platter.reads, 2U);
}

// Goal: each operation is carried out once, and its bytes are right, while connections break again
// and again. Method: lanes with their own bytes write, read back, zero; the disk counts.
struct Lane {
    World* world{nullptr};
    std::uint32_t node{2};
    std::uint64_t offset{0};
    std::uint64_t seed{0};
    std::uint64_t pieces{0};  // of writes
    bool is_over{false};
};
Task<void> run_lane(Lane* lane) {
    Rng rng(lane->seed);
    Disk* const disk = lane->world->remote[lane->node].get();
    Buffer expected(4 * remote_disk_write_bytes_max);
    for (int turn = 0; turn != 12; ++turn) {
        const std::uint64_t rows = 1 + rng.below(rng.chance(4) ? expected.size() / row_size : 4);
        const std::uint64_t at = rng.below(expected.size() / row_size - rows + 1) * row_size;
        const std::uint64_t size = rows * row_size;
        if (rng.chance(5)) {
            const DiskOp op = op_of(DiskOpKind::zero, lane->offset + at, size, nullptr);
            EXPECT_EQ(co_await carry_out(disk, op), 0);
            std::memset(expected.data() + at, 0, size);
            ++lane->pieces;
        } else {
            Buffer data = content_of(rng.next(), size);
            DiskOp op = op_of(DiskOpKind::write, lane->offset + at, size, data.data());
            op.fua = rng.chance(2);
            EXPECT_EQ(co_await carry_out(disk, op), 0);
            std::memcpy(expected.data() + at, data.data(), size);
            lane->pieces +=
                round_up(size, remote_disk_write_bytes_max) / remote_disk_write_bytes_max;
        }
        if (rng.chance(3)) {
            const DiskOp op = op_of(DiskOpKind::flush, 0, 0, nullptr);
            EXPECT_EQ(co_await carry_out(disk, op), 0);
        }
        Buffer back(expected.size());
        const DiskOp op = op_of(DiskOpKind::read, lane->offset, back.size(), back.data());
        EXPECT_EQ(co_await carry_out(disk, op), 0);
        EXPECT_EQ(back, expected) << "turn " << turn;
    }
    lane->is_over = true;
}

TEST(RemoteDisk, ConnectionsMayBreak) {
    std::uint64_t breaks = 0;
    for (std::uint64_t seed = 1; seed != 16; ++seed) {
        SCOPED_TRACE(seed);
        World world(seed, 16 * mebi);
        if (seed % 2 == 0) world.loop.let_events_interrupt();
        world.server().set_data(number, DataArea{}, 0);
        std::vector<Lane> lanes;
        for (std::uint64_t i = 0; i != 4; ++i) {
            lanes.push_back(
                {&world, 2, i * 4 * remote_disk_write_bytes_max, seed * 10 + i, 0, false});
        }
        for (Lane& lane : lanes) world.loop.tasks().spawn(run_lane(&lane));
        const auto are_over = [&] {
            if (world.loop.rng().chance(3000)) {
                if (world.loop.rng().chance(4)) {
                    world.network.cut_one_side("10.0.0.2", "10.0.0.1");
                } else {
                    world.network.cut("10.0.0.1", "10.0.0.2");
                }
            }
            return std::ranges::all_of(lanes, [](const Lane& lane) { return lane.is_over; });
        };
        ASSERT_TRUE(world.holds_within(seconds(600), are_over));
        std::uint64_t pieces = 0;
        for (const Lane& lane : lanes) pieces += lane.pieces;
        EXPECT_EQ(world.platter->writes, pieces);
        EXPECT_EQ(world.nodes[2]->restarts, 0);
        breaks += static_cast<std::uint64_t>(world.nodes[2]->ended);
    }
    EXPECT_GT(breaks, 30U);
}

Buffer record_of(std::uint32_t node, std::uint64_t generation, std::uint32_t entries = 1) {
    IntentRecord record;
    record.array.bytes[0] = 1;
    record.node = node;
    record.generation = generation;
    for (std::uint32_t i = 0; i != entries; ++i) {
        record.entries.push_back({0, 1, StripeIndex{std::uint64_t{2} * i}});
    }
    return encode_intent(record);
}

TEST(RemoteDisk, OnlyTheMasterMayDoAll) {
    World world(4);
    Buffer before(row_size);
    EXPECT_EQ(world.read(3, slots_offset, before), 0) << "there is no array yet: anybody may look";
    EXPECT_EQ(world.write(3, slots_offset, before), EPERM);
    for (const auto& node : world.nodes) {
        if (node) node->fence.epoch = 1;
    }
    Buffer row = content_of(4, row_size);
    Buffer slot = content_of(5, intent_slot_size);
    const auto own = [](std::uint32_t node, std::uint64_t generation) {
        return slots_end + intent_slot_offset(node, generation);
    };
    for (const std::uint64_t generation : {2U, 1U}) {
        EXPECT_EQ(world.write(3, own(3, generation), record_of(3, generation)), 0);
        EXPECT_EQ(world.write(3, own(3, generation), record_of(3, generation + 1)), EINVAL)
            << "of the other slot";
        EXPECT_EQ(world.write(3, own(3, generation), record_of(4, generation)), EINVAL);
        EXPECT_EQ(world.write(3, own(3, generation), slot), EINVAL);
        EXPECT_EQ(world.write(3, own(3, generation) + row_size, record_of(3, generation)), EINVAL);
        EXPECT_TRUE(world.is_on_disk(own(3, generation), record_of(3, generation)));
        EXPECT_EQ(world.read(3, own(3, generation), slot), 0);
        EXPECT_EQ(world.zero(3, own(3, generation), intent_slot_size), EPERM);
    }
    Buffer both(2 * intent_slot_size);
    EXPECT_EQ(world.read(3, own(3, 0), both), 0);
    EXPECT_EQ(world.flush(3), 0) << "or nothing of its own would be durable";
    const std::uint64_t writes = world.platter->writes;
    for (const std::uint64_t offset :
         {std::uint64_t{0}, slots_offset, promises_offset, own(2, 0), own(2, 1), own(4, 0),
          own(3, 0) - row_size, own(3, 1) + intent_slot_size, data_begin}) {
        EXPECT_EQ(world.write(3, offset, row), EPERM) << offset;
        EXPECT_EQ(world.read(3, offset, row), EPERM) << offset;
        EXPECT_EQ(world.zero(3, offset, row_size), EPERM) << offset;
    }
    Buffer more(2 * intent_slot_size + row_size);
    EXPECT_EQ(world.write(3, own(3, 0), more), EPERM);
    EXPECT_EQ(world.write(3, own(3, 0) - row_size, more), EPERM);
    EXPECT_EQ(world.platter->writes, writes);
    EXPECT_EQ(world.write(2, own(3, 0), slot), 0);
    EXPECT_EQ(world.zero(2, own(3, 0), intent_slot_size), 0);
    world.server().set_master(3);
    EXPECT_EQ(world.write(3, slots_offset, row), 0);
    EXPECT_EQ(world.write(2, slots_offset, row), EPERM);
    world.server().set_master(0);
    EXPECT_EQ(world.write(3, slots_offset, row), EPERM);
    EXPECT_EQ(world.write(2, own(2, 1), record_of(2, 1)), 0);
}

TEST(RemoteDisk, NothingOfTheDataIsTouched) {
    World world(5);
    Buffer two = content_of(6, 2 * row_size);
    const std::uint64_t data_end = data_begin + mebi;
    const std::uint64_t writes = world.platter->writes;
    for (const std::uint64_t offset : {data_begin - row_size, data_begin, data_begin + row_size,
                                       data_end - 2 * row_size, data_end - row_size}) {
        EXPECT_EQ(world.write(2, offset, two), EPERM) << offset;
        EXPECT_EQ(world.read(2, offset, two), EPERM) << offset;
        EXPECT_EQ(world.zero(2, offset, two.size()), EPERM) << offset;
    }
    EXPECT_EQ(world.zero(2, data_begin - row_size, mebi + 2 * row_size), EPERM) << "all around it";
    EXPECT_EQ(world.platter->writes, writes);
    EXPECT_EQ(world.platter->reads, 0U);
    EXPECT_EQ(world.write(2, data_begin - two.size(), two), 0);
    EXPECT_EQ(world.write(2, data_end, two), 0);
}

TEST(RemoteDisk, WhatIsNotThereIsSaid) {
    World world(6);
    Buffer row = content_of(7, row_size);
    const auto unknown = world.disk_of(2, number + 1);
    EXPECT_EQ(world.run(*unknown, op_of(DiskOpKind::read, 0, row_size, row.data())), ENODEV);
    EXPECT_EQ(world.run(*unknown, op_of(DiskOpKind::flush, 0, 0, nullptr)), ENODEV);
    // It has become smaller than the other node knows.
    const std::uint64_t size = world.platter->content.size();
    EXPECT_EQ(world.write(2, size - row_size, row), 0);
    world.server().put(number, std::make_shared<SimDisk>(
                                   world.loop, std::make_shared<SimPlatter>(size / 2), "smaller"));
    EXPECT_EQ(world.write(2, size / 2 - row_size, row), 0);
    EXPECT_EQ(world.write(2, size / 2, row), EINVAL);
    EXPECT_EQ(world.read(2, size - row_size, row), EINVAL);
    Buffer two(2 * row_size);
    EXPECT_EQ(world.read(2, size / 2 - row_size, two), EINVAL);
    // What no message says.
    const std::uint64_t sent = world.nodes[2]->session(1).counts().messages_sent;
    EXPECT_EQ(world.read(2, size, row), EINVAL);
    EXPECT_EQ(world.read(2, ~std::uint64_t{0} - row_size + 1, row), EINVAL);
    EXPECT_EQ(world.run(2, op_of(DiskOpKind::read, 512, row_size, row.data())), EINVAL);
    EXPECT_EQ(world.run(2, op_of(DiskOpKind::write, 0, 512, row.data())), EINVAL);
    EXPECT_EQ(world.run(2, op_of(DiskOpKind::zero, 0, 0, nullptr)), EINVAL);
    EXPECT_EQ(world.nodes[2]->session(1).counts().messages_sent, sent);
    world.server().remove(number);
    EXPECT_EQ(world.write(2, 0, row), ENODEV);
}

TEST(RemoteDisk, ErrorsOfTheDiskArePassedOn) {
    World world(7);
    SimPlatter& platter = *world.platter;
    Buffer row = content_of(8, row_size);
    platter.bad_rows.insert(3);
    EXPECT_EQ(world.read(2, 3 * row_size, row), EIO);
    platter.zero_fast = false;
    EXPECT_EQ(world.zero(2, 0, row_size), EOPNOTSUPP);
    platter.refuses_writes = true;
    EXPECT_EQ(world.write(2, 0, row), EPERM);
    platter.refuses_writes = false;
    platter.holes.insert(0);
    platter.full = true;
    platter.full_error = EDQUOT;
    EXPECT_EQ(world.write(2, 0, row), EDQUOT);
    platter.fails_flushes = true;
    platter.flush_error = ENOSPC;
    EXPECT_EQ(world.flush(2), ENOSPC);
    EXPECT_EQ(world.flush(3), ENOSPC);
    platter.heal();
    EXPECT_EQ(world.flush(2), 0);
    EXPECT_EQ(world.write(2, 0, row), 0);
}

TEST(RemoteDisk, AnotherFenceIsRefused) {
    World world(8);
    Buffer row = content_of(9, row_size);
    world.nodes[2]->fence.epoch = 5;
    EXPECT_EQ(world.write(2, 0, row), 0) << "no array is open there";
    world.nodes[1]->fence.epoch = 6;
    EXPECT_EQ(world.write(2, 0, row), ESTALE);
    EXPECT_EQ(world.read(2, 0, row), ESTALE);
    EXPECT_EQ(world.zero(2, 0, row_size), ESTALE);
    EXPECT_EQ(world.flush(2), ESTALE);
    EXPECT_EQ(world.flush(3), ESTALE);
    world.nodes[2]->fence.epoch = 6;
    EXPECT_EQ(world.write(2, 0, row), 0);
}

TEST(RemoteDisk, WhatIsUnderWayEndsWhenTheOtherNodeBeginsAnew) {
    for (std::uint64_t seed = 1; seed != 12; ++seed) {
        SCOPED_TRACE(seed);
        World world(seed);
        Buffer one = content_of(10, row_size);
        ASSERT_EQ(world.write(2, 0, one, Fua::yes), 0);
        ASSERT_EQ(world.flush(2), 0);
        // So many that some wait for the others.
        std::vector<Buffer> content;
        std::vector<std::optional<int>*> results;
        for (std::uint64_t i = 0; i != 6; ++i) {
            content.push_back(content_of(i, mebi));
            results.push_back(
                world.begin(2, op_of(DiskOpKind::write, i * mebi, mebi, content.back().data())));
        }
        Buffer read(row_size);
        results.push_back(world.begin(2, op_of(DiskOpKind::read, 0, row_size, read.data())));
        results.push_back(world.begin(2, op_of(DiskOpKind::flush, 0, 0, nullptr)));
        world.platter->delay_nanos = seed % 2 == 0 ? 1'000'000'000 : 0;
        world.loop.run_for(millis(world.loop.rng().below(40)));
        world.restart(1, 200);
        const auto are_over = [&] {
            return std::ranges::all_of(results, [](const auto* at) { return at->has_value(); });
        };
        ASSERT_TRUE(world.holds_within(seconds(60), are_over));
        std::size_t cut = 0;
        for (const auto* result : results) {
            EXPECT_TRUE(*result == 0 || *result == ECONNRESET) << **result;
            cut += *result == ECONNRESET;
        }
        EXPECT_GT(cut, 0U);
        EXPECT_EQ(world.remote[2]->in_flight(), 0U);
        EXPECT_EQ(world.nodes[2]->restarts, 1);
        world.platter->delay_nanos = 0;
        EXPECT_EQ(world.flush(2), ECONNRESET) << "what was written may be gone";
        EXPECT_EQ(world.write(2, 0, one), ECONNRESET) << "it may be another disk";
        EXPECT_EQ(world.read(2, 0, read), ECONNRESET);
    }
}

// Goal: a flush never stands for writes that went down with the other node, and nothing is written to
// what that node has under the same number afterwards.
TEST(RemoteDisk, ItIsOverWhenTheOtherNodeHasBegunAnew) {
    World world(9);
    Buffer row = content_of(11, row_size);
    EXPECT_EQ(world.write(2, 0, row), 0);
    EXPECT_EQ(world.flush(2), 0);
    world.restart(1, 201);
    ASSERT_TRUE(world.holds_within(
        seconds(60), [&] { return world.nodes[2]->restarts + world.nodes[3]->restarts == 2; }));
    Buffer other = content_of(12, row_size);
    EXPECT_EQ(world.flush(2), ECONNRESET);
    EXPECT_EQ(world.write(2, 0, other), ECONNRESET);
    EXPECT_EQ(world.zero(2, 0, row_size), ECONNRESET);
    EXPECT_EQ(world.read(2, 0, other), ECONNRESET);
    EXPECT_TRUE(world.is_on_disk(0, row));
    EXPECT_EQ(world.flush(2), ECONNRESET) << "for ever";
}

// Goal: what a node wrote before it was gone does not fall on what comes after it. Method: the disk
// takes long for the first write, and for nothing else.
TEST(RemoteDisk, WhatIsInItsWayEndsFirst) {
    World world(10);
    Buffer before = record_of(3, 2, 300);
    ASSERT_EQ(before.size(), 2 * row_size);
    Buffer after = content_of(13, 2 * row_size);
    const std::uint64_t slot = slots_end + intent_slot_offset(3, 0);
    world.platter->delay_nanos = seconds(20).value;
    world.begin(3, op_of(DiskOpKind::write, slot, before.size(), before.data()));
    ASSERT_TRUE(world.holds_within(seconds(5), [&] { return world.platter->flights.size() == 1; }));
    world.platter->delay_nanos = 0;
    // Its own are in its own hands, and the master's elsewhere keep nobody.
    EXPECT_EQ(world.read(3, slot, after), 0);
    after = content_of(13, 2 * row_size);
    EXPECT_EQ(world.write(2, slot + before.size(), after), 0);
    EXPECT_EQ(world.flush(2), 0);
    EXPECT_EQ(world.platter->flights.size(), 1U);
    // The master's write is later, and stays.
    const auto* written =
        world.begin(2, op_of(DiskOpKind::write, slot + row_size, row_size, after.data()));
    const auto* read = world.begin(2, op_of(DiskOpKind::read, slot, before.size(), after.data()));
    world.loop.run_for(seconds(2));
    EXPECT_FALSE(written->has_value() || read->has_value());
    ASSERT_TRUE(world.holds_within(seconds(60), [&] { return written->has_value(); }));
    EXPECT_EQ(*written, 0);
    EXPECT_EQ(std::memcmp(world.platter->content.data() + slot, before.data(), row_size), 0);
    ASSERT_TRUE(world.holds_within(seconds(60), [&] { return read->has_value(); }));
}

Task<void> note_quiet(DiskServer* server, bool* is_quiet) {
    co_await server->wait_quiet(number);
    *is_quiet = true;
}

TEST(RemoteDisk, ADiskThatIsRemovedLivesUntilItIsQuiet) {
    World world(11);
    Buffer data = content_of(14, row_size);
    world.platter->delay_nanos = seconds(1).value;
    const auto* written = world.begin(2, op_of(DiskOpKind::write, 0, row_size, data.data()));
    ASSERT_TRUE(world.holds_within(seconds(5), [&] { return world.platter->flights.size() == 1; }));
    bool is_quiet = false;
    world.loop.tasks().spawn(note_quiet(&world.server(), &is_quiet));
    // What has come and not begun finds what is so then.
    const auto* late = world.begin(3, op_of(DiskOpKind::flush, 0, 0, nullptr));
    world.loop.run_for(millis(100));
    EXPECT_FALSE(is_quiet);
    world.server().remove(number);
    EXPECT_EQ(world.write(2, 0, data), ENODEV);
    EXPECT_FALSE(written->has_value());
    ASSERT_TRUE(world.holds_within(seconds(5), [&] { return written->has_value() && is_quiet; }));
    EXPECT_EQ(*written, 0);
    EXPECT_TRUE(world.is_on_disk(0, data));
    ASSERT_TRUE(world.holds_within(seconds(5), [&] { return late->has_value(); }));
}

Task<void> note_over(DiskServer* server, std::vector<NodeBoot> nodes, bool* is_over) {
    co_await server->wait_over(std::move(nodes));
    *is_over = true;
}

/// What it has begun lands, and nothing lands after that.
TEST(RemoteDisk, OfWhoIsLeftOutNothingMoreBegins) {
    World world(15);
    Buffer data = content_of(14, row_size);
    const std::vector<NodeBoot> master{{2, 102}};
    EXPECT_FALSE(world.server().has_any_of(master));
    world.platter->delay_nanos = seconds(1).value;
    const auto* written = world.begin(2, op_of(DiskOpKind::write, 0, row_size, data.data()));
    ASSERT_TRUE(world.holds_within(seconds(5), [&] { return world.platter->flights.size() == 1; }));
    EXPECT_EQ(world.server().busy_with(master), std::vector<std::uint32_t>{number});
    EXPECT_FALSE(world.server().has_any_of({{3, 103}, {2, 101}})) << "it is another start's";
    world.server().leave_out(master.front());
    bool is_over = false;
    world.loop.tasks().spawn(note_over(&world.server(), master, &is_over));
    EXPECT_EQ(world.write(2, row_size, data), ESTALE);
    EXPECT_FALSE(is_over);
    EXPECT_FALSE(written->has_value());
    ASSERT_TRUE(world.holds_within(seconds(5), [&] { return is_over; }));
    EXPECT_TRUE(world.is_on_disk(0, data));
    EXPECT_FALSE(world.server().has_any_of(master));
}

// Goal: reads take bounded memory at the node that has the disk.
TEST(RemoteDisk, ReadsWaitForMemory) {
    World world(12, 17 * mebi);
    world.server().set_data(number, DataArea{}, 0);
    std::vector<Buffer> into;
    std::vector<std::optional<int>*> results;
    for (int i = 0; i != 12; ++i) {
        into.emplace_back(message_payload_size_max);
        results.push_back(
            world.begin(2, op_of(DiskOpKind::read, 0, into.back().size(), into.back().data())));
    }
    std::uint64_t most = 0;
    const auto are_over = [&] {
        most = std::max<std::uint64_t>(most, world.platter->flights.size());
        return std::ranges::all_of(results, [](const auto* at) { return at->has_value(); });
    };
    ASSERT_TRUE(world.holds_within(seconds(600), are_over));
    for (const auto* result : results) EXPECT_EQ(*result, 0);
    EXPECT_LE(most, home_read_bytes_max / message_payload_size_max);
    EXPECT_EQ(world.nodes[2]->ended, 0);
}

class CountingSink final : public AnswerSink {
  public:
    int answers{0};
    ByteSpan place(std::uint32_t) override { return {}; }
    Checked<Unit> answered(const Message& answer) override {
        const auto os_error = decode_disk_answer(DiskOpKind::write, 0, answer);
        EXPECT_TRUE(os_error && *os_error == 0);
        ++answers;
        return Unit{};
    }
    void cut() override { ADD_FAILURE() << "nobody has begun anew"; }
};

// Goal: so do writes, of a node that does not hold back. It is broken off, and comes again.
TEST(RemoteDisk, WhoWritesTooMuchIsBrokenOff) {
    World world(13, 17 * mebi);
    world.server().set_data(number, DataArea{}, 0);
    world.platter->delay_nanos = seconds(2).value;
    CountingSink sink;
    for (int i = 0; i != 6; ++i) {
        DiskCommand command;
        command.kind = DiskOpKind::write;
        command.disk = number;
        command.size = message_payload_size_max;
        command.content = Buffer(command.size);
        world.nodes[2]->session(1).send(encode_disk_command(std::move(command)), &sink);
    }
    std::uint64_t most = 0;
    ASSERT_TRUE(world.holds_within(seconds(600), [&] {
        most = std::max<std::uint64_t>(most, world.platter->flights.size());
        return sink.answers == 6;
    }));
    EXPECT_EQ(most, home_read_bytes_max / message_payload_size_max);
    EXPECT_EQ(world.platter->writes, 6U);
    const auto& ends = world.nodes[1]->ends;
    EXPECT_TRUE(std::ranges::any_of(ends, [](const std::string& why) {
        return why.find("node 2 writes 16777216 bytes more") != std::string::npos;
    }));
}

// Goal: a node that writes all of another one's disks at once is never broken off for it.
TEST(RemoteDisk, ANodeHoldsItsWritesBack) {
    World world(14);
    world.server().set_data(number, DataArea{}, 0);
    world.platter->delay_nanos = seconds(2).value;
    std::vector<std::unique_ptr<RemoteDisk>> disks;
    std::deque<std::optional<int>> results;
    Buffer content = content_of(15, remote_disk_write_bytes_max);
    for (std::uint32_t i = 0; i != members_max + spares_max; ++i) {
        disks.push_back(world.disk_of(2));
        for (int write = 0; write != 3; ++write) {
            const DiskOp op = op_of(DiskOpKind::write, 0, content.size(), content.data());
            world.loop.tasks().spawn(keep_error(disks.back().get(), op, &results.emplace_back()));
        }
    }
    ASSERT_TRUE(world.holds_within(seconds(600), [&] {
        return std::ranges::all_of(results, [](const auto& at) { return at.has_value(); });
    }));
    for (const auto& result : results) EXPECT_EQ(result, 0);
    EXPECT_EQ(world.nodes[1]->ended + world.nodes[2]->ended, 0);
}

}  // namespace
}  // namespace braid::cluster
