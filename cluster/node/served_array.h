// SPDX-License-Identifier: BSD-3-Clause
// ServedArray: an array on a node that serves it and does not decide about it. What the one who
// decides tells comes from ClusterNode; orders go to him. When he is gone this node may come to decide
// itself: decide().
#pragma once

#include <memory>
#include <string>

#include "cluster/epochs/remote_decider.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/node_array.h"
#include "cluster/node/told_status.h"
#include "engine/array.h"
#include "engine/deciding/event_log.h"
#include "engine/local/local_array.h"
#include "engine/serving/serving.h"

namespace braid::cluster {

class ServedArray final : public NodeArray {
  public:
    ServedArray(ClusterNode& node, Configuration configuration, const ArrayOptions& options,
                RowHomes& homes);
    ~ServedArray() override;

    Serving& serving() { return serving_; }
    RemoteDecider& decider() { return decider_; }
    EventLog& log() { return log_; }
    TaskGroup& tasks() { return tasks_; }

    void adopt(const Configuration& wanted);
    /// Every member holds it, and every node has adopted it.
    void in_force(const Configuration& now);
    /// By the newest of these that was heard of.
    MemberSet in_sync_in_force() const { return in_sync_in_force_; }
    /// Refused: it is of another array.
    Checked<Unit> check_same(const Configuration& other) const;
    void set_stopping(bool stopping) { stopping_ = stopping; }
    /// As the node that decides has told it.
    void set_told(ToldStatus told) {
        log_.set_version(told.version);
        told_ = std::move(told);
    }
    /// A walk runs, as far as this node has been told.
    bool is_walked() const { return !told_.walks.empty(); }
    /// Ends what runs by itself.
    Task<void> end_tasks();
    bool is_stopping() const { return stopping_; }
    /// This node decides about it from now on; `array` works with serving().
    void decide(std::unique_ptr<LocalArray> array);
    /// For a node that decides.
    LocalArray& decided() { return *decides_; }

    // Array
    Array& inner() override { return *decides_; }
    const Configuration& configuration() const override {
        return decides_ ? decides_->configuration() : configuration_;
    }
    void submit(IoRequest& request) override { serving_.submit(request); }
    Task<Result<void>> stop() override;
    ArrayStatus status() const override;
    Task<Checked<Unit>> fail_member(MemberName name, Force force) override;
    Task<Checked<Unit>> remove_member(MemberName name) override;
    Task<Checked<Unit>> add_member(std::unique_ptr<Disk> disk, Force force) override;
    Task<Checked<Unit>> replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                       Force force) override;
    Task<Checked<Unit>> start_scrub(ScrubMode mode) override;
    Checked<Unit> stop_scrub() override;
    Task<Checked<Unit>> change_intent(IntentChange change) override;
    bool read_direct(ArrayOffset offset, ByteSpan into) override {
        return serving_.read_direct(offset, into);
    }
    void note_latency(Nanos latency) override { serving_.note_latency(latency); }

  private:
    Task<Result<void>> stop_deciding();
    std::string failure() const;
    Task<Checked<Unit>> order(Words words);
    Task<Checked<Unit>> order_with(std::unique_ptr<Disk> disk, Words words);

    Configuration configuration_;
    const Geometry geometry_;
    TaskGroup tasks_;
    EventLog log_;
    RemoteDecider decider_;
    Serving serving_;
    MemberSet in_sync_in_force_;
    bool stopping_{false};
    ToldStatus told_;
    std::unique_ptr<LocalArray> decides_;  // none: another node does
    bool stop_begun_{false};
    Event stopped_;
    Result<void> result_;  // of the stop
};

}  // namespace braid::cluster
