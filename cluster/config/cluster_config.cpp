// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/config/cluster_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "cluster/config/toml_text.h"
#include "engine/base/limits.h"
#include "engine/metadata/config_check.h"

// toml++ as headers and without exceptions, as all of braid is; the library that Debian has beside
// them throws. A list in a table in a list is all that the file has. The parser's assertions are
// left out: one of version 3.3 does not hold of "[ }", which the code behind it refuses as it
// should (what else they might hide, tests/fuzz/fuzz_cluster_config.cpp looks for). With NDEBUG they
// would be promises to the compiler instead.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(condition) static_cast<void>(0)
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace braid::cluster {
namespace {

constexpr std::size_t shown_max = 80;  // of a text that a message repeats

/// What comes from the file is not to command the terminal ...
std::string printable(std::string_view text) {
    std::string result(text);
    std::ranges::replace_if(
        result, [](char c) { return c < ' ' || c > '~'; }, '?');
    return result;
}

/// ... nor to fill it.
std::string shown(std::string_view text) {
    return printable(text.substr(0, shown_max)) + (text.size() > shown_max ? "..." : "");
}

std::string_view words_of(toml::node_type type) {
    switch (type) {
        case toml::node_type::table:
            return "a table";
        case toml::node_type::array:
            return "a list";
        case toml::node_type::string:
            return "a string";
        case toml::node_type::integer:
            return "an integer";
        case toml::node_type::floating_point:
            return "a number with a fraction";
        case toml::node_type::boolean:
            return "true or false";
        case toml::node_type::date:
        case toml::node_type::time:
        case toml::node_type::date_time:
            return "a date or a time";
        case toml::node_type::none:
            break;
    }
    return "nothing";
}

/// A key of the file and what stands behind it.
struct Entry {
    const char* key;
    const toml::node& value;
};

class Reader {
  public:
    explicit Reader(const ConfigSource& source) : source_(source) {}
    Checked<ClusterConfig> read(std::string_view text);

  private:
    struct Claim {  // of a member or an address
        std::uint32_t node{0};
        std::uint32_t line{0};
    };

    Refusal refuse(const std::string& text) const {
        return {fmt::format("{}: {}", source_.file, text), RefusalCode::invalid};
    }
    Refusal refuse(std::uint32_t line, const char* key, const std::string& text) const {
        return refuse_at(line, fmt::format("{}: {}", key, text));
    }
    Refusal refuse(const Entry& entry, const std::string& text) const {
        return refuse(line_of(entry.value), entry.key, text);
    }
    Refusal refuse_at(std::uint32_t line, const std::string& text) const {
        return {fmt::format("{}:{}: {}", source_.file, line, text), RefusalCode::invalid};
    }
    static std::uint32_t line_of(const toml::node& node) { return node.source().begin.line; }

    Checked<toml::table> parse(std::string_view text) const;
    Checked<Unit> check_keys(const toml::table& table,
                             std::initializer_list<std::string_view> known) const;
    Checked<std::string> string_of(const Entry& entry, const char* example) const;
    Checked<const toml::array*> list_of(const Entry& entry, const char* example) const;

    Checked<Unit> read_name(const toml::table& root);
    Checked<Unit> read_key(const toml::table& root);
    Checked<Unit> read_exclusive(const toml::table& root);
    Checked<Unit> read_times(const toml::table& root);
    Checked<bool> read_choice(const toml::table& root, const char* key, const char* usual,
                              const char* other);
    Checked<Unit> read_choices(const toml::table& root);
    Checked<std::uint32_t> read_millis(const toml::table& root, const char* key,
                                       std::uint32_t least, std::uint32_t most,
                                       std::uint32_t usual);
    Checked<Unit> read_nodes(const toml::table& root);
    Checked<Unit> read_node(const toml::table& table);
    Checked<std::uint32_t> read_id(const toml::table& table) const;
    Checked<Unit> read_addresses(const toml::table& table, NodePlan& node);
    Checked<Unit> read_address(const Entry& entry, NodePlan& node);
    Checked<Unit> read_members(const toml::table& table, NodePlan& node);
    Checked<Unit> read_member(const Entry& entry, NodePlan& node);
    Checked<Unit> check_without_key();

    const ConfigSource& source_;
    ClusterConfig config_;
    std::map<std::uint32_t, std::uint32_t> lines_of_ids_;
    std::map<std::string, Claim> members_;
    std::map<std::string, Claim> addresses_;
};

constexpr const char* name_example = "name = \"vault\"";
constexpr const char* key_example = "key = \"vault.key\"";
constexpr const char* id_example = "id = 1";
constexpr const char* addresses_example = "addresses = [\"10.0.0.1:10810\"]";
constexpr const char* members_example = "members = [\"/dev/sdb\", \"/dev/sdc\"]";
constexpr const char* exclusive_example = "exclusive = [\"data\"]";

// --- the text, and what every value has ---

Checked<toml::table> Reader::parse(std::string_view text) const {
    if (text.size() > cluster_file_size_max) {
        return refuse(fmt::format("has more than {} bytes: no cluster needs that many",
                                  cluster_file_size_max));
    }
    BRAID_TRY(const std::string plain, text_for_parser(text, source_.file));
    toml::parse_result parsed = toml::parse(plain);
    if (parsed) return std::move(parsed).table();
    const toml::parse_error& error = parsed.error();
    return Refusal{fmt::format("{}:{}:{}: is no TOML: {}", source_.file, error.source().begin.line,
                               error.source().begin.column, printable(error.description())),
                   RefusalCode::invalid};
}

Checked<Unit> Reader::check_keys(const toml::table& table,
                                 std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : table) {
        if (std::ranges::find(known, key.str()) != known.end()) continue;
        std::string all;
        std::size_t left = known.size();
        for (const std::string_view name : known) {
            all += name;
            if (--left != 0) all += left == 1 ? " and " : ", ";
        }
        const std::uint32_t line = key.source().begin.line;
        return refuse_at(line,
                         fmt::format("{}: is no key of this part; {} are", shown(key.str()), all));
    }
    return Unit{};
}

Checked<std::string> Reader::string_of(const Entry& entry, const char* example) const {
    if (const toml::value<std::string>* text = entry.value.as_string()) return text->get();
    return refuse(entry, fmt::format("is {}, and has to be a string: {}",
                                     words_of(entry.value.type()), example));
}

Checked<const toml::array*> Reader::list_of(const Entry& entry, const char* example) const {
    if (const toml::array* list = entry.value.as_array()) return list;
    return refuse(entry, fmt::format("is {}, and has to be a list: {}",
                                     words_of(entry.value.type()), example));
}

// --- the parts ---

Checked<Unit> Reader::read_name(const toml::table& root) {
    const toml::node* value = root.get("name");
    if (value == nullptr) {
        return refuse(
            fmt::format("name: is missing: say what the cluster is called, as {}", name_example));
    }
    const Entry entry{"name", *value};
    BRAID_TRY(config_.name, string_of(entry, name_example));
    if (config_.name.empty() || !is_array_name(config_.name)) {
        return refuse(entry, fmt::format("\"{}\" is not 1 to {} printable ASCII characters",
                                         shown(config_.name), name_length_max));
    }
    return Unit{};
}

Checked<Unit> Reader::read_key(const toml::table& root) {
    const toml::node* value = root.get("key");
    if (value == nullptr) return Unit{};
    const Entry entry{"key", *value};
    BRAID_TRY(const std::string path, string_of(entry, key_example));
    const auto placed = place_path(path, source_.folder);
    if (!placed) return refuse(entry, fmt::format("\"{}\": {}", shown(path), placed.error().text));
    config_.key = *placed;
    return Unit{};
}

/// Whether the array has such volumes is known when it is open.
Checked<Unit> Reader::read_exclusive(const toml::table& root) {
    const toml::node* value = root.get("exclusive");
    if (value == nullptr) return Unit{};
    BRAID_TRY(const toml::array* const list, list_of({"exclusive", *value}, exclusive_example));
    for (const toml::node& one : *list) {
        const Entry entry{"exclusive", one};
        BRAID_TRY(const std::string name, string_of(entry, exclusive_example));
        if (!is_volume_name(name)) {
            return refuse(entry, fmt::format("\"{}\" cannot be the name of a volume", shown(name)));
        }
        if (!config_.exclusive.insert(name).second) {
            return refuse(entry, fmt::format("\"{}\" is given twice: leave one out", shown(name)));
        }
    }
    return Unit{};
}

/// @param usual  where the key is left out, and in the example of a refusal
Checked<std::uint32_t> Reader::read_millis(const toml::table& root, const char* key,
                                           std::uint32_t least, std::uint32_t most,
                                           std::uint32_t usual) {
    const toml::node* value = root.get(key);
    if (value == nullptr) return usual;
    const auto given = value->value_exact<std::int64_t>();
    if (given && *given >= least && *given <= most) return static_cast<std::uint32_t>(*given);
    return refuse({key, *value}, fmt::format("has to be a number from {} to {}: {} = {}", least,
                                             most, key, usual));
}

Checked<Unit> Reader::read_times(const toml::table& root) {
    BRAID_TRY(config_.lease_ms,
              read_millis(root, "lease_ms", lease_ms_min, lease_ms_max, lease_ms_default));
    const std::uint32_t most = config_.lease_ms / heartbeats_per_lease;
    BRAID_TRY(config_.heartbeat_ms, read_millis(root, "heartbeat_ms", heartbeat_ms_min, most,
                                                std::min(most, heartbeat_ms_default)));
    BRAID_TRY(config_.start_wait_ms,
              read_millis(root, "start_wait_ms", 0, start_wait_ms_max, start_wait_ms_default));
    return Unit{};
}

/// One of two words.
/// @return  whether it is the second one; the first, which is also the example, where the key is left out
Checked<bool> Reader::read_choice(const toml::table& root, const char* key, const char* usual,
                                  const char* other) {
    const toml::node* value = root.get(key);
    if (value == nullptr) return false;
    const Entry entry{key, *value};
    const std::string example = fmt::format("{} = \"{}\"", key, usual);
    BRAID_TRY(const std::string what, string_of(entry, example.c_str()));
    if (what == usual || what == other) return what == other;
    return refuse(entry,
                  fmt::format("\"{}\": has to be \"{}\" or \"{}\"", shown(what), usual, other));
}

Checked<Unit> Reader::read_choices(const toml::table& root) {
    BRAID_TRY(const bool fails, read_choice(root, "no_quorum", "wait", "error"));
    BRAID_TRY(const bool is_strict, read_choice(root, "reads", "lease", "strict"));
    config_.no_quorum = fails ? NoQuorum::error : NoQuorum::wait;
    config_.reads = is_strict ? Reads::strict : Reads::lease;
    return Unit{};
}

Checked<Unit> Reader::read_nodes(const toml::table& root) {
    const toml::node* value = root.get("node");
    if (value == nullptr) {
        return refuse(
            "node: there is none: each node has a part [[node]] with its id, addresses and members");
    }
    const Entry entry{"node", *value};
    const toml::array* list = value->as_array();
    if (list == nullptr) {
        return refuse(entry,
                      fmt::format("is {}; each node begins with [[node]], in double brackets",
                                  words_of(value->type())));
    }
    if (list->empty()) {
        return refuse(entry, "the list is empty: each node has a part [[node]]");
    }
    if (list->size() > nodes_max - 1) {
        return refuse(line_of((*list)[nodes_max - 1]), "node",
                      fmt::format("is the node number {} of {}, and a cluster has at most {}",
                                  nodes_max, list->size(), nodes_max - 1));
    }
    for (const toml::node& node : *list) {
        const toml::table* table = node.as_table();
        if (table == nullptr) {
            return refuse({"node", node},
                          fmt::format("is {}; each node begins with [[node]], in double brackets",
                                      words_of(node.type())));
        }
        BRAID_CHECK(read_node(*table));
    }
    std::ranges::sort(config_.nodes, {}, &NodePlan::id);
    return Unit{};
}

Checked<Unit> Reader::read_node(const toml::table& table) {
    BRAID_CHECK(check_keys(table, {"id", "addresses", "members"}));
    NodePlan node;
    BRAID_TRY(node.id, read_id(table));
    const std::uint32_t line = line_of(*table.get("id"));
    if (const auto [other, added] = lines_of_ids_.emplace(node.id, line); !added) {
        return refuse(line, "id",
                      fmt::format("{} is the node of line {} already: each node has its own number",
                                  node.id, other->second));
    }
    BRAID_CHECK(read_addresses(table, node));
    BRAID_CHECK(read_members(table, node));
    config_.nodes.push_back(std::move(node));
    return Unit{};
}

Checked<std::uint32_t> Reader::read_id(const toml::table& table) const {
    const toml::node* value = table.get("id");
    if (value == nullptr) {
        return refuse(line_of(table), "id",
                      fmt::format("is missing: give the node a number from 1 to {}, as {}",
                                  nodes_max - 1, id_example));
    }
    const Entry entry{"id", *value};
    const toml::value<std::int64_t>* number = value->as_integer();
    if (number == nullptr) {
        return refuse(entry, fmt::format("is {}, and has to be an integer: {}",
                                         words_of(value->type()), id_example));
    }
    if (number->get() < 1 || number->get() >= std::int64_t{nodes_max}) {
        return refuse(entry, fmt::format("{} is no number from 1 to {}, which nodes have",
                                         number->get(), nodes_max - 1));
    }
    return static_cast<std::uint32_t>(number->get());
}

Checked<Unit> Reader::read_addresses(const toml::table& table, NodePlan& node) {
    const toml::node* value = table.get("addresses");
    if (value == nullptr) {
        return refuse(line_of(table), "addresses",
                      fmt::format("of node {} are missing: say where the others reach it, as {}",
                                  node.id, addresses_example));
    }
    const Entry entry{"addresses", *value};
    BRAID_TRY(const toml::array* const list, list_of(entry, addresses_example));
    if (list->empty()) {
        return refuse(entry, fmt::format("the list is empty: say where the others reach node {}, "
                                         "as {}",
                                         node.id, addresses_example));
    }
    if (list->size() > node_addresses_max) {
        return refuse(entry, fmt::format("node {} has {}, and {} are possible: leave some out",
                                         node.id, list->size(), node_addresses_max));
    }
    for (const toml::node& one : *list) BRAID_CHECK(read_address({"addresses", one}, node));
    return Unit{};
}

Checked<Unit> Reader::read_address(const Entry& entry, NodePlan& node) {
    BRAID_TRY(const std::string text, string_of(entry, addresses_example));
    const auto address = parse_address(text, source_.folder);
    if (!address) {
        return refuse(entry, fmt::format("\"{}\": {}", shown(text), address.error().text));
    }
    const Claim claim{node.id, line_of(entry.value)};
    if (const auto [other, added] = addresses_.emplace(text_of(*address), claim); !added) {
        return refuse(entry, fmt::format("\"{}\" is an address of node {} already (line {}): an "
                                         "address leads to one node",
                                         shown(text), other->second.node, other->second.line));
    }
    node.addresses.push_back(*address);
    return Unit{};
}

Checked<Unit> Reader::read_members(const toml::table& table, NodePlan& node) {
    const toml::node* value = table.get("members");
    if (value == nullptr) return Unit{};
    BRAID_TRY(const toml::array* const list, list_of({"members", *value}, members_example));
    for (const toml::node& one : *list) BRAID_CHECK(read_member({"members", one}, node));
    return Unit{};
}

Checked<Unit> Reader::read_member(const Entry& entry, NodePlan& node) {
    BRAID_TRY(const std::string text, string_of(entry, members_example));
    const auto path = place_path(text, source_.folder);
    if (!path) return refuse(entry, fmt::format("\"{}\": {}", shown(text), path.error().text));
    const Claim claim{node.id, line_of(entry.value)};
    const auto [other, added] = members_.emplace(*path, claim);
    if (!added && other->second.node == node.id) {
        return refuse(entry, fmt::format("\"{}\" is given twice (line {}): leave one out",
                                         shown(text), other->second.line));
    }
    if (!added) {
        return refuse(entry,
                      fmt::format("\"{}\" is a member of node {} already (line {}): only one "
                                  "node opens a member; if these are two disks, give them "
                                  "names that differ, as those in /dev/disk/by-id",
                                  shown(text), other->second.node, other->second.line));
    }
    if (members_.size() > members_max + spares_max) {
        return refuse(entry,
                      fmt::format("\"{}\" is one too many: a cluster has at most {} members, "
                                  "and {} spares",
                                  shown(text), members_max, spares_max));
    }
    node.members.push_back(*path);
    return Unit{};
}

/// Without a key whoever can connect is taken for a node.
Checked<Unit> Reader::check_without_key() {
    for (const NodePlan& node : config_.nodes) {
        const auto far = std::ranges::find_if_not(node.addresses, is_local);
        if (far == node.addresses.end()) continue;
        const std::string text = text_of(*far);
        return refuse(
            addresses_.at(text).line, "addresses",
            fmt::format("\"{}\" of node {} may be reached from other machines, and there is "
                        "no key: make one with braid cluster keygen FILE, and name it, as {}",
                        shown(text), node.id, key_example));
    }
    config_.warnings.push_back(fmt::format(
        "{}: there is no key: whoever can connect to a node on this machine is taken for a node. "
        "braid cluster keygen FILE makes one",
        source_.file));
    return Unit{};
}

Checked<ClusterConfig> Reader::read(std::string_view text) {
    BRAID_TRY(const toml::table root, parse(text));
    if (root.empty()) {
        return refuse("is empty: braid-cluster(7) begins with a file that could stand here");
    }
    BRAID_CHECK(check_keys(root, {"name", "key", "exclusive", "lease_ms", "heartbeat_ms",
                                  "start_wait_ms", "no_quorum", "reads", "node"}));
    BRAID_CHECK(read_name(root));
    BRAID_CHECK(read_key(root));
    BRAID_CHECK(read_exclusive(root));
    BRAID_CHECK(read_times(root));
    BRAID_CHECK(read_choices(root));
    BRAID_CHECK(read_nodes(root));
    if (config_.key.empty()) BRAID_CHECK(check_without_key());
    return std::move(config_);
}

}  // namespace

const NodePlan* ClusterConfig::find(std::uint32_t id) const {
    const auto found = std::ranges::find(nodes, id, &NodePlan::id);
    return found == nodes.end() ? nullptr : &*found;
}

Checked<ClusterConfig> parse_cluster_config(std::string_view text, const ConfigSource& source) {
    return Reader(source).read(text);
}

Checked<NodePlan> plan_of_node(const ClusterConfig& config, std::uint32_t id,
                               const std::string& file) {
    if (const NodePlan* node = config.find(id)) return *node;
    std::string ids;
    for (const NodePlan& node : config.nodes) {
        ids += (ids.empty() ? "" : ", ") + std::to_string(node.id);
    }
    return Refusal{
        fmt::format("{}: there is no node {}; the nodes of the file are {}", file, id, ids),
        RefusalCode::not_found};
}

}  // namespace braid::cluster
