// SPDX-License-Identifier: BSD-3-Clause
// The array behind Array's interface: holds the parts together, keeps the configuration durable,
// and decides what runs in the background.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/array.h"
#include "engine/assembly/assembly.h"
#include "engine/assembly/new_member.h"
#include "engine/base/rng.h"
#include "engine/intent/write_intent.h"
#include "engine/layout/change.h"
#include "engine/layout/register.h"
#include "engine/members/bad_rows.h"
#include "engine/members/members.h"
#include "engine/metadata/config_slot.h"
#include "engine/serving/requests.h"
#include "engine/stripes/buffer_pool.h"
#include "engine/stripes/window_locks.h"
#include "engine/walks/walker.h"
#include "engine/walks/wrong_rows.h"

namespace braid {

class ArrayImpl final : public Array, private MemberMonitor, private WalkHost {
  public:
    ArrayImpl(ReadyQueue& ready, Clock& clock, Configuration configuration, ArrayOptions options);
    ~ArrayImpl() override;

    /// What assembly knows of the last stop; before start().
    struct Before {
        std::vector<IntentEntry> marked;
        std::uint64_t intent_generation{0};
        std::string intent_hindrance;
        std::uint64_t epoch_seen{0};
        std::vector<Uuid> away;  // in sync, and not among the disks that were given
    };
    void set_before(Before before) { before_ = std::move(before); }
    /// Why a member that was given takes no part; before start().
    void note_left_out(const MemberImage& image, const std::string& why);
    /// Puts a disk where the configuration has its record; before start().
    void put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata);
    /// Marks the array as in use and begins what is to run in the background.
    Task<Checked<Unit>> start();
    /// Ends what runs by itself; nothing is written any more.
    Task<void> end_tasks();
    void tell(Severity severity, std::string kind, std::string text);

    const Configuration& configuration() const override { return configuration_; }
    void submit(IoRequest& request) override { requests_.submit(request); }
    Task<Result<void>> stop() override { return stop_all(); }
    ArrayStatus status() const override;
    Task<Checked<Unit>> fail_member(std::string name, bool force) override {
        return run_fail(std::move(name), force);
    }
    Task<Checked<Unit>> remove_member(std::string name) override {
        return run_remove(std::move(name));
    }
    Task<Checked<Unit>> add_member(std::unique_ptr<Disk> disk, bool force) override {
        return run_add(std::move(disk), force);
    }
    Task<Checked<Unit>> replace_member(std::string name, std::unique_ptr<Disk> disk,
                                       bool force) override {
        return run_replace(std::move(name), std::move(disk), force);
    }
    Checked<Unit> start_scrub(bool repair) override;
    Checked<Unit> stop_scrub() override;
    Task<Checked<Unit>> change_intent(IntentChange change) override {
        return run_change_intent(change);
    }
    bool read_direct(std::uint64_t offset, ByteSpan into) override;
    void note_latency(Nanos latency) override;

  private:
    /// One operator's command on members at a time, and no spare taken meanwhile. Whoever was kept
    /// from something looks again at its end; stop() waits for it.
    struct Busy {
        ArrayImpl& array;
        explicit Busy(ArrayImpl& the_array) : array(the_array) { array.members_busy_ = true; }
        ~Busy() {
            if (array.abandoned_) return;
            array.members_busy_ = false;
            array.background_event_.set();
        }
        Busy(const Busy&) = delete;
        Busy& operator=(const Busy&) = delete;
    };
    /// The configuration is being written: nobody closes a disk.
    struct Writing {
        ArrayImpl& array;
        explicit Writing(ArrayImpl& the_array) : array(the_array) { array.writing_ = true; }
        ~Writing() { array.writing_ = false; }
        Writing(const Writing&) = delete;
        Writing& operator=(const Writing&) = delete;
    };
    /// An opened member without a role.
    struct Spare {
        std::unique_ptr<Disk> disk;
        MemberMetadata metadata;  // its uuid names the record
    };

