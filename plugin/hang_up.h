// SPDX-License-Identifier: BSD-3-Clause
// HangUp: ends the clients' connections when nbdkit is told to stop. nbdkit 1.32 waits until the
// last client leaves by itself, so a client that idles would keep the array from being marked
// clean, until somebody loses patience and kills the server. Requests that were taken are
// answered first.
#pragma once

#include <csignal>
#include <string>
#include <thread>

#include "engine/io/uring_disk.h"

namespace braid::plugin {

class HangUp {
  public:
    /// `spare` is the path of a listening socket whose connections are left alone.
    explicit HangUp(std::string spare) : spare_(std::move(spare)) {}
    ~HangUp() { stop(); }
    /// Once a process: chains itself in front of nbdkit's handlers of the signals that stop it.
    bool start();
    void stop();

  private:
    void watch();

    std::string spare_;
    UniqueFd stop_fd_;
    std::thread thread_;
    bool started_{false};
};

/// Shuts down the connections of this process that came in through one of its listening sockets;
/// the reading half only, unless `both`. Returns how many there were.
int hang_up_clients(const std::string& spare, bool both);

}  // namespace braid::plugin
