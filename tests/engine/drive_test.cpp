// SPDX-License-Identifier: BSD-3-Clause
// Drive: whose fault it is that an operation failed, what is counted, and what a flush has to cover.
#include "engine/members/drive.h"

#include <gtest/gtest.h>

#include <type_traits>

#include "tests/engine/fua.h"
#include "tests/engine/memory_disk.h"

namespace braid {
namespace {

static_assert(std::is_trivially_destructible_v<DriveOp>);

struct OneDrive {
    OneDrive() {
        auto made = std::make_unique<test::MemoryDisk>("m", 16 * row_size);
        disk = made.get();
        drive = std::make_unique<LocalDrive>(std::move(made));
    }
    DriveResult run(DiskOpKind kind, Fua fua = Fua::no) {
        DriveOp op;
        op.kind = kind;
        op.fua = fua == Fua::yes;
        op.size = kind == DiskOpKind::flush ? 0 : row_size;
        op.data = row.data();
        DiskGroup group;
        const std::uint32_t before = drive->in_flight();
        drive->submit(group, op);
        EXPECT_EQ(group.pending(), 0U);
        EXPECT_EQ(drive->in_flight(), before + 1);
        drive->finish(op);
        EXPECT_EQ(drive->in_flight(), before);
        return op.result;
    }
    Buffer row{row_size};
    test::MemoryDisk* disk{nullptr};
    std::unique_ptr<LocalDrive> drive;
};

TEST(Drive, AnErrorOfTheMemberIsToldFromOneThatIsLost) {
    OneDrive one;
    EXPECT_TRUE(one.run(DiskOpKind::read).ok());
    one.disk->die();
    const DriveResult failed = one.run(DiskOpKind::read);
    EXPECT_EQ(failed.outcome, DriveOutcome::failed);
    EXPECT_TRUE(failed.is_members());
    EXPECT_EQ(failed.os_error, EIO);
    one.drive->suspend();
    const DriveResult lost = one.run(DiskOpKind::write);
    EXPECT_EQ(lost.outcome, DriveOutcome::lost);
    EXPECT_FALSE(lost.is_members());
    EXPECT_EQ(one.drive->io().errors_read, 1U);
    EXPECT_EQ(one.drive->io().errors_write, 0U);
}

TEST(Drive, AClosedOneRefusesAndKeepsItsCounts) {
    OneDrive one;
    EXPECT_TRUE(one.run(DiskOpKind::write).ok());
    EXPECT_EQ(one.drive->disk(), one.disk);
    one.drive->close();
    EXPECT_FALSE(one.drive->is_open());
    EXPECT_EQ(one.drive->disk(), nullptr);
    EXPECT_EQ(one.run(DiskOpKind::read).outcome, DriveOutcome::lost);
    EXPECT_EQ(one.drive->io().writes, 1U);
    EXPECT_EQ(one.drive->io().bytes_written, row_size);
}

// What was under way as the member was lost may end well; and if not, nobody is to blame.
TEST(Drive, WhatWasUnderWayWhenTheMemberWasLost) {
    OneDrive one;
    for (const bool dies : {false, true}) {
        if (dies) one.disk->die();
        DriveOp op;
        op.size = row_size;
        op.data = one.row.data();
        DiskGroup group;
        OneDrive other;
        Drive& drive = dies ? *one.drive : *other.drive;
        drive.submit(group, op);
        drive.suspend();
        drive.finish(op);
        EXPECT_EQ(op.result.outcome, dies ? DriveOutcome::lost : DriveOutcome::done);
    }
}

TEST(Drive, WhatAFlushHasToCover) {
    OneDrive one;
    EXPECT_FALSE(one.drive->needs_flush());
    EXPECT_TRUE(one.run(DiskOpKind::write, Fua::yes).ok());
    EXPECT_FALSE(one.drive->needs_flush()) << "FUA";
    EXPECT_TRUE(one.run(DiskOpKind::zero).ok());
    EXPECT_TRUE(one.drive->needs_flush());
    EXPECT_TRUE(one.run(DiskOpKind::flush).ok());
    EXPECT_FALSE(one.drive->needs_flush());
    EXPECT_TRUE(one.run(DiskOpKind::write).ok());
    DriveOp flush;
    flush.kind = DiskOpKind::flush;
    DiskGroup group;
    one.drive->submit(group, flush);
    EXPECT_TRUE(one.run(DiskOpKind::write).ok());
    one.drive->finish(flush);
    EXPECT_TRUE(one.drive->needs_flush()) << "written since it began";
    EXPECT_TRUE(one.run(DiskOpKind::flush).ok());
    one.disk->die();
    EXPECT_FALSE(one.run(DiskOpKind::write, Fua::yes).ok());
    EXPECT_TRUE(one.drive->needs_flush()) << "some of it may be there";
}

}  // namespace
}  // namespace braid
