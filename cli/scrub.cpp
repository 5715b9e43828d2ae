// SPDX-License-Identifier: BSD-3-Clause
// braid scrub: reads the whole running array and compares.
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

struct ScrubOptions {
    std::string socket;
    bool repair{false};
    bool wait{false};
    bool as_json{false};
};

/// 0 when all was true or repaired, 1 when rows are left that are wrong, or cannot be known.
int verdict(const nlohmann::json& status) {
    const nlohmann::json& last = status["last_scrub"];
    const std::uint64_t listed = number_in(status, "bad_bytes");
    if (listed != 0) {
        fmt::print("{} are listed, and cannot be known; see `braid volume bad`\n",
                   size_text(listed));
    }
    const bool wrong = number_in(last, "mismatches") > number_in(last, "repaired");
    return wrong || listed != 0 || number_in(last, "bytes_unknown") != 0 ? 1 : 0;
}

Checked<int> start(ControlClient& client, const ScrubOptions& options) {
    BRAID_CHECK(client.post("/v1/scrub", {{"repair", options.repair}}));
    if (!options.wait) {
        fmt::print("the scrub runs{}; `braid scrub status` tells how far it is\n",
                   options.repair ? " and repairs what it can" : "");
        return 0;
    }
    BRAID_TRY(const nlohmann::json status, follow_tasks(client, {"scrubbing"}));
    for (const nlohmann::json& wait : list_in(status, "waits")) {
        if (text_in(wait, "what") == "scrubbing") return Refusal{wait_line(wait, Style{})};
    }
    if (flag_in(status, "scrub_waits")) {
        return Refusal{
            "the scrub waits for what comes before it, and is not at its end; see `braid "
            "status`"};
    }
    if (!status.contains("last_scrub") || !status["last_scrub"].is_object()) {
        return Refusal{"the scrub ended without a result; see `braid status`"};
    }
    fmt::print("scrubbed: {}\n", scrub_result(status["last_scrub"]));
    return verdict(status);
}

Checked<int> stop(ControlClient& client, const ScrubOptions&) {
    BRAID_CHECK(client.remove("/v1/scrub"));
    fmt::print("the scrub is stopped\n");
    return 0;
}

Checked<int> show(ControlClient& client, const ScrubOptions& options) {
    BRAID_TRY(const nlohmann::json scrub, client.get("/v1/scrub"));
    if (options.as_json) {
        fmt::print("{}\n", readable(scrub));
        return 0;
    }
    const Style style = Style::of_stdout();
    const bool runs = scrub.contains("running") && scrub["running"].is_object();
    fmt::print("{}\n", runs ? task_line(scrub["running"], style) : "no scrub runs");
    if (scrub.contains("last") && scrub["last"].is_object()) {
        fmt::print("the last one: {}\n", scrub_result(scrub["last"]));
    }
    return 0;
}

}  // namespace

void add_scrub_command(CLI::App& app, int* exit_status) {
    CLI::App* scrub =
        app.add_subcommand("scrub", "read all of a running array and compare data with parity");
    scrub->require_subcommand(1);
    const auto add = [&](const char* name, const char* text, auto run) {
        auto options = std::make_shared<ScrubOptions>();
        CLI::App* command = scrub->add_subcommand(name, text);
        add_socket_option(*command, &options->socket);
        command->callback([options, exit_status, run] {
            *exit_status = with_server(
                options->socket, [&](ControlClient& client) { return run(client, *options); });
        });
        return std::pair{command, options};
    };
    const auto [start_command, start_options] = add("start", "start a scrub", start);
    start_command->add_flag("--repair", start_options->repair,
                            "rewrite what is wrong (RAID-4 and RAID-5: the parity)");
    start_command->add_flag(
        "--wait", start_options->wait,
        "until it is done; exit status 1 if rows are left that are wrong or cannot be known");
    add("stop", "stop the scrub that runs", stop);
    const auto [status_command, status_options] =
        add("status", "how far the scrub is, and how the last one ended", show);
    status_command->add_flag("--json", status_options->as_json, "as JSON, for programs");
}

}  // namespace braid::cli
