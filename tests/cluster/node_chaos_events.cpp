// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: what happens to nodes, their net, their disks, and at bad moments by operators.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cluster/node_chaos_kit.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t second = 1000 * ms;
constexpr std::uint64_t never = ~std::uint64_t{0};

std::string seconds_of(std::uint64_t nanos) {
    return fmt::format("{:.3f} s", static_cast<double>(nanos) / 1e9);
}

}  // namespace

void Chaos::happen() {
    if (lost_ && below(4) != 0) return;
    for (int i = 0; i != 8; ++i) {
        const auto kind =
            static_cast<ChaosKind>(below(static_cast<std::uint32_t>(ChaosKind::count)));
        if ((options_.kinds & bit(kind)) == 0) continue;
        if (!happens(kind)) continue;
        ++figures_.happened;
        return;
    }
}

bool Chaos::happens(ChaosKind kind) {
    switch (kind) {
        case ChaosKind::kill:
            return kill();
        case ChaosKind::freeze:
            return freeze();
        case ChaosKind::isolate:
            return isolate();
        case ChaosKind::part:
            return part();
        case ChaosKind::flap:
            return flap();
        case ChaosKind::cut:
            return cut();
        case ChaosKind::slow:
            return slow();
        case ChaosKind::disk:
            return fail_disk();
        case ChaosKind::power:
            return lose_power();
        case ChaosKind::stop:
            return stop();
        case ChaosKind::orders:
            return give_order();
        case ChaosKind::count:
            break;
    }
    return false;
}

/// Shorter than others notice, about as long as that, or longer than anybody waits.
std::uint64_t Chaos::some_time() {
    switch (below(4)) {
        case 0:
            return below(300 * ms);
        case 1:
            return below(2 * second);
        case 2:
            return 900 * ms + below(800 * ms);
        default:
            return below(20 * second);
    }
}

void Chaos::begin_fault(std::uint32_t node) { ++seats_[node].faults; }
void Chaos::end_fault(std::uint32_t node) {
    Seat& seat = seats_[node];
    if (seat.faults != 0) --seat.faults;
    seat.excused_until = std::max(seat.excused_until, now() + aftermath());
}

bool Chaos::kill() {
    const std::uint32_t node = any_node();
    if (!nodes_.is_up(node) || !may_lose({node})) return false;
    const Dies what = below(2) == 0 ? Dies::process : Dies::host;
    const std::uint64_t time = below(3) == 0 ? 0 : some_time();
    say(fmt::format("node {} is killed{}, for {}", node + 1,
                    what == Dies::host ? ", and has no power" : "", seconds_of(time)));
    nodes_.kill(node, what);
    std::erase_if(pending_, [node](const auto& one) { return one.second.node == node; });
    start_later(node, time);
    return true;
}

bool Chaos::freeze() {
    const std::uint32_t node = any_node();
    if (!nodes_.is_up(node) || nodes_.stands_still(node) || !may_lose({node})) return false;
    const std::uint64_t time = some_time();
    say(fmt::format("node {} stands still for {}", node + 1, seconds_of(time)));
    nodes_.stand_still(node, true);
    begin_fault(node);
    later(time, [this, node] {
        say(fmt::format("node {} goes on", node + 1));
        if (nodes_.is_up(node)) nodes_.stand_still(node, false);
        end_fault(node);
    });
    return true;
}

bool Chaos::isolate() {
    const std::uint32_t node = any_node();
    if (!may_lose({node})) return false;
    const std::uint64_t time = some_time();
    const std::uint64_t way = below(3);
    say(fmt::format("node {} is not {} for {}", node + 1,
                    way == 0   ? "heard"
                    : way == 1 ? "told"
                               : "reached",
                    seconds_of(time)));
    if (way != 1) nodes_.hold_sent_by(node);
    if (way != 0) nodes_.hold_sent_to(node);
    begin_fault(node);
    later(time, [this, node] {
        say(fmt::format("node {} is reached again", node + 1));
        nodes_.release(node);
        end_fault(node);
    });
    return true;
}

bool Chaos::part() {
    const std::uint32_t a = any_node();
    const std::uint32_t b = any_node();
    if (a == b || !may_lose({a}) || !may_lose({b})) return false;
    const std::uint64_t time = some_time();
    const bool both = below(2) == 0;
    say(fmt::format("node {} does not reach node {}{} for {}", a + 1, b + 1,
                    both ? ", nor the other way" : "", seconds_of(time)));
    nodes_.hold_way(a, b);
    if (both) nodes_.hold_way(b, a);
    begin_fault(a);
    begin_fault(b);
    later(time, [this, a, b] {
        say(fmt::format("node {} reaches node {} again", a + 1, b + 1));
        nodes_.release_way(a, b);
        nodes_.release_way(b, a);
        end_fault(a);
        end_fault(b);
    });
    return true;
}

