// SPDX-License-Identifier: BSD-3-Clause
// StartStatus: what a node's start waits for, as a snapshot of plain values: for the control socket,
// and for `braid status`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid::cluster {

enum class StartPhase : std::uint8_t {
    nodes,     // some are not connected
    looking,   // all are, and their members are looked at, or the array is being started
    array,     // no member holds one: somebody has to make it
    creating,  // an order to make it is carried out
    joining,   // others serve it: this node is to be let in
};
constexpr std::string_view text_of(StartPhase phase) {
    switch (phase) {
        case StartPhase::nodes:
            return "nodes";
        case StartPhase::looking:
            return "looking";
        case StartPhase::array:
            return "array";
        case StartPhase::creating:
            return "creating";
        case StartPhase::joining:
            return "joining";
    }
    return "unknown";
}

struct StartStatus {
    struct Node {
        std::uint32_t id{0};
        std::vector<std::string> addresses;
        bool connected{false};   // true of the node itself
        std::uint64_t since{0};  // wall seconds; of the node itself 0
    };
    std::string cluster;  // its name
    std::uint32_t self{0};
    std::uint32_t master{0};  // who decides about the array
    StartPhase phase{StartPhase::nodes};
    std::string why;  // what it waits for, a sentence for people, with what to do
    std::vector<Node> nodes;
};

}  // namespace braid::cluster
