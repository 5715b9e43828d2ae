// SPDX-License-Identifier: BSD-3-Clause
// braid member: orders about single members of a running array.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "cli/fields.h"
#include "cli/online.h"
#include "cli/online_tools.h"
#include "engine/base/uuid.h"

namespace braid::cli {
namespace {

struct MemberOptions {
    std::string socket;
    std::string name;
    std::string path;
    bool force{false};
};

/// A role, a uuid or a path, of which the server knows the absolute form only.
std::string name_for_server(const std::string& name) {
    const bool role = std::ranges::all_of(name, [](char one) { return one >= '0' && one <= '9'; });
    if (role || Uuid::parse(name)) return name;
    return absolute_path(name);
}

std::string resource_of(const MemberOptions& options, const char* verb) {
    return "/v1/members/" + ControlClient::escape(name_for_server(options.name)) + "/" + verb;
}

/// JSON is UTF-8, and a path need not be.
nlohmann::json body_of(const std::string& path, bool force) {
    using nlohmann::json;
    const std::string text = one_line(json(path));
    const bool is_utf8 = json::parse(text, nullptr, false) == json(path);
    if (is_utf8) return {{"force", force}, {"path", path}};
    return {{"force", force}, {"path_escaped", ControlClient::escape(path)}};
}

Checked<int> fail(ControlClient& client, const MemberOptions& options) {
    BRAID_CHECK(client.post(resource_of(options, "fail"), {{"force", options.force}}));
    fmt::print(
        "member {} is faulty now; `braid member replace {} PATH` puts another in its place\n",
        options.name, options.name);
    return 0;
}
Checked<int> forget(ControlClient& client, const MemberOptions& options) {
    BRAID_CHECK(client.post(resource_of(options, "remove"), nlohmann::json::object()));
    fmt::print("member {} is removed\n", options.name);
    return 0;
}
Checked<int> add(ControlClient& client, const MemberOptions& options) {
    const std::string path = absolute_path(options.path);
    BRAID_CHECK(client.post("/v1/members", body_of(path, options.force)));
    fmt::print("{} is added; `braid status` shows what it became\n", path);
    return 0;
}
Checked<int> replace(ControlClient& client, const MemberOptions& options) {
    const std::string path = absolute_path(options.path);
    BRAID_CHECK(client.post(resource_of(options, "replace"), body_of(path, options.force)));
    fmt::print("{} takes the place of member {}; `braid rebuild --wait` follows its rebuild\n",
               path, options.name);
    return 0;
}

struct Order {
    const char* name;
    const char* text;
    Checked<int> (*run)(ControlClient&, const MemberOptions&);
    bool takes_name;
    bool takes_path;
};
constexpr Order orders[]{
    {"fail", "stop using a member: it is faulty from now on", fail, true, false},
    {"remove", "forget a faulty or missing member, or a spare", forget, true, false},
    {"add", "add a spare; it is rebuilt at once if a member is lost", add, false, true},
    {"replace", "put a new device into a member's place and rebuild it", replace, true, true},
};

}  // namespace

void add_member_command(CLI::App& app, int* exit_status) {
    CLI::App* member = app.add_subcommand("member", "fail, remove, add or replace a member");
    member->require_subcommand(1);
    for (const Order& order : orders) {
        auto options = std::make_shared<MemberOptions>();
        CLI::App* command = member->add_subcommand(order.name, order.text);
        add_socket_option(*command, &options->socket);
        if (order.takes_name) {
            command->add_option("member", options->name, "its role (a number), path or uuid")
                ->required()
                ->type_name("MEMBER");
        }
        if (order.takes_path) {
            command->add_option("path", options->path, "the new file or block device")
                ->required()
                ->type_name("PATH");
            command->add_flag(
                "--force", options->force,
                order.takes_name ? "even if it holds something, or rows in doubt cannot be known "
                                   "without the old one: that is lost"
                                 : "even if it holds something, or rows are known to a lost member "
                                   "alone: that is lost");
        } else if (order.run == fail) {
            command->add_flag("--force", options->force,
                              "even if rows in doubt cannot be known without it");
        }
        command->callback([options, exit_status, run = order.run] {
            *exit_status = with_server(
                options->socket, [&](ControlClient& client) { return run(client, *options); });
        });
    }
}

}  // namespace braid::cli
