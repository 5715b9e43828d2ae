// SPDX-License-Identifier: BSD-3-Clause
#include "engine/walker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "parity/parity.h"

namespace braid {

struct Walker::Lane {
    Lane(const StripeContext& context, std::uint64_t size)
        : io(context.geometry, context.members), member_size(size),
          buffer(size * context.geometry.member_count) {}

    StripeIo io;
    std::uint64_t member_size;          // bytes of each member's piece of the buffer
    Buffer buffer;
    std::uint64_t first{0};             // windows [first, first + count)
    std::uint32_t count{0};
    std::array<std::optional<RowLock>, batch_windows_max> locks;
    std::array<DiskOp, members_max> ops;
    DiskGroup group;
    bool has_bad{false};                // a read of the batch failed
    std::vector<std::array<RowMask, members_max>> bad;  // by window and member: rows that did
    std::array<RowMask, members_max> wrong{};  // of the window at hand, by role: to be rewritten

    std::byte* content(MemberIndex member, std::uint64_t offset) {
        return buffer.data() + raw(member) * member_size + offset;
    }
    bool has_bad_rows(std::uint32_t index) const {
        return has_bad && std::ranges::any_of(bad[index], [](RowMask rows) { return rows != 0; });
    }
    RoleSet bad_roles(const Geometry& geometry, std::uint32_t index, std::uint32_t row) const {
        RoleSet roles;
        for (std::uint32_t m = 0; has_bad && m != geometry.member_count; ++m) {
            if (((bad[index][m] >> row) & 1) == 0) continue;
            const StripeIndex stripe{(first + index) / geometry.windows_per_stripe()};
            roles |= RoleSet::of(geometry.role_of(stripe, MemberIndex{m}));
        }
        return roles;
    }
};

Walker::Walker(StripeContext context, Clock& clock, ReadyQueue& ready, WalkHost& host)
    : context_(context), clock_(clock), host_(host), lanes_group_(ready) {}

bool Walker::in_memory() const {
    bool all = true;
    for (std::uint32_t i = 0; i != context_.members.count(); ++i) {
        const auto& slot = context_.members.slot(MemberIndex{i});
        if (slot.disk) all &= slot.disk->info().in_memory;
    }
    return all;
}

Walker::~Walker() = default;

std::uint64_t Walker::memory_bytes() const {
    return lanes_.size() * batch_windows_ * context_.geometry.window_size() *
           context_.geometry.member_count;
}

void Walker::cancel() {
    cancelled_ = true;
    if (pausing_ != nullptr) pausing_->cancel();
}

Task<Result<void>> Walker::run(Walker* self, WalkOrder order) {
    BRAID_REQUIRE(!self->running_);
    self->running_ = true;
    self->order_ = order;
    self->error_.reset();
    self->next_ = self->done_ = order.begin;
    self->checkpointed_ = self->rate_since_ = self->clock_.now();
    self->rate_from_ = order.begin;
    self->rate_ = 0;
    self->pause_until_ = {};
    self->host_.take_latency();
    self->quiet_ = {};
    const Geometry& geometry = self->context_.geometry;
    const bool in_memory = self->in_memory();
    const std::uint64_t fits = job_size_max / geometry.member_count / geometry.window_size();
    const std::uint64_t wanted =
        (in_memory ? batch_size_in_memory : batch_size) / geometry.window_size();
    self->batch_windows_ =
        std::clamp<std::uint64_t>(std::min(fits, wanted), 1, batch_windows_max);
    const std::uint64_t size = self->batch_windows_ * geometry.window_size();
    const std::uint32_t lanes = in_memory ? lanes_in_memory : lanes_max;
    for (std::uint32_t i = 0; i != lanes; ++i) {
        self->lanes_.push_back(std::make_unique<Lane>(self->context_, size));
        self->lanes_group_.spawn(walk_lane(self, self->lanes_.back().get()));
    }
    auto joined = self->lanes_group_.join();
    co_await joined;
    self->lanes_.clear();
    self->running_ = self->cancelled_ = false;
    if (self->error_) co_return *self->error_;
    if (self->done_ != self->context_.members.window_count()) {
        co_return Error{Errc::cancelled, "walk"};
    }
    co_return Result<void>{};
}

Task<void> Walker::walk_lane(Walker* self, Lane* lane) {
    const std::uint64_t end = self->context_.members.window_count();
    while (!self->cancelled_ && !self->error_ && self->next_ != end) {
        lane->first = self->next_;
        lane->count = static_cast<std::uint32_t>(
            std::min(end - lane->first, self->batch_windows_));
        self->next_ += lane->count;
        const Nanos start = self->clock_.now();
        const RowMask rows = row_range(0, self->context_.geometry.window_rows);
        for (std::uint32_t i = 0; i != lane->count; ++i) {
            lane->locks[i].emplace(self->context_.locks,
                                   self->context_.members.window_place(lane->first + i), rows);
            RowLock& lock = *lane->locks[i];
            co_await lock;
        }
        const Result<void> result = co_await walk_batch(self, lane);
        if (!result && !self->error_ && self->is_current()) self->error_ = result.error();
        while (self->done_ != lane->first && !self->error_) {
            self->turn_.clear();
            auto turn = self->turn_.wait();
            co_await turn;
        }
        if (!self->error_ && !self->is_current()) self->error_ = Error{Errc::cancelled, "walk"};
        if (!self->error_) {
            self->done_ = lane->first + lane->count;
            self->host_.walk_passed(self->order_, self->done_);
        }
        for (std::uint32_t i = 0; i != lane->count; ++i) lane->locks[i].reset();
        self->turn_.set();
        self->note_rate();
        const Nanos now = self->clock_.now();
        if (!self->checkpointing_ && !self->error_ &&
            now.value - self->checkpointed_.value > checkpoint_nanos) {
            self->checkpointing_ = true;
            const Result<void> kept = co_await self->host_.walk_checkpoint();
            if (!kept && !self->error_) self->error_ = kept.error();
            self->checkpointed_ = self->clock_.now();
            self->checkpointing_ = false;
        }
        co_await pause(self, Nanos{now.value - start.value});
    }
    self->turn_.set();
}

/// One lane decides how long all of them pause; the others wait with it.
Task<void> Walker::pause(Walker* self, Nanos step) {
    if (self->pausing_ == nullptr && self->clock_.now() >= self->pause_until_) {
        const LatencySample during = self->host_.take_latency();
        const Nanos pause = self->throttle_.pause_after(step, during, self->quiet_);
        self->quiet_ = {};
        if (pause.value != 0 && !self->cancelled_) {
            self->pause_until_ = {self->clock_.now().value + pause.value};
            Timer timer(self->clock_, self->pause_until_);
            self->pausing_ = &timer;
            co_await timer;
            self->pausing_ = nullptr;
            self->pause_until_ = {};
            self->quiet_ = self->host_.take_latency();
            self->turn_.set();
        }
    } else {
        while (self->pausing_ != nullptr && !self->cancelled_) {
            self->turn_.clear();
            auto turn = self->turn_.wait();
            co_await turn;
        }
    }
    Yield yield;
    co_await yield;  // members in memory never suspend; clients come in between
}

void Walker::note_rate() {
    const Nanos now = clock_.now();
    const std::uint64_t nanos = now.value - rate_since_.value;
    if (nanos < 1'000'000'000) return;
    const std::uint64_t bytes = (done_ - rate_from_) * context_.geometry.window_size();
    const double rate = static_cast<double>(bytes) * 1e9 / static_cast<double>(nanos);
    rate_ = rate_ == 0 ? rate : rate_ * 0.7 + rate * 0.3;
    rate_since_ = now;
    rate_from_ = done_;
}

WalkStatus Walker::status() const {
    const std::uint64_t window = context_.geometry.window_size();
    WalkStatus status;
    status.kind = order_.kind;
    if (order_.kind == WalkKind::rebuilding) status.member = order_.member;
    status.position = done_ * window;
    status.end = context_.members.window_count() * window;
    double rate = rate_;
    if (rate == 0) {  // the first second
        const std::uint64_t nanos = clock_.now().value - rate_since_.value;
        const auto bytes = static_cast<double>((done_ - rate_from_) * window);
        if (nanos != 0) rate = bytes * 1e9 / static_cast<double>(nanos);
    }
    status.rate = static_cast<std::uint64_t>(rate);
    if (status.rate != 0) status.seconds_left = (status.end - status.position) / status.rate;
    status.repair = order_.repair;
    status.mismatches = order_.mismatches;
    status.repaired = order_.repaired;
    status.throttle = throttle_.severity();
    return status;
}

Task<Result<void>> Walker::walk_batch(Walker* self, Lane* lane) {
    if (!self->is_current()) co_return Error{Errc::cancelled, "walk"};
    BRAID_CO_CHECK(co_await read_batch(self, lane));
    BRAID_CO_CHECK(co_await walk_windows(self, lane));
    if (self->order_.kind == WalkKind::rebuilding) {
        BRAID_CO_CHECK(co_await rebuild_batch(self, lane));
    }
    // A member was lost meanwhile: what it should have taken part in does not count.
    if (!self->is_current()) co_return Error{Errc::cancelled, "walk"};
    co_return Result<void>{};
}

/// The same windows of every live member, each member's in one piece.
Task<Result<void>> Walker::read_batch(Walker* self, Lane* lane) {
    Members& members = self->context_.members;
    const WindowPlace place = members.window_place(lane->first);
    RoleSet failed;  // by member index
    lane->has_bad = false;
    for (const bool background : {true, false}) {
        // Of members in memory every other one is read by a worker thread, beside ours.
        std::uint32_t number = 0;
        for (std::uint32_t i = 0; i != members.count(); ++i) {
            const MemberIndex member{i};
            DiskOp& op = lane->ops[i];
            if (background) op = {};
            if (members.slot(member).state != MemberState::in_sync) continue;
            if ((number++ % 2 == 1) != background) continue;
            op.kind = DiskOpKind::read;
            op.background = background;
            op.offset = members.device_offset(member, place, 0);
            op.size = lane->count * self->context_.geometry.window_size();
            op.data = lane->content(member, 0);
            op.tag = 1;
            members.submit(member, lane->group, op);
        }
    }
    co_await lane->group;
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const DiskOp& op = lane->ops[i];
        if (op.tag == 0) continue;
        members.count_done(op, MemberIndex{i});
        if (op.ok()) continue;
        failed |= RoleSet::of(Role{i});
        self->context_.monitor.read_failed(MemberIndex{i}, op.os_error);
    }
    if (failed.empty()) co_return Result<void>{};
    lane->has_bad = true;
    lane->bad.assign(lane->count, {});
    for (const Role member : failed) {
        co_await read_by_rows(self, lane, MemberIndex{raw(member)});
    }
    co_return Result<void>{};
}

/// A read of the batch failed: which rows are to blame? Other members' rows may be bad, too, and
/// only those of the same row count against each other.
Task<void> Walker::read_by_rows(Walker* self, Lane* lane, MemberIndex member) {
    Members& members = self->context_.members;
    const std::uint32_t rows = self->context_.geometry.window_rows;
    for (std::uint32_t index = 0; index != lane->count; ++index) {
        const WindowPlace place = members.window_place(lane->first + index);
        for (std::uint32_t row = 0; row != rows; ++row) {
            DiskOp& op = lane->ops[row];
            op = {};
            op.offset = members.device_offset(member, place, row);
            op.size = row_size;
            op.data = lane->content(member, (std::uint64_t{index} * rows + row) * row_size);
            members.submit(member, lane->group, op);
        }
        co_await lane->group;
        for (std::uint32_t row = 0; row != rows; ++row) {
            members.count_done(lane->ops[row], member);
            if (!lane->ops[row].ok()) lane->bad[index][raw(member)] |= row_range(row, 1);
        }
    }
}
static_assert(window_rows_max <= members_max);  // the operations of a lane

/// Computes what each window should hold, and writes what was found wrong or could not be read.
/// The rebuilt member's strips are only computed: rebuild_batch() writes them in one piece.
Task<Result<void>> Walker::walk_windows(Walker* self, Lane* lane) {
    const StripeContext& context = self->context_;
    const Geometry& geometry = context.geometry;
    for (std::uint32_t i = 0; i != lane->count; ++i) {
        const WindowPlace place = context.members.window_place(lane->first + i);
        lane->io.begin(place, row_range(0, geometry.window_rows));
        for (std::uint32_t m = 0; m != geometry.member_count; ++m) {
            const Role role = geometry.role_of(place.stripe, MemberIndex{m});
            lane->io.old_content[raw(role)] = lane->content(MemberIndex{m}, i * geometry.window_size());
        }
        if (self->order_.kind != WalkKind::rebuilding && !lane->has_bad_rows(i)) {
            if (self->inspect_window(*lane, i)) continue;
        } else {
            BRAID_CO_CHECK(self->recover_window(*lane, i));
        }
        BRAID_CO_CHECK(co_await mend_window(self, lane));
    }
    co_return Result<void>{};
}

namespace {

struct ConstStrips {
    std::array<const std::byte*, members_max> data{};
    ByteView p;
    ByteView q;
};

ConstStrips strips_of(const Geometry& geometry, const StripeIo& io, std::uint32_t row,
                      std::uint32_t count) {
    ConstStrips strips;
    const std::uint64_t at = row * row_size;
    const std::uint64_t size = count * row_size;
    for (const Role role : geometry.data_roles()) {
        strips.data[raw(role)] = io.old_content[raw(role)] + at;
    }
    strips.p = {io.old_content[raw(geometry.p())] + at, size};
    if (geometry.parities() == 2) strips.q = {io.old_content[raw(geometry.q())] + at, size};
    return strips;
}

bool matches(const Geometry& geometry, const ConstStrips& strips) {
    const parity::Sources data{strips.data.data(), geometry.data_count()};
    return geometry.parities() == 2 ? parity::matches_pq(strips.p, strips.q, data)
                                    : parity::matches_p(strips.p, data);
}

}  // namespace

/// Everything was read: true if P and Q match, or nothing is to be done about it.
bool Walker::inspect_window(Lane& lane, std::uint32_t index) {
    const Geometry& geometry = context_.geometry;
    if (matches(geometry, strips_of(geometry, lane.io, 0, geometry.window_rows))) return true;
    lane.wrong.fill(0);
    bool mends = false;
    for (std::uint32_t row = 0; row != geometry.window_rows; ++row) {
        mends |= !inspect_row(lane, index, row);
    }
    return !mends;
}

/// False if the row is to be rewritten: then the right content is in the lane's buffer, and the
/// strips that have it are marked in `wrong`.
bool Walker::inspect_row(Lane& lane, std::uint32_t index, std::uint32_t row) {
    const Geometry& geometry = context_.geometry;
    const ConstStrips strips = strips_of(geometry, lane.io, row, 1);
    if (matches(geometry, strips)) return true;
    const WindowPlace place = context_.members.window_place(lane.first + index);
    const parity::Sources data{strips.data.data(), geometry.data_count()};
    RoleSet wrong = geometry.parity_roles();  // what a resync, or a repair of RAID-5, rewrites
    if (order_.kind == WalkKind::scrubbing) {
        ++order_.mismatches;
        std::string what = "parity and data differ; which strip is wrong cannot be told";
        bool known = geometry.parities() == 1;
        if (geometry.parities() == 2) {
            using What = parity::Located::What;
            const parity::Located located = parity::locate(strips.p, strips.q, data);
            known = located.what != What::several;
            if (located.what == What::data) {
                wrong = RoleSet::of(Role{static_cast<std::uint32_t>(located.index)});
            } else if (located.what == What::p) {
                wrong = RoleSet::of(geometry.p());
            } else if (located.what == What::q) {
                wrong = RoleSet::of(geometry.q());
            }
            if (known) {
                what = fmt::format("the strip on member {} is wrong",
                                   raw(geometry.member_of(place.stripe, *wrong.begin())));
            } else {
                what = "more than one strip is wrong, which ones cannot be told; nothing changed";
            }
        }
        const bool repairs = order_.repair && known;
        if (repairs) {
            ++order_.repaired;
            what += geometry.parities() == 2 ? "; repaired" : "; parity rewritten from the data";
        }
        host_.walk_mismatch(place, row, std::move(what));
        if (!repairs) return true;
    }
    std::array<std::byte*, members_max> to{};
    for (const Role role : geometry.data_roles()) {
        to[raw(role)] = lane.io.old_content[raw(role)] + row * row_size;
    }
    parity::Strips fix{{to.data(), geometry.data_count()}, nullptr, nullptr, row_size};
    fix.p = lane.io.old_content[raw(geometry.p())] + row * row_size;
    if (geometry.parities() == 2) fix.q = lane.io.old_content[raw(geometry.q())] + row * row_size;
    parity::Lost lost;
    for (const Role role : wrong) {
        if (role == geometry.p()) {
            lost.p = true;
        } else if (geometry.parities() == 2 && role == geometry.q()) {
            lost.q = true;
        } else {
            lost.first = raw(role);
        }
        lane.wrong[raw(role)] |= row_range(row, 1);
    }
    parity::recover(fix, lost, parity::Store::cached);
    return false;
}

/// Computes rows of strips that are lost or could not be read, and marks the latter in `wrong`.
Result<void> Walker::recover_rows_of(Lane& lane, RoleSet lost, RoleSet bad, WindowPlace place,
                                     std::uint32_t row, std::uint32_t count) {
    const Geometry& geometry = context_.geometry;
    const RoleSet gone = lost | bad;
    const bool parity_true = context_.members.state_of(place).parity_true;
    const bool fresh_parity = !parity_true && order_.kind == WalkKind::resyncing;
    if (gone.size() > geometry.parities()) return Error{Errc::io, "walk"};
    if (!parity_true && !(gone & geometry.data_roles()).empty()) {
        return Error{Errc::unknown, "walk"};
    }
    std::array<std::byte*, members_max> data{};
    parity::Lost missing;
    for (const Role role : geometry.data_roles()) {
        data[raw(role)] = lane.io.old_content[raw(role)] + row * row_size;
        if (gone.has(role)) (missing.first ? missing.second : missing.first) = raw(role);
    }
    parity::Strips strips{{data.data(), geometry.data_count()},
                          lane.io.old_content[raw(geometry.p())] + row * row_size, nullptr,
                          count * row_size};
    missing.p = gone.has(geometry.p()) || fresh_parity;
    if (geometry.parities() == 2) {
        strips.q = lane.io.old_content[raw(geometry.q())] + row * row_size;
        missing.q = gone.has(geometry.q()) || fresh_parity;
    }
    parity::recover(strips, missing, parity::Store::cached);
    const RoleSet rewrite = fresh_parity ? bad | geometry.parity_roles() : bad;
    for (const Role role : rewrite) lane.wrong[raw(role)] |= row_range(row, count);
    context_.counters.reads_corrected += bad.size() * count;
    return {};
}

/// A window of which strips are lost, or rows could not be read: rows that lack the same strips
/// are computed together, rows that lack none are compared as always.
Result<void> Walker::recover_window(Lane& lane, std::uint32_t index) {
    const Geometry& geometry = context_.geometry;
    const WindowPlace place = context_.members.window_place(lane.first + index);
    lane.wrong.fill(0);
    RoleSet lost;
    for (std::uint32_t m = 0; m != geometry.member_count; ++m) {
        if (context_.members.slot(MemberIndex{m}).state == MemberState::in_sync) continue;
        lost |= RoleSet::of(geometry.role_of(place.stripe, MemberIndex{m}));
    }
    for (std::uint32_t row = 0; row != geometry.window_rows;) {
        const RoleSet bad = lane.bad_roles(geometry, index, row);
        std::uint32_t count = 1;
        while (row + count != geometry.window_rows &&
               lane.bad_roles(geometry, index, row + count) == bad) {
            ++count;
        }
        if ((lost | bad).empty()) {
            for (std::uint32_t i = 0; i != count; ++i) (void)inspect_row(lane, index, row + i);
        } else {
            const auto recovered = recover_rows_of(lane, lost, bad, place, row, count);
            if (!recovered && order_.kind != WalkKind::scrubbing) return recovered.error();
            if (!recovered) {
                host_.walk_mismatch(place, row, "it cannot be read, nor computed from the others");
            }
        }
        row += count;
    }
    return {};
}

/// Rewrites what was marked.
Task<Result<void>> Walker::mend_window(Walker* self, Lane* lane) {
    const StripeContext& context = self->context_;
    StripeIo& io = lane->io;
    for (const Role role : RoleSet::first(context.geometry.member_count)) {
        if (lane->wrong[raw(role)] == 0 || context.readonly) continue;
        io.want_write_old(role, lane->wrong[raw(role)]);
    }
    while (io.submit(DiskOpKind::write, false)) {
        co_await io.group;
        io.collect();
    }
    for (const Role role : io.failed()) {
        context.monitor.write_failed(io.member_of(role), io.os_error_of(role));
    }
    co_return Result<void>{};
}

/// The rebuilt member's strips, in one piece.
Task<Result<void>> Walker::rebuild_batch(Walker* self, Lane* lane) {
    Members& members = self->context_.members;
    const MemberIndex member = self->order_.member;
    if (members.slot(member).state != MemberState::rebuilding) co_return Error{Errc::io, "walk"};
    DiskOp& op = lane->ops[raw(member)];
    op = {};
    op.kind = DiskOpKind::write;
    op.background = true;
    op.offset = members.device_offset(member, members.window_place(lane->first), 0);
    op.size = lane->count * self->context_.geometry.window_size();
    op.data = lane->content(member, 0);
    members.submit(member, lane->group, op);
    co_await lane->group;
    members.count_done(op, member);
    if (!op.ok()) {
        self->context_.monitor.write_failed(member, op.os_error);
        co_return Error{Errc::io, "walk"};
    }
    co_return Result<void>{};
}

}  // namespace braid
