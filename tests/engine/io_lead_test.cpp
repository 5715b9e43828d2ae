// SPDX-License-Identifier: BSD-3-Clause
// Who leads the loop, as a model: each step is one atomic operation of UringLoop's or Inbox's, and
// every order of the steps of an own thread, two guests and a stop is tried. Checked: one leads at a
// time, one gift at a time is under way, and where nothing can go on nothing is left to do. Mutants
// show that the model can tell.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <vector>

namespace braid {
namespace {

enum class Rest : std::uint8_t { awake, asleep, lent };
enum class Mutant : std::uint8_t { none, lent_said_late, gift_not_counted, leaves_with_messages };

struct Guest {
    enum At : std::uint8_t { posts, wakes, writes, runs, decides, gives, counts, writes_gift };
    At at{posts};
    std::uint8_t left{2};  // messages to post
    bool sleeps{false};    // the own thread, as it was found
    auto operator<=>(const Guest&) const = default;
    bool leads() const { return at == runs || at == decides || at == gives || at == counts; }
    bool ended() const { return at == posts && left == 0; }
};

struct State {
    enum Own : std::uint8_t {
        turn,
        rests,
        says_lent,
        leaves,
        says_lent_late,
        lent,
        woken,
        takes,
        wants,
        waits,
        says_asleep,
        looks,
        asleep,
        ended,
    };
    bool led{true};
    std::uint8_t posted{0};  // messages in the inbox
    bool want_posted{false};
    bool want_seen{false};
    Rest rest{Rest::awake};
    bool event{false};
    std::uint8_t given{0};
    bool stopping{false};
    std::uint8_t stop_at{0};
    bool stop_writes{false};
    Own own{turn};
    std::uint8_t wakes_left{2};  // timers and completions
    std::array<Guest, 2> guests;
    auto operator<=>(const State&) const = default;

    bool own_leads() const { return own < says_lent_late || own >= says_asleep; }
    bool empty() const { return posted == 0 && !want_posted; }
    void run_all() {
        posted = 0;
        want_seen |= want_posted;
        want_posted = false;
    }
};

class Model {
  public:
    Model(bool with_stop, Mutant mutant) : with_stop_(with_stop), mutant_(mutant) {}

    /// Whether all that can be reached is as it should be.
    bool holds() {
        reach(State{});
        while (!todo_.empty()) {
            const State from = todo_.back();
            todo_.pop_back();
            const std::size_t before = steps_;
            own_step(from);
            for (std::size_t i = 0; i != from.guests.size(); ++i) guest_step(from, i);
            if (with_stop_) stop_step(from);
            if (steps_ == before && !may_end(from)) return false;
            if (!one_leads(from)) return false;
        }
        return true;
    }
    std::size_t states() const { return seen_.size(); }

  private:
    void reach(const State& state) {
        ++steps_;
        if (seen_.insert(state).second) todo_.push_back(state);
    }
    static bool one_leads(const State& state) {
        const int leaders = int{state.own_leads()} + int{state.guests[0].leads()} +
                            int{state.guests[1].leads()} + state.given;
        return leaders == int{state.led} && state.given <= 1;
    }
    bool may_end(const State& state) const {
        for (const Guest& guest : state.guests) {
            if (!guest.ended()) return false;
        }
        if (with_stop_) return state.own == State::ended;
        return state.empty() && state.given == 0;
    }

