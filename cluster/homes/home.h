// SPDX-License-Identifier: BSD-3-Clause
// Home: the flow around a node's RowBook. It takes commands about the members that this node has
// opened, from all nodes alike, keeps the bytes of what is staged, and moves them to the disks when
// the book says so. Of a row that is locked here it knows no bytes: its members may be elsewhere.
//
// A command changes the book in the moment in which it is taken; what has to wait for a disk, or
// for another node, goes on in a task.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "cluster/homes/home_link.h"
#include "cluster/homes/row_book.h"
#include "cluster/homes/write_verdict.h"
#include "engine/base/buffer.h"
#include "engine/base/limits.h"
#include "engine/decider.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"

namespace braid::cluster {

/// Told of what a home's members do; the verdict comes by Home::suspend(), or Home::keep().
class HomeListener {
  public:
    virtual ~HomeListener() = default;
    /// What was decided could not be written, and not for want of room, or a flush failed. Until the
    /// verdict whoever wants something of the member waits, but for reads.
    virtual void member_failing(MemberIndex member, HomeFault what, int os_error) = 0;
};

class Home {
  public:
    Home(const Geometry& geometry, TaskGroup& tasks, HomeListener& listener)
        : geometry_(geometry), tasks_(tasks), listener_(listener) {}
    Home(const Home&) = delete;
    Home& operator=(const Home&) = delete;

    /// A member of this node; there was none in its role, or one that is suspended.
    void attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area);
    /// It was attached here, and is not suspended.
    bool has(MemberIndex member) const {
        const auto at = members_.find(member);
        return at != members_.end() && !at->second.suspended;
    }
    const DiskInfo& info(MemberIndex member) const {
        BRAID_REQUIRE(has(member));
        return members_.at(member).disk->info();
    }

    void take(HomeCommand command, HomeReply* reply);
    /// The member takes nothing any more, and gives nothing. What was staged on it happens without
    /// it, and nobody waits for its disk, but for the bytes that it is just being given.
    void suspend(MemberIndex member);
    /// A new tick of its disk begins (Disk::tick()): whether it leaves something unanswered.
    bool tick(MemberIndex member) {
        const auto at = members_.find(member);
        return at != members_.end() && at->second.disk && at->second.disk->tick();
    }
    /// It was failing, and keeps its place: the level needs it. What it did not take is tried again
    /// by each flush, and read from memory; until then it takes nothing new. A flush that failed
    /// stays so.
    void keep(MemberIndex member);
    /// Rebuilds run on this node: what others say of how far one is may be of an older one. None: on
    /// any node.
    void set_walker(std::uint32_t node) {
        BRAID_REQUIRE(node < nodes_max);
        walker_ = node;
    }
    /// Another node decides from now on: it is told of members whose verdict has not come.
    void ask_verdicts_again();
    /// The fence ends: locks that are held or waited for are gone, and until the next one begins none
    /// is given, nothing is staged, decided or dropped. What was decided is applied; reads and flushes
    /// go on, or wait for what becomes of what is staged.
    void freeze();
    /// The next one begins: what is staged happens, or not, as the verdict says.
    /// @param gone     writers that come no more
    /// @param rebuilt  how far rebuilds are: what was unlocked elsewhere may have told that there
    void enter(const WriteVerdict& verdict, const std::vector<NodeBoot>& gone,
               const std::vector<Rebuilt>& rebuilt);
    /// The array has stopped, as if the power had gone: all who wait are refused, and so is whatever
    /// comes.
    void stop();
    /// The node works by this from now on: of a member that is not there what was said of its
    /// rebuild does not count.
    void adopt(const Configuration& wanted);
    /// Every node works by this: of a member that is not being rebuilt nobody needs to hear how far
    /// that was. Before that one might still believe that it had just begun.
    void in_force(const Configuration& wanted);

    /// How far a member's rebuild is, by what was unlocked here.
    WindowIndex rebuilt(MemberIndex member) const {
        const auto at = rebuilt_.find(member);
        return at == rebuilt_.end() ? WindowIndex{} : at->second;
    }
    /// A disk of a suspended member is just being given what was staged on it before.
    bool gives_to_suspended() const { return !orphans_.empty(); }
    const RowBook& book() const { return book_; }
    /// Locks that were given to somebody who had to wait for them.
    std::uint64_t handed_over() const { return handed_over_; }
    /// Strips' rows that are staged, and not on a disk yet; and their bytes.
    std::size_t staged() const { return contents_.size(); }
    std::uint64_t memory_bytes() const;

