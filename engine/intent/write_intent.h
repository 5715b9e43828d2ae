// SPDX-License-Identifier: BSD-3-Clause
// WriteIntent: before the first byte of a stripe changes, a record on the members says so, so that
// after a crash only what it names has to be made true. Which regions those are, IntentMarks keeps.
// One record holds all marks of this node; it is written as a whole, one for all writers that came
// while the one before was on its way (group commit). A mark is durable before any write under it
// starts. After a crash the marks of before stay until what they name is made true.
// Where a member that is kept does not take the record, for want of room or because the level needs
// it, those who wait for it are told, and the next one who wants a record has it tried again: under
// the same number, since nothing has begun under it.
//
// While members are away, what they miss of this node is in each record, too (Members::absence()): in one
// write with the marks, so that no mark leaves before the stripes are named there.
//
// Invariants. The newest record on the members names every stripe that a write may have left with
// parity that is not true. Generation g goes to slot g mod 2 of the same members as g-1 as long as
// they live, and g-1 is left alone: a torn g falls back to it, and nothing that only g announces
// has begun then.
#pragma once

#include <array>
#include <coroutine>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/decider.h"
#include "engine/intent/intent_marks.h"
#include "engine/io/clock.h"
#include "engine/io/task.h"
#include "engine/layout/configuration.h"
#include "engine/layout/doubt.h"
#include "engine/layout/geometry.h"
#include "engine/members/members.h"
#include "engine/metadata/intent_record.h"
#include "engine/status.h"

namespace braid {

class WriteIntent {
  public:
    /// Whose record it is, and over which volumes regions are laid.
    struct Identity {
        Uuid array;
        std::uint32_t node{0};
        std::vector<VolumeRecord> volumes;
    };
    struct Start {
        IntentSettings settings;
        std::uint64_t generation{0};      // the newest one that is on any member
        std::vector<IntentEntry> marked;  // left from the last run
    };

    WriteIntent(Clock& clock, const Geometry& geometry, Members& members, Decider& decider,
                Identity identity);
    WriteIntent(const WriteIntent&) = delete;
    WriteIntent& operator=(const WriteIntent&) = delete;
    ~WriteIntent();

    /// Begins the work in the background; nothing is written yet.
    void start(Start start, TaskGroup& tasks);
    /// Waits until a record is durable that was put together after this call, on as many members
    /// as there have to be now. Does nothing while the intent is off. Errc::full: a member has no
    /// room for it; Errc::io: one that is needed does not take it, or is not heard of just now.
    Task<Result<void>> rewrite();
    /// Takes every mark that is clean out of the next record, also those that would linger.
    void drop_clean() { marks_.drop_clean(); }
    /// The background ends; no hold may be waiting.
    void stop();
    /// The array ends without stop().
    void abandon() { abandoned_ = true; }

    /// From now on writes are marked (after rewrite() durably), or not. Switched on, `unmarked()`
    /// writes are still under way that began before.
    void set_on(bool on);
    bool on() const { return on_; }
    std::uint32_t unmarked() const { return unmarked_; }
    Event& unmarked_ended() { return unmarked_ended_; }
    void set_region(std::uint64_t bytes) { marks_.set_region(bytes); }

    /// Whose role it is from now on: records name members that are away.
    void set_member(MemberIndex member, const Uuid& uuid) {
        uuids_[raw(member)] = uuid;
        members_changed();
    }
    /// Members left, or came: with time a record says so, if no other one does before.
    void members_changed() {
        tells_late_ = true;
        used_event_.set();
        again_.set();
    }
    /// Epoch for the next records; for people and tests.
    void set_epoch(std::uint64_t epoch) { epoch_ = epoch; }
    /// The array has failed: those who wait are told.
    void array_failed();

    /// flush_drives(), after which marks whose writes it covers may go.
    Task<Result<void>> flush();

    /// The stripe is in doubt from now on, whoever wrote it; its mark must still be held.
    void carry(StripeIndex stripe);
    /// Everything marked before `stripe` was made true, and flushed.
    void retire_before(StripeIndex stripe);
    /// What is marked from `stripe` on is listed elsewhere.
    void retire_from(StripeIndex stripe) { marks_.retire_from(stripe); }
    const std::vector<IntentEntry>& carried() const { return marks_.carried(); }
    bool has_carried() const { return marks_.has_carried(); }
    /// Was marked when the array stopped, and what made it true since is not known to be durable.
    bool is_carried(StripeIndex stripe) const { return marks_.is_carried(stripe); }
    std::uint64_t stripes_carried() const { return marks_.stripes_carried(); }

    /// Stripes [first, first + count) are all under the mark of `first`.
    std::uint64_t stripes_together(StripeIndex first) const {
        return marks_.stripes_together(first);
    }

