// SPDX-License-Identifier: BSD-3-Clause
// For tests of what serves: a decider that calls whom a write fails on faulty, unless there was no
// room, and agrees to everything else.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "engine/decider.h"
#include "engine/members/members.h"

namespace braid::test {

class PlainDecider final : public Decider {
  public:
    explicit PlainDecider(Members& members) : members_(members) {}
    void read_failed(MemberIndex, int) override {}
    void flush_failed(MemberIndex member, int) override {
        members_.set_state(member, MemberState::faulty);
    }
    void not_answering(MemberIndex) override {}
    void strip_write_failed(MemberIndex member, int error) override {
        told_of_write = member;
        if (error != ENOSPC && loses_at_once) flush_failed(member, error);
    }
    Task<Result<void>> losses_durable() override { co_return Result<void>{}; }
    Task<Result<void>> rows_doubtful(std::vector<BadRange>) override { co_return Result<void>{}; }
    Task<Result<void>> rows_unknown(std::vector<BadRange>) override { co_return Result<void>{}; }
    Task<Result<void>> rows_known(std::vector<BadRange>) override { co_return Result<void>{}; }
    void walk_begun(const WalkOrder&) override {}
    void walk_passed() override {}
    Task<Result<void>> walk_at(WalkPosition) override { co_return Result<void>{}; }
    void walk_ended(WalkPosition, Result<void>) override {}
    void rows_wrong(WindowPlace, RowMask, RoleSet, std::string) override {}
    void write_refused(WindowPlace, RowMask, RoleSet) override {}

    bool loses_at_once{true};  // false: as one on another node, whose word comes later
    std::optional<MemberIndex> told_of_write;

  private:
    Members& members_;
};

}  // namespace braid::test
