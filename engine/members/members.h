// SPDX-License-Identifier: BSD-3-Clause
// Members: the disks behind the roles, and which of them count where. The one place that answers
// "may this strip be read?". Changing a state here is immediate; making it durable is the
// configuration's business (engine/deciding/configuration_writer.h).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/io/task.h"
#include "engine/layout/doubt.h"
#include "engine/layout/geometry.h"
#include "engine/layout/row_set.h"
#include "engine/layout/stripe_state.h"
#include "engine/layout/window_set.h"
#include "engine/members/absence_map.h"
#include "engine/members/direct_read.h"
#include "engine/members/drive.h"
#include "parity/require.h"

namespace braid {

/// Only a RowWrite (engine/stripes) writes to strips: it has the rows, and a mark.
class StripAccess {
    friend class RowWrite;
    StripAccess() {}
};

class Members {
  public:
    struct Slot {
        std::unique_ptr<Drive> drive;  // none: there was no member here; else it may be closed
        DataArea area;
        MemberState state{MemberState::missing};
        WindowIndex rebuilt{};  // rebuilding: windows before this one are true
        std::optional<WindowSet>
            behind;          // rebuilding: those that are not, in memory only; the others
                             // are, behind `rebuilt`, too. None: nobody knows
        WindowIndex kept{};  // lost: its strips of windows before this one are as they
                             // were when it left, where nothing was written since
        bool whole{false};   // lost: nothing was written in its place since it left
        DirectGate gate;
        bool direct{true};  // the gate may be open

        bool is_open() const { return drive && drive->is_open(); }
        Disk* disk() const { return drive ? drive->disk() : nullptr; }
        /// What its disk has not answered.
        std::uint32_t in_flight() const {
            if (!drive) return 0;
            const std::uint32_t of_disk = drive->disk() != nullptr ? drive->disk()->in_flight() : 0;
            return std::max(drive->in_flight(), of_disk);
        }
    };

    explicit Members(const Geometry& geometry);

    Slot& slot(MemberIndex member) {
        BRAID_REQUIRE(raw(member) < slots_.size());
        return *slots_[raw(member)];
    }
    const Slot& slot(MemberIndex member) const {
        BRAID_REQUIRE(raw(member) < slots_.size());
        return *slots_[raw(member)];
    }
    std::uint32_t count() const { return static_cast<std::uint32_t>(slots_.size()); }

    /// The number of a window in the whole array, in the order in which members are walked.
    WindowIndex window_number(WindowPlace place) const { return geometry_.window_number(place); }
    WindowPlace window_place(WindowIndex window) const { return geometry_.window_place(window); }
    WindowIndex window_end() const { return geometry_.window_end(); }

