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

#include "engine/io/uring_disk.h"

namespace braid::plugin {

class HangUp {
  public:
    /// `spare` is the path of a listening socket whose connections are left alone. `give_up` is
    /// called, on a thread of its own, when clients that do not read their replies still keep
    /// nbdkit from ending.
    HangUp(std::string spare, std::function<void()> give_up)
        : spare_(std::move(spare)), give_up_(std::move(give_up)) {}
    ~HangUp() { stop(); }
    /// Once a process: chains itself in front of nbdkit's handlers of the signals that stop it.
    bool start();
    void stop();

  private:
    void watch();

    std::string spare_;
    std::function<void()> give_up_;
    UniqueFd stop_fd_;
    std::thread thread_;
    bool started_{false};
};

/// Ends the reading half of the connections that came in through one of this process's listening
/// sockets: what was read is still answered. Returns how many there were.
int hang_up_clients(const std::string& spare);

}  // namespace braid::plugin
