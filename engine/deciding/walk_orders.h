// SPDX-License-Identifier: BSD-3-Clause
// WalkOrders: what the array does by itself, one at a time, in this order: a spare takes the role
// of a lost member, a resync, a rebuild, a scrub that was asked for. A walk whose members do not
// answer, or have no room, waits and is tried again; one that cannot go on is told of, and left.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/deciding_part.h"
#include "engine/deciding/recovery.h"
#include "engine/deciding/roster.h"
#include "engine/deciding/scrub_log.h"
#include "engine/deciding/unknown_rows.h"
#include "engine/io/pauses.h"

namespace braid {

class MemberOrders;

class WalkOrders final : public DecidingPart {
  public:
    struct Parts {
        ConfigurationWriter& writer;
        Roster& roster;
        UnknownRows& unknown;
        Recovery& recovery;
        MemberOrders& orders;
    };
    WalkOrders(const DecidingContext& context, Parts parts);

    void start();
    bool running() const { return running_; }
    /// Nothing new begins: the stage says so already. What waits is woken.
    void stop();

    // As Decider has them.
    void walk_begun(const WalkOrder& order);
    void walk_passed() { resync_event_.set(); }
    Task<Result<void>> walk_at(WalkPosition at);
    void walk_ended(WalkPosition at, Result<void> result);
    ScrubLog& scrub_log() { return scrub_log_; }

    /// Ends when the walk runs. What comes in its way before that withdraws the order.
    Task<Checked<Unit>> start_scrub(ScrubMode mode);
    /// Somebody waits for a scrub to begin: a stop waits for him.
    bool starting_scrub() const { return scrub_starting_; }
    Checked<Unit> stop_scrub();

    /// For a stop that waits for the resync: until less is in doubt, or the resync has ended. What
    /// else walks is cancelled.
    Task<void> wait_for_resync();
    /// A stop waits for it, and is to.
    bool must_resync() const;
    /// Nobody waits any more for what cannot come.
    void array_failed() { resync_event_.set(); }
    /// Whether requests may wait for a resync is looked at again.
    void set_resync_comes();

    /// `member` has another disk now, in whose place nothing waits.
    void role_filled(MemberIndex member);

    bool resync_stuck() const { return resync_stuck_; }
    const std::optional<WalkStatus>& last_scrub() const { return last_scrub_; }
    /// What ought to run, and does not.
    std::vector<WaitStatus> waits() const;

  private:
    /// The walk that waits, or that waited last and has not ended since.
    struct WalkWait {
        WalkOrder order;
        WindowIndex window{};
        Nanos since{};         // it has come no further than to that window
        bool no_reads{false};  // a member answers none, which may pass
        std::string why;
    };

    Task<void> run();
    Checked<Unit> may_scrub(ScrubMode mode) const;
    Task<Result<void>> walk(WalkOrder order);
    std::optional<WalkOrder> next_walk();
    std::optional<Uuid> next_spare() const;
    Task<void> pass_over(Uuid spare, MemberIndex member);
    Task<void> use_spare();
    bool is_awaited(MemberIndex member) const;
    bool is_only_away(MemberIndex member);
    std::optional<Nanos> awaited_until(MemberIndex member) const;
    std::string why_spare_is_held(MemberIndex member) const;
    Task<void> look_again_at(Nanos time);
    std::string why_spare_waits(MemberIndex member) const;
    void end_walk(const Result<void>& result);
    void end_scrub(const Result<void>& result);
    Task<void> tell_done(const char* kind, std::string text);
    void tell_walk_result();
    bool wait_for_members(const WalkPosition& at, const Error& error);
    std::string why_walk_waits(const WalkPosition& at, const Error& error) const;
    Task<void> end_wait(Nanos until);

    static constexpr std::uint64_t pause_first = 2'000'000'000;
    static constexpr std::uint64_t pause_max = 4'000'000'000;  // writes may wait for it

    ConfigurationWriter& writer_;
    Roster& roster_;
    UnknownRows& unknown_;
    Recovery& recovery_;
    MemberOrders& orders_;
    ScrubLog scrub_log_;

    bool running_{false};
    Event resync_event_;  // less is in doubt, or the resync has ended
    Event ended_;
    std::optional<Result<void>> result_;  // of the walk that has ended
    WalkPosition at_;                     // and where
    bool scrub_cancelled_{false};
    bool scrub_starting_{false};  // somebody waits for the walk to begin
    bool scrub_ordered_{false};   // the walk, which has not ended
    bool scrub_begun_{false};     // since then
    Event scrub_event_;           // it has begun, or what it waits for may have changed
    std::optional<MemberIndex> rebuild_stuck_;  // could not go on; not tried again by itself
    bool resync_stuck_{false};
    std::string why_rebuild_stuck_;
    std::string why_resync_stuck_;
    Nanos pause_{};      // the last one; none: walks go on
    bool waits_{false};  // for members, until end_wait() ends
    std::optional<WalkWait> wait_;
    Timer* waiting_{nullptr};
    MemberSet spare_told_;  // roles that a spare does not take: that was said
    MemberSet given_up_;    // roles whose last member's rows were given up by force
    struct Away {
        Uuid uuid;
        Nanos since{};
    };
    std::map<MemberIndex, Away> away_;  // members that are missing, and may be back
    bool looks_again_{false};           // when the first of them has been waited for
    Timer* spare_waiting_{nullptr};
    Pauses spare_pauses_;
    std::set<Uuid> spares_passed_over_;  // their nodes could not give them a role a moment ago
    std::set<Uuid> spares_refused_;      // that was said
    std::optional<WalkStatus> last_scrub_;
};

}  // namespace braid
