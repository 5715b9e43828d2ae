// SPDX-License-Identifier: BSD-3-Clause
#include "engine/serving/reader.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/base/mutation.h"
#include "engine/stripes/row_parity.h"
#include "engine/stripes/row_write.h"
#include "engine/stripes/strip_rows.h"
#include "parity/require.h"

namespace braid {
namespace {

/// Bytes of one strip that a request wants.
struct StripPiece {
    StripeIndex stripe{};
    Role role{};
    std::uint64_t begin{0};  // bytes in the strip
    std::uint64_t size{0};
    std::uint64_t rows_begin{0};  // bytes in the strip: the begin of the rows that are read
    std::byte* to{nullptr};
    std::byte* bounce{nullptr};  // none: read straight into `to`
    bool done{false};
    DriveOp op;
};

/// The piece at `at` of the array, at most `most` bytes.
StripPiece piece_at(const Geometry& geometry, ArrayOffset at, std::uint64_t most) {
    const StripPlace place = geometry.place_of(at);
    StripPiece piece;
    piece.stripe = place.stripe;
    piece.role = place.role;
    piece.begin = place.offset;
    piece.size = std::min(most, geometry.strip_size - piece.begin);
    return piece;
}

WindowPlace place_of(const Geometry& geometry, const StripPiece& piece, std::uint64_t at) {
    return {piece.stripe, static_cast<std::uint32_t>(at / geometry.window_size())};
}

/// In all windows of the piece.
bool is_live(const StripeContext& context, const StripPiece& piece) {
    const Geometry& geometry = context.geometry;
    const MemberIndex member = geometry.member_of(piece.stripe, piece.role);
    const WindowPlace first = place_of(geometry, piece, piece.begin);
    const WindowPlace last = place_of(geometry, piece, piece.begin + piece.size - 1);
    return context.members.is_live(
        member, {geometry.window_number(first), geometry.window_number(last) + 1});
}

/// RAID-6 that loses one member goes by what P and Q agree on, also in stripes that were being
/// written when it crashed. So what is read of those stripes has to be what P and Q say, durably:
/// a client may have acted on it.
bool is_made_true_by_reading(const StripeContext& context, StripeIndex stripe) {
    return context.geometry.parities() == 2 && !context.readonly &&
           !BRAID_MUTANT(doubt_read_before_true) && context.intent.is_carried(stripe);
}

struct Batch {
    std::array<StripPiece, read_pieces_max> pieces;
    std::uint32_t count{0};
    std::uint64_t bounce_size{0};
    DiskGroup group;
};

/// Cuts the next pieces off [at, end); returns where it stopped.
ArrayOffset fill(Batch& batch, const StripeContext& context, ArrayOffset at, ArrayOffset end,
                 std::byte* to) {
    batch.count = 0;
    batch.bounce_size = 0;
    while (at != end && batch.count != read_pieces_max) {
        StripPiece& piece = batch.pieces[batch.count];
        piece = piece_at(context.geometry, at, end - at);
        piece.to = to;
        const bool aligned =
            is_row_aligned(piece.begin) && is_row_aligned(piece.size) &&
            reinterpret_cast<std::uintptr_t>(to) % context.members.memory_align() == 0;
        piece.op.data = to;
        piece.rows_begin = round_down(piece.begin, row_size);
        piece.op.size = round_up(piece.begin + piece.size, row_size) - piece.rows_begin;
        if (!aligned) {
            if (batch.bounce_size + piece.op.size > job_size_max) {
                if (batch.count != 0) break;
                piece.size = job_size_max / 2;  // a strip is larger than the bounce buffer
                piece.op.size = round_up(piece.begin + piece.size, row_size) - piece.rows_begin;
            }
            batch.bounce_size += piece.op.size;
            piece.op.data = nullptr;
        }
        at += piece.size;
        to += piece.size;
        ++batch.count;
    }
    return at;
}

/// Whether a row of the piece is on the bad-row list, as one of the kind.
bool is_listed(const StripeContext& context, const StripPiece& piece, BadKind kind) {
    if (context.bad.empty()) return false;
    const std::uint64_t first = piece.begin / row_size;  // in the strip
    const std::uint64_t last = (piece.begin + piece.size - 1) / row_size;
    const MemberIndex member = context.geometry.member_of(piece.stripe, piece.role);
    const RowIndex strip = context.geometry.first_row(piece.stripe);
    const auto listed = context.bad.listed_in({member, strip + first, last - first + 1});
    return std::ranges::count(listed, kind, &BadRange::kind) != 0;
}

/// Looked at before reading: what is on the member then may be zeros in the place of data, and the
/// list without it by the time they arrive.
bool has_void(const Batch& batch, const StripeContext& context) {
    return std::any_of(
        &batch.pieces[0], &batch.pieces[0] + batch.count,
        [&](const StripPiece& piece) { return is_listed(context, piece, BadKind::voided); });
}

void submit(Batch& batch, const StripeContext& context, std::byte* bounce) {
    for (std::uint32_t i = 0; i != batch.count; ++i) {
        StripPiece& piece = batch.pieces[i];
        if (piece.op.data == nullptr) {
            piece.bounce = piece.op.data = bounce;
            bounce += piece.op.size;
        }
        if (!is_live(context, piece) || is_made_true_by_reading(context, piece.stripe)) continue;
        if (is_listed(context, piece, BadKind::retry)) continue;  // tried again, under its claim
        const MemberIndex member = context.geometry.member_of(piece.stripe, piece.role);
        piece.op.kind = DiskOpKind::read;
        piece.op.set_offset(context.members.slot(member).area.on_device(
            context.geometry.member_offset({piece.stripe, piece.role, piece.rows_begin})));
        piece.op.tag = 1;
        context.members.submit(member, batch.group, piece.op);
    }
}

/// Copies out what arrived, and marks it done.
void collect(Batch& batch, const StripeContext& context) {
    for (std::uint32_t i = 0; i != batch.count; ++i) {
        StripPiece& piece = batch.pieces[i];
        if (piece.op.tag == 0) continue;
        const MemberIndex member = context.geometry.member_of(piece.stripe, piece.role);
        context.members.finish(member, piece.op);
        piece.done = piece.op.ok() && is_live(context, piece);
        if (piece.done && piece.bounce != nullptr) {
            std::memcpy(piece.to, piece.bounce + piece.begin % row_size, piece.size);
        }
    }
}

/// Rows [first, first + count) of one strip under their claim, and out to the client.
struct RowsWanted {
    WindowPlace place;
    Role role{};
    std::uint32_t first{0};
    std::uint32_t count{0};
    std::uint64_t skip{0};  // bytes of the first row that nobody wants
    std::uint64_t size{0};
    std::byte* to{nullptr};
    bool* owes{nullptr};  // set: what was read may not be told before losses are durable
};

void lay_out(StripeIo& io, const StripePlan& plan, std::byte* base) {
    BRAID_REQUIRE(base != nullptr);
    for (const Role role : plan.read | plan.recover) {
        io.strips[raw(role)] = base;
        base += io.span_size();
    }
}

/// Makes P and Q of claimed rows true, durably. Not where a strip is lost: then it is computed from
/// P and Q as they are. Errc::doubt where one cannot be read: the resync gives up what it must.
Task<Result<void>> make_true_before_reading(StripeContext context, RowsWanted wanted) {
    const RowMask rows = row_range(wanted.first, wanted.count);
    const StripeState state = context.members.state_of(wanted.place, rows);
    if (!state.lost.empty()) co_return Result<void>{};
    if (context.bad.retry_rows(wanted.place, rows) != 0) co_return Result<void>{};
    if (state.parity_true) co_return co_await context.intent.flush();  // it has passed
    ParityRows at;
    at.place = wanted.place;
    at.rows = rows;
    at.loss_version = context.members.loss_version();
    at.may_match = true;
    const Result<void> made = co_await make_parity_true(context, at);
    // Of a loss the caller makes the best. For want of room the rows stay in doubt, by a write that
    // was not acknowledged.
    if (!made && made.error().code == Errc::full) co_return Result<void>{};
    if (!made && made.error().code == Errc::again) co_return made.error();
    if (!made && made.error().code != Errc::cancelled) co_return Error{Errc::doubt, "row"};
    co_return co_await context.intent.flush();
}

/// Rows that were to be tried again, and could be read. Makes their parity true for what all data
/// strips hold, and takes them off the list, if the others can be read, too. Their claim is held.
/// Until they leave it nobody trusts their parity: no mark is needed.
Task<void> end_retry(StripeContext context, WindowPlace place, RowMask rows) {
    const Geometry& geometry = context.geometry;
    const RoleSet lost = context.members.state_of(place, rows).lost;
    for (const Role role : lost& geometry.data_roles()) {
        rows &= context.bad.rows_of(place, role, rows, BadKind::voided);  // zeros, there
    }
    if (rows == 0) co_return;
    ParityRows at;
    at.place = place;
    at.rows = rows;
    at.loss_version = context.members.loss_version();
    const Result<void> made = co_await make_parity_true(context, at);
    if (!made) co_return;  // they stay on the list, and are tried again
    std::vector<BadRange> known;
    for (const Role role : geometry.data_roles()) {
        for_each_run(context.bad.rows_of(place, role, rows, BadKind::retry),
                     [&](std::uint32_t row, std::uint32_t count) {
                         known.push_back(context.bad.range_of(place, role, row, count));
                     });
    }
    // The reader has its bytes; an entry that could not leave the list is tried again.
    (void)(co_await context.decider.rows_known(std::move(known))).has_value();
}

/// What was computed in a lost member's place, of rows that it has missed, was a write's that is not
/// acknowledged: that waits for the same loss to be durable, its rows free (StripeJobs::work). If the
/// node crashed now, the next start could take the member for one in sync, and answer with what it
/// holds: the rows are marked, so that its strip counts, and parity is made to fit. So the read waits,
/// too; its rows need not be claimed for that, since whoever else computes them owes the same, and
/// what lies on a live member stays there.
bool owes_loss(const StripeContext& context, const RowsWanted& wanted, const StripePlan& plan) {
    if (context.readonly || BRAID_MUTANT(computed_read_not_awaited)) return false;
    const MemberIndex member = context.geometry.member_of(wanted.place.stripe, wanted.role);
    if (!plan.recover.has(wanted.role) || context.members.is_live(member, wanted.place)) {
        return false;
    }
    // What other nodes wrote in its place this one does not know.
    if (context.homes != nullptr) return context.members.owes();
    return context.members.has_missed(wanted.place, row_range(wanted.first, wanted.count));
}

/// Strips that could not be read, and were computed. The client has its bytes; that the member
/// could not be mended is the member's trouble.
Task<void> mend_strips(StripeContext context, const StripeIo* io, RoleSet roles, RowMask rows) {
    RowWrite write(context);
    write.begin(WriteGround::mended);
    for (const Role role : roles) write.add_strip(*io, role, rows);
    while (co_await write) {
    }
    if (write.failed().empty() && !write.is_dropped()) {
        const auto count = static_cast<std::uint32_t>(std::popcount(rows));
        context.counters.reads_corrected += std::uint64_t{roles.size()} * count;
    }
    write.tell_failed();
}

/// Under a lock of this mode. False: something is to be written of these rows, and the lock is
/// shared: nothing has come of it.
Task<Result<bool>> read_rows_locked(StripeContext context, RowsWanted wanted, LockMode mode) {
    const RowMask rows = row_range(wanted.first, wanted.count);
    const bool is_shared = mode == LockMode::shared;
    RowLock lock(context.homes);
    if (lock.is_needed()) BRAID_CO_CHECK(co_await lock.take(wanted.place, rows, mode));
    if (is_made_true_by_reading(context, wanted.place.stripe)) {
        if (is_shared) co_return false;
        BRAID_CO_CHECK(co_await make_true_before_reading(context, wanted));
    }
    StripeIo io(context.geometry, context.members);
    Lease lease;
    StripePlan plan;
    ReadRounds rounds(context.members);
    do {
        StripeState state = rounds.begin(wanted.place, rows);
        if (context.bad.retry_rows(wanted.place, rows) != 0 && !BRAID_MUTANT(retry_row_trusted)) {
            state.retry = RoleSet::of(wanted.role);  // of some role
        }
        const auto planned = plan_read(state, RoleSet::of(wanted.role));
        if (!planned && !lock.counts()) co_return Error{Errc::again, "row"};
        BRAID_CO_TRY(plan, planned);
        io.begin(wanted.place, rows);
        lease = Lease();
        const std::uint64_t size = (plan.read | plan.recover).size() * io.span_size();
        lease = co_await context.pool.acquire(size);
        lay_out(io, plan, lease.data());
        for (const Role role : plan.read) io.want_read(role, rows);
        while (co_await io) {
        }
        // It is mended under the other lock, and told of there.
        if (is_shared && !io.failed().empty()) co_return false;
    } while (!rounds.is_last(io, context.decider));
    if (!lock.counts()) co_return Error{Errc::again, "row"};
    // The next start will not know of a loss that never becomes durable: it will take that member's
    // own bytes, not what the others give for them now.
    const bool forgotten = context.members.failed() &&
                           context.members.loss_version() != context.members.loss_version_durable();
    if (!plan.recover.empty()) {
        if (forgotten && !context.readonly) co_return Error{Errc::failed, "stripe"};
        recover_rows(context.geometry, plan, io, wanted.first, wanted.count);
        if (owes_loss(context, wanted, plan)) *wanted.owes = true;
    }
    const RowMask listed = context.bad.rows_of(wanted.place, wanted.role, rows);
    const RowMask retried = context.bad.rows_of(wanted.place, wanted.role, rows, BadKind::retry);
    if (listed != retried || (listed != 0 && plan.recover.has(wanted.role))) {
        co_return Error{Errc::unknown, "row"};
    }
    const bool writes = !context.readonly && (retried != 0 || !plan.write.empty());
    if (writes && is_shared) co_return false;
    if (!plan.recover.empty()) ++context.counters.degraded_reads;
    std::memcpy(wanted.to, io.strips[raw(wanted.role)] + wanted.skip, wanted.size);
    if (!writes) co_return true;
    if (retried != 0) {
        lease = Lease();
        co_await end_retry(context, wanted.place, retried);
        co_return true;
    }
    co_await mend_strips(context, &io, plan.write, rows);
    co_return true;
}

/// Nodes that compute the same rows in a lost member's place do not wait for each other. Where the
/// member is there its read failed, and what is computed is rewritten. On a node that is alone there
/// is no lock, and the claim is enough for all that comes of it.
Task<Result<void>> read_rows_claimed(StripeContext context, RowsWanted wanted) {
    RowClaim claim(context.claims, wanted.place, row_range(wanted.first, wanted.count));
    co_await claim;
    const MemberIndex member = context.geometry.member_of(wanted.place.stripe, wanted.role);
    LockMode mode = LockMode::exclusive;
    if (context.homes != nullptr && !context.members.is_live(member, wanted.place)) {
        mode = LockMode::shared;
    }
    for (;;) {
        const Result<bool> read = co_await read_rows_locked(context, wanted, mode);
        if (!read && read.error().code == Errc::again) continue;
        if (!read) co_return read.error();
        if (*read) co_return Result<void>{};
        BRAID_REQUIRE(mode == LockMode::shared);
        mode = LockMode::exclusive;
    }
}

Task<Result<void>> read_piece_claimed(StripeContext context, const StripPiece* piece, bool* owes) {
    const std::uint64_t window_size = context.geometry.window_size();
    std::byte* to = piece->to;
    std::uint64_t at = piece->begin;
    const std::uint64_t end = piece->begin + piece->size;
    while (at != end) {
        RowsWanted wanted;
        wanted.place = place_of(context.geometry, *piece, at);
        wanted.role = piece->role;
        const std::uint64_t in_window = at % window_size;
        wanted.size = std::min(end - at, window_size - in_window);
        wanted.first = static_cast<std::uint32_t>(in_window / row_size);
        wanted.count =
            static_cast<std::uint32_t>((in_window + wanted.size - 1) / row_size) - wanted.first + 1;
        wanted.skip = in_window % row_size;
        wanted.to = to;
        wanted.owes = owes;
        BRAID_CO_CHECK(co_await read_rows_claimed(context, wanted));
        at += wanted.size;
        to += wanted.size;
    }
    co_return Result<void>{};
}

}  // namespace

Task<Result<void>> read_request(StripeContext context, IoRequest* request) {
    Batch batch;
    bool owes = false;
    const ArrayOffset end = request->offset + request->size;
    ArrayOffset at = request->offset;
    while (at != end) {
        at = fill(batch, context, at, end, request->data + (at - request->offset));
        {
            Lease lease;
            if (batch.bounce_size != 0) lease = co_await context.pool.acquire(batch.bounce_size);
            if (has_void(batch, context)) co_return Error{Errc::unknown, "row"};
            submit(batch, context, lease.data());
            co_await batch.group;
            collect(batch, context);
        }
        for (std::uint32_t i = 0; i != batch.count; ++i) {
            if (!batch.pieces[i].done) {
                BRAID_CO_CHECK(co_await read_piece_claimed(context, &batch.pieces[i], &owes));
            }
            if (is_listed(context, batch.pieces[i], BadKind::voided))
                co_return Error{Errc::unknown, "row"};
        }
    }
    if (owes) co_return co_await context.decider.losses_durable();
    co_return Result<void>{};
}

}  // namespace braid