    bool is_live(MemberIndex member, WindowPlace place) const {
        const Slot& at = slot(member);
        if (at.state != MemberState::rebuilding) return at.state == MemberState::in_sync;
        const WindowIndex window = window_number(place);
        return window < at.rebuilt || (at.behind && !at.behind->has(window));
    }
    /// In all of these windows.
    bool is_live(MemberIndex member, WindowRange windows) const {
        const Slot& at = slot(member);
        if (at.state != MemberState::rebuilding) return at.state == MemberState::in_sync;
        const WindowIndex open = std::max(windows.begin, at.rebuilt);
        return windows.end <= at.rebuilt ||
               (at.behind && at.behind->next_in(open, windows.end) == windows.end);
    }
    /// Windows [first, …) are live on the same members as `first`, up to the one that is given back, or
    /// `end`.
    WindowIndex live_alike(WindowIndex first, WindowIndex end) const;
    /// Which roles are lost in a window, and whether the parity of all these rows is true.
    StripeState state_of(WindowPlace place, RowMask rows) const;
    StripeState state_of(WindowPlace place) const {
        return state_of(place, row_range(0, geometry_.window_rows));
    }
    /// Which of `rows` are in doubt.
    RowMask rows_in_doubt(WindowPlace place, RowMask rows) const {
        return doubt_.empty() ? 0 : doubt_.rows_of(window_number(place), rows);
    }
    /// Their parity was computed from all data strips, and written.
    void rows_true(WindowPlace place, RowMask rows) {
        if (doubt_.empty()) return;  // mostly
        BRAID_REQUIRE((rows & ~row_range(0, geometry_.window_rows)) == 0);
        const WindowIndex window = window_number(place);
        if (doubt_.remove_rows(window, rows, row_range(0, geometry_.window_rows))) return;
        forget_kept(window);
    }
    /// Rows of these strips are written, where their members are live, and in the place of those
    /// that lost members had.
    void note_written(WindowPlace place, RowMask rows, RoleSet roles) {
        if (lost_ == 0) return;  // mostly
        for (const Role role : roles) {
            const MemberIndex member = geometry_.member_of(place.stripe, role);
            if (is_live(member, place)) continue;
            slot(member).whole = false;
            if (loss_version_ != loss_version_durable_) note_missed(place, rows);
        }
    }
    void note_written_by_zeroes(WindowRange zeroed) {
        for (WindowIndex at = zeroed.begin; at != zeroed.end; ++at) {
            note_written(window_place(at), row_range(0, geometry_.window_rows),
                         geometry_.data_roles());
        }
    }
    /// Some of these rows were written in the place of a lost member, and no durable configuration
    /// knows of its loss. The next start may take the member for one in sync, and answer with what
    /// it holds: whoever computes its strip from the others keeps that to himself until then. What
    /// was not written since it left it holds as it is computed.
    bool has_missed(WindowPlace place, RowMask rows) const {
        if (missed_.empty() || rows == 0) return false;  // mostly
        const auto first = static_cast<std::uint32_t>(std::countr_zero(rows));
        const auto past = static_cast<std::uint32_t>(std::bit_width(rows));
        return missed_.overlaps(geometry_.row_number(place, first), past - first);
    }
    /// Their parity may not be true any more.
    void rows_doubtful(WindowPlace place, RowMask rows) {
        BRAID_REQUIRE((rows & ~row_range(0, geometry_.window_rows)) == 0);
        const WindowIndex window = window_number(place);
        if (doubt_.add_rows(window, rows, row_range(0, geometry_.window_rows))) return;
        forget_kept(window);
    }

    /// The members in sync are enough for a configuration to hold (engine/layout/register.h); and
    /// they would be so without this one.
    /// In sync, or being rebuilt, as it is here now.
    MemberSet taking_part() const;
    const Quorum& quorum() const { return quorum_; }
    void set_quorum(const Quorum& quorum) {
        BRAID_REQUIRE(quorum.members == count() && quorum.parities == geometry_.parities());
        quorum_ = quorum;
    }
    /// What the witness is expected to say if it is asked: where there is one, and it can be reached
    /// as far as this node knows. Whether it does so a proposal shows.
    Witness witness() const { return witness_; }
    void set_witness(Witness expected) { witness_ = expected; }
    bool is_enough() const { return is_enough_without(MemberSet{}); }
    bool is_enough_without(MemberIndex member) const {
        return is_enough_without(MemberSet::of(member));
    }
    bool is_enough_without(MemberSet members) const { return is_enough_without(members, witness_); }
    bool is_enough_without(MemberSet members, Witness expected) const {
        const MemberSet left = in_sync() - members;
        const bool all_are_left = !in_force_.empty() && left.has_all(in_force_);  // break_ties()
        return quorum_.is_enough(left, all_are_left ? Witness::promised : expected);
    }
    /// Whether the level cannot do without the member.
    bool is_needed(MemberIndex member) const {
        return slot(member).state == MemberState::in_sync &&
               (lost_ >= geometry_.parities() || !is_enough_without(member));
    }
    /// In sync, by what is in force.
    void set_in_force(MemberSet in_sync) { in_force_ = in_sync; }
    MemberSet in_force() const { return in_force_; }

