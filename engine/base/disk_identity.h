// SPDX-License-Identifier: BSD-3-Clause
// Which bytes a disk is, whatever it is called: links, bind mounts, two loop devices on one file, a
// partition and its disk have different names and the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace braid {

/// A stretch of a file or of a block device that the kernel lays over nothing else.
struct DiskIdentity {
    std::uint64_t device{0};  // st_dev of a file; st_rdev of a block device
    std::uint64_t inode{0};   // of a file; 0: a block device
    std::uint64_t begin{0};   // bytes
    std::uint64_t end{0};     // 0: nothing is known of it
    bool operator==(const DiskIdentity&) const = default;

    bool known() const { return end != 0; }
    /// They share bytes. False does not say that they do not: a disk that two cables lead to has
    /// two numbers, and what lies on it tells (engine/deciding/member_orders.cpp).
    bool overlaps(const DiskIdentity& other) const {
        return known() && other.known() && device == other.device && inode == other.inode &&
               begin < other.end && other.begin < end;
    }
};

/// The number of the first disk that shares bytes with `disk`, as far as that is known.
inline std::optional<std::size_t> find_overlap(const DiskIdentity& disk,
                                               std::span<const DiskIdentity> others) {
    for (std::size_t at = 0; at != others.size(); ++at) {
        if (disk.overlaps(others[at])) return at;
    }
    return std::nullopt;
}

}  // namespace braid
