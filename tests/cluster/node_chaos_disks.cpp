// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: disks that failed, and what operators order about them.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cluster/node_chaos_kit.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

bool holds_metadata(const SimPlatter& platter) {
    const ByteView superblock = platter.content.view().subspan(md_superblock_offset, row_size);
    return std::ranges::any_of(superblock, [](std::byte byte) { return byte != std::byte{}; });
}

}  // namespace

/// What is in sync on disks that fail may be needed now; and one that holds nothing yet is in the way.
void Chaos::make_disks_ready() {
    put_blank_spares_away();
    for (std::uint32_t i = 0; i != options_.members; ++i) {
        if (options_.beyond) nodes_.platter(i).heal();
        const SimPlatter* fresh = nodes_.beside(i);
        if (fresh == nullptr || holds_metadata(*fresh)) continue;
        nodes_.put_away(i);
        if (disks_.contains(i)) disks_[i].fresh.reset();
    }
}

// ---- spares ------------------------------------------------------------------------------------

/// An operator adds one while all is well, at any node; and again, where that one died before it was done.
void Chaos::see_to_spares() {
    if (heals_ || lost_) return;
    if (spares_.size() != options_.spares && is_whole() && below(200) == 0) {
        const std::uint32_t node = any_node();
        if (!is_well(node)) return;
        spares_.push_back({node, nodes_.make_platter(), fmt::format("spare{}", ++fresh_)});
        nodes_.put_spare(node, spares_.back().platter, spares_.back().path);
        fresh_made_[spares_.back().path] = spares_.back().platter;
    }
    for (Spare& spare : spares_) {
        if (now() < spare.look || !is_well(spare.node)) continue;
        spare.look = now() + 5 * second;
        Array& array = nodes_.array(spare.node);
        const bool is_known = std::ranges::any_of(
            array.configuration().members,
            [&](const MemberRecord& at) { return at.path.ends_with(spare.path); });
        if (is_known) continue;
        order(spare.node, fmt::format("add {} at node {}", spare.path, spare.node + 1),
              array.add_member(nodes_.disk_at(spare.node, spare.platter, spare.path), Force::no));
    }
}

/// All begin: what holds nothing yet is in the way.
void Chaos::put_blank_spares_away() {
    std::erase_if(spares_, [](const Spare& spare) { return !holds_metadata(*spare.platter); });
    nodes_.put_spares_away();
    for (const Spare& spare : spares_) nodes_.put_spare(spare.node, spare.platter, spare.path);
}

/// The spare that has the role, as this node knows it; nullptr: none has.
const Chaos::Spare* Chaos::spare_with(std::uint32_t role, std::uint32_t node) {
    const std::string& path = nodes_.array(node).configuration().members[role].path;
    const auto at = std::ranges::find_if(
        spares_, [&](const Spare& spare) { return path.ends_with(spare.path); });
    return at == spares_.end() ? nullptr : &*at;
}

/// The node that has the disk of a role, as any node knows that is well; or as one did last.
std::uint32_t Chaos::home_of(std::uint32_t role) {
    for (std::uint32_t node = 0; !spares_.empty() && node != options_.nodes; ++node) {
        if (!is_well(node)) continue;
        const Spare* const spare = spare_with(role, node);
        at_spares_.erase(role);
        if (spare != nullptr) at_spares_[role] = spare->node;
        break;
    }
    const auto at = at_spares_.find(role);
    return at == at_spares_.end() ? nodes_.home_of(role) : at->second;
}

/// When all is whole: the disks of the roles are these.
void Chaos::put_spares_in_place() {
    for (std::uint32_t i = 0; i != options_.members; ++i) {
        const Spare* const spare = spare_with(i, 0);
        if (spare != nullptr) nodes_.set_platter(i, spare->platter, spare->path);
    }
}

// ---- disks that fail ---------------------------------------------------------------------------

/// Though it looks well: the order to fail it is still on its way, or what it was asked while it hung has no
/// answer yet, or its home cannot say to who decides what happened to it.
bool Chaos::may_yet_be_lost(Failed& failed) {
    if (failed.asked) {
        const auto [node, starts] = *failed.asked;
        const bool is_up = nodes_.is_up(node) && !nodes_.has_left(node);
        if (is_up && seats_[node].starts == starts) return true;
        failed.asked.reset();  // it may have been carried out, or not
        failed.late = std::max(failed.late, now() + aftermath());
    }
    // Who comes to decide hears of what failed before.
    if (!who_decides_is_well()) failed.late = std::max(failed.late, now() + aftermath());
    return now() < failed.late;
}

