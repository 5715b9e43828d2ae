// SPDX-License-Identifier: BSD-3-Clause
// RemoteHome: to a home on another node. Commands become messages of the session with it, and what
// it reads lands where it is wanted. A connection that breaks is not noticed; when the other node
// has begun anew, what it had not answered was cut.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "cluster/bus/session.h"
#include "cluster/homes/home_link.h"
#include "engine/layout/geometry.h"

namespace braid::cluster {

class RemoteHome final : public HomeLink {
  public:
    /// @param ends_together  false: each end is a message of its own, to measure what that costs
    RemoteHome(Session& session, const Geometry& geometry, const Fence& fence,
               bool ends_together = true)
        : session_(session), geometry_(geometry), fence_(fence), ends_together_(ends_together) {}
    RemoteHome(const RemoteHome&) = delete;
    RemoteHome& operator=(const RemoteHome&) = delete;

    void send(HomeCommand command, HomeReply* reply) override;
    std::uint64_t messages() const override { return messages_; }

  private:
    struct Sink final : AnswerSink {
        RemoteHome* home{nullptr};
        HomeReply* reply{nullptr};
        HomeCommandKind kind{HomeCommandKind::read};
        ByteSpan into;  // of a read, or of what comes with a lock

        ByteSpan place(std::uint32_t size) override {
            return size == into.size() ? into : ByteSpan{};
        }
        Checked<Unit> answered(const Message& answer) override;
        void cut() override;
        HomeReply* finish();
    };

    Session& session_;
    const Geometry& geometry_;
    const Fence& fence_;
    const bool ends_together_;
    std::deque<Sink> sinks_;  // their addresses stay
    std::vector<Sink*> free_;
    std::uint64_t messages_{0};
};

}  // namespace braid::cluster