    // MemberMonitor
    void read_failed(MemberIndex member, int os_error) override;
    void write_failed(MemberIndex member, int os_error) override;
    void strip_write_failed(MemberIndex member, int os_error) override;
    Task<Result<void>> rows_doubtful(WindowPlace place, RowMask rows) override {
        return doubt_rows(place, rows);
    }
    void write_refused(WindowPlace place, RowMask rows, RoleSet together) override;
    Task<Result<void>> losses_durable() override { return wait_for_writer({}, patience()); }
    Task<Result<void>> flush_members() override { return Requests::flush_members(context_); }
    Task<Result<void>> rows_known(std::vector<BadRange> rows) override {
        return unlist_rows(std::move(rows));
    }
    // WalkHost
    void walk_passed(const WalkOrder& order, WindowRange passed) override;
    Task<Result<void>> walk_checkpoint() override { return keep_position(); }
    Task<Result<void>> walk_unknown(std::vector<BadRange> rows) override {
        return list_rows(std::move(rows));
    }
    void walk_mismatch(WindowPlace place, RowMask rows, RoleSet strips, std::string what) override;
    void tell_wrong(const WrongRows& rows);
    void tell_wrong_before(std::uint64_t windows);
    void tell_more_wrong();
    LatencySample take_latency() override;

    Task<Result<void>> keep_position();
    Task<Result<void>> stop_all();
    Task<void> watch_stop();
    std::string why_stop_waits() const;
    Task<Result<void>> keep_final_state();
    struct RebuiltTo {
        Uuid uuid;
        StripeIndex stripe{};
    };
    std::vector<RebuiltTo> rebuilt_to() const;
    void note_rebuilt(const std::vector<RebuiltTo>& members);
    void note_positions();
    void note_away();
    MemberSet away() const;
    Checked<IntentSettings> plan_intent();
    void tell_failed();

    // What cannot be known, array_bad_rows.cpp.
    Task<Result<void>> list_rows(std::vector<BadRange> rows);
    Task<Result<void>> unlist_rows(std::vector<BadRange> rows);
    bool add_bad_rows(const std::vector<BadRange>& rows);
    bool take_bad_rows(std::vector<BadRange> more);
    MemberSet written_since() const;
    Task<Result<void>> doubt_rows(WindowPlace place, RowMask rows);
    std::vector<BadRange> bad_rows_with(const std::vector<BadRange>& rows) const;
    void adopt_bad_rows();
    void set_gates();
    bool list_doubt(MemberSet left_now);
    bool is_gone(MemberIndex member, std::uint64_t at, std::uint64_t& end,
                 std::optional<MemberIndex> also) const;
    void add_doubt_of(std::vector<BadRange>& rows, MemberIndex member, std::uint64_t at,
                      std::uint64_t end, bool left_now) const;
    void add_beside(std::vector<BadRange>& rows, const BadRange& range,
                    std::optional<MemberIndex> also, MemberSet left_now) const;
    std::vector<BadRange> undecidable_rows(std::optional<MemberIndex> also,
                                           MemberSet left_now) const;
    std::uint64_t cost_of_loss(MemberIndex member) const;
    std::uint64_t bytes_to_retry(MemberIndex member) const;
    void trust_doubt_by_force();
    void halt(const std::string& why);

    // After a crash, array_recovery.cpp.
    bool must_settle() const;
    StripeIndex doubt_listed_from() const;
    void begin_recovery();
    StripeIndex first_in_doubt() const;
    void resync_flushed(StripeIndex before);
    void marks_settled(StripeIndex first);
    std::string resync_result() const;
    RecoveryStatus recovery_status() const;
    std::uint64_t marked_windows_left() const;
    void note_recovery();
    Task<Checked<Unit>> run_fail(std::string name, bool force);
    Checked<Unit> may_fail(MemberIndex member, bool force) const;
    Task<Checked<Unit>> run_remove(std::string name);
    Task<Checked<Unit>> run_add(std::unique_ptr<Disk> disk, bool force);
    Task<Checked<Unit>> run_replace(std::string name, std::unique_ptr<Disk> disk, bool force);
    Task<Checked<Unit>> run_change_intent(IntentChange change);
    Checked<Unit> may_command() const;
    static Refusal not_durable(const Error& error);
    Task<Checked<Unit>> fail_now(std::string name, bool force);
    Task<Checked<Unit>> remove_spare(Uuid uuid);
    Task<Checked<bool>> is_same_disk(Disk* disk);
    Task<Checked<Unit>> tell_from_members(Disk* disk, bool force);
    Task<Checked<NewMember>> prepare(Disk* disk, Uuid uuid, bool force);
    Task<Checked<Unit>> join(Spare spare, MemberRecord joining, std::optional<MemberIndex> role);
    Checked<Unit> check_spares() const;
    static Refusal nothing_to_rebuild_from();
    /// A member that comes back, with what is on the bad-row list for it, array_return.cpp.
    struct TakeBack {
        MemberIndex member{};
        Disk* disk{nullptr};
        std::uint64_t data_offset{0};
    };
    bool is_back(MemberIndex role, const NewMember& prepared) const;
    Task<Checked<Unit>> heal_from(Disk* disk, MemberIndex role, const NewMember* prepared,
                                  bool force);
    Task<Result<std::uint64_t>> take_back(TakeBack from);
    Task<Result<std::uint64_t>> take_batch(TakeBack from, std::uint64_t* at, std::uint64_t end);

