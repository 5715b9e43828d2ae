// SPDX-License-Identifier: BSD-3-Clause
// Server: an array behind nbdkit. Opens the members before nbdkit forks, runs the loop on a thread
// of its own after that, and takes everything down in order at the end.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "cluster/config/cluster_config.h"
#include "cluster/config/key_file.h"
#include "cluster/node/cluster_node.h"
#include "engine/array.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_net.h"
#include "plugin/bridge.h"
#include "plugin/control_server.h"
#include "plugin/event_hub.h"
#include "plugin/parameters.h"

namespace braid::plugin {

/// An NBD export: a volume.
struct Export {
    std::string name;
    std::string description;
    VolumeArea area;
};

class Server final : private StartDesk {
  public:
    using Log = std::function<void(Severity, const std::string&)>;

    /// This node of a cluster has served, and is of no use any more: the server is to end. Any thread.
    using Ends = std::function<void(cluster::NodeEnds why)>;
    /// Before the fork: opens and locks the members and looks whether they make an array.
    static Checked<std::unique_ptr<Server>> prepare(Parameters parameters, Log log, Ends ends);
    ~Server() override;
    /// After the fork: starts the loop, opens the array, and returns when it serves; in a cluster
    /// that is when all of its nodes are there. Until then the control socket tells what it waits for.
    Checked<Unit> start();
    /// Any thread: start() does not wait for other nodes any more.
    void cancel_start();
    /// Ends requests and commands and marks the array clean; what comes later is answered with
    /// Errc::fenced. Idempotent.
    void finish();
    /// finish(), and takes everything down: when no request can come any longer. Idempotent.
    void stop();

    // From start() to stop(), any thread.
    /// A client connects to the volume; close_volume() follows when it has left. Refused, and
    /// nothing follows: another node of the cluster has it for itself.
    Checked<Unit> open_volume(const std::string& volume);
    void close_volume(const std::string& volume);
    Bridge& bridge() { return *bridge_; }
    EventHub& events() { return events_; }
    UringLoop& loop() { return *loop_; }
    bool readonly() const { return parameters_.readonly; }
    const std::vector<Export>& exports() const { return exports_; }
    const Export* find_export(std::string_view name) const;
    const Export* default_export() const;
    const std::string& socket_path() const { return parameters_.socket; }

  private:
    Server(Parameters parameters, Log log, Ends ends);
    Checked<Unit> open_members();
    Checked<Unit> try_assembly();
    Checked<Unit> read_cluster();
    // on the loop's thread
    Checked<Unit> open_array();
    void make_node();
    void end_node();
    Checked<std::unique_ptr<Array>> open_node(std::vector<std::unique_ptr<Disk>> opened);
    Checked<std::unique_ptr<Array>> start_node();
    Checked<Unit> begin_asking();
    void end_asking();
    bool is_cancelled();
    ArrayOptions array_options();
    void stop_array();
    void run_loop(std::function<void(Checked<Unit>)> started);
    void run_log();
    // StartDesk
    Checked<cluster::StartStatus> start_status() override;
    Checked<nlohmann::json> create(CreateOrder order) override;
    Checked<Unit> start_without(std::vector<std::uint32_t> nodes) override;
    template <class T>
    Checked<T> ask_node(std::function<Task<Checked<T>>(cluster::ClusterNode*)> ask);
    Checked<Unit> find_exports(const Configuration& configuration);

    Parameters parameters_;
    std::optional<cluster::ClusterConfig> cluster_;
    std::optional<cluster::ClusterKey> key_;
    std::mutex asking_;        // for these two
    bool node_starts_{false};  // messages to the loop find the node, or find that it ends
    bool cancelled_{false};
    bool control_starts_{false};  // the control socket is answered
    Log log_;
    Ends ends_;
    std::atomic<bool> has_left_{false};
    std::vector<MemberFile> files_;
    std::vector<Export> exports_;
    EventHub events_;
    std::unique_ptr<ControlServer> control_;
    std::unique_ptr<UringLoop> loop_;
    std::unique_ptr<UringNet> net_;               // of a cluster's node
    std::unique_ptr<cluster::ClusterNode> node_;  // it outlives its array
    std::unique_ptr<TaskGroup> asks_;             // of the node, while it starts
    std::unique_ptr<Array> array_;
    std::unique_ptr<Bridge> bridge_;
    bool serves_{false};
    bool finished_{false};
    std::binary_semaphore left_alone_{0};  // stop() does not touch the loop any longer
    std::thread loop_thread_;
    std::thread log_thread_;
};

/// "RAID-6 of 6 members, strips of 64 KiB" for people.
std::string describe(const Configuration& configuration);
std::vector<Export> exports_of(const Configuration& configuration);

}  // namespace braid::plugin