    void set_state(MemberIndex member, MemberState state);
    /// In sync, and not here: nothing was written in its place since it left.
    void note_away(MemberIndex member) {
        if (shared_) return;
        slot(member).kept = window_end();
        slot(member).whole = true;
    }
    // What members miss that are away (AbsenceMap).
    const AbsenceMap& absence() const { return absence_; }
    /// Asked as a member leaves that counts until then. None: what it will miss cannot be told.
    using OnLeaving = std::function<std::optional<AbsenceMap::Left>(MemberIndex)>;
    void set_on_leaving(OnLeaving on_leaving) { on_leaving_ = std::move(on_leaving); }
    /// It is away, and this node has just begun: what it writes itself it knows from now on.
    void note_absent(MemberIndex member, AbsenceMap::Left how) {
        absence_.leaves(member, std::move(how));
    }
    /// These windows are being changed, on all members that are live there.
    void note_changed(WindowRange windows) { absence_.note(windows); }
    /// Of this window nothing but strips of `roles`.
    void note_changed(WindowIndex window, RoleSet roles) {
        if (!absence_.on()) return;
        const StripeIndex stripe = window_place(window).stripe;
        const auto misses = [&](MemberIndex member) {
            return roles.has(geometry_.role_of(stripe, member));
        };
        absence_.note_for(misses, {window, window + 1});
    }
    /// What a member misses that is away is not known any more; but of one that is just coming back it is:
    /// that all nodes have noted.
    void forget_absence(MemberIndex member);
    /// Another disk has had the role of a lost member since. (AbsenceMap::displace())
    void displace(MemberIndex member, const AbsenceMap::Displaced& former) {
        if (!slot(member).behind) absence_.displace(member, former);
    }
    /// This node begins, where others have gone on: the role is empty, or another disk is rebuilt in it.
    void begin_absence(MemberIndex member, bool is_displaced) {
        absence_.begin(member, is_displaced);
    }
    /// A lost member comes back that misses these windows: whatever is done from now on counts it in
    /// all others, when its role is filled.
    void set_behind(MemberIndex member, WindowSet windows) {
        BRAID_REQUIRE(!takes_part(slot(member).state));
        absence_.returned(member);
        absence_.note(member, windows);  // of other nodes, too
        slot(member).behind = std::move(windows);
    }
    /// Nothing counts of it behind its checkpoint; while nobody writes, on any node.
    void forget_behind(MemberIndex member);
    /// More that it misses, before it has its role.
    bool add_behind(MemberIndex member, const WindowSet& windows) {
        auto& behind = slot(member).behind;
        absence_.note(member, windows);
        return behind && behind->add(windows);
    }

    /// Other nodes write, too: what a lost member has nobody here knows.
    void set_shared() { shared_ = true; }
    bool is_shared() const { return shared_; }
    /// Whether clients' threads may read the member past the loop; only while it is in sync.
    void set_direct(MemberIndex member, bool allowed);
    /// Which losses there were: another number whenever a member that was live may no longer be read.
    std::uint64_t loss_version() const { return loss_version_; }
    /// The configuration counts on no member that is lost here: it knows of all these losses. Where a
    /// member's home is another node, what was asked of the member may tell of its loss before the
    /// home does.
    bool knows_losses(const Configuration& configuration) const;
    /// The newest that a durable configuration knows.
    std::uint64_t loss_version_durable() const { return loss_version_durable_; }
    void set_loss_version_durable(std::uint64_t version) {
        BRAID_REQUIRE(version <= loss_version_);
        loss_version_durable_ = version;
        if (loss_version_ == loss_version_durable_) missed_.clear();
    }
    /// Rows left the list, no durable configuration says so yet, and nobody waits for it any more.
    /// What is written from now on may lie there, and waits for that, as for losses: else the next
    /// start would answer it with an error.
    void set_owing(bool owing) { owing_ = owing; }
    bool owes() const { return owing_ || loss_version_ != loss_version_durable_; }
    /// More members are lost than the level allows: nothing may be written any more.
    bool failed() const { return lost_ > geometry_.parities() || halted_; }
    /// Going on would mean guessing: as if it had failed.
    void halt() { halted_ = true; }
    std::uint32_t lost() const { return lost_; }

