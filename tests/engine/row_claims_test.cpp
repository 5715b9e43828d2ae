// SPDX-License-Identifier: BSD-3-Clause
// RowClaims against a model that knows only who came when and wants which rows.
#include "engine/stripes/row_claims.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <list>
#include <vector>

#include "engine/base/rng.h"

namespace braid {
namespace {

Geometry make_geometry() {
    Geometry geometry;
    geometry.level = Level::raid5;
    geometry.member_count = 4;
    geometry.strip_size = 64 * row_size;
    geometry.stripes = 100;
    geometry.window_rows = 16;
    return geometry;
}

/// A coroutine that never is: only its address counts.
std::coroutine_handle<> handle_of(void* what) {
    return std::coroutine_handle<>::from_address(what);
}

class Model : public JobListener {
  public:
    struct Holder {
        Part part;
        IoRequest request;  // a write's
        WindowPlace place;
        std::uint64_t came{0};
        bool is_claim{false};
        bool held{false};
    };
    struct Job {
        JobParts parts;
        std::vector<Holder*> holders;
    };

    Model() { claims.set_listener(this); }
    void job_ready() override { ++told; }

    void add_write(Rng& rng) {
        Holder& at = make(rng);
        const std::uint64_t strip = geometry.strip_size;
        const std::uint64_t window_begin = at.place.window * geometry.window_size();
        const std::uint64_t from = rng.below(geometry.window_size());
        const std::uint64_t size = 1 + rng.below(geometry.window_size() - from);
        const auto first = rng.below(geometry.data_count());
        const auto last = rng.chance(3) ? first + rng.below(geometry.data_count() - first) : first;
        at.part.begin = first * strip + window_begin + from;
        at.part.end = last * strip + window_begin +
                      (first == last ? from + size : 1 + rng.below(geometry.window_size()));
        at.part.request = &at.request;
        at.part.cover(geometry, at.place.window, geometry.data_roles());
        claims.add(at.part, at.place);
    }
    void add_claim(Rng& rng) {
        Holder& at = make(rng);
        at.is_claim = true;
        const auto first = static_cast<std::uint32_t>(rng.below(16));
        at.part.rows = row_range(first, 1 + static_cast<std::uint32_t>(rng.below(16 - first)));
        const bool blocked = std::ranges::any_of(all_, [&](const Holder& other) {
            return &other != &at && other.place == at.place &&
                   (other.part.rows & at.part.rows) != 0;
        });
        at.held = claims.try_claim(at.part, at.place);
        EXPECT_EQ(at.held, !blocked);
        if (at.held) return;
        at.part.queue = &ready;
        at.part.handle = handle_of(&at);
        claims.wait(at.part);
    }
    void take_grants() {
        while (!ready.empty()) {
            auto* at = static_cast<Holder*>(ready.take().address());
            EXPECT_TRUE(at->is_claim && !at->held);
            expect_first(*at, {});
            at->held = true;
        }
    }
    /// A worker has the next window, and waits for its mark.
    bool start() {
        WindowEntry* window = claims.next_window();
        if (window != nullptr) {
            EXPECT_EQ(std::ranges::count(starting, window), 0) << "two start one window";
            starting.push_back(window);
        }
        return window != nullptr;
    }
    /// The next job, if there is one.
    bool take_job(std::uint32_t alone_seen = 0) {
        if (starting.empty() && !start()) return false;
        Job job;
        WindowEntry* window = starting.front();
        starting.pop_front();
        EXPECT_TRUE(claims.take_job(*window, job.parts)) << "nobody can take its turn";
        RowMask rows = 0;
        std::vector<Coverage> covered(geometry.data_count());
        for (Part* part = job.parts.first; part != nullptr; part = part->next) {
            Holder& at = holder_of(*part);
            EXPECT_FALSE(at.is_claim || at.held);
            EXPECT_EQ(at.place, job.parts.entry->place);
            rows |= part->rows;
            if (part->alone) ++alone_seen;
            for (std::uint32_t i = 0; i != geometry.data_count(); ++i) {
                const auto own = coverage_of(geometry, at.place.window, *part, i);
                EXPECT_EQ(part->strips.has(Role{i}), own.any != 0);
                if (own.any != 0) {
                    EXPECT_EQ(part->coverage(Role{i}).any, own.any);
                    EXPECT_EQ(part->coverage(Role{i}).full, own.full);
                }
                EXPECT_EQ(covered[i].any & own.any, 0U) << "two parts on one row of a strip";
                covered[i].any |= own.any;
                covered[i].full |= own.full;
            }
            job.holders.push_back(&at);
        }
        EXPECT_EQ(job.parts.rows, rows);
        EXPECT_EQ(job.parts.count, job.holders.size());
        EXPECT_TRUE(alone_seen == 0 || job.holders.size() == 1);
        for (std::uint32_t i = 0; i != geometry.data_count(); ++i) {
            EXPECT_EQ(job.parts.strips[i].any, covered[i].any);
            EXPECT_EQ(job.parts.strips[i].full, covered[i].full);
            EXPECT_EQ(job.parts.covered.has(Role{i}), covered[i].any != 0);
        }
        for (Holder* at : job.holders) expect_first(*at, job.holders);
        for (Holder* at : job.holders) at->held = true;
        jobs.push_back(std::move(job));
        return true;
    }
    void end_job(std::size_t number, bool split) {
        auto at = jobs.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(number));
        if (split) {
            for (Holder* holder : at->holders) holder->held = false;
            claims.split_job(at->parts);
        } else {
            claims.end_job(at->parts);
            for (Holder* holder : at->holders) forget(*holder);
        }
        jobs.erase(at);
    }
    bool release_claim() {
        for (Holder& at : all_) {
            if (!at.is_claim || !at.held) continue;
            claims.release(*at.part.entry, at.part.rows);
            forget(at);
            return true;
        }
        return false;
    }
    void expect_no_overlap() const {
        for (auto one = all_.begin(); one != all_.end(); ++one) {
            if (!one->held) continue;
            for (auto other = std::next(one); other != all_.end(); ++other) {
                if (!other->held || other->place != one->place || share_job(*one, *other)) continue;
                ASSERT_EQ(one->part.rows & other->part.rows, 0U);
            }
        }
    }
    std::size_t waiting() const {
        return static_cast<std::size_t>(
            std::ranges::count_if(all_, [](const Holder& at) { return !at.held; }));
    }
    bool empty() const { return all_.empty(); }

