// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: it comes to decide, since all have given it their voices (cluster_node_takeover.cpp).
//
// When all have prepared for its fence nothing of the former one is under way on any disk. It finds
// the disks of all nodes, reads them, takes the newest configuration that they hold over whole, without
// what any node has as lost, and brings that into force under an epoch of its own
// (engine/layout/register.h).
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/forming.h"
#include "cluster/node/own_disk.h"
#include "cluster/node/served_array.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/layout/change.h"
#include "engine/metadata/member_metadata.h"

namespace braid::cluster {
namespace {

constexpr const char* was_replaced = "its role was just being filled as the node went that decided";

}  // namespace

/// All have given their voices: from now on there is no way back.
void ClusterNode::take_over(const Standing& standing) {
    BRAID_REQUIRE(!is_master());
    BRAID_REQUIRE(listener_ == nullptr);
    const std::shared_ptr<Standing> keeps_it = standing_;
    log(left_.contains(standing.master.node) ? Severity::info : Severity::warning,
        fmt::format("{} {}: {} decides about the array from now on", name_of(standing.master.node),
                    standing.why, name_of(setup_.self)));
    newest_fence_ = std::max(newest_fence_, standing.fence);
    std::map<std::uint32_t, std::string> without;
    for (const std::uint32_t node : standing.without) without[node] = standing.why;
    // What the former one had begun with others nobody else knows.
    if (passing_) {
        for (const NodeBoot& node : passing_->joined)
            without.emplace(node.node, "was not let in yet");
    }
    without.erase(setup_.self);
    const std::set<std::uint32_t> stopped = has_stopped_;
    follow(setup_.self);
    has_stopped_ = stopped;
    took_over_from_ = standing.master.node;
    for (const auto& [node, start] : left_out_) retiring_.insert(node);
    for (const auto& [node, why] : without) exclude(node, why);
}

Task<void> ClusterNode::note_over(DiskServer* disks, std::vector<NodeBoot> nodes,
                                  std::shared_ptr<Quiet> quiet) {
    co_await disks->wait_over(std::move(nodes));
    quiet->end();
}

/// For so long, or until it is over, or looked at again.
Task<void> ClusterNode::wait_for(std::shared_ptr<Quiet> quiet, Nanos time) {
    if (quiet->over) co_return;
    Pause pause(pauses_, time);
    quiet->waiting = &pause;
    co_await pause;
    quiet->waiting = nullptr;
}

/// Until it is over, but not for long: a member whose disk does not answer is lost to this node. Long
/// enough for a pause of what all disks hang on: each home gives up by itself, and that stays so.
Task<void> ClusterNode::wait_until_over(std::vector<NodeBoot> nodes) {
    if (!disks_.has_any_of(nodes)) co_return;
    auto quiet = std::make_shared<Quiet>();
    tasks_.spawn(note_over(&disks_, nodes, quiet));
    for (bool waits = true; waits;) {
        co_await wait_for(quiet, disk_patience);
        if (quiet->over || !goes_on()) co_return;
        waits = false;
        for (const std::uint32_t number : disks_.busy_with(nodes)) {
            const auto at =
                std::ranges::find(attached_, number, [](const auto& one) { return one.second; });
            if (at == attached_.end()) continue;
            if (enough_are_left(MemberSet::of(at->first))) {
                give_up_member(at->first);
            } else {
                waits = true;  // without it nothing goes on
            }
        }
    }
}

/// Its disk does not answer. Who comes to decide hears of it with all roles, if it has not begun to;
/// who decides is told.
void ClusterNode::give_up_member(MemberIndex member) {
    log(Severity::error, fmt::format("member {} does not answer: it is lost to {}", raw(member),
                                     name_of(setup_.self)));
    const bool is_told = !took_over_from_ || listener_ != nullptr;
    if (is_told) decider().strip_write_failed(member, ETIMEDOUT);
    serving_->member_lost(member, MemberState::faulty);
    lost_here(member);
    // Who decides may have seen it as lost by then.
    if (is_told) decider().not_answering(member);
}

/// What a node tells of all roles.
std::vector<RoleSeen> ClusterNode::roles_seen() const {
    std::vector<RoleSeen> roles;
    const Members& members = serving_->members();
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const auto& slot = members.slot(MemberIndex{i});
        RoleSeen& role = roles.emplace_back();
        role.takes_part = takes_part(slot.state);
        role.rebuilt = std::max(slot.rebuilt, rows_->home.rebuilt(MemberIndex{i}));
        // That it is in sync again it may have heard alone.
        if (slot.state == MemberState::in_sync) role.rebuilt = members.window_end();
        const Disk* const disk = slot.disk();
        const auto place = disk == nullptr ? places_.end() : places_.find(disk);
        if (place == places_.end()) continue;
        role.node = place->second.node;
        role.disk = place->second.number;
    }
    return roles;
}

