// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/doubt_rows.h"

#include <utility>
#include <vector>

#include "engine/base/mutation.h"

namespace braid {

Task<Result<void>> doubt_rows(StripeContext context, WindowPlace place, RowMask rows) {
    context.members.rows_doubtful(place, rows);
    context.intent.carry(place.stripe);
    set_direct_gates(context);
    std::vector<BadRange> lost;
    const RoleSet gone = context.members.state_of(place).lost & context.geometry.data_roles();
    for (const Role role : gone) {
        for_each_run(rows, [&](std::uint32_t row, std::uint32_t count) {
            lost.push_back(context.bad.range_of(place, role, row, count));
        });
    }
    co_return co_await context.decider.rows_doubtful(std::move(lost));
}

void set_direct_gates(const StripeContext& context) {
    const bool made_true = context.geometry.parities() == 2 && context.intent.has_carried() &&
                           !context.readonly && !BRAID_MUTANT(doubt_read_before_true);
    for (std::uint32_t i = 0; i != context.members.count(); ++i) {
        const MemberIndex member{i};
        // In a cluster what is decided may not have reached the disk yet.
        context.members.set_direct(
            member, context.homes == nullptr && !made_true && !context.bad.has_member(member));
    }
}

}  // namespace braid
