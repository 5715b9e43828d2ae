// SPDX-License-Identifier: BSD-3-Clause
// What a scrub finds wrong, for people: neighbouring rows together, named as bytes of the volumes.
// Rows come batch by batch, from several lanes; memory is bounded whatever is wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"
#include "engine/layout/roles.h"

namespace braid {

/// Rows that are wrong in the same way, one after the other on the members.
struct WrongRows {
    RowIndex first{};
    std::uint64_t count{0};
    MemberSet members;  // whose strips are; none: it cannot be told
    std::string what;   // for people

    RowIndex end() const { return first + count; }
};

/// Joins rows as they are found. Rows of two volumes are never joined.
class WrongRowsJoiner {
  public:
    explicit WrongRowsJoiner(const Configuration& configuration) : configuration_(configuration) {}
    /// Takes rows in; what is complete for want of room comes out.
    std::optional<WrongRows> add(WrongRows rows);
    /// What ends before row `end` and will not grow.
    std::vector<WrongRows> take_before(RowIndex end);

  private:
    bool joins(const WrongRows& rows, const WrongRows& next) const;

    const Configuration& configuration_;
    std::vector<WrongRows> open_;  // the one that grew last is last
};

/// "volume data, bytes 131072 to 135167: parity and data differ (stripe 2, bytes 0 to 4095 of its
/// strips)".
std::string text_of(const WrongRows& rows, const Configuration& configuration);

}  // namespace braid