/// Where all have a role alike, and its node is there, it may count: nothing; else why not.
std::string ClusterNode::why_not_there(MemberIndex member, const Forming& forming) const {
    const RoleSeen own = forming.answers.at(setup_.self).roles.at(raw(member));
    if (own.node == 0) return "its disk is not open";
    if (own.node != setup_.self && left_out_.contains(own.node)) {
        return fmt::format("{} {}", name_of(own.node),
                           left_.contains(own.node) ? left_by_order : "is gone");
    }
    for (const auto& [node, prepared] : forming.answers) {
        if (BRAID_MUTANT(takeover_forgets_losses)) break;
        if (raw(member) >= prepared.roles.size()) return "not all nodes tell of it";
        const RoleSeen& seen = prepared.roles[raw(member)];
        if (!seen.takes_part) return fmt::format("it is lost to {}", name_of(node));
        if (seen.node != own.node || seen.disk != own.disk) {
            return was_replaced;
        }
    }
    return {};
}

/// What is on all disks of the nodes that are there.
struct ClusterNode::FoundDisks {
    std::vector<std::unique_ptr<Disk>> others;  // that have no role here
    std::vector<Disk*> disks;                   // all, those with roles first
    std::vector<MemberIndex> roles;             // of the first ones
    std::vector<MemberImage> images;            // of all
};

Checked<std::unique_ptr<Disk>> ClusterNode::disk_of(std::uint32_t node, const Words& words) {
    if (node != setup_.self) return remote_disk(node, words);
    WordFields fields(words);
    const std::uint32_t number = fields.number32("number");
    BRAID_CHECK(fields.check());
    if (number >= shelf_.size() || !shelf_[number]) return Refusal{"there is no such disk here"};
    return give(shelf_[number], {setup_.self, setup_.boot, number});
}

Task<Checked<std::vector<Words>>> ClusterNode::inventory_of(std::uint32_t node) {
    if (node == setup_.self) co_return own_inventory();
    BRAID_CO_TRY(const Words inventory, co_await talk_.ask(node, asking("inventory")));
    WordFields fields(inventory);
    std::vector<Words> disks = fields.list("disks", members_max + spares_max);
    BRAID_CO_CHECK(fields.check());
    co_return disks;
}

/// Of a node that all go on with; nothing: the fence begins anew without it, or there is no array any
/// more.
Task<std::optional<std::vector<Words>>> ClusterNode::inventory_within(const Forming& forming,
                                                                      std::uint32_t node) {
    looks_at_ = fmt::format("the disks of {}", name_of(node));
    Checked<std::vector<Words>> disks = co_await inventory_of(node);
    if (disks) co_return std::move(*disks);
    // Busy: it began anew, or was left out; that is known otherwise.
    if (disks.error().code != RefusalCode::busy) {
        lose_node(node, "does not tell of its disks: " + disks.error().text);
    }
    while (!is_over(forming)) co_await fence_changed_.next();
    co_return std::nullopt;
}

/// Nothing where the fence is over before.
Task<Checked<Unit>> ClusterNode::find_disks(const Forming& forming, FoundDisks* found) {
    std::set<DiskPlace> used;
    const Members& members = serving_->members();
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        Disk* const disk = members.slot(MemberIndex{i}).disk();
        if (disk == nullptr || !takes_part(members.slot(MemberIndex{i}).state)) continue;
        if (!is_there(*disk)) continue;
        found->roles.push_back(MemberIndex{i});
        found->disks.push_back(disk);
    }
    for (const auto& [disk, place] : places_) used.insert(place);
    std::vector<std::uint32_t> nodes = fellows();
    nodes.push_back(setup_.self);
    for (const std::uint32_t node : nodes) {
        const std::optional<std::vector<Words>> disks = co_await inventory_within(forming, node);
        if (!disks) co_return Unit{};
        for (const Words& words : *disks) {
            WordFields fields(words);
            const DiskPlace place{node, boot_of(node), fields.number32("number")};
            BRAID_CO_CHECK(fields.check());
            if (used.contains(place)) continue;
            BRAID_CO_TRY(std::unique_ptr<Disk> disk, disk_of(node, words));
            returning_.insert(place);  // its node keeps it open, whatever becomes of it here
            found->others.push_back(std::move(disk));
        }
    }
    for (const auto& disk : found->others) found->disks.push_back(disk.get());
    co_await look_at_disks(found);
    co_return Unit{};
}

