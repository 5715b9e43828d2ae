// SPDX-License-Identifier: BSD-3-Clause
// Commands to a home, by hand.
#pragma once

#include <optional>

#include "cluster/homes/home_link.h"
#include "engine/base/units.h"

namespace braid::sim {

struct Told final : cluster::HomeReply {
    std::optional<cluster::HomeAnswer> answer;
    bool is_told() const { return answer.has_value(); }
    void answered(const cluster::HomeAnswer& told) override { answer = told; }
};

/// One row of zeros, of the window 0.
inline cluster::HomeCommand stage_of(MemberIndex member, std::uint64_t write,
                                     cluster::NodeBoot writer = {1, 1}) {
    cluster::HomeCommand command;
    command.kind = cluster::HomeCommandKind::stage;
    command.id = {writer, write};
    command.member = member;
    command.at = {WindowIndex{0}, 1};
    command.participants.add(member);
    command.content = Buffer(row_size);
    return command;
}

inline cluster::HomeCommand lock_of(std::uint64_t claim, cluster::NodeBoot from) {
    cluster::HomeCommand command;
    command.kind = cluster::HomeCommandKind::lock;
    command.id = {from, claim};
    command.at = {WindowIndex{0}, 1};
    return command;
}

}  // namespace braid::sim
