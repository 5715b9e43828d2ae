// SPDX-License-Identifier: BSD-3-Clause
// StripeState: what is there of some rows of one stripe, all in the same state, by role.
#pragma once

#include <cstdint>

#include "engine/layout/roles.h"

namespace braid {

/// The state of rows of a stripe. All rows of a plan are in the same state.
struct StripeState {
    std::uint32_t data_count{0};
    std::uint32_t parities{0};  // 1: P; 2: P and Q
    RoleSet lost;               // neither read nor written: the member is lost here
    RoleSet unreadable;         // a read failed; to be computed from the others and rewritten
    bool parity_true{true};     // false before a resync has passed: parity may be anything
    RoleSet retry;              // listed, to be tried again: parity is not trusted either, and
                                // what is lost is listed
    RoleSet voided;             // of the lost, where parity is not trusted: listed as void
};

}  // namespace braid
