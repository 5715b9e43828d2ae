// SPDX-License-Identifier: BSD-3-Clause
#include "tests/engine/register_model.h"

#include <fmt/format.h>

#include <algorithm>

namespace braid::register_model {
namespace {

bool has_part(Part part) { return part.takes_part != 0; }
bool has_sync(Part part) { return part.in_sync != 0; }
bool has_data(Part part) { return part.in_sync != 0 || (part.rebuilding != 0 && part.copied != 0); }

template <class F>
void for_each(MemberSet set, F&& f) {
    for (std::uint64_t rest = set.bits(); rest != 0; rest &= rest - 1) {
        f(static_cast<std::uint32_t>(std::countr_zero(rest)));
    }
}

/// Epoch of the proposer with this number: each was begun a second after the one before.
std::uint64_t epoch_of_number(std::uint64_t number) { return next_epoch(0, number, 0); }
std::uint32_t number_of_epoch(std::uint64_t epoch) {
    return static_cast<std::uint32_t>(epoch / epochs_per_number - 1);
}

}  // namespace

Model::Model(const Bounds& bounds)
    : bounds_(bounds), quorum_{bounds.members, bounds.parities, bounds.witness} {
    BRAID_REQUIRE(bounds.registers() <= registers_max);
    BRAID_REQUIRE(bounds.proposals < proposers_max);
}

State Model::initial() const {
    State state;
    Proposer& creator = state.proposers[0];
    creator.phase = static_cast<std::uint32_t>(Phase::live);
    creator.revision = 1;
    creator.stop = static_cast<std::uint32_t>(Stop::closed);
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const bool data = i < bounds_.members;
        state.columns[i].revision = 1;
        Part part{};
        part.in_sync = data;
        part.takes_part = 1;
        state.columns[i].set(0, part);
    }
    for (std::uint32_t k = 1; k <= bounds_.proposals; ++k) {
        if (!wrong(Wrong::epochs_come_again)) state.proposers[k].number = k & 7;
    }
    return state;
}

// ---- what the rules see -------------------------------------------------------------------------

std::uint64_t Model::epoch(const State& state, std::uint32_t proposer) const {
    return epoch_of_number(state.proposers[proposer].number);
}

EpochRevision Model::version(const State& state, Name name) const {
    return {epoch(state, name.proposer), name.revision};
}

Name Model::in_force_said_by(const State& state, Name name) const {
    if (wrong(Wrong::in_force_names_itself)) return name;
    if (name.revision != 0) return {name.proposer, static_cast<std::uint8_t>(name.revision - 1)};
    const Proposer& proposer = state.proposers[name.proposer];
    return {std::uint8_t(proposer.known), std::uint8_t(proposer.known_revision)};
}

MemberRegister Model::register_of(const State& state, const Column& column) const {
    return {epoch_of_number(column.promise), version(state, column.name())};
}

MemberSet Model::parts(const State& state, std::uint32_t proposer, bool (*has)(Part)) const {
    MemberSet set;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        if (has(state.columns[i].get<Part>(proposer))) set.add(i);
    }
    return set;
}

MemberAnswer Model::answer_of(const State& state, Name newest, std::uint32_t place,
                              Name held) const {
    const Part part = state.columns[place].get<Part>(newest.proposer);
    const bool checkpointed = newest.revision >= 2 && part.checkpointed != 0 &&
                              state.proposers[newest.proposer].checkpointed != 0;
    MemberAnswer answer{.held = version(state, held)};
    if (part.in_sync != 0) answer.part = MemberAnswer::Part::in_sync;
    if (part.rebuilding != 0) {
        answer.part = part.progressed != 0 || checkpointed ? MemberAnswer::Part::rebuilding
                                                           : MemberAnswer::Part::fresh;
    }
    return answer;
}

