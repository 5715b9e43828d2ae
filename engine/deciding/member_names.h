// SPDX-License-Identifier: BSD-3-Clause
// Which member an operator means: a role ("2"), a uuid, or a path. Paths wander from disk to disk,
// and a record keeps the path where its disk was seen last: so those that are open come first, and
// where two remain nobody guesses. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/layout/configuration.h"

namespace braid {

struct NamedMember {
    const MemberRecord* record{nullptr};
    bool open{false};     // its disk is in use
    bool is_disk{false};  // the name leads to that disk, whatever the record says
};
/// "PATH is a member of this array already: member 2 (/dev/sdc), in_sync": nobody takes it for
/// another one.
std::string member_already(std::string_view path, const MemberRecord& record);
/// The place in `members`; RefusalCode::not_found, or ambiguous where several are called so.
Checked<std::size_t> find_by_name(std::span<const NamedMember> members, std::string_view name);

/// "member 0, which breaks ties, is among them", "the witness answers".
std::string text_of_tie(const Configuration& configuration);

}  // namespace braid
