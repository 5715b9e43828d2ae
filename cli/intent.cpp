// SPDX-License-Identifier: BSD-3-Clause
// braid intent: shows the write intent of a running array, or changes it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/fields.h"
#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "control/size_argument.h"

namespace braid::cli {
namespace {

using nlohmann::json;

struct IntentOptions {
    std::string socket;
    std::string state;
    std::string region;
    bool as_json{false};
};

Checked<json> get_intent(ControlClient& client) {
    BRAID_TRY(json answer, client.get("/v1/intent"));
    if (answer.contains("intent") && answer["intent"].is_object()) return answer;
    return Refusal{"the server says nothing of a write intent: is it of another version of braid?"};
}

/// The order for the server; empty if nothing is to change.
Checked<json> change_of(const IntentOptions& options) {
    json change = json::object();
    if (!options.state.empty()) change["on"] = options.state == "on";
    if (!options.region.empty()) {
        const auto size = control::parse_size(options.region);
        if (!size) return Refusal{fmt::format("--region {}", size.error().text)};
        change["region"] = *size;
    }
    return change;
}

Checked<int> run(ControlClient& client, const IntentOptions& options) {
    BRAID_TRY(const json change, change_of(options));
    if (!change.empty()) BRAID_CHECK(client.post("/v1/intent", change));
    BRAID_TRY(const json answer, get_intent(client));
    if (options.as_json) {
        fmt::print("{}\n", readable(answer));
    } else {
        fmt::print("{}", draw_intent(answer));
    }
    return 0;
}

}  // namespace

void add_intent_command(CLI::App& app, int* exit_status) {
    auto options = std::make_shared<IntentOptions>();
    CLI::App* command =
        app.add_subcommand("intent", "show the write intent of a running array, or change it");
    add_socket_option(*command, &options->socket);
    command->add_option("state", options->state, "on or off; without it, it is shown")
        ->check(CLI::IsMember({"on", "off"}))
        ->type_name("on|off");
    command
        ->add_option("--region", options->region,
                     "bytes of data that one mark covers, a power of two from 64K to 1T")
        ->type_name("SIZE");
    command->add_flag("--json", options->as_json, "as JSON, for programs");
    command->callback([options, exit_status] {
        *exit_status = with_server(options->socket,
                                   [&](ControlClient& client) { return run(client, *options); });
    });
}

}  // namespace braid::cli