  private:
    struct Member {
        std::shared_ptr<Disk> disk;  // none once it is suspended; what is under way has it
        DataArea area;
        bool suspended{false};
        bool failing{false};                // there is no verdict yet
        HomeFault fault{HomeFault::write};  // the newest that was told
        int os_error{0};
        int flush_error{0};        // of one that failed: no later one makes that durable
        std::uint64_t changes{0};  // writes that are over; and how many of them a flush has covered
        std::uint64_t flushed{0};
        bool flushing{false};
        Event flush_over;  // or the member is suspended
        Event verdict;
    };
    /// What an entry of the book is to change: its rows one after the other; no bytes: zeroes.
    struct Content {
        Buffer bytes;
        bool may_free{false};
        NodeBoot from;
    };

    struct Locking {  // a lock that is asked for
        HomeReply* reply{nullptr};
        MemberIndex member{};  // of which rows are to come with it
        std::uint64_t fence{0};
        WindowRows with;  // none: nothing is
        std::byte* into{nullptr};
    };

    void answer(NodeBoot whom, HomeReply* reply, DriveResult result);
    void granted(CommandId claim, const Locking& lock);
    void grant(CommandId claim, HomeReply* reply, bool has_bytes);
    Task<void> read_with_lock(CommandId claim, Locking lock);
    void stage(HomeCommand command, HomeReply* reply);
    Task<void> stage_after_verdict(HomeCommand command, HomeReply* reply, std::uint64_t fence);
    static Task<void> verdict(Member* member);
    int unapplied_error(std::optional<MemberIndex> member) const;
    bool is_suspended(MemberIndex member) const { return members_.at(member).suspended; }
    void forget_content(EntryNumber entry);
    void ask_verdict(MemberIndex member, HomeFault what, int os_error);
    bool is_told(WaiterNumber number);
    bool has_room(NodeBoot from, std::uint64_t size) const;
    void keep(EntryNumber entry, Content content);
    void free_memory(const Content& content);
    void wake_all();
    void carry_out(const Effects& effects);
    Task<void> read(HomeCommand command, HomeReply* reply);
    Task<DriveResult> read_window(MemberIndex member, WindowRows at, EntryNumber before,
                                  std::byte* into);
    Task<void> settle(HomeCommand command, HomeReply* reply);
    Task<int> wait_applied(std::optional<MemberIndex> member);
    Task<void> try_again(MemberIndex member);
    Task<void> flush_device(MemberIndex member);
    Task<void> flush(HomeCommand command, HomeReply* reply);
    Task<DriveResult> flush_member(MemberIndex member);
    Task<void> apply(EntryNumber entry, Stage stage);
    Task<int> write_content(const Member& member, const Stage& stage, const Content& content);
    DeviceOffset offset_of(const Member& member, WindowIndex window, std::uint32_t row) const;

    const Geometry& geometry_;
    TaskGroup& tasks_;
    HomeListener& listener_;
    RowBook book_;
    std::map<MemberIndex, Member> members_;
    std::vector<std::map<MemberIndex, Member>::node_type> former_;  // suspended; somebody may wait
                                                                    // for them still
    std::map<EntryNumber, Content> contents_;
    std::map<EntryNumber, Content> orphans_;  // of suspended members: what a disk is being given
    std::map<EntryNumber, int> unapplied_;    // the errno of entries that could not be written
    std::set<EntryNumber> retrying_;          // of those
    std::map<CommandId, Locking> locking_;
    std::map<WaiterNumber, Event*> waiting_;
    std::map<MemberIndex, WindowIndex> rebuilt_;  // by what was unlocked here
    std::uint64_t next_waiter_{1};
    std::uint64_t handed_over_{0};
    bool stopped_{false};
    bool frozen_{false};
    std::uint64_t fence_{0};  // how many have begun, or ended
    std::optional<std::uint32_t> walker_;
    std::map<NodeBoot, std::uint64_t>
        memory_of_;  // bytes of contents and orphans, by whose they are
};

/// To a home on the same node.
class HomeCall final : public HomeLink {
  public:
    explicit HomeCall(Home& home) : home_(home) {}
    void send(HomeCommand command, HomeReply* reply) override {
        home_.take(std::move(command), reply);
    }
    bool is_remote() const override { return false; }

  private:
    Home& home_;
};

}  // namespace braid::cluster
