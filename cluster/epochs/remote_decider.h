// SPDX-License-Identifier: BSD-3-Clause
// RemoteDecider: the Decider of a node that serves an array and does not decide about it: what it
// says goes to the node that does. No walk runs here. On the other side, carry_out() is it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/bus/talk.h"
#include "engine/decider.h"
#include "engine/members/members.h"

namespace braid::cluster {

class RemoteDecider final : public Decider {
  public:
    RemoteDecider(Talk& talk, std::uint32_t master) : talk_(talk), master_(master) {}

    /// Once, before it is used.
    void bind(const Members& members) { members_ = &members; }
    /// Something became durable, or never will: who waits for losses looks again.
    void look_again() { changed_.set(); }
    /// The array has ended: nothing becomes durable any more.
    void end() {
        ended_ = true;
        changed_.set();
    }

    void read_failed(MemberIndex member, int os_error) override {
        tell_failed("read", member, os_error);
    }
    void flush_failed(MemberIndex member, int os_error) override {
        tell_failed("flush", member, os_error);
    }
    void strip_write_failed(MemberIndex member, int os_error) override {
        tell_failed("write", member, os_error);
    }
    Task<Result<void>> losses_durable() override;
    Task<Result<void>> rows_doubtful(std::vector<BadRange> lost) override {
        return ask_rows("doubtful", std::move(lost));
    }
    Task<Result<void>> rows_unknown(std::vector<BadRange> rows) override {
        return ask_rows("unknown", std::move(rows));
    }
    Task<Result<void>> rows_known(std::vector<BadRange> rows) override {
        return ask_rows("known", std::move(rows));
    }
    Task<Result<void>> rows_true(WindowPlace place, RowMask rows) override;
    void write_refused(WindowPlace place, RowMask rows, RoleSet together) override;
    void walk_begun(const WalkOrder&) override { BRAID_REQUIRE(false && "no walk runs here"); }
    void walk_passed() override { BRAID_REQUIRE(false && "no walk runs here"); }
    Task<Result<void>> walk_at(WalkPosition) override {
        BRAID_REQUIRE(false && "no walk runs here");
        co_return Result<void>{};
    }
    void walk_ended(WalkPosition, Result<void>) override {
        BRAID_REQUIRE(false && "no walk runs here");
    }
    void rows_wrong(WindowPlace place, RowMask rows, RoleSet strips, std::string what) override;

  private:
    void tell_failed(const char* what, MemberIndex member, int os_error);
    Task<Result<void>> ask_rows(const char* are, std::vector<BadRange> rows);
    Task<Result<void>> ask_some(const char* are, std::vector<BadRange> rows);

    Talk& talk_;
    std::uint32_t master_;
    const Members* members_{nullptr};
    Event changed_;
    bool ended_{false};
};

/// What a RemoteDecider told, for the one who decides. A refusal: it is no such message.
Checked<Unit> carry_out_told(Decider& decider, const Geometry& geometry, const Words& words);
/// What it asked; the answer is for it.
Task<Checked<Words>> carry_out_asked(Decider& decider, const Geometry& geometry,
                                     const Words& words);
/// Rows that another node made true, taken out of what is in doubt here.
Checked<Words> take_true_rows(Members& members, const Geometry& geometry, const Words& words);

}  // namespace braid::cluster