/// An order, which takes as long as its node does not reach who decides.
Task<Checked<Unit>> Chaos::fail_member(std::uint32_t node, std::uint32_t member) {
    const Checked<Unit> done =
        co_await nodes_.array(node).fail_member(std::to_string(member), Force::no);
    if (const auto at = disks_.find(member); at != disks_.end()) {
        at->second.asked.reset();
        at->second.late = std::max(at->second.late, now() + second);  // its home hears of it
    }
    co_return done;
}

/// A disk that failed is there again, or another one is given to its role. An order whose node died may
/// have been carried out, or not.
void Chaos::look_after_disks() {
    for (auto at = disks_.begin(); at != disks_.end(); ++at) {
        const std::uint32_t member = at->first;
        const std::uint32_t node = nodes_.home_of(member);
        Failed& failed = at->second;
        if (now() < failed.look || !is_well(node)) continue;
        const ArrayStatus status = nodes_.array(node).status();
        const MemberRecord& record = status.members[member].record;
        const bool takes_part =
            record.state == MemberState::in_sync || record.state == MemberState::rebuilding;
        failed.look = now() + second;
        // An earlier order, which took long, may be the one that was carried out.
        const auto taken = std::ranges::find_if(
            fresh_made_, [&](const auto& one) { return record.path.ends_with(one.first); });
        const bool is_taken = takes_part && failed.fresh && taken != fresh_made_.end();
        if (is_taken && !holds_metadata(*taken->second)) return;  // it is only wanted so yet
        if (is_taken) {
            nodes_.put_away(member);
            nodes_.set_platter(member, taken->second, taken->first);
            disks_.erase(at);
            return;
        }
        if (takes_part && nodes_.platter(member).is_well()) {
            if (may_yet_be_lost(failed)) continue;
            nodes_.put_away(member);
            disks_.erase(at);
            return;
        }
        if (takes_part) {  // nobody has noticed
            if (below(4) != 0) return;
            nodes_.platter(member).heal();
            failed.late = std::max(failed.late, now() + aftermath());  // its home has, perhaps
            return;
        }
        // It has the role, and went with its node: it comes back with that, and is not to be forgotten. Not so
        // where the power went before anything of it was durable.
        const bool is_away = record.state == MemberState::missing && failed.fresh &&
                             record.path.ends_with(failed.path) && failed.fresh->is_well() &&
                             holds_metadata(*failed.fresh);
        if (is_away) return;
        failed.look = now() + 5 * second;
        failed.path = fmt::format("fresh{}", ++fresh_);
        failed.fresh = nodes_.make_platter();
        fresh_made_[failed.path] = failed.fresh;
        nodes_.put_beside(member, failed.fresh, failed.path);
        order(node, fmt::format("replace member {} at node {}", member, node + 1),
              nodes_.array(node).replace_member(std::to_string(member),
                                                nodes_.disk_at(node, failed.fresh, failed.path),
                                                Force::no));
        return;
    }
}

/// A member that fell behind where nobody could tell it is given back by an operator.
void Chaos::give_back() {
    if (!options_.beyond || lost_) return;
    for (std::uint32_t i = 0; i != options_.members; ++i) {
        const std::uint32_t node = nodes_.home_of(i);
        if (disks_.contains(i) || !is_well(node)) {
            away_since_.erase(i);
            continue;
        }
        const MemberState state = nodes_.array(node).configuration().members[i].state;
        if (state == MemberState::in_sync || state == MemberState::rebuilding) {
            away_since_.erase(i);
            continue;
        }
        const auto since = away_since_.try_emplace(i, now()).first;
        if (now() < since->second + 15 * second) continue;
        since->second = now();
        order(node, fmt::format("add member {} at node {}", i, node + 1),
              nodes_.array(node).add_member(
                  nodes_.disk_at(node, nodes_.shared_platter(i), nodes_.path_of(i)), Force::no));
    }
}

void Chaos::order(std::uint32_t node, std::string what, Task<Checked<Unit>> task) {
    say("order: " + what);
    nodes_.loop_of(node).tasks().spawn(carry_out(node, std::move(what), std::move(task)));
}
Task<void> Chaos::carry_out(std::uint32_t node, std::string what, Task<Checked<Unit>> task) {
    const Checked<Unit> done = co_await task;
    say(fmt::format("order at node {}: {}: {}", node + 1, what, done ? "done" : done.error().text));
}

}  // namespace braid::sim
