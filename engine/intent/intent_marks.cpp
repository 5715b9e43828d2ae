// SPDX-License-Identifier: BSD-3-Clause
#include "engine/intent/intent_marks.h"

#include <algorithm>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"

namespace braid {

IntentMarks::IntentMarks(const Geometry& geometry, std::vector<VolumeRecord> volumes)
    : geometry_(geometry), volumes_(std::move(volumes)), buckets_(bucket_count) {}

void IntentMarks::set_region(std::uint64_t bytes) {
    region_ = bytes;
    region_stripes_ = std::max<std::uint64_t>(1, bytes / geometry_.stripe_data_size());
    for (Mark* mark = oldest_; mark != nullptr; mark = mark->newer) mark->hashed = false;
    std::ranges::fill(buckets_, nullptr);
}

/// Counted from the start of the volume, and cut at its end; between volumes, from the end of the
/// one before.
IntentMarks::Region IntentMarks::region_of(StripeIndex stripe) const {
    Region region;
    StripeIndex begin{};
    StripeIndex end{geometry_.stripes};
    for (std::uint32_t i = 0; i != volumes_.size(); ++i) {
        const VolumeRecord& volume = volumes_[i];
        if (stripe < volume.first) {
            end = volume.first;
            break;
        }
        if (stripe < volume.end()) {
            region.volume = i;
            begin = volume.first;
            end = volume.end();
            break;
        }
        begin = volume.end();
    }
    region.first = begin + round_down(stripe - begin, region_stripes_);
    region.count = static_cast<std::uint32_t>(std::min(region_stripes_, end - region.first));
    return region;
}
static_assert(intent_region_max / (2 * strip_size_min) <= 0xffffffff);  // a region's stripes

std::uint64_t IntentMarks::stripes_together(StripeIndex first) const {
    return region_of(first).end() - first;
}

IntentMarks::Mark* IntentMarks::find(StripeIndex stripe) const {
    const Region region = region_of(stripe);
    Mark* mark = buckets_[bucket_of(region.first)];
    while (mark != nullptr && mark->first != region.first) mark = mark->chain;
    return mark;
}

void IntentMarks::link_newest(Mark& mark) {
    mark.older = newest_;
    mark.newer = nullptr;
    (newest_ != nullptr ? newest_->newer : oldest_) = &mark;
    newest_ = &mark;
}

void IntentMarks::unlink(Mark& mark) {
    (mark.older != nullptr ? mark.older->newer : oldest_) = mark.newer;
    (mark.newer != nullptr ? mark.newer->older : newest_) = mark.older;
}

IntentMarks::Mark* IntentMarks::make(StripeIndex stripe, std::uint64_t needs) {
    BRAID_REQUIRE(find(stripe) == nullptr);
    const Region region = region_of(stripe);
    if (used_ == intent_marks_max) {
        Mark* old = oldest_droppable();
        if (old == nullptr) return nullptr;
        drop(*old);
    }
    Mark* mark = free_;
    if (mark != nullptr) {
        free_ = mark->chain;
    } else {
        mark = &marks_.emplace_back();
    }
    *mark = {};
    mark->volume = region.volume;
    mark->count = region.count;
    mark->first = region.first;
    mark->hashed = true;
    mark->needs = needs;
    mark->tick = ticks_;
    Mark*& bucket = buckets_[bucket_of(region.first)];
    mark->chain = bucket;
    bucket = mark;
    link_newest(*mark);
    ++used_;
    return mark;
}

void IntentMarks::release(Mark& mark) {
    BRAID_REQUIRE(mark.active != 0);
    --mark.active;
    mark.changed = ++sequence_;
    if (mark.tick != ticks_ && &mark != newest_) {
        unlink(mark);
        link_newest(mark);
    }
    mark.tick = ticks_;
}

void IntentMarks::generation_again(std::uint64_t generation) {
    for (Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        mark->needs = std::min(mark->needs, generation);
    }
}

void IntentMarks::flushed(std::uint64_t sequence) {
    BRAID_REQUIRE(sequence <= sequence_);
    flushed_ = std::max(flushed_, sequence);
}

bool IntentMarks::are_named_by(const std::vector<IntentEntry>& entries) const {
    const auto is_named = [&](const auto& marked) {
        const auto after = std::ranges::upper_bound(entries, marked.first, {},
                                                    [](const auto& at) { return at.end(); });
        return after != entries.end() && after->first <= marked.first &&
               marked.end() <= after->end();
    };
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        if (!is_named(*mark)) return false;
    }
    return std::ranges::all_of(carried_, is_named);
}

void IntentMarks::drop(Mark& mark) {
    BRAID_REQUIRE(mark.active == 0);
    if (mark.hashed) {
        Mark** link = &buckets_[bucket_of(mark.first)];
        while (*link != &mark) link = &(*link)->chain;
        *link = mark.chain;
    }
    unlink(mark);
    mark.chain = free_;
    free_ = &mark;
    --used_;
}

