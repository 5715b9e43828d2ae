// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: a node that was excluded and has begun anew is let in again while the array goes on.
//
// When it is connected all others look whether they reach it, and whether bytes come through as they
// are. Its record of the write intent is empty by then. The one who decides opens the array for it, in
// one turn: the configuration, the members' disks, what is in doubt; what changes from then on it is
// told as all others are. The next fence begins with it (cluster_node_fence.cpp): its home has an empty
// book, and no members. Then it begins its own record, hears what others have reserved, and serves.
// Its members come back as any disk that an operator gives to their roles: MemberOrders::replace().
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/epochs/window_words.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/node_array.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/metadata/member_metadata.h"

namespace braid::cluster {

// ---- who waits ---------------------------------------------------------------------------------

/// Connected, in another life than the one that was excluded. Not always the same first.
std::optional<NodeBoot> ClusterNode::who_waits() const {
    std::vector<NodeBoot> all;
    for (const auto& [node, boot] : left_out_) {
        const std::uint64_t now = bus_->session(node).peer_boot();
        const auto flap = flaps_.find(node);
        const bool has_waited =
            flap == flaps_.end() || setup_.clock.now() >= flap->second.not_before;
        if (killed_.contains(node)) continue;
        if (here_.contains(node) && now != boot && !retiring_.contains(node) && has_waited) {
            all.push_back({node, now});
        }
    }
    if (all.empty()) return std::nullopt;
    const auto next = std::ranges::upper_bound(all, looked_at_, {}, &NodeBoot::node);
    return next == all.end() ? all.front() : *next;
}

bool ClusterNode::may_let_in() const {
    return serves_ && array_ != nullptr && listener_ != nullptr && goes_on() && excluded_.empty() &&
           !forms_fence_ && !joining_ && !return_;
}

/// On the master, now and then.
void ClusterNode::look_who_waits() {
    for (const auto& [node, boot] : left_out_) {
        const std::uint64_t now = bus_->session(node).peer_boot();
        if (!killed_.contains(node) || !here_.contains(node) || now == boot) continue;
        note_hindrance({node, now},
                       fmt::format("an operator has killed it; braid node resume {} lets "
                                   "it in",
                                   node));
    }
    if (lets_in_ || changes_nodes_ || !may_let_in()) return;
    const std::optional<NodeBoot> node = who_waits();
    if (!node) return;
    lets_in_ = true;
    looked_at_ = node->node;
    tasks_.spawn(let_in(*node));
}

Task<void> ClusterNode::let_in(NodeBoot node) {
    const auto may = [this, id = node.node, nodes = known_nodes()] {
        return may_let_in() && !changes_nodes_ && nodes == known_nodes() &&
               listener_->is_in_force_as_wanted() && !killed_.contains(id);
    };
    std::string why = co_await why_not_yet(node);
    if (why.empty() && !may())
        why = "the array is just changing: its configuration is not in force";
    if (why.empty()) {
        const Result<std::uint64_t> retired = co_await listener_->forget_node(node.node);
        const bool is_there =
            here_.contains(node.node) && bus_->session(node.node).peer_boot() == node.boot;
        if (!retired) {
            why = "the members do not take an empty record of its write intent";
        } else if (is_there && may()) {  // else all of it comes again in a moment
            open_for({node, *retired});
        }
    }
    note_hindrance(node, std::move(why));
    lets_in_ = false;
}

/// What passes by itself in a moment is nothing to talk about.
void ClusterNode::note_hindrance(NodeBoot node, std::string why) {
    if (why.empty()) {
        hindrances_.erase(node);
        return;
    }
    Hindrance& at = hindrances_.try_emplace(node, Hindrance{setup_.clock.now(), {}}).first->second;
    const Nanos waited{setup_.clock.now().value - at.since.value};
    if (waited < hindrance_told_after || at.told == why) return;
    log(Severity::warning,
        fmt::format("{} has begun anew, and waits to be let in: {}", name_of(node.node), why));
    at.told = std::move(why);
}

/// One that goes again soon after it was let in waits for longer each time.
void ClusterNode::note_flap(std::uint32_t node) {
    const auto at = flaps_.find(node);
    if (at == flaps_.end()) return;
    Flap& flap = at->second;
    const Nanos now = setup_.clock.now();
    const bool is_soon = now.value - flap.let_in.value < flap_time.value;
    flap.times = is_soon ? flap.times + 1 : 0;
    if (flap.times < 2) return;  // once is no habit
    const std::uint64_t wait = seconds(1).value << std::min(flap.times - 2, 6U);
    flap.not_before = Nanos{now.value + std::min(wait, flap_time.value)};
    log(Severity::warning,
        fmt::format("{} goes again and again: it is let in after {} s at the earliest",
                    name_of(node), std::min(wait, flap_time.value) / seconds(1).value));
}

/// Nothing, if every node has met it.
Task<std::string> ClusterNode::why_not_yet(NodeBoot node) {
    const Checked<Unit> alike = co_await have_known(known_nodes(), Know::from_now_on, node.node);
    if (!alike) co_return alike.error().text;
    Words words = asking("meets");
    words["node"] = node.node;
    words["boot"] = node.boot;
    const std::vector<std::uint32_t> nodes = fellows();
    auto asked = talk_.ask_all(nodes, words);
    const Checked<Unit> here = co_await meet(node);
    const std::vector<Checked<Words>> met = co_await asked;
    if (!here) co_return fmt::format("{} {}", name_of(setup_.self), here.error().text);
    for (std::size_t i = 0; i != nodes.size(); ++i) {
        if (!met[i]) co_return fmt::format("{} {}", name_of(nodes[i]), met[i].error().text);
    }
    co_return std::string();
}

/// Whether it is reached, and bytes come through as they are.
Task<Checked<Unit>> ClusterNode::meet(NodeBoot node) {
    const std::uint32_t id = node.node;
    if (!here_.contains(id) || bus_->session(id).peer_boot() != node.boot) {
        co_return Refusal{"does not reach it", RefusalCode::conflict};
    }
    // What it has answered in another life does not count.
    const std::vector<ChannelStatus> channels = bus_->heartbeats().status(id);
    if (std::ranges::none_of(channels, &ChannelStatus::up)) {
        co_return Refusal{"has no heartbeats of it", RefusalCode::conflict};
    }
    BRAID_CO_TRY(const Words told, co_await ask_while_here(id, asking(node_words::inquiry)));
    BRAID_CO_TRY(const InquiryAnswer about, inquiry_answer_of(told));
    if (about.node != id || about.boot != node.boot || !about.booting) {
        co_return Refusal{"finds it serving something already", RefusalCode::conflict};
    }
    if (about.nodes != known_nodes()) {
        co_return Refusal{"knows other nodes than it does", RefusalCode::conflict};
    }
    BRAID_CO_TRY(const Words way, co_await ask_while_here(id, asking(node_words::cable_check)));
    BRAID_CO_CHECK(cable_check_answer_of(way));
    BlockWrite block;
    for (std::size_t i = 0; i != echo_block_size; ++i) {
        block.data.push_back(static_cast<std::byte>(new_uuids_.next()));
    }
    BRAID_CO_CHECK(co_await ask_while_here(id, words_of(block)));
    const BlockRead all{0, echo_block_size};
    BRAID_CO_TRY(const Words echo, co_await ask_while_here(id, words_of(all)));
    BRAID_CO_TRY(const std::vector<std::byte> come, block_of(echo));
    if (come == block.data) co_return Unit{};
    co_return Refusal{"has sent it bytes that came back as others: see to the network between them",
                      RefusalCode::io};
}

/// ASK "meets", at any node.
Task<Checked<Words>> ClusterNode::asked_to_meet(const Words& words) {
    WordFields fields(words);
    NodeBoot node;
    node.node = fields.number32("node", nodes_max - 1);
    node.boot = fields.number("boot");
    if (node.node == setup_.self || setup_.config.find(node.node) == nullptr) {
        fields.is_wrong("node", "another one's");
    }
    BRAID_CO_CHECK(fields.check());
    BRAID_CO_CHECK(co_await meet(node));
    co_return Words::object();
}

// ---- the array is opened for it ----------------------------------------------------------------

/// What a node begins with.
Words ClusterNode::words_of_open(const Configuration& configuration) const {
    Words words = telling("open");
    words["fence"] = fence_.epoch;
    // Not as this node's file says, where it came to decide later: all have the same.
    words["lease_ms"] = lease_length_.value / 1'000'000;
    words["configuration"] = words_of(configuration);
    put_homes(&words);
    std::vector<NodeBoot> left_out;
    for (const auto& [node, boot] : left_out_) left_out.push_back({node, boot});
    put_nodes(&words, "left_out", left_out);
    std::vector<NodeBoot> serving{{setup_.self, setup_.boot}};
    for (const std::uint32_t node : fellows()) serving.push_back({node, boots_.at(node)});
    put_nodes(&words, "serving", serving);
    return words;
}

/// By member: the node's id; 0: it was never here, or its node was removed.
void ClusterNode::put_homes(Words* words) const {
    (*words)["homes"] = Words::array();
    for (std::uint32_t i = 0; i != rows_->geometry.member_count; ++i) {
        const std::uint32_t home = rows_->homes->home_of(MemberIndex{i});
        const bool has_one = home != NodeHomes::no_home && is_known(home_ids_[home]);
        (*words)["homes"].push_back(has_one ? home_ids_[home] : 0);
    }
}

Checked<std::vector<std::uint32_t>> ClusterNode::homes_of(const Words& words) const {
    WordFields fields(words);
    const std::vector<Words> list = fields.list("homes", rows_->geometry.member_count);
    BRAID_CHECK(fields.check());
    const auto is_number = [](const Words& one) {
        return one.is_number_integer() && one.get<std::int64_t>() >= 0;
    };
    if (list.size() != rows_->geometry.member_count || !std::ranges::all_of(list, is_number)) {
        return Refusal{"\"homes\" is not a list of each member's"};
    }
    std::vector<std::uint32_t> homes;
    for (const Words& one : list) {
        const auto node = one.get<std::uint64_t>();
        if (node >= nodes_max) return Refusal{"\"homes\" names a node that there is not"};
        // One that is not known here is out everywhere.
        homes.push_back(
            is_known(static_cast<std::uint32_t>(node)) ? static_cast<std::uint32_t>(node) : 0);
    }
    return homes;
}

std::vector<std::uint32_t> ClusterNode::indices_of(const std::vector<std::uint32_t>& homes) const {
    std::vector<std::uint32_t> indices;
    for (const std::uint32_t node : homes) {
        indices.push_back(node == 0 ? NodeHomes::no_home
                                    : static_cast<std::uint32_t>(index_of(node)));
    }
    return indices;
}

/// As the one who decides had them. What he has attached since then is newer, and was heard of before,
/// perhaps: it is read and written where it is.
void ClusterNode::take_homes(const std::vector<std::uint32_t>& homes) {
    const std::vector<std::uint32_t> indices = indices_of(homes);
    for (std::uint32_t i = 0; i != indices.size(); ++i) {
        const MemberIndex member{i};
        if (is_attached(member)) continue;
        if (indices[i] == NodeHomes::no_home) {
            rows_->homes->forget_home(member);
        } else {
            rows_->homes->set_home(member, indices[i]);
        }
    }
}

/// Its drive is here, and does not wait to be closed.
bool ClusterNode::is_attached(MemberIndex member) const {
    if (serving_ == nullptr || detaching_.has(member)) return false;
    const bool has_home = rows_->homes->home_of(member) != NodeHomes::no_home;  // not removed
    return has_home && serving_->members().slot(member).is_open();
}

/// On another node: who is the home of what, and who is left out. Before anything is attached.
Checked<Unit> ClusterNode::take_open_places(const Words& words) {
    WordFields fields(words);
    const std::vector<NodeBoot> left_out = nodes_of(fields, "left_out");
    const std::vector<NodeBoot> serving = nodes_of(fields, "serving");
    BRAID_CHECK(fields.check());
    BRAID_TRY(const std::vector<std::uint32_t> homes, homes_of(words));
    if (!BRAID_MUTANT(back_without_homes)) take_homes(homes);
    left_out_.clear();  // of a start without some that has come to nothing
    for (const NodeBoot& node : left_out) {
        if (node.node == setup_.self) {
            return Refusal{"\"left_out\" names a node that cannot be"};
        }
        if (!is_known(node.node)) continue;
        left_out_.emplace(node.node, node.boot);
        boots_[node.node] = node.boot;
        give_up_start(node);
    }
    for (const NodeBoot& node : serving) boots_[node.node] = node.boot;
    rows_->homes->begin_without(homes_at(left_out));
    return Unit{};
}

/// In one turn: what it is told, and what all are told from now on, is one and the same.
void ClusterNode::open_for(const Joining& joining) {
    const std::uint32_t id = joining.node.node;
    log(Severity::info, fmt::format("{} has begun anew, and is let in", name_of(id)));
    boots_[id] = joining.node.boot;
    began_anew_.erase(id);
    left_out_.erase(id);
    why_out_.erase(id);
    talk_.tell(id, words_of_open(array_->inner().configuration()));
    for (const MemberIndex member : serving_->members().taking_part()) {
        const auto& slot = serving_->members().slot(member);
        BRAID_REQUIRE(slot.disk() != nullptr);
        talk_.tell(id, words_of_attach(member, *slot.disk(), slot.area));
        if (!slot.behind) continue;
        for (const Words& words : words_of_behind(member, *slot.behind)) talk_.tell(id, words);
    }
    told_nodes_->let_in(id);
    talk_.tell(id, words_of_killed());
    flaps_[id].let_in = setup_.clock.now();
    joining_ = joining;
    if (!std::exchange(forms_fence_, true)) tasks_.spawn(form_fence());
}

/// It is in the fence. What its record needs of other homes they do now.
Task<void> ClusterNode::begin_at(Joining joining) {
    const std::uint32_t id = joining.node.node;
    if (!goes_on()) co_return;
    IntentSettings settings = array_->inner().configuration().intent;
    settings.on = settings.on || serving_->marks();  // while that is being switched off
    const Words marks = begin_marks_words(settings, {{id, joining.generation}});
    Checked<Words> begun = co_await talk_.ask(id, marks);
    if (begun) begun = co_await talk_.ask(id, asking("serve"));
    if (!is_in(joining.node)) co_return;
    if (!begun) co_return lose_node(id, "could not begin: " + begun.error().text);
    log(Severity::info, fmt::format("{} serves again", name_of(id)));
    told_status_.clear();
    tell_status();
    co_await take_members_back(joining.node);
}

/// What one who begins needs for its record of the write intent.
/// @param generations  by node, of the newest record that was found
Words ClusterNode::begin_marks_words(IntentSettings settings,
                                     const std::map<std::uint32_t, std::uint64_t>& generations) {
    Words words = asking("begin_marks");
    words["on"] = settings.on;
    words["region"] = settings.region;
    words["generations"] = Words::object();
    for (const auto& [node, generation] : generations) {
        words["generations"][std::to_string(node)] = generation;
    }
    return words;
}

/// Before a node serves: what others told it before has come, of what they have reserved above all.
Task<void> ClusterNode::hear_of_all() {
    for (const std::uint32_t node : fellows()) {
        if (node == master_) continue;                                // who asks
        (void)co_await talk_.ask(node, asking(node_words::inquiry));  // or it is gone
    }
}

// ---- its members -------------------------------------------------------------------------------

namespace {
constexpr int tries_of_member = 5;
}

/// Disks of the node that have a role which nobody has, or are spares: each as if it was added.
Task<void> ClusterNode::take_members_back(NodeBoot node) {
    const Checked<std::vector<Words>> disks = co_await inventory_of(node.node);
    if (!disks && disks.error().code != RefusalCode::busy) {
        co_return misunderstood(node.node, disks.error().text);
    }
    if (!disks) co_return;  // it is gone again
    for (const Words& words : *disks) {
        WordFields at(words);
        const std::uint32_t number = at.number32("number");
        const std::string path = at.text("path");
        const DiskPlace place{node.node, node.boot, number};
        const auto is_used = [this, &place] {
            return std::ranges::any_of(places_,
                                       [&](const auto& one) { return one.second == place; });
        };
        if (!at.check() || is_used()) continue;
        returning_.insert(place);
        const Checked<Unit> taken = co_await take_member_back(node, words);
        returning_.erase(place);
        if (taken || !is_in(node) || is_used()) continue;  // an order has come for it meanwhile
        log(Severity::warning, fmt::format("{} does not come back: {}", path, taken.error().text));
        if (node.node == setup_.self) {
            close_disk(number);
            continue;
        }
        Words closing = telling("close");
        closing["disk"] = number;
        talk_.tell(node.node, closing);
    }
}

/// The array goes on, and this life of the node takes part.
bool ClusterNode::is_in(NodeBoot node) const {
    return goes_on() && !left_out_.contains(node.node) && boot_of(node.node) == node.boot;
}

/// Other orders on members may be under way.
Task<Checked<Unit>> ClusterNode::take_member_back(NodeBoot node, Words words) {
    for (int failures = 0; is_in(node);) {
        BRAID_CO_TRY(std::unique_ptr<Disk> disk, disk_of(node.node, words));
        const Checked<Unit> done = co_await take_disk_back(node, std::move(disk));
        if (done) co_return done;
        const bool io = done.error().code == RefusalCode::io && ++failures != tries_of_member;
        if (!io && done.error().code != RefusalCode::busy) co_return done;
        Pause until_it_is_tried_again(pauses_, status_pause);
        co_await until_it_is_tried_again;
    }
    co_return Refusal{"its node is gone", RefusalCode::busy};
}

Task<Checked<Unit>> ClusterNode::take_disk_back(NodeBoot node, std::unique_ptr<Disk> disk) {
    const Uuid uuid = co_await member_on(disk.get());
    Array& array = array_->inner();
    if (serving_->members().absence().displaced_role(uuid)) {
        // Its own role, or none: how far the other disk is decides, and what it lacks itself.
        MemberName own(uuid.text());
        co_return co_await array.replace_member(std::move(own), std::move(disk), Force::no);
    }
    const MemberRecord* record = nullptr;  // an empty role has no uuid either
    if (uuid != Uuid{}) record = array.configuration().member(uuid);
    if (record == nullptr) record = missing_at(disk->info().path, node.node);
    if (record == nullptr) co_return Refusal{"it is no member of the array"};
    if (record->role && record->state != MemberState::missing) {
        co_return Refusal{
            fmt::format("it is {}; braid member add takes it back", text_of(record->state))};
    }
    const std::string name = record->uuid.text();
    const bool is_witness = record->state == MemberState::witness;
    if (record->role) {
        // Into its own role: by what is on it that may not be known, where several are lost.
        co_return co_await array.replace_member(MemberName(name), std::move(disk), Force::no);
    }
    if (!is_witness) BRAID_CO_CHECK(co_await array.remove_member(MemberName(name)));
    if (is_witness || is_in(node)) {
        co_return co_await array.add_member(std::move(disk), Force::no);
    }
    co_return Unit{};
}

/// The member that went with the node, and was this disk by the name that it had there: it had a role, or
/// was a spare, already when the node went again, or the one who decided, and nothing was written to it
/// yet.
const MemberRecord* ClusterNode::missing_at(const std::string& path, std::uint32_t node) const {
    for (const MemberRecord& at : array_->inner().configuration().members) {
        const bool is_its = at.home == node && (!at.role || at.state == MemberState::missing);
        if (is_its && at.path == path) return &at;
    }
    return nullptr;
}

/// Which member of this array it is, as its metadata says; nil: none.
Task<Uuid> ClusterNode::member_on(Disk* disk) {
    std::vector<Disk*> disks{disk};
    const std::vector<MemberImage> images =
        co_await read_member_images(setup_.ready, setup_.clock, std::move(disks));
    const MemberFindings findings = inspect(images.front());
    const ConfigSlot* const slot = findings.slot();
    if (slot == nullptr || slot->configuration.array != array_->inner().configuration().array) {
        co_return Uuid{};
    }
    co_return slot->member;
}

}  // namespace braid::cluster
