// SPDX-License-Identifier: BSD-3-Clause
// DiskServer: what other nodes ask of this node's disks, outside of strips. The node that decides
// about the array may do anything there; any other reads and writes its own records of the write
// intent, and nothing else. Bytes take memory until whoever asked has them: of more than
// home_read_bytes_max for one node the next command waits.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "cluster/bus/bus.h"
#include "cluster/homes/disk_messages.h"
#include "cluster/homes/home_link.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"

namespace braid::cluster {

class DiskServer final : public CommandTaker {
  public:
    DiskServer(TaskGroup& tasks, const Fence& fence) : tasks_(tasks), fence_(fence) {}
    DiskServer(const DiskServer&) = delete;
    DiskServer& operator=(const DiskServer&) = delete;

    /// Where answers go; before anything is taken.
    void bind(Bus& bus) { bus_ = &bus; }
    void set_master(std::uint32_t node) { master_ = node; }
    void put(std::uint32_t number, std::shared_ptr<Disk> disk);
    /// From now on [begin, end) has strips, which go through the home.
    void set_data(std::uint32_t number, DataArea area, std::uint64_t end);

    /// Of the disks' commands only.
    Checked<Unit> take(std::uint32_t from, const Message& message, Buffer payload) override;
    void forgotten(std::uint32_t node) override { start(node); }

  private:
    struct Served {
        std::shared_ptr<Disk> disk;
        std::uint64_t data_begin{0};
        std::uint64_t data_end{0};
    };
    struct Asked {
        NodeBoot from;
        std::uint64_t number{0};
        DiskCommand command;
        Buffer payload;
    };
    struct Asker {  // by node
        std::uint64_t bytes{0};
        std::size_t commands{0};
        std::deque<Asked> waiting;
    };

    int look_at(std::uint32_t from, const DiskCommand& command) const;
    void start(std::uint32_t node);
    Task<void> carry_out(Asked asked);
    void answer(const Asked& asked, int os_error, Buffer payload);

    TaskGroup& tasks_;
    const Fence& fence_;
    Bus* bus_{nullptr};
    std::uint32_t master_{0};
    std::map<std::uint32_t, Served> disks_;
    std::map<std::uint32_t, Asker> askers_;
};

}  // namespace braid::cluster
