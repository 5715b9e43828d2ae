// SPDX-License-Identifier: BSD-3-Clause
// WitnessWatch: lets the witness know what is in force, and whether it answers. What needs it is
// proposed to it as to the members (ConfigurationWriter); of all else it hears here, afterwards, so
// that nobody waits for it. It promises an epoch that was in force without it, and then stores that:
// an acceptor may accept late.
#pragma once

#include <cstdint>

#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/deciding_part.h"
#include "engine/deciding/roster.h"

namespace braid {

class WitnessWatch final : public DecidingPart {
  public:
    /// It is looked at so often, also where there is nothing to tell it.
    static constexpr Nanos pause = seconds(5);
    /// One that has not answered for so long is not counted on.
    static constexpr Nanos patience = seconds(3);

    WitnessWatch(const DecidingContext& context, Roster& roster, ConfigurationWriter& writer);

    void start();
    void stop();
    /// Something may be new to it.
    void look();

  private:
    Task<void> run();
    Task<void> visit();
    Task<void> be_patient(std::uint64_t visit);

    Roster& roster_;
    ConfigurationWriter& writer_;
    bool due_{false};
    std::uint64_t visits_{0};  // begun
    bool under_way_{false};    // the newest
    Timer* waiting_{nullptr};
    Timer* patient_{nullptr};
};

}  // namespace braid
