// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: the driver, which does what operators and systemd would, and how a run ends.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cluster/node_chaos_kit.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t second = 1'000'000'000;
SimNodesOptions nodes_of(const ChaosOptions& options) {
    SimNodesOptions nodes;
    nodes.seed = options.seed;
    nodes.level = options.level;
    nodes.members = options.members;
    nodes.nodes = options.nodes;
    nodes.homes = options.homes;
    nodes.witness = options.witness;
    nodes.stripes = options.stripes;
    nodes.region = options.region;
    nodes.own_loops = true;
    nodes.drift_ppm = options.drift_ppm;
    nodes.reads = options.strict ? cluster::Reads::strict : cluster::Reads::lease;
    nodes.clocks_stand = options.strict;
    nodes.no_quorum = options.no_quorum;
    nodes.channels = options.channels;
    nodes.lease_ms = options.lease_ms;
    nodes.heartbeat_ms = options.heartbeat_ms;
    return nodes;
}

}  // namespace

Chaos::Chaos(ChaosOptions options, std::function<void(const std::string&)> tell)
    : options_(options),
      tell_(std::move(tell)),
      rng_(options.seed ^ 0xc0ffee),
      seats_(options.nodes),
      fences_(options.nodes),
      nodes_(nodes_of(options)) {
    nodes_.set_member_timeout(Nanos{3 * second});
    if (options_.spares != 0) nodes_.set_rebuild_delay(millis(options_.rebuild_delay_ms));
    history_ = ChaosHistory(nodes_.geometry().data_size() / sector_size);
    unknown_ = options_.beyond;
}

void Chaos::say(const std::string& text) {
    trace_.push_back(fmt::format("{:9.3f} {}", static_cast<double>(now()) / 1e9, text));
    if (tell_) tell_(trace_.back());
}
void Chaos::fail(const std::string& why) {
    if (has_failed()) return;
    say("FAILED: " + why);
    history_.fail(why);
}

void Chaos::later(std::uint64_t nanos, std::function<void()> what) {
    plan_.emplace(now() + nanos, std::move(what));
}

std::string Chaos::run() {
    start_all_again(false, false);
    std::uint64_t next = now() + below(3 * second);
    const std::uint64_t end = now() + options_.seconds * second;
    while (now() < end && !has_failed()) {
        if (now() >= next) {
            happen();
            next =
                now() + (below(4) == 0 ? below(100'000'000) : below(options_.pause_ms * 1'000'000));
        }
        pass(1 + below(20'000'000));
    }
    if (!has_failed()) finish();
    figures_.virtual_seconds = now() / second;
    return history_.fault();
}

void Chaos::pass(std::uint64_t nanos) {
    SimLoop& loop = nodes_.loop();
    const std::uint64_t end = now() + nanos;
    bool over = false;
    loop.after(nanos, [&over] { over = true; });
    while (!over && now() <= end && loop.step()) look_at_fences();
    tick();
}

bool Chaos::wait(const std::function<bool()>& condition, std::uint64_t seconds, const char* what) {
    const std::uint64_t end = now() + seconds * second;
    while (!condition()) {
        if (has_failed()) return false;
        if (now() >= end) {
            std::string why = why_not_whole();
            for (const auto& [member, failed] : disks_)
                why += fmt::format("; disk {} failed", member);
            fail(fmt::format("in vain: {}{}", what, why));
            return false;
        }
        pass(1 + below(20'000'000));
    }
    return true;
}

void Chaos::tick() {
    while (!plan_.empty() && plan_.begin()->first <= now()) {
        const auto what = std::move(plan_.begin()->second);
        plan_.erase(plan_.begin());
        what();
    }
    if (stops_) return;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) look_after(node);
    note_memory_lost();
    resume_all();
    see_to_machine();
    see_to_spares();
    if (all_again_ != 0 && now() >= all_again_) start_all_again(below(3) == 0, false);
    look_after_disks();
    give_back();
    look_at_rows();
    look_at_register();
    look_at_reservations();
    look_at_requests();
}

// ---- nodes -------------------------------------------------------------------------------------

void Chaos::start_later(std::uint32_t node, std::uint64_t nanos) {
    seats_[node].start = std::max<std::uint64_t>(1, now() + nanos);
    seats_[node].was_told = false;
}

bool Chaos::serves(std::uint32_t node) const {
    return nodes_.is_up(node) && nodes_.has_begun(node) && nodes_.refusal(node).empty() &&
           !nodes_.is_leaving(node);
}
/// And nothing happens to it, nor has a moment ago.
bool Chaos::is_well(std::uint32_t node) {
    return serves(node) && seats_[node].faults == 0 && seats_[node].excused_until < now();
}
bool Chaos::all_serve() {
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!serves(node)) return false;
    }
    return true;
}

