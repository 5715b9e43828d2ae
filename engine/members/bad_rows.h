// SPDX-License-Identifier: BSD-3-Clause
// BadRows: rows whose data cannot be known, by member. Kept in the configuration.
// A row of a kind `retry` lies on its member as it was, and is tried again by each that reads it;
// as long as a row of the array has one, its parity is not trusted, and every data strip of it that
// is lost is listed. Where there are only void ones, parity is true for what lies on the members
// that are live, and for zeros on those that are not: everything but reading them, or writing them
// in part, goes on as always.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"

namespace braid {

class BadRows {
  public:
    /// `ranges` in order of member and first, as check_configuration() wants them.
    BadRows(const Geometry& geometry, std::vector<BadRange> ranges) : geometry_(geometry) {
        set(std::move(ranges));
    }

    bool empty() const { return ranges_.empty(); }
    const std::vector<BadRange>& ranges() const { return ranges_; }
    bool has_member(MemberIndex member) const;
    /// Which of `rows` of the strip that `role` has at `place` are listed. P and Q never are.
    RowMask rows_of(WindowPlace place, Role role, RowMask rows) const {
        return rows_of(place, role, rows, std::nullopt);
    }
    RowMask rows_of(WindowPlace place, Role role, RowMask rows, std::optional<BadKind> kind) const;
    /// Which of `rows` have parity that is not trusted, because a data strip is to be tried again.
    RowMask retry_rows(WindowPlace place, RowMask rows) const;

    /// What is listed of `range`.
    std::vector<BadRange> listed_in(const BadRange& range) const;
    /// The list with those of `range` that are not listed yet, or without any of it. Rows of
    /// stripes in which the member holds parity mean nothing: no range starts or ends with them,
    /// and they do not part two ranges.
    std::vector<BadRange> with(const BadRange& range) const;
    std::vector<BadRange> without(const BadRange& range) const;
    void set(std::vector<BadRange> ranges);

    /// Rows [first, first + count) of a window, as the list numbers them.
    BadRange range_of(WindowPlace place, Role role, std::uint32_t first, std::uint32_t count) const;

  private:
    /// The first range of the member, or of one after it, that ends behind `row`.
    std::vector<BadRange>::const_iterator find(MemberIndex member, RowIndex row) const;
    bool means(MemberIndex member, RowIndex row) const;
    bool parts(const BadRange& before, const BadRange& after) const;
    void trim(BadRange& range) const;

    const Geometry& geometry_;
    std::vector<BadRange> ranges_;
    std::size_t retries_{0};  // ranges to be tried again
};

}  // namespace braid
