// SPDX-License-Identifier: BSD-3-Clause
// SimNet: the seam to other nodes in virtual time. Bytes arrive in their order, in pieces and after
// times drawn from the seed; a sender waits where the other side does not receive. What can go
// wrong: nobody lets us in; what is sent is held back for as long as one likes; a connection breaks
// for both sides, or for one alone, while the other one hears nothing more; a side that goes has
// bytes that it did not receive, and then the other one's last bytes are lost, as with TCP.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/io/net.h"
#include "tests/sim/sim_loop.h"

namespace braid::sim {

class SimListener;
class SimWire;

/// How long a piece is on its way, and how many bytes there may be that were not received.
struct SimNetShape {
    std::uint64_t nanos_min{20'000};
    std::uint64_t nanos_by_chance{1'000'000};
    std::uint64_t window_min{1u << 10};
    std::uint64_t window_max{256u << 10};
    std::uint64_t piece_max{64u << 10};
};

/// For whom a connection breaks at once; with `one` the other side finds that out later.
enum class CutSides : bool { both, one };

/// What the nodes are connected by; it lives longer than all that is on it. In what breaks, a node
/// is called by the name of its SimNet, which is best the host of its addresses.
class SimNetwork {
  public:
    explicit SimNetwork(SimLoop& loop, SimNetShape shape = {}) : loop_(loop), shape_(shape) {}

    /// All connections of the two break, for both at once; what is under way is lost.
    void cut(const std::string& a, const std::string& b);
    /// They break for `broken` alone. `unaware` hears nothing more and is not told; what it sends
    /// goes nowhere.
    void cut_one_side(const std::string& broken, const std::string& unaware);
    /// What `from` sends to `to`, and new connections of it, is held back until it is released.
    void hold(const std::string& from, const std::string& to);
    void release(const std::string& from, const std::string& to);
    /// The same of what goes by connections to the address, both ways: one of a node's cables.
    void unplug(const NetAddress& address);
    void plug(const NetAddress& address);
    /// What `from` sends to `to` takes this much longer.
    void slow(const std::string& from, const std::string& to, Nanos by);
    /// A node's process ends at any moment; what is destroyed in `destroy` is its own. Others hear that
    /// its connections are over, unless they were cut before.
    template <class Destroy>
    void crash(const std::string& node, Destroy destroy) {
        crashing_ = node;
        destroy();
        crashing_.clear();
    }
    /// Whoever connects to the address is refused, as if nobody listened; or no longer.
    void refuse(const NetAddress& address, bool refused);

    SimLoop& loop() { return loop_; }

  private:
    friend class SimListener;
    friend class SimNet;
    friend class SimWire;
    using Direction = std::pair<std::string, std::string>;

    std::uint64_t draw_delay(const std::string& from, const std::string& to) {
        const auto slow = slow_.find({from, to});
        return shape_.nanos_min + loop_.rng().below(shape_.nanos_by_chance + 1) +
               (slow == slow_.end() ? 0 : slow->second.value);
    }
    bool is_crashing(const std::string& node) const {
        return loop_.crashing() || (!crashing_.empty() && crashing_ == node);
    }
    bool is_held(const std::string& from, const std::string& to) const {
        return held_.contains({from, to});
    }
    std::string node_at(const NetAddress& address) const;
    std::string asker(const NetAddress& address, const std::string& name);
    std::vector<std::shared_ptr<SimWire>> wires_between(const std::string& a, const std::string& b);

    std::vector<std::shared_ptr<SimWire>> wires_to(const std::string& address);

    SimLoop& loop_;
    SimNetShape shape_;
    std::set<Direction> held_;
    std::set<std::string> unplugged_;  // addresses
    std::map<Direction, Nanos> slow_;
    std::string crashing_;
    std::set<std::string> refused_;                  // addresses
    std::map<std::string, SimListener*> listeners_;  // by address
    std::vector<std::weak_ptr<SimWire>> wires_;      // in the order in which they were made
    std::uint16_t ports_given_{0};
};

/// What one node has of it.
class SimNet final : public Net {
  public:
    SimNet(SimNetwork& network, std::string name) : network_(network), name_(std::move(name)) {}
    Task<Checked<std::unique_ptr<Listener>>> listen(NetAddress address) override;
    Task<Checked<std::unique_ptr<Connection>>> connect(NetAddress address) override;

  private:
    /// A question, or its answer, is on its way: false if it is still held back at `end`.
    Task<bool> pass(std::string from, std::string to, std::string address, Nanos end);

    SimNetwork& network_;
    std::string name_;
};

}  // namespace braid::sim