Model::Decision Model::decide(const State& state, const Answers& answers) const {
    Decision to;
    bool first = true;
    EpochRevision newest, known;
    for_each(answers.reached, [&](std::uint32_t place) {
        const Name held = answers.held[place];
        const Name said = in_force_said_by(state, held);
        const auto here = version(state, held);
        if (first || (wrong(Wrong::newest_not_adopted) ? here < newest : newest < here)) {
            newest = here;
            to.newest = held;
        }
        if (first || known < version(state, said)) {
            known = version(state, said);
            to.known = said;
        }
        first = false;
    });
    const EpochRevision bar = wrong(Wrong::stale_counted) ? EpochRevision{} : known;
    for_each(answers.reached, [&](std::uint32_t place) {
        if (place >= bounds_.members) return;
        const MemberAnswer answer = answer_of(state, to.newest, place, answers.held[place]);
        const Standing standing = standing_of(answer, bar);
        if (standing == Standing::counts) to.counts.add(place);
        if (standing == Standing::stale || standing == Standing::none) to.others.add(place);
        if (standing != Standing::rebuilding) return;
        to.rebuilding.add(place);
        if (answer.part == MemberAnswer::Part::rebuilding) to.progressed.add(place);
        const std::uint32_t under = static_cast<std::uint32_t>(state.columns[place].complete_in);
        std::uint64_t complete = under == 0 ? 0 : epoch(state, under);
        if (under != 0 && wrong(Wrong::resynced_in_another_epoch)) complete = newest.epoch;
        if (may_become_in_sync(newest, known, complete)) to.rebuilt.add(place);
    });
    const bool witness = bounds_.witness && answers.reached.has(bounds_.members);
    to.enough = quorum_.is_enough(to.counts, witness);
    if (wrong(Wrong::enough_of_who_is_left)) {
        const std::uint32_t left = parts(state, to.newest.proposer, has_sync).size();
        to.enough = !to.counts.empty() && to.counts.size() + bounds_.parities >= left;
    }
    if (wrong(Wrong::more_than_half)) {
        to.enough = to.counts.size() * 2 > parts(state, to.newest.proposer, has_sync).size();
    }
    return to;
}

bool Model::blind(const State& state, const Answers& answers) const {
    const Truth& truth = state.truth;
    if (bounds_.blind || truth.put != 2) return false;
    const Name copy{std::uint8_t(truth.copy_held), std::uint8_t(truth.copy_revision)};
    std::uint32_t newest = 0;
    for (std::uint32_t k = 0; k <= bounds_.proposals; ++k) {
        if (((truth.in_force >> k) & 1) == 0) continue;
        newest = std::max<std::uint32_t>(newest, state.proposers[k].number);
    }
    if (bounds_.late) {  // they know what is the newest of all
        for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
            if (state.columns[i].copied != 0) continue;
            newest = std::max<std::uint32_t>(newest, state.proposers[state.columns[i].held].number);
        }
    }
    const auto better = [&](Name held) {
        return state.proposers[held.proposer].number >= newest &&
               version(state, copy) < version(state, held);
    };
    bool old = false, known = false, away = false;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const Column& column = state.columns[i];
        const bool there = answers.reached.has(i);
        if (column.copied != 0) {
            old = there && answers.held[i] == copy;
        } else {
            known = known || (there && better(answers.held[i]));
            away = away || better(column.name());
        }
    }
    return old && away && !known;
}

Model::Answers Model::answers_to(const State& state, std::uint32_t proposer) const {
    Answers answers;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const Asked asked = state.columns[i].get<Asked>(proposer);
        if (asked.reached == 0) continue;
        answers.reached.add(i);
        answers.held[i] = {asked.held, asked.revision};
    }
    return answers;
}

Proposal Model::proposal(const State& state, std::uint32_t k) const {
    const Proposer& proposer = state.proposers[k];
    const MemberSet members = parts(state, k, has_part);
    const MemberSet done = parts(state, k, [](Part part) { return part.done != 0; });
    const auto all = [&](Proposal& p) { for_each(members, [&](std::uint32_t m) { p.done(m); }); };
    const auto some = [&](Proposal& p) { for_each(done, [&](std::uint32_t m) { p.done(m); }); };
    if (proposer.revising != 0) {
        const std::uint64_t before = proposer.revision - 1;
        Proposal revision = Proposal::of_revision({epoch(state, k), before}, members);
        some(revision);
        return revision;
    }
    const Name known{std::uint8_t(proposer.known), std::uint8_t(proposer.known_revision)};
    Proposal p = Proposal::of_epoch(epoch(state, k), members, version(state, known));
    all(p);
    if (!proposer.is(Phase::store)) all(p);
    some(p);
    return p;
}

