// SPDX-License-Identifier: BSD-3-Clause
// OwnDisk: a disk of this node, for one of those who use it side by side: the member's home, whoever
// writes its metadata, and other nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "engine/io/disk.h"

namespace braid::cluster {

class OwnDisk : public Disk {
  public:
    explicit OwnDisk(std::shared_ptr<Disk> disk) : disk_(std::move(disk)) {}
    const DiskInfo& info() const override { return disk_->info(); }
    void submit(DiskOp& op) override { disk_->submit(op); }
    int read_now(std::uint64_t offset, ByteSpan into) const override {
        return disk_->read_now(offset, into);
    }

  private:
    std::shared_ptr<Disk> disk_;
};

}  // namespace braid::cluster