bool IntentMarks::is_droppable(const Mark& mark) const {
    return mark.active == 0 && (mark.changed <= flushed_ || BRAID_MUTANT(clean_before_flush));
}

bool IntentMarks::is_stale(const Mark& mark) const {
    return mark.active == 0 && ticks_ - mark.tick >= linger_ticks;
}

IntentMarks::Mark* IntentMarks::oldest_droppable() {
    Mark* mark = oldest_;
    while (mark != nullptr && !is_droppable(*mark)) mark = mark->newer;
    return mark;
}

void IntentMarks::drop_stale() {
    for (Mark* mark = oldest_; mark != nullptr;) {
        Mark* next = mark->newer;
        if (is_stale(*mark) && is_droppable(*mark)) drop(*mark);
        mark = next;
    }
}

void IntentMarks::drop_clean() {
    for (Mark* mark = oldest_; mark != nullptr;) {
        Mark* next = mark->newer;
        if (is_droppable(*mark)) drop(*mark);
        mark = next;
    }
}

bool IntentMarks::has_stale(Stale which) const {
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        if (is_stale(*mark) && is_droppable(*mark) == (which == Stale::droppable)) return true;
    }
    return false;
}

std::uint64_t IntentMarks::stripes_marked() const {
    std::uint64_t sum = 0;
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) sum += mark->count;
    return sum;
}

namespace {

/// In order, neighbours of one volume together.
std::vector<IntentEntry> merged(std::vector<IntentEntry> entries) {
    std::ranges::sort(entries, {}, &IntentEntry::first);
    std::vector<IntentEntry> result;
    for (const IntentEntry& entry : entries) {
        IntentEntry* last = result.empty() ? nullptr : &result.back();
        if (last != nullptr && last->volume == entry.volume && entry.first <= last->end() &&
            entry.end() - last->first <= 0xffffffff) {
            last->count =
                static_cast<std::uint32_t>(std::max(entry.end(), last->end()) - last->first);
            continue;
        }
        result.push_back(entry);
    }
    return result;
}

/// More entries than a record has room for: the smallest gaps are marked along.
void close_gaps(std::vector<IntentEntry>& entries) {
    while (entries.size() > intent_marks_named_max) {
        std::size_t best = 0;
        std::uint64_t best_gap = ~std::uint64_t{0};
        for (std::size_t i = 0; i + 1 != entries.size(); ++i) {
            if (entries[i].volume != entries[i + 1].volume) continue;
            if (entries[i + 1].end() - entries[i].first > 0xffffffff) continue;
            const std::uint64_t gap = entries[i + 1].first - entries[i].end();
            if (gap < best_gap) best = i, best_gap = gap;
        }
        BRAID_REQUIRE(best_gap != ~std::uint64_t{0});  // 1012 entries, 65 stretches of volumes
        entries[best].count =
            static_cast<std::uint32_t>(entries[best + 1].end() - entries[best].first);
        entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

}  // namespace

std::vector<IntentEntry> IntentMarks::entries() const {
    std::vector<IntentEntry> all = carried_;
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        all.push_back({mark->volume, mark->count, mark->first});
    }
    all = merged(std::move(all));
    close_gaps(all);
    return all;
}

std::vector<IntentEntry> IntentMarks::maybe_missed() const {
    std::vector<IntentEntry> all = carried_;
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        if (!is_droppable(*mark)) all.push_back({mark->volume, mark->count, mark->first});
    }
    return all;
}

bool IntentMarks::carry(StripeIndex stripe) {
    if (is_carried(stripe)) return false;
    carried_.push_back({region_of(stripe).volume, 1, stripe});
    carried_ = merged(std::move(carried_));
    close_gaps(carried_);
    return true;
}

bool IntentMarks::retire_before(StripeIndex stripe) {
    if (carried_.empty()) return false;
    cut_before(&carried_, stripe);
    return carried_.empty();
}

void IntentMarks::retire_from(StripeIndex stripe) {
    while (!carried_.empty() && carried_.back().first >= stripe) carried_.pop_back();
    if (carried_.empty()) return;
    IntentEntry& last = carried_.back();
    const std::uint64_t before = stripe - last.first;
    last.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(last.count, before));
}

bool IntentMarks::is_carried(StripeIndex stripe) const {
    if (carried_.empty()) return false;  // mostly
    const auto at = std::ranges::partition_point(
        carried_, [stripe](const IntentEntry& entry) { return entry.end() <= stripe; });
    return at != carried_.end() && at->first <= stripe;
}

std::uint64_t IntentMarks::stripes_carried() const {
    std::uint64_t sum = 0;
    for (const IntentEntry& entry : carried_) sum += entry.count;
    return sum;
}

}  // namespace braid
