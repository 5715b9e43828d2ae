// SPDX-License-Identifier: BSD-3-Clause
// RemoteDisk: a disk that another node has opened, for what lies in front of a member's data:
// superblock, configurations, promises, records of the write intent. Strips go through the member's
// home. A connection that breaks is not noticed; when the other node has begun anew, or counts as
// gone, what it had not answered ends with ECONNRESET.
#pragma once

#include <cerrno>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "cluster/bus/session.h"
#include "cluster/homes/home_link.h"
#include "engine/io/disk.h"

namespace braid::cluster {

/// It lives until nothing is under way, or the session does not go on.
class RemoteDisk final : public Disk {
  public:
    /// @param number  of the disk, at its node
    RemoteDisk(Session& session, const Fence& fence, std::uint32_t number, DiskInfo info);
    const DiskInfo& info() const override { return info_; }
    /// Whole rows only: EINVAL.
    void submit(DiskOp& op) override;

  private:
    struct Sink final : AnswerSink {
        RemoteDisk* disk{nullptr};
        DiskOp* op{nullptr};
        ByteSpan into;  // of a read
        std::uint64_t size{0};

        ByteSpan place(std::uint32_t of) override { return of == into.size() ? into : ByteSpan{}; }
        Checked<Unit> answered(const Message& answer) override;
        void cut() override { disk->over(this, ECONNRESET); }
    };
    struct Pieces {  // of an operation
        std::uint32_t pending{0};
        int os_error{0};  // the first
    };

    void send(DiskOp& op, std::uint64_t at, std::uint64_t size);
    void over(Sink* sink, int os_error);
    void over_piece(DiskOp* op, int os_error);

    Session& session_;
    const Fence& fence_;
    std::uint32_t number_;
    DiskInfo info_;
    std::deque<Sink> sinks_;  // their addresses stay
    std::vector<Sink*> free_;
    std::map<DiskOp*, Pieces> pieces_;
};

}  // namespace braid::cluster
