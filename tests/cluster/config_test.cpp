// SPDX-License-Identifier: BSD-3-Clause
// The cluster's file and key: what is read, and each refusal to the letter, for these are what
// people see of it.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/config/config_file.h"
#include "cluster/config/key_file.h"
#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

const ConfigSource source{"cluster.toml", "/etc/braid"};

Checked<ClusterConfig> parse(const std::string& text) { return parse_cluster_config(text, source); }

/// Why not; empty if it is not refused.
std::string refusal(const std::string& text) {
    const auto config = parse(text);
    return config ? "" : config.error().text;
}

/// A file whose node 1 has `rest` from line 5 on, and a key.
std::string with_node(const std::string& rest) {
    return "name = \"vault\"\nkey = \"vault.key\"\n[[node]]\nid = 1\n" + rest;
}

std::string refusal_of_address(const std::string& address) {
    return refusal(with_node("addresses = [\"" + address + "\"]"));
}

std::string written(const ClusterConfig& config) {
    std::string text = fmt::format("name = \"{}\"\n", config.name);
    if (!config.key.empty()) text += fmt::format("key = \"{}\"\n", config.key);
    text += "exclusive = [";
    for (const std::string& volume : config.exclusive) text += fmt::format("\"{}\",", volume);
    text += "]\n";
    for (const NodePlan& node : config.nodes) {
        text += fmt::format("[[node]]\nid = {}\naddresses = [", node.id);
        for (const NetAddress& address : node.addresses) {
            text += fmt::format("\"{}\",", text_of(address));
        }
        text += "]\nmembers = [";
        for (const std::string& member : node.members) text += fmt::format("\"{}\",", member);
        text += "]\n";
    }
    return text;
}

void expect_same(const ClusterConfig& one, const ClusterConfig& other) {
    EXPECT_EQ(written(one), written(other));
    EXPECT_EQ(one.warnings, other.warnings);
}

// --- what is read ---

constexpr const char* good = R"(name = "vault"
key = "vault.key"

[[node]]
id = 2
addresses = ["node2.Example:10810"]

[[node]]
id = 1
addresses = ["10.0.0.1:10810", "[FD00:0::1]:10811", "unix:run/1.sock"]
members = ["/dev/sdb", "disks//./m0", "../m1/"]
)";

TEST(ClusterConfig, HoldsWhatTheFileSays) {
    const auto config = parse(good);
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->name, "vault");
    EXPECT_EQ(config->key, "/etc/braid/vault.key");
    EXPECT_TRUE(config->warnings.empty());
    ASSERT_EQ(config->nodes.size(), 2u);
    const NodePlan& first = config->nodes[0];
    EXPECT_EQ(first.id, 1u) << "nodes are in the order of their ids";
    ASSERT_EQ(first.addresses.size(), 3u);
    EXPECT_EQ(first.addresses[0], (NetAddress{AddressKind::ip4, "10.0.0.1", 10810}));
    EXPECT_EQ(first.addresses[1], (NetAddress{AddressKind::ip6, "fd00::1", 10811}));
    EXPECT_EQ(first.addresses[2],
              (NetAddress{AddressKind::unix_socket, "/etc/braid/run/1.sock", 0}));
    EXPECT_EQ(first.members,
              (std::vector<std::string>{"/dev/sdb", "/etc/braid/disks/m0", "/etc/braid/../m1"}));
    const NodePlan& second = config->nodes[1];
    EXPECT_EQ(second.addresses,
              (std::vector<NetAddress>{{AddressKind::name, "node2.example", 10810}}));
    EXPECT_TRUE(second.members.empty()) << "a node that only serves";
    EXPECT_EQ(config->find(2), &second);
    EXPECT_EQ(config->find(3), nullptr);
}

TEST(ClusterConfig, ReadsWhatItWrote) {
    const auto config = parse(good);
    ASSERT_TRUE(config);
    const auto again = parse(written(*config));
    ASSERT_TRUE(again) << again.error().text;
    expect_same(*config, *again);
}

TEST(ClusterConfig, TakesTheLargestCluster) {
    std::string text = "name = \"vault\"\nkey = \"k\"\n";
    for (std::uint32_t id = 1; id != nodes_max; ++id) {
        text += fmt::format("[[node]]\nid = {}\naddresses = [", id);
        for (std::size_t at = 0; at != node_addresses_max; ++at) {
            text += fmt::format("\"10.{}.0.{}:10810\",", at, id);
        }
        text += "]\n";
    }
    text += "members = [";
    for (std::uint32_t at = 0; at != members_max + spares_max; ++at) {
        text += fmt::format("\"/dev/disk/by-id/{}\",", at);
    }
    const auto config = parse(text + "]\n");
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->nodes.size(), nodes_max - 1);
    EXPECT_EQ(config->nodes.back().members.size(), members_max + spares_max);
}

