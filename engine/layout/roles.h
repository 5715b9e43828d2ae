// SPDX-License-Identifier: BSD-3-Clause
// What a strip is in its stripe: data strip 0 … k-1, then P, then Q.
#pragma once

#include <cstdint>

#include "engine/base/index_set.h"

namespace braid {

enum class Role : std::uint32_t {};  // data strip i is Role i; P is Role k; Q is Role k+1
constexpr std::uint32_t raw(Role role) { return static_cast<std::uint32_t>(role); }

using RoleSet = IndexSet<Role>;

}  // namespace braid
