// SPDX-License-Identifier: BSD-3-Clause
#include "cli/online.h"

#include <CLI/CLI.hpp>

#include "cli/online_tools.h"
#include "engine/base/path.h"

namespace braid::cli {

void add_online_commands(CLI::App& app, int* exit_status) {
    add_status_command(app, exit_status);
    add_member_command(app, exit_status);
    add_scrub_command(app, exit_status);
    add_rebuild_command(app, exit_status);
    add_intent_command(app, exit_status);
    add_volume_command(app, exit_status);
    add_reservation_commands(app, exit_status);
    add_node_command(app, exit_status);
    add_start_command(app, exit_status);
    add_check_command(app, exit_status);
}

void add_socket_option(CLI::App& command, std::string* path) {
    command
        .add_option("--socket", *path,
                    "control socket of the server: what it was given as socket=PATH")
        ->envname("BRAID_SOCKET")
        ->type_name("PATH");
}

int refuse(const std::string& text) {
    std::fprintf(stderr, "braid: %s\n", text.c_str());
    return 1;
}

int with_server(const std::string& socket, const std::function<Checked<int>(ControlClient&)>& ask) {
    if (socket.empty()) {
        return refuse(
            "which server? Say --socket PATH, with the path that nbdkit was given as socket=PATH, "
            "or set BRAID_SOCKET");
    }
    ControlClient client(socket);
    const Checked<int> status = ask(client);
    return status ? *status : refuse(status.error().text);
}

std::string absolute_path(const std::string& path) {
    if (const auto real = real_path(path)) return *real;
    const auto folder = real_path_of_new(path);
    return folder ? *folder : rooted_path(path);
}

}  // namespace braid::cli