bool Model::takes_orders(const State& state, std::uint32_t k, std::uint32_t place) const {
    const Column& column = state.columns[place];
    if (wrong(Wrong::no_promise)) return column.held == k;
    return column.promise == state.proposers[k].number;
}

bool Model::all_take_orders(const State& state, std::uint32_t k, MemberSet members) const {
    bool all = true;
    for_each(members, [&](std::uint32_t place) { all = all && takes_orders(state, k, place); });
    return all;
}

bool Model::serves(const State& state, std::uint32_t k) const {
    const Proposer& proposer = state.proposers[k];
    if (proposer.over != 0 || !proposer.is(Stop::running)) return false;
    return proposer.is(Phase::live) ||
           (wrong(Wrong::answered_before_announced) && proposer.is(Phase::announce));
}

MemberSet Model::written(const State& state, std::uint32_t k) const {
    return parts(state, k, has_data);
}

bool Model::agree(const State& state, MemberSet members) const {
    const std::uint32_t first = static_cast<std::uint32_t>(std::countr_zero(members.bits()));
    bool same = true;
    for_each(members, [&](std::uint32_t place) {
        same = same && state.columns[place].data == state.columns[first].data;
    });
    return same;
}

// ---- steps --------------------------------------------------------------------------------------

void Model::successors(const State& state, const Emit& emit) const {
    for (std::uint32_t k = 1; k <= bounds_.proposals; ++k) {
        const Proposer& proposer = state.proposers[k];
        if (proposer.over != 0) continue;
        if (proposer.is(Phase::idle) && wrong(Wrong::epochs_come_again) && proposer.number == 0) {
            begin(state, k, emit);
        } else if (proposer.is(Phase::idle) || proposer.is(Phase::asking)) {
            ask(state, k, emit);
        } else {
            if (!proposer.is(Phase::live) || proposer.revising != 0) store(state, k, emit);
            if (serves(state, k)) serve(state, k, emit);
            if (proposer.is(Phase::live) && proposer.revising == 0) revise(state, k, emit);
        }
    }
    if (wrong(Wrong::promise_in_memory)) {
        for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
            const std::uint32_t left = state.proposers[state.columns[i].held].number;
            if (state.columns[i].promise == left) continue;
            State next = state;
            next.columns[i].promise = left & 7;
            emit(next, {Kind::power, 0, static_cast<std::uint8_t>(i), 0}, nullptr);
        }
    }
    if (bounds_.put_back) put_back(state, emit);
}

/// Epochs that come again: the number is one more than what was seen on one register.
void Model::begin(const State& state, std::uint32_t k, const Emit& emit) const {
    if (static_cast<std::uint32_t>(state.truth.begun) + 1 != k) return;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        State next = state;
        const std::uint64_t seen = register_of(state, state.columns[i]).bound();
        next.proposers[k].number = number_of_epoch(next_epoch(seen, 0, 0)) & 7;
        next.truth.begun = k & 7;
        emit(next, {Kind::begin, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(i), 0},
             nullptr);
    }
}

void Model::ask(const State& state, std::uint32_t k, const Emit& emit) const {
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const Column& column = state.columns[i];
        if (column.get<Asked>(k).reached != 0) continue;
        if (column.copied != 0 && state.proposers[k].cut != 0) continue;
        if (!wrong(Wrong::no_promise) && !register_of(state, column).may_promise(epoch(state, k))) {
            continue;
        }
        Action action{Kind::ask, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(i), 0};
        State next = state;
        next.proposers[k].phase = static_cast<std::uint32_t>(Phase::asking);
        if (!wrong(Wrong::no_promise)) next.columns[i].promise = state.proposers[k].number;
        if (!wrong(Wrong::no_promise)) {
            action.kind = Kind::ask_unanswered;
            emit(next, action, nullptr);
        }
        Asked asked{};
        asked.reached = 1;
        asked.held = column.held & 7;
        asked.revision = column.revision & 7;
        next.columns[i].set(k, asked);
        action.kind = Kind::ask;
        emit(next, action, nullptr);
        decide_after(next, action, emit);
    }
}

