// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "control/size_argument.h"
#include "engine/base/limits.h"
#include "engine/base/path.h"
#include "engine/io/identify.h"
#include "plugin/errors.h"

namespace braid::plugin {
namespace {

constexpr std::array<std::string_view, 12> keys{
    "member",         "socket",   "volume", "intent", "intent_region", "rebuild_delay",
    "member_timeout", "readonly", "force",  "config", "node",          "help"};

/// How many characters must be changed, added, dropped or swapped with their neighbour to turn one
/// word into the other. Source: R. Lowrance and R. Wagner, JACM 22(2), 1975, for neighbours only.
std::size_t edits_between(std::string_view from, std::string_view to) {
    std::vector<std::vector<std::size_t>> cost(from.size() + 1,
                                               std::vector<std::size_t>(to.size() + 1));
    for (std::size_t i = 0; i <= from.size(); ++i) {
        for (std::size_t j = 0; j <= to.size(); ++j) {
            if (i == 0 || j == 0) {
                cost[i][j] = i + j;
                continue;
            }
            const std::size_t change = from[i - 1] == to[j - 1] ? 0 : 1;
            cost[i][j] =
                std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + change});
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1]) {
                cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
            }
        }
    }
    return cost[from.size()][to.size()];
}

Refusal unknown_key(std::string_view key) {
    std::string text = fmt::format("unknown parameter \"{}\"", key.substr(0, 64));
    for (const std::string_view known : keys) {
        if (key.size() <= 16 && edits_between(key, known) <= 2) {
            text += fmt::format("; did you mean \"{}\"?", known);
            break;
        }
    }
    return {text + fmt::format(" (the parameters are {}; nbdkit braid --help explains them)",
                               fmt::join(keys, ", "))};
}

std::optional<bool> bool_of(std::string_view text) {
    for (const std::string_view yes : {"true", "1", "yes", "on"}) {
        if (text == yes) return true;
    }
    for (const std::string_view no : {"false", "0", "no", "off"}) {
        if (text == no) return false;
    }
    return std::nullopt;
}

/// Whether the two differ in no more than "." and doubled slashes, for a message.
bool is_same_text(const std::string& path, std::string_view value) {
    const std::string rooted = rooted_path(std::string(value));
    return rooted == path || std::filesystem::path(rooted).lexically_normal() == path;
}

}  // namespace

const std::size_t socket_path_size_max = sizeof(sockaddr_un::sun_path) - 1;

const char* const parameters_help =
    "[member=]PATH        A member of the array: a file or a block device. Give all of\n"
    "                     them, in any order; `braid create` makes them. (required)\n"
    "socket=PATH          Where `braid status`, `braid member` and their like reach\n"
    "                     this server: a unix socket that is made with mode 0600.\n"
    "volume=NAME          The volume that a client gets that asks for no export by\n"
    "                     name. Default: the first volume of the array.\n"
    "intent=on|off        Mark stripes in a record before they are written, so that after\n"
    "                     a crash only these are made true. Default: as it was last; on\n"
    "                     for a new array. Off, a crash means a resync of everything.\n"
    "intent_region=SIZE   Bytes of data that one mark covers, a power of two from 64K to\n"
    "                     1T. Default: as it was last; 16M for a new array.\n"
    "rebuild_delay=SECS   How long a spare waits before it takes the place of a member that\n"
    "                     is missing, and has not failed: it may be back. Default: 600.\n"
    "member_timeout=SECS  A member that leaves something unanswered for so long has failed, if the\n"
    "                     level can do without it. Default: 10; 0: it is waited for.\n"
    "readonly=true|false  Write nothing to any member. Default: false. The bare word\n"
    "                     `readonly` means readonly=true.\n"
    "force=true|false     Serve although the absent members may be newer. What was\n"
    "                     written to those alone is lost. Default: false.\n"
    "config=FILE          The file of a cluster, whose nodes serve one array together:\n"
    "                     braid-cluster(7). It names the members. Needs node=.\n"
    "node=ID              Which of its nodes this server is.\n"
    "help                 Print this with an example, and exit.\n";

