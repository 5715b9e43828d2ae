// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/flush.h"

#include <array>
#include <cerrno>

#include "engine/base/mutation.h"

namespace braid {

Task<Result<void>> flush_drives(Members* members, Decider* decider) {
    std::array<DriveOp, members_max> ops;
    DiskGroup group;
    for (std::uint32_t i = 0; i != members->count(); ++i) {
        const auto& slot = members->slot(MemberIndex{i});
        if (!takes_part(slot.state) || !slot.drive->needs_flush()) continue;
        if (BRAID_MUTANT(flush_skips_member) && i + 1 == members->count()) continue;
        ops[i].kind = DiskOpKind::flush;
        ops[i].tag = 1;
        members->submit(MemberIndex{i}, group, ops[i]);
    }
    co_await group;
    int not_flushed = 0;  // an errno, of a flush that was not carried out
    for (std::uint32_t i = 0; i != members->count(); ++i) {
        if (ops[i].tag == 0) continue;
        auto& slot = members->slot(MemberIndex{i});
        members->finish(MemberIndex{i}, ops[i]);
        const DriveResult& result = ops[i].result;
        if (result.outcome == DriveOutcome::fenced || result.outcome == DriveOutcome::cut) {
            not_flushed = result.os_error;
        }
        if (!result.is_members()) continue;
        decider->flush_failed(MemberIndex{i}, result.os_error);
        if (slot.state == MemberState::in_sync) slot.drive->set_unflushed(result.os_error);
    }
    for (std::uint32_t i = 0; i != members->count(); ++i) {
        const auto& slot = members->slot(MemberIndex{i});
        const int error = slot.drive ? slot.drive->unflushed() : 0;
        if (error != 0)
            co_return Error{error == ENOSPC ? Errc::full : Errc::failed, "flush", error};
    }
    if (not_flushed != 0) {
        co_return Error{not_flushed == ENOSPC ? Errc::full : Errc::io, "flush", not_flushed};
    }
    if (members->owes()) BRAID_CO_CHECK(co_await decider->losses_durable());
    co_return Result<void>{};
}

}  // namespace braid
