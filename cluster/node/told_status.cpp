// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/node/told_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/node_commands.h"
#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

constexpr std::uint64_t throttle_units = 1000;  // a walk that is stopped: it travels as a number

Words words_of(const WalkStatus& walk) {
    Words words{{"kind", static_cast<int>(walk.kind)},
                {"position", walk.position},
                {"end", walk.end},
                {"rate", walk.rate},
                {"repair", walk.repair},
                {"mismatches", walk.mismatches},
                {"repaired", walk.repaired},
                {"bytes_unknown", walk.bytes_unknown},
                {"throttle", static_cast<std::uint64_t>(walk.throttle * throttle_units)}};
    if (walk.member) words["member"] = raw(*walk.member);
    if (walk.seconds_left) words["seconds_left"] = *walk.seconds_left;
    return words;
}

Checked<WalkStatus> walk_of(const Words& words, const Geometry& geometry) {
    WordFields fields(words);
    WalkStatus walk;
    walk.kind = static_cast<WalkKind>(
        fields.number("kind", static_cast<std::uint64_t>(WalkKind::scrubbing)));
    walk.position = fields.number("position");
    walk.end = fields.number("end");
    walk.rate = fields.number("rate");
    walk.repair = fields.flag("repair");
    walk.mismatches = fields.number("mismatches");
    walk.repaired = fields.number("repaired");
    walk.bytes_unknown = fields.number("bytes_unknown");
    walk.throttle =
        static_cast<double>(fields.number("throttle", throttle_units)) / double{throttle_units};
    if (words.contains("member")) walk.member = fields.member(geometry);
    if (words.contains("seconds_left")) walk.seconds_left = fields.number("seconds_left");
    BRAID_CHECK(fields.check());
    return walk;
}

Words words_of(const WaitStatus& wait) {
    Words words{{"what", wait.what}, {"by_itself", wait.by_itself}, {"why", wait.why}};
    if (wait.member) words["member"] = raw(*wait.member);
    return words;
}

Checked<WaitStatus> wait_of(const Words& words, const Geometry& geometry) {
    WordFields fields(words);
    WaitStatus wait;
    wait.what = fields.text("what");
    wait.by_itself = fields.flag("by_itself");
    wait.why = fields.text("why");
    if (words.contains("member")) wait.member = fields.member(geometry);
    BRAID_CHECK(fields.check());
    return wait;
}

/// Its fields, by the names under which they travel.
template <class Node, class Visit>
void each_number(Node& node, Visit visit) {
    visit("locks_held", node.locks_held);
    visit("locks_waiting", node.locks_waiting);
    visit("locks_handed_over", node.locks_handed_over);
    visit("writes", node.writes);
    visit("strips_staged", node.strips_staged);
    visit("rounds", node.rounds);
    visit("messages", node.messages);
    visit("bytes_sent", node.bytes_sent);
}

}  // namespace

Words words_of(const NodeStatus& node) {
    Words words = telling("node");
    words["id"] = node.id;
    each_number(node, [&words](const char* key, std::uint64_t value) { words[key] = value; });
    if (node.excluded) words["why"] = node.why;
    if (node.needed) words["needed"] = true;
    return words;
}

Checked<NodeStatus> node_status_of(const Words& words) {
    WordFields fields(words);
    NodeStatus node;
    node.id = fields.number32("id", nodes_max - 1);
    each_number(node,
                [&fields](const char* key, std::uint64_t& value) { value = fields.number(key); });
    if (words.contains("why")) node.why = fields.text("why");
    if (words.contains("needed")) node.needed = fields.flag("needed");
    BRAID_CHECK(fields.check());
    return node;
}

Words words_of(const ToldStatus& status) {
    const bool is_rebuilding = std::ranges::any_of(
        status.walks, [](const WalkStatus& walk) { return walk.kind == WalkKind::rebuilding; });
    Words words = telling(is_rebuilding ? node_words::rebuild_status : "status");
    words["epoch"] = status.version.epoch;
    words["revision"] = status.version.revision;
    words["walks"] = Words::array();
    for (const WalkStatus& walk : status.walks) words["walks"].push_back(words_of(walk));
    words["waits"] = Words::array();
    for (const WaitStatus& wait : status.waits) words["waits"].push_back(words_of(wait));
    words["nodes"] = Words::array();
    for (const NodeStatus& node : status.nodes) words["nodes"].push_back(words_of(node));
    if (status.last_scrub) words["last_scrub"] = words_of(*status.last_scrub);
    return words;
}

Checked<ToldStatus> told_status_of(const Words& words, const Geometry& geometry) {
    WordFields fields(words);
    ToldStatus status;
    status.version.epoch = fields.number("epoch");
    status.version.revision = fields.number("revision");
    const std::vector<Words> walks = fields.list("walks", waits_told_max);
    const std::vector<Words> waits = fields.list("waits", waits_told_max);
    const std::vector<Words> nodes = fields.list("nodes", nodes_max);
    const Words* scrub = words.contains("last_scrub") ? fields.object("last_scrub") : nullptr;
    BRAID_CHECK(fields.check());
    for (const Words& walk : walks) {
        BRAID_TRY(status.walks.emplace_back(), walk_of(walk, geometry));
    }
    for (const Words& wait : waits) {
        BRAID_TRY(status.waits.emplace_back(), wait_of(wait, geometry));
    }
    for (const Words& node : nodes) {
        BRAID_TRY(status.nodes.emplace_back(), node_status_of(node));
    }
    if (scrub != nullptr) {
        BRAID_TRY(status.last_scrub, walk_of(*scrub, geometry));
    }
    return status;
}

}  // namespace braid::cluster
