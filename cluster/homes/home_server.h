// SPDX-License-Identifier: BSD-3-Clause
// HomeServer: what other nodes ask of this node's home. Messages become commands, after a look at
// the fence and at every field; answers go back over the session of whoever asked. Bytes that are
// read for a node take memory until it has them: of more than home_read_bytes_max for one node the
// next read waits. What is to come with locks does not wait, for a read could wait for the lock; of
// more than that, and what may be staged, nothing comes with them. Who has home_commands_max commands
// that are not answered, or answers that he does not say that he has, is broken off.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "cluster/bus/bus.h"
#include "cluster/homes/home.h"
#include "cluster/homes/home_link.h"
#include "engine/layout/geometry.h"

namespace braid::cluster {

/// What other nodes may not do just now.
class CommandGate {
  public:
    virtual ~CommandGate() = default;
    /// The node that has one of these stripes, first to last, for itself, if that keeps `node` out.
    virtual std::optional<std::uint32_t> refuses(std::uint32_t node, StripeIndex first,
                                                 StripeIndex last) const = 0;
};

class HomeServer final : public CommandTaker {
  public:
    HomeServer(Home& home, const Geometry& geometry, const Fence& fence);
    HomeServer(const HomeServer&) = delete;
    HomeServer& operator=(const HomeServer&) = delete;
    ~HomeServer() override;

    /// Where answers go; before anything is taken.
    void bind(Bus& bus) { bus_ = &bus; }
    /// Once; before anything is taken that it could refuse.
    void set_gate(const CommandGate& gate) { gate_ = &gate; }
    Checked<Unit> take(std::uint32_t from, const Message& message, Buffer payload) override;
    /// Where there is no home: whatever is answered is refused, as of another fence.
    static Checked<Unit> refuse_all(Bus& bus, std::uint32_t from, const Message& message);
    void forgotten(std::uint32_t node) override { start_reads(node); }

  private:
    struct Reply;
    struct Asker {  // by node
        std::uint64_t bytes{0};
        std::uint64_t lock_bytes{0};                 // that are to come with locks
        std::size_t commands{0};                     // that are not answered
        bool starting{false};                        // start_reads() is at it
        std::deque<std::unique_ptr<Reply>> waiting;  // reads, first come, first served
    };

    Checked<Unit> check_bounds(std::uint32_t node) const;
    bool has_room_with_lock(const HomeCommand& command) const;
    bool is_reserved(const HomeCommand& command) const;
    void refuse(NodeBoot to, HomeCommandKind kind, std::uint64_t number, int os_error);
    static QueuedMessage refusal(HomeCommandKind kind, std::uint64_t number, int os_error);
    void carry_out(HomeCommand command, std::uint64_t number);
    void start_reads(std::uint32_t node);
    void answered(Reply* reply, const HomeAnswer& answer);
    void send(NodeBoot to, QueuedMessage message);

    Home& home_;
    const Geometry& geometry_;
    const Fence& fence_;
    Bus* bus_{nullptr};
    const CommandGate* gate_{nullptr};
    std::map<Reply*, std::unique_ptr<Reply>> replies_;  // what is under way
    std::map<std::uint32_t, Asker> askers_;
};

}  // namespace braid::cluster