/// What a proposer decides depends on its answers alone, so it may as well be at once.
void Model::decide_after(const State& asked, Action action, const Emit& emit) const {
    const Answers answers = answers_to(asked, action.proposer);
    if (blind(asked, answers)) return;
    const Decision decision = decide(asked, answers);
    if (!decision.enough) return;
    action.kind = Kind::ask_and_decide;
    const std::uint64_t others = bounds_.rebuilds ? decision.others.bits() : 0;
    for (std::uint64_t filled = others;; filled = (filled - 1) & others) {
        for (const bool take : {false, true}) {
            if (take && decision.rebuilt.empty()) continue;
            action.choice = static_cast<std::uint8_t>(filled | (take ? 64 : 0));
            emit(decided(asked, action.proposer, decision, MemberSet{filled}, take), action,
                 nullptr);
        }
        if (filled == 0) return;
    }
}

State Model::decided(const State& asked, std::uint32_t k, const Decision& decision,
                     MemberSet filled, bool take_rebuilt) const {
    State next = asked;
    Proposer& proposer = next.proposers[k];
    const Answers answers = answers_to(asked, k);
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const bool rebuilt = take_rebuilt && decision.rebuilt.has(i);
        Part part{};
        part.in_sync = decision.counts.has(i) || rebuilt;
        part.rebuilding = (decision.rebuilding.has(i) && !rebuilt) || filled.has(i);
        part.progressed = part.rebuilding && decision.progressed.has(i);
        part.copied = part.progressed;
        part.takes_part = part.in_sync != 0 || part.rebuilding != 0 ||
                          (i == bounds_.members && answers.reached.has(i));
        next.columns[i].set(k, part);
    }
    const Name newest = decision.newest;
    proposer.phase = static_cast<std::uint32_t>(Phase::store);
    proposer.ancestors = (next.proposers[newest.proposer].ancestors | (1u << newest.proposer)) & 63;
    proposer.known = decision.known.proposer & 7;
    proposer.known_revision = decision.known.revision & 7;
    return next;
}

void Model::store(const State& state, std::uint32_t k, const Emit& emit) const {
    const Proposal p = proposal(state, k);
    for_each(p.pending(), [&](std::uint32_t place) {
        const MemberRegister before = register_of(state, state.columns[place]);
        const bool takes =
            wrong(Wrong::no_promise) ? before.held < p.version() : before.may_store(p.version());
        if (!takes) return;
        State next = state;
        const char* broken = stored(next, k, place);
        emit(next, {Kind::store, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(place), 0},
             broken);
    });
}

const char* Model::stored(State& state, std::uint32_t k, std::uint32_t place) const {
    Proposal p = proposal(state, k);
    const Proposal::Step step = p.step();
    const EpochRevision taken = p.version();
    Proposer& proposer = state.proposers[k];
    Column& column = state.columns[place];
    const Name name{static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(taken.revision)};
    if (!wrong(Wrong::in_force_names_itself)) {
        BRAID_REQUIRE(p.in_force() == version(state, in_force_said_by(state, name)));
    }
    if (!wrong(Wrong::no_promise) && column.promise > proposer.number)
        return "a store below a promise";
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const Name held = state.columns[i].name();
        if (held.proposer != k && version(state, held) == taken) {
            return "an (epoch, revision) has two contents";
        }
    }
    column.held = name.proposer & 7;
    column.revision = name.revision & 7;
    Part part = column.get<Part>(k);
    part.done = 1;
    column.set(k, part);
    p.done(place);
    if (wrong(Wrong::in_force_at_enough)) {
        const MemberSet done = parts(state, k, [](Part it) { return it.done && it.in_sync; });
        while (p.step() == step && done.size() + bounds_.parities >= bounds_.members) {
            p.done(static_cast<std::uint32_t>(std::countr_zero(p.pending().bits())));
        }
    }
    if (p.step() == step) return nullptr;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        Part left = state.columns[i].get<Part>(k);
        left.done = 0;
        state.columns[i].set(k, left);
    }
    if (step == Proposal::Step::store && proposer.revising == 0) return now_in_force(state, k);
    if (proposer.revising == 0) {
        proposer.phase = static_cast<std::uint32_t>(Phase::live);
        if (proposer.number > state.proposers[state.truth.newest].number)
            state.truth.newest = k & 7;
        return nullptr;
    }
    proposer.revising = 0;
    if (proposer.is(Stop::closing) ||
        (proposer.is(Stop::marking) && wrong(Wrong::no_closing_revision))) {
        proposer.stop = static_cast<std::uint32_t>(Stop::closed);
    }
    return nullptr;
}

