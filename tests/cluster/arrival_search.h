// SPDX-License-Identifier: BSD-3-Clause
// All orders in which messages arrive at nodes, each of those once that nodes can tell apart. Nothing but
// messages goes between nodes, so arrivals at two nodes can change places, and only the order at each node
// counts, of messages of different senders: those of one channel come in the order in which they were sent.
//
// The program is run anew for each order and asks before each step which channel's message comes next. Two
// arrivals at one node, one after the other, of which neither was sent because of the other, make another
// run. What has been, sleeps: a run that could only repeat it ends early.
//
// Source: Flanagan, Godefroid, "Dynamic partial-order reduction for model checking software", 2005; source
// sets: Abdulla, Aronis, Jonsson, Sagonas, "Optimal dynamic partial order reduction", 2014, algorithm 1. Here
// races are looked for at a run's end, not at each step.
#pragma once

#include <algorithm>
#include <bitset>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "parity/require.h"

namespace braid::test {

struct Channel {
    std::uint32_t from{0};
    std::uint32_t to{0};
    auto operator<=>(const Channel&) const = default;
};

/// The first message of a channel.
struct Arrival {
    Channel channel;
    std::vector<std::uint32_t>
        causes;  // steps of this run without which it would not have been sent
};

class ArrivalSearch {
  public:
    static constexpr std::size_t steps_max = 512;  // of a run

    /// Before each run. False: there are no further ones.
    bool next_run() {
        if (!std::exchange(has_begun_, true)) return true;
        ++(cut_ ? cut_short_ : orders_);
        cut_ = false;
        look_for_races();
        events_.clear();
        while (!points_.empty()) {
            Point& last = points_.back();
            last.asleep.insert(last.chosen);
            for (const Channel& channel : last.wanted) {
                if (last.asleep.contains(channel)) continue;
                last.chosen = channel;
                last.is_new = true;
                return true;
            }
            points_.pop_back();
        }
        return false;
    }

    /// Which one comes next. None: all orders that go on from here have been.
    /// @param offered  not empty; the same as in the run before, after the same steps
    std::optional<Channel> choose(const std::vector<Arrival>& offered) {
        BRAID_REQUIRE(!offered.empty() && events_.size() < steps_max);
        if (events_.size() == points_.size()) {
            Point point;
            if (!points_.empty()) point.asleep = still_asleep(points_.back());
            const auto awake = std::ranges::find_if(offered, [&](const Arrival& arrival) {
                return !point.asleep.contains(arrival.channel);
            });
            if (awake == offered.end()) {
                cut_ = true;
                return std::nullopt;
            }
            point.chosen = awake->channel;
            point.wanted.insert(point.chosen);
            points_.push_back(std::move(point));
        }
        const Channel chosen = points_[events_.size()].chosen;
        const auto found = std::ranges::find(offered, chosen, &Arrival::channel);
        BRAID_REQUIRE(found != offered.end());  // or the program is not the same each time
        add(*found);
        return chosen;
    }

    /// Runs that have come to their end: no two are the same to all nodes.
    std::uint64_t orders() const { return orders_; }
    /// Runs that ended early.
    std::uint64_t cut_short() const { return cut_short_; }
    /// Of this run.
    std::vector<Channel> way() const {
        std::vector<Channel> way;
        for (const Event& event : events_) way.push_back(event.channel);
        return way;
    }
    /// In each run that is the same to all nodes.
    bool is_before(std::size_t step, std::size_t other) const {
        return events_[other].before[step];
    }
    /// The run that is the same to all nodes, and in which nothing is before this step that need not be.
    std::vector<Channel> way_at_once_to(std::size_t step) const {
        std::vector<Channel> way;
        std::vector<Channel> later;
        for (std::size_t i = 0; i != events_.size(); ++i) {
            const bool is_needed = i == step || is_before(i, step);
            (is_needed ? way : later).push_back(events_[i].channel);
        }
        way.insert(way.end(), later.begin(), later.end());
        return way;
    }

  private:
    using Steps = std::bitset<steps_max>;
    /// Where something was chosen: the way to it is what was chosen before.
    struct Point {
        Channel chosen;
        bool is_new{true};         // its race has not been looked at
        std::set<Channel> wanted;  // to be chosen here, or have been
        std::set<Channel> asleep;  // all that begins with these has been
    };
    struct Event {
        Channel channel;
        Steps before;                     // in each run that is the same to all nodes
        std::optional<std::size_t> race;  // the arrival at that node before, which might be later
    };

    void add(const Arrival& arrival) {
        Event event{arrival.channel, {}, {}};
        for (const std::uint32_t cause : arrival.causes) {
            event.before |= events_[cause].before;
            event.before.set(cause);
        }
        for (std::size_t at = events_.size(); at-- != 0;) {
            if (events_[at].channel.to != event.channel.to) continue;
            if (events_[at].channel != event.channel && !event.before[at]) event.race = at;
            event.before |= events_[at].before;
            event.before.set(at);
            break;
        }
        events_.push_back(event);
    }
    static std::set<Channel> still_asleep(const Point& before) {
        std::set<Channel> asleep;
        for (const Channel& channel : before.asleep) {
            if (channel.to != before.chosen.to) asleep.insert(channel);
        }
        return asleep;
    }
    void look_for_races() {
        for (std::size_t at = 0; at != events_.size(); ++at) {
            if (std::exchange(points_[at].is_new, false) && events_[at].race) {
                reverse_later(*events_[at].race, at);
            }
        }
    }
    /// Some run begins as this one does up to `first`, goes on with what does not follow from that, and
    /// has `second` before it.
    void reverse_later(std::size_t first, std::size_t second) {
        Point& point = points_[first];
        std::optional<Channel> wanted;
        Steps passed;
        for (std::size_t i = first + 1; i <= second; ++i) {
            if (i != second && is_before(first, i)) continue;
            const bool may_be_next = (events_[i].before & passed).none();
            passed.set(i);
            if (!may_be_next) continue;
            const Channel channel = events_[i].channel;
            if (point.wanted.contains(channel) || point.asleep.contains(channel)) return;
            if (!wanted) wanted = channel;
        }
        BRAID_REQUIRE(wanted.has_value());
        point.wanted.insert(*wanted);
    }

    std::vector<Point> points_;
    std::vector<Event> events_;  // of this run
    bool has_begun_{false};
    bool cut_{false};  // this run
    std::uint64_t orders_{0};
    std::uint64_t cut_short_{0};
};

}  // namespace braid::test