    const Geometry geometry{make_geometry()};
    RowClaims claims{geometry};
    ReadyQueue ready;
    std::list<Job> jobs;
    std::deque<WindowEntry*> starting;
    std::uint64_t told{0};

  private:
    Holder& make(Rng& rng) {
        Holder& at = all_.emplace_back();
        at.place = {StripeIndex{rng.below(2)}, static_cast<std::uint32_t>(rng.below(2))};
        at.came = ++came_;
        return at;
    }
    Holder& holder_of(Part& part) {
        return *std::ranges::find_if(all_, [&](const Holder& at) { return &at.part == &part; });
    }
    bool share_job(const Holder& one, const Holder& other) const {
        return std::ranges::any_of(jobs, [&](const Job& job) {
            return std::ranges::count(job.holders, &one) +
                       std::ranges::count(job.holders, &other) ==
                   2;
        });
    }
    /// Nobody who came before `at`, other than `friends`, holds or wants a row of it.
    void expect_first(const Holder& at, const std::vector<Holder*>& friends) {
        for (const Holder& other : all_) {
            if (&other == &at || other.place != at.place ||
                std::ranges::count(friends, &other) != 0) {
                continue;
            }
            if (other.came > at.came && !other.held) continue;
            EXPECT_EQ(other.part.rows & at.part.rows, 0U)
                << at.came << " went before " << other.came;
        }
    }
    void forget(Holder& gone) {
        all_.remove_if([&](const Holder& at) { return &at == &gone; });
    }

