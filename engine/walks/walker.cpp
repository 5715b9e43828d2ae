// SPDX-License-Identifier: BSD-3-Clause
#include "engine/walks/walker.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/stripes/row_write.h"
#include "parity/require.h"

namespace braid {

struct Walker::Lane : WalkBatch {
    Lane(const StripeContext& context, std::uint64_t size)
        : WalkBatch(context, size), write(context) {}

    RowWrite write;
    std::uint64_t batch{0};  // number of the batch, in the order of the walk
    std::array<std::optional<WriteIntent::Hold>, windows_claimed_max> holds;
    std::array<std::optional<RowClaim>, windows_claimed_max> claims;
    std::array<std::optional<RowLock>, windows_claimed_max> locks;  // in a cluster
    std::array<DriveOp, ops_max> ops;  // by member, by row of a window, or by run of windows
    DiskGroup group;
    bool lacks_marks{false};  // some window's: nothing was told or written, all is to be done again
    bool found_is_told{false};  // of this batch, which is perhaps done again
    MemberSet told;             // the decider knows that a read of the batch failed

    void let_go() {
        for (auto& lock : locks) lock.reset();
        for (auto& claim : claims) claim.reset();
    }
    /// What was read fits together: else nothing may come of it.
    bool counts() const {
        return std::ranges::all_of(locks, [](const auto& lock) { return !lock || lock->counts(); });
    }
};

Walker::Walker(StripeContext context, Clock& clock, ReadyQueue& ready, WalkProgress& progress)
    : context_(context),
      clock_(clock),
      progress_(progress),
      rows_(context, order_),
      lanes_group_(ready),
      throttle_(Nanos{context.homes == nullptr ? Throttle::probe_nanos
                                               : Throttle::probe_of_nodes_nanos}) {}

bool Walker::in_memory() const {
    bool all = true;
    for (std::uint32_t i = 0; i != context_.members.count(); ++i) {
        const auto& slot = context_.members.slot(MemberIndex{i});
        if (slot.is_open()) all &= slot.drive->info().in_memory;
    }
    return all;
}

Walker::~Walker() = default;

void Walker::abandon() {
    lanes_group_.clear();
    lanes_.clear();
}

std::uint64_t Walker::memory_bytes() const {
    return lanes_.size() * batch_windows_ * context_.geometry.window_size() *
           context_.geometry.member_count;
}

void Walker::cancel() {
    cancelled_ = true;
    if (pausing_ != nullptr) pausing_->cancel();
}

Task<Result<void>> Walker::run(WalkOrder order) {
    BRAID_REQUIRE(!running_);
    BRAID_REQUIRE(order.ranges.empty() || order.ranges.back().end <= context_.members.window_end());
    BRAID_REQUIRE(order.kind != WalkKind::rebuilding ||
                  raw(order.member) < context_.members.count());
    BRAID_REQUIRE(lanes_.empty());
    BRAID_AUDIT(std::ranges::adjacent_find(order.ranges, [](const auto& one, const auto& next) {
                    return one.begin >= one.end || one.end >= next.begin;
                }) == order.ranges.end());
    running_ = true;
    order_ = order;
    error_.reset();
    if (BRAID_MUTANT(resync_skips_last) && order.kind == WalkKind::resyncing) {
        WindowRange& last = order_.ranges.back();
        last.end = last.end - 1;
        if (last.size() == 0) order_.ranges.pop_back();
    }
    range_ = 0;
    next_ = done_ = order.begin();
    batches_ = batches_done_ = 0;
    passed_ = bytes_read_ = 0;
    rows_.begin();
    checkpointed_ = rate_since_ = clock_.now();
    rate_from_ = 0;
    rate_ = 0;
    pause_until_ = {};
    progress_.take_latency();
    quiet_ = {};
    looks_missed_ = looks_pause_ = 0;
    const Geometry& geometry = context_.geometry;
    const bool in_ram = in_memory();
    const std::uint64_t fits = job_size_max / geometry.member_count / geometry.window_size();
    const std::uint64_t wanted =
        (in_ram ? batch_size_in_memory : batch_size) / geometry.window_size();
    batch_windows_ = std::clamp<std::uint64_t>(std::min(fits, wanted), 1, windows_claimed_max);
    if (context_.homes != nullptr) batch_windows_ = 1;  // what is decided at once
    const std::uint64_t size = batch_windows_ * geometry.window_size();
    const std::uint32_t lanes = in_ram ? lanes_in_memory : walk_lanes_max;
    for (std::uint32_t i = 0; i != lanes; ++i) {
        lanes_.push_back(std::make_unique<Lane>(context_, size));
        lanes_group_.spawn(walk_lane(lanes_.back().get()));
    }
    context_.decider.walk_begun(order_);
    co_await lanes_group_.join();
    lanes_.clear();
    running_ = cancelled_ = false;
    if (error_) co_return *error_;
    if (range_ != order_.ranges.size()) co_return Error{Errc::cancelled, "walk"};
    co_return Result<void>{};
}

/// The next windows of the order; false when there are none. A member that is being rebuilt is
/// live in all of them or in none.
bool Walker::next_batch(Lane& lane) {
    const auto& ranges = order_.ranges;
    while (range_ != ranges.size() && next_ == ranges[range_].end) {
        if (++range_ != ranges.size()) next_ = ranges[range_].begin;
    }
    if (range_ == ranges.size()) return false;
    lane.first = next_;
    std::uint64_t count = std::min(ranges[range_].end - next_, batch_windows_);
    count = context_.members.live_alike(lane.first, lane.first + count) - lane.first;
    BRAID_REQUIRE(count != 0 && count <= windows_claimed_max);
    lane.count = static_cast<std::uint32_t>(count);
    lane.batch = batches_++;
    lane.told = {};
    lane.lacks_marks = lane.found_is_told = false;
    next_ += count;
    return true;
}

/// A batch, and then the wait for its turn. False: all of it is to be done again, for it lacks marks, or
/// its locks do not count any more: others may have written without what it has told.
Task<bool> Walker::walk_in_turn(Lane* lane) {
    Result<void> result = co_await claim_batch(lane);
    if (result) result = co_await walk_batch(lane);
    if (result ? lane->lacks_marks : !lane->counts()) co_return false;
    if (!result && !error_ && is_current()) error_ = result.error();
    while (batches_done_ != lane->batch && !error_) co_await turn_.next();
    co_return error_ || lane->counts();
}

/// No lane takes another batch.
bool Walker::is_over() const {
    return cancelled_ || error_ || order_.ranges.empty() || next_ == order_.ranges.back().end;
}

Task<void> Walker::walk_lane(Lane* lane) {
    for (;;) {
        // While clients ask for something one lane is enough: what it does they wait for.
        const bool is_first = lane == lanes_.front().get();
        while (!is_first && throttle_.has_clients() && !is_over()) co_await turn_.next();
        if (cancelled_ || error_ || !next_batch(*lane)) break;
        const Nanos start = clock_.now();
        bool once_more = true;
        while (once_more) {
            once_more = !co_await walk_in_turn(lane);
            if (once_more) lane->let_go();
        }
        if (!error_ && !is_current()) error_ = Error{Errc::cancelled, "walk"};
        if (!error_) {
            BRAID_REQUIRE(batches_done_ == lane->batch);
            BRAID_REQUIRE(done_ <= lane->first);
            ++batches_done_;
            passed_ += lane->count;
            done_ = lane->first + lane->count;
            progress_.walk_passed(order_, {lane->first, done_});
        }
        lane->let_go();
        for (auto& hold : lane->holds) hold.reset();
        turn_.set();
        note_rate();
        const Nanos now = clock_.now();
        if (!checkpointing_ && !error_ && now.value - checkpointed_.value > checkpoint_nanos) {
            checkpointing_ = true;
            const Result<void> kept = co_await progress_.walk_checkpoint();
            if (!kept && !error_) error_ = kept.error();
            checkpointed_ = clock_.now();
            checkpointing_ = false;
        }
        co_await pause(Nanos{now.value - start.value});
    }
    turn_.set();
}

/// The rows of a batch; before that the marks that it was found to lack, mostly none. A walk knows
/// only when it has read what it will write: then it lets its rows go for the marks, and looks again.
Task<Result<void>> Walker::claim_batch(Lane* lane) {
    for (std::uint32_t i = 0; lane->lacks_marks && i != lane->count; ++i) {
        if (!lane->marks[i] || lane->holds[i]) continue;
        lane->holds[i].emplace(context_.intent,
                               context_.members.window_place(lane->first + i).stripe);
    }
    for (std::uint32_t i = 0; lane->lacks_marks && i != lane->count; ++i) {
        if (!lane->holds[i]) continue;
        WriteIntent::Hold& hold = *lane->holds[i];
        BRAID_CO_CHECK(co_await hold);
    }
    lane->lacks_marks = false;
    const RowMask rows = row_range(0, context_.geometry.window_rows);
    for (std::uint32_t i = 0; i != lane->count; ++i) {
        lane->claims[i].emplace(context_.claims, context_.members.window_place(lane->first + i),
                                rows);
        RowClaim& claim = *lane->claims[i];
        co_await claim;
        if (context_.homes == nullptr) continue;
        // Only a walk waits for a lock while it holds others: nobody waits for it in a circle.
        RowLock& lock = lane->locks[i].emplace(context_.homes, LockFor::array);
        BRAID_CO_CHECK(co_await lock.take(context_.members.window_place(lane->first + i), rows,
                                          LockMode::exclusive));
    }
    co_return Result<void>{};
}

/// Not longer than until it is cancelled.
Task<void> Walker::sleep_until(Nanos time) {
    if (cancelled_) co_return;
    Timer timer(clock_, time);
    pausing_ = &timer;
    co_await timer;
    pausing_ = nullptr;
}

/// One lane decides how long all of them pause; the others wait with it.
Task<void> Walker::pause(Nanos step) {
    if (pausing_ == nullptr && clock_.now() >= pause_until_) {
        const LatencySample during = progress_.take_latency();
        const Nanos pause = throttle_.pause_after(step, during, quiet_);
        quiet_ = {};
        if (pause.value != 0 && !cancelled_) {
            pause_until_ = {clock_.now().value + pause.value};
            const bool others_tell = context_.homes != nullptr;
            const bool shows = !others_tell || pause.value >= Throttle::probe_of_nodes_nanos;
            if (others_tell && shows) {
                co_await sleep_until(Nanos{clock_.now().value + Throttle::told_of_before_nanos});
                progress_.take_latency();
            }
            co_await sleep_until(pause_until_);
            pause_until_ = {};
            const LatencySample quiet = progress_.take_latency();
            if (shows) quiet_ = quiet;
            turn_.set();
        }
    } else {
        while (clock_.now() < pause_until_ && !cancelled_) {
            co_await turn_.next();
        }
    }
    Yield yield;
    co_await yield;  // members in memory never suspend; clients come in between
}

void Walker::note_rate() {
    const Nanos now = clock_.now();
    const std::uint64_t nanos = now.value - rate_since_.value;
    if (nanos < 1'000'000'000) return;
    const std::uint64_t bytes = (passed_ - rate_from_) * context_.geometry.window_size();
    const double rate = static_cast<double>(bytes) * 1e9 / static_cast<double>(nanos);
    rate_ = rate_ == 0 ? rate : rate_ * 0.7 + rate * 0.3;
    rate_since_ = now;
    rate_from_ = passed_;
}

WalkStatus Walker::status() const {
    const std::uint64_t window = context_.geometry.window_size();
    WalkStatus status;
    status.kind = order_.kind;
    if (order_.kind == WalkKind::rebuilding) status.member = order_.member;
    // A walk to the array's end counts from its start, one over marked stripes from the first.
    std::uint64_t end = 0;
    for (const WindowRange& range : order_.ranges) end += range.size();
    BRAID_REQUIRE(passed_ <= end);
    const std::uint64_t left = end - passed_;
    const WindowIndex all = context_.geometry.window_end();
    if (order_.ranges.size() == 1 && order_.ranges.front().end == all) end = raw(all);
    status.position = (end - left) * window;
    status.end = end * window;
    double rate = rate_;
    if (rate == 0) {  // the first second
        const std::uint64_t nanos = clock_.now().value - rate_since_.value;
        const auto bytes = static_cast<double>((passed_ - rate_from_) * window);
        if (nanos != 0) rate = bytes * 1e9 / static_cast<double>(nanos);
    }
    status.rate = static_cast<std::uint64_t>(rate);
    if (status.rate != 0) status.seconds_left = (status.end - status.position) / status.rate;
    status.repair = order_.repair;
    status.mismatches = order_.mismatches;
    status.repaired = order_.repaired;
    status.bytes_unknown = order_.bytes_unknown;
    status.throttle = throttle_.severity();
    return status;
}

Task<Result<void>> Walker::walk_batch(Lane* lane) {
    if (!is_current()) co_return Error{Errc::cancelled, "walk"};
    BRAID_CO_CHECK(co_await read_batch(lane));
    // What a lost member's disk gave last, or another disk in its place, decides nothing.
    if (!is_current()) co_return Error{Errc::cancelled, "walk"};
    if (!lane->counts()) co_return Error{Errc::again, "walk"};
    BRAID_CO_CHECK(co_await walk_windows(lane));
    if (lane->lacks_marks) co_return Result<void>{};
    if (order_.kind == WalkKind::rebuilding) {
        BRAID_CO_CHECK(co_await rebuild_batch(lane));
    }
    if (!lane->voided.empty() && is_current()) {
        BRAID_CO_CHECK(co_await context_.intent.flush());
        if (!lane->counts()) co_return Error{Errc::again, "walk"};
        BRAID_CO_CHECK(co_await context_.decider.rows_unknown(std::move(lane->voided)));
    }
    if (!lane->known.empty() && is_current()) {
        if (!lane->counts()) co_return Error{Errc::again, "walk"};
        BRAID_CO_CHECK(co_await context_.decider.rows_known(std::move(lane->known)));
    }
    // A member was lost meanwhile: what it should have taken part in does not count.
    if (!is_current()) co_return Error{Errc::cancelled, "walk"};
    co_return Result<void>{};
}

/// The same windows of every live member, each member's in one piece.
Task<Result<void>> Walker::read_batch(Lane* lane) {
    Members& members = context_.members;
    const WindowPlace place = members.window_place(lane->first);
    MemberSet failed;
    lane->has_bad = false;
    lane->read = {};
    for (const bool background : {true, false}) {
        // Of members in memory every other one is read by a worker thread, beside ours.
        std::uint32_t number = 0;
        for (std::uint32_t i = 0; i != members.count(); ++i) {
            const MemberIndex member{i};
            DriveOp& op = lane->ops[i];
            if (background) op = {};
            if (!members.is_live(member, place)) continue;
            if ((number++ % 2 == 1) != background) continue;
            lane->read.add(member);
            op.kind = DiskOpKind::read;
            op.background = background;
            op.set_offset(members.device_offset(member, place, 0));
            op.size = lane->count * context_.geometry.window_size();
            op.data = lane->content(member, 0);
            op.tag = 1;
            members.submit(member, lane->group, op);
        }
    }
    co_await lane->group;
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        DriveOp& op = lane->ops[i];
        if (op.tag == 0) continue;
        members.finish(MemberIndex{i}, op);
        bytes_read_ += op.size;
        if (op.ok()) continue;
        failed.add(MemberIndex{i});
        const DriveResult& result = op.result;
        if (result.is_members() && !lane->told.has(MemberIndex{i})) {
            context_.decider.read_failed(MemberIndex{i}, result.os_error);
            lane->told.add(MemberIndex{i});
        }
    }
    if (failed.empty()) co_return Result<void>{};
    lane->has_bad = true;
    lane->bad.assign(lane->count, {});
    const RowMask rows = row_range(0, context_.geometry.window_rows);
    for (const MemberIndex member : failed) {
        for (auto& window : lane->bad) window[raw(member)] = rows;
        co_await read_by_rows(lane, member);
    }
    for (const MemberIndex member : failed) {
        BRAID_CO_CHECK(co_await verify_bad(lane, member));
    }
    co_return Result<void>{};
}

/// Whether the member answers a read anywhere else; or anywhere in the batch, if that is all of it.
Task<bool> Walker::answers(Lane* lane, MemberIndex member) {
    constexpr std::uint64_t places = 4;
    Members& members = context_.members;
    const std::uint64_t windows = raw(members.window_end());
    Buffer row(row_size);
    bool asked = false;
    for (std::uint64_t i = 1; i <= places; ++i) {
        const WindowIndex at{raw(lane->first + i * windows / (places + 1)) % windows};
        if (at >= lane->first && at < lane->first + lane->count) continue;
        asked = true;
        DiskGroup group;
        DriveOp op;
        op.set_offset(members.device_offset(member, members.window_place(at), 0));
        op.size = row_size;
        op.data = row.data();
        members.submit(member, group, op);
        co_await group;
        members.finish(member, op);
        if (op.ok()) co_return true;
    }
    const RowMask rows = row_range(0, context_.geometry.window_rows);
    co_return !asked && std::ranges::any_of(lane->bad, [&](const auto& window) {
        return window[raw(member)] != rows;
    });
}

/// Rows could not be read. Is it these rows, or does the member answer no reads just now? Then
/// nothing is decided on that. It may have answered none when they were tried: they are once more.
Task<Result<void>> Walker::verify_bad(Lane* lane, MemberIndex member) {
    std::uint32_t count = 0;
    for (const auto& window : lane->bad) {
        count += static_cast<std::uint32_t>(std::popcount(window[raw(member)]));
    }
    if (count == 0 || order_.kind == WalkKind::scrubbing) co_return Result<void>{};
    if (!co_await answers(lane, member)) {
        unreadable_ = member;
        co_return Error{Errc::busy, "walk"};
    }
    co_await read_by_rows(lane, member);
    co_return Result<void>{};
}

/// A read of the batch failed: which rows, of those that are noted as bad, are to blame? Other
/// members' rows may be bad, too, and only those of the same row count against each other. A row is
/// bad when it fails several times: what comes of it may be that its data is given up.
Task<void> Walker::read_by_rows(Lane* lane, MemberIndex member) {
    constexpr std::uint32_t tries_max = 3;
    Members& members = context_.members;
    const std::uint32_t rows = context_.geometry.window_rows;
    for (std::uint32_t index = 0; index != lane->count; ++index) {
        const WindowPlace place = members.window_place(lane->first + index);
        RowMask left = lane->bad[index][raw(member)];
        for (std::uint32_t tries = 0; left != 0 && tries != tries_max; ++tries) {
            for_each_run(left, [&](std::uint32_t first, std::uint32_t count) {
                for (std::uint32_t row = first; row != first + count; ++row) {
                    DriveOp& op = lane->ops[row];
                    op = {};
                    op.set_offset(members.device_offset(member, place, row));
                    op.size = row_size;
                    op.data = lane->content(member, (std::uint64_t{index} * rows + row) * row_size);
                    members.submit(member, lane->group, op);
                }
            });
            co_await lane->group;
            RowMask failed = 0;
            for_each_run(left, [&](std::uint32_t first, std::uint32_t count) {
                for (std::uint32_t row = first; row != first + count; ++row) {
                    members.finish(member, lane->ops[row]);
                    if (!lane->ops[row].ok()) failed |= row_range(row, 1);
                }
            });
            left = failed;
        }
        lane->bad[index][raw(member)] = left;
    }
}

/// Has it decided what each window should hold; lists what cannot be known; only then writes what
/// was found wrong or could not be read. The rebuilt member's strips are only computed:
/// rebuild_batch() writes them in one piece.
Task<Result<void>> Walker::walk_windows(Lane* lane) {
    BRAID_CO_CHECK(rows_.decide(*lane));
    for (std::uint32_t i = 0; i != lane->count && !context_.readonly; ++i) {
        lane->marks[i] = lane->marks[i] && lane->is_wrong(i);
        lane->lacks_marks |= lane->marks[i] && !lane->holds[i];
    }
    if (lane->lacks_marks) co_return Result<void>{};
    if (!std::exchange(lane->found_is_told, true)) rows_.tell_found(*lane);
    if (!lane->unknown.empty() || (lane->leans_on_list && !context_.readonly)) {
        BRAID_CO_CHECK(co_await context_.decider.rows_unknown(std::move(lane->unknown)));
        if (!is_current()) co_return Error{Errc::cancelled, "walk"};
    }
    for (std::uint32_t i = 0; i != lane->count; ++i) {
        if (lane->is_wrong(i)) BRAID_CO_CHECK(co_await mend_window(lane, i));
    }
    co_return Result<void>{};
}

/// Rewrites what was found wrong: the window is marked, or its rows are in doubt, or listed.
Task<Result<void>> Walker::mend_window(Lane* lane, std::uint32_t index) {
    const StripeContext& context = context_;
    if (context.readonly) co_return Result<void>{};
    BRAID_REQUIRE(!lane->lacks_marks);
    rows_.begin_window(*lane, index);
    RowWrite& write = lane->write;
    if (lane->marks[index]) {
        write.begin(WriteGround::marked, &*lane->holds[index]);
    } else {
        const bool mends = lane->has_bad_rows(index);
        write.begin(mends ? WriteGround::mended : WriteGround::untrusted);
    }
    for (const Role role : RoleSet::first(context.geometry.member_count)) {
        if (lane->wrong[index][raw(role)] == 0) continue;
        write.add_strip(lane->io, role, lane->wrong[index][raw(role)]);
    }
    while (co_await write) {
    }
    if (write.is_again()) co_return Error{Errc::again, "walk"};
    const RoleSet failed = write.failed();
    if (failed.empty()) {
        context.counters.reads_corrected += lane->bad_rows_to_mend(context.geometry, index);
        co_return Result<void>{};
    }
    const bool full = write.tell_failed();
    // A strip that could not be read, and not be rewritten, is as it was.
    const bool harms = !(failed & context.geometry.parity_roles()).empty();
    if (harms && is_current()) co_return Error{full ? Errc::full : Errc::io, "walk"};
    co_return Result<void>{};
}

/// Reads runs of the batch's windows of the rebuilt member back.
Task<void> Walker::read_back(Lane* lane, WindowMask windows) {
    Members& members = context_.members;
    BRAID_REQUIRE(windows != 0 && (windows & ~row_range(0, lane->count)) == 0);
    const MemberIndex member = order_.member;
    const std::uint64_t window_size = context_.geometry.window_size();
    std::uint32_t runs = 0;
    for_each_run(windows, [&](std::uint32_t first, std::uint32_t count) {
        DriveOp& op = lane->ops[runs++];
        op = {};
        op.background = true;  // beside the loop, which computes the next batch
        op.set_offset(members.device_offset(member, members.window_place(lane->first + first), 0));
        op.size = count * window_size;
        op.data = lane->content(member, first * window_size);
        members.submit(member, lane->group, op);
    });
    co_await lane->group;
    for (std::uint32_t i = 0; i != runs; ++i) members.finish(member, lane->ops[i]);
}

/// The rebuilt member's strips, in one piece, or around what holds the zeros that it is to hold.
Task<Result<void>> Walker::rebuild_batch(Lane* lane) {
    Members& members = context_.members;
    const MemberIndex member = order_.member;
    BRAID_REQUIRE(order_.kind == WalkKind::rebuilding);
    if (members.slot(member).state != MemberState::rebuilding) co_return Error{Errc::io, "walk"};
    const WindowMask right = co_await find_zeros(lane);
    const WindowMask wrong = row_range(0, lane->count) & ~right;
    RowWrite& write = lane->write;
    write.begin(WriteGround::rebuilt);
    for_each_run(wrong, [&](std::uint32_t first, std::uint32_t count) {
        MemberWindows piece;
        piece.member = member;
        piece.windows = {lane->first + first, lane->first + first + count};
        piece.content = lane->content(member, first * context_.geometry.window_size());
        piece.background = true;  // beside the loop, which computes the next batch
        write.add_windows(piece);
    });
    while (co_await write) {
    }
    if (write.is_again()) co_return Error{Errc::again, "walk"};
    if (write.failed_members().empty()) co_return Result<void>{};
    write.tell_failed();
    const bool full = write.result_of(member).os_error == ENOSPC;
    co_return Error{full ? Errc::full : Errc::io, "walk"};
}

/// Windows of the rebuilt member that are to be all zeros, and are: nothing is written there, so
/// that what is thin stays thin. They are read back, into the very zeros of the batch. While
/// nothing but other content is found, as on a used disk, fewer and fewer batches are looked at;
/// none of a file that has space for every byte anyhow.
Task<Walker::WindowMask> Walker::find_zeros(Lane* lane) {
    constexpr std::uint32_t looks_pause_max = 63;  // batches
    const MemberIndex member = order_.member;
    if (context_.members.slot(member).drive->info().allocated) co_return 0;
    const std::uint64_t window_size = context_.geometry.window_size();
    const auto is_zero = [&](std::uint32_t index) {
        const std::byte* content = lane->content(member, index * window_size);
        return *content == std::byte{0} &&
               std::memcmp(content, zero_window().data(), window_size) == 0;
    };
    WindowMask zero = 0;
    for (std::uint32_t i = 0; i != lane->count; ++i) {
        if (is_zero(i)) zero |= row_range(i, 1);
    }
    if (zero == 0) co_return 0;
    if (looks_pause_ != 0) {
        --looks_pause_;
        co_return 0;
    }
    co_await read_back(lane, zero);
    WindowMask right = 0;
    int run = 0;
    for_each_run(zero, [&](std::uint32_t first, std::uint32_t count) {
        const bool known = lane->ops[static_cast<std::size_t>(run++)].ok();
        for (std::uint32_t i = first; i != first + count; ++i) {
            if (known && is_zero(i)) {
                right |= row_range(i, 1);
            } else {
                std::memset(lane->content(member, i * window_size), 0, window_size);
            }
        }
    });
    looks_missed_ = right != 0 ? 0 : std::min(2 * looks_missed_ + 1, looks_pause_max);
    looks_pause_ = looks_missed_;
    // Zeros that are in the disk's cache only are to be flushed as those that we write.
    if (right != 0) context_.members.slot(member).drive->note_change();
    co_return right;
}

}  // namespace braid
