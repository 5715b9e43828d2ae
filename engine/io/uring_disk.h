// SPDX-License-Identifier: BSD-3-Clause
// A member's file or block device behind io_uring: opened for direct I/O where the file system
// allows it, locked against a second opener. A file in tmpfs never waits and io_uring would hand
// it to a worker thread (measured: 2.1 µs of CPU an operation against 1.0), so its operations are
// done at once, in submit().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/base/unique_fd.h"
#include "engine/io/disk.h"
#include "engine/io/uring_loop.h"

namespace braid {

/// How to open a member; see open_member_file().
struct OpenOptions {
    bool readonly{false};
    bool lock{true};  // refuse a file that another braid, or an exclusive opener, holds
    /// What else can be done with a member that cannot be written, to follow "or "; may be empty.
    std::string_view if_read_only{};
};

/// An opened, locked member, not yet bound to a loop: so that a server can report what is wrong
/// before it forks. The lock goes with the last descriptor.
struct MemberFile {
    UniqueFd fd;
    DiskInfo info;
    bool readonly{false};
    std::string notice;  // for people: what was not as good as it could be; empty mostly
};
/// Refuses directories, FIFOs and character devices, what is empty, unreadable, in use, or, unless
/// it is only to be read, read-only; and devices whose sectors are larger than a row.
Checked<MemberFile> open_member_file(const std::string& path, OpenOptions options);

class UringDisk final : public Disk {
  public:
    UringDisk(UringLoop& loop, MemberFile file);
    ~UringDisk() override;
    const DiskInfo& info() const override { return file_.info; }
    void submit(DiskOp& op) override;
    int read_now(std::uint64_t offset, ByteSpan into) const override;

    /// For the loop: the kernel is done with a piece of `op`.
    static void completed(DiskOp& op, int result);
    /// For the loop, when its own thread leads again.
    static void queue_deferred(DiskOp& op);

  private:
    int fd() const { return file_.fd.get(); }
    void queue(DiskOp& op);
    int run_now(DiskOp& op) const;

    UringLoop& loop_;
    MemberFile file_;
    int slot_;  // of the registered file, or -1
};

/// Opens `path` on `loop`: for tools and tests.
Checked<std::unique_ptr<UringDisk>> open_disk(UringLoop& loop, const std::string& path,
                                              OpenOptions options = {});

}  // namespace braid
