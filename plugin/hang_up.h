// SPDX-License-Identifier: BSD-3-Clause
// HangUp: ends the clients' connections when nbdkit is told to stop. nbdkit 1.32 waits until the
// last client leaves by itself, so a client that idles would keep the array from being marked
// clean, until somebody loses patience and kills the server. Requests that were taken are
// answered first.
#pragma once

#include <csignal>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/io/uring_disk.h"

namespace braid::plugin {

class HangUp {
  public:
    /// `spare` is the path of a listening socket whose connections are left alone. `give_up` is
    /// called, on a thread of its own, when clients that do not read their replies still keep
    /// nbdkit from ending; `told`, there, when a signal has come.
    HangUp(std::string spare, std::function<void()> told, std::function<void()> give_up)
        : spare_(std::move(spare)), told_(std::move(told)), give_up_(std::move(give_up)) {}
    ~HangUp() { stop(); }
    /// Once a process, when nbdkit listens and nobody else does: chains itself in front of
    /// nbdkit's handlers of the signals that stop it.
    bool start();
    /// Whatever `give_up` ends is there. Nobody is hung up before, nor given up.
    void serves();
    void stop();

  private:
    void watch();
    bool wait_for(int fd) const;

    std::string spare_;
    std::vector<std::string> listening_;  // nbdkit's sockets, by name
    std::function<void()> told_;
    std::function<void()> give_up_;
    UniqueFd stop_fd_;
    UniqueFd serves_fd_;
    std::thread thread_;
    bool started_{false};
};

/// The listening sockets of this process, by name, but for that at the path `spare`.
std::vector<std::string> listening_sockets(const std::string& spare);
/// Ends the reading half of the connections that came in through one of these: what was read is
/// still answered. Returns how many there were.
int hang_up_clients(const std::vector<std::string>& listening);

}  // namespace braid::plugin
