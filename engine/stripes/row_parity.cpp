// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/row_parity.h"

#include <array>
#include <cstring>

#include "engine/stripes/row_write.h"
#include "engine/stripes/strip_rows.h"
#include "engine/stripes/stripe_io.h"

namespace braid {
namespace {

Task<bool> read_returning(StripeContext context, ParityRows at, const StripeIo* io) {
    const ReturningStrip from = *at.returning;
    bool ok = true;
    std::array<DiskOp, window_rows_max> ops;
    DiskGroup group;
    for_each_run(at.rows, [&](std::uint32_t row, std::uint32_t count) {
        DiskOp& op = ops[row];
        op.offset = from.area.on_device(context.geometry.row_offset(at.place, row)).value;
        op.size = count * row_size;
        op.data = io->strips[raw(from.role)] + io->offset_of(row);
        submit(*from.disk, group, op);
    });
    co_await group;
    for_each_run(at.rows, [&](std::uint32_t row, std::uint32_t) { ok &= ops[row].ok(); });
    co_return ok;
}

}  // namespace

Task<Result<void>> make_parity_true(StripeContext context, ParityRows at) {
    const Geometry& geometry = context.geometry;
    if (at.loss_version != context.members.loss_version()) co_return Error{Errc::cancelled, "row"};
    const RoleSet all = RoleSet::first(geometry.member_count);
    const RoleSet live = all - context.members.state_of(at.place, at.rows).lost;
    StripeIo io(geometry, context.members);
    io.begin(at.place, at.rows);
    const std::uint64_t size = geometry.member_count * io.span_size();
    Lease lease = co_await context.pool.acquire(size);
    std::memset(lease.data(), 0, size);
    for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
        io.strips[i] = lease.data() + i * io.span_size();
    }
    const RoleSet wanted = at.may_match ? all : geometry.data_roles();
    for (const Role role : live& wanted) {
        io.want_read(role, at.rows);
    }
    while (co_await io) {
    }
    const RoleSet failed = take_failed_reads(io, context.decider);
    if (at.loss_version != context.members.loss_version()) co_return Error{Errc::cancelled, "row"};
    if (!failed.empty()) co_return Error{Errc::io, "row"};
    if (at.returning) {
        if (!co_await read_returning(context, at, &io)) co_return Error{Errc::io, "row"};
        if (at.loss_version != context.members.loss_version())
            co_return Error{Errc::cancelled, "row"};
    }
    const StripRows rows(geometry, io, io.first_row(), io.span());
    if (!at.may_match || !rows.match()) {
        rows.compute_parity();
        RowWrite write(context);
        write.begin(WriteGround::untrusted);
        for (const Role role : geometry.parity_roles() & live) write.add_strip(io, role, at.rows);
        while (co_await write) {
        }
        if (write.is_again()) co_return Error{Errc::again, "row"};
        if (!write.failed().empty()) {
            const bool full = write.tell_failed();
            co_return Error{full ? Errc::full : Errc::io, "row"};
        }
    }
    if (at.loss_version != context.members.loss_version()) co_return Error{Errc::cancelled, "row"};
    const bool told = context.homes != nullptr && !context.members.doubt().empty();
    context.members.rows_true(at.place, at.rows);
    if (told) co_return co_await context.decider.rows_true(at.place, at.rows);
    co_return Result<void>{};
}

}  // namespace braid
