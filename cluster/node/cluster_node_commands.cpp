// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: what the commands about nodes themselves (node_commands.h) find here.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "engine/base/mutation.h"

namespace braid::cluster {

NodeCommands::Setup ClusterNode::node_commands() {
    return {[this](std::uint32_t node) { return channel_of(node); },
            [this] { return about_this_node(); },
            [this](std::uint32_t by, const Kill& kill) { return killed(by, kill); }};
}

std::optional<CableCheckAnswer> ClusterNode::channel_of(std::uint32_t node) const {
    const std::optional<std::uint32_t> channel = bus_->channel_of(node);
    if (!channel) return std::nullopt;
    return CableCheckAnswer{*channel, bus_->heartbeats().address({node, *channel})};
}

InquiryAnswer ClusterNode::about_this_node() const {
    InquiryAnswer answer;
    answer.node = setup_.self;
    answer.boot = setup_.boot;
    answer.booting = !serves_;
    answer.stopped = ended_ || !gone_.empty();
    answer.decides = is_master();
    answer.epoch = epoch_in_force_;
    answer.nodes = known_nodes();
    return answer;
}

/// Whoever asked may go on as soon as he has the answer: by then nothing is served here.
Checked<Unit> ClusterNode::killed(std::uint32_t by, const Kill& kill) {
    if (!rows_ || ended_ || !gone_.empty()) {
        return Refusal{fmt::format("{} has no array that goes on", name_of(setup_.self)),
                       RefusalCode::conflict};
    }
    if (!BRAID_MUTANT(answered_before_death)) die(by, kill.why);
    tasks_.spawn(end_as_killed(by, kill.why));
    return Unit{};
}

void ClusterNode::die(std::uint32_t by, const std::string& why) {
    gone(by, fmt::format("has taken this node for gone ({})", why), Cut::later, Stops::here);
}

Task<void> ClusterNode::end_as_killed(std::uint32_t by, std::string why) {
    if (BRAID_MUTANT(answered_before_death)) {
        Pause pause(pauses_, lease_length_);
        co_await pause;
        die(by, why);
    }
    Pause until_it_has_the_answer(pauses_, seconds(1));
    co_await until_it_has_the_answer;
    bus_->give_up(by, GivenUp::gone);
    // The others go on; none of them can say so to who has given them all up.
    end_server(NodeEnds::excluded);
}

}  // namespace braid::cluster