    // The configuration, array_configuration.cpp.
    /// The one place that changes what is wanted, in memory, at once; but for the version, which
    /// the writer gives it. changed() makes it durable.
    void change(const Change& what);
    void adopt(const Configuration& before);
    void adopt_state(const MemberRecord& at);
    /// The configuration changed in memory; a writer makes it durable. Gives the change's number.
    std::uint64_t changed();
    /// Until the change is durable, or, of none, what is owed; or the array has failed, or was
    /// refused so often.
    Task<Result<void>> wait_for_writer(std::optional<std::uint64_t> change,
                                       std::uint64_t refusals_max);
    Task<Result<void>> wait_durable(std::uint64_t change) {
        return wait_for_writer(change, ~std::uint64_t{0});
    }
    Task<Result<void>> wait_patiently(std::uint64_t change) {
        return wait_for_writer(change, patience());
    }
    /// Nothing is being written of it: members and spares may be moved, until the next co_await.
    bool is_settled() const { return changes_durable_ == changes_; }
    Task<void> write_configurations();
    Proposal propose_next();
    Task<bool> bring_into_force();
    Task<void> do_step(Proposal* proposal, const Configuration* now);
    Task<void> write_spares();
    void lose(MemberIndex member, MemberState state, const std::string& why);
    bool is_needed(MemberIndex member) const;
    void stop_writing(const std::string& why);
    // Members that are kept, and do not take the configuration, array_suspend.cpp.
    bool is_kept(MemberIndex member, const Error& error) const;
    void suspend(MemberIndex member, const Error& error);
    void end_suspensions();
    Task<void> wait_for_suspended();
    /// The number of refusals after which nobody waits any more who holds rows, or a client.
    std::uint64_t patience() const;
    Task<Result<void>> rewrite_patiently();
    void set_settles();
    std::string text_of_suspension(MemberIndex member) const;

    const MemberRecord& record(MemberIndex member) const { return *configuration_.member(member); }

    // What runs in the background, array_background.cpp.
    Task<void> run_background();
    std::optional<WalkOrder> next_walk();
    Task<void> use_spare();
    bool is_awaited(MemberIndex member) const;
    std::string why_spare_waits(MemberIndex member) const;
    std::vector<WaitStatus> waits() const;
    void walk_ended(const WalkOrder& order, const Result<void>& result);
    void scrub_ended(const WalkOrder& order, const Result<void>& result);
    void tell_walk_result();
    bool wait_for_members(const WalkOrder& order, std::uint64_t window, const Error& error);
    std::string why_walk_waits(const Error& error) const;
    Task<void> end_wait(Nanos until);

    // Members, array_members.cpp.
    Checked<std::size_t> find_record(const std::string& name) const;
    Checked<std::optional<MemberIndex>> find_role(const std::string& name) const;
    Spare* find_spare(const Uuid& uuid);
    const Disk* disk_of(const MemberRecord& at) const;
    bool is_in_use(const MemberRecord& at) const;
    Checked<MemberRecord> plan_record(const Disk& disk);
    bool is_open_role(MemberIndex member) const;
    std::optional<MemberIndex> first_open_role() const;
    const MemberMetadata& any_metadata() const;
    Task<void> close_slot(MemberIndex member);
    Task<void> let_go(MemberIndex member);
    std::string notice_of(const MemberRecord& at) const;
    void fill_role(MemberIndex member, Spare spare);
    std::string text_of_role(MemberIndex member) const;