/// First all files have it, then the order is given, at whichever node serves, until all know of it: who
/// carried it out may have gone in the middle, and who was away has not heard it.
void Chaos::see_to_machine() {
    if (options_.machine_after == 0 || now() < options_.machine_after * second) return;
    if (!machine_) {
        if (heals_) return;
        machine_ = nodes_.add_machine();
        ++options_.nodes;
        seats_.emplace_back();
        fences_.emplace_back();
        std::set<std::uint32_t> all;
        for (std::uint32_t node = 0; node != options_.nodes; ++node) all.insert(node);
        for (const std::uint32_t node : all) nodes_.set_file(node, all);
        say(fmt::format("node {} is in all files", *machine_ + 1));
        start_later(*machine_, below(10 * second));
    }
    if (now() < machine_next_) return;
    machine_next_ = now() + second;
    for (std::uint32_t node = 0; node != *machine_; ++node) {
        if (!serves(node) || nodes_.stands_still(node)) continue;
        Array& array = nodes_.array(node);
        const auto is_it = [this](const NodeStatus& of) { return of.id == *machine_ + 1; };
        if (std::ranges::any_of(array.status().nodes, is_it)) continue;
        return order(node, fmt::format("add node {}", *machine_ + 1),
                     array.order_node(NodeOrder::add, *machine_ + 1));
    }
}

/// As whoever starts the server anew when it has ended, or the array has.
void Chaos::look_after(std::uint32_t node) {
    Seat& seat = seats_[node];
    if (!nodes_.is_up(node)) {
        seat.excused_until = now();
        if (seat.start == 0 || now() < seat.start) return;
        seat.start = 0;
        seat.ends_since = 0;
        ++seat.starts;
        ++figures_.starts;
        say(fmt::format("node {} is started", node + 1));
        nodes_.begin(node);
        return;
    }
    if (nodes_.stands_still(node)) return;
    if (nodes_.has_left(node)) {
        nodes_.forget(node);
        return start_later(node, below(second));
    }
    if (nodes_.is_leaving(node)) {
        seat.excused_until = now();
        if (seat.ends_since == 0) seat.ends_since = now();
        if (now() < seat.ends_since + 100 * second) return;
        if (!options_.beyond || heals_) fail(fmt::format("node {} does not end", node + 1));
        return;
    }
    if (!nodes_.has_begun(node)) {
        seat.excused_until = now();
        return;
    }
    const bool stops = nodes_.log(node).find("the array stops") != std::string::npos;
    const bool is_refused = !nodes_.refusal(node).empty();
    // It ends by itself, or is told to in the moment in which its array stops.
    const bool ends = nodes_.ends(node).has_value();
    if (stops && !is_refused && !ends && options_.seed % 2 == 0) return;
    if (!is_refused && !stops && !ends) {
        if (!seat.was_told) {
            seat.was_told = true;
            seat.excused_until = now();
            say(fmt::format("node {} serves", node + 1));
            if (load_) begin_clients(node);
        }
        return;
    }
    say(fmt::format("node {} ends: {}", node + 1,
                    stops ? "its array stops" : nodes_.refusal(node) + " (refused)"));
    const bool is_excused = seat.faults != 0 || seat.excused_until + second >= now();
    if (stops && !is_excused && !options_.beyond && !lost_) {
        fail(fmt::format("the array stops at node {}, to which nothing happened", node + 1));
    }
    seat.excused_until = now();
    nodes_.begin_to_end(node);
}