/// What is read of a disk, whatever time that takes.
struct ClusterNode::Look {
    Disk* disk{nullptr};
    std::unique_ptr<Disk> own;  // none: `disk` is waited for, or nobody closes it
    std::optional<MemberImage> image;
    std::shared_ptr<Quiet> all;  // who waits for it
};

Task<void> ClusterNode::look_at_disk(std::shared_ptr<Look> look) {
    std::vector<Disk*> disk(1, look->disk);
    std::vector<MemberImage> images =
        co_await read_member_images(setup_.ready, setup_.clock, std::move(disk));
    look->image = std::move(images.front());
    look->all->cut_short();
    if (!look->all->over) co_return;
    const auto at = places_.find(look->own.get());
    if (at == places_.end()) co_return;
    const DiskPlace place = at->second;
    returning_.insert(place);  // its node keeps it open
    look->own.reset();
    returning_.erase(place);
}

/// Beside the one that a role has, which may be closed while this one is read.
std::unique_ptr<Disk> ClusterNode::another_handle(const Disk& disk) {
    const DiskPlace place = places_.at(&disk);
    if (place.node == setup_.self) return std::make_unique<OwnDisk>(shelf_[place.number]);
    auto another =
        std::make_unique<RemoteDisk>(bus_->session(place.node), fence_, place.number, disk.info());
    another->set_start(place.boot);
    return another;
}

/// A disk that does not answer is one that cannot be read, if the array can do without it.
Task<void> ClusterNode::look_at_disks(FoundDisks* found) {
    BRAID_REQUIRE(found->disks.size() == found->roles.size() + found->others.size());
    const auto all = std::make_shared<Quiet>();
    std::vector<std::shared_ptr<Look>> looks;
    for (Disk* const disk : found->disks) {
        const auto look = std::make_shared<Look>();
        looks.push_back(look);
        look->disk = disk;
        if (looks.size() <= found->roles.size()) {
            look->own = another_handle(*disk);
            look->disk = look->own.get();
        }
        look->all = all;
        tasks_.spawn(look_at_disk(look));
    }
    const Nanos until{setup_.clock.now().value + patience.value / 2};
    const auto unread = [&] {
        MemberSet members;
        for (std::size_t i = 0; i != found->roles.size(); ++i) {
            if (!looks[i]->image) members.add(found->roles[i]);
        }
        return members;
    };
    const auto is_over = [&] {
        if (std::ranges::all_of(looks, [](const auto& look) { return look->image.has_value(); })) {
            return true;
        }
        return !goes_on() || (setup_.clock.now() >= until && enough_are_left(unread()));
    };
    while (!is_over()) {
        looks_at_.clear();
        for (std::size_t i = 0; i != looks.size(); ++i) {
            if (looks[i]->image) continue;
            if (!looks_at_.empty()) looks_at_ += ", ";
            looks_at_ += found->disks[i]->info().path;
        }
        const Nanos now = setup_.clock.now();
        const Nanos next = now < until ? until : Nanos{now.value + looks_again.value};
        co_await wait_for(all, Nanos{next.value - now.value});
    }
    all->over = true;
    BRAID_REQUIRE(found->images.empty());
    for (std::size_t i = 0; i != looks.size(); ++i) {
        MemberImage& image = found->images.emplace_back();
        if (looks[i]->image) {
            image = std::move(*looks[i]->image);
            continue;
        }
        image.path = found->disks[i]->info().path;
        image.os_error = ETIMEDOUT;
        log(Severity::error, fmt::format("{} does not answer", image.path));
        if (i >= found->roles.size()) {
            looks[i]->own = std::move(found->others[i - found->roles.size()]);
        }
    }
}

