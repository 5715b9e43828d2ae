// SPDX-License-Identifier: BSD-3-Clause
// What proposers and members of the model do, one step at a time.
#include <algorithm>

#include "tests/engine/register_model.h"

namespace braid::register_model {
namespace {

std::uint32_t number_of_epoch(std::uint64_t epoch) {
    return static_cast<std::uint32_t>(epoch / epochs_per_number - 1);
}

}  // namespace

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
            if (proposer.is(Phase::live) && proposer.revising == 0) catch_up(state, k, emit);
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
    MemberSet in_sync = decision.counts;
    if (take_rebuilt) in_sync |= decision.rebuilt;
    // The witness holds what needs it, and learns of all else afterwards.
    const bool asks_witness = bounds_.witness && !quorum_.is_enough(in_sync, Witness::silent);
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const bool rebuilt = take_rebuilt && decision.rebuilt.has(MemberIndex{i});
        Part part{};
        part.in_sync = decision.counts.has(MemberIndex{i}) || rebuilt;
        part.rebuilding =
            (decision.rebuilding.has(MemberIndex{i}) && !rebuilt) || filled.has(MemberIndex{i});
        part.progressed = part.rebuilding && decision.progressed.has(MemberIndex{i});
        part.copied = part.progressed;
        part.takes_part =
            part.in_sync != 0 || part.rebuilding != 0 ||
            (i == bounds_.members && asks_witness && answers.reached.has(MemberIndex{i}));
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
    p.done(MemberIndex{place});
    if (wrong(Wrong::in_force_at_enough)) {
        const MemberSet done = parts(state, k, [](Part it) { return it.done && it.in_sync; });
        while (p.step() == step && done.size() + bounds_.parities >= bounds_.members) {
            p.done(*p.pending().begin());
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
    state.truth.in_force = (state.truth.in_force | (std::uint64_t{1} << k)) & 63;
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
                 {Kind::even_out, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(place),
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
    std::uint64_t decided = 0;
    for (std::uint32_t j = 0; j <= bounds_.proposals; ++j) {
        if (state.proposers[j].number < top) decided |= std::uint64_t{1} << j;
    }
    const char* broken = nullptr;
    if (number < top) broken = "two answer at once";
    if ((truth.answered & ~data) != 0) broken = "an answer lacks what was answered";
    if (((truth.answered ^ data) & decided) != 0) broken = "an answer is taken back";
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

/// It promises what has not been promised to it, and then stores.
void Model::catch_up(const State& state, std::uint32_t k, const Emit& emit) const {
    if (!bounds_.witness || bounds_.put_back) return;
    const std::uint32_t place = bounds_.members;
    const Proposer& proposer = state.proposers[k];
    const Name name{static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(proposer.revision)};
    MemberRegister before = register_of(state, state.columns[place]);
    State next = state;
    Action action{Kind::catch_up, static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(place),
                  1};
    if (before.may_promise(epoch(state, k))) {
        next.columns[place].promise = proposer.number;
        return emit(next, action, nullptr);
    }
    if (!before.may_store(version(state, name))) return;
    next.columns[place].held = name.proposer & 7;
    next.columns[place].revision = name.revision & 7;
    action.choice = 0;
    emit(next, action, nullptr);
}

void Model::put_back(const State& state, const Emit& emit) const {
    const Truth& truth = state.truth;
    for (std::uint8_t i = 0; i != bounds_.registers(); ++i) {
        const Column& column = state.columns[i];
        if (truth.put == 0) {
            State next = state;
            next.columns[i].copied = 1;
            next.truth.put = 1;
            next.truth.copy_promise = column.promise;
            next.truth.copy_held = column.held;
            next.truth.copy_revision = column.revision;
            next.truth.copy_data = column.data;
            emit(next, {Kind::save, 0, i, 0}, nullptr);
        }
        if (truth.put != 1 || column.copied == 0) continue;
        const Name copy{std::uint8_t(truth.copy_held), std::uint8_t(truth.copy_revision)};
        const bool same = column.promise == truth.copy_promise && column.name() == copy &&
                          column.data == truth.copy_data;
        const bool newest =
            truth.copy_held == truth.newest && !state.proposers[truth.newest].is(Stop::closed);
        if (same || (newest && bounds_.unseen != Unseen::newest_after_a_crash)) continue;
        State next = state;
        next.truth.put = 2;
        next.columns[i].promise = truth.copy_promise;
        next.columns[i].held = truth.copy_held;
        next.columns[i].revision = truth.copy_revision;
        next.columns[i].data = truth.copy_data;
        lose(next, i);
        emit(next, {Kind::put_back, 0, i, 0}, nullptr);
    }
}

/// A register is put back while nobody uses it: who had met it has ended.
void Model::lose(State& state, std::uint32_t place) const {
    Column& column = state.columns[place];
    // Who rebuilt it is gone; what a checkpoint says of it stays said.
    const auto under = static_cast<std::uint32_t>(column.complete_in);
    const Proposer& rebuilder = state.proposers[under];
    const bool said = column.get<Part>(under).checkpointed != 0 && rebuilder.revision >= 2 &&
                      (rebuilder.revising == 0 || rebuilder.revision > 2);
    if (!said) column.complete_in = 0;
    std::uint32_t begun = 0;
    for (const Proposer& proposer : state.proposers) {
        if (!proposer.is(Phase::idle)) begun = std::max<std::uint32_t>(begun, proposer.number);
    }
    for (std::uint32_t k = 1; k <= bounds_.proposals; ++k) {
        Proposer& proposer = state.proposers[k];
        const bool met = proposer.is(Phase::asking) ? column.get<Asked>(k).reached != 0
                                                    : column.get<Part>(k).takes_part != 0;
        if (met && !proposer.is(Phase::idle)) proposer.over = 1;
        const bool before =
            wrong(Wrong::epochs_come_again) ? k <= state.truth.begun : proposer.number <= begun;
        if (!bounds_.late && before && proposer.over == 0) proposer.cut = 1;
    }
}

}  // namespace braid::register_model
