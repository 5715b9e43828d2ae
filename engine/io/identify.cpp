// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/identify.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <optional>

#include "engine/io/uring_disk.h"

namespace braid {
namespace {

constexpr std::uint64_t no_end = std::numeric_limits<std::uint64_t>::max();
constexpr int depth_max = 8;  // of loop devices on partitions of loop devices on …

/// The same stretch, of what begins `by` bytes in front of it and has `size` bytes.
DiskIdentity moved(DiskIdentity from, std::uint64_t by, std::uint64_t size) {
    const auto sum = [](std::uint64_t a, std::uint64_t b) {
        return a > no_end - b ? no_end : a + b;
    };
    from.begin = sum(from.begin, by);
    from.end = std::min(sum(from.end, by), sum(by, size));
    return from;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    if (file >> value) return value;
    return std::nullopt;
}

struct Beneath {
    dev_t device{0};  // of a disk, or of the file system that a file is in
    ino_t inode{0};   // of a file; 0: a disk
    std::uint64_t begin{0};
    std::uint64_t size{no_end};
};

std::optional<Beneath> beneath_partition(dev_t device) {
    const std::string folder = fmt::format("/sys/dev/block/{}:{}/", major(device), minor(device));
    if (!number_in(folder + "partition")) return std::nullopt;
    const auto start = number_in(folder + "start");
    const auto size = number_in(folder + "size");
    std::ifstream whole(folder + "../dev");
    unsigned upper = 0;
    unsigned lower = 0;
    char colon = 0;
    if (!start || !size || !(whole >> upper >> colon >> lower)) return std::nullopt;
    return Beneath{makedev(upper, lower), 0, *start * 512, *size * 512};
}

std::optional<Beneath> beneath_loop(dev_t device, int fd) {
    if (major(device) != LOOP_MAJOR) return std::nullopt;
    UniqueFd own;
    if (fd < 0) {
        const auto path = fmt::format("/dev/block/{}:{}", major(device), minor(device));
        own = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
        fd = own.get();
    }
    loop_info64 info{};
    if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
    const std::uint64_t size = info.lo_sizelimit != 0 ? info.lo_sizelimit : no_end;
    // st_rdev of what is beneath, which a file has not; kernels once gave st_dev instead.
    const bool is_disk = info.lo_rdevice != 0 && info.lo_rdevice != info.lo_device;
    if (is_disk) return Beneath{info.lo_rdevice, 0, info.lo_offset, size};
    return Beneath{info.lo_device, info.lo_inode, info.lo_offset, size};
}

DiskIdentity follow(dev_t device, int fd) {
    DiskIdentity found{device, 0, 0, no_end};
    for (int depth = 0; depth != depth_max; ++depth) {
        auto below = beneath_partition(static_cast<dev_t>(found.device));
        if (!below) below = beneath_loop(static_cast<dev_t>(found.device), depth == 0 ? fd : -1);
        if (!below) break;
        found = moved(found, below->begin, below->size);
        found.device = below->device;
        found.inode = below->inode;
        if (found.inode != 0) break;
    }
    return found;
}

}  // namespace

DiskIdentity identify(int fd) {
    struct stat status {};
    if (fstat(fd, &status) != 0) return {};
    if (S_ISREG(status.st_mode)) return {status.st_dev, status.st_ino, 0, no_end};
    if (S_ISBLK(status.st_mode)) return follow(status.st_rdev, fd);
    return {};
}

Result<DiskIdentity> identify_path(const std::string& path) {
    // What is no member is not opened: a tape would wind, a FIFO wake its writer.
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return Error{Errc::io, "path", errno};
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return DiskIdentity{};
    if (S_ISREG(status.st_mode)) return DiskIdentity{status.st_dev, status.st_ino, 0, no_end};
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd.get() < 0) return Error{Errc::io, "path", errno};
    return identify(fd.get());
}

}  // namespace braid
