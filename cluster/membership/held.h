// SPDX-License-Identifier: BSD-3-Clause
// What members hold, as the nodes that hear each other read it while the one who decides is silent:
// whether these members are enough by what is in force, or by what the next one to decide would take
// over. Pure, and nothing is promised by it: whoever comes to decide asks again, and binds them.
//
// What holds is the register's (engine/layout/register.h). A configuration is known to be in force where
// any member holds one that says so, or that its epoch is.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "engine/layout/configuration.h"

namespace braid::cluster {

/// The newest configuration that a member holds.
struct HeldByMember {
    Uuid member;
    EpochRevision version;
    EpochRevision in_force;
    bool operator==(const HeldByMember&) const = default;
};

struct HeldByMembers {
    std::vector<HeldByMember> members;
    std::optional<Configuration> newest;  // of what they hold

    void take(const Configuration& held) {
        if (!newest || held.version > newest->version) newest = held;
    }
};

/// By what the members are to be enough.
enum class HeldCounts : std::uint8_t {
    in_force,  // the newest configuration only if its epoch is known to be in force
    newest,    // it, as whoever comes to decide takes it over, in force or not
};

/// Whether these members would be enough.
inline bool are_enough(const HeldByMembers& held, HeldCounts counts) {
    if (!held.newest) return false;
    const Configuration& newest = *held.newest;
    EpochRevision in_force = newest.in_force;
    for (const HeldByMember& one : held.members) in_force = std::max(in_force, one.in_force);
    if (counts == HeldCounts::in_force && in_force.epoch != newest.version.epoch) return false;
    MemberSet current;
    for (const HeldByMember& one : held.members) {
        const MemberRecord* const record = newest.member(one.member);
        const bool is_current = record != nullptr && record->role &&
                                record->state == MemberState::in_sync && one.version >= in_force;
        if (is_current) current.add(*record->role);
    }
    const MemberRecord* const witness = newest.witness();
    const bool is_witnessed =
        witness != nullptr && std::ranges::any_of(held.members, [&](const auto& one) {
            return one.member == witness->uuid;
        });
    const bool all = break_ties(current, newest.in_sync(), newest.version, in_force);
    return newest.quorum().is_enough(
        current, is_witnessed || (witness != nullptr && all) ? Witness::promised : Witness::silent);
}

}  // namespace braid::cluster
