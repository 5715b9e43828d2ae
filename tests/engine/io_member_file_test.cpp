// SPDX-License-Identifier: BSD-3-Clause
// Files and devices as members: which are refused and why, what is told of the others, whose bytes
// they are, and who has them locked.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "engine/base/disk_identity.h"
#include "engine/io/identify.h"
#include "engine/io/uring_disk.h"
#include "tests/engine/temporary_file.h"

namespace braid {
namespace {

using test::here;
using test::TemporaryFile;

constexpr std::uint64_t disk_size = 8u << 20;

void expect_refused(const std::string& path, const std::string& why, OpenOptions options = {}) {
    const auto opened = open_member_file(path, options);
    ASSERT_FALSE(opened) << path;
    EXPECT_NE(opened.error().text.find(why), std::string::npos) << opened.error().text;
    EXPECT_NE(opened.error().text.find(path), std::string::npos) << "it does not name the member";
}

TEST(MemberFile, RefusesWhatIsNoMemberAndSaysWhy) {
    expect_refused(here(), "is a directory");
    expect_refused("/dev/null", "neither a regular file nor a block device");
    expect_refused(here() + "/there-is-no-such-file", "No such file");
    TemporaryFile empty(here(), 0);
    expect_refused(empty.path(), "is empty");
    const std::string fifo = here() + "/braid-test-fifo";
    unlink(fifo.c_str());
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    expect_refused(fifo, "neither a regular file nor a block device");
    unlink(fifo.c_str());
    TemporaryFile closed(here(), disk_size);
    ASSERT_EQ(chmod(closed.path().c_str(), 0), 0);
    if (geteuid() != 0) expect_refused(closed.path(), "Permission denied");
}

TEST(MemberFile, TellsWhetherItHasSpaceForAll) {
    for (const std::string& folder : {std::string("/dev/shm"), here()}) {
        if (access(folder.c_str(), W_OK) != 0) continue;
        TemporaryFile file(folder, disk_size);
        EXPECT_FALSE(open_member_file(file.path(), {})->info.allocated) << folder;
        const int fd = open(file.path().c_str(), O_RDWR);
        EXPECT_EQ(posix_fallocate(fd, 0, disk_size), 0);
        close(fd);
        EXPECT_TRUE(open_member_file(file.path(), {})->info.allocated) << folder;
    }
}

TEST(MemberFile, HasTheIdentityOfItsBytesWhateverItsName) {
    TemporaryFile file(here(), disk_size);
    TemporaryFile other(here(), disk_size);
    const std::string hard = here() + "/braid-test-hard-link";
    const std::string soft = here() + "/braid-test-soft-link";
    unlink(hard.c_str());
    unlink(soft.c_str());
    ASSERT_EQ(link(file.path().c_str(), hard.c_str()), 0);
    ASSERT_EQ(symlink(file.path().c_str(), soft.c_str()), 0);
    const auto opened = open_member_file(file.path(), {});
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_TRUE(opened->info.identity.known());
    for (const std::string& name : {file.path(), hard, soft}) {
        const auto identity = identify_path(name);
        ASSERT_TRUE(identity) << name;
        EXPECT_TRUE(identity->overlaps(opened->info.identity)) << name;
    }
    EXPECT_FALSE(identify_path(other.path())->overlaps(opened->info.identity));
    EXPECT_EQ(identify_path(here() + "/there-is-no-such-file").error().os_error, ENOENT);
    EXPECT_FALSE(identify_path("/dev/null")->known());
    unlink(hard.c_str());
    unlink(soft.c_str());
}

TEST(DiskIdentity, StretchesOfOneFileAreTheSameWhereTheyOverlap) {
    const DiskIdentity whole{1, 2, 0, ~std::uint64_t{0}};
    const DiskIdentity first{1, 2, 0, 4096};
    const DiskIdentity second{1, 2, 4096, 8192};
    EXPECT_TRUE(whole.overlaps(first));
    EXPECT_TRUE(second.overlaps(whole));
    EXPECT_FALSE(first.overlaps(second));
    EXPECT_FALSE(first.overlaps({1, 3, 0, 4096})) << "another file";
    EXPECT_FALSE(first.overlaps({2, 2, 0, 4096})) << "another file system";
    EXPECT_FALSE(DiskIdentity{}.overlaps(DiskIdentity{})) << "nothing is known of either";
}

TEST(MemberFile, AReadOnlyOneIsRefusedWithWhatElseCanBeDone) {
    if (geteuid() == 0) GTEST_SKIP() << "root writes where nobody may";
    TemporaryFile file(here(), disk_size);
    ASSERT_EQ(chmod(file.path().c_str(), 0400), 0);
    expect_refused(file.path(), "make it writable");
    expect_refused(file.path(), "make it writable, or look away", {.if_read_only = "look away"});
    const auto reader = open_member_file(file.path(), {.readonly = true});
    ASSERT_TRUE(reader) << reader.error().text;
    EXPECT_TRUE(reader->info.read_only);
}

TEST(MemberFile, IsLockedAgainstASecondOpener) {
    TemporaryFile file(here(), disk_size);
    {
        const auto first = open_member_file(file.path(), {});
        ASSERT_TRUE(first) << first.error().text;
        expect_refused(file.path(), "in use");
        expect_refused(file.path(), "in use", {.readonly = true});
        EXPECT_TRUE(open_member_file(file.path(), {.lock = false}));
    }
    {
        const auto reader = open_member_file(file.path(), {.readonly = true});
        ASSERT_TRUE(reader);
        EXPECT_TRUE(open_member_file(file.path(), {.readonly = true}));  // readers share
        expect_refused(file.path(), "in use");
    }
    EXPECT_TRUE(open_member_file(file.path(), {}));
}

}  // namespace
}  // namespace braid
