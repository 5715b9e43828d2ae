// SPDX-License-Identifier: BSD-3-Clause
// GivenDisk: a disk that a node has given to the array. When the array is done with it, its node is
// told, and closes it.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "cluster/node/own_disk.h"

namespace braid::cluster {

class GivenDisk final : public OwnDisk {
  public:
    using Over = std::function<void(const GivenDisk&)>;
    /// @param over  called as it is destroyed
    GivenDisk(std::shared_ptr<Disk> disk, Over over)
        : OwnDisk(std::move(disk)), over_(std::move(over)) {}
    ~GivenDisk() override { over_(*this); }

  private:
    Over over_;
};

}  // namespace braid::cluster
