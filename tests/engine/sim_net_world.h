// SPDX-License-Identifier: BSD-3-Clause
// One node on a simulated net of its own, for the contract.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "tests/engine/net_contract.h"
#include "tests/sim/sim_net.h"

namespace braid::test {

template <std::uint64_t seed>
class SimNetWorld final : public NetWorld {
  public:
    SimNetWorld() : loop_(seed), network_(loop_), net_(network_, "10.0.0.1") {}
    static std::unique_ptr<NetWorld> make() { return std::make_unique<SimNetWorld>(); }
    Net& net() override { return net_; }
    ReadyQueue& ready() override { return loop_.ready(); }
    void run(Task<void> task) override { loop_.run_until_done(std::move(task)); }
    NetAddress new_address() override { return {AddressKind::ip4, "10.0.0.1", ++port_}; }
    sim::SimLoop& loop() { return loop_; }

  private:
    sim::SimLoop loop_;
    sim::SimNetwork network_;
    sim::SimNet net_;
    std::uint16_t port_{1000};
};

}  // namespace braid::test