const char* Model::now_in_force(State& state, std::uint32_t k) const {
    Proposer& proposer = state.proposers[k];
    proposer.phase = static_cast<std::uint32_t>(Phase::announce);
    proposer.revision = 1;
    for (std::uint32_t j = 0; j <= bounds_.proposals; ++j) {
        if (j == k || ((state.truth.in_force >> j) & 1) == 0) continue;
        const bool newer = state.proposers[j].number < proposer.number;
        const std::uint32_t ancestors = newer ? proposer.ancestors : state.proposers[j].ancestors;
        if (((ancestors >> (newer ? j : k)) & 1) == 0) {
            return "the configurations in force are no chain";
        }
    }
    state.truth.in_force |= (std::uint64_t{1} << k) & 63;
    if (wrong(Wrong::answered_before_announced) &&
        proposer.number > state.proposers[state.truth.newest].number) {
        state.truth.newest = k & 7;
    }
    return nullptr;
}

void Model::serve(const State& state, std::uint32_t k, const Emit& emit) const {
    const MemberSet members = written(state, k);
    const std::uint64_t bit = std::uint64_t{1} << k;
    for_each(members, [&](std::uint32_t place) {
        if (!takes_orders(state, k, place)) return;
        const std::uint64_t data = state.columns[place].data;
        State next = state;
        if ((data & bit) == 0) {
            next.columns[place].data = (data | bit) & 63;
            emit(next,
                 {Kind::write, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(place), 0},
                 nullptr);
        }
        for_each(parts(state, k, has_sync), [&](std::uint32_t from) {
            if (state.columns[from].data == data || !takes_orders(state, k, from)) return;
            next.columns[place].data = state.columns[from].data;
            emit(next,
                 {Kind::settle, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(place),
                  static_cast<std::uint8_t>(from)},
                 nullptr);
        });
    });
    answer(state, k, emit);
    if (bounds_.rebuilds) rebuild(state, k, emit);
}

void Model::rebuild(const State& state, std::uint32_t k, const Emit& emit) const {
    const MemberSet sources = parts(state, k, has_sync);
    const bool readable = agree(state, sources) && all_take_orders(state, k, sources);
    const std::uint32_t first = static_cast<std::uint32_t>(std::countr_zero(sources.bits()));
    for (std::uint32_t i = 0; i != bounds_.members; ++i) {
        Part part = state.columns[i].get<Part>(k);
        if (part.rebuilding == 0 || !takes_orders(state, k, i)) continue;
        if (part.copied != 0 && state.columns[i].complete_in == k) continue;
        if (part.copied == 0 && !readable) continue;
        State next = state;
        const Kind kind = part.copied != 0 ? Kind::finish : Kind::copy;
        if (part.copied == 0) next.columns[i].data = state.columns[first].data;
        part.copied = 1;
        next.columns[i].set(k, part);
        next.columns[i].complete_in = k & 7;
        emit(next, {kind, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(i), 0}, nullptr);
    }
}

