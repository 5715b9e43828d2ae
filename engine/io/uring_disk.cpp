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
#include "engine/io/identify.h"

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

/// What direct I/O asks of addresses, and of places in the file.
struct Alignment {
    std::uint32_t memory{static_cast<std::uint32_t>(row_size)};
    std::uint32_t sector{static_cast<std::uint32_t>(row_size)};
};
Alignment alignment_of(int fd) {
    Alignment align;
    struct statx status {};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
        (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_mem_align != 0) {
        align.memory = status.stx_dio_mem_align;
        align.sector = status.stx_dio_offset_align;
    }
    return align;
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

Refusal refuse_read_only(const std::string& path, std::string_view why,
                         const OpenOptions& options) {
    return refuse(path, why,
                  fmt::format("make it writable{}{}", options.if_read_only.empty() ? "" : ", or ",
                              options.if_read_only));
}

Refusal cannot_open(const std::string& path, const OpenOptions& options, int error) {
    if (error == EBUSY) {
        return refuse(path, "is in use: mounted, or held by another program",
                      "stop that one first");
    }
    const std::string why =
        fmt::format("cannot be opened for {}: {}",
                    options.readonly ? "reading" : "reading and writing", os_error_text(error));
    const bool forbidden = error == EACCES || error == EPERM || error == EROFS;
    if (!forbidden) return refuse(path, why, "");
    const UniqueFd reader(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (options.readonly || reader.get() < 0) return refuse(path, why, "check its permissions");
    return refuse_read_only(path, why, options);
}

/// Opens it, past the page cache where that can be.
Checked<Unit> open_file(MemberFile& file, const OpenOptions& options) {
    const std::string& path = file.info.path;
    int flags = (options.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    if (file.info.block_device && options.lock && !options.readonly) flags |= O_EXCL;
    file.fd = UniqueFd(open(path.c_str(), flags | O_DIRECT));
    file.info.direct = file.fd.get() >= 0;
    const bool refused = !file.info.direct && errno == EINVAL;
    const bool too_coarse = file.info.direct && !file.info.block_device &&
                            alignment_of(file.fd.get()).sector > row_size;
    if (refused || too_coarse) {
        file.fd = UniqueFd{};  // an exclusive opener would be in its own way
        file.fd = UniqueFd(open(path.c_str(), flags));
        file.info.direct = false;
        file.notice = fmt::format(
            "{}: this file system refuses direct I/O (O_DIRECT){}; reads and writes go through the "
            "page cache, and what is acknowledged without a flush is in memory only",
            path, too_coarse ? " of 4096 bytes" : "");
    }
    if (file.fd.get() < 0) return cannot_open(path, options, errno);
    return Unit{};
}

Checked<Unit> ask_device(MemberFile& file, const OpenOptions& options, dev_t device) {
    const int fd = file.fd.get();
    DiskInfo& info = file.info;
    if (ioctl(fd, BLKGETSIZE64, &info.size) != 0) {
        return refuse(info.path, fmt::format("has no size: {}", os_error_text(errno)), "");
    }
    int sector = 0;
    if (ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0) {
        info.sector_size = static_cast<std::uint32_t>(sector);
    }
    int read_only = 0;
    info.read_only = ioctl(fd, BLKROGET, &read_only) == 0 && read_only != 0;
    if (info.read_only && !options.readonly) {
        return refuse_read_only(info.path, "is a read-only device", options);
    }
    info.zero_fast = info.zero_kept_fast = block_zero_fast(device);
    return check_sectors(info);
}

void ask_file_system(MemberFile& file, const OpenOptions& options, const struct stat& found) {
    DiskInfo& info = file.info;
    const int fd = file.fd.get();
    info.size = static_cast<std::uint64_t>(found.st_size);
    info.allocated = static_cast<std::uint64_t>(found.st_blocks) * status_block_size >= info.size;
    struct statfs system {};
    if (fstatfs(fd, &system) == 0) {
        info.in_memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
    }
    if (info.direct && !info.in_memory) info.sector_size = alignment_of(fd).sector;
    // Ask with a range beyond the end: changes nothing, tells whether it is implemented.
    info.zero_fast = !options.readonly &&
                     (fallocate(fd, free_mode, static_cast<off_t>(round_up(info.size, row_size)),
                                row_size) == 0);
    // FALLOC_FL_ZERO_RANGE cannot be asked for without a change; Linux's tmpfs lacks it.
    info.zero_kept_fast = info.zero_fast && !info.in_memory;
}

}  // namespace

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
    BRAID_CHECK(open_file(file, options));
    const int fd = file.fd.get();
    if (options.lock && !lock_file(fd, options.readonly ? LOCK_SH : LOCK_EX)) {
        return refuse(path, "is in use by another process that serves or changes it",
                      "stop that one first (for a running array use its control socket)");
    }
    if (fstat(fd, &before) != 0) return refuse(path, os_error_text(errno), "");
    if (block) {
        BRAID_CHECK(ask_device(file, options, before.st_rdev));
    } else {
        ask_file_system(file, options, before);
    }
    if (file.info.size == 0) return refuse(path, "is empty (0 bytes)", "");
    file.info.read_only |= options.readonly;
    file.info.identity = identify(fd);
    // tmpfs takes any address for direct I/O, whatever it says of itself.
    const bool any_address = file.info.in_memory || !file.info.direct;
    file.info.memory_align = any_address ? 1 : alignment_of(fd).memory;
    return file;
}

UringDisk::UringDisk(UringLoop& loop, MemberFile file)
    : loop_(loop),
      file_(std::move(file)),
      slot_(file_.info.in_memory ? -1 : loop.register_file(file_.fd.get())) {
    if (!file_.info.in_memory) loop_.ring_user_comes();
}

/// A guest never gets here with a registered file: as long as there is one the loop is not lent.
UringDisk::~UringDisk() {
    if (!file_.info.in_memory) loop_.ring_user_goes();
    if (slot_ >= 0) loop_.unregister_file(slot_);
}

void UringDisk::submit(DiskOp& op) {
    BRAID_REQUIRE(fits_disk(file_.info, op.offset, op.size));
    op.done = 0;
    op.worker = this;
    if (file_.info.in_memory && !op.background) {
        DiskGroup::complete(op, run_now(op));
    } else {
        queue(op);
        if (file_.info.in_memory) loop_.submit();  // a worker thread begins, and we go on
    }
}

int UringDisk::read_now(std::uint64_t offset, ByteSpan into) const {
    for (std::size_t done = 0; done != into.size();) {
        const ssize_t count =
            pread(fd(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
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
    if (loop_.defer(op)) return;
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

void UringDisk::queue_deferred(DiskOp& op) {
    auto& disk = *static_cast<UringDisk*>(op.worker);
    disk.queue(op);
    disk.loop_.submit();
}

void UringDisk::completed(DiskOp& op, int result) {
    const bool moves = op.kind == DiskOpKind::read || op.kind == DiskOpKind::write;
    if (result == -EINTR || result == -EAGAIN) {
        static_cast<UringDisk*>(op.worker)->queue(op);
    } else if (result < 0) {
        DiskGroup::complete(op, -result);
    } else if (!moves) {
        DiskGroup::complete(op, 0);
    } else if (result == 0) {
        DiskGroup::complete(op, EIO);  // beyond the end: the member shrank
    } else if (op.done += static_cast<std::uint32_t>(result); op.done < op.size) {
        static_cast<UringDisk*>(op.worker)->queue(op);
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
