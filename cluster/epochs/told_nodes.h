// SPDX-License-Identifier: BSD-3-Clause
// ToldNodes: the nodes that serve an array as one ServingNode, on the node that decides: what it is
// told goes to this node by a call and to each other one as a message, in the same order. What only
// this node can answer, or do, is this node's: walks run here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cluster/bus/talk.h"
#include "engine/serving/serving.h"
#include "engine/serving_node.h"

namespace braid::cluster {

class ToldNodes final : public ServingNode {
  public:
    /// A disk that was given to the array: it is the member from now on. Called before any node is
    /// told of it.
    using Attach = std::function<void(MemberIndex, std::unique_ptr<Disk>, DataArea)>;
    struct Setup {
        Talk& talk;
        std::vector<std::uint32_t> others;
        Serving& own;
        Attach attach;
        std::function<bool(const Disk&)> is_there;  // its node
        std::function<std::uint32_t(const Disk&)> home_of;
        std::function<Task<Result<void>>(MemberIndex, const Disk&, DataArea)> prepare;
        std::function<void(const Configuration&)> adopted_here;
        std::function<void(const Configuration&)> in_force_here;
        std::function<void(MemberIndex)> lost_here;
        std::function<Task<Checked<std::uint64_t>>(ReturningMember)> begin_return;
        std::function<Task<Checked<std::uint64_t>>(ReturningMember)> windows_missed;
        std::function<void()> end_return;
    };
    explicit ToldNodes(Setup setup) : setup_(std::move(setup)) {}

    /// From now on the node is told nothing, and not waited for.
    void leave_out(std::uint32_t node) {
        std::erase(setup_.others, node);
        // Who leaves the witness's node out expects nothing of the witness any more, and nobody was
        // told of that: when it is back all have to be.
        told_witness_.reset();
    }
    /// From now on it is told, and waited for; first of all what holds now. It knows the configuration,
    /// and has the members' disks. Nothing of the array is changing: NodesListener::is_in_force_as_wanted().
    void let_in(std::uint32_t node);
    void tell_all(const Words& words);
    /// Refused: one is gone.
    Task<Result<void>> ask_all(const Words& words);

    // ServingNode
    void adopt(const Configuration& wanted) override;
    Task<Result<void>> adopted() override;
    void member_lost(MemberIndex member, MemberState state) override;
    void in_force(const Configuration& now, std::uint64_t loss_version) override;
    void expect_of_witness(Witness expected) override;
    void set_owing(bool owing) override;
    void halt() override;
    void array_failed() override;
    bool is_there(const Disk& disk) const override { return setup_.is_there(disk); }
    std::uint32_t home_of(const Disk& disk) const override { return setup_.home_of(disk); }
    Task<Result<void>> prepare(MemberIndex member, const Disk& disk, DataArea area) override {
        return setup_.prepare(member, disk, area);
    }
    void attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) override;
    std::unique_ptr<Disk> detach(MemberIndex member) override;
    Task<Checked<std::uint64_t>> begin_return(ReturningMember back) override {
        return setup_.begin_return(std::move(back));
    }
    Task<Checked<std::uint64_t>> windows_missed(ReturningMember back) override {
        return setup_.windows_missed(std::move(back));
    }
    void end_return() override {
        setup_.own.end_return();
        setup_.end_return();
    }
    void add_doubt(WindowRange windows) override;
    void trust_all() override;
    Task<Result<void>> flush() override { return setup_.own.flush(); }
    void walk(const WalkOrder& order) override { setup_.own.walk(order); }
    void cancel_walk() override { setup_.own.cancel_walk(); }
    std::optional<WalkPosition> walking() const override { return setup_.own.walking(); }
    void set_resync_comes(bool comes) override;
    bool marks() const override { return setup_.own.marks(); }
    MarksLeft marks_left() const override { return setup_.own.marks_left(); }
    Task<Result<void>> write_marks() override { return setup_.own.write_marks(); }
    Task<Result<void>> write_all_marks() override;
    void retire_marks(StripeIndex before) override;
    void set_region(std::uint64_t region) override;
    Task<Result<void>> begin_marks() override;
    void end_marks() override;
    void keep_marks_in_doubt(StripeIndex listed) override {
        setup_.own.keep_marks_in_doubt(listed);
    }
    Task<Result<std::uint64_t>> take_back(ReturningDisk from) override {
        return setup_.own.take_back(from);
    }

  private:
    using Asked = Task<std::vector<Checked<Words>>>;
    static Task<Result<void>> wait_for(Asked asked);

    Setup setup_;
    std::optional<Configuration> told_;  // the newest that others were told of
    bool resync_comes_{false};           // as others were told
    std::optional<Witness> told_witness_;
};

/// What is marked from before the last start, in as many messages as it takes.
std::vector<Words> words_of_marked(const std::vector<IntentEntry>& marked);

/// As it travels: what a slot has as text.
Words words_of(const Configuration& configuration);
Checked<Configuration> configuration_of(const Words& words);

}  // namespace braid::cluster
