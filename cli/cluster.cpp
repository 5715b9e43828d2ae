// SPDX-License-Identifier: BSD-3-Clause
// braid cluster: the file that describes a cluster, looked at before a server does; and its key,
// made.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/fields.h"
#include "cli/offline.h"
#include "cli/online_tools.h"
#include "cli/text.h"
#include "cluster/config/config_file.h"
#include "cluster/config/key_file.h"

namespace braid::cli {
namespace {

using cluster::ClusterConfig;
using cluster::NodePlan;
using Json = nlohmann::ordered_json;

struct ClusterArguments {
    std::string file;
    std::optional<std::uint32_t> node;
    bool as_json{false};
};

// --- keygen ---

int keygen(const ClusterArguments& arguments) {
    const auto made = cluster::make_key_file(arguments.file);
    if (!made) return refuse(made.error().text);
    fmt::print(
        "{}: a new key. Copy it to every node, where only the user of its server may read it, "
        "and name it in cluster.toml: key = \"{}\"\n",
        harmless(arguments.file), harmless(absolute_path(arguments.file)));
    return 0;
}

// --- check, for people ---

std::size_t members_of(const ClusterConfig& config) {
    std::size_t count = 0;
    for (const NodePlan& node : config.nodes) count += node.members.size();
    return count;
}

/// Each address and each member has a line; a node takes as many as the longer list.
void print_table(const ClusterConfig& config) {
    std::size_t width = std::string_view("addresses").size();
    for (const NodePlan& node : config.nodes) {
        for (const auto& address : node.addresses) {
            width = std::max(width, text_of(address).size());
        }
    }
    fmt::print("  node  {:<{}}  members\n", "addresses", width);
    for (const NodePlan& node : config.nodes) {
        const std::size_t lines =
            std::max({std::size_t{1}, node.addresses.size(), node.members.size()});
        for (std::size_t at = 0; at != lines; ++at) {
            const std::string id = at == 0 ? std::to_string(node.id) : "";
            const std::string address =
                at < node.addresses.size() ? text_of(node.addresses[at]) : "";
            const std::string member = at < node.members.size() ? node.members[at]
                                       : at == 0                ? "none: it only serves"
                                                                : "";
            const std::string line = fmt::format("  {:>4}  {:<{}}  {}", id, address, width, member);
            fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
        }
    }
}

void print_plan(const ClusterConfig& config, const NodePlan* own) {
    fmt::print("cluster {}: {}, {}\n", config.name, counted(config.nodes.size(), "node", "nodes"),
               counted(members_of(config), "member", "members"));
    fmt::print("key: {}\n\n", config.key.empty() ? "none" : config.key);
    print_table(config);
    if (own != nullptr) {
        fmt::print("\nnode {} would open {}{}\n", own->id,
                   counted(own->members.size(), "member", "members"),
                   config.key.empty() ? "" : "; the key can be read");
    }
    for (const std::string& warning : config.warnings) fmt::print("\nwarning: {}\n", warning);
}

// --- check, for programs ---

Json json_of(const NodePlan& node) {
    Json json;
    json["id"] = node.id;
    json["addresses"] = Json::array();
    for (const auto& address : node.addresses) json["addresses"].push_back(text_of(address));
    json["members"] = node.members;
    return json;
}

void print_json(const ClusterConfig& config, const NodePlan* own) {
    Json json;
    json["name"] = config.name;
    json["key"] = config.key.empty() ? Json(nullptr) : Json(config.key);
    json["node"] = own == nullptr ? Json(nullptr) : Json(own->id);
    json["nodes"] = Json::array();
    for (const NodePlan& node : config.nodes) json["nodes"].push_back(json_of(node));
    json["warnings"] = config.warnings;
    fmt::print("{}\n", readable(json));
}

Checked<int> check(const ClusterArguments& arguments) {
    BRAID_TRY(const ClusterConfig config, cluster::read_cluster_config(arguments.file));
    std::optional<NodePlan> own;
    if (arguments.node) {
        BRAID_TRY(own, cluster::plan_of_node(config, *arguments.node, arguments.file));
        if (!config.key.empty()) BRAID_CHECK(cluster::read_key_file(config.key));
    }
    (arguments.as_json ? print_json : print_plan)(config, own ? &*own : nullptr);
    return 0;
}

}  // namespace

void add_cluster_command(CLI::App& app, int* exit_status) {
    CLI::App* group = app.add_subcommand("cluster", "a cluster's file, and its key");
    group->require_subcommand(1);
    auto arguments = std::make_shared<ClusterArguments>();

    CLI::App* made = group->add_subcommand("keygen", "make a key for the nodes of a cluster");
    made->add_option("file", arguments->file, "the key's file, which must not exist")
        ->required()
        ->type_name("FILE");
    made->callback([arguments, exit_status] { *exit_status = keygen(*arguments); });

    CLI::App* checked = group->add_subcommand("check", "read a cluster's file, and show the plan");
    checked->add_option("file", arguments->file, "the cluster's file, as cluster.toml")
        ->required()
        ->type_name("FILE");
    checked
        ->add_option("--node", arguments->node,
                     "as the server of this node would read it, with the key")
        ->type_name("N");
    checked->add_flag("--json", arguments->as_json, "as JSON, for programs");
    checked->callback([arguments, exit_status] {
        const auto result = check(*arguments);
        *exit_status = result ? *result : refuse(result.error().text);
    });
}

}  // namespace braid::cli
