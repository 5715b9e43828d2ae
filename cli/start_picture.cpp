// SPDX-License-Identifier: BSD-3-Clause
#include "cli/start_picture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "cli/fields.h"

namespace braid::cli {
namespace {

using nlohmann::json;

std::string addresses_of(const json& node) {
    std::vector<std::string> addresses;
    for (const json& address : list_in(node, "addresses")) {
        if (address.is_string()) addresses.push_back(harmless(address.get<std::string>()));
    }
    return fmt::format("{}", fmt::join(addresses, ", "));
}

std::string node_line(const json& start, const json& node, const Style& style) {
    const std::uint64_t id = number_in(node, "id");
    const bool is_self = id == number_in(start, "node");
    const bool connected = flag_in(node, "connected");
    const std::uint64_t since = number_in(node, "since");
    std::string state = is_self ? "this one" : connected ? "connected" : "not connected";
    if (!is_self && since != 0) state += " since " + time_text(since);
    state =
        painted(fmt::format("{:<34}", state), connected ? Colour::good : Colour::warning, style);
    return fmt::format("  {:>2}  {}  {}{}\n", id, state, addresses_of(node),
                       id == number_in(start, "master") ? "  (decides about the array)" : "");
}

}  // namespace

std::string draw_start(const json& start, const Style& style) {
    const std::string name = harmless(text_in(start, "cluster"));
    std::string text = fmt::format("{}: node {} of a cluster of {}, serves nothing yet\n",
                                   painted(name.empty() ? "cluster" : name, Colour::strong, style),
                                   number_in(start, "node"),
                                   counted(list_in(start, "nodes").size(), "node", "nodes"));
    text += painted(harmless(text_in(start, "why")), Colour::warning, style) + "\n\nnodes\n";
    for (const json& node : list_in(start, "nodes")) text += node_line(start, node, style);
    return text;
}

}  // namespace braid::cli
