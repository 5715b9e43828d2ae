// SPDX-License-Identifier: BSD-3-Clause
// RemoteDisk: a disk that another node has opened, as a Disk. For what lies in front of the data;
// strips go through the member's home. An operation becomes messages of the session with that node,
// one after the other, and ends at the first error. A connection that breaks is not noticed: an
// operation ends when the other node answers, or with ECONNRESET when that node has begun anew, and
// then nobody knows what became of it.
//
// From then on everything ends with ECONNRESET: what was written and not flushed may be gone although
// it was answered, and under the same number the next start of that node may have another disk.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "cluster/bus/session.h"
#include "cluster/homes/home_link.h"
#include "engine/io/disk.h"

namespace braid::cluster {

class RemoteDisk final : public Disk {
  public:
    /// @param number  that the other node has put the disk under (DiskServer::put())
    /// @param info    of the disk there
    RemoteDisk(Session& session, const Fence& fence, std::uint32_t number, DiskInfo info);
    RemoteDisk(const RemoteDisk&) = delete;
    RemoteDisk& operator=(const RemoteDisk&) = delete;
    /// Nothing may be in flight, unless the session does not go on either.
    ~RemoteDisk() override = default;

    /// Of which start of the other node it is, before it is used. Else it is that of the first use, though
    /// another node may have told of a later one, which is still to be met.
    void set_start(std::uint64_t boot) { boot_ = boot; }

    const DiskInfo& info() const override { return info_; }
    /// What is written is copied: the session keeps it until the other node has it. `data` may be
    /// at any address. EINVAL at once: not whole rows, or outside of the disk.
    void submit(DiskOp& op) override;

  private:
    /// An operation under way. One message of it is, or waits in waiting_.
    struct Sink final : AnswerSink {
        RemoteDisk* disk{nullptr};
        DiskOp* op{nullptr};
        std::uint64_t done{0};   // bytes
        std::uint64_t piece{0};  // bytes, of the message that is under way

        ByteSpan place(std::uint32_t size) override;
        Checked<Unit> answered(const Message& answer) override;
        void cut() override;
    };

    void send_next(Sink& sink);
    void send(Sink& sink);
    void send_waiting();
    void finish(Sink& sink, int os_error);
    void give_back(std::uint64_t bytes);
    bool is_over();

    Session& session_;
    const Fence& fence_;
    std::uint32_t number_;
    DiskInfo info_;
    std::deque<Sink> sinks_;  // their addresses stay
    std::vector<Sink*> free_;
    std::deque<Sink*> waiting_;     // writes, first come, first sent
    std::uint64_t write_bytes_{0};  // of messages that are not answered
    std::uint64_t boot_{0};         // of the other node, once it was met, or said
    bool was_met_{false};           // that start
};

}  // namespace braid::cluster
