// SPDX-License-Identifier: BSD-3-Clause
// Closing: the end of an array, after which the next start has nothing to ask. When no node takes
// requests any more, it waits for what runs in the background, and has the configuration say last
// that all is at rest. A node that leaves an array which goes on does none of this.
#pragma once

#include "engine/deciding/deciding_part.h"

namespace braid {

class ConfigurationWriter;
class MemberOrders;
class Recovery;
class WalkOrders;

class Closing final : public DecidingPart {
  public:
    struct Parts {
        ConfigurationWriter& writer;
        Recovery& recovery;
        WalkOrders& walks;
        MemberOrders& orders;
    };
    Closing(const DecidingContext& context, Parts parts)
        : DecidingPart(context),
          writer_(parts.writer),
          recovery_(parts.recovery),
          walks_(parts.walks),
          orders_(parts.orders) {}

    /// Rows that were listed as unknown and written since are known to the nodes alone: the resync
    /// has to pass before anybody else may ask which they are.
    Task<void> wait_for_resync();
    /// After it nothing runs in the background, and no order is under way. The stage says
    /// `quiescing` already.
    Task<void> end_background();
    /// Everything is durable, and the metadata says so last. Not of an array that has failed.
    Task<Result<void>> keep_final_state();
    /// What it waits for, for people.
    std::string why_it_waits() const;

  private:
    Task<Result<void>> write_final_state(StripeIndex listed);
    Task<void> begin_record();

    ConfigurationWriter& writer_;
    Recovery& recovery_;
    WalkOrders& walks_;
    MemberOrders& orders_;
};

}  // namespace braid
