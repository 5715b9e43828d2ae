// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/node/cluster_node.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/epochs/remote_decider.h"
#include "cluster/node/deciding_array.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/given_disk.h"
#include "cluster/node/own_disk.h"
#include "cluster/node/served_array.h"
#include "cluster/node/told_status.h"
#include "engine/assembly/content.h"
#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "engine/metadata/config_check.h"
#include "engine/metadata/intent_record.h"

namespace braid::cluster {
ClusterNode::Rows::Rows(ClusterNode& node, const Geometry& the_geometry)
    : geometry(the_geometry),
      tasks(node.setup_.ready),
      home(geometry, tasks, node),
      server(home, geometry, node.fence_) {
    server.bind(*node.bus_);
    home.set_walker(node.master_);
    NodeHomes::Setup setup{geometry, {node.setup_.self, node.setup_.boot}, {}, {}};
    setup.has_lease = [&node] { return node.has_lease(); };
    setup.asker = &node;
    for (const std::uint32_t id : node.home_ids_) {
        if (id == node.setup_.self) {
            setup.links.push_back(&own);
        } else {
            setup.links.push_back(
                &remotes.emplace_back(node.bus_->session(id), geometry, node.fence_));
        }
    }
    setup.home_of.assign(geometry.member_count, NodeHomes::no_home);
    homes = std::make_unique<NodeHomes>(std::move(setup));
}

ClusterNode::ClusterNode(Setup setup)
    : setup_(std::move(setup)),
      pauses_(setup_.clock),
      tasks_(setup_.ready),
      talk_(setup_.ready, *this),
      commands_(node_commands()),
      disks_(setup_.ready, fence_),
      new_uuids_(setup_.seed ^ setup_.boot),
      lease_length_(millis(setup_.config.lease_ms)),
      lease_(own_lease()),
      echoes_(setup_.clock.stamp()),
      answers_(
          setup_.clock, setup_.array.member_timeout, [this] { return late_members(); },
          [this](MemberIndex member) { decider().not_answering(member); }) {
    for (const NodePlan& node : setup_.config.nodes) master_ = std::max(master_, node.id);
    setup_.array.node = setup_.self;
    Bus::Setup bus{setup_.ready,
                   setup_.clock,
                   setup_.net,
                   {setup_.self, setup_.boot},
                   setup_.config.name,
                   setup_.config.find(setup_.self)->addresses,
                   {},
                   setup_.seed,
                   setup_.key,
                   *this,
                   *this,
                   [this] { return facts(); },
                   this};
    for (const NodePlan& node : setup_.config.nodes) {
        if (node.id != setup_.self) bus.peers.push_back({node.id, node.addresses});
    }
    bus_ = std::make_unique<Bus>(std::move(bus));
    bus_->set_heartbeat_interval(heartbeat_interval());
    talk_.bind(*bus_);
    disks_.bind(*bus_);
    disks_.set_master(master_);
}

ClusterNode::~ClusterNode() {
    if (rows_) rows_->tasks.clear();
    bus_->abandon();
}

std::string ClusterNode::name_of(std::uint32_t node) const { return fmt::format("node {}", node); }

std::size_t ClusterNode::index_of(std::uint32_t node) const {
    const auto at = std::ranges::find(home_ids_, node);
    BRAID_REQUIRE(at != home_ids_.end());
    return static_cast<std::size_t>(at - home_ids_.begin());
}

HomeSet ClusterNode::homes_at(const std::vector<NodeBoot>& nodes) const {
    HomeSet homes = 0;
    for (const NodeBoot& node : nodes) {
        // One that was never known here is no home here either.
        const auto at = std::ranges::find(home_ids_, node.node);
        if (at != home_ids_.end()) homes |= HomeSet{1} << (at - home_ids_.begin());
    }
    return homes;
}

std::vector<std::uint32_t> ClusterNode::others() const {
    std::vector<std::uint32_t> ids;
    for (const NodePlan& node : setup_.config.nodes) {
        if (node.id != setup_.self) ids.push_back(node.id);
    }
    return ids;
}

std::vector<std::uint32_t> ClusterNode::fellows() const {
    std::vector<std::uint32_t> ids = others();
    std::erase_if(ids, [this](std::uint32_t node) { return left_out_.contains(node); });
    return ids;
}

// ---- connections -------------------------------------------------------------------------------

void ClusterNode::connected(std::uint32_t node) {
    if (!is_known(node)) return;  // it was just removed
    here_.insert(node);
    here_since_[node] = alike_since_ = setup_.clock.now();
    why_it_waits_.clear();
    here_changed_.set();
    changed_at_[node] = setup_.clock.wall_seconds();
    // A start of it that is over here, and that this node has not met since it began itself.
    if (const auto left = left_out_.find(node); left != left_out_.end()) {
        give_up_start({node, left->second});
    }
    const bool is_told = rows_ ? left_out_.contains(node) : !left_out_.contains(node);
    // What nodes do by themselves only the one says that has looked at all of their members.
    const bool tells = !without_led_by_ || without_led_by_ == setup_.self;
    if (is_told && tells && !rows_ && !left_out_.empty()) talk_.tell(node, words_of_without());
    if (is_master() && is_told) tell_phase(node);
    if (const auto at = watching_.find(node); at != watching_.end()) at->second->cancel();
    log(Severity::info, fmt::format("{} is connected", name_of(node)));
}

void ClusterNode::disconnected(std::uint32_t node, const std::string& why) {
    here_.erase(node);
    here_changed_.set();
    if (!is_known(node)) return;
    // A connection that is silent is broken off only after some time.
    const Nanos now = alike_since_ = setup_.clock.now();
    const Nanos connected{now.value - here_since_[node].value};
    const Nanos silent = bus_->heartbeats().answered_since(node).value_or(connected);
    away_since_[node] = {now.value -
                         std::min({silent.value, now.value, millis(silent_ms_max).value})};
    changed_at_[node] = setup_.clock.wall_seconds();
    if (!gone_.empty()) {
        bus_->give_up(node, GivenUp::gone);
    } else if (ended_) {
        bus_->give_up(node, GivenUp::ended);
    }
    why_it_waits_.clear();
    const bool waits_for_it = !rows_ && node == master_;
    if (waits_for_it && phase_ == StartPhase::joining) phase_ = StartPhase::looking;
    if (waits_for_it) wait_for_all_again();
    if (stopping_ || ended_ || left_out_.contains(node)) return;
    log(Severity::warning, fmt::format("the connection to {} is over{}{}", name_of(node),
                                       why.empty() ? "" : ": ", why));
    if (rows_ || opening_) return tasks_.spawn(watch(node));
    tasks_.spawn(say_who_is_missing());
}

void ClusterNode::restarted(std::uint32_t node) {
    if (!is_known(node)) return;
    ++restarts_;
    commands_.forget(node);
    has_stopped_.erase(node);
    // Who decides may have met this start first, and told of it as the array was opened: it is the one that
    // serves, and nothing of it is over. Its lease runs as any other's.
    const auto serving = boots_.find(node);
    const bool is_serving =
        rows_ && serving != boots_.end() && serving->second == bus_->session(node).peer_boot();
    if (is_serving && !BRAID_MUTANT(serving_start_taken_for_lost)) return;
    if (rows_) began_anew_.insert(node);
    if (rows_ || opening_) return lose_node(node, "has begun anew, and lost what it had in memory");
    if (node == master_) {
        phase_ = StartPhase::looking;
        wait_for_all_again();
    }
    // Its members may be others now.
    if (is_master() && phase_ == StartPhase::array) phase_ = StartPhase::looking;
}

/// It has not answered since then, and never will: there is no use in waiting for it. Whom the one who
/// decides has left out knows that, perhaps, and takes all others for gone.
void ClusterNode::taken_for_gone(std::uint32_t by, Goes its_array) {
    if (!is_known(by)) return;
    if (its_array == Goes::on && rows_ && !left_out_.contains(by)) {
        if (ended_) return;
        if (gone_.empty()) {
            gone(by,
                 fmt::format("has excluded this start of {}, and goes on without it",
                             name_of(setup_.self)),
                 Cut::now, Stops::here);
        }
        if (!left_here_) end_server(NodeEnds::excluded);
        return;
    }
    if (!rows_ && !is_master() && by == master_ && !serves_) {
        refused_ = Refusal{fmt::format("{} has taken this start of {} for gone", name_of(by),
                                       name_of(setup_.self)),
                           RefusalCode::busy};
        begun_.set();
    }
    if ((!rows_ && !opening_) || left_out_.contains(by)) return;
    has_stopped_.insert(by);
    lose_node(by, "has taken this node for gone");
}

void ClusterNode::refused(const std::string& why) { log(Severity::warning, why); }

/// The array stands still, and goes on when they are back: without them there are too few, and nobody
/// wants it to stop. Nothing that was begun is lost by that, whatever time it takes.
bool ClusterNode::waits_for(const std::set<std::uint32_t>& nodes) const {
    if (setup_.config.no_quorum != NoQuorum::wait || nodes.empty()) return false;
    if (!serves_ || !goes_on() || leaving_ || leave_asked_) return false;
    // As the one who decides sees it; without him the others can, perhaps, and tell it.
    return !is_master() || !can_do_without(nodes);
}

std::set<std::uint32_t> ClusterNode::away() const {
    std::set<std::uint32_t> away;
    for (const std::uint32_t node : fellows()) {
        if (!here_.contains(node)) away.insert(node);
    }
    return away;
}

/// Network trouble that passes is nobody's fault. One watches while it is away, however often.
Task<void> ClusterNode::watch(std::uint32_t node) {
    if (watching_.contains(node)) co_return;
    const auto is_away = [&] {
        return !here_.contains(node) && !stopping_ && !ended_ && (rows_ || opening_) &&
               !left_out_.contains(node) && is_known(node);
    };
    const std::string why =
        fmt::format("cannot be reached for {} s", away_for_long().value / 1'000'000'000);
    const Nanos began = away_since_[node];
    Nanos until{began.value + away_for_long().value};
    bool waited = false;
    while (is_away()) {
        const Nanos now = setup_.clock.now();
        const bool decides = is_master() || node == master_;
        // Who hears the one who decides neither has nothing to tell of others: it is cut off itself.
        if (!decides && !here_.contains(master_)) until = Nanos{now.value + away_for_long().value};
        const bool waits = decides && waits_for(away());
        if (waits) until = std::max(until, Nanos{now.value + all_come_back.value});
        if (now >= until) {
            if (!decides) talk_.tell(master_, {{"tell", "unreachable"}, {"node", node}});
            lose_node(node, why);
            if (decides) break;
            until = Nanos{now.value + all_come_back.value};  // said again, if it is not over then
        }
        if (waits && !waited && now.value >= began.value + away_for_long().value) {
            waited = true;
            log(Severity::error,
                fmt::format("{} {}: the array waits for it, and goes on by itself when it is back",
                            name_of(node), why));
        }
        Timer timer(setup_.clock, std::min(until, Nanos{now.value + looks_again.value}));
        watching_[node] = &timer;
        co_await timer;
        watching_.erase(node);
    }
    if (!waited || !here_.contains(node) || !goes_on()) co_return;
    log(Severity::info, fmt::format("{} is back after {} s: the array goes on", name_of(node),
                                    (setup_.clock.now().value - began.value) / 1'000'000'000));
}

/// Nothing is known of what it had in memory: all stops, as if the power had gone.
void ClusterNode::gone(std::uint32_t node, const std::string& why, Cut cut, Stops stops) {
    if (ended_ || !gone_.insert(node).second) return;
    const std::string text = fmt::format("{} {}: the array stops {}", name_of(node), why,
                                         stops == Stops::here ? "here" : "on all nodes");
    log(left_here_ ? Severity::info : Severity::error, text);
    if (why_stopped_.empty()) why_stopped_ = text;
    if (cut == Cut::now) bus_->give_up(node, GivenUp::gone);
    fence_changed_.set();
    // Others may go on, and go by nothing that this node says from now on.
    for (const std::uint32_t other : others()) {
        if (stops == Stops::here && told_nodes_) told_nodes_->leave_out(other);
    }
    for (const std::uint32_t other : fellows()) {
        if (gone_.contains(other)) continue;
        if (left_here_) {
            talk_.tell(other, telling(fence_words::left));
        } else if (here_.contains(other) && stops == Stops::everywhere) {
            talk_.tell(other, {{"tell", "gone"}, {"node", node}, {"why", why}});
        } else {
            bus_->give_up(other, GivenUp::gone);  // it knows, or nothing is left to be patient for
        }
    }
    if (stops == Stops::everywhere) tasks_.spawn(end_soon(NodeEnds::stopped));
    if (listener_ != nullptr && left_here_) listener_->node_left(text);
    if (listener_ != nullptr && !left_here_) listener_->node_gone(text);
    stop_homes();
}

void ClusterNode::stop_homes() {
    if (rows_) rows_->home.stop();
    if (reservations_) reservations_->close();
    if (rows_) rows_->homes->end();
    if (served_) {
        served_->serving().halt();
        served_->serving().array_failed();
        served_->decider().look_again();
    }
    if (!serves_ && !refused_) {
        refused_ = Refusal{"a node left before the array was served", RefusalCode::busy};
    }
    begun_.set();
    ended_event_.set();
}

Checked<Unit> ClusterNode::take(std::uint32_t from, const Message& command, Buffer payload) {
    if (!is_known(from)) return Unit{};
    // Of a start that is left out nothing is taken; its connection is just being closed. Not so before
    // there is an array: who is started without may be here after all.
    if (const auto left = left_out_.find(from); rows_ && left != left_out_.end()) {
        const bool asks = command.header.type == MessageType::ask;
        if (!asks || left->second == command.header.boot) return Unit{};
    }
    switch (command.header.type) {
        case MessageType::ask:
        case MessageType::tell:
            return talk_.take(from, command, std::move(payload));
        case MessageType::disk_read:
        case MessageType::disk_write:
        case MessageType::disk_zero:
        case MessageType::disk_flush:
            return disks_.take(from, command, std::move(payload));
        default:
            break;
    }
    // It is meant for another start of this node, perhaps.
    if (!rows_) return HomeServer::refuse_all(*bus_, from, command);
    return rows_->server.take(from, command, std::move(payload));
}

void ClusterNode::forgotten(std::uint32_t node) {
    disks_.forgotten(node);
    if (rows_) rows_->server.forgotten(node);
}

void ClusterNode::misunderstood(std::uint32_t from, const std::string& why) {
    log(Severity::error,
        fmt::format("{} said what cannot be, is it of another version? {}", name_of(from), why));
    if (rows_) gone(from, "said what cannot be");
}

// ---- the master's array ------------------------------------------------------------------------

void ClusterNode::make_rows(const Geometry& geometry) {
    BRAID_REQUIRE(rows_ == nullptr);
    home_ids_.clear();
    for (const NodePlan& node : setup_.config.nodes) home_ids_.push_back(node.id);
    rows_ = std::make_unique<Rows>(*this, geometry);
}

/// Before any client of any node is served.
void ClusterNode::make_reservations(const Configuration& configuration) {
    Reservations::Setup setup{
        setup_.ready,
        setup_.clock,
        setup_.self,
        {},
        master_,
        rows_->geometry,
        configuration.volumes,
        setup_.config.exclusive,
        *rows_->homes,
        [this](std::uint32_t node, const Words& words) { talk_.tell(node, words); },
        [this](Severity severity, std::string text) { log(severity, std::move(text)); },
        is_master() ? ReservationTable::Begins::with_all : ReservationTable::Begins::among_others};
    setup.nodes = home_ids_;
    reservations_ = std::make_unique<Reservations>(std::move(setup));
    serving_->set_gate(*reservations_);
    rows_->homes->set_reserved(*reservations_);
    rows_->server.set_gate(*reservations_);
}

RowHomes& ClusterNode::homes(const Geometry& geometry) {
    make_rows(geometry);
    return *rows_->homes;
}

ServingNode& ClusterNode::join(Serving& own, Decider& decider, NodesListener& listener,
                               const Configuration& configuration) {
    decider_ = &decider;
    listener_ = &listener;
    if (!serves_) {
        serving_ = &own;
        note_witness(configuration);
        rows_->homes->bind(own.members());
        make_reservations(configuration);
        fence_.pass(configuration.version.epoch);
        epoch_in_force_ = configuration.version.epoch;
        for (const std::uint32_t node : fellows()) boots_[node] = bus_->session(node).peer_boot();
        std::vector<NodeBoot> absent;
        for (const auto& [node, boot] : left_out_) {
            absent.push_back({node, boot});
            boots_[node] = boot;
            why_out_[node] = "was not there at the start";
            reservations_->node_gone(node);
        }
        rows_->homes->begin_without(homes_at(absent));
    }
    told_nodes_ = std::make_unique<ToldNodes>(
        ToldNodes::Setup{talk_, fellows(), own,
                         [this](MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) {
                             attach_from_array(member, std::move(disk), area);
                         },
                         [this](const Disk& disk) { return is_there(disk); },
                         [this](const Disk& disk) { return home_of(disk); },
                         [this](MemberIndex member, const Disk& disk, DataArea area) {
                             return prepare_home(member, disk, area);
                         },
                         [this](const Configuration& wanted) {
                             rows_->home.adopt(wanted);
                             note_witness(wanted);
                             enter_lease();
                         },
                         [this](const Configuration& now) {
                             epoch_in_force_ = now.version.epoch;
                             rows_->home.in_force(now);
                             if (has_witness()) enter_lease();
                         },
                         [this](MemberIndex member) { lost_here(member); },
                         [this](ReturningMember back) { return begin_return(std::move(back)); },
                         [this](ReturningMember back) { return windows_missed(std::move(back)); },
                         [this] { end_return(); }});
    if (!gone_.empty()) tasks_.spawn(stop_what_lacks_a_node());
    if (!serves_) told_nodes_->tell_all(words_of_open(configuration));
    return *told_nodes_;
}

/// It left while its disks were read: the array is only just being put together.
Task<void> ClusterNode::stop_what_lacks_a_node() {
    if (listener_ != nullptr) {
        listener_->node_gone(fmt::format("{} left as the array began", name_of(*gone_.begin())));
    }
    co_return;
}

Task<Result<void>> ClusterNode::begin_marks(IntentSettings settings,
                                            std::map<std::uint32_t, std::uint64_t> generations,
                                            std::vector<IntentEntry> marked) {
    for (const Words& words : words_of_marked(marked)) told_nodes_->tell_all(words);
    rows_->homes->fix_authorities();
    std::map<std::uint32_t, std::uint64_t> of_others;
    for (const std::uint32_t node : fellows()) of_others[node] = generations[node];
    return told_nodes_->ask_all(begin_marks_words(settings, of_others));
}

Task<Result<void>> ClusterNode::begin_serving() { return told_nodes_->ask_all(asking("serve")); }

/// Who is gone has nothing under way.
Task<void> ClusterNode::drain() { (void)co_await told_nodes_->ask_all(asking("drain")); }

Task<void> ClusterNode::end(bool clean) {
    ending_ = true;
    rows_->homes->thaw();
    Words words = asking("end");
    words["clean"] = clean;
    (void)co_await told_nodes_->ask_all(words);
    ended_ = true;
    told_nodes_->tell_all(telling("dismissed"));
}

// ---- the start ---------------------------------------------------------------------------------

bool ClusterNode::cancel_start() {
    if (rows_) return false;
    cancelled_ = true;
    here_changed_.set();
    begun_.set();
    pauses_.cut_short();
    return true;
}

Task<Checked<std::unique_ptr<Array>>> ClusterNode::start() {
    if (setup_.array.readonly) {
        co_return Refusal{
            "readonly=true is for one node alone: serve the array without config=, with all of its "
            "members",
            RefusalCode::invalid};
    }
    for (const std::uint32_t node : others()) changed_at_[node] = setup_.clock.wall_seconds();
    BRAID_CO_CHECK(co_await bus_->start());
    tasks_.spawn(say_who_is_missing());
    tasks_.spawn(start_by_itself());
    if (is_master()) co_return co_await begin_master();
    co_return co_await begin_slave();
}

/// False: a node has left meanwhile.
Task<Checked<bool>> ClusterNode::gather_disks(std::vector<std::unique_ptr<Disk>>* disks) {
    for (std::uint32_t number = 0; number != shelf_.size(); ++number) {
        disks->push_back(give(shelf_[number], {setup_.self, setup_.boot, number}));
    }
    for (const std::uint32_t node : fellows()) {
        Checked<Words> answer = co_await ask_while_here(node, asking(node_words::inquiry));
        if (answer) {
            BRAID_CO_TRY(const InquiryAnswer about, inquiry_answer_of(*answer));
            if (!about.booting && !about.stopped) {
                // It serves an array already, and whoever decides about that lets this node in.
                opening_ = false;
                if (joins_) follow(*joins_);
                co_return false;
            }
            if (about.nodes != known_nodes()) {
                co_return unlike_nodes(node, about.nodes);
            }
            answer = co_await ask_while_here(node, asking("inventory"));
        }
        if (!answer && answer.error().code == RefusalCode::busy) co_return false;
        if (answer && answer->contains("without")) {
            // The others are just starting without this node. Whoever decides lets it in.
            log(Severity::info, fmt::format("{} starts without this node", name_of(node)));
            opening_ = false;
            if (joins_) follow(*joins_);
            co_return false;
        }
        if (!answer) co_return Refusal{name_of(node) + ": " + answer.error().text};
        WordFields fields(*answer);
        const std::vector<Words> list = fields.list("disks", members_max + spares_max);
        BRAID_CO_CHECK(fields.check());
        for (const Words& words : list) {
            BRAID_CO_TRY(std::unique_ptr<Disk> disk, remote_disk(node, words));
            disks->push_back(std::move(disk));
        }
    }
    co_return true;
}

namespace {

/// There are some, and nothing on any of them looks like an array's metadata. What cannot be read
/// may be.
Task<bool> all_blank(ReadyQueue& ready, Clock& clock, std::vector<Disk*> disks) {
    if (disks.empty()) co_return false;
    const std::vector<MemberImage> images =
        co_await read_member_images(ready, clock, std::move(disks));
    co_return std::ranges::all_of(images, is_blank);
}

std::vector<Disk*> pointers_to(const std::vector<std::unique_ptr<Disk>>& disks) {
    std::vector<Disk*> pointers;
    for (const auto& disk : disks) pointers.push_back(disk.get());
    return pointers;
}

}  // namespace

Task<Checked<std::unique_ptr<Array>>> ClusterNode::begin_master() {
    std::vector<std::unique_ptr<Disk>> disks;
    for (;;) {
        BRAID_CO_CHECK(co_await gather_all(&disks));
        if (!is_master()) co_return co_await begin_slave();
        if (!co_await all_blank(setup_.ready, setup_.clock, pointers_to(disks))) break;
        // The next round needs them: nobody is told to close them.
        places_.clear();
        disks.clear();
        BRAID_CO_CHECK(co_await wait_for_array());
        if (!is_master()) co_return co_await begin_slave();
    }
    co_return co_await open_array(std::move(disks));
}

Refusal ClusterNode::left_as_it_began() {
    return {"a node left as the array began", RefusalCode::busy};
}

/// Those of all nodes, which are here: what is read of disks from now on has to be of all of them.
Task<Checked<Unit>> ClusterNode::gather_all(std::vector<std::unique_ptr<Disk>>* disks) {
    for (bool gathered = false; !gathered;) {
        BRAID_CO_CHECK(co_await wait_for_nodes());
        if (!is_master()) co_return Unit{};
        if (!all_are_here()) continue;  // one has left in this moment
        opening_ = true;
        gathers_ = true;
        comes_to_nothing_ = false;
        disks->clear();
        Checked<bool> result = co_await gather_disks(disks);
        gathers_ = false;
        if (result && comes_to_nothing_) result = false;
        // The next try, or the next start, needs them: nobody is told to close them.
        if (!result || !*result || !gone_.empty()) places_.clear();
        BRAID_CO_TRY(gathered, result);
        if (!gone_.empty()) co_return left_as_it_began();
        // Who goes now may come again: it is waited for. Where one of them serves something already there
        // is nothing to ask until something changes.
        const bool is_served = !opening_;
        if (!gathered) opening_ = false;
        if (!gathered && (without_led_by_ || comes_to_nothing_)) wait_for_all_again();
        if (!gathered && !is_served) {
            Pause until_it_is_tried_again(pauses_, millis(50));
            co_await until_it_is_tried_again;
        }
        if (!gathered && is_served && is_master() && !cancelled_) co_await here_changed_.next();
    }
    co_return Unit{};
}

Task<Checked<std::unique_ptr<Array>>> ClusterNode::open_array(
    std::vector<std::unique_ptr<Disk>> disks) {
    // Those that have no part yet stay open at their nodes: take_members_back().
    for (const auto& disk : disks) returning_.insert(places_.at(disk.get()));
    Checked<std::unique_ptr<Array>> opened =
        co_await Array::open(setup_.ready, setup_.clock, std::move(disks), options_of_deciding());
    returning_.clear();
    if (!opened) {
        listener_ = nullptr;
        decider_ = nullptr;
        serving_ = nullptr;
        ended_ = true;
        Refusal why = opened.error();
        if (!gone_.empty()) why.code = RefusalCode::busy;
        Words words = asking("refuse");
        words["why"] = why.text;
        words["again"] = why.code == RefusalCode::busy;
        for (const std::uint32_t node : fellows()) (void)co_await talk_.ask(node, words);
        co_return why;
    }
    serves_ = true;
    for (const auto& [node, boot] : left_out_) {
        if (here_.contains(node)) tell_phase(node);
    }
    auto array = std::make_unique<DecidingArray>(*this, std::move(opened).value());
    array_ = array.get();
    if (leave_asked_) tasks_.spawn(stop_array());
    tasks_.spawn(watch_links());
    tasks_.spawn(answers_.run());
    tasks_.spawn(tell_status_now_and_then());
    tasks_.spawn(take_all_back());
    co_return std::unique_ptr<Array>(std::move(array));
}

/// Also of the highest id, where another one decides already.
/// An operator may have it start without the one who would have decided.
Task<Checked<std::unique_ptr<Array>>> ClusterNode::begin_slave() {
    while (!serves_ && !refused_ && !cancelled_) {
        if (is_master() && !rows_) co_return co_await begin_master();
        co_await begun_.next();
    }
    if (refused_) co_return *refused_;
    if (!serves_) co_return Refusal{"told to stop while it waited for the array"};
    co_return std::unique_ptr<Array>(std::move(served_owned_));
}

Task<void> ClusterNode::stop() {
    // The one who decides waits for what was answered last.
    while (!is_master() && ended_ && !dismissed_ && here_.contains(master_)) {
        co_await here_changed_.next();
    }
    stopping_ = true;
    here_changed_.set();
    fence_changed_.set();
    pauses_.cut_short();
    answers_.stop();
    for (const auto& [node, timer] : watching_) timer->cancel();
    ended_event_.set();
    if (reservations_) co_await reservations_->stop();
    if (rows_) {
        rows_->home.stop();
        rows_->homes->end();
        co_await rows_->tasks.join();
    }
    // Who waits for a node that does not answer any more is told; also of those that were removed.
    bus_->give_up_all(GivenUp::ended);
    co_await talk_.stop();
    co_await disks_.stop();
    co_await tasks_.join();
    co_await bus_->stop();
}

void ClusterNode::abandon() {
    stopping_ = true;
    talk_.abandon();
    if (reservations_) reservations_->abandon();
    tasks_.clear();
}

}  // namespace braid::cluster
