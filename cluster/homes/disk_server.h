// SPDX-License-Identifier: BSD-3-Clause
// DiskServer: this node's disks for others, by numbers that it gives them. It is there for what
// lies in front of the data: once it is known where a disk's data is, nothing of that is read,
// written or zeroed by these commands. The master may do all else; any other node may read and
// write its own two slots of the write intent, and flush.
//
// What is refused is answered with an errno: ESTALE, a fence that is none of this array's (before any
// barrier, where this node's is 0, each is taken): metadata goes on while nodes pass a barrier one
// after the other, and who is excluded has no session; ENODEV, no such disk; EINVAL, outside of it;
// EPERM, not by these commands or not by that node. All of it is looked at when the operation begins,
// not before. It begins when nothing is under way of another node, or of another start of the same
// one, that is in its way: what a node wrote before it was gone does not fall on what came after it.
//
// Bytes that are read for a node take memory until it has them: of more than home_read_bytes_max for
// one node the next read waits. Who has that much written that is not on the disks, or
// home_commands_max commands that are not answered, or answers that he does not say that he has, is
// broken off.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "cluster/bus/bus.h"
#include "cluster/homes/disk_messages.h"
#include "cluster/homes/home_link.h"
#include "engine/base/units.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"

namespace braid::cluster {

class DiskServer final : public CommandTaker {
  public:
    DiskServer(ReadyQueue& ready, const Fence& fence);
    DiskServer(const DiskServer&) = delete;
    DiskServer& operator=(const DiskServer&) = delete;
    /// What is under way is destroyed where it stands: its I/O must be over, as after stop().
    ~DiskServer() override;

    /// Where answers go; before anything is taken, and for as long as anything is under way.
    void bind(Bus& bus) { bus_ = &bus; }
    /// The disk, in the place of another one that had the number; nothing is known of its data. What
    /// is under way on it is known still, if it is the same one.
    void put(std::uint32_t number, std::shared_ptr<Disk> disk);
    /// What is under way goes on, and has the disk until it ends.
    void remove(std::uint32_t number);
    /// From now on nothing of [area.begin, end) of this disk begins: bytes of the device. What is
    /// under way goes on: wait_quiet(). The disk has been put.
    void set_data(std::uint32_t number, DataArea area, std::uint64_t end);
    /// 0, as at first: there is none.
    void set_master(std::uint32_t node) { master_ = node; }

    /// Until whatever of the disk was under way when it was called has ended.
    Task<void> wait_quiet(std::uint32_t number);
    /// This start of a node has no part in the array any more: nothing that it has asked for begins.
    void leave_out(NodeBoot node) { left_out_.insert(node); }
    /// Until nothing that these starts have asked for is under way on any disk; they are left out.
    Task<void> wait_over(std::vector<NodeBoot> nodes);
    bool has_any_of(const std::vector<NodeBoot>& nodes) const { return !busy_with(nodes).empty(); }
    /// The numbers of the disks where something is.
    std::vector<std::uint32_t> busy_with(const std::vector<NodeBoot>& nodes) const;
    /// A new tick of the disk begins (Disk::tick()): whether it leaves something unanswered.
    bool tick(std::uint32_t number) {
        const auto at = served_.find(number);
        return at != served_.end() && at->second->disk->tick();
    }
    /// Removes all disks, and waits until nothing is under way. What comes later is answered, too.
    Task<void> stop();

    Checked<Unit> take(std::uint32_t from, const Message& message, Buffer payload) override;
    void forgotten(std::uint32_t node) override { start_reads(node); }

  private:
    struct Request {
        NodeBoot from;
        std::uint64_t number{0};  // of the message
        std::uint64_t fence{0};
        DiskCommand command;
    };
    struct Served {
        std::shared_ptr<Disk> disk;
        std::uint64_t data_begin{0};  // none: it is data_end
        std::uint64_t data_end{0};
        std::uint64_t turns{0};
        std::map<std::uint64_t, const Request*> under_way;  // by their turns
        Event one_ended;
    };
    struct Asker {                // by node
        std::size_t commands{0};  // that are not answered
        std::uint64_t read_bytes{0};
        std::uint64_t write_bytes{0};
        std::deque<Request> waiting;  // reads, first come, first served
    };

    Checked<Unit> check_bounds(std::uint32_t node, std::uint64_t written) const;
    void start_reads(std::uint32_t node);
    Task<void> carry_out(Request request);
    Task<int> operate(std::shared_ptr<Served> at, Request* request);
    static bool must_wait(const Served& at, std::uint64_t turn);
    static bool is_busy_with(const Served& at, const std::vector<NodeBoot>& nodes);
    bool is_served(std::uint32_t number, const Served& at) const;
    int why_not(const Request& request) const;
    bool may(const Request& request) const;
    void answer(Request request, int os_error);
    void send(NodeBoot to, QueuedMessage message);

    const Fence& fence_;
    Bus* bus_{nullptr};
    std::uint32_t master_{0};
    std::set<NodeBoot> left_out_;
    std::map<std::uint32_t, std::shared_ptr<Served>> served_;  // by the disk's number
    std::map<std::uint32_t, Asker> askers_;
    TaskGroup tasks_;
};

}  // namespace braid::cluster
