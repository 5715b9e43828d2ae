// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/uring_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

#include "engine/base/os_error.h"

namespace braid {
namespace {

// Linux 6.1's statx field; Debian 12's headers have it, older ones do not.
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U
#endif

// One system call moves at most this much, so that sizes fit io_uring's 32 bits.
constexpr std::uint64_t piece_max = 1u << 30;

Refusal refuse(const std::string& path, std::string_view why, std::string_view way_out) {
    return Refusal{fmt::format("{}: {}{}{}", path, why, way_out.empty() ? "" : "; ", way_out)};
}

std::string zero_limit_path(dev_t device) {
    return fmt::format("/sys/dev/block/{}:{}/queue/write_zeroes_max_bytes", major(device),
                       minor(device));
}

/// Whether BLKZEROOUT is offloaded rather than written out by the kernel.
bool block_zero_fast(dev_t device) {
    std::ifstream limit(zero_limit_path(device));
    std::uint64_t bytes = 0;
    return (limit >> bytes) && bytes != 0;
}

std::uint32_t memory_align_of(int fd, bool direct) {
    if (!direct) return 1;
    struct statx status {};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
        (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_mem_align != 0) {
        return status.stx_dio_mem_align;
    }
    return static_cast<std::uint32_t>(row_size);
}

/// The kernel holds a killed process's ring, with its files and so their locks, until the last I/O
/// of it is over: that one is waited for, since its writes could still arrive. flock() itself knows
/// no limit to its waiting.
bool lock_file(int fd, int lock) {
    constexpr int tries_max = 300;  // longer than a second was seen, on a busy machine
    constexpr timespec pause{0, 10'000'000};
    for (int tries = 0; flock(fd, lock | LOCK_NB) != 0; ++tries) {
        if (errno != EWOULDBLOCK || tries == tries_max) return false;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    }
    return true;
}

constexpr int free_mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int keep_mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
int zero_mode_of(const DiskOp& op) { return op.may_free ? free_mode : keep_mode; }

constexpr std::uint64_t status_block_size = 512;  // of st_blocks: stat(3type)

}  // namespace

UniqueFd::~UniqueFd() {
    if (fd_ >= 0) close(fd_);
}

Checked<MemberFile> open_member_file(const std::string& path, OpenOptions options) {
    struct stat before {};
    if (stat(path.c_str(), &before) != 0) {
        return refuse(path, fmt::format("cannot be looked at: {}", os_error_text(errno)),
                      "check the path");
    }
    if (S_ISDIR(before.st_mode)) {
        return refuse(path, "is a directory", "a member is a file or a block device");
    }
    const bool block = S_ISBLK(before.st_mode);
    if (!block && !S_ISREG(before.st_mode)) {
        return refuse(path, "is neither a regular file nor a block device", "");
    }
    MemberFile file;
    file.readonly = options.readonly;
    file.info.path = path;
    file.info.block_device = block;
    int flags = (options.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    if (block && options.lock && !options.readonly) flags |= O_EXCL;
    int fd = open(path.c_str(), flags | O_DIRECT);
    file.info.direct = fd >= 0;
    if (fd < 0 && errno == EINVAL) {
        fd = open(path.c_str(), flags);
        file.notice = fmt::format(
            "{}: this file system refuses direct I/O (O_DIRECT); reads and writes go through the "
            "page cache, and what is acknowledged without a flush is in memory only", path);
    }
    if (fd < 0) {
        const int error = errno;
        if (error == EBUSY) {
            return refuse(path, "is in use: mounted, or held by another program",
                          "stop that one first");
        }
        return refuse(path, fmt::format("cannot be opened for {}: {}",
                                        options.readonly ? "reading" : "reading and writing",
                                        os_error_text(error)),
                      error == EACCES || error == EPERM ? "check its permissions" : "");
    }
    file.fd = UniqueFd(fd);
    if (options.lock && !lock_file(fd, options.readonly ? LOCK_SH : LOCK_EX)) {
        return refuse(path, "is in use by another process that serves or changes it",
                      "stop that one first (for a running array use its control socket)");
    }
    if (block) {
        if (ioctl(fd, BLKGETSIZE64, &file.info.size) != 0) {
            return refuse(path, fmt::format("has no size: {}", os_error_text(errno)), "");
        }
        file.info.zero_fast = file.info.zero_kept_fast = block_zero_fast(before.st_rdev);
    } else {
        file.info.size = static_cast<std::uint64_t>(before.st_size);
        struct statfs system {};
        if (fstatfs(fd, &system) == 0) {
            file.info.in_memory =
                system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
        }
        // Ask with a range beyond the end: changes nothing, tells whether it is implemented.
        file.info.zero_fast =
            !options.readonly &&
            (fallocate(fd, free_mode,
                       static_cast<off_t>(round_up(file.info.size, row_size)), row_size) == 0);
        // FALLOC_FL_ZERO_RANGE cannot be asked for without a change; Linux's tmpfs lacks it.
        file.info.zero_kept_fast = file.info.zero_fast && !file.info.in_memory;
        struct stat now {};
        if (fstat(fd, &now) != 0) {
            return refuse(path, fmt::format("cannot be looked at: {}", os_error_text(errno)), "");
        }
        file.info.allocated = static_cast<std::uint64_t>(now.st_blocks) * status_block_size >=
                              file.info.size;
    }
    if (file.info.size == 0) return refuse(path, "is empty (0 bytes)", "");
    // tmpfs takes any address for direct I/O, whatever it says of itself.
    file.info.memory_align = file.info.in_memory ? 1 : memory_align_of(fd, file.info.direct);
    return file;
}

UringDisk::UringDisk(UringLoop& loop, MemberFile file)
    : loop_(loop), file_(std::move(file)), slot_(loop.register_file(file_.fd.get())) {}

UringDisk::~UringDisk() {
    if (slot_ >= 0) loop_.unregister_file(slot_);
}

void UringDisk::submit(DiskOp& op) {
    op.done = 0;

    if (file_.info.in_memory && !op.background) {
        DiskGroup::complete(op, run_now(op));
    } else {
        queue(op);
        if (file_.info.in_memory) loop_.submit();  // a worker thread begins, and we go on
    }
}

int UringDisk::read_now(std::uint64_t offset, ByteSpan into) const {
    for (std::size_t done = 0; done != into.size();) {
        const ssize_t count = pread(fd(), into.data() + done, into.size() - done,
                                    static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno;
        if (count == 0) return EIO;  // the file shrank
        done += static_cast<std::size_t>(count);
    }
    return 0;
}

/// tmpfs: the system call is the operation. Returns 0 or an errno.
int UringDisk::run_now(DiskOp& op) const {
    if (op.kind == DiskOpKind::flush) return 0;  // nothing is more durable than it is
    if (op.kind == DiskOpKind::zero) {
        return fallocate(fd(), zero_mode_of(op), static_cast<off_t>(op.offset),
                         static_cast<off_t>(op.size)) == 0
                   ? 0
                   : errno;
    }
    for (std::uint64_t done = 0; done != op.size;) {
        const auto at = static_cast<off_t>(op.offset + done);
        const ssize_t count = op.kind == DiskOpKind::read
                                  ? pread(fd(), op.data + done, op.size - done, at)
                                  : pwrite(fd(), op.data + done, op.size - done, at);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno;
        if (count == 0) return EIO;  // the file shrank
        done += static_cast<std::uint64_t>(count);
    }
    return 0;
}

void UringDisk::queue(DiskOp& op) {
    io_uring_sqe* sqe = loop_.entry();
    const std::uint64_t at = op.offset + op.done;
    const auto size = static_cast<unsigned>(std::min(op.size - op.done, piece_max));
    std::byte* data = op.data + op.done;
    const int file = slot_ >= 0 ? slot_ : fd();
    const bool fixed = loop_.is_registered(data, size);
    switch (op.kind) {
        case DiskOpKind::read:
            if (fixed) {
                io_uring_prep_read_fixed(sqe, file, data, size, at, 0);
            } else {
                io_uring_prep_read(sqe, file, data, size, at);
            }
            break;
        case DiskOpKind::write:
            if (fixed) {
                io_uring_prep_write_fixed(sqe, file, data, size, at, 0);
            } else {
                io_uring_prep_write(sqe, file, data, size, at);
            }
            if (op.fua) sqe->rw_flags = RWF_DSYNC;
            break;
        case DiskOpKind::flush:
            io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
            break;
        case DiskOpKind::zero:
            io_uring_prep_fallocate(sqe, file, zero_mode_of(op), static_cast<off_t>(op.offset),
                                    static_cast<off_t>(op.size));
            break;
    }
    if (slot_ >= 0) io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, &op);
}

void UringDisk::completed(DiskOp& op, int result) {
    const bool moves = op.kind == DiskOpKind::read || op.kind == DiskOpKind::write;
    if (result == -EINTR || result == -EAGAIN) {
        static_cast<UringDisk*>(op.disk)->queue(op);
    } else if (result < 0) {
        DiskGroup::complete(op, -result);
    } else if (!moves) {
        DiskGroup::complete(op, 0);
    } else if (result == 0) {
        DiskGroup::complete(op, EIO);  // beyond the end: the member shrank
    } else if (op.done += static_cast<std::uint32_t>(result); op.done < op.size) {
        static_cast<UringDisk*>(op.disk)->queue(op);
    } else {
        DiskGroup::complete(op, 0);
    }
}

Checked<std::unique_ptr<UringDisk>> open_disk(UringLoop& loop, const std::string& path,
                                              OpenOptions options) {
    BRAID_TRY(MemberFile file, open_member_file(path, options));
    return std::make_unique<UringDisk>(loop, std::move(file));
}

}  // namespace braid