TEST(ClusterConfig, TakesInlineTables) {
    const auto config =
        parse("name = \"v\"\nnode = [{id = 1, addresses = [\"unix:/run/1\"], members = []}]");
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->nodes[0].id, 1u);
}

TEST(ClusterConfig, WithoutAKeyAllIsLocalAndWarnedOf) {
    const auto config = parse(
        "name = \"v\"\n[[node]]\nid = 1\naddresses = [\"127.0.0.1:1\", \"[::1]:1\", "
        "\"localhost:65535\", \"unix:/run/1\", \"[::ffff:127.1.2.3]:1\"]\n");
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->warnings,
              (std::vector<std::string>{
                  "cluster.toml: there is no key: whoever can connect to a node on this machine is "
                  "taken for a node. braid cluster keygen FILE makes one"}));
    EXPECT_EQ(
        refusal("name = \"v\"\n[[node]]\nid = 1\naddresses = [\"127.0.0.1:1\",\n\"10.0.0.1:1\"]\n"),
        "cluster.toml:5: addresses: \"10.0.0.1:1\" of node 1 may be reached from other machines, "
        "and there is no key: make one with braid cluster keygen FILE, and name it, as key = "
        "\"vault.key\"");
    EXPECT_FALSE(parse("name = \"v\"\n[[node]]\nid = 1\naddresses = [\"localhost.evil.org:1\"]\n"));
    EXPECT_FALSE(parse("name = \"v\"\n[[node]]\nid = 1\naddresses = [\"[fd00::1]:1\"]\n"));
}

TEST(ClusterConfig, FindsANodesPlan) {
    const auto config = parse(good);
    ASSERT_TRUE(config);
    const auto plan = plan_of_node(*config, 2, "cluster.toml");
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->addresses[0].host, "node2.example");
    const auto none = plan_of_node(*config, 3, "cluster.toml");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().text,
              "cluster.toml: there is no node 3; the nodes of the file are 1, 2");
}

// --- what is refused ---

TEST(ClusterConfig, RefusesWhatIsNoFileOfACluster) {
    EXPECT_EQ(refusal("# nothing\n"),
              "cluster.toml: is empty: braid-cluster(7) begins with a file that could stand here");
    EXPECT_EQ(refusal(""), refusal("# nothing\n"));
    // What follows is toml++'s.
    const std::string open_string = "cluster.toml:2:9: is no TOML: Error while parsing string: ";
    EXPECT_EQ(refusal("name = \"v\"\nkey = \"x\n").substr(0, open_string.size()), open_string);
    const std::string twice = refusal("name = \"a\"\nname = \"b\"\n");
    EXPECT_TRUE(twice.starts_with("cluster.toml:2:")) << twice;
    EXPECT_NE(twice.find(": is no TOML: "), twice.npos) << twice;
    EXPECT_EQ(refusal(with_node("addresses = [ }\n")),
              "cluster.toml:5:15: is no TOML: Error while parsing value: could not determine value "
              "type");
    const std::string strange = refusal("name = \x1b[2J\n");
    EXPECT_TRUE(strange.starts_with("cluster.toml:1:8: is no TOML: ")) << strange;
    EXPECT_EQ(strange.find('\x1b'), strange.npos);
    EXPECT_EQ(refusal(std::string(cluster_file_size_max + 1, '\n')),
              "cluster.toml: has more than 65536 bytes: no cluster needs that many");
}