bool Chaos::flap() {
    const std::uint32_t node = any_node();
    if (!may_lose({node})) return false;
    const std::uint64_t way = below(3);
    std::uint64_t at = 0;
    const std::uint64_t times = 2 + below(8);
    const std::uint64_t most = below(2) == 0 ? 400 * ms : 1600 * ms;
    begin_fault(node);
    for (std::uint64_t i = 0; i != times; ++i) {
        later(at, [this, node, way] {
            if (way != 1) nodes_.hold_sent_by(node);
            if (way != 0) nodes_.hold_sent_to(node);
        });
        at += below(most);
        later(at, [this, node] { nodes_.release(node); });
        at += below(most);
    }
    say(fmt::format("node {} comes and goes {} times in {}", node + 1, times, seconds_of(at)));
    later(at, [this, node] {
        say(fmt::format("node {} stays", node + 1));
        end_fault(node);
    });
    return true;
}

/// Network trouble that is nobody's fault.
bool Chaos::cut() {
    const std::uint32_t a = any_node();
    const std::uint32_t b = any_node();
    if (a == b) return false;
    if (options_.channels > 1 && below(2) == 0) return unplug();
    if (below(4) != 0 || !may_lose({a}) || !may_lose({b})) {
        say(fmt::format("connections of nodes {} and {} break", a + 1, b + 1));
        nodes_.cut(a, b);
        return true;
    }
    say(fmt::format("connections to node {} break for node {} alone", b + 1, a + 1));
    nodes_.cut(a, b, CutSides::one);
    begin_fault(a);
    begin_fault(b);
    later(below(3 * second), [this, a, b] {
        nodes_.cut(a, b);
        end_fault(a);
        end_fault(b);
    });
    return true;
}

/// Nor is that: each node has another way to each other one.
bool Chaos::unplug() {
    if (is_unplugged_) return false;
    const std::uint32_t node = any_node();
    const auto channel = static_cast<std::uint32_t>(below(options_.channels));
    const std::uint64_t time = some_time();
    say(fmt::format("cable {} of node {} is out for {}", channel + 1, node + 1, seconds_of(time)));
    nodes_.unplug(node, channel);
    is_unplugged_ = true;
    later(time, [this, node, channel] {
        say(fmt::format("cable {} of node {} is in again", channel + 1, node + 1));
        nodes_.plug(node, channel);
        is_unplugged_ = false;
    });
    return true;
}

bool Chaos::slow() {
    if (below(3) == 0) {
        const auto member = static_cast<std::uint32_t>(below(options_.members));
        const std::uint64_t by = below(60 * ms);
        say(fmt::format("member {} takes {} longer", member, seconds_of(by)));
        nodes_.platter(member).delay_nanos = by;
        later(some_time(), [this, member] { nodes_.platter(member).delay_nanos = 0; });
        return true;
    }
    const std::uint32_t a = any_node();
    const std::uint32_t b = any_node();
    if (a == b) return false;
    const std::uint64_t by = below(100 * ms);
    const std::uint64_t time = some_time();
    say(fmt::format("what node {} sends to node {} takes {} longer for {}", a + 1, b + 1,
                    seconds_of(by), seconds_of(time)));
    nodes_.slow_way(a, b, Nanos{by});
    later(time, [this, a, b] { nodes_.slow_way(a, b, Nanos{0}); });
    return true;
}

bool Chaos::fail_disk() {
    const auto member = static_cast<std::uint32_t>(below(options_.members));
    if (disks_.contains(member) || !may_lose({}, member)) return false;
    SimPlatter& platter = nodes_.platter(member);
    if (options_.beyond && below(3) == 0) {
        const std::uint64_t rows = platter.content.size() / row_size;
        const std::uint64_t data = SimNodes::data_offset / row_size;
        for (std::uint64_t i = 1 + below(8); i != 0; --i) {
            platter.bad_rows.insert(data + below(rows - data));
        }
        say(fmt::format("rows of member {} cannot be read", member));
        return true;
    }
    const std::uint64_t how = below(4);
    if (how == 3) {
        const std::uint64_t time = below(20 * second);
        say(fmt::format("member {} hangs for {}", member, seconds_of(time)));
        platter.delay_nanos = time;
        later(time, [this, member] { nodes_.platter(member).delay_nanos = 0; });
        disks_[member].look = now() + time + below(10 * second);
        disks_[member].late = now() + 2 * time + second;  // what it is asked last takes as long
        return true;
    }
    say(fmt::format("member {} {}", member,
                    how == 0   ? "is dead"
                    : how == 1 ? "fails writes"
                               : "fails flushes"));
    (how == 0 ? platter.dead : how == 1 ? platter.fails_writes : platter.fails_flushes) = true;
    disks_[member].look = now() + below(10 * second);
    return true;
}

