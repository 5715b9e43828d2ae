// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/row_claims.h"

#include <algorithm>

#include "engine/base/mutation.h"

namespace braid {

Coverage coverage_of(const Geometry& geometry, std::uint32_t window, const Part& part,
                     std::uint32_t strip) {
    const std::uint64_t window_begin = geometry.window_begin(Role{strip}, window);
    const std::uint64_t window_end = window_begin + geometry.window_size();
    const std::uint64_t begin = std::max(part.begin, window_begin);
    const std::uint64_t end = std::min(part.end, window_end);
    if (begin >= end) return {};
    const auto first = static_cast<std::uint32_t>((begin - window_begin) / row_size);
    const auto last = static_cast<std::uint32_t>((end - 1 - window_begin) / row_size);
    Coverage coverage;
    coverage.any = coverage.full = row_range(first, last - first + 1);
    if (!is_row_aligned(begin)) coverage.full &= ~row_range(first, 1);
    if (!is_row_aligned(end)) coverage.full &= ~row_range(last, 1);
    return coverage;
}

void Part::cover(const Geometry& geometry, std::uint32_t window, RoleSet among) {
    for (const Role role : among) {
        const Coverage own = coverage_of(geometry, window, *this, raw(role));
        if (own.any == 0) continue;
        if (strips.empty()) head = own;
        tail = own;
        rows |= own.any;
        strips.add(role);
    }
}

std::size_t RowClaims::bucket_of(WindowPlace place) const {
    return (raw(geometry_.window_number(place)) * 0x9e3779b97f4a7c15) >> 52;
}
static_assert(4096 == 1 << (64 - 52));

WindowEntry* RowClaims::find(WindowPlace place) const {
    WindowEntry* entry = buckets_[bucket_of(place)];
    while (entry != nullptr && entry->place != place) entry = entry->chain;
    return entry;
}

bool RowClaims::are_claimed(WindowPlace place, RowMask rows) const {
    const WindowEntry* entry = find(place);
    return entry != nullptr && (entry->claimed & rows) == rows;
}

WindowSet RowClaims::claimed() const {
    WindowSet windows;
    for (const WindowEntry& entry : entries_) {
        // At most as many as there are jobs, and batches of a walk.
        if (entry.claimed != 0) (void)windows.add(geometry_.window_number(entry.place));
    }
    return windows;
}

WindowEntry& RowClaims::find_or_make(WindowPlace place) {
    if (WindowEntry* known = find(place); known != nullptr) return *known;
    WindowEntry*& bucket = buckets_[bucket_of(place)];
    WindowEntry* entry = free_;
    if (entry != nullptr) {
        free_ = entry->chain;
    } else {
        entry = &entries_.emplace_back();
    }
    *entry = {};
    entry->place = place;
    entry->chain = bucket;
    bucket = entry;
    ++in_use_;
    return *entry;
}

void RowClaims::forget_if_idle(WindowEntry& entry) {
    if (entry.users != 0 || entry.first != nullptr || entry.listed) return;
    WindowEntry** link = &buckets_[bucket_of(entry.place)];
    while (*link != &entry) link = &(*link)->chain;
    *link = entry.chain;
    entry.chain = free_;
    free_ = &entry;
    --in_use_;
}

void RowClaims::list(WindowEntry& entry) {
    if (entry.listed) return;
    entry.listed = true;
    entry.start_next = nullptr;
    (start_last_ != nullptr ? start_last_->start_next : start_first_) = &entry;
    start_last_ = &entry;
    if (listener_ != nullptr) listener_->job_ready();
}

namespace {

void append(WindowEntry& entry, Part& part) {
    part.entry = &entry;
    part.next = nullptr;
    (entry.last != nullptr ? entry.last->next : entry.first) = &part;
    entry.last = &part;
}

/// Takes `part`, which comes after `previous`, out of the queue.
void unlink(WindowEntry& entry, Part* previous, Part& part) {
    (previous != nullptr ? previous->next : entry.first) = part.next;
    if (entry.last == &part) entry.last = previous;
    part.next = nullptr;
}

bool fits(const JobParts& job, const Part& part) {
    if (part.alone) return false;
    for (const Role role : part.strips& job.covered) {
        if ((part.coverage(role).any & job.strips[raw(role)].any) != 0) return false;
    }
    return true;
}

void join(JobParts& job, Part& part) {
    (job.last != nullptr ? job.last->next : job.first) = &part;
    job.last = &part;
    ++job.count;
    job.rows |= part.rows;
    job.covered |= part.strips;
    for (const Role role : part.strips) {
        const Coverage coverage = part.coverage(role);
        job.strips[raw(role)].any |= coverage.any;
        job.strips[raw(role)].full |= coverage.full;
    }
}

}  // namespace

void RowClaims::add(Part& part, WindowPlace place) {
    BRAID_REQUIRE(part.request != nullptr && part.rows != 0);
    WindowEntry& entry = find_or_make(place);
    append(entry, part);
    grant(entry);
}

WindowEntry* RowClaims::next_window() {
    WindowEntry* window = start_first_;
    if (window == nullptr) return nullptr;
    start_first_ = window->start_next;
    if (start_first_ == nullptr) start_last_ = nullptr;
    return window;
}

bool RowClaims::take_job(WindowEntry& window, JobParts& job) {
    BRAID_REQUIRE(window.listed);
    window.listed = false;
    job.entry = &window;
    job.first = job.last = nullptr;
    job.count = 0;
    job.rows = 0;
    job.covered = {};
    std::fill_n(job.strips.begin(), geometry_.data_count(), Coverage{});
    RowMask blocked = window.claimed;
    Part* previous = nullptr;
    for (Part* part = window.first; part != nullptr;) {
        Part* next = part->next;
        const bool write = part->request != nullptr;
        const bool closed = job.count != 0 && job.first->alone;
        if (write && !closed && (part->rows & blocked) == 0 &&
            (job.count == 0 || fits(job, *part))) {
            unlink(window, previous, *part);
            join(job, *part);
        } else {
            blocked |= part->rows;
            previous = part;
        }
        part = next;
    }
    if (job.count == 0) {
        forget_if_idle(window);
        return false;
    }
    if (!BRAID_MUTANT(row_lock_dropped_early)) window.claimed |= job.rows;
    ++window.users;
    grant(window);
    return true;
}

void RowClaims::split_job(JobParts& job) {
    BRAID_REQUIRE(job.count > 1);  // one alone would come again and again
    WindowEntry& entry = *job.entry;
    for (Part* part = job.first; part != nullptr; part = part->next) part->alone = true;
    job.last->next = entry.first;
    if (entry.last == nullptr) entry.last = job.last;
    entry.first = job.first;
    release(entry, job.rows);
}

/// Wakes every RowClaim whose turn has come, and lists the window if a job can start.
void RowClaims::grant(WindowEntry& entry) {
    RowMask blocked = entry.claimed;
    Part* previous = nullptr;
    for (Part* part = entry.first; part != nullptr && ~blocked != 0;) {
        Part* next = part->next;
        const bool is_free = (part->rows & blocked) == 0;
        blocked |= part->rows;
        if (is_free && part->request == nullptr) {
            unlink(entry, previous, *part);
            entry.claimed |= part->rows;
            ++entry.users;
            part->queue->push(part->handle);
        } else {
            if (is_free) list(entry);
            previous = part;
        }
        part = next;
    }
}

bool RowClaims::try_claim(Part& part, WindowPlace place) {
    BRAID_REQUIRE(part.request == nullptr && part.rows != 0);
    WindowEntry& entry = find_or_make(place);
    RowMask blocked = entry.claimed;
    for (const Part* other = entry.first; other != nullptr; other = other->next) {
        blocked |= other->rows;
    }
    part.entry = &entry;
    if ((blocked & part.rows) != 0) return false;
    entry.claimed |= part.rows;
    ++entry.users;
    return true;
}

void RowClaims::wait(Part& part) { append(*part.entry, part); }

void RowClaims::release(WindowEntry& entry, RowMask rows) {
    if (abandoned_) return;
    BRAID_REQUIRE((entry.claimed & rows) == rows || BRAID_MUTANT(row_lock_dropped_early));
    BRAID_REQUIRE(entry.users != 0);
    entry.claimed &= ~rows;
    --entry.users;
    grant(entry);
    forget_if_idle(entry);
}

}  // namespace braid