std::set<std::uint32_t> Chaos::roles_of(std::uint32_t node) {
    std::set<std::uint32_t> roles;
    for (std::uint32_t i = 0; i != options_.members; ++i) {
        if (home_of(i) == node) roles.insert(i);
    }
    return roles;
}
/// Not in sync by what is in force, as far as any node knows that is well: what the one who decides wants
/// beyond that goes with him.
std::set<std::uint32_t> Chaos::roles_out() {
    std::set<std::uint32_t> roles;
    bool is_known = false;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!is_well(node)) continue;
        is_known = true;
        const ArrayStatus status = nodes_.array(node).status();
        for (std::uint32_t i = 0; i != options_.members; ++i) {
            if (status.members[i].record.state != MemberState::in_sync) roles.insert(i);
        }
    }
    for (std::uint32_t i = 0; !is_known && i != options_.members; ++i) roles.insert(i);
    return roles;
}
/// Or soon.
std::set<std::uint32_t> Chaos::roles_at_risk() {
    std::set<std::uint32_t> roles = roles_out();
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!is_well(node)) roles.merge(roles_of(node));
    }
    for (const auto& [member, since] : disks_) roles.insert(member);
    return roles;
}
/// As the one who decides knows it, and is well.
bool Chaos::answers_witness() {
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!is_well(node) || !nodes_.node(node).is_master()) continue;
        for (const MemberStatus& member : nodes_.array(node).status().members) {
            if (member.record.state == MemberState::witness) return member.notice.empty();
        }
    }
    return false;
}
bool Chaos::who_decides_is_well() {
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (is_well(node) && nodes_.node(node).is_master()) return true;
    }
    return false;
}
bool Chaos::may_lose(const std::set<std::uint32_t>& nodes, std::uint32_t member) {
    if (options_.beyond) return true;
    std::set<std::uint32_t> roles = roles_at_risk();
    for (const std::uint32_t node : nodes) roles.merge(roles_of(node));
    if (member != ~0U) roles.insert(member);
    bool is_true = true;  // what is in doubt is known by those only who are there
    std::size_t well = 0;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!is_well(node)) continue;
        if (nodes.contains(node)) continue;
        ++well;
        is_true = is_true && !nodes_.array(node).status().in_doubt;
    }
    const std::optional<std::uint32_t> witness = options_.witness;
    const bool is_tied =
        witness && (nodes.contains(*witness) || !is_well(*witness) || !answers_witness());
    return roles.size() <= parities() - (is_tied ? 1 : 0) && is_true && well != 0;
}

/// Who has begun anew, or is about to, has forgotten what it had.
void Chaos::note_memory_lost() {
    if (lost_) return;
    std::set<std::uint32_t> forgot;
    bool is_known = false;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!serves(node)) forgot.merge(roles_of(node));
        is_known = is_known || is_well(node);
    }
    if (is_known) forgot.merge(roles_out());
    if (forgot.size() <= parities()) return;
    lost_ = true;
    say("more have lost their memory than the level can do without");
    if (!options_.beyond) fail("they were too many at once");
    all_again_ = now() + below(15 * second);
}

/// @param power  it goes, of all at once; else processes end
/// @param clean  all have stopped in order, and all that was acknowledged is there
void Chaos::start_all_again(bool power, bool clean) {
    say(power ? "the power goes" : clean ? "all were stopped" : "all are started");
    const std::uint64_t number = ++figures_.starts_of_all;
    all_again_ = 0;
    mend_all();
    load_ = false;
    if (power) {
        nodes_.lose_power();
    } else {
        for (std::uint32_t node = 0; node != options_.nodes; ++node) {
            if (nodes_.is_up(node)) nodes_.kill(node, Dies::process);
        }
    }
    if (clean) history_.flushed(history_.tick());
    history_.lose_memory();
    pending_.clear();
    may_doubt_ = may_doubt_ || !clean;
    make_disks_ready();
    lost_ = true;  // until all serve
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        seats_[node].excused_until = now();
        start_later(node, below(3) == 0 ? below(3 * second) : 0);
    }
    const bool is_hard = options_.beyond && !heals_ && below(2) == 0;
    const bool is_without = (clean || options_.beyond) && !heals_ && below(3) == 0;
    if (is_hard) disturb_start();
    if (is_without) start_without_one();
    if (!wait([this] { return all_serve(); }, 200, "all serve")) return;
    if (number != figures_.starts_of_all) return;  // once more
    lost_ = false;
    if (!sweep(any_node()) || number != figures_.starts_of_all) return;
    load_ = true;
    for (std::uint32_t at = 0; at != options_.nodes; ++at) {
        if (serves(at)) begin_clients(at);
    }
}

/// Nodes die as all begin.
void Chaos::disturb_start() {
    for (std::uint64_t i = 1 + below(4); i != 0; --i) {
        pass(below(second));
        const std::uint32_t node = any_node();
        if (!nodes_.is_up(node)) continue;
        say(fmt::format("node {} is killed as it starts", node + 1));
        nodes_.kill(node, below(2) == 0 ? Dies::process : Dies::host);
        start_later(node, below(4 * second));
    }
}

/// One is not there, and an operator does not wait for it; or nobody does in the end.
void Chaos::start_without_one() {
    const std::uint32_t absent = any_node();
    if (roles_of(absent).size() > parities()) return;
    if (nodes_.is_up(absent)) nodes_.kill(absent, Dies::process);
    const bool by_itself = below(2) == 0;
    start_later(absent, (by_itself ? 28 : 20) * second + below(10 * second));
    if (by_itself) return;
    pass(4 * second);
    const std::uint32_t node = any_node();
    if (node == absent || !nodes_.is_up(node) || nodes_.has_begun(node)) return;
    const std::vector<std::uint32_t> without{absent + 1};
    order(node, fmt::format("start without node {}", absent + 1),
          nodes_.node(node).start_without(without));
}

