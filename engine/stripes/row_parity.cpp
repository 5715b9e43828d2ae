// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/row_parity.h"

#include <array>
#include <cstring>

#include "parity/parity.h"

namespace braid {
namespace {

Task<bool> read_returning(StripeContext context, ParityRows at, const StripeIo* io) {
    const ReturningStrip from = *at.returning;
    bool ok = true;
    std::array<DiskOp, window_rows_max> ops;
    DiskGroup group;
    for_each_run(at.rows, [&](std::uint32_t row, std::uint32_t count) {
        DiskOp& op = ops[row];
        op.offset = from.data_offset + context.geometry.strip_offset(at.place.stripe) +
                    at.place.window * context.geometry.window_size() + row * row_size;
        op.size = count * row_size;
        op.data = io->old_content[raw(from.role)] + io->offset_of(row);
        submit(*from.disk, group, op);
    });
    co_await group;
    for_each_run(at.rows, [&](std::uint32_t row, std::uint32_t) { ok &= ops[row].ok(); });
    co_return ok;
}

/// Computes P and Q of what `io` has of all data strips. False: they were that already.
bool compute(const Geometry& geometry, const StripeIo& io, bool may_match) {
    std::array<const std::byte*, members_max> data{};
    for (const Role role : geometry.data_roles()) data[raw(role)] = io.old_content[raw(role)];
    const parity::Sources sources{data.data(), geometry.data_count()};
    const ByteSpan p{io.old_content[raw(geometry.p())], io.span_size()};
    if (geometry.parities() == 1) {
        if (may_match && parity::matches_p(p, sources)) return false;
        parity::compute_p(p, sources, parity::Store::cached);
        return true;
    }
    const ByteSpan q{io.old_content[raw(geometry.q())], io.span_size()};
    if (may_match && parity::matches_pq(p, q, sources)) return false;
    parity::compute_pq(p, q, sources, parity::Store::cached);
    return true;
}

}  // namespace

Task<Result<void>> make_parity_true(StripeContext context, ParityRows at) {
    const Geometry& geometry = context.geometry;
    if (at.losses != context.members.losses()) co_return Error{Errc::cancelled, "row"};
    const RoleSet all = RoleSet::first(geometry.member_count);
    const RoleSet live = all - context.members.state_of(at.place, at.rows).lost;
    StripeIo io(geometry, context.members);
    io.begin(at.place, at.rows);
    const std::uint64_t size = geometry.member_count * io.span_size();
    Lease lease = co_await context.pool.acquire(size);
    std::memset(lease.data(), 0, size);
    for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
        io.old_content[i] = lease.data() + i * io.span_size();
    }
    const RoleSet wanted = at.may_match ? all : geometry.data_roles();
    for (const Role role : live& wanted) {
        io.want_read(role, at.rows);
    }
    while (io.submit(DiskOpKind::read, false)) {
        co_await io.group;
        io.collect();
    }
    const RoleSet failed = take_failed_reads(io, context.monitor);
    if (at.losses != context.members.losses()) co_return Error{Errc::cancelled, "row"};
    if (!failed.empty()) co_return Error{Errc::io, "row"};
    if (at.returning) {
        if (!co_await read_returning(context, at, &io)) co_return Error{Errc::io, "row"};
        if (at.losses != context.members.losses()) co_return Error{Errc::cancelled, "row"};
    }
    if (compute(geometry, io, at.may_match)) {
        for (const Role role : geometry.parity_roles() & live) io.want_write_old(role, at.rows);
        while (io.submit(DiskOpKind::write, false)) {
            co_await io.group;
            io.collect();
        }
        if (!io.failed().empty()) {
            const bool full = tell_failed_strips(io, context.monitor);
            co_return Error{full ? Errc::full : Errc::io, "row"};
        }
    }
    if (at.losses != context.members.losses()) co_return Error{Errc::cancelled, "row"};
    context.members.rows_true(at.place, at.rows);
    co_return Result<void>{};
}

}  // namespace braid