TEST(ClusterConfig, TablesInTablesAreBounded) {
    std::string key = "a";
    for (std::size_t at = 0; at != key_dots_max; ++at) key += ".a";
    EXPECT_EQ(
        refusal("\n" + key + " = 1"),
        "cluster.toml:2: a: is no key of this part; name, key, exclusive, lease_ms, heartbeat_ms, start_wait_ms, no_quorum, reads and node are");
    EXPECT_EQ(
        refusal("\n" + key + ".a = 1"),
        "cluster.toml:2: more than 64 dots stand outside of quotes, where addresses and paths "
        "belong in them");
    EXPECT_NE(refusal("a = " + std::string(60'000, '[')).find("is no TOML"), std::string::npos);
}

TEST(ClusterConfig, QuotesAndCommentsAreToldApart) {
    const std::string dots(key_dots_max + 1, '.');
    const auto config = parse("\xef\xbb\xbf# \xc3\xa9 \"\"\" " + dots + "\r\nname = \"a#\\\"" +
                              dots.substr(0, 40) + "\" # '\nkey = '\xc3\xa9\\\\' # \xff\n" +
                              "[[node]]\nid = 1 # \"\naddresses = ['unix:\"" + dots + "#']");
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->name, "a#\"" + dots.substr(0, 40));
    EXPECT_EQ(config->key, "/etc/braid/\xc3\xa9\\\\");
    EXPECT_EQ(config->nodes[0].addresses[0].host, "/etc/braid/\"" + dots + "#");
    EXPECT_EQ(refusal("name = \"v\"\n\xc3\xa9 = 1\n"),
              "cluster.toml:2: a character beyond ASCII stands outside of quotes");
    const std::string three = "a string begins with three quotes: say it in one line, with one";
    EXPECT_EQ(refusal("name = \"\"\"v\"\"\""), "cluster.toml:1: " + three);
    EXPECT_EQ(refusal("# one\nname = \'\'\'v\'\'\'"), "cluster.toml:2: " + three);
    for (const char* bad : {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                            "\xe2\x82", "\x80", "\xf8\x88\x80\x80\x80"}) {
        EXPECT_EQ(refusal(fmt::format("name = \"{}\"", bad)),
                  "cluster.toml:1: a string has bytes that are no UTF-8");
    }
    const auto euro = parse(
        with_node("addresses = [\"h:1\"]\nmembers = [\"/\xe2\x82\xac\", '/\\\xf0\x9f\x98\x80\"']"));
    ASSERT_TRUE(euro) << euro.error().text;
    EXPECT_EQ(euro->nodes[0].members,
              (std::vector<std::string>{"/\xe2\x82\xac", "/\\\xf0\x9f\x98\x80\""}));
}

TEST(ClusterConfig, RefusesKeysThatItDoesNotKnow) {
    EXPECT_EQ(
        refusal("name = \"v\"\nsecret = 1\n"),
        "cluster.toml:2: secret: is no key of this part; name, key, exclusive, lease_ms, heartbeat_ms, start_wait_ms, no_quorum, reads and node are");
    EXPECT_EQ(
        refusal("\"\\u001b[2J\" = 1\n"),
        "cluster.toml:1: ?[2J: is no key of this part; name, key, exclusive, lease_ms, heartbeat_ms, start_wait_ms, no_quorum, reads and node are");
    EXPECT_EQ(refusal(with_node("member = []\n")),
              "cluster.toml:5: member: is no key of this part; id, addresses and members are");
    EXPECT_EQ(
        refusal(with_node("[other]\n")),
        "cluster.toml:5: other: is no key of this part; name, key, exclusive, lease_ms, heartbeat_ms, start_wait_ms, no_quorum, reads and node are");
}

TEST(ClusterConfig, RefusesValuesOfAnotherType) {
    EXPECT_EQ(refusal("name = 7"),
              "cluster.toml:1: name: is an integer, and has to be a string: name = \"vault\"");
    EXPECT_EQ(refusal("name = \"v\"\nkey = true"),
              "cluster.toml:2: key: is true or false, and has to be a string: key = \"vault.key\"");
    EXPECT_EQ(refusal("name = \"v\"\nnode = 1"),
              "cluster.toml:2: node: is an integer; each node begins with [[node]], in double "
              "brackets");
    EXPECT_EQ(refusal("name = \"v\"\n[node]\nid = 1"),
              "cluster.toml:2: node: is a table; each node begins with [[node]], in double "
              "brackets");
    EXPECT_EQ(refusal("name = \"v\"\nnode = [\n1.5]"),
              "cluster.toml:3: node: is a number with a fraction; each node begins with [[node]], "
              "in double brackets");
    EXPECT_EQ(refusal("name = \"v\"\n[[node]]\nid = \"1\""),
              "cluster.toml:3: id: is a string, and has to be an integer: id = 1");
    EXPECT_EQ(refusal(with_node("addresses = \"10.0.0.1:1\"")),
              "cluster.toml:5: addresses: is a string, and has to be a list: addresses = "
              "[\"10.0.0.1:10810\"]");
    EXPECT_EQ(refusal(with_node("addresses = [\n2020-01-01]")),
              "cluster.toml:6: addresses: is a date or a time, and has to be a string: addresses = "
              "[\"10.0.0.1:10810\"]");
    EXPECT_EQ(refusal(with_node("addresses = [\"h:1\"]\nmembers = {}")),
              "cluster.toml:6: members: is a table, and has to be a list: members = "
              "[\"/dev/sdb\", \"/dev/sdc\"]");
    EXPECT_EQ(refusal(with_node("addresses = [\"h:1\"]\nmembers = [[]]")),
              "cluster.toml:6: members: is a list, and has to be a string: members = "
              "[\"/dev/sdb\", \"/dev/sdc\"]");
}

TEST(ClusterConfig, RefusesWhatIsMissing) {
    EXPECT_EQ(refusal("key = \"k\"\n"),
              "cluster.toml: name: is missing: say what the cluster is called, as name = "
              "\"vault\"");
    EXPECT_EQ(refusal("name = \"v\"\n"),
              "cluster.toml: node: there is none: each node has a part [[node]] with its id, "
              "addresses and members");
    EXPECT_EQ(refusal("name = \"v\"\nnode = []"),
              "cluster.toml:2: node: the list is empty: each node has a part [[node]]");
    EXPECT_EQ(refusal("name = \"v\"\n\n[[node]]\nmembers = []\n"),
              "cluster.toml:3: id: is missing: give the node a number from 1 to 31, as id = 1");
    EXPECT_EQ(refusal(with_node("")),
              "cluster.toml:3: addresses: of node 1 are missing: say where the others reach it, as "
              "addresses = [\"10.0.0.1:10810\"]");
    EXPECT_EQ(refusal(with_node("addresses = []")),
              "cluster.toml:5: addresses: the list is empty: say where the others reach node 1, as "
              "addresses = [\"10.0.0.1:10810\"]");
}

TEST(ClusterConfig, RefusesNamesThatNoClusterHas) {
    EXPECT_EQ(refusal("name = \"\""),
              "cluster.toml:1: name: \"\" is not 1 to 63 printable ASCII characters");
    EXPECT_EQ(refusal("name = \"" + std::string(100, 'x') + "\""),
              "cluster.toml:1: name: \"" + std::string(80, 'x') +
                  "...\" is not 1 to 63 printable ASCII characters");
    EXPECT_EQ(refusal("name = \"a\\u0007\""),
              "cluster.toml:1: name: \"a?\" is not 1 to 63 printable ASCII characters");
    EXPECT_FALSE(parse(with_node("addresses = [\"h:1\"]")).value().name.empty());
}

TEST(ClusterConfig, RefusesIdsThatNoNodeHas) {
    for (const char* id : {"0", "-1", "32", "9223372036854775807"}) {
        EXPECT_EQ(
            refusal(fmt::format("name = \"v\"\n[[node]]\nid = {}", id)),
            fmt::format("cluster.toml:3: id: {} is no number from 1 to 31, which nodes have", id));
    }
    EXPECT_EQ(refusal(with_node("addresses = [\"h:1\"]\n[[node]]\nid = 1\n")),
              "cluster.toml:7: id: 1 is the node of line 4 already: each node has its own number");
}

TEST(ClusterConfig, RefusesMoreThanAClusterHas) {
    std::string nodes = "name = \"v\"\n";
    for (std::uint32_t at = 0; at != nodes_max; ++at) nodes += "[[node]]\n";
    EXPECT_EQ(refusal(nodes),
              "cluster.toml:33: node: is the node number 32 of 32, and a cluster has at most 31");
    std::string addresses = "addresses = [";
    for (std::size_t at = 0; at <= node_addresses_max; ++at) {
        addresses += fmt::format("\"h:{}\",", at + 1);
    }
    EXPECT_EQ(refusal(with_node(addresses + "]")),
              "cluster.toml:5: addresses: node 1 has 9, and 8 are possible: leave some out");
    std::string members = "addresses = [\"h:1\"]\nmembers = [";
    for (std::uint32_t at = 0; at <= members_max + spares_max; ++at) {
        members += fmt::format("\"/m{}\",", at);
    }
    EXPECT_EQ(
        refusal(with_node(members + "]")),
        "cluster.toml:6: members: \"/m80\" is one too many: a cluster has at most 64 members, "
        "and 16 spares");
}

TEST(ClusterConfig, ExclusiveVolumes) {
    const std::string rest = "[[node]]\nid = 1\naddresses = [\"unix:a\"]\n";
    const auto config = parse("name = \"vault\"\nexclusive = [\"vm1\", \"vm2\"]\n" + rest);
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->exclusive, (std::set<std::string>{"vm1", "vm2"}));
    const auto refused = [&](const char* list) {
        return refusal(fmt::format("name = \"vault\"\nexclusive = {}\n", list) + rest);
    };
    EXPECT_EQ(refused("[\"vm1\", \"vm1\"]"),
              "cluster.toml:2: exclusive: \"vm1\" is given twice: leave one out");
    EXPECT_EQ(refused("[\"\"]"), "cluster.toml:2: exclusive: \"\" cannot be the name of a volume");
    EXPECT_EQ(
        refused("\"vm1\""),
        "cluster.toml:2: exclusive: is a string, and has to be a list: exclusive = [\"data\"]");
    EXPECT_EQ(
        refused("[1]"),
        "cluster.toml:2: exclusive: is an integer, and has to be a string: exclusive = [\"data\"]");
}

TEST(ClusterConfig, RefusesWhatTwoHave) {
    EXPECT_EQ(
        refusal(with_node("addresses = [\"h:1\"]\nmembers = [\"/dev/sdb\"]\n[[node]]\nid = 2\n"
                          "addresses = [\"h:2\"]\nmembers = [\"//dev/./sdb\"]\n")),
        "cluster.toml:10: members: \"//dev/./sdb\" is a member of node 1 already (line 6): only "
        "one node opens a member; if these are two disks, give them names that differ, as those "
        "in /dev/disk/by-id");
    EXPECT_EQ(refusal(with_node("addresses = [\"h:1\"]\nmembers = [\"m\", \"/etc/braid/m\"]\n")),
              "cluster.toml:6: members: \"/etc/braid/m\" is given twice (line 6): leave one out");
    EXPECT_EQ(refusal(with_node("addresses = [\"[fd00::1]:1\"]\n[[node]]\nid = 2\n"
                                "addresses = [\"[FD00:0::1]:1\"]\n")),
              "cluster.toml:8: addresses: \"[FD00:0::1]:1\" is an address of node 1 already (line "
              "5): an address leads to one node");
    EXPECT_FALSE(parse(with_node("addresses = [\"h:1\", \"H:1\"]")));
    EXPECT_FALSE(parse(with_node("addresses = [\"10.0.0.1:1\", \"[::ffff:10.0.0.1]:1\"]")));
    EXPECT_FALSE(parse(with_node("addresses = [\"unix:s\", \"unix:/etc/braid/s\"]")));
    EXPECT_TRUE(parse(with_node("addresses = [\"h:1\", \"h:2\"]")));
}

TEST(ClusterConfig, RefusesPathsThatAreNone) {
    EXPECT_EQ(refusal("name = \"v\"\nkey = \"\""), "cluster.toml:2: key: \"\": the path is empty");
    EXPECT_EQ(refusal(with_node("addresses = [\"h:1\"]\nmembers = [\"/a\\u0000b\"]\n")),
              "cluster.toml:6: members: \"/a?b\": a path with control characters, which nobody "
              "could read in a message");
    EXPECT_EQ(refusal(with_node("addresses = [\"h:1\"]\nmembers = [\"/" +
                                std::string(path_length_max, 'x') + "\"]\n")),
              "cluster.toml:6: members: \"/" + std::string(79, 'x') +
                  "...\": the path has 4096 bytes from the root, and 4095 are possible");
    EXPECT_TRUE(parse(with_node("addresses = [\"h:1\"]\nmembers = [\"/" +
                                std::string(path_length_max - 1, 'x') + "\"]\n")));
}

TEST(ClusterConfig, RefusesAddressesThatAreNone) {
    const std::string forms = "say HOST:PORT, [IPV6]:PORT or unix:PATH";
    const std::string port = "the port is no number from 1 to 65535";
    const std::string name = "no host can have that name or number: " + forms;
    const std::string brackets =
        "no IPv6 address stands in the brackets: say [IPV6]:PORT, as [fd00::1]:10810";
    const std::string bare =
        "an IPv6 address stands in brackets: say [IPV6]:PORT, as [fd00::1]:10810";
    const std::string many =
        "is no address of one machine: say the one at which the other nodes reach this node";
    const std::string long_name(64, 'x');
    std::string long_host;  // labels that are names, too many of them
    for (int at = 0; at != 127; ++at) long_host += "x.";
    const std::vector<std::pair<std::string, std::string>> cases{
        {"", name},
        {":1", name},
        {"10.0.0.1", "the port is missing: " + forms},
        {"node2", "the port is missing: " + forms},
        {"[fd00::1]", "the port is missing: " + forms},
        {"[fd00::1]10810", "the port is missing: " + forms},
        {"[fd00::1:10810", "\\\"]\\\" is missing: " + forms},
        {"10.0.0.1:", port},
        {"10.0.0.1:0", port},
        {"10.0.0.1:65536", port},
        {"10.0.0.1:-1", port},
        {"10.0.0.1:+1", port},
        {"10.0.0.1:1 ", port},
        {"10.0.0.1:http", port},
        {"10.0.0.256:1", name},
        {"10.0.1:1", name},
        {"a_b:1", name},
        {"-a:1", name},
        {"a-:1", name},
        {"a..b:1", name},
        {" a:1", name},
        {"tcp://a:1", name},
        {long_name + ":1", name},
        {long_host + "x:1", name},
        {"[]:1", brackets},
        {"[10.0.0.1]:1", brackets},
        {"[fe80::1%eth0]:1", brackets},
        {"fd00::1", bare},
        {"fd00::1:10810", bare},
        {"0.0.0.0:1", many},
        {"224.0.0.1:1", many},
        {"255.255.255.255:1", many},
        {"[::]:1", many},
        {"[ff02::1]:1", many},
        {"unix:", "the path of the socket is missing: say unix:PATH"},
        {"unix:/" + std::string(107, 's'),
         "the path of the socket has 108 bytes from the root, and 107 are possible (unix(7)): say "
         "a shorter one"},
    };
    for (const auto& [address, why] : cases) {
        std::string reason = why;
        while (reason.find('\\') != reason.npos) reason.erase(reason.find('\\'), 1);
        const std::string repeated = address.size() > 80 ? address.substr(0, 80) + "..." : address;
        EXPECT_EQ(refusal_of_address(address),
                  fmt::format("cluster.toml:5: addresses: \"{}\": {}", repeated, reason));
    }
    EXPECT_EQ(refusal_of_address("unix:/" + std::string(106, 's')), "");
    EXPECT_EQ(refusal_of_address("a.b-c.9x:65535"), "");
}

// --- files ---

class ClusterFiles : public testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = testing::TempDir() + "braid_cluster_XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { ASSERT_EQ(system(("rm -r '" + folder_ + "'").c_str()), 0); }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    std::string file(const std::string& name, const std::string& content, mode_t mode = 0600) {
        std::ofstream(path(name)) << content;
        EXPECT_EQ(chmod(path(name).c_str(), mode), 0);
        return path(name);
    }
    static std::string content_of(const std::string& path) {
        std::ifstream stream(path);
        return {std::istreambuf_iterator<char>(stream), {}};
    }
    std::string folder_;
};