/// Neither is there a row that cannot be known, nor one in doubt, unless power was lost.
void Chaos::look_at_rows() {
    if (options_.beyond || lost_ || now() < rows_next_) return;
    rows_next_ = now() + second / 2;
    bool in_doubt = false;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!is_well(node)) continue;
        const ArrayStatus status = nodes_.array(node).status();
        if (status.bad_bytes != 0) {
            fail(fmt::format("{} bytes cannot be known at node {}", status.bad_bytes, node + 1));
        }
        in_doubt = in_doubt || status.in_doubt;
        if (status.in_doubt && !may_doubt_) fail(fmt::format("doubt at node {}", node + 1));
    }
    if (!in_doubt && all_serve()) may_doubt_ = false;
}

/// What members hold is as the rules of the register say.
void Chaos::look_at_register() {
    const auto expect = [this](const std::string& why) {
        if (!why.empty()) fail(why);
    };
    const std::uint32_t registers = options_.members + (options_.witness ? 1 : 0);
    for (std::uint32_t i = 0; i != registers; ++i) {
        expect(register_.look_at(nodes_.shared_platter(i)));
    }
    for (const auto& [path, platter] : fresh_made_) expect(register_.look_at(platter));
}

/// As a node goes on in another fence no start of a node that it is without may answer any more; nor ever
/// again, whatever others do.
void Chaos::look_at_fences() {
    if (options_.strict) return;  // no lease could be reckoned by such clocks
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!nodes_.is_up(node) || nodes_.has_left(node)) continue;
        const cluster::ClusterNode& at = nodes_.node(node);
        const InFence now{seats_[node].starts, at.fence()};
        const InFence before = std::exchange(fences_[node], now);
        if (before.starts != now.starts || before.fence == now.fence || before.fence == 0) continue;
        for (std::uint32_t other = 0; other != options_.nodes; ++other) {
            if (!at.is_without(other + 1) || !nodes_.is_up(other)) continue;
            if (nodes_.has_left(other)) continue;
            // The next start of it has been in none yet.
            const std::uint64_t its = nodes_.node(other).fence();
            if (its != 0 && its < now.fence) without_[other] = seats_[other].starts;
        }
    }
    for (const auto& [node, starts] : without_) {
        if (!nodes_.is_up(node) || nodes_.has_left(node) || seats_[node].starts != starts) continue;
        const cluster::ClusterNode& at = nodes_.node(node);
        if (at.needs_lease() && at.may_answer_now()) {
            fail(fmt::format("node {} may still answer, and others have gone on without it",
                             node + 1));
        }
    }
}

/// No two nodes of one fence have a volume for themselves.
void Chaos::look_at_reservations() {
    std::map<std::uint64_t, std::uint32_t> holders;  // by fence
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!serves(node) || nodes_.ends(node) || nodes_.has_left(node)) continue;
        cluster::ClusterNode& at = nodes_.node(node);
        if (!at.may_answer_now()) continue;
        const ReservationStatus volume = at.reservations().status().at(0);
        if (!volume.holds || volume.node != node + 1) continue;
        const auto [held, is_first] = holders.emplace(at.fence(), node);
        if (is_first) continue;
        fail(fmt::format("nodes {} and {} have the volume, each for itself", held->second + 1,
                         node + 1));
    }
}

/// When all has healed there is one who decides, and all have the same members.
void Chaos::expect_one_of_all() {
    for (std::uint32_t node = 1; node != options_.nodes; ++node) {
        if (nodes_.node(node).master() != nodes_.node(0).master()) {
            fail(fmt::format("node {} decides, says node 1; node {}, says node {}",
                             nodes_.node(0).master(), nodes_.node(node).master(), node + 1));
        }
        const Configuration& one = nodes_.array(0).configuration();
        const Configuration& other = nodes_.array(node).configuration();
        if (one.members != other.members || one.bad_rows != other.bad_rows) {
            fail(fmt::format("nodes 1 and {} do not have the same members, or bad rows", node + 1));
        }
    }
}

/// And one fence.
void Chaos::expect_one_fence() {
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        const std::uint64_t fence = nodes_.node(node).fence();
        if (fence != nodes_.node(0).fence()) {
            fail(fmt::format("node 1 is in fence {}, node {} in {}", nodes_.node(0).fence(),
                             node + 1, fence));
        }
    }
}

