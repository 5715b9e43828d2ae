// SPDX-License-Identifier: BSD-3-Clause
// ConfigurationWriter: keeps what is wanted, and brings it into force (engine/layout/register.h).
// change() is immediate, in memory, and adopted by who serves; one coroutine writes what is wanted
// to the members, and whoever changed it waits for the number of the change. A member may refuse it
// and be kept; then it is tried again (refusals.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/deciding/deciding_part.h"
#include "engine/deciding/roster.h"
#include "engine/layout/change.h"
#include "engine/layout/register.h"

namespace braid {

class Losses;
class UnknownRows;

class ConfigurationWriter final : public DecidingPart {
  public:
    struct Parts {
        Roster& roster;
        Losses& losses;
        UnknownRows& unknown;
    };
    /// @param wanted  what the context calls its configuration: it is changed here alone
    ConfigurationWriter(const DecidingContext& context, Configuration& wanted, Parts parts);

    /// The configuration that the members are known to have, and the highest epoch that was seen;
    /// before start().
    /// @param ties_broken  those that count need no witness: break_ties()
    void set_known(std::uint64_t epoch_seen, bool ties_broken);
    void start();
    /// An epoch that a disk knows which was not there at the start.
    void note_seen(std::uint64_t epoch) { epoch_seen_ = std::max(epoch_seen_, epoch); }
    /// Ends what start() began; nothing is written any more. The stage says so already.
    void stop() { changed_event_.set(); }

    /// The one place that changes what is wanted, in memory, at once; but for the version, which
    /// the writer gives it. changed() makes it durable.
    void change(const Change& what);
    /// The configuration changed in memory; a writer makes it durable. Gives the change's number.
    std::uint64_t changed();
    /// Of the newest change.
    std::uint64_t changes() const { return changes_; }
    bool is_durable(std::uint64_t change) const { return changes_durable_ >= change; }
    /// Nothing is being written of it: members and spares may be moved, until the next co_await.
    bool is_written() const { return changes_durable_ == changes_; }

    /// Until the change is durable; or the array has failed.
    Task<Result<void>> wait_durable(std::uint64_t change) {
        return wait_for_writer(change, ~std::uint64_t{0});
    }
    /// Not longer than a member that is kept may refuse it, for those who hold rows, or a client.
    Task<Result<void>> wait_patiently(std::uint64_t change) {
        return wait_for_writer(change, patience());
    }
    /// What was changed in memory, and `what`, comes into force: waits patiently.
    Task<Result<void>> propose() { return wait_patiently(changed()); }
    Task<Result<void>> propose(const Change& what) {
        change(what);
        return propose();
    }
    /// Until nothing is owed (Members::owes()).
    Task<Result<void>> losses_durable() { return wait_for_writer({}, patience()); }
    /// Rows left the list, no durable configuration says so, and nobody waits for it any more:
    /// until this change is durable, who writes waits for it.
    void owe(std::uint64_t change);
    /// Of a member by what is in force: after a crash this counts. Nothing: it is not known there.
    std::optional<MemberState> state_in_force(const MemberRecord& at) const;
    /// It is lost, and its disk does not answer: what is being written to it is not waited for.
    void give_up(MemberIndex member);
    /// Nobody waits any more for what cannot come.
    void array_failed() { durable_event_.set(); }

    /// What is in force; no members: not known yet.
    const Configuration& in_force() const { return in_force_; }
    /// Called when another one is. Once, before start().
    void set_on_in_force(std::function<void()> then) { on_in_force_ = std::move(then); }
    /// What is in force has enough members in sync.
    bool was_enough() const;
    /// A member has refused it so often that nobody waits for what needs a new configuration.
    bool is_refused() const;
    std::string text_of_refusal(MemberIndex member) const;

    /// How often what a start, or a stop, needs is tried, and the pause between two of them.
    static constexpr std::uint32_t tries_last_max = 10;
    static constexpr Nanos pause_first = millis(500);

  private:
    Task<Result<void>> wait_for_writer(std::optional<std::uint64_t> change,
                                       std::uint64_t refusals_max);
    Task<void> write_configurations();
    Proposal propose_next();
    bool is_revision() const;
    bool is_witness(MemberIndex member) const;
    bool needs_witness() const;
    Disk& disk_at(MemberIndex member);
    MemberMetadata& metadata_at(MemberIndex member);
    Task<bool> bring_into_force();
    struct Round;
    Task<void> do_step(Proposal* proposal, const Configuration* now);
    Task<void> do_step_at(std::shared_ptr<Round> round, MemberIndex member);
    struct Patience;
    std::shared_ptr<Patience> be_patient();
    Task<void> count_turns(std::shared_ptr<Patience> patience);
    struct SpareWrite;
    Task<void> write_spares();
    Task<void> write_spare(std::shared_ptr<SpareWrite> write);
    void note_silent(const SpareWrite& write);
    bool is_kept(MemberIndex member, const Error& error) const;
    void note_refusal(MemberIndex member, const Error& error);
    void end_refusals();
    Task<void> wait_after_refusal();
    std::uint64_t patience() const;

    /// Of a member that is kept although it refuses what is to be in force.
    struct Refusing {
        Nanos since{};
        int os_error{0};
    };

    Configuration& wanted_;
    Roster& roster_;
    Losses& losses_;
    UnknownRows& unknown_;

    // The register: what is known to be in force, whether its epoch is ours, and the highest epoch
    // that was seen, on any member or as a proposal of our own.
    Configuration in_force_;
    std::uint64_t own_epoch_{0};
    std::uint64_t epoch_seen_{0};
    bool ties_broken_{false};  // of what was found at the start
    std::function<void()> on_in_force_;

    std::uint64_t changes_{0};  // of the configuration in memory
    std::uint64_t changes_durable_{0};
    std::uint64_t loss_version_seen_{0};  // members_.loss_version() as of the newest change
    std::uint64_t owed_{0};               // the change after which Members::owes() nothing for rows
    Event changed_event_;
    Event durable_event_;
    Event step_event_;    // a member has done its part of a step, or is given up
    MemberSet given_up_;  // lost, and does not answer

    // A member that is kept did not take it, as often; the last ones without one that held between.
    std::uint64_t refusals_{0};
    std::uint32_t refused_in_row_{0};
    std::uint32_t refused_last_{0};                  // of them, while somebody stops, or starts
    std::vector<std::optional<Refusing>> refusing_;  // by role
    Error refusal_;  // the newest: what those are told who wait for it
};

}  // namespace braid