    Doubt& doubt() { return doubt_; }
    const Doubt& doubt() const { return doubt_; }

    /// Where a row of the window lies on the member's device.
    DeviceOffset device_offset(MemberIndex member, WindowPlace place, std::uint32_t row) const {
        BRAID_REQUIRE(raw(place.stripe) < geometry_.stripes);
        return slot(member).area.on_device(geometry_.row_offset(place, row));
    }
    /// Operations on members; `finish` each of them when the group was waited for. This one reads,
    /// or flushes.
    void submit(MemberIndex member, DiskGroup& group, DriveOp& op) {
        BRAID_REQUIRE(op.kind == DiskOpKind::read || op.kind == DiskOpKind::flush);
        slot(member).drive->submit(group, op);
    }
    /// Writes to strips, and zeroes: for RowWrite only.
    void write(StripAccess, MemberIndex member, DiskGroup& group, DriveOp& op) {
        BRAID_REQUIRE(op.kind == DiskOpKind::write || op.kind == DiskOpKind::zero);
        slot(member).drive->submit(group, op);
    }
    /// A record of the write intent, in front of all strips.
    void write_record(MemberIndex member, DiskGroup& group, DriveOp& op) {
        BRAID_REQUIRE(op.kind == DiskOpKind::write);
        BRAID_REQUIRE(op.offset() + op.size <= slot(member).area.begin);
        op.is_record = true;
        slot(member).drive->submit(group, op);
    }
    /// A member that its home has suspended is lost here, too, from now on; its home tells who
    /// decides. On a node that is alone it is lost already.
    void finish(MemberIndex member, DriveOp& op) {
        Drive& drive = *slot(member).drive;
        drive.finish(op);
        const bool suspended = op.result.outcome == DriveOutcome::lost;
        if (suspended && takes_part(slot(member).state)) set_state(member, MemberState::faulty);
        if (drive.in_flight() == 0) note_quiet();
    }
    /// Set when nothing is under way on some member any more: whoever wants to close a disk waits
    /// for it and looks again. Costs nothing while nobody waits.
    Event& quiet() const { return quiet_; }
    void note_quiet() const {
        if (!quiet_.is_set()) quiet_.set();
    }
    /// A new tick begins (Disk::tick()): those that have left something unanswered for
    /// Disk::ticks_late of them or more, as far as their disks are this node's.
    MemberSet tick();
    /// After tick(): who waits for the disk of a lost member, and need not, goes on.
    void abandon_lost();
    /// The strictest of the open disks.
    std::uint32_t memory_align() const { return memory_align_; }
    void refresh();  // after a disk was put in or taken out

  private:
    void note_missed(WindowPlace place, RowMask rows);
    void note_leaving(MemberIndex member);
    /// Rows of the window are in doubt that were written since lost members left.
    void forget_kept(WindowIndex window) {
        for (const auto& at : slots_) at->kept = std::min(at->kept, window);
    }
    MemberSet in_sync() const;

    const Geometry& geometry_;
    std::vector<std::unique_ptr<Slot>> slots_;
    std::uint64_t loss_version_{0};
    std::uint64_t loss_version_durable_{0};
    bool owing_{false};
    bool shared_{false};
    std::uint32_t lost_{0};  // roles that are not in_sync
    bool halted_{false};
    Doubt doubt_;
    RowSet missed_;  // written without a member whose loss is not durable
    AbsenceMap absence_;
    Quorum quorum_;
    Witness witness_{Witness::silent};
    MemberSet in_force_;
    OnLeaving on_leaving_{[](MemberIndex) { return std::nullopt; }};
    std::uint32_t memory_align_{1};
    std::uint64_t ticks_{0};
    mutable Event quiet_;  // who waits changes nothing
};

}  // namespace braid