std::string why_no_key(const std::string& path) {
    const auto key = read_key_file(path);
    return key ? "" : key.error().text;
}

constexpr const char* way_out =
    "copy it once more from another node, or make one with braid cluster keygen FILE";
const std::string key_text = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF";

TEST_F(ClusterFiles, AConfigurationsPathsBeginAtItsFolder) {
    const auto config = read_cluster_config(file("cluster.toml", good));
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->key, path("vault.key"));
    EXPECT_EQ(config->nodes[0].members[1], path("disks/m0"));
    const std::string bad = file("bad.toml", "name = 1");
    EXPECT_EQ(read_cluster_config(bad).error().text,
              bad + ":1: name: is an integer, and has to be a string: name = \"vault\"");
}

TEST_F(ClusterFiles, RefusesAConfigurationThatIsNoFile) {
    EXPECT_EQ(read_cluster_config(path("absent")).error().text,
              path("absent") + ": cannot be opened: No such file or directory");
    EXPECT_EQ(read_cluster_config(folder_).error().text, folder_ + ": is no regular file");
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    EXPECT_EQ(read_cluster_config(path("fifo")).error().text,
              path("fifo") + ": is no regular file");
    const std::string large = file("large", std::string(2 * cluster_file_size_max, ' '));
    EXPECT_EQ(read_cluster_config(large).error().text,
              large + ": has more than 65536 bytes: no cluster needs that many");
}

