// SPDX-License-Identifier: BSD-3-Clause
// braid node: the nodes of a cluster, how one leaves, and how one is taken out of service; braid start:
// how a cluster begins that lacks some.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
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
    add("kill", "the others go on without it, until it is resumed",
        "is killed: the others go on without it. braid node resume lets it in again");
    add("resume", "let a node that was killed in again",
        "is let in when its server is started, or at once, if it waits");
}

}  // namespace braid::cli