Checked<Unit> ParameterParser::take(std::string_view key, std::string_view value) {
    // Bare words come as members. A file of such a name is given as ./readonly.
    if (key == "member" && (value == "readonly" || value == "force" || value == "help")) {
        key = value;
        value = "true";
    }
    if (key == "member") return take_member(value);
    if (key == "socket") return take_socket(value);
    if (key == "config") return take_config(value);
    if (key == "node") return take_node(value);
    if (key == "volume") return take_volume(value);
    if (key == "intent") return take_intent(value);
    if (key == "intent_region") return take_intent_region(value);
    if (key == "rebuild_delay") {
        return take_seconds(key, value, rebuild_delay_max,
                            "a spare takes the place of a missing member at once",
                            &parameters_.rebuild_delay);
    }
    if (key == "member_timeout") {
        return take_seconds(key, value, member_timeout_max, "whatever it takes is waited for",
                            &parameters_.member_timeout);
    }
    if (key == "readonly") return take_flag(key, value, parameters_.readonly);
    if (key == "force") return take_flag(key, value, parameters_.force);
    if (key == "help") return take_flag(key, value.empty() ? "true" : value, parameters_.help);
    return unknown_key(key);
}

Checked<Unit> ParameterParser::once(std::string_view key) {
    if (std::ranges::find(given_, key) != given_.end()) {
        return Refusal{fmt::format("{}= is given twice; leave one of them out", key)};
    }
    given_.emplace_back(key);
    return Unit{};
}

Checked<Unit> ParameterParser::take_config(std::string_view value) {
    BRAID_CHECK(once("config"));
    if (value.empty()) return Refusal{"config= needs the path of the cluster's file"};
    parameters_.config = rooted_path(std::string(value));
    return Unit{};
}

Checked<Unit> ParameterParser::take_node(std::string_view value) {
    BRAID_CHECK(once("node"));
    std::uint32_t id = 0;
    const auto read = std::from_chars(value.data(), value.data() + value.size(), id);
    if (read.ec != std::errc{} || read.ptr != value.data() + value.size() || id == 0 ||
        id >= nodes_max) {
        return Refusal{
            fmt::format("node={}: the nodes of a cluster are 1 to {}", value, nodes_max - 1)};
    }
    parameters_.node = id;
    return Unit{};
}

Checked<Unit> ParameterParser::take_volume(std::string_view value) {
    BRAID_CHECK(once("volume"));
    if (value.empty() || value.size() > name_length_max) {
        return Refusal{fmt::format("volume= needs the name of a volume (1 to {} characters)",
                                   name_length_max)};
    }
    parameters_.volume = value;
    return Unit{};
}

Checked<Unit> ParameterParser::take_intent(std::string_view value) {
    BRAID_CHECK(once("intent"));
    const auto said = bool_of(value);
    if (!said) return Refusal{fmt::format("intent={}: say intent=on or intent=off", value)};
    parameters_.intent.on = *said;
    return Unit{};
}

Checked<Unit> ParameterParser::take_intent_region(std::string_view value) {
    BRAID_CHECK(once("intent_region"));
    const auto size = control::parse_size(value);
    if (!size) return Refusal{fmt::format("intent_region={}", size.error().text)};
    if (const auto fits = check_intent_region(*size); !fits) {
        return Refusal{fmt::format("intent_region={}: {}", value, fits.error().text)};
    }
    parameters_.intent.region = *size;
    return Unit{};
}

/// @param zero  what 0 means
Checked<Unit> ParameterParser::take_seconds(std::string_view key, std::string_view value,
                                            std::uint32_t max, std::string_view zero,
                                            std::uint32_t* seconds) {
    BRAID_CHECK(once(key));
    const auto read = std::from_chars(value.data(), value.data() + value.size(), *seconds);
    if (read.ec != std::errc{} || read.ptr != value.data() + value.size() || *seconds > max) {
        return Refusal{
            fmt::format("{}={}: a number of seconds, 0 to {}; 0: {}", key, value, max, zero)};
    }
    return Unit{};
}

