// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/node/served_array.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "cluster/node/node_commands.h"

namespace braid::cluster {

ServedArray::ServedArray(ClusterNode& node, Configuration configuration,
                         const ArrayOptions& options, RowHomes& homes)
    : NodeArray(node),
      configuration_(std::move(configuration)),
      geometry_(Geometry::of(configuration_)),
      tasks_(node.setup_.ready),
      log_(node.setup_.clock, options.on_event),
      decider_(node.talk_, node.master()),
      serving_({node.setup_.ready, node.setup_.clock, geometry_, configuration_, tasks_, decider_,
                options.buffer_size, false, &homes, node.setup_.self}) {
    decider_.bind(serving_.members());
    if (options.on_buffer) options.on_buffer(serving_.buffer());
}

ServedArray::~ServedArray() {
    serving_.abandon();
    tasks_.clear();
}

/// Who serves goes by what `configuration_` says of names and volumes, which stay.
void ServedArray::adopt(const Configuration& wanted) {
    configuration_ = wanted;
    serving_.adopt(wanted);
}

/// Another one may have been adopted since, and members lost that it does not know of.
void ServedArray::in_force(const Configuration& now) {
    const Members& members = serving_.members();
    if (members.knows_losses(now)) serving_.in_force(now, members.loss_version());
    decider_.look_again();
}

Checked<Unit> ServedArray::check_same(const Configuration& other) const {
    const Configuration& now = configuration_;
    if (other.array == now.array && other.strip_size == now.strip_size &&
        other.level == now.level && other.member_count == now.member_count &&
        other.stripes == now.stripes) {
        return Unit{};
    }
    return Refusal{"the configuration is of another array"};
}

Task<void> ServedArray::end_tasks() {
    serving_.stop();
    serving_.members().note_quiet();
    decider_.end();
    co_await tasks_.join();
}

/// The array ends when one of its nodes leaves.
Task<Result<void>> ServedArray::stop() {
    node_.leaving_ = true;
    if (!node_.ended_ && node_.gone_.empty()) {
        node_.talk_.tell(node_.master(), telling("leave"));
        co_await node_.ended_event_.wait();
    }
    if (!node_.ended_) co_await serving_.drain();
    co_await end_tasks();
    if (!node_.gone_.empty() || serving_.members().failed()) co_return Error{Errc::failed, "array"};
    co_return Result<void>{};
}

/// As the node that decides says it.
std::string ServedArray::failure() const {
    if (!node_.why_stopped_.empty()) return node_.why_stopped_;
    return fmt::format("{} members are lost, more than RAID-{} can do without",
                       serving_.members().lost(), static_cast<int>(configuration_.level));
}

ArrayStatus ServedArray::status() const {
    ArrayStatus status;
    status.configuration = configuration_;
    serving_.fill(status);
    if (status.health == Health::failed) status.failure = failure();
    status.stopping = stopping_ || node_.leaving_;
    for (const MemberRecord& at : configuration_.members) {
        if (at.role) {
            status.members.push_back(serving_.member_status(at));
        } else {
            status.members.emplace_back().record = at;
        }
    }
    status.walks = told_.walks;
    status.last_scrub = told_.last_scrub;
    status.waits = told_.waits;
    fill(status);
    status.events.assign(log_.events().begin(), log_.events().end());
    return status;
}

// ---- orders ------------------------------------------------------------------------------------

Task<Checked<Unit>> ServedArray::order(Words words) {
    const bool is_rebuild = is_rebuild_order(words["order"].get_ref<const std::string&>());
    words["ask"] = is_rebuild ? node_words::rebuild_ordered : "order";
    BRAID_CO_TRY(const Words answer, co_await node_.talk_.ask(node_.master(), words));
    co_return Unit{};
}

Task<Checked<Unit>> ServedArray::fail_member(MemberName name, Force force) {
    return order({{"order", "fail"}, {"member", name.text}, {"force", force == Force::yes}});
}

Task<Checked<Unit>> ServedArray::remove_member(MemberName name) {
    return order({{"order", "remove"}, {"member", name.text}});
}

/// With a disk of this node.
Task<Checked<Unit>> ServedArray::order_with(std::unique_ptr<Disk> disk, Words words) {
    const std::uint32_t number = node_.shelve(std::move(disk));
    words["disk"] = node_.words_of_disk(number);
    Checked<Unit> done = co_await order(std::move(words));
    // Then nobody has looked at it; else it is told when it is not used.
    if (!done && done.error().code == RefusalCode::busy) node_.close_disk(number);
    co_return done;
}

Task<Checked<Unit>> ServedArray::add_member(std::unique_ptr<Disk> disk, Force force) {
    return order_with(std::move(disk), {{"order", "add"}, {"force", force == Force::yes}});
}

Task<Checked<Unit>> ServedArray::replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                                Force force) {
    return order_with(
        std::move(disk),
        {{"order", "replace"}, {"member", name.text}, {"force", force == Force::yes}});
}

Task<Checked<Unit>> ServedArray::start_scrub(ScrubMode mode) {
    return order({{"order", "scrub"}, {"repair", mode == ScrubMode::repair}});
}

Checked<Unit> ServedArray::stop_scrub() {
    return Refusal{fmt::format("a scrub is stopped at {}, which decides about the array",
                               node_.name_of(node_.master()))};
}

Task<Checked<Unit>> ServedArray::change_intent(IntentChange change) {
    Words words{{"order", "intent"}};
    if (change.on) words["on"] = *change.on;
    if (change.region) words["region"] = *change.region;
    return order(std::move(words));
}

}  // namespace braid::cluster
