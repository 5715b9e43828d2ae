// SPDX-License-Identifier: BSD-3-Clause
#include "engine/layout/change.h"

#include <algorithm>
#include <utility>

#include "parity/require.h"

namespace braid {
namespace {

MemberRecord& record_of(Configuration& c, MemberIndex member) {
    MemberRecord* record = c.member(member);
    BRAID_REQUIRE(record != nullptr);
    return *record;
}

struct Apply {
    Configuration& c;

    void operator()(const change::Lost& lost) const {
        BRAID_REQUIRE(lost.state == MemberState::faulty || lost.state == MemberState::missing);
        MemberRecord& record = record_of(c, lost.member);
        BRAID_REQUIRE(takes_part(record.state));
        record.state = lost.state;
        record.rebuilt = {};
        record.left = lost.left;
    }
    void operator()(const change::Away& away) const { record_of(c, away.member).left = away.left; }
    void operator()(const change::Removed& removed) const {
        MemberRecord& record = record_of(c, removed.member);
        BRAID_REQUIRE(!takes_part(record.state));
        record.state = MemberState::missing;
        record.path.clear();
    }
    void operator()(const change::SpareAdded& added) const {
        BRAID_REQUIRE(!added.record.role && added.record.state == MemberState::spare);
        BRAID_REQUIRE(c.member(added.record.uuid) == nullptr);
        c.members.push_back(added.record);
    }
    void operator()(const change::SpareRemoved& removed) const {
        std::erase_if(c.members,
                      [&](const MemberRecord& at) { return !at.role && at.uuid == removed.uuid; });
    }
    void fill_role(MemberIndex member, MemberRecord joining) const {
        MemberRecord& record = record_of(c, member);
        BRAID_REQUIRE(!takes_part(record.state));
        joining.role = member;
        joining.state = MemberState::rebuilding;
        joining.rebuilt = {};
        record = std::move(joining);
    }
    void operator()(const change::RoleFilled& filled) const {
        const MemberRecord* spare = c.member(filled.spare);
        BRAID_REQUIRE(spare != nullptr && !spare->role);
        MemberRecord joining = *spare;
        std::erase_if(c.members, [&](const MemberRecord& at) { return at.uuid == filled.spare; });
        fill_role(filled.member, std::move(joining));
    }
    void operator()(const change::RoleTaken& taken) const {
        BRAID_REQUIRE(!taken.record.role && taken.record.state == MemberState::spare);
        BRAID_REQUIRE(c.member(taken.record.uuid) == nullptr);
        fill_role(taken.member, taken.record);
    }
    void operator()(const change::RoleGivenUp& given) const {
        MemberRecord& record = record_of(c, given.member);
        BRAID_REQUIRE(record.state == MemberState::rebuilding);
        BRAID_REQUIRE(c.member(given.spare) == nullptr);
        MemberRecord spare = record;
        spare.uuid = given.spare;
        spare.role.reset();
        spare.state = MemberState::spare;
        spare.rebuilt = {};
        spare.dev_number = given.dev_number;
        MemberRecord empty;
        empty.role = given.member;
        empty.data_offset = record.data_offset;
        empty.size = record.size;
        empty.dev_number = record.dev_number;
        record = std::move(empty);
        c.members.push_back(std::move(spare));
    }
    void operator()(const change::Seen& seen) const {
        MemberRecord* record = c.member(seen.uuid);
        BRAID_REQUIRE(record != nullptr);
        record->path = seen.path;
        record->size = seen.size;
        record->home = seen.home;
    }
    void operator()(const change::RebuiltTo& rebuilt) const {
        MemberRecord& record = record_of(c, rebuilt.member);
        BRAID_REQUIRE(record.state == MemberState::rebuilding);
        record.rebuilt = std::max(record.rebuilt, rebuilt.stripe);
    }
    void operator()(const change::RebuildDone& done) const {
        MemberRecord& record = record_of(c, done.member);
        BRAID_REQUIRE(record.state == MemberState::rebuilding);
        record.state = MemberState::in_sync;
        record.rebuilt = {};
        record.read_errors = 0;
    }
    void operator()(const change::ResyncedTo& resynced) const {
        if (!c.resynced) return;  // everywhere already
        c.resynced =
            resynced.stripe ? std::optional(std::max(*c.resynced, *resynced.stripe)) : std::nullopt;
    }
    void operator()(const change::ScrubAt& at) const { c.scrub = at.scrub; }
    void operator()(const change::BadRows& bad) const { c.bad_rows = bad.ranges; }
    void operator()(const change::Intent& intent) const { c.intent = intent.intent; }
    void operator()(const change::Lineage& begun) const {
        c.lineage = begun.lineage;
        c.tie_breaker = begun.tie_breaker;
        if (begun.without_witness) {
            std::erase_if(c.members,
                          [](const MemberRecord& at) { return at.state == MemberState::witness; });
        }
    }
    void operator()(const change::InUse& use) const { c.in_use = use.in_use; }
    void operator()(const change::ReadError& error) const {
        ++record_of(c, error.member).read_errors;
    }
};

}  // namespace

Configuration apply(Configuration before, const Change& what) {
    std::visit(Apply{before}, what);
    return before;
}

}  // namespace braid
