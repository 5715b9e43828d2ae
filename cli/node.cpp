// SPDX-License-Identifier: BSD-3-Clause
// braid node: the nodes of a cluster, how one leaves, and how one is taken out of service; braid start:
// how a cluster begins that lacks some.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/fields.h"
#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "cli/text.h"
#include "engine/base/limits.h"

namespace braid::cli {
namespace {

struct NodeOptions {
    std::string socket;
    std::uint32_t node{0};
    bool as_json{false};
    bool drain{false};
};

std::string members_text(const nlohmann::json& node) {
    std::string text;
    for (const nlohmann::json& member : list_in(node, "members")) {
        if (!member.is_number_unsigned()) continue;
        text += fmt::format("{}{}", text.empty() ? "" : ",", member.get<std::uint64_t>());
    }
    return text.empty() ? "-" : text;
}

Checked<int> list(ControlClient& client, const NodeOptions& options) {
    BRAID_TRY(const nlohmann::json answer, client.get("/v1/status"));
    const nlohmann::json nodes = list_in(answer, "nodes");
    if (options.as_json) {
        fmt::print("{}\n", readable(nlohmann::json{{"nodes", nodes}}));
        return 0;
    }
    if (nodes.empty()) {
        fmt::print("this server is alone: it is no node of a cluster\n");
        return 0;
    }
    fmt::print("{:<6}{:<12}{:<16}{}\n", "node", "state", "members", "");
    for (const nlohmann::json& node : nodes) {
        std::string rest = flag_in(node, "this") ? "this one" : "";
        if (flag_in(node, "needed")) {
            rest += (rest.empty() ? "" : "; ") + std::string("needed: the array stops without it");
        }
        if (const std::string why = harmless(text_in(node, "why")); !why.empty()) {
            rest += (rest.empty() ? "" : "; ") + why;
        }
        fmt::print("{:<6}{:<12}{:<16}{}\n", number_in(node, "id"), text_in(node, "state"),
                   members_text(node), rest);
    }
    return 0;
}

/// It leaves, and the others go on. Without a number: the node whose server is asked.
Checked<int> stop(ControlClient& client, const NodeOptions& options) {
    std::uint64_t node = options.node;
    if (node == 0) {
        BRAID_TRY(const nlohmann::json answer, client.get("/v1/status"));
        for (const nlohmann::json& one : list_in(answer, "nodes")) {
            if (flag_in(one, "this")) node = number_in(one, "id");
        }
        if (node == 0) return Refusal{"this server serves as no node of a cluster"};
    }
    BRAID_CHECK(client.post(fmt::format("/v1/nodes/{}/stop", node), nlohmann::json::object()));
    fmt::print(
        "node {} has left: the others go on without it, and its server ends. It is let in again "
        "when that is started\n",
        node);
    return 0;
}

// ---- a node goes for good ---------------------------------------------------------------------

struct MembersAt {  // of the node: what has a role and takes part, and what is a spare
    std::vector<std::uint64_t> roles;
    std::vector<std::string> spares;  // uuids
    std::size_t spares_elsewhere{0};
};

bool serves(const nlohmann::json& status, std::uint64_t node) {
    for (const nlohmann::json& one : list_in(status, "nodes")) {
        const std::string state = text_in(one, "state");
        if (number_in(one, "id") == node) return state != "excluded" && state != "killed";
    }
    return false;
}

/// None: it is a spare, or the witness.
std::optional<std::uint64_t> role_in(const nlohmann::json& member) {
    const auto at = member.find("role");
    if (at == member.end() || !at->is_number_unsigned()) return std::nullopt;
    return at->get<std::uint64_t>();
}

MembersAt members_at(const nlohmann::json& status, std::uint64_t node) {
    MembersAt at;
    for (const nlohmann::json& member : list_in(status, "members")) {
        const std::string state = text_in(member, "state");
        const bool is_here = number_in(member, "home") == node;
        if (state == "spare" && is_here) at.spares.push_back(text_in(member, "uuid"));
        if (state == "spare" && !is_here && serves(status, number_in(member, "home"))) {
            ++at.spares_elsewhere;
        }
        const bool takes_part = state == "in_sync" || state == "rebuilding";
        if (takes_part && is_here) at.roles.push_back(number_in(member, "role"));
    }
    return at;
}

/// Who has it, as far as the status tells; none: nobody.
nlohmann::json member_with(const nlohmann::json& status, std::uint64_t role) {
    for (const nlohmann::json& member : list_in(status, "members")) {
        if (role_in(member) == role) return member;
    }
    return nlohmann::json::object();
}

/// The role goes to a spare at another node, and is in sync there. What the one who decides does the
/// server that is asked hears a moment later.
Checked<Unit> move_role(ControlClient& client, std::uint64_t role, std::uint64_t node) {
    constexpr int looks_max = 20;  // while nothing is being rebuilt
    constexpr std::chrono::milliseconds pause{500};
    fmt::print(
        "member {} of node {} goes to a spare; until that is rebuilt the array is degraded\n", role,
        node);
    BRAID_CHECK(client.post(fmt::format("/v1/members/{}/fail", role), {{"force", false}}));
    for (int looks = 0; looks != looks_max; ++looks) {
        BRAID_TRY(const nlohmann::json after, follow_tasks(client, {"rebuilding", "resyncing"}));
        const nlohmann::json member = member_with(after, role);
        const std::string state = text_in(member, "state");
        if (state == "in_sync" && number_in(member, "home") != node) {
            fmt::print("member {} is at node {} now\n", role, number_in(member, "home"));
            return Unit{};
        }
        if (state == "rebuilding") looks = 0;
        std::this_thread::sleep_for(pause);
    }
    return Refusal{
        fmt::format("no spare takes the place of member {}: `braid status` shows why; node {} "
                    "stays. `braid member add PATH` gives the array a disk for it, then "
                    "order the same again",
                    role, node)};
}

/// Whether that can be is looked at before anything is moved.
Checked<Unit> drain(ControlClient& client, std::uint64_t node) {
    BRAID_TRY(const nlohmann::json status, follow_tasks(client, {"rebuilding", "resyncing"}));
    for (const nlohmann::json& one : list_in(status, "nodes")) {
        if (!flag_in(one, "this") || number_in(one, "id") != node) continue;
        return Refusal{
            fmt::format("node {} is the one that was asked: order it at another one, "
                        "which stays",
                        node)};
    }
    for (const nlohmann::json& member : list_in(status, "members")) {
        const std::optional<std::uint64_t> role = role_in(member);
        const std::string state = text_in(member, "state");
        if (!role || state == "in_sync" || state == "rebuilding") continue;
        return Refusal{
            fmt::format("member {} is {}: it goes before any that could be moved. `braid "
                        "member add PATH`, at a node that stays, gives the array a disk "
                        "for it; nothing has been moved",
                        *role, state)};
    }
    const MembersAt at = members_at(status, node);
    if (at.spares_elsewhere < at.roles.size()) {
        return Refusal{fmt::format(
            "{} of node {} have to go elsewhere, and there are {} at other nodes. `braid "
            "member add PATH`, at one of those, gives the array one more; nothing has been moved",
            counted(at.roles.size(), "member", "members"), node,
            counted(at.spares_elsewhere, "spare", "spares"))};
    }
    for (const std::string& spare : at.spares) {
        BRAID_CHECK(client.post("/v1/members/" + ControlClient::escape(spare) + "/remove",
                                nlohmann::json::object()));
        fmt::print("spare {} of node {} is a spare no more\n", spare, node);
    }
    for (const std::uint64_t role : at.roles) BRAID_CHECK(move_role(client, role, node));
    return Unit{};
}

Checked<int> remove(ControlClient& client, const NodeOptions& options) {
    if (options.drain) {
        BRAID_CHECK(drain(client, options.node));
        BRAID_TRY(const nlohmann::json status, client.get("/v1/status"));
        if (serves(status, options.node)) BRAID_CHECK(stop(client, options));
    }
    BRAID_CHECK(
        client.post(fmt::format("/v1/nodes/{}/remove", options.node), nlohmann::json::object()));
    fmt::print("node {} is none of the cluster's any more\n", options.node);
    return 0;
}

struct StartOptions {
    std::string socket;
    std::vector<std::uint32_t> without;
};

}  // namespace

void add_start_command(CLI::App& app, int* exit_status) {
    auto options = std::make_shared<StartOptions>();
    CLI::App* command =
        app.add_subcommand("start", "have a cluster start that waits for nodes, without these");
    add_socket_option(*command, &options->socket);
    command->add_option("--without", options->without, "a node that is not there")
        ->required()
        ->check(CLI::Range(std::uint32_t{1}, nodes_max - 1))
        ->type_name("ID");
    command->callback([options, exit_status] {
        *exit_status = with_server(options->socket, [&](ControlClient& client) -> Checked<int> {
            BRAID_CHECK(client.post("/v1/start", {{"without", options->without}}));
            std::string nodes;
            for (const std::uint32_t node : options->without) {
                nodes += fmt::format("{}{}", nodes.empty() ? "" : ", ", node);
            }
            fmt::print("the cluster starts without node {}; braid status shows how it is\n", nodes);
            return 0;
        });
    });
}

void add_node_command(CLI::App& app, int* exit_status) {
    CLI::App* node = app.add_subcommand("node", "the nodes of a cluster");
    node->require_subcommand(1);
    {
        auto options = std::make_shared<NodeOptions>();
        CLI::App* command = node->add_subcommand("list", "each with its state and its members");
        add_socket_option(*command, &options->socket);
        command->add_flag("--json", options->as_json, "as JSON, for programs");
        command->callback([options, exit_status] {
            *exit_status = with_server(
                options->socket, [&](ControlClient& client) { return list(client, *options); });
        });
    }
    const auto add = [&](const char* verb, const char* text, const char* done) {
        auto options = std::make_shared<NodeOptions>();
        CLI::App* command = node->add_subcommand(verb, text);
        add_socket_option(*command, &options->socket);
        command->add_option("node", options->node, "its id")
            ->required()
            ->check(CLI::Range(std::uint32_t{1}, nodes_max - 1))
            ->type_name("ID");
        command->callback([options, exit_status, verb, done] {
            *exit_status = with_server(options->socket, [&](ControlClient& client) -> Checked<int> {
                BRAID_CHECK(client.post(fmt::format("/v1/nodes/{}/{}", options->node, verb),
                                        nlohmann::json::object()));
                fmt::print("node {} {}\n", options->node, done);
                return 0;
            });
        });
    };
    {
        auto options = std::make_shared<NodeOptions>();
        CLI::App* command = node->add_subcommand(
            "stop", "a node leaves in order, as before its host is started anew; the others go on");
        add_socket_option(*command, &options->socket);
        command->add_option("node", options->node, "its id; the asked one's, if there is none")
            ->check(CLI::Range(std::uint32_t{1}, nodes_max - 1))
            ->type_name("ID");
        command->callback([options, exit_status] {
            *exit_status = with_server(
                options->socket, [&](ControlClient& client) { return stop(client, *options); });
        });
    }
    {
        auto options = std::make_shared<NodeOptions>();
        CLI::App* command = node->add_subcommand(
            "remove", "a node goes for good; it has left the cluster's file of all others before");
        add_socket_option(*command, &options->socket);
        command->add_option("node", options->node, "its id")
            ->required()
            ->check(CLI::Range(std::uint32_t{1}, nodes_max - 1))
            ->type_name("ID");
        command->add_flag("--drain", options->drain,
                          "first its members' roles go to spares at other nodes, one after the "
                          "other; the array is degraded meanwhile");
        command->callback([options, exit_status] {
            *exit_status = with_server(
                options->socket, [&](ControlClient& client) { return remove(client, *options); });
        });
    }
    add("add", "one more node comes, which is in the cluster's file of all others already",
        "is one of the cluster's now: start its server, and it is let in");
    add("kill", "the others go on without it, until it is resumed",
        "is killed: the others go on without it. braid node resume lets it in again");
    add("resume", "let a node that was killed in again",
        "is let in when its server is started, or at once, if it waits");
}

}  // namespace braid::cli
