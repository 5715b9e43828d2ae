// SPDX-License-Identifier: BSD-3-Clause
// What must hold in each state of the model, and which states are alike.
#include <algorithm>

#include "tests/engine/register_model.h"

namespace braid::register_model {

const char* Model::broken(const State& before, const State& after, Action action) const {
    if (action.kind == Kind::put_back || action.kind == Kind::power) return nullptr;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const MemberRegister was = register_of(before, before.columns[i]);
        const MemberRegister is = register_of(after, after.columns[i]);
        if (is.promise < was.promise) return "a promise falls";
        if (is.held < was.held) return "a member goes back to an older configuration";
    }
    return nullptr;
}

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
    return nullptr;
}

State Model::held(const State& state) const {
    State left = state;
    Truth& truth = left.truth;
    truth.top = truth.newest = truth.begun = 0;
    if (truth.put != 2) truth = {.answered = truth.answered, .in_force = truth.in_force};
    std::uint64_t mask = 0;
    for (const Column& column : state.columns) {
        mask |= std::uint64_t{0x7f} << (column.held * part_bits);
    }
    Part of_content{};
    of_content.in_sync = of_content.rebuilding = 1;
    of_content.progressed = of_content.checkpointed = 1;
    Column contents;
    for (std::uint32_t k = 0; k != proposers_max; ++k) contents.set(k, of_content);
    for (Column& column : left.columns) {
        column.promise = 0;
        column.parts &= mask & contents.parts & ((std::uint64_t{1} << 42) - 1);
        if (truth.put != 2) column.copied = 0;
    }
    for (std::uint32_t k = 0; k != proposers_max; ++k) {
        const Proposer& proposer = state.proposers[k];
        Proposer content;
        content.number = proposer.number;
        if (((mask >> (k * part_bits)) & 1) != 0) {
            content.checkpointed = proposer.checkpointed;
            content.ancestors = proposer.ancestors;
            content.known = proposer.known;
            content.known_revision = proposer.known_revision;
        }
        left.proposers[k] = content;
    }
    return left;
}

const char* Model::broken_starts(const State& state) const {
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

void Model::make_canonical(State& state, std::array<std::uint8_t, registers_max>& order) const {
    if (state.truth.put == 2) forget_copy(state);
    const bool forgets = !wrong(Wrong::no_promise) && !wrong(Wrong::epochs_come_again) &&
                         !wrong(Wrong::promise_in_memory);
    for (std::uint32_t k = 1; forgets && k <= bounds_.proposals; ++k) forget(state, k);
    for (std::uint8_t i = 0; i != registers_max; ++i) order[i] = i;
    // The tie-breaker is unlike the others; a witness is not among them.
    const bool first_alone = bounds_.members == 2 * bounds_.parities && !bounds_.witness;
    const std::uint32_t first = first_alone ? 1 : 0;
    for (std::uint32_t i = first + 1; i < bounds_.members; ++i) {  // insertion sort
        for (std::uint32_t j = i; j > first; --j) {
            auto& left = state.columns[j - 1];
            auto& right = state.columns[j];
            if (std::bit_cast<std::uint64_t>(left) <= std::bit_cast<std::uint64_t>(right)) break;
            std::swap(left, right);
            std::swap(order[j - 1], order[j]);
        }
    }
}

/// Of a copy that was put back matters only whether its register is still as it was then.
void Model::forget_copy(State& state) const {
    Truth& truth = state.truth;
    truth.copy_promise = 0;
    truth.copy_data = 0;
    for (Column& column : state.columns) {
        if (column.copied == 0) continue;
        if (column.held == truth.copy_held && column.revision == truth.copy_revision) continue;
        if (bounds_.late) column.copied = 0;
        truth.copy_held = truth.copy_revision = 0;
    }
}

/// A proposer whom no register obeys any more, nor will, leaves what is held of it.
void Model::forget(State& state, std::uint32_t k) const {
    Truth& truth = state.truth;
    Proposer& proposer = state.proposers[k];
    // A copy may bring an old promise back, and an old configuration.
    std::uint64_t promise = truth.put == 1 ? truth.copy_promise : 7;
    bool held = truth.put == 1 && truth.copy_held == k, held_first = held;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        const Column& column = state.columns[i];
        promise = std::min<std::uint64_t>(promise, column.promise);
        held = held || column.held == k;
        held_first = held_first || (column.held == k && column.revision == 0);
    }
    if (promise > proposer.number) proposer.over = 1;
    const bool decided = !proposer.is(Phase::idle) && !proposer.is(Phase::asking);
    if (decided && !held_first && (proposer.over != 0 || !proposer.is(Phase::store))) {
        proposer.known = proposer.known_revision = 0;
    }
    if (proposer.over != 0) forget_over(state, k, decided && held);
}

void Model::forget_over(State& state, std::uint32_t k, bool held) const {
    Proposer& proposer = state.proposers[k];
    const bool in_force = ((state.truth.in_force >> k) & 1) != 0;
    proposer.revising = proposer.cut = 0;
    if (state.truth.newest != k) proposer.revision = proposer.stop = 0;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        Column& column = state.columns[i];
        Part part = column.get<Part>(k);
        part.done = part.copied = 0;
        column.set(k, held ? part : Part{});
        if (!held && column.complete_in == k && !wrong(Wrong::resynced_in_another_epoch)) {
            column.complete_in = 0;
        }
    }
    if (!held) proposer.checkpointed = 0;
    if (!held && !in_force) proposer.ancestors = 0;
    proposer.phase = static_cast<std::uint32_t>(held || in_force ? Phase::store : Phase::idle) & 7;
    if (in_force) return;
    const std::uint32_t others = 63u - (1u << k);
    for (Proposer& other : state.proposers) other.ancestors = (other.ancestors & others) & 63;
}

}  // namespace braid::register_model
