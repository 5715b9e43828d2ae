// SPDX-License-Identifier: BSD-3-Clause
// ServingNode: what the one who decides tells every node that serves clients. On one node a call;
// in a cluster a message. The other way goes decider.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "engine/base/result.h"
#include "engine/decider.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/window_set.h"

namespace braid {

/// Marks of the write intent that are left from before the last start.
struct MarksLeft {
    bool any{false};
    std::uint64_t stripes{0};
};

/// The disk of a member that comes back, with rows that it alone has.
struct ReturningDisk {
    MemberIndex member{};
    Disk* disk{nullptr};
    DataArea area;  // on it
};

/// The disk of a member that was away, as it lies: what it says of when it left.
struct ReturningMember {
    MemberIndex member{};
    WindowSet marked;                                  // by its records of the write intent
    std::map<std::uint32_t, std::uint64_t> records{};  // the newest generation of each node's
    bool was_in_sync{true};                            // as it left
    std::optional<Uuid> displaced{};  // which one it was, where another disk has had its role since
};

class ServingNode {
  public:
    virtual ~ServingNode() = default;

    /// What is wanted from now on, though no member may hold it yet. States of members, what may be
    /// read past the loop, and the rows that cannot be known follow from it; but for a loss, which
    /// member_lost() has told before, and how far a walk is in memory, which is ahead of it.
    virtual void adopt(const Configuration& wanted) = 0;
    /// Every node works by what was last adopted. An error: one has gone, and nothing counts any
    /// more.
    virtual Task<Result<void>> adopted() = 0;
    /// A member is out of use at once, before any configuration says so. A failed array has none
    /// that will.
    virtual void member_lost(MemberIndex member, MemberState state) = 0;
    /// Every member holds it, and all nodes have adopted it or a newer one; it knows of these losses.
    virtual void in_force(const Configuration& now, std::uint64_t loss_version) = 0;
    /// Members::set_witness().
    virtual void expect_of_witness(Witness expected) = 0;
    /// Members::set_owing().
    virtual void set_owing(bool owing) = 0;
    /// Nothing is written any more: going on would mean guessing.
    virtual void halt() = 0;
    /// Nobody waits any more for what cannot come.
    virtual void array_failed() = 0;

    /// The node that has opened the disk is there: else nobody can be given it.
    virtual bool is_there(const Disk& disk) const = 0;
    /// That node.
    virtual std::uint32_t home_of(const Disk& disk) const = 0;
    /// Whoever does the I/O of a disk gets ready for it to have this role, which nobody has; attach()
    /// may follow.
    virtual Task<Result<void>> prepare(MemberIndex member, const Disk& disk, DataArea area) = 0;
    /// The disk of a role is open, or was: whoever does not keep what detach() gives closes it. Nothing
    /// of it is under way.
    virtual void attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) = 0;
    virtual std::unique_ptr<Disk> detach(MemberIndex member) = 0;

    /// A lost member is about to get its role back, and to be made true only where it missed something.
    /// From the answer on until end_return() nobody writes without knowing that; before the caller gives
    /// up the loop it attaches the disk, and fills the role. Gives how many windows it misses. Refused:
    /// that is not known, and it is to be rebuilt whole; RefusalCode::busy: it is not a good moment.
    virtual Task<Checked<std::uint64_t>> begin_return(ReturningMember back) = 0;
    /// How many it misses now. It may be more as it comes back, but nothing stops for the question.
    virtual Task<Checked<std::uint64_t>> windows_missed(ReturningMember back) = 0;
    /// It has its role, durably; or not.
    virtual void end_return() = 0;

    /// Parity of these windows may not be true; or all of it counts as true, whatever it is.
    virtual void add_doubt(WindowRange windows) = 0;
    virtual void trust_all() = 0;
    /// Every write that was completed is durable on the members that take part.
    virtual Task<Result<void>> flush() = 0;

    /// Starts a walk; none is running. Decider::walk_ended() tells of its end.
    virtual void walk(const WalkOrder& order) = 0;
    virtual void cancel_walk() = 0;
    /// Of the walk that runs.
    virtual std::optional<WalkPosition> walking() const = 0;
    /// Whether a resync is going to pass everything that is in doubt: requests may wait for it.
    virtual void set_resync_comes(bool comes) = 0;

    /// Writes are marked before they begin.
    virtual bool marks() const = 0;
    virtual MarksLeft marks_left() const = 0;
    /// A record of all marks is durable that was put together after this call.
    virtual Task<Result<void>> write_marks() = 0;
    /// The same on every node: of its own marks.
    virtual Task<Result<void>> write_all_marks() = 0;
    /// What was marked before `stripe` was made true, and flushed.
    virtual void retire_marks(StripeIndex before) = 0;
    /// From now on a mark covers `region` bytes of data.
    virtual void set_region(std::uint64_t region) = 0;
    /// Every write that is under way is marked from now on, durably.
    virtual Task<Result<void>> begin_marks() = 0;
    /// No write is marked any more. The configuration says so already.
    virtual void end_marks() = 0;
    /// The node leaves: nothing is being written any more. What is in doubt in front of `listed`
    /// stays marked, and nothing else: for the next record.
    virtual void keep_marks_in_doubt(StripeIndex listed) = 0;

    /// Reads what is listed for the member, to be tried again, from its disk, makes parity true for
    /// it, and takes it off the list. Gives how many rows could not be taken.
    virtual Task<Result<std::uint64_t>> take_back(ReturningDisk from) = 0;
};

}  // namespace braid
