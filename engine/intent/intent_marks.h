// SPDX-License-Identifier: BSD-3-Clause
// IntentMarks: which regions of the array a record of the write intent is to name: those that are
// written to, and those left from the last run. No I/O, no waiting: WriteIntent writes the
// records and lets writers wait for them.
//
// A mark is made for a region that somebody is about to write to, and held for as long as that
// lasts. It may go when nobody holds it and all writes under it were flushed; it stays as long as
// there is room, because a stripe that is written again soon then costs nothing.
//
// Source: the dirty stripe record, seeds 003; md's bitmap (drivers/md/md-bitmap.c) clears lazily
// in the same way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/base/limits.h"
#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"
#include "engine/metadata/intent_record.h"

namespace braid {

class IntentMarks {
  public:
    struct Mark {
        std::uint32_t volume{intent_no_volume};
        std::uint32_t count{0};
        StripeIndex first{};
        StripeIndex end() const { return first + count; }
        std::uint32_t active{0};   // holds
        bool hashed{false};        // found by region; not so after the size of regions changed
        std::uint64_t changed{0};  // number of the last write under it that ended
        std::uint64_t needs{0};    // the generation that first names it
        std::uint64_t tick{0};     // when it was used last
        Mark* chain{nullptr};      // of the bucket, or of the free list
        Mark* older{nullptr};
        Mark* newer{nullptr};
    };

    static constexpr std::uint64_t linger_ticks = 2;  // unused for so long: not worth its place
    static_assert(intent_marks_max < intent_marks_named_max);

    /// Regions are laid over these volumes, and over what lies between them.
    IntentMarks(const Geometry& geometry, std::vector<VolumeRecord> volumes);
    IntentMarks(const IntentMarks&) = delete;
    IntentMarks& operator=(const IntentMarks&) = delete;

    /// Marks of the old size stay until they are clean, under no region's name: their stripes may
    /// be marked twice.
    void set_region(std::uint64_t bytes);
    std::uint64_t region() const { return region_; }
    /// Stripes [first, first + count) are all under the mark of `first`.
    std::uint64_t stripes_together(StripeIndex first) const;

    /// The mark that covers the stripe; null: there is none.
    Mark* find(StripeIndex stripe) const;
    /// A new one. Where there is no place left, the oldest that may go makes room; null: none may.
    /// @param needs  the generation of the record that will be the first to name it
    Mark* make(StripeIndex stripe, std::uint64_t needs);
    /// Until release() the mark stays, whatever is flushed.
    void hold(Mark& mark) { ++mark.active; }
    void release(Mark& mark);
    /// The record of `generation` was not taken: the next one has that number.
    void generation_again(std::uint64_t generation);

    /// A flush of the members begins; `flushed(flush_begins())` when it has succeeded.
    std::uint64_t flush_begins() const { return sequence_; }
    void flushed(std::uint64_t sequence);

    /// Time goes on.
    void tick() { ++ticks_; }
    std::uint64_t ticks() const { return ticks_; }

    /// Takes out every mark that may go, also those that would linger.
    void drop_clean();
    /// Takes out those that may go and were not used lately.
    void drop_stale();
    /// Marks that nobody used lately: they may go, or not yet, because what was written under them
    /// was not flushed.
    enum class Stale : bool { unflushed, droppable };
    bool has_stale(Stale which) const;

    std::uint32_t used() const { return used_; }
    std::uint64_t stripes_marked() const;  // by marks; not those that are only carried

    /// What a record is to name: marks and what is carried over, in order, neighbours together.
    std::vector<IntentEntry> entries() const;

    /// Of them what a member may not have durably that leaves now: without the marks that only linger.
    std::vector<IntentEntry> maybe_missed() const;
    /// Every mark, and all that is carried, is in them: in order, neighbours together.
    bool are_named_by(const std::vector<IntentEntry>& entries) const;

    // Carried over: marked when the array stopped, and what made it true since is not known to be
    // durable.
    void set_carried(std::vector<IntentEntry> marked) { carried_ = std::move(marked); }
    /// False: it was already.
    bool carry(StripeIndex stripe);
    /// Everything carried before `stripe` was made true. True: that was the last of it.
    bool retire_before(StripeIndex stripe);
    /// What is carried from `stripe` on is listed elsewhere.
    void retire_from(StripeIndex stripe);
    const std::vector<IntentEntry>& carried() const { return carried_; }
    bool has_carried() const { return !carried_.empty(); }
    bool is_carried(StripeIndex stripe) const;
    std::uint64_t stripes_carried() const;

  private:
    static constexpr std::size_t bucket_count = 2048;
    struct Region {
        std::uint32_t volume{intent_no_volume};
        std::uint32_t count{0};
        StripeIndex first{};
        StripeIndex end() const { return first + count; }
    };

    Region region_of(StripeIndex stripe) const;
    static std::size_t bucket_of(StripeIndex first) {
        return (raw(first) * 0x9e3779b97f4a7c15) >> 53;
    }
    void drop(Mark& mark);
    Mark* oldest_droppable();
    bool is_droppable(const Mark& mark) const;
    bool is_stale(const Mark& mark) const;
    void unlink(Mark& mark);
    void link_newest(Mark& mark);

    const Geometry& geometry_;
    std::vector<VolumeRecord> volumes_;
    std::uint64_t region_{intent_region_default};
    std::uint64_t region_stripes_{1};

    std::vector<Mark*> buckets_;
    std::deque<Mark> marks_;  // their addresses stay
    Mark* free_{nullptr};
    Mark* oldest_{nullptr};  // used least recently
    Mark* newest_{nullptr};
    std::uint32_t used_{0};
    std::vector<IntentEntry> carried_;  // in order of first

    std::uint64_t sequence_{0};  // grows when a write under a mark ends
    std::uint64_t flushed_{0};   // writes before it are durable
    std::uint64_t ticks_{0};
};

}  // namespace braid