    /// Stripes of which a member that leaves now may not have everything.
    std::vector<IntentEntry> maybe_missed() const { return marks_.maybe_missed(); }
    /// Of the newest record that this member holds of this node, by this run; 0: none.
    std::uint64_t generation_at(MemberIndex member) const { return held_[raw(member)]; }
    /// Another disk has the role from now on.
    void forget_generation_at(MemberIndex member) { held_[raw(member)] = 0; }

    IntentStatus status() const;

    /// `WriteIntent::Hold hold{intent, stripe}; BRAID_CO_CHECK(co_await hold);` Until it ends the
    /// stripe, and all others of its region, stay marked. The record is on its way as soon as it
    /// is made; the wait may come later, but before rows are claimed.
    class Hold {
      public:
        Hold(WriteIntent& intent, StripeIndex stripe) : intent_(intent), stripe_(stripe) {
            intent_.enter(*this);
        }
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;
        ~Hold() { intent_.leave(*this); }

        bool await_ready() const { return intent_.is_ready(*this); }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) {
            queue_ = static_cast<PromiseBase&>(self.promise()).queue;
            handle_ = self;
            intent_.wait(*this);
        }
        /// Errc::failed: the record cannot be written, the array has failed. Errc::full: a member
        /// has no room for it; Errc::io: one that is needed does not take it. Also where there is
        /// no room in it, and what would make some failed.
        Result<void> await_resume() const {
            if (intent_.members_.failed()) return Error{Errc::failed, "write intent"};
            if (refused_) return *refused_;
            return {};
        }

        /// Writes to the stripe, which is this hold's or another of its region, can begin.
        bool is_durable_for(StripeIndex stripe) const {
            return intent_.is_durable_for(*this, stripe);
        }

      private:
        friend class WriteIntent;
        WriteIntent& intent_;
        StripeIndex stripe_;
        IntentMarks::Mark* mark_{nullptr};  // none: not marked, or it waits for room
        bool marked_{false};                // the intent was on
        bool wants_room_{false};
        std::optional<Error> refused_;
        Hold* next_{nullptr};  // of those that wait for room
        Hold* next_waiting_{nullptr};
        ReadyQueue* queue_{nullptr};
        std::coroutine_handle<> handle_{};
    };

    static constexpr std::uint64_t tick_nanos = 1'000'000'000;
    static constexpr std::uint64_t clean_ticks = 2;  // between two rounds of cleaning, at least

  private:
    void enter(Hold& hold);
    void leave(Hold& hold);
    bool is_ready(const Hold& hold) const;
    bool is_durable_for(const Hold& hold, StripeIndex stripe) const;
    void wait(Hold& hold);
    bool assign(Hold& hold);
    void serve_room();
    void wake();
    void want_record();
    Task<void> clean();
    std::vector<MemberIndex> targets() const;
    void put_absent(IntentRecord* record) const;

    enum class Outcome : std::uint8_t { held, lost, refused, waits };
    Task<void> write_records();
    Task<Outcome> write_record();
    void refuse(Error error);
    void take_again(std::uint64_t generation, Error error);
    void refuse_room(Error error);
    Task<void> tick();
    Task<void> make_room();
    void note_rate();

    Clock& clock_;
    const Geometry& geometry_;
    Members& members_;
    Decider& decider_;
    Uuid array_;
    std::uint32_t node_;
    IntentMarks marks_;
    bool on_{false};
    bool abandoned_{false};
    bool stopping_{false};
    std::uint64_t epoch_{0};

    std::uint64_t generation_{0};                    // of the newest record that was put together
    std::uint64_t durable_{0};                       // of the newest one on the members
    std::array<std::uint64_t, members_max> held_{};  // of the newest one on each
    std::array<Uuid, members_max> uuids_{};          // whose role it is
    bool tells_late_{false};        // of members that left, or came; not in `generation_`
    bool dirty_{false};             // a mark, or somebody's wish, is not in `generation_`
    std::optional<Error> refused_;  // the newest one was
    MemberSet refusing_;            // did not take one a while ago
    std::uint64_t refusals_{0};
    Hold* waiting_{nullptr};     // for a record
    Hold* room_first_{nullptr};  // for a place in it
    Hold* room_last_{nullptr};
    std::uint32_t waiting_count_{0};
    std::uint32_t unmarked_{0};
    Event unmarked_ended_;
    Event wanted_;   // a record is
    Event written_;  // a record was, or the array has failed
    Event room_wanted_;
    Event used_event_;  // there are marks: time goes on
    Event again_;       // a member that did not answer may do so now, or be lost

    Timer* ticking_{nullptr};
    std::uint64_t clean_tick_{0};       // of the last round of cleaning
    std::uint64_t records_cleaned_{0};  // records_ as of then
    std::uint64_t records_{0};
    std::uint64_t flushes_{0};
    std::uint64_t rate_records_{0};
    Nanos rate_since_{};
    double rate_{0};
};

}  // namespace braid