void Model::answer(const State& state, std::uint32_t k, const Emit& emit) const {
    const MemberSet members = written(state, k);
    if (!agree(state, members) || !all_take_orders(state, k, members)) return;
    const std::uint64_t data =
        state.columns[static_cast<std::uint32_t>(std::countr_zero(members.bits()))].data;
    const Truth& truth = state.truth;
    const std::uint32_t number = state.proposers[k].number;
    const std::uint32_t top = state.proposers[truth.top].number;
    std::uint64_t settled = 0;
    for (std::uint32_t j = 0; j <= bounds_.proposals; ++j) {
        if (state.proposers[j].number < top) settled |= std::uint64_t{1} << j;
    }
    const char* broken = nullptr;
    if (number < top) broken = "two answer at once";
    if ((truth.answered & ~data) != 0) broken = "an answer lacks what was answered";
    if (((truth.answered ^ data) & settled) != 0) broken = "an answer is taken back";
    State next = state;
    next.truth.answered = data & 63;
    next.truth.top = k & 7;
    emit(next, {Kind::answer, static_cast<std::uint8_t>(k), 0, 0}, broken);
}

void Model::revise(const State& state, std::uint32_t k, const Emit& emit) const {
    const auto start = [&](State next, Kind kind, Stop stop) {
        Proposer& proposer = next.proposers[k];
        proposer.revising = 1;
        proposer.revision = (proposer.revision + 1) & 7;
        proposer.stop = static_cast<std::uint32_t>(stop) & 3;
        emit(next, {kind, static_cast<std::uint8_t>(k), 0, 0}, nullptr);
    };
    const Proposer& proposer = state.proposers[k];
    if (proposer.is(Stop::marking)) return start(state, Kind::close, Stop::closing);
    if (!proposer.is(Stop::running)) return;
    if (bounds_.clean_stops && agree(state, written(state, k)) &&
        all_take_orders(state, k, parts(state, k, has_part))) {
        start(state, Kind::mark, Stop::marking);
    }
    if (!bounds_.checkpoints || proposer.checkpointed != 0) return;
    State next = state;
    bool any = false;
    for (std::uint32_t i = 0; i != bounds_.members; ++i) {
        Part part = next.columns[i].get<Part>(k);
        part.checkpointed = part.copied;
        any = any || (part.copied != 0 && part.progressed == 0);
        next.columns[i].set(k, part);
    }
    next.proposers[k].checkpointed = 1;
    if (any) start(next, Kind::checkpoint, Stop::running);
}

void Model::put_back(const State& state, const Emit& emit) const {
    const Truth& truth = state.truth;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const Column& column = state.columns[i];
        State next = state;
        if (truth.put == 0) {
            next.columns[i].copied = 1;
            next.truth.put = 1;
            next.truth.copy_promise = column.promise;
            next.truth.copy_held = column.held;
            next.truth.copy_revision = column.revision;
            next.truth.copy_data = column.data;
            emit(next, {Kind::save, 0, static_cast<std::uint8_t>(i), 0}, nullptr);
            continue;
        }
        if (truth.put != 1 || column.copied == 0) continue;
        if (column.promise == truth.copy_promise &&
            column.name() ==
                Name{std::uint8_t(truth.copy_held), std::uint8_t(truth.copy_revision)} &&
            column.data == truth.copy_data) {
            continue;
        }
        const Proposer& newest = state.proposers[truth.newest];
        const bool same = truth.copy_held == truth.newest;
        if (same && !newest.is(Stop::closed) && !bounds_.blind) continue;
        next.truth.put = 2;
        next.columns[i].promise = truth.copy_promise;
        next.columns[i].held = truth.copy_held;
        next.columns[i].revision = truth.copy_revision;
        next.columns[i].data = truth.copy_data;
        // Who rebuilt it has lost it; what a checkpoint says of it stays said.
        const auto under = static_cast<std::uint32_t>(column.complete_in);
        const Proposer& rebuilt = state.proposers[under];
        const bool said = column.get<Part>(under).checkpointed != 0 && rebuilt.revision >= 2 &&
                          (rebuilt.revising == 0 || rebuilt.revision > 2);
        if (!said) next.columns[i].complete_in = 0;
        std::uint32_t begun = 0;
        for (const Proposer& proposer : state.proposers) {
            if (!proposer.is(Phase::idle)) begun = std::max<std::uint32_t>(begun, proposer.number);
        }
        for (std::uint32_t k = 1; k <= bounds_.proposals; ++k) {
            Proposer& proposer = next.proposers[k];
            const bool met = proposer.is(Phase::asking) ? column.get<Asked>(k).reached != 0
                                                        : column.get<Part>(k).takes_part != 0;
            if (met && !proposer.is(Phase::idle)) proposer.over = 1;
            const bool before =
                wrong(Wrong::epochs_come_again) ? k <= truth.begun : proposer.number <= begun;
            if (!bounds_.late && before && proposer.over == 0) proposer.cut = 1;
        }
        emit(next, {Kind::put_back, 0, static_cast<std::uint8_t>(i), 0}, nullptr);
    }
}

