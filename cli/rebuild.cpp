// SPDX-License-Identifier: BSD-3-Clause
// braid rebuild: how far the rebuild of a member, or the resync of parity, is.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/fields.h"
#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "cli/text.h"

namespace braid::cli {
namespace {

struct RebuildOptions {
    std::string socket;
    bool wait{false};
    bool as_json{false};
};

bool is_rebuild(const nlohmann::json& task) {
    const std::string kind = text_in(task, "kind");
    return kind == "rebuilding" || kind == "resyncing";
}

/// What does not go on by itself, or soon; of a scrub nobody has asked.
nlohmann::json waits_in(const nlohmann::json& status) {
    nlohmann::json waits = nlohmann::json::array();
    for (const nlohmann::json& wait : list_in(status, "waits")) {
        if (text_in(wait, "what") != "scrubbing") waits.push_back(wait);
    }
    return waits;
}

std::string summary(const nlohmann::json& status) {
    std::string text;
    for (const nlohmann::json& wait : waits_in(status)) {
        text += (text.empty() ? "" : "\n") + wait_line(wait, Style::of_stdout());
    }
    if (!text.empty()) return text;
    if (text_in(status, "health") == "failed") {
        return "nothing is being rebuilt: the array has failed, see `braid status`";
    }
    if (flag_in(status, "in_doubt")) {
        return fmt::format(
            "parity of {} of data is in doubt, and nothing is seen to make it true: see "
            "`braid status`",
            size_text(number_in(status, "doubt_bytes")));
    }
    if (text_in(status, "health") == "clean") return "nothing to rebuild: all members are in sync";
    if (text_in(status, "health") == "damaged") {
        return fmt::format(
            "nothing to rebuild: all members are in sync, but {} cannot be known: "
            "`braid volume bad` lists them",
            size_text(number_in(status, "bad_bytes")));
    }
    return "nothing is being rebuilt, but a member is lost: `braid member add PATH` gives the "
           "array a new one";
}

Checked<int> run(ControlClient& client, const RebuildOptions& options) {
    if (options.wait) {
        BRAID_TRY(const nlohmann::json after, follow_tasks(client, {"rebuilding", "resyncing"}));
        fmt::print("{}\n", summary(after));
        const bool knows_all = number_in(after, "bad_bytes") == 0;
        const bool is_done = waits_in(after).empty() && !flag_in(after, "in_doubt");
        return text_in(after, "health") == "clean" && knows_all && is_done ? 0 : 1;
    }
    BRAID_TRY(const nlohmann::json status, get_status(client));
    nlohmann::json running = nlohmann::json::array();
    for (const nlohmann::json& task : list_in(status, "tasks")) {
        if (is_rebuild(task)) running.push_back(task);
    }
    if (options.as_json) {
        const nlohmann::json answer{{"tasks", running}, {"waits", waits_in(status)}};
        fmt::print("{}\n", readable(answer));
        return 0;
    }
    for (const nlohmann::json& task : running) {
        fmt::print("{}\n", task_line(task, Style::of_stdout()));
    }
    if (running.empty()) {
        fmt::print("{}\n", summary(status));
        return 0;
    }
    for (const nlohmann::json& wait : waits_in(status)) {
        fmt::print("{}\n", wait_line(wait, Style::of_stdout()));
    }
    return 0;
}

}  // namespace

void add_rebuild_command(CLI::App& app, int* exit_status) {
    auto options = std::make_shared<RebuildOptions>();
    CLI::App* command = app.add_subcommand("rebuild", "how far the rebuild of a running array is");
    add_socket_option(*command, &options->socket);
    command->add_flag(
        "--wait", options->wait,
        "until it is done, or waits for what will not come by itself; exit status 1 if "
        "so, if a member is still lost then, parity is in doubt, or bytes cannot be known");
    command->add_flag("--json", options->as_json, "as JSON, for programs");
    command->callback([options, exit_status] {
        *exit_status = with_server(options->socket,
                                   [&](ControlClient& client) { return run(client, *options); });
    });
}

}  // namespace braid::cli