bool Chaos::lose_power() {
    if (lost_ || below(3) != 0) return false;
    if (!options_.beyond && !is_whole()) return false;
    start_all_again(below(3) != 0, false);
    return true;
}

/// All are told to stop, one of them first.
bool Chaos::stop() {
    if (lost_ || below(3) != 0) return false;
    if (!is_whole() || !roles_at_risk().empty()) return false;
    const std::uint32_t first = any_node();
    say(fmt::format("node {} is told to stop", first + 1));
    stops_ = true;
    for (Seat& seat : seats_) seat.excused_until = never;
    for (std::uint32_t i = 0; i != options_.nodes; ++i) {
        const std::uint32_t node = (first + i) % options_.nodes;
        nodes_.begin_to_end(node);
        pass(below(3) == 0 ? below(500 * ms) : 1);
    }
    const bool over = wait(
        [&] {
            for (std::uint32_t node = 0; node != options_.nodes; ++node) {
                if (!nodes_.has_left(node)) return false;
            }
            return true;
        },
        100, "the servers end");
    stops_ = false;
    if (over) start_all_again(false, true);
    return true;
}

bool Chaos::give_order() {
    const std::uint32_t node = any_node();
    if (!is_well(node)) return false;
    Array& array = nodes_.array(node);
    switch (below(6)) {
        case 5: {
            const std::uint32_t victim = any_node();
            if (!is_well(victim) || !may_lose({victim})) return false;
            begin_fault(victim);
            order(node, fmt::format("stop node {}", victim + 1),
                  array.order_node(NodeOrder::stop, victim + 1));
            later(2 * second + some_time(), [this, victim] { end_fault(victim); });
            return true;
        }
        case 4: {
            IntentChange change;
            change.region = (64u << 10) << below(5);
            order(node, "change the write intent", array.change_intent(change));
            return true;
        }
        case 0: {
            const ScrubMode mode{below(2) == 0};
            order(node, "scrub", array.start_scrub(mode));
            return true;
        }
        case 1: {
            const auto member = static_cast<std::uint32_t>(below(options_.members));
            if (disks_.contains(member) || !may_lose({}, member)) return false;
            if (options_.spares != 0) return false;
            disks_[member].look = now() + below(5 * second);
            disks_[member].asked = {node, seats_[node].starts};
            order(node, fmt::format("fail member {}", member), fail_member(node, member));
            return true;
        }
        case 2: {
            const std::uint32_t starts = seats_[node].starts;
            order(node, "reserve", array.reserve("data"));
            later(some_time(), [this, node, starts] {
                if (!serves(node) || seats_[node].starts != starts) return;
                order(node, "release", nodes_.array(node).release("data"));
            });
            return true;
        }
        default: {
            const std::uint32_t victim = any_node();
            if (victim == node || !is_well(victim) || !may_lose({victim})) return false;
            begin_fault(victim);
            order(node, fmt::format("kill node {}", victim + 1),
                  array.order_node(NodeOrder::kill, victim + 1));
            later(2 * second + some_time(), [this, victim] { resume(victim); });
            return true;
        }
    }
}

void Chaos::resume(std::uint32_t victim) {
    for (std::uint32_t node = 0; node != options_.nodes; ++node) {
        if (node == victim || !is_well(node)) continue;
        const ArrayStatus status = nodes_.array(node).status();
        if (!status.nodes[victim].killed) return heals_ ? void() : end_fault(victim);
        order(node, fmt::format("resume node {}", victim + 1),
              nodes_.array(node).order_node(NodeOrder::resume, victim + 1));
        break;
    }
    if (!heals_) later(5 * second, [this, victim] { resume(victim); });
}

/// At the end, of those that are still killed.
void Chaos::resume_all() {
    if (!heals_ || now() < resumes_next_) return;
    resumes_next_ = now() + 5 * second;
    for (std::uint32_t node = 0; node != options_.nodes; ++node) resume(node);
}

}  // namespace braid::sim
