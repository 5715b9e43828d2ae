// SPDX-License-Identifier: BSD-3-Clause
// UnknownRows: the list of rows that cannot be known. What a loss takes with it, or would, how the
// list grows and shrinks, and what is told of it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/deciding_part.h"
#include "engine/deciding/told_lately.h"
#include "engine/layout/bad_bytes.h"
#include "engine/layout/register.h"

namespace braid {

class Losses;

class UnknownRows final : public DecidingPart {
  public:
    UnknownRows(const DecidingContext& context, ConfigurationWriter& writer, Losses& losses);

    // As Decider has them.
    Task<Result<void>> rows_doubtful(std::vector<BadRange> lost);
    Task<Result<void>> rows_unknown(std::vector<BadRange> rows);
    Task<Result<void>> rows_known(std::vector<BadRange> rows);
    void write_refused(WindowPlace place, RowMask rows, RoleSet together);

    /// Where as many members are lost as may be, nothing vouches for what they held of rows in
    /// doubt: lists it, at once, so that no write comes in between. It is durable with the next
    /// configuration. False: the list has no room, and the array has stopped.
    /// @param left_now  members that were lost just now, or that are away at a start
    bool list_doubt(MemberSet left_now);
    /// Whether that would list anything.
    bool lists_more(MemberSet left_now) const;
    /// At the start, by force: whether the list has no room for what list_doubt() has to list. Says
    /// that parity is trusted as it is, then.
    bool is_too_much(MemberSet away);

    /// Bytes that are listed, and that only the member can give.
    std::uint64_t bytes_to_retry(MemberIndex member) const;
    /// Bytes that could not be known any more if the member were lost now, with those that only it
    /// can give if they are tried again.
    std::uint64_t cost_of_loss(MemberIndex member) const;

    /// What is listed, as bytes of volumes: at most bad_bytes_listed_max ranges.
    const std::vector<BadBytes>& bad() const { return bad_; }
    /// In all.
    std::uint64_t bad_bytes() const { return bad_bytes_; }
    /// The configuration's list has changed.
    void adopt();

    /// A walk begins: what it has to list is told once.
    void walk_begins();
    /// Bytes that came to be listed since, if any had to be.
    std::optional<std::uint64_t> found_by_walk() const;
    /// Rows that were listed since the start.
    std::uint64_t rows_listed() const { return rows_listed_; }

    /// How far a rebuild is in memory. What was written up to there is durable after the next
    /// flush.
    struct RebuiltTo {
        Uuid uuid;
        StripeIndex stripe{};
    };
    std::vector<RebuiltTo> rebuilt_to() const;
    /// A flush that began after rebuilt_to() has ended.
    void note_rebuilt(const std::vector<RebuiltTo>& members);

  private:
    bool add(const std::vector<BadRange>& rows);
    bool take(std::vector<BadRange> more);
    std::vector<BadRange> with(const std::vector<BadRange>& rows) const;
    MemberSet written_since() const;
    bool is_gone(MemberIndex member, WindowIndex at, WindowIndex& end,
                 std::optional<MemberIndex> also) const;
    void add_doubt_of(std::vector<BadRange>& rows, MemberIndex member, WindowRange windows,
                      bool left_now) const;
    void add_beside(std::vector<BadRange>& rows, const BadRange& range,
                    std::optional<MemberIndex> also, MemberSet left_now) const;
    std::vector<BadRange> undecidable_rows(std::optional<MemberIndex> also,
                                           MemberSet left_now) const;

    ConfigurationWriter& writer_;
    Losses& losses_;
    std::vector<BadBytes> bad_;
    std::uint64_t bad_bytes_{0};
    std::uint64_t rows_listed_{0};
    bool told_joined_{false};
    bool told_by_walk_{false};      // what the walk under way had to list
    std::uint64_t before_walk_{0};  // bytes listed when it began
    ToldLately refusal_;            // of a write
};

}  // namespace braid
