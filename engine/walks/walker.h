// SPDX-License-Identifier: BSD-3-Clause
// Walker: goes over the whole array, a batch of windows at a time, under their locks. One mechanism
// for three jobs: rebuild computes a member's strips from the others, resync makes P and Q true,
// scrub compares and repairs. Several batches are on their way at once; a batch keeps its locks
// until all before it are done, so that "everything before the position is true" always holds.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/decider.h"
#include "engine/io/clock.h"
#include "engine/status.h"
#include "engine/stripes/stripe_jobs.h"
#include "engine/walks/throttle.h"
#include "engine/walks/walk_progress.h"
#include "engine/walks/walk_rows.h"

namespace braid {

class Walker {
  public:
    Walker(StripeContext context, Clock& clock, ReadyQueue& ready, WalkProgress& progress);
    Walker(const Walker&) = delete;
    Walker& operator=(const Walker&) = delete;
    ~Walker();

    /// Errc::cancelled after cancel(), also one just before, and when a member was lost since the
    /// order was given: it may be another disk by now. Errc::io or Errc::doubt where it could
    /// not go on; Errc::full where a member has no room; Errc::busy where a member answers no reads
    /// just now, see unreadable().
    Task<Result<void>> run(WalkOrder order);
    void cancel();
    /// Destroys what walks, where it stands.
    void abandon();

    bool running() const { return running_; }
    const WalkOrder& order() const { return order_; }         // with the counts so far
    WindowIndex position() const { return done_; }            // all before it is done
    std::uint64_t bytes_read() const { return bytes_read_; }  // of the walk, from members
    std::uint64_t rows_wrong() const {
        return rows_.rows_wrong();
    }  // whose parity a resync rewrote
    std::uint64_t rows_unknown() const { return rows_.rows_unknown(); }  // that it had to list
    /// The member whose reads failed wherever they were tried, which ended the walk.
    MemberIndex unreadable() const { return unreadable_; }
    WalkStatus status() const;
    std::uint64_t memory_bytes() const;

    static constexpr std::uint64_t checkpoint_nanos = 5'000'000'000;

  private:
    static constexpr std::uint64_t batch_size = 256u << 10;  // of each member, where that fits
    // Members in memory never wait: what counts is that a batch stays in the processor's cache,
    // and that the rebuilt member is written beside the reading of the next batch.
    static constexpr std::uint32_t lanes_in_memory = 2;
    static constexpr std::uint64_t batch_size_in_memory = 128u << 10;
    static constexpr std::size_t ops_max =
        std::max({members_max, window_rows_max, windows_claimed_max});
    using WindowMask = std::uint64_t;  // bit i is window i of a batch
    struct Lane;

    Task<bool> walk_in_turn(Lane* lane);
    Task<void> walk_lane(Lane* lane);
    Task<Result<void>> claim_batch(Lane* lane);
    Task<Result<void>> walk_batch(Lane* lane);
    Task<Result<void>> read_batch(Lane* lane);
    Task<Result<void>> walk_windows(Lane* lane);
    bool is_over() const;
    bool next_batch(Lane& lane);
    Task<Result<void>> rebuild_batch(Lane* lane);
    Task<WindowMask> find_zeros(Lane* lane);
    Task<void> read_back(Lane* lane, WindowMask windows);
    Task<Result<void>> mend_window(Lane* lane, std::uint32_t index);
    Task<void> read_by_rows(Lane* lane, MemberIndex member);
    Task<Result<void>> verify_bad(Lane* lane, MemberIndex member);
    Task<bool> answers(Lane* lane, MemberIndex member);
    Task<void> pause(Nanos step);
    Task<void> sleep_until(Nanos time);
    void note_rate();
    bool in_memory() const;
    bool is_current() const { return order_.loss_version == context_.members.loss_version(); }

    StripeContext context_;
    Clock& clock_;
    WalkProgress& progress_;
    WalkOrder order_;
    WalkRows rows_;
    TaskGroup lanes_group_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    std::uint64_t batch_windows_{1};
    Throttle throttle_;
    bool running_{false};
    bool cancelled_{false};
    std::optional<Error> error_;
    std::size_t range_{0};      // of the order's, that the next batch is from
    WindowIndex next_{};        // the first window that no lane has
    std::uint64_t batches_{0};  // that lanes have taken
    std::uint64_t batches_done_{0};
    WindowIndex done_{};       // every window of the order before it is done
    std::uint64_t passed_{0};  // windows done
    std::uint64_t bytes_read_{0};
    std::uint32_t looks_missed_{0};  // see find_zeros()
    std::uint32_t looks_pause_{0};
    MemberIndex unreadable_{};
    Event turn_;  // done_ moved
    Timer* pausing_{nullptr};
    Nanos pause_until_{};
    LatencySample quiet_;
    Nanos checkpointed_{};
    bool checkpointing_{false};
    Nanos rate_since_{};
    std::uint64_t rate_from_{0};  // windows done by then
    double rate_{0};              // bytes of a member per second, smoothed
};

}  // namespace braid
