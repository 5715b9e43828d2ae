// SPDX-License-Identifier: BSD-3-Clause
// RemoteDecider: the Decider of a node that serves an array and does not decide about it: what it
// says goes to the node that does. No walk runs here. On the other side, carry_out() is it. Where that
// node is gone and another one decides, what was not answered is asked again: it may have been done
// already, and all of it may be done twice. When this node itself decides, it passes all on.
#pragma once

#include <cerrno>
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
    /// Another node decides from now on.
    void follow(std::uint32_t master);
    std::uint32_t master() const { return master_; }
    /// This node does; `own` outlives what is asked of it.
    void pass_on_to(Decider& own);
    /// Something became durable, or never will: who waits for losses looks again.
    void look_again() { changed_.set(); }
    /// The array has ended: nothing becomes durable any more.
    void end() {
        ended_ = true;
        changed_.set();
    }

    void read_failed(MemberIndex member, int os_error) override {
        if (own_ != nullptr) return own_->read_failed(member, os_error);
        tell_failed("read", member, os_error);
    }
    void flush_failed(MemberIndex member, int os_error) override {
        if (own_ != nullptr) return own_->flush_failed(member, os_error);
        tell_failed("flush", member, os_error);
    }
    void not_answering(MemberIndex member) override {
        if (own_ != nullptr) return own_->not_answering(member);
        tell_failed("answer", member, ETIMEDOUT);
    }
    void strip_write_failed(MemberIndex member, int os_error) override {
        if (own_ != nullptr) return own_->strip_write_failed(member, os_error);
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
    // Walks run where the array is decided about.
    void walk_begun(const WalkOrder& order) override { own().walk_begun(order); }
    void walk_passed() override { own().walk_passed(); }
    Task<Result<void>> walk_at(WalkPosition at) override { return own().walk_at(std::move(at)); }
    void walk_ended(WalkPosition at, Result<void> result) override {
        own().walk_ended(std::move(at), result);
    }
    void rows_wrong(WindowPlace place, RowMask rows, RoleSet strips, std::string what) override {
        own().rows_wrong(place, rows, strips, std::move(what));
    }

  private:
    Decider& own() {
        BRAID_REQUIRE(own_ != nullptr && "no walk runs here");
        return *own_;
    }
    void tell_failed(const char* what, MemberIndex member, int os_error);
    Task<Result<void>> ask_rows(const char* are, std::vector<BadRange> rows);
    Task<Result<void>> ask_some(const char* are, std::vector<BadRange> rows);
    Task<Result<void>> pass_on(std::string_view are, std::vector<BadRange> rows);
    Task<bool> is_asked_again(std::uint64_t masters, RefusalCode refused);

    Talk& talk_;
    std::uint32_t master_;
    std::uint64_t masters_{0};  // that came after the first one
    Decider* own_{nullptr};
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
