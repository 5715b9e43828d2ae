// SPDX-License-Identifier: BSD-3-Clause
// The braid command. Each command has a file of its own, which adds it to the parser; here they are
// put together.
#include <CLI/CLI.hpp>

#include "cli/offline.h"
#include "cli/online.h"

int main(int count, char** arguments) {
    CLI::App app{"braid: RAID-4, RAID-5 and RAID-6 arrays, served by nbdkit"};
    app.set_version_flag("--version", "braid " BRAID_VERSION);
    app.require_subcommand(1);
    app.footer("Examples, and what everything means: man braid");
    int exit_status = 0;
    braid::cli::add_offline_commands(app, &exit_status);
    braid::cli::add_online_commands(app, &exit_status);
    try {
        app.parse(count, arguments);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;  // help and version are no errors
    }
    return exit_status;
}
