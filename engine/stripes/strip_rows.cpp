// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stripes/strip_rows.h"

namespace braid {

void ParitySpans::compute(parity::Sources data) const {
    if (!p.empty() && !q.empty()) {
        parity::compute_pq(p, q, data, parity::Store::cached);
    } else if (!p.empty()) {
        parity::compute_p(p, data, parity::Store::cached);
    } else if (!q.empty()) {
        parity::compute_q(q, data, parity::Store::cached);
    }
}

void ParitySpans::update(std::size_t index, const std::byte* before, const std::byte* after) const {
    if (!p.empty() && !q.empty()) {
        parity::update_pq(p, q, index, before, after);
    } else if (!p.empty()) {
        parity::update_p(p, before, after);
    } else if (!q.empty()) {
        parity::update_q(q, index, before, after);
    }
}

StripRows::StripRows(const Geometry& geometry, const StripeIo& io, std::uint32_t row,
                     std::uint32_t count)
    : geometry_(geometry), size_(count * row_size) {
    const std::uint64_t at = io.offset_of(row);
    for (const Role role : geometry.data_roles()) {
        data_[raw(role)] = io.strips[raw(role)] + at;
    }
    const auto span_of = [&](Role role) {
        std::byte* const content = io.strips[raw(role)];
        return content == nullptr ? ByteSpan{} : ByteSpan{content + at, size_};
    };
    parity_.p = span_of(geometry.p());
    if (geometry.parities() == 2) parity_.q = span_of(geometry.q());
}

bool StripRows::match() const {
    return geometry_.parities() == 2 ? parity::matches_pq(parity_.p, parity_.q, data())
                                     : parity::matches_p(parity_.p, data());
}

void StripRows::recover(RoleSet lost) const {
    const parity::Strips strips{{data_.data(), geometry_.data_count()},
                                parity_.p.empty() ? nullptr : parity_.p.data(),
                                parity_.q.empty() ? nullptr : parity_.q.data(),
                                size_};
    parity::Lost which;
    for (const Role role : lost& geometry_.data_roles()) {
        (which.first ? which.second : which.first) = raw(role);
    }
    which.p = lost.has(geometry_.p());
    which.q = geometry_.parities() == 2 && lost.has(geometry_.q());
    parity::recover(strips, which, parity::Store::cached);
}

void StripRows::leave_out(Role role) {
    BRAID_REQUIRE(geometry_.parity_roles().has(role));
    (role == geometry_.p() ? parity_.p : parity_.q) = {};
}

void recover_rows(const Geometry& geometry, const StripePlan& plan, const StripeIo& io,
                  std::uint32_t row, std::uint32_t count) {
    StripRows rows(geometry, io, row, count);
    RoleSet lost = plan.recover & geometry.data_roles();
    for (const Role role : geometry.parity_roles() - plan.read) rows.leave_out(role);
    if (!plan.read.has(geometry.p())) lost |= RoleSet::of(geometry.p());
    rows.recover(lost);
}

}  // namespace braid
