// SPDX-License-Identifier: BSD-3-Clause
// DecidingArray: the array on the node that decides about it, as that node's operators and clients
// see it. Its disks are known to the cluster; and whoever else stops it, a stop ends when it has
// ended.
#pragma once

#include <memory>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/node_array.h"
#include "engine/array.h"

namespace braid::cluster {

class DecidingArray final : public NodeArray {
  public:
    DecidingArray(ClusterNode& node, std::unique_ptr<Array> array)
        : NodeArray(node), array_(std::move(array)) {}

    const Configuration& configuration() const override { return array_->configuration(); }
    void submit(IoRequest& request) override { array_->submit(request); }
    Task<Result<void>> stop() override {
        if (!std::exchange(stopping_, true)) {
            node_.note_stop();
            result_ = co_await array_->stop();
            stopped_.set();
        }
        co_await stopped_.wait();
        co_return result_;
    }
    ArrayStatus status() const override {
        ArrayStatus status = array_->status();
        fill(status);
        return status;
    }
    Task<Checked<Unit>> fail_member(MemberName name, Force force) override {
        return array_->fail_member(std::move(name), force);
    }
    Task<Checked<Unit>> remove_member(MemberName name) override {
        return array_->remove_member(std::move(name));
    }
    Task<Checked<Unit>> add_member(std::unique_ptr<Disk> disk, Force force) override {
        return array_->add_member(node_.own_disk(std::move(disk)), force);
    }
    Task<Checked<Unit>> replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                       Force force) override {
        return array_->replace_member(std::move(name), node_.own_disk(std::move(disk)), force);
    }
    Task<Checked<Unit>> start_scrub(ScrubMode mode) override { return array_->start_scrub(mode); }
    Checked<Unit> stop_scrub() override { return array_->stop_scrub(); }
    Task<Checked<Unit>> change_intent(IntentChange change) override {
        return array_->change_intent(change);
    }
    bool read_direct(ArrayOffset offset, ByteSpan into) override {
        return array_->read_direct(offset, into);
    }
    void note_latency(Nanos latency) override { array_->note_latency(latency); }

    Array& inner() override { return *array_; }

  private:
    std::unique_ptr<Array> array_;
    bool stopping_{false};
    Event stopped_;
    Result<void> result_;
};

}  // namespace braid::cluster
