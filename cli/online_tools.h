// SPDX-License-Identifier: BSD-3-Clause
// What the online commands share.
#pragma once

#include <cstdio>
#include <functional>
#include <string>

#include "cli/control_client.h"
#include "engine/base/result.h"

namespace braid::cli {

/// Prints why not, and gives the exit status that goes with it.
int refuse(const std::string& text);
/// Runs `ask` with a client of the server at `socket`; its result, or a refusal's, is the exit
/// status of the command.
int with_server(const std::string& socket, const std::function<Checked<int>(ControlClient&)>& ask);
/// Without links, as the kernel resolves it: the server has another current directory than we. What
/// is not there keeps its last name, or, where not even its folder is there, everything.
std::string absolute_path(const std::string& path);
/// Follows what runs in the background, `kinds` of it, with a line of progress on standard error,
/// until none of it runs; gives the status after that.
Checked<nlohmann::json> follow_tasks(ControlClient& client, const std::vector<std::string>& kinds);

/// A line that is drawn over itself on a terminal, and elsewhere once in a while.
class ProgressLine {
  public:
    ProgressLine();
    ~ProgressLine() { finish(); }
    void show(const std::string& text);
    /// Ends the line, if there is one.
    void finish();

  private:
    bool terminal_;
    bool open_{false};
    long last_shown_{0};  // seconds, where it is no terminal
};

}  // namespace braid::cli
