// SPDX-License-Identifier: BSD-3-Clause
// braid volume: the volumes of a running array.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"

namespace braid::cli {
namespace {

struct VolumeOptions {
    std::string socket;
    bool as_json{false};
};

Checked<int> list(ControlClient& client, const VolumeOptions& options) {
    BRAID_TRY(const nlohmann::json answer, client.get("/v1/volumes"));
    if (options.as_json) {
        fmt::print("{}\n", answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
        return 0;
    }
    std::size_t width = 6;
    for (const nlohmann::json& volume : list_in(answer, "volumes")) {
        width = std::max(width, text_in(volume, "name").size());
    }
    fmt::print("{:<{}}  {:>10}  {:>20}\n", "volume", width, "size", "first byte in array");
    for (const nlohmann::json& volume : list_in(answer, "volumes")) {
        fmt::print("{:<{}}  {:>10}  {:>20}\n", text_in(volume, "name"), width,
                   size_text(number_in(volume, "size")), number_in(volume, "offset"));
    }
    return 0;
}

}  // namespace

void add_volume_command(CLI::App& app, int* exit_status) {
    CLI::App* volume = app.add_subcommand("volume", "the volumes of a running array");
    volume->require_subcommand(1);
    auto options = std::make_shared<VolumeOptions>();
    CLI::App* command = volume->add_subcommand("list", "name, size and place of each");
    add_socket_option(*command, &options->socket);
    command->add_flag("--json", options->as_json, "as JSON, for programs");
    command->callback([options, exit_status] {
        *exit_status = with_server(options->socket,
                                   [&](ControlClient& client) { return list(client, *options); });
    });
}

}  // namespace braid::cli