// ---- invariants ---------------------------------------------------------------------------------

const char* Model::broken(const State& state) const {
    for (std::uint32_t k = 1; k <= bounds_.proposals; ++k) {
        const MemberSet sync = parts(state, k, has_sync);
        if (state.proposers[k].is(Phase::asking) || !serves(state, k)) continue;
        if (!all_take_orders(state, k, sync)) continue;
        bool all = true;
        for_each(sync, [&](std::uint32_t place) {
            all = all && (state.truth.answered & ~state.columns[place].data) == 0;
        });
        if (!all) return "who serves lacks what was answered on a member that it calls in_sync";
    }
    Answers answers;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        answers.held[i] = state.columns[i].name();
    }
    const std::uint64_t all = MemberSet::first(bounds_.registers()).bits();
    for (std::uint64_t reached = 1; reached <= all; ++reached) {
        answers.reached = MemberSet{reached};
        if (const char* what = broken_start(state, answers); what != nullptr) return what;
    }
    return nullptr;
}

/// What a start would do that reaches these members now, and nobody in its way.
const char* Model::broken_start(const State& state, const Answers& answers) const {
    if (blind(state, answers)) return nullptr;
    Decision decision = decide(state, answers);
    const bool everyone = answers.reached == MemberSet::first(bounds_.registers());
    if (!decision.enough) {
        return everyone && state.truth.put != 2 ? "all members are there, and no start is possible"
                                                : nullptr;
    }
    const std::uint64_t ancestors =
        state.proposers[decision.newest.proposer].ancestors | (1u << decision.newest.proposer);
    if ((state.truth.in_force & ~ancestors) != 0) return "a start passes over what is in force";
    bool all = true;
    const MemberSet sync{decision.counts.bits() | decision.rebuilt.bits()};
    for_each(sync, [&](std::uint32_t place) {
        all = all && (state.truth.answered & ~state.columns[place].data) == 0;
    });
    return all ? nullptr : "a start calls a member in_sync that lacks what was answered";
}

// ---- canonical states ---------------------------------------------------------------------------

