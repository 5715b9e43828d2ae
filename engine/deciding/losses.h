// SPDX-License-Identifier: BSD-3-Clause
// Losses: what happens when a member misbehaves. lose() has all that follows from a loss, in order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/deciding_part.h"
#include "engine/deciding/roster.h"
#include "engine/deciding/told_lately.h"

namespace braid {

class UnknownRows;
class WalkOrders;

class Losses final : public DecidingPart {
  public:
    struct Parts {
        ConfigurationWriter& writer;
        Roster& roster;
        UnknownRows& unknown;
        WalkOrders& walks;
    };
    Losses(const DecidingContext& context, Parts parts);

    // As Decider has them.
    void read_failed(MemberIndex member, int os_error);
    void flush_failed(MemberIndex member, int os_error);
    void strip_write_failed(MemberIndex member, int os_error);
    void not_answering(MemberIndex member);

    /// Takes a member out of the array: at once in memory, durably as soon as the others hold it.
    void lose(MemberIndex member, MemberState state, const std::string& why,
              Fault fault = Fault::some);
    /// The role is to be empty, and the disk that is being rebuilt in it a spare (Roster::make_spare()).
    /// Nothing is known by that disk alone.
    /// @param spare  its uuid from now on
    void end_rebuild(MemberIndex member, Uuid spare, const std::string& why);
    /// Whether the level can do without these, and they take nothing with them that is known now.
    bool can_lose(MemberSet members, Witness expected) const;
    /// Nothing is written any more. What can be read still is. `what_to_do`: the sentences that
    /// follow the reason, half a sentence, in the log.
    void stop_writing(const std::string& why, const std::string& what_to_do);
    /// Whether requests may wait for a resync has perhaps changed.
    void resync_comes_changed();
    /// What cannot be known is more than the list holds: going on would mean guessing.
    void halt(const std::string& why);
    /// The member's home waits to hear whether it is lost (false), or needed, and kept (true).
    bool failing_at_home(MemberIndex member, HomeFault what, int os_error);
    /// A node is gone, and with it what it had in memory: nothing is written any more.
    void node_gone(const std::string& why);
    /// For the log.
    void tell_lost(MemberIndex member, const std::string& path, const std::string& why,
                   Fault fault);
    /// This node leaves by order, and others go on: here nothing is written any more.
    void node_left(const std::string& why);
    /// Why the array has failed: half a sentence.
    std::string failure() const;

  private:
    /// What a member did lately that it was not lost for.
    struct Misdeeds {
        std::uint32_t read_errors{0};  // halved with each hour
        Nanos read_errors_since{};
        ToldLately failed_write;
        ToldLately silence;  // that it does not answer
    };

    void stop(std::string why, std::string_view rest);
    void tell_failed();

    ConfigurationWriter& writer_;
    Roster& roster_;
    UnknownRows& unknown_;
    WalkOrders& walks_;
    std::vector<Misdeeds> misdeeds_;  // by role
    bool failed_told_{false};
    std::string why_stopped_;  // though no more are lost than the level allows
};

}  // namespace braid
