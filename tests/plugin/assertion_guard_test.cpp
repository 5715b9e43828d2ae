// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/assertion_guard.h"

namespace braid::plugin {

static_assert(needs_assertion_guard(1, 32) && needs_assertion_guard(1, 33));
static_assert(!needs_assertion_guard(1, 34) && !needs_assertion_guard(2, 0));

}  // namespace braid::plugin
