// SPDX-License-Identifier: BSD-3-Clause
// What the parts of the deciding side share: the array that they decide about, and the log.
#pragma once

#include <string>
#include <utility>

#include "engine/array.h"
#include "engine/deciding/event_log.h"
#include "engine/io/clock.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"
#include "engine/members/members.h"
#include "engine/serving_node.h"

namespace braid {

/// Between the start and the end of an array, of which a node's leaving is only a part. Written by
/// who puts the array together.
struct ArrayStage {
    bool started{false};    // walks may run
    bool ending{false};     // no order is taken any more, and nothing is waited for without end
    bool quiescing{false};  // and nothing new begins in the background
    bool ended{false};
    bool abandoned{false};  // destroyed without an end: frames stay where they are
};

struct DecidingContext {
    ReadyQueue& ready;
    Clock& clock;
    const ArrayOptions& options;
    const Configuration& configuration;  // what is wanted; ConfigurationWriter alone changes it
    const Geometry& geometry;
    const Members& members;  // what becomes of them is told to `serving`
    ServingNode& serving;
    TaskGroup& tasks;
    EventLog& log;
    const ArrayStage& stage;
    Event& work;  // there may be something to do in the background
};

class DecidingPart {
  public:
    DecidingPart(const DecidingPart&) = delete;
    DecidingPart& operator=(const DecidingPart&) = delete;

  protected:
    explicit DecidingPart(const DecidingContext& context)
        : ready_(context.ready),
          clock_(context.clock),
          options_(context.options),
          configuration_(context.configuration),
          geometry_(context.geometry),
          members_(context.members),
          serving_(context.serving),
          tasks_(context.tasks),
          log_(context.log),
          stage_(context.stage),
          work_(context.work) {}
    ~DecidingPart() = default;

    void tell(Severity severity, std::string kind, std::string text) {
        log_.tell(severity, std::move(kind), std::move(text));
    }
    const MemberRecord& record(MemberIndex member) const { return *configuration_.member(member); }
    /// No member is lost in memory alone, as while nodes agree on who serves.
    bool losses_are_recorded() const { return members_.knows_losses(configuration_); }
    /// A command that a message advises, with what it takes to reach this server.
    std::string order_text(std::string command) const {
        if (options_.orders != Orders::not_taken) return command;
        return "start the server with socket=PATH, then " + command;
    }

    ReadyQueue& ready_;
    Clock& clock_;
    const ArrayOptions& options_;
    const Configuration& configuration_;
    const Geometry& geometry_;
    const Members& members_;
    ServingNode& serving_;
    TaskGroup& tasks_;
    EventLog& log_;
    const ArrayStage& stage_;
    Event& work_;
};

}  // namespace braid
