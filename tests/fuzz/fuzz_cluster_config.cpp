// SPDX-License-Identifier: BSD-3-Clause
// Any text as a cluster's file: a refusal for people, which is printable and names the file; or a
// plan that keeps every bound, and that is read again, the same, when it is written as a file.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "cluster/config/cluster_config.h"
#include "engine/base/limits.h"
#include "parity/require.h"
#include "tests/fuzz/samples.h"

using namespace braid;
using namespace braid::cluster;

namespace {

const ConfigSource source{"cluster.toml", "/etc"};

/// As a string of TOML, whatever quotes and backslashes it has.
std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') result += '\\';
        result += c;
    }
    return result + '"';
}

std::string written(const ClusterConfig& config) {
    std::string text = "name = " + quoted(config.name) + "\n";
    if (!config.key.empty()) text += "key = " + quoted(config.key) + "\n";
    for (const NodePlan& node : config.nodes) {
        text += fmt::format("[[node]]\nid = {}\naddresses = [", node.id);
        for (const NetAddress& address : node.addresses) text += quoted(text_of(address)) + ",";
        text += "]\nmembers = [";
        for (const std::string& member : node.members) text += quoted(member) + ",";
        text += "]\n";
    }
    return text;
}

void check_plan(const ClusterConfig& config) {
    BRAID_REQUIRE(!config.name.empty() && config.name.size() <= name_length_max);
    BRAID_REQUIRE(!config.nodes.empty() && config.nodes.size() < nodes_max);
    std::set<std::string> members;
    std::set<std::string> addresses;
    std::uint32_t last = 0;
    for (const NodePlan& node : config.nodes) {
        BRAID_REQUIRE(node.id > last && node.id < nodes_max);
        last = node.id;
        BRAID_REQUIRE(!node.addresses.empty() && node.addresses.size() <= node_addresses_max);
        for (const NetAddress& address : node.addresses) {
            BRAID_REQUIRE(addresses.insert(text_of(address)).second);
            BRAID_REQUIRE(!config.key.empty() || is_local(address));
            const auto again = parse_address(text_of(address), "/elsewhere");
            BRAID_REQUIRE(again.has_value() && *again == address);
        }
        for (const std::string& member : node.members) {
            BRAID_REQUIRE(member.starts_with('/') && member.size() <= path_length_max);
            BRAID_REQUIRE(members.insert(member).second);
        }
    }
    BRAID_REQUIRE(members.size() <= members_max + spares_max);
    BRAID_REQUIRE(config.key.empty() == (config.warnings.size() == 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto config = parse_cluster_config(text, source);
    if (!config) {
        const std::string& why = config.error().text;
        BRAID_REQUIRE(why.starts_with("cluster.toml:"));
        BRAID_REQUIRE(std::ranges::all_of(why, [](char c) { return c >= ' ' && c <= '~'; }));
        return 0;
    }
    check_plan(*config);
    const std::string again_text = written(*config);
    if (again_text.size() > cluster_file_size_max) return 0;  // relative paths became long ones
    const auto again = parse_cluster_config(again_text, source);
    BRAID_REQUIRE(again.has_value());
    BRAID_REQUIRE(written(*again) == again_text);
    return 0;
}

std::vector<std::string> fuzz_samples() {
    std::string deep = "a";
    for (std::size_t at = 0; at != key_dots_max; ++at) deep += ".a";
    return {
        "name = \"v\"\nkey = \"k\"\n[[node]]\nid = 1\naddresses = [\"10.0.0.1:1\", \"[fd00::1]:2\"]\n"
        "members = [\"/dev/sdb\", 'm/./0']\n[[node]]\nid = 31\naddresses = [\"host.example:65535\"]\n",
        "name = \"v\"\nnode = [{id = 2, addresses = [\"unix:s\", \"[::1]:1\", \"localhost:1\"]}]",
        "# \xc3\xa9\nname = 'v' # it's\nkey = \"\\u00e9\\\"\\\\\"\n[[node]]\nid = 0x1\naddresses = [\"h:1\"]\n",
        "a = [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]",
        "a = 2020-01-01T00:00:00.5Z\nb.c.d = 1.5e3\n[b.e]\nf = true\n",
        deep + " = 1",
        "[" + deep + "]\n"};
}
