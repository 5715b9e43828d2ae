// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "engine/base/index_set.h"

namespace braid::cluster {

enum class NodeId : std::uint32_t {};  // 1 … nodes_max - 1; the higher one goes first
constexpr std::uint32_t raw(NodeId node) { return static_cast<std::uint32_t>(node); }

static_assert(nodes_max <= 64);
using NodeSet = IndexSet<NodeId>;

}  // namespace braid::cluster