void Model::make_canonical(State& state, std::array<std::uint8_t, registers_max>& order) const {
    for (std::uint8_t i = 0; i != registers_max; ++i) order[i] = i;
    const bool forget = !wrong(Wrong::no_promise) && !wrong(Wrong::epochs_come_again) &&
                        !wrong(Wrong::promise_in_memory);
    Truth& truth = state.truth;
    const std::uint32_t registers = bounds_.registers();
    if (truth.put == 2) {
        truth.copy_promise = 0;
        truth.copy_data = 0;
        for (std::uint32_t i = 0; i != registers; ++i) {
            Column& column = state.columns[i];
            if (column.copied == 0) continue;
            if (column.held == truth.copy_held && column.revision == truth.copy_revision) {
                continue;
            }
            if (bounds_.late) column.copied = 0;
            truth.copy_held = truth.copy_revision = 0;
        }
    }
    for (std::uint32_t k = 1; forget && k <= bounds_.proposals; ++k) {
        Proposer& proposer = state.proposers[k];
        std::uint64_t promise = 7;
        bool held = truth.put == 1 && truth.copy_held == k, held_first = held;
        for (std::uint32_t i = 0; i != registers; ++i) {
            const Column& column = state.columns[i];
            promise = std::min<std::uint64_t>(promise, column.promise);
            held = held || column.held == k;
            held_first = held_first || (column.held == k && column.revision == 0);
        }
        // A copy may bring an old promise back.
        if (truth.put == 1) promise = std::min<std::uint64_t>(promise, truth.copy_promise);
        const bool undecided = proposer.is(Phase::idle) || proposer.is(Phase::asking);
        if (promise > proposer.number) proposer.over = 1;
        const bool over = proposer.over != 0;
        if (!undecided && !held_first && (over || !proposer.is(Phase::store))) {
            proposer.known = proposer.known_revision = 0;
        }
        if (!over) continue;
        const bool in_force = ((truth.in_force >> k) & 1) != 0;
        proposer.revising = proposer.cut = 0;
        if (truth.newest != k) {
            proposer.revision = proposer.stop = 0;
            if (proposer.is(Phase::live) || proposer.is(Phase::announce)) {
                proposer.phase = static_cast<std::uint32_t>(Phase::store);
            }
        }
        if (undecided) proposer.phase = 0;
        for (std::uint32_t i = 0; i != registers; ++i) {
            Column& column = state.columns[i];
            Part part = column.get<Part>(k);
            part.done = part.copied = 0;
            if (undecided || !held) part = Part{};
            column.set(k, part);
            if (!held && column.complete_in == k && !wrong(Wrong::resynced_in_another_epoch)) {
                column.complete_in = 0;
            }
        }
        if (!held) proposer.checkpointed = 0;
        if (!held && !undecided && !in_force) {
            proposer.phase = 0;
            proposer.ancestors = 0;
        }
        if (!in_force) {
            for (Proposer& other : state.proposers) other.ancestors &= ~(1u << k) & 63;
        }
    }
    const bool first_alone = bounds_.members == 2 * bounds_.parities && !bounds_.witness;
    for (std::uint32_t i = first_alone ? 2 : 1; i < bounds_.members; ++i) {  // insertion sort
        for (std::uint32_t j = i; j > (first_alone ? 1u : 0u); --j) {
            auto& left = state.columns[j - 1];
            auto& right = state.columns[j];
            if (std::bit_cast<std::uint64_t>(left) <= std::bit_cast<std::uint64_t>(right)) break;
            std::swap(left, right);
            std::swap(order[j - 1], order[j]);
        }
    }
}

// ---- text ---------------------------------------------------------------------------------------

std::string Model::text(Action action) const {
    const auto k = action.proposer;
    const auto m = action.place;
    switch (action.kind) {
        case Kind::begin:
            return fmt::format("p{} begins with one more than m{} knows", k, m);
        case Kind::ask:
            return fmt::format("p{} asks m{}", k, m);
        case Kind::ask_unanswered:
            return fmt::format("p{} asks m{}, the answer is lost", k, m);
        case Kind::ask_and_decide:
            return fmt::format("p{} asks m{}, and decides{}{}", k, m,
                               (action.choice & 64) != 0 ? ", takes the rebuilt in" : "",
                               (action.choice & 63) != 0 ? ", fills up" : "");
        case Kind::store:
            return fmt::format("p{} stores on m{}", k, m);
        case Kind::write:
            return fmt::format("p{} writes to m{}", k, m);
        case Kind::settle:
            return fmt::format("p{} copies to m{} what differs", k, m);
        case Kind::copy:
            return fmt::format("p{} rebuilds m{}", k, m);
        case Kind::finish:
            return fmt::format("p{} ends the rebuild of m{}", k, m);
        case Kind::answer:
            return fmt::format("p{} answers", k);
        case Kind::checkpoint:
            return fmt::format("p{} makes a checkpoint", k);
        case Kind::mark:
            return fmt::format("p{} stops: the clean mark", k);
        case Kind::close:
            return fmt::format("p{} stops: the closing revision", k);
        case Kind::power:
            return fmt::format("m{} loses power", m);
        case Kind::save:
            return fmt::format("m{} is copied", m);
        case Kind::put_back:
            return fmt::format("the copy of m{} is put back", m);
    }
    return "";
}

}  // namespace braid::register_model
