// SPDX-License-Identifier: BSD-3-Clause
// BadRows: rows whose data cannot be known (DESIGN: R4), by member. Their parity is true for
// whatever lies on the members, zeros at first, so that everything but reading them, or writing
// them in part, goes on as always. Kept in the configuration.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/configuration.h"
#include "engine/geometry.h"
#include "engine/window_locks.h"

namespace braid {

class BadRows {
  public:
    /// `ranges` in order of member and first, as check_configuration() wants them.
    BadRows(const Geometry& geometry, std::vector<BadRange> ranges)
        : geometry_(geometry), ranges_(std::move(ranges)) {}

    bool empty() const { return ranges_.empty(); }
    const std::vector<BadRange>& ranges() const { return ranges_; }
    bool has_member(MemberIndex member) const;
    /// Which of `rows` of the strip that `role` has at `place` are listed. P and Q never are.
    RowMask rows_of(WindowPlace place, Role role, RowMask rows) const;

    /// What is listed of `range`.
    std::vector<BadRange> listed_in(const BadRange& range) const;
    /// The list with `range` in it, or out of it. Rows of stripes in which the member holds parity
    /// mean nothing: no range starts or ends with them, and they do not part two ranges.
    std::vector<BadRange> with(const BadRange& range) const;
    std::vector<BadRange> without(const BadRange& range) const;
    void set(std::vector<BadRange> ranges) { ranges_ = std::move(ranges); }

    /// Rows [first, first + count) of a window, as the list numbers them.
    BadRange range_of(WindowPlace place, Role role, std::uint32_t first, std::uint32_t count) const;

  private:
    /// The first range of the member, or of one after it, that ends behind `row`.
    std::vector<BadRange>::const_iterator find(MemberIndex member, std::uint64_t row) const;
    bool means(MemberIndex member, std::uint64_t row) const;
    bool parts(const BadRange& before, const BadRange& after) const;
    void trim(BadRange& range) const;

    const Geometry& geometry_;
    std::vector<BadRange> ranges_;
};

}  // namespace braid
