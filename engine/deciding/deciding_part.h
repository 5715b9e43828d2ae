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

/// How far a stop has come. Written by the array alone.
struct Stage {
    bool serving{false};   // the start is over: walks may run
    bool draining{false};  // no request is taken any more
    bool stopping{false};  // and nothing new begins in the background
    bool stopped{false};
    bool abandoned{false};  // destroyed without a stop: frames end where they are
};

struct DecidingContext {
    ReadyQueue& ready;
    Clock& clock;
    const ArrayOptions& options;
    const Configuration& configuration;  // what is wanted; ConfigurationWriter alone changes it
    const Geometry& geometry;
    Members& members;
    ServingNode& serving;
    TaskGroup& tasks;
    EventLog& log;
    const Stage& stage;
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

    ReadyQueue& ready_;
    Clock& clock_;
    const ArrayOptions& options_;
    const Configuration& configuration_;
    const Geometry& geometry_;
    Members& members_;
    ServingNode& serving_;
    TaskGroup& tasks_;
    EventLog& log_;
    const Stage& stage_;
    Event& work_;
};

}  // namespace braid