    ReadyQueue& ready_;
    Clock& clock_;
    ArrayOptions options_;
    Rng rng_;
    Configuration configuration_;
    Geometry geometry_;
    Members members_;
    std::vector<MemberMetadata> metadata_;  // by role
    std::vector<std::string> why_lost_;     // by role; empty: it is not, or nobody knows
    std::vector<Spare> spares_;
    BadRows bad_;
    WindowLocks locks_;
    BufferPool pool_;
    WriteIntent intent_;
    Counters counters_;
    TaskGroup tasks_;
    StripeContext context_;
    Requests requests_;
    Walker walker_;

    Before before_;
    std::optional<RecoveryStatus> recovery_;
    Nanos recovery_since_{};
    std::vector<BadBytes> bad_bytes_;  // of configuration_.bad_rows
    std::uint64_t bad_bytes_size_{0};
    bool walk_told_joined_{false};
    bool walk_told_bad_{false};         // what the walk under way had to list
    std::uint64_t walk_bad_before_{0};  // bytes listed when it began

    // The register: what is known to be in force, whether its epoch is ours, and the highest epoch
    // that was seen, on any member or as a proposal of our own.
    Configuration in_force_;
    std::uint64_t own_epoch_{0};
    std::uint64_t epoch_seen_{0};

    std::uint64_t changes_{0};  // of the configuration in memory
    std::uint64_t changes_durable_{0};
    std::uint64_t losses_seen_{0};  // members_.losses() as of the newest change
    Event changed_event_;
    Event durable_event_;
    Event background_event_;  // there may be something to do
    Event resync_event_;      // less is in doubt, or the resync has ended
    bool background_running_{false};
    bool scrub_cancelled_{false};
    std::optional<MemberIndex> rebuild_stuck_;  // could not go on; not tried again by itself
    bool resync_stuck_{false};
    std::string why_rebuild_stuck_;
    std::string why_resync_stuck_;
    static constexpr std::uint64_t walk_pause_first = 2'000'000'000;
    static constexpr std::uint64_t walk_pause_max = 4'000'000'000;  // writes may wait for it
    Nanos walk_pause_{};      // the last one; none: walks go on
    bool walk_waits_{false};  // for members, until end_wait() ends
    /// The walk that waits, or that waited last and has not ended since.
    struct WalkWait {
        WalkOrder order;
        std::uint64_t window{0};
        Nanos since{};         // it has come no further than to that window
        bool no_reads{false};  // a member answers none, which may pass
        std::string why;
    };
    std::optional<WalkWait> walk_wait_;
    MemberSet spare_told_;  // roles that a spare does not take: that was said
    MemberSet given_up_;    // roles whose last member's rows were given up by force
    Timer* waiting_{nullptr};
    std::optional<WalkStatus> last_scrub_;
    bool draining_{false};  // no request is taken any more
    bool stopping_{false};  // and nothing new begins in the background
    bool stopped_{false};
    Timer* stop_timer_{nullptr};  // of watch_stop()
    bool abandoned_{false};       // destroyed without stop(): frames end where they are
    bool members_busy_{false};    // an operator's command on members runs
    bool writing_{false};         // the configuration, to members that may be lost meanwhile
    // A member that is kept did not take it, as often; the last ones without one that held between.
    std::uint64_t refusals_{0};
    std::uint32_t refused_in_row_{0};
    std::uint32_t refused_last_{0};  // of them, while somebody stops, or starts
    Error refusal_;                  // the newest: what those are told who wait for it
    std::uint64_t owed_{0};          // the change after which Members::owes() nothing for rows
    bool failed_told_{false};
    std::optional<Nanos> write_refused_told_;
    std::uint64_t events_told_{0};
    std::deque<ArrayEvent> events_;
    WrongRowsJoiner wrong_{configuration_};
    std::uint64_t wrong_told_{0};  // runs of rows, one by one
    WrongRows wrong_more_;         // from the first to the last of those told together
    std::uint64_t wrong_more_runs_{0};
    std::uint64_t wrong_more_rows_{0};

    // Written by any thread.
    std::atomic<std::uint64_t> latency_count_{0};
    std::atomic<std::uint64_t> latency_nanos_{0};
    std::atomic<std::uint64_t> direct_reads_{0};
    LatencySample latency_taken_;  // the loop's thread
};

}  // namespace braid
