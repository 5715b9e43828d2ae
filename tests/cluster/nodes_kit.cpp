// SPDX-License-Identifier: BSD-3-Clause
#include "tests/cluster/nodes_kit.h"

namespace braid::sim {

template class Clients<SimNodes>;

namespace {

SimNodesOptions options_of(const Shape& shape, SimNodesOptions how) {
    how.seed = shape.seed;
    how.level = shape.level;
    how.members = shape.members;
    how.nodes = shape.nodes;
    how.homes = shape.homes;
    how.witness = shape.witness;
    return how;
}

}  // namespace

NodesTest::NodesTest(SimNodesOptions how) : nodes_(options_of(GetParam(), how)), clients_(nodes_) {}

void NodesTest::TearDown() {
    for (std::uint32_t node = 0; HasFailure() && node != nodes_.nodes(); ++node) {
        if (nodes_.is_up(node)) ADD_FAILURE() << "node " << node << ":\n" << nodes_.log(node);
    }
}

Task<void> NodesTest::client(std::uint32_t node, std::uint32_t requests) {
    for (std::uint32_t i = 0; i != requests && !load_ends_; ++i) {
        const std::uint64_t begin = loop().now().value;
        const std::uint64_t sectors = 1 + below(below(8) == 0 ? 200 : 24);
        const std::uint64_t first = below(clients_.sectors() - sectors + 1);
        const std::uint64_t offset = first * sector_size;
        if (below(2) == 0) {
            co_await clients_.write(node, offset, sectors * sector_size,
                                    below(8) == 0 ? Fua::yes : Fua::no);
        } else {
            co_await clients_.read(node, offset, sectors * sector_size);
        }
        if (loop().now().value != begin) continue;
        Timer timer(loop(), Nanos{begin + millis(1).value});  // it was answered in no time
        co_await timer;
    }
    --working_;
}

void NodesTest::begin_load(std::uint32_t clients, std::uint32_t requests) {
    for (std::uint32_t i = 0; i != clients; ++i) {
        ++working_;
        loop().tasks().spawn(client(i % nodes_.nodes(), requests));
    }
}

bool NodesTest::others_go_on_without(std::uint32_t victim) {
    std::uint32_t members = 0;
    for (std::uint32_t i = 0; i != GetParam().members; ++i) {
        members += nodes_.home_of(i) == victim ? 1 : 0;
    }
    return members <= (GetParam().level == Level::raid6 ? 2 : 1);
}

bool NodesTest::goes_on_alone(std::uint32_t node) {
    if (GetParam().witness) return false;  // it is elsewhere
    std::uint32_t members = 0;
    for (std::uint32_t i = 0; i != GetParam().members; ++i) {
        members += nodes_.home_of(i) == node ? 1 : 0;
    }
    return members + (GetParam().level == Level::raid6 ? 2 : 1) >= GetParam().members;
}

bool NodesTest::is_gone_for(std::uint32_t node, std::uint32_t victim) {
    if (!others_go_on_without(victim)) {
        return nodes_.log(node).find("stops on all") != std::string::npos;
    }
    return nodes_.log(node).find("node " + std::to_string(victim + 1) + " is excluded") !=
               std::string::npos ||
           nodes_.log(node).find("has begun with") != std::string::npos;
}

bool NodesTest::goes_on_after(std::uint32_t victim, std::uint32_t node) {
    const bool goes_on = node == victim ? goes_on_alone(victim) : others_go_on_without(victim);
    nodes_.run_until(
        [&] {
            if (goes_on && node == victim) {
                return nodes_.log(node).find("has begun with") != std::string::npos;
            }
            return goes_on ? is_gone_for(node, victim)
                           : nodes_.log(node).find("the array stops") != std::string::npos;
        },
        "each node says so");
    return goes_on;
}

void NodesTest::cut_any() {
    if (below(4) == 0) end_half_cut();
    const auto a = static_cast<std::uint32_t>(below(nodes_.nodes()));
    const auto b = static_cast<std::uint32_t>(below(nodes_.nodes()));
    if (a == b) return;
    const bool one_side = below(2) == 0 && !half_cut_;
    nodes_.cut(a, b, one_side ? CutSides::one : CutSides::both);
    if (one_side) half_cut_ = {a, b};
}

void NodesTest::end_half_cut() {
    if (half_cut_) nodes_.cut(half_cut_->first, half_cut_->second);
    half_cut_.reset();
}

void NodesTest::end_load() {
    nodes_.run_until([this] { return working_ == 0; }, "the clients end");
}

MemberState NodesTest::state(std::uint32_t node, std::uint32_t member) {
    return nodes_.array(node).status().members[member].record.state;
}

bool NodesTest::is_everywhere(std::uint32_t member, MemberState wanted) {
    for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
        if (state(node, member) != wanted) return false;
    }
    return true;
}

void NodesTest::wait_until_rebuilt(std::uint32_t member) {
    Array& deciding = nodes_.array(nodes_.nodes() - 1);
    nodes_.run_until(
        [&] {
            return is_everywhere(member, MemberState::in_sync) && deciding.status().walks.empty();
        },
        "it is rebuilt");
}

}  // namespace braid::sim
