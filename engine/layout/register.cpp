// SPDX-License-Identifier: BSD-3-Clause
#include "engine/layout/register.h"

#include <fmt/format.h>

#include <algorithm>

namespace braid {

std::string EpochRevision::text() const {
    return revision == 0 ? fmt::format("epoch {}", epoch)
                         : fmt::format("epoch {}, revision {}", epoch, revision);
}

std::uint64_t next_epoch(std::uint64_t highest, std::uint64_t wall_seconds, std::uint32_t node) {
    BRAID_REQUIRE(node < nodes_max);
    if (BRAID_MUTANT(epochs_come_again)) wall_seconds = 0;
    const std::uint64_t number = std::max(highest / epochs_per_number, wall_seconds) + 1;
    const std::uint64_t epoch = number * epochs_per_number + node;
    BRAID_REQUIRE(epoch > highest);
    return epoch;
}

bool Quorum::is_enough(MemberSet in_sync, Witness said) const {
    BRAID_REQUIRE(members >= 2 * parities);
    BRAID_REQUIRE(MemberSet::first(members).has_all(in_sync));
    const std::uint32_t needed = members - parities;
    if (members > 2 * parities || in_sync.size() != needed) return in_sync.size() >= needed;
    return witness ? said == Witness::promised : in_sync.has(tie_breaker);
}

bool break_ties(MemberSet counted, MemberSet in_sync, EpochRevision newest,
                EpochRevision in_force) {
    const bool is_in_force = newest.epoch == in_force.epoch || BRAID_MUTANT(unforced_breaks_ties);
    return is_in_force && counted.has_all(in_sync);
}

Standing standing_of(const MemberAnswer& answer, EpochRevision in_force) {
    if (answer.part == MemberAnswer::Part::none) return Standing::none;
    if (answer.part == MemberAnswer::Part::fresh) return Standing::rebuilding;
    const bool counts_anyway =
        BRAID_MUTANT(resynced_in_another_epoch) && answer.part == MemberAnswer::Part::rebuilding;
    if (answer.held < in_force && !counts_anyway) return Standing::stale;
    return answer.part == MemberAnswer::Part::in_sync ? Standing::counts : Standing::rebuilding;
}

bool may_become_in_sync(EpochRevision newest, EpochRevision in_force, std::uint64_t complete_in) {
    return complete_in == newest.epoch && in_force.epoch == newest.epoch;
}

Proposal Proposal::of_epoch(std::uint64_t epoch, MemberSet members, EpochRevision known) {
    BRAID_REQUIRE(epoch > known.epoch);
    Proposal proposal;
    proposal.version_ = {epoch, 0};
    proposal.known_ = known;
    proposal.members_ = proposal.pending_ = members;
    return proposal;
}

Proposal Proposal::of_revision(EpochRevision known, MemberSet members) {
    BRAID_REQUIRE(known.epoch != 0);
    Proposal proposal;
    proposal.step_ = Step::store;
    proposal.new_epoch_ = false;
    proposal.version_ = {known.epoch, known.revision + 1};
    proposal.known_ = known;
    proposal.members_ = proposal.pending_ = members;
    return proposal;
}

void Proposal::done(MemberIndex member) {
    if (step_ == Step::failed) return;
    BRAID_REQUIRE(pending_.has(member));
    pending_.remove(member);
    if (pending_.empty()) next_step();
}

void Proposal::failed(MemberIndex member) {
    BRAID_REQUIRE(members_.has(member));
    step_ = Step::failed;
    pending_ = {};
}

void Proposal::next_step() {
    switch (step_) {
        case Step::promise:
            step_ = Step::store;
            break;
        case Step::store:
            known_ = version_;
            if (!new_epoch_) {
                step_ = Step::in_force;
                return;
            }
            step_ = Step::announce;
            ++version_.revision;
            break;
        case Step::announce:
            known_ = version_;
            step_ = Step::in_force;
            return;
        case Step::in_force:
        case Step::failed:
            BRAID_REQUIRE(false);
    }
    pending_ = members_;
}

}  // namespace braid