    void own_step(State s) {
        switch (s.own) {
            case State::turn:
                s.own = s.stopping ? State::ended : State::rests;
                if (!s.stopping) s.run_all();
                return reach(s);
            case State::rests:  // by the ring or not, as it has work
                s.own = State::says_asleep;
                reach(s);
                s.own = State::says_lent;
                s.want_seen = false;
                return reach(s);
            case State::says_lent:
                if (mutant_ != Mutant::lent_said_late) s.rest = Rest::lent;
                s.own = State::leaves;
                return reach(s);
            case State::leaves:
                if (s.stopping || !s.empty()) {
                    s.rest = Rest::awake;
                    s.own = State::turn;
                } else {
                    s.led = false;
                    s.own = mutant_ == Mutant::lent_said_late ? State::says_lent_late : State::lent;
                }
                return reach(s);
            case State::says_lent_late:
                s.rest = Rest::lent;
                s.own = State::lent;
                return reach(s);
            case State::lent:
            case State::asleep:
                if (!s.event && s.wakes_left == 0) return;
                if (!s.event) --s.wakes_left;
                if (s.own == State::asleep) {
                    s.rest = Rest::awake;
                    s.event = false;
                    s.own = State::turn;
                } else {
                    s.own = State::woken;
                }
                return reach(s);
            case State::woken:
                s.rest = Rest::awake;
                s.own = State::takes;
                return reach(s);
            case State::takes:
            case State::waits:
                if (s.given == 0 && s.own == State::waits) return;
                if (s.given == 0) {
                    s.own = State::wants;
                } else {
                    --s.given;
                    s.event = false;
                    s.own = State::turn;
                }
                return reach(s);
            case State::wants:
                s.want_posted = true;
                if (s.led) {
                    s.own = State::waits;
                } else {
                    s.led = true;
                    s.event = false;
                    s.own = State::turn;
                }
                return reach(s);
            case State::says_asleep:
                s.rest = Rest::asleep;
                s.own = State::looks;
                return reach(s);
            case State::looks:
                s.own = !s.empty() || s.stopping ? State::turn : State::asleep;
                if (s.own == State::turn) s.rest = Rest::awake;
                return reach(s);
            case State::ended:
                return;
        }
    }

    void guest_step(State s, std::size_t which) {
        Guest& guest = s.guests[which];
        switch (guest.at) {
            case Guest::posts:
                if (guest.left == 0) return;
                --guest.left;
                guest.at = !s.led ? Guest::runs : s.empty() ? Guest::wakes : Guest::posts;
                s.led = true;
                ++s.posted;
                return reach(s);
            case Guest::wakes:
                guest.at = s.rest == Rest::asleep ? Guest::writes : Guest::posts;
                if (s.rest == Rest::asleep) s.rest = Rest::awake;
                return reach(s);
            case Guest::writes:
                s.event = true;
                guest.at = Guest::posts;
                return reach(s);
            case Guest::runs:
                s.run_all();
                guest.at = Guest::decides;
                return reach(s);
            case Guest::decides: {
                State other = s;
                other.guests[which].at =
                    Guest::gives;  // it had enough, or there is work for the ring
                reach(other);
                if (s.want_seen) return;
                const bool leaves = s.empty() || mutant_ == Mutant::leaves_with_messages;
                guest.at = leaves ? Guest::posts : Guest::runs;
                if (leaves) s.led = false;
                return reach(s);
            }
            case Guest::gives:
                guest.sleeps = s.rest == Rest::lent;
                s.rest = Rest::awake;
                guest.at = Guest::counts;
                return reach(s);
            case Guest::counts:
                if (mutant_ != Mutant::gift_not_counted || guest.sleeps) ++s.given;
                guest.at = guest.sleeps ? Guest::writes_gift : Guest::posts;
                guest.sleeps = false;
                return reach(s);
            case Guest::writes_gift:
                s.event = true;
                guest.at = Guest::posts;
                return reach(s);
        }
    }

    void stop_step(State s) {
        switch (s.stop_at++) {
            case 0:
                s.stopping = true;
                return reach(s);
            case 1:
                s.stop_writes = s.rest != Rest::awake;
                s.rest = Rest::awake;
                return reach(s);
            case 2:
                s.event |= s.stop_writes;
                return reach(s);
            default:
                return;
        }
    }

    bool with_stop_;
    Mutant mutant_;
    std::set<State> seen_;
    std::vector<State> todo_;
    std::size_t steps_{0};
};

TEST(Lead, NobodyIsLostAndOneLeadsAtATime) {
    for (const bool with_stop : {false, true}) {
        Model model(with_stop, Mutant::none);
        EXPECT_TRUE(model.holds()) << (with_stop ? "with a stop" : "without");
        EXPECT_GT(model.states(), 1000u);
    }
}

TEST(Lead, TheModelCanTell) {
    for (const Mutant mutant :
         {Mutant::lent_said_late, Mutant::gift_not_counted, Mutant::leaves_with_messages}) {
        EXPECT_FALSE(Model(false, mutant).holds()) << static_cast<int>(mutant);
    }
}

}  // namespace
}  // namespace braid
