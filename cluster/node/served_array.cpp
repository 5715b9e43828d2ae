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
    in_sync_in_force_ = configuration_.in_sync();
    if (options.on_buffer) options.on_buffer(serving_.buffer());
}

ServedArray::~ServedArray() {
    serving_.abandon();
    tasks_.clear();  // before what decides goes, of which it may wait for something
}

/// Who serves goes by what `configuration_` says of names and volumes, which stay.
void ServedArray::adopt(const Configuration& wanted) {
    configuration_ = wanted;
    serving_.adopt(wanted);
}

/// Another one may have been adopted since, and members lost that it does not know of.
void ServedArray::in_force(const Configuration& now) {
    in_sync_in_force_ = now.in_sync();
    serving_.members().set_in_force(now.in_sync());
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
    co_await serving_.wait_for_disks();
    serving_.stop();
    serving_.members().note_quiet();
    decider_.end();
    co_await tasks_.join();
}

void ServedArray::decide(std::unique_ptr<LocalArray> array) {
    BRAID_REQUIRE(!decides_);
    decides_ = std::move(array);
    decides_->log().begin_after(log_);
}

/// Whoever else stops it, a stop ends when it has ended.
Task<Result<void>> ServedArray::stop_deciding() {
    if (!std::exchange(stop_begun_, true)) {
        result_ = co_await decides_->stop();
        co_await end_tasks();
        stopped_.set();
    }
    co_await stopped_.wait();
    co_return result_;
}

/// The array ends when one of its nodes leaves.
Task<Result<void>> ServedArray::stop() {
    node_.note_stop();
    if (!decides_ && !node_.ended_ && node_.gone_.empty()) {
        // Where it is about to decide itself it stops the array when it does.
        if (!node_.is_master()) node_.talk_.tell(node_.master(), telling("leave"));
        while (!decides_ && !node_.ended_ && node_.gone_.empty()) {
            co_await node_.ended_event_.next();
        }
    }
    if (decides_) co_return co_await stop_deciding();
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
    if (decides_) {
        status = decides_->status();
        fill(status);
        return status;
    }
    status.configuration = configuration_;
    // What was told of a configuration was told before it had come into force, under its number.
    if (told_.version > configuration_.version) status.configuration.version = told_.version;
    serving_.fill(status);
    if (status.health == Health::failed) status.failure = failure();
    status.stopping = stopping_ || node_.leaving_;
    for (const MemberRecord& at : configuration_.members) {
        if (at.role) {
            MemberStatus& member = status.members.emplace_back(serving_.member_status(at));
            // As LocalArray::shown_state() has it: it does not count after a crash yet.
            const bool counts = in_sync_in_force_.has(*at.role);
            MemberState& state = member.record.state;
            if (state == MemberState::in_sync && !counts) state = MemberState::rebuilding;
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

namespace {
Words ordering(const char* what) {
    Words words;
    words["order"] = what;
    return words;
}
}  // namespace

Task<Checked<Unit>> ServedArray::order(Words words) {
    if (node_.is_master()) {
        co_return Refusal{
            "this node is just coming to decide about the array; try again in a moment",
            RefusalCode::busy};
    }
    const bool is_rebuild = is_rebuild_order(words["order"].get_ref<const std::string&>());
    words["ask"] = is_rebuild ? node_words::rebuild_ordered : "order";
    BRAID_CO_TRY(const Words answer, co_await node_.talk_.ask(node_.master(), words));
    co_return Unit{};
}

Task<Checked<Unit>> ServedArray::fail_member(MemberName name, Force force) {
    if (decides_) co_return co_await decides_->fail_member(std::move(name), force);
    Words words = ordering("fail");
    words["member"] = name.text;
    words["force"] = force == Force::yes;
    co_return co_await order(std::move(words));
}

Task<Checked<Unit>> ServedArray::remove_member(MemberName name) {
    if (decides_) co_return co_await decides_->remove_member(std::move(name));
    Words words = ordering("remove");
    words["member"] = name.text;
    co_return co_await order(std::move(words));
}

/// With a disk of this node.
Task<Checked<Unit>> ServedArray::order_with(std::unique_ptr<Disk> disk, Words words) {
    const std::uint32_t number = node_.shelve(std::move(disk));
    words["disk"] = node_.words_of_disk(number);
    const std::uint32_t asked = node_.master();
    Checked<Unit> done = co_await order(std::move(words));
    // Then nobody has looked at it; else it is told when it is not used. Where the one who was asked is
    // gone the next one looks.
    const bool is_there = asked == node_.master();
    if (!done && done.error().code == RefusalCode::busy && is_there) node_.close_disk(number);
    co_return done;
}

Task<Checked<Unit>> ServedArray::add_member(std::unique_ptr<Disk> disk, Force force) {
    if (decides_) {
        std::unique_ptr<Disk> own = node_.own_disk(std::move(disk));
        co_return co_await decides_->add_member(std::move(own), force);
    }
    Words words = ordering("add");
    words["force"] = force == Force::yes;
    co_return co_await order_with(std::move(disk), std::move(words));
}

Task<Checked<Unit>> ServedArray::replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                                Force force) {
    if (decides_) {
        std::unique_ptr<Disk> own = node_.own_disk(std::move(disk));
        co_return co_await decides_->replace_member(std::move(name), std::move(own), force);
    }
    Words words = ordering("replace");
    words["member"] = name.text;
    words["force"] = force == Force::yes;
    co_return co_await order_with(std::move(disk), std::move(words));
}

Task<Checked<Unit>> ServedArray::start_scrub(ScrubMode mode) {
    if (decides_) co_return co_await decides_->start_scrub(mode);
    Words words = ordering("scrub");
    words["repair"] = mode == ScrubMode::repair;
    co_return co_await order(std::move(words));
}

Checked<Unit> ServedArray::stop_scrub() {
    if (decides_) return decides_->stop_scrub();
    return Refusal{fmt::format("a scrub is stopped at {}, which decides about the array",
                               node_.name_of(node_.master()))};
}

Task<Checked<Unit>> ServedArray::change_intent(IntentChange change) {
    if (decides_) co_return co_await decides_->change_intent(change);
    Words words = ordering("intent");
    if (change.on) words["on"] = *change.on;
    if (change.region) words["region"] = *change.region;
    co_return co_await order(std::move(words));
}

}  // namespace braid::cluster
