// SPDX-License-Identifier: BSD-3-Clause
// Change: what is to be different in a configuration. A value, so that it can be told, checked and
// sent; apply() makes the configuration that has it. Nobody edits a configuration in place. Pure.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/layout/configuration.h"

namespace braid {
namespace change {

/// The member takes no part any more: `state` is faulty or missing.
struct Lost {
    MemberIndex member{};
    MemberState state{MemberState::faulty};
    EpochRevision left;  // what it held, at least, as it left
};
/// In sync, and not among the disks that were given at a start: `left` is what it held, at least.
struct Away {
    MemberIndex member{};
    EpochRevision left;
};
/// A lost member will not be back: its role is empty.
struct Removed {
    MemberIndex member{};
};
/// A disk without a role, which takes one or waits for one.
struct SpareAdded {
    MemberRecord record;  // role: none; state: spare; its uuid is new
};
struct SpareRemoved {
    Uuid uuid;
};
/// A spare takes the role of a lost member, to be rebuilt from the first stripe on. Who had the
/// role is forgotten.
struct RoleFilled {
    MemberIndex member{};
    Uuid spare;
};
/// The same with a disk that was none.
struct RoleTaken {
    MemberIndex member{};
    MemberRecord record;  // as SpareAdded has it
};
/// The disk that is being rebuilt in the role is a spare again, as another member, lest anything that was
/// said of it before is taken for said of what becomes of it: the role is empty.
struct RoleGivenUp {
    MemberIndex member{};
    Uuid spare;                   // a new one
    std::uint32_t dev_number{0};  // the spare's, which is free
};
/// Where the disk with this uuid was seen, and how large it was.
struct Seen {
    Uuid uuid;
    std::string path;
    std::uint64_t size{0};  // bytes
    std::uint32_t home{0};  // the node that opened it
};
/// Stripes before this one of a member that is being rebuilt are true, durably. Never goes back.
struct RebuiltTo {
    MemberIndex member{};
    StripeIndex stripe{};
};
struct RebuildDone {
    MemberIndex member{};
};
/// Parity is true, durably, before this stripe only; none: everywhere. Never goes back.
struct ResyncedTo {
    std::optional<StripeIndex> stripe;
};
/// How far a scrub is; none: there is none.
struct ScrubAt {
    std::optional<ScrubRecord> scrub;
};
/// The whole list, as check_configuration() wants it.
struct BadRows {
    std::vector<BadRange> ranges;
};
struct Intent {
    IntentSettings intent;
};
/// Started by force: whoever goes on without this start has another history, in which these ties are
/// broken by another member, and a witness that is not here has no say any more.
struct Lineage {
    Uuid lineage;
    MemberIndex tie_breaker{};
    bool without_witness{false};
};
/// Served from now on, or cleanly stopped.
struct InUse {
    bool in_use{false};
};
/// A read of the member failed, and was answered by the others.
struct ReadError {
    MemberIndex member{};
};

}  // namespace change

using Change =
    std::variant<change::Lost, change::Away, change::Removed, change::SpareAdded,
                 change::SpareRemoved, change::RoleFilled, change::RoleTaken, change::RoleGivenUp,
                 change::Seen, change::RebuiltTo, change::RebuildDone, change::ResyncedTo,
                 change::ScrubAt, change::BadRows, change::Intent, change::Lineage, change::InUse,
                 change::ReadError>;

/// The configuration with the change; its version and events stay, they are its writer's. What the
/// change does not fit (a member that is not rebuilding has no progress, a role that is filled
/// takes nobody) is a mistake of the caller's, and ends the process.
Configuration apply(Configuration before, const Change& what);

}  // namespace braid