TEST_F(ClusterFiles, AKeyThatWasMadeIsRead) {
    for (const char* name : {"one", "two"}) {
        const mode_t before = umask(0277);
        const auto made = make_key_file(path(name));
        umask(before);
        ASSERT_TRUE(made) << made.error().text;
        struct stat status {};
        ASSERT_EQ(stat(path(name).c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777, 0600u);
        EXPECT_EQ(content_of(path(name)).size(), 2 * key_size + 1);
        EXPECT_EQ(why_no_key(path(name)), "");
    }
    EXPECT_NE(read_key_file(path("one")).value(), read_key_file(path("two")).value());
    EXPECT_NE(read_key_file(path("one")).value(), ClusterKey{});
}

TEST_F(ClusterFiles, AKeyIsNeverWrittenOver) {
    const std::string old = file("old", "something");
    const auto over = make_key_file(old);
    ASSERT_FALSE(over);
    EXPECT_EQ(over.error().text,
              old +
                  ": exists already, and may be the key of a running cluster: remove it if it is "
                  "not, or give another path");
    EXPECT_EQ(content_of(old), "something");
    ASSERT_EQ(symlink(path("nowhere").c_str(), path("link").c_str()), 0);
    EXPECT_FALSE(make_key_file(path("link"))) << "nor through a link";
    EXPECT_NE(access(path("nowhere").c_str(), F_OK), 0);
    EXPECT_EQ(make_key_file(path("no/key")).error().text,
              path("no/key") + ": cannot be made: No such file or directory");
}

TEST_F(ClusterFiles, ReadsAKey) {
    for (const char* end : {"", "\n"}) {
        const auto key = read_key_file(file("key", key_text + end));
        ASSERT_TRUE(key) << key.error().text;
        for (std::size_t at = 0; at != key_size - 1; ++at) EXPECT_EQ((*key)[at], at);
        EXPECT_EQ((*key)[key_size - 1], 0xff);
    }
    EXPECT_EQ(why_no_key(file("read-only", key_text, 0400)), "");
}

TEST_F(ClusterFiles, RefusesAKeyThatOthersMayUse) {
    for (const mode_t mode : {0640u, 0604u, 0620u, 0601u, 0666u}) {
        const std::string open = file("open", key_text, mode);
        EXPECT_EQ(why_no_key(open),
                  fmt::format("{}: others than its owner may use it (mode {:04o}), and a key is a "
                              "secret: chmod 600 {}",
                              open, mode, open));
    }
}

TEST_F(ClusterFiles, RefusesWhatIsNoKey) {
    const auto length = [&](const std::string& content, const char* has) {
        const std::string key = file("key", content);
        EXPECT_EQ(why_no_key(key), fmt::format("{}: is no key: it has {} characters, and a key has "
                                               "64: {}",
                                               key, has, way_out));
    };
    length("", "0");
    length("\n", "0");
    length(key_text.substr(1), "63");
    length(key_text + "0", "more than 64");
    length(key_text + "\n\n", "more than 64");
    length(key_text + "\r\n", "more than 64");
    length(std::string(100'000, '0'), "more than 64");
    for (const char wrong : {'g', 'G', ' ', '\0', ':', '@', '/', '`', '\n'}) {
        std::string content = key_text;
        content[9] = wrong;
        const std::string key = file("key", content);
        EXPECT_EQ(why_no_key(key), fmt::format("{}: is no key: its character 10 is no hexadecimal "
                                               "digit: {}",
                                               key, way_out));
    }
    EXPECT_EQ(why_no_key(path("absent")),
              path("absent") + ": cannot be opened: No such file or directory");
    EXPECT_EQ(why_no_key(folder_), folder_ + ": is no regular file");
}

// --- the manual page ---

/// The files that the page shows: its verbatim paragraphs, in a row, that begin with `name`.
std::vector<std::string> samples_of_the_page() {
    std::ifstream page(BRAID_SOURCE_DIR "/man/braid-cluster.pod");
    std::vector<std::string> samples;
    std::string sample;
    for (std::string line; std::getline(page, line);) {
        if (line.starts_with(" name = ")) samples.emplace_back();
        const bool verbatim = line.starts_with(' ') || line.empty();
        if (samples.empty()) continue;
        if (!verbatim) {
            sample = "done";
        } else if (line.starts_with(" name = ")) {
            sample.clear();
        }
        if (sample.empty()) samples.back() += (line.empty() ? "" : line.substr(1)) + "\n";
    }
    return samples;
}

TEST(ClusterPage, ItsFilesAreRight) {
    const std::vector<std::string> samples = samples_of_the_page();
    EXPECT_GE(samples.size(), 3u);
    for (const std::string& sample : samples) {
        SCOPED_TRACE(sample);
        const auto config = parse(sample);
        ASSERT_TRUE(config) << config.error().text;
        const auto again = parse(written(*config));
        ASSERT_TRUE(again) << again.error().text;
        expect_same(*config, *again);
    }
}

TEST(Config, Lease) {
    const std::string rest = "\n[[node]]\nid = 1\naddresses = [\"unix:/run/a\"]\n";
    const auto none = parse("name = \"vault\"\n" + rest);
    ASSERT_TRUE(none) << none.error().text;
    EXPECT_EQ(none->lease_ms, lease_ms_default);
    const auto config = parse("name = \"vault\"\nlease_ms = 30000\n" + rest);
    ASSERT_TRUE(config) << config.error().text;
    EXPECT_EQ(config->lease_ms, 30'000u);
    for (const char* wrong : {"499", "30001", "-1", "1.5", "\"1200\"", "[]"}) {
        EXPECT_EQ(
            refusal(fmt::format("name = \"vault\"\nlease_ms = {}\n", wrong) + rest),
            "cluster.toml:2: lease_ms: has to be a number from 500 to 30000: lease_ms = 1200");
    }
}

TEST(Config, HeartbeatsComeSomeTimesWithinALease) {
    const std::string rest = "\n[[node]]\nid = 1\naddresses = [\"unix:/run/a\"]\n";
    const auto interval = [&](const std::string& lines) {
        const auto config = parse("name = \"vault\"\n" + lines + rest);
        EXPECT_TRUE(config) << config.error().text;
        return config ? config->heartbeat_ms : 0;
    };
    EXPECT_EQ(interval(""), 300u);
    EXPECT_EQ(interval("lease_ms = 30000\n"), 300u);
    EXPECT_EQ(interval("lease_ms = 500\n"), 125u);
    EXPECT_EQ(interval("lease_ms = 500\nheartbeat_ms = 125\n"), 125u);
    EXPECT_EQ(interval("heartbeat_ms = 20\n"), 20u);
    EXPECT_EQ(interval("lease_ms = 8000\nheartbeat_ms = 2000\n"), 2000u);
    for (const char* wrong : {"19", "301", "-1", "1.5", "\"100\""}) {
        EXPECT_EQ(
            refusal(fmt::format("name = \"vault\"\nheartbeat_ms = {}\n", wrong) + rest),
            "cluster.toml:2: heartbeat_ms: has to be a number from 20 to 300: heartbeat_ms = 300");
    }
}

TEST(Config, ByWhatReadsAreAnswered) {
    const std::string rest = "\n[[node]]\nid = 1\naddresses = [\"unix:/run/a\"]\n";
    const auto of = [&](const std::string& line) {
        const auto config = parse("name = \"vault\"\n" + line + rest);
        EXPECT_TRUE(config) << config.error().text;
        return config ? config->reads : Reads::strict;
    };
    EXPECT_EQ(of(""), Reads::lease);
    EXPECT_EQ(of("reads = \"lease\"\n"), Reads::lease);
    EXPECT_EQ(of("reads = \"strict\"\n"), Reads::strict);
    EXPECT_EQ(refusal("name = \"vault\"\nreads = \"Strict\"\n" + rest),
              "cluster.toml:2: reads: \"Strict\": has to be \"lease\" or \"strict\"");
    EXPECT_EQ(refusal("name = \"vault\"\n\nreads = true\n" + rest),
              "cluster.toml:3: reads: is true or false, and has to be a string: reads = \"lease\"");
}

TEST(Config, WhatBecomesOfRequestsWithoutAQuorum) {
    const std::string rest = "\n[[node]]\nid = 1\naddresses = [\"unix:/run/a\"]\n";
    const auto of = [&](const std::string& line) {
        const auto config = parse("name = \"vault\"\n" + line + rest);
        EXPECT_TRUE(config) << config.error().text;
        return config ? config->no_quorum : NoQuorum::error;
    };
    EXPECT_EQ(of(""), NoQuorum::wait);
    EXPECT_EQ(of("no_quorum = \"wait\"\n"), NoQuorum::wait);
    EXPECT_EQ(of("no_quorum = \"error\"\n"), NoQuorum::error);
    EXPECT_EQ(refusal("name = \"vault\"\nno_quorum = \"stop\"\n" + rest),
              "cluster.toml:2: no_quorum: \"stop\": has to be \"wait\" or \"error\"");
    EXPECT_EQ(refusal("name = \"vault\"\nno_quorum = true\n" + rest),
              "cluster.toml:2: no_quorum: is true or false, and has to be a string: no_quorum = "
              "\"wait\"");
}

}  // namespace
}  // namespace braid::cluster
