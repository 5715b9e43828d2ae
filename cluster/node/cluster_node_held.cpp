// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: what members hold, where the one who decides is silent and may have died between a
// configuration's coming into force and its word of that. Nodes that hear each other read their own
// members, and nothing is promised: cluster/membership/held.h says whether these are enough.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/membership/held.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/served_array.h"
#include "engine/metadata/member_metadata.h"

namespace braid::cluster {
namespace {

/// A disk that answers does so sooner; else it is asked again.
constexpr Nanos reading_takes = seconds(2);
/// For so long it counts what was read: it is read again while nobody decides.
constexpr Nanos counts_for = seconds(2);
Words words_of_held(const HeldByMembers& held) {
    Words words = Words::object();
    words["held"] = Words::array();
    for (const HeldByMember& one : held.members) {
        words["held"].push_back({{"member", one.member.text()},
                                 {"epoch", one.version.epoch},
                                 {"revision", one.version.revision},
                                 {"in_force_epoch", one.in_force.epoch},
                                 {"in_force_revision", one.in_force.revision}});
    }
    if (held.newest) words["configuration"] = words_of(*held.newest);
    return words;
}

Checked<Unit> take_held(const Words& words, HeldByMembers* held) {
    WordFields fields(words);
    const std::vector<Words> members = fields.list("held", members_max);
    BRAID_CHECK(fields.check());
    for (const Words& of_one : members) {
        WordFields one(of_one);
        const Result<Uuid> member = Uuid::parse(one.text("member"));
        if (!member) one.is_wrong("member", "a member's uuid");
        HeldByMember at;
        at.version = {one.number("epoch", epoch_max), one.number("revision")};
        at.in_force = {one.number("in_force_epoch", epoch_max), one.number("in_force_revision")};
        BRAID_CHECK(one.check());
        at.member = *member;
        held->members.push_back(at);
    }
    if (!words.contains("configuration")) return Unit{};
    const Words* const about = fields.object("configuration");
    BRAID_CHECK(fields.check());
    BRAID_TRY(const Configuration newest, configuration_of(*about));
    held->take(newest);
    return Unit{};
}

}  // namespace

/// Of this node's members, whatever time that takes.
struct ClusterNode::HeldRead {
    std::vector<std::shared_ptr<Disk>> disks;
    HeldByMembers held;
    std::shared_ptr<Quiet> quiet{std::make_shared<Quiet>()};
};

Task<void> ClusterNode::read_held(std::shared_ptr<HeldRead> read) {
    std::vector<Disk*> disks;
    for (const auto& disk : read->disks) disks.push_back(disk.get());
    const std::vector<MemberImage> images =
        co_await read_member_images(setup_.ready, setup_.clock, std::move(disks));
    const Configuration& served = served_->configuration();
    for (const MemberImage& image : images) {
        const MemberFindings findings = inspect(image);
        const ConfigSlot* const slot = findings.slot();
        if (slot == nullptr || !findings.superblock) continue;
        const Configuration& held = slot->configuration;
        // What went on elsewhere, by force, is not the array's.
        if (held.array != served.array || held.lineage != served.lineage) continue;
        read->held.members.push_back({slot->member, held.version, held.in_force});
        read->held.take(held);
    }
    read->quiet->end();
}

/// ASK "held".
Task<Checked<Words>> ClusterNode::asked_what_is_held() {
    if (!served_ || !serves_ || !goes_on()) {
        co_return Refusal{"no array is served here that goes on", RefusalCode::conflict};
    }
    const auto read = std::make_shared<HeldRead>();
    for (const auto& [member, number] : attached_) {
        if (shelf_[number]) read->disks.push_back(shelf_[number]);
    }
    tasks_.spawn(read_held(read));
    co_await wait_for(read->quiet, reading_takes);
    if (!read->quiet->over) {
        co_return Refusal{"the members are still being read", RefusalCode::busy};
    }
    co_return words_of_held(read->held);
}

/// Again and again, one look at a time.
void ClusterNode::look_what_is_held(const std::set<std::uint32_t>& without) {
    const std::uint64_t now = setup_.clock.now().value;
    const bool is_known = held_found_ && held_found_->without == without;
    if (is_known && now - held_found_->at.value < looks_again.value) return;
    if (!std::exchange(looks_at_held_, true)) tasks_.spawn(gather_held(without));
}

/// Nothing is known where one does not answer: the array could not do without it, perhaps.
Task<void> ClusterNode::gather_held(std::set<std::uint32_t> without) {
    const NodeBoot master{master_, boots_.at(master_)};
    HeldByMembers held;
    const Checked<Words> own = co_await asked_what_is_held();
    bool all = own && take_held(*own, &held);
    for (const std::uint32_t node : fellows()) {
        if (!all || without.contains(node)) continue;
        const Checked<Words> answer = co_await ask_while_here(node, asking(fence_words::held));
        all = answer && take_held(*answer, &held);
    }
    looks_at_held_ = false;
    if (is_master() || !goes_on()) co_return;
    if (master != NodeBoot{master_, boots_.at(master_)}) co_return;
    HeldFound found{master, std::move(without), setup_.clock.now()};
    found.in_force = all && are_enough(held, HeldCounts::in_force);
    found.newest = all && are_enough(held, HeldCounts::newest);
    held_found_ = std::move(found);
}

/// Without these, by what the members of all others were seen to hold a moment ago. The one who decides may
/// be back in a moment, and then what is not in force comes into force, or does not. Later nobody waits for
/// that.
bool ClusterNode::holds_enough_without(const std::set<std::uint32_t>& nodes) const {
    if (!held_found_ || !master_lost_ || held_found_->without != nodes) return false;
    if (held_found_->master != NodeBoot{master_, boots_.at(master_)}) return false;
    const std::uint64_t now = setup_.clock.now().value;
    if (now - held_found_->at.value >= counts_for.value) return false;
    const bool is_late = now - master_lost_->value >= away_for_long().value / 2;
    return held_found_->in_force || (held_found_->newest && is_late);
}

}  // namespace braid::cluster