namespace {

struct Newest {
    const Configuration* configuration{nullptr};
    EpochRevision in_force;  // the highest that any member knows of
    std::uint64_t epoch_seen{0};
};

/// What went on elsewhere, by force, is not the array's.
Newest newest_of(const std::vector<MemberFindings>& all, const Configuration& served) {
    Newest newest;
    for (const MemberFindings& findings : all) {
        newest.epoch_seen = std::max(newest.epoch_seen, findings.promise.epoch);
        const ConfigSlot* const slot = findings.slot();
        if (slot == nullptr || slot->configuration.array != served.array) continue;
        const Configuration& held = slot->configuration;
        newest.epoch_seen = std::max(newest.epoch_seen, held.version.epoch);
        if (held.lineage != served.lineage) continue;
        newest.in_force = std::max(newest.in_force, held.in_force);
        const bool is_newer =
            newest.configuration == nullptr || held.version > newest.configuration->version;
        if (is_newer) newest.configuration = &held;
    }
    return newest;
}

/// It is the member that the record means, and holds nothing from before what was in force.
std::string why_not_current(const MemberFindings& findings, const MemberRecord& record,
                            const Newest& newest) {
    const ConfigSlot* const slot = findings.slot();
    if (slot == nullptr || !findings.superblock) return "its metadata cannot be read";
    if (slot->member != record.uuid) {
        return was_replaced;
    }
    if (slot->configuration.version < newest.in_force) return "what it holds is from before";
    return {};
}

}  // namespace

/// All have prepared. False: the array has stopped, or somebody else is gone.
Task<bool> ClusterNode::begin_deciding(Forming* forming) {
    BRAID_REQUIRE(is_master());
    BRAID_REQUIRE(took_over_from_.has_value());
    FoundDisks found;
    const Checked<Unit> read = co_await find_disks(*forming, &found);
    const bool is_late = is_over(*forming);
    const bool goes_on = !is_late && read && begin_deciding_with(*forming, &found);
    found.others.clear();  // their nodes keep them: take_members_back()
    returning_.clear();
    if (!is_late && !read) {
        gone(*took_over_from_,
             "is gone, and the members cannot be looked at: " + read.error().text);
    }
    co_return goes_on;
}