    std::list<Holder> all_;
    std::uint64_t came_{0};
};

TEST(RowClaims, AreFairAndNeverOverlap) {
    for (std::uint64_t seed = 1; seed != 60; ++seed) {
        SCOPED_TRACE(seed);
        Rng rng(seed);
        Model model;
        for (int step = 0; step != 600; ++step) {
            const std::uint64_t what = rng.below(10);
            if (what < 4 && model.waiting() < 24) {
                model.add_write(rng);
            } else if (what == 4 && model.waiting() < 24) {
                model.add_claim(rng);
            } else if (what == 5) {
                model.start();
            } else if (what == 6) {
                model.take_job();
            } else if (what < 9 && !model.jobs.empty()) {
                const std::size_t number = rng.below(model.jobs.size());
                auto job = model.jobs.begin();
                std::advance(job, static_cast<std::ptrdiff_t>(number));
                model.end_job(number, job->holders.size() > 1 && rng.chance(3));
            } else {
                model.release_claim();
            }
            model.take_grants();
            model.expect_no_overlap();
            if (HasFailure()) return;
        }
        while (!model.empty()) {  // everybody has a turn
            bool moved = model.take_job();
            if (!model.jobs.empty()) {
                model.end_job(0, false);
                moved = true;
            }
            moved |= model.release_claim();
            model.take_grants();
            ASSERT_TRUE(moved) << "somebody waits for nobody";
        }
        EXPECT_FALSE(model.claims.has_jobs());
        EXPECT_EQ(model.claims.entries_in_use(), 0U);
    }
}

/// As a worker whose mark is durable at once.
bool take_next(RowClaims& claims, JobParts& job) {
    WindowEntry* window = claims.next_window();
    return window != nullptr && claims.take_job(*window, job);
}

/// The job that comes next begins with `first`, has `count` parts, and is over at once.
void expect_next(RowClaims& claims, const Part& first, std::uint32_t count = 1) {
    JobParts job;
    ASSERT_TRUE(take_next(claims, job));
    EXPECT_EQ(job.first, &first);
    EXPECT_EQ(job.count, count);
    claims.end_job(job);
}

struct Fixed {
    explicit Fixed(const Geometry& the_geometry) : geometry(the_geometry) {}
    Part& add(RowClaims& claims, std::uint64_t begin, std::uint64_t size) {
        Part& part = parts.emplace_back();
        part.request = &request;
        part.begin = begin;
        part.end = begin + size;
        part.cover(geometry, 0, geometry.data_roles());
        claims.add(part, {});
        return part;
    }
    const Geometry& geometry;
    IoRequest request;
    std::deque<Part> parts;
};

TEST(RowClaims, ABurstOfSmallWritesBecomesOneJob) {
    const Geometry geometry = make_geometry();
    RowClaims claims(geometry);
    Fixed writes(geometry);
    for (std::uint64_t row = 0; row != 16; ++row) writes.add(claims, row * row_size, row_size);
    JobParts job;
    ASSERT_TRUE(take_next(claims, job));
    EXPECT_EQ(job.count, 16U);
    EXPECT_EQ(job.strips[0].full, row_range(0, 16));
    claims.end_job(job);
    EXPECT_FALSE(take_next(claims, job));
}

TEST(RowClaims, WhatComesWhileAMarkIsAwaitedIsMergedOrComesAfter) {
    const Geometry geometry = make_geometry();
    RowClaims claims(geometry);
    ReadyQueue ready;
    Fixed writes(geometry);
    Part& first = writes.add(claims, 0, row_size);
    WindowEntry* window = claims.next_window();
    ASSERT_NE(window, nullptr);
    EXPECT_EQ(window->claimed, 0U);  // nobody has rows while he waits for a mark
    // A claim of the same row waits behind the write, though nobody has the row; others do not.
    Part reader;
    reader.rows = row_range(0, 1);
    reader.queue = &ready;
    reader.handle = handle_of(&reader);
    ASSERT_FALSE(claims.try_claim(reader, {}));
    claims.wait(reader);
    Part beside;
    beside.rows = row_range(5, 1);
    ASSERT_TRUE(claims.try_claim(beside, {}));
    Part& merged = writes.add(claims, row_size, row_size);
    Part& behind_reader = writes.add(claims, geometry.strip_size, row_size);
    Part& behind_beside = writes.add(claims, 5 * row_size, row_size);
    EXPECT_EQ(claims.next_window(), nullptr);  // it has who starts it
    EXPECT_TRUE(ready.empty());
    JobParts job;
    ASSERT_TRUE(claims.take_job(*window, job));
    EXPECT_EQ(job.first, &first);
    EXPECT_EQ(first.next, &merged);
    EXPECT_EQ(job.count, 2U);
    EXPECT_EQ(job.rows, row_range(0, 2));
    EXPECT_EQ(claims.next_window(), nullptr);
    claims.end_job(job);
    ASSERT_FALSE(ready.empty());
    EXPECT_EQ(ready.take().address(), &reader);
    claims.release(*beside.entry, beside.rows);
    expect_next(claims, behind_beside);
    claims.release(*reader.entry, reader.rows);
    expect_next(claims, behind_reader);
    EXPECT_EQ(claims.entries_in_use(), 0U);
}

TEST(RowClaims, AJobThatWasSplitMeanwhileGoesFirst) {
    const Geometry geometry = make_geometry();
    RowClaims claims(geometry);
    Fixed writes(geometry);
    Part& one = writes.add(claims, 0, row_size);
    Part& two = writes.add(claims, row_size, row_size);
    JobParts split;
    ASSERT_TRUE(take_next(claims, split));
    ASSERT_EQ(split.count, 2U);
    Part& later = writes.add(claims, 3 * row_size, row_size);
    WindowEntry* window = claims.next_window();  // for `later`, which waits for its mark
    ASSERT_NE(window, nullptr);
    claims.split_job(split);
    EXPECT_EQ(claims.next_window(), nullptr);
    JobParts job;
    ASSERT_TRUE(claims.take_job(*window, job));
    EXPECT_EQ(job.first, &one);
    EXPECT_EQ(job.count, 1U);
    claims.end_job(job);
    expect_next(claims, two);
    expect_next(claims, later);
    EXPECT_EQ(claims.entries_in_use(), 0U);
}

TEST(RowClaims, OverlappingWritesStayInOrder) {
    const Geometry geometry = make_geometry();
    RowClaims claims(geometry);
    Fixed writes(geometry);
    Part& first = writes.add(claims, 0, 2 * row_size);
    Part& second = writes.add(claims, row_size, 2 * row_size);
    Part& third =
        writes.add(claims, 2 * row_size, row_size);  // free of the first, not of the second
    Part& apart = writes.add(claims, 9 * row_size, row_size);
    JobParts job;
    ASSERT_TRUE(take_next(claims, job));
    EXPECT_EQ(job.first, &first);
    EXPECT_EQ(first.next, &apart);
    EXPECT_EQ(job.count, 2U);
    JobParts none;
    EXPECT_FALSE(take_next(claims, none));
    claims.end_job(job);
    expect_next(claims, second);
    expect_next(claims, third);
    EXPECT_EQ(claims.entries_in_use(), 0U);
}

TEST(RowClaims, ASplitJobRunsPartByPartInItsOldOrder) {
    const Geometry geometry = make_geometry();
    RowClaims claims(geometry);
    Fixed writes(geometry);
    std::vector<Part*> parts;
    for (std::uint64_t row = 0; row != 3; ++row) {
        parts.push_back(&writes.add(claims, row * row_size, row_size));
    }
    JobParts job;
    ASSERT_TRUE(take_next(claims, job));
    ASSERT_EQ(job.count, 3U);
    Part& late = writes.add(claims, 0, row_size);
    claims.split_job(job);
    for (Part* part : parts) {
        expect_next(claims, *part);
    }
    expect_next(claims, late);
    EXPECT_EQ(claims.entries_in_use(), 0U);
}

TEST(RowClaims, CoverageTellsTouchedRowsFromCoveredOnes) {
    const Geometry geometry = make_geometry();
    Part part;
    part.begin = 100;
    part.end = 3 * row_size + 1;
    Coverage coverage = coverage_of(geometry, 0, part, 0);
    EXPECT_EQ(coverage.any, row_range(0, 4));
    EXPECT_EQ(coverage.full, row_range(1, 2));
    EXPECT_EQ(coverage_of(geometry, 1, part, 0).any, 0U);
    EXPECT_EQ(coverage_of(geometry, 0, part, 1).any, 0U);
    part.begin = 10;  // begins and ends in one row
    part.end = 20;
    coverage = coverage_of(geometry, 0, part, 0);
    EXPECT_EQ(coverage.any, row_range(0, 1));
    EXPECT_EQ(coverage.full, 0U);
    part.begin = geometry.strip_size - row_size;  // over the end of a strip: two windows
    part.end = geometry.strip_size + row_size;
    EXPECT_EQ(coverage_of(geometry, 3, part, 0).full, row_range(15, 1));
    EXPECT_EQ(coverage_of(geometry, 0, part, 1).full, row_range(0, 1));
    EXPECT_EQ(coverage_of(geometry, 0, part, 0).any, 0U);
    EXPECT_EQ(row_range(0, 64), ~RowMask{0});
}

}  // namespace
}  // namespace braid
