// SPDX-License-Identifier: BSD-3-Clause
// A model of the register: members that promise and hold configurations and data, and proposers
// that go step by step, in any order, side by side, and may stop for ever or go on late at any
// step. Every decision is made by the functions of engine/layout/register.h; the model adds what is
// around them (data, losses, copies put back, clean stops) and what must hold.
//
// Data is a set of writes: each epoch writes once, to one member after the other. An answer
// (an acknowledgement or a read) is possible when all members that the configuration calls
// in_sync have the same writes and take orders of its epoch; it decides which writes of older
// epochs there are, for ever.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/layout/register.h"

namespace braid::register_model {

inline constexpr std::uint32_t proposers_max = 6;  // with 0, which created the array
inline constexpr std::uint32_t registers_max = 5;  // members, and a witness after them

/// Rules that are wrong on purpose, each in one point.
enum class Wrong : std::uint8_t {
    nothing,
    no_promise,
    promise_in_memory,          // lost with power
    enough_of_who_is_left,      // p fewer than the newest's in_sync members
    newest_not_adopted,         // the oldest answer is taken over
    in_force_at_enough,         // n−p have stored it
    answered_before_announced,  // (F, 1) is on its way
    stale_counted,
    in_force_names_itself,
    resynced_in_another_epoch,
    no_closing_revision,
    epochs_come_again,     // one more than the highest seen, no clock
    more_than_half,        // of the newest's in_sync members are enough
    unforced_breaks_ties,  // all that the newest calls in_sync are, though it may not be in force
};

/// What no rule on members can see of a copy put back, so that it must not happen: what the model
/// leaves out, and here lets happen, to show that it has to.
enum class Unseen : std::uint8_t {
    nothing,
    newest_after_a_crash,  // the copy is of the newest epoch that was in force, not stopped
    who_knows_is_away,     // a start with the copy reaches none that holds what is in force
    older_comes_late,      // none that holds the newest, and a proposer older than that goes on
};

struct Bounds {
    std::uint32_t members{3};
    std::uint32_t parities{1};
    bool witness{false};
    std::uint32_t proposals{3};
    bool rebuilds{true};
    bool checkpoints{false};  // of a rebuild's position
    bool clean_stops{false};
    bool put_back{false};  // one register goes back to an older copy of it, once
    bool late{false};      // proposers that began before that may ask it afterwards
    Unseen unseen{Unseen::nothing};
    Wrong wrong{Wrong::nothing};

    std::uint32_t registers() const { return members + (witness ? 1 : 0); }
};

/// A configuration: by whom it was proposed, and its revision.
struct Name {
    std::uint8_t proposer{0};
    std::uint8_t revision{0};
    bool operator==(const Name&) const = default;
};

/// What a proposer knows of one register before it decided, and after.
struct Asked {
    std::uint8_t reached : 1;
    std::uint8_t held : 3;
    std::uint8_t revision : 3;
    std::uint8_t unused : 1;
};
struct Part {
    std::uint8_t done : 1;  // of the step that is on its way
    std::uint8_t in_sync : 1;
    std::uint8_t rebuilding : 1;
    std::uint8_t copied : 1;        // gets writes
    std::uint8_t progressed : 1;    // the configuration says so, from its first revision on
    std::uint8_t checkpointed : 1;  // it says so from revision 2 on
    std::uint8_t takes_part : 1;
    std::uint8_t unused : 1;
};
inline constexpr std::uint32_t part_bits = 7;

inline bool has_part(Part part) { return part.takes_part != 0; }
inline bool has_sync(Part part) { return part.in_sync != 0; }
inline bool has_data(Part part) {
    return part.in_sync != 0 || (part.rebuilding != 0 && part.copied != 0);
}

template <class F>
void for_each(MemberSet set, F&& f) {
    for (std::uint64_t rest = set.bits(); rest != 0; rest &= rest - 1) {
        f(static_cast<std::uint32_t>(std::countr_zero(rest)));
    }
}

/// All that there is of one register, so that members of one kind can be sorted.
struct Column {
    std::uint64_t parts : proposers_max* part_bits = 0;
    std::uint64_t promise : 3 = 0;
    std::uint64_t held : 3 = 0;
    std::uint64_t revision : 3 = 0;
    std::uint64_t complete_in : 3 = 0;  // the proposer under whom its rebuild was complete
    std::uint64_t data : proposers_max = 0;
    std::uint64_t copied : 1 = 0;  // the copy is of this register

