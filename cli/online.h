// SPDX-License-Identifier: BSD-3-Clause
// The commands that ask a running server over its control socket (status, member, scrub, rebuild,
// intent, volume, node), and `check`, which opens the array itself. main() adds them all with
// add_online_commands(); after parsing, *exit_status is what the command that ran came to.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace braid::cli {

void add_online_commands(CLI::App& app, int* exit_status);

// One file each.
void add_status_command(CLI::App& app, int* exit_status);
void add_member_command(CLI::App& app, int* exit_status);
void add_scrub_command(CLI::App& app, int* exit_status);
void add_rebuild_command(CLI::App& app, int* exit_status);
void add_intent_command(CLI::App& app, int* exit_status);
void add_volume_command(CLI::App& app, int* exit_status);
void add_node_command(CLI::App& app, int* exit_status);
void add_start_command(CLI::App& app, int* exit_status);
void add_reservation_commands(CLI::App& app, int* exit_status);
void add_check_command(CLI::App& app, int* exit_status);

/// --socket PATH, by default $BRAID_SOCKET.
void add_socket_option(CLI::App& command, std::string* path);

}  // namespace braid::cli
