// SPDX-License-Identifier: BSD-3-Clause
// The rules of the register (engine/layout/register.h), held against what lies on members,
// from outside: whoever breaks one is seen even where no client ever notices.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "engine/layout/configuration.h"
#include "engine/metadata/areas.h"
#include "tests/sim/sim_disk.h"

namespace braid::test {

class RegisterWatch {
  public:
    /// Of a member, each time that something may have been written there.
    /// @return  what is wrong; empty: nothing
    std::string look_at(const std::shared_ptr<sim::SimPlatter>& platter);

  private:
    /// Enough of a slot to tell whether it was written since: sequence and checksum are in it.
    using Head = std::array<std::byte, 64>;
    struct Member {
        std::shared_ptr<sim::SimPlatter> platter;  // so that no other one gets its address
        std::uint64_t changes{~std::uint64_t{0}};
        std::array<Head, slot_count> slots{};
        std::uint64_t promise{0};   // the highest epoch
        std::uint64_t sequence{0};  // of the newest slot
    };
    std::string look_at_slots(Member& member);
    std::string look_at_promises(Member& member);
    std::string note(const Configuration& configuration);
    std::string look_at_chain(const Configuration& configuration);

    /// Of one history.
    struct Chain {
        std::map<EpochRevision, EpochRevision> stored;    // and what each says was in force
        std::map<EpochRevision, EpochRevision> in_force;  // as any says; and what that one says
        /// What each that is in force says is in force, all newer ones know.
        EpochRevision known_before(EpochRevision version) const;
    };
    std::map<const sim::SimPlatter*, Member> members_;
    std::map<EpochRevision, Configuration> contents_;
    std::map<Uuid, Chain> chains_;  // by lineage
};

}  // namespace braid::test
