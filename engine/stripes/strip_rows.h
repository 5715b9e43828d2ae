// SPDX-License-Identifier: BSD-3-Clause
// Rows of the strips of one stripe in memory, as the functions of parity/ take them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/layout/geometry.h"
#include "engine/layout/roles.h"
#include "engine/stripes/stripe_io.h"
#include "parity/parity.h"

namespace braid {

/// P and Q of some rows; empty: the level has none, or nobody wants it.
struct ParitySpans {
    ByteSpan p;
    ByteSpan q;

    void compute(parity::Sources data) const;
    /// The data strip `index` had `before` and has `after`.
    void update(std::size_t index, const std::byte* before, const std::byte* after) const;
};

/// Rows [row, row + count) of all strips of a window: what `io` has as their old content.
class StripRows {
  public:
    StripRows(const Geometry& geometry, const StripeIo& io, std::uint32_t row, std::uint32_t count);

    parity::Sources data() const { return {data_.data(), geometry_.data_count()}; }
    const ParitySpans& parity() const { return parity_; }

    /// Whether P and Q are those of the data.
    bool match() const;
    /// Which strip is wrong; RAID-6 only.
    parity::Located locate() const { return parity::locate(parity_.p, parity_.q, data()); }
    void compute_parity() const { parity_.compute(data()); }
    /// Computes the roles of `lost` from the others.
    void recover(RoleSet lost) const;

    /// P or Q is neither read nor written.
    void leave_out(Role role);

  private:
    const Geometry& geometry_;
    std::array<std::byte*, members_max> data_{};
    ParitySpans parity_;
    std::size_t size_;
};

/// Computes `plan.recover` of rows [row, row + count) from `plan.read`, both in io.strips.
void recover_rows(const Geometry& geometry, const StripePlan& plan, const StripeIo& io,
                  std::uint32_t row, std::uint32_t count);

}  // namespace braid
