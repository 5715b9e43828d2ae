// SPDX-License-Identifier: BSD-3-Clause
// GivenDisk: a disk that a node has given to the array. When the array is done with it, its node is
// told, and closes it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "engine/io/disk.h"

namespace braid::cluster {

class GivenDisk final : public Disk {
  public:
    using Over = std::function<void(const GivenDisk&)>;
    /// @param over  called as it is destroyed
    GivenDisk(std::unique_ptr<Disk> disk, Over over)
        : disk_(std::move(disk)), over_(std::move(over)) {}
    ~GivenDisk() override { over_(*this); }
    const DiskInfo& info() const override { return disk_->info(); }
    void submit(DiskOp& op) override { disk_->submit(op); }
    int read_now(std::uint64_t offset, ByteSpan into) const override {
        return disk_->read_now(offset, into);
    }

  private:
    std::unique_ptr<Disk> disk_;
    Over over_;
};

}  // namespace braid::cluster