    Name name() const { return {std::uint8_t(held), std::uint8_t(revision)}; }
    template <class T>
    T get(std::uint32_t proposer) const {
        return std::bit_cast<T>(
            static_cast<std::uint8_t>((parts >> (proposer * part_bits)) & 0x7f));
    }
    template <class T>
    void set(std::uint32_t proposer, T value) {
        const std::uint64_t bits = std::bit_cast<std::uint8_t>(value) & 0x7f;
        const std::uint64_t mask = std::uint64_t{0x7f} << (proposer * part_bits);
        parts =
            ((parts & ~mask) | (bits << (proposer * part_bits))) & ((std::uint64_t{1} << 42) - 1);
    }
};
static_assert(sizeof(Column) == 8);

enum class Phase : std::uint8_t { idle, asking, store, announce, live };
enum class Stop : std::uint8_t { running, marking, closing, closed };

struct Proposer {
    std::uint32_t phase : 3 = 0;
    std::uint32_t number : 3 = 0;    // of its epoch
    std::uint32_t revision : 3 = 0;  // the newest that is in force, or on its way
    std::uint32_t stop : 2 = 0;
    std::uint32_t revising : 1 = 0;
    std::uint32_t checkpointed : 1 = 0;  // revision 2 is one
    std::uint32_t over : 1 = 0;          // it ended
    std::uint32_t cut : 1 = 0;           // it began before the copy was put back
    std::uint32_t ancestors : proposers_max = 0;
    std::uint32_t known : 3 = 0;  // in force, as revision 0 says
    std::uint32_t known_revision : 3 = 0;
    std::uint32_t unused : 5 = 0;

    bool is(Phase p) const { return phase == static_cast<std::uint32_t>(p); }
    bool is(Stop s) const { return stop == static_cast<std::uint32_t>(s); }
};
static_assert(sizeof(Proposer) == 4);

/// What nobody in the model knows.
struct Truth {
    std::uint64_t answered : proposers_max = 0;  // writes that answers have shown
    std::uint64_t top : 3 = 0;                   // the newest that answered
    std::uint64_t newest : 3 = 0;                // the newest that could answer
    std::uint64_t in_force : proposers_max = 1;  // all members held it
    std::uint64_t put : 2 = 0;                   // 0 no copy, 1 taken, 2 put back
    std::uint64_t copy_promise : 3 = 0;
    std::uint64_t copy_held : 3 = 0;
    std::uint64_t copy_revision : 3 = 0;
    std::uint64_t copy_data : proposers_max = 0;
    std::uint64_t begun : 3 = 0;  // proposers, where epochs come again
    std::uint64_t unused : 26 = 0;
};
static_assert(sizeof(Truth) == 8);

struct State {
    std::array<Column, registers_max> columns{};
    std::array<Proposer, proposers_max> proposers{};
    Truth truth{};
};
static_assert(sizeof(State) == 72);

enum class Kind : std::uint8_t {
    begin,
    ask,
    ask_unanswered,
    ask_and_decide,
    store,
    write,
    even_out,
    copy,
    finish,
    answer,
    checkpoint,
    mark,
    close,
    catch_up,  // the witness learns of what is in force, which was proposed without it
    power,
    save,
    put_back,
};
struct Action {
    Kind kind{};
    std::uint8_t proposer{0};
    std::uint8_t place{0};   // register
    std::uint8_t choice{0};  // ask_and_decide: registers to fill, and 64: take the rebuilt ones
    bool operator==(const Action&) const = default;
};

class Model {
  public:
    explicit Model(const Bounds& bounds);

