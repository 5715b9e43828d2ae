// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/stripe_plan.h"

#include <optional>

namespace braid {
namespace {

struct Parts {
    RoleSet data;
    RoleSet parity;
    RoleSet gone;  // whose old content cannot be read
    explicit Parts(const StripeState& state)
        : data(RoleSet::first(state.data_count)),
          parity(RoleSet::first(state.data_count + state.parities) - data),
          gone(state.lost | state.unreadable) {}
};

/// The lowest `count` roles of `set`.
RoleSet lowest(RoleSet set, std::uint32_t count) {
    RoleSet taken;
    for (const Role role : set) {
        if (taken.size() == count) break;
        taken |= RoleSet::of(role);
    }
    return taken;
}

/// What to read to know every data strip: the readable ones, and as many parities as are gone.
Result<RoleSet> reads_to_recover(const StripeState& state, const Parts& parts) {
    const std::uint32_t unknowns = (parts.data & parts.gone).size();
    const RoleSet parities = parts.parity - parts.gone;
    if (parities.size() < unknowns) return Error{Errc::failed, "stripe"};
    if (unknowns != 0 && !state.retry.empty()) return Error{Errc::unknown, "row"};
    if (unknowns != 0 && !state.parity_true) return Error{Errc::doubt, "stripe"};
    return (parts.data - parts.gone) | lowest(parities, unknowns);
}

std::optional<StripePlan> try_rmw(const StripeState& state, const Parts& parts, RoleSet covered) {
    const RoleSet live_parity = parts.parity - state.lost;
    if (!state.parity_true || !state.unreadable.empty() || !(covered & parts.gone).empty()) {
        return std::nullopt;
    }
    return StripePlan{PlanMethod::rmw, covered | live_parity, {}, {}, covered | live_parity};
}

/// Some data strip is listed, to be tried again. If all of those are written, parity is computed
/// anew; else it stays what it is, but for the difference.
Result<StripePlan> plan_listed_write(const StripeState& state, RoleSet covered, RoleSet partial) {
    const Parts parts(state);
    const RoleSet live_parity = parts.parity - state.lost;
    if (!(partial & parts.gone).empty()) return Error{Errc::unknown, "row"};
    if (covered.has_all(state.retry)) {
        const RoleSet needed = (live_parity.empty() ? RoleSet{} : parts.data - covered) | partial;
        const RoleSet zero = needed & state.voided;
        if (!((needed - zero) & parts.gone).empty()) return Error{Errc::unknown, "row"};
        const PlanMethod method = needed.empty()        ? PlanMethod::full_stripe
                                  : live_parity.empty() ? PlanMethod::plain
                                                        : PlanMethod::rcw;
        return StripePlan{method, needed - zero, {}, zero, (covered - state.lost) | live_parity};
    }
    // What only parity would hold would be lost with it.
    if (!(covered & state.lost).empty()) return Error{Errc::unknown, "row"};
    if (((covered | live_parity) & parts.gone).empty() && !live_parity.empty()) {
        return StripePlan{PlanMethod::rmw, covered | live_parity, {}, {}, covered | live_parity};
    }
    return StripePlan{PlanMethod::plain, partial, {}, {}, covered};
}

}  // namespace

Result<StripePlan> plan_read(const StripeState& state, RoleSet wanted) {
    const Parts parts(state);
    BRAID_REQUIRE(parts.data.has_all(wanted));
    StripePlan plan;
    const RoleSet to_rewrite = state.unreadable & parts.data;
    if ((wanted & parts.gone).empty() && to_rewrite.empty()) {
        plan.read = wanted;
        return plan;
    }
    BRAID_TRY(plan.read, reads_to_recover(state, parts));
    plan.method = PlanMethod::reconstruct;
    plan.recover = parts.data & parts.gone;
    plan.write = to_rewrite;
    return plan;
}

Result<StripePlan> plan_write(const StripeState& state, RoleSet covered, RoleSet partial) {
    const Parts parts(state);
    BRAID_REQUIRE(parts.data.has_all(covered) && covered.has_all(partial) && !covered.empty());
    if (!state.retry.empty()) return plan_listed_write(state, covered, partial);
    const RoleSet live_parity = parts.parity - state.lost;
    // Old content that the new parity, or the rest of a partly covered row, is made of.
    const RoleSet needed = (live_parity.empty() ? RoleSet{} : parts.data - covered) | partial;
    const RoleSet written = (covered - state.lost) | live_parity | state.unreadable;
    // Nothing is there. Where parity is true it says the same, and may be the cheaper way.
    const RoleSet zero = state.parity_true ? RoleSet{} : (needed - partial) & state.voided;

    const auto rmw = live_parity.empty() ? std::nullopt : try_rmw(state, parts, covered);
    const bool must_recover = !((needed - zero) & parts.gone).empty() ||
                              !((state.unreadable & parts.data) - covered).empty();
    if (!must_recover) {
        if (rmw && rmw->read.size() <= needed.size()) return *rmw;
        const PlanMethod method = needed.empty()        ? PlanMethod::full_stripe
                                  : live_parity.empty() ? PlanMethod::plain
                                                        : PlanMethod::rcw;
        return StripePlan{method, needed - zero, {}, zero, written};
    }
    const Result<RoleSet> reads = reads_to_recover(state, parts);
    if (rmw && (!reads || rmw->read.size() <= reads->size())) return *rmw;
    StripePlan plan;
    BRAID_TRY(plan.read, reads);
    plan.method = PlanMethod::recover_rcw;
    plan.recover = parts.data & parts.gone;
    plan.write = written;
    return plan;
}

}  // namespace braid
