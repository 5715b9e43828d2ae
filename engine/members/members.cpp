// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/members.h"

#include <algorithm>

#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid {

Members::Members(const Geometry& geometry)
    : geometry_(geometry),
      quorum_{.members = geometry.member_count, .parities = geometry.parities()} {
    BRAID_REQUIRE(geometry.member_count != 0);
    BRAID_REQUIRE(geometry.member_count <= members_max);
    for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
        slots_.push_back(std::make_unique<Slot>());
    }
}

StripeState Members::state_of(WindowPlace place, RowMask rows) const {
    BRAID_REQUIRE(raw(place.stripe) < geometry_.stripes);
    StripeState state;
    state.data_count = geometry_.data_count();
    state.parities = geometry_.parities();
    state.parity_true = rows_in_doubt(place, rows) == 0;
    if (BRAID_MUTANT(degraded_trusts_doubt) && lost_ != 0) state.parity_true = true;
    if (lost_ == 0) return state;
    for (std::uint32_t i = 0; i != count(); ++i) {
        const MemberIndex member{i};
        if (!is_live(member, place)) {
            state.lost |= RoleSet::of(geometry_.role_of(place.stripe, member));
        }
    }
    return state;
}

MemberSet Members::in_sync() const {
    MemberSet set;
    for (std::uint32_t i = 0; i != count(); ++i) {
        if (slot(MemberIndex{i}).state == MemberState::in_sync) set.add(MemberIndex{i});
    }
    return set;
}

MemberSet Members::taking_part() const {
    MemberSet set;
    for (std::uint32_t i = 0; i != count(); ++i) {
        if (takes_part(slot(MemberIndex{i}).state)) set.add(MemberIndex{i});
    }
    return set;
}

void Members::set_state(MemberIndex member, MemberState state) {
    Slot& at = slot(member);
    const bool loses = state != MemberState::in_sync && takes_part(at.state);
    if (loses) {
        // One that was being rebuilt is not taken back with what it held.
        const bool is_known = at.state == MemberState::in_sync && !shared_;
        at.kept = is_known ? window_end() : WindowIndex{};
        at.whole = is_known;
        ++loss_version_;
        if (!takes_part(state)) note_leaving(member);
        at.gate.close();
        if (at.drive && !takes_part(state)) at.drive->suspend();
    }
    at.state = state;
    // Whatever else a role is filled with lacks everything.
    const bool is_known = state == MemberState::rebuilding && at.behind;
    if (is_known) ++loss_version_;  // a walk under way has looked at it as at one that is lost
    if (state == MemberState::rebuilding && !is_known) absence_.forget_holder(member);
    if (state == MemberState::in_sync) absence_.forget(member);
    if (!is_known) at.behind.reset();
    if (state == MemberState::in_sync && at.direct) at.gate.open();
    refresh();
}

/// One that was made true in part only is taken for one that misses all that it missed before: that was
/// noted since it left first.
void Members::note_leaving(MemberIndex member) {
    const Slot& at = slot(member);
    const bool is_known = at.state == MemberState::in_sync || (at.behind && absence_.knows(member));
    absence_.leaves(member, is_known ? on_leaving_(member) : std::nullopt);
}

void Members::forget_absence(MemberIndex member) {
    if (!slot(member).behind) absence_.forget(member);
}

void Members::forget_behind(MemberIndex member) {
    Slot& at = slot(member);
    if (!at.behind) return;
    at.behind.reset();
    absence_.forget(member);
}

WindowIndex Members::live_alike(WindowIndex first, WindowIndex end) const {
    BRAID_REQUIRE(first < end);
    for (const auto& at : slots_) {
        if (at->state != MemberState::rebuilding) continue;
        if (first < at->rebuilt) {
            end = std::min(end, at->rebuilt);
        } else if (at->behind) {
            end = at->behind->has(first) ? at->behind->next_out(first, end)
                                         : at->behind->next_in(first, end);
        }
    }
    BRAID_REQUIRE(first < end);
    return end;
}

MemberSet Members::tick() {
    MemberSet late;
    const bool turns = ++ticks_ % Disk::ticks_late == 0;
    for (std::uint32_t i = 0; i != count(); ++i) {
        Slot& at = slot(MemberIndex{i});
        const bool drive_is = at.drive && at.drive->tick();
        const bool readers_are = turns && at.gate.turn();
        if (drive_is || readers_are) late.add(MemberIndex{i});
    }
    return late;
}

void Members::abandon_lost() {
    bool any = false;
    for (const auto& at : slots_) {
        if (takes_part(at->state) || !at->drive) continue;
        at->drive->abandon();
        any = true;
    }
    if (any) note_quiet();
}

bool Members::knows_losses(const Configuration& configuration) const {
    return std::ranges::none_of(configuration.members, [this](const MemberRecord& at) {
        return at.role && takes_part(at.state) && !takes_part(slot(*at.role).state);
    });
}

void Members::set_direct(MemberIndex member, bool allowed) {
    Slot& at = slot(member);
    if (at.direct == allowed) return;
    at.direct = allowed;
    if (at.state != MemberState::in_sync) return;
    if (allowed) {
        at.gate.open();
    } else {
        at.gate.close();
    }
}

void Members::refresh() {
    memory_align_ = 1;
    lost_ = 0;
    for (const auto& at : slots_) {
        if (at->state != MemberState::in_sync) ++lost_;
        if (!at->is_open()) continue;
        memory_align_ = std::max(memory_align_, at->drive->info().memory_align);
    }
}

void Members::note_missed(WindowPlace place, RowMask rows) {
    BRAID_REQUIRE((rows & ~row_range(0, geometry_.window_rows)) == 0);
    while (rows != 0) {
        const auto first = static_cast<std::uint32_t>(std::countr_zero(rows));
        const auto count = static_cast<std::uint32_t>(std::countr_one(rows >> first));
        rows &= ~row_range(first, count);
        missed_.add(geometry_.row_number(place, first), count);
    }
}

}  // namespace braid