    State initial() const;
    /// Each step that is possible. `broken`: what a rule or an invariant says against it.
    using Emit = std::function<void(const State&, Action, const char* broken)>;
    void successors(const State& state, const Emit& emit) const;
    /// What a step breaks by itself: promises and configurations only go up.
    const char* broken(const State& before, const State& after, Action action) const;
    /// What does not hold of those that serve in this state; nullptr: all holds.
    const char* broken(const State& state) const;
    /// What of a state decides how starts end; the same for many states.
    State held(const State& state) const;
    /// What a start would break that reaches any members now, and nobody in its way.
    const char* broken_starts(const State& held) const;
    /// Sorts the members that are alike, and forgets what can matter no more.
    /// @param order  where each column was before
    void make_canonical(State& state, std::array<std::uint8_t, registers_max>& order) const;

    std::string text(const State& state) const;
    std::string text(Action action) const;

  private:
    struct Answers {
        MemberSet reached;
        std::array<Name, registers_max> held{};
    };
    struct Decision {
        bool enough{false};
        MemberSet counts, rebuilding, progressed, rebuilt, others;
        Name newest, known;
    };

    bool wrong(Wrong kind) const { return bounds_.wrong == kind; }
    std::uint64_t epoch(const State& state, std::uint32_t proposer) const;
    EpochRevision version(const State& state, Name name) const;
    Name in_force_said_by(const State& state, Name name) const;
    MemberRegister register_of(const State& state, const Column& column) const;
    MemberAnswer answer_of(const State& state, Name newest, std::uint32_t place, Name held) const;
    Decision decide(const State& state, const Answers& answers) const;
    bool blind(const State& state, const Answers& answers) const;
    Answers answers_to(const State& state, std::uint32_t proposer) const;
    Proposal proposal(const State& state, std::uint32_t proposer) const;
    MemberSet parts(const State& state, std::uint32_t proposer, bool (*has)(Part)) const;
    bool takes_orders(const State& state, std::uint32_t proposer, std::uint32_t place) const;
    bool all_take_orders(const State& state, std::uint32_t proposer, MemberSet members) const;
    bool serves(const State& state, std::uint32_t proposer) const;
    MemberSet written(const State& state, std::uint32_t proposer) const;
    bool agree(const State& state, MemberSet members) const;

    void begin(const State& state, std::uint32_t proposer, const Emit& emit) const;
    void ask(const State& state, std::uint32_t proposer, const Emit& emit) const;
    void decide_after(const State& asked, Action action, const Emit& emit) const;
    State decided(const State& asked, std::uint32_t proposer, const Decision& decision,
                  MemberSet filled, bool take_rebuilt) const;
    void store(const State& state, std::uint32_t proposer, const Emit& emit) const;
    const char* stored(State& state, std::uint32_t proposer, std::uint32_t place) const;
    const char* now_in_force(State& state, std::uint32_t proposer) const;
    void serve(const State& state, std::uint32_t proposer, const Emit& emit) const;
    void rebuild(const State& state, std::uint32_t proposer, const Emit& emit) const;
    void answer(const State& state, std::uint32_t proposer, const Emit& emit) const;
    void revise(const State& state, std::uint32_t proposer, const Emit& emit) const;
    void catch_up(const State& state, std::uint32_t proposer, const Emit& emit) const;
    bool breaks_ties(const State& state, const Answers& answers, const Decision& decision) const;
    void put_back(const State& state, const Emit& emit) const;
    void lose(State& state, std::uint32_t place) const;
    void forget_copy(State& state) const;
    void forget(State& state, std::uint32_t proposer) const;
    void forget_over(State& state, std::uint32_t proposer, bool held) const;
    const char* broken_start(const State& state, const Answers& answers) const;

    Bounds bounds_;
    Quorum quorum_;
    std::array<std::uint64_t, 8> epochs_{};  // by number
};

}  // namespace braid::register_model