/// What the last of the clients had written is on the disks.
bool Chaos::is_nothing_staged() {
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        for (const NodeStatus& of : nodes_.array(node).status().nodes) {
            if (of.is_self && of.strips_staged != 0) return false;
        }
    }
    return true;
}

// ---- the end -----------------------------------------------------------------------------------

bool Chaos::is_whole() {
    if (lost_ || !all_serve() || !disks_.empty()) return false;
    return why_not_whole().empty();
}
std::string Chaos::why_not_whole() {
    std::string why;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!serves(node)) {
            why += fmt::format("; node {} does not serve", node + 1);
            continue;
        }
        const ArrayStatus status = nodes_.array(node).status();
        for (std::uint32_t i = 0; i != options_.members; ++i) {
            const MemberState state = status.members[i].record.state;
            if (state != MemberState::in_sync) {
                why += fmt::format("; member {} is {} at node {}", i, text_of(state), node + 1);
            }
        }
        if (!status.walks.empty()) why += fmt::format("; a walk at node {}", node + 1);
        if (status.in_doubt) why += fmt::format("; doubt at node {}", node + 1);
        for (const NodeStatus& of : status.nodes) {
            if (of.excluded) why += fmt::format("; {} is excluded at {}", of.id, node + 1);
        }
    }
    return why;
}

void Chaos::mend_all() {
    const auto plan = std::exchange(plan_, {});
    for (const auto& [time, what] : plan) what();
    plan_.clear();
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        nodes_.release(node);
        if (nodes_.is_up(node)) nodes_.stand_still(node, false);
        for (std::uint32_t at = 0; is_unplugged_ && at != options_.channels; ++at) {
            nodes_.plug(node, at);
        }
        for (std::uint32_t other = 0; other != options_.nodes; ++other) {
            if (other != node) nodes_.slow_way(node, other, Nanos{0});
        }
        seats_[node].faults = 0;
    }
    is_unplugged_ = false;
}

void Chaos::finish() {
    say("all heals");
    heals_ = true;
    mend_all();
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (!nodes_.is_up(node) && seats_[node].start == 0) start_later(node, 0);
        seats_[node].excused_until = now() + aftermath();
    }
    std::uint64_t patient_until = now() + 60 * second;
    const bool whole = wait(
        [&] {
            if (options_.beyond && now() > patient_until) {  // as an array says that has stopped
                start_all_again(false, false);
                patient_until = now() + 60 * second;
            }
            return is_whole();
        },
        options_.beyond ? 350 : 150, "all is whole");
    if (!whole) return;
    say("all is whole");
    load_ = false;
    pass(3 * second);
    if (!wait([this] { return pending_.empty(); }, 100, "the clients end")) return;
    if (!wait([&] { return is_whole(); }, 100, "all is whole still")) return;
    expect_one_of_all();
    if (!wait([this] { return is_nothing_staged(); }, 30, "nothing is staged")) return;
    expect_one_fence();
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        // One that was just reached again may have heard only then that it had been excluded.
        if (!wait([&] { return is_whole(); }, 100, "all is whole still")) return;
        if (!sweep(node)) return;
        if (const std::uint64_t bad = nodes_.array(node).status().bad_bytes;
            bad != 0 && !unknown_) {
            fail(fmt::format("{} bytes are bad at node {}", bad, node + 1));
        }
    }
    history_.check();
    if (has_failed()) return;
    const std::uint32_t first = any_node();
    put_spares_in_place();
    for (std::uint32_t i = 0; i != options_.members; ++i) {
        const std::string& path = nodes_.array(first).configuration().members[i].path;
        if (path.ends_with(nodes_.path_of(i))) continue;
        return fail(
            fmt::format("{} is member {}, and here that is {}", path, i, nodes_.path_of(i)));
    }
    std::set<RowIndex> untrusted;
    for (const BadRange& range : nodes_.array(first).configuration().bad_rows) {
        if (range.kind != BadKind::retry) continue;
        for (RowIndex row = range.first; row != range.end(); ++row) untrusted.insert(row);
    }
    say(fmt::format("node {} is told to stop", first + 1));
    stops_ = true;
    for (std::uint32_t i = 0; i != options_.nodes; ++i) {
        const std::uint32_t node = (first + i) % options_.nodes;
        nodes_.begin_to_end(node);
        const auto ends = [&] { return nodes_.has_left(node); };
        if (!wait(ends, 100, "the servers end")) return;
    }
    nodes_.end_servers();
    nodes_.expect_parity(untrusted);
}

}  // namespace braid::sim
