// SPDX-License-Identifier: BSD-3-Clause
// RowClaims: who has which rows of which windows for himself, and who waits for them, first come
// first served. Two kinds wait: parts of writes, which are merged into one stripe job when their
// rows come free, and coroutines that want rows for themselves (RowClaim: degraded reads, rebuild,
// scrub). Different rows of a window are independent.
//
// Who is going to write claims rows only when a durable mark names their stripe, and keeps the mark
// until he has let them go: nobody waits for a mark, or for room for one, with rows in his hands.
// So a job is taken in two steps. `next_window()` gives a window that a job could be taken from;
// its parts stay where they are, each in its turn: what comes later and wants the same rows waits
// behind them, as if they were claimed. When the mark is there `take_job()` claims the rows of all
// that fit together by then. What can come between:
// - More parts: they are merged with those that wait, or come after them.
// - A claim, or a job that failed and was split: it has rows that were free of the parts in front,
//   or its parts go to the head, where they were before. take_job() looks at all of it again.
// - The record is refused, or the array fails: the job is taken all the same, and its parts are
//   told. Nothing is written.
// - The mark gets old, and everything is flushed: it stays, because it is held.
// - A crash: the stripe is marked, and nothing was written. It is made true in vain.
#pragma once

#include <array>
#include <bit>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/base/limits.h"
#include "engine/io/task.h"
#include "engine/io_request.h"
#include "engine/layout/geometry.h"
#include "engine/layout/roles.h"
#include "engine/layout/window_set.h"

namespace braid {

struct WindowEntry;

/// Which rows of one strip a part covers at least a byte of, and which of them entirely.
struct Coverage {
    RowMask any{0};
    RowMask full{0};
};

/// What waits for rows, or holds them: a request's bytes in one window, or a RowClaim.
struct Part {
    IoRequest* request{nullptr};  // none: a RowClaim
    WindowEntry* entry{nullptr};
    std::uint64_t begin{0};  // bytes in the stripe's data; [begin, end)
    std::uint64_t end{0};
    RowMask rows{0};
    RoleSet strips;     // data strips that it has a byte of, in the window
    Coverage head;      // of the first of them, and of the last;
    Coverage tail;      // those between are covered entirely
    bool alone{false};  // not to be merged again: a job that it shared failed
    Part* next{nullptr};
    ReadyQueue* queue{nullptr};  // RowClaim only
    std::coroutine_handle<> handle{};

    /// Looks up, once, which rows of the window's strips [begin, end) covers; `among`: no others
    /// can be.
    void cover(const Geometry& geometry, std::uint32_t window, RoleSet among);
    /// Of one of `strips`.
    Coverage coverage(Role role) const {
        if (role == *strips.begin()) return head;
        const bool last =
            raw(role) + 1 == static_cast<std::uint32_t>(std::bit_width(strips.bits()));
        return last ? tail : Coverage{rows, rows};
    }
};
Coverage coverage_of(const Geometry& geometry, std::uint32_t window, const Part& part,
                     std::uint32_t strip);

struct WindowEntry {
    WindowPlace place;
    RowMask claimed{0};
    bool listed{false};      // a job can be taken from it, or is just going to be
    std::uint32_t users{0};  // jobs and claims that hold rows
    Part* first{nullptr};    // waiting, in the order of arrival
    Part* last{nullptr};
    WindowEntry* chain{nullptr};  // of the hash bucket, or of the free list
    WindowEntry* start_next{nullptr};
};

/// Parts that are carried out together: all in one window, no two on the same row of a strip.
struct JobParts {
    WindowEntry* entry{nullptr};
    Part* first{nullptr};
    Part* last{nullptr};
    std::uint32_t count{0};
    RowMask rows{0};
    std::array<Coverage, members_max> strips;  // of the geometry's data strips
    RoleSet covered;                           // strips with any row
};

/// Told whenever there is a window more that a job can be taken from.
class JobListener {
  public:
    virtual ~JobListener() = default;
    virtual void job_ready() = 0;
};

class RowClaims {
  public:
    explicit RowClaims(const Geometry& geometry) : geometry_(geometry), buckets_(bucket_count) {}
    RowClaims(const RowClaims&) = delete;
    RowClaims& operator=(const RowClaims&) = delete;

    void set_listener(JobListener* listener) { listener_ = listener; }
    /// A part of a write joins the window's queue.
    void add(Part& part, WindowPlace place);
    /// A window that a job can be taken from; null: there is none. It is the caller's until
    /// take_job(), which has to follow.
    WindowEntry* next_window();
    /// Merges what waits in the window and fits together, and claims its rows. False: its turn has
    /// not come after all.
    bool take_job(WindowEntry& window, JobParts& job);
    /// The job is over; its parts are no longer looked at.
    void end_job(const JobParts& job) { release(*job.entry, job.rows); }
    /// Ends the job but puts its parts back to the head of the queue, to be run one by one.
    void split_job(JobParts& job);
    bool has_jobs() const { return start_first_ != nullptr; }

    /// For RowClaim.
    bool try_claim(Part& part, WindowPlace place);
    void wait(Part& part);
    void release(WindowEntry& entry, RowMask rows);

    /// Windows of which somebody has rows.
    WindowSet claimed() const;
    /// Somebody has all of these rows.
    bool are_claimed(WindowPlace place, RowMask rows) const;

    std::size_t entries_in_use() const { return in_use_; }
    /// The array ends without stop(): whoever holds or waits is destroyed, in any order, and
    /// releasing does nothing from now on.
    void abandon() { abandoned_ = true; }

  private:
    static constexpr std::size_t bucket_count = 4096;
    WindowEntry* find(WindowPlace place) const;
    WindowEntry& find_or_make(WindowPlace place);
    void forget_if_idle(WindowEntry& entry);
    void grant(WindowEntry& entry);
    void list(WindowEntry& entry);
    std::size_t bucket_of(WindowPlace place) const;

    const Geometry& geometry_;
    std::vector<WindowEntry*> buckets_;
    std::deque<WindowEntry> entries_;  // their addresses stay
    WindowEntry* free_{nullptr};
    WindowEntry* start_first_{nullptr};
    WindowEntry* start_last_{nullptr};
    std::size_t in_use_{0};
    bool abandoned_{false};
    JobListener* listener_{nullptr};
};

/// `RowClaim claim{claims, place, rows}; co_await claim;` holds the rows until it ends.
class RowClaim {
  public:
    RowClaim(RowClaims& claims, WindowPlace place, RowMask rows) : claims_(claims), place_(place) {
        part_.rows = rows;
    }
    RowClaim(const RowClaim&) = delete;
    RowClaim& operator=(const RowClaim&) = delete;
    ~RowClaim() { release(); }

    bool await_ready() {
        held_ = claims_.try_claim(part_, place_);
        return held_;
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        part_.queue = static_cast<PromiseBase&>(self.promise()).queue;
        part_.handle = self;
        claims_.wait(part_);
    }
    void await_resume() { held_ = true; }
    void release() {
        if (held_) claims_.release(*part_.entry, part_.rows);
        held_ = false;
    }

  private:
    RowClaims& claims_;
    WindowPlace place_;
    Part part_;
    bool held_{false};
};

}  // namespace braid
