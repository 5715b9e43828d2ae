// SPDX-License-Identifier: BSD-3-Clause
// The commands that need no server: create, examine and restore, which work on members that nobody
// serves, and cluster, which works on a cluster's file and key. main() adds them with add_offline_commands(); after parsing, *exit_status is what the command that ran came to.
#pragma once

namespace CLI {
class App;
}

namespace braid::cli {

void add_create_command(CLI::App& app, int* exit_status);
void add_examine_command(CLI::App& app, int* exit_status);
void add_restore_command(CLI::App& app, int* exit_status);
void add_cluster_command(CLI::App& app, int* exit_status);

inline void add_offline_commands(CLI::App& app, int* exit_status) {
    add_create_command(app, exit_status);
    add_examine_command(app, exit_status);
    add_restore_command(app, exit_status);
    add_cluster_command(app, exit_status);
}

}  // namespace braid::cli
