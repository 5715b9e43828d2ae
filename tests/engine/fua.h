// SPDX-License-Identifier: BSD-3-Clause
// How the helpers of tests are told that a write is to be durable before it is answered.
#pragma once

namespace braid {

enum class Fua : bool { no, yes };

}  // namespace braid
