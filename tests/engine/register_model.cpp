// SPDX-License-Identifier: BSD-3-Clause
// The model's first state, what the rules see of a state, and texts.
#include "tests/engine/register_model.h"

#include <fmt/format.h>

#include <algorithm>

namespace braid::register_model {
namespace {

/// Epoch of the proposer with this number: each was begun a second after the one before.
std::uint64_t epoch_of_number(std::uint64_t number) { return next_epoch(0, number, 0); }

}  // namespace

Model::Model(const Bounds& bounds)
    : bounds_(bounds), quorum_{bounds.members, bounds.parities, bounds.witness} {
    BRAID_REQUIRE(bounds.registers() <= registers_max);
    BRAID_REQUIRE(bounds.proposals < proposers_max);
    for (std::uint64_t i = 0; i != epochs_.size(); ++i) epochs_[i] = epoch_of_number(i);
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

std::uint64_t Model::epoch(const State& state, std::uint32_t proposer) const {
    return epochs_[state.proposers[proposer].number];
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
    return {epochs_[column.promise], version(state, column.name())};
}

MemberSet Model::parts(const State& state, std::uint32_t proposer, bool (*has)(Part)) const {
    MemberSet set;
    for (std::uint32_t i = 0; i != bounds_.registers(); ++i) {
        if (has(state.columns[i].get<Part>(proposer))) set.add(MemberIndex{i});
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
        if (standing == Standing::counts) to.counts.add(MemberIndex{place});
        if (standing == Standing::stale || standing == Standing::none)
            to.others.add(MemberIndex{place});
        if (standing != Standing::rebuilding) return;
        to.rebuilding.add(MemberIndex{place});
        if (answer.part == MemberAnswer::Part::rebuilding) to.progressed.add(MemberIndex{place});
        const std::uint32_t under = static_cast<std::uint32_t>(state.columns[place].complete_in);
        std::uint64_t complete = under == 0 ? 0 : epoch(state, under);
        if (under != 0 && wrong(Wrong::resynced_in_another_epoch)) complete = newest.epoch;
        if (may_become_in_sync(newest, known, complete)) to.rebuilt.add(MemberIndex{place});
    });
    to.enough = quorum_.is_enough(to.counts, Witness{breaks_ties(state, answers, to)});
    if (wrong(Wrong::enough_of_who_is_left)) {
        const std::uint32_t left = parts(state, to.newest.proposer, has_sync).size();
        to.enough = !to.counts.empty() && to.counts.size() + bounds_.parities >= left;
    }
    if (wrong(Wrong::more_than_half)) {
        to.enough = to.counts.size() * 2 > parts(state, to.newest.proposer, has_sync).size();
    }
    return to;
}

/// The witness does, or that all are there that what is in force calls in_sync: nobody goes on
/// without them.
bool Model::breaks_ties(const State& state, const Answers& answers, const Decision& to) const {
    if (!bounds_.witness) return false;
    if (answers.reached.has(MemberIndex{bounds_.members})) return true;
    const EpochRevision newest = version(state, to.newest);
    const bool trusts = wrong(Wrong::unforced_breaks_ties);
    return break_ties(to.counts, parts(state, to.newest.proposer, has_sync), newest,
                      trusts ? newest : version(state, to.known));
}

bool Model::blind(const State& state, const Answers& answers) const {
    const Truth& truth = state.truth;
    if (truth.put != 2 || bounds_.unseen == Unseen::who_knows_is_away) return false;
    const Name copy{std::uint8_t(truth.copy_held), std::uint8_t(truth.copy_revision)};
    std::uint32_t newest = 0;
    for (std::uint32_t k = 0; k <= bounds_.proposals; ++k) {
        if (((truth.in_force >> k) & 1) == 0) continue;
        newest = std::max<std::uint32_t>(newest, state.proposers[k].number);
    }
    if (bounds_.late &&
        bounds_.unseen != Unseen::older_comes_late) {  // they know what is the newest of all
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
        const bool there = answers.reached.has(MemberIndex{i});
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
        answers.reached.add(MemberIndex{i});
        answers.held[i] = {asked.held, asked.revision};
    }
    return answers;
}

Proposal Model::proposal(const State& state, std::uint32_t k) const {
    const Proposer& proposer = state.proposers[k];
    const MemberSet members = parts(state, k, has_part);
    const MemberSet done = parts(state, k, [](Part part) { return part.done != 0; });
    const auto all = [&](Proposal& p) {
        for_each(members, [&](std::uint32_t m) { p.done(MemberIndex{m}); });
    };
    const auto some = [&](Proposal& p) {
        for_each(done, [&](std::uint32_t m) { p.done(MemberIndex{m}); });
    };
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
        case Kind::even_out:
            return fmt::format("p{} copies to m{} what differs", k, m);
        case Kind::copy:
            return fmt::format("p{} rebuilds m{}", k, m);
        case Kind::finish:
            return fmt::format("p{} ends the rebuild of m{}", k, m);
        case Kind::answer:
            return fmt::format("p{} answers", k);
        case Kind::checkpoint:
            return fmt::format("p{} makes a checkpoint", k);
        case Kind::catch_up:
            return fmt::format("p{} lets the witness{} catch up", k,
                               action.choice != 0 ? " promise, to" : "");
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