Checked<Unit> ParameterParser::take_flag(std::string_view key, std::string_view value, bool& flag) {
    BRAID_CHECK(once(key));
    const auto said = bool_of(value);
    if (!said) {
        return Refusal{fmt::format("{}={}: say {}=true or {}=false", key, value, key, key)};
    }
    flag = *said;
    return Unit{};
}

Checked<Unit> ParameterParser::take_member(std::string_view value) {
    if (value.empty()) return Refusal{"member= needs a path"};
    const auto real = real_path(std::string(value));
    if (!real) {
        const int error = real.error().os_error;
        return Refusal{fmt::format("member {}: {}{}", rooted_path(std::string(value)),
                                   os_error_text(error),
                                   error == ENOENT ? " (leave out a member that is lost)" : "")};
    }
    const std::string& path = *real;
    // Two nodes in /dev may be one device, two loop devices one file; two names may be one file.
    const auto identity = identify_path(path);
    const DiskIdentity file = identity ? *identity : DiskIdentity{};
    const bool is_named = std::ranges::find(parameters_.members, path) != parameters_.members.end();
    if (is_named && is_same_text(path, value)) {
        return Refusal{fmt::format("member {} is given twice", path)};
    }
    const std::optional<std::size_t> other = find_overlap(file, files_);
    if (is_named || other) {
        return Refusal{fmt::format("members {} and {} are one and the same file",
                                   is_named ? path : parameters_.members[*other], value)};
    }
    if (files_.size() == members_max + spares_max) {
        return Refusal{fmt::format("more than {} members; an array has at most {} and {} spares",
                                   files_.size(), members_max, spares_max)};
    }
    files_.push_back(file);
    parameters_.members.push_back(path);
    return Unit{};
}

Checked<Unit> ParameterParser::take_socket(std::string_view value) {
    BRAID_CHECK(once("socket"));
    if (value.empty()) return Refusal{"socket= needs a path"};
    // bind() says what is wrong with a folder that is not there.
    const std::string given = rooted_path(std::string(value));
    const auto real = real_path_of_new(std::string(value));
    std::string path = real ? *real : given;
    if (path.size() > socket_path_size_max) path = given;  // a short way to a deep folder
    if (path.size() > socket_path_size_max) {
        return Refusal{fmt::format(
            "socket={}: the path is too long: {} bytes, and the kernel takes {} for a unix socket; "
            "choose a shorter one, for instance under /run",
            path, path.size(), socket_path_size_max)};
    }
    parameters_.socket = std::move(path);
    return Unit{};
}

Checked<Parameters> ParameterParser::complete() && {
    const bool clustered = !parameters_.config.empty();
    if (clustered != (parameters_.node != 0)) {
        return Refusal{clustered ? "config= needs node=, which of its nodes this server is"
                                 : "node= needs config=, the file of the cluster"};
    }
    if (clustered && !parameters_.members.empty()) {
        return Refusal{
            fmt::format("member {}: the members of a cluster's node stand in its file; "
                        "leave it out, or write it there",
                        parameters_.members.front())};
    }
    if (clustered && parameters_.readonly) {
        return Refusal{
            "readonly is for a node alone: serve the array without config=, with all of its members"};
    }
    if (clustered && (parameters_.intent.on || parameters_.intent.region)) {
        return Refusal{
            "intent and intent_region are for a node alone: `braid intent` sets them for "
            "all nodes"};
    }
    if (parameters_.members.empty() && !clustered && !parameters_.help) {
        return Refusal{
            "no members given. Name the files or devices of the array: nbdkit braid PATH... "
            "(`braid create` makes an array, `braid examine PATH...` shows what is on a device)"};
    }
    return std::move(parameters_);
}

}  // namespace braid::plugin
