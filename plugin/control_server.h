// SPDX-License-Identifier: BSD-3-Clause
// ControlServer: HTTP/1.1 with JSON on a unix socket of mode 0600, so that `braid` and curl can ask
// a running array how it is and tell it what to do. libmicrohttpd gives each connection a thread;
// commands run on the loop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cluster/node/start_status.h"
#include "control/control_parse.h"
#include "engine/base/result.h"
#include "engine/io/listen_socket.h"
#include "engine/io/uring_disk.h"
#include "engine/status.h"
#include "plugin/bridge.h"
#include "plugin/event_hub.h"

struct MHD_Daemon;

namespace braid::plugin {

using namespace control;  // the words of what is asked here

struct ControlAnswer {
    unsigned status{200};
    std::string body{};   // JSON
    std::string allow{};  // the header of that name, when not empty
    bool closes{false};   // the connection
};

/// What can be asked of a node that does not serve yet: any thread but the loop's. A refusal: it
/// serves, or ends, or will in a moment.
class StartDesk {
  public:
    virtual ~StartDesk() = default;
    virtual Checked<cluster::StartStatus> start_status() = 0;
    virtual Checked<nlohmann::json> create(CreateOrder order) = 0;
    virtual Checked<Unit> start_without(std::vector<std::uint32_t> nodes) = 0;
};

class ControlServer {
  public:
    ControlServer() = default;
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;
    ~ControlServer() { stop(); }

    /// Makes the socket and listens; before the fork, so that a mistake is told to who starts it.
    Checked<Unit> bind(const std::string& path);
    /// After the fork. All must live until stop().
    /// @param desk  of a node that waits until it serves; or null
    Checked<Unit> start(EventHub& events, StartDesk* desk);
    /// The array serves, and is asked from now on.
    void serve(Bridge& bridge, UringLoop& loop);
    /// Orders are refused from now on; questions are answered until stop().
    void refuse_orders();
    /// Waits for the commands under way, ends the connections and removes the socket. Idempotent.
    void stop();
    /// For libmicrohttpd: whether a connection that begins is to be served; leave() if it was.
    bool enter();
    void leave() { --connections_; }

    /// What the array answers to `request`: any thread but the loop's.
    ControlAnswer answer(const ControlRequest& request);

  private:
    Result<std::string, HttpError> run(const ControlCommand& command);
    Result<std::string, HttpError> run_waiting(const ControlCommand& command);
    bool wait_until_it_serves();
    Result<std::string, HttpError> run_events(const EventsQuery& query);
    Result<std::string, HttpError> run_add(const AddMember& command);
    Result<std::string, HttpError> run_replace(const ReplaceMember& command);
    Result<MemberFile, HttpError> open_new_member(const std::string& path);
    void wait_for_start(std::uint64_t before);
    void wait_for_rebuild(std::uint64_t before);
    ArrayStatus status();

    ListenSocket listener_;
    MHD_Daemon* daemon_{nullptr};
    EventHub* events_{nullptr};
    StartDesk* desk_{nullptr};
    std::mutex serving_;  // for these two
    std::condition_variable serving_changed_;
    std::atomic<bool> serves_{false};  // then these two stay as they are
    Bridge* bridge_{nullptr};
    UringLoop* loop_{nullptr};
    std::atomic<int> connections_{0};
    std::atomic<bool> stopping_{false};
    std::atomic<bool> ended_{false};
};

}  // namespace braid::plugin
