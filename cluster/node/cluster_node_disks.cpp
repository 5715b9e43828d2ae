// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: its disks, what the array has of them and of other nodes', and the members whose home
// it is.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/given_disk.h"
#include "cluster/node/own_disk.h"
#include "cluster/node/served_array.h"
#include "engine/base/limits.h"
#include "engine/metadata/config_check.h"

namespace braid::cluster {

std::uint32_t ClusterNode::shelve(std::shared_ptr<Disk> disk) {
    const auto number = static_cast<std::uint32_t>(shelf_.size());
    disks_.put(number, disk);
    shelf_.push_back(std::move(disk));
    return number;
}

void ClusterNode::put_disk(std::shared_ptr<Disk> disk) { (void)shelve(std::move(disk)); }

std::unique_ptr<Disk> ClusterNode::own_disk(std::unique_ptr<Disk> disk) {
    const std::uint32_t number = shelve(std::move(disk));
    return give(shelf_[number], {setup_.self, setup_.boot, number});
}

std::unique_ptr<Disk> ClusterNode::give(std::shared_ptr<Disk> disk, DiskPlace place) {
    auto given = std::make_unique<GivenDisk>(std::move(disk),
                                             [this](const GivenDisk& over) { given_back(over); });
    places_[given.get()] = place;
    return given;
}

/// The array has lost it, or does not take it: its node has no use for it.
void ClusterNode::given_back(const Disk& disk) {
    const auto at = places_.find(&disk);
    if (at == places_.end()) return;
    const DiskPlace place = at->second;
    places_.erase(at);
    if (stopping_ || ended_ || !is_master()) return;
    const bool returns = returning_.contains(place);
    if (place.node == setup_.self)
        return returns ? free_disk(place.number) : close_disk(place.number);
    if (bus_->session(place.node).peer_boot() != place.boot) return;
    const char* const what = returns ? "free" : "close";
    talk_.tell(place.node, {{"tell", what}, {"disk", place.number}});
}

bool ClusterNode::is_there(const Disk& disk) const {
    const DiskPlace place = places_.at(&disk);
    return place.node == setup_.self ||
           (!left_out_.contains(place.node) && boots_.at(place.node) == place.boot);
}

/// What is under way on it goes on, and has it until that is over.
void ClusterNode::close_disk(std::uint32_t number) {
    shelf_[number].reset();
    disks_.remove(number);
    give_no_role(number);
}

/// It stays open, and is looked at again.
void ClusterNode::free_disk(std::uint32_t number) {
    disks_.put(number, shelf_[number]);
    give_no_role(number);
}

/// It was to have one, perhaps, and has not got it.
void ClusterNode::give_no_role(std::uint32_t number) {
    const auto at =
        std::ranges::find(attached_, number, [](const auto& one) { return one.second; });
    if (at == attached_.end() || serving_->members().slot(at->first).is_open()) return;
    if (rows_->home.has(at->first)) rows_->home.suspend(at->first);
    attached_.erase(at);
}

namespace {

Words words_of(std::uint32_t number, const DiskInfo& info) {
    return {{"number", number},
            {"path", path_to_keep(info.path)},
            {"size", info.size},
            {"zero_fast", info.zero_fast},
            {"zero_kept_fast", info.zero_kept_fast},
            {"allocated", info.allocated},
            {"in_memory", info.in_memory},
            {"block_device", info.block_device},
            {"read_only", info.read_only},
            {"sector_size", info.sector_size}};
}

/// Of a disk of another node. Which bytes it is only that node knows, and bytes come over the net to
/// any address.
Checked<DiskInfo> info_of(const Words& words) {
    WordFields fields(words);
    DiskInfo info;
    info.path = fields.text("path");
    info.size = fields.number("size");
    info.memory_align = 1;
    info.zero_fast = fields.flag("zero_fast");
    info.zero_kept_fast = fields.flag("zero_kept_fast");
    info.allocated = fields.flag("allocated");
    info.in_memory = fields.flag("in_memory");
    info.block_device = fields.flag("block_device");
    info.read_only = fields.flag("read_only");
    info.sector_size = fields.number32("sector_size", row_size);
    if (info.sector_size < 512) fields.is_wrong("sector_size", "one of a disk's");
    BRAID_CHECK(fields.check());
    return info;
}

}  // namespace

/// Other nodes call it by this node's name, too.
Words ClusterNode::words_of_disk(std::uint32_t number) const {
    DiskInfo info = shelf_[number]->info();
    info.path = fmt::format("node{}:{}", setup_.self, info.path);
    return words_of(number, info);
}

/// What is open.
std::vector<Words> ClusterNode::own_inventory() const {
    std::vector<Words> disks;
    for (std::uint32_t number = 0; number != shelf_.size(); ++number) {
        if (shelf_[number]) disks.push_back(words_of_disk(number));
    }
    return disks;
}

/// Of another node; the array has nothing of it.
Checked<std::unique_ptr<RemoteDisk>> ClusterNode::look_at_disk(std::uint32_t node,
                                                               const Words& words) {
    WordFields fields(words);
    const std::uint32_t number = fields.number32("number");
    BRAID_CHECK(fields.check());
    BRAID_TRY(DiskInfo info, info_of(words));
    return std::make_unique<RemoteDisk>(bus_->session(node), fence_, number, std::move(info));
}

Checked<std::unique_ptr<Disk>> ClusterNode::remote_disk(std::uint32_t node, const Words& words) {
    BRAID_TRY(std::unique_ptr<RemoteDisk> disk, look_at_disk(node, words));
    const std::uint32_t number = WordFields(words).number32("number");
    // It takes part, and this node may not have met it yet.
    const auto known = boots_.find(node);
    const std::uint64_t boot =
        rows_ && known != boots_.end() ? known->second : bus_->session(node).peer_boot();
    disk->set_start(boot);
    return give(std::move(disk), {node, boot, number});
}

Words ClusterNode::words_of_attach(MemberIndex member, const Disk& disk, DataArea area) const {
    const DiskPlace place = places_.at(&disk);
    const bool is_own = place.node == setup_.self;
    Words words = telling("attach");
    words["member"] = raw(member);
    words["node"] = place.node;
    words["begin"] = area.begin.value;
    words["disk"] = is_own ? words_of_disk(place.number) : words_of(place.number, disk.info());
    return words;
}

/// On the master: the array has given a disk a role.
void ClusterNode::attach_from_array(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) {
    const DiskPlace place = places_.at(disk.get());
    const bool is_own = place.node == setup_.self;
    told_nodes_->tell_all(words_of_attach(member, *disk, area));
    if (is_own) BRAID_REQUIRE(attach_home(member, place.number, area).has_value());
    attach_here(member, place.node, area, std::move(disk));
}

/// Before anybody works by it. A disk that stayed open as its member was lost may have writes of then
/// under way still, which would land behind newer ones.
Result<void> ClusterNode::prepare_own_home(MemberIndex member, std::uint32_t number,
                                           DataArea area) {
    if (rows_->home.gives_to_suspended()) return Error{Errc::io, "disk", EBUSY};
    return attach_home(member, number, area);
}

Result<void> ClusterNode::attach_home(MemberIndex member, std::uint32_t number, DataArea area) {
    if (number >= shelf_.size() || !shelf_[number] || !is_row_aligned(area.begin)) {
        return Error{Errc::invalid, "disk"};
    }
    const std::uint64_t strips = rows_->geometry.stripes * rows_->geometry.strip_size;
    const std::uint64_t size = shelf_[number]->info().size;
    if (area.begin.value > size || strips > size - area.begin.value) {
        return Error{Errc::invalid, "disk"};
    }
    if (const auto at = attached_.find(member); at != attached_.end() && at->second == number) {
        return {};
    }
    if (rows_->home.has(member)) rows_->home.suspend(member);
    attached_[member] = number;
    rows_->home.attach(member, std::make_unique<OwnDisk>(shelf_[number]), area);
    disks_.set_data(number, area, area.begin.value + strips);
    echoes_.member_opened(setup_.clock.stamp());
    return {};
}

void ClusterNode::attach_here(MemberIndex member, std::uint32_t node, DataArea area,
                              std::unique_ptr<Disk> disk) {
    NodeHomes& homes = *rows_->homes;
    homes.set_home(member, static_cast<std::uint32_t>(index_of(node)));
    enter_lease();
    DiskInfo info = disk->info();
    serving_->attach_drive(member, homes.drive(member, std::move(info), area, std::move(disk)),
                           area);
    serving_->members().refresh();
}

/// The former disk of a role: who has asked something of it that is not answered would hear of nothing else
/// until it is, once he was told of the next one.
Task<bool> ClusterNode::is_closed_everywhere(MemberIndex member) {
    constexpr std::uint32_t tries_max = 10;
    constexpr Nanos between_tries = millis(50);
    for (std::uint32_t tries = 0; tries != tries_max && goes_on(); ++tries) {
        bool is_closed = true;
        for (const std::uint32_t node : fellows()) {
            Words words = asking("closed");
            words["member"] = raw(member);
            const Checked<Words> answer = co_await talk_.ask(node, words);
            if (!answer && !left_out_.contains(node)) is_closed = false;
            if (!is_closed) break;
        }
        if (is_closed) co_return true;
        Pause until_it_is_tried_again(pauses_, between_tries);
        co_await until_it_is_tried_again;
    }
    co_return false;
}

/// On the master: before any node works by it.
/// @return  Errc::failed or Errc::io: not now
Task<Result<void>> ClusterNode::prepare_home(MemberIndex member, const Disk& disk, DataArea area) {
    const DiskPlace place = places_.at(&disk);
    const bool is_closed = co_await is_closed_everywhere(member);
    if (!is_closed) co_return Error{Errc::failed, "node"};
    if (place.node == setup_.self) co_return prepare_own_home(member, place.number, area);
    Words words = asking(node_words::rebuild);
    words["member"] = raw(member);
    words["number"] = place.number;
    words["begin"] = area.begin.value;
    const Checked<Words> ready = co_await talk_.ask(place.node, words);
    if (!ready) co_return Error{Errc::failed, "node"};
    co_return Result<void>{};
}

/// The member's home has to take nothing for it before any lock goes from one who works without it
/// to one who does not.
void ClusterNode::lost_here(MemberIndex member) {
    attached_.erase(member);
    rows_->homes->refuse_held(member);
    const bool is_home = rows_->home.has(member);
    if (is_home) rows_->home.suspend(member);
    if (!is_home) rows_->homes->loss_begins(member);
    if (is_master()) tasks_.spawn(tell_home_of_loss(member));
}

Task<void> ClusterNode::tell_home_of_loss(MemberIndex member) {
    const std::uint32_t home_number = rows_->homes->home_of(member);
    const bool has_home = home_number != NodeHomes::no_home;
    const std::uint32_t home = has_home ? home_ids_[home_number] : setup_.self;
    // Answered when it has done what it was told before. Where it is gone the array stops.
    if (home != setup_.self && !left_out_.contains(home))
        (void)co_await talk_.ask(home, asking("adopted"));
    rows_->homes->loss_is_known(member);
    // Who is only just to decide, or does so no more: what is lost all hear as the fence begins.
    if (!told_nodes_) co_return;
    Words words = telling("unusable");
    words["member"] = raw(member);
    told_nodes_->tell_all(words);
}

/// Those of this node, whoever uses their disks: its home, others' metadata, its own, and clients that
/// read past the loop. Each of these is to have its tick.
MemberSet ClusterNode::late_members() {
    Members& members = serving_->members();
    MemberSet late = members.tick();
    members.abandon_lost();
    for (const auto& [member, number] : attached_) {
        const bool home_is = rows_->home.tick(member);
        const bool server_is = disks_.tick(number);
        Disk* const own = members.slot(member).disk();
        const bool own_is = own != nullptr && own->tick();
        if (home_is || server_is || own_is) late.add(member);
    }
    return late;
}

/// Who is told what members do.
Decider& ClusterNode::decider() {
    if (served_ != nullptr) return served_->decider();
    return *decider_;
}

void ClusterNode::member_failing(MemberIndex member, HomeFault what, int os_error) {
    if (!is_master()) {
        return talk_.tell(master_, {{"tell", "failing"},
                                    {"member", raw(member)},
                                    {"at", what == HomeFault::write ? "write" : "flush"},
                                    {"errno", os_error}});
    }
    if (listener_ == nullptr) return;
    if (listener_->member_failing(member, what, os_error)) rows_->home.keep(member);
}

}  // namespace braid::cluster
