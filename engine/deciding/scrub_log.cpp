// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/scrub_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace braid {

void ScrubLog::rows_wrong(WindowPlace place, RowMask rows, RoleSet strips, std::string what) {
    WrongRows wrong;
    for (const Role role : strips) {
        wrong.members.add(geometry_.member_of(place.stripe, role));
    }
    wrong.what = std::move(what);
    for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
        wrong.first = geometry_.row_number(place, row);
        wrong.count = count;
        if (const auto complete = joiner_.add(wrong)) tell_wrong(*complete);
    });
}

/// What the scrub has found and passed.
void ScrubLog::tell_before(WindowIndex end) {
    for (const WrongRows& rows : joiner_.take_before(geometry_.first_row(end))) {
        tell_wrong(rows);
    }
}

/// The first ones by themselves, for the log; then many together. Who asked for all gets all.
void ScrubLog::tell_wrong(const WrongRows& rows) {
    constexpr std::uint64_t told_max = 20;
    constexpr std::uint64_t together = 1000;
    if (options_.on_wrong) options_.on_wrong(text_of(rows, configuration_));
    if (told_ < told_max) {
        ++told_;
        return tell(Severity::warning, "mismatch", text_of(rows, configuration_));
    }
    if (more_runs_ == 0) more_ = rows;
    const RowIndex end = std::max(more_.end(), rows.end());
    more_.first = std::min(more_.first, rows.first);
    more_.count = end - more_.first;
    more_rows_ += rows.count;
    if (++more_runs_ == together) tell_rest();
}

void ScrubLog::tell_rest() {
    if (more_runs_ == 0) return;
    tell(Severity::warning, "mismatch",
         fmt::format("{} more places with {} rows, between stripe {} and stripe {}, are wrong; "
                     "`braid check` of the stopped array names them all",
                     more_runs_, more_rows_, raw(geometry_.stripe_of(more_.first)),
                     raw(geometry_.stripe_of(more_.end() - 1))));
    more_runs_ = more_rows_ = 0;
}

}  // namespace braid
