// SPDX-License-Identifier: BSD-3-Clause
// ScrubLog: tells what a scrub finds wrong: the first places by themselves, then many together. Who
// asked for all gets all (ArrayOptions::on_wrong).
#pragma once

#include <cstdint>
#include <string>

#include "engine/deciding/deciding_part.h"
#include "engine/deciding/wrong_rows.h"

namespace braid {

class ScrubLog final : public DecidingPart {
  public:
    explicit ScrubLog(const DecidingContext& context)
        : DecidingPart(context), joiner_(context.configuration) {}

    void begin() { told_ = 0; }
    /// As Decider has it.
    void rows_wrong(WindowPlace place, RowMask rows, RoleSet strips, std::string what);
    /// What was found and passed.
    void tell_before(WindowIndex end);
    /// And what was kept to be told together.
    void tell_rest();

  private:
    void tell_wrong(const WrongRows& rows);

    WrongRowsJoiner joiner_;
    std::uint64_t told_{0};  // runs of rows, one by one
    WrongRows more_;         // from the first to the last of those told together
    std::uint64_t more_runs_{0};
    std::uint64_t more_rows_{0};
};

}  // namespace braid
