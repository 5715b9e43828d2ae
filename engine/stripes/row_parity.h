// SPDX-License-Identifier: BSD-3-Clause
// P and Q of rows made from all of their data strips: where parity is in doubt, or not trusted, and
// the data is all there to be read.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/stripes/stripe_context.h"

namespace braid {

/// A data strip on a disk that is no member yet: of one that comes back.
struct ReturningStrip {
    Disk* disk{nullptr};
    DataArea area;  // on it
    Role role{};
};

/// Rows of one window. Their claim is held.
struct ParityRows {
    WindowPlace place;
    RowMask rows{0};
    std::uint64_t loss_version{0};  // of the members, as the caller looked who is lost
    bool may_match{false};          // parity is read, too, and written only where it does not match
    std::optional<ReturningStrip> returning;
};

/// Reads all data strips of the rows, and writes the P and Q that fit them where these are live:
/// then the rows are in no doubt. A lost data strip counts as zeros, which is right where it is
/// void, or as what a returning disk has there. Sets no mark: whoever asks has one, or the rows are
/// listed, and nobody trusts their parity.
/// @return Errc::io where a strip could not be read or written, Errc::full where a member had no
///         room (both were told to the decider, but for a returning disk's), Errc::cancelled where
///         a member was lost meanwhile: then nothing is said of the rows
Task<Result<void>> make_parity_true(StripeContext context, ParityRows at);

}  // namespace braid