/// False: the array has stopped.
bool ClusterNode::begin_deciding_with(const Forming& forming, FoundDisks* found) {
    const std::uint32_t former = *took_over_from_;
    std::vector<MemberFindings> findings;
    for (const MemberImage& image : found->images) findings.push_back(inspect(image));
    const Newest newest = newest_of(findings, served_->configuration());
    if (newest.configuration == nullptr) {
        gone(former, "is gone, and no member holds a configuration");
        return false;
    }
    Configuration wanted = *newest.configuration;
    if (BRAID_MUTANT(takeover_from_memory)) wanted = served_->configuration();
    LocalArray::Found known;
    known.epoch_seen = newest.epoch_seen;
    known.metadata.resize(rows_->geometry.member_count);
    for (std::uint32_t i = 0; i != rows_->geometry.member_count; ++i) {
        const MemberIndex member{i};
        const MemberRecord& record = *wanted.member(member);
        const auto at = std::ranges::find(found->roles, member);
        std::string why = why_not_there(member, forming);
        if (why.empty() && at == found->roles.end()) why = "its disk is not open";
        const auto index = static_cast<std::size_t>(at - found->roles.begin());
        if (why.empty()) why = why_not_current(findings[index], record, newest);
        if (why.empty() && takes_part(record.state)) {
            known.metadata[i] = metadata_of(found->images[index], findings[index]);
        } else if (takes_part(record.state)) {
            const RoleSeen& seen = forming.answers.at(setup_.self).roles[i];
            const bool is_gone = seen.node == 0 || left_out_.contains(seen.node);
            // It has done no wrong, and comes back by itself: as one whose role was just given to another
            // disk, or taken from it for that.
            const bool was_taken = record.state == MemberState::rebuilding &&
                                   serving_->members().slot(member).state == MemberState::missing;
            const bool comes_back = !is_gone && (why == was_replaced || was_taken);
            if (comes_back) coming_back_.push_back(member);
            const auto state = is_gone || comes_back ? MemberState::missing : MemberState::faulty;
            wanted = apply(wanted, change::Lost{member, state, wanted.in_force});
            known.lost[member] = why;
            if (left_.contains(seen.node)) known.away.add(member);
        } else if (record.uuid == Uuid{} && serving_->members().slot(member).is_open()) {
            coming_back_.push_back(member);  // a spare again, whose disk is just being closed here
        }
    }
    for (std::size_t i = found->roles.size(); i != findings.size(); ++i) {
        const ConfigSlot* const slot = findings[i].slot();
        const MemberRecord* const record =
            slot == nullptr || !findings[i].superblock || slot->configuration.array != wanted.array
                ? nullptr
                : wanted.member(slot->member);
        const bool is_witness = record != nullptr && record == wanted.witness();
        const bool is_spare = record != nullptr && record->state == MemberState::spare;
        if (!is_witness && (!is_spare || record->role)) continue;
        if (is_witness && findings[i].promise_hindrance) continue;
        Spare spare;
        spare.disk = std::move(found->others[i - found->roles.size()]);
        spare.metadata = metadata_of(found->images[i], findings[i]);
        if (is_witness) {
            known.witness = std::move(spare);
        } else {
            known.spares.push_back(std::move(spare));
        }
    }
    known.ties_broken =
        wanted.witness() != nullptr && break_ties(wanted.in_sync(), newest.configuration->in_sync(),
                                                  newest.configuration->version, newest.in_force);
    const bool is_tied = !known.ties_broken && !known.witness;
    if (!wanted.quorum().is_enough(wanted.in_sync(),
                                   is_tied ? Witness::silent : Witness::promised)) {
        std::string reasons;
        for (const auto& [member, why] : known.lost) {
            reasons += fmt::format("; member {}: {}", raw(member), why);
        }
        gone(former, "is gone, and too few members are left" + reasons);
        return false;
    }
    ArrayOptions options = options_of_deciding();
    options.force = false;  // that was of the start
    served_->decide(std::make_unique<LocalArray>(setup_.ready, setup_.clock, std::move(wanted),
                                                 std::move(options), &served_->serving()));
    array_ = served_;
    served_->decider().pass_on_to(*decider_);
    const Checked<Unit> taken = served_->decided().take_over(std::move(known));
    std::vector<Rebuilt> rebuilt;
    for (const auto& [node, prepared] : forming.answers) {
        if (BRAID_MUTANT(takeover_forgets_rebuilds)) break;
        for (std::uint32_t i = 0; i != prepared.roles.size(); ++i) {
            rebuilt.push_back({MemberIndex{i}, prepared.roles[i].rebuilt});
        }
    }
    rows_->homes->note(rebuilt);
    if (taken) return true;
    gone(former, "is gone: " + taken.error().text);
    return false;
}

/// Disks that have no role: that were away as the array stopped, or have lost it since, or that the one
/// who decided before was just taking into one.
Task<void> ClusterNode::take_all_back() {
    for (const MemberIndex member : std::exchange(coming_back_, {})) {
        const Disk* const disk = serving_->members().slot(member).disk();
        const auto at = disk == nullptr ? places_.end() : places_.find(disk);
        if (at == places_.end()) continue;
        const DiskPlace place = at->second;
        returning_.insert(place);  // its node keeps it open
        co_await served_->decided().close_role(member);
        returning_.erase(place);
    }
    std::vector<std::uint32_t> nodes = fellows();
    nodes.push_back(setup_.self);
    for (const std::uint32_t node : nodes) tasks_.spawn(take_members_back({node, boot_of(node)}));
}

/// The first fence of its own has begun.
void ClusterNode::go_on_deciding() {
    BRAID_REQUIRE(listener_ != nullptr);
    BRAID_REQUIRE(array_ != nullptr);
    served_->decided().go_on();
    std::vector<NodeBoot> all;
    for (const auto& [node, boot] : left_out_) all.push_back({node, boot});
    tasks_.spawn(forget(std::move(all)));
    for (const auto& [node, boot] : left_out_) {
        if (here_.contains(node)) tell_phase(node);
    }
    tasks_.spawn(take_all_back());
    tell_killed();  // the former one has told some nodes only, perhaps
    tell_status();
    ended_event_.set();  // who stops this node's server waited for the former one
    if (leave_asked_ || leaving_) tasks_.spawn(stop_array());
}

}  // namespace braid::cluster
